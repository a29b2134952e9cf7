//! KV codecs: how the rows of K or of V of a span become words, and the named settings people ask for.
//!
//! A codec is stateless: all that a span needs lies in its planes, in the form that a [`Coding`] names, and attention reads
//! that form in place. What differs from codec to codec is how rows get there. Codecs know rows, not frames.
//! Source: METHOD sections 2, 3, 9 and 10.

mod block;
mod scratch;

use std::fmt::Debug;
use std::sync::Arc;

pub use block::{BlockCodec, Centroids};
pub use scratch::EncodeScratch;

use crate::gpu::{Buffer, Recorder, Variant};
use crate::ops::{BiasFix, Coding, SpanLayout, SpanPlace};

/// Sizes of a span of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanShape {
    /// Heads.
    pub n_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Tokens.
    pub tokens: usize,
}

/// Some heads of a span that is to be coded.
#[derive(Debug, Clone, Copy)]
pub struct Encode<'a> {
    /// Rows as f32, `[head, token, head_dim]`; used up.
    pub x: &'a Buffer<f32>,
    /// First head of the span that `x` holds.
    pub first_head: usize,
    /// Heads that `x` holds.
    pub n_heads: usize,
    /// Where the words go.
    pub to: SpanPlace<'a>,
    /// The span before, of the same layer and tensor and with tables of the same size: its centroids are a start.
    pub earlier: Option<SpanPlace<'a>>,
}

/// A way of keeping the rows of K or of V small.
pub trait KvCodec: Debug + Send + Sync {
    /// The name of the setting it belongs to.
    fn name(&self) -> &str;

    /// The stored form for heads of this width, what attention reads: blocks are no wider than a head.
    fn coding(&self, head_dim: usize) -> Coding;

    /// Planes of a span: exactly the words that [`KvCodec::encode`] fills.
    fn layout(&self, shape: SpanShape) -> SpanLayout;

    /// The kernels that [`KvCodec::encode`] records for heads of this width.
    fn kernels(&self, head_dim: usize) -> Vec<Variant>;

    /// Records the kernels that turn rows into words.
    fn encode(&self, rec: &mut Recorder<'_>, scratch: &EncodeScratch, job: &Encode<'_>);
}

/// Codecs of K and of V.
#[derive(Debug, Clone)]
pub struct KvPair {
    /// The name people asked for: one for both, or `K/V`.
    pub name: String,
    /// Codec of K.
    pub k: Arc<dyn KvCodec>,
    /// Codec of V.
    pub v: Arc<dyn KvCodec>,
    /// Correction of the softmax mass that fits K's codec.
    pub bias: BiasFix,
}

/// A setting without its part `bias`, and what that said.
fn without_bias(text: &str) -> Result<(String, Option<BiasFix>), String> {
    let mut bias = None;
    let mut rest = Vec::new();
    for part in text.split(':') {
        match part.strip_prefix("bias=") {
            None => rest.push(part),
            Some("off") => bias = Some(BiasFix::Off),
            Some("step") => bias = Some(BiasFix::Step),
            Some("energy") => bias = Some(BiasFix::Energy),
            Some(_) => return Err(format!("{part:?}: write off, step or energy")),
        }
    }
    Ok((rest.join(":"), bias))
}

/// Names of all settings, for help and errors.
pub const NAMES: [&str; 14] = [
    "int2",
    "int3",
    "int4",
    "int8",
    "qvg-int2",
    "qvg-int4",
    "qvg-pro",
    "qvg-pro-int4",
    "rtn-int2",
    "rtn-int4",
    "kivi-int2",
    "kivi-int4",
    "quarot-int2",
    "quarot-int4",
];

impl KvPair {
    /// K by one setting and V by another, as [`BlockCodec::parse`] takes them; `off` leaves a tensor in halves. Among K's
    /// parts may be `bias=off|step|energy`, the correction of the softmax mass.
    ///
    /// # Errors
    /// A name or part that there is not, in a sentence; or `off` for both.
    pub fn of(k: &str, v: &str) -> Result<KvPair, String> {
        let name = match k == v {
            true => k.to_owned(),
            false => format!("{k}/{v}"),
        };
        let ((k, bias), (v, _)) = (without_bias(k)?, without_bias(v)?);
        let (off_k, off_v) = (k == "off", v == "off");
        if off_k && off_v {
            return Err("neither keys nor values are to be coded".to_owned());
        }
        let halves = || Arc::new(BlockCodec::halves()) as Arc<dyn KvCodec>;
        let half = |name: &str, is_k| -> Result<Arc<dyn KvCodec>, String> {
            Ok(Arc::new(BlockCodec::parse(name, is_k)?))
        };
        Ok(KvPair {
            name,
            k: if off_k { halves() } else { half(&k, true)? },
            v: if off_v { halves() } else { half(&v, false)? },
            // As released, or what measured best with ours.
            bias: bias.unwrap_or(match k.starts_with("int") {
                true => BiasFix::Energy,
                false => BiasFix::Off,
            }),
        })
    }

    /// The same with a correction of the softmax mass.
    pub fn with_bias(self, bias: BiasFix) -> KvPair {
        KvPair { bias, ..self }
    }

    /// Says what of it heads of `head_dim` channels cannot have.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self, head_dim: usize) -> Result<(), String> {
        self.k.coding(head_dim).check(head_dim)?;
        self.v.coding(head_dim).check(head_dim)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_correction_is_the_settings_own_unless_it_is_named() {
        let bias = |k: &str, v: &str| KvPair::of(k, v).map(|p| p.bias);
        assert_eq!(bias("int2", "int2"), Ok(BiasFix::Energy));
        assert_eq!(bias("qvg-int2", "int2"), Ok(BiasFix::Off));
        let named = "int2:bias=off:block=32";
        assert_eq!(bias(named, named), Ok(BiasFix::Off));
        assert_eq!(bias("int2:bias=step", "off"), Ok(BiasFix::Step));
        assert_eq!(KvPair::of(named, named).unwrap().name, named);
        assert!(
            bias("int2:bias=some", "int2")
                .unwrap_err()
                .contains("energy")
        );
    }
}

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

    /// Layers that take finer codes than these, and the codec that writes them; `None`: no layer does.
    fn finer(&self) -> Option<(&Fine, Arc<dyn KvCodec>)>;

    /// Records the kernels that turn rows into words.
    fn encode(&self, rec: &mut Recorder<'_>, scratch: &EncodeScratch, job: &Encode<'_>);
}

/// Layers in which errors of keys, or of values, do far more harm than in the others, as a model knows them of itself: ours give
/// them finer codes.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FineLayers {
    /// Layers whose keys are meant.
    pub k: Vec<u32>,
    /// Layers whose values are meant.
    pub v: Vec<u32>,
}

/// Which layers take the finer codes of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fine {
    /// Those that the model names.
    ByModel,
    /// These.
    Layers(Vec<u32>),
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
    /// Codecs of K and of V in the layers that have another than the rest: [`KvPair::for_model`].
    fine: [Vec<(usize, Arc<dyn KvCodec>)>; 2],
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
            fine: Default::default(),
        })
    }

    /// K and V in half floats, spans all the same: the widths of a film that begins so can change in its middle.
    pub fn halves() -> KvPair {
        let halves = || Arc::new(BlockCodec::halves());
        KvPair {
            name: "halves".to_owned(),
            k: halves(),
            v: halves(),
            bias: BiasFix::Off,
            fine: Default::default(),
        }
    }

    /// The same with finer codes in the layers that its settings name, or that this model of `n_layers` names.
    ///
    /// # Errors
    /// A layer that the model does not have, in a sentence.
    pub fn for_model(&self, fine: &FineLayers, n_layers: u32) -> Result<KvPair, String> {
        let of = |codec: &dyn KvCodec, of_model: &[u32]| {
            let Some((asked, finer)) = codec.finer() else {
                return Ok(Vec::new());
            };
            let layers = match asked {
                Fine::ByModel => of_model,
                Fine::Layers(layers) => layers,
            };
            if let Some(beyond) = layers.iter().find(|l| **l >= n_layers) {
                return Err(format!(
                    "fine={beyond} in {}: there are layers 0 to {}",
                    codec.name(),
                    n_layers.saturating_sub(1)
                ));
            }
            let each = layers.iter().map(|l| (*l as usize, finer.clone()));
            Ok(each.collect())
        };
        Ok(KvPair {
            fine: [of(&*self.k, &fine.k)?, of(&*self.v, &fine.v)?],
            ..self.clone()
        })
    }

    fn own(&self, layer: usize, is_v: bool) -> &Arc<dyn KvCodec> {
        let own = self.fine[usize::from(is_v)]
            .iter()
            .find(|(at, _)| *at == layer);
        match (own, is_v) {
            (Some((_, codec)), _) => codec,
            (None, false) => &self.k,
            (None, true) => &self.v,
        }
    }

    /// The codec of K, or of V, in a layer.
    pub fn codec(&self, layer: usize, is_v: bool) -> &dyn KvCodec {
        &**self.own(layer, is_v)
    }

    /// The codecs of one layer, for whoever takes layers one by one.
    pub fn layer(&self, layer: usize) -> KvPair {
        KvPair {
            k: self.own(layer, false).clone(),
            v: self.own(layer, true).clone(),
            fine: Default::default(),
            ..self.clone()
        }
    }

    /// Whether some layers have codecs of their own.
    pub fn has_fine(&self) -> bool {
        self.fine.iter().any(|layers| !layers.is_empty())
    }

    /// Planes of K and of V of a span, by layer.
    pub fn layouts(&self, shape: SpanShape, n_layers: usize) -> Vec<[SpanLayout; 2]> {
        let of = |layer| [false, true].map(|is_v| self.codec(layer, is_v).layout(shape));
        (0..n_layers).map(of).collect()
    }

    /// Every codec of some layer's K or V.
    pub fn codecs(&self) -> impl Iterator<Item = &dyn KvCodec> {
        let fine = self.fine.iter().flatten().map(|(_, codec)| &**codec);
        [&*self.k, &*self.v].into_iter().chain(fine)
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
        self.codecs()
            .try_for_each(|codec| codec.coding(head_dim).check(head_dim))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finer_layers_are_the_models_unless_they_are_named() {
        let model = FineLayers {
            k: vec![],
            v: vec![0],
        };
        let bits = |name: &str| {
            let pair = KvPair::of(name, name).unwrap().for_model(&model, 3);
            pair.map(|pair| {
                let of = |layer| [false, true].map(|is_v| pair.codec(layer, is_v).coding(64).bits);
                [of(0), of(2)]
            })
        };
        assert_eq!(bits("int2"), Ok([[2, 4], [2, 2]]));
        assert_eq!(bits("int4"), Ok([[4, 8], [4, 4]]));
        assert_eq!(bits("int8"), Ok([[8, 8], [8, 8]]));
        assert_eq!(bits("int2:fine=off"), Ok([[2, 2], [2, 2]]));
        assert_eq!(bits("int2:fine=2+1"), Ok([[2, 2], [4, 4]]));
        assert_eq!(bits("qvg-int2"), Ok([[2, 2], [2, 2]]), "as released");
        assert_eq!(bits("qvg-int2:fine=model"), Ok([[2, 4], [2, 2]]));
        assert!(bits("int2:fine=3").unwrap_err().contains("layers 0 to 2"));
    }

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

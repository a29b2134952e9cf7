//! A dump in the making: frame by frame, so that no layer lies in memory as a whole.

use std::collections::BTreeMap;
use std::path::Path;

use half::f16;

use super::head::{DUMP, Head};
use super::{Axes, Error, Places};
use crate::ops::KvFormat;
use crate::weights::{Dtype, Existing, Planned, Writer};

/// Writes a dump.
#[derive(Debug)]
pub struct DumpWriter {
    writer: Writer,
    format: KvFormat,
    tokens_per_frame: usize,
    /// Values of a token.
    width: usize,
}

/// What a dump will hold.
#[derive(Debug, Clone)]
pub struct DumpPlan {
    /// Where the tokens lie.
    pub places: Places,
    /// Latent frames that a cache codes together.
    pub span_frames: usize,
    /// The rest, for people; see [`Head::notes`].
    pub notes: BTreeMap<String, String>,
    /// Layers.
    pub n_layers: usize,
    /// Heads.
    pub n_heads: usize,
    /// Storage of keys and values; that of queries is f32.
    pub format: KvFormat,
}

impl DumpWriter {
    /// Begins a dump.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path, existing: Existing, plan: &DumpPlan) -> Result<DumpWriter, Error> {
        let (places, format) = (&plan.places, plan.format);
        let (per, d) = (places.tokens_per_frame(), places.split.head_dim());
        let dtype = match format {
            KvFormat::F32 => Dtype::F32,
            KvFormat::F16 => Dtype::F16,
            KvFormat::Bf16 => Dtype::BF16,
        };
        let tensor = |layer: usize, part: &str, dtype, frames: &[i64]| Planned {
            name: name(layer, part),
            dtype,
            shape: vec![frames.len() * per, plan.n_heads, d],
        };
        let mut tensors = Vec::new();
        for layer in 0..plan.n_layers {
            tensors.push(tensor(layer, "k", dtype, &places.frames));
            tensors.push(tensor(layer, "v", dtype, &places.frames));
            if !places.query_frames.is_empty() {
                tensors.push(tensor(layer, "q", Dtype::F32, &places.query_frames));
            }
        }
        let head = Head {
            places: Some(places.clone()),
            span_frames: Some(plan.span_frames),
            notes: plan.notes.clone(),
        };
        let mut metadata = head.to_metadata(DUMP);
        metadata.insert("layout".to_owned(), Axes::Thd.name().to_owned());
        Ok(DumpWriter {
            writer: Writer::create(path, existing, &metadata, &tensors)?,
            format,
            tokens_per_frame: per,
            width: plan.n_heads * d,
        })
    }

    /// Writes K (before RoPE) and V of the `at`-th frame of a layer, each `[token, head, head_dim]`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn frame(&mut self, layer: usize, at: usize, k: &[f32], v: &[f32]) -> Result<(), Error> {
        let first = at * self.tokens_per_frame * self.width * self.format.bytes();
        for (part, values) in [("k", k), ("v", v)] {
            let bytes = bytes(self.format, values);
            self.writer.write(&name(layer, part), first, &bytes)?;
        }
        Ok(())
    }

    /// Writes the queries of a layer, before RoPE, `[token, head, head_dim]`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn queries(&mut self, layer: usize, q: &[f32]) -> Result<(), Error> {
        let bytes = bytes(KvFormat::F32, q);
        Ok(self.writer.write(&name(layer, "q"), 0, &bytes)?)
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<(), Error> {
        Ok(self.writer.finish()?)
    }
}

fn name(layer: usize, part: &str) -> String {
    format!("layers.{layer}.{part}")
}

/// Values as a file holds them. Those that are no numbers stay so, for the reader to name.
fn bytes(format: KvFormat, values: &[f32]) -> Vec<u8> {
    let bits = |v: &f32| match format {
        KvFormat::F16 => f16::from_f32(*v).to_bits(),
        _ => half::bf16::from_f32(*v).to_bits(),
    };
    match format {
        KvFormat::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| bits(v).to_le_bytes()).collect(),
    }
}

//! The encoder's tensors under other names than its authors': those of Hugging Face's transformers, which ComfyUI's repacks have,
//! and weights of 8 bits with a scale beside them.
//!
//! Source: transformers, `UMT5EncoderModel`; Comfy-Org/Wan_2.1_ComfyUI_repackaged, `split_files/text_encoders`.

use std::ops::Range;
use std::path::PathBuf;

use safetensors::Dtype;

use super::{Error, Tokenizer};
use crate::ops::e4m3_decode;
use crate::weights::{self, View, Weights};

/// Dtypes that the encoder's weights may have.
pub(super) const DTYPES: [Dtype; 4] = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F8_E4M3];

/// Transformers' name of a layer's part, by its authors' name.
const PARTS: [(&str, &str); 10] = [
    ("norm1", "layer.0.layer_norm"),
    ("attn.q", "layer.0.SelfAttention.q"),
    ("attn.k", "layer.0.SelfAttention.k"),
    ("attn.v", "layer.0.SelfAttention.v"),
    ("attn.o", "layer.0.SelfAttention.o"),
    (
        "pos_embedding.embedding",
        "layer.0.SelfAttention.relative_attention_bias",
    ),
    ("norm2", "layer.1.layer_norm"),
    ("ffn.gate.0", "layer.1.DenseReluDense.wi_0"),
    ("ffn.fc1", "layer.1.DenseReluDense.wi_1"),
    ("ffn.fc2", "layer.1.DenseReluDense.wo"),
];

/// The tensor with the tokenizer's file in ComfyUI's repacks.
const TOKENIZER: &str = "spiece_model";

/// Whose names a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Wan's: `blocks.0.attn.q`.
    Wan,
    /// Transformers': `encoder.block.0.layer.0.SelfAttention.q`.
    Transformers,
}

impl Names {
    pub(super) fn of(weights: &Weights) -> Names {
        match weights.get("shared.weight") {
            Some(_) => Names::Transformers,
            None => Names::Wan,
        }
    }

    /// The file's name of the weight that is `name` to the encoder's authors.
    pub(super) fn weight(self, name: &str) -> String {
        let theirs = match (self, name) {
            (Names::Wan, _) => None,
            (_, "token_embedding") => Some("shared".to_owned()),
            (_, "norm") => Some("encoder.final_layer_norm".to_owned()),
            _ => in_layer(name),
        };
        theirs.unwrap_or_else(|| name.to_owned()) + ".weight"
    }

    /// Whether a tensor may stand beside the weights: what other programs keep there, and the scales of 8-bit weights.
    pub(super) fn is_extra(self, weights: &Weights, name: &str) -> bool {
        let beside = |end| {
            let stem = name.strip_suffix(end);
            stem.is_some_and(|stem| weights.get(&format!("{stem}.weight")).is_some())
        };
        let kept = [TOKENIZER, "scaled_fp8", "encoder.embed_tokens.weight"];
        (self == Names::Transformers && kept.contains(&name))
            || beside(".scale_weight")
            // What programs that multiply in 8 bits scale activations by.
            || beside(".scale_input")
    }
}

fn in_layer(name: &str) -> Option<String> {
    let (layer, part) = name.strip_prefix("blocks.")?.split_once('.')?;
    let (_, theirs) = PARTS.iter().find(|(ours, _)| *ours == part)?;
    Some(format!("encoder.block.{layer}.{theirs}"))
}

/// Some rows of a weight: as they are stored, or 8-bit values times the scale of the whole tensor, 1 where there is none.
///
/// # Errors
/// As [`View::to_f32`]; a scale that is not one number.
///
/// # Panics
/// When the tensor has no such rows.
pub(super) fn rows(
    weights: &Weights,
    view: &View<'_>,
    rows: Range<usize>,
) -> Result<Vec<f32>, Error> {
    if view.dtype() != Dtype::F8_E4M3 {
        return Ok(view.rows_to_f32(rows)?);
    }
    let stem = view.name().strip_suffix(".weight").unwrap_or(view.name());
    let scale = match weights.get(&format!("{stem}.scale_weight")) {
        None => 1.0,
        Some(scale) => match scale.to_f32()?[..] {
            [scale] => scale,
            _ => {
                return Err(Error::Shape {
                    name: scale.name().to_owned(),
                    found: scale.shape().to_vec(),
                    what: "a scale is one number",
                    path: weights.path().to_owned(),
                });
            }
        },
    };
    let values: [f32; 256] = std::array::from_fn(|byte| e4m3_decode(byte as u8) * scale);
    let width: usize = view.shape()[1..].iter().product();
    let bytes = &view.bytes()[rows.start * width..rows.end * width];
    let decoded: Vec<f32> = bytes
        .iter()
        .map(|byte| values[usize::from(*byte)])
        .collect();
    match decoded.iter().position(|value| !value.is_finite()) {
        None => Ok(decoded),
        Some(at) => Err(Error::Weights(weights::Error::NotFinite {
            name: view.name().to_owned(),
            index: rows.start * width + at,
            value: decoded[at],
            path: PathBuf::from(weights.path()),
        })),
    }
}

impl Tokenizer {
    /// The tokenizer that an encoder's file brings along, as ComfyUI's repacks do; `None`: it brings none.
    ///
    /// # Errors
    /// As [`Tokenizer::parse`].
    pub fn within(weights: &Weights) -> Option<Result<Tokenizer, Error>> {
        let view = weights.get(TOKENIZER)?;
        Some(Tokenizer::parse(weights.path(), view.bytes()))
    }
}

//! Files of keys and values: dumps of a cache, those of other programs, and spans in the released layout; and what coding
//! costs on them.
//!
//! A dump is one safetensors file with `layers.N.k` and `layers.N.v`, before RoPE, and perhaps `layers.N.q`, all
//! `[token, head, head_dim]`; what is known of the tokens stands in its metadata ([`Head`]). Files of other programs are
//! taken by their tensors' names ([`names`]). [`CodedLayer`] codes a layer as the cache does, [`Measured`] holds what that
//! cost, [`packed`] writes and reads the codes. Left out: films, and anything that is printed.
//! Source: METHOD 5.2 for the released layout.

mod head;
mod measure;
pub mod names;
pub mod packed;
mod parts;
mod read;
mod span;
mod write;

use std::path::PathBuf;

pub use head::{Head, Places, list, ranges};
pub use measure::{Attended, Exact, Measured, Sums, TensorCost};
pub use packed::Packed;
pub use read::{Ask, Axes, AxesBy, Dump, LayerInfo, Queries, Rows};
pub use span::{CodedLayer, CodedSpan, spans};
pub use write::{DumpPlan, DumpWriter};

use crate::{gpu, weights};

/// Why a dump was refused, or could not be coded or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No safetensors file, or a damaged one.
    #[error(transparent)]
    File(#[from] weights::Error),
    /// The file could not be written.
    #[error(transparent)]
    Write(#[from] weights::WriteError),
    /// The file holds no keys and values as they can be coded.
    #[error("{what}: {path:?}")]
    Form {
        /// What was found, what was expected, what to do.
        what: String,
        /// The file.
        path: PathBuf,
    },
    /// A value that no codec can hold.
    #[error(
        "{value} in head {head}, token {token}, channel {channel} of layer {layer}; keys, values and queries are finite \
         numbers: tensor {name:?} in {path:?}"
    )]
    NotFinite {
        /// NaN or an infinity.
        value: f32,
        /// Layer.
        layer: usize,
        /// Head.
        head: usize,
        /// Token.
        token: usize,
        /// Channel of the head.
        channel: usize,
        /// The tensor.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A codec that these heads cannot have.
    #[error("{0}")]
    Codec(String),
    /// The device.
    #[error(transparent)]
    Gpu(#[from] gpu::Error),
}

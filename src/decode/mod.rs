//! Latents to RGB frames: on the host where latents are pixels, on the device through a network else.

mod pixel;
mod taehv;
mod taehv_shape;

use std::path::PathBuf;

pub use pixel::{from_frame, to_frames};
pub use taehv::{Taehv, Watch};
pub use taehv_shape::TaehvShape;

/// What a decoder that is ready for one film takes of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct DecoderNeeds {
    /// Bytes of weights.
    pub weights_bytes: u64,
    /// Bytes of pictures on their way and of what is remembered.
    pub activations_bytes: u64,
    /// Bytes of the largest read-back.
    pub read_bytes: u64,
    /// Bytes of the largest single buffer.
    pub largest_bytes: u64,
    /// Floating-point operations of a latent frame, two a multiply-add.
    pub flop: f64,
}

/// Why a decoder could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor whose sizes do not fit the others.
    #[error(
        "the decoder's tensor {name:?} has shape {found:?}, which does not fit; take the decoder that belongs to the model: {path:?}"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// Its sizes.
        found: Vec<usize>,
        /// The file.
        path: PathBuf,
    },
    /// The device.
    #[error(transparent)]
    Gpu(#[from] crate::gpu::Error),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
}

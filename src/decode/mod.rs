//! Latents to RGB frames: on the host where latents are pixels, on the device through a network else.

mod pictures;
mod pixel;
mod taehv;

use std::path::PathBuf;

pub use pictures::Pictures;
pub use pixel::{from_frame, to_frames};
pub use taehv::{Taehv, Watch};

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

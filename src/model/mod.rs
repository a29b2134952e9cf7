//! The causal video transformer: configuration, weights on the device, one pass.

mod activations;
pub mod config;
mod dit;
mod load;
pub mod lora;
pub mod preset;
mod probe;
mod waiting;
mod work;

pub use activations::Activations;
pub use dit::{Dit, Pass, TextCache, sinusoid};
pub use load::Loading;
pub use lora::Lora;
pub use probe::Tape;
pub use work::Work;

/// Why a model could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device.
    #[error(transparent)]
    Gpu(#[from] crate::gpu::Error),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
    /// A pass before any text was set, of a model that attends to one.
    #[error("the network attends to a text and none is set: set one before the first pass")]
    NoText,
}

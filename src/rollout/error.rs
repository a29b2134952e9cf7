//! Why a rollout was refused or stopped.

use super::sampler::SamplerError;
use crate::cache::{CacheError, LayoutError};
use crate::{decode, model, weights};

/// Why a rollout was refused or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device.
    #[error(transparent)]
    Gpu(#[from] crate::gpu::Error),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] weights::Error),
    /// A model folder without its configuration.
    #[error(
        "{path:?} cannot be read ({source}); a model is a folder with config.json and weights.safetensors, or the name rooms"
    )]
    NoModel {
        /// The file.
        path: std::path::PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A configuration that makes no model.
    #[error("{path:?}: {source}")]
    Config {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        source: model::config::Error,
    },
    /// A setting.
    #[error("{0}")]
    Setting(String),
    /// The cache policy.
    #[error(transparent)]
    Window(#[from] LayoutError),
    /// Keys or values that cannot be coded.
    #[error("{0}")]
    Cache(String),
    /// Frames of one value for so long that the film is none any more.
    #[error("{0}")]
    Blank(String),
    /// The plan does not fit the device.
    #[error("{0}")]
    WouldNotFit(String),
    /// A decoder that is not the model's.
    #[error("{0}")]
    Decoder(String),
    /// A dump of keys and values.
    #[error(transparent)]
    Dump(#[from] crate::dump::Error),
    /// The network's output is no picture.
    #[error(
        "the network gave values that are not numbers for frame {frame} (chunk {chunk}) on {device}; the weights or the driver are at fault: try --device cpu for one frame to tell them apart"
    )]
    BadFrames {
        /// First frame of the chunk.
        frame: usize,
        /// Chunk.
        chunk: u32,
        /// Where.
        device: String,
    },
}

impl From<model::Error> for Error {
    fn from(e: model::Error) -> Self {
        match e {
            model::Error::Gpu(e) => Error::Gpu(e),
            model::Error::Weights(e) => Error::Weights(e),
            e @ model::Error::NoText => Error::Setting(e.to_string()),
        }
    }
}

impl From<decode::Error> for Error {
    fn from(e: decode::Error) -> Self {
        match e {
            decode::Error::Gpu(e) => Error::Gpu(e),
            decode::Error::Weights(e) => Error::Weights(e),
            e @ decode::Error::Shape { .. } => Error::Decoder(e.to_string()),
        }
    }
}

impl From<SamplerError> for Error {
    fn from(e: SamplerError) -> Self {
        match e {
            SamplerError::Model(e) => e.into(),
            SamplerError::Gpu(e) => Error::Gpu(e),
            SamplerError::Cache(e) => e.into(),
        }
    }
}

impl From<CacheError> for Error {
    fn from(e: CacheError) -> Self {
        match e {
            CacheError::Gpu(e) => Error::Gpu(e),
            CacheError::Layout(e) => Error::Window(e),
            CacheError::Codec(text) => Error::Setting(text),
            e @ (CacheError::NoWayBack { .. }
            | CacheError::CodedRenewal
            | CacheError::LongRenewal { .. }) => Error::Setting(e.to_string()),
            e @ CacheError::NoRoom { .. } => Error::WouldNotFit(e.to_string()),
            e @ CacheError::NotNumbers { .. } => Error::Cache(e.to_string()),
        }
    }
}

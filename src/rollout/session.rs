//! A film in the making: state, chunks, plan.

use super::event::{Event, MemoryUse};
use crate::frame::Frame;
use crate::gpu::Device;
use crate::model::config::DitConfig;
use crate::ops::{KvFormat, WeightFormat};
use crate::weights::Weights;
use crate::world::pose::Pose;

/// A model as it comes from disk or from the binary.
#[derive(Debug)]
pub struct ModelSource {
    /// Name shown to people and stored in recipes.
    pub name: String,
    /// Sizes and sampler.
    pub config: DitConfig,
    /// Tensors.
    pub weights: Weights,
}

impl ModelSource {
    /// The embedded demo world `rooms`.
    ///
    /// # Errors
    /// Never for the shipped files; the type is that of a model from disk.
    pub fn rooms() -> Result<ModelSource, Error> {
        unimplemented!()
    }

    /// A demo world's folder (`config.json`, `weights.safetensors`).
    ///
    /// # Errors
    /// A missing or faulty file, named.
    pub fn open(_folder: &std::path::Path) -> Result<ModelSource, Error> {
        unimplemented!()
    }
}

/// What a user settles about a rollout.
#[derive(Debug, Clone)]
pub struct Config {
    /// Seed of the noise.
    pub seed: u64,
    /// Latent frames attention sees, sink and the frame itself included; `None`: all.
    pub window: Option<u32>,
    /// First latent frames that never leave the window.
    pub sink: u32,
    /// Storage of keys and values.
    pub kv: KvFormat,
    /// Storage of weights on the device.
    pub weights: WeightFormat,
    /// Denoising steps; `None`: the model's own list.
    pub steps: Option<u32>,
}

/// The true frames a demo film starts from, and the way on.
#[derive(Debug, Clone)]
pub struct Walk {
    /// Given frames, at least one.
    pub given: Vec<Frame>,
    /// Their poses.
    pub given_poses: Vec<Pose>,
    /// Poses of the frames to make.
    pub poses: Vec<Pose>,
}

/// A chunk as it comes out of [`Session::next_chunk`].
#[derive(Debug)]
pub struct Chunk {
    /// Chunk index from 0.
    pub index: u32,
    /// Its pictures.
    pub frames: Vec<Frame>,
}

/// A film in the making.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// Checks, plans and loads. Given frames are not run yet.
    ///
    /// # Errors
    /// A setting that contradicts another, a model that does not fit (with numbers), weights that do not match.
    pub fn new(
        _device: &Device,
        _model: &ModelSource,
        _walk: Walk,
        _config: &Config,
    ) -> Result<Session, Error> {
        unimplemented!()
    }

    /// The `plan` event.
    pub fn plan(&self) -> Event {
        unimplemented!()
    }

    /// Runs the given frames on the first call, then makes the next chunk; `None` after the last one.
    /// `on` hears every event of the chunk.
    ///
    /// # Errors
    /// The device failed, or the network gave values that are no picture; the session cannot go on.
    pub fn next_chunk(&mut self, _on: &mut dyn FnMut(Event)) -> Result<Option<Chunk>, Error> {
        unimplemented!()
    }

    /// Device bytes by purpose, now and at most.
    pub fn memory(&self) -> MemoryUse {
        unimplemented!()
    }

    /// Seconds the network itself ran for generated frames, given frames left out.
    pub fn model_secs(&self) -> f64 {
        unimplemented!()
    }
}

/// Why a rollout was refused or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device.
    #[error(transparent)]
    Gpu(#[from] crate::gpu::Error),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
    /// A setting.
    #[error("{0}")]
    Setting(String),
    /// The plan does not fit the device.
    #[error("{0}")]
    WouldNotFit(String),
    /// The network's output is no picture.
    #[error("{0}")]
    BadFrames(String),
}

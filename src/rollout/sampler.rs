//! One chunk on the device: noise, denoising passes, cache pass. Knows frames and latents, not where they come from.

use std::ops::Range;

use super::schedule::{Schedule, Step, Update};
use crate::cache::{CacheError, KvCache, Policy, Sink, SpansPlan, Window};
use crate::decode::Pictures;
use crate::gpu::{Device, Error as GpuError};
use crate::model::config::DitConfig;
use crate::model::{self, Activations, Dit, Pass, Tape, TextCache};
use crate::ops::{KvFormat, mix, mix_limited};

/// The network, its cache and its scratch, ready to run chunks of up to a fixed number of frames.
#[derive(Debug)]
pub struct Sampler {
    device: Device,
    dit: Dit,
    act: Activations,
    cache: KvCache,
    text: Option<TextCache>,
    schedule: Schedule,
}

/// The cache of a film.
#[derive(Debug, Clone)]
pub struct CacheSetup {
    /// Storage of exact keys and values.
    pub format: KvFormat,
    /// Exact frames at once at most.
    pub max_frames: usize,
    /// What stays, what is coded, what leaves.
    pub policy: Policy,
    /// What is coded; `None`: nothing.
    pub spans: Option<SpansPlan>,
}

impl CacheSetup {
    /// A cache that keeps every frame of its window exact.
    pub fn exact(format: KvFormat, max_frames: usize, window: Window) -> CacheSetup {
        CacheSetup {
            format,
            max_frames,
            policy: Policy {
                window,
                ..Policy::default()
            },
            spans: None,
        }
    }
}

/// Why a chunk could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SamplerError {
    /// The network.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The device.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

impl Sampler {
    /// Allocates scratch for chunks of up to `chunk_frames` and plans the cache.
    ///
    /// # Errors
    /// No device memory, or a tensor beyond the device's limits.
    pub fn new(
        device: &Device,
        dit: Dit,
        schedule: Schedule,
        chunk_frames: usize,
        setup: &CacheSetup,
    ) -> Result<Sampler, SamplerError> {
        let act = Activations::new(device, dit.config(), chunk_frames)?;
        let cache = KvCache::new(
            dit.config().cache_shape(setup.format, setup.max_frames),
            device.caps(),
            setup.policy,
            setup.spans.as_ref(),
        );
        Ok(Sampler {
            device: device.clone(),
            dit,
            act,
            cache,
            text: None,
            schedule,
        })
    }

    /// Sizes and switches of the network.
    pub fn config(&self) -> &DitConfig {
        self.dit.config()
    }

    /// Bytes uploaded so far for layers that wait in main memory.
    pub fn uploaded_bytes(&self) -> u64 {
        self.dit.uploaded_bytes()
    }

    /// The cache.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// The cache, to replace what it holds or to restrict what is seen.
    pub fn cache_mut(&mut self) -> &mut KvCache {
        &mut self.cache
    }

    /// The schedule.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Values of one latent frame.
    pub fn frame_values(&self) -> usize {
        let c = self.dit.config();
        (c.in_channels * c.latent_height * c.latent_width) as usize
    }

    /// Sets the text: the prompt's rows `[row, text_dim]`, see [`Dit::text`]. Passes from now on attend to it; what the cache holds
    /// was made with the text before, see [`Sampler::renew`].
    ///
    /// # Errors
    /// The device failed.
    pub fn set_text(&mut self, prompt: &[f32], tape: &mut Tape<'_>) -> Result<(), SamplerError> {
        let format = self.cache.shape().format;
        // The one before goes first, so that two are never held.
        self.text = None;
        self.text = Some(
            self.dit
                .text(&self.device, &self.act, prompt, format, tape)?,
        );
        Ok(())
    }

    /// The text, once it is set.
    pub fn text(&self) -> Option<&TextCache> {
        self.text.as_ref()
    }

    /// Makes room for a chunk in the cache and takes its starting latents `[frame, channel, y, x]`, noise already scaled.
    ///
    /// # Errors
    /// A window too small for the chunk, a cache longer than planned, no device memory.
    pub fn begin(&mut self, frames: Range<i64>, latents: &[f32]) -> Result<(), SamplerError> {
        self.cache.begin(&self.device, frames)?;
        self.device.write(&self.act.latents, 0, latents);
        Ok(())
    }

    /// Runs one pass over the latents at `timestep` and leaves the prediction in place for [`Sampler::output`].
    ///
    /// # Errors
    /// The device failed.
    pub fn pass(&mut self, pass: &Pass<'_>, tape: &mut Tape<'_>) -> Result<(), SamplerError> {
        Ok(self.dit.forward(
            &self.device,
            &mut self.act,
            &self.cache,
            self.text.as_ref(),
            pass,
            tape,
        )?)
    }

    /// One denoising pass of the chunk, out of [`Schedule::steps_of`] it. `noise` gives standard normal values
    /// `[frame, channel, y, x]` if some are added after this pass.
    ///
    /// # Errors
    /// The device failed.
    pub fn denoise(
        &mut self,
        step: Step,
        frames: Range<i64>,
        poses: &[f32],
        noise: &mut dyn FnMut() -> Vec<f32>,
        tape: &mut Tape<'_>,
    ) -> Result<(), SamplerError> {
        let n_frames = frames.clone().count();
        self.pass(
            &Pass {
                frames,
                timestep: step.timestep,
                poses,
                kv_only: false,
            },
            tape,
        )?;
        let mut rec = self.device.recorder();
        rec.stage("sampler");
        let (x, y) = (&self.act.latents, &self.act.output);
        match step.update {
            Update::Clean { keep, take, fresh } => {
                let is_last = keep == 0.0 && fresh == 0.0;
                let limit = self.schedule.limit.filter(|_| is_last);
                mix_limited(&mut rec, x, y, keep, take, limit.unwrap_or(f32::MAX));
                if 0.0 < fresh {
                    self.device.write(&self.act.noise, 0, &noise());
                    mix(&mut rec, x, &self.act.noise, 1.0, fresh);
                }
            }
            Update::Velocity { sigma, renoise } => {
                mix(&mut rec, x, y, 1.0, -sigma);
                rec = tape.cut(&self.device, rec, |t| {
                    t.read(&self.device, "x0", x, n_frames * self.frame_values())
                })?;
                if let Some(next) = renoise {
                    self.device.write(&self.act.noise, 0, &noise());
                    mix(&mut rec, x, &self.act.noise, 1.0 - next, next);
                }
            }
        }
        Ok(self.device.run(rec)?)
    }

    /// The pass over finished latents that leaves their keys and values in the cache.
    ///
    /// # Errors
    /// The device failed.
    pub fn write_cache(&mut self, frames: Range<i64>, poses: &[f32]) -> Result<(), SamplerError> {
        let timestep = self.schedule.context_timestep;
        self.pass(
            &Pass {
                frames,
                timestep,
                poses,
                kv_only: true,
            },
            &mut Tape::blank(),
        )
    }

    /// After [`Sampler::set_text`] in the middle of a film: computes the keys and values of all frames that attention sees
    /// anew, in one pass at the context's timestep. `latents` and `poses` are those of [`KvCache::renewal`], the frame made
    /// last among them, so that its own cache pass can be left out.
    ///
    /// A window longer than a chunk takes activations of its own for the length of the call:
    /// [`Activations::bytes`] of so many frames.
    ///
    /// # Errors
    /// As [`KvCache::renewal`], or no device memory: nothing is changed then. The device failed.
    ///
    /// # Panics
    /// When there are latents or poses of other frames than those.
    pub fn renew(
        &mut self,
        latents: &[f32],
        poses: &[f32],
        sink: Sink,
    ) -> Result<(), SamplerError> {
        let n_frames = self.cache.renewal()?.count();
        assert_eq!(latents.len(), n_frames * self.frame_values(), "latents");
        if n_frames == 0 {
            return Ok(());
        }
        let mut larger = match n_frames <= self.act.n_frames() {
            true => None,
            false => Some(Activations::new(&self.device, self.dit.config(), n_frames)?),
        };
        let pass = Pass {
            frames: self.cache.renew(&self.device, sink)?,
            timestep: self.schedule.context_timestep,
            poses,
            kv_only: true,
        };
        let act = larger.as_mut().unwrap_or(&mut self.act);
        self.device.write(&act.latents, 0, latents);
        let (text, tape) = (self.text.as_ref(), &mut Tape::blank());
        self.dit
            .forward(&self.device, act, &self.cache, text, &pass, tape)?;
        // What is freed here must not be in use any more.
        self.wait()
    }

    /// Cuts the cache back to what it was before the chunk that begins with `frame`, and takes the latents of the chunk before,
    /// whose keys and values are still to be written. False: that chunk was not begun, and nothing is done.
    ///
    /// # Errors
    /// Farther back than the cache can go, or no device memory: nothing is changed then.
    pub fn back_before(&mut self, frame: i64, latents: &[f32]) -> Result<bool, SamplerError> {
        let is_done = self.cache.back_before(&self.device, frame)?;
        if is_done && !latents.is_empty() {
            self.device.write(&self.act.latents, 0, latents);
        }
        Ok(is_done)
    }

    /// Waits for everything submitted.
    ///
    /// # Errors
    /// The device failed.
    pub fn wait(&self) -> Result<(), SamplerError> {
        Ok(self.device.wait()?)
    }

    /// The chunk's latents of `n_frames`, `[frame, channel, y, x]`.
    ///
    /// # Errors
    /// The device failed.
    pub fn latents(&self, n_frames: usize) -> Result<Vec<f32>, SamplerError> {
        Ok(self
            .device
            .read(&self.act.latents, 0..n_frames * self.frame_values())?)
    }

    /// The first `n_frames` of the latents as pictures that stay on the device.
    ///
    /// # Errors
    /// No device memory; the device failed.
    pub fn pictures(&self, n_frames: usize) -> Result<Pictures, SamplerError> {
        let c = self.dit.config();
        let (height, width) = (c.latent_height, c.latent_width);
        let latents = &self.act.latents;
        Ok(Pictures::of(
            &self.device,
            latents,
            n_frames,
            width,
            height,
        )?)
    }

    /// The last prediction of `n_frames`, `[frame, channel, y, x]`.
    ///
    /// # Errors
    /// The device failed.
    pub fn output(&self, n_frames: usize) -> Result<Vec<f32>, SamplerError> {
        Ok(self
            .device
            .read(&self.act.output, 0..n_frames * self.frame_values())?)
    }
}

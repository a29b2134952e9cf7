//! What a rollout will take, before anything is loaded. Pure: from the code that allocates, not from a formula beside it.

use super::config::Config;
use super::error::Error;
use super::event::{Event, MemoryUse, Offload};
use super::renewal::renewal_bytes;
use crate::decode::{DecoderNeeds, DecoderShape};
use crate::gpu::{Caps, EXECUTOR_BYTES, Feed, Kind};
use crate::model::config::DitConfig;
use crate::model::{Activations, Dit};

/// A film as far as its plan depends on it.
#[derive(Debug, Clone)]
pub struct Outline<'a> {
    /// Name of the model, as people are told it.
    pub name: &'a str,
    /// Sizes of the model.
    pub model: &'a DitConfig,
    /// Given latent frames, which come one by one.
    pub given: usize,
    /// Latent frames to make at most.
    pub frames: usize,
    /// What makes pictures of latents.
    pub decoder: DecoderShape,
    /// The most that encoding the prompt holds on the device before anything else is there; 0: nothing is encoded.
    pub text_encoder_bytes: u64,
}

impl Outline<'_> {
    /// Latent frames in all.
    #[must_use]
    pub fn total(&self) -> usize {
        self.given + self.frames
    }
}

/// Sizes of a rollout and the device bytes it will hold.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) chunk_frames: u32,
    pub(super) chunks: u32,
    /// Latent frames to make at most.
    pub(super) latents: u32,
    /// Pictures that they become.
    frames: u32,
    pub(super) steps: u32,
    pub(super) kv: Option<String>,
    pub(super) memory: MemoryUse,
    pub(super) offload: Offload,
    /// Keys and values of the text, which are among those of the cache.
    pub(super) text_bytes: u64,
    /// Frames that another prompt runs again at most.
    pub(super) renewed_frames: usize,
    /// What is read back at once at most, beside what is always there.
    pub(super) staging_bytes: u64,
    /// Largest single buffer in bytes.
    largest: u64,
    /// The cache finds room for at least one frame a page.
    page_fits: bool,
    frame_kv_bytes: u64,
    pub(super) model: String,
    device: String,
    tier: String,
    given_frames: u32,
    fps: u32,
    pub(super) window: Option<u32>,
    pub(super) sink: u32,
    /// What makes pictures, in as many bands as memory asks for.
    pub(super) decoder: DecoderNeeds,
}

impl Plan {
    pub(super) fn new(
        caps: &Caps,
        film: &Outline<'_>,
        config: &Config,
        steps: u32,
    ) -> Result<Plan, Error> {
        let c = film.model;
        let count = |n: usize| {
            u32::try_from(n).map_err(|_| {
                Error::Setting(format!("{n} frames are more than this version can count"))
            })
        };
        let (given_frames, latents) = (count(film.given)?, count(film.frames)?);
        let frames = count(c.pictures(film.frames))?;
        let decoder = film.decoder.needs(c.latent_grid());
        if let Some(window) = config.window.filter(|w| *w < config.sink + c.chunk_frames) {
            return Err(crate::cache::LayoutError::WindowTooSmall {
                window: window as usize,
                sink: config.sink as usize,
                chunk: c.chunk_frames as usize,
            }
            .into());
        }
        let setup = config.cache(c, film.given, film.frames)?;
        let renewed_frames = config.renewed_frames(film)?;
        let renewal = renewal_bytes(film, config)?;
        let shape = c.cache_shape(config.kv, setup.max_frames);
        let (spans_bytes, span_tables, encoder_bytes) = setup
            .spans
            .as_ref()
            .map_or((0, 0, 0), |s| s.bytes(&shape, caps));
        let (activations_bytes, tables) = Activations::bytes(c, c.chunk_frames as usize);
        let activations_bytes = activations_bytes + decoder.activations_bytes;
        let offload = config.offloaded(c)?;
        let weights_bytes = Dit::bytes(c, config.weights, offload.layers) + decoder.weights_bytes;
        let uploads = match offload.layers {
            0 => 0,
            _ => Feed::staging_bytes(caps, Dit::block_bytes(c, config.weights)),
        };
        let text_bytes = Dit::text_bytes(c, config.kv);
        let cache_bytes = shape.bytes() + text_bytes;
        let executor = if caps.kind == Kind::Twin {
            0
        } else {
            EXECUTOR_BYTES
        };
        let scratch_bytes =
            tables + shape.table_bytes(caps) + span_tables + encoder_bytes + executor + uploads;
        let scratch_bytes =
            scratch_bytes + crate::cache::KvCache::scratch_bytes(&shape, &setup.policy);
        let device_bytes =
            weights_bytes + cache_bytes + spans_bytes + activations_bytes + scratch_bytes;
        // The largest transient is what is read back: a chunk's latents, a picture, or a frame of one layer that is kept for
        // going back.
        let staging = if caps.kind == Kind::Twin {
            0
        } else {
            let values = 4 * c.chunk_frames * c.in_channels * c.latent_height * c.latent_width;
            let kept = match config.undo_bytes {
                0 => 0,
                _ => shape.frame_bytes() / (2 * u64::from(c.layers)),
            };
            u64::from(values).max(kept).max(decoder.read_bytes)
        };
        let (height, width) = c.picture_px();
        Ok(Plan {
            seed: config.seed,
            width,
            height,
            chunk_frames: c.chunk_frames,
            chunks: latents.div_ceil(c.chunk_frames),
            steps,
            kv: setup.spans.as_ref().map(|s| s.pair.name.clone()),
            memory: MemoryUse {
                weights_bytes,
                cache_bytes,
                spans_bytes,
                activations_bytes,
                scratch_bytes,
                viewer_bytes: 0,
                device_bytes,
                peak_device_bytes: (device_bytes + staging.max(renewal))
                    .max(film.text_encoder_bytes + executor),
            },
            offload,
            text_bytes,
            renewed_frames,
            staging_bytes: staging,
            largest: Activations::largest(c, renewed_frames.max(c.chunk_frames as usize))
                .max(Dit::largest(c, config.weights))
                .max(setup.spans.as_ref().map_or(0, |s| s.largest(&shape)))
                .max(decoder.largest_bytes),
            page_fits: shape.page_frames(caps) > 0,
            frame_kv_bytes: shape.frame_bytes() / (2 * u64::from(c.layers)),
            model: film.name.to_owned(),
            device: caps.title(),
            tier: caps.tier.name().to_owned(),
            latents,
            frames,
            given_frames,
            fps: c.fps,
            window: config.window,
            sink: config.sink,
            decoder,
        })
    }

    /// Refuses, with numbers, what the device cannot bind, however much memory it has.
    pub(super) fn check_limits(&self, caps: &Caps) -> Result<(), Error> {
        let refuse = |text: String| Err(Error::WouldNotFit(text));
        let limit = caps.max_storage_bytes();
        if self.largest > limit {
            let need = mib(self.largest);
            return refuse(format!(
                "{} on {} would not fit: one tensor needs {need}, the device binds at most {}; take a smaller picture or another --device",
                self.model,
                self.device,
                mib(limit)
            ));
        }
        if !self.page_fits {
            return refuse(format!(
                "{} on {} would not fit: the keys of one frame take {} a layer, the device binds at most {}; take a smaller picture or another --device",
                self.model,
                self.device,
                mib(self.frame_kv_bytes),
                mib(limit)
            ));
        }
        if caps.max_storage_buffers < 6 || caps.max_uniform_bytes < crate::ops::Positions::BYTES {
            return refuse(format!(
                "{} has {} storage buffers a kernel and {} byte uniform bindings; 6 and {} are needed: take another --device",
                self.device,
                caps.max_storage_buffers,
                caps.max_uniform_bytes,
                crate::ops::Positions::BYTES
            ));
        }
        Ok(())
    }

    /// What is needed and that it is more than there is, in a sentence.
    pub(super) fn shortage(&self, have: u64) -> String {
        let m = &self.memory;
        format!(
            "{} frames on {} would not fit: {} are needed (weights {}, cache {}, activations {}, scratch {}), {} are free",
            self.given_frames + self.frames,
            self.device,
            mib(m.peak_device_bytes),
            mib(m.weights_bytes),
            mib(m.cache_bytes + m.spans_bytes),
            mib(m.activations_bytes),
            mib(m.scratch_bytes),
            mib(have),
        )
    }

    pub(super) fn event(&self) -> Event {
        Event::Plan {
            model: self.model.clone(),
            device: self.device.clone(),
            tier: self.tier.clone(),
            seed: self.seed,
            frames: self.frames,
            given_frames: self.given_frames,
            chunks: self.chunks,
            width: self.width,
            height: self.height,
            fps: self.fps,
            steps: self.steps,
            window: self.window,
            sink: self.sink,
            kv: self.kv.clone(),
            offload: self.offload,
            decoder_bands: u32::try_from(self.decoder.bands).unwrap_or(u32::MAX),
            decoder_host_bytes: self.decoder.host_bytes,
            planned: self.memory,
        }
    }
}

pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

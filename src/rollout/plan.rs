//! What a rollout will take, before anything is loaded. Pure: from the code that allocates, not from a formula beside it.

use super::event::{Event, MemoryUse};
use super::session::{Config, Error, ModelSource};
use crate::decode::Needs;
use crate::gpu::{Caps, EXECUTOR_BYTES, Kind};
use crate::model::{Activations, Dit};

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
    /// Frames that attention sees at once at most.
    visible_frames: usize,
    pub(super) kv: Option<String>,
    memory: MemoryUse,
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
    window: Option<u32>,
    sink: u32,
}

impl Plan {
    pub(super) fn new(
        caps: &Caps,
        model: &ModelSource,
        n_given: usize,
        n_frames: usize,
        config: &Config,
        steps: u32,
    ) -> Result<Plan, Error> {
        let c = &model.config;
        let count = |n: usize| {
            u32::try_from(n).map_err(|_| {
                Error::Setting(format!("{n} frames are more than this version can count"))
            })
        };
        let (given_frames, latents) = (count(n_given)?, count(n_frames)?);
        let frames = count(c.pictures(n_frames))?;
        let total = n_given + n_frames;
        let decoder = model.decoder.needs(c.latent_grid())?;
        check_decoder(model, &decoder)?;
        if let Some(window) = config.window.filter(|w| *w < config.sink + c.chunk_frames) {
            return Err(crate::cache::LayoutError::WindowTooSmall {
                window: window as usize,
                sink: config.sink as usize,
                chunk: c.chunk_frames as usize,
            }
            .into());
        }
        let setup = config.cache(c, n_given, n_frames)?;
        let shape = c.cache_shape(config.kv, setup.max_frames);
        let (spans_bytes, span_tables, encoder_bytes) = setup
            .spans
            .as_ref()
            .map_or((0, 0, 0), |s| s.bytes(&shape, caps));
        let (activations_bytes, tables) = Activations::bytes(c, c.chunk_frames as usize);
        let activations_bytes = activations_bytes + decoder.activations_bytes;
        let weights_bytes = Dit::bytes(c, config.weights) + decoder.weights_bytes;
        let cache_bytes = shape.bytes() + Dit::text_bytes(c, config.kv);
        let executor = if caps.kind == Kind::Twin {
            0
        } else {
            EXECUTOR_BYTES
        };
        let scratch_bytes =
            tables + shape.table_bytes(caps) + span_tables + encoder_bytes + executor;
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
            visible_frames: config.window.map_or(total, |w| total.min(w as usize)),
            kv: setup.spans.as_ref().map(|s| s.pair.name.clone()),
            memory: MemoryUse {
                weights_bytes,
                cache_bytes,
                spans_bytes,
                activations_bytes,
                scratch_bytes,
                viewer_bytes: 0,
                device_bytes,
                peak_device_bytes: device_bytes + staging,
            },
            largest: Activations::largest(c, c.chunk_frames as usize)
                .max(Dit::largest(c, config.weights))
                .max(decoder.largest_bytes)
                .max(setup.spans.as_ref().map_or(0, |s| s.largest(&shape))),
            page_fits: shape.page_frames(caps) > 0,
            frame_kv_bytes: shape.frame_bytes() / (2 * u64::from(c.layers)),
            model: model.name.clone(),
            device: caps.title(),
            tier: caps.tier.name().to_owned(),
            latents,
            frames,
            given_frames,
            fps: c.fps,
            window: config.window,
            sink: config.sink,
        })
    }

    /// Refuses, with numbers, what the device cannot hold.
    pub(super) fn check_fits(&self, caps: &Caps) -> Result<(), Error> {
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
        match caps.memory_bytes {
            Some(have) if have < self.memory.peak_device_bytes => {
                let m = &self.memory;
                let cache = m.cache_bytes + m.spans_bytes;
                let others = m.peak_device_bytes - cache;
                let frames =
                    have.saturating_sub(others) / (cache / self.visible_frames as u64).max(1);
                let advice = if frames < u64::from(self.sink + self.chunk_frames) {
                    "no --window helps: take a smaller model or another --device".to_owned()
                } else {
                    format!("--window {frames} fits")
                };
                refuse(format!(
                    "{} frames on {} would not fit: {} are needed (weights {}, cache {}, activations {}, scratch {}), {} are free; {}{}",
                    self.given_frames + self.frames,
                    self.device,
                    mib(m.peak_device_bytes),
                    mib(m.weights_bytes),
                    mib(cache),
                    mib(m.activations_bytes),
                    mib(m.scratch_bytes),
                    mib(have),
                    advice,
                    if self.kv.is_none() {
                        ", or --kv int2"
                    } else {
                        ""
                    },
                ))
            }
            _ => Ok(()),
        }
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
            planned: self.memory,
        }
    }
}

/// Holds the decoder to the model's latents.
fn check_decoder(model: &ModelSource, d: &Needs) -> Result<(), Error> {
    let c = &model.config;
    let channels = d.channels as u32;
    let (theirs, ours) = (
        (channels, channels, d.cell_px, d.cell_frames),
        (c.in_channels, c.out_channels, c.cell_px, c.cell_frames),
    );
    if theirs == ours {
        return Ok(());
    }
    Err(Error::Decoder(format!(
        "{} takes latents of {channels} channels, {} pixels a side and {} pictures; those of {} have {} channels in and {} out, {} pixels and {} pictures: take the decoder that belongs to the model",
        model.decoder.name(),
        d.cell_px,
        d.cell_frames,
        model.name,
        c.in_channels,
        c.out_channels,
        c.cell_px,
        c.cell_frames
    )))
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Device;
    use crate::rollout::ModelSource;

    fn plan(caps: &Caps) -> Plan {
        Plan::new(
            caps,
            &ModelSource::rooms().unwrap(),
            2,
            4,
            &Config::default(),
            2,
        )
        .unwrap()
    }

    #[test]
    fn a_device_without_the_needed_limit_is_refused_with_numbers() {
        let caps = Caps {
            memory_bytes: None,
            ..Device::twin().caps().clone()
        };
        plan(&caps).check_fits(&caps).unwrap();
        let cases = [
            (
                Caps {
                    max_binding_bytes: 100_000,
                    ..caps.clone()
                },
                "0.1 MiB",
            ),
            (
                Caps {
                    max_storage_buffers: 4,
                    ..caps.clone()
                },
                "6 and 65536 are needed",
            ),
            (
                Caps {
                    max_uniform_bytes: 16_384,
                    ..caps.clone()
                },
                "16384",
            ),
            (
                Caps {
                    memory_bytes: Some(1 << 20),
                    ..caps.clone()
                },
                "1.0 MiB are free",
            ),
        ];
        for (caps, says) in cases {
            let error = plan(&caps).check_fits(&caps).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}

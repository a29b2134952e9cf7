//! What one causal video transformer is made of: sizes, switches and the defaults of its rollout. Data only; the network
//! that reads it and the sampler that runs it are elsewhere, and neither asks for the family.
//!
//! A config comes from a constructor, which checks it; whoever changes a field afterwards calls [`DitConfig::check`] again.

mod check;
mod json;
mod tensors;

pub use check::Error;

use serde::Deserialize;

use crate::codec::FineLayers;

/// Which published network a config describes. Picks names and texts, never mathematics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// The demo world: pixels in and out, camera poses, no text.
    Tiny,
    /// Self-Forcing and its relatives on the Wan 2.1 text-to-video network.
    SelfForcing,
}

impl Family {
    /// The name used in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::SelfForcing => "self-forcing",
        }
    }
}

/// Rotary position embedding on interleaved channel pairs, with absolute frame indices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies: pair i of a part with s channels turns by `pos * theta^(-2i/s)`.
    pub theta: f64,
    /// Channels of a head for the frame index, the row and the column, in this order. Each even, their sum `head_dim`.
    pub split: [u32; 3],
}

impl RopeConfig {
    /// Wan's split: a third of the channels, rounded down to pairs, for the row and the column each, the rest for the frame.
    ///
    /// Source: Wan 2.1, `wan/modules/model.py::rope_apply`.
    #[must_use]
    pub fn wan(theta: f64, head_dim: u32) -> Self {
        let sixth = head_dim / 6;
        Self {
            theta,
            split: [head_dim - 4 * sixth, 2 * sixth, 2 * sixth],
        }
    }
}

/// How a timestep becomes a vector: cosines, then sines, of `scale * t` at `freq_dim / 2` frequencies, then two layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TimeConfig {
    /// Length of the sinusoid, even.
    pub freq_dim: u32,
    /// Factor on the sampler's t, so that the network is told 0...1000.
    pub scale: f64,
}

/// What is added to the time vector of each frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameCondition {
    /// Nothing.
    None,
    /// A linear layer of the camera pose's features.
    Pose {
        /// Number of features.
        dim: u32,
    },
}

/// How text enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cross {
    /// Not at all.
    None,
    /// By cross-attention of its own in every layer, over all `text_len` rows, padding included.
    Separate {
        /// Width of the text encoder's rows.
        text_dim: u32,
        /// Rows; shorter prompts are filled up with zeros before the text layers.
        text_len: u32,
    },
}

/// What the network's output means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// noise − x0.
    Velocity,
    /// x0 itself.
    Clean,
}

/// How a chunk is brought from noise to x0 when the user asks for nothing else.
#[derive(Debug, Clone, PartialEq)]
pub enum SamplerConfig {
    /// For each pair (a, b) of neighbours in `ts`: `x0 = model(x, a)`, `x = x0 + b / a * (x - x0)`.
    EulerClean {
        /// Noise shares, strictly falling, the first in (0, 1], the last 0; one pass fewer than entries.
        ts: Vec<f32>,
        /// Standard deviation of the noise that sampling starts from.
        noise_scale: f32,
        /// What holds in place of `ts` for frames at a pose that no frame in attention's reach was made at.
        new_pose: Option<NewPose>,
    },
    /// For each step: `x0 = x - sigma * model(x, t)`, then fresh noise at the next step's sigma; the last x0 is the result.
    Renoise {
        /// Steps as published, 1...1000, strictly falling.
        steps: Vec<u32>,
        /// Those of the chunk that begins the film, where they are others.
        first_chunk_steps: Option<Vec<u32>>,
        /// True: a step T means entry 1000 − T of the shifted table of timesteps. False: it is the timestep.
        warp: bool,
        /// Shift of the table: `sigma = shift * s / (1 + (shift - 1) * s)`.
        shift: f64,
        /// Timestep 0...1000 told to the network when finished frames write their K and V.
        context_t: f32,
    },
}

/// How a frame is sampled that cannot be recalled and must be made up: in more passes, some of whose noise is drawn anew.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPose {
    /// Noise shares, as those of [`SamplerConfig::EulerClean`].
    pub ts: Vec<f32>,
    /// Share of the standard deviation of what noise is left after a pass that is drawn anew, 0...1; the rest is what the pass
    /// left.
    #[serde(default)]
    pub fresh_noise: f32,
    /// What the noise that a pass leaves is multiplied by, above 0 and at most 2. A bit more than 1 makes up for what few passes
    /// lose of a picture: they take some of what they should have kept for noise.
    ///
    /// Kin to the scaled noise of Ning et al. 2024, "Elucidating the Exposure Bias in Diffusion Models".
    #[serde(default = "NewPose::no_gain")]
    pub noise_gain: f32,
}

impl NewPose {
    fn no_gain() -> f32 {
        1.0
    }
}

impl SamplerConfig {
    /// Denoising passes of a chunk, without the one that writes its K and V; the first chunk may have others, and so may chunks
    /// at new poses.
    #[must_use]
    pub fn n_passes(&self) -> usize {
        match self {
            Self::EulerClean { ts, .. } => ts.len().saturating_sub(1),
            Self::Renoise { steps, .. } => steps.len(),
        }
    }
}

/// Sizes and switches of one network, and its rollout's defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct DitConfig {
    /// Which network this is.
    pub family: Family,
    /// Width D of a token.
    pub hidden: u32,
    /// Transformer blocks.
    pub layers: u32,
    /// Attention heads; they share `hidden` evenly.
    pub heads: u32,
    /// Width between the two layers of the feed-forward part (tanh GELU, biases).
    pub ffn_hidden: u32,
    /// Channels of a latent cell going in.
    pub in_channels: u32,
    /// Channels of a latent cell coming out.
    pub out_channels: u32,
    /// Latent cells that make a token: frames (always 1), rows, columns.
    pub patch: [u32; 3],
    /// Position embedding.
    pub rope: RopeConfig,
    /// Added to mean squares and variances, in RMS and layer norms alike.
    pub eps: f32,
    /// Timestep embedding.
    pub time: TimeConfig,
    /// Per-frame condition.
    pub frame_condition: FrameCondition,
    /// Text.
    pub cross: Cross,
    /// Latent frames denoised together; they see each other fully.
    pub chunk_frames: u32,
    /// Meaning of the output.
    pub prediction: Prediction,
    /// Default sampler.
    pub sampler: SamplerConfig,
    /// Rows of latent cells in a frame.
    pub latent_height: u32,
    /// Columns of latent cells in a frame.
    pub latent_width: u32,
    /// Side of a latent cell in pixels: 1 where the latents are the pixels.
    pub cell_px: u32,
    /// Pictures of a latent frame behind the first, which is one picture: 1 where the latents are the pixels.
    pub cell_frames: u32,
    /// Playback rate in pictures a second.
    pub fps: u32,
    /// Layers whose cached keys or values want finer codes than the others.
    pub kv_fine: FineLayers,
}

impl DitConfig {
    /// The demo world's model, from the `config.json` beside its weights.
    ///
    /// `model` holds `dim layers heads ffn_dim freq_dim height width patch pose_dim eps`, all needed, sizes in pixels;
    /// beside it stand `theta`, `sampler_ts`, `noise_scale` and `fps`, and perhaps `new_pose` with `ts`, as `sampler_ts`, and
    /// `fresh_noise` and `noise_gain`, and `kv_fine` with lists of layers `k` and `v`. Other entries there are not for us.
    ///
    /// # Errors
    /// When the text is no such file, or [`DitConfig::check`] refuses its sizes.
    pub fn from_tiny_json(text: &str) -> Result<Self, Error> {
        json::tiny(text)
    }

    /// A network of the Self-Forcing family, from a file such as the small reference models have.
    ///
    /// `dit` holds `dim num_heads ffn_dim num_layers freq_dim text_dim text_len in_dim out_dim eps patch_size`; beside it
    /// stand `latent_h latent_w chunk steps shift`, and `head_dim` and `tokens_per_frame` if the file wants them checked.
    /// Other entries there are not for us. Steps are warped, `context_t` is 0, playback 16 pictures a second, as published.
    ///
    /// # Errors
    /// When the text is no such file, or [`DitConfig::check`] refuses its sizes.
    pub fn from_selfforcing_json(text: &str) -> Result<Self, Error> {
        json::selfforcing(text)
    }

    /// Self-Forcing on Wan 2.1 T2V 1.3B at 480 × 832 pixels, as published.
    ///
    /// Source: Wan 2.1, `wan/configs/wan_t2v_1_3B.py`; Self-Forcing, `configs/self_forcing_dmd.yaml`.
    #[must_use]
    pub fn selfforcing_1_3b() -> Self {
        Self {
            family: Family::SelfForcing,
            hidden: 1536,
            layers: 30,
            heads: 12,
            ffn_hidden: 8960,
            in_channels: 16,
            out_channels: 16,
            patch: [1, 2, 2],
            rope: RopeConfig::wan(10_000.0, 128),
            eps: 1e-6,
            time: TimeConfig {
                freq_dim: 256,
                scale: 1.0,
            },
            frame_condition: FrameCondition::None,
            cross: Cross::Separate {
                text_dim: 4096,
                text_len: 512,
            },
            chunk_frames: 3,
            prediction: Prediction::Velocity,
            sampler: SamplerConfig::Renoise {
                steps: vec![1000, 750, 500, 250],
                first_chunk_steps: None,
                warp: true,
                shift: 5.0,
                context_t: 0.0,
            },
            latent_height: 60,
            latent_width: 104,
            cell_px: 8,
            cell_frames: 4,
            fps: 16,
            // Nobody measured them.
            kv_fine: FineLayers::default(),
        }
    }

    /// The same network for pictures of `height_px` × `width_px` pixels.
    ///
    /// # Errors
    /// When a side is no whole number of tokens, or the picture is too large.
    pub fn with_picture(mut self, height_px: u32, width_px: u32) -> Result<Self, Error> {
        for (field, found) in [("height", height_px), ("width", width_px)] {
            check::multiple(field, found, "cell_px", self.cell_px)?;
        }
        self.latent_height = height_px.checked_div(self.cell_px).unwrap_or(0);
        self.latent_width = width_px.checked_div(self.cell_px).unwrap_or(0);
        self.check()?;
        Ok(self)
    }

    /// The width and height nearest to these that are whole tokens.
    #[must_use]
    pub fn nearest_picture(&self, width_px: u32, height_px: u32) -> (u32, u32) {
        let [_, rows, columns] = self.patch.map(|side| side * self.cell_px);
        let whole = |n: u32, by: u32| (n.saturating_add(by / 2) / by).max(1) * by;
        (whole(width_px, columns), whole(height_px, rows))
    }

    /// Channels of a head.
    #[must_use]
    pub fn head_dim(&self) -> u32 {
        self.hidden / self.heads
    }

    /// Rows and columns of tokens in a frame.
    #[must_use]
    pub fn grid(&self) -> (u32, u32) {
        let [_, patch_height, patch_width] = self.patch;
        (
            self.latent_height / patch_height,
            self.latent_width / patch_width,
        )
    }

    /// Tokens in a latent frame.
    #[must_use]
    pub fn tokens_per_frame(&self) -> u32 {
        let (rows, cols) = self.grid();
        rows * cols
    }

    /// Height and width of a picture in pixels.
    #[must_use]
    pub fn picture_px(&self) -> (u32, u32) {
        (
            self.latent_height * self.cell_px,
            self.latent_width * self.cell_px,
        )
    }

    /// Rows and columns of a latent frame.
    #[must_use]
    pub fn latent_grid(&self) -> (usize, usize) {
        (self.latent_height as usize, self.latent_width as usize)
    }

    /// Pictures of a film of so many latent frames: the first latent frame is one.
    #[must_use]
    pub fn pictures(&self, latents: usize) -> usize {
        match latents {
            0 => 0,
            n => (n - 1).saturating_mul(self.cell_frames as usize) + 1,
        }
    }

    /// Latent frames of the shortest film of whole chunks that has so many pictures.
    #[must_use]
    pub fn whole_chunks(&self, pictures: usize) -> usize {
        let behind = pictures
            .saturating_sub(1)
            .div_ceil(self.cell_frames as usize);
        (behind + 1).next_multiple_of(self.chunk_frames as usize)
    }

    /// The first chunk that begins with that picture or a later one.
    #[must_use]
    pub fn chunk_from(&self, picture: usize) -> usize {
        match picture {
            0 => 0,
            n => self.whole_chunks(n) / self.chunk_frames as usize,
        }
    }

    /// Bytes that K and V of one latent frame take in all layers together, at 16 bits a value.
    #[must_use]
    pub fn kv_bytes_per_frame(&self) -> u64 {
        const K_AND_V: u64 = 2;
        const HALF_BYTES: u64 = 2;
        let values =
            u64::from(self.tokens_per_frame()) * u64::from(self.hidden) * u64::from(self.layers);
        values * K_AND_V * HALF_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rope_split_follows_wan() {
        for (head_dim, split) in [
            (128, [44, 42, 42]),
            (64, [24, 20, 20]),
            (40, [16, 12, 12]),
            (6, [2, 2, 2]),
            (0, [0; 3]),
        ] {
            assert_eq!(RopeConfig::wan(1e4, head_dim).split, split, "{head_dim}");
        }
        for head_dim in (6..600).step_by(2) {
            let split = RopeConfig::wan(1e4, head_dim).split;
            assert_eq!(split.iter().sum::<u32>(), head_dim);
            assert!(split.iter().all(|part| part % 2 == 0 && 0 < *part));
        }
    }

    #[test]
    fn published_model_has_the_published_sizes() {
        let config = DitConfig::selfforcing_1_3b();
        config.check().unwrap();
        assert_eq!(
            (config.head_dim(), config.grid(), config.tokens_per_frame()),
            (128, (30, 52), 1560)
        );
        assert_eq!(
            (config.picture_px(), config.sampler.n_passes()),
            ((480, 832), 4)
        );
        assert_eq!(config.kv_bytes_per_frame(), 287_539_200);
    }

    #[test]
    fn the_first_latent_frame_is_one_picture() {
        let mut c = DitConfig::selfforcing_1_3b();
        let made = [0, 1, 2, 3, 21].map(|n| c.pictures(n));
        assert_eq!(made, [0, 1, 5, 9, 81]);
        let needed = [1, 9, 10, 21, 22, 81].map(|n| c.whole_chunks(n));
        assert_eq!(needed, [3, 3, 6, 6, 9, 21]);
        let from = [0, 1, 9, 10, 21, 22].map(|n| c.chunk_from(n));
        assert_eq!(from, [0, 1, 1, 2, 2, 3]);
        c.chunk_frames = 1;
        assert_eq!([1, 2, 5, 6].map(|n| c.whole_chunks(n)), [1, 2, 2, 3]);
        c.cell_frames = 1;
        for n in 1..9 {
            assert_eq!(
                (c.pictures(n), c.whole_chunks(n), c.chunk_from(n)),
                (n, n, n)
            );
        }
    }

    #[test]
    fn picture_size_can_be_set() {
        let config = DitConfig::selfforcing_1_3b()
            .with_picture(320, 576)
            .unwrap();
        assert_eq!((config.grid(), config.picture_px()), ((20, 36), (320, 576)));
        for (height, width) in [
            (484, 832),
            (488, 832),
            (480, 840),
            (0, 832),
            (480, u32::MAX - 15),
            (480_000, 832_000),
        ] {
            let error = DitConfig::selfforcing_1_3b()
                .with_picture(height, width)
                .unwrap_err();
            assert!(!error.to_string().is_empty(), "{error}");
        }
    }
}

//! Tensors of a pass: allocated once for the largest chunk, used by every pass.

use super::Error;
use super::config::{Cross, DitConfig, FrameCondition};
use crate::gpu::{Buffer, Device, Purpose};
use crate::ops::Positions;

/// What a band of the FFN's hidden values may take where q, k and v leave it less room. All rows of a published chunk would outgrow
/// the bindings that some devices have.
const BAND_BYTES: usize = 32 << 20;
/// Rows that divide into whole tiles of every kernel of `linear`.
const TILE_ROWS: usize = 32;

/// Rows that run through an FFN of width `ffn` at once: of `n_rows`, in as few equal bands as find room among `values`.
fn band_rows(n_rows: usize, ffn: usize, values: usize) -> usize {
    let most = (values / ffn).max(TILE_ROWS) / TILE_ROWS * TILE_ROWS;
    let even = n_rows.div_ceil(n_rows.div_ceil(most));
    even.next_multiple_of(TILE_ROWS).min(n_rows)
}

/// Device tensors of one pass over up to `n_frames` frames. M stands for the pass's tokens, D for hidden.
#[derive(Debug)]
pub struct Activations {
    /// Frames it was made for.
    pub(super) n_frames: usize,
    /// Latents in and out of the sampler, `[frame, channel, y, x]`.
    pub latents: Buffer<f32>,
    /// Noise of one frame set, same shape.
    pub noise: Buffer<f32>,
    /// The network's output, same shape with out_channels.
    pub output: Buffer<f32>,
    /// Cut patches `[M, patch values]`; the head's tokens at the end of a pass.
    pub(super) patches: Buffer<f32>,
    /// The head's tokens `[M, head.n]`.
    pub(super) head: Buffer<f32>,
    /// Residual stream `[M, D]`.
    pub(super) x: Buffer<f32>,
    /// Normed input of a layer `[M, D]`; once it was read, attention's result.
    pub(super) h: Buffer<f32>,
    /// What linear layers make of `h`, in turn: q, k and v `[M, 3 D]`, q of cross-attention `[M, D]`, hidden values of the FFN
    /// `[band_rows, ffn]`.
    pub(super) wide: Buffer<f32>,
    /// Attention's running largest score and sum `[M, head, 2]`.
    pub(super) state: Buffer<f32>,
    /// Rows that run through the FFN at once.
    pub(super) band_rows: usize,
    /// Sinusoids of the timesteps `[frame, freq_dim]`.
    pub(super) sinusoid: Buffer<f32>,
    /// Pose features `[frame, pose.k]`.
    pub(super) pose: Option<Buffer<f32>>,
    /// `[frame, D]`.
    pub(super) time: Buffer<f32>,
    /// Conditioning `[frame, D]`, and after SiLU.
    pub(super) cond: Buffer<f32>,
    pub(super) cond_silu: Buffer<f32>,
    /// Projected conditioning `[frame, 6, D]`.
    pub(super) cond6: Buffer<f32>,
    /// Angles of the pass's own frames, for q.
    pub(super) positions: Positions,
    /// Cross-attention: the text's own tensors `[text_len, ..]`.
    pub(super) cross: Option<CrossActivations>,
}

#[derive(Debug)]
pub(super) struct CrossActivations {
    pub(super) text_in: Buffer<f32>,
    pub(super) text_up: Buffer<f32>,
    pub(super) context: Buffer<f32>,
    pub(super) k: Buffer<f32>,
    pub(super) v: Buffer<f32>,
    /// One frame of `text_len` tokens that nothing turns.
    pub(super) positions: Positions,
}

/// Lengths of all tensors in values, by name, for planner and allocation alike.
struct Lengths {
    latents: usize,
    output: usize,
    patches: usize,
    head: usize,
    tokens: usize,
    state: usize,
    wide: usize,
    band_rows: usize,
    cond: usize,
    sinusoid: usize,
    pose: usize,
    text_in: usize,
    text: usize,
}

impl Lengths {
    fn new(c: &DitConfig, n_frames: usize) -> Lengths {
        let [_, ph, pw] = c.patch.map(|p| p as usize);
        let (d, tokens) = (c.hidden as usize, n_frames * c.tokens_per_frame() as usize);
        let cells = n_frames * (c.latent_height * c.latent_width) as usize;
        let (text_len, text_dim) = match c.cross {
            Cross::Separate { text_dim, text_len } => {
                (text_len as usize, (text_dim as usize).next_multiple_of(4))
            }
            Cross::None => (0, 0),
        };
        let pose = match c.frame_condition {
            FrameCondition::Pose { dim } => n_frames * (dim as usize).next_multiple_of(4),
            FrameCondition::None => 0,
        };
        let ffn = (c.ffn_hidden as usize).next_multiple_of(4);
        let qkv = 3 * tokens * d;
        let band_rows = band_rows(tokens, ffn, qkv.max(BAND_BYTES / 4));
        Lengths {
            latents: cells * c.in_channels as usize,
            output: cells * c.out_channels as usize,
            patches: tokens * (c.in_channels as usize * ph * pw).next_multiple_of(4),
            head: tokens * (c.out_channels as usize * ph * pw).next_multiple_of(4),
            tokens: tokens * d,
            state: tokens * c.heads as usize * 2,
            wide: qkv.max(band_rows * ffn),
            band_rows,
            cond: n_frames * d,
            sinusoid: n_frames * (c.time.freq_dim as usize).next_multiple_of(4),
            pose,
            text_in: text_len * text_dim,
            text: text_len * d,
        }
    }

    /// Values in all tensors, and in the largest.
    fn totals(&self) -> (usize, usize) {
        let cross = if self.text > 0 {
            [self.text_in, 4 * self.text]
        } else {
            [0; 2]
        };
        let parts = [
            2 * self.latents,
            self.output,
            self.patches,
            self.head,
            2 * self.tokens,
            self.wide,
            self.state,
            9 * self.cond,
            self.sinusoid,
            self.pose,
        ];
        let largest = (self.wide)
            .max(self.latents)
            .max(self.patches)
            .max(self.text_in);
        (
            parts.iter().sum::<usize>() + cross.iter().sum::<usize>(),
            largest,
        )
    }
}

impl Activations {
    /// Device bytes by purpose for passes over up to `n_frames`: (activations, scratch).
    pub fn bytes(config: &DitConfig, n_frames: usize) -> (u64, u64) {
        let tables = 1 + u64::from(config.cross != Cross::None);
        (
            (Lengths::new(config, n_frames).totals().0 * 4) as u64,
            tables * Positions::BYTES,
        )
    }

    /// Frames of a pass at most.
    pub fn n_frames(&self) -> usize {
        self.n_frames
    }

    /// The largest single buffer in bytes.
    pub fn largest(config: &DitConfig, n_frames: usize) -> u64 {
        (Lengths::new(config, n_frames).totals().1 * 4) as u64
    }

    /// Allocates everything for passes over up to `n_frames`.
    ///
    /// # Errors
    /// A tensor beyond the device's limits, or no memory left.
    pub fn new(device: &Device, config: &DitConfig, n_frames: usize) -> Result<Activations, Error> {
        let n = Lengths::new(config, n_frames);
        let make = |label, len| device.zeros::<f32>(Purpose::Activations, label, len);
        let (rows, cols) = config.grid();
        let (split, theta) = (config.rope_split(), config.rope.theta);
        let table = |rows, cols| Positions::new(device, split, theta, rows, cols);
        let cross = if n.text > 0 {
            let mut positions = table(1, 1)?;
            positions.set_frames(device, &[(0, 0)]);
            Some(CrossActivations {
                text_in: make("text", n.text_in)?,
                text_up: make("text", n.text)?,
                context: make("text", n.text)?,
                k: make("text k", n.text)?,
                v: make("text v", n.text)?,
                positions,
            })
        } else {
            None
        };
        Ok(Activations {
            n_frames,
            latents: make("latents", n.latents)?,
            noise: make("noise", n.latents)?,
            output: make("output", n.output)?,
            patches: make("patches", n.patches)?,
            head: make("head", n.head)?,
            x: make("x", n.tokens)?,
            h: make("h", n.tokens)?,
            wide: make("wide", n.wide)?,
            state: make("attention state", n.state)?,
            band_rows: n.band_rows,
            sinusoid: make("sinusoid", n.sinusoid)?,
            pose: if n.pose > 0 {
                Some(make("pose", n.pose)?)
            } else {
                None
            },
            time: make("time", n.cond)?,
            cond: make("conditioning", n.cond)?,
            cond_silu: make("conditioning", n.cond)?,
            cond6: make("conditioning", 6 * n.cond)?,
            positions: table(rows as usize, cols as usize)?,
            cross,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_of_the_ffn_are_even_and_few() {
        // A chunk of the demo world; of Wan 1.3B at 832x480, where q, k and v take 82 MiB; rows of which not even a tile has room.
        let least = BAND_BYTES / 4;
        assert_eq!(band_rows(48, 768, least), 48);
        assert_eq!(band_rows(4680, 8960, 3 * 4680 * 1536), 2368);
        assert_eq!(band_rows(4680, 8960, least), 800);
        assert_eq!(band_rows(100, 1 << 20, least), 32);
        for n_rows in [800, 4680, 9360, 32_760] {
            let rows = band_rows(n_rows, 8960, least);
            assert!(rows * 8960 <= least && rows.is_multiple_of(TILE_ROWS));
            assert_eq!(
                n_rows.div_ceil(rows),
                n_rows.div_ceil(least / 8960 / 32 * 32)
            );
        }
    }

    /// No tensor of a published chunk outgrows the least binding that WebGPU promises, 128 MiB.
    #[test]
    fn a_published_chunk_fits_every_binding() {
        let config = DitConfig::selfforcing_1_3b();
        let largest = Activations::largest(&config, config.chunk_frames as usize);
        assert_eq!(largest, 3 * 4680 * 1536 * 4);
        assert!(largest <= 128 << 20);
    }
}

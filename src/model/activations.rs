//! Tensors of a pass: allocated once for the largest chunk, used by every pass.

use super::Error;
use super::config::{Cross, DitConfig, FrameCondition};
use crate::gpu::{Buffer, Device, Purpose};
use crate::ops::Positions;

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
    /// Normed input of a layer `[M, D]`.
    pub(super) h: Buffer<f32>,
    /// `[M, 3 D]`.
    pub(super) qkv: Buffer<f32>,
    /// Attention's result `[M, D]`.
    pub(super) attn: Buffer<f32>,
    /// Attention's running largest score and sum `[M, head, 2]`.
    pub(super) state: Buffer<f32>,
    /// `[M, ffn]`.
    pub(super) ffn: Buffer<f32>,
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
    /// Cross-attention: q `[M, D]` and the text's own tensors `[text_len, ..]`.
    pub(super) cross: Option<CrossActivations>,
}

#[derive(Debug)]
pub(super) struct CrossActivations {
    pub(super) q: Buffer<f32>,
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
    ffn: usize,
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
        Lengths {
            latents: cells * c.in_channels as usize,
            output: cells * c.out_channels as usize,
            patches: tokens * (c.in_channels as usize * ph * pw).next_multiple_of(4),
            head: tokens * (c.out_channels as usize * ph * pw).next_multiple_of(4),
            tokens: tokens * d,
            state: tokens * c.heads as usize * 2,
            ffn: tokens * (c.ffn_hidden as usize).next_multiple_of(4),
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
            [self.tokens, self.text_in, 4 * self.text]
        } else {
            [0; 3]
        };
        let parts = [
            2 * self.latents,
            self.output,
            self.patches,
            self.head,
            6 * self.tokens,
            self.state,
            self.ffn,
            9 * self.cond,
            self.sinusoid,
            self.pose,
        ];
        let largest = (3 * self.tokens)
            .max(self.ffn)
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
                q: make("cross q", n.tokens)?,
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
            qkv: make("qkv", 3 * n.tokens)?,
            attn: make("attention", n.tokens)?,
            state: make("attention state", n.state)?,
            ffn: make("ffn", n.ffn)?,
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

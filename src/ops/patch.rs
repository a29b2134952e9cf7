//! Frames to tokens and back. The patch convolution itself is a [`linear`](super::linear) over the cut patches.
//! Source: SELF-FORCING 4.1 and 4.4.

use bytemuck::{Pod, Zeroable};

use super::{each, u32_of};
use crate::gpu::{Buffer, Kernel, Launch, Recorder, Source};

pub(super) static PATCHIFY: Kernel = Kernel {
    name: "patchify",
    source: Source::File(include_str!("../../shaders/patchify.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| vec![vec![]],
    twin: patchify_twin,
};

pub(super) static UNPATCHIFY: Kernel = Kernel {
    name: "unpatchify",
    source: Source::File(include_str!("../../shaders/unpatchify.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| vec![vec![]],
    twin: unpatchify_twin,
};

/// Sizes of frames and of their patches.
#[derive(Debug, Clone, Copy)]
pub struct Patches {
    /// Frames.
    pub n_frames: usize,
    /// Channels of a frame.
    pub channels: usize,
    /// Patches down and across.
    pub grid: (usize, usize),
    /// Height and width of a patch.
    pub patch: (usize, usize),
    /// Values a token takes, at least `channels * patch area`; the rest is zero.
    pub token_stride: usize,
}

impl Patches {
    fn tokens_len(&self) -> usize {
        self.n_frames * self.grid.0 * self.grid.1 * self.token_stride
    }

    fn frames_len(&self) -> usize {
        self.n_frames * self.channels * self.grid.0 * self.grid.1 * self.patch.0 * self.patch.1
    }

    fn params(&self) -> Params {
        assert!(
            self.token_stride >= self.channels * self.patch.0 * self.patch.1,
            "tokens too narrow"
        );
        Params {
            first_group: 0,
            n_groups: 0,
            n_frames: u32_of(self.n_frames),
            channels: u32_of(self.channels),
            rows: u32_of(self.grid.0),
            cols: u32_of(self.grid.1),
            ph: u32_of(self.patch.0),
            pw: u32_of(self.patch.1),
            token_stride: u32_of(self.token_stride),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n_frames: u32,
    channels: u32,
    rows: u32,
    cols: u32,
    ph: u32,
    pw: u32,
    token_stride: u32,
}

/// Records `x [frame, channel, y, x]` -> `tokens [frame, row, col, (channel, pr, pc)]`.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn patchify(rec: &mut Recorder<'_>, x: &Buffer<f32>, tokens: &Buffer<f32>, sizes: &Patches) {
    assert!(
        x.len() >= sizes.frames_len() && tokens.len() >= sizes.tokens_len(),
        "patchify sizes"
    );
    rec.dispatch(
        &PATCHIFY,
        each(sizes.tokens_len()),
        &sizes.params(),
        &[x.into(), tokens.into()],
    );
}

/// Records `tokens [frame, row, col, (pr, pc, channel)]` -> `x [frame, channel, y, x]`.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn unpatchify(rec: &mut Recorder<'_>, tokens: &Buffer<f32>, x: &Buffer<f32>, sizes: &Patches) {
    assert!(
        x.len() >= sizes.frames_len() && tokens.len() >= sizes.tokens_len(),
        "unpatchify sizes"
    );
    rec.dispatch(
        &UNPATCHIFY,
        each(sizes.frames_len()),
        &sizes.params(),
        &[tokens.into(), x.into()],
    );
}

/// Visits every value: (place in frames, place in its token channel-first, place channel-last).
fn visit(p: &Params, mut f: impl FnMut(usize, usize, usize)) {
    let [frames, channels, rows, cols, ph, pw, stride] = [
        p.n_frames,
        p.channels,
        p.rows,
        p.cols,
        p.ph,
        p.pw,
        p.token_stride,
    ]
    .map(|v| v as usize);
    for frame in 0..frames {
        for c in 0..channels {
            for y in 0..rows * ph {
                for x in 0..cols * pw {
                    let at = ((frame * channels + c) * rows * ph + y) * cols * pw + x;
                    let token = ((frame * rows + y / ph) * cols + x / pw) * stride;
                    let inside = (y % ph) * pw + x % pw;
                    f(
                        at,
                        token + c * ph * pw + inside,
                        token + inside * channels + c,
                    );
                }
            }
        }
    }
}

fn patchify_twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let x: Vec<f32> = l.read(1);
    let mut tokens = vec![0.0f32; (p.n_frames * p.rows * p.cols * p.token_stride) as usize];
    visit(&p, |at, first, _| tokens[first] = x[at]);
    l.write(2, &tokens);
}

fn unpatchify_twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let tokens: Vec<f32> = l.read(1);
    let mut x: Vec<f32> = l.read(2);
    visit(&p, |at, _, last| x[at] = tokens[last]);
    l.write(2, &x);
}

//! The layers of Wan's decoder at one resolution, on a device.

use std::ops::Range;

use super::Error;
use super::taehv::transposed;
use super::wan_shape::SLICE_BYTES;
use crate::gpu::{Buffer, Device, Recorder};
use crate::ops::{
    ChannelNorm, ConvTap, Doubled, PixelAttention, TapMatrix, WeightFormat, channel_norm, conv_tap,
    pixel_attention,
};

/// One frame: `[pixel, channel]`, as many channels in every buffer.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) parts: Vec<Buffer<u32>>,
    pub(super) channels: usize,
    pub(super) format: WeightFormat,
}

/// A convolution and the frames that it has seen, the oldest first.
#[derive(Debug)]
pub(super) struct Conv {
    pub(super) matrix: TapMatrix,
    pub(super) past: Vec<Picture>,
}

#[derive(Debug)]
pub(super) struct Stage {
    /// Columns, and rows of the band at hand.
    pub(super) size: (usize, usize),
    /// Where they begin among those of the stage before, doubled.
    pub(super) first_row: usize,
    pub(super) blocks: Vec<(&'static str, Block)>,
    pub(super) up: Option<Up>,
    /// What comes in, where the blocks are of another width.
    pub(super) input: Option<Picture>,
    pub(super) x: Picture,
    pub(super) inner: Picture,
    /// What a convolution takes: of the blocks' width, and of the input's where that is another.
    pub(super) now: Vec<Picture>,
    pub(super) sums: Buffer<f32>,
}

#[derive(Debug)]
pub(super) enum Block {
    Residual {
        gammas: [Buffer<f32>; 2],
        convs: Box<[Conv; 2]>,
        shortcut: Option<TapMatrix>,
    },
    Attention {
        gamma: Buffer<f32>,
        to_qkv: TapMatrix,
        proj: TapMatrix,
        qkv: [Picture; 3],
    },
}

#[derive(Debug)]
pub(super) struct Up {
    pub(super) name: &'static str,
    pub(super) time: Option<Conv>,
    pub(super) conv: TapMatrix,
}

impl Stage {
    /// Those that remember, in the reference's order.
    pub(super) fn convs(&self) -> impl Iterator<Item = &Conv> {
        fn of<'a>((_, block): &'a (&'static str, Block)) -> &'a [Conv] {
            match block {
                Block::Residual { convs, .. } => &convs[..],
                Block::Attention { .. } => &[],
            }
        }
        let blocks = self.blocks.iter().flat_map(of);
        blocks.chain(self.up.as_ref().and_then(|u| u.time.as_ref()))
    }

    /// Records block `i`: x becomes its output.
    pub(super) fn block(&mut self, rec: &mut Recorder<'_>, i: usize) {
        let (sums, size) = (&self.sums, self.size);
        match &mut self.blocks[i].1 {
            Block::Residual {
                gammas,
                convs,
                shortcut,
            } => {
                let [one, two] = &mut **convs;
                let (from, now) = match (&self.input, shortcut) {
                    (Some(input), Some(shortcut)) => {
                        convolve(rec, shortcut, &[input], &self.x, 0, size, None, false);
                        (input, 1)
                    }
                    _ => (&self.x, 0),
                };
                let now = &mut self.now[now];
                prepare(rec, from, Some(&gammas[0]), sums, now, size);
                one.run(rec, now, &self.inner, size, false);
                let now = &mut self.now[0];
                prepare(rec, &self.inner, Some(&gammas[1]), sums, now, size);
                two.run(rec, now, &self.x, size, true);
            }
            Block::Attention {
                gamma,
                to_qkv,
                proj,
                qkv,
            } => {
                let n_pixels = size.0 * size.1;
                let norm = ChannelNorm {
                    silu: false,
                    ..ready(&self.x, Some(gamma), sums, &self.inner, n_pixels)
                };
                channel_norm(rec, &norm);
                for (i, part) in qkv.iter().enumerate() {
                    let first = i * self.x.channels;
                    let input = &[&self.inner];
                    convolve(rec, to_qkv, input, part, first, size, None, false);
                }
                let [q, k, v] = &*qkv;
                let attention = PixelAttention {
                    q: &q.parts[0],
                    k: &k.parts[0],
                    v: &v.parts[0],
                    out: &self.inner.parts[0],
                    n_pixels,
                    channels: self.x.channels,
                };
                pixel_attention(rec, &attention);
                convolve(rec, proj, &[&self.inner], &self.x, 0, size, None, true);
            }
        }
    }
}

impl Conv {
    /// Records the convolution of `now` and the past, and keeps `now`, which becomes another picture.
    pub(super) fn run(
        &mut self,
        rec: &mut Recorder<'_>,
        now: &mut Picture,
        y: &Picture,
        size: (usize, usize),
        add: bool,
    ) {
        self.record(rec, now, y, 0, size, add);
        self.remember(now);
    }

    pub(super) fn record(
        &self,
        rec: &mut Recorder<'_>,
        now: &Picture,
        y: &Picture,
        first: usize,
        size: (usize, usize),
        add: bool,
    ) {
        let mut frames: Vec<&Picture> = self.past.iter().collect();
        frames.push(now);
        convolve(rec, &self.matrix, &frames, y, first, size, None, add);
    }

    /// Keeps `now` in the place of the oldest frame, which nothing needs any more.
    pub(super) fn remember(&mut self, now: &mut Picture) {
        self.past.rotate_left(1);
        if let Some(oldest) = self.past.last_mut() {
            std::mem::swap(oldest, now);
        }
    }
}

impl Picture {
    fn width(&self) -> usize {
        self.channels / self.parts.len()
    }

    /// Buffers that it is cut into.
    pub(super) fn cuts(&self) -> usize {
        self.parts.len()
    }

    /// Words of so many pixels in a buffer.
    fn words(&self, pixels: usize) -> usize {
        self.format.packed_bytes(self.width() * pixels) / 4
    }

    /// Some pixels of every buffer, in slices that need little room for copies.
    pub(super) fn read(
        &self,
        device: &Device,
        pixels: Range<usize>,
    ) -> Result<Vec<Vec<u32>>, Error> {
        let (from, to) = (self.words(pixels.start), self.words(pixels.end));
        let slice = SLICE_BYTES as usize / 4;
        let read = |part: &Buffer<u32>| -> Result<Vec<u32>, Error> {
            let mut words = Vec::with_capacity(to - from);
            for at in (from..to).step_by(slice) {
                words.extend(device.read(part, at..(at + slice).min(to))?);
            }
            Ok(words)
        };
        self.parts.iter().map(read).collect()
    }

    /// The same of buffers that were read whole.
    pub(super) fn cut(&self, parts: &[Vec<u32>], pixels: Range<usize>) -> Vec<Vec<u32>> {
        let words = self.words(pixels.start)..self.words(pixels.end);
        parts.iter().map(|p| p[words.clone()].to_vec()).collect()
    }

    /// What [`Picture::read`] read, in the same places of a picture that is cut alike.
    pub(super) fn write(&self, device: &Device, parts: &[Vec<u32>]) {
        for (part, words) in self.parts.iter().zip(parts) {
            device.write(part, 0, words);
        }
    }

    /// So many pixels that were read, `[channel, row, column]`.
    pub(super) fn planes(&self, parts: &[Vec<u32>], pixels: usize) -> Vec<f32> {
        let values = parts.iter().map(|p| self.format.unpack(p));
        values
            .flat_map(|v| transposed(&v, pixels, self.width()))
            .collect()
    }
}

/// Records a convolution of `frames`, the oldest first, whose outputs from `first` on are `y`'s channels.
#[allow(
    clippy::too_many_arguments,
    reason = "one call of one kernel, cut into parts"
)]
pub(super) fn convolve(
    rec: &mut Recorder<'_>,
    matrix: &TapMatrix,
    frames: &[&Picture],
    y: &Picture,
    first: usize,
    size: (usize, usize),
    doubled: Option<Doubled>,
    add: bool,
) {
    for (j, to) in y.parts.iter().enumerate() {
        let out = first + j * y.width();
        let mut begun = false;
        for (time, frame) in frames.iter().enumerate() {
            for (i, x) in frame.parts.iter().enumerate() {
                let tap = ConvTap {
                    x,
                    x_format: frame.format,
                    inputs: i * frame.width()..(i + 1) * frame.width(),
                    matrix,
                    time,
                    outputs: out..out + y.width(),
                    y: to,
                    size,
                    doubled,
                    add: add || begun,
                    bias: !begun,
                };
                conv_tap(rec, &tap);
                begun = true;
            }
        }
    }
}

/// What a convolution takes: normed and through SiLU.
fn ready<'a>(
    x: &'a Picture,
    gamma: Option<&'a Buffer<f32>>,
    sums: &'a Buffer<f32>,
    y: &'a Picture,
    n_pixels: usize,
) -> ChannelNorm<'a> {
    ChannelNorm {
        x: x.parts.iter().collect(),
        gamma,
        sums,
        y: y.parts.iter().collect(),
        y_format: y.format,
        channels: x.channels,
        n_pixels,
        silu: true,
    }
}

/// Records what turns `x` into a convolution's `now`: norm and SiLU, or without a norm storage alone.
pub(super) fn prepare(
    rec: &mut Recorder<'_>,
    x: &Picture,
    gamma: Option<&Buffer<f32>>,
    sums: &Buffer<f32>,
    now: &Picture,
    size: (usize, usize),
) {
    let norm = ChannelNorm {
        silu: gamma.is_some(),
        ..ready(x, gamma, sums, now, size.0 * size.1)
    };
    channel_norm(rec, &norm);
}

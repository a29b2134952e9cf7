//! One frame's part of a causal 3D convolution: pictures of different times and channel groups add up in `y`.
//!
//! A buffer holds one frame, or some channels of one where a frame outgrows a binding, so a convolution is a few dispatches.
//! Source: SELF-FORCING 7.2 (causal Conv3d, Conv2d after nearest upscaling, 1x1).

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::{WeightFormat, u32_of};
use crate::gpu::{Buffer, Kernel, Knob, Launch, Plan, Recorder, Source};

pub(super) static KERNEL: Kernel = Kernel {
    name: "conv_tap",
    source: Source::File(include_str!("../../shaders/conv_tap.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| {
        let both = |x: &WeightFormat| WeightFormat::FLOATS.map(|w| knobs(*x, w));
        WeightFormat::FLOATS.iter().flat_map(both).collect()
    },
    twin,
};

/// Pixels, and outputs, of a workgroup.
const TILE: usize = 32;

fn knobs(x: WeightFormat, w: WeightFormat) -> Vec<Knob> {
    vec![("X_HALF", x.code()), ("W_HALF", w.code())]
}

/// Sizes of a convolution's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapSizes {
    /// Outputs; stored padded to a multiple of 4 with zeros.
    pub n: usize,
    /// Inputs, a multiple of 4.
    pub k: usize,
    /// Frames that it sees: its own and those before.
    pub times: usize,
    /// Taps of a row and of a column: 1 or 3.
    pub side: usize,
}

impl TapSizes {
    /// Outputs as they are stored.
    pub fn n_pad(&self) -> usize {
        self.n.next_multiple_of(4)
    }

    /// Weights as they are stored.
    pub fn values(&self) -> usize {
        self.n_pad() * self.k * self.times * self.side * self.side
    }

    /// Bytes of a [`TapMatrix`].
    pub fn bytes(&self, format: WeightFormat) -> u64 {
        (format.packed_bytes(self.values()) + self.n_pad() * 4) as u64
    }

    /// `[n, k, time, row, column]` as the device holds it: `[time, n / 4, tap, k / 4, row, 4]`.
    ///
    /// # Panics
    /// When `k` is no multiple of 4 or the length contradicts the sizes: a bug in the caller.
    pub fn pack(&self, values: &[f32]) -> Vec<f32> {
        let taps = self.side * self.side;
        assert!(
            self.k.is_multiple_of(4) && values.len() == self.n * self.k * self.times * taps,
            "convolution weights"
        );
        let mut packed = vec![0.0; self.values()];
        for (i, v) in values.iter().enumerate() {
            let (tap, time) = (i % taps, i / taps % self.times);
            let (channel, row) = (
                i / taps / self.times % self.k,
                i / taps / self.times / self.k,
            );
            packed[self.at(time, row, tap, channel)] = *v;
        }
        packed
    }

    fn at(&self, time: usize, row: usize, tap: usize, channel: usize) -> usize {
        let taps = self.side * self.side;
        let row_quad = (time * self.n_pad() + row) / 4;
        (((row_quad * taps + tap) * (self.k / 4) + channel / 4) * 4 + row % 4) * 4 + channel % 4
    }
}

/// Weights and bias on the device.
#[derive(Debug)]
pub struct TapMatrix {
    /// As [`TapSizes::pack`] lays them out, in `format`.
    pub weight: Buffer<u32>,
    /// One value an output, padded.
    pub bias: Buffer<f32>,
    /// Sizes.
    pub sizes: TapSizes,
    /// Storage of `weight`.
    pub format: WeightFormat,
}

/// A picture twice as wide and high as the one at hand, every pixel standing for four; of its rows, those that are wanted.
#[derive(Debug, Clone, Copy)]
pub struct Doubled {
    /// Rows of the picture at hand.
    pub rows: usize,
    /// Which of twice as many rows is the first that is wanted.
    pub first: usize,
}

/// Arguments of [`conv_tap`].
#[derive(Debug, Clone)]
pub struct ConvTap<'a> {
    /// `[pixel, input]` of one frame.
    pub x: &'a Buffer<u32>,
    /// Storage of `x`.
    pub x_format: WeightFormat,
    /// Which of the matrix' inputs `x` holds, by quads.
    pub inputs: Range<usize>,
    /// Weights.
    pub matrix: &'a TapMatrix,
    /// Which frame `x` is: 0 the oldest that the convolution sees.
    pub time: usize,
    /// Which of the (padded) outputs `y` holds, by quads.
    pub outputs: Range<usize>,
    /// `[pixel, output]` in f32; not `x`.
    pub y: &'a Buffer<u32>,
    /// Width and height of `y`; the width is even when doubled.
    pub size: (usize, usize),
    /// Whether `x` is doubled first, and which rows of that are `y`'s.
    pub doubled: Option<Doubled>,
    /// Whether the result is added to what `y` holds.
    pub add: bool,
    /// Whether the bias belongs to the result.
    pub bias: bool,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    width: u32,
    height: u32,
    x_quads: u32,
    y_quads: u32,
    k_quads: u32,
    first_in: u32,
    first_out: u32,
    bias_at: u32,
    side: u32,
    shift: u32,
    add: u32,
    bias: u32,
    first_row: u32,
    from_height: u32,
}

/// Records the kernel.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn conv_tap(rec: &mut Recorder<'_>, c: &ConvTap<'_>) {
    let (m, (width, height)) = (c.matrix.sizes, c.size);
    let shift = u32::from(c.doubled.is_some());
    let (first_row, from_height) = c.doubled.map_or((0, height), |d| (d.first, 2 * d.rows));
    assert!(
        width.is_multiple_of(1 << shift) && first_row + height <= from_height,
        "a doubled picture"
    );
    let edges = [c.inputs.start, c.inputs.end, c.outputs.start, c.outputs.end];
    assert!(
        edges.iter().all(|e| e.is_multiple_of(4))
            && c.inputs.end <= m.k
            && c.outputs.end <= m.n_pad()
            && c.time < m.times
            && matches!(m.side, 1 | 3),
        "channels of a convolution"
    );
    let pixels = width * height;
    assert!(
        c.x.len() * 4
            >= c.x_format
                .packed_bytes(((width * from_height) >> (2 * shift)) * c.inputs.len())
            && c.y.len() >= pixels * c.outputs.len()
            && c.matrix.weight.len() * 4 == c.matrix.format.packed_bytes(m.values())
            && c.matrix.bias.len() == m.n_pad(),
        "convolution sizes"
    );
    let p = Params {
        width: u32_of(width),
        height: u32_of(height),
        x_quads: u32_of(c.inputs.len() / 4),
        y_quads: u32_of(c.outputs.len() / 4),
        k_quads: u32_of(m.k / 4),
        first_in: u32_of(c.inputs.start / 4),
        first_out: u32_of((c.time * m.n_pad() + c.outputs.start) / 4),
        bias_at: u32_of(c.outputs.start / 4),
        side: u32_of(m.side),
        shift,
        add: u32::from(c.add),
        bias: u32::from(c.bias),
        first_row: u32_of(first_row),
        from_height: u32_of(from_height),
        ..Params::zeroed()
    };
    let work = TILE * TILE * m.side * m.side * c.inputs.len().next_multiple_of(16);
    let plan = Plan {
        groups: u32_of(pixels.div_ceil(TILE) * c.outputs.len().div_ceil(TILE)),
        knobs: knobs(c.x_format, c.matrix.format),
        work_per_group: work as u64,
    };
    let bindings = [
        c.x.into(),
        (&c.matrix.weight).into(),
        (&c.matrix.bias).into(),
        c.y.into(),
    ];
    rec.dispatch(&KERNEL, plan, &p, &bindings);
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let format = |name| WeightFormat::FLOATS[l.knob(name) as usize];
    let x = format("X_HALF").unpack(&l.read::<u32>(1));
    let w = format("W_HALF").unpack(&l.read::<u32>(2));
    let (bias, mut y): (Vec<f32>, Vec<f32>) = (l.read(3), l.read(4));
    let (width, height, side) = (p.width as usize, p.height as usize, p.side as usize);
    let (ins, outs) = (p.x_quads as usize * 4, p.y_quads as usize * 4);
    let (taps, edge) = (side * side, side / 2);
    let first_out = p.first_out as usize * 4;
    for pixel in 0..width * height {
        let (row, col) = (pixel / width, pixel % width);
        for out in 0..outs {
            let mut sum = 0.0;
            for tap in 0..taps {
                let (r, c) = (p.first_row as usize + row + tap / side, col + tap % side);
                if r < edge || c < edge || p.from_height as usize + edge <= r || width + edge <= c {
                    continue;
                }
                let (r, c) = ((r - edge) >> p.shift, (c - edge) >> p.shift);
                let source = r * (width >> p.shift) + c;
                let row = first_out + out;
                for (channel, v) in x[source * ins..][..ins].iter().enumerate() {
                    let quad = (row / 4 * taps + tap) * p.k_quads as usize
                        + p.first_in as usize
                        + channel / 4;
                    let weight = w[(quad * 4 + row % 4) * 4 + channel % 4];
                    sum += f64::from(*v) * f64::from(weight);
                }
            }
            if p.bias == 1 {
                sum += f64::from(bias[p.bias_at as usize * 4 + out]);
            }
            let y = &mut y[pixel * outs + out];
            if p.add == 1 {
                sum += f64::from(*y);
            }
            *y = sum as f32;
        }
    }
    l.write(4, &y);
}

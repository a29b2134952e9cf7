//! 3 x 3 convolution of pictures, channels fastest: the decoders' layer. Nearest upscaling by two is part of the load.
//! Source: SELF-FORCING 8.

use bytemuck::{Pod, Zeroable};

use super::{LANES, u32_of};
use crate::gpu::{Buffer, Kernel, Launch, Plan, Recorder, Source};

pub(super) static KERNEL: Kernel = Kernel {
    name: "conv3x3",
    source: Source::File(include_str!("../../shaders/conv3x3.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| vec![vec![]],
    twin,
};

const TAPS: usize = 9;

/// Weights and bias on the device; outputs are padded to a multiple of 4 with zeros.
#[derive(Debug)]
pub struct ConvMatrix {
    /// As [`pack_conv3x3`] lays it out.
    pub weight: Buffer<f32>,
    /// One value an output.
    pub bias: Buffer<f32>,
    /// Outputs.
    pub n: usize,
    /// Inputs.
    pub k: usize,
}

/// Arguments of [`conv3x3`].
#[derive(Debug, Clone, Copy)]
pub struct Conv3x3<'a> {
    /// `[pixel, channel]`.
    pub a: &'a Buffer<f32>,
    /// Channels of `a`, a multiple of 4.
    pub a_channels: usize,
    /// `[pixel, channel]`, the inputs that `a` does not have.
    pub b: Option<&'a Buffer<f32>>,
    /// Weights.
    pub matrix: &'a ConvMatrix,
    /// `[pixel, channel]`; none of the inputs.
    pub y: &'a Buffer<f32>,
    /// Added to the result, laid out as `y`.
    pub add: Option<&'a Buffer<f32>>,
    /// Width and height of `y`; even when scaled.
    pub size: (usize, usize),
    /// Whether the inputs are half as wide and high, every pixel standing for four.
    pub upscale: bool,
    /// Whether negative results become 0.
    pub relu: bool,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    width: u32,
    height: u32,
    a_quads: u32,
    b_quads: u32,
    y_quads: u32,
    shift: u32,
    add: u32,
    relu: u32,
}

/// `[n, k, 3, 3]` as the device holds it, `[n / 4, tap, k / 4, row, 4]`, with rows of zeros up to a multiple of 4.
///
/// # Panics
/// When `k` is no multiple of 4 or the length contradicts the sizes: a bug in the caller.
pub fn pack_conv3x3(values: &[f32], n: usize, k: usize) -> Vec<f32> {
    assert!(
        k.is_multiple_of(4) && values.len() == n * k * TAPS,
        "convolution weights"
    );
    let mut packed = vec![0.0; n.next_multiple_of(4) * k * TAPS];
    for (i, v) in values.iter().enumerate() {
        let (row, channel, tap) = (i / TAPS / k, i / TAPS % k, i % TAPS);
        let quad = (row / 4 * TAPS + tap) * (k / 4) + channel / 4;
        packed[(quad * 4 + row % 4) * 4 + channel % 4] = *v;
    }
    packed
}

/// Records the kernel.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn conv3x3(rec: &mut Recorder<'_>, c: &Conv3x3<'_>) {
    let (m, (width, height)) = (c.matrix, c.size);
    let shift = u32::from(c.upscale);
    assert!(
        !c.upscale || width.is_multiple_of(2) && height.is_multiple_of(2),
        "a scaled picture"
    );
    let pixels = width * height;
    let b_channels = m.k - c.a_channels;
    assert!(
        c.a_channels.is_multiple_of(4) && b_channels.is_multiple_of(4) && m.n.is_multiple_of(4),
        "channels of a convolution"
    );
    assert_eq!(b_channels > 0, c.b.is_some(), "inputs of a convolution");
    let from = pixels >> (2 * shift);
    assert!(
        c.a.len() >= from * c.a_channels
            && c.b.is_none_or(|b| b.len() >= from * b_channels)
            && c.y.len() >= pixels * m.n
            && c.add.is_none_or(|a| a.len() >= pixels * m.n)
            && m.weight.len() == m.n * m.k * TAPS
            && m.bias.len() == m.n,
        "convolution sizes"
    );
    let p = Params {
        width: u32_of(width),
        height: u32_of(height),
        a_quads: u32_of(c.a_channels / 4),
        b_quads: u32_of(b_channels / 4),
        y_quads: u32_of(m.n / 4),
        shift,
        add: u32::from(c.add.is_some()),
        relu: u32::from(c.relu),
        ..Params::zeroed()
    };
    let plan = Plan {
        groups: u32_of(pixels.div_ceil(LANES) * (m.n / 4)),
        knobs: Vec::new(),
        work_per_group: (LANES * TAPS * m.k * 4) as u64,
    };
    let bindings = [
        c.a.into(),
        c.b.unwrap_or(c.a).into(),
        (&m.weight).into(),
        (&m.bias).into(),
        c.add.unwrap_or(&m.bias).into(),
        c.y.into(),
    ];
    rec.dispatch(&KERNEL, plan, &p, &bindings);
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let (a, b, w): (Vec<f32>, Vec<f32>, Vec<f32>) = (l.read(1), l.read(2), l.read(3));
    let (bias, add, mut y): (Vec<f32>, Vec<f32>, Vec<f32>) = (l.read(4), l.read(5), l.read(6));
    let (width, height) = (p.width as usize, p.height as usize);
    let (from_a, from_b) = (p.a_quads as usize * 4, p.b_quads as usize * 4);
    let (n, k) = (p.y_quads as usize * 4, from_a + from_b);
    for pixel in 0..width * height {
        let (row, col) = (pixel / width, pixel % width);
        for out in 0..n {
            let mut sum = f64::from(bias[out]);
            for tap in 0..TAPS {
                let (Some(r), Some(c)) = (
                    (row + tap / 3).checked_sub(1),
                    (col + tap % 3).checked_sub(1),
                ) else {
                    continue;
                };
                if height <= r || width <= c {
                    continue;
                }
                let source = (r >> p.shift) * (width >> p.shift) + (c >> p.shift);
                let inputs = a[source * from_a..][..from_a]
                    .iter()
                    .chain(&b[source * from_b..][..from_b]);
                for (channel, v) in inputs.enumerate() {
                    let quad = (out / 4 * TAPS + tap) * (k / 4) + channel / 4;
                    let weight = w[(quad * 4 + out % 4) * 4 + channel % 4];
                    sum += f64::from(*v) * f64::from(weight);
                }
            }
            let at = pixel * n + out;
            if p.add == 1 {
                sum += f64::from(add[at]);
            }
            y[at] = if p.relu == 1 { sum.max(0.0) } else { sum } as f32;
        }
    }
    l.write(6, &y);
}

//! Norm over the channels of every pixel, SiLU, and storage: what comes before a decoder's convolution.
//! Source: SELF-FORCING 7.2 (`x / max(|x|, 1e-12) * sqrt(C) * gamma`).

use bytemuck::{Pod, Zeroable};

use super::{WeightFormat, each, u32_of};
use crate::gpu::{Buffer, Kernel, Launch, Plan, Recorder, Source};

pub(super) static KERNEL: Kernel = Kernel {
    name: "channel_norm",
    source: Source::File(include_str!("../../shaders/channel_norm.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| {
        WeightFormat::FLOATS
            .iter()
            .map(|f| vec![("Y_HALF", f.code())])
            .collect()
    },
    twin,
};

/// Arguments of [`channel_norm`].
#[derive(Debug, Clone)]
pub struct ChannelNorm<'a> {
    /// `[pixel, channel]` in f32, a buffer some channels, as many in each.
    pub x: Vec<&'a Buffer<u32>>,
    /// One value a channel; without it `x` is not normed.
    pub gamma: Option<&'a Buffer<f32>>,
    /// Scratch of one value a pixel.
    pub sums: &'a Buffer<f32>,
    /// As `x`, in `y_format`; none of its buffers.
    pub y: Vec<&'a Buffer<u32>>,
    /// Storage of `y`.
    pub y_format: WeightFormat,
    /// Channels of all buffers together.
    pub channels: usize,
    /// Pixels.
    pub n_pixels: usize,
    /// Whether the result goes through SiLU.
    pub silu: bool,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n_pixels: u32,
    n_quads: u32,
    first_quad: u32,
    step: u32,
    carry: u32,
    norm: u32,
    silu: u32,
    scale: f32,
}

/// Records the kernel: with a norm once for the lengths and once for the values, for every buffer.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn channel_norm(rec: &mut Recorder<'_>, a: &ChannelNorm<'_>) {
    let parts = a.x.len();
    assert!(
        parts > 0 && a.y.len() == parts && a.channels.is_multiple_of(4 * parts),
        "channels of channel_norm"
    );
    let width = a.channels / parts;
    let bytes = a.y_format.packed_bytes(a.n_pixels * width);
    assert!(
        a.x.iter().all(|x| x.len() >= a.n_pixels * width)
            && a.y.iter().all(|y| y.len() * 4 >= bytes)
            && a.gamma.is_none_or(|g| g.len() == a.channels)
            && a.sums.len() >= a.n_pixels,
        "channel_norm sizes"
    );
    let steps = if a.gamma.is_some() { 0..2 } else { 1..2 };
    for step in steps {
        for (i, (x, y)) in a.x.iter().zip(&a.y).enumerate() {
            let p = Params {
                n_pixels: u32_of(a.n_pixels),
                n_quads: u32_of(width / 4),
                first_quad: u32_of(i * width / 4),
                step,
                carry: u32::from(i > 0),
                norm: u32::from(a.gamma.is_some()),
                silu: u32::from(a.silu),
                scale: (a.channels as f32).sqrt(),
                ..Params::zeroed()
            };
            let n = if step == 0 {
                a.n_pixels
            } else {
                a.n_pixels * width / 4
            };
            let plan = Plan {
                knobs: vec![("Y_HALF", a.y_format.code())],
                ..each(n)
            };
            let gamma = a.gamma.map_or_else(|| (*x).into(), Into::into);
            let bindings = [(*x).into(), gamma, a.sums.into(), (*y).into()];
            rec.dispatch(&KERNEL, plan, &p, &bindings);
        }
    }
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let format = WeightFormat::FLOATS[l.knob("Y_HALF") as usize];
    let (x, gamma): (Vec<f32>, Vec<f32>) = (l.read(1), l.read(2));
    let mut sums: Vec<f32> = l.read(3);
    let (pixels, width) = (p.n_pixels as usize, p.n_quads as usize * 4);
    let rows = x[..pixels * width].chunks_exact(width);
    if p.step == 0 {
        for (sum, row) in sums.iter_mut().zip(rows) {
            let squares: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum();
            let before = if p.carry == 1 { f64::from(*sum) } else { 0.0 };
            *sum = (before + squares) as f32;
        }
        return l.write(3, &sums);
    }
    let mut y = Vec::with_capacity(pixels * width);
    for (pixel, row) in rows.enumerate() {
        let inv = f64::from(p.scale) / f64::from(sums[pixel]).sqrt().max(1e-12);
        for (c, v) in row.iter().enumerate() {
            let mut v = f64::from(*v);
            if p.norm == 1 {
                v *= inv * f64::from(gamma[p.first_quad as usize * 4 + c]);
            }
            if p.silu == 1 {
                v /= 1.0 + (-v).exp();
            }
            y.push(v as f32);
        }
    }
    l.write(4, &format.pack(&y));
}

//! Attention between the pixels of a picture: one head over all channels, no buffer of scores.
//! Source: SELF-FORCING 7.2; online softmax: Milakov & Gimelshein 2018.

use bytemuck::{Pod, Zeroable};

use super::u32_of;
use crate::gpu::{Buffer, Kernel, Launch, Plan, Recorder, Source};

pub(super) static KERNEL: Kernel = Kernel {
    name: "pixel_attention",
    source: Source::File(include_str!("../../shaders/pixel_attention.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| vec![vec![]],
    twin,
};

/// Channels that [`pixel_attention`] takes at most: a lane sums up two quads.
pub const MAX_PIXEL_CHANNELS: usize = 512;

/// Rows of a workgroup.
const ROWS: usize = 4;

/// Arguments of [`pixel_attention`]. All are `[pixel, channel]` in f32.
#[derive(Debug, Clone, Copy)]
pub struct PixelAttention<'a> {
    /// Queries.
    pub q: &'a Buffer<u32>,
    /// Keys.
    pub k: &'a Buffer<u32>,
    /// Values.
    pub v: &'a Buffer<u32>,
    /// Output; none of the inputs.
    pub out: &'a Buffer<u32>,
    /// Pixels.
    pub n_pixels: usize,
    /// Channels, a multiple of 4; scores are divided by the root of their number.
    pub channels: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n_rows: u32,
    n_quads: u32,
    scale: f32,
}

/// Records the kernel.
///
/// # Panics
/// When a buffer's length contradicts the sizes, or channels are too many: a bug in the caller.
pub fn pixel_attention(rec: &mut Recorder<'_>, a: &PixelAttention<'_>) {
    assert!(
        a.channels.is_multiple_of(4) && a.channels <= MAX_PIXEL_CHANNELS,
        "channels of pixel_attention"
    );
    let n = a.n_pixels * a.channels;
    assert!(
        [a.q, a.k, a.v, a.out].iter().all(|b| b.len() >= n),
        "pixel_attention sizes"
    );
    let p = Params {
        n_rows: u32_of(a.n_pixels),
        n_quads: u32_of(a.channels / 4),
        scale: 1.0 / (a.channels as f32).sqrt(),
        ..Params::zeroed()
    };
    let plan = Plan {
        groups: u32_of(a.n_pixels.div_ceil(ROWS)),
        knobs: Vec::new(),
        work_per_group: (2 * ROWS * n) as u64,
    };
    let bindings = [a.q.into(), a.k.into(), a.v.into(), a.out.into()];
    rec.dispatch(&KERNEL, plan, &p, &bindings);
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let (q, k, v): (Vec<f32>, Vec<f32>, Vec<f32>) = (l.read(1), l.read(2), l.read(3));
    let (rows, dim) = (p.n_rows as usize, p.n_quads as usize * 4);
    let mut out: Vec<f32> = l.read(4);
    for (q, out) in q
        .chunks_exact(dim)
        .zip(out.chunks_exact_mut(dim))
        .take(rows)
    {
        let score = |key: &[f32]| -> f64 {
            let products = q
                .iter()
                .zip(key)
                .map(|(q, k)| f64::from(*q) * f64::from(*k));
            products.sum::<f64>() * f64::from(p.scale)
        };
        let scores: Vec<f64> = k.chunks_exact(dim).take(rows).map(score).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for (c, out) in out.iter_mut().enumerate() {
            let values = weights.iter().zip(v[c..].iter().step_by(dim));
            *out = (values.map(|(w, v)| w * f64::from(*v)).sum::<f64>() / sum) as f32;
        }
    }
    l.write(4, &out);
}

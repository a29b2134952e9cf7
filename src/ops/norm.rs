//! Layer norm of rows: plain, modulated by a table and the conditioning vector, or affine.
//! Source: SELF-FORCING 4.2 (`LN(x) * (1 + scale) + shift`).

use bytemuck::{Pod, Zeroable};

use super::u32_of;
use crate::gpu::{Buffer, Caps, Kernel, Knob, Launch, Plan, Recorder, Source, Tier};

pub(super) static KERNEL: Kernel = Kernel {
    name: "norm",
    source: Source::File(include_str!("../../shaders/norm.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| vec![vec![]],
    twin,
};

pub(super) static KERNEL_SG: Kernel = Kernel {
    name: "norm_sg",
    source: Source::File(include_str!("../../shaders/norm_sg.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |caps| {
        if caps.tier == Tier::Subgroups {
            vec![subgroup_knobs(caps)]
        } else {
            Vec::new()
        }
    },
    twin,
};

/// The knobs of the `_sg` row kernels: one subgroup a row.
pub(super) fn subgroup_knobs(caps: &Caps) -> Vec<Knob> {
    vec![("WG", caps.subgroup_size)]
}

/// What happens to a normalized row.
#[derive(Debug, Clone, Copy)]
pub enum NormMode<'a> {
    /// Nothing.
    Plain,
    /// `v * (1 + scale) + shift`, each the sum of a learned row and the frame's conditioning.
    Modulate {
        /// Learned vectors, `[vector, channel]`.
        table: &'a Buffer<f32>,
        /// Conditioning, `[frame, vector, channel]`.
        cond: &'a Buffer<f32>,
        /// Vectors a frame has in `cond`.
        cond_vectors: usize,
        /// Index of the shift in (`table`, `cond`).
        shift: (usize, usize),
        /// Index of the scale in (`table`, `cond`).
        scale: (usize, usize),
    },
    /// `v * weight + bias`, the two stored one after the other.
    Affine {
        /// `[weight, bias]`, each `[channel]`.
        weight_bias: &'a Buffer<f32>,
    },
}

/// Arguments of [`norm`].
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// `[row, channel]`.
    pub x: &'a Buffer<f32>,
    /// `[row, channel]`; not `x`.
    pub y: &'a Buffer<f32>,
    /// Rows.
    pub n_rows: usize,
    /// Channels, a multiple of 4.
    pub channels: usize,
    /// Rows that share a frame's conditioning.
    pub rows_per_frame: usize,
    /// Added to the variance.
    pub eps: f32,
    /// What happens to a normalized row.
    pub mode: NormMode<'a>,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n_rows: u32,
    n_quads: u32,
    mode: u32,
    shift_at: u32,
    scale_at: u32,
    cond_stride: u32,
    cond_shift_at: u32,
    cond_scale_at: u32,
    rows_per_frame: u32,
    eps: f32,
}

/// Records the kernel.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn norm(rec: &mut Recorder<'_>, a: &Norm<'_>) {
    let n = a.n_rows * a.channels;
    assert!(
        a.channels.is_multiple_of(4) && a.x.len() >= n && a.y.len() >= n,
        "norm sizes"
    );
    let quads = u32_of(a.channels / 4);
    let mut p = Params {
        n_rows: u32_of(a.n_rows),
        n_quads: quads,
        rows_per_frame: u32_of(a.rows_per_frame),
        eps: a.eps,
        ..Params::zeroed()
    };
    let (table, cond) = match a.mode {
        NormMode::Plain => (a.x, a.x),
        NormMode::Modulate {
            table,
            cond,
            cond_vectors,
            shift,
            scale,
        } => {
            p.mode = 1;
            (p.shift_at, p.scale_at) = (u32_of(shift.0) * quads, u32_of(scale.0) * quads);
            (p.cond_shift_at, p.cond_scale_at) = (u32_of(shift.1) * quads, u32_of(scale.1) * quads);
            p.cond_stride = u32_of(cond_vectors) * quads;
            assert!(
                cond.len() >= a.n_rows.div_ceil(a.rows_per_frame) * cond_vectors * a.channels,
                "conditioning"
            );
            (table, cond)
        }
        NormMode::Affine { weight_bias } => {
            p.mode = 2;
            p.shift_at = quads;
            assert_eq!(weight_bias.len(), 2 * a.channels, "affine norm");
            (weight_bias, a.x)
        }
    };
    let sg = rec.caps().tier == Tier::Subgroups;
    let kernel = if sg { &KERNEL_SG } else { &KERNEL };
    let knobs = if sg {
        subgroup_knobs(rec.caps())
    } else {
        Vec::new()
    };
    let plan = Plan {
        groups: p.n_rows,
        knobs,
        work_per_group: 16 * u64::from(quads),
    };
    rec.dispatch(
        kernel,
        plan,
        &p,
        &[a.x.into(), table.into(), cond.into(), a.y.into()],
    );
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let (x, table, cond): (Vec<f32>, Vec<f32>, Vec<f32>) = (l.read(1), l.read(2), l.read(3));
    let n = p.n_quads as usize * 4;
    let mut out = Vec::with_capacity(p.n_rows as usize * n);
    for row in 0..p.n_rows as usize {
        let v: Vec<f64> = x[row * n..(row + 1) * n]
            .iter()
            .map(|v| f64::from(*v))
            .collect();
        let mean = v.iter().sum::<f64>() / n as f64;
        let var = v.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        let inv = 1.0 / (var + f64::from(p.eps)).sqrt();
        let at = row / p.rows_per_frame as usize * p.cond_stride as usize * 4;
        for (c, v) in v.iter().enumerate() {
            let v = (v - mean) * inv;
            let t = |at: u32| f64::from(table[at as usize * 4 + c]);
            let e = |vector: u32| f64::from(cond[at + vector as usize * 4 + c]);
            out.push(match p.mode {
                1 => {
                    v * (1.0 + t(p.scale_at) + e(p.cond_scale_at))
                        + t(p.shift_at)
                        + e(p.cond_shift_at)
                }
                2 => v * t(p.scale_at) + t(p.shift_at),
                _ => v,
            } as f32);
        }
    }
    l.write(4, &out);
}

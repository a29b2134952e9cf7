//! RMS norm of q and k over their full width, before the split into heads.
//! Source: SELF-FORCING 4.2 (`w * y / sqrt(mean(y^2) + eps)`).

use bytemuck::{Pod, Zeroable};

use super::norm::subgroup_knobs;
use super::u32_of;
use crate::gpu::{Buffer, Kernel, Launch, Plan, Recorder, Source, Tier};

pub(super) static KERNEL: Kernel = Kernel {
    name: "rms_norm",
    source: Source::File(include_str!("../../shaders/rms_norm.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| vec![vec![]],
    twin,
};

pub(super) static KERNEL_SG: Kernel = Kernel {
    name: "rms_norm_sg",
    source: Source::File(include_str!("../../shaders/rms_norm_sg.wgsl")),
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

/// Arguments of [`rms_norm`].
#[derive(Debug, Clone, Copy)]
pub struct RmsNorm<'a> {
    /// `[row, row_stride]`, the parts to norm first in every row; changed in place.
    pub x: &'a Buffer<f32>,
    /// `[part, channel]`.
    pub weight: &'a Buffer<f32>,
    /// Rows.
    pub n_rows: usize,
    /// Parts side by side in a row, each normed on its own: 2 for q and k.
    pub n_parts: usize,
    /// Channels of a part, a multiple of 4.
    pub channels: usize,
    /// Values from row to row.
    pub row_stride: usize,
    /// Added to the mean square.
    pub eps: f32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n_parts: u32,
    n_quads: u32,
    row_stride: u32,
    eps: f32,
}

/// Records the kernel.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn rms_norm(rec: &mut Recorder<'_>, a: &RmsNorm<'_>) {
    assert!(
        a.channels.is_multiple_of(4) && a.row_stride.is_multiple_of(4),
        "rms_norm widths"
    );
    assert!(
        a.x.len() >= a.n_rows * a.row_stride && a.weight.len() >= a.n_parts * a.channels,
        "rms_norm sizes"
    );
    let p = Params {
        n_parts: u32_of(a.n_parts),
        n_quads: u32_of(a.channels / 4),
        row_stride: u32_of(a.row_stride / 4),
        eps: a.eps,
        ..Params::zeroed()
    };
    let sg = rec.caps().tier == Tier::Subgroups;
    let kernel = if sg { &KERNEL_SG } else { &KERNEL };
    let knobs = if sg {
        subgroup_knobs(rec.caps())
    } else {
        Vec::new()
    };
    let plan = Plan {
        groups: u32_of(a.n_rows * a.n_parts),
        knobs,
        work_per_group: 12 * u64::from(p.n_quads),
    };
    rec.dispatch(kernel, plan, &p, &[a.x.into(), a.weight.into()]);
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let (mut x, weight): (Vec<f32>, Vec<f32>) = (l.read(1), l.read(2));
    let (n, parts) = (p.n_quads as usize * 4, p.n_parts as usize);
    let n_rows = p.n_groups as usize / parts;
    for row in x.chunks_exact_mut(p.row_stride as usize * 4).take(n_rows) {
        for (v, w) in row[..n * parts]
            .chunks_exact_mut(n)
            .zip(weight.chunks_exact(n))
        {
            let mean = v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n as f64;
            let inv = 1.0 / (mean + f64::from(p.eps)).sqrt();
            for (v, w) in v.iter_mut().zip(w) {
                *v = (f64::from(*v) * inv * f64::from(*w)) as f32;
            }
        }
    }
    l.write(1, &x);
}

//! SiLU of a small tensor: the conditioning vector before its projection.

use bytemuck::{Pod, Zeroable};

use super::{each, u32_of};
use crate::gpu::{Buffer, Kernel, Launch, Recorder, Source};

pub(super) static KERNEL: Kernel = Kernel {
    name: "silu",
    source: Source::File(include_str!("../../shaders/silu.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| vec![vec![]],
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n: u32,
}

/// Records `y = x / (1 + exp(-x))` for every value of `x`; what `y` has beyond them stays.
///
/// # Panics
/// When `y` is shorter.
pub fn silu(rec: &mut Recorder<'_>, x: &Buffer<f32>, y: &Buffer<f32>) {
    assert!(x.len() <= y.len(), "silu sizes");
    rec.dispatch(
        &KERNEL,
        each(x.len()),
        &Params {
            first_group: 0,
            n_groups: 0,
            n: u32_of(x.len()),
        },
        &[x.into(), y.into()],
    );
}

fn twin(l: &mut Launch<'_>) {
    let y: Vec<f32> = l
        .read::<f32>(1)
        .into_iter()
        .map(|x| (f64::from(x) / (1.0 + (-f64::from(x)).exp())) as f32)
        .collect();
    l.write(2, &y);
}

//! `x = a x + b y`: re-noising, Euler steps and conversions between velocity and clean frame are all of this form.

use bytemuck::{Pod, Zeroable};

use super::{each, u32_of};
use crate::gpu::{Buffer, Kernel, Launch, Recorder, Source};

pub(super) static KERNEL: Kernel = Kernel {
    name: "mix",
    source: Source::File(include_str!("../../shaders/mix.wgsl")),
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
    a: f32,
    b: f32,
    limit: f32,
}

/// Records `x = a x + b y` for every value of `y`; what `x` has beyond them stays.
///
/// # Panics
/// When `x` is shorter.
pub fn mix(rec: &mut Recorder<'_>, x: &Buffer<f32>, y: &Buffer<f32>, a: f32, b: f32) {
    mix_limited(rec, x, y, a, b, f32::MAX);
}

/// Records `x = a x + b y`, cut to `-limit..=limit`, as [`mix`] does.
///
/// # Panics
/// When `x` is shorter.
pub fn mix_limited(
    rec: &mut Recorder<'_>,
    x: &Buffer<f32>,
    y: &Buffer<f32>,
    a: f32,
    b: f32,
    limit: f32,
) {
    assert!(y.len() <= x.len(), "mix sizes");
    let params = Params {
        first_group: 0,
        n_groups: 0,
        n: u32_of(y.len()),
        a,
        b,
        limit,
    };
    rec.dispatch(&KERNEL, each(y.len()), &params, &[x.into(), y.into()]);
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let mut x: Vec<f32> = l.read(1);
    for (x, y) in x.iter_mut().zip(l.read::<f32>(2)) {
        let v = (f64::from(p.a) * f64::from(*x) + f64::from(p.b) * f64::from(y)) as f32;
        *x = v.max(-p.limit).min(p.limit);
    }
    l.write(1, &x);
}

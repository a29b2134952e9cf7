//! Rotates rows by the orthonormal Hadamard matrix of their width, in place.

use bytemuck::{Pod, Zeroable};

use super::coding::hadamard as rotated;
use super::{each, u32_of};
use crate::gpu::{Buffer, Kernel, Launch, Recorder, Source, Variant};

pub(super) static KERNEL: Kernel = Kernel {
    name: "hadamard",
    source: Source::File(include_str!("../../shaders/hadamard.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| vec![Vec::new()],
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n_rows: u32,
    n_quads: u32,
    norm: f32,
}

/// What [`hadamard_rows`] runs.
pub fn hadamard_kernel() -> Variant {
    (&KERNEL, Vec::new())
}

/// Records the rotation of `n_rows` rows of `head_dim` values, a power of two of at least 16.
///
/// # Panics
/// When the buffer is shorter: a bug in the caller.
pub fn hadamard_rows(rec: &mut Recorder<'_>, x: &Buffer<f32>, n_rows: usize, head_dim: usize) {
    assert!(
        head_dim.is_power_of_two() && head_dim >= 16 && x.len() >= n_rows * head_dim,
        "hadamard sizes"
    );
    let p = Params {
        first_group: 0,
        n_groups: 0,
        n_rows: u32_of(n_rows),
        n_quads: u32_of(head_dim / 4),
        norm: (1.0 / (head_dim as f64).sqrt()) as f32,
    };
    let mut plan = each(n_rows);
    plan.work_per_group = 64 * (head_dim as u64) * 8;
    rec.dispatch(&KERNEL, plan, &p, &[x.into()]);
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let mut x: Vec<f32> = l.read(1);
    let d = p.n_quads as usize * 4;
    for row in x[..p.n_rows as usize * d].chunks_exact_mut(d) {
        row.copy_from_slice(&rotated(row));
    }
    l.write(1, &x);
}

//! Attention of a text encoder: every row sees the first rows, with a bias by distance and without a scale.
//! Source: SELF-FORCING 2.3.

use bytemuck::{Pod, Zeroable};

use super::u32_of;
use crate::gpu::{Buffer, Kernel, Launch, Plan, Recorder, Source};

pub(super) static KERNEL: Kernel = Kernel {
    name: "relative_attention",
    source: Source::File(include_str!("../../shaders/relative_attention.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| vec![vec![]],
    twin,
};

/// Keys that [`relative_attention`] takes at most: their scores lie in workgroup memory.
pub const MAX_RELATIVE_KEYS: usize = 2048;

/// Arguments of [`relative_attention`].
#[derive(Debug, Clone, Copy)]
pub struct RelativeAttention<'a> {
    /// Queries `[row, head, head_dim]`.
    pub q: &'a Buffer<f32>,
    /// Keys, as `q`.
    pub k: &'a Buffer<f32>,
    /// Values, as `q`.
    pub v: &'a Buffer<f32>,
    /// Added to the scores: `[head, key - row + n_rows - 1]`.
    pub bias: &'a Buffer<f32>,
    /// `[row, head, head_dim]`.
    pub out: &'a Buffer<f32>,
    /// Rows.
    pub n_rows: usize,
    /// Rows that are attended to: the first ones, the others being padding.
    pub n_keys: usize,
    /// Heads.
    pub n_heads: usize,
    /// Channels of a head, a multiple of 4.
    pub head_dim: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n_rows: u32,
    n_keys: u32,
    n_heads: u32,
    n_quads: u32,
}

/// Records the kernel.
///
/// # Panics
/// When a buffer's length contradicts the sizes, or there are no keys or too many: a bug in the caller.
pub fn relative_attention(rec: &mut Recorder<'_>, a: &RelativeAttention<'_>) {
    assert!(
        (1..=a.n_rows.min(MAX_RELATIVE_KEYS)).contains(&a.n_keys),
        "keys of relative attention"
    );
    let n = a.n_rows * a.n_heads * a.head_dim;
    let longest = [a.q, a.k, a.v, a.out].map(Buffer::len);
    assert!(
        a.head_dim.is_multiple_of(4)
            && longest.iter().all(|len| *len >= n)
            && a.bias.len() >= a.n_heads * (2 * a.n_rows - 1),
        "relative attention sizes"
    );
    let p = Params {
        n_rows: u32_of(a.n_rows),
        n_keys: u32_of(a.n_keys),
        n_heads: u32_of(a.n_heads),
        n_quads: u32_of(a.head_dim / 4),
        ..Params::zeroed()
    };
    let plan = Plan {
        groups: u32_of(a.n_rows * a.n_heads),
        knobs: Vec::new(),
        work_per_group: 2 * (a.n_keys * a.head_dim) as u64,
    };
    let bindings = [
        a.q.into(),
        a.k.into(),
        a.v.into(),
        a.bias.into(),
        a.out.into(),
    ];
    rec.dispatch(&KERNEL, plan, &p, &bindings);
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let (q, k, v): (Vec<f32>, Vec<f32>, Vec<f32>) = (l.read(1), l.read(2), l.read(3));
    let (bias, mut out): (Vec<f32>, Vec<f32>) = (l.read(4), l.read(5));
    let (rows, heads, dim) = (
        p.n_rows as usize,
        p.n_heads as usize,
        p.n_quads as usize * 4,
    );
    for row in 0..rows {
        for head in 0..heads {
            let at = |row: usize| (row * heads + head) * dim;
            let scores: Vec<f64> = (0..p.n_keys as usize)
                .map(|key| {
                    let products = q[at(row)..][..dim].iter().zip(&k[at(key)..][..dim]);
                    let dot: f64 = products.map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
                    dot + f64::from(bias[head * (2 * rows - 1) + key + rows - 1 - row])
                })
                .collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for c in 0..dim {
                let values = weights.iter().enumerate();
                let acc: f64 = values.map(|(key, w)| w * f64::from(v[at(key) + c])).sum();
                out[at(row) + c] = (acc / sum) as f32;
            }
        }
    }
    l.write(5, &out);
}

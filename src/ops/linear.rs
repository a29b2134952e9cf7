//! `y = store(act(x W^T + b))`: every matrix of the network.

use bytemuck::{Pod, Zeroable};

use super::linear_text::{write_portable, write_subgroup};
use super::u32_of;
use super::weight_format::WeightFormat;
use crate::gpu::{Buffer, Caps, Kernel, Knob, Launch, Plan, Recorder, Source, Tier};

pub(super) static KERNEL: Kernel = Kernel {
    name: "linear",
    source: Source::Written(write_portable),
    params_bytes: size_of::<Params>(),
    plans: |_| {
        WeightFormat::ALL
            .iter()
            .map(|f| vec![("FORMAT", f.code())])
            .collect()
    },
    twin,
};

pub(super) static KERNEL_SG: Kernel = Kernel {
    name: "linear_sg",
    source: Source::Written(write_subgroup),
    params_bytes: size_of::<Params>(),
    plans: subgroup_plans,
    twin,
};

/// A weight matrix `[n, k]` and its bias `[n]` on the device; `n` and `k` are padded to multiples of 4 with zeros.
#[derive(Debug)]
pub struct Matrix {
    /// Rows of `k` weights, as [`WeightFormat::pack`] lays them out.
    pub weight: Buffer<u32>,
    /// One value a row.
    pub bias: Buffer<f32>,
    /// Outputs.
    pub n: usize,
    /// Inputs.
    pub k: usize,
    /// Storage of `weight`.
    pub format: WeightFormat,
}

/// Applied to each sum before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// `0.5 u (1 + tanh(sqrt(2/pi) (u + 0.044715 u^3)))`.
    GeluTanh,
    /// `u / (1 + exp(-u))`.
    Silu,
}

/// What happens to a result.
#[derive(Debug, Clone, Copy)]
pub enum Store<'a> {
    /// `y = r`.
    Set,
    /// `y += r`: a plain residual.
    Add,
    /// `y *= r`: the other half of a gated FFN.
    Multiply,
    /// `y += r * (table[gate] + cond[frame, gate])`: the gated residual of a modulated block.
    AddGated {
        /// Learned vectors, `[vector, n]`.
        table: &'a Buffer<f32>,
        /// Conditioning, `[frame, vector, n]`.
        cond: &'a Buffer<f32>,
        /// Vectors a frame has in `cond`.
        cond_vectors: usize,
        /// Index of the gate in (`table`, `cond`).
        gate: (usize, usize),
        /// Rows of y that share a frame's conditioning, counted from the first one of the buffer.
        rows_per_frame: usize,
    },
}

/// Arguments of [`linear`] and [`linear_rows`].
#[derive(Debug, Clone, Copy)]
pub struct Linear<'a> {
    /// `[n_rows, matrix.k]`.
    pub x: &'a Buffer<f32>,
    /// `[matrix.n, matrix.k]`.
    pub matrix: &'a Matrix,
    /// `[n_rows, matrix.n]`.
    pub y: &'a Buffer<f32>,
    /// Rows.
    pub n_rows: usize,
    /// Applied to each sum.
    pub act: Activation,
    /// What happens to a result.
    pub store: Store<'a>,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Params {
    first_group: u32,
    n_groups: u32,
    n_rows: u32,
    n_quads: u32,
    k_quads: u32,
    row_tiles: u32,
    act: u32,
    store: u32,
    table_at: u32,
    cond_at: u32,
    cond_stride: u32,
    rows_per_frame: u32,
    x_row: u32,
    y_row: u32,
}

/// Rows of an invocation's tile in the subgroup kernel: whole subgroups, 16 where there are rows enough, 8 for the few
/// rows of the conditioning.
fn tile_rows(caps: &Caps, n_rows: usize) -> u32 {
    let s = caps.subgroup_size;
    if s > 16 {
        return s;
    }
    let rows: u32 = if n_rows <= 8 { 8 } else { 16 };
    rows.next_multiple_of(s)
}

fn subgroup_knobs(caps: &Caps, format: WeightFormat, rows: u32) -> Vec<Knob> {
    vec![
        ("FORMAT", format.code()),
        ("LANES", caps.subgroup_size),
        ("ROWS", rows),
    ]
}

fn subgroup_plans(caps: &Caps) -> Vec<Vec<Knob>> {
    if caps.tier != Tier::Subgroups {
        return Vec::new();
    }
    let mut rows = vec![tile_rows(caps, 1), tile_rows(caps, 64)];
    rows.dedup();
    WeightFormat::ALL
        .iter()
        .flat_map(|f| rows.iter().map(|r| subgroup_knobs(caps, *f, *r)))
        .collect()
}

fn plan(caps: &Caps, p: &mut Params, format: WeightFormat) -> (&'static Kernel, Plan) {
    let (n_rows, n) = (p.n_rows as usize, p.n_quads as usize * 4);
    let (kernel, knobs, rows, cols) = match caps.tier {
        Tier::Subgroups => {
            let rows = tile_rows(caps, n_rows);
            (
                &KERNEL_SG,
                subgroup_knobs(caps, format, rows),
                rows as usize,
                caps.subgroup_size as usize * 4,
            )
        }
        Tier::Portable => (&KERNEL, vec![("FORMAT", format.code())], 32, 32),
    };
    p.row_tiles = u32_of(n_rows.div_ceil(rows));
    let groups = p.row_tiles as usize * n.div_ceil(cols);
    let work_per_group = (rows * cols) as u64 * u64::from(p.k_quads) * 4;
    (
        kernel,
        Plan {
            groups: u32_of(groups),
            knobs,
            work_per_group,
        },
    )
}

/// Records the kernel.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn linear(rec: &mut Recorder<'_>, a: &Linear<'_>) {
    linear_rows(rec, a, [0, 0]);
}

/// As [`linear`], from these rows of x and of y on: a band of either.
///
/// # Panics
/// As [`linear`].
pub fn linear_rows(rec: &mut Recorder<'_>, a: &Linear<'_>, [x_row, y_row]: [usize; 2]) {
    let m = a.matrix;
    assert!(
        m.n.is_multiple_of(4) && m.k.is_multiple_of(4),
        "matrices are padded when they are loaded"
    );
    assert!(
        a.x.len() >= (x_row + a.n_rows) * m.k && a.y.len() >= (y_row + a.n_rows) * m.n,
        "linear sizes"
    );
    assert!(
        m.weight.len() * 4 == m.format.packed_bytes(m.n * m.k)
            && m.bias.len() == m.n
            && m.format == m.format.for_width(m.k),
        "matrix sizes"
    );
    let mut p = Params {
        n_rows: u32_of(a.n_rows),
        n_quads: u32_of(m.n / 4),
        k_quads: u32_of(m.k / 4),
        act: a.act as u32,
        rows_per_frame: 1,
        x_row: u32_of(x_row),
        y_row: u32_of(y_row),
        ..Params::zeroed()
    };
    let (mut table, mut cond) = (&m.bias, &m.bias);
    match a.store {
        Store::Set => {}
        Store::Add => p.store = 1,
        Store::Multiply => p.store = 3,
        Store::AddGated {
            table: t,
            cond: c,
            cond_vectors,
            gate,
            rows_per_frame,
        } => {
            assert!(
                c.len() >= (y_row + a.n_rows).div_ceil(rows_per_frame) * cond_vectors * m.n,
                "conditioning"
            );
            p.store = 2;
            (p.table_at, p.cond_at) = (u32_of(gate.0 * m.n / 4), u32_of(gate.1 * m.n / 4));
            p.cond_stride = u32_of(cond_vectors * m.n / 4);
            p.rows_per_frame = u32_of(rows_per_frame);
            (table, cond) = (t, c);
        }
    }
    let (kernel, plan) = plan(rec.caps(), &mut p, m.format);
    let bindings = [
        a.x.into(),
        (&m.weight).into(),
        (&m.bias).into(),
        a.y.into(),
        table.into(),
        cond.into(),
    ];
    rec.dispatch(kernel, plan, &p, &bindings);
}

/// The sum of products of two rows of whole quads, in four strands, so that additions need not wait for one another.
fn dot(xs: &[f32], ws: &[f32]) -> f64 {
    let mut sums = [0.0; 4];
    for (x, w) in xs.chunks_exact(4).zip(ws.chunks_exact(4)) {
        for i in 0..4 {
            sums[i] += f64::from(x[i]) * f64::from(w[i]);
        }
    }
    sums.iter().sum()
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let format = WeightFormat::ALL[l.knob("FORMAT") as usize];
    let (n, k) = (p.n_quads as usize * 4, p.k_quads as usize * 4);
    let (x, w): (Vec<f32>, Vec<f32>) = (l.read(1), format.unpack(&l.read::<u32>(2)));
    let (bias, mut y): (Vec<f32>, Vec<f32>) = (l.read(3), l.read(4));
    let (table, cond): (Vec<f32>, Vec<f32>) = (l.read(5), l.read(6));
    for row in 0..p.n_rows as usize {
        let xs = &x[(p.x_row as usize + row) * k..][..k];
        let row = p.y_row as usize + row;
        let at = row / p.rows_per_frame as usize * p.cond_stride as usize * 4;
        for (col, ws) in w.chunks_exact(k).enumerate() {
            let u = dot(xs, ws) + f64::from(bias[col]);
            let r = match p.act {
                1 => {
                    0.5 * u
                        * (1.0
                            + ((2.0 / std::f64::consts::PI).sqrt() * (u + 0.044715 * u.powi(3)))
                                .tanh())
                }
                2 => u / (1.0 + (-u).exp()),
                _ => u,
            };
            let y = &mut y[row * n + col];
            let old = f64::from(*y);
            *y = match p.store {
                1 => old + r,
                2 => {
                    let gate = f64::from(table[p.table_at as usize * 4 + col])
                        + f64::from(cond[at + p.cond_at as usize * 4 + col]);
                    old + r * gate
                }
                3 => old * r,
                _ => r,
            } as f32;
        }
    }
    l.write(4, &y);
}

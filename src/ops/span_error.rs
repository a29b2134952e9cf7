//! What coding did to rows of a cache page: squared error and squared size, row by row.

use bytemuck::{Pod, Zeroable};

use super::{KvFormat, each, u32_of};
use crate::gpu::{Buffer, Kernel, Launch, Recorder, Source};

pub(super) static KERNEL: Kernel = Kernel {
    name: "span_error",
    source: Source::File(include_str!("../../shaders/span_error.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| {
        KvFormat::ALL
            .iter()
            .map(|f| vec![("FORMAT", f.code())])
            .collect()
    },
    twin,
};

/// Arguments of [`span_error`].
#[derive(Debug, Clone, Copy)]
pub struct SpanError<'a> {
    /// `[row, head, head_dim]`.
    pub page: &'a Buffer<u32>,
    /// Storage of the page.
    pub format: KvFormat,
    /// First row to compare.
    pub src_row: usize,
    /// Rows to compare.
    pub n_rows: usize,
    /// Heads of the page.
    pub heads_in_page: usize,
    /// First head to compare.
    pub first_head: usize,
    /// Heads to compare.
    pub n_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Decoded rows, `[head, dst_rows, head_dim]`.
    pub x: &'a Buffer<f32>,
    /// Rows a head has there.
    pub dst_rows: usize,
    /// First of the rows compared.
    pub dst_row: usize,
    /// `[head, dst_rows, 2]`: sum of squared differences, sum of squared stored values.
    pub sums: &'a Buffer<f32>,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n_rows: u32,
    n_quads: u32,
    n_heads: u32,
    first_head: u32,
    heads_in_page: u32,
    src_row: u32,
    dst_row: u32,
    dst_rows: u32,
}

/// Records the comparison of a run of rows.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn span_error(rec: &mut Recorder<'_>, a: &SpanError<'_>) {
    let page = (a.src_row + a.n_rows) * a.heads_in_page * a.head_dim;
    let rows = a.n_heads * a.dst_rows;
    assert!(
        a.page.len() >= a.format.words(page) && a.first_head + a.n_heads <= a.heads_in_page,
        "span_error page"
    );
    assert!(
        a.x.len() >= rows * a.head_dim
            && a.sums.len() >= 2 * rows
            && a.dst_row + a.n_rows <= a.dst_rows,
        "span_error rows"
    );
    let p = Params {
        first_group: 0,
        n_groups: 0,
        n_rows: u32_of(a.n_rows),
        n_quads: u32_of(a.head_dim / 4),
        n_heads: u32_of(a.n_heads),
        first_head: u32_of(a.first_head),
        heads_in_page: u32_of(a.heads_in_page),
        src_row: u32_of(a.src_row),
        dst_row: u32_of(a.dst_row),
        dst_rows: u32_of(a.dst_rows),
    };
    let mut plan = each(a.n_heads * a.n_rows);
    plan.knobs = vec![("FORMAT", a.format.code())];
    plan.work_per_group = 64 * 4 * a.head_dim as u64;
    rec.dispatch(
        &KERNEL,
        plan,
        &p,
        &[a.page.into(), a.x.into(), a.sums.into()],
    );
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let page = KvFormat::from_code(l.knob("FORMAT")).unpack(&l.read::<u32>(1));
    let (x, mut sums): (Vec<f32>, Vec<f32>) = (l.read(2), l.read(3));
    let d = p.n_quads as usize * 4;
    for head in 0..p.n_heads as usize {
        for row in 0..p.n_rows as usize {
            let heads = p.heads_in_page as usize;
            let src = ((p.src_row as usize + row) * heads + p.first_head as usize + head) * d;
            let to = head * p.dst_rows as usize + p.dst_row as usize + row;
            let (mut error, mut size) = (0.0, 0.0);
            for (x, v) in x[to * d..(to + 1) * d].iter().zip(&page[src..src + d]) {
                let v = if v.is_finite() { f64::from(*v) } else { 0.0 };
                error += (f64::from(*x) - v).powi(2);
                size += v.powi(2);
            }
            (sums[2 * to], sums[2 * to + 1]) = (error as f32, size as f32);
        }
    }
    l.write(3, &sums);
}

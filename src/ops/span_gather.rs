//! Rows of a cache page, head by head, as f32: what the encoder of a span works on.

use bytemuck::{Pod, Zeroable};

use super::{KvFormat, each_of, u32_of};
use crate::gpu::{Buffer, Kernel, Launch, Plan, Recorder, Source, Variant};

pub(super) static KERNEL: Kernel = Kernel {
    name: "span_gather",
    source: Source::File(include_str!("../../shaders/span_gather.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| {
        KvFormat::ALL
            .iter()
            .map(|f| vec![("FORMAT", f.code())])
            .collect()
    },
    twin,
};

/// Arguments of [`span_gather`].
#[derive(Debug, Clone, Copy)]
pub struct SpanGather<'a> {
    /// `[row, head, head_dim]`.
    pub page: &'a Buffer<u32>,
    /// Storage of the page.
    pub format: KvFormat,
    /// First row to take.
    pub src_row: usize,
    /// Rows to take.
    pub n_rows: usize,
    /// Heads of the page.
    pub heads_in_page: usize,
    /// First head to take.
    pub first_head: usize,
    /// Heads to take.
    pub n_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// `[head, dst_rows, head_dim]`.
    pub x: &'a Buffer<f32>,
    /// Rows a head has there.
    pub dst_rows: usize,
    /// First of the rows written.
    pub dst_row: usize,
    /// Counts groups of four channels with values that are not numbers; they become 0.
    pub not_numbers: &'a Buffer<u32>,
    /// Which counter.
    pub counter: usize,
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
    counter: u32,
}

/// What [`span_gather`] runs.
pub fn span_gather_kernel(format: KvFormat) -> Variant {
    (&KERNEL, vec![("FORMAT", format.code())])
}

/// Records the copy of a run of rows.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn span_gather(rec: &mut Recorder<'_>, a: &SpanGather<'_>) {
    let page = (a.src_row + a.n_rows) * a.heads_in_page * a.head_dim;
    assert!(
        a.page.len() >= a.format.words(page) && a.first_head + a.n_heads <= a.heads_in_page,
        "span_gather page"
    );
    assert!(
        a.x.len() >= a.n_heads * a.dst_rows * a.head_dim
            && a.dst_row + a.n_rows <= a.dst_rows
            && a.counter < a.not_numbers.len(),
        "span_gather destination"
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
        counter: u32_of(a.counter),
    };
    let (kernel, knobs) = span_gather_kernel(a.format);
    let plan = Plan {
        knobs,
        ..each_of(a.n_heads, a.n_rows * a.head_dim / 4)
    };
    rec.dispatch(
        kernel,
        plan,
        &p,
        &[a.page.into(), a.x.into(), a.not_numbers.into()],
    );
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let page = KvFormat::from_code(l.knob("FORMAT")).unpack(&l.read::<u32>(1));
    let (mut x, mut bad): (Vec<f32>, Vec<u32>) = (l.read(2), l.read(3));
    let d = p.n_quads as usize * 4;
    for head in 0..p.n_heads as usize {
        for row in 0..p.n_rows as usize {
            let src = ((p.src_row as usize + row) * p.heads_in_page as usize
                + p.first_head as usize
                + head)
                * d;
            let dst = (head * p.dst_rows as usize + p.dst_row as usize + row) * d;
            for (to, from) in x[dst..dst + d]
                .chunks_exact_mut(4)
                .zip(page[src..src + d].chunks_exact(4))
            {
                bad[p.counter as usize] += u32::from(from.iter().any(|v| !v.is_finite()));
                to.iter_mut()
                    .zip(from)
                    .for_each(|(t, f)| *t = if f.is_finite() { *f } else { 0.0 });
            }
        }
    }
    l.write(2, &x);
    l.write(3, &bad);
}

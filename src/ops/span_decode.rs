//! Rows of a coded span as f32, head by head: what the encoder works on when a span is coded again.

use bytemuck::{Pod, Zeroable};

use super::coding::{Axis, Coding, Grid, ScaleFormat, SpanLayout};
use super::{SpanPlace, each, hadamard_rows, u32_of};
use crate::gpu::{Buffer, Kernel, Launch, Recorder, Source};

pub(super) static KERNEL: Kernel = Kernel {
    name: "span_decode",
    source: Source::File(include_str!("../../shaders/span_decode.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| vec![Vec::new()],
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n_heads: u32,
    first_head: u32,
    tokens: u32,
    rows: u32,
    n_quads: u32,
    bits: u32,
    grid: u32,
    by_channel: u32,
    block: u32,
    blocks: u32,
    scales: u32,
    stages: u32,
    n_centroids: u32,
    heads: u32,
    codes_at: u32,
    scales_at: u32,
    zeros_at: u32,
    ids_at: u32,
    cents_at: u32,
    heads_at: u32,
    head_words: u32,
}

/// Records the decoding of `n_heads` heads from `first_head` on into `x`, `[head, token, head_dim]`: the rows that attention
/// sees, turned back where they were rotated.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn span_decode(
    rec: &mut Recorder<'_>,
    span: SpanPlace<'_>,
    (first_head, n_heads): (usize, usize),
    x: &Buffer<f32>,
) {
    let l = &span.layout;
    let c = &l.coding;
    let n = n_heads * l.tokens;
    assert!(
        span.base + l.words <= span.words.len()
            && first_head + n_heads <= l.n_heads
            && x.len() >= n * l.head_dim,
        "span_decode sizes"
    );
    let at = |plane: usize| u32_of(span.base + plane);
    let p = Params {
        first_group: 0,
        n_groups: 0,
        n_heads: u32_of(n_heads),
        first_head: u32_of(first_head),
        tokens: u32_of(l.tokens),
        rows: u32_of(l.rows),
        n_quads: u32_of(l.head_dim / 4),
        bits: c.bits,
        grid: c.grid.code(),
        by_channel: u32::from(c.axis == Axis::Channel),
        block: u32_of(c.block),
        blocks: u32_of(match c.axis {
            Axis::Token => c.blocks(l.head_dim),
            Axis::Channel => l.groups,
        }),
        scales: c.scales as u32,
        stages: u32_of(c.stages),
        n_centroids: u32_of(l.n_centroids),
        heads: u32_of(l.n_heads),
        codes_at: at(0),
        scales_at: at(l.scales_at),
        zeros_at: at(l.zeros_at),
        ids_at: at(l.ids_at),
        cents_at: at(l.cents_at),
        heads_at: at(l.heads_at),
        head_words: match c.head_table {
            true => u32_of(1 + c.gains(l.head_dim)),
            false => 0,
        },
    };
    rec.dispatch(
        &KERNEL,
        each(n * l.head_dim / 4),
        &p,
        &[span.words.into(), x.into()],
    );
    if c.hadamard {
        // The matrix is its own inverse.
        hadamard_rows(rec, x, n, l.head_dim);
    }
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let (words, mut x): (Vec<u32>, Vec<f32>) = (l.read(1), l.read(2));
    let plane = |at: u32| (at - p.codes_at) as usize;
    let head_dim = p.n_quads as usize * 4;
    let layout = SpanLayout {
        coding: Coding {
            bits: p.bits,
            grid: Grid::ALL[p.grid as usize],
            axis: [Axis::Token, Axis::Channel][p.by_channel as usize],
            block: p.block as usize,
            scales: [ScaleFormat::E4m3, ScaleFormat::F16, ScaleFormat::F32][p.scales as usize],
            stages: p.stages as usize,
            // Tables of rotated rows have one gain.
            hadamard: p.head_words == 2,
            head_table: p.head_words > 0,
        },
        n_heads: p.heads as usize,
        head_dim,
        tokens: p.tokens as usize,
        n_centroids: p.n_centroids as usize,
        rows: p.rows as usize,
        groups: p.blocks as usize,
        scales_at: plane(p.scales_at),
        zeros_at: plane(p.zeros_at),
        ids_at: plane(p.ids_at),
        cents_at: plane(p.cents_at),
        heads_at: plane(p.heads_at),
        words: words.len() - p.codes_at as usize,
    };
    let words = &words[p.codes_at as usize..];
    for head in 0..p.n_heads as usize {
        for token in 0..layout.tokens {
            let row = layout.unturned_row(words, p.first_head as usize + head, token);
            let at = (head * layout.tokens + token) * head_dim;
            x[at..at + head_dim].copy_from_slice(&row);
        }
    }
    l.write(2, &x);
}

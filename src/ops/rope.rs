//! 3-D RoPE on adjacent channel pairs, in place: turns q of a pass once, before attention.
//! Source: SELF-FORCING 4.3.

use bytemuck::{Pod, Zeroable};

use super::positions::HostTable;
use super::{Positions, each, u32_of};
use crate::gpu::{Buffer, Kernel, Launch, Recorder, Source};

pub(super) static KERNEL: Kernel = Kernel {
    name: "rope",
    source: Source::File(include_str!("../../shaders/rope.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| vec![vec![]],
    twin,
};

/// Arguments of [`rope`].
#[derive(Debug, Clone, Copy)]
pub struct Rope<'a> {
    /// `[row, row_stride]`, heads first in every row; changed in place. Rows are tokens of the table's frames, in order.
    pub x: &'a Buffer<f32>,
    /// Angles of the frames these rows belong to; slots are not used.
    pub positions: &'a Positions,
    /// Heads of a row.
    pub n_heads: usize,
    /// Values from row to row, even.
    pub row_stride: usize,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n_rows: u32,
    n_heads: u32,
    n_pairs: u32,
    row_stride: u32,
    frame_pairs: u32,
    row_pairs: u32,
    cols: u32,
    tokens_per_frame: u32,
    rows_at: u32,
    cols_at: u32,
    frames_at: u32,
    row_quads: u32,
    col_quads: u32,
    frame_quads: u32,
}

/// Records the kernel.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn rope(rec: &mut Recorder<'_>, a: &Rope<'_>) {
    let (pos, l) = (a.positions, a.positions.layout());
    let tokens = pos.rows * pos.cols;
    let n_rows = pos.n_frames * tokens;
    let n_pairs = pos.split.head_dim() / 2;
    assert!(
        a.row_stride.is_multiple_of(2) && a.x.len() >= n_rows * a.row_stride,
        "rope sizes"
    );
    let p = Params {
        first_group: 0,
        n_groups: 0,
        n_rows: u32_of(n_rows),
        n_heads: u32_of(a.n_heads),
        n_pairs: u32_of(n_pairs),
        row_stride: u32_of(a.row_stride / 2),
        frame_pairs: u32_of(pos.split.frame),
        row_pairs: u32_of(pos.split.row),
        cols: u32_of(pos.cols),
        tokens_per_frame: u32_of(tokens),
        rows_at: l.rows_at,
        cols_at: l.cols_at,
        frames_at: l.frames_at,
        row_quads: l.row_quads,
        col_quads: l.col_quads,
        frame_quads: l.frame_quads,
    };
    rec.dispatch(
        &KERNEL,
        each(n_rows * a.n_heads * n_pairs),
        &p,
        &[(&pos.buffer).into(), a.x.into()],
    );
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let table = HostTable::new(l.read(1));
    let mut x: Vec<f32> = l.read(2);
    let (pairs, frame_pairs, row_pairs) = (
        p.n_pairs as usize,
        p.frame_pairs as usize,
        p.row_pairs as usize,
    );
    for row in 0..p.n_rows as usize {
        let (frame, token) = (
            row / p.tokens_per_frame as usize,
            row % p.tokens_per_frame as usize,
        );
        for i in 0..p.n_heads as usize * pairs {
            let pair = i % pairs;
            let (c, s) = if pair < frame_pairs {
                table.turn(
                    p.frames_at as usize + frame * p.frame_quads as usize + 1,
                    pair,
                )
            } else if pair < frame_pairs + row_pairs {
                table.turn(
                    p.rows_at as usize + token / p.cols as usize * p.row_quads as usize,
                    pair - frame_pairs,
                )
            } else {
                let quad = p.cols_at as usize + token % p.cols as usize * p.col_quads as usize;
                table.turn(quad, pair - frame_pairs - row_pairs)
            };
            let at = (row * p.row_stride as usize + i) * 2;
            let (a, b) = (f64::from(x[at]), f64::from(x[at + 1]));
            x[at] = (a * c - b * s) as f32;
            x[at + 1] = (a * s + b * c) as f32;
        }
    }
    l.write(2, &x);
}

//! Planes of red, green and blue as 8-bit pixels, for a window that shows them from the device.

use bytemuck::{Pod, Zeroable};

use super::{each, u32_of};
use crate::gpu::{Buffer, Kernel, Launch, Recorder, Source};

pub(super) static KERNEL: Kernel = Kernel {
    name: "rgba",
    source: Source::File(include_str!("../../shaders/rgba.wgsl")),
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
    width: u32,
    plane: u32,
    row: u32,
}

/// Where pixels lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pixels {
    /// Frames.
    pub frames: usize,
    /// Rows and columns of a frame.
    pub size: (usize, usize),
    /// Words from one row of the output to the next, at least the columns.
    pub row: usize,
}

/// Records `y [frame, row, column]` from `x [frame, 3, row, column]` in -1..=1, cut to that: red in the lowest byte of a word, the
/// highest 255. Words between the rows stay.
///
/// # Panics
/// When a buffer is shorter, or a row.
pub fn rgba(rec: &mut Recorder<'_>, x: &Buffer<f32>, y: &Buffer<u32>, p: &Pixels) {
    let (height, width) = p.size;
    let n = p.frames * height * width;
    assert!(
        width <= p.row && 3 * n <= x.len() && p.frames * height * p.row <= y.len(),
        "rgba sizes"
    );
    let params = Params {
        first_group: 0,
        n_groups: 0,
        n: u32_of(n),
        width: u32_of(width),
        plane: u32_of(height * width),
        row: u32_of(p.row),
    };
    rec.dispatch(&KERNEL, each(n), &params, &[x.into(), y.into()]);
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let x: Vec<f32> = l.read(1);
    let mut y: Vec<u32> = l.read(2);
    let (width, plane, row) = (p.width as usize, p.plane as usize, p.row as usize);
    let level = |v: f32| ((v.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u32;
    for i in 0..p.n as usize {
        let red = i / plane * 3 * plane + i % plane;
        let [r, g, b] = [0, 1, 2].map(|c| level(x[red + c * plane]));
        y[i / width * row + i % width] = r | g << 8 | b << 16 | 0xff00_0000;
    }
    l.write(2, &y);
}

//! Rotation tables: cosines and sines of 3-D RoPE angles, built on the host in f64, and which page slot holds which frame.
//!
//! Layout in `vec4`s, each two pairs `(cos, sin, cos, sin)`: rows of the grid, then columns, then one record a frame:
//! a header (the frame's slot in its page, its first row there where slots are spans), then the frame's own pairs. Angles are computed for the
//! frames at hand, so no table ends at some largest frame.
//! Source: SELF-FORCING 4.3.

use crate::gpu::{Buffer, Device, Error};

/// `vec4`s of the uniform array in the shaders: 64 KiB, WebGPU's smallest largest uniform binding.
const TABLE_QUADS: usize = 4096;

/// How the channels of a head are shared among the axes, in pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeSplit {
    /// Pairs turned by the frame.
    pub frame: usize,
    /// Pairs turned by the row.
    pub row: usize,
    /// Pairs turned by the column.
    pub col: usize,
}

impl RopeSplit {
    /// Wan's rule: rows and columns get a third of the pairs each, rounded down, the frame the rest.
    pub fn wan(head_dim: usize) -> RopeSplit {
        let third = head_dim / 2 / 3;
        RopeSplit {
            frame: head_dim / 2 - 2 * third,
            row: third,
            col: third,
        }
    }

    /// Channels of a head.
    pub fn head_dim(&self) -> usize {
        2 * (self.frame + self.row + self.col)
    }
}

/// Where the parts of a table lie, as kernels take it in their params.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) rows_at: u32,
    pub(super) cols_at: u32,
    pub(super) frames_at: u32,
    pub(super) row_quads: u32,
    pub(super) col_quads: u32,
    pub(super) frame_quads: u32,
}

/// A rotation table on the device for up to [`Positions::capacity`] frames of one grid.
#[derive(Debug)]
pub struct Positions {
    pub(super) buffer: Buffer<f32>,
    pub(super) split: RopeSplit,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) n_frames: usize,
    theta: f64,
    frames: Vec<FramePlace>,
}

/// Where a frame lies in its page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePlace {
    /// Absolute frame index.
    pub frame: i64,
    /// Slot: a frame's, or the span's that it lies in.
    pub slot: u32,
    /// First row of the frame in its span; 0 where slots are frames.
    pub row: u32,
}

impl Positions {
    /// Frames one table can hold for this grid.
    pub fn capacity(split: RopeSplit, rows: usize, cols: usize) -> usize {
        let grid = rows * split.row.div_ceil(2) + cols * split.col.div_ceil(2);
        TABLE_QUADS.saturating_sub(grid) / (1 + split.frame.div_ceil(2))
    }

    /// A table for a grid, with no frames yet.
    ///
    /// # Errors
    /// No device memory.
    ///
    /// # Panics
    /// When the grid leaves no room for a frame; the configuration's check refuses such grids.
    pub fn new(
        device: &Device,
        split: RopeSplit,
        theta: f64,
        rows: usize,
        cols: usize,
    ) -> Result<Positions, Error> {
        assert!(
            Positions::capacity(split, rows, cols) > 0,
            "grid too large for the rotation table"
        );
        let buffer = device.uniform("positions", TABLE_QUADS * 4)?;
        let p = Positions {
            buffer,
            split,
            rows,
            cols,
            n_frames: 0,
            theta,
            frames: Vec::new(),
        };
        let l = p.layout();
        for row in 0..rows {
            p.write(
                device,
                l.rows_at as usize + row * l.row_quads as usize,
                &p.angles(row as i64, split.row),
            );
        }
        for col in 0..cols {
            p.write(
                device,
                l.cols_at as usize + col * l.col_quads as usize,
                &p.angles(col as i64, split.col),
            );
        }
        Ok(p)
    }

    /// Sets frames that lie in slots of their own: (absolute frame index, slot), in the order the kernel visits them.
    ///
    /// # Panics
    /// When there are more than [`Positions::capacity`].
    pub fn set_frames(&mut self, device: &Device, frames: &[(i64, u32)]) {
        let place = |&(frame, slot)| FramePlace {
            frame,
            slot,
            row: 0,
        };
        self.set_places(device, &frames.iter().map(place).collect::<Vec<_>>());
    }

    /// Sets the frames, in the order the kernel visits them.
    ///
    /// # Panics
    /// When there are more than [`Positions::capacity`].
    pub fn set_places(&mut self, device: &Device, frames: &[FramePlace]) {
        assert!(
            frames.len() <= Positions::capacity(self.split, self.rows, self.cols),
            "too many frames for one table"
        );
        if self.frames == frames {
            return;
        }
        let mut data = Vec::new();
        for f in frames {
            data.extend_from_slice(&[f.slot as f32, f.row as f32, 0.0, 0.0]);
            data.extend(self.angles(f.frame, self.split.frame));
        }
        self.write(device, self.layout().frames_at as usize, &data);
        self.n_frames = frames.len();
        self.frames = frames.to_vec();
    }

    /// Frames set last.
    pub fn n_frames(&self) -> usize {
        self.n_frames
    }

    /// Bytes of a table on the device.
    pub const BYTES: u64 = (TABLE_QUADS * 16) as u64;

    pub(super) fn layout(&self) -> Layout {
        let (row_quads, col_quads) = (self.split.row.div_ceil(2), self.split.col.div_ceil(2));
        let cols_at = self.rows * row_quads;
        Layout {
            rows_at: 0,
            cols_at: cols_at as u32,
            frames_at: (cols_at + self.cols * col_quads) as u32,
            row_quads: row_quads as u32,
            col_quads: col_quads as u32,
            frame_quads: 1 + self.split.frame.div_ceil(2) as u32,
        }
    }

    fn write(&self, device: &Device, quad: usize, data: &[f32]) {
        if !data.is_empty() {
            device.write(&self.buffer, quad * 4, data);
        }
    }

    /// Cosine and sine of every pair of one axis at `position`, padded to whole `vec4`s.
    fn angles(&self, position: i64, n_pairs: usize) -> Vec<f32> {
        let mut out = Vec::with_capacity(n_pairs.div_ceil(2) * 4);
        for (cos, sin) in turns(self.theta, n_pairs, position) {
            out.extend([cos as f32, sin as f32]);
        }
        out.resize(n_pairs.div_ceil(2) * 4, 0.0);
        out
    }
}

/// Cosine and sine of the angles `position * theta^(-j / n_pairs)` by which an axis turns its pairs j.
pub fn turns(theta: f64, n_pairs: usize, position: i64) -> impl Iterator<Item = (f64, f64)> {
    (0..n_pairs).map(move |j| {
        let angle = position as f64 * theta.powf(-(j as f64) / n_pairs as f64);
        (angle.cos(), angle.sin())
    })
}

/// The same table as the twins read it.
pub(super) struct HostTable {
    values: Vec<f32>,
}

impl HostTable {
    pub(super) fn new(values: Vec<f32>) -> Self {
        HostTable { values }
    }

    /// Slot and first row of a frame's record.
    pub(super) fn place(&self, record: usize) -> (usize, usize) {
        (
            self.values[record * 4] as usize,
            self.values[record * 4 + 1] as usize,
        )
    }

    /// (cos, sin) of a pair in the run of `vec4`s at `quad`.
    pub(super) fn turn(&self, quad: usize, pair: usize) -> (f64, f64) {
        let at = quad * 4 + pair * 2;
        (f64::from(self.values[at]), f64::from(self.values[at + 1]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wan_split_of_known_head_dims() {
        for (d, split) in [(128, (22, 21, 21)), (64, (12, 10, 10)), (40, (8, 6, 6))] {
            let s = RopeSplit::wan(d);
            assert_eq!((s.frame, s.row, s.col), split);
            assert_eq!(s.head_dim(), d);
        }
    }

    #[test]
    fn wan_grid_leaves_room_for_a_long_slab() {
        assert!(Positions::capacity(RopeSplit::wan(128), 30, 52) >= 256);
    }
}

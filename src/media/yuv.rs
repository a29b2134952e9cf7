//! Colour conversion and whole-pixel enlargement, done together: colours are converted once a source pixel, then copied.
//!
//! Limited range (luma 16 to 235, chroma 16 to 240), 8 bits. Transfer curves are left as they are.

use crate::frame::Frame;

/// Rows of the RGB to YUV matrix in 16-bit fixed point.
///
/// Source: ITU-T H.273, equations for MatrixCoefficients, with its KR and KB.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix {
    y: [i32; 3],
    u: [i32; 3],
    v: [i32; 3],
}

/// HD television; what the MP4 declares.
pub(super) const BT709: Matrix = Matrix::new(0.2126, 0.0722);
/// SD television; what readers assume for small pictures without a declaration.
pub(super) const BT601: Matrix = Matrix::new(0.299, 0.114);

const ONE: f64 = 65536.0;
const HALF: i32 = 1 << 15;

impl Matrix {
    const fn new(kr: f64, kb: f64) -> Self {
        let luma = ONE * 219.0 / 255.0;
        let (yr, yb) = ((luma * kr) as i32, (luma * kb) as i32);
        // The remaining weight goes to green, so that white is exactly 235 and greys have no colour.
        let yg = (luma as i32) - yr - yb;
        let chroma = ONE * 224.0 / 255.0;
        let half = (chroma * 0.5) as i32;
        let ur = -((chroma * kr / (2.0 * (1.0 - kb))) as i32);
        let vb = -((chroma * kb / (2.0 * (1.0 - kr))) as i32);
        Self {
            y: [yr, yg, yb],
            u: [ur, -half - ur, half],
            v: [half, -half - vb, vb],
        }
    }

    fn apply(&self, rgb: [u8; 3]) -> [u8; 3] {
        let dot = |k: &[i32; 3], offset: i32| {
            let sum =
                k[0] * i32::from(rgb[0]) + k[1] * i32::from(rgb[1]) + k[2] * i32::from(rgb[2]);
            // The sums stay within 16..=240 by construction.
            (((sum + HALF) >> 16) + offset) as u8
        };
        [dot(&self.y, 16), dot(&self.u, 128), dot(&self.v, 128)]
    }
}

/// Three planes of one size, one byte a pixel.
#[derive(Debug, Default)]
pub(super) struct Planes {
    /// Luma.
    pub y: Vec<u8>,
    /// Blue difference.
    pub u: Vec<u8>,
    /// Red difference.
    pub v: Vec<u8>,
}

impl Planes {
    /// Converts `frame`, keeping its size; the buffers are reused.
    pub(super) fn convert(&mut self, frame: &Frame, matrix: &Matrix) {
        let n = frame.rgb.len() / 3;
        for plane in [&mut self.y, &mut self.u, &mut self.v] {
            plane.resize(n, 0);
        }
        let outs = self
            .y
            .iter_mut()
            .zip(self.u.iter_mut())
            .zip(self.v.iter_mut());
        for (rgb, ((y, u), v)) in frame.rgb.chunks_exact(3).zip(outs) {
            [*y, *u, *v] = matrix.apply([rgb[0], rgb[1], rgb[2]]);
        }
    }
}

/// Width, height and enlargement of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Source pixels in a row.
    pub width: usize,
    /// Source rows.
    pub height: usize,
    /// Whole-pixel enlargement, at least 1.
    pub scale: usize,
}

impl Geometry {
    /// Size after enlarging.
    pub(super) fn enlarged(self) -> (usize, usize) {
        (self.width * self.scale, self.height * self.scale)
    }

    /// Size after enlarging and adding a last column or row where the number is odd.
    pub(super) fn even(self) -> (usize, usize) {
        let (w, h) = self.enlarged();
        (w.next_multiple_of(2), h.next_multiple_of(2))
    }
}

/// Appends `src` (rows of `geometry.width` pixels of `channels` bytes) to `dst`, each pixel `scale` x `scale` times.
pub(super) fn enlarge(src: &[u8], channels: usize, geometry: Geometry, dst: &mut Vec<u8>) {
    for row in src.chunks_exact(geometry.width * channels) {
        let start = dst.len();
        for pixel in row.chunks_exact(channels) {
            for _ in 0..geometry.scale {
                dst.extend_from_slice(pixel);
            }
        }
        let end = dst.len();
        for _ in 1..geometry.scale {
            dst.extend_from_within(start..end);
        }
    }
}

/// A 4:2:0 picture with even sides, enlarged; odd sides repeat their last column or row.
#[derive(Debug)]
pub(super) struct Picture420 {
    geometry: Geometry,
    source: Planes,
    /// Luma, `even().0` by `even().1`.
    pub y: Vec<u8>,
    /// Blue difference, half of that each way.
    pub u: Vec<u8>,
    /// Red difference, half of that each way.
    pub v: Vec<u8>,
    columns: Vec<(usize, usize)>,
    rows: Vec<(usize, usize)>,
}

impl Picture420 {
    /// A black picture.
    pub(super) fn new(geometry: Geometry) -> Self {
        let (w, h) = geometry.even();
        Self {
            geometry,
            source: Planes::default(),
            y: vec![16; w * h],
            u: vec![128; w * h / 4],
            v: vec![128; w * h / 4],
            columns: sources(geometry.width, geometry.scale),
            rows: sources(geometry.height, geometry.scale),
        }
    }

    /// Replaces the picture by `frame`, whose size must be the geometry's. BT.709.
    pub(super) fn fill(&mut self, frame: &Frame) {
        self.source.convert(frame, &BT709);
        self.fill_luma();
        halve(
            &self.source.u,
            self.geometry.width,
            &self.columns,
            &self.rows,
            &mut self.u,
        );
        halve(
            &self.source.v,
            self.geometry.width,
            &self.columns,
            &self.rows,
            &mut self.v,
        );
    }

    fn fill_luma(&mut self) {
        let Geometry { width, scale, .. } = self.geometry;
        let (out_width, out_height) = self.geometry.even();
        for (row_idx, row) in self.source.y.chunks_exact(width).enumerate() {
            let start = row_idx * scale * out_width;
            let line = &mut self.y[start..start + out_width];
            for (pixels, &value) in line.chunks_mut(scale).zip(row) {
                pixels.fill(value);
            }
            if width * scale < out_width {
                line[out_width - 1] = line[out_width - 2];
            }
            for copy in 1..scale {
                self.y
                    .copy_within(start..start + out_width, start + copy * out_width);
            }
        }
        if self.geometry.enlarged().1 < out_height {
            let last = (out_height - 1) * out_width;
            self.y.copy_within(last - out_width..last, last);
        }
    }
}

/// For each pair of enlarged pixels along one side, the two source pixels they show.
fn sources(len: usize, scale: usize) -> Vec<(usize, usize)> {
    let last = len * scale - 1;
    (0..=last / 2)
        .map(|pair| (2 * pair / scale, (2 * pair + 1).min(last) / scale))
        .collect()
}

/// Averages 2 x 2 enlarged pixels. With an even scale all four are one source pixel, so colours stay exact.
fn halve(
    src: &[u8],
    width: usize,
    columns: &[(usize, usize)],
    rows: &[(usize, usize)],
    dst: &mut [u8],
) {
    let out_width = columns.len();
    for (i, &(top, bottom)) in rows.iter().enumerate() {
        let start = i * out_width;
        if 0 < i && rows[i - 1] == (top, bottom) {
            dst.copy_within(start - out_width..start, start);
            continue;
        }
        let (top, bottom) = (
            &src[top * width..][..width],
            &src[bottom * width..][..width],
        );
        for (out, &(a, b)) in dst[start..start + out_width].iter_mut().zip(columns) {
            let sum =
                u16::from(top[a]) + u16::from(top[b]) + u16::from(bottom[a]) + u16::from(bottom[b]);
            *out = ((sum + 2) / 4) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(rgb: [u8; 3], kr: f64, kb: f64) -> [f64; 3] {
        let [r, g, b] = rgb.map(|x| f64::from(x) / 255.0);
        let y = kr * r + (1.0 - kr - kb) * g + kb * b;
        [
            16.0 + 219.0 * y,
            128.0 + 112.0 * (b - y) / (1.0 - kb),
            128.0 + 112.0 * (r - y) / (1.0 - kr),
        ]
    }

    #[test]
    fn fixed_point_follows_the_equations() {
        for (matrix, kr, kb) in [(BT709, 0.2126, 0.0722), (BT601, 0.299, 0.114)] {
            for i in 0..16 * 16 * 16u32 {
                let rgb = [i % 16, i / 16 % 16, i / 256].map(|x| (x * 17) as u8);
                for (found, want) in matrix.apply(rgb).into_iter().zip(exact(rgb, kr, kb)) {
                    assert!(
                        (f64::from(found) - want).abs() <= 0.52,
                        "{rgb:?}: {found} for {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn greys_have_no_colour_and_the_ends_are_exact() {
        for grey in 0..=255 {
            assert_eq!(&BT709.apply([grey; 3])[1..], &[128, 128]);
        }
        assert_eq!(BT709.apply([0; 3])[0], 16);
        assert_eq!(BT709.apply([255; 3])[0], 235);
    }

    #[test]
    fn every_scale_and_odd_side_shows_the_source_pixels() {
        for (width, height, scale) in [
            (1, 1, 1),
            (3, 5, 1),
            (3, 5, 2),
            (3, 5, 3),
            (4, 2, 3),
            (5, 3, 4),
            (2, 7, 5),
        ] {
            let geometry = Geometry {
                width,
                height,
                scale,
            };
            let rgb = (0..width * height * 3)
                .map(|i| (i * 37 % 251) as u8)
                .collect();
            let frame = Frame {
                width: width as u32,
                height: height as u32,
                rgb,
            };
            let mut picture = Picture420::new(geometry);
            picture.fill(&frame);
            let (w, h) = geometry.even();
            let source = |plane: &[u8], x: usize, y: usize| {
                let (x, y) = (
                    x.min(width * scale - 1) / scale,
                    y.min(height * scale - 1) / scale,
                );
                u32::from(plane[y * width + x])
            };
            for y in 0..h {
                for x in 0..w {
                    assert_eq!(
                        u32::from(picture.y[y * w + x]),
                        source(&picture.source.y, x, y)
                    );
                }
            }
            for y in 0..h / 2 {
                for x in 0..w / 2 {
                    let corners = [(0, 0), (1, 0), (0, 1), (1, 1)];
                    let sum: u32 = corners
                        .iter()
                        .map(|&(dx, dy)| source(&picture.source.u, 2 * x + dx, 2 * y + dy))
                        .sum();
                    assert_eq!(
                        u32::from(picture.u[y * w / 2 + x]),
                        (sum + 2) / 4,
                        "{geometry:?} {x} {y}"
                    );
                }
            }
        }
    }

    #[test]
    fn enlarge_repeats_pixels() {
        let mut out = Vec::new();
        enlarge(
            &[1, 2, 3, 4],
            2,
            Geometry {
                width: 2,
                height: 1,
                scale: 2,
            },
            &mut out,
        );
        assert_eq!(out, [1, 2, 1, 2, 3, 4, 3, 4, 1, 2, 1, 2, 3, 4, 3, 4]);
    }
}

//! How much two pictures differ: PSNR, SSIM and the largest difference, and what they come to over several frames.
//!
//! Everything is computed from the 8-bit pictures that a film holds. Means over frames are taken of squared errors, not of
//! decibels, so that a frame without any error counts as no error instead of making a mean infinite.

use crate::frame::Frame;

/// Largest value of a channel.
const PEAK: f64 = 255.0;
/// Side of SSIM's window.
const SIDE: usize = 11;
/// Standard deviation of its Gaussian, in pixels.
const SIGMA: f64 = 1.5;
/// Constants that keep SSIM's quotients away from 0/0, as shares of [`PEAK`].
const K: (f64, f64) = (0.01, 0.03);
/// Weights of red, green and blue in luma (ITU-R BT.601), as the authors of SSIM turn pictures grey.
pub(crate) const LUMA: [f64; 3] = [0.299, 0.587, 0.114];

/// Two pictures of different sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("pictures of {}x{} and {}x{} cannot be compared; they must have one size", a.0, a.1, b.0, b.1)]
pub struct SizesDiffer {
    /// Width and height of the one.
    pub a: (u32, u32),
    /// Width and height of the other.
    pub b: (u32, u32),
}

/// How much one frame differs from another.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct FrameQuality {
    /// Mean squared error over all channels, in 8-bit steps squared.
    pub mse: f64,
    /// [`psnr`] of it; JSON has no infinity and gets `null` for equal frames.
    pub psnr: f64,
    /// [`ssim`]; none where a side is shorter than its window.
    pub ssim: Option<f64>,
    /// Largest difference of one channel of one pixel.
    pub max_abs: u8,
}

impl FrameQuality {
    /// Compares `a` with `b`; the order does not matter.
    ///
    /// # Errors
    /// When they have different sizes.
    pub fn of(a: &Frame, b: &Frame) -> Result<FrameQuality, SizesDiffer> {
        let mse = mse(a, b)?;
        let differences = a.rgb.iter().zip(&b.rgb).map(|(a, b)| a.abs_diff(*b));
        Ok(FrameQuality {
            mse,
            psnr: psnr(mse),
            ssim: ssim(a, b)?,
            max_abs: differences.max().unwrap_or(0),
        })
    }

    /// Whether every byte is the same.
    pub fn is_exact(&self) -> bool {
        self.max_abs == 0
    }
}

/// What several frames come to.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Mean {
    /// How many frames.
    pub frames: usize,
    /// How many of them have no difference at all.
    pub exact: usize,
    /// Mean squared error over all of them.
    pub mse: f64,
    /// [`psnr`] of that; infinite, in JSON `null`, only where every frame is exact.
    pub psnr: f64,
    /// Mean SSIM of the frames that have one.
    pub ssim: Option<f64>,
    /// Largest difference in any of them.
    pub max_abs: u8,
}

impl Mean {
    /// `None` for no frames.
    pub fn of(frames: &[FrameQuality]) -> Option<Mean> {
        let mse = mean(frames.iter().map(|f| f.mse))?;
        Some(Mean {
            frames: frames.len(),
            exact: frames.iter().filter(|f| f.is_exact()).count(),
            mse,
            psnr: psnr(mse),
            ssim: mean(frames.iter().filter_map(|f| f.ssim)),
            max_abs: frames.iter().map(|f| f.max_abs).max().unwrap_or(0),
        })
    }
}

/// Arithmetic mean; `None` of nothing.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut n) = (0.0, 0_u32);
    for value in values {
        sum += value;
        n += 1;
    }
    (0 < n).then(|| sum / f64::from(n))
}

/// Sample standard deviation, with `n - 1` below the line; `None` for fewer than two values.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values.iter().copied()).filter(|_| 1 < values.len())?;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// Mean squared error over all pixels and channels.
///
/// # Errors
/// When the pictures have different sizes.
pub fn mse(a: &Frame, b: &Frame) -> Result<f64, SizesDiffer> {
    same_size(a, b)?;
    // Whole numbers: the sum is exact, and the order of summing cannot matter.
    let square = |(a, b): (&u8, &u8)| u64::from(a.abs_diff(*b)).pow(2);
    let sum: u64 = a.rgb.iter().zip(&b.rgb).map(square).sum();
    Ok(sum as f64 / a.rgb.len().max(1) as f64)
}

/// Peak signal-to-noise ratio of a mean squared error, in dB; infinite for none.
pub fn psnr(mse: f64) -> f64 {
    match 0.0 < mse {
        true => 10.0 * (PEAK * PEAK / mse).log10(),
        false => f64::INFINITY,
    }
}

/// Mean structural similarity of the lumas: 1 for equal pictures. Only windows that lie wholly in the picture count; `None`
/// where there is no such window.
///
/// Source: Wang, Bovik, Sheikh, Simoncelli, *Image Quality Assessment: From Error Visibility to Structural Similarity*, IEEE
/// Transactions on Image Processing 13(4), 2004: an 11 x 11 Gaussian of standard deviation 1.5, K1 = 0.01, K2 = 0.03, no
/// reduction before. Luma is not rounded to whole steps, which the authors' program does.
///
/// # Errors
/// When the pictures have different sizes.
pub fn ssim(a: &Frame, b: &Frame) -> Result<Option<f64>, SizesDiffer> {
    same_size(a, b)?;
    let (width, height) = (a.width as usize, a.height as usize);
    if width < SIDE || height < SIDE {
        return Ok(None);
    }
    let (x, y) = (luma(a), luma(b));
    let product =
        |p: &[f64], q: &[f64]| -> Vec<f64> { p.iter().zip(q).map(|(p, q)| p * q).collect() };
    let blur = |plane: &[f64]| blur(plane, width, height);
    let (mean_x, mean_y) = (blur(&x), blur(&y));
    let (xx, yy, xy) = (
        blur(&product(&x, &x)),
        blur(&product(&y, &y)),
        blur(&product(&x, &y)),
    );
    let (c1, c2) = ((K.0 * PEAK).powi(2), (K.1 * PEAK).powi(2));
    let index = |i: usize| {
        let (mx, my) = (mean_x[i], mean_y[i]);
        let (vx, vy, cov) = (xx[i] - mx * mx, yy[i] - my * my, xy[i] - mx * my);
        (2.0 * mx * my + c1) * (2.0 * cov + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    };
    Ok(mean((0..mean_x.len()).map(index)))
}

fn same_size(a: &Frame, b: &Frame) -> Result<(), SizesDiffer> {
    let size = |f: &Frame| (f.width, f.height);
    match size(a) == size(b) && a.rgb.len() == b.rgb.len() {
        true => Ok(()),
        false => Err(SizesDiffer {
            a: size(a),
            b: size(b),
        }),
    }
}

fn luma(frame: &Frame) -> Vec<f64> {
    let grey = |p: &[u8]| p.iter().zip(LUMA).map(|(&v, w)| f64::from(v) * w).sum();
    frame.rgb.chunks_exact(3).map(grey).collect()
}

/// The window's weights along one side; the window is their outer product.
fn gaussian() -> [f64; SIDE] {
    let middle = (SIDE / 2) as f64;
    let weights: [f64; SIDE] =
        std::array::from_fn(|i| (-(i as f64 - middle).powi(2) / (2.0 * SIGMA * SIGMA)).exp());
    let sum: f64 = weights.iter().sum();
    weights.map(|w| w / sum)
}

/// Weighted means of all windows that lie wholly in the picture, row by row.
fn blur(plane: &[f64], width: usize, height: usize) -> Vec<f64> {
    let weights = gaussian();
    let weigh = |at: &dyn Fn(usize) -> f64| -> f64 {
        weights.iter().enumerate().map(|(i, w)| w * at(i)).sum()
    };
    let (columns, rows) = (width - SIDE + 1, height - SIDE + 1);
    let mut along = Vec::with_capacity(columns * height);
    for y in 0..height {
        along.extend((0..columns).map(|x| weigh(&|i| plane[y * width + x + i])));
    }
    let mut both = Vec::with_capacity(columns * rows);
    for y in 0..rows {
        both.extend((0..columns).map(|x| weigh(&|i| along[(y + i) * columns + x])));
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(width: u32, height: u32, value: impl Fn(u32, u32) -> u8) -> Frame {
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        Frame {
            width,
            height,
            rgb: pixels.flat_map(|(x, y)| [value(x, y); 3]).collect(),
        }
    }

    fn near(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-9,
            "{found} against {expected}"
        );
    }

    #[test]
    fn psnr_by_hand() {
        // Two pixels; one channel off by 6 and one by 3: (36 + 9) / 6 = 7.5.
        let a = Frame {
            width: 2,
            height: 1,
            rgb: vec![10, 20, 30, 40, 50, 60],
        };
        let mut b = a.clone();
        (b.rgb[0], b.rgb[5]) = (16, 57);
        let q = FrameQuality::of(&a, &b).unwrap();
        near(q.mse, 7.5);
        near(q.psnr, 10.0 * (65025.0_f64 / 7.5).log10());
        // 10 log10(8670)
        assert!((q.psnr - 39.380_19).abs() < 1e-5, "{}", q.psnr);
        assert_eq!((q.max_abs, q.ssim, q.is_exact()), (6, None, false));
        // Black against white is 0 dB, a step of one everywhere 20 log10(255).
        near(
            psnr(mse(&frame(2, 2, |_, _| 0), &frame(2, 2, |_, _| 255)).unwrap()),
            0.0,
        );
        near(psnr(1.0), 20.0 * 255.0_f64.log10());
    }

    #[test]
    fn equal_frames_are_exact_and_null_in_json() {
        let a = frame(16, 12, |x, y| (x * 15 + y) as u8);
        let q = FrameQuality::of(&a, &a).unwrap();
        assert!(q.is_exact() && q.psnr.is_infinite());
        near(q.ssim.unwrap(), 1.0);
        let json = serde_json::to_value(q).unwrap();
        assert!(json["psnr"].is_null() && json["mse"] == 0.0, "{json}");
    }

    #[test]
    fn ssim_of_flat_pictures_is_the_luminance_term() {
        // Variances and covariance vanish: (2 * 100 * 110 + c1) / (100^2 + 110^2 + c1) with c1 = 2.55^2.
        let c1 = 6.5025;
        let expected = (22_000.0 + c1) / (22_100.0 + c1);
        let found = ssim(&frame(13, 11, |_, _| 100), &frame(13, 11, |_, _| 110)).unwrap();
        near(found.unwrap(), expected);
    }

    #[test]
    fn ssim_of_one_window_by_hand() {
        // A picture as large as the window: two halves, swapped in the other. With s the weight of the columns 0 to 4,
        // half means are 255 s and 255 (1 - s).
        let a = frame(11, 11, |x, _| if x < 5 { 255 } else { 0 });
        let b = frame(11, 11, |x, _| if x < 5 { 0 } else { 255 });
        let g: Vec<f64> = (0..11)
            .map(|i| (-(f64::from(i) - 5.0).powi(2) / 4.5).exp())
            .collect();
        let s = g[..5].iter().sum::<f64>() / g.iter().sum::<f64>();
        let (mx, my) = (255.0 * s, 255.0 * (1.0 - s));
        let variance = 65025.0 * s - mx * mx;
        let (c1, c2) = (6.5025, 58.5225);
        let expected = (2.0 * mx * my + c1) * (-2.0 * variance + c2)
            / ((mx * mx + my * my + c1) * (2.0 * variance + c2));
        near(ssim(&a, &b).unwrap().unwrap(), expected);
        // Structure is all but -1; the means, 93.6 and 161.4, take it to their 2 * 93.6 * 161.4 / (93.6^2 + 161.4^2) = 0.868.
        assert!((expected + 0.868).abs() < 0.005, "{expected}");
    }

    #[test]
    fn ssim_needs_a_whole_window() {
        for (width, height) in [(10, 48), (64, 10)] {
            let a = frame(width, height, |_, _| 9);
            assert_eq!(ssim(&a, &a), Ok(None));
        }
    }

    #[test]
    fn luma_weighs_green_most() {
        let grey = luma(&Frame {
            width: 1,
            height: 1,
            rgb: vec![100, 200, 50],
        });
        near(grey[0], 29.9 + 117.4 + 5.7);
    }

    #[test]
    fn means_are_of_squared_errors() {
        let quality = |mse: f64, ssim: f64, max_abs| FrameQuality {
            mse,
            psnr: psnr(mse),
            ssim: Some(ssim),
            max_abs,
        };
        let mean = Mean::of(&[quality(0.0, 1.0, 0), quality(8.0, 0.5, 9)]).unwrap();
        near(mean.psnr, psnr(4.0));
        near(mean.ssim.unwrap(), 0.75);
        assert_eq!((mean.frames, mean.exact, mean.max_abs), (2, 1, 9));
        assert_eq!(Mean::of(&[]), None);
        assert!(
            Mean::of(&[quality(0.0, 1.0, 0)])
                .unwrap()
                .psnr
                .is_infinite()
        );
    }

    #[test]
    fn deviations_are_those_of_a_sample() {
        near(deviation(&[2.0, 4.0, 6.0]).unwrap(), 2.0);
        assert_eq!(deviation(&[2.0]), None);
        assert_eq!(super::mean([]), None);
    }

    #[test]
    fn sizes_must_agree() {
        let err = mse(&frame(2, 3, |_, _| 0), &frame(3, 2, |_, _| 0)).unwrap_err();
        assert_eq!(
            err.to_string(),
            "pictures of 2x3 and 3x2 cannot be compared; they must have one size"
        );
    }
}

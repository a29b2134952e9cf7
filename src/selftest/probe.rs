//! What checks of a device share: values, guarded outputs, and how far a result may be from the twin's.

use std::ops::Range;

use bytemuck::Pod;

use crate::gpu::{Buffer, Device, Error, Purpose};

/// 64 bits that look random and depend on (`seed`, `i`) alone: splitmix64's finalizer.
pub fn hash(seed: u64, i: u64) -> u64 {
    let mut z = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(i)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `n` values, even over -1…1.
pub fn values(seed: u64, n: usize) -> Vec<f32> {
    (0..n as u64)
        .map(|i| (hash(seed, i) >> 40) as f32 / (1u32 << 23) as f32 - 1.0)
        .collect()
}

/// Words behind an output that nobody may touch.
const GUARD: usize = 64;

/// A NaN of its own for every guard word.
fn guard(i: usize) -> u32 {
    0x7fc0_5a00 + i as u32
}

/// An output with a guard behind it.
#[derive(Debug)]
pub struct Output<T> {
    /// What the op writes; longer than the output by the guard.
    pub buffer: Buffer<T>,
    n: usize,
}

impl<T: Pod> Output<T> {
    /// Starts with `data`, for ops that add to what is there.
    ///
    /// # Errors
    /// No memory left on the device.
    pub fn holding(device: &Device, data: &[T]) -> Result<Output<T>, Error> {
        let mut words: Vec<u32> = bytemuck::cast_slice(data).to_vec();
        words.extend((0..GUARD).map(guard));
        let words = bytemuck::cast_slice::<u32, T>(&words);
        Ok(Output {
            buffer: device.upload(Purpose::Activations, "output", words)?,
            n: data.len(),
        })
    }

    /// Starts with NaNs, for ops that write all of it without reading: what they leave out is seen.
    ///
    /// # Errors
    /// No memory left on the device.
    pub fn unwritten(device: &Device, n: usize) -> Result<Output<T>, Error> {
        Output::holding(device, bytemuck::cast_slice(&vec![f32::NAN; n]))
    }

    /// What is there now; or which guard word was overwritten, in a sentence.
    ///
    /// # Errors
    /// Of the device.
    pub fn read(&self, device: &Device) -> Result<Result<Vec<T>, String>, Error> {
        let mut all = device.read_all(&self.buffer)?;
        let tail: Vec<u32> = bytemuck::cast_slice(&all.split_off(self.n)).to_vec();
        let touched = (0..GUARD).find(|i| tail[*i] != guard(*i));
        Ok(match touched {
            None => Ok(all),
            Some(i) => Err(format!(
                "guard word {i} behind {} values was overwritten",
                self.n
            )),
        })
    }
}

/// How far a device may be from the twin.
#[derive(Debug, Clone, Copy)]
pub struct Tol {
    /// Mean square error over the mean square of the truth.
    pub nmse: f64,
    /// Largest error over the largest magnitude of the truth.
    pub max: f64,
}

impl Tol {
    /// A few roundings of 6e-8 each.
    pub const ELEMENTWISE: Tol = Tol {
        nmse: 1e-13,
        max: 1e-6,
    };

    /// Sums of `n` products in f32, in any order: each addition errs by up to 6e-8 of the running sum, and errors of
    /// random sign add up to about `sqrt(n)` times that; the largest of many is some four times as large. The twins sum in f64.
    pub fn sums(n: usize) -> Tol {
        let rms = 6e-8 * (n.max(16) as f64).sqrt();
        Tol {
            nmse: rms * rms,
            max: 4.0 * rms,
        }
    }

    /// Attention in heads of this width. A score is a sum of `head_dim` products, its error that of [`Tol::sums`] times
    /// `score`, the size of the largest, and turns into a relative error of its weight; exp adds (3 + 2 |s - max|) ulp,
    /// up to 20. Weighted sums average these out, and so does the output.
    pub fn attention(head_dim: usize, score: f64) -> Tol {
        let t = Tol::sums(head_dim);
        Tol {
            nmse: score * score * t.nmse,
            max: score * t.max,
        }
    }
}

/// (NMSE, largest error over largest magnitude). Infinite when either side is not finite where the other is.
///
/// # Panics
/// When the lengths differ.
pub fn errors(got: &[f32], want: &[f32]) -> (f64, f64) {
    assert_eq!(got.len(), want.len(), "two outputs of one op");
    let (mut square, mut norm, mut worst, mut largest) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for (g, w) in got.iter().zip(want) {
        if g.to_bits() == w.to_bits() {
            norm += f64::from(*w).powi(2);
            largest = largest.max(f64::from(*w).abs());
            continue;
        }
        let e = f64::from(*g) - f64::from(*w);
        if !e.is_finite() {
            return (f64::INFINITY, f64::INFINITY);
        }
        square += e * e;
        norm += f64::from(*w).powi(2);
        worst = worst.max(e.abs());
        largest = largest.max(f64::from(*w).abs());
    }
    let over = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a / b };
    (over(square, norm), over(worst, largest))
}

/// What a part of an output must be.
#[derive(Debug, Clone, Copy)]
pub enum Must {
    /// The twin's words: codes, ids, packed numbers.
    Equal,
    /// Floats this near to the twin's.
    Near(Tol),
}

/// A part of an output and what it must be.
#[derive(Debug, Clone)]
pub struct Part {
    /// What it is.
    pub name: &'static str,
    /// Words of the output.
    pub words: Range<usize>,
    /// What they must be.
    pub must: Must,
}

/// How a part came out.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Verdict {
    /// Largest error over largest magnitude; for words, the share that differ.
    pub error: f64,
    /// What was allowed.
    pub allowed: f64,
    /// What is wrong, in a sentence.
    pub wrong: Option<String>,
}

impl Part {
    /// The same with twice the bound: for two devices that each are within it of the twin.
    #[must_use]
    pub fn twice(mut self) -> Part {
        if let Must::Near(tol) = &mut self.must {
            *tol = Tol {
                nmse: 4.0 * tol.nmse,
                max: 2.0 * tol.max,
            };
        }
        self
    }

    /// Compares the words of a device with those of the twin.
    pub fn judge(&self, got: &[u32], want: &[u32]) -> Verdict {
        let (got, want) = (&got[self.words.clone()], &want[self.words.clone()]);
        match self.must {
            Must::Equal => {
                let differ = got.iter().zip(want).filter(|(g, w)| g != w).count();
                let first = got.iter().zip(want).position(|(g, w)| g != w);
                Verdict {
                    error: differ as f64 / got.len().max(1) as f64,
                    allowed: 0.0,
                    wrong: first.map(|i| {
                        format!(
                            "{}: {differ} of {} words differ, word {i} is {:#010x}, expected {:#010x}",
                            self.name,
                            got.len(),
                            got[i],
                            want[i]
                        )
                    }),
                }
            }
            Must::Near(tol) => {
                let (got, want): (&[f32], &[f32]) =
                    (bytemuck::cast_slice(got), bytemuck::cast_slice(want));
                let (nmse, max) = errors(got, want);
                let off = |i: usize| (f64::from(got[i]) - f64::from(want[i])).abs();
                let near = nmse <= tol.nmse && max <= tol.max;
                // A NaN is above all numbers in this order.
                let at = (0..got.len()).max_by(|a, b| off(*a).total_cmp(&off(*b)));
                let at = at.unwrap_or(0);
                Verdict {
                    error: max,
                    allowed: tol.max,
                    wrong: (!near).then(|| {
                        format!(
                            "{}: NMSE {nmse:.1e} (allowed {:.1e}), largest error {max:.1e} ({:.1e}); value {at} is {:?}, expected {:?}",
                            self.name, tol.nmse, tol.max, got[at], want[at]
                        )
                    }),
                }
            }
        }
    }
}

//! One tensor of a file, and its values as f32 or as half floats.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use half::slice::{HalfBitsSliceExt as _, HalfFloatSliceExt as _};
use half::{bf16, f16};
use safetensors::Dtype;

use super::Error;

/// Values converted at a time: a few KiB, so that converting and checking both happen in the first-level cache.
const CHUNK: usize = 1024;

/// A tensor in a weights file. Nothing is copied or converted until asked for.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(super) name: &'a str,
    pub(super) path: &'a Path,
    pub(super) dtype: Dtype,
    pub(super) shape: &'a [usize],
    pub(super) bytes: &'a [u8],
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, dtype, shape, ..
        } = self;
        write!(f, "View({name:?} {dtype} {shape:?})")
    }
}

impl<'a> View<'a> {
    /// Bare name, see [`super::Weights`].
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Dtype in the file; only F32, F16 and BF16 can be converted.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Sizes, slowest first.
    #[must_use]
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The values as they lie in the file: row-major, little-endian, at any alignment, unchecked.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// All values, row-major. Exact: each of the three dtypes fits into f32.
    ///
    /// # Errors
    /// [`Error::Dtype`] for other dtypes, [`Error::NotFinite`] for the first NaN or infinity.
    pub fn to_f32(&self) -> Result<Vec<f32>, Error> {
        let width = self.value_bytes()?;
        let mut values = vec![0.0; self.bytes.len() / width];
        for (chunk_idx, (values, bytes)) in values
            .chunks_mut(CHUNK)
            .zip(self.bytes.chunks(CHUNK * width))
            .enumerate()
        {
            self.decode(bytes, values);
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(self.bad_value(chunk_idx * CHUNK + at, values[at]));
            }
        }
        Ok(values)
    }

    /// The values of some rows, the first size counting rows, as [`View::to_f32`] gives them.
    ///
    /// # Errors
    /// As [`View::to_f32`].
    ///
    /// # Panics
    /// When the tensor has no such rows.
    pub fn rows_to_f32(&self, rows: Range<usize>) -> Result<Vec<f32>, Error> {
        let values: usize = self.shape[1..].iter().product();
        let width = values * self.value_bytes()?;
        let part = View {
            bytes: &self.bytes[rows.start * width..rows.end * width],
            ..*self
        };
        part.to_f32().map_err(|e| match e {
            Error::NotFinite {
                name,
                index,
                value,
                path,
            } => Error::NotFinite {
                name,
                index: rows.start * values + index,
                value,
                path,
            },
            other => other,
        })
    }

    /// All values as the bits of IEEE half floats, row-major, rounded to nearest, ties to even. F16 stays as it is.
    ///
    /// # Errors
    /// [`Error::Dtype`] for other dtypes; for the first value that is no finite half float [`Error::NotFinite`] if it is
    /// NaN or an infinity, else [`Error::F16Range`].
    pub fn to_f16_bits(&self) -> Result<Vec<u16>, Error> {
        let width = self.value_bytes()?;
        let mut halves = vec![0_u16; self.bytes.len() / width];
        let mut values = [0.0; CHUNK];
        for (chunk_idx, (halves, bytes)) in halves
            .chunks_mut(CHUNK)
            .zip(self.bytes.chunks(CHUNK * width))
            .enumerate()
        {
            let values = &mut values[..halves.len()];
            self.decode(bytes, values);
            halves
                .reinterpret_cast_mut::<f16>()
                .convert_from_f32_slice(values);
            // NaN stays NaN and everything too large becomes infinite, so the exponent tells all three faults.
            if let Some(at) = halves.iter().position(|half| half & 0x7c00 == 0x7c00) {
                return Err(self.bad_value(chunk_idx * CHUNK + at, values[at]));
            }
        }
        Ok(halves)
    }

    /// Bytes of one value.
    fn value_bytes(&self) -> Result<usize, Error> {
        match self.dtype {
            Dtype::F32 => Ok(4),
            Dtype::F16 | Dtype::BF16 => Ok(2),
            found => Err(Error::Dtype {
                name: self.name.to_owned(),
                found,
                path: self.path.to_owned(),
            }),
        }
    }

    /// Converts `bytes` to `values`, at most [`CHUNK`] of them. The bytes may lie at any address.
    fn decode(&self, bytes: &[u8], values: &mut [f32]) {
        if self.dtype == Dtype::F32 {
            for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(*bytes);
            }
            return;
        }
        let mut bits = [0_u16; CHUNK];
        let bits = &mut bits[..values.len()];
        for (bits, bytes) in bits.iter_mut().zip(bytes.as_chunks::<2>().0) {
            *bits = u16::from_le_bytes(*bytes);
        }
        match self.dtype {
            Dtype::F16 => bits.reinterpret_cast::<f16>().convert_to_f32_slice(values),
            _ => bits.reinterpret_cast::<bf16>().convert_to_f32_slice(values),
        }
    }

    fn bad_value(&self, index: usize, value: f32) -> Error {
        let (name, path) = (self.name.to_owned(), self.path.to_owned());
        if value.is_finite() {
            Error::F16Range {
                name,
                index,
                value,
                path,
            }
        } else {
            Error::NotFinite {
                name,
                index,
                value,
                path,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(dtype: Dtype, bytes: &[u8]) -> View<'_> {
        View {
            name: "t",
            path: Path::new("x"),
            dtype,
            shape: &[],
            bytes,
        }
    }

    fn f32_bytes(values: &[f32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    #[test]
    fn halves_pass_unchanged_at_any_alignment() {
        let all: Vec<u16> = (0..=u16::MAX)
            .filter(|bits| bits & 0x7c00 != 0x7c00)
            .collect();
        let mut bytes = vec![0];
        bytes.extend(all.iter().flat_map(|bits| bits.to_le_bytes()));
        for shift in 0..2 {
            // Shifted by one byte, one of the two runs is at an odd address.
            let moved = [&vec![0; shift], &bytes[1..]].concat();
            let view = view(Dtype::F16, &moved[shift..]);
            assert_eq!(view.to_f16_bits().unwrap(), all);
            let values = view.to_f32().unwrap();
            assert!(
                all.iter()
                    .zip(&values)
                    .all(|(bits, value)| f16::from_bits(*bits).to_f32() == *value)
            );
        }
    }

    #[test]
    fn bf16_is_the_upper_half_of_f32() {
        let all: Vec<u16> = (0..=u16::MAX)
            .filter(|bits| bits & 0x7f80 != 0x7f80)
            .collect();
        let bytes: Vec<u8> = all.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let values = view(Dtype::BF16, &bytes).to_f32().unwrap();
        assert!(
            all.iter()
                .zip(&values)
                .all(|(bits, value)| u32::from(*bits) << 16 == value.to_bits())
        );
    }

    #[test]
    fn halves_round_to_nearest_even() {
        let step = 2_f32.powi(-10);
        // 1 + half a step is a tie to 1, 1 + 1.5 steps one to 1 + 2 steps; the smallest half float is 2^-24.
        let mut values = vec![
            1.0 + 0.5 * step,
            1.0 + 1.5 * step,
            1.0 + 0.5001 * step,
            -1.0 - 0.5 * step,
            65519.0,
        ];
        values.extend([2_f32.powi(-25), 1.5 * 2_f32.powi(-25), 1e-30, -0.0]);
        let mut wanted = vec![0x3c00, 0x3c02, 0x3c01, 0xbc00, 0x7bff, 0, 1, 0, 0x8000];
        // Repeated, so that both the wide loop and its tail see every value.
        for _ in 0..8 {
            values.extend_from_within(..9);
            wanted.extend_from_within(..9);
        }
        assert_eq!(
            view(Dtype::F32, &f32_bytes(&values)).to_f16_bits().unwrap(),
            wanted
        );
        assert_eq!(
            view(Dtype::F32, &f32_bytes(&values)).to_f32().unwrap(),
            values
        );
    }

    #[test]
    fn bad_values_are_found_with_their_index() {
        for at in [0, 7, 1023, 1024, 2999] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut values = vec![0.25; 3000];
                values[at] = bad;
                let bytes = f32_bytes(&values);
                let view = view(Dtype::F32, &bytes);
                assert!(
                    matches!(view.to_f32(), Err(Error::NotFinite { index, .. }) if index == at)
                );
                assert!(
                    matches!(view.to_f16_bits(), Err(Error::NotFinite { index, .. }) if index == at)
                );
            }
            for large in [65520.0, -1e9, f32::MAX] {
                let mut values = vec![0.25; 3000];
                values[at] = large;
                let bytes = f32_bytes(&values);
                let view = view(Dtype::F32, &bytes);
                assert!(view.to_f32().is_ok());
                let found = view.to_f16_bits();
                assert!(
                    matches!(found, Err(Error::F16Range { index, value, .. }) if index == at && value == large)
                );
            }
        }
        for (dtype, bits) in [
            (Dtype::F16, 0x7c00_u16),
            (Dtype::F16, 0x7e01),
            (Dtype::BF16, 0x7f80),
            (Dtype::BF16, 0xffc0),
        ] {
            let bytes = [[0, 0], bits.to_le_bytes()].concat();
            assert!(
                matches!(
                    view(dtype, &bytes).to_f32(),
                    Err(Error::NotFinite { index: 1, .. })
                ),
                "{bits:#x}"
            );
            assert!(
                matches!(
                    view(dtype, &bytes).to_f16_bits(),
                    Err(Error::NotFinite { index: 1, .. })
                ),
                "{bits:#x}"
            );
        }
    }

    #[test]
    fn other_dtypes_are_refused_by_name() {
        for found in [
            Dtype::F64,
            Dtype::I64,
            Dtype::U8,
            Dtype::F8_E4M3,
            Dtype::BOOL,
        ] {
            let text = view(found, &[0; 8]).to_f32().unwrap_err().to_string();
            assert!(
                text.contains(&found.to_string()) && text.contains("\"t\""),
                "{text}"
            );
            assert!(matches!(
                view(found, &[0; 8]).to_f16_bits(),
                Err(Error::Dtype { .. })
            ));
        }
    }

    #[test]
    fn rows_are_read_by_themselves_and_faults_counted_from_the_first() {
        let bytes = f32_bytes(&[0.0, 1.0, 2.0, 3.0, 4.0, f32::NAN]);
        let view = |bytes| View {
            shape: &[3, 2],
            ..view(Dtype::F32, bytes)
        };
        assert_eq!(view(&bytes).rows_to_f32(1..2).unwrap(), [2.0, 3.0]);
        assert!(view(&bytes).rows_to_f32(1..1).unwrap().is_empty());
        let found = view(&bytes).rows_to_f32(1..3);
        assert!(matches!(found, Err(Error::NotFinite { index: 5, .. })));
    }

    #[test]
    fn an_empty_tensor_has_no_values() {
        assert!(view(Dtype::F32, &[]).to_f32().unwrap().is_empty());
        assert!(view(Dtype::BF16, &[]).to_f16_bits().unwrap().is_empty());
    }
}

//! How matrices lie on the device: floats, halves, or blocks of 8- or 4-bit codes with a scale.

use half::f16;

/// Weights that share a scale.
const BLOCK: usize = 32;

/// How a matrix is stored on the device. Arithmetic is f32.
///
/// `q8_0` and `q4_0` hold the values that GGUF's blocks of these names hold: 32 weights along a row, a half-float scale d, and codes
/// of which a weight is `code d` or `(code - 8) d`. Here all codes of a matrix come first, in the order of the weights, then all
/// scales. Rows that are no multiple of 32 stay halves ([`WeightFormat::for_width`]).
///
/// Rounding is that of ggml's reference: codes are told by the scale in f32, before it is rounded to a half. `q8_0`: d is the
/// largest magnitude / 127, a code is nearest, halves away from zero. `q4_0`: d is the value of the largest magnitude / -8, a code
/// is `value / d + 8.5` cut to a whole number, at most 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightFormat {
    /// 32-bit floats.
    F32,
    /// 16-bit floats, two a word.
    F16,
    /// 8 bits a weight and a scale for 32: 34 bytes.
    Q8_0,
    /// 4 bits a weight and a scale for 32: 18 bytes.
    Q4_0,
}

impl WeightFormat {
    /// All formats.
    pub const ALL: [WeightFormat; 4] = [
        WeightFormat::F32,
        WeightFormat::F16,
        WeightFormat::Q8_0,
        WeightFormat::Q4_0,
    ];

    /// Those whose values stand for themselves: convolutions and pictures take no others.
    pub const FLOATS: [WeightFormat; 2] = [WeightFormat::F32, WeightFormat::F16];

    pub(super) fn code(self) -> u32 {
        self as u32
    }

    /// The word flags use.
    pub fn name(self) -> &'static str {
        match self {
            WeightFormat::F32 => "f32",
            WeightFormat::F16 => "f16",
            WeightFormat::Q8_0 => "q8_0",
            WeightFormat::Q4_0 => "q4_0",
        }
    }

    /// The format of a matrix whose rows have `k` weights: this one, or halves where blocks do not fill them.
    #[must_use]
    pub fn for_width(self, k: usize) -> WeightFormat {
        match self {
            WeightFormat::Q8_0 | WeightFormat::Q4_0 if !k.is_multiple_of(BLOCK) => {
                WeightFormat::F16
            }
            format => format,
        }
    }

    /// Bytes of `n` weights, whole blocks.
    #[must_use]
    pub fn packed_bytes(self, n: usize) -> usize {
        match self {
            WeightFormat::F32 => 4 * n,
            WeightFormat::F16 => 2 * n,
            WeightFormat::Q8_0 => n / BLOCK * (2 + BLOCK),
            WeightFormat::Q4_0 => n / BLOCK * (2 + BLOCK / 2),
        }
    }

    /// Weights as the device holds them; `values` is an even number of blocks long where there are blocks, else even.
    ///
    /// # Panics
    /// When it is not: a bug in the caller.
    pub fn pack(self, values: &[f32]) -> Vec<u32> {
        match self {
            WeightFormat::F32 => values.iter().map(|v| v.to_bits()).collect(),
            WeightFormat::F16 => halves(values.iter().copied()),
            WeightFormat::Q8_0 => {
                let code = |v: f32, d: f32| units(v, d).round() as i8 as u8;
                packed_blocks(values, scale_8, code, 8)
            }
            WeightFormat::Q4_0 => {
                let code = |v: f32, d: f32| ((units(v, d) + 8.5) as u8).min(15);
                packed_blocks(values, scale_4, code, 4)
            }
        }
    }

    /// The weights that [`WeightFormat::pack`] stored.
    pub fn unpack(self, words: &[u32]) -> Vec<f32> {
        match self {
            WeightFormat::F32 => words.iter().map(|w| f32::from_bits(*w)).collect(),
            WeightFormat::F16 => unpacked_halves(words).collect(),
            WeightFormat::Q8_0 => unpacked_blocks(words, 8, |code| f32::from(code as i8)),
            WeightFormat::Q4_0 => unpacked_blocks(words, 4, |code| f32::from(code) - 8.0),
        }
    }
}

/// A value in units of a scale, as the reference tells it: times the inverse; 0 where the scale is.
fn units(v: f32, d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { v * (1.0 / d) }
}

fn scale_8(block: &[f32]) -> f32 {
    block.iter().fold(0.0f32, |most, v| most.max(v.abs())) / 127.0
}

fn scale_4(block: &[f32]) -> f32 {
    let farther = |most: f32, v: &f32| if most.abs() < v.abs() { *v } else { most };
    block.iter().fold(0.0, farther) / -8.0
}

fn halves(values: impl Iterator<Item = f32>) -> Vec<u32> {
    let bits: Vec<u32> = values.map(|v| f16::from_f32(v).to_bits().into()).collect();
    assert!(bits.len().is_multiple_of(2), "an even number of halves");
    bits.chunks_exact(2).map(|p| p[0] | p[1] << 16).collect()
}

fn unpacked_halves(words: &[u32]) -> impl Iterator<Item = f32> {
    let half = |bits: u32| f16::from_bits(bits as u16).to_f32();
    words.iter().flat_map(move |w| [half(*w), half(*w >> 16)])
}

/// Codes of all blocks, lowest bits first, then their scales.
fn packed_blocks(
    values: &[f32],
    scale: fn(&[f32]) -> f32,
    code: impl Fn(f32, f32) -> u8,
    bits: usize,
) -> Vec<u32> {
    assert!(values.len().is_multiple_of(2 * BLOCK), "whole blocks");
    let scales: Vec<f32> = values.chunks_exact(BLOCK).map(scale).collect();
    let a_word = 32 / bits;
    let mut words: Vec<u32> = (values.chunks_exact(a_word).enumerate())
        .map(|(i, chunk)| {
            let d = scales[i * a_word / BLOCK];
            let codes = chunk.iter().map(|v| u32::from(code(*v, d)));
            codes
                .enumerate()
                .fold(0, |word, (at, c)| word | c << (bits * at))
        })
        .collect();
    words.extend(halves(scales.into_iter()));
    words
}

fn unpacked_blocks(words: &[u32], bits: usize, value: impl Fn(u8) -> f32) -> Vec<f32> {
    // A block has `bits` words of codes and half a word of scale.
    let codes = words.len() * 2 * bits / (2 * bits + 1);
    let (codes, scales) = words.split_at(codes);
    let scales: Vec<f32> = unpacked_halves(scales).collect();
    let a_word = 32 / bits;
    let mask = (1 << bits) - 1;
    (0..codes.len() * a_word)
        .map(|i| {
            let code = codes[i / a_word] >> (bits * (i % a_word)) & mask;
            value(code as u8) * scales[i / BLOCK]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp() -> Vec<f32> {
        (0..2 * BLOCK).map(|i| (i as f32 - 20.0) * 0.37).collect()
    }

    #[test]
    fn blocks_are_as_many_bytes_as_gguf_has() {
        for (format, bytes) in [
            (WeightFormat::F32, 256),
            (WeightFormat::F16, 128),
            (WeightFormat::Q8_0, 68),
            (WeightFormat::Q4_0, 36),
        ] {
            let words = format.pack(&ramp());
            assert_eq!((format.packed_bytes(64), 4 * words.len()), (bytes, bytes));
            assert_eq!(format.unpack(&words).len(), 64);
        }
        assert_eq!(WeightFormat::Q4_0.for_width(48), WeightFormat::F16);
        assert_eq!(WeightFormat::Q4_0.for_width(64), WeightFormat::Q4_0);
    }

    #[test]
    fn codes_are_the_references() {
        let mut block = vec![0.0f32; 64];
        // d = 127 / 127 = 1: halves go away from zero.
        block[..4].copy_from_slice(&[127.0, 1.5, -2.5, 0.49]);
        let words = WeightFormat::Q8_0.pack(&block);
        assert_eq!(words[0].to_le_bytes(), [127, 2, (-3i8) as u8, 0]);
        assert_eq!(words[16], 0x3c00, "the second block is all zeros");
        // d = -16 / -8 = 2: -16 is code 0, 14 is 15, and 16 is cut to 15.
        block[..4].copy_from_slice(&[-16.0, 14.0, 15.9, 1.0]);
        let words = WeightFormat::Q4_0.pack(&block);
        assert_eq!(words[0] & 0xffff, 0x9ff << 4);
        assert_eq!(words[0] >> 16, 0x8888);
        assert_eq!(words[8] & 0xffff, 0x4000);
        // The sign of the largest is that of code 0.
        block[..4].copy_from_slice(&[16.0, -14.0, 0.0, 0.0]);
        let words = WeightFormat::Q4_0.pack(&block);
        assert_eq!((words[0] & 0xff, words[8] & 0xffff), (0xf0, 0xc000));
        assert_eq!(WeightFormat::Q4_0.unpack(&words)[..2], [16.0, -14.0]);
    }

    #[test]
    fn weights_come_back_within_a_step() {
        let values = ramp();
        for (format, steps) in [(WeightFormat::Q8_0, 0.51), (WeightFormat::Q4_0, 1.01)] {
            let back = format.unpack(&format.pack(&values));
            for (block, back) in values.chunks(BLOCK).zip(back.chunks(BLOCK)) {
                let d = match format {
                    WeightFormat::Q8_0 => scale_8(block),
                    _ => scale_4(block),
                };
                for (v, b) in block.iter().zip(back) {
                    // Half a step, or a whole one at the end that has no code; and the scale's own rounding.
                    let allowed = steps * d.abs() + 1e-3 * v.abs();
                    assert!((v - b).abs() <= allowed, "{format:?}: {v} as {b}");
                }
            }
        }
    }
}

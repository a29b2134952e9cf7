//! The tensors that a span's words are stored as, there and back. Pure; [`super::packed`] lists them.

use std::collections::BTreeMap;

use half::f16;

use crate::ops::{Axis, Coding, Exported, Grid, ScaleFormat, SpanLayout};
use crate::weights::Dtype;

/// Bytes that are no E4M3 number, without their sign.
const E4M3_NAN: u8 = 0x7f;

/// What of a coding a reader of the released layout does not know; empty: it is released.
pub(super) fn extensions(c: &Coding) -> Vec<&'static str> {
    let mut all = Vec::new();
    let mut note = |has: bool, name| {
        if has {
            all.push(name);
        }
    };
    note(c.bits == 3, "3-bit-codes");
    note(c.bits == 8, "8-bit-codes");
    note(!c.is_quantized(), "half-rows");
    note(
        c.is_quantized() && c.scales != ScaleFormat::E4m3,
        "scale-pairs",
    );
    note(c.axis == Axis::Channel, "scales-by-channel");
    note(c.grid == Grid::Dual, "dual-grid");
    note(c.grid == Grid::ZeroPoint, "zero-points");
    note(c.grid == Grid::Wide, "wide-grid");
    note(c.hadamard, "hadamard");
    note(c.head_table, "head-table");
    all
}

/// One part of a span's tensor.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
}

/// The parts that a layout is stored as.
pub(super) fn parts(l: &SpanLayout) -> Vec<Part> {
    let (c, h, s, d) = (&l.coding, l.n_heads, l.tokens, l.head_dim);
    let part = |name: &str, dtype, shape: &[usize]| Part {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
    };
    if !c.is_quantized() {
        return vec![part("rows", Dtype::F16, &[1, h, s, d])];
    }
    let mut all = vec![part("packed", Dtype::U8, &[1, h, s, 4 * c.row_words(d)])];
    match (c.scales, c.axis) {
        (ScaleFormat::E4m3, _) => {
            all.push(part("scales", Dtype::U8, &[1, h, s, c.blocks(d)]));
            if c.grid.has_zero() {
                all.push(part("zeros", Dtype::U8, &[1, h, s, c.blocks(d)]));
            }
        }
        (format, axis) => {
            let dtype = match format {
                ScaleFormat::F16 => Dtype::F16,
                _ => Dtype::F32,
            };
            let [a, b] = match axis {
                Axis::Token => [s, c.blocks(d)],
                Axis::Channel => [l.groups, d],
            };
            all.push(part("scale_pairs", dtype, &[1, h, a, b, 2]));
        }
    }
    for t in 0..c.stages {
        all.push(part(&format!("ids.{t}"), Dtype::U8, &[1, h, s]));
        let table = [1, h, l.n_centroids, d];
        all.push(part(&format!("centroids.{t}"), Dtype::BF16, &table));
    }
    if c.head_table {
        all.push(part("head_table", Dtype::F32, &[1, h, 1 + c.gains(d)]));
    }
    all
}

/// First word of every row of pairs, `[head, token or run of tokens]`, and words of a row.
fn pair_rows(l: &SpanLayout) -> (Vec<usize>, usize) {
    let words = match l.coding.scales {
        ScaleFormat::F16 => 1,
        _ => 2,
    };
    let (kept, used, entries) = match l.coding.axis {
        Axis::Token => (l.rows, l.tokens, l.coding.blocks(l.head_dim)),
        Axis::Channel => (l.groups, l.groups, l.head_dim),
    };
    let per_row = entries * words;
    let row = |head, i| l.scales_at + (head * kept + i) * per_row;
    let rows = (0..l.n_heads).flat_map(|head| (0..used).map(move |i| row(head, i)));
    (rows.collect(), per_row)
}

/// Bytes of the parts of a span, in the order of [`parts`].
pub(super) fn bytes(l: &SpanLayout, words: &[u32]) -> Vec<Vec<u8>> {
    let e = l.export(words);
    let le = |w: &[u32]| -> Vec<u8> { w.iter().flat_map(|w| w.to_le_bytes()).collect() };
    let table = l.n_heads * (1 + l.coding.gains(l.head_dim));
    let of = |name: &str| -> Vec<u8> {
        let stage = name
            .rsplit_once('.')
            .and_then(|(_, t)| t.parse::<usize>().ok());
        match (name.split('.').next().unwrap_or_default(), stage) {
            ("scales", _) => e.scales.clone(),
            ("zeros", _) => e.zeros.clone(),
            ("ids", Some(t)) => e.ids[t].clone(),
            ("centroids", Some(t)) => e.centroids[t]
                .iter()
                .flat_map(|c| c.to_le_bytes())
                .collect(),
            ("scale_pairs", _) => {
                let (rows, n) = pair_rows(l);
                rows.iter().flat_map(|at| le(&words[*at..at + n])).collect()
            }
            ("head_table", _) => le(&words[l.heads_at..l.heads_at + table]),
            _ => e.codes.clone(),
        }
    };
    parts(l).iter().map(|p| of(&p.name)).collect()
}

/// Holds the bytes of a part to values that can be decoded.
pub(super) fn sound(p: &Part, bytes: &[u8], n_centroids: usize) -> Result<(), String> {
    let kind = p.name.split('.').next().unwrap_or_default();
    let bad = match (kind, p.dtype) {
        ("ids", _) => bytes.iter().position(|id| n_centroids <= usize::from(*id)),
        ("scales" | "zeros", _) => bytes.iter().position(|b| b & 0x7f == E4M3_NAN),
        ("packed", _) => None,
        (_, Dtype::F32) => {
            let all = bytes.as_chunks::<4>().0;
            all.iter().position(|b| !f32::from_le_bytes(*b).is_finite())
        }
        (_, Dtype::F16) => {
            let all = bytes.as_chunks::<2>().0;
            all.iter().position(|b| !f16::from_le_bytes(*b).is_finite())
        }
        _ => {
            let all = bytes.as_chunks::<2>().0;
            let bf16 = |b: &[u8; 2]| half::bf16::from_le_bytes(*b);
            all.iter().position(|b| !bf16(b).is_finite())
        }
    };
    match bad {
        None => Ok(()),
        Some(at) if kind == "ids" => Err(format!(
            "id {} at index {at} is beyond the {n_centroids} centroids",
            bytes[at]
        )),
        Some(at) => Err(format!("the value at index {at} is no finite number")),
    }
}

/// The words of a layout from its parts, whose lengths are right.
pub(super) fn words(l: &SpanLayout, found: &BTreeMap<String, &[u8]>) -> Vec<u32> {
    let bytes = |name: &str| found.get(name).map_or(Vec::new(), |b| b.to_vec());
    let c = &l.coding;
    let halves = |name: String| -> Vec<u16> {
        let bytes = bytes(&name);
        bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|b| u16::from_le_bytes(*b))
            .collect()
    };
    let le = |b: &[u8]| -> Vec<u32> {
        b.as_chunks::<4>()
            .0
            .iter()
            .map(|b| u32::from_le_bytes(*b))
            .collect()
    };
    let e = Exported {
        codes: bytes(if c.is_quantized() { "packed" } else { "rows" }),
        scales: bytes("scales"),
        zeros: bytes("zeros"),
        ids: (0..c.stages).map(|t| bytes(&format!("ids.{t}"))).collect(),
        centroids: (0..c.stages)
            .map(|t| halves(format!("centroids.{t}")))
            .collect(),
    };
    let mut words = l.import(&e);
    if let Some(pairs) = found.get("scale_pairs") {
        let (rows, n) = pair_rows(l);
        for (at, row) in rows.into_iter().zip(le(pairs).chunks_exact(n)) {
            words[at..at + n].copy_from_slice(row);
        }
    }
    if let Some(table) = found.get("head_table") {
        let table = le(table);
        words[l.heads_at..l.heads_at + table.len()].copy_from_slice(&table);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::sample_codings;

    /// Words that are no two alike.
    fn words_of(l: &SpanLayout) -> Vec<u32> {
        let mut x = 1u32;
        let next = || {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            x
        };
        let mut words: Vec<u32> = std::iter::repeat_with(next).take(l.words).collect();
        // Ids below the number of centroids, which is 128 here.
        words[l.ids_at..l.cents_at]
            .iter_mut()
            .for_each(|w| *w &= 0x7f7f_7f7f);
        words
    }

    fn check(c: Coding, head_dim: usize, tokens: usize) {
        let l = SpanLayout::new(c, 3, head_dim, tokens, 128);
        let of = |words: &[u32]| bytes(&l, words);
        let given = words_of(&l);
        let all = of(&given);
        let found: BTreeMap<String, &[u8]> = parts(&l)
            .into_iter()
            .map(|p| p.name)
            .zip(all.iter().map(Vec::as_slice))
            .collect();
        for (p, bytes) in parts(&l).iter().zip(&all) {
            let n: usize = p.shape.iter().product();
            assert_eq!(
                bytes.len(),
                n * p.dtype.bitsize() / 8,
                "{} of {c:?}",
                p.name
            );
        }
        let back = words(&l, &found);
        assert_eq!(of(&back), all, "{c:?}");
        for head in 0..3 {
            for t in 0..tokens {
                let bits = |words: &[u32]| -> Vec<u32> {
                    l.row(words, head, t).iter().map(|v| v.to_bits()).collect()
                };
                assert_eq!(bits(&back), bits(&given), "{c:?}: row {t} of head {head}");
            }
        }
    }

    #[test]
    fn every_coding_comes_back_from_its_parts() {
        for (k, v, _) in sample_codings() {
            check(k, 64, 37);
            check(v, 128, 9);
        }
    }
}

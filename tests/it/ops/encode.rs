//! Spans coded on the device against the CPU twins: every word, for every named setting, over sizes and values that trip.

use longtake::codec::{Encode, EncodeScratch, KvCodec, KvPair, NAMES, SpanShape};
use longtake::dump::{CodedLayer, Queries, Rows, spans};
use longtake::gpu::{Device, Purpose, Variant};
use longtake::ops::{SpanLayout, SpanPlace};

use crate::support::{self, hash, values};

/// Rows whose blocks are constant, zero, tiny or huge as often as ordinary.
fn odd(seed: u64, shape: SpanShape) -> Vec<f32> {
    let mut v = values(seed, shape.n_heads * shape.tokens * shape.head_dim);
    for (i, block) in v.chunks_mut(16).enumerate() {
        match hash(seed, i as u64) % 8 {
            0 => block.fill(0.0),
            1 => block.fill(-0.75),
            2 => block.iter_mut().for_each(|x| *x *= 1e-5),
            // Scales of 2 bits would be above E4M3's 448.
            3 => block.iter_mut().for_each(|x| *x *= 6000.0),
            // A scale of 3 bits, shrunk by 0.85, that lies halfway between two bytes.
            4 => block[3] = 120.0,
            _ => {}
        }
    }
    v
}

/// A tensor's words without its tables of energy, which are sums of floats in an order of each executor's own.
fn exact_words(l: &SpanLayout, words: &[u32]) -> Vec<u32> {
    let mut w = words.to_vec();
    if l.coding.head_table {
        let table = 1 + l.coding.gains(l.head_dim);
        for head in 0..l.n_heads {
            w[l.heads_at + head * table + 1..l.heads_at + (head + 1) * table].fill(0);
        }
    }
    w
}

fn gains(l: &SpanLayout, words: &[u32]) -> Vec<f32> {
    let table = 1 + l.coding.gains(l.head_dim);
    let of = |head: usize| &words[l.heads_at + head * table + 1..l.heads_at + (head + 1) * table];
    match l.coding.head_table {
        true => (0..l.n_heads)
            .flat_map(of)
            .map(|w| f32::from_bits(*w))
            .collect(),
        false => Vec::new(),
    }
}

fn check(device: &Device, name: &str, shape: SpanShape, per_span: usize) {
    let pair = KvPair::of(name, name).unwrap();
    let rows = Rows {
        shape,
        k: odd(1, shape),
        v: odd(2, shape),
        queries: Queries {
            rows: Vec::new(),
            n: 0,
            are_keys: true,
        },
    };
    let cuts = spans(shape.tokens, per_span);
    let on = |device: &Device| CodedLayer::encode(device, &pair, &rows, &cuts).unwrap();
    let (got, want) = (on(device), on(&Device::twin()));
    for (got, want) in got.spans.iter().zip(&want.spans) {
        for (i, l) in want.layouts.iter().enumerate() {
            let what = format!("{name} {shape:?}, {} of {:?}", ["K", "V"][i], want.tokens);
            let (a, b) = (&got.words[i], &want.words[i]);
            let (x, y) = (exact_words(l, a), exact_words(l, b));
            let differ = x.iter().zip(&y).position(|(x, y)| x != y);
            assert_eq!(differ, None, "{what}: a word differs, of {l:?}");
            // Energies are means over the span: the error of a sum of n terms, beside its largest.
            let bound = |all: &[f32]| {
                let n = (l.tokens * l.head_dim) as f32;
                let most = all.iter().fold(0f32, |m, g| m.max(g.abs()));
                f32::EPSILON * n * most.max(1e6)
            };
            let (a, b) = (gains(l, a), gains(l, b));
            for (x, y) in a.iter().zip(&b) {
                assert!((x - y).abs() <= bound(&b), "{what}: energy {x} for {y}");
            }
        }
    }
}

#[test]
fn every_setting_codes_the_twins_words() {
    for gpu in support::gpus() {
        for name in NAMES {
            // Spans of 19 tokens, the last one of 7: no multiple of anything, and a warm start.
            let shape = SpanShape {
                n_heads: 3,
                head_dim: 64,
                tokens: 45,
            };
            check(&gpu.device, name, shape, 19);
        }
    }
}

#[test]
fn spans_of_one_token_and_heads_of_every_width_are_coded() {
    let Some(device) = support::device() else {
        return;
    };
    for name in ["int2", "int3", "qvg-pro", "kivi-int2"] {
        for (head_dim, tokens) in [(32, 1), (64, 1), (128, 34), (256, 5)] {
            let shape = SpanShape {
                n_heads: 2,
                head_dim,
                tokens,
            };
            check(device, name, shape, tokens);
        }
    }
}

/// Spans of the released integrations, coded on the device and counted in its buffers, beside METHOD 6: one round of k-means, which
/// changes no byte.
///
/// ```sh
/// cargo test --release --test it released_sizes -- --ignored --nocapture
/// ```
#[test]
#[ignore = "some 10^11 products"]
fn spans_of_released_sizes_are_as_small_as_the_formula_says() {
    let Some(device) = support::device() else {
        return;
    };
    for (tokens, n_heads, head_dim, names) in [
        (
            37_440,
            12,
            128,
            &["qvg-int2", "qvg-pro", "qvg-int4", "int2"][..],
        ),
        (29_640, 32, 128, &["qvg-int2"]),
        (7040, 24, 256, &["qvg-int2", "qvg-pro"]),
    ] {
        let shape = SpanShape {
            n_heads,
            head_dim,
            tokens,
        };
        let values = |seed| values(seed, n_heads * tokens * head_dim);
        let rows = Rows {
            shape,
            k: values(1),
            v: values(2),
            queries: Queries {
                rows: Vec::new(),
                n: 0,
                are_keys: true,
            },
        };
        for name in names {
            let pair =
                KvPair::of(&format!("{name}:rounds=1"), &format!("{name}:rounds=1")).unwrap();
            let cuts = spans(tokens, tokens);
            let coded = CodedLayer::encode(device, &pair, &rows, &cuts).unwrap();
            let words: usize = coded.spans[0].words.iter().map(Vec::len).sum();
            let ratio = (2 * 2 * rows.k.len()) as f64 / (4 * words) as f64;
            let c = coded.spans[0].layouts[0].coding;
            let stages = c.stages as f64;
            let table = 16.0 * coded.spans[0].layouts[0].n_centroids as f64 / tokens as f64;
            let bits =
                f64::from(c.bits) + 8.0 / c.block as f64 + stages * (8.0 / head_dim as f64 + table);
            println!(
                "{name} {tokens} x {n_heads} x {head_dim}: {ratio:.4}, by the formula {:.4}",
                16.0 / bits
            );
            // What the formula leaves out: a power of two and gains by head.
            assert!(ratio >= 16.0 / bits - if c.head_table { 1e-3 } else { 1e-9 });
        }
    }
}

#[test]
fn codecs_name_every_kernel_that_they_record() {
    let device = Device::twin();
    let shape = SpanShape {
        n_heads: 2,
        head_dim: 64,
        tokens: 20,
    };
    for name in NAMES {
        let pair = KvPair::of(name, name).unwrap();
        let scratch = EncodeScratch::new(&device, &pair, shape, 1).unwrap();
        for codec in [&pair.k, &pair.v] {
            let codec: &dyn KvCodec = &**codec;
            let layout = codec.layout(shape);
            let words = device.zeros(Purpose::Spans, "words", layout.words).unwrap();
            let to = SpanPlace {
                words: &words,
                base: 0,
                layout,
            };
            for earlier in [None, Some(to)] {
                let mut rec = device.recorder();
                let job = Encode {
                    x: &scratch.x,
                    first_head: 0,
                    n_heads: 2,
                    to,
                    earlier,
                };
                codec.encode(&mut rec, &scratch, &job);
                let named = codec.kernels(shape.head_dim);
                for (kernel, plan) in rec.plans() {
                    let same = |(k, knobs): &Variant| k.name == kernel.name && *knobs == plan.knobs;
                    assert!(named.iter().any(same), "{name}: {}", kernel.name);
                }
            }
        }
    }
}

//! Laws of attention over pages of any shape: exact and coded, hostile keys and values, one token, one head.
//!
//! The bound: a score that is off by at most `s` makes every weight off by a factor of at most `e^(2 s)`; exp is allowed
//! (3 + 2 |x|) ulp, and weights `e^-x` of `n` keys, the largest of them 1, times `2 x` add up to at most `2 n / e`; sums of `n`
//! weights and values round `n` times each. However far scores are off, an output stays between the values. Scores that are off
//! follow from the lengths of a product and of a turn (`properties`); a coded row is a product and a sum, its turn by the
//! Hadamard matrix as deep as the logarithm of its width.

use longtake::gpu::{Buffer, Device, Purpose};
use longtake::ops::{
    Attention, BiasFix, Coding, FramePlace, KvFormat, Positions, RopeSplit, Rows, Segment,
    SpanLayout, attention, sample_codings,
};
use proptest::prelude::*;

use super::attention_coded::words;
use super::properties::{LEAST_NORMAL, U, config, near, rows};
use crate::support::{Out, gpus, input, run, values};

/// Shapes: none a multiple of anything, ones among them.
#[derive(Clone, Debug)]
struct Shape {
    head_dim: usize,
    n_heads: usize,
    n_queries: usize,
    grid: (usize, usize),
    n_frames: usize,
    rope: bool,
}

impl Shape {
    fn tokens(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    fn width(&self) -> usize {
        self.n_heads * self.head_dim
    }

    fn keys(&self) -> usize {
        self.n_frames * self.tokens()
    }
}

fn shapes(head_dims: Vec<usize>) -> impl Strategy<Value = Shape> {
    let grid = (1usize..4, 1usize..4);
    let head_dim = proptest::sample::select(head_dims);
    (
        head_dim,
        1usize..4,
        1usize..14,
        grid,
        1usize..4,
        any::<bool>(),
    )
        .prop_map(
            |(head_dim, n_heads, n_queries, grid, n_frames, rope)| Shape {
                head_dim,
                n_heads,
                n_queries,
                grid,
                n_frames,
                rope,
            },
        )
}

/// Queries up to 1, among them zeros of both signs and subnormals.
fn queries(n: usize) -> impl Strategy<Value = Vec<f32>> {
    let one = prop_oneof![
        Just(0.0f32),
        Just(-0.0),
        Just(1e-40),
        -1.0f32..1.0,
        -1.0f32..1.0
    ];
    proptest::collection::vec(one, n)
}

/// Keys or values of a page as floats, by frame and token.
type Decoded = Box<dyn Fn(usize, usize, usize) -> Vec<f32>>;

/// A page on a device and what stands in it.
struct Page {
    k: Buffer<u32>,
    v: Buffer<u32>,
    rows: Rows,
    positions: Positions,
}

fn run_on(d: &Device, s: &Shape, q: &[f32], page: &Page) -> Vec<f32> {
    let q = input(d, q);
    let out = Out::unwritten(d, s.n_queries * s.width());
    let state = Out::<f32>::unwritten(d, s.n_queries * s.n_heads * 2);
    let segment = Segment {
        k: &page.k,
        v: &page.v,
        rows: page.rows,
        positions: &page.positions,
        rope: s.rope,
        tokens_per_frame: s.tokens(),
    };
    let args = Attention {
        q: &q,
        q_stride: s.width(),
        n_queries: s.n_queries,
        n_heads: s.n_heads,
        segments: &[segment],
        out: &out.buffer,
        state: &state.buffer,
    };
    run(d, |rec| attention(rec, &args));
    state.read(d);
    out.read(d)
}

fn table(d: &Device, s: &Shape) -> Positions {
    Positions::new(d, RopeSplit::wan(s.head_dim), 1e4, s.grid.0, s.grid.1).unwrap()
}

/// How far the rows are off before attention begins: of a key and of a value, beside their own roundings; and what a
/// correction of the mass adds to a score of a query of unit length.
#[derive(Clone, Copy, Default)]
struct Off {
    key: f64,
    value: f64,
    mass: f64,
}

/// Bound of every output.
fn bounds(s: &Shape, q: &[f32], k: &Decoded, v: &Decoded, off: Off) -> Vec<f64> {
    let d = s.head_dim;
    let n = s.keys() as f64;
    let scale = 1.0 / (d as f64).sqrt();
    let size = |row: &[f32]| {
        row.iter()
            .map(|v| f64::from(*v).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    let mut all = vec![0.0; s.n_queries * s.width()];
    for head in 0..s.n_heads {
        let (mut longest, mut largest, mut largest_key) = (0.0f64, vec![0.0f64; d], 1.0f64);
        for frame in 0..s.n_frames {
            for token in 0..s.tokens() {
                let key = k(frame, token, head);
                longest = longest.max(size(&key));
                largest_key = key
                    .iter()
                    .fold(largest_key, |m, v| m.max(f64::from(v.abs())));
                for (m, v) in largest.iter_mut().zip(v(frame, token, head)) {
                    *m = m.max(f64::from(v.abs()));
                }
            }
        }
        for query in 0..s.n_queries {
            let own = &q[query * s.width() + head * d..][..d];
            let sizes: f64 = own.iter().map(|v| f64::from(v.abs())).sum();
            // d products and sums, the scale, and three roundings of a turn; magnitudes by Cauchy and Schwarz, a turned
            // pair's no more than sqrt(2) of its length.
            let steps = (d + 8) as f64;
            let product = scale * size(own) * longest * 2f64.sqrt();
            let score = U * steps * product
                + LEAST_NORMAL * steps * largest_key
                + scale * sizes * off.key
                + off.mass * (scale * size(own)).powi(2);
            let weight = (2.0 * score).exp_m1()
                + 2.0 * U * (3.0 + 2.0 * n / 1f64.exp())
                + 2.0 * U * (n + 3.0);
            for (ch, largest) in largest.iter().enumerate() {
                let own = off.value + LEAST_NORMAL * n;
                all[query * s.width() + head * d + ch] = weight.min(2.0) * largest + 2.0 * own;
            }
        }
    }
    all
}

fn exact_case() -> impl Strategy<Value = (Shape, KvFormat, [Vec<f32>; 3])> {
    let format = proptest::sample::select(vec![KvFormat::F16, KvFormat::F32]);
    (shapes(vec![20, 32]), format).prop_flat_map(|(s, format)| {
        let n = s.keys() * s.width();
        // Keys up to 1 and to 300 and beyond: both scores that choose and scores that drown all others.
        let keys = prop_oneof![queries(n), queries(n), rows(n)];
        let all = (queries(s.n_queries * s.width()), keys, rows(n));
        (Just(s), Just(format), all.prop_map(|(q, k, v)| [q, k, v]))
    })
}

/// What the format keeps. Halves that are subnormal may be read as 0: there are none.
fn kept(format: KvFormat, x: &[f32]) -> Vec<f32> {
    let x: Vec<f32> = match format {
        KvFormat::F16 => x
            .iter()
            .map(|v| if v.abs() < 6.2e-5 { 0.0 } else { *v })
            .collect(),
        _ => x.to_vec(),
    };
    let x: Vec<f32> = x.iter().map(|v| v.clamp(-65504.0, 65504.0)).collect();
    format.unpack(&format.pack(&x))
}

/// Heads, frames and rows of spans for a coding of the tests' own words, whose scales stay below 0.9 with their guard.
fn coded_shapes() -> impl Strategy<Value = (Shape, usize, u64, Vec<f32>)> {
    (shapes(vec![32]), 0usize..2, any::<u64>()).prop_flat_map(|(s, which, seed)| {
        let n = s.n_queries * s.width();
        (Just(s), Just(which), Just(seed), queries(n))
    })
}

/// Codes up to 3, steps up to 0.9, a zero that is 1.5 steps, centroids up to 1, four of them: before a rotation no part of a
/// value is larger.
const PARTS: f64 = 3.0 * 0.9 + 1.5 * 0.9 + 4.0;

proptest! {
    #![proptest_config(config(16))]

    #[test]
    fn attention_over_exact_rows_is_within_its_bound((s, format, [q, k, v]) in exact_case()) {
        let (k, v) = (kept(format, &k), kept(format, &v));
        let places: Vec<_> = (0..s.n_frames).map(|f| (f as i64 * 7, f as u32)).collect();
        let on = |d: &Device| {
            let upload = |x: &[f32]| d.upload(Purpose::Cache, "page", &format.pack(x)).unwrap();
            let mut positions = table(d, &s);
            positions.set_frames(d, &places);
            let page = Page { k: upload(&k), v: upload(&v), rows: Rows::Plain(format), positions };
            run_on(d, &s, &q, &page)
        };
        let decoded = |all: &[f32]| -> Decoded {
            let (all, s) = (all.to_vec(), s.clone());
            Box::new(move |frame, token, head| {
                let at = ((frame * s.tokens() + token) * s.n_heads + head) * s.head_dim;
                all[at..at + s.head_dim].to_vec()
            })
        };
        let bounds = bounds(&s, &q, &decoded(&k), &decoded(&v), Off::default());
        let want = on(&Device::twin());
        for gpu in gpus() {
            near(&on(&gpu.device), &want, |i| bounds[i])?;
        }
    }

    #[test]
    fn attention_over_coded_rows_is_within_its_bound((s, which, seed, q) in coded_shapes()) {
        // The released coding in one stage, and ours with its rotation, guard and correction.
        let (k, v, bias) = sample_codings()[[0, 10][which]];
        let fit = |c: Coding| Coding { block: c.block.min(s.head_dim), ..c };
        let (k, v): (Coding, Coding) = (fit(k), fit(v));
        let layout = |c| SpanLayout::new(c, s.n_heads, s.head_dim, s.keys(), 5);
        let (lk, lv) = (layout(k), layout(v));
        let (wk, wv) = (words(seed, &lk), words(seed ^ 1, &lv));
        let places: Vec<_> = (0..s.n_frames)
            .map(|f| FramePlace { frame: f as i64, slot: 1, row: (f * s.tokens()) as u32 })
            .collect();
        let on = |d: &Device| {
            let upload = |w: &[u32]| d.upload(Purpose::Spans, "spans", w).unwrap();
            let mut positions = table(d, &s);
            positions.set_places(d, &places);
            let page = Page { k: upload(&wk), v: upload(&wv), rows: Rows::Coded { k: lk, v: lv, bias }, positions };
            run_on(d, &s, &q, &page)
        };
        let decoded = |l: SpanLayout, words: &[u32]| -> Decoded {
            let (span, tokens) = (words[l.words..2 * l.words].to_vec(), s.tokens());
            Box::new(move |frame, token, head| l.row(&span, head, frame * tokens + token))
        };
        let width = s.head_dim as f64;
        let row = U * (6.0 + width.log2() + 1.0) * width.sqrt() * PARTS;
        let off = Off {
            key: row,
            // Rotated sums: as many roundings more as there are keys.
            value: row * (s.keys() as f64 + 2.0),
            // Half a gain up to 0.2, over the energy of a block.
            mass: match bias {
                BiasFix::Off => 0.0,
                _ => 0.1 * U * (width + 6.0),
            },
        };
        let bounds = bounds(&s, &q, &decoded(lk, &wk), &decoded(lv, &wv), off);
        let want = on(&Device::twin());
        for gpu in gpus() {
            near(&on(&gpu.device), &want, |i| bounds[i])?;
        }
    }
}

/// That the bounds say something: where nothing is hostile they are small beside values up to 1.
#[test]
fn bounds_of_ordinary_rows_are_small() {
    let s = Shape {
        head_dim: 32,
        n_heads: 2,
        n_queries: 5,
        grid: (3, 3),
        n_frames: 3,
        rope: true,
    };
    let row = |seed: u64| -> Decoded {
        Box::new(move |frame, token, head| {
            values(seed + (frame * 100 + token * 10 + head) as u64, 32)
        })
    };
    let q = values(1, s.n_queries * s.width());
    let all = bounds(&s, &q, &row(1000), &row(2000), Off::default());
    assert!(all.iter().all(|b| *b < 1e-4), "{all:?}");
}

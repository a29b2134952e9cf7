//! Laws of the norms, of RoPE, of k-means and of the searching grids, over hostile numbers and sizes that no tile divides.
//! How bounds are made: see `properties`.

use longtake::gpu::{Buffer, Device, Purpose};
use longtake::ops::{
    Cluster, Coding, Grid, Norm, NormMode, Positions, RmsNorm, Rope, RopeSplit, ScaleFormat,
    SpanLayout, SpanPlace, kmeans, kmeans_start, norm, residual, rms_norm, rope,
};
use proptest::prelude::*;

use super::properties::{LEAST_NORMAL, U, config, hostile, near, rows, sum_bound, words_of};
use crate::support::{Out, gpus, input, run, values};

const EPS: f32 = 1e-6;

/// (rows, channels), then their values: one row up, quads up to past a workgroup's 64.
fn matrices() -> impl Strategy<Value = ((usize, usize), Vec<f32>)> {
    let quads = prop_oneof![1usize..20, 60usize..70];
    (1usize..5, quads).prop_flat_map(|(m, n)| (Just((m, 4 * n)), rows(m * 4 * n)))
}

/// Numbers of a learned size.
fn weights(n: usize) -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec(prop_oneof![Just(0.0f32), -2.0f32..2.0], n)
}

/// By how much `1 / sqrt(v + eps)` may be off relatively, where `v` is off by `by`: it falls as `v` grows.
fn inverse_root_error(v: f64, by: f64) -> f64 {
    let of = |v: f64| 1.0 / (v.max(0.0) + f64::from(EPS)).sqrt();
    (of(v - by) / of(v) - 1.0).max(1.0 - of(v + by) / of(v))
}

/// WGSL allows `inverseSqrt` 2 ulp, an ulp is up to two units roundoff.
const INVERSE_SQRT: f64 = 4.0 * U;

/// Bound of every value of a plain layer norm of a row.
fn norm_bound(x: &[f32]) -> Vec<f64> {
    let n = x.len() as f64;
    let wide = || x.iter().map(|v| f64::from(*v));
    let mean = wide().sum::<f64>() / n;
    let sizes = wide().map(f64::abs).sum::<f64>() / n;
    let mean_off = sum_bound(x.len() + 1, sizes, 1.0);
    // A difference is off by what the mean is, and rounds.
    let off = |v: f64| mean_off + U * (v.abs() + mean.abs());
    let variance = wide().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let squares_off = wide()
        .map(|v| off(v) * (2.0 * (v - mean).abs() + off(v)))
        .sum::<f64>()
        / n;
    let variance_off = squares_off + sum_bound(x.len() + 1, variance + squares_off, 1.0);
    let inverse = 1.0 / (variance + f64::from(EPS)).sqrt();
    let relative = inverse_root_error(variance, variance_off) + INVERSE_SQRT + 2.0 * U;
    wide()
        .map(|v| {
            let exact = (v - mean).abs() * inverse;
            let bound = (exact + off(v) * inverse) * (1.0 + relative) - exact;
            // No value of a row of n is more than sqrt(n) standard deviations from the mean, however it was rounded.
            bound.min(2.0 * n.sqrt())
        })
        .collect()
}

#[derive(Clone, Copy, Debug)]
enum Mode {
    Plain,
    Affine,
    Modulate,
}

fn norm_on(d: &Device, x: &[f32], w: &[f32], channels: usize, mode: Mode) -> Vec<f32> {
    let out = Out::unwritten(d, x.len());
    let (x, w) = (input(d, x), input(d, w));
    let mode = match mode {
        Mode::Plain => NormMode::Plain,
        Mode::Affine => NormMode::Affine { weight_bias: &w },
        // Table and conditioning are the same two rows; every row is a frame of the one conditioning.
        Mode::Modulate => NormMode::Modulate {
            table: &w,
            cond: &w,
            cond_vectors: 2,
            shift: (1, 1),
            scale: (0, 0),
        },
    };
    let n_rows = x.len() / channels;
    let args = Norm {
        x: &x,
        y: &out.buffer,
        n_rows,
        channels,
        rows_per_frame: n_rows,
        eps: EPS,
        mode,
    };
    run(d, |rec| norm(rec, &args));
    out.read(d)
}

fn rope_on(d: &Device, x: &[f32], c: &Turn) -> Vec<f32> {
    let mut positions = Positions::new(d, c.split, 1e4, c.grid.0, c.grid.1).unwrap();
    let places: Vec<_> = c
        .frames
        .iter()
        .enumerate()
        .map(|(i, f)| (*f, i as u32))
        .collect();
    positions.set_frames(d, &places);
    let out = Out::holding(d, x);
    let args = Rope {
        x: &out.buffer,
        positions: &positions,
        n_heads: c.n_heads,
        row_stride: c.n_heads * c.split.head_dim(),
    };
    run(d, |rec| rope(rec, &args));
    out.read(d)
}

#[derive(Clone, Debug)]
struct Turn {
    split: RopeSplit,
    n_heads: usize,
    grid: (usize, usize),
    frames: Vec<i64>,
}

/// Heads, grids and frames with their values, one token and one head among them.
fn turns() -> impl Strategy<Value = (Turn, Vec<f32>)> {
    let head = proptest::sample::select(vec![8usize, 20, 32, 64]);
    let frames = proptest::collection::vec(-3i64..100_000, 1..4);
    (head, 1usize..4, (1usize..4, 1usize..5), frames).prop_flat_map(|(d, h, grid, frames)| {
        let n = frames.len() * grid.0 * grid.1 * h * d;
        let turn = Turn {
            split: RopeSplit::wan(d),
            n_heads: h,
            grid,
            frames,
        };
        (Just(turn), rows(n))
    })
}

/// Rows to cluster: heads, tokens, centroids. More centroids than tokens are among them.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    heads: usize,
    tokens: usize,
    centroids: usize,
}

const HEAD_DIM: usize = 32;

fn sizes() -> impl Strategy<Value = Sizes> {
    (1usize..3, 1usize..40, 1usize..12).prop_map(|(heads, tokens, centroids)| Sizes {
        heads,
        tokens,
        centroids,
    })
}

fn to_cluster(one: impl Strategy<Value = f32> + Clone) -> impl Strategy<Value = (Sizes, Vec<f32>)> {
    sizes().prop_flat_map(move |s| {
        let n = s.heads * s.tokens * HEAD_DIM;
        (Just(s), proptest::collection::vec(one.clone(), n))
    })
}

/// What a round of k-means leaves.
struct Clustered {
    layout: SpanLayout,
    ids: Vec<usize>,
    order: Vec<u32>,
    ranges: Vec<u32>,
    /// Stored centroids, `[head, centroid, channel]`.
    table: Vec<f32>,
    rows: Vec<f32>,
}

fn cluster_on(d: &Device, s: Sizes, x: &[f32]) -> Clustered {
    let coding = Coding {
        bits: 2,
        block: 32,
        stages: 1,
        ..Coding::HALVES
    };
    let layout = SpanLayout::new(coding, s.heads, HEAD_DIM, s.tokens, s.centroids);
    let rows = Out::holding(d, x);
    let words = Out::holding(d, &vec![0xffff_ffffu32; layout.words]);
    let order = Out::<u32>::unwritten(d, s.heads * s.tokens);
    let ranges = Out::<u32>::unwritten(d, 2 * s.heads * s.centroids);
    let cents: Buffer<f32> = input(d, &vec![f32::NAN; s.heads * s.centroids * HEAD_DIM]);
    let changed = d.zeros(Purpose::Scratch, "changed", 4).unwrap();
    let args = Cluster {
        x: &rows.buffer,
        first_head: 0,
        n_heads: s.heads,
        span: SpanPlace {
            words: &words.buffer,
            base: 0,
            layout,
        },
        stage: 0,
        cents: &cents,
        order: &order.buffer,
        ranges: &ranges.buffer,
        changed: &changed,
        bf16: false,
    };
    run(d, |rec| {
        kmeans_start(rec, &args, None);
        kmeans(rec, &args, 1, 0.0);
        residual(rec, &args);
    });
    let words = words.read(d);
    let id = |i: usize| (words[layout.ids_at + i / 4] >> (8 * (i % 4)) & 255) as usize;
    let all = (0..s.heads).flat_map(|h| (0..s.tokens).map(move |t| h * layout.rows + t));
    let halves = |w: &u32| [w << 16, w & 0xffff_0000].map(f32::from_bits);
    let n_table = s.heads * s.centroids * HEAD_DIM / 2;
    Clustered {
        layout,
        ids: all.map(id).collect(),
        order: order.read(d),
        ranges: ranges.read(d),
        table: words[layout.cents_at..][..n_table]
            .iter()
            .flat_map(halves)
            .collect(),
        rows: rows.read(d),
    }
}

/// Members of every cluster as its ids say, in order; where each begins, and how many it has.
fn lists(s: Sizes, ids: &[usize]) -> (Vec<u32>, Vec<u32>) {
    let (mut order, mut ranges) = (Vec::new(), Vec::new());
    for head in ids.chunks_exact(s.tokens) {
        let mut first = 0;
        for c in 0..s.centroids {
            let members: Vec<u32> = (0..s.tokens as u32)
                .filter(|t| head[*t as usize] == c)
                .collect();
            ranges.extend([first, members.len() as u32]);
            first += members.len() as u32;
            order.extend(members);
        }
    }
    (order, ranges)
}

/// First centroids: evenly spaced rows.
fn first_centroid(s: Sizes, x: &[f32], head: usize, c: usize) -> &[f32] {
    let token = (2 * c + 1) * s.tokens / (2 * s.centroids);
    &x[(head * s.tokens + token) * HEAD_DIM..][..HEAD_DIM]
}

/// Grids that search, with what they go with.
fn searching() -> impl Strategy<Value = Coding> {
    let bits = proptest::sample::select(vec![2u32, 3, 4, 8]);
    (bits, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(bits, dual, table, f16)| {
        Coding {
            bits,
            grid: if dual {
                Grid::Dual
            } else {
                Grid::AsymmetricSearch
            },
            block: 32,
            scales: match f16 && !dual {
                true => ScaleFormat::F16,
                false => ScaleFormat::E4m3,
            },
            head_table: table,
            ..Coding::HALVES
        }
    })
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn norm_is_within_the_bound_of_its_row(
        ((m, n), x) in matrices(),
        w in weights(2 * 4 * 70),
        mode in proptest::sample::select(vec![Mode::Plain, Mode::Affine, Mode::Modulate]),
    ) {
        let w = &w[..2 * n];
        let want = norm_on(&Device::twin(), &x, w, n, mode);
        let plain = norm_on(&Device::twin(), &x, w, n, Mode::Plain);
        let bounds: Vec<f64> = x.chunks_exact(n).flat_map(norm_bound).collect();
        for gpu in gpus() {
            let got = norm_on(&gpu.device, &x, w, n, mode);
            near(&got, &want, |i| {
                let (a, b) = (f64::from(w[i % n]), f64::from(w[n + i % n]));
                let (scale, shift) = match mode {
                    Mode::Plain => (1.0, 0.0),
                    Mode::Affine => (a, b),
                    Mode::Modulate => (1.0 + 2.0 * a.abs(), 2.0 * b),
                };
                let size = f64::from(plain[i].abs()) + bounds[i];
                bounds[i] * scale.abs() + 4.0 * U * (size * scale.abs() + shift.abs()) + 4.0 * LEAST_NORMAL
            })?;
        }
        prop_assert_eq!(want.len(), m * n);
    }

    #[test]
    fn rms_norm_is_within_the_bound_of_its_row(((m, n), x) in matrices(), w in weights(4 * 70)) {
        let w = &w[..n];
        let on = |d: &Device| {
            let (out, weight) = (Out::holding(d, &x), input(d, w));
            let args = RmsNorm {
                x: &out.buffer, weight: &weight, n_rows: m, n_parts: 1, channels: n, row_stride: n, eps: EPS,
            };
            run(d, |rec| rms_norm(rec, &args));
            out.read(d)
        };
        let want = on(&Device::twin());
        for gpu in gpus() {
            near(&on(&gpu.device), &want, |i| {
                let row = &x[i / n * n..][..n];
                let mean = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n as f64;
                let largest = row.iter().fold(0f32, |m, v| m.max(v.abs()));
                let off = sum_bound(n + 2, mean, f64::from(largest));
                let relative = inverse_root_error(mean, off) + INVERSE_SQRT + 2.0 * U;
                let inverse = 1.0 / (mean + f64::from(EPS)).sqrt();
                relative * f64::from(want[i].abs()) + 2.0 * LEAST_NORMAL * (1.0 + inverse)
            })?;
        }
    }

    #[test]
    fn rope_is_within_three_roundings((turn, x) in turns()) {
        let want = rope_on(&Device::twin(), &x, &turn);
        for gpu in gpus() {
            near(&rope_on(&gpu.device, &x, &turn), &want, |i| {
                let pair = &x[i / 2 * 2..][..2];
                sum_bound(2, pair.iter().map(|v| f64::from(v.abs())).sum(), 1.0)
            })?;
        }
    }

    /// Of whole numbers every sum is exact, so that every id is the twin's, ties and all; and lists are what ids say.
    #[test]
    fn clusters_of_whole_numbers_are_the_twins((s, x) in to_cluster((-8i32..=8).prop_map(|v| v as f32))) {
        let want = cluster_on(&Device::twin(), s, &x);
        for gpu in gpus() {
            let got = cluster_on(&gpu.device, s, &x);
            prop_assert_eq!(&got.ids, &want.ids, "ids on {}", gpu.label);
            prop_assert_eq!((&got.order, &got.ranges), (&want.order, &want.ranges), "lists on {}", gpu.label);
        }
        prop_assert_eq!((want.order, want.ranges), lists(s, &want.ids));
    }

    /// Of any numbers: no centroid is nearer than the one chosen, but for what rounding may hide; lists are what ids say; a
    /// stored centroid is its cluster's mean to a step of bf16; and a row is left without just what is stored.
    #[test]
    fn clusters_are_nearest_and_means((s, x) in to_cluster(hostile().boxed())) {
        for gpu in gpus() {
            let got = cluster_on(&gpu.device, s, &x);
            prop_assert_eq!((&got.order, &got.ranges), (&lists(s, &got.ids).0, &lists(s, &got.ids).1));
            for (at, row) in x.chunks_exact(HEAD_DIM).enumerate() {
                let (head, id) = (at / s.tokens, got.ids[at]);
                // (score, its bound)
                let score = |c: usize| {
                    let cent = first_centroid(s, &x, head, c);
                    let (mut sum, mut size, mut largest) = (0.0, 0.0, 1.0f64);
                    for (a, b) in row.iter().zip(cent) {
                        let (a, b) = (f64::from(*a), f64::from(*b));
                        sum += b * b - 2.0 * a * b;
                        size += b * b + 2.0 * (a * b).abs();
                        largest = largest.max(a.abs()).max(b.abs());
                    }
                    (sum, sum_bound(2 * HEAD_DIM + 1, size, largest))
                };
                prop_assert!(id < s.centroids);
                let (mine, mine_off) = score(id);
                for c in 0..s.centroids {
                    let (other, off) = score(c);
                    prop_assert!(mine <= other + mine_off + off, "row {} on {}: {} is nearer than {}", at, gpu.label, c, id);
                }
                for (ch, left) in got.rows[at * HEAD_DIM..][..HEAD_DIM].iter().enumerate() {
                    let stored = got.table[(head * s.centroids + id) * HEAD_DIM + ch];
                    let want = row[ch] - stored;
                    let flushed = (f64::from(*left) - f64::from(want)).abs() <= 2.0 * LEAST_NORMAL;
                    prop_assert!(flushed || *left == want, "row {} on {}: {} is left of {}", at, gpu.label, left, row[ch]);
                }
            }
            for (cluster, range) in got.ranges.chunks_exact(2).enumerate() {
                let (first, n) = (range[0] as usize, range[1] as usize);
                let head = cluster / s.centroids;
                let members = &got.order[head * s.tokens + first..][..n];
                for ch in 0..HEAD_DIM {
                    let of = |t: &u32| f64::from(x[(head * s.tokens + *t as usize) * HEAD_DIM + ch]);
                    let (mean, size) = match n {
                        0 => (f64::from(first_centroid(s, &x, head, cluster % s.centroids)[ch]), 0.0),
                        _ => (members.iter().map(of).sum::<f64>() / n as f64,
                              members.iter().map(|t| of(t).abs()).sum::<f64>() / n as f64),
                    };
                    // Division is allowed 2.5 ulp; bf16 has 8 bits.
                    let off = sum_bound(n + 6, size, 1.0);
                    let step = (mean.abs() + off) / 256.0 + LEAST_NORMAL;
                    let stored = f64::from(got.table[cluster * HEAD_DIM + ch]);
                    prop_assert!((stored - mean).abs() <= off + step, "cluster {} on {}: {} for {}", cluster, gpu.label, stored, mean);
                }
            }
            prop_assert_eq!(got.layout.n_centroids, s.centroids);
        }
    }

    /// Codes, scales and guards of grids that search are the twin's; what coding added in energy is a sum of floats.
    #[test]
    fn searched_codes_are_the_twins(
        coding in searching(),
        (n_heads, tokens, x) in (1usize..3, 1usize..14).prop_flat_map(|(h, t)| (Just(h), Just(t), rows(h * t * 32))),
    ) {
        let x: Vec<f32> = x.into_iter().map(|v| if v.abs() < f32::MIN_POSITIVE { 0.0 } else { v }).collect();
        let want = words_of(&Device::twin(), coding, &x, n_heads, tokens);
        let l = SpanLayout::new(coding, n_heads, 32, tokens, 0);
        for gpu in gpus() {
            let got = words_of(&gpu.device, coding, &x, n_heads, tokens);
            for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                // One gain a head behind its guard: blocks are as wide as heads.
                let is_gain = coding.head_table && (l.heads_at..l.heads_at + 2 * n_heads).contains(&i) && (i - l.heads_at) % 2 == 1;
                if !is_gain {
                    prop_assert_eq!(g, w, "word {} of {:?}, {} heads, {} tokens on {}", i, l, n_heads, tokens, gpu.label);
                    continue;
                }
                // Errors of coding are below the largest value; each is a difference, squared, and a sum of all.
                let largest = x.iter().fold(0f32, |m, v| m.max(v.abs()));
                let size = 4.0 * f64::from(largest).powi(2);
                let off = (f64::from(f32::from_bits(*g)) - f64::from(f32::from_bits(*w))).abs();
                prop_assert!(off <= sum_bound(tokens * 32 + 8, size, f64::from(largest)), "gain {} on {}: off by {:e}", i, gpu.label, off);
            }
        }
    }
}

/// That the bound says something: where nothing is hostile it is small beside values about 1.
#[test]
fn the_bound_of_an_ordinary_row_is_small() {
    for n in [4, 64, 260] {
        let bound = norm_bound(&values(n as u64, n));
        assert!(bound.iter().all(|b| *b < 1e-4), "{n}: {bound:?}");
    }
}

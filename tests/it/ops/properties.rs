//! Laws of the ops over hostile numbers and sizes that no tile divides: the twin's result on every device.
//!
//! Bounds come from lengths and types. Let u = 2^-24, f32's unit roundoff. A sum of n products in any order, fused or
//! not, errs by at most (n + 1) u times the sum of the products' magnitudes (Higham, *Accuracy and Stability*, 3.1), plus
//! what flushing may take: WGSL lets a device treat a subnormal as 0, so every product, operand and sum may lose 2^-126
//! times the largest factor. Integers are equal.

use longtake::gpu::{Device, Purpose};
use longtake::ops::{
    Activation, Coding, Grid, KvFormat, KvStore, Linear, Matrix, Quantize, ScaleFormat, SpanLayout,
    SpanPlace, Store, WeightFormat, hadamard_rows, kv_store, linear, mix, quantize,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::support::{Out, gpus, input, run};

pub(super) const U: f64 = 1.0 / (1u64 << 24) as f64;
pub(super) const LEAST_NORMAL: f64 = f32::MIN_POSITIVE as f64;

/// Bound of a sum of `n` products whose magnitudes add up to `magnitudes`, with factors up to `largest`.
pub(super) fn sum_bound(n: usize, magnitudes: f64, largest: f64) -> f64 {
    (n + 1) as f64 * (U * magnitudes + LEAST_NORMAL * largest.max(1.0))
}

/// Zeros of both signs, subnormals, values about f16's ends and about 1, and ordinary ones. No overflow of a sum of them.
pub(super) fn hostile() -> impl Strategy<Value = f32> {
    prop_oneof![
        Just(0.0f32),
        Just(-0.0),
        Just(1e-40),
        Just(-1e-45),
        Just(f32::MIN_POSITIVE),
        Just(5.96e-8),
        Just(-6.1e-5),
        Just(65504.0),
        Just(-65519.0),
        Just(65520.0),
        -1.0f32..1.0,
        -1.0f32..1.0,
        -300.0f32..300.0,
    ]
}

pub(super) fn rows(n: usize) -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec(hostile(), n)
}

/// The same cases in every run, so that a failure comes again; PROPTEST_CASES asks for more of them, drawn anew.
pub(super) fn config(cases: u32) -> ProptestConfig {
    let more = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|v| v.parse().ok());
    ProptestConfig {
        cases: more.unwrap_or(cases),
        rng_seed: match more {
            Some(_) => RngSeed::Random,
            None => RngSeed::Fixed(7),
        },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

pub(super) fn near(
    got: &[f32],
    want: &[f32],
    bound: impl Fn(usize) -> f64,
) -> Result<(), TestCaseError> {
    prop_assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*g) - f64::from(*w)).abs();
        let bound = bound(i) + U * f64::from(w.abs());
        prop_assert!(
            error <= bound,
            "value {}: {:?} for {:?}, off by {:e}, allowed {:e}",
            i,
            g,
            w,
            error,
            bound
        );
    }
    Ok(())
}

fn linear_on(
    d: &Device,
    x: &[f32],
    w: &[f32],
    b: &[f32],
    (m, n, k): (usize, usize, usize),
) -> Vec<f32> {
    let matrix = Matrix {
        weight: d
            .upload(Purpose::Weights, "w", &WeightFormat::F32.pack(w))
            .unwrap(),
        bias: input(d, b),
        n,
        k,
        format: WeightFormat::F32,
    };
    let (x, y) = (input(d, x), Out::unwritten(d, m * n));
    let args = Linear {
        x: &x,
        matrix: &matrix,
        y: &y.buffer,
        n_rows: m,
        act: Activation::None,
        store: Store::Set,
    };
    run(d, |rec| linear(rec, &args));
    y.read(d)
}

/// (rows, outputs, inputs), then x, weights, bias.
type Product = ((usize, usize, usize), Vec<f32>, Vec<f32>, Vec<f32>);

/// Sizes with their values: one row up, quads up to a few, none a multiple of a tile on purpose.
fn products() -> impl Strategy<Value = Product> {
    (1usize..40, 1usize..12, 1usize..24).prop_flat_map(|(m, n, k)| {
        let (n, k) = (4 * n, 4 * k);
        (Just((m, n, k)), rows(m * k), rows(n * k), rows(n))
    })
}

fn codings() -> impl Strategy<Value = Coding> {
    let grids = [
        Grid::Symmetric,
        Grid::Asymmetric,
        Grid::Rtn,
        Grid::MinMax,
        Grid::ZeroPoint,
        Grid::Wide,
    ];
    let scales = [ScaleFormat::E4m3, ScaleFormat::F16];
    (
        proptest::sample::select(vec![2u32, 4, 8]),
        proptest::sample::select(grids.to_vec()),
        proptest::sample::select(scales.to_vec()),
        proptest::sample::select(vec![16usize, 32]),
    )
        .prop_map(|(bits, grid, scales, block)| Coding {
            bits,
            grid,
            scales,
            block,
            ..Coding::HALVES
        })
}

pub(super) fn words_of(
    d: &Device,
    coding: Coding,
    x: &[f32],
    n_heads: usize,
    tokens: usize,
) -> Vec<u32> {
    let layout = SpanLayout::new(coding, n_heads, 32, tokens, 0);
    let x = input(d, x);
    let words = Out::holding(d, &vec![0u32; layout.words]);
    let err = input(d, &vec![0.0; n_heads * layout.rows * 4]);
    let args = Quantize {
        x: &x,
        first_head: 0,
        n_heads,
        span: SpanPlace {
            words: &words.buffer,
            base: 0,
            layout,
        },
        clip: 1.0,
        err: &err,
    };
    run(d, |rec| quantize(rec, &args));
    words.read(d)
}

proptest! {
    #![proptest_config(config(32))]

    #[test]
    fn linear_is_within_the_bound_of_its_length(((m, n, k), x, w, b) in products()) {
        let size = (m, n, k);
        let want = linear_on(&Device::twin(), &x, &w, &b, size);
        for gpu in gpus() {
            let got = linear_on(&gpu.device, &x, &w, &b, size);
            near(&got, &want, |i| {
                let (row, col) = (i / n, i % n);
                let pairs = x[row * k..][..k].iter().zip(&w[col * k..][..k]);
                let sum: f64 = pairs.map(|(a, b)| (f64::from(*a) * f64::from(*b)).abs()).sum();
                let largest = x.iter().chain(&w).fold(0f32, |m, v| m.max(v.abs()));
                sum_bound(k + 1, sum + f64::from(b[col].abs()), f64::from(largest))
            })?;
        }
    }

    #[test]
    fn mix_is_within_two_roundings(x in (1usize..200).prop_flat_map(rows), a in -2.0f32..2.0, b in -2.0f32..2.0) {
        let y: Vec<f32> = x.iter().rev().copied().collect();
        let on = |d: &Device| {
            let (x, y) = (Out::holding(d, &x), input(d, &y));
            run(d, |rec| mix(rec, &x.buffer, &y, a, b));
            x.read(d)
        };
        let want = on(&Device::twin());
        for gpu in gpus() {
            near(&on(&gpu.device), &want, |i| {
                let sum = (f64::from(a) * f64::from(x[i])).abs() + (f64::from(b) * f64::from(y[i])).abs();
                sum_bound(2, sum, 2.0)
            })?;
        }
    }

    #[test]
    fn hadamard_is_within_the_bound_of_its_depth(x in (1usize..20).prop_flat_map(|n| rows(32 * n))) {
        let on = |d: &Device| {
            let out = Out::holding(d, &x);
            run(d, |rec| hadamard_rows(rec, &out.buffer, x.len() / 32, 32));
            out.read(d)
        };
        let want = on(&Device::twin());
        for gpu in gpus() {
            // Five additions deep and one product; the other factor of every term is 1.
            near(&on(&gpu.device), &want, |i| {
                let sum: f64 = x[i / 32 * 32..][..32].iter().map(|v| f64::from(v.abs())).sum();
                sum_bound(6, sum, 1.0)
            })?;
        }
    }

    /// Half floats of values that are no subnormal halves: those may be flushed (`small_halves_keep_their_size`).
    #[test]
    fn stored_halves_are_the_twins(x in (1usize..30).prop_flat_map(|n| rows(8 * n))) {
        let x: Vec<f32> = x.into_iter().map(|v| if v.abs() < 6.2e-5 { 0.0 } else { v }).collect();
        let n_rows = x.len() / 8;
        for format in KvFormat::ALL {
            let on = |d: &Device| {
                let src = input(d, &x);
                let blank = vec![0xdead_beefu32; format.words(x.len())];
                let (k, v) = (Out::holding(d, &blank), Out::holding(d, &blank));
                let args = KvStore {
                    k_src: &src, v_src: &src, at: (0, 0), src_stride: 8, src_row: 0, n_rows, channels: 8,
                    k: &k.buffer, v: &v.buffer, dst_row: 0, format,
                };
                run(d, |rec| kv_store(rec, &args));
                (k.read(d), v.read(d))
            };
            let want = on(&Device::twin());
            for gpu in gpus() {
                prop_assert_eq!(&on(&gpu.device), &want, "{:?} on {}", format, gpu.label);
            }
        }
    }

    /// Codes and scales are integers: equal on every device. Subnormal inputs are left to `quantize`'s own words, since a
    /// device may read them as 0; beyond f16's end scales saturate alike.
    #[test]
    fn codes_and_scales_are_the_twins(
        coding in codings(),
        (n_heads, tokens, x) in (1usize..3, 1usize..14).prop_flat_map(|(h, t)| (Just(h), Just(t), rows(h * t * 32))),
    ) {
        let x: Vec<f32> = x.into_iter().map(|v| if v.abs() < f32::MIN_POSITIVE { 0.0 } else { v }).collect();
        let want = words_of(&Device::twin(), coding, &x, n_heads, tokens);
        for gpu in gpus() {
            let got = words_of(&gpu.device, coding, &x, n_heads, tokens);
            prop_assert_eq!(&got, &want, "{:?}, {} heads, {} tokens on {}", coding, n_heads, tokens, gpu.label);
        }
    }
}

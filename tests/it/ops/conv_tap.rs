use longtake::gpu::{Device, Purpose};
use longtake::ops::{ConvTap, Doubled, TapMatrix, TapSizes, WeightFormat, conv_tap};

use crate::support::{self, Out, Tol, check_twin, input, run, values};

#[derive(Debug, Clone)]
struct Case {
    size: (usize, usize),
    sizes: TapSizes,
    inputs: std::ops::Range<usize>,
    outputs: std::ops::Range<usize>,
    time: usize,
    formats: (WeightFormat, WeightFormat),
    doubled: Option<Doubled>,
    add: bool,
    bias: bool,
}

fn words(device: &Device, format: WeightFormat, values: &[f32]) -> longtake::gpu::Buffer<u32> {
    device
        .upload(Purpose::Activations, "words", &format.pack(values))
        .unwrap()
}

fn outputs(device: &Device, c: &Case) -> Vec<f32> {
    let pixels = c.size.0 * c.size.1;
    let from = c.doubled.map_or(pixels, |d| c.size.0 / 2 * d.rows);
    let s = c.sizes;
    let weights = s.pack(&values(3, s.n * s.k * s.times * s.side * s.side));
    let matrix = TapMatrix {
        weight: words(device, c.formats.1, &weights),
        bias: input(device, &values(4, s.n_pad())),
        sizes: s,
        format: c.formats.1,
    };
    let x = words(device, c.formats.0, &values(1, from * c.inputs.len()));
    let old = values(5, pixels * c.outputs.len());
    let bits: Vec<u32> = old.iter().map(|v| v.to_bits()).collect();
    let y = Out::holding(device, &bits);
    let args = ConvTap {
        x: &x,
        x_format: c.formats.0,
        inputs: c.inputs.clone(),
        matrix: &matrix,
        time: c.time,
        outputs: c.outputs.clone(),
        y: &y.buffer,
        size: c.size,
        doubled: c.doubled,
        add: c.add,
        bias: c.bias,
    };
    run(device, |rec| conv_tap(rec, &args));
    y.read(device).into_iter().map(f32::from_bits).collect()
}

#[test]
fn conv_tap_equals_twin() {
    // Pictures of one pixel, narrow ones, at and past a tile of 32; channels short of, at and past a tile's.
    let sizes = [(1, 1), (1, 5), (7, 1), (8, 4), (5, 13), (16, 12)];
    let kinds = [
        (4, 4, 0..4, 0..4, 3, 3),
        (3, 20, 8..20, 0..4, 3, 3),
        (72, 16, 0..16, 36..72, 1, 3),
        (40, 36, 0..36, 0..40, 3, 1),
    ];
    let all = WeightFormat::FLOATS;
    for (i, size) in sizes.into_iter().enumerate() {
        for (j, (n, k, inputs, outs, times, side)) in kinds.clone().into_iter().enumerate() {
            let case = Case {
                size,
                sizes: TapSizes { n, k, times, side },
                inputs,
                outputs: outs,
                time: (i + j) % times,
                formats: (all[i % 2], all[(i / 2 + j) % 2]),
                // All rows, or those in the middle of a picture that has more.
                doubled: (size.0 % 2 == 0 && j % 2 == 0).then_some(Doubled {
                    rows: size.1.div_ceil(2) + j,
                    first: j,
                }),
                add: (i + j) % 2 == 0,
                bias: (i / 2 + j) % 2 == 0,
            };
            let n = side * side * k;
            check_twin(&format!("{case:?}"), Tol::sums(n), |d| {
                vec![outputs(d, &case)]
            });
        }
    }
}

/// A doubled picture in one piece and in bands of rows, odd ones too: every sum is the same.
#[test]
fn rows_of_a_doubled_picture_are_those_of_the_whole() {
    let Some(device) = support::device() else {
        return;
    };
    let (width, rows, n) = (6, 4, 8);
    let band = |from: usize, to: usize| {
        let case = Case {
            size: (width, to - from),
            sizes: TapSizes {
                n,
                k: 12,
                times: 1,
                side: 3,
            },
            inputs: 0..12,
            outputs: 0..n,
            time: 0,
            formats: (WeightFormat::F32, WeightFormat::F16),
            doubled: Some(Doubled { rows, first: from }),
            add: false,
            bias: true,
        };
        outputs(device, &case)
    };
    let whole = band(0, 2 * rows);
    for edges in [[0, 3, 4, 8], [0, 1, 7, 8], [0, 2, 5, 8]] {
        let bands = edges.windows(2).flat_map(|e| band(e[0], e[1]));
        assert_eq!(bands.collect::<Vec<f32>>(), whole, "{edges:?}");
    }
}

/// A kernel with a single 1 moves the picture by a place at its time, and what comes in from outside is 0.
#[test]
fn taps_of_a_time_lie_where_they_should() {
    let device = Device::twin();
    let (width, height) = (3, 2);
    let sizes = TapSizes {
        n: 1,
        k: 4,
        times: 3,
        side: 3,
    };
    for at in 0..27 {
        let mut weights = vec![0.0; 4 * 27];
        weights[at] = 1.0;
        let format = WeightFormat::F32;
        let matrix = TapMatrix {
            weight: words(&device, format, &sizes.pack(&weights)),
            bias: input(&device, &[0.0; 4]),
            sizes,
            format,
        };
        let picture: Vec<f32> = (0..6)
            .flat_map(|i| [(i + 1) as f32, 9.0, 9.0, 9.0])
            .collect();
        let x = words(&device, format, &picture);
        for time in 0..3 {
            let y = Out::unwritten(&device, 24);
            let args = ConvTap {
                x: &x,
                x_format: format,
                inputs: 0..4,
                matrix: &matrix,
                time,
                outputs: 0..4,
                y: &y.buffer,
                size: (width, height),
                doubled: None,
                add: false,
                bias: true,
            };
            run(&device, |rec| conv_tap(rec, &args));
            let tap = at % 9;
            let (down, right) = ((tap / 3) as i32 - 1, (tap % 3) as i32 - 1);
            for (i, got) in y.read(&device).chunks_exact(4).enumerate() {
                let (r, c) = ((i / width) as i32 + down, (i % width) as i32 + right);
                let inside = (0..height as i32).contains(&r) && (0..width as i32).contains(&c);
                let want = if inside && time == at / 9 {
                    (r * width as i32 + c + 1) as f32
                } else {
                    0.0
                };
                let got: Vec<f32> = got.iter().map(|w: &u32| f32::from_bits(*w)).collect();
                assert_eq!(
                    got,
                    [want, 0.0, 0.0, 0.0],
                    "tap {at}, time {time}, pixel {i}"
                );
            }
        }
    }
}

use longtake::ops::{Norm, NormMode, norm};

use crate::support::{Out, Tol, check_twin, input, run, values};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Plain,
    Modulate,
    Affine,
}

fn check(case: &str, mode: Mode, x: &[f32], channels: usize, rows_per_frame: usize) {
    let n_rows = x.len() / channels;
    let frames = n_rows.div_ceil(rows_per_frame);
    let (table, cond) = (values(2, 6 * channels), values(3, frames * 7 * channels));
    let weight_bias = values(4, 2 * channels);
    // The mean and the variance each are one sum over the row; the rest is elementwise.
    check_twin(
        &format!("{case}, {mode:?}, {n_rows} x {channels}"),
        Tol::sums(channels),
        |device| {
            let (x, y) = (input(device, x), Out::unwritten(device, n_rows * channels));
            let (table, cond) = (input(device, &table), input(device, &cond));
            let weight_bias = input(device, &weight_bias);
            let mode = match mode {
                Mode::Plain => NormMode::Plain,
                Mode::Modulate => NormMode::Modulate {
                    table: &table,
                    cond: &cond,
                    cond_vectors: 7,
                    shift: (3, 1),
                    scale: (4, 6),
                },
                Mode::Affine => NormMode::Affine {
                    weight_bias: &weight_bias,
                },
            };
            let args = Norm {
                x: &x,
                y: &y.buffer,
                n_rows,
                channels,
                rows_per_frame,
                eps: 1e-6,
                mode,
            };
            run(device, |rec| norm(rec, &args));
            vec![y.read(device)]
        },
    );
}

#[test]
fn norm_equals_twin() {
    for mode in [Mode::Plain, Mode::Modulate, Mode::Affine] {
        // One quad; a quad short of, at and past a workgroup; the demo's width; Wan's.
        for (n_rows, channels) in [(1, 4), (3, 252), (5, 256), (5, 260), (49, 192), (2, 1536)] {
            let x: Vec<f32> = values(1, n_rows * channels)
                .into_iter()
                .map(|v| 3.0 * v + 0.5)
                .collect();
            check("norm", mode, &x, channels, 2);
        }
    }
}

#[test]
fn norm_of_constant_and_large_rows_stays_finite() {
    // A constant row has no variance: only eps keeps it finite, and the mean of a power of two is exact.
    for value in [0.0, -0.0, 0.25, 1024.0] {
        check("constant", Mode::Modulate, &vec![value; 3 * 128], 128, 1);
    }
    let large: Vec<f32> = values(5, 4 * 128)
        .into_iter()
        .map(|v| 65504.0 * v)
        .collect();
    check("large", Mode::Affine, &large, 128, 4);
    let small: Vec<f32> = values(6, 4 * 128).into_iter().map(|v| 1e-30 * v).collect();
    check("small", Mode::Plain, &small, 128, 4);
}

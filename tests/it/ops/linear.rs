use longtake::gpu::{Device, Purpose};
use longtake::ops::{Activation, Linear, Matrix, Store, WeightFormat, linear, linear_rows};

use crate::support::{Out, Tol, bits, check_twin, gpus, input, run, values};

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Set,
    Add,
    AddGated,
    Multiply,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    n_rows: usize,
    n: usize,
    k: usize,
    format: WeightFormat,
    act: Activation,
    how: How,
}

fn matrix(device: &Device, n: usize, k: usize, format: WeightFormat) -> Matrix {
    // Rows of unit size, as trained matrices have about: sums stay near 1.
    let size = (3.0 / k as f32).sqrt();
    let w: Vec<f32> = values(2, n * k).into_iter().map(|v| size * v).collect();
    let weight = device
        .upload(Purpose::Weights, "weight", &format.pack(&w))
        .unwrap();
    let bias = device
        .upload(Purpose::Weights, "bias", &values(3, n))
        .unwrap();
    Matrix {
        weight,
        bias,
        n,
        k,
        format,
    }
}

fn outputs(device: &Device, c: Case) -> Vec<Vec<f32>> {
    outputs_in_bands(device, c, c.n_rows)
}

/// As [`outputs`], with so many rows of y a call, each of a copy of x that begins elsewhere.
fn outputs_in_bands(device: &Device, c: Case, band: usize) -> Vec<Vec<f32>> {
    const ROWS_PER_FRAME: usize = 6;
    const VECTORS: usize = 3;
    let matrix = matrix(device, c.n, c.k, c.format);
    let x = input(device, &values(1, c.n_rows * c.k));
    let y = match c.how {
        How::Set => Out::unwritten(device, c.n_rows * c.n),
        _ => Out::holding(device, &values(4, c.n_rows * c.n)),
    };
    let table = input(device, &values(5, 6 * c.n));
    let cond = input(
        device,
        &values(6, c.n_rows.div_ceil(ROWS_PER_FRAME) * VECTORS * c.n),
    );
    let store = match c.how {
        How::Set => Store::Set,
        How::Add => Store::Add,
        How::Multiply => Store::Multiply,
        How::AddGated => Store::AddGated {
            table: &table,
            cond: &cond,
            cond_vectors: VECTORS,
            gate: (5, 2),
            rows_per_frame: ROWS_PER_FRAME,
        },
    };
    let args = Linear {
        x: &x,
        matrix: &matrix,
        y: &y.buffer,
        n_rows: c.n_rows,
        act: c.act,
        store,
    };
    if band == c.n_rows {
        run(device, |rec| linear(rec, &args));
        return vec![y.read(device)];
    }
    for (i, first) in (0..c.n_rows).step_by(band).enumerate() {
        let n_rows = band.min(c.n_rows - first);
        let mut copy = vec![f32::NAN; i * c.k];
        copy.extend(&values(1, c.n_rows * c.k)[first * c.k..][..n_rows * c.k]);
        let copy = input(device, &copy);
        let (x, x_row) = if i % 2 == 0 { (&x, first) } else { (&copy, i) };
        let args = Linear { x, n_rows, ..args };
        run(device, |rec| linear_rows(rec, &args, [x_row, first]));
    }
    vec![y.read(device)]
}

/// Bands begin inside a frame's rows here: frames are counted from the first row of y.
#[test]
fn bands_of_rows_are_the_whole_to_the_bit() {
    for how in [How::Set, How::Add, How::AddGated, How::Multiply] {
        for format in WeightFormat::ALL {
            let case = Case {
                n_rows: 75,
                n: 36,
                k: 96,
                format,
                act: Activation::GeluTanh,
                how,
            };
            for band in [32, 9] {
                let name = format!("{case:?} in bands of {band}");
                check_twin(&name, Tol::sums(case.k), |device| {
                    outputs_in_bands(device, case, band)
                });
                for gpu in gpus() {
                    let [whole, parts] = [case.n_rows, band]
                        .map(|band| bits(outputs_in_bands(&gpu.device, case, band).remove(0)));
                    assert_eq!(whole, parts, "{name}, {}", gpu.label);
                }
            }
        }
    }
}

#[test]
fn linear_equals_twin_in_every_shape() {
    let hows = [How::Set, How::Add, How::AddGated, How::Multiply];
    let acts = [Activation::None, Activation::GeluTanh, Activation::Silu];
    // Around the tiles' edges: 8 and 16 rows, 32 rows and columns, 4 quads of k.
    let mut i = 0;
    for n_rows in [1, 7, 8, 16, 17, 48, 63] {
        for n in [4, 32, 36, 100, 192] {
            for k in [4, 44, 192, 256] {
                let format = WeightFormat::ALL[(i + i / 4) % 4].for_width(k);
                let case = Case {
                    n_rows,
                    n,
                    k,
                    format,
                    act: acts[i % 3],
                    how: hows[i / 3 % 4],
                };
                check_twin(&format!("{case:?}"), Tol::sums(k), |device| {
                    outputs(device, case)
                });
                i += 1;
            }
        }
    }
}

#[test]
fn linear_equals_twin_with_every_activation_and_store() {
    for format in WeightFormat::ALL {
        for act in [Activation::None, Activation::GeluTanh, Activation::Silu] {
            for how in [How::Set, How::Add, How::AddGated, How::Multiply] {
                // Rows of 44 are no whole blocks.
                let k = if format == format.for_width(44) {
                    44
                } else {
                    96
                };
                let case = Case {
                    n_rows: 17,
                    n: 36,
                    k,
                    format,
                    act,
                    how,
                };
                check_twin(&format!("{case:?}"), Tol::sums(k), |device| {
                    outputs(device, case)
                });
            }
        }
    }
}

#[test]
fn activations_stay_finite_far_out() {
    // x W^T is 0, so the bias alone goes through the activation.
    let far = [
        -1e9, -3e4, -100.0, -90.0, -20.0, -9.0, 0.0, 9.0, 20.0, 88.0, 100.0, 3e4,
    ];
    for act in [Activation::GeluTanh, Activation::Silu] {
        for (i, u) in far.into_iter().enumerate() {
            check_twin(
                &format!("{act:?}({u})"),
                Tol {
                    nmse: f64::INFINITY,
                    max: f64::INFINITY,
                },
                |device| {
                    let mut matrix = matrix(device, 4, 4, WeightFormat::F32);
                    matrix.bias = input(device, &[u; 4]);
                    let (x, y) = (input(device, &[0.0; 4]), Out::unwritten(device, 4));
                    let args = Linear {
                        x: &x,
                        matrix: &matrix,
                        y: &y.buffer,
                        n_rows: 1,
                        act,
                        store: Store::Set,
                    };
                    run(device, |rec| linear(rec, &args));
                    let y = y.read(device);
                    let want = u.max(0.0);
                    assert!(
                        (y[0] - want).abs() <= 2e-3 + 1e-6 * u.abs(),
                        "{i}: {act:?}({u}) = {}",
                        y[0]
                    );
                    vec![y]
                },
            );
        }
    }
}

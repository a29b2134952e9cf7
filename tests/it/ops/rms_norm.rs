use longtake::ops::{RmsNorm, rms_norm};

use crate::support::{Out, Tol, check_twin, input, run, values};

#[test]
fn rms_norm_equals_twin() {
    // (rows, parts, channels, stride): q alone; q and k beside v; a part short of, at and past a workgroup of quads.
    for (n_rows, n_parts, channels, row_stride) in [
        (1, 1, 4, 4),
        (3, 1, 64, 72),
        (48, 2, 192, 576),
        (7, 2, 252, 504),
        (7, 2, 256, 512),
        (5, 2, 260, 600),
        (2, 1, 1536, 4608),
    ] {
        let (x, weight) = (
            values(1, n_rows * row_stride),
            values(2, n_parts * channels),
        );
        check_twin(
            &format!("rms_norm {n_rows} x {n_parts} x {channels}"),
            Tol::sums(channels),
            |device| {
                let (x, weight) = (Out::holding(device, &x), input(device, &weight));
                let args = RmsNorm {
                    x: &x.buffer,
                    weight: &weight,
                    n_rows,
                    n_parts,
                    channels,
                    row_stride,
                    eps: 1e-6,
                };
                run(device, |rec| rms_norm(rec, &args));
                vec![x.read(device)]
            },
        );
    }
}

#[test]
fn rms_norm_of_zeros_is_zero_and_of_large_rows_finite() {
    let weight = values(2, 64);
    for (case, x) in [
        ("zeros", vec![0.0; 64]),
        (
            "large",
            values(3, 64).into_iter().map(|v| v * 65504.0).collect(),
        ),
    ] {
        check_twin(case, Tol::sums(64), |device| {
            let (x, weight) = (Out::holding(device, &x), input(device, &weight));
            let args = RmsNorm {
                x: &x.buffer,
                weight: &weight,
                n_rows: 1,
                n_parts: 1,
                channels: 64,
                row_stride: 64,
                eps: 1e-6,
            };
            run(device, |rec| rms_norm(rec, &args));
            vec![x.read(device)]
        });
    }
}

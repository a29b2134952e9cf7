use longtake::gpu::{Buffer, Device, Purpose};
use longtake::ops::{ChannelNorm, WeightFormat, channel_norm};

use crate::support::{Out, Tol, check_twin, input, run, values};

/// (pixels, channels, buffers), whether there is a norm, and SiLU.
fn outputs(
    device: &Device,
    (n_pixels, channels, parts): (usize, usize, usize),
    norm: bool,
    silu: bool,
    format: WeightFormat,
) -> Vec<f32> {
    let n = n_pixels * channels / parts;
    let gamma = input(device, &values(7, channels));
    let x: Vec<Buffer<u32>> = (0..parts)
        .map(|i| {
            let bits: Vec<u32> = values(i as u64, n).iter().map(|v| v.to_bits()).collect();
            device.upload(Purpose::Activations, "x", &bits).unwrap()
        })
        .collect();
    let words = format.packed_bytes(n) / 4;
    let y: Vec<Out<u32>> = (0..parts).map(|_| Out::unwritten(device, words)).collect();
    let sums = device
        .zeros(Purpose::Activations, "sums", n_pixels)
        .unwrap();
    let args = ChannelNorm {
        x: x.iter().collect(),
        gamma: norm.then_some(&gamma),
        sums: &sums,
        y: y.iter().map(|y| &y.buffer).collect(),
        y_format: format,
        channels,
        n_pixels,
        silu,
    };
    run(device, |rec| channel_norm(rec, &args));
    y.iter()
        .flat_map(|y| format.unpack(&y.read(device)))
        .collect()
}

#[test]
fn channel_norm_equals_twin() {
    for (i, sizes) in [(1, 4, 1), (65, 8, 2), (7, 96, 2), (64, 36, 3), (130, 20, 1)]
        .into_iter()
        .enumerate()
    {
        for (norm, silu) in [(true, true), (true, false), (false, false)] {
            let case = format!("{sizes:?}, norm {norm}, silu {silu}");
            check_twin(&case, Tol::sums(sizes.1), |d| {
                vec![outputs(d, sizes, norm, silu, WeightFormat::F32)]
            });
            // A half that lies between two may go either way: one unit in its last place.
            let half = outputs(&Device::twin(), sizes, norm, silu, WeightFormat::F16);
            let full = outputs(&Device::twin(), sizes, norm, silu, WeightFormat::F32);
            for (h, f) in half.iter().zip(&full) {
                assert!(
                    (h - f).abs() <= f.abs() / 1024.0 + 1e-7,
                    "{case} {i}: {h} for {f}"
                );
            }
            for gpu in crate::support::gpus() {
                let got = outputs(&gpu.device, sizes, norm, silu, WeightFormat::F16);
                for (g, f) in got.iter().zip(&full) {
                    assert!(
                        (g - f).abs() <= f.abs() / 512.0 + 1e-6,
                        "{} {case}: {g} for {f}",
                        gpu.label
                    );
                }
            }
        }
    }
}

//! Wan's own decoder, fed one latent frame at a time or several: the same frames, layers and kept pasts.

use std::collections::BTreeMap;
use std::path::Path;

use longtake::decode::{Decoder as _, WanOptions, WanShape, WanVae};
use longtake::gpu::{Device, Purpose};
use longtake::ops::{
    ChannelNorm, ConvTap, TapMatrix, TapSizes, WeightFormat, channel_norm, conv_tap,
};
use longtake::weights::Weights;

use super::check::Check;

/// Latent frames after which the reference's caches are recorded.
const CACHED: usize = 3;

/// Layers, pasts and frames. `None` when an input is not there.
pub fn layers(
    check: &mut Check,
    weights: &Path,
    device: &Device,
    layout: &WanOptions,
) -> Option<()> {
    let weights = Weights::open(weights).unwrap();
    let [n, channels, rows, cols] = check.shape("latents")?[..] else {
        panic!("latents [frame, channel, row, column]")
    };
    let latents = check.reals("latents")?;
    let one = channels * rows * cols;
    let shape = WanShape::read(&weights).unwrap();
    let plan = shape.bytes((rows, cols), layout);
    // The shared device holds other tests' buffers, a twin nothing else.
    let own = Device::twin();
    let first = WanVae::load(&own, &weights, (rows, cols), layout).unwrap();
    assert_eq!(own.ledger().bytes(Purpose::Weights), plan.weights);
    assert_eq!(own.ledger().bytes(Purpose::Activations), plan.activations);
    assert_eq!(own.ledger().total(), plan.weights + plan.activations);
    drop(first);

    let mut decoder = WanVae::load(device, &weights, (rows, cols), layout).unwrap();
    // Every name's frames, in the order of time; `z_*` over all latent frames.
    let mut inputs: BTreeMap<String, Vec<Vec<f32>>> = BTreeMap::new();
    let mut raw = Vec::new();
    let mut seen = Vec::new();
    for (f, latent) in latents.chunks_exact(one).enumerate() {
        let mut log: BTreeMap<String, Vec<Vec<f32>>> = BTreeMap::new();
        let mut sink = |name: &str, values: Vec<f32>| {
            log.entry(name.to_owned()).or_default().push(values);
        };
        let frames = decoder.raw(latent, Some(&mut sink)).unwrap();
        log.insert("out".to_owned(), frames.clone());
        raw.extend(frames);
        for (name, frames) in log {
            if name.starts_with("z_") {
                inputs.entry(name).or_default().extend(frames);
                continue;
            }
            let name = format!("f{f}.{name}");
            if let Some(shape) = check.shape(&name) {
                check.real(&name, &channels_first(&frames, shape[0]));
                seen.push(name);
            }
        }
        // Layers behind a cut are nowhere whole.
        let hidden = |n: &String| n.starts_with(&format!("f{f}.")) && !seen.contains(n);
        if 1 < layout.bands {
            for name in check.names().into_iter().filter(hidden) {
                let _ = check.input(&name);
            }
        }
        if f + 1 == CACHED {
            let mut slots = 0;
            while let Some(past) = decoder.past(slots).unwrap() {
                let name = format!("cache_after_f2.{slots}");
                if check.has(&name) {
                    check.real(&name, &past);
                }
                slots += 1;
            }
            check.exact("cache_count", &[slots as i64]);
        }
    }
    for (name, frames) in inputs {
        check.real(&name, &channels_first(&frames, channels));
    }
    let pixels: Vec<f32> = raw.concat().iter().map(|v| v.clamp(-1.0, 1.0)).collect();
    check.real("pixels", &pixels);

    // In calls as the reference's, the frames are the same to the bit.
    let mut decoder = WanVae::load(device, &weights, (rows, cols), layout).unwrap();
    let mut sizes = Vec::new();
    let mut frames = Vec::new();
    for range in [0..2, 2..3, 3..n] {
        let some = decoder.decode(&latents[range.start * one..range.end * one]);
        let some = some.unwrap().unwrap();
        sizes.push(some.len() as i64);
        frames.extend(some);
    }
    check.exact("chunk_sizes", &sizes);
    assert_eq!(frames.len(), raw.len());
    for (frame, raw) in frames.iter().zip(&raw) {
        assert_eq!(frame.rgb, levels(raw), "frames of several calls");
    }
    // A variant whose film begins otherwise; this decoder follows the batch reference.
    let _ = check.input("demo_pixels");
    Some(())
}

/// The pictures of a roll-out. `None` when an input is not there.
pub fn film(check: &mut Check, weights: &Path, device: &Device, layout: &WanOptions) -> Option<()> {
    let weights = Weights::open(weights).unwrap();
    let [n, channels, rows, cols] = check.shape("latents")?[..] else {
        panic!("latents [frame, channel, row, column]")
    };
    let latents = check.reals("latents")?;
    let one = channels * rows * cols;
    let mut decoder = WanVae::load(device, &weights, (rows, cols), layout).unwrap();
    let mut raw = Vec::new();
    for latent in latents.chunks_exact(one) {
        raw.extend(decoder.raw(latent, None).unwrap());
    }
    let unit = |v: &f32| (v.clamp(-1.0, 1.0) * 0.5 + 0.5).clamp(0.0, 1.0);
    let n_first = check.shape("video_f32_first5")?[0];
    let first: Vec<f32> = raw[..n_first].concat().iter().map(unit).collect();
    check.real("video_f32_first5", &first);

    // A chunk of three frames after the other, as a film is made.
    let mut decoder = WanVae::load(device, &weights, (rows, cols), layout).unwrap();
    let mut levels = Vec::new();
    for chunk in latents.chunks(3 * one) {
        let frames = decoder.decode(chunk).unwrap().unwrap();
        levels.extend(frames.into_iter().flat_map(|f| f.rgb));
    }
    let want = check.ints("video_u8")?;
    assert_eq!(levels.len(), want.len(), "{n} latent frames");
    let off = |(got, want): (&u8, &i64)| (i64::from(*got) - want).abs();
    let off: Vec<i64> = levels.iter().zip(&want).map(off).collect();
    assert!(off.iter().all(|d| *d <= 1), "more than a level off");
    let share = off.iter().sum::<i64>() as f64 / off.len() as f64;
    assert!(share < 1e-3, "{share} of the values are a level off");
    // What comes before the latents is the text encoder's and the roll-out's.
    for name in check.names() {
        let head = name.split('.').next().unwrap_or_default();
        let chunk = head
            .strip_prefix('c')
            .is_some_and(|n| n.parse::<u32>().is_ok());
        if chunk || ["ids", "mask", "noise", "prompt_embeds"].contains(&head) {
            let _ = check.input(&name);
        }
    }
    Some(())
}

/// The decoder's ops by themselves.
pub fn ops(check: &mut Check, device: &Device) {
    if conv(check, device).is_none() || norms(check, device).is_none() {
        check.stop();
    }
    // The set has other networks' ops too.
    for name in check.names() {
        let ours = name.starts_with("conv.") || name.starts_with("norm.") && name.contains("vae");
        if !ours {
            let _ = check.input(&name);
        }
    }
}

fn conv(check: &mut Check, device: &Device) -> Option<()> {
    let [k, frames, rows, cols] = check.shape("conv.x")?[..] else {
        panic!("conv.x [channel, frame, row, column]")
    };
    let n = check.shape("conv.weight")?[0];
    let (x, weight) = (check.reals("conv.x")?, check.reals("conv.weight")?);
    let mut bias = check.reals("conv.bias")?;
    let (pixels, k_pad) = (rows * cols, k.next_multiple_of(4));
    let sizes = TapSizes {
        n,
        k: k_pad,
        times: 3,
        side: 3,
    };
    // The op's inputs are padded with channels of zeros.
    let wide: Vec<f32> = weight
        .chunks_exact(k * 27)
        .flat_map(|row| {
            let mut row = row.to_vec();
            row.resize(k_pad * 27, 0.0);
            row
        })
        .collect();
    bias.resize(sizes.n_pad(), 0.0);
    let format = WeightFormat::F32;
    let upload = |values: &[f32]| {
        device
            .upload::<u32>(Purpose::Activations, "x", &format.pack(values))
            .unwrap()
    };
    let matrix = TapMatrix {
        weight: upload(&sizes.pack(&wide)),
        bias: device.upload(Purpose::Weights, "bias", &bias).unwrap(),
        sizes,
        format,
    };
    let mut out = Vec::new();
    for frame in 0..frames {
        let y = device
            .zeros::<u32>(Purpose::Activations, "y", pixels * sizes.n_pad())
            .unwrap();
        let mut rec = device.recorder();
        let mut begun = false;
        for time in 0..3 {
            let Some(at) = (frame + time).checked_sub(2) else {
                continue;
            };
            let value = |i: usize| {
                let (pixel, c) = (i / k_pad, i % k_pad);
                if c < k {
                    x[(c * frames + at) * pixels + pixel]
                } else {
                    0.0
                }
            };
            let picture: Vec<f32> = (0..pixels * k_pad).map(value).collect();
            let tap = ConvTap {
                x: &upload(&picture),
                x_format: format,
                inputs: 0..k_pad,
                matrix: &matrix,
                time,
                outputs: 0..sizes.n_pad(),
                y: &y,
                size: (cols, rows),
                doubled: None,
                add: begun,
                bias: !begun,
            };
            conv_tap(&mut rec, &tap);
            begun = true;
        }
        device.run(rec).unwrap();
        let values = format.unpack(&device.read_all(&y).unwrap());
        let plane = |c: usize| values.iter().skip(c).step_by(sizes.n_pad()).copied();
        out.push((0..n).flat_map(plane).collect::<Vec<f32>>());
    }
    check.real("conv.out", &channels_first(&out, n));
    Some(())
}

fn norms(check: &mut Check, device: &Device) -> Option<()> {
    let gamma = check.reals("norm.vae_gamma")?;
    let n = gamma.len();
    let gamma = device.upload(Purpose::Weights, "gamma", &gamma).unwrap();
    for name in check.names() {
        let Some(set) = name.strip_suffix(".vae_x") else {
            continue;
        };
        let x = check.reals(&name)?;
        let pixels = x.len() / n;
        let rows: Vec<u32> = (0..x.len())
            .map(|i| x[i % n * pixels + i / n].to_bits())
            .collect();
        let x = device.upload(Purpose::Activations, "x", &rows).unwrap();
        let y = device
            .zeros::<u32>(Purpose::Activations, "y", rows.len())
            .unwrap();
        let sums = device.zeros(Purpose::Activations, "sums", pixels).unwrap();
        let mut rec = device.recorder();
        let norm = ChannelNorm {
            x: vec![&x],
            gamma: Some(&gamma),
            sums: &sums,
            y: vec![&y],
            y_format: WeightFormat::F32,
            channels: n,
            n_pixels: pixels,
            silu: false,
        };
        channel_norm(&mut rec, &norm);
        device.run(rec).unwrap();
        let got = device.read_all(&y).unwrap();
        let got: Vec<f32> = (0..got.len())
            .map(|i| f32::from_bits(got[i % pixels * n + i / pixels]))
            .collect();
        check.real(&format!("{set}.vae"), &got);
    }
    Some(())
}

/// Frames `[channel, pixel]` as `[channel, frame, pixel]`.
fn channels_first(frames: &[Vec<f32>], channels: usize) -> Vec<f32> {
    let plane = |c: usize| {
        frames.iter().flat_map(move |f| {
            let n = f.len() / channels;
            &f[c * n..][..n]
        })
    };
    (0..channels).flat_map(plane).copied().collect()
}

/// Planes as the 8-bit picture that they are.
fn levels(planes: &[f32]) -> Vec<u8> {
    let n = planes.len() / 3;
    let level = |v: f32| ((v.clamp(-1.0, 1.0) * 0.5 + 0.5) * 255.0) as u8;
    (0..3 * n)
        .map(|i| level(planes[i % 3 * n + i / 3]))
        .collect()
}

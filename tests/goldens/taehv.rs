//! The small decoder, fed one latent frame at a time: the same raw frames as from all at once.

use std::collections::BTreeMap;
use std::path::Path;

use longtake::decode::{Decoder as _, Taehv};
use longtake::gpu::Device;
use longtake::weights::Weights;

use super::check::Check;

/// `None` when an input is not there.
pub fn run(check: &mut Check, weights: &Path, device: &Device) -> Option<()> {
    let weights = Weights::open(weights).unwrap();
    let [n, channels, rows, cols] = check.shape("latents")?[..] else {
        panic!("latents [frame, channel, row, column]")
    };
    let latents = check.reals("latents")?;
    let mut decoder = Taehv::load(device, &weights, (rows, cols)).unwrap();
    let mut log: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for latent in latents.chunks_exact(channels * rows * cols) {
        let mut sink = |name: &str, values: Vec<f32>| {
            log.entry(name.to_owned()).or_default().extend(values);
        };
        let raw = decoder.raw(latent, Some(&mut sink)).unwrap();
        log.entry("raw".to_owned())
            .or_default()
            .extend(raw.concat());
    }
    for (name, mut values) in log {
        // Of some layers the first frames are recorded.
        if let Some(shape) = check.shape(&name) {
            values.truncate(shape.iter().product());
            check.real(&name, &values);
        }
    }
    // Pictures, in two calls as a film makes them, are what is left of the raw frames.
    let raw = check.reals("raw")?;
    let one = raw.len() / (4 * n);
    let mut decoder = Taehv::load(device, &weights, (rows, cols)).unwrap();
    let cut = latents.len() / n;
    let mut frames = decoder.decode(&latents[..cut]).unwrap().unwrap();
    assert_eq!(frames.len(), 1, "the first latent frame is one picture");
    frames.extend(decoder.decode(&latents[cut..]).unwrap().unwrap());
    assert_eq!(frames.len(), 4 * n - 3);
    for (frame, raw) in frames.iter().zip(raw[3 * one..].chunks_exact(one)) {
        let plane = one / 3;
        assert_eq!(frame.rgb.len(), one);
        for (i, level) in frame.rgb.iter().enumerate() {
            let want = raw[i % 3 * plane + i / 3].clamp(0.0, 1.0) * 255.0;
            assert!(
                (f32::from(*level) - want.floor()).abs() <= 1.0,
                "{level} for {want}"
            );
        }
    }
    Some(())
}

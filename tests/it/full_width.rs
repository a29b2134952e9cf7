//! One block at the width of Wan 1.3B with the tokens of a latent frame of 832x480, on the device against the twins. The twins
//! take minutes over it, so it is run by hand:
//!
//! ```sh
//! cargo test --release --test it full_width -- --ignored --nocapture
//! ```

use longtake::cache::{KvCache, Policy};
use longtake::gpu::{Device, TierRequest};
use longtake::model::config::{Cross, DitConfig};
use longtake::model::{Activations, Dit, Pass, Tape};
use longtake::ops::{KvFormat, WeightFormat};
use longtake::weights::Weights;

use crate::plan::made_up;
use crate::support::{self, errors, values};

/// Tokens of the prompt.
const PROMPT: usize = 20;

/// The prediction of one pass over the frames of a chunk under the prompt of a seed.
fn pass(device: &Device, config: &DitConfig, weights: &Weights, prompt: u64) -> Vec<f32> {
    let n = config.chunk_frames as usize;
    let dit = Dit::load(device, config, weights, WeightFormat::F16).unwrap();
    let mut act = Activations::new(device, config, n).unwrap();
    let shape = config.cache_shape(KvFormat::F16, n);
    let mut cache = KvCache::new(shape, device.caps(), Policy::default(), None);
    cache.begin(device, 0..n as i64).unwrap();
    let Cross::Separate { text_dim, .. } = config.cross else {
        panic!("a model with text")
    };
    let prompt = values(prompt, PROMPT * text_dim as usize);
    let tape = &mut Tape::blank();
    let text = (dit.text(device, &act, &prompt, KvFormat::F16, tape)).unwrap();
    let len = n * (config.in_channels * config.latent_height * config.latent_width) as usize;
    device.write(&act.latents, 0, &values(8, len));
    let all = Pass {
        frames: 0..n as i64,
        timestep: 937.5,
        poses: &[],
        kv_only: false,
    };
    dit.forward(device, &mut act, &cache, Some(&text), &all, tape)
        .unwrap();
    device.read(&act.output, 0..len).unwrap()
}

#[test]
#[ignore = "the twins take minutes"]
fn a_block_of_1_3b_is_the_twins() {
    let Some(device) = support::open(TierRequest::Best) else {
        return;
    };
    let mut config = DitConfig::selfforcing_1_3b();
    (config.layers, config.chunk_frames) = (1, 1);
    config.check().unwrap();
    let weights = made_up(&config);
    let begun = std::time::Instant::now();
    let got = pass(&device, &config, &weights, 7);
    println!("{}: {:?}", device.caps().title(), begun.elapsed());
    let begun = std::time::Instant::now();
    let want = pass(&Device::twin(), &config, &weights, 7);
    println!("twins: {:?}", begun.elapsed());
    let (nmse, worst) = errors(&got, &want);
    println!(
        "{} tokens of {} channels: largest error {worst:.2e} of the largest value, NMSE {nmse:.2e}",
        config.tokens_per_frame(),
        config.hidden
    );
    // Sums differ in their order, and keys and values where that turns the rounding to a half: lavapipe is 2e-6 off.
    assert!(worst < 1e-4 && nmse < 1e-8, "{worst:.2e}, {nmse:.2e}");
    // Such an error would show: what the block makes of another prompt is far more.
    let (_, other) = errors(&pass(&device, &config, &weights, 9), &got);
    println!("another prompt: {other:.2e}");
    assert!(other > 1e-3, "{other:.2e}");
}

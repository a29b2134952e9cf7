//! From tokens to latents: what the text encoder makes of them conditions a roll-out.

use std::path::Path;

use longtake::cache::Window;
use longtake::gpu::Device;
use longtake::model::config::{Cross, DitConfig};
use longtake::model::{Dit, Tape};
use longtake::rollout::{CacheSetup, Sampler, Schedule};
use longtake::text::Umt5;
use longtake::weights::Weights;

use super::check::Check;
use super::dit::Storage;

/// The decoder's part of the set.
const PICTURES: [&str; 2] = ["video_f32_first5", "video_u8"];

/// Runs the set with the config `text` and the weights of encoder and network. `None` when an input is not there.
pub fn run(
    check: &mut Check,
    text: &str,
    [encoder, network]: [&Path; 2],
    device: &Device,
    storage: Storage,
) -> Option<()> {
    // Of the Wan VAE, which is checked where it is decoded.
    for name in PICTURES {
        check.input(name);
    }
    let config = DitConfig::from_selfforcing_json(text).unwrap();
    let Cross::Separate { text_dim, text_len } = config.cross else {
        panic!("a set of a network with text")
    };
    let embeds = embeds(check, encoder, device, storage)?;
    check.real("prompt_embeds", &embeds);
    assert_eq!(embeds.len(), (text_dim * text_len) as usize, "rows of text");

    let chunk = config.chunk_frames as usize;
    let noise = check.reals("noise")?;
    let one = (config.in_channels * config.latent_height * config.latent_width) as usize;
    let n_frames = noise.len() / one;
    assert_eq!(noise.len(), n_frames.next_multiple_of(chunk) * one);
    let weights = Weights::open(network).unwrap();
    let dit = Dit::load(device, &config, &weights, storage.weights).unwrap();
    let schedule = Schedule::new(&config, None).unwrap();
    let setup = CacheSetup::exact(storage.kv, n_frames, Window::default());
    let mut sampler = Sampler::new(device, dit, schedule, chunk, &setup).unwrap();
    sampler.set_text(&embeds, &mut Tape::blank()).unwrap();
    let steps = sampler.schedule().steps.clone();
    let mut latents = Vec::new();
    for (c, noise) in noise.chunks(chunk * one).enumerate() {
        let frames = (c * chunk) as i64..((c + 1) * chunk) as i64;
        sampler.begin(frames.clone(), noise).unwrap();
        for (s, step) in steps.iter().enumerate() {
            let renoise = match s + 1 < steps.len() {
                true => check.reals(&format!("c{c}.s{s}.renoise"))?,
                false => Vec::new(),
            };
            let mut again = || renoise.clone();
            sampler
                .denoise(*step, frames.clone(), &[], &mut again, &mut Tape::blank())
                .unwrap();
        }
        latents.extend(sampler.latents(chunk).unwrap());
        sampler.write_cache(frames, &[]).unwrap();
    }
    check.real("latents", &latents);
    Some(())
}

/// The set's tokens, encoded without their padding and then filled up.
fn embeds(
    check: &mut Check,
    encoder: &Path,
    device: &Device,
    storage: Storage,
) -> Option<Vec<f32>> {
    let ids: Vec<u32> = (check.ints("ids")?.iter())
        .map(|id| u32::try_from(*id).unwrap())
        .collect();
    let mask = check.ints("mask")?;
    let n_real = mask.iter().filter(|m| **m == 1).count();
    assert!(
        mask[..n_real].iter().all(|m| *m == 1),
        "padding is on the right"
    );
    let weights = Weights::open(encoder).unwrap();
    let encoder = Umt5::new(&weights, storage.weights).unwrap();
    let mut rows = encoder
        .encode(device, &ids[..n_real], n_real, None)
        .unwrap();
    rows.resize(ids.len() * encoder.config().dim, 0.0);
    Some(rows)
}

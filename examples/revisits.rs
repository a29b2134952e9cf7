//! What the model card says of revisits, measured by this program instead of the trainer's:
//!
//! ```sh
//! cd train && venv/bin/python evaluate.py ../assets/worlds/rooms --walks walks.json
//! cargo run --release --example revisits -- train/walks.json off
//! cargo run --release --example revisits -- train/walks.json int2
//! cargo run --release --example revisits -- train/walks.json window-8 [MODEL FOLDER]
//! ```
//!
//! Each walk begins with true frames; the others are made, and those whose exact pose was given, and not seen in the last frames,
//! are compared with what is truly there. The seed of a film's noise is its place in the list.

use std::error::Error;
use std::path::Path;

use longtake::codec::KvPair;
use longtake::gpu::{Device, Select};
use longtake::quality::{mse, psnr};
use longtake::rollout::{Coded, Config, ModelSource, Session, Walk};
use longtake::world::Rooms;
use longtake::world::pose::Pose;
use serde::Deserialize;

/// What `evaluate.py --walks` writes.
#[derive(Deserialize)]
struct Walks {
    /// True frames of each.
    given: usize,
    /// A revisited pose was not seen in this many frames before.
    away: usize,
    films: Vec<WalkJson>,
}

#[derive(Deserialize)]
struct WalkJson {
    seed: u64,
    /// x and y in sixteenths of a cell, heading.
    poses: Vec<(i32, i32, u8)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (walks, setting, model) = match &args[..] {
        [walks, setting] => (walks, setting, ModelSource::rooms()?),
        [walks, setting, folder] => (walks, setting, ModelSource::open(Path::new(folder))?),
        _ => {
            return Err(
                "WALKS.json, then off, a codec or window-N, then perhaps a model's folder".into(),
            );
        }
    };
    let walks: Walks = serde_json::from_str(&std::fs::read_to_string(walks)?)?;
    let mut config = Config::default();
    match setting.strip_prefix("window-") {
        Some(frames) => config.window = Some(frames.parse()?),
        None if setting == "off" => {}
        None => config.coded = Some(Coded::new(KvPair::of(setting, setting)?)),
    }
    let device = Device::open(&Select::default())?;
    let (mut every, mut least) = (Vec::new(), f64::INFINITY);
    for (i, walk) in walks.films.iter().enumerate() {
        config.seed = i as u64;
        let film = of_film(&device, &model, walk, &walks, &config)?;
        let mean = film.iter().sum::<f64>() / film.len().max(1) as f64;
        least = least.min(mean);
        every.extend(film);
        let so_far = every.iter().sum::<f64>() / every.len().max(1) as f64;
        println!(
            "world {}: {mean:.2} dB; {so_far:.3} dB over {} frames so far",
            walk.seed,
            every.len()
        );
    }
    println!(
        "{setting}: {} films, the worst at {least:.2} dB",
        walks.films.len()
    );
    Ok(())
}

/// PSNR of the film's revisited frames, in dB.
fn of_film(
    device: &Device,
    model: &ModelSource,
    walk: &WalkJson,
    walks: &Walks,
    config: &Config,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let rooms = Rooms::new(walk.seed);
    let poses: Vec<Pose> = walk
        .poses
        .iter()
        .map(|&(x, y, k)| Pose { x, y, k })
        .collect();
    let (given, made) = poses
        .split_at_checked(walks.given)
        .ok_or("a walk shorter than what is given of it")?;
    let film = Walk {
        given: given.iter().map(|pose| rooms.render(*pose)).collect(),
        given_poses: given.to_vec(),
        poses: made.to_vec(),
    };
    let mut session = Session::new(device, model, film, config)?;
    let mut frames = Vec::new();
    while let Some(chunk) = session.next_chunk(&mut |_| {})? {
        frames.extend(chunk.frames);
    }
    let mut out = Vec::new();
    for (i, frame) in (walks.given..).zip(&frames) {
        let lately = &poses[i.saturating_sub(walks.away)..i];
        if given.contains(&poses[i]) && !lately.contains(&poses[i]) {
            out.push(psnr(mse(frame, &rooms.render(poses[i]))?));
        }
    }
    Ok(out)
}

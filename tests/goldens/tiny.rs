//! The demo world's film: given frames, generated frames, what both leave in the cache, a windowed read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use longtake::cache::Window;
use longtake::gpu::Device;
use longtake::model::config::DitConfig;
use longtake::model::{Dit, Pass, Tape, sinusoid};
use longtake::rollout::{CacheSetup, Sampler, Schedule, Update};
use longtake::weights::Weights;
use longtake::world::pose::{Pose, pose_features};

use super::check::Check;
use super::dit::Storage;

type Log = BTreeMap<String, Vec<f32>>;

struct Film<'a> {
    check: &'a mut Check,
    device: &'a Device,
    config: &'a DitConfig,
    sampler: Sampler,
    /// Ids of all frames.
    ids: Vec<i64>,
    /// Pose features of all frames.
    poses: Vec<Vec<f32>>,
}

/// `[frame, channel, y, x]` of frames `[frame, y, x, channel]`.
fn channels_first(x: &[f32], channels: usize, cells: usize) -> Vec<f32> {
    x.chunks(channels * cells)
        .flat_map(|f| (0..f.len()).map(move |i| f[i % cells * channels + i / cells]))
        .collect()
}

/// The way back.
fn channels_last(x: &[f32], channels: usize, cells: usize) -> Vec<f32> {
    channels_first(x, cells, channels)
}

/// Runs the recorded film. `None` when an input is not there.
pub fn run(
    check: &mut Check,
    text: &str,
    weights: &Path,
    device: &Device,
    storage: Storage,
) -> Option<()> {
    let config = DitConfig::from_tiny_json(text).unwrap();
    let weights = Weights::open(weights).unwrap();
    let dit = Dit::load(device, &config, &weights, storage.weights).unwrap();
    let schedule = Schedule::new(&config, None).unwrap();
    let ids = check.ints("frame_ids")?;
    let poses = poses(check)?;
    let sampler = Sampler::new(
        device,
        dit,
        schedule,
        1,
        &CacheSetup::exact(storage.kv, ids.len(), Window::default()),
    )
    .unwrap();
    let mut film = Film {
        check,
        device,
        config: &config,
        sampler,
        ids,
        poses,
    };
    film.schedule();
    film.conditioning();
    film.given()?;
    film.generated()?;
    film.cached();
    Some(())
}

/// Features by frame: ours, held against the file's.
fn poses(check: &mut Check) -> Option<Vec<Vec<f32>>> {
    let poses = check.ints("poses")?;
    let pose = |p: &[i64]| Pose {
        x: p[0] as i32,
        y: p[1] as i32,
        k: p[2].rem_euclid(16) as u8,
    };
    let rows: Vec<Vec<f32>> = poses
        .chunks(3)
        .map(|p| pose_features(pose(p)).to_vec())
        .collect();
    check.real("pose_features", &rows.concat());
    Some(rows)
}

impl Film<'_> {
    fn cells(&self) -> usize {
        (self.config.latent_height * self.config.latent_width) as usize
    }

    fn pictures_in(&self, x: &[f32]) -> Vec<f32> {
        channels_first(x, self.config.in_channels as usize, self.cells())
    }

    fn pictures_out(&self, x: &[f32]) -> Vec<f32> {
        channels_last(x, self.config.out_channels as usize, self.cells())
    }

    /// The noise shares the passes were recorded at are those of the schedule.
    fn schedule(&mut self) {
        let scale = self.config.time.scale as f32;
        let mut ts: Vec<f32> = self
            .sampler
            .schedule()
            .steps
            .iter()
            .map(|s| s.timestep / scale)
            .collect();
        ts.push(0.0);
        self.check.real("ts", &ts);
    }

    fn pass(&mut self, frame: usize, timestep: f32) -> Log {
        let mut log = Log::new();
        let mut sink = |name: &str, values: Vec<f32>| {
            log.insert(name.to_owned(), values);
        };
        let pass = Pass {
            frames: self.ids[frame]..self.ids[frame] + 1,
            timestep,
            poses: &self.poses[frame].clone(),
            kv_only: false,
        };
        self.sampler
            .pass(&pass, &mut Tape::record(&mut sink))
            .unwrap();
        log
    }

    /// Sinusoids, and the conditioning of time j with pose j. The first frame's place in the cache serves all; what
    /// these passes leave there is overwritten by the frame itself.
    fn conditioning(&mut self) {
        let Some(ts) = self.check.reals("sinusoid_t") else {
            return;
        };
        let scale = self.config.time.scale as f32;
        let dim = self.config.time.freq_dim as usize;
        let rows: Vec<f32> = ts
            .iter()
            .flat_map(|t| sinusoid(f64::from(scale * t), dim))
            .collect();
        self.check.real("sinusoid", &rows);
        let blank = vec![0.0; self.sampler.frame_values()];
        self.sampler
            .begin(self.ids[0]..self.ids[0] + 1, &blank)
            .unwrap();
        let own = self.poses[0].clone();
        let (mut e, mut e0) = (Vec::new(), Vec::new());
        for (j, t) in ts.iter().enumerate() {
            self.poses[0] = self.poses[j].clone();
            let mut log = self.pass(0, scale * t);
            self.poses[0] = own.clone();
            e.extend(log.remove("time_emb").unwrap());
            e0.extend(log.remove("time_proj").unwrap());
        }
        self.check.real("cond_e", &e);
        self.check.real("cond_e0", &e0);
    }

    /// Writes the given frames into the cache, one by one.
    fn given(&mut self) -> Option<()> {
        let given = self.check.reals("given_frames")?;
        let frames = self.pictures_in(&given.iter().map(|v| v / 127.5 - 1.0).collect::<Vec<_>>());
        let per_frame = self.sampler.frame_values();
        for (i, frame) in frames.chunks(per_frame).enumerate() {
            let id = self.ids[i]..self.ids[i] + 1;
            self.sampler.begin(id.clone(), frame).unwrap();
            let name = format!("embed_frame{i}");
            if i == 0 || self.check.has(&name) {
                let log = self.pass(i, 0.0);
                self.check.real(&name, &log["patch_embed"]);
            }
            self.sampler
                .write_cache(id, &self.poses[i].clone())
                .unwrap();
        }
        Some(())
    }

    fn generated(&mut self) -> Option<()> {
        let noise = self.check.reals("noise")?;
        let noise = self.pictures_in(&noise);
        let per_frame = self.sampler.frame_values();
        let n = noise.len() / per_frame;
        let given = self.ids.len() - n;
        let mut finals = Vec::new();
        for (i, noise) in noise.chunks(per_frame).enumerate() {
            let at = given + i;
            let id = self.ids[at]..self.ids[at] + 1;
            self.sampler.begin(id.clone(), noise).unwrap();
            self.first_pass(i, at);
            if i + 1 == n {
                self.windowed(at);
            }
            let steps = self.sampler.schedule().steps.clone();
            for (s, step) in steps.iter().enumerate() {
                let x = self.sampler.latents(1).unwrap();
                let (poses, mut none) = (self.poses[at].clone(), Vec::new);
                self.sampler
                    .denoise(*step, id.clone(), &poses, &mut none, &mut Tape::blank())
                    .unwrap();
                let y = self.sampler.output(1).unwrap();
                // Recorded before the last step's cut to the limit.
                let Update::Clean { keep, take, .. } = step.update else {
                    panic!("an Euler step")
                };
                let name = format!("x_{i}_step{}", s + 1);
                let last = s + 1 == steps.len();
                let x = match last {
                    true => x.iter().zip(&y).map(|(x, y)| keep * x + take * y).collect(),
                    false => self.sampler.latents(1).unwrap(),
                };
                let x = self.pictures_out(&x);
                self.check.real(&name, &x);
            }
            finals.extend(self.sampler.latents(1).unwrap());
            self.sampler
                .write_cache(id, &self.poses[at].clone())
                .unwrap();
        }
        let finals = self.pictures_out(&finals);
        self.check.real("final", &finals);
        Some(())
    }

    /// The pass over pure noise, and the inner tensors of some layers of the first one.
    fn first_pass(&mut self, i: usize, at: usize) {
        let log = self.pass(at, self.config.time.scale as f32);
        let output = self.sampler.output(1).unwrap();
        let output = self.pictures_out(&output);
        self.check.real(&format!("x0_first_{i}"), &output);
        for layer in 0..if i == 0 { self.config.layers } else { 0 } {
            for (ours, theirs) in [
                ("q_norm", "q"),
                ("k_norm", "k"),
                ("v", "v"),
                ("q_rope", "q_rope"),
                ("k_rope", "k_rope"),
            ] {
                let name = format!("layer{layer}_{theirs}");
                if layer == 0 || self.check.has(&name) {
                    self.check.real(&name, &log[&format!("b{layer}.{ours}")]);
                }
            }
        }
    }

    /// The pass over pure noise that sees only some of the newest cached frames.
    fn windowed(&mut self, at: usize) {
        let names = self.check.names();
        let number = |n: &String| {
            let rest = n
                .strip_prefix("x0_first_")
                .unwrap_or(n)
                .strip_prefix("window")?;
            rest.split('_').next()?.parse::<usize>().ok()
        };
        let windows: BTreeSet<usize> = names.iter().filter_map(number).collect();
        if windows.is_empty() {
            self.check.absent("x0_first_window*");
        }
        for window in windows {
            // The frame itself is cached as well, and counts.
            self.sampler.cache_mut().show(self.device, Some(window + 1));
            self.pass(at, self.config.time.scale as f32);
            let output = self.sampler.output(1).unwrap();
            let output = self.pictures_out(&output);
            self.check
                .real(&format!("x0_first_window{window}"), &output);
            let mut seen = self.sampler.cache().shown().to_vec();
            seen.retain(|frame| *frame != self.ids[at]);
            self.check.exact(&format!("window{window}_ids"), &seen);
            for layer in 0..self.config.layers as usize {
                let (k, v) = self.stored(layer, &seen);
                self.check
                    .some_real(&format!("window{window}_layer{layer}_k"), &k);
                self.check
                    .some_real(&format!("window{window}_layer{layer}_v"), &v);
            }
            self.sampler.cache_mut().show(self.device, None);
        }
    }

    fn stored(&self, layer: usize, frames: &[i64]) -> (Vec<f32>, Vec<f32>) {
        let (mut k, mut v) = (Vec::new(), Vec::new());
        for frame in frames {
            let (fk, fv) = self
                .sampler
                .cache()
                .read_frame(self.device, layer, *frame)
                .unwrap();
            k.extend(fk);
            v.extend(fv);
        }
        (k, v)
    }

    /// What all frames left in the layers that are recorded.
    fn cached(&mut self) {
        let mut any = false;
        for layer in 0..self.config.layers as usize {
            let there = ["k", "v"].map(|part| {
                self.check
                    .has_like(&format!("cache_{part}_layer{layer}_"), "")
            });
            any |= there.contains(&true);
            for frame in 0..if there.contains(&true) {
                self.ids.len()
            } else {
                0
            } {
                let (k, v) = self.stored(layer, &[self.ids[frame]]);
                self.check
                    .real(&format!("cache_k_layer{layer}_frame{frame}"), &k);
                self.check
                    .real(&format!("cache_v_layer{layer}_frame{frame}"), &v);
            }
        }
        if !any {
            self.check.absent("cache_*_layer*_frame*");
        }
    }
}

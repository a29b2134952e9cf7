//! Roll-outs of a small causal DiT: every recorded tensor of every pass, the cache's contents, the windows' integers.

use std::collections::BTreeMap;
use std::path::Path;

use longtake::cache::{KvCache, SpansPlan, Window};
use longtake::codec::KvPair;
use longtake::gpu::Device;
use longtake::model::config::{Cross, DitConfig};
use longtake::model::{Dit, Pass, Tape};
use longtake::ops::{KvFormat, WeightFormat};
use longtake::rollout::{CacheSetup, Sampler, Schedule};
use longtake::weights::Weights;
use serde_json::Value;

use super::check::Check;
use super::rope::turned;

/// How the network is stored, and how its cache is cut.
#[derive(Debug, Clone, Copy)]
pub struct Storage {
    pub weights: WeightFormat,
    pub kv: KvFormat,
    /// Frames of a page; `None`: as many as the cache likes.
    pub page_frames: Option<u64>,
    /// The prompt without its padding, which then is one row for the network.
    pub merged: bool,
    /// Codecs of what was given, of which the set says that they lose nothing.
    pub coded: Option<&'static str>,
}

/// What a pass gave to the tape.
type Log = BTreeMap<String, Vec<f32>>;

struct Rollout<'a> {
    check: &'a mut Check,
    device: &'a Device,
    config: &'a DitConfig,
    sampler: Sampler,
    /// Recorded with every tensor of every pass, as opposed to a selection.
    whole: bool,
    /// Passes that are recorded in full.
    full: Vec<String>,
    chunk: usize,
}

/// Runs the roll-out recorded in `file` of a set with the config `text`. `None` when an input is not there.
pub fn run(
    check: &mut Check,
    text: &str,
    weights: &Path,
    file: &str,
    device: &Device,
    storage: Storage,
) -> Option<()> {
    let config = DitConfig::from_selfforcing_json(text).unwrap();
    let json: Value = serde_json::from_str(text).unwrap();
    let weights = Weights::open(weights).unwrap();
    let dit = Dit::load(device, &config, &weights, storage.weights).unwrap();
    let schedule = Schedule::new(&config, None).unwrap();
    let window = window(&json, file);
    let start = match check.has_like("given.", "") {
        true => check.ints("start_frame")?[0],
        false => 0,
    };
    let chunk = config.chunk_frames as usize;
    let noise = check.reals("noise")?;
    let frame_values = (config.in_channels * config.latent_height * config.latent_width) as usize;
    let n_chunks = noise.len() / frame_values / chunk;
    assert_eq!(
        noise.len(),
        n_chunks * chunk * frame_values,
        "whole chunks of noise"
    );
    let max_frames = window.frames.unwrap_or(start as usize + n_chunks * chunk);
    let mut setup = CacheSetup::exact(storage.kv, max_frames, window);
    if let Some(name) = storage.coded {
        assert_eq!(n_chunks, 1, "only what was given is to be coded");
        setup.policy.span_chunks = 1;
        let dim = config.rope_split().head_dim();
        let pair = KvPair::of(name, name).unwrap();
        let chunks = [start as usize, chunk].into_iter();
        setup.spans = SpansPlan::new(pair, dim, &setup.policy, chunks).unwrap();
    }
    let mut sampler = Sampler::new(device, dit, schedule, chunk, &setup).unwrap();
    if let Some(frames) = storage.page_frames {
        let shape = *sampler.cache().shape();
        let mut caps = device.caps().clone();
        caps.max_binding_bytes = frames * (shape.frame_values() * storage.kv.bytes()) as u64;
        assert_eq!(
            shape.page_frames(&caps) as u64,
            frames.min(max_frames as u64),
            "frames of a page"
        );
        *sampler.cache_mut() = KvCache::new(shape, &caps, setup.policy, None);
    }
    let full = json["full"].as_array().map(|a| {
        a.iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    });
    let whole = file == "dit";
    let mut r = Rollout {
        check,
        device,
        config: &config,
        sampler,
        whole,
        full: full.unwrap_or_default(),
        chunk,
    };
    let real_rows = storage.merged.then(|| {
        let rows = json["prompt_real"].as_u64();
        rows.expect("config.json states the prompt's rows as prompt_real") as usize
    });
    let context = r.text(real_rows)?;
    r.given(start)?;
    let mut latents = Vec::new();
    for (c, noise) in noise.chunks(chunk * frame_values).enumerate() {
        latents.extend(r.chunk(c, start + (c * chunk) as i64, noise, &context)?);
        r.cache_pass(
            c,
            start + (c * chunk) as i64,
            match window.frames {
                Some(_) => c > 0,
                None => whole && c + 1 == n_chunks,
            },
            &context,
        );
    }
    r.check.real("latents", &latents);
    if storage.coded.is_some() {
        let cache = r.sampler.cache();
        let coded = cache.figures().coded_frames;
        assert_eq!(coded, start as u64, "what was given was read from codes");
    }
    // The same film by the reference's other path, which caches keys before RoPE as we do.
    if r.check.has_like("qvg.", "") {
        r.check.real("qvg.latents", &latents);
    }
    Some(())
}

/// `dit_window2` has its window in the config's `win2`, `dit_window` in `win1`; other files have none.
fn window(json: &Value, file: &str) -> Window {
    let Some(number) = file.strip_prefix("dit_window") else {
        return Window::default();
    };
    let entry = &json[format!("win{}", if number.is_empty() { "1" } else { number })];
    let size = |field: &str| {
        entry[field]
            .as_u64()
            .unwrap_or_else(|| panic!("config.json states no {field} for {file}")) as usize
    };
    Window {
        frames: Some(size("local")),
        sink: size("sink"),
    }
}

impl Rollout<'_> {
    /// Sets the prompt, only its first rows where it is told how many are no padding. The embedded text, recorded with every
    /// full pass though it is computed once.
    fn text(&mut self, real_rows: Option<usize>) -> Option<Log> {
        let mut prompt = self.check.reals("prompt_embeds")?;
        let Cross::Separate { text_dim, text_len } = self.config.cross else {
            panic!("a set of a network with text")
        };
        let n_rows = real_rows.unwrap_or(text_len as usize);
        prompt.resize(n_rows * text_dim as usize, 0.0);
        let mut log = recorded(|tape| self.sampler.set_text(&prompt, tape).unwrap());
        let text = self.sampler.text().expect("set just now");
        if real_rows.is_some() {
            assert_eq!(text.n_rows(), n_rows + 1, "one row for all padding");
            // Told as it is recorded, row by row.
            let (width, context) = (self.config.hidden as usize, "context");
            let rows = log.get_mut(context).expect("recorded with the text");
            let last = rows[rows.len() - width..].to_vec();
            while rows.len() < text_len as usize * width {
                rows.extend_from_slice(&last);
            }
        }
        for layer in 0..self.config.layers as usize {
            let (k, v) = text.read(self.device, layer).unwrap();
            for (part, values) in [("k", k), ("v", v)] {
                let name = format!("xattn.b{layer}.{part}");
                if self.whole {
                    self.check.real(&name, &values);
                } else {
                    self.check.some_real(&name, &values);
                }
            }
        }
        Some(log)
    }

    /// Puts the given history of frames 0..start into the cache.
    fn given(&mut self, start: i64) -> Option<()> {
        if start == 0 {
            return Some(());
        }
        self.sampler
            .cache_mut()
            .begin(self.device, 0..start)
            .unwrap();
        let per_frame = self.sampler.cache().shape().frame_values();
        let frames: Vec<i64> = (0..start).collect();
        for layer in 0..self.config.layers as usize {
            let name = |part: &str| format!("given.b{layer}.{part}");
            let k = self.check.reals(&name("k_pre_rope"))?;
            let v = self.check.reals(&name("v"))?;
            assert_eq!(k.len(), start as usize * per_frame, "given keys");
            let turned = self.turned(&frames, &k);
            self.check.real(&name("k_post_rope"), &turned);
            for (frame, (k, v)) in frames
                .iter()
                .zip(k.chunks(per_frame).zip(v.chunks(per_frame)))
            {
                self.sampler
                    .cache()
                    .write_frame(self.device, layer, *frame, k, v);
            }
        }
        Some(())
    }

    /// Denoises a chunk. `None` when the file lacks the noise to go on with.
    fn chunk(&mut self, c: usize, first: i64, noise: &[f32], context: &Log) -> Option<Vec<f32>> {
        let frames = first..first + self.chunk as i64;
        self.sampler.begin(frames.clone(), noise).unwrap();
        let steps = self.sampler.schedule().steps.clone();
        let timesteps: Vec<f32> = steps.iter().map(|s| s.timestep).collect();
        self.check.real("denoise_t", &timesteps);
        for (s, step) in steps.iter().enumerate() {
            let pass = format!("c{c}.s{s}");
            let x_in = self.sampler.latents(self.chunk).unwrap();
            let renoise = match s + 1 < steps.len() {
                true => self.check.reals(&format!("{pass}.renoise"))?,
                false => Vec::new(),
            };
            let mut log = recorded(|tape| {
                self.sampler
                    .denoise(*step, frames.clone(), &[], &mut || renoise.clone(), tape)
                    .unwrap();
            });
            log.extend(context.clone());
            log.insert("x_in".to_owned(), x_in);
            log.insert("flow".to_owned(), self.sampler.output(self.chunk).unwrap());
            log.insert("t".to_owned(), vec![step.timestep; self.chunk]);
            self.compare(&pass, log);
        }
        Some(self.sampler.latents(self.chunk).unwrap())
    }

    /// The pass over the finished chunk, once as roll-outs do it, once whole for what is recorded of it.
    fn cache_pass(&mut self, c: usize, first: i64, contents: bool, context: &Log) {
        let frames = first..first + self.chunk as i64;
        let pass = format!("c{c}.ctx");
        self.sampler.write_cache(frames.clone(), &[]).unwrap();
        self.cached(&pass, frames.clone(), contents);
        let timestep = self.sampler.schedule().context_timestep;
        let mut log = Log::new();
        let begin = format!("{pass}.");
        let names = self.check.names();
        let mut recorded_of_it = names.iter().filter_map(|n| n.strip_prefix(&begin));
        if recorded_of_it.any(|n| n != "t" && n != "x_in" && !n.starts_with("cache")) {
            let whole = Pass {
                frames,
                timestep,
                poses: &[],
                kv_only: false,
            };
            log = recorded(|tape| self.sampler.pass(&whole, tape).unwrap());
            log.extend(context.clone());
            log.insert("flow".to_owned(), self.sampler.output(self.chunk).unwrap());
        }
        log.insert("x_in".to_owned(), self.sampler.latents(self.chunk).unwrap());
        log.insert("t".to_owned(), vec![timestep; self.chunk]);
        self.compare(&pass, log);
    }

    /// The cache after a clean pass, in the order of the frames.
    fn cached(&mut self, pass: &str, own: std::ops::Range<i64>, contents: bool) {
        let frames = self.sampler.cache().shown().to_vec();
        let tokens = i64::from(self.config.tokens_per_frame());
        let newest = frames.iter().max().expect("a stored frame");
        self.check.exact(
            &format!("{pass}.cache.idx"),
            &[(newest + 1) * tokens, frames.len() as i64 * tokens],
        );
        let own: Vec<i64> = own.collect();
        for layer in 0..self.config.layers as usize {
            for (part, frames, expected) in
                [("cache", &frames, contents), ("cache_new", &own, false)]
            {
                let name = |tensor: &str| format!("{pass}.{part}.b{layer}.{tensor}");
                if !expected && !self.check.has_like(&name(""), "") {
                    continue;
                }
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
                let turned = self.turned(frames, &k);
                self.check.real(&name("k"), &turned);
                self.check.real(&name("v"), &v);
                self.check.some_real(&name("k_pre_rope"), &k);
            }
        }
    }

    fn turned(&self, frames: &[i64], k: &[f32]) -> Vec<f32> {
        let (rows, cols) = self.config.grid();
        let grid = (rows as usize, cols as usize);
        turned(
            self.device,
            self.config.rope_split(),
            self.config.rope.theta,
            grid,
            frames,
            k,
        )
    }

    /// Compares what a pass gave with what is recorded of it, and names what should be.
    fn compare(&mut self, pass: &str, mut log: Log) {
        let layers = 0..self.config.layers as usize;
        let visible: usize = self
            .sampler
            .cache()
            .segments(0)
            .iter()
            .map(|s| s.positions.n_frames())
            .sum();
        let tokens = self.config.tokens_per_frame() as usize;
        for layer in layers {
            let name = format!("{pass}.b{layer}.kv_len");
            let detailed = self.detailed(pass);
            if self.check.has(&name) {
                self.check.exact(&name, &[(visible * tokens) as i64]);
            } else if detailed {
                self.check.absent(&name);
            }
        }
        if let Some(x) = log.get_mut("patch_embed") {
            *x = channels_first(x, self.config.hidden as usize);
        }
        for (name, values) in log {
            let expected = match name.rsplit('.').next().expect("a name") {
                "t" | "x0" => true,
                "flow" | "out" if !name.starts_with("head") => self.whole || self.detailed(pass),
                "x_in" => self.detailed(pass) || !self.whole && self.check.has_like("c", ".x_in"),
                _ => self.detailed(pass),
            };
            let name = format!("{pass}.{name}");
            if self.check.has(&name) || expected {
                self.check.real(&name, &values);
            }
        }
    }

    /// Whether inner tensors of this pass are recorded, by the config's list or by the file having some.
    fn detailed(&self, pass: &str) -> bool {
        self.whole && self.full.iter().any(|p| p == pass)
            || self.check.has_like(&format!("{pass}.b"), ".attn")
    }
}

fn recorded(run: impl FnOnce(&mut Tape<'_>)) -> Log {
    let mut log = Log::new();
    let mut sink = |name: &str, values: Vec<f32>| {
        assert!(
            log.insert(name.to_owned(), values).is_none(),
            "{name} given twice"
        );
    };
    run(&mut Tape::record(&mut sink));
    log
}

/// `[token, channel]` as `[channel, token]`.
fn channels_first(x: &[f32], channels: usize) -> Vec<f32> {
    let tokens = x.len() / channels;
    (0..x.len())
        .map(|i| x[i % tokens * channels + i / tokens])
        .collect()
}

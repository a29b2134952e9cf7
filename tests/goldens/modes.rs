//! Ways of rolling out: frame by frame, after given latents, with a first frame alone; and what the family does beyond a
//! window: relative positions, a sink that takes in what leaves, another prompt in the middle of the film.

use std::ops::Range;
use std::path::Path;

use longtake::cache::{KeyPositions, KvCache, Policy, Sink, SpansPlan, Window};
use longtake::codec::KvPair;
use longtake::gpu::Device;
use longtake::model::config::{Cross, DitConfig, SamplerConfig};
use longtake::model::preset::Preset;
use longtake::model::{Dit, Tape};
use longtake::ops::{KvFormat, WeightFormat};
use longtake::rollout::{CacheSetup, Chunking, Cut, Sampler, Schedule, SigmaTable};
use longtake::weights::Weights;

use super::check::Check;
use super::dit::Storage;
use super::rope::turned;

/// Share of itself that the sink keeps when it takes in what leaves: Reward-Forcing's.
fn ema_share() -> f32 {
    let preset = Preset::named("reward-forcing").expect("listed");
    preset.policy().ema_sink.expect("its sink takes in")
}

/// One film of a file: a network, its cache, and the prefix of its tensors' names.
struct Film<'a> {
    check: &'a mut Check,
    device: &'a Device,
    config: DitConfig,
    sampler: Sampler,
    prefix: String,
}

/// What the films of a file share.
pub struct Files<'a> {
    pub config: &'a str,
    pub weights: &'a Path,
}

impl Files<'_> {
    fn film<'a>(
        &self,
        check: &'a mut Check,
        device: &'a Device,
        storage: Storage,
        prefix: &str,
        config: DitConfig,
        setup: &CacheSetup,
    ) -> Film<'a> {
        let weights = Weights::open(self.weights).unwrap();
        let dit = Dit::load(device, &config, &weights, storage.weights).unwrap();
        let schedule = Schedule::new(&config, None).unwrap();
        let chunk = config.chunk_frames as usize;
        let mut sampler = Sampler::new(device, dit, schedule, chunk, setup).unwrap();
        if let Some(frames) = storage.page_frames {
            let shape = *sampler.cache().shape();
            let mut caps = device.caps().clone();
            caps.max_binding_bytes = frames * (shape.frame_values() * storage.kv.bytes()) as u64;
            assert_eq!(shape.page_frames(&caps) as u64, frames, "frames of a page");
            *sampler.cache_mut() = KvCache::new(shape, &caps, setup.policy, None);
        }
        Film {
            sampler,
            check,
            device,
            config,
            prefix: prefix.to_owned(),
        }
    }
}

/// `dit_presets`: every film in it, by the prefix of its names.
pub fn presets(
    check: &mut Check,
    files: &Files<'_>,
    device: &Device,
    storage: Storage,
) -> Option<()> {
    let noises: Vec<String> = check.names();
    let prefixes = noises.iter().filter_map(|n| n.strip_suffix(".noise"));
    for prefix in prefixes {
        preset(check, files, device, storage, prefix)?;
    }
    Some(())
}

fn preset(
    check: &mut Check,
    files: &Files<'_>,
    device: &Device,
    storage: Storage,
    prefix: &str,
) -> Option<()> {
    let name = |part: &str| format!("{prefix}.{part}");
    let mut config = DitConfig::from_selfforcing_json(files.config).unwrap();
    let frame = (config.in_channels * config.latent_height * config.latent_width) as usize;
    let given = match check.has(&name("initial_latent")) {
        true => check.reals(&name("initial_latent"))?,
        false => Vec::new(),
    };
    let noise = check.reals(&name("noise"))?;
    let (chunking, chunks) = cut(check, prefix, given.len() / frame, noise.len() / frame);
    config.chunk_frames = chunking.frames as u32;
    if check.has(&name("denoise_t")) {
        let listed = listed(&check.reals(&name("denoise_t"))?, &config.sampler);
        set_steps(&mut config, &listed, None);
    }
    let total = (given.len() + noise.len()) / frame;
    let setup = CacheSetup::exact(storage.kv, total, Window::default());
    let mut film = files.film(check, device, storage, prefix, config.clone(), &setup);
    film.prompt(&name("prompt_embeds"))?;
    let mut latents = given.clone();
    for (k, frames) in chunks.given.iter().enumerate() {
        film.given(k, frames.clone(), &given, frame);
    }
    for (c, frames) in chunks.made.iter().enumerate() {
        let at = frames.start as usize * frame - given.len();
        let n = (frames.end - frames.start) as usize * frame;
        latents.extend(film.chunk(c, frames.clone(), &noise[at..at + n])?);
        film.cache_pass(c, frames.clone());
    }
    film.check.real(&name("latents"), &latents);
    // The same first chunk once more, by a list of its own in a film of fewer steps.
    if let (SamplerConfig::Renoise { steps, .. }, 0) = (&config.sampler, given.len()) {
        let own = steps.clone();
        let mut other = config.clone();
        set_steps(&mut other, &own[..1], Some(&own));
        let mut film = files.film(check, device, storage, prefix, other, &setup);
        film.prompt(&name("prompt_embeds"))?;
        let first = chunks.made[0].clone();
        let n = (first.end - first.start) as usize * frame;
        assert_eq!(film.sampler.schedule().steps.len(), 1);
        film.chunk(0, first, &noise[..n])?;
    }
    Some(())
}

/// How the film of a prefix is cut: the recorded inputs of its passes tell.
fn cut(check: &Check, prefix: &str, given: usize, made: usize) -> (Chunking, Cut) {
    let frames_of = |pass: String| check.shape(&format!("{prefix}.{pass}.x_in")).map(|s| s[0]);
    let recorded = |pass: &dyn Fn(usize) -> String| -> Vec<usize> {
        (0..).map_while(|c| frames_of(pass(c))).collect()
    };
    let given_lens = recorded(&|k| format!("init{k}"));
    let made_lens = recorded(&|c| format!("c{c}.s0"));
    let all = [given_lens.clone(), made_lens.clone()].concat();
    let frames = *all.last().expect("a pass with its input");
    let chunking = Chunking {
        frames,
        first_alone: all[0] == 1 && frames > 1,
    };
    let cut = chunking.cut(given, made).unwrap();
    let lens = |chunks: &[Range<i64>]| -> Vec<usize> {
        chunks.iter().map(|c| (c.end - c.start) as usize).collect()
    };
    assert_eq!(lens(&cut.given), given_lens, "{prefix}: given chunks");
    assert_eq!(lens(&cut.made), made_lens, "{prefix}: chunks");
    (chunking, cut)
}

/// The listed steps whose warped timesteps these are.
fn listed(timesteps: &[f32], sampler: &SamplerConfig) -> Vec<u32> {
    let SamplerConfig::Renoise { shift, .. } = sampler else {
        panic!("a set of a distilled network")
    };
    let table = SigmaTable::new(*shift);
    let near = |t: f32| {
        let far = |step: &u32| (table.warp(*step) - t).abs();
        (1..=1000).min_by(|a, b| far(a).total_cmp(&far(b))).unwrap()
    };
    timesteps.iter().map(|t| near(*t)).collect()
}

fn set_steps(config: &mut DitConfig, listed: &[u32], first: Option<&[u32]>) {
    let SamplerConfig::Renoise {
        steps,
        first_chunk_steps,
        ..
    } = &mut config.sampler
    else {
        panic!("a set of a distilled network")
    };
    *steps = listed.to_vec();
    *first_chunk_steps = first.map(<[u32]>::to_vec);
    config.check().unwrap();
}

/// `family`: the four films in it.
pub fn family(
    check: &mut Check,
    files: &Files<'_>,
    device: &Device,
    storage: Storage,
) -> Option<()> {
    for name in ["relrope", "emasink", "recache_sink", "recache_nosink"] {
        if check.has_like(&format!("{name}."), "") {
            member(check, files, device, storage, name)?;
        }
    }
    Some(())
}

/// Of `family` the film with relative positions alone.
pub fn relative(
    check: &mut Check,
    files: &Files<'_>,
    device: &Device,
    storage: Storage,
) -> Option<()> {
    for other in [
        "emasink.",
        "recache_sink.",
        "recache_nosink.",
        "prompt_embeds_2",
    ] {
        check.leave(other, "");
    }
    member(check, files, device, storage, "relrope")
}

/// A sink that takes in what leaves, and another prompt, are refused where frames are coded.
pub fn refusals(config: &str, weights: &Path) {
    let device = Device::twin();
    let config = DitConfig::from_selfforcing_json(config).unwrap();
    let chunk = config.chunk_frames as usize;
    let window = Window {
        frames: Some(3 * chunk),
        sink: chunk,
    };
    let policy = Policy {
        window,
        span_chunks: 1,
        ..Policy::default()
    };
    let plan = |policy: &Policy| {
        let pair = KvPair::of("int8", "int8").unwrap();
        let chunks = std::iter::repeat_n(chunk, 4);
        SpansPlan::new(pair, config.rope_split().head_dim(), policy, chunks)
    };
    let takes_in = Policy {
        ema_sink: Some(ema_share()),
        ..policy
    };
    let refused = plan(&takes_in).unwrap_err().to_string();
    assert!(
        refused.contains("exact") && refused.contains("--kv"),
        "{refused}"
    );
    let spans = plan(&policy).unwrap().expect("something is coded");
    let setup = CacheSetup {
        format: KvFormat::F32,
        max_frames: spans.exact_frames,
        policy,
        spans: Some(spans),
    };
    let weights = Weights::open(weights).unwrap();
    let dit = Dit::load(&device, &config, &weights, WeightFormat::F32).unwrap();
    let schedule = Schedule::new(&config, None).unwrap();
    let mut sampler = Sampler::new(&device, dit, schedule, chunk, &setup).unwrap();
    let latents = vec![0.0; chunk * sampler.frame_values()];
    sampler.begin(0..chunk as i64, &latents).unwrap();
    let refused = sampler.renew(&latents, &[], Sink::Renewed).unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused.contains("exact") && refused.contains("--kv"),
        "{refused}"
    );
}

fn member(
    check: &mut Check,
    files: &Files<'_>,
    device: &Device,
    storage: Storage,
    prefix: &str,
) -> Option<()> {
    let name = |part: &str| format!("{prefix}.{part}");
    let mut config = DitConfig::from_selfforcing_json(files.config).unwrap();
    let frame = (config.in_channels * config.latent_height * config.latent_width) as usize;
    let chunk = config.chunk_frames as usize;
    // Both films with another prompt in the middle begin alike.
    let from = match prefix.starts_with("recache_") {
        true => "recache_sink",
        false => prefix,
    };
    let noise = check.reals(&format!("{from}.noise"))?;
    let n_chunks = noise.len() / frame / chunk;
    let windows: Vec<String> = check.names();
    let windows: Vec<_> = windows.iter().filter(|n| n.ends_with(".window")).collect();
    let own = windows.iter().find(|n| ***n == name("window"));
    let window = check.ints(own.or(windows.first())?)?;
    let n_steps = 1
        + (0..)
            .take_while(|s| check.has(&format!("{from}.c0.s{s}.renoise")))
            .count() as u32;
    let steps: Vec<u32> = (0..n_steps).map(|s| 1000 - 1000 * s / n_steps).collect();
    set_steps(&mut config, &steps, None);
    let mut setup = CacheSetup::exact(
        storage.kv,
        window[0] as usize,
        Window {
            frames: Some(window[0] as usize),
            sink: window[1] as usize,
        },
    );
    setup.policy = Policy {
        positions: match prefix {
            "relrope" | "emasink" => KeyPositions::Relative,
            _ => KeyPositions::Absolute,
        },
        ema_sink: (prefix == "emasink").then(ema_share),
        ..setup.policy
    };
    if let Some(name) = storage.coded {
        let chunks = std::iter::repeat_n(chunk, n_chunks);
        setup.policy.span_chunks = 1;
        let pair = KvPair::of(name, name).unwrap();
        let dim = config.rope_split().head_dim();
        setup.spans = SpansPlan::new(pair, dim, &setup.policy, chunks).unwrap();
        setup.max_frames = setup
            .spans
            .as_ref()
            .expect("something is coded")
            .exact_frames;
    }
    let switch = match prefix {
        "recache_sink" => Some(Sink::Kept),
        "recache_nosink" => Some(Sink::Renewed),
        _ => None,
    };
    let mut film = files.film(check, device, storage, prefix, config, &setup);
    film.prompt("prompt_embeds")?;
    let mut latents = Vec::new();
    for (c, noise) in noise.chunks(chunk * frame).enumerate() {
        let first = (c * chunk) as i64;
        if let Some(sink) = switch.filter(|_| c + 1 == n_chunks) {
            film.prompt("prompt_embeds_2")?;
            let frames = film.sampler.cache().renewal().unwrap();
            let at = |f: i64| f as usize * frame;
            film.sampler
                .renew(&latents[at(frames.start)..at(frames.end)], &[], sink)
                .unwrap();
            film.cached("after_recache", true);
        }
        let frames = first..first + chunk as i64;
        latents.extend(film.renoised_from(from, c, frames.clone(), noise)?);
        film.sampler.write_cache(frames, &[]).unwrap();
        film.cached(&format!("c{c}.ctx.cache"), false);
    }
    film.check.real(&name("latents"), &latents);
    let coded = film.sampler.cache().figures().coded_frames;
    assert_eq!(
        coded > 0,
        storage.coded.is_some(),
        "what was read from codes"
    );
    Some(())
}

impl Film<'_> {
    fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.prefix)
    }

    /// Sets the prompt called `name`, all its rows of padding with it.
    fn prompt(&mut self, name: &str) -> Option<()> {
        let mut prompt = self.check.reals(name)?;
        let Cross::Separate { text_dim, text_len } = self.config.cross else {
            panic!("a set of a network with text")
        };
        prompt.resize((text_dim * text_len) as usize, 0.0);
        self.sampler.set_text(&prompt, &mut Tape::blank()).unwrap();
        Some(())
    }

    /// The pass over given latents: one timestep is recorded for all frames.
    fn given(&mut self, k: usize, frames: Range<i64>, given: &[f32], frame: usize) {
        let latents = &given[frames.start as usize * frame..frames.end as usize * frame];
        self.sampler.begin(frames.clone(), latents).unwrap();
        let n = (frames.end - frames.start) as usize;
        let x_in = self.sampler.latents(n).unwrap();
        self.sampler.write_cache(frames, &[]).unwrap();
        let t = self.sampler.schedule().context_timestep;
        self.check.real(&self.name(&format!("init{k}.x_in")), &x_in);
        self.check.real(&self.name(&format!("init{k}.t")), &[t]);
    }

    fn chunk(&mut self, c: usize, frames: Range<i64>, noise: &[f32]) -> Option<Vec<f32>> {
        let from = self.prefix.clone();
        self.renoised_from(&from, c, frames, noise)
    }

    /// Denoises a chunk with the noise that is recorded under another film's name.
    fn renoised_from(
        &mut self,
        from: &str,
        c: usize,
        frames: Range<i64>,
        noise: &[f32],
    ) -> Option<Vec<f32>> {
        let n = (frames.end - frames.start) as usize;
        self.sampler.begin(frames.clone(), noise).unwrap();
        let steps = self
            .sampler
            .schedule()
            .steps_of(frames.start, false)
            .to_vec();
        let timesteps: Vec<f32> = steps.iter().map(|s| s.timestep).collect();
        if self.check.has(&self.name("denoise_t")) {
            self.check.real(&self.name("denoise_t"), &timesteps);
        }
        for (s, step) in steps.iter().enumerate() {
            let pass = self.name(&format!("c{c}.s{s}"));
            let x_in = self.sampler.latents(n).unwrap();
            self.check.some_real(&format!("{pass}.x_in"), &x_in);
            self.check
                .some_real(&format!("{pass}.t"), &vec![step.timestep; n]);
            let renoise = match s + 1 < steps.len() {
                true => self.check.reals(&format!("{from}.c{c}.s{s}.renoise"))?,
                false => Vec::new(),
            };
            let mut x0 = Vec::new();
            let mut take = |name: &str, values: Vec<f32>| {
                if name == "x0" {
                    x0 = values;
                }
            };
            let mut again = || renoise.clone();
            self.sampler
                .denoise(
                    *step,
                    frames.clone(),
                    &[],
                    &mut again,
                    &mut Tape::record(&mut take),
                )
                .unwrap();
            self.check.some_real(&format!("{pass}.x0"), &x0);
        }
        Some(self.sampler.latents(n).unwrap())
    }

    fn cache_pass(&mut self, c: usize, frames: Range<i64>) {
        let n = (frames.end - frames.start) as usize;
        let pass = self.name(&format!("c{c}.ctx"));
        let x_in = self.sampler.latents(n).unwrap();
        self.sampler.write_cache(frames, &[]).unwrap();
        let t = self.sampler.schedule().context_timestep;
        self.check.real(&format!("{pass}.x_in"), &x_in);
        self.check.real(&format!("{pass}.t"), &vec![t; n]);
    }

    /// Compares the cache with what is recorded under `part`, frames in their order; `rotated`: keys after RoPE.
    fn cached(&mut self, part: &str, rotated: bool) {
        let frames = self.sampler.cache().shown().to_vec();
        let tokens = i64::from(self.config.tokens_per_frame());
        let part = self.name(part);
        if !self.check.has_like(&format!("{part}."), "") {
            return;
        }
        let newest = frames.last().expect("a stored frame") + 1;
        self.check.exact(
            &format!("{part}.idx"),
            &[newest * tokens, frames.len() as i64 * tokens],
        );
        for layer in 0..self.config.layers as usize {
            let (mut k, mut v) = (Vec::new(), Vec::new());
            for frame in &frames {
                let cache = self.sampler.cache();
                let (fk, fv) = cache.read_frame(self.device, layer, *frame).unwrap();
                k.extend(fk);
                v.extend(fv);
            }
            if rotated {
                let (rows, cols) = self.config.grid();
                k = turned(
                    self.device,
                    self.config.rope_split(),
                    self.config.rope.theta,
                    (rows as usize, cols as usize),
                    &frames,
                    &k,
                );
            }
            self.check.some_real(&format!("{part}.b{layer}.k"), &k);
            self.check.some_real(&format!("{part}.b{layer}.v"), &v);
        }
    }
}

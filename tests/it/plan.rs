//! Plans against the ledger: what is told before a film is what the device held at its end, peak included.

use std::path::{Path, PathBuf};

use longtake::codec::KvPair;
use longtake::decode::{Decoder as _, DecoderShape, Taehv, TaehvShape};
use longtake::gpu::{Caps, Device, Kind, TierRequest};
use longtake::model::config::{Cross, DitConfig};
use longtake::model::{Dit, Tape};
use longtake::ops::WeightFormat;
use longtake::rollout::event::MemoryUse;
use longtake::rollout::fit::{self, Fit, Reach};
use longtake::rollout::{
    Coded, Config, Error, ModelSource, Outline, Sampler, Schedule, Session, Speed,
};
use longtake::weights::Weights;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::rollout::walk;
use crate::support;

/// How far a plan may be off.
const WITHIN: f64 = 0.02;

fn fixture(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/selfforcing");
    root.join(name)
}

#[track_caller]
fn near(what: &str, planned: u64, held: u64) {
    let off = planned as f64 / held as f64 - 1.0;
    println!(
        "{what}: planned {planned}, held {held}, off by {:.3} %",
        100.0 * off
    );
    assert!(
        off.abs() <= WITHIN,
        "{what}: planned {planned}, held {held}"
    );
}

fn coded(name: &str, span: Option<u32>) -> Option<Coded> {
    Some(Coded {
        span,
        ..Coded::new(KvPair::of(name, name).unwrap())
    })
}

#[test]
fn plans_of_the_demo_world_are_what_the_ledger_held() {
    let model = ModelSource::rooms().unwrap();
    for (kv, span, window, sink) in [
        (None, None, None, 0),
        (None, None, Some(7), 2),
        (Some("int8"), None, None, 0),
        (Some("int2"), Some(1), Some(8), 2),
        (Some("kivi-int4"), Some(4), None, 0),
    ] {
        let Some(device) = support::open(TierRequest::Best) else {
            return;
        };
        let config = Config {
            coded: kv.and_then(|name| coded(name, span)),
            window,
            sink,
            ..Config::default()
        };
        let way = walk(13).1;
        let film = model.outline(way.given.len(), way.poses.len()).unwrap();
        let found = Fit::new(device.caps(), &film, &config).unwrap();
        let mut session = Session::new(&device, &model, way, &config).unwrap();
        while session.next_chunk(&mut |_| {}).unwrap().is_some() {}
        let (planned, held) = (found.needs.memory, session.memory());
        let what = format!("rooms, {kv:?} by {span:?}, window {window:?}");
        near(&what, planned.peak_device_bytes, held.peak_device_bytes);
        assert_eq!(planned, held, "{what}");
    }
}

/// A film from text as far as it holds memory: the text's keys and values, `chunks` chunks of `steps` passes, the decoder.
fn roll(
    device: &Device,
    config: &DitConfig,
    weights: &Weights,
    decoder: Option<&Weights>,
    settings: &Config,
    chunks: usize,
    steps: usize,
) -> (Fit, u64, MemoryUse) {
    let chunk = config.chunk_frames as usize;
    let grid = (config.latent_height as usize, config.latent_width as usize);
    let film = Outline {
        name: "text",
        model: config,
        given: 0,
        frames: chunks * chunk,
        decoder: decoder.map_or(DecoderShape::Pixels, |w| {
            DecoderShape::Taehv(TaehvShape::of(w).unwrap())
        }),
        text_encoder_bytes: 0,
    };
    let planned = Fit::new(device.caps(), &film, settings).unwrap();
    assert_eq!(planned.refused, None);
    let dit = Dit::load(device, config, weights, settings.weights).unwrap();
    let schedule = Schedule::new(config, settings.steps).unwrap();
    let setup = settings.cache(config, 0, chunks * chunk).unwrap();
    let mut sampler = Sampler::new(device, dit, schedule, chunk, &setup).unwrap();
    let mut taehv = decoder.map(|w| Taehv::load(device, w, grid).unwrap());
    let Cross::Separate { text_dim, text_len } = config.cross else {
        panic!("a model with text")
    };
    let prompt = support::values(3, (text_dim * text_len) as usize);
    sampler.set_text(&prompt, &mut Tape::blank()).unwrap();
    let values = chunk * sampler.frame_values();
    let passes = sampler.schedule().steps[..steps].to_vec();
    for c in 0..chunks as i64 {
        let frames = c * chunk as i64..(c + 1) * chunk as i64;
        let noise = || support::values(c as u64 + 9, values);
        sampler.begin(frames.clone(), &noise()).unwrap();
        for step in passes.iter().copied() {
            sampler
                .denoise(
                    step,
                    frames.clone(),
                    &[],
                    &mut || noise(),
                    &mut Tape::blank(),
                )
                .unwrap();
        }
        if c + 1 < chunks as i64 {
            sampler.write_cache(frames, &[]).unwrap();
        }
        let latents = sampler.latents(chunk).unwrap();
        if let Some(taehv) = &mut taehv {
            taehv.decode(&latents).unwrap();
        }
    }
    let l = device.ledger();
    let held = MemoryUse {
        weights_bytes: l.bytes(longtake::gpu::Purpose::Weights),
        cache_bytes: l.bytes(longtake::gpu::Purpose::Cache),
        spans_bytes: l.bytes(longtake::gpu::Purpose::Spans),
        activations_bytes: l.bytes(longtake::gpu::Purpose::Activations),
        scratch_bytes: l.bytes(longtake::gpu::Purpose::Scratch),
        viewer_bytes: 0,
        device_bytes: l.total(),
        peak_device_bytes: l.peak(),
    };
    (planned, l.peak(), held)
}

#[test]
fn plans_of_a_small_text_model_are_what_the_ledger_held() {
    let text = std::fs::read_to_string(fixture("config.json")).unwrap();
    let config = DitConfig::from_selfforcing_json(&text).unwrap();
    let weights = Weights::open(&fixture("weights_dit.safetensors")).unwrap();
    let decoder = Weights::open(&fixture("weights_taehv.safetensors")).unwrap();
    let fits = TaehvShape::of(&decoder).unwrap().channels == config.in_channels as usize;
    for (kv, span, window, sink) in [
        (None, None, None, 0),
        (None, None, Some(6), 2),
        (Some("int4"), Some(2), None, 0),
        (Some("int2"), Some(1), Some(7), 3),
    ] {
        for weights_as in WeightFormat::ALL {
            let Some(device) = support::open(TierRequest::Best) else {
                return;
            };
            let settings = Config {
                coded: kv.and_then(|name| coded(name, span)),
                window,
                sink,
                weights: weights_as,
                ..Config::default()
            };
            let decoder = fits.then_some(&decoder);
            let (planned, peak, held) = roll(&device, &config, &weights, decoder, &settings, 5, 1);
            let what = format!("text, {kv:?}, window {window:?}, {weights_as:?}");
            near(&what, planned.needs.memory.peak_device_bytes, peak);
            assert_eq!(planned.needs.memory, held, "{what}");
        }
    }
}

#[test]
fn the_small_decoder_takes_what_its_shape_says() {
    let weights = Weights::open(&fixture("weights_taehv.safetensors")).unwrap();
    let Some(device) = support::open(TierRequest::Best) else {
        return;
    };
    let before = device.ledger().total();
    let shape = TaehvShape::of(&weights).unwrap();
    let (grid, one) = ((6, 10), shape.channels * 60);
    let mut taehv = Taehv::load(&device, &weights, grid).unwrap();
    let needs = shape.needs(grid);
    let held = device.ledger().total() - before;
    assert_eq!(needs.weights_bytes + needs.activations_bytes, held);
    taehv.decode(&support::values(1, 2 * one)).unwrap();
    assert_eq!(device.ledger().peak() - before, held + needs.read_bytes);
}

/// A checkpoint of half floats for a config, in memory.
pub fn made_up(config: &DitConfig) -> Weights {
    let tensors = config.tensors();
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .enumerate()
        .map(|(i, t)| {
            let n = t.shape.iter().product::<usize>();
            let small = |v: f32| 0.02 * v;
            let values: Vec<f32> = support::values(i as u64, n)
                .into_iter()
                .map(small)
                .collect();
            bytemuck::pod_collect_to_vec(&WeightFormat::F16.pack(&values))
        })
        .collect();
    let views = tensors.iter().zip(&bytes).map(|(t, bytes)| {
        let view = TensorView::new(Dtype::F16, t.shape.clone(), bytes).unwrap();
        (t.name.as_str(), view)
    });
    let file = safetensors::serialize(views, None).unwrap();
    Weights::from_bytes("made up", file).unwrap()
}

#[test]
fn a_plan_at_full_width_is_what_the_ledger_held() {
    let Some(device) = support::open(TierRequest::Best) else {
        return;
    };
    let mut config = DitConfig::selfforcing_1_3b().with_picture(96, 160).unwrap();
    (config.layers, config.chunk_frames) = (1, 1);
    config.check().unwrap();
    let weights = made_up(&config);
    let settings = Config {
        coded: coded("int2", Some(2)),
        window: Some(5),
        sink: 1,
        ..Config::default()
    };
    let (planned, peak, held) = roll(&device, &config, &weights, None, &settings, 7, 1);
    near(
        "one block of 1.3B",
        planned.needs.memory.peak_device_bytes,
        peak,
    );
    assert_eq!(planned.needs.memory, held);
}

#[test]
fn what_is_asked_for_is_refused_with_the_settings_that_fit() {
    let model = ModelSource::rooms().unwrap();
    let caps = |memory: u64| Caps {
        memory_bytes: Some(memory),
        ..Device::twin().caps().clone()
    };
    let film = model.outline(48, 64).unwrap();
    let asked = Config::default();
    let whole = Fit::new(&caps(1 << 40), &film, &asked).unwrap();
    let peak = whole.needs.memory.peak_device_bytes;
    assert_eq!(whole.choices[0].reach, Some(Reach::Asked));
    assert!(fit::auto(&caps(peak), &film, &asked).unwrap().is_none());
    // A byte less, and down to where nothing fits: what is taken fits, and no wider step of the ladder did.
    let names: Vec<_> = whole.choices.iter().map(|c| c.kv.clone()).collect();
    assert!(names.len() == 1 + fit::LADDER.len(), "{names:?}");
    let mut last = 0;
    for c in &whole.choices[1..] {
        let (taken, config) = fit::auto(&caps(c.peak_bytes), &film, &asked)
            .unwrap()
            .unwrap();
        assert_eq!((&taken.kv, taken.reach), (&c.kv, Some(Reach::Asked)));
        assert_eq!(config.window, None);
        let at = names.iter().position(|n| *n == taken.kv).unwrap();
        assert!(last < at);
        last = at;
    }
    let narrowest = whole.choices.last().unwrap();
    let less = narrowest.peak_bytes - narrowest.cache_bytes / 2;
    let (taken, config) = fit::auto(&caps(less), &film, &asked).unwrap().unwrap();
    let Some(Reach::Window(window)) = taken.reach else {
        panic!("{taken:?}")
    };
    assert_eq!(config.window, Some(window));
    let under = |window| {
        let config = Config {
            window: Some(window),
            ..config.clone()
        };
        let found = Fit::new(&caps(less), &film, &config).unwrap();
        found.needs.memory.peak_device_bytes
    };
    assert!(under(window) <= less && less < under(window + 1));
    let weights_alone = whole.needs.memory.weights_bytes;
    let error = fit::auto(&caps(weights_alone), &film, &asked).unwrap_err();
    assert!(
        matches!(&error, Error::WouldNotFit(t) if t.contains("no --window helps")),
        "{error}"
    );
}

#[test]
fn a_stated_budget_goes_before_what_is_free() {
    let device = Device::twin();
    let model = ModelSource::rooms().unwrap();
    let way = || walk(2).1;
    let ask = |budget_bytes| {
        let config = Config {
            budget_bytes,
            ..Config::default()
        };
        Session::preview(&device, &model, &way().into(), &config)
    };
    let text = ask(Some(1 << 20)).unwrap_err().to_string();
    for part in ["1.0 MiB are free", "CACHE", "--kv int2"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    ask(Some(u64::MAX)).unwrap();
}

#[test]
fn a_long_film_is_searched_in_no_time() {
    let model = ModelSource::rooms().unwrap();
    let film = model.outline(48, 1_000_000).unwrap();
    let caps = fit::card(1 << 30);
    let begun = std::time::Instant::now();
    let found = Fit::new(&caps, &film, &Config::default()).unwrap();
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    let (taken, config) = fit::auto(&caps, &film, &Config::default())
        .unwrap()
        .unwrap();
    assert!(matches!(taken.reach, Some(Reach::Window(_))), "{found:?}");
    assert!(config.window.is_some());
}

#[test]
fn speeds_are_measured_for_every_kind_of_cache() {
    let Some(device) = support::device() else {
        return;
    };
    let model = ModelSource::rooms().unwrap();
    for (coded, offload) in [(None, 0), (coded("int2", None), 2)] {
        let config = Config {
            coded,
            offload,
            ..Config::default()
        };
        let speed = Speed::measure(device, &model.config, &config, true).unwrap();
        for rate in [speed.linear, speed.attention, speed.convolution] {
            assert!(1e6 < rate && rate < 1e15, "{speed:?}");
        }
        let film = model.outline(2, 3).unwrap();
        let needs = Fit::new(device.caps(), &film, &config).unwrap().needs;
        let uploads = |upload: f64| needs.upload_bytes as f64 / upload;
        let without = Speed {
            upload: None,
            ..speed
        };
        assert_eq!(speed.upload.is_some(), 0 < offload);
        let added = speed.secs(&needs) - without.secs(&needs);
        let expected = speed.upload.map_or(0.0, uploads);
        assert!((added - expected).abs() <= 1e-9, "{speed:?}");
        assert!(expected < 10.0 && (0.0 < expected) == (0 < offload));
        let even = Speed::even(1e9).secs(&needs);
        let flop = needs.work.linear_flop + needs.work.attention_flop;
        assert!((even - flop / 1e9).abs() <= 1e-9 * even);
        assert_eq!(device.caps().kind == Kind::Twin, needs.staging_bytes == 0);
    }
}

//! Films from text on the device: a network of two blocks and narrow decoder, the real session.

use std::path::{Path, PathBuf};

use longtake::cache::Sink;
use longtake::decode::{DecoderSource, WanOptions};
use longtake::frame::Frame;
use longtake::gpu::{Device, TierRequest};
use longtake::model::config::DitConfig;
use longtake::model::{Dit, Tape};
use longtake::ops::WeightFormat;
use longtake::rollout::event::{Event, MemoryUse};
use longtake::rollout::noise::{self, START};
use longtake::rollout::{
    Coded, Config, Cue, Error, Film, ModelSource, Sampler, Schedule, Script, Session, Turn,
};
use longtake::weights::Weights;

use crate::support::{self, values};

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/selfforcing"
    ))
    .join(name)
}

fn model() -> ModelSource {
    let text = std::fs::read_to_string(fixture("config.json")).unwrap();
    let weights = |name: &str| Weights::open(&fixture(name)).unwrap();
    ModelSource {
        name: "tiny".to_owned(),
        config: DitConfig::from_selfforcing_json(&text).unwrap(),
        weights: weights("weights_dit.safetensors"),
        lora: None,
        decoder: DecoderSource::Taehv(weights("weights_taehv.safetensors")),
    }
}

/// A prompt of so many tokens, which stands for an encoded one.
fn prompt(seed: u64, tokens: usize) -> Vec<f32> {
    values(seed, tokens * 64)
}

fn make(session: &mut Session) -> (Vec<Frame>, Vec<Event>) {
    let (mut frames, mut events) = (Vec::new(), Vec::new());
    while let Some(chunk) = session.next_chunk(&mut |e| events.push(e)).unwrap() {
        frames.extend(chunk.frames);
    }
    (frames, events)
}

fn film(device: &Device, script: Script, config: &Config) -> (Vec<Frame>, Vec<Event>) {
    make(&mut Session::new(device, &model(), script, config).unwrap())
}

#[test]
fn the_plan_of_a_film_from_text_is_what_the_ledger_holds() {
    // A prompt that renews the window takes most where it comes last, before a cache that is full.
    for (chunks, window, kv, wan, renew) in [
        (2, None, None, false, None),
        (4, Some(7), None, false, None),
        (6, None, Some("int4"), false, None),
        (6, None, Some("int4"), false, Some(Sink::Kept)),
        (2, None, None, true, None),
        (4, Some(7), None, false, Some(Sink::Kept)),
        (5, Some(6), None, false, Some(Sink::Renewed)),
    ] {
        // A device of its own: the ledger's peak is of the device's whole life.
        let Some(device) = support::open(TierRequest::Best) else {
            return;
        };
        let config = Config {
            window,
            sink: window.map_or(0, |_| 1),
            renew,
            coded: kv.map(|name| Coded {
                span: Some(3),
                ..Coded::new(longtake::codec::KvPair::of(name, name).unwrap())
            }),
            ..Config::default()
        };
        let second = renew.map_or(1, |_| chunks - 1);
        let turns = [(0, prompt(1, 5)), (second, prompt(2, 16))].map(|(chunk, rows)| Turn {
            chunk,
            blend: 0,
            rows,
        });
        let script = Script::new(&turns, chunks, 3 * chunks as usize);
        let mut model = model();
        if wan {
            let weights = Weights::open(&fixture("weights_vae.safetensors")).unwrap();
            model.decoder = DecoderSource::Wan(weights, WanOptions::default());
        }
        let mut session = Session::new(&device, &model, script, &config).unwrap();
        let Event::Plan {
            planned, frames, ..
        } = session.plan()
        else {
            panic!("the first event is the plan");
        };
        let (made, _) = make(&mut session);
        assert_eq!(made.len(), frames as usize);
        let memory: MemoryUse = session.memory();
        assert_eq!(
            memory, planned,
            "window {window:?}, {kv:?}, wan {wan}, {renew:?}"
        );
    }
}

/// Less memory than the whole decoder asks for: it is cut, the plan says so to the byte, and no picture changes.
#[test]
fn a_film_in_little_memory_has_the_same_pictures() {
    let open = || support::open(TierRequest::Best);
    let film = |device: &Device, budget: Option<u64>| {
        let mut model = model();
        let weights = Weights::open(&fixture("weights_vae.safetensors")).unwrap();
        model.decoder = DecoderSource::Wan(weights, WanOptions::default());
        let config = Config {
            budget_bytes: budget,
            ..Config::default()
        };
        let script = Script::one(prompt(1, 5), 9);
        let mut session = Session::new(device, &model, script, &config).unwrap();
        let Event::Plan { planned, .. } = session.plan() else {
            panic!("the first event is the plan");
        };
        let (frames, _) = make(&mut session);
        assert_eq!(session.memory(), planned, "{budget:?}");
        (frames, planned)
    };
    let Some(device) = open() else {
        return;
    };
    let (whole, plan) = film(&device, None);
    drop(device);
    let device = open().unwrap();
    let budget = plan.peak_device_bytes - 1;
    let (cut, less) = film(&device, Some(budget));
    assert!(less.peak_device_bytes <= budget);
    assert!(less.activations_bytes < plan.activations_bytes);
    assert!(whole == cut);
}

#[test]
fn a_film_from_text_begins_with_one_picture_and_goes_on_by_four() {
    let Some(device) = support::device() else {
        return;
    };
    let (frames, events) = film(device, Script::one(prompt(1, 5), 9), &Config::default());
    assert_eq!(frames.len(), 33);
    assert_eq!((frames[0].width, frames[0].height), (48, 32));
    let ready: Vec<(u32, u32)> = (events.iter())
        .filter_map(|e| match e {
            Event::FramesReady {
                first_frame,
                frames,
                ..
            } => Some((*first_frame, *frames)),
            _ => None,
        })
        .collect();
    assert_eq!(ready, [(0, 9), (9, 12), (21, 12)]);
}

#[test]
fn a_film_from_text_is_its_seed_and_its_prompt() {
    let Some(device) = support::device() else {
        return;
    };
    let made = |seed, rows: Vec<f32>| {
        let config = Config {
            seed,
            ..Config::default()
        };
        film(device, Script::one(rows, 6), &config).0
    };
    let first = made(7, prompt(1, 5));
    assert!(first == made(7, prompt(1, 5)));
    assert!(first != made(8, prompt(1, 5)));
    assert!(first != made(7, prompt(2, 5)));
}

#[test]
fn a_prompt_of_the_script_is_the_one_that_is_set_on_the_way() {
    let Some(device) = support::device() else {
        return;
    };
    let script = Script {
        cues: [(0, prompt(1, 5)), (2, prompt(2, 9))]
            .map(|(chunk, rows)| Cue { chunk, rows })
            .into(),
        latents: 12,
    };
    let (planned, events) = film(device, script, &Config::default());
    let set: Vec<(u32, u32)> = (events.iter())
        .filter_map(|e| match e {
            Event::PromptSet {
                chunk, first_frame, ..
            } => Some((*chunk, *first_frame)),
            _ => None,
        })
        .collect();
    assert_eq!(set, [(0, 0), (2, 21)]);

    let one = Script::one(prompt(1, 5), 12);
    let mut session = Session::new(device, &model(), one.clone(), &Config::default()).unwrap();
    let mut told = Vec::new();
    for _ in 0..2 {
        told.extend(session.next_chunk(&mut |_| {}).unwrap().unwrap().frames);
    }
    assert!(session.set_prompt(prompt(2, 17)).is_err());
    session.set_prompt(prompt(3, 3)).unwrap();
    session.set_prompt(prompt(2, 9)).unwrap();
    told.extend(make(&mut session).0);
    assert!(planned == told, "the same prompts from the same chunks on");

    let unchanged = film(device, one, &Config::default()).0;
    assert_eq!(unchanged[..21], told[..21]);
    assert_ne!(unchanged[21..], told[21..]);
}

/// A film of chunks of three frames, driven step by step: the second prompt comes before chunk `switch` and finds the cache
/// computed anew.
fn renewed_by_hand(
    device: &Device,
    config: &Config,
    prompts: [&[f32]; 2],
    (switch, chunks): (i64, i64),
) -> Vec<Frame> {
    let model = model();
    let (c, n) = (&model.config, 3);
    let schedule = Schedule::new(c, None).unwrap();
    let dit = Dit::load(device, c, &model.weights, WeightFormat::F16).unwrap();
    let setup = config.cache(c, 0, 3 * chunks as usize).unwrap();
    let mut sampler = Sampler::new(device, dit, schedule, n, &setup).unwrap();
    let mut decoder = model.decoder.load(device, c.latent_grid(), 1).unwrap();
    let len = sampler.frame_values();
    let (mut latents, mut frames) = (Vec::new(), Vec::new());
    let tape = &mut Tape::blank();
    sampler.set_text(prompts[0], tape).unwrap();
    for chunk in 0..chunks {
        let ids = 3 * chunk..3 * chunk + 3;
        if chunk == switch {
            sampler.set_text(prompts[1], tape).unwrap();
            let seen = sampler.cache().renewal().unwrap();
            let seen = seen.start as usize * len..seen.end as usize * len;
            let sink = config.renew.unwrap();
            sampler.renew(&latents[seen], &[], sink).unwrap();
        } else if 0 < chunk {
            sampler.write_cache(ids.start - 3..ids.start, &[]).unwrap();
        }
        let draw = |stream| -> Vec<f32> {
            let frames = ids.clone();
            frames
                .flat_map(|f| noise::normal(config.seed, stream, f, len))
                .collect()
        };
        sampler.begin(ids.clone(), &draw(START)).unwrap();
        let steps = sampler.schedule().steps_of(ids.start, false).to_vec();
        for (i, step) in (0..).zip(steps) {
            let mut again = || draw(START + 1 + i);
            sampler
                .denoise(step, ids.clone(), &[], &mut again, tape)
                .unwrap();
        }
        let made = sampler.latents(n).unwrap();
        frames.extend(decoder.decode(&made).unwrap().unwrap());
        latents.extend(made);
    }
    frames
}

#[test]
fn a_prompt_that_renews_the_window_runs_the_newest_frames_again() {
    let Some(device) = support::device() else {
        return;
    };
    let (switch, chunks) = (4, 6);
    let cues = [(0, prompt(1, 5)), (switch, prompt(2, 9))].map(|(chunk, rows)| Cue { chunk, rows });
    let script = Script {
        cues: cues.clone().into(),
        latents: 3 * chunks,
    };
    let with = |renew| Config {
        window: Some(7),
        sink: 1,
        renew,
        ..Config::default()
    };
    let (kept, events) = film(device, script.clone(), &with(None));
    let renewed = |events: &[Event]| -> Vec<u32> {
        let frames = |e: &Event| match e {
            Event::PromptSet { renewed_frames, .. } => Some(*renewed_frames),
            _ => None,
        };
        events.iter().filter_map(frames).collect()
    };
    assert_eq!(renewed(&events), [0, 0]);
    let before = model().config.pictures(3 * switch as usize);
    let mut films = Vec::new();
    for sink in [Sink::Kept, Sink::Renewed] {
        let config = with(Some(sink));
        let (frames, events) = film(device, script.clone(), &config);
        assert_eq!(renewed(&events), [0, 7], "{sink:?}");
        let by_hand = renewed_by_hand(
            device,
            &config,
            [&cues[0].rows, &cues[1].rows],
            (i64::from(switch), chunks as i64),
        );
        assert!(frames == by_hand, "{sink:?}");
        assert_eq!(frames[..before], kept[..before]);
        assert_ne!(frames[before..], kept[before..]);

        let one = Script::one(cues[0].rows.clone(), 3 * chunks);
        let mut session = Session::new(device, &model(), one, &config).unwrap();
        let mut told = Vec::new();
        for _ in 0..switch {
            told.extend(session.next_chunk(&mut |_| {}).unwrap().unwrap().frames);
        }
        session.set_prompt(cues[1].rows.clone()).unwrap();
        told.extend(make(&mut session).0);
        assert!(frames == told, "{sink:?}: told on the way");
        films.push(frames);
    }
    assert_ne!(films[0], films[1]);

    // Coded keys and values stay as they are.
    let coded = Config {
        coded: Some(Coded {
            span: Some(3),
            ..Coded::new(longtake::codec::KvPair::of("int4", "int4").unwrap())
        }),
        ..with(Some(Sink::Kept))
    };
    let warnings = |events: &[Event]| -> usize {
        let is =
            |e: &&Event| matches!(e, Event::Warning { text } if text.contains("stay as they are"));
        events.iter().filter(is).count()
    };
    let (_, events) = film(device, script.clone(), &coded);
    assert_eq!((renewed(&events), warnings(&events)), (vec![0, 0], 1));
    let (_, events) = film(device, script, &with(Some(Sink::Kept)));
    assert_eq!(warnings(&events), 0);
}

#[test]
fn a_pass_without_its_text_is_an_error() {
    let device = Device::twin();
    let (model, config) = (model(), Config::default());
    let c = &model.config;
    let dit = Dit::load(&device, c, &model.weights, WeightFormat::F16).unwrap();
    let setup = config.cache(c, 0, 3).unwrap();
    let schedule = Schedule::new(c, None).unwrap();
    let mut sampler = Sampler::new(&device, dit, schedule, 3, &setup).unwrap();
    let noise = values(1, 3 * sampler.frame_values());
    sampler.begin(0..3, &noise).unwrap();
    let error = sampler.write_cache(0..3, &[]).unwrap_err();
    assert!(error.to_string().contains("attends to a text"), "{error}");
    sampler.set_text(&prompt(1, 5), &mut Tape::blank()).unwrap();
    sampler.write_cache(0..3, &[]).unwrap();
}

#[test]
fn a_window_too_long_for_one_pass_cannot_be_renewed() {
    let device = Device::twin();
    let config = Config {
        renew: Some(Sink::Kept),
        ..Config::default()
    };
    let long = Script::one(prompt(1, 5), 3000);
    let error = Session::new(&device, &model(), long, &config).unwrap_err();
    assert!(error.to_string().contains("at most"), "{error}");
}

#[test]
fn what_a_film_from_text_cannot_have_is_refused() {
    let device = Device::twin();
    let refused = |film: Film, config: &Config| -> String {
        let error: Error = Session::new(&device, &model(), film, config).unwrap_err();
        error.to_string()
    };
    let script = || Film::from(Script::one(prompt(1, 5), 6));
    let undo = Config {
        undo_bytes: 1,
        ..Config::default()
    };
    assert!(refused(script(), &undo).contains("cut back"));
    let none = Script {
        cues: Vec::new(),
        latents: 6,
    };
    assert!(refused(none.into(), &Config::default()).contains("needs a prompt"));
    let steps = Config {
        steps: Some(3),
        ..Config::default()
    };
    assert!(refused(script(), &steps).contains("distilled for 4 steps"));

    let other = ModelSource {
        decoder: DecoderSource::Pixels,
        ..model()
    };
    let error = Session::new(&device, &other, script(), &Config::default()).unwrap_err();
    assert!(error.to_string().contains("take the decoder"), "{error}");
    let rooms = ModelSource::rooms().unwrap();
    let error = Session::new(&device, &rooms, script(), &Config::default()).unwrap_err();
    assert!(error.to_string().contains("prompt alone"), "{error}");
}

//! Films from text on the device: a network of two blocks and narrow decoder, the real session.

use std::path::{Path, PathBuf};

use longtake::decode::{DecoderSource, WanOptions};
use longtake::frame::Frame;
use longtake::gpu::{Device, TierRequest};
use longtake::model::config::DitConfig;
use longtake::rollout::event::{Event, MemoryUse};
use longtake::rollout::{Coded, Config, Cue, Error, Film, ModelSource, Script, Session, Turn};
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
    for (chunks, window, kv, wan) in [
        (2, None, None, false),
        (4, Some(7), None, false),
        (6, None, Some("int4"), false),
        (2, None, None, true),
    ] {
        // A device of its own: the ledger's peak is of the device's whole life.
        let Some(device) = support::open(TierRequest::Best) else {
            return;
        };
        let config = Config {
            window,
            sink: window.map_or(0, |_| 1),
            coded: kv.map(|name| Coded {
                span: Some(3),
                ..Coded::new(longtake::codec::KvPair::of(name, name).unwrap())
            }),
            ..Config::default()
        };
        let turns = [(0, prompt(1, 5)), (1, prompt(2, 16))].map(|(chunk, rows)| Turn {
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
        assert_eq!(memory, planned, "window {window:?}, {kv:?}, wan {wan}");
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
            Event::PromptSet { chunk, first_frame } => Some((*chunk, *first_frame)),
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

//! Layers that wait in main memory: the same films in less device memory, as planned.

use std::path::Path;

use longtake::codec::KvPair;
use longtake::decode::{DecoderShape, DecoderSource, TaehvShape};
use longtake::frame::Frame;
use longtake::gpu::{Caps, Device, Feed, Kind, Purpose, Recorder, TierRequest};
use longtake::model::Dit;
use longtake::model::config::DitConfig;
use longtake::ops::{Activation, Linear, Matrix, Store, WeightFormat, linear};
use longtake::rollout::event::{Event, Offload};
use longtake::rollout::fit::{self, Fit, Reach};
use longtake::rollout::{Coded, Config, Error, Film, ModelSource, Outline, Script, Session, Turn};
use longtake::weights::Weights;

use crate::rollout::walk;
use crate::support::{self, values};

fn tiny() -> ModelSource {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/selfforcing");
    let weights = |name: &str| Weights::open(&folder.join(name)).unwrap();
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    ModelSource {
        name: "tiny".to_owned(),
        config: DitConfig::from_selfforcing_json(&text).unwrap(),
        weights: weights("weights_dit.safetensors"),
        lora: None,
        decoder: DecoderSource::Taehv(weights("weights_taehv.safetensors")),
    }
}

/// Two prompts over three chunks.
fn script() -> Film {
    let turn = |chunk, rows| Turn {
        chunk,
        blend: 0,
        rows,
    };
    let turns = [turn(0, values(1, 5 * 64)), turn(2, values(2, 16 * 64))];
    Script::new(&turns, 3, 9).into()
}

struct Made {
    frames: Vec<Frame>,
    weights_peak: u64,
    total_peak: u64,
    passes: u64,
    offload: Offload,
    uploaded: u64,
}

/// A whole film on a device of its own, held to its plan.
fn make(device: &Device, model: &ModelSource, film: Film, config: &Config) -> Made {
    let mut session = Session::new(device, model, film, config).unwrap();
    let Event::Plan {
        planned, offload, ..
    } = session.plan()
    else {
        panic!("the first event is the plan");
    };
    let (mut frames, mut passes) = (Vec::new(), 0);
    let mut on = |event: Event| {
        if matches!(event, Event::PassDone { .. }) {
            passes += 1;
        }
    };
    while let Some(chunk) = session.next_chunk(&mut on).unwrap() {
        frames.extend(chunk.frames);
    }
    assert_eq!(session.memory(), planned, "{config:?}");
    let (told, uploaded) = session.offload();
    assert_eq!(told, offload);
    let ledger = device.ledger();
    Made {
        frames,
        weights_peak: ledger.peak_of(Purpose::Weights),
        total_peak: ledger.peak(),
        passes,
        offload,
        uploaded,
    }
}

/// Films of one model with few, some and all layers in main memory, on devices that `open` opens: the same pictures, and as many
/// bytes less as layers make way.
fn some_wait(
    open: &dyn Fn() -> Option<Device>,
    model: &ModelSource,
    film: &dyn Fn() -> Film,
    format: WeightFormat,
) {
    let made = |offload: u32| -> Option<Made> {
        let config = Config {
            offload,
            weights: format,
            seed: 5,
            ..Config::default()
        };
        Some(make(&open()?, model, film(), &config))
    };
    let Some(whole) = made(0) else { return };
    assert_eq!((whole.offload.layers, whole.uploaded), (0, 0));
    let (layers, block) = (model.config.layers, Dit::block_bytes(&model.config, format));
    let staging = match open() {
        Some(device) => Feed::staging_bytes(device.caps(), block),
        None => return,
    };
    let numbers = std::collections::BTreeSet::from([2, layers / 2 + 1, layers]);
    for offload in numbers {
        let m = made(offload).unwrap();
        assert!(m.frames == whole.frames, "{offload} layers, {format:?}");
        let n = u64::from(offload);
        assert_eq!(u64::from(m.offload.layers), n);
        assert_eq!(m.offload.host_bytes, n * block);
        let shared = (n - 1) * block;
        assert_eq!(whole.weights_peak - m.weights_peak, shared, "{offload}");
        assert_eq!(
            whole.total_peak + staging - m.total_peak,
            shared,
            "{offload}"
        );
        // Every pass uploads its part of every block that waits, every prompt the rest.
        let of_text = n * block - m.offload.pass_bytes;
        let prompts = match of_text {
            0 => 0,
            _ => (m.uploaded - m.passes * m.offload.pass_bytes) / of_text,
        };
        assert_eq!(
            m.uploaded,
            m.passes * m.offload.pass_bytes + prompts * of_text
        );
        assert!(of_text == 0 || (2..=4).contains(&prompts), "{prompts}");
    }
}

#[test]
fn a_walk_is_the_same_whatever_waits() {
    let model = ModelSource::rooms().unwrap();
    let film = || walk(2).1.into();
    for tier in [TierRequest::Best, TierRequest::Portable] {
        some_wait(&|| support::open(tier), &model, &film, WeightFormat::F16);
    }
}

#[test]
fn a_walk_of_the_twins_is_the_same_whatever_waits() {
    let model = ModelSource::rooms().unwrap();
    let film = || walk(1).1.into();
    let made = |offload| {
        let config = Config {
            offload,
            ..Config::default()
        };
        make(&Device::twin(), &model, film(), &config)
    };
    let (whole, all) = (made(0), made(u32::MAX));
    assert!(whole.frames == all.frames);
    assert!(all.total_peak < whole.total_peak && all.uploaded > 0);
}

#[test]
fn a_film_from_text_is_the_same_whatever_waits() {
    let model = tiny();
    for format in WeightFormat::ALL {
        let open = || support::open(TierRequest::Best);
        some_wait(&open, &model, &script, format);
        some_wait(&|| Some(Device::twin()), &model, &script, format);
    }
}

#[test]
fn submits_cut_to_pieces_keep_their_place_behind_an_upload() {
    let model = ModelSource::rooms().unwrap();
    let made = |offload, most| {
        let device = support::open(TierRequest::Best)?;
        if let Some(most) = most {
            device.limit_submit_work(most);
        }
        let config = Config {
            offload,
            ..Config::default()
        };
        Some(make(&device, &model, walk(2).1.into(), &config).frames)
    };
    let Some(whole) = made(0, None) else { return };
    for most in [None, Some(3_000_000)] {
        assert!(made(u32::MAX, most).unwrap() == whole, "{most:?}");
    }
}

/// Products with weights that change between recordings, many times over without a wait: each sees its own.
#[test]
fn work_recorded_before_a_fill_sees_the_old_words_and_later_work_the_new_ones() {
    let (rows, k, n) = (3, 8, 4);
    for device in [support::open(TierRequest::Best), Some(Device::twin())] {
        let Some(device) = device else { continue };
        let place = device.zeros::<u32>(Purpose::Weights, "w", n * k).unwrap();
        let other = device.zeros::<u32>(Purpose::Weights, "b", n).unwrap();
        let matrix = Matrix {
            weight: place.alias(),
            bias: other.alias(),
            n,
            k,
            format: WeightFormat::F32,
        };
        let held = device.ledger().bytes(Purpose::Weights);
        assert_eq!(held, 4 * (n * k + n) as u64, "an alias is booked once");
        let x = device
            .upload(Purpose::Activations, "x", &vec![1.0f32; rows * k])
            .unwrap();
        let before = device.ledger().bytes(Purpose::Scratch);
        let mut feed = device.feed(vec![place, other]).unwrap();
        let staging = Feed::staging_bytes(device.caps(), held);
        assert_eq!(device.ledger().bytes(Purpose::Scratch) - before, staging);
        let mut outs = Vec::new();
        for round in 0..20 {
            let words = |v: f32, len: usize| vec![v.to_bits(); len];
            let (w, b) = (words(round as f32, n * k), words(0.5, n));
            let both = [(0, w.as_slice()), (1, b.as_slice())];
            // The bias is filled once and stays.
            let fills = both.into_iter().take(if round == 0 { 2 } else { 1 });
            feed.fill(&device, fills).unwrap();
            let y = device
                .zeros::<f32>(Purpose::Activations, "y", rows * n)
                .unwrap();
            let mut rec: Recorder<'_> = device.recorder();
            let l = Linear {
                x: &x,
                matrix: &matrix,
                y: &y,
                n_rows: rows,
                act: Activation::None,
                store: Store::Set,
            };
            linear(&mut rec, &l);
            device.run(rec).unwrap();
            outs.push(y);
        }
        for (round, y) in outs.iter().enumerate() {
            let want = (round * k) as f32 + 0.5;
            assert_eq!(device.read_all(y).unwrap(), vec![want; rows * n], "{round}");
        }
        assert_eq!(feed.filled_bytes(), 4 * (20 * n * k + n) as u64);
        drop((feed, matrix));
        assert_eq!(device.ledger().bytes(Purpose::Weights), 0);
        assert_eq!(device.ledger().bytes(Purpose::Scratch), before);
    }
}

#[test]
fn one_layer_alone_is_refused() {
    let config = Config {
        offload: 1,
        ..Config::default()
    };
    let model = ModelSource::rooms().unwrap();
    let refused = Session::new(&Device::twin(), &model, walk(2).1, &config).unwrap_err();
    assert!(
        matches!(&refused, Error::Setting(t) if t.contains("--offload 1") && t.contains("2 to 6")),
        "{refused}"
    );
}

#[test]
fn layers_wait_before_bits_or_frames_are_given_up() {
    let config = DitConfig::selfforcing_1_3b();
    let film = Outline {
        name: "1.3B",
        model: &config,
        given: 0,
        frames: 21,
        decoder: DecoderShape::Taehv(TaehvShape::published()),
        text_encoder_bytes: 0,
    };
    let asked = Config::default();
    let whole = Fit::new(&fit::card(u64::MAX), &film, &asked).unwrap();
    let peak = whole.needs.memory.peak_device_bytes;
    let block = Dit::block_bytes(&config, asked.weights);
    // A byte short: staging takes what the first layer that makes way leaves, so three wait.
    for (short, layers) in [(1, 3), (block, 3), (block + 1, 4), (28 * block, 30)] {
        let caps = fit::card(peak - short);
        let (taken, settled) = fit::auto(&caps, &film, &asked).unwrap().unwrap();
        assert_eq!((taken.kv.as_ref(), taken.reach), (None, Some(Reach::Asked)));
        assert_eq!(
            (taken.offload, settled.offload),
            (layers, layers),
            "{short}"
        );
        assert!(taken.flags().contains(&format!("--offload {layers}")));
        let told = Fit::new(&caps, &film, &settled).unwrap();
        assert!(told.needs.memory.peak_device_bytes <= peak - short);
        assert!(told.needs.upload_bytes > told.needs.offload.pass_bytes);
    }
    // With all of them it does not fit: then bits go.
    let caps = fit::card(peak - 28 * block - 1);
    let (taken, _) = fit::auto(&caps, &film, &asked).unwrap().unwrap();
    assert_eq!(taken.kv.as_deref(), Some("int8"));
    assert_eq!(taken.reach, Some(Reach::Asked));
    // Where everything waits and the narrowest codec does not do, frames do.
    let narrowest = [None, Some(config.chunk_frames)].map(|span| {
        let pair = KvPair::of("int2", "int2").unwrap();
        let coded = Some(Coded {
            span,
            ..Coded::new(pair)
        });
        let asked = Config {
            coded,
            ..asked.clone()
        };
        let found = Fit::new(&fit::card(u64::MAX), &film, &asked).unwrap();
        found.needs.memory.peak_device_bytes
    });
    let caps = fit::card(narrowest.into_iter().min().unwrap() - 28 * block - 1);
    let (taken, settled) = fit::auto(&caps, &film, &asked).unwrap().unwrap();
    assert!(matches!(taken.reach, Some(Reach::Window(_))), "{taken:?}");
    assert_eq!(settled.offload, taken.offload);
    let told = Fit::new(&caps, &film, &settled).unwrap();
    assert!(told.needs.memory.peak_device_bytes <= told.have_bytes.unwrap());
    // What shares the main memory gains nothing, unless the user sets a limit.
    let shared = Caps {
        kind: Kind::Software,
        memory_bytes: Some(peak - 1),
        ..fit::card(0)
    };
    let (taken, _) = fit::auto(&shared, &film, &asked).unwrap().unwrap();
    assert_eq!((taken.offload, taken.kv.as_deref()), (0, Some("int8")));
    let limited = Config {
        budget_bytes: Some(peak - 1),
        ..asked.clone()
    };
    let (taken, _) = fit::auto(&shared, &film, &limited).unwrap().unwrap();
    assert_eq!((taken.offload, taken.kv), (3, None));
}

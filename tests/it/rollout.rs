//! Whole roll-outs of the demo world on the device.

use longtake::cache::{CacheShape, KeyPositions, KvCache, Policy, SpansPlan};
use longtake::codec::KvPair;
use longtake::frame::Frame;
use longtake::gpu::{Device, TierRequest};
use longtake::model::config::SamplerConfig;
use longtake::ops::{KvFormat, RopeSplit, WeightFormat};
use longtake::rollout::event::{Event, MemoryUse, PassKind};
use longtake::rollout::{Coded, Config, Error, ModelSource, Session, Walk};
use longtake::world::film::{DEFAULT_FILM, SeedFilm};
use longtake::world::map::{OnWall, Path};
use longtake::world::pose::Pose;

use crate::support;

const GIVEN: usize = 6;

/// The default tour from the first frames of the default film.
pub fn walk(n: usize) -> (SeedFilm, Walk) {
    let film = SeedFilm::load(DEFAULT_FILM).unwrap();
    let steps = film.default_path(GIVEN, n).unwrap();
    let path = Path::along(&film.map, film.poses[GIVEN - 1], &steps, OnWall::Refuse).unwrap();
    let walk = Walk {
        given: film.frames[..GIVEN].to_vec(),
        given_poses: film.poses[..GIVEN].to_vec(),
        poses: path.poses,
    };
    (film, walk)
}

fn run(device: &Device, n: usize, config: &Config) -> (Vec<Frame>, MemoryUse, Session) {
    let model = ModelSource::rooms().unwrap();
    let mut session = Session::new(device, &model, walk(n).1, config).unwrap();
    let Event::Plan { planned, .. } = session.plan() else {
        panic!("the first event is the plan");
    };
    let mut frames = Vec::new();
    while let Some(chunk) = session.next_chunk(&mut |_| {}).unwrap() {
        frames.extend(chunk.frames);
    }
    (frames, planned, session)
}

fn psnr(a: &Frame, b: &Frame) -> f64 {
    let square = |(a, b): (&u8, &u8)| (f64::from(*a) - f64::from(*b)).powi(2);
    let mean = a.rgb.iter().zip(&b.rgb).map(square).sum::<f64>() / a.rgb.len() as f64;
    10.0 * (255.0f64.powi(2) / mean).log10()
}

#[test]
fn the_plan_is_what_the_ledger_holds() {
    for (n, window, sink) in [(3, None, 0), (5, Some(6), 2)] {
        // A device of its own: the ledger's peak is of the device's whole life.
        let Some(device) = support::open(TierRequest::Best) else {
            return;
        };
        let config = Config {
            window,
            sink,
            ..Config::default()
        };
        let (_, planned, session) = run(&device, n, &config);
        assert_eq!(session.memory(), planned, "window {window:?}");
    }
}

#[test]
fn a_sink_that_takes_in_and_relative_positions_make_another_film_as_planned() {
    let film = |positions, ema_sink| {
        let device = Device::twin();
        let config = Config {
            window: Some(4),
            sink: 1,
            positions,
            ema_sink,
            ..Config::default()
        };
        let (frames, planned, session) = run(&device, 2, &config);
        assert_eq!(session.memory(), planned, "{positions:?}, {ema_sink:?}");
        frames
    };
    use KeyPositions::{Absolute, Relative};
    let films = [
        film(Absolute, None),
        film(Relative, None),
        film(Relative, Some(0.5)),
    ];
    assert_ne!(films[0], films[1]);
    assert_ne!(films[1], films[2]);
    // What the sink cannot do is refused before anything is loaded.
    let config = Config {
        window: Some(4),
        sink: 2,
        ema_sink: Some(0.5),
        ..Config::default()
    };
    let model = ModelSource::rooms().unwrap();
    let refused = Session::new(&Device::twin(), &model, walk(2).1, &config).unwrap_err();
    assert!(
        refused.to_string().contains("chunks as long as the sink"),
        "{refused}"
    );
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_does_not() {
    let Some(device) = support::device() else {
        return;
    };
    let film = |seed| {
        let config = Config {
            seed,
            ..Config::default()
        };
        run(device, 3, &config).0
    };
    let first = film(11);
    assert_eq!(first, film(11));
    assert_ne!(first, film(12));
}

#[test]
fn seen_places_come_back_on_every_tier() {
    for gpu in support::gpus() {
        let (seed_film, walk) = walk(4);
        let (frames, ..) = run(&gpu.device, 4, &Config::default());
        for (frame, pose) in frames.iter().zip(&walk.poses) {
            let truth = seed_film.true_frame(*pose);
            let got = psnr(frame, &truth);
            // The weights recall at 29 dB; a place that is only guessed stands at 16 to 19 dB.
            assert!(got > 25.0, "{}: {got:.1} dB at {pose:?}", gpu.label);
        }
    }
}

#[test]
fn seen_places_come_back_with_weights_in_few_bits() {
    for (weights, least) in [(WeightFormat::Q8_0, 25.0), (WeightFormat::Q4_0, 24.0)] {
        let Some(device) = support::open(TierRequest::Best) else {
            return;
        };
        let (seed_film, walk) = walk(4);
        let config = Config {
            weights,
            ..Config::default()
        };
        let (frames, planned, session) = run(&device, 4, &config);
        assert_eq!(session.memory(), planned);
        for (frame, pose) in frames.iter().zip(&walk.poses) {
            let got = psnr(frame, &seed_film.true_frame(*pose));
            println!("{}: {got:.1} dB", weights.name());
            assert!(got > least, "{}: {got:.1} dB at {pose:?}", weights.name());
        }
    }
}

#[test]
fn a_window_that_cannot_hold_a_chunk_is_refused() {
    let Some(device) = support::device() else {
        return;
    };
    let config = Config {
        window: Some(2),
        sink: 2,
        ..Config::default()
    };
    let error =
        Session::new(device, &ModelSource::rooms().unwrap(), walk(2).1, &config).unwrap_err();
    assert!(matches!(error, Error::Window(_)), "{error}");
}

#[test]
fn what_would_not_fit_is_refused_with_numbers() {
    let device = Device::twin();
    let mut walk = walk(1).1;
    // Nothing is allocated for a plan: ten million poses are 80 MB of host memory, the film terabytes.
    walk.poses = vec![Pose::default(); 10_000_000];
    let error = Session::new(
        &device,
        &ModelSource::rooms().unwrap(),
        walk,
        &Config::default(),
    )
    .unwrap_err();
    if device.caps().memory_bytes.is_some() {
        assert!(matches!(error, Error::WouldNotFit(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("MiB") && text.contains("--window"), "{text}");
    }
}

#[test]
fn a_way_told_frame_by_frame_gives_the_same_film_and_the_same_bytes() {
    let config = Config {
        window: Some(7),
        sink: 2,
        ..coded("int4", 2)
    };
    let told_at_once = support::open(TierRequest::Best).map(|device| run(&device, 5, &config));
    let Some((frames, planned, _)) = told_at_once else {
        return;
    };
    let Some(device) = support::open(TierRequest::Best) else {
        return;
    };
    let (_, mut way) = walk(5);
    let poses = std::mem::take(&mut way.poses);
    let model = ModelSource::rooms().unwrap();
    let mut session = Session::open(&device, &model, way, 5, &config).unwrap();
    let mut quiet = |_| {};
    assert!(session.next_chunk(&mut quiet).unwrap().is_none());
    for (pose, frame) in poses.iter().zip(&frames) {
        session.push_poses(&[*pose]).unwrap();
        let chunk = session.next_chunk(&mut quiet).unwrap().unwrap();
        assert_eq!(chunk.frames, std::slice::from_ref(frame));
        assert!(session.next_chunk(&mut quiet).unwrap().is_none());
    }
    assert_eq!(session.memory(), planned);
    let error = session.push_poses(&poses[..1]).unwrap_err().to_string();
    assert!(error.contains("planned for"), "{error}");
}

#[test]
fn a_frame_at_a_new_pose_takes_the_passes_of_its_own() {
    let Some(device) = support::device() else {
        return;
    };
    let model = ModelSource::rooms().unwrap();
    let SamplerConfig::EulerClean {
        ts,
        new_pose: Some(new),
        ..
    } = &model.config.sampler
    else {
        panic!("the demo world has passes for new poses")
    };
    let (recalls, makes_up) = (ts.len() - 1, new.ts.len() - 1);
    assert!(0.0 < new.fresh_noise && recalls < makes_up);
    let (film, mut way) = walk(1);
    // To where nothing given was seen from, once more, and back.
    let away = Pose {
        k: (way.given_poses[0].k + 8) % 16,
        ..way.given_poses[0]
    };
    assert!(!film.poses[..GIVEN].contains(&away));
    way.poses = vec![away, away, way.given_poses[0]];
    let film = |config: &Config| {
        let mut session = Session::new(device, &model, way.clone(), config).unwrap();
        let (mut frames, mut passes) = (Vec::new(), [0; 3]);
        let mut hear = |event: Event| {
            if let Event::PassDone {
                kind: PassKind::Denoise,
                chunk,
                ..
            } = event
            {
                passes[chunk as usize] += 1;
            }
        };
        while let Some(chunk) = session.next_chunk(&mut hear).unwrap() {
            frames.extend(chunk.frames);
        }
        (frames, passes)
    };
    let (frames, passes) = film(&Config::default());
    assert_eq!(passes, [makes_up, recalls, recalls]);
    assert!(
        film(&Config::default()).0 == frames,
        "fresh noise is the seed's"
    );
    let steps = Some(3);
    let asked = Config {
        steps,
        ..Config::default()
    };
    assert_eq!(film(&asked).1, [3; 3]);
}

#[test]
fn what_is_held_says_at_how_many_bits() {
    let Some(device) = support::device() else {
        return;
    };
    let mut config = coded("int8", 2);
    config.window = Some(9);
    config.sink = 1;
    let (_, mut way) = walk(6);
    let poses = std::mem::take(&mut way.poses);
    let mut session =
        Session::open(device, &ModelSource::rooms().unwrap(), way, 6, &config).unwrap();
    for (i, pose) in poses.iter().enumerate() {
        if i == 2 {
            session
                .set_codecs(KvPair::of("int2", "int4").unwrap())
                .unwrap();
        }
        session.push_poses(&[*pose]).unwrap();
        session.next_chunk(&mut |_| {}).unwrap();
    }
    let held = session.held();
    let kv = session.kv();
    let frames = |bits: Option<[u32; 2]>| -> u64 {
        let of = held.iter().filter(|h| h.bits == bits);
        of.map(|h| (h.frames.end - h.frames.start) as u64).sum()
    };
    assert_eq!(frames(None), kv.exact_frames, "{held:?}");
    let (old, new) = (frames(Some([8, 8])), frames(Some([2, 4])));
    assert_eq!(old + new, kv.coded_frames, "{held:?}");
    assert!(old > 0 && new > 0, "{held:?}");
    assert!(
        held.windows(2)
            .all(|w| w[0].frames.end <= w[1].frames.start),
        "{held:?}"
    );
}

fn coded(name: &str, span: u32) -> Config {
    Config {
        coded: Some(Coded {
            span: Some(span),
            ..Coded::new(KvPair::of(name, name).unwrap())
        }),
        ..Config::default()
    }
}

#[test]
fn the_plan_of_a_coded_film_is_what_the_ledger_holds() {
    let windowed = Config {
        window: Some(7),
        sink: 2,
        ..coded("int2", 2)
    };
    for (n, config) in [
        (6, coded("int2", 4)),
        (5, coded("qvg-pro", 3)),
        (9, windowed),
    ] {
        let Some(device) = support::open(TierRequest::Best) else {
            return;
        };
        let (_, planned, session) = run(&device, n, &config);
        assert_eq!(session.memory(), planned, "{config:?}");
        let kv = session.kv();
        let held = planned.cache_bytes + planned.spans_bytes;
        assert_eq!(kv.exact_bytes + kv.coded_bytes + kv.unused_bytes, held);
        assert!(kv.coded_frames > 0 && kv.k.coded.total() > 0, "{kv:?}");
    }
}

#[test]
fn a_coded_film_looks_like_the_exact_one_and_holds_no_decoded_copy() {
    let film = |config: &Config| {
        let device = support::open(TierRequest::Best)?;
        let (frames, _, session) = run(&device, 14, config);
        Some((frames, session.memory(), session.kv()))
    };
    let Some((exact, all, _)) = film(&Config::default()) else {
        return;
    };
    let (frames, some, kv) = film(&coded("int4", 4)).unwrap();
    // Below 16 / 3 bits everywhere but in the first layer's values, which are in eight.
    let bits = kv.layers.iter().flat_map(|l| l.bits_per_element);
    let many: Vec<_> = bits.enumerate().filter(|(_, b)| *b >= 16.0 / 3.0).collect();
    assert!(matches!(many[..], [(1, 8.0..9.0)]), "{many:?} of {kv:?}");
    // What a film takes beside its cache is the same but for the encoder, which holds one tensor of one layer of a span.
    let rest = |m: &MemoryUse| m.peak_device_bytes - m.cache_bytes - m.spans_bytes;
    let span = 4 * 4 * kv.half_bytes / (kv.exact_frames + kv.coded_frames) / 6;
    assert!(rest(&some) < rest(&all) + span, "{some:?} against {all:?}");
    let likeness = frames.iter().zip(&exact).map(|(a, b)| psnr(a, b));
    let worst = likeness.fold(f64::INFINITY, f64::min);
    assert!(worst > 30.0, "int4 film differs: {worst:.1} dB");
}

#[test]
fn a_long_coded_cache_peaks_far_below_an_exact_one() {
    let peak = |name: Option<&str>| {
        let device = support::open(TierRequest::Best)?;
        let n = 600;
        let policy = Policy {
            span_chunks: if name.is_some() { 16 } else { 0 },
            exact_sink: 1,
            ..Policy::default()
        };
        let pair = name.map(|name| KvPair::of(name, name).unwrap());
        let chunks = || std::iter::repeat_n(1, n);
        let plan = pair.and_then(|p| SpansPlan::new(p, 64, &policy, chunks()).unwrap());
        let shape = CacheShape {
            n_layers: 2,
            n_heads: 2,
            split: RopeSplit::wan(64),
            theta: 1e4,
            grid: (6, 8),
            format: KvFormat::F16,
            max_frames: plan.as_ref().map_or(n, |p| p.exact_frames),
        };
        let mut cache = KvCache::new(shape, device.caps(), policy, plan.as_ref());
        let rows = support::values(5, shape.frame_values());
        for frame in 0..n as i64 {
            cache.begin(&device, frame..frame + 1).unwrap();
            for layer in 0..2 {
                cache.write_frame(&device, layer, frame, &rows, &rows);
            }
        }
        Some(device.ledger().peak())
    };
    let Some(exact) = peak(None) else { return };
    let coded = peak(Some("int2")).unwrap();
    // Pages, tables, the encoder's rows and read-backs, all of it: what a card must have. Of codes alone it is 6.6 times.
    assert!(9 * coded < 2 * exact, "{coded} against {exact}");
}

#[test]
fn the_noise_of_a_film_does_not_depend_on_its_codec() {
    let Some(device) = support::device() else {
        return;
    };
    // Nothing is coded before the first span is full: up to there the films are one.
    let (exact, ..) = run(device, 2, &Config::default());
    let (frames, ..) = run(device, 2, &coded("int2", 16));
    assert!(frames.iter().zip(&exact).all(|(a, b)| a.rgb == b.rgb));
}

#[test]
fn keys_that_are_not_numbers_are_refused_with_layer_and_frames() {
    let Some(device) = support::device() else {
        return;
    };
    let shape = CacheShape {
        n_layers: 2,
        n_heads: 1,
        split: RopeSplit::wan(64),
        theta: 1e4,
        grid: (1, 3),
        format: KvFormat::F32,
        max_frames: 3,
    };
    let policy = Policy {
        span_chunks: 2,
        ..Policy::default()
    };
    let pair = KvPair::of("int2", "int2").unwrap();
    let plan = SpansPlan::new(pair, 64, &policy, std::iter::repeat_n(1, 4)).unwrap();
    let mut cache = KvCache::new(shape, device.caps(), policy, plan.as_ref());
    for frame in 0..2 {
        cache.begin(device, frame..frame + 1).unwrap();
        for layer in 0..2 {
            let good = support::values(frame as u64, shape.frame_values());
            let mut bad = good.clone();
            if (layer, frame) == (1, 1) {
                bad[70] = f32::NAN;
            }
            cache.write_frame(device, layer, frame, &good, &bad);
        }
    }
    let error = cache.begin(device, 2..3).unwrap_err().to_string();
    assert!(
        error.contains("values of layer 1") && error.contains("0 to 1"),
        "{error}"
    );
}

#[test]
fn codecs_change_in_mid_film_and_old_spans_stay() {
    let Some(device) = support::device() else {
        return;
    };
    let shape = CacheShape {
        n_layers: 1,
        n_heads: 2,
        split: RopeSplit::wan(32),
        theta: 1e4,
        grid: (1, 5),
        format: KvFormat::F32,
        max_frames: 2,
    };
    let policy = Policy {
        span_chunks: 1,
        ..Policy::default()
    };
    let pair = KvPair::of("int8", "int8").unwrap();
    let plan = SpansPlan::new(pair, 32, &policy, std::iter::repeat_n(1, 3)).unwrap();
    let mut cache = KvCache::new(shape, device.caps(), policy, plan.as_ref());
    let given = |frame: i64| support::values(frame as u64 + 9, shape.frame_values());
    for frame in 0..3 {
        cache.begin(device, frame..frame + 1).unwrap();
        cache.write_frame(device, 0, frame, &given(frame), &given(frame));
        if frame == 1 {
            // Frame 0 is coded by now, frame 1 will be when the next one begins.
            cache
                .set_codecs(KvPair::of("rtn-int2", "off").unwrap())
                .unwrap();
        }
    }
    assert!(
        cache
            .set_codecs(KvPair::of("int2:block=8", "off").unwrap())
            .is_err()
    );
    let error = |frame: i64| {
        let (k, v) = cache.read_frame(device, 0, frame).unwrap();
        let of = |got: &[f32]| {
            let want = given(frame);
            let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
            let (e, n) = (
                got.iter().zip(&want).map(square).sum::<f64>(),
                want.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>(),
            );
            (e / n).sqrt()
        };
        (of(&k), of(&v))
    };
    let (first, second) = (error(0), error(1));
    assert!(first.0 < 0.02 && first.1 < 0.02, "int8: {first:?}");
    assert!(
        second.0 > 0.1 && second.1 < 1e-3,
        "rtn-int2 and halves: {second:?}"
    );
}

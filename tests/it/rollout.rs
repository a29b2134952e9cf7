//! Whole roll-outs of the demo world on the device.

use longtake::frame::Frame;
use longtake::gpu::{Device, TierRequest};
use longtake::rollout::event::{Event, MemoryUse};
use longtake::rollout::{Config, Error, ModelSource, Session, Walk};
use longtake::world::film::{DEFAULT_FILM, SeedFilm};
use longtake::world::map::{OnWall, Path};
use longtake::world::pose::Pose;

use crate::support;

const GIVEN: usize = 6;

/// The default tour from the first frames of the default film.
fn walk(n: usize) -> (SeedFilm, Walk) {
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
            let truth = seed_film.true_frame(*pose).unwrap();
            let got = psnr(frame, truth);
            // The weights recall at 29 dB; a place that is only guessed stands at 16 to 19 dB.
            assert!(got > 25.0, "{}: {got:.1} dB at {pose:?}", gpu.label);
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

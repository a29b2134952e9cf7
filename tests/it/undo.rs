//! Going back to a chunk: the same way from there gives the same bytes, another way another film, and nothing is left over.

use longtake::cache::{CacheShape, KvCache, Policy, Sink, SpansPlan, Window};
use longtake::codec::{FineLayers, KvPair};
use longtake::frame::Frame;
use longtake::gpu::{Device, Kind, Purpose, TierRequest};
use longtake::ops::{KvFormat, Positions, RopeSplit};
use longtake::rollout::event::{Event, MemoryUse};
use longtake::rollout::{Coded, Config, ModelSource, Session, Walk};
use longtake::world::film::{DEFAULT_FILM, SeedFilm};
use longtake::world::map::{OnWall, Path};
use longtake::world::pose::Pose;

use crate::support;

const GIVEN: usize = 3;
const MADE: usize = 7;
const BACK: u32 = 3;

pub(crate) fn begin(device: &Device, config: &Config) -> (Session, Vec<Pose>) {
    let film = SeedFilm::load(DEFAULT_FILM).unwrap();
    let steps = film.default_path(GIVEN, MADE).unwrap();
    let path = Path::along(&film.map, film.poses[GIVEN - 1], &steps, OnWall::Refuse).unwrap();
    let walk = Walk {
        given: film.frames[..GIVEN].to_vec(),
        given_poses: film.poses[..GIVEN].to_vec(),
        poses: Vec::new(),
    };
    let model = ModelSource::rooms().unwrap();
    let session = Session::open(device, &model, walk, MADE, config).unwrap();
    (session, path.poses)
}

pub(crate) fn go(session: &mut Session, poses: &[Pose]) -> Vec<Frame> {
    let one = |pose: &Pose| {
        session.push_poses(&[*pose]).unwrap();
        session.next_chunk(&mut |_| {}).unwrap().unwrap().frames
    };
    poses.iter().flat_map(one).collect()
}

/// The ledger without its peak, which is of the whole run.
fn now(session: &Session) -> MemoryUse {
    MemoryUse {
        peak_device_bytes: 0,
        ..session.memory()
    }
}

fn coded(name: &str, span: u32) -> Config {
    Config {
        coded: Some(Coded {
            span: Some(span),
            ..Coded::new(KvPair::of(name, name).unwrap())
        }),
        undo_bytes: 64 << 20,
        ..Config::default()
    }
}

#[test]
fn the_same_way_again_gives_the_same_bytes_and_another_way_does_not() {
    let exact = Config {
        undo_bytes: 64 << 20,
        ..Config::default()
    };
    let windowed = Config {
        window: Some(6),
        sink: 1,
        ..coded("int2", 2)
    };
    for config in [exact, coded("int2", 3), windowed] {
        let Some(device) = support::open(TierRequest::Best) else {
            return;
        };
        let (mut session, way) = begin(&device, &config);
        let at = BACK as usize;
        let mut film = go(&mut session, &way[..at]);
        let (memory, kv, held) = (now(&session), session.kv(), session.held());
        film.extend(go(&mut session, &way[at..]));
        let end = (session.memory(), session.kv());
        let Event::Plan { planned, .. } = session.plan() else {
            panic!("the first event is the plan");
        };
        assert_eq!(end.0, planned, "{config:?}");
        assert!(session.undo_bytes() > 0 && session.undo_reach() == 0);

        let mut heard = Vec::new();
        session.back_to(BACK, &mut |e| heard.push(e)).unwrap();
        let cut = Event::CutBack {
            chunks: BACK,
            frames: BACK,
        };
        assert_eq!(heard[0], cut);
        assert_eq!(now(&session), memory, "{config:?}");
        assert_eq!((session.kv(), session.held()), (kv, held), "{config:?}");
        let others = vec![way[0]; 2];
        let other = go(&mut session, &others);
        assert_ne!(other[..], film[at..at + 2], "another way, another film");

        session.back_to(BACK, &mut |_| {}).unwrap();
        assert_eq!(now(&session), memory, "{config:?}");
        let again = go(&mut session, &way[at..]);
        assert!(
            again == film[at..],
            "other bytes the second time: {config:?}"
        );
        // Seconds of coding are measured, all else is as before.
        let same = (
            session.memory(),
            session.kv().half_bytes,
            session.kv().coded_bytes,
        );
        assert_eq!(same, (end.0, end.1.half_bytes, end.1.coded_bytes));
    }
}

#[test]
fn a_film_goes_back_to_its_given_frames_and_no_farther_than_is_kept() {
    let Some(device) = support::device() else {
        return;
    };
    let (mut session, way) = begin(device, &coded("int4", 2));
    let film = go(&mut session, &way[..3]);
    session.back_to(0, &mut |_| {}).unwrap();
    assert!(
        session.next_chunk(&mut |_| {}).unwrap().is_none(),
        "no way is told"
    );
    assert_eq!(go(&mut session, &way[..3]), film);
    let error = session.back_to(4, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("there are 3 chunks"), "{error}");

    let small = Config {
        undo_bytes: 100_000,
        ..coded("int4", 2)
    };
    let (mut session, way) = begin(device, &small);
    let film = go(&mut session, &way[..6]);
    let reach = session.undo_reach();
    assert!(0 < reach && reach < 6, "{reach}");
    assert!(session.undo_bytes() <= small.undo_bytes);
    let error = session.back_to(reach - 1, &mut |_| {}).unwrap_err();
    assert!(
        error.to_string().contains(&format!("chunk {reach}")),
        "{error}"
    );
    session.back_to(reach, &mut |_| {}).unwrap();
    let rest = reach as usize;
    assert_eq!(go(&mut session, &way[rest..6]), film[rest..]);

    let (mut session, way) = begin(device, &Config::default());
    go(&mut session, &way[..2]);
    assert_eq!((session.undo_reach(), session.undo_bytes()), (2, 0));
    let error = session.back_to(1, &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("cannot go back"), "{error}");
}

/// A cache without a network: frames of random values.
pub(crate) struct Rig {
    pub(crate) device: Device,
    pub(crate) cache: KvCache,
    pub(crate) shape: CacheShape,
}

/// A setting for keys and values of a rig's two layers.
pub(crate) fn pair(name: &str) -> KvPair {
    let pair = KvPair::of(name, name).unwrap();
    pair.for_model(&FineLayers::default(), 2).unwrap()
}

impl Rig {
    pub(crate) fn new(device: &Device, policy: Policy, name: &str, frames: usize) -> Rig {
        let plan = SpansPlan::new(pair(name), 32, &policy, std::iter::repeat_n(1, frames)).unwrap();
        let window = policy.window.frames.unwrap_or(frames);
        let shape = CacheShape {
            n_layers: 2,
            n_heads: 2,
            split: RopeSplit::wan(32),
            theta: 1e4,
            grid: (1, 5),
            format: KvFormat::F16,
            max_frames: plan.as_ref().map_or(window.min(frames), |p| p.exact_frames),
        };
        Rig {
            cache: KvCache::new(shape, device.caps(), policy, plan.as_ref()),
            device: device.clone(),
            shape,
        }
    }

    pub(crate) fn frame(&mut self, frame: i64) {
        self.cache.begin(&self.device, frame..frame + 1).unwrap();
        for layer in 0..self.shape.n_layers {
            let values = |s| support::values(7 * frame as u64 + s, self.shape.frame_values());
            let (k, v) = (values(layer as u64), values(3 + layer as u64));
            self.cache.write_frame(&self.device, layer, frame, &k, &v);
        }
    }

    /// All that attention reads, in the order it reads it, and the bytes it lies in.
    pub(crate) fn state(&self) -> (Vec<i64>, Vec<Vec<u32>>, u64, u64) {
        let read = |f: &i64| {
            let both = (0..self.shape.n_layers).map(|l| self.cache.read_frame(&self.device, l, *f));
            let values = both.flat_map(|kv| {
                let (k, v) = kv.unwrap();
                [k, v].concat()
            });
            support::bits(values.collect())
        };
        let shown = self.cache.shown().to_vec();
        let words = shown.iter().map(read).collect();
        let l = self.device.ledger();
        (
            shown,
            words,
            l.bytes(Purpose::Cache) + l.bytes(Purpose::Spans),
            self.cache.bytes(),
        )
    }
}

#[test]
fn every_state_of_a_cache_comes_back() {
    let window = |frames, sink| Window {
        frames: Some(frames),
        sink,
    };
    for (window, span_chunks, recent_chunks, ema_sink) in [
        (Window::default(), 3, 1, None),
        (window(8, 1), 2, 0, None),
        (window(9, 2), 3, 1, None),
        (window(5, 1), 0, 0, None),
        (window(5, 1), 0, 0, Some(0.5)),
    ] {
        let policy = Policy {
            window,
            span_chunks,
            recent_chunks,
            exact_sink: 1,
            ema_sink,
            ..Policy::default()
        };
        let mut rig = Rig::new(&Device::twin(), policy, "int4:fine=1", 20);
        rig.cache.keep_undo(1 << 30);
        let mut states = Vec::new();
        let step = |rig: &mut Rig, frame: i64| {
            rig.frame(frame);
            if frame == 11 && span_chunks > 0 {
                rig.cache
                    .set_codecs(KvPair::of("int2", "int8").unwrap())
                    .unwrap();
            }
        };
        for frame in 0..20 {
            step(&mut rig, frame);
            states.push(rig.state());
        }
        for back in [19, 14, 11, 4, 0] {
            assert!(rig.cache.back_before(&rig.device, back).unwrap());
            if back > 0 {
                assert!(
                    rig.state() == states[back as usize - 1],
                    "{policy:?}, back to {back}"
                );
            }
            for frame in back..20 {
                step(&mut rig, frame);
                assert!(
                    rig.state() == states[frame as usize],
                    "{policy:?}, {frame} again"
                );
            }
            assert!(!rig.cache.back_before(&rig.device, 20).unwrap());
        }
    }
}

#[test]
fn without_memory_for_what_comes_back_nothing_is_changed() {
    let policy = Policy {
        span_chunks: 2,
        recent_chunks: 1,
        exact_sink: 1,
        ..Policy::default()
    };
    let mut rig = Rig::new(&Device::twin(), policy, "int8", 48);
    rig.cache.keep_undo(1 << 30);
    (0..40).for_each(|frame| rig.frame(frame));
    let before = rig.state();
    rig.frame(40);
    // Two settings after each other: pages of the one between come back and go again on the way.
    for name in ["int4", "int2"] {
        let pair = KvPair::of(name, name).unwrap();
        rig.cache.set_codecs(pair).unwrap();
        while rig.cache.repack(&rig.device).unwrap().is_some() {}
    }
    (41..43).for_each(|frame| rig.frame(frame));
    let now = rig.state();
    let kept = |rig: &Rig| {
        (
            rig.cache.undo_bytes(),
            rig.cache.undo_reach(),
            rig.cache.held(),
        )
    };
    let held = kept(&rig);
    assert!(now.3 < before.3, "pages were given back");
    let mut most = rig.device.ledger().total();
    let mut refused = 0;
    loop {
        rig.device.limit_memory(most);
        match rig.cache.back_before(&rig.device, 40) {
            Ok(done) => break assert!(done),
            Err(e) => assert!(e.to_string().contains("no more"), "{e}"),
        }
        refused += 1;
        rig.device.limit_memory(u64::MAX);
        assert!(rig.state() == now, "after {refused} refusals");
        assert_eq!(kept(&rig), held);
        // A buffer of a page more each time, so that it ends at every place.
        most += 1 << 14;
    }
    rig.device.limit_memory(u64::MAX);
    assert!(3 < refused, "{refused}");
    assert!(rig.state() == before);
    rig.frame(40);
}

#[test]
fn a_sink_takes_in_what_leaves_frame_by_frame() {
    let policy = Policy {
        window: Window {
            frames: Some(3),
            sink: 1,
        },
        ema_sink: Some(0.75),
        ..Policy::default()
    };
    for device in [Device::twin()]
        .into_iter()
        .chain(support::gpus().iter().map(|g| g.device.clone()))
    {
        let mut rig = Rig::new(&device, policy, "int4", 6);
        let read = |rig: &Rig, frame| rig.cache.read_frame(&rig.device, 0, frame).unwrap().0;
        let mut want = Vec::new();
        for frame in 0..6 {
            // What leaves when this frame comes.
            let leaves = (frame >= 3).then(|| read(&rig, frame - 2));
            rig.frame(frame);
            match leaves {
                None if frame == 0 => want = read(&rig, 0),
                None => {}
                Some(leaves) => want
                    .iter_mut()
                    .zip(leaves)
                    .for_each(|(w, l)| *w = 0.75 * *w + 0.25 * l),
            }
        }
        if device.caps().kind == Kind::Twin {
            let scratch = device.ledger().bytes(Purpose::Scratch)
                - rig.cache.layout().n_pages() as u64 * Positions::BYTES;
            assert_eq!(scratch, KvCache::scratch_bytes(&rig.shape, &policy));
        }
        let got = read(&rig, 0);
        let far = got.iter().zip(&want).map(|(g, w)| (g - w).abs());
        let (far, size) = (
            far.fold(0.0, f32::max),
            want.iter().fold(0.0f32, |m, w| m.max(w.abs())),
        );
        // Three roundings to halves.
        assert!(far <= 2e-3 * size, "{far} of {size}");
    }
}

#[test]
fn a_cache_computed_anew_holds_the_newest_frames_and_has_no_way_back() {
    let policy = Policy {
        window: Window {
            frames: Some(4),
            sink: 2,
        },
        ..Policy::default()
    };
    for (sink, held) in [(Sink::Renewed, 5..9), (Sink::Kept, 7..9)] {
        let mut rig = Rig::new(&Device::twin(), policy, "int4:fine=1", 20);
        rig.cache.keep_undo(1 << 30);
        (0..9).for_each(|frame| rig.frame(frame));
        assert_eq!(rig.cache.renewal().unwrap(), 5..9);
        let frames = rig.cache.renew(&rig.device, sink).unwrap();
        assert_eq!(frames, 5..9);
        let kept = if sink == Sink::Kept { 0..2 } else { 0..0 };
        let want: Vec<i64> = kept.chain(held).collect();
        assert_eq!(rig.cache.shown(), want);
        assert!(rig.cache.back_before(&rig.device, 8).is_err());
        let bytes = rig.cache.bytes();
        (9..12).for_each(|frame| rig.frame(frame));
        let first = if sink == Sink::Kept { 0 } else { 5 };
        assert_eq!(rig.cache.shown(), [first, first + 1, 10, 11]);
        assert_eq!(rig.cache.bytes(), bytes, "no page is added");
        // What came after can be gone back to.
        assert!(rig.cache.back_before(&rig.device, 10).unwrap());
        assert_eq!(rig.cache.shown()[2..], [8, 9]);
    }
}

#[test]
fn more_frames_than_a_pass_can_have_are_not_computed_anew() {
    let mut rig = Rig::new(&Device::twin(), Policy::default(), "int4", 5000);
    let (rows, cols) = rig.shape.grid;
    let most = Positions::capacity(rig.shape.split, rows, cols) as i64;
    rig.cache.begin(&rig.device, 0..most).unwrap();
    assert_eq!(rig.cache.renewal().unwrap(), 0..most);
    rig.cache.begin(&rig.device, most..most + 1).unwrap();
    let refused = rig.cache.renew(&rig.device, Sink::Renewed).unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains(&format!("--window {most}")), "{refused}");
}

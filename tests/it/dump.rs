//! Dumps of a film: what they hold is what the cache holds, and making one changes nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use longtake::cache::Window;
use longtake::dump::{Ask, Dump};
use longtake::gpu::Device;
use longtake::model::{Dit, Pass, Tape};
use longtake::ops::{KvFormat, WeightFormat};
use longtake::rollout::{CacheSetup, Config, ModelSource, Sampler, Schedule, Session, Walk};
use longtake::weights::Existing;
use longtake::world::SeedFilm;

use crate::support::values;

fn sampler(device: &Device, model: &ModelSource) -> Sampler {
    let dit = Dit::load(device, &model.config, &model.weights, WeightFormat::F16).unwrap();
    let schedule = Schedule::new(&model.config, None).unwrap();
    let setup = CacheSetup::exact(KvFormat::F16, 2, Window::default());
    Sampler::new(device, dit, schedule, 1, &setup).unwrap()
}

#[test]
fn a_tape_of_queries_takes_those_of_a_full_tape_and_changes_no_key() {
    let device = Device::twin();
    let model = ModelSource::rooms().unwrap();
    let run = |queries_only: bool| {
        let mut s = sampler(&device, &model);
        s.begin(0..1, &values(3, s.frame_values())).unwrap();
        let mut taken = BTreeMap::new();
        let mut take = |name: &str, v: Vec<f32>| _ = taken.insert(name.to_owned(), v);
        let pass = Pass {
            frames: 0..1,
            timestep: 0.0,
            poses: &values(4, longtake::world::pose::N_POSE_FEATURES),
            kv_only: true,
        };
        let mut tape = match queries_only {
            true => Tape::queries(&mut take),
            false => Tape::record(&mut take),
        };
        s.pass(&pass, &mut tape).unwrap();
        let last = model.config.layers as usize - 1;
        (taken, s.cache().read_frame(&device, last, 0).unwrap())
    };
    let (all, keys) = run(false);
    let (queries, same) = run(true);
    assert_eq!(keys, same);
    assert_eq!(queries.len(), model.config.layers as usize);
    for (name, q) in &queries {
        assert!(name.ends_with(".q_norm"), "{name}");
        assert_eq!(q, &all[name], "{name}");
    }
    assert!(all.len() > queries.len());
}

#[test]
fn a_film_goes_on_as_if_it_had_not_been_dumped() {
    let device = Device::twin();
    let path: PathBuf = std::env::temp_dir().join(format!("longtake-dump-{}", std::process::id()));
    let model = ModelSource::rooms().unwrap();
    let film = SeedFilm::load(0).unwrap();
    let walk = Walk {
        given: film.frames[..1].to_vec(),
        given_poses: film.poses[..1].to_vec(),
        poses: film.poses[1..3].to_vec(),
    };
    let run = |dumps: bool| {
        let mut s = Session::new(&device, &model, walk.clone(), &Config::default()).unwrap();
        let mut frames = Vec::new();
        if dumps {
            assert!(
                s.dump_kv(&path, Existing::Keep).is_err(),
                "nothing is there yet"
            );
        }
        while let Some(chunk) = s.next_chunk(&mut |_| {}).unwrap() {
            frames.extend(chunk.frames);
            if dumps {
                s.dump_kv(&path, Existing::Replace).unwrap();
            }
        }
        frames
    };
    let plain = run(false);
    assert!(run(true) == plain, "other frames");
    let dump = Dump::open(&path, &Ask::default()).unwrap();
    let places = dump.head().places.clone().unwrap();
    assert_eq!(
        (places.frames, places.query_frames),
        (vec![0, 1, 2], vec![2])
    );
    assert_eq!(dump.layers().len(), model.config.layers as usize);
    let rows = dump.rows(0, 7).unwrap();
    assert!(!rows.queries.are_keys && rows.queries.n == 7);
    drop(dump);
    std::fs::remove_file(&path).unwrap();
}

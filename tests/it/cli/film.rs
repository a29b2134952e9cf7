//! Films by the real binary: events, files, repeating, and what an end in the middle leaves.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::Value;

use super::{Outcome, Scratch, check_phases, has, json, probe};

/// Little work: three given frames, so that a film takes a second or two on a slow machine.
const SMALL: &str = "--given 3 --seed 11";

fn events(out: &str) -> Vec<Value> {
    out.lines().map(json).collect()
}

/// Takes the stages of loading out of a stream: stage, done, of. How many there are depends on what a device has compiled before.
fn stages(events: &mut Vec<Value>) -> Vec<(String, u64, u64)> {
    let (loading, rest) = events.drain(..).partition(|e| e["event"] == "loading");
    *events = rest;
    let loading: Vec<Value> = loading;
    let of = |e: &Value| {
        let number = |key: &str| e[key].as_u64().unwrap();
        let stage = e["stage"].as_str().unwrap().to_owned();
        (stage, number("done"), number("of"))
    };
    loading.iter().map(of).collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|e| e["event"].as_str().unwrap())
        .collect()
}

#[test]
fn events_come_in_order_and_the_film_is_whole() {
    let scratch = Scratch::new();
    let out = scratch
        .generate(&format!("{SMALL} --json --frames 3 -o walk.mp4 --timings"))
        .ok();
    let mut events = events(&out);
    let mut before = 0.0;
    for event in &events {
        assert_eq!(event["schema"], 1);
        let t = event["t"].as_f64().unwrap();
        assert!(before <= t, "{event}");
        before = t;
    }
    let upload = |e: &Value| e["stage"] == "upload";
    assert!(events[0]["stage"] == "device" && !events[..4].iter().any(upload));
    let loading = stages(&mut events);
    let mut order: Vec<&str> = loading.iter().map(|(stage, ..)| stage.as_str()).collect();
    order.dedup();
    assert_eq!(order, ["device", "weights", "upload", "kernels"]);
    for stage in ["device", "weights", "upload", "kernels"] {
        let of_it = loading.iter().filter(|(s, ..)| s == stage);
        let of_it: Vec<_> = of_it.map(|(_, done, of)| (*done, *of)).collect();
        assert_eq!(of_it[0].0, 0, "{stage} begins: {of_it:?}");
        let (done, of) = of_it[of_it.len() - 1];
        assert!(0 < of && done == of, "{stage} ends: {of_it:?}");
        // Kernels of the first denoising pass are counted anew.
        let in_order = |w: &[(u64, u64)]| w[0].0 < w[1].0 && w[0].1 == w[1].1 || w[1].0 == 0;
        assert!(of_it.windows(2).all(in_order), "{stage}: {of_it:?}");
    }
    let mut expected = vec!["plan"];
    expected.extend(["pass_done"; 3]);
    for chunk in 0..3 {
        expected.push("chunk_started");
        // From the second chunk on, the pass that stores the chunk before comes first.
        expected.extend(vec!["pass_done"; if chunk == 0 { 2 } else { 3 }]);
        expected.extend(["frames_ready", "memory", "kv"]);
    }
    expected.extend(["saved", "done"]);
    assert_eq!(names(&events), expected);
    assert_eq!(check_phases(&events), 3);

    let plan = &events[0];
    let uploaded = loading.iter().rfind(|(s, ..)| s == "upload").unwrap();
    assert_eq!(
        plan["planned"]["weights_bytes"].as_u64(),
        Some(uploaded.2),
        "the plan's bytes"
    );
    assert_eq!(
        (&plan["frames"], &plan["given_frames"], &plan["seed"]),
        (&3.into(), &3.into(), &11.into())
    );
    let done = events.last().unwrap();
    for key in [
        "fps",
        "fps_model",
        "first_frame_secs",
        "secs",
        "cache_bytes",
        "peak_device_bytes",
    ] {
        assert!(0.0 < done[key].as_f64().unwrap(), "{key} in {done}");
    }
    assert_eq!(
        (&done["frames"], &done["seed"], &done["interrupted"]),
        (&3.into(), &11.into(), &false.into())
    );
    assert_eq!(done["output"], "walk.mp4");
    assert!(done["first_frame_secs"].as_f64() <= done["secs"].as_f64());
    assert!(done["peak_device_bytes"].as_u64() <= plan["planned"]["peak_device_bytes"].as_u64());
    let stages: Vec<&str> = done["timings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["stage"].as_str().unwrap())
        .collect();
    assert!(
        stages.contains(&"load") && stages.contains(&"attention"),
        "{stages:?}"
    );
    if has("ffprobe") {
        assert_eq!(probe(&scratch.path("walk.mp4")), 3);
    }

    for file in ["walk.mp4", "walk.json"] {
        let info = json(&scratch.run(&format!("info --json {file}")).ok());
        assert_eq!(
            (&info["frames"], &info["finished"]),
            (&3.into(), &true.into()),
            "{info}"
        );
        let recipe = &info["recipe"];
        assert_eq!(
            (&recipe["seed"], &recipe["model"]),
            (&11.into(), &"rooms".into()),
            "{info}"
        );
        assert!(
            recipe["driver"].is_string() && recipe["camera"].is_string(),
            "{info}"
        );
        assert!(
            0.0 < recipe["timings"]["generate"].as_f64().unwrap(),
            "{info}"
        );
    }
    assert!(scratch.run("info walk.mp4").ok().contains("3 frames"));
}

#[test]
fn one_seed_gives_one_film_and_another_gives_another() {
    let scratch = Scratch::new();
    let film = |folder: &str, line: &str| {
        scratch
            .generate(&format!("--frames 2 {line} -o {folder}/%02d.png"))
            .ok();
        let frame = |name: &str| fs::read(scratch.path(folder).join(name)).unwrap();
        [frame("00.png"), frame("01.png")]
    };
    let first = film("a", SMALL);
    assert_eq!(first, film("b", SMALL));
    assert_ne!(first, film("c", "--given 3 --seed 12"));
    assert_eq!(first, film("d", "--from a/00.png"), "--from repeats a film");
    assert_eq!(first, film("e", "--from a/recipe.json"));
}

#[test]
fn given_frames_are_shown_when_asked_and_the_path_is_printed() {
    let scratch = Scratch::new();
    let outcome = scratch.generate(&format!(
        "{SMALL} --frames 2 --show-given -o out/ --format png"
    ));
    assert!(outcome.err.contains("2 frames in"), "{}", outcome.err);
    let path = outcome.ok();
    assert!(
        path.starts_with("out/") && path.trim_end().ends_with("_rooms_11/%04d.png"),
        "{path}"
    );
    let folder = scratch.path(path.trim_end()).parent().unwrap().to_owned();
    let pngs = fs::read_dir(folder)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().path().extension() == Some("png".as_ref()))
        .count();
    assert_eq!(pngs, 5);
}

#[test]
fn a_quiet_run_says_nothing_but_its_path() {
    let scratch = Scratch::new();
    let outcome = scratch.generate(&format!("{SMALL} --frames 1 -q -o a.mp4 --no-metadata"));
    assert!(!outcome.err.contains("frames in"), "{}", outcome.err);
    assert_eq!(outcome.ok(), "a.mp4\n");
    assert_eq!(scratch.names(), ["a.mp4"]);
}

#[test]
fn standard_output_carries_y4m_and_may_be_closed() {
    let scratch = Scratch::new();
    let line = format!(
        "generate --device {} {SMALL} --frames 2 -o -",
        super::device()
    );
    let output = scratch.command(line.split_whitespace()).output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout.starts_with(b"YUV4MPEG2 W64 H48 F8:1 "));
    assert_eq!(
        output
            .stdout
            .windows(6)
            .filter(|w| *w == b"FRAME\n")
            .count(),
        2
    );

    let line = format!(
        "generate --device {} {SMALL} --frames 50 -o -",
        super::device()
    );
    let mut child = scratch
        .command(line.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut head = [0; 9];
    child.stdout.take().unwrap().read_exact(&mut head).unwrap();
    let outcome = Outcome::of(child.wait_with_output().unwrap());
    assert!(!outcome.err.contains("error"), "{}", outcome.err);
    assert_eq!(outcome.code, Some(0), "a reader that goes is no fault");
}

#[test]
#[cfg(unix)]
fn an_interrupt_keeps_the_film() {
    let scratch = Scratch::new();
    let line = format!(
        "generate --device {} {SMALL} --json --frames 500 -o a.mp4",
        super::device()
    );
    let mut child = scratch
        .command(line.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.find(|line| line.as_ref().unwrap().contains("\"frames_ready\""));
    assert!(ready.is_some());
    let killed = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let rest: Vec<Value> = lines.map(|line| json(&line.unwrap())).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let done = rest.last().unwrap();
    assert_eq!(
        (&done["event"], &done["interrupted"]),
        (&"done".into(), &true.into())
    );
    let info = json(&scratch.run("info --json a.mp4").ok());
    assert_eq!(
        (&info["finished"], &info["frames"]),
        (&true.into(), &done["frames"])
    );
    assert!(done["frames"].as_u64().unwrap() < 500);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error_that_tells_what_is_kept() {
    let scratch = Scratch::new();
    std::os::unix::fs::symlink("/dev/full", scratch.path("full.y4m")).unwrap();
    let outcome = scratch.generate(&format!("{SMALL} --frames 3 --json -y -o full.y4m"));
    let last = json(outcome.out.lines().last().unwrap());
    assert_eq!(
        (&last["event"], &last["code"]),
        (&"error".into(), &1.into()),
        "{last}"
    );
    assert!(
        last["what"].as_str().unwrap().contains("writing failed"),
        "{last}"
    );
    let err = outcome.refused(1);
    assert_eq!(err.matches("No space left").count(), 1, "{err}");
    assert!(
        fs::symlink_metadata(scratch.path("full.y4m")).is_ok(),
        "what the user named stays"
    );
}

#[test]
fn walls_and_lengths_are_said_aloud() {
    let scratch = Scratch::new();
    let line = format!("{SMALL} --dry-run --json --camera w-40 --frames 42");
    let events = events(&scratch.generate(&line).ok());
    let warnings: Vec<&str> = events
        .iter()
        .filter(|e| e["event"] == "warning")
        .map(|e| e["text"].as_str().unwrap())
        .collect();
    assert!(
        warnings.iter().any(|w| w.contains("for the last 2")),
        "{warnings:?}"
    );
    assert!(
        warnings.iter().any(|w| w.contains("could not move")),
        "{warnings:?}"
    );
}

/// A network of zeros predicts nothing: every frame is one grey.
#[test]
fn a_film_of_blank_frames_is_stopped_and_its_frames_are_kept() {
    let scratch = Scratch::new();
    let world = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/worlds/rooms");
    let folder = scratch.path("zeros");
    fs::create_dir(&folder).unwrap();
    fs::copy(format!("{world}/config.json"), folder.join("config.json")).unwrap();
    let mut weights = fs::read(format!("{world}/weights.safetensors")).unwrap();
    let header = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    weights[8 + header..].fill(0);
    fs::write(folder.join("weights.safetensors"), weights).unwrap();
    let line = format!("{SMALL} --model zeros --frames 12 --json -o blank.mp4");
    let outcome = scratch.generate(&line);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let events = events(&outcome.out);
    let error = events.last().unwrap();
    let what = error["what"].as_str().unwrap();
    assert_eq!(
        (&error["event"], &error["code"]),
        (&"error".into(), &1.into())
    );
    assert!(what.contains("8 frames from 0 on are one colour"), "{what}");
    assert!(
        what.contains("the first 7 frames are in blank.mp4"),
        "{what}"
    );
    let warnings = names(&events).iter().filter(|n| **n == "warning").count();
    assert_eq!(warnings, 1, "once, not for every frame");
    assert!(names(&events).contains(&"saved"));
    assert!(!has("ffprobe") || probe(&scratch.path("blank.mp4")) == 7);
}

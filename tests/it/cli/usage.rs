//! What is refused before any work, and what is told without any.

use std::fs;

use super::{Outcome, Scratch, json};

#[test]
fn help_begins_with_examples_and_fits_two_screens() {
    let scratch = Scratch::new();
    for line in [
        "",
        "--help",
        "-h",
        "generate --help",
        "compare --help",
        "kv --help",
        "devices -h",
    ] {
        let help = scratch.run(line).ok();
        assert!(help.lines().count() <= 80, "{line}: {help}");
    }
    let help = scratch.run("generate --help").ok();
    assert!(help.find("Examples:") < help.find("Usage:"), "{help}");
    assert!(scratch.run("--version").ok().starts_with("longtake 0."));
    assert!(scratch.names().is_empty());
}

#[test]
fn completions_and_manual_come_from_the_same_flags() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let line = format!("completions {shell}");
        assert!(scratch.run(&line).ok().contains("show-given"), "{shell}");
    }
    let man = scratch.run("man").ok();
    assert!(
        man.contains(".TH longtake") && man.contains("on\\-wall"),
        "{man}"
    );
}

#[test]
fn bad_flags_are_refused_with_the_nearest_good_one() {
    let scratch = Scratch::new();
    assert!(
        scratch
            .run("generate --framse 3")
            .refused(2)
            .contains("--frames")
    );
    assert!(scratch.run("genrate").refused(2).contains("generate"));
    for line in [
        "generate --frames 0",
        "generate --frames 99999999999",
        "generate --seconds nan",
        "generate --frames 2 --seconds 1",
        "generate --steps x",
        "generate --seed -7",
        "generate --given 0",
        "generate --given 1000",
        "generate --film x",
        "info",
    ] {
        scratch.run(line).refused(2);
    }
    assert!(scratch.names().is_empty());
}

#[test]
fn absurd_sizes_are_refused_before_anything_is_written() {
    let scratch = Scratch::new();
    let err = scratch
        .generate("--frames 2 --scale 1000 -o a.mp4")
        .refused(2);
    assert!(err.contains("--scale"), "{err}");
    let err = scratch
        .generate("--seconds 999999 --fps 1000 -o a.mp4")
        .refused(2);
    assert!(err.contains("at most 1000000"), "{err}");
    let err = scratch
        .generate("--frames 4 --window 2 --sink 5 -o a.mp4")
        .refused(2);
    assert!(err.contains("window"), "{err}");
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn a_film_that_cannot_fit_is_code_3() {
    let scratch = Scratch::new();
    if super::device() == "cpu" {
        eprintln!("SKIPPED: needs a device with a memory limit");
        return;
    }
    let err = scratch
        .generate("--frames 1000000 --kv f32 -o a.mp4")
        .refused(3);
    assert!(
        err.contains("would not fit") && err.contains("--window"),
        "{err}"
    );
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn camera_texts_are_refused_by_piece_and_column() {
    let scratch = Scratch::new();
    let err = Outcome::of(
        scratch
            .command(["generate", "--camera", "w-3, jump-2"])
            .output()
            .unwrap(),
    )
    .refused(2);
    assert!(
        err.contains("column 6") && err.contains("\"jump\""),
        "{err}"
    );
    fs::write(scratch.path("walk.txt"), "w-4\nleap-8\n").unwrap();
    let err = scratch.run("generate --camera walk.txt").refused(2);
    assert!(
        err.contains("line 2, column 1") && err.contains("walk.txt"),
        "{err}"
    );
    let err = scratch
        .run("generate --camera w-60 --on-wall refuse")
        .refused(2);
    assert!(err.contains("step ") && err.contains("slide"), "{err}");
}

#[test]
fn outputs_that_cannot_be_are_refused() {
    let scratch = Scratch::new();
    let err = scratch.run("generate -o film.webm").refused(2);
    assert!(err.contains(".mp4") && err.contains(".png"), "{err}");
    let err = scratch.run("generate -o film.mp4 --format y4m").refused(2);
    assert!(err.contains("--format y4m"), "{err}");
    let err = scratch.run("generate --json -o -").refused(2);
    assert!(err.contains("standard output"), "{err}");
    let err = scratch.generate("--frames 2 -o one.png").refused(2);
    assert!(err.contains("one%04d.png") || err.contains("%0"), "{err}");
    fs::write(scratch.path("file"), "").unwrap();
    let err = scratch.generate("--frames 2 -o file/film.mp4").refused(1);
    assert!(err.contains("cannot open the output"), "{err}");
    assert_eq!(scratch.names(), ["file"]);
}

#[test]
fn an_existing_film_is_left_alone() {
    let scratch = Scratch::new();
    fs::write(scratch.path("film.mp4"), "mine").unwrap();
    let err = scratch.run("generate -o film.mp4").refused(2);
    assert!(
        err.contains("exists") && err.contains("--overwrite"),
        "{err}"
    );
    assert_eq!(fs::read(scratch.path("film.mp4")).unwrap(), b"mine");
}

#[test]
fn models_that_are_missing_or_damaged_are_told_apart() {
    let scratch = Scratch::new();
    let err = scratch.run("generate -m nowhere").refused(4);
    assert!(err.contains("rooms"), "{err}");
    fs::create_dir(scratch.path("empty")).unwrap();
    let err = scratch.run("generate -m empty").refused(4);
    assert!(err.contains("config.json"), "{err}");

    let assets = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/worlds/rooms");
    fs::create_dir(scratch.path("cut")).unwrap();
    fs::copy(
        format!("{assets}/config.json"),
        scratch.path("cut/config.json"),
    )
    .unwrap();
    scratch.run("generate -m cut").refused(4);
    let weights = fs::read(format!("{assets}/weights.safetensors")).unwrap();
    fs::write(
        scratch.path("cut/weights.safetensors"),
        &weights[..weights.len() / 2],
    )
    .unwrap();
    let err = scratch.run("generate -m cut").refused(2);
    assert!(err.contains("ends after"), "{err}");
    let err = scratch.run("generate -m cut/config.json").refused(2);
    assert!(err.contains("folder"), "{err}");
    fs::write(
        scratch.path("cut/config.json"),
        "{\"model\": {\"dim\": 1e99}}",
    )
    .unwrap();
    scratch.run("generate -m cut").refused(2);
}

#[test]
fn devices_are_listed_as_text_and_json() {
    let scratch = Scratch::new();
    let list = json(&scratch.run("devices --json").ok());
    let devices = list["devices"].as_array().unwrap();
    assert_eq!(devices.last().unwrap()["device"], "cpu");
    for device in devices {
        for key in [
            "name",
            "backend",
            "kind",
            "driver",
            "tier",
            "max_buffer_bytes",
            "has_f16",
        ] {
            assert!(!device[key].is_null(), "{key} in {device}");
        }
    }
    let defaults = devices.iter().filter(|d| d["default"] == true).count();
    assert_eq!(defaults, usize::from(1 < devices.len()));
    let table = scratch.run("devices").ok();
    assert!(table.lines().count() == devices.len() + 2, "{table}");
    let err = scratch.run("generate --device nonesuch").refused(2);
    assert!(err.contains("nonesuch") && err.contains("cpu"), "{err}");
}

#[test]
fn info_refuses_what_it_cannot_read() {
    let scratch = Scratch::new();
    scratch.run("info nowhere.mp4").refused(2);
    fs::write(scratch.path("text.mp4"), "no film").unwrap();
    let err = scratch.run("info text.mp4").refused(2);
    assert!(err.contains("neither an MP4"), "{err}");
    scratch.run("info .").refused(2);
    scratch.run("generate --from text.mp4").refused(2);
}

#[test]
fn the_environment_stands_in_for_flags_and_loses_to_them() {
    let scratch = Scratch::new();
    let dry = |name: &str, value: &str, line: &str| {
        let line = format!("generate --dry-run --device cpu -o a.mp4 {line}");
        let mut command = scratch.command(line.split_whitespace());
        Outcome::of(command.env(name, value).output().unwrap())
    };
    assert!(dry("LONGTAKE_FRAMES", "7", "").ok().contains("7 frames"));
    assert!(
        dry("LONGTAKE_FRAMES", "7", "--frames 5")
            .ok()
            .contains("5 frames")
    );
    assert!(
        dry("LONGTAKE_FRAMES", "7", "--seconds 1")
            .ok()
            .contains("8 frames")
    );
    assert!(dry("LONGTAKE_FRAMES", "", "").ok().contains("64 frames"));
    assert!(
        dry("LONGTAKE_JSON", "yes", "")
            .ok()
            .contains("\"event\":\"plan\"")
    );
    assert!(
        dry("LONGTAKE_JSON", "perhaps", "")
            .refused(2)
            .contains("yes")
    );
    assert!(scratch.names().is_empty());
}

#[test]
fn a_dry_run_prints_the_plan_and_makes_nothing() {
    let scratch = Scratch::new();
    let plan = scratch
        .run("generate --dry-run --device cpu --frames 12 --seed 3 --window 20 --sink 2")
        .ok();
    for part in [
        "12 frames of 64x48",
        "window 20 (sink 2)",
        "seed 3",
        "cache",
        "_rooms_3.mp4",
    ] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    assert!(scratch.names().is_empty());
}

//! How a film in a window ends when it fails: by the words of `longtake generate --view --json`, with an `error` event and the
//! exit code that goes with it.
//!
//! Needs the program `longtake` beside the window's, as a build of the workspace leaves it.

#![expect(clippy::unwrap_used, reason = "what fails here is the test's result")]

#[path = "support/screen.rs"]
mod screen;

use std::path::Path;
use std::process::Command;

use screen::{Screen, has_tools, wait_for};

const FILM: [&str; 8] = [
    "generate", "--view", "--json", "--given", "3", "--seed", "1", "-o",
];

/// `longtake` with what every film here has.
fn generate(output: &str) -> Option<Command> {
    let viewer = Path::new(env!("CARGO_BIN_EXE_longtake-viewer"));
    let name = format!("longtake{}", std::env::consts::EXE_SUFFIX);
    let program = viewer.with_file_name(name);
    if !has_tools() {
        return None;
    }
    if !program.is_file() {
        assert!(
            std::env::var_os("LONGTAKE_REQUIRE_WINDOW").is_none(),
            "{} is missing; build it first",
            program.display()
        );
        eprintln!("SKIPPED: needs {}", program.display());
        return None;
    }
    let mut command = Command::new(program);
    command.args(FILM).arg(output);
    Some(command)
}

#[test]
fn a_film_that_shows_nothing_ends_with_its_reason_and_code_1() {
    let Some(mut command) = generate("film.mp4") else {
        return;
    };
    let screen = Screen::new("blank");
    // The built-in model with every weight 0.
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/worlds/rooms");
    let model = screen.folder.join("nothing");
    std::fs::create_dir_all(&model).unwrap();
    std::fs::copy(from.join("config.json"), model.join("config.json")).unwrap();
    let mut weights = std::fs::read(from.join("weights.safetensors")).unwrap();
    let (header, _) = weights.split_first_chunk::<8>().unwrap();
    let values = 8 + u64::from_le_bytes(*header) as usize;
    weights[values..].fill(0);
    std::fs::write(model.join("weights.safetensors"), weights).unwrap();
    command.args(["--frames", "40", "--model"]).arg(&model);
    let (mut running, events) = screen.start(&mut command);
    screen.focus();
    // The card with the reason stands until the window is closed.
    for _ in 0..4 {
        wait_for(&events, "frames_ready");
    }
    let error = loop {
        if let Ok(event) = events.recv_timeout(std::time::Duration::from_secs(2)) {
            if event["event"] == "error" {
                break event;
            }
            assert_ne!(event["event"], "done", "the film shows nothing");
        } else {
            screen.keys(&["q"]);
        }
    };
    assert_eq!((&error["schema"], &error["code"]), (&1.into(), &1.into()));
    let what = error["what"].as_str().unwrap();
    assert!(
        what.starts_with("Stopped: the film shows nothing any more: ") && what.contains("frames"),
        "{what}"
    );
    assert!(error["hint"].as_str().unwrap().contains("Go back"));
    assert_eq!(running.0.wait().unwrap().code(), Some(1));
}

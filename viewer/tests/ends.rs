//! How a film in a window ends when it fails: by the words of `longtake generate --view --json`, with an `error` event and the
//! exit code that goes with it.
//!
//! Needs the program `longtake` beside the window's, as a build of the workspace leaves it.

#![expect(clippy::unwrap_used, reason = "what fails here is the test's result")]

#[path = "support/screen.rs"]
mod screen;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use longtake::media::recipe::read;
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
        if let Ok(event) = events.recv_timeout(Duration::from_secs(2)) {
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

#[test]
fn a_film_whose_file_cannot_be_written_stops_with_the_reason_and_goes_on_without_it() {
    let Some(mut command) = generate("out/%04d.png") else {
        return;
    };
    let screen = Screen::new("unwritten");
    let (mut running, events) = screen.start(command.args(["--frames", "400"]));
    screen.focus();
    for _ in 0..4 {
        wait_for(&events, "frames_ready");
    }
    let out = screen.folder.join("out");
    std::fs::rename(&out, screen.folder.join("gone")).unwrap();
    let told = wait_for(&events, "warning");
    let text = told["text"].as_str().unwrap();
    assert!(
        text.contains("no longer written") && text.contains("out/%04d.png"),
        "{text}"
    );
    // The chunk under way is the last one.
    let quiet = Duration::from_secs(3);
    while events.recv_timeout(quiet).is_ok() {}
    let card = screen.picture("card");
    let error = [0xff, 0x8a, 0x80];
    assert!(card.near(100..900, 50..600, error) > 200, "no error card");
    // What was made is there: it is saved as it is, and the film goes on where it stopped.
    screen.keys(&["ctrl+s"]);
    screen.keys(&["Return"]);
    for _ in 0..2 {
        wait_for(&events, "frames_ready");
    }
    let film = || {
        let files = std::fs::read_dir(&screen.folder).unwrap();
        let mut files = files.filter_map(|e| Some(e.ok()?.path()));
        let path = files.find(|p| p.extension().is_some_and(|e| e == "mp4"))?;
        read(&path).ok().filter(|info| info.finished == Some(true))
    };
    let end = Instant::now() + Duration::from_secs(60);
    let saved = loop {
        match film() {
            Some(info) => break info,
            None => assert!(Instant::now() < end, "Ctrl S saved nothing"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(Some(4) <= saved.frames, "{saved:?}");
    let made = std::fs::read_dir(screen.folder.join("gone")).unwrap();
    assert!(4 <= made.count(), "what was written stays");
    screen.keys(&["q"]);
    let error = wait_for(&events, "error");
    assert_eq!(error["code"], 1);
    assert!(error["what"].as_str().unwrap().contains("out/%04d.png"));
    assert_eq!(running.0.wait().unwrap().code(), Some(1));
}

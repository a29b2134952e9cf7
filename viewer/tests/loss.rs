//! A device that is destroyed under the real window: another one is opened, the painter and its textures follow there, and both
//! frames from before and frames from after are shown as they are.
//!
//! The window runs in this program, started once more, since only there can its device be taken away.

#![expect(clippy::unwrap_used, reason = "what fails here is the test's result")]

#[path = "support/screen.rs"]
mod screen;

use std::io::{BufRead as _, Write as _};
use std::process::Command;
use std::time::Instant;

use longtake::gpu::{Device, Select};
use longtake_viewer::app::{self, Options};
use longtake_viewer::job::{Job, Width, Widths};

use screen::{Screen, has_tools, wait, wait_for};

const NAME: &str = "a_window_goes_on_when_its_device_is_destroyed";

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("--window") => window(),
        // What the test runner was asked for by name may be another test.
        Some(filter) if !filter.starts_with('-') && !NAME.contains(filter) => {}
        _ => test(),
    }
}

/// The window, whose device is destroyed at a line on standard input.
fn window() {
    let select = Select::default();
    let device = Device::open(&select).unwrap();
    let ours = device.clone();
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines() {
            ours.lend().unwrap().device.destroy();
        }
    });
    let options = Options {
        job: Job {
            given: 12,
            window: 28,
            sink: 4,
            span: 4,
            seed: 7,
            widths: Widths::both(Width::Four),
            ..Job::default()
        },
        select,
        record: None,
        walk: true,
        size: Some([1280.0, 800.0]),
        scale: Some(1.0),
        theme: Some(egui::Theme::Dark),
        open: Vec::new(),
        screenshot: None,
        json: Some(Instant::now()),
    };
    let fault = app::run(device, Vec::new(), options).unwrap();
    assert_eq!(fault, None);
}

fn test() {
    if !has_tools() {
        return;
    }
    let screen = Screen::new("loss");
    let mut command = Command::new(std::env::current_exe().unwrap());
    let (mut viewer, events) = screen.start(command.arg("--window"));
    let chunk = |n: u64| {
        wait(&events, "a chunk", |e| {
            (e["event"] == "frames_ready" && e["chunk"].as_u64() >= Some(n)).then_some(())
        });
    };
    chunk(3);
    screen.focus();
    // Settled at the live edge, then held.
    screen.keys(&["comma"]);
    chunk(5);
    screen.check_frame("before");
    let stdin = viewer.0.stdin.as_mut().unwrap();
    stdin.write_all(b"destroy\n").unwrap();
    stdin.flush().unwrap();
    let warning = wait_for(&events, "warning");
    let text = warning["text"].as_str().unwrap();
    assert!(text.contains("made again on a new device"), "{text}");
    let after = wait_for(&events, "frames_ready")["chunk"].as_u64().unwrap();
    chunk(after + 2);
    screen.check_frame("held over the loss");
    // Made after it.
    screen.keys(&["End", "comma"]);
    chunk(after + 5);
    screen.check_frame("made after it");
    // Made before it, and not on the screen then: a second behind the given frames' beginning and six frames on.
    screen.keys(&[
        "Home", "Right", "period", "period", "period", "period", "period", "period",
    ]);
    chunk(after + 7);
    screen.check_frame("made before it");
    screen.keys(&["q"]);
    let done = wait_for(&events, "done");
    assert!(done["frames"].as_u64() > Some(after), "{done}");
    assert!(viewer.0.wait().unwrap().success());
    println!("test {NAME} ... ok");
}

//! The real window after its device was destroyed under it: it opens another one, makes the film again, paints on, and shows
//! frames of before and of after byte for byte.
//!
//! Destroying takes the window's own device, so this program is both: the test, and with `window` as its argument the window, which
//! destroys the device that it began on when a line comes in. The window has to have the main thread, which tests do not run on.
//!
//! Needs `Xvfb`, `xdotool` and ImageMagick's `import`; without them it is skipped, and under `LONGTAKE_REQUIRE_WINDOW=1` that is a
//! failure.

#![expect(clippy::unwrap_used, reason = "what fails here is the test's result")]

#[path = "support/screen.rs"]
mod screen;

use std::io::{BufRead as _, Write as _};
use std::process::{Command, ExitCode};
use std::time::Instant;

use longtake::gpu::{Device, Select, list_devices};
use longtake_viewer::app::{self, Options};
use longtake_viewer::job::{Job, Width, Widths};

use screen::{Screen, has_tools, wait, wait_for};

const NAME: &str = "a_window_whose_device_is_destroyed_paints_on";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args == ["window"] {
        return window();
    }
    let is_meant = |filter: &String| filter.starts_with('-') || NAME.contains(filter.as_str());
    if args.iter().all(is_meant) && !args.iter().any(|a| a == "--list") {
        test();
        println!("test {NAME} ... ok");
    }
    ExitCode::SUCCESS
}

/// The window on a device that the next line destroys.
fn window() -> ExitCode {
    let begun = Instant::now();
    let select = Select::default();
    let device = Device::open(&select).unwrap();
    let lent = device.lend().unwrap();
    std::thread::spawn(move || {
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line).is_ok() && !line.is_empty() {
            lent.device.destroy();
        }
    });
    let options = Options {
        job: Job {
            given: 12,
            most: 400,
            window: 28,
            sink: 4,
            span: 4,
            widths: Widths::both(Width::Two),
            ..Job::default()
        },
        store: None,
        select,
        record: None,
        walk: true,
        size: Some([1280.0, 800.0]),
        scale: Some(1.0),
        theme: Some(egui::Theme::Dark),
        open: Vec::new(),
        screenshot: None,
        json: Some(begun),
    };
    let ended = app::run(device, Vec::new(), options);
    assert!(matches!(ended, Ok(None)), "{ended:?}");
    ExitCode::SUCCESS
}

fn test() {
    if !has_tools() {
        return;
    }
    if list_devices().is_empty() {
        assert!(std::env::var_os("LONGTAKE_REQUIRE_GPU").is_none());
        eprintln!("SKIPPED: needs an adapter");
        return;
    }
    let screen = Screen::new("lost");
    let mut command = Command::new(std::env::current_exe().unwrap());
    let (mut running, events) = screen.start(command.arg("window"));
    screen.focus();
    for _ in 0..8 {
        wait_for(&events, "frames_ready");
    }
    // A view that stands still at a frame that came into its texture on the device.
    screen.keys(&["comma"]);
    running.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    let text = wait(&events, "the loss", |e| {
        (e["event"] == "warning").then(|| e["text"].as_str().unwrap().to_owned())
    });
    assert!(text.contains("graphics driver restarted"), "{text}");
    for _ in 0..3 {
        wait_for(&events, "frames_ready");
    }
    screen.check_frame("of before, as it stood");
    // The fifth frame that was made: twice a second from the given ones on.
    screen.keys(&["Home", "Right", "Right"]);
    wait_for(&events, "frames_ready");
    screen.check_frame("of before, looked at again");
    screen.keys(&["End"]);
    for _ in 0..2 {
        wait_for(&events, "frames_ready");
    }
    screen.keys(&["comma"]);
    wait_for(&events, "frames_ready");
    screen.check_frame("of after");
    screen.keys(&["q"]);
    let done = wait_for(&events, "done");
    assert!(done["frames"].as_u64() >= Some(14), "{done}");
    assert!(running.0.wait().unwrap().success());
}

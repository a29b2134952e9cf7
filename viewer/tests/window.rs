//! The real window on a display of its own: it walks, its slider is moved, bytes fall, pixels are looked at.
//!
//! Needs `Xvfb`, `xdotool` and ImageMagick's `import`; without them it is skipped, and under `LONGTAKE_REQUIRE_WINDOW=1` that is a
//! failure.

#![expect(clippy::unwrap_used, reason = "what fails here is the test's result")]

#[path = "support/screen.rs"]
mod screen;

use std::process::Command;

use serde_json::Value;

use screen::{SIZE, Screen, has_tools, wait};

/// A state's colour in the dark theme: 2 bit, and exact.
const TWO_BITS: [u8; 3] = [0x75, 0x63, 0xcf];
const EXACT: [u8; 3] = [0xff, 0xd9, 0x8a];

fn cache_bytes(event: &Value) -> Option<u64> {
    (event["event"] == "kv")
        .then(|| event["exact_bytes"].as_u64().unwrap() + event["coded_bytes"].as_u64().unwrap())
}

#[test]
fn the_window_walks_turns_its_bits_and_shows_it() {
    if !has_tools() {
        return;
    }
    let screen = Screen::new("window");
    let folder = screen.folder.clone();
    let tool = |name: &str, args: &[&str]| screen.tool(name, args);
    let mut command = Command::new(env!("CARGO_BIN_EXE_longtake-viewer"));
    command
        .args("--json --theme dark --size 1280x800 --bits 16".split(' '))
        .args("--given 12 --window 28 --sink 4 --kv-span 4 --seed 7".split(' '));
    let (mut viewer, events) = screen.start(&mut command);
    screen.focus();

    // Enter on the first screen.
    tool("xdotool", &["key", "Return"]);
    wait(&events, "the plan", |e| {
        (e["event"] == "plan").then_some(())
    });
    let mut full = 0;
    wait(&events, "a full window of exact frames", |e| {
        full = cache_bytes(e).unwrap_or(full);
        (e["event"] == "frames_ready" && e["chunk"].as_u64() >= Some(20)).then_some(())
    });
    let before = screen.picture("before");

    // The slider's fifth cell: 2 bit.
    tool("xdotool", &["mousemove", "1234", "110", "click", "1"]);
    let fallen = wait(&events, "the cache to fall below 60 %", |e| {
        cache_bytes(e).filter(|b| 10 * b < 6 * full)
    });
    println!("cache: {full} bytes, then {fallen}");
    // Away from the slider, so that no tooltip lies over anything; two chunks for the picture to be there.
    tool("xdotool", &["mousemove", "640", "20"]);
    for _ in 0..2 {
        wait(&events, "another chunk", |e| {
            (e["event"] == "frames_ready").then_some(())
        });
    }
    let after = screen.picture("after");
    // The view stands still, at a frame that came into its texture on the device; S saves the same one from main memory.
    let next = || {
        wait(&events, "another chunk", |e| {
            (e["event"] == "frames_ready").then_some(())
        });
    };
    tool("xdotool", &["key", "comma"]);
    (0..2).for_each(|_| next());
    screen.check_frame("still");
    tool("xdotool", &["key", "End"]);
    next();
    // Undo leaves a take behind; the film beside itself in 16 bit.
    tool("xdotool", &["key", "ctrl+z"]);
    wait(&events, "the film to be cut back", |e| {
        (e["event"] == "cut_back").then_some(())
    });
    wait(&events, "another chunk", |e| {
        (e["event"] == "frames_ready").then_some(())
    });
    tool("xdotool", &["key", "c"]);
    for _ in 0..2 {
        wait(&events, "a chunk after catching up", |e| {
            (e["event"] == "frames_ready").then_some(())
        });
    }
    let compared = screen.picture("compared");
    tool("xdotool", &["key", "q"]);
    let times = wait(&events, "the window's own times", |e| {
        (e["event"] == "window").then(|| e.clone())
    });
    println!("{times}");
    let done = wait(&events, "the end", |e| {
        (e["event"] == "done").then(|| e.clone())
    });
    assert!(done["t"].as_f64() >= done["first_frame_secs"].as_f64());
    assert!(done["frames"].as_u64() > Some(20) && done["fps"].as_f64() > Some(0.0));
    assert_eq!(
        (&done["seed"], &done["interrupted"]),
        (&7.into(), &true.into())
    );
    assert_eq!(done["schema"], 1);
    assert!(viewer.0.wait().unwrap().success());

    // The bars lie above the status line of 24 and 40 of labels and takes.
    let (bars, all) = (SIZE.1 - 90..SIZE.1 - 54, 0..SIZE.0);
    let in_bars = |p: &screen::Picture, rgb| p.count(all.clone(), bars.clone(), rgb);
    assert_eq!(in_bars(&before, TWO_BITS), 0, "nothing was coded yet");
    assert!(in_bars(&before, EXACT) > 2000, "bars of exact frames");
    assert!(in_bars(&after, TWO_BITS) > 500, "bars of 2 bit frames");
    assert!(
        2 * in_bars(&after, EXACT) < in_bars(&before, EXACT),
        "fewer exact frames are left"
    );
    // The take's line below the bars, and the curve in the middle of the film's place, are in the accent.
    let accent = [0x8f, 0xb8, 0xff];
    let take = compared.near(all.clone(), SIZE.1 - 50..SIZE.1 - 26, accent);
    let curve = compared.near(60..880, 320..540, accent);
    assert!(take > 10 && curve > 50, "{take} and {curve} pixels");
    // The chosen cell wears a white frame, and the film shows many colours.
    let white = [0xf1, 0xf3, 0xf5];
    assert!(after.count(1190..1280, 75..145, white) > 150);
    let film: std::collections::BTreeSet<[u8; 3]> = (120..800)
        .step_by(5)
        .flat_map(|x| (70..580).step_by(5).map(move |y| (x, y)))
        .map(|(x, y)| after.at(x, y))
        .collect();
    assert!(film.len() > 100, "{} colours", film.len());
    // S saved the frame, as a picture of its own.
    let saved: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| p.to_string_lossy().contains("-frame"))
        .collect();
    assert_eq!(saved.len(), 1, "{saved:?}");
}

//! The real window on a display of its own: it walks, its slider is moved, bytes fall, pixels are looked at.
//!
//! Needs `Xvfb`, `xdotool` and ImageMagick's `import`; without them it is skipped, and under `LONGTAKE_REQUIRE_WINDOW=1` that is a
//! failure.

#![expect(clippy::unwrap_used, reason = "what fails here is the test's result")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

const SIZE: (usize, usize) = (1280, 800);
/// A state's colour in the dark theme: 2 bit, and exact.
const TWO_BITS: [u8; 3] = [0x75, 0x63, 0xcf];
const EXACT: [u8; 3] = [0xff, 0xd9, 0x8a];

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A display of its own number.
fn display() -> (Running, String) {
    let mut server = Command::new("Xvfb")
        .args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            "1280x800x24",
            "-nolisten",
            "tcp",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    (Running(server), format!(":{}", line.trim()))
}

fn has(tool: &str) -> bool {
    let found = Command::new(tool).arg("-version").output();
    found.is_ok_and(|o| tool != "import" || o.status.success())
}

/// What the window's standard output says from now on.
fn lines(child: &mut Child) -> Receiver<Value> {
    let (tell, told) = channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if let Ok(value) = serde_json::from_str(&line)
                && tell.send(value).is_err()
            {
                return;
            }
        }
    });
    told
}

/// Waits for an event that `pick` takes.
fn wait<T>(events: &Receiver<Value>, what: &str, mut pick: impl FnMut(&Value) -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(240);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let event = events
            .recv_timeout(left)
            .unwrap_or_else(|e| panic!("waiting for {what}: {e}"));
        if let Some(found) = pick(&event) {
            return found;
        }
    }
}

fn cache_bytes(event: &Value) -> Option<u64> {
    (event["event"] == "kv")
        .then(|| event["exact_bytes"].as_u64().unwrap() + event["coded_bytes"].as_u64().unwrap())
}

struct Picture {
    width: usize,
    rgb: Vec<u8>,
}

impl Picture {
    fn of(path: &Path) -> Picture {
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        let mut decoder = png::Decoder::new(file);
        decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
        let mut reader = decoder.read_info().unwrap();
        let mut data = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut data).unwrap();
        let n = info.color_type.samples();
        assert!(n >= 3, "a colour picture");
        Picture {
            width: info.width as usize,
            rgb: data
                .chunks_exact(n)
                .flat_map(|p| [p[0], p[1], p[2]])
                .collect(),
        }
    }

    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let i = 3 * (y * self.width + x);
        [self.rgb[i], self.rgb[i + 1], self.rgb[i + 2]]
    }

    /// Pixels of about a colour in a part: thin lines are smoothed.
    fn near(&self, x: std::ops::Range<usize>, y: std::ops::Range<usize>, rgb: [u8; 3]) -> usize {
        let is_near = |p: [u8; 3]| p.iter().zip(rgb).all(|(a, b)| a.abs_diff(b) < 64);
        y.flat_map(|y| x.clone().map(move |x| (x, y)))
            .filter(|(x, y)| is_near(self.at(*x, *y)))
            .count()
    }

    /// Pixels of a colour in a part.
    fn count(&self, x: std::ops::Range<usize>, y: std::ops::Range<usize>, rgb: [u8; 3]) -> usize {
        y.flat_map(|y| x.clone().map(move |x| (x, y)))
            .filter(|(x, y)| self.at(*x, *y) == rgb)
            .count()
    }
}

#[test]
fn the_window_walks_turns_its_bits_and_shows_it() {
    if !["Xvfb", "xdotool", "import"].into_iter().all(has) {
        assert!(
            std::env::var_os("LONGTAKE_REQUIRE_WINDOW").is_none(),
            "Xvfb, xdotool or import is missing"
        );
        eprintln!("SKIPPED: needs Xvfb, xdotool and import");
        return;
    }
    let folder = std::env::temp_dir().join(format!("longtake-window-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (_server, display) = display();
    let tool = |name: &str, args: &[&str]| {
        let done = Command::new(name)
            .args(args)
            .env("DISPLAY", &display)
            .output();
        let done = done.unwrap();
        (
            done.status.success(),
            String::from_utf8_lossy(&done.stdout).trim().to_owned(),
        )
    };
    let child = Command::new(env!("CARGO_BIN_EXE_longtake-viewer"))
        .args([
            "--json", "--theme", "dark", "--size", "1280x800", "--bits", "16",
        ])
        .args([
            "--given",
            "12",
            "--window",
            "28",
            "--sink",
            "4",
            "--kv-span",
            "4",
            "--seed",
            "7",
        ])
        .current_dir(&folder)
        .env("DISPLAY", &display)
        .env_remove("WAYLAND_DISPLAY")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut viewer = Running(child);
    let events = lines(&mut viewer.0);
    let (found, window) = tool(
        "xdotool",
        &["search", "--sync", "--onlyvisible", "--name", "^longtake$"],
    );
    assert!(found, "no window");
    tool("xdotool", &["windowmove", &window, "0", "0"]);
    tool("xdotool", &["windowfocus", "--sync", &window]);

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
    let before = folder.join("before.png");
    assert!(tool("import", &["-window", "root", before.to_str().unwrap()]).0);

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
    let after = folder.join("after.png");
    assert!(tool("import", &["-window", "root", after.to_str().unwrap()]).0);
    // The view stands still, at a frame that came into its texture on the device; S saves the same one from main memory.
    let next = || {
        wait(&events, "another chunk", |e| {
            (e["event"] == "frames_ready").then_some(())
        });
    };
    tool("xdotool", &["key", "comma"]);
    (0..2).for_each(|_| next());
    let still = folder.join("still.png");
    assert!(tool("import", &["-window", "root", still.to_str().unwrap()]).0);
    tool("xdotool", &["key", "s", "End"]);
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
    let compared = folder.join("compared.png");
    assert!(tool("import", &["-window", "root", compared.to_str().unwrap()]).0);
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

    let (before, after) = (Picture::of(&before), Picture::of(&after));
    // The bars lie above the status line of 24 and 40 of labels and takes.
    let (bars, all) = (SIZE.1 - 90..SIZE.1 - 54, 0..SIZE.0);
    let in_bars = |p: &Picture, rgb| p.count(all.clone(), bars.clone(), rgb);
    assert_eq!(in_bars(&before, TWO_BITS), 0, "nothing was coded yet");
    assert!(in_bars(&before, EXACT) > 2000, "bars of exact frames");
    assert!(in_bars(&after, TWO_BITS) > 500, "bars of 2 bit frames");
    assert!(
        2 * in_bars(&after, EXACT) < in_bars(&before, EXACT),
        "fewer exact frames are left"
    );
    // The take's line below the bars, and the curve in the middle of the film's place, are in the accent.
    let compared = Picture::of(&compared);
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
    let (saved, still) = (Picture::of(&saved[0]), Picture::of(&still));
    assert_eq!(saved.width, 64 * 8);
    // Eleven pixels a pixel in the middle of 920 x 560 below the top bar; the true view and words lie over other parts.
    for (x, y) in (0..40).flat_map(|x| (12..48).map(move |y| (x, y))) {
        let shown = still.at(108 + 11 * x + 5, 56 + 11 * y + 5);
        assert_eq!(shown, saved.at(8 * x + 4, 8 * y + 4), "pixel {x}, {y}");
    }
    std::fs::remove_dir_all(&folder).ok();
}

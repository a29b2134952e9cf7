//! A display of its own for the real window, its events, and pictures of what it shows.
//!
//! Needs `Xvfb`, `xdotool` and ImageMagick's `import`; without them a test is skipped, and under `LONGTAKE_REQUIRE_WINDOW=1` that
//! is a failure.

#![allow(dead_code, reason = "every test uses its own part of it")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Pixels of the display, and of the window on it.
pub const SIZE: (usize, usize) = (1280, 800);

/// Whether the tools are there.
pub fn has_tools() -> bool {
    let has = |tool: &str| {
        let found = Command::new(tool).arg("-version").output();
        found.is_ok_and(|o| tool != "import" || o.status.success())
    };
    if ["Xvfb", "xdotool", "import"].into_iter().all(has) {
        return true;
    }
    assert!(
        std::env::var_os("LONGTAKE_REQUIRE_WINDOW").is_none(),
        "Xvfb, xdotool or import is missing"
    );
    eprintln!("SKIPPED: needs Xvfb, xdotool and import");
    false
}

/// A process that ends with the test.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A display, and a folder that the window works in.
pub struct Screen {
    _server: Running,
    display: String,
    pub folder: PathBuf,
}

impl Drop for Screen {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

impl Screen {
    pub fn new(name: &str) -> Screen {
        let size = format!("{}x{}x24", SIZE.0, SIZE.1);
        let mut server = Command::new("Xvfb")
            .args(["-displayfd", "1", "-screen", "0", &size])
            .args(["-nolisten", "tcp"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let folder = format!("longtake-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        Screen {
            _server: Running(server),
            display: format!(":{}", line.trim()),
            folder,
        }
    }

    /// Runs a tool there: whether it did well, and what it said.
    pub fn tool(&self, name: &str, args: &[&str]) -> (bool, String) {
        let done = Command::new(name)
            .args(args)
            .env("DISPLAY", &self.display)
            .output();
        let done = done.unwrap();
        (
            done.status.success(),
            String::from_utf8_lossy(&done.stdout).trim().to_owned(),
        )
    }

    /// Starts a program that opens a window; both ends of it.
    pub fn start(&self, command: &mut Command) -> (Running, Receiver<Value>) {
        let child = command
            .current_dir(&self.folder)
            .env("DISPLAY", &self.display)
            .env_remove("WAYLAND_DISPLAY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut running = Running(child.unwrap());
        let events = lines(&mut running.0);
        (running, events)
    }

    /// Waits for the window and gives it the keyboard.
    pub fn focus(&self) {
        let (found, window) = self.tool(
            "xdotool",
            &["search", "--sync", "--onlyvisible", "--name", "^longtake$"],
        );
        assert!(found, "no window");
        self.tool("xdotool", &["windowmove", &window, "0", "0"]);
        self.tool("xdotool", &["windowfocus", "--sync", &window]);
    }

    /// Presses keys one after the other.
    pub fn keys(&self, keys: &[&str]) {
        self.tool("xdotool", &[&["key"], keys].concat());
    }

    /// What the display shows.
    pub fn picture(&self, name: &str) -> Picture {
        let path = self.folder.join(format!("{name}.png"));
        assert!(
            self.tool("import", &["-window", "root", path.to_str().unwrap()])
                .0
        );
        Picture::of(&path)
    }

    /// Saves the frame that is shown, and holds what is shown to it, pixel by pixel, in the middle of the film.
    pub fn check_frame(&self, what: &str) {
        let files = || -> Vec<PathBuf> {
            let all = std::fs::read_dir(&self.folder).unwrap();
            all.filter_map(|e| Some(e.ok()?.path()))
                .filter(|p| p.to_string_lossy().contains("-frame"))
                .collect()
        };
        let before = files();
        self.tool("xdotool", &["mousemove", "640", "20"]);
        self.keys(&["s"]);
        let end = Instant::now() + Duration::from_secs(60);
        let saved = loop {
            let new = files().into_iter().find(|f| !before.contains(f));
            // It is written beside, and moved when it is whole.
            match new {
                Some(path) => break path,
                None => assert!(Instant::now() < end, "no frame was saved"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        std::thread::sleep(Duration::from_millis(200));
        let saved = Picture::of(&saved);
        assert_eq!(saved.width, 64 * 8);
        // Eleven pixels a pixel in the middle of 920 x 560 below the top bar; the true view and words lie over other parts.
        let places = || (0..40).flat_map(|x| (12..48).map(move |y| (x, y)));
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let shown = self.picture(what);
            let other = places().find(|(x, y)| {
                let shown = shown.at(108 + 11 * x + 5, 56 + 11 * y + 5);
                shown != saved.at(8 * x + 4, 8 * y + 4)
            });
            match other {
                None => return,
                // The keys before were taken, and what they ask for is perhaps not painted yet.
                Some(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(100)),
                Some((x, y)) => panic!("{what}: pixel {x}, {y} is not that of the saved frame"),
            }
        }
    }
}

/// What a window's standard output says from now on.
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
pub fn wait<T>(
    events: &Receiver<Value>,
    what: &str,
    mut pick: impl FnMut(&Value) -> Option<T>,
) -> T {
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

/// Waits for an event of a name.
pub fn wait_for(events: &Receiver<Value>, name: &str) -> Value {
    wait(events, name, |e| (e["event"] == name).then(|| e.clone()))
}

/// A picture, three bytes a pixel.
pub struct Picture {
    pub width: usize,
    rgb: Vec<u8>,
}

impl Picture {
    pub fn of(path: &Path) -> Picture {
        let file = BufReader::new(std::fs::File::open(path).unwrap());
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

    pub fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let i = 3 * (y * self.width + x);
        [self.rgb[i], self.rgb[i + 1], self.rgb[i + 2]]
    }

    /// Pixels of about a colour in a part: thin lines are smoothed.
    pub fn near(
        &self,
        x: std::ops::Range<usize>,
        y: std::ops::Range<usize>,
        rgb: [u8; 3],
    ) -> usize {
        let is_near = |p: [u8; 3]| p.iter().zip(rgb).all(|(a, b)| a.abs_diff(b) < 64);
        y.flat_map(|y| x.clone().map(move |x| (x, y)))
            .filter(|(x, y)| is_near(self.at(*x, *y)))
            .count()
    }

    /// Pixels of a colour in a part.
    pub fn count(
        &self,
        x: std::ops::Range<usize>,
        y: std::ops::Range<usize>,
        rgb: [u8; 3],
    ) -> usize {
        y.flat_map(|y| x.clone().map(move |x| (x, y)))
            .filter(|(x, y)| self.at(*x, *y) == rgb)
            .count()
    }
}

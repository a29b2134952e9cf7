//! How quickly the window answers while chunks are computed: the real window on a display of its own, a key every 150 ms for a
//! while, and then its own log: milliseconds of a pass over the panels, from an input until the loop had taken it in, and
//! from an input until its picture was submitted. The aim is 50 ms for an answer, on a machine that does nothing else.
//!
//! Usage: `cargo bench -p longtake-viewer --bench answer -- [SECONDS]` (default 30). Needs Xvfb and xdotool. It judges nothing.

#![expect(clippy::unwrap_used, reason = "what fails here ends the run")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn main() {
    let number = |a: String| a.parse::<u64>().ok();
    let secs = std::env::args().skip(1).find_map(number).unwrap_or(30);
    let mut server = Command::new("Xvfb")
        .args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            "1440x900x24",
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
    let display = format!(":{}", line.trim());
    let tool = |args: &[&str]| {
        let done = Command::new("xdotool")
            .args(args)
            .env("DISPLAY", &display)
            .output();
        String::from_utf8_lossy(&done.unwrap().stdout)
            .trim()
            .to_owned()
    };
    let mut viewer = Command::new(env!("CARGO_BIN_EXE_longtake-viewer"))
        .args([
            "--walk", "--json", "--size", "1440x900", "--bits", "2", "--seed", "7",
        ])
        .env("DISPLAY", &display)
        .env_remove("WAYLAND_DISPLAY")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(viewer.stdout.take().unwrap());
    let mut lines = out.lines().map_while(Result::ok);
    let started = |l: &String| l.contains("\"frames_ready\"");
    lines.find(started).unwrap();
    let window = tool(&["search", "--sync", "--onlyvisible", "--name", "^longtake$"]);
    tool(&["windowfocus", "--sync", &window]);
    let end = Instant::now() + Duration::from_secs(secs);
    // Reads on, so that the pipe does not fill up and hold the film.
    let reader = std::thread::spawn(move || lines.filter(|l| l.contains("\"window\"")).last());
    while Instant::now() < end {
        for key in ["i", "comma", "period", "End"] {
            tool(&["key", key]);
            std::thread::sleep(Duration::from_millis(150));
        }
    }
    tool(&["key", "q"]);
    println!("{}", reader.join().unwrap().unwrap_or_default());
    viewer.wait().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
}

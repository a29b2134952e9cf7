//! Video out, from the outside: round trips, kills, full disks, hostile files. ffprobe is the second opinion where it is there.

mod faults;
mod round_trip;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use longtake::frame::Frame;
use longtake::media::{Recipe, Spec, VideoWriter};

const WIDTH: u32 = 32;
const HEIGHT: u32 = 24;
const FPS: f64 = 16.0;

/// A folder of its own for one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "longtake-media-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Colour bars with a block that moves one pixel a frame.
fn frame(index: u32) -> Frame {
    const COLOURS: [[u8; 3]; 6] = [
        [220, 30, 30],
        [30, 200, 40],
        [40, 60, 230],
        [240, 220, 40],
        [40, 210, 220],
        [128, 128, 128],
    ];
    let mut rgb = Vec::new();
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let is_block = (index % WIDTH..index % WIDTH + 6).contains(&x) && (8..16).contains(&y);
            rgb.extend(if is_block {
                [255, 255, 255]
            } else {
                COLOURS[(x * 6 / WIDTH) as usize]
            });
        }
    }
    Frame {
        width: WIDTH,
        height: HEIGHT,
        rgb,
    }
}

fn frames(range: std::ops::Range<u32>) -> Vec<Frame> {
    range.map(frame).collect()
}

fn recipe() -> Recipe {
    let mut recipe = Recipe::new();
    recipe
        .set("model", "tiny")
        .set("seed", 42)
        .set("prompt", "ein Füchslein, 日本")
        .set("frames", 40);
    recipe
}

fn spec(recipe: Option<&Recipe>) -> Spec<'_> {
    Spec {
        width: WIDTH,
        height: HEIGHT,
        fps: FPS,
        scale: 4,
        frames: None,
        overwrite: false,
        recipe,
    }
}

/// 40 frames in chunks of 8.
fn write_film(path: &Path) {
    let recipe = recipe();
    let mut writer = VideoWriter::create(path, &spec(Some(&recipe))).unwrap();
    for chunk in 0..5 {
        writer
            .write_chunk(&frames(8 * chunk..8 * chunk + 8))
            .unwrap();
    }
    let mut last = recipe;
    last.set("secs", 1.5);
    let summary = writer.finish_with(&last).unwrap();
    assert_eq!((summary.frames, summary.secs), (40, 2.5));
    if path.extension() != Some("png".as_ref()) {
        assert_eq!(summary.bytes, fs::metadata(path).unwrap().len());
    }
}

fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("-version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        eprintln!("SKIPPED: needs {program}");
    }
    found
}

/// `key=value` lines that ffprobe tells of the first stream, frames counted by decoding. Panics when it complains.
fn probe(path: &Path) -> Vec<String> {
    let entries = "stream=width,height,r_frame_rate,avg_frame_rate,nb_read_frames,pix_fmt,color_space,color_range,has_b_frames:format=duration:format_tags=comment";
    let out = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-count_frames",
            "-show_entries",
            entries,
            "-of",
            "default=nw=1",
        ])
        .arg(path)
        .output()
        .unwrap();
    assert!(out.status.success());
    let complaint = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(complaint.is_empty(), "{complaint}");
    String::from_utf8(out.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

/// The frames of a film as ffmpeg decodes them to RGB.
fn decode(path: &Path) -> Vec<u8> {
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args([
            "-fps_mode",
            "passthrough",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-sws_flags",
            "neighbor+accurate_rnd+full_chroma_int",
            "-",
        ])
        .output()
        .unwrap();
    assert!(
        out.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    out.stdout
}
/// Ends of the boxes at the top of a file, with their kinds.
fn top_boxes(bytes: &[u8]) -> Vec<(usize, [u8; 4])> {
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        at += u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let start = found.last().map_or(0, |&(end, _)| end);
        found.push((at, bytes[start + 4..start + 8].try_into().unwrap()));
    }
    found
}

/// Frames that ffprobe decodes, whatever it says about the end of the file.
fn decodable(path: &Path) -> u64 {
    let out = Command::new("ffprobe")
        .args([
            "-v",
            "quiet",
            "-count_frames",
            "-show_entries",
            "stream=nb_read_frames",
            "-of",
            "csv=p=0",
        ])
        .arg(path)
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stdout)
        .trim()
        .trim_end_matches(',')
        .parse()
        .unwrap()
}

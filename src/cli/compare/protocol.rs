//! What was compared and how: printed in the report, so that its figures can be judged and made again.

use std::time::SystemTime;

use longtake::gpu::Caps;
use serde::Serialize;

use super::measure::{self, RECENT};
use crate::cli::args::{CompareArgs, Precision};
use crate::cli::job::Scene;

/// How the figures come about. Printed in the report, stored in the JSON.
const METHOD: [&str; 8] = [
    "Every setting starts from the same given frames and the same noise, on a device opened for that run alone, and is compared \
     as raw 8-bit frames, before any video encoder, with the reference run of the same film and seed.",
    "A film is made chunk by chunk from its own past, so a small difference can grow until the two films are different takes of \
     the same walk. Long clips diverge: read the early windows first. They measure the cache; once two films have drifted \
     apart, PSNR and SSIM against the reference, and any mean over a whole long clip, measure chance and are noise.",
    "PSNR is that of the mean squared error over all pixels, channels and frames of a window; SSIM is the mean of the frames' \
     (Wang et al. 2004, luma, 11 x 11 Gaussian). Frames without any difference have infinite PSNR: exact, null in the JSON.",
    "Truth: a generated frame whose pose equals that of a given frame exactly is compared with that given frame, if the pose \
     was not among the 8 frames before. This does not depend on the reference, so it stays meaningful to the end of a film.",
    "Windows of equal bytes (window-N) keep 16-bit keys and values of the newest N frames, as many as fill the bytes that a \
     setting holds at the end of the film, at least 2.",
    "Bits an element count everything that is stored in the cache. Ratio: bytes of the frames held at 16 bits over bytes held. \
     Smaller than the reference: the reference's cache bytes over this run's, at the same film length.",
    "Times are wall times with every stage of the device's work measured, which costs all runs a little speed. ms a chunk is \
     the median over a run's chunks; attention is its total over generated chunks, as a ratio to the reference's.",
    "± is the sample standard deviation over runs, one a film and seed; a single run has none.",
];

/// A film of the comparison.
#[derive(Debug, Serialize)]
pub(super) struct Place {
    pub(super) film: usize,
    pub(super) name: String,
    pub(super) camera: String,
    pub(super) follows_default: bool,
    /// Generated frames that are compared with the truth.
    pub(super) revisits: usize,
}

/// The protocol of a comparison.
#[derive(Debug, Serialize)]
pub(super) struct Protocol {
    pub(super) version: &'static str,
    pub(super) date: String,
    pub(super) command_line: String,
    pub(super) model: String,
    pub(super) device: String,
    pub(super) driver: String,
    pub(super) tier: &'static str,
    pub(super) reference: String,
    pub(super) settings: Vec<String>,
    pub(super) windows_of_equal_bytes: bool,
    pub(super) seeds: Vec<u64>,
    pub(super) films: Vec<Place>,
    pub(super) given_frames: usize,
    pub(super) frames: usize,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) chunk_frames: u32,
    pub(super) steps: u32,
    pub(super) weights: String,
    /// Frames that every setting attends to unless it says otherwise; none: all.
    pub(super) window: Option<u32>,
    pub(super) sink: u32,
    pub(super) on_wall: String,
    /// Pairs of film and seed that are whole, and that were asked for.
    pub(super) whole: usize,
    pub(super) asked: usize,
    /// Frames within which a place does not count as left.
    pub(super) recent: usize,
    pub(super) method: [&'static str; METHOD.len()],
}

impl Protocol {
    pub(super) fn new(
        args: &CompareArgs,
        scenes: &[Scene],
        seeds: &[u64],
        caps: &Caps,
        (whole, asked): (usize, usize),
    ) -> Protocol {
        let first = scenes.first();
        let place = |scene: &Scene| Place {
            film: scene.film_idx,
            name: scene.film_name.clone(),
            camera: scene.camera.clone(),
            follows_default: scene.follows_default,
            revisits: measure::revisits(&scene.walk).len(),
        };
        let config = crate::cli::job::config(&args.network, 0);
        Protocol {
            version: env!("CARGO_PKG_VERSION"),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            command_line: command_line(),
            model: first.map_or_else(String::new, |s| s.model.name.clone()),
            device: caps.title(),
            driver: caps.driver.clone(),
            tier: caps.tier.name(),
            reference: args.against.to_string(),
            settings: args.kv.iter().map(ToString::to_string).collect(),
            windows_of_equal_bytes: args.windows_of_equal_bytes,
            seeds: seeds.to_vec(),
            films: scenes.iter().map(place).collect(),
            given_frames: first.map_or(0, |s| s.walk.given.len()),
            frames: first.map_or(0, |s| s.walk.poses.len()),
            width: first.map_or(0, |s| s.width),
            height: first.map_or(0, |s| s.height),
            chunk_frames: first.map_or(0, |s| s.model.config.chunk_frames),
            steps: first.map_or(0, |s| s.steps(&args.network)),
            weights: word(args.network.weights.unwrap_or(Precision::F16)),
            window: config.window,
            sink: config.sink,
            on_wall: first.map_or_else(String::new, |s| word(s.on_wall)),
            whole,
            asked,
            recent: RECENT,
            method: METHOD,
        }
    }
}

/// The word that the flag takes.
fn word(value: impl clap::ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// As it can be typed again in a POSIX shell.
fn command_line() -> String {
    let args = std::env::args_os().skip(1);
    let quoted = args.map(|arg| quote(&arg.to_string_lossy()));
    std::iter::once("longtake".to_owned())
        .chain(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

fn quote(arg: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=+,./:%@".contains(c);
    match !arg.is_empty() && arg.chars().all(plain) {
        true => arg.to_owned(),
        false => format!("'{}'", arg.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_can_be_typed_again() {
        assert_eq!(quote("--kv=bf16,window-6"), "--kv=bf16,window-6");
        assert_eq!(quote("my report.html"), "'my report.html'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn the_method_tells_the_limit_that_the_code_has() {
        assert!(METHOD[3].contains(&format!("the {RECENT} frames before")));
    }
}

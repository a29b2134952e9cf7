//! What was compared and how: printed in the report, so that its figures can be judged and made again.

use serde::Serialize;

use super::measure;
use crate::rollout::Walk;

/// How the figures come about. Printed in the report, stored in the JSON.
pub const METHOD: [&str; 8] = [
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
     setting holds at the end of the film, at least 2. A pose that only frames beyond a window had is new to it, and takes the \
     passes that the model has for new poses.",
    "Bits an element count everything that is stored in the cache. Ratio: bytes of the frames held at 16 bits over bytes held. \
     Smaller than the reference: the reference's cache bytes over this run's, at the same film length.",
    "Times are wall times with every stage of the device's work measured, which costs all runs a little speed. ms a chunk is \
     the median over a run's chunks; attention is its total over generated chunks, as a ratio to the reference's.",
    "± is the sample standard deviation over runs, one a film and seed; a single run has none.",
];

/// A film of the comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Place {
    film: usize,
    name: String,
    camera: String,
    follows_default: bool,
    /// Generated frames that are compared with the truth.
    revisits: usize,
}

impl Place {
    /// Film number, its name, the way through it as a camera text, and whether that is the default one.
    pub fn new(film: usize, name: &str, camera: &str, follows_default: bool, walk: &Walk) -> Place {
        Place {
            film,
            name: name.to_owned(),
            camera: camera.to_owned(),
            follows_default,
            revisits: measure::revisits(walk).len(),
        }
    }

    pub(super) fn film(&self) -> usize {
        self.film
    }

    pub(super) fn title(&self) -> &str {
        &self.name
    }

    /// One line about it.
    pub(super) fn text(&self, p: &Protocol) -> String {
        let path = if self.follows_default {
            "default path "
        } else {
            ""
        };
        format!(
            "{} ({}), {} given frames, {path}{}, walls: {}; {} frames compared with the truth",
            self.film, self.name, p.given_frames, self.camera, p.on_wall, self.revisits
        )
    }
}

/// The protocol of a comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Protocol {
    /// Version of longtake.
    pub version: &'static str,
    /// When, RFC 3339.
    pub date: String,
    /// What was typed, or how it was asked for in a window.
    pub command_line: String,
    /// Model name.
    pub model: String,
    /// Device and back end.
    pub device: String,
    /// Driver.
    pub driver: String,
    /// Kernel variants.
    pub tier: &'static str,
    /// The setting that everything is measured against.
    pub reference: String,
    /// The others.
    pub settings: Vec<String>,
    /// Windows of the same bytes ran too.
    pub windows_of_equal_bytes: bool,
    /// Seeds of the noise.
    pub seeds: Vec<u64>,
    /// Films.
    pub films: Vec<Place>,
    /// True frames that a film starts from.
    pub given_frames: usize,
    /// Frames made.
    pub frames: usize,
    /// Picture width in pixels.
    pub width: u32,
    /// Picture height in pixels.
    pub height: u32,
    /// Latent frames made together.
    pub chunk_frames: u32,
    /// Denoising steps.
    pub steps: u32,
    /// Storage of weights.
    pub weights: String,
    /// Frames that every setting attends to unless it says otherwise; none: all.
    pub window: Option<u32>,
    /// First frames that never leave the window.
    pub sink: u32,
    /// What happens where the way meets a wall.
    pub on_wall: String,
    /// Pairs of film and seed that are whole.
    pub whole: usize,
    /// Pairs that were asked for.
    pub asked: usize,
    /// Frames within which a place does not count as left: [`RECENT`](super::RECENT).
    pub recent: usize,
    /// How the figures come about: [`METHOD`], its first and seventh sentence replaced where runs or times came about otherwise.
    pub method: [&'static str; METHOD.len()],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::measure::RECENT;

    #[test]
    fn the_method_tells_the_limit_that_the_code_has() {
        assert!(METHOD[3].contains(&format!("the {RECENT} frames before")));
    }
}

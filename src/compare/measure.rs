//! What the frames of one run are measured by: time windows, and places seen before. Pure.

use crate::frame::Frame;
use crate::quality::{FrameQuality, Mean, SizesDiffer};
use crate::rollout::Walk;
use serde::Serialize;

use super::figures::CacheFigures;

/// First frames of the time windows; each ends where the next begins, the last one with the film.
const WINDOWS: [usize; 5] = [0, 8, 16, 32, 64];
/// Frames within which a place does not count as left.
pub const RECENT: usize = 8;

/// What a run is in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything else is measured against it.
    Reference,
    /// Asked for.
    Setting,
    /// A 16-bit sliding window with the bytes of a setting.
    EqualBytes,
}

/// One run: a film, a seed and a setting.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    pub(super) film: usize,
    pub(super) seed: u64,
    pub(super) setting: String,
    pub(super) role: Role,
    /// For a window of equal bytes: the settings whose bytes it has.
    pub(super) bytes_of: Vec<String>,
    #[serde(flatten)]
    pub(super) cache: CacheFigures,
    /// The reference's cache bytes at the same length over this run's.
    pub(super) smaller_than_reference: f64,
    /// Seconds of attention over the reference's.
    pub(super) attention_ratio: Option<f64>,
    /// Against the reference, frame by frame; empty for the reference itself.
    pub(super) frames: Vec<FrameQuality>,
    /// The same by time window.
    pub(super) windows: Vec<InWindow>,
    /// Against the true frames, where the camera came back to a given pose.
    pub(super) truth: Option<Mean>,
}

/// How a run stands in the comparison.
#[derive(Debug, Clone)]
pub struct Which {
    /// Film number.
    pub film: usize,
    /// Seed of the noise.
    pub seed: u64,
    /// Name of the setting.
    pub setting: String,
    /// What it is.
    pub role: Role,
    /// For a window of equal bytes: the settings whose bytes it has.
    pub bytes_of: Vec<String>,
}

impl Run {
    /// Measures a film against the reference; `None`: it is the reference.
    ///
    /// # Errors
    /// Pictures of different sizes.
    pub fn new(
        which: Which,
        (film, cache): (&[Frame], &CacheFigures),
        reference: Option<(&[Frame], &CacheFigures)>,
        walk: &Walk,
    ) -> Result<Run, SizesDiffer> {
        let frames = match reference {
            Some((reference, _)) => by_frame(film, reference)?,
            None => Vec::new(),
        };
        let base = reference.map_or(cache, |(_, cache)| cache);
        let over = |a: f64, b: f64| (0.0 < b).then(|| a / b);
        Ok(Run {
            film: which.film,
            seed: which.seed,
            setting: which.setting,
            role: which.role,
            bytes_of: which.bytes_of,
            smaller_than_reference: base.cache_bytes as f64 / (cache.cache_bytes as f64).max(1.0),
            attention_ratio: over(cache.attention_secs, base.attention_secs),
            windows: by_window(&frames),
            frames,
            truth: to_truth(film, walk)?,
            cache: cache.clone(),
        })
    }
}

/// Quality in one time window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct InWindow {
    /// First frame, counted over generated frames from 0.
    pub(super) first: usize,
    /// Last frame.
    pub(super) last: usize,
    #[serde(flatten)]
    pub(super) mean: Mean,
}

/// First and last frame of each time window of a film of `n` frames.
pub(super) fn windows(n: usize) -> Vec<(usize, usize)> {
    let ends = WINDOWS[1..].iter().copied().chain([usize::MAX]);
    let windows = WINDOWS.into_iter().zip(ends);
    windows
        .filter(|(first, _)| *first < n)
        .map(|(first, end)| (first, end.min(n) - 1))
        .collect()
}

/// Compares films frame by frame.
fn by_frame(film: &[Frame], reference: &[Frame]) -> Result<Vec<FrameQuality>, SizesDiffer> {
    let pairs = film.iter().zip(reference);
    pairs.map(|(a, b)| FrameQuality::of(a, b)).collect()
}

/// Sums up what was compared frame by frame.
pub(super) fn by_window(frames: &[FrameQuality]) -> Vec<InWindow> {
    let sum_up = |(first, last): (usize, usize)| {
        let mean = Mean::of(frames.get(first..=last)?)?;
        Some(InWindow { first, last, mean })
    };
    windows(frames.len())
        .into_iter()
        .filter_map(sum_up)
        .collect()
}

/// Generated frames at exactly the pose of a given one that was not among the [`RECENT`] frames before, given frames counted;
/// with each the given frame, which is the truth there.
pub(super) fn revisits(walk: &Walk) -> Vec<(usize, usize)> {
    let poses: Vec<_> = walk.given_poses.iter().chain(&walk.poses).collect();
    let known = walk.given_poses.len();
    (known..poses.len())
        .filter(|&at| !poses[at.saturating_sub(RECENT)..at].contains(&poses[at]))
        .filter_map(|at| {
            let given = walk.given_poses.iter().position(|pose| pose == poses[at])?;
            Some((at - known, given))
        })
        .collect()
}

/// A film against the truth where it came back.
fn to_truth(film: &[Frame], walk: &Walk) -> Result<Option<Mean>, SizesDiffer> {
    let pairs = revisits(walk).into_iter();
    let qualities: Vec<FrameQuality> = pairs
        .filter_map(|(made, given)| Some((film.get(made)?, walk.given.get(given)?)))
        .map(|(made, truth)| FrameQuality::of(made, truth))
        .collect::<Result<_, _>>()?;
    Ok(Mean::of(&qualities))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::pose::Pose;

    #[test]
    fn windows_double_and_end_with_the_film() {
        assert_eq!(windows(3), [(0, 2)]);
        assert_eq!(windows(8), [(0, 7)]);
        assert_eq!(windows(40), [(0, 7), (8, 15), (16, 31), (32, 39)]);
        assert_eq!(windows(200).last(), Some(&(64, 199)));
        assert!(windows(0).is_empty());
    }

    fn walk(given: &[i32], made: &[i32]) -> Walk {
        let poses = |xs: &[i32]| xs.iter().map(|&x| Pose { x, y: 0, k: 0 }).collect();
        let frame = |&x: &i32| Frame {
            width: 1,
            height: 1,
            rgb: vec![x as u8; 3],
        };
        Walk {
            given: given.iter().map(frame).collect(),
            given_poses: poses(given),
            poses: poses(made),
        }
    }

    #[test]
    fn a_place_is_revisited_once_it_was_left_for_eight_frames() {
        // Pose 1 was given 8 frames before: among the last 8. Pose 0 one frame longer ago.
        let given = [0, 1, 2, 3, 4, 5, 6, 7, 8];
        assert!(revisits(&walk(&given, &[1])).is_empty());
        assert_eq!(revisits(&walk(&given, &[0])), [(0, 0)]);
        // Staying there counts once; coming back to a generated place that was never given does not count.
        assert_eq!(revisits(&walk(&given, &[0, 0, 90])), [(0, 0)]);
        let long: Vec<i32> = (90..100).chain([90]).collect();
        assert!(revisits(&walk(&given, &long)).is_empty());
        // A pose given twice has one truth.
        assert_eq!(
            revisits(&walk(&[5, 5], &[1, 2, 3, 4, 6, 7, 8, 9, 5])),
            [(8, 0)]
        );
    }

    #[test]
    fn truth_is_the_given_frame() {
        let walk = walk(&[0, 1, 2, 3, 4, 5, 6, 7, 8], &[0, 50]);
        let grey = |v| Frame {
            width: 1,
            height: 1,
            rgb: vec![v; 3],
        };
        let mean = to_truth(&[grey(2), grey(200)], &walk).unwrap().unwrap();
        assert_eq!((mean.frames, mean.mse, mean.max_abs), (1, 4.0, 2));
        // The film may have been cut off.
        assert_eq!(to_truth(&[], &walk), Ok(None));
    }
}

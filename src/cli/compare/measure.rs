//! What the frames of one run are measured by: time windows, places seen before, and means over runs. Pure.

use longtake::frame::Frame;
use longtake::quality::{self, FrameQuality, Mean, SizesDiffer};
use longtake::rollout::Walk;
use serde::Serialize;

use super::setting::CacheFigures;

/// First frames of the time windows; each ends where the next begins, the last one with the film.
const WINDOWS: [usize; 5] = [0, 8, 16, 32, 64];
/// Frames within which a place does not count as left.
pub(super) const RECENT: usize = 8;

/// What a run is in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    /// Everything else is measured against it.
    Reference,
    /// Asked for.
    Setting,
    /// A 16-bit sliding window with the bytes of a setting.
    EqualBytes,
}

/// One run: a film, a seed and a setting.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Run {
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
pub(super) fn by_frame(
    film: &[Frame],
    reference: &[Frame],
) -> Result<Vec<FrameQuality>, SizesDiffer> {
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
pub(super) fn to_truth(film: &[Frame], walk: &Walk) -> Result<Option<Mean>, SizesDiffer> {
    let pairs = revisits(walk).into_iter();
    let qualities: Vec<FrameQuality> = pairs
        .filter_map(|(made, given)| Some((film.get(made)?, walk.given.get(given)?)))
        .map(|(made, truth)| FrameQuality::of(made, truth))
        .collect::<Result<_, _>>()?;
    Ok(Mean::of(&qualities))
}

/// A figure over several runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    /// Mean of the finite values.
    pub(super) mean: Option<f64>,
    /// Their sample standard deviation, from two on.
    pub(super) deviation: Option<f64>,
    /// Runs in all.
    pub(super) runs: usize,
    /// Runs whose value is infinite: no difference at all.
    pub(super) exact: usize,
}

impl Spread {
    /// `None` of nothing.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let values: Vec<f64> = values.into_iter().collect();
        let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        (!values.is_empty()).then(|| Spread {
            mean: quality::mean(finite.iter().copied()),
            deviation: quality::deviation(&finite),
            runs: values.len(),
            exact: values.len() - finite.len(),
        })
    }

    /// `41.2 ± 0.3`, `exact`, or both where they differ from run to run.
    pub(super) fn text(&self, digits: usize) -> String {
        let Some(mean) = self.mean else {
            return "exact".to_owned();
        };
        let mut text = format!("{mean:.digits$}");
        if let Some(deviation) = self.deviation {
            text += &format!(" ± {deviation:.digits$}");
        }
        if 0 < self.exact {
            text += &format!(" ({} of {} exact)", self.exact, self.runs);
        }
        text
    }
}

/// A setting over all of its runs.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    pub(super) setting: String,
    pub(super) role: Role,
    pub(super) bytes_of: Vec<String>,
    pub(super) runs: usize,
    pub(super) cache_bytes: u64,
    pub(super) bits_per_element: f64,
    pub(super) ratio: f64,
    pub(super) smaller_than_reference: f64,
    pub(super) peak_device_bytes: u64,
    pub(super) encode_ms_per_span: Option<Spread>,
    /// Of the runs' medians.
    pub(super) ms_per_chunk: Option<Spread>,
    pub(super) attention_ratio: Option<Spread>,
    pub(super) windows: Vec<RowWindow>,
    pub(super) truth: Option<RowTruth>,
}

/// A time window over all runs of a setting.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct RowWindow {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) psnr: Option<Spread>,
    pub(super) ssim: Option<Spread>,
    pub(super) max_abs: u8,
}

/// Places seen before over all runs of a setting.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct RowTruth {
    /// Frames compared, of all runs together.
    pub(super) frames: usize,
    pub(super) psnr: Option<Spread>,
    pub(super) ssim: Option<Spread>,
}

/// One row a setting, in the order in which they first ran.
pub(super) fn rows(runs: &[Run]) -> Vec<Row> {
    let mut names: Vec<(&str, Role)> = Vec::new();
    for run in runs {
        let name = (run.setting.as_str(), run.role);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // Windows of equal bytes may first come up with a later film.
    names.sort_by_key(|(_, role)| *role == Role::EqualBytes);
    let row = |name| {
        let is_of = |run: &&Run| (run.setting.as_str(), run.role) == name;
        row(&runs.iter().filter(is_of).collect::<Vec<_>>())
    };
    names.into_iter().filter_map(row).collect()
}

fn row(runs: &[&Run]) -> Option<Row> {
    // Films of one comparison have one length, so that every run of a setting holds the same bytes.
    let largest = runs.iter().max_by_key(|run| run.cache.cache_bytes)?;
    let spread =
        |value: &dyn Fn(&Run) -> Option<f64>| Spread::of(runs.iter().filter_map(|run| value(run)));
    let window = |i: usize, at: &InWindow| RowWindow {
        first: at.first,
        last: at.last,
        psnr: spread(&|run| Some(run.windows.get(i)?.mean.psnr)),
        ssim: spread(&|run| run.windows.get(i)?.mean.ssim),
        max_abs: runs
            .iter()
            .filter_map(|run| Some(run.windows.get(i)?.mean.max_abs))
            .max()
            .unwrap_or(0),
    };
    let truths = runs.iter().filter_map(|run| run.truth);
    let frames: usize = truths.map(|truth| truth.frames).sum();
    Some(Row {
        setting: largest.setting.clone(),
        role: largest.role,
        bytes_of: largest.bytes_of.clone(),
        runs: runs.len(),
        cache_bytes: largest.cache.cache_bytes,
        bits_per_element: largest.cache.bits_per_element,
        ratio: largest.cache.ratio,
        smaller_than_reference: largest.smaller_than_reference,
        peak_device_bytes: runs.iter().map(|run| run.cache.peak_device_bytes).max()?,
        encode_ms_per_span: spread(&|run| run.cache.encode_ms_per_span),
        ms_per_chunk: spread(&|run| Some(run.cache.median_ms_per_chunk())),
        attention_ratio: spread(&|run| run.attention_ratio),
        windows: (0..)
            .zip(&largest.windows)
            .map(|(i, at)| window(i, at))
            .collect(),
        truth: (0 < frames).then(|| RowTruth {
            frames,
            psnr: spread(&|run| Some(run.truth?.psnr)),
            ssim: spread(&|run| run.truth?.ssim),
        }),
    })
}

/// The mean over runs of each value of a curve. Infinite ones count only where there is no finite one.
pub(super) fn mean_curve<'a>(curves: impl Iterator<Item = Vec<f64>> + 'a) -> Vec<f64> {
    let curves: Vec<Vec<f64>> = curves.collect();
    let len = curves.iter().map(Vec::len).max().unwrap_or(0);
    let at = |i: usize| {
        let spread = Spread::of(curves.iter().filter_map(|curve| curve.get(i).copied()));
        spread.and_then(|s| s.mean).unwrap_or(f64::INFINITY)
    };
    (0..len).map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use longtake::world::pose::Pose;

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

    #[test]
    fn spreads_tell_exact_runs_apart() {
        let text = |values: &[f64]| Spread::of(values.iter().copied()).unwrap().text(1);
        assert_eq!(text(&[40.0]), "40.0");
        assert_eq!(text(&[39.0, 41.0]), "40.0 ± 1.4");
        assert_eq!(text(&[f64::INFINITY, f64::INFINITY]), "exact");
        assert_eq!(text(&[40.0, f64::INFINITY]), "40.0 (1 of 2 exact)");
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn curves_are_averaged_point_by_point() {
        let inf = f64::INFINITY;
        let curves = vec![vec![inf, inf, 30.0], vec![inf, 40.0, 20.0]];
        assert_eq!(mean_curve(curves.into_iter()), [inf, 40.0, 25.0]);
    }

    #[test]
    fn rows_gather_the_runs_of_a_setting() {
        let run = |seed, setting: &str, role, mse: f64| {
            let q = FrameQuality {
                mse,
                psnr: quality::psnr(mse),
                ssim: None,
                max_abs: 1,
            };
            Run {
                film: 0,
                seed,
                setting: setting.to_owned(),
                role,
                bytes_of: Vec::new(),
                cache: super::super::setting::tests::figures(10, 5000),
                smaller_than_reference: 2.0,
                attention_ratio: Some(1.5),
                frames: vec![q; 9],
                windows: by_window(&[q; 9]),
                truth: None,
            }
        };
        let rows = rows(&[
            run(0, "a", Role::Setting, 1.0),
            run(0, "window-5", Role::EqualBytes, 1.0),
            run(1, "a", Role::Setting, 4.0),
            run(1, "b", Role::Setting, 0.0),
        ]);
        let names: Vec<&str> = rows.iter().map(|row| row.setting.as_str()).collect();
        assert_eq!(names, ["a", "b", "window-5"]);
        assert_eq!((rows[0].runs, rows[0].windows.len()), (2, 2));
        assert!(rows[0].windows[0].psnr.unwrap().deviation.is_some());
        assert_eq!(rows[1].windows[1].psnr.unwrap().exact, 1);
        assert!(rows[0].truth.is_none() && rows[0].windows[0].ssim.is_none());
    }
}

//! Runs of one setting taken together: means over films and seeds, and how far they spread. Pure.

use crate::quality;
use serde::Serialize;

use super::measure::{InWindow, Role, Run};

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
    use crate::compare::figures::tests::figures;
    use crate::compare::measure::by_window;
    use crate::quality::FrameQuality;

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
                cache: figures(10, 5000),
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

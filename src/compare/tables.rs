//! The figures as text: the table in the terminal, and one line of CSV a run and time window.

use super::measure::{Role, Run};
use super::rows::{Row, Spread};
use super::{Comparison, say};

/// Head of the CSV.
const CSV_HEAD: &str = "film,seed,setting,role,first_frame,last_frame,frames,exact_frames,psnr_db,ssim,max_abs_difference,\
    cache_bytes,f16_equivalent_bytes,bits_per_element,ratio,smaller_than_reference,peak_device_bytes,encode_ms_per_span,\
    median_ms_per_chunk,attention_secs,attention_ratio,truth_frames,truth_psnr_db,truth_ssim";

/// A line a run and time window; the reference has one line, without a window. Empty: no such figure.
pub(super) fn csv(runs: &[Run]) -> String {
    let mut text = format!("{CSV_HEAD}\n");
    for run in runs {
        let windows: Vec<String> = run
            .windows
            .iter()
            .map(|w| {
                let m = &w.mean;
                let (psnr, ssim) = (decibels(m.psnr), or_empty(m.ssim));
                format!(
                    "{},{},{},{},{psnr},{ssim},{}",
                    w.first, w.last, m.frames, m.exact, m.max_abs
                )
            })
            .collect();
        let (head, tail) = (csv_head(run), csv_tail(run));
        match windows.is_empty() {
            true => text += &format!("{head},,,,,,,,{tail}\n"),
            false => text.extend(windows.iter().map(|w| format!("{head},{w},{tail}\n"))),
        }
    }
    text
}

fn csv_head(run: &Run) -> String {
    let role = match run.role {
        Role::Reference => "reference",
        Role::Setting => "setting",
        Role::EqualBytes => "equal_bytes",
    };
    format!("{},{},{},{role}", run.film, run.seed, run.setting)
}

fn csv_tail(run: &Run) -> String {
    let c = &run.cache;
    let truth = match &run.truth {
        Some(truth) => format!(
            "{},{},{}",
            truth.frames,
            decibels(truth.psnr),
            or_empty(truth.ssim)
        ),
        None => "0,,".to_owned(),
    };
    format!(
        "{},{},{:.4},{:.4},{:.4},{},{},{:.3},{:.6},{},{truth}",
        c.cache_bytes,
        c.f16_equivalent_bytes,
        c.bits_per_element,
        c.ratio,
        run.smaller_than_reference,
        c.peak_device_bytes,
        or_empty(c.encode_ms_per_span),
        c.median_ms_per_chunk(),
        c.attention_secs,
        or_empty(run.attention_ratio),
    )
}

fn decibels(psnr: f64) -> String {
    match psnr.is_finite() {
        true => format!("{psnr:.4}"),
        false => "exact".to_owned(),
    }
}

fn or_empty(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.6}"))
}

/// A figure of a table; a dash where there is none.
pub(super) fn cell(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(|| "-".to_owned(), |spread| spread.text(digits))
}

/// One line a setting.
pub fn terminal(comparison: &Comparison) -> String {
    let rows = &comparison.settings;
    let mut head: Vec<String> = [
        "setting",
        "cache",
        "bits/el",
        "smaller",
        "peak",
        "ms/chunk",
        "attention",
    ]
    .map(str::to_owned)
    .to_vec();
    let windows = rows.iter().map(|row| &row.windows).max_by_key(|w| w.len());
    for w in windows.into_iter().flatten() {
        head.push(format!("PSNR {}-{}", w.first, w.last));
    }
    head.push("PSNR to truth".to_owned());
    let n_windows = windows.map_or(0, Vec::len);
    let mut lines = vec![head];
    lines.extend(rows.iter().map(|row| line(row, n_windows)));
    let p = &comparison.protocol;
    format!(
        "{}\nPSNR in dB against {} by frames of the film, over {}; read early windows first, long clips diverge",
        aligned(&lines),
        p.reference,
        say::n(p.whole, "run"),
    )
}

fn line(row: &Row, n_windows: usize) -> Vec<String> {
    let mut line = vec![
        row.setting.clone(),
        say::mib(row.cache_bytes),
        format!("{:.2}", row.bits_per_element),
        format!("{:.2}x", row.smaller_than_reference),
        say::mib(row.peak_device_bytes),
        cell(row.ms_per_chunk, 1),
        cell(row.attention_ratio, 2),
    ];
    let psnr = |i: usize| row.windows.get(i).and_then(|w| w.psnr);
    line.extend((0..n_windows).map(|i| cell(psnr(i), 1)));
    line.push(cell(row.truth.and_then(|truth| truth.psnr), 1));
    line
}

/// The first column to the left, figures to the right.
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| {
        let cells = lines.iter().filter_map(|line| line.get(i));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let show = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).enumerate();
        let padded = cells.map(|(i, (cell, &width))| match i {
            0 => format!("{cell:width$}"),
            _ => format!("{cell:>width$}"),
        });
        padded.collect::<Vec<_>>().join("  ")
    };
    lines.iter().map(show).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_rows_have_as_many_columns_as_the_head() {
        let run = Run {
            film: 0,
            seed: 7,
            setting: "a".to_owned(),
            role: Role::Reference,
            bytes_of: Vec::new(),
            cache: super::super::figures::tests::figures(10, 5000),
            smaller_than_reference: 1.0,
            attention_ratio: None,
            frames: Vec::new(),
            windows: Vec::new(),
            truth: None,
        };
        let frame = crate::frame::Frame {
            width: 1,
            height: 1,
            rgb: vec![0; 3],
        };
        let exact = crate::quality::FrameQuality::of(&frame, &frame).unwrap();
        let measured = Run {
            windows: super::super::measure::by_window(&[exact; 9]),
            ..run.clone()
        };
        let text = csv(&[run, measured]);
        let columns = |line: &str| line.split(',').count();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(
            text.lines().all(|line| columns(line) == columns(CSV_HEAD)),
            "{text}"
        );
        assert!(
            text.contains("0,7,a,reference,8,8,1,1,exact,,0,5000,"),
            "{text}"
        );
    }

    #[test]
    fn columns_line_up() {
        let line = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            aligned(&[line(["a", "long"]), line(["bcd", "±1"])]),
            "a    long\nbcd    ±1"
        );
    }
}

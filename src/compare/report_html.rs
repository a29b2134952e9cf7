//! The report: one page that holds all it shows and asks nothing of the net.

use super::bars::{self, Bar};
use super::files::Files;
use super::measure::{Role, Run};
use super::plot::{self, Chart, Look, Series, escape};
use super::protocol::Protocol;
use super::report_parts;
use super::rows::{self, Row, RowWindow, Spread};
use super::tables::cell;
use super::{Comparison, Error, say};

const STYLE: &str = include_str!("report.css");

/// The page.
///
/// # Errors
/// When a picture cannot be packed.
pub(super) fn page(comparison: &Comparison, files: &Files) -> Result<String, Error> {
    let Comparison {
        protocol,
        settings,
        runs,
        strips,
        ..
    } = comparison;
    let mut html = format!(
        "<!doctype html>\n<html lang=en><meta charset=utf-8>\n\
         <meta name=viewport content='width=device-width, initial-scale=1'>\n\
         <title>longtake compare: {}</title>\n<style>\n{STYLE}</style>\n",
        escape(&protocol.settings.join(", "))
    );
    html += &head(protocol);
    html += "<h2>What each setting holds and takes</h2>";
    html += &costs(settings);
    html += "<h2>Against the reference, by time window</h2>";
    html += &format!("<p class=note>{}</p>", escape(protocol.method[1]));
    html += &by_window(settings, "PSNR, dB (higher is closer)", &|w| w.psnr, 1);
    html += &by_window(settings, "SSIM (1 is equal)", &|w| w.ssim, 4);
    html += &psnr_curves(settings, runs);
    html += "<h2>Places seen before, against the truth</h2>";
    html += &truth(settings, protocol);
    html += "<h2>Cache at the end of the film</h2>";
    html += &cache_bars(settings);
    html += "<h2>Time a chunk</h2>";
    html += &chunk_curves(settings, runs);
    html += "<h2>Frames</h2>";
    html += &report_parts::pictures(strips, protocol)?;
    html += "<h2>Protocol</h2>";
    html += &report_parts::facts(protocol, files);
    Ok(html + "</html>\n")
}

fn head(p: &Protocol) -> String {
    let unfinished = match p.whole < p.asked {
        true => format!(
            "<p class=note>Stopped early: {} of {} pairs of film and seed are whole; only these are here.</p>",
            p.whole, p.asked
        ),
        false => String::new(),
    };
    format!(
        "<h1>{} against {}</h1><p class=soft>{} on {}: {} of {}×{} after {}, {}, {}</p>{unfinished}",
        escape(&p.settings.join(", ")),
        escape(&p.reference),
        escape(&p.model),
        escape(&p.device),
        say::n(p.frames, "frame"),
        p.width,
        p.height,
        say::n(p.given_frames, "given frame"),
        say::n(p.films.len(), "film"),
        say::n(p.seeds.len(), "seed"),
    )
}

/// Colours: the reference in ink, a setting in its own, a window of equal bytes in that of its setting, broken.
fn look(rows: &[Row], row: &Row) -> Look {
    let settings: Vec<&Row> = rows.iter().filter(|r| r.role == Role::Setting).collect();
    let place = |name: &str| settings.iter().position(|r| r.setting == name);
    Look {
        colour: match row.role {
            Role::Reference => None,
            Role::Setting => place(&row.setting),
            Role::EqualBytes => row.bytes_of.first().and_then(|name| place(name)),
        },
        dashed: row.role == Role::EqualBytes,
    }
}

fn legend(rows: &[Row], shown: &[&Row]) -> String {
    let item = |row: &&Row| {
        let class = look(rows, row).class();
        format!("<li class='{class}'><i></i>{}</li>", escape(&title(row)))
    };
    let items: String = shown.iter().map(item).collect();
    format!("<ul class=legend>{items}</ul>")
}

fn title(row: &Row) -> String {
    match row.role {
        Role::Reference => format!("{} (reference)", row.setting),
        Role::Setting => row.setting.clone(),
        Role::EqualBytes => format!("{} (bytes of {})", row.setting, row.bytes_of.join(", ")),
    }
}

fn name_cell(row: &Row) -> String {
    let note = match row.role {
        Role::Reference => "reference".to_owned(),
        Role::Setting => String::new(),
        Role::EqualBytes => format!("bytes of {}", row.bytes_of.join(", ")),
    };
    let (name, note) = (escape(&row.setting), escape(&note));
    format!("<th scope=row>{name}<small>{note}</small></th>")
}

fn table(head: &[String], lines: impl Iterator<Item = String>) -> String {
    let head: String = head
        .iter()
        .map(|cell| format!("<th scope=col>{cell}</th>"))
        .collect();
    let lines: String = lines.map(|line| format!("<tr>{line}</tr>")).collect();
    format!(
        "<div class=card><table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
}

fn costs(rows: &[Row]) -> String {
    let head = [
        "setting",
        "cache<small>MiB</small>",
        "bits an<small>element</small>",
        "ratio<small>to 16 bits</small>",
        "smaller than<small>reference</small>",
        "peak device<small>MiB</small>",
        "encode<small>ms a span</small>",
        "chunk<small>ms, median</small>",
        "attention<small>× reference</small>",
        "runs",
    ];
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let line = |row: &Row| {
        format!(
            "{}<td>{:.2}</td><td>{:.2}</td><td>{:.2}×</td><td>{:.2}×</td><td>{:.1}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>",
            name_cell(row),
            mib(row.cache_bytes),
            row.bits_per_element,
            row.ratio,
            row.smaller_than_reference,
            mib(row.peak_device_bytes),
            cell(row.encode_ms_per_span, 2),
            cell(row.ms_per_chunk, 1),
            cell(row.attention_ratio, 2),
            row.runs,
        )
    };
    table(&head.map(str::to_owned), rows.iter().map(line))
}

fn by_window(
    rows: &[Row],
    what: &str,
    figure: &dyn Fn(&RowWindow) -> Option<Spread>,
    digits: usize,
) -> String {
    let windows = rows.iter().map(|row| &row.windows).max_by_key(|w| w.len());
    let windows = windows.map_or(&[][..], |w| w);
    let mut head = vec![what.to_owned()];
    head.extend(
        windows
            .iter()
            .map(|w| format!("frames<small>{} – {}</small>", w.first, w.last)),
    );
    let measured = rows.iter().filter(|row| row.role != Role::Reference);
    let line = |row: &Row| {
        let cells = row
            .windows
            .iter()
            .map(|w| format!("<td>{}</td>", cell(figure(w), digits)));
        name_cell(row) + &cells.collect::<String>()
    };
    table(&head, measured.map(line))
}

fn of<'a>(runs: &'a [Run], row: &'a Row) -> impl Iterator<Item = &'a Run> {
    let is_of = |run: &&Run| run.setting == row.setting && run.role == row.role;
    runs.iter().filter(is_of)
}

fn psnr_curves(rows: &[Row], runs: &[Run]) -> String {
    let shown: Vec<&Row> = rows
        .iter()
        .filter(|row| row.role != Role::Reference)
        .collect();
    let series = |row: &&Row| Series {
        name: row.setting.clone(),
        look: look(rows, row),
        values: rows::mean_curve(
            of(runs, row).map(|run| run.frames.iter().map(|f| f.psnr).collect()),
        ),
    };
    let marks: Vec<usize> = shown.first().map_or(Vec::new(), |row| {
        row.windows.iter().map(|w| w.first).collect()
    });
    let chart = Chart {
        title: "PSNR by frame, mean over runs",
        x: "frame",
        y: "PSNR, dB",
        point: ("frame", "dB"),
        from_zero: false,
        marks: &marks,
    };
    let svg = plot::lines(&chart, &shown.iter().map(series).collect::<Vec<_>>());
    let caption = "PSNR against the reference by frame, mean over runs of the frames that differ. Upright lines: time windows.";
    format!(
        "<figure class=card style='margin:10px 0'>{}{svg}<figcaption>{caption}</figcaption></figure>",
        legend(rows, &shown)
    )
}

fn chunk_curves(rows: &[Row], runs: &[Run]) -> String {
    let shown: Vec<&Row> = rows.iter().collect();
    let series = |row: &&Row| Series {
        name: row.setting.clone(),
        look: look(rows, row),
        values: rows::mean_curve(of(runs, row).map(|run| run.cache.ms_per_chunk.clone())),
    };
    let chart = Chart {
        title: "Milliseconds a chunk, mean over runs",
        x: "chunk",
        y: "ms",
        point: ("chunk", "ms"),
        from_zero: true,
        marks: &[],
    };
    let svg = plot::lines(&chart, &shown.iter().map(series).collect::<Vec<_>>());
    let caption =
        "Wall time of each chunk, mean over runs; other work on the machine shows here too.";
    format!(
        "<figure class=card style='margin:10px 0'>{}{svg}<figcaption>{caption}</figcaption></figure>",
        legend(rows, &shown)
    )
}

fn cache_bars(rows: &[Row]) -> String {
    let bar = |row: &Row| Bar {
        name: row.setting.clone(),
        look: look(rows, row),
        value: row.cache_bytes as f64,
        text: format!(
            "{} · {:.2} bits an element",
            say::mib(row.cache_bytes),
            row.bits_per_element
        ),
    };
    let svg = bars::bars(
        "Cache bytes at the end of the film",
        &rows.iter().map(bar).collect::<Vec<_>>(),
    );
    format!("<div class=card>{svg}</div>")
}

fn truth(rows: &[Row], p: &Protocol) -> String {
    let about = format!("<p>{}</p>", escape(p.method[3]));
    if rows.iter().all(|row| row.truth.is_none()) {
        return about
            + "<p class=note>This camera path comes back to no given pose after being away; a longer film on the default path does.</p>";
    }
    let head = [
        "setting",
        "PSNR to truth<small>dB</small>",
        "SSIM to truth",
        "cache<small>MiB</small>",
        "frames<small>compared</small>",
    ];
    let line = |row: &Row| {
        let t = row.truth;
        format!(
            "{}<td>{}</td><td>{}</td><td>{:.2}</td><td>{}</td>",
            name_cell(row),
            cell(t.and_then(|t| t.psnr), 2),
            cell(t.and_then(|t| t.ssim), 4),
            row.cache_bytes as f64 / f64::from(1 << 20),
            t.map_or(0, |t| t.frames),
        )
    };
    about + &table(&head.map(str::to_owned), rows.iter().map(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Place;
    use crate::compare::figures::tests::figures;
    use crate::compare::measure::by_window;
    use crate::compare::protocol::METHOD;
    use crate::quality::{FrameQuality, Mean, psnr};
    use crate::rollout::Walk;
    use std::path::Path;

    fn run(setting: &str, role: Role, mse: f64, bytes: u64) -> Run {
        let frame = |i: usize| FrameQuality {
            mse: mse * i as f64,
            psnr: psnr(mse * i as f64),
            ssim: Some(0.9),
            max_abs: u8::from(0 < i),
        };
        let frames: Vec<FrameQuality> = match role {
            Role::Reference => Vec::new(),
            _ => (0..40).map(frame).collect(),
        };
        Run {
            film: 0,
            seed: 0,
            setting: setting.to_owned(),
            role,
            bytes_of: match role {
                Role::EqualBytes => vec!["<small>".to_owned()],
                _ => Vec::new(),
            },
            cache: figures(80, bytes),
            smaller_than_reference: 80_000.0 / bytes as f64,
            attention_ratio: Some(1.0),
            windows: by_window(&frames),
            truth: Mean::of(&frames),
            frames,
        }
    }

    #[test]
    fn a_page_shows_every_run_and_asks_nothing_of_the_net() {
        let walk = Walk {
            given: Vec::new(),
            given_poses: Vec::new(),
            poses: Vec::new(),
        };
        let protocol = Protocol {
            version: "1",
            date: String::new(),
            command_line: "longtake compare".to_owned(),
            model: "rooms".to_owned(),
            device: "A card (vulkan)".to_owned(),
            driver: String::new(),
            tier: "portable f32",
            reference: "f16".to_owned(),
            settings: vec!["<small>".to_owned()],
            windows_of_equal_bytes: true,
            seeds: vec![0],
            films: vec![Place::new(0, "a", "w-40", true, &walk)],
            given_frames: 9,
            frames: 40,
            width: 64,
            height: 48,
            chunk_frames: 1,
            steps: 2,
            weights: "f16".to_owned(),
            window: None,
            sink: 0,
            on_wall: "slide".to_owned(),
            whole: 1,
            asked: 2,
            recent: 8,
            method: METHOD,
        };
        let runs = vec![
            run("f16", Role::Reference, 0.0, 80_000),
            run("<small>", Role::Setting, 2.0, 12_000),
            run("window-12", Role::EqualBytes, 90.0, 12_000),
        ];
        let comparison = Comparison::new(protocol, runs, Vec::new());
        let files = Files::new(Path::new("never-written.html"), false).unwrap();
        let html = page(&comparison, &files).unwrap();
        for part in [
            "window-12 (bytes of &lt;small&gt;)",
            "class='c0 dash'",
            ">exact</text>",
            "Stopped early: 1 of 2",
            "never-written.csv",
        ] {
            assert!(html.contains(part), "{part}");
        }
        for bad in ["<small>'", "NaN", "inf ", "http"] {
            assert!(!html.contains(bad), "{bad}");
        }
        assert_eq!(html.matches("<svg").count(), html.matches("</svg>").count());
    }
}

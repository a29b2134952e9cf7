//! `longtake selftest`: whether this device computes what the program means, as a table, as JSON, as a file for a bug report.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use longtake::gpu::{Device, Select, TierRequest};
use longtake::selftest::{self, OpResult, Report};
use serde_json::{Value, json};

use super::args::{SelftestArgs, TierArg, Voice};
use super::fault::{FAILED, Fault};
use super::say;

/// Runs it. The exit code is 1 when something is wrong.
pub(super) fn run(args: &SelftestArgs, voice: &Voice) -> anyhow::Result<u8> {
    if let Some(op) = &args.spoil
        && !selftest::cases::cases().iter().any(|c| c.op == op)
    {
        return Err(Fault::Usage(format!("--spoil {op:?}: there is no such op")).into());
    }
    let device = Device::open(&Select {
        device: args.device.clone(),
        tier: match args.tier {
            Some(TierArg::Portable) => TierRequest::Portable,
            _ => TierRequest::Best,
        },
    })?;
    let mut done = |op: &OpResult| {
        if 0 < voice.verbose {
            say::message(&format!("{} ({}): {:.2} s", op.op, op.what, op.first_secs));
        }
    };
    let report = selftest::run(&device, args.spoil.as_deref(), &mut done)?;
    if let Some(path) = &args.report {
        write(path, &report)?;
    }
    let text = match args.json {
        true => format!("{:#}\n", json(&report)),
        false => table(&report),
    };
    // A reader that has gone is quiet; the exit code tells.
    let _ = say::result(&text);
    Ok(if report.is_well() { 0 } else { FAILED })
}

fn write(path: &Path, report: &Report) -> anyhow::Result<()> {
    let text = format!("{}\n{:#}\n", table(report), json(report));
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn json(report: &Report) -> Value {
    let mut all = json!({
        "schema": 1,
        "program": concat!("longtake ", env!("CARGO_PKG_VERSION")),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "ok": report.is_well(),
    });
    if let (Value::Object(all), Ok(Value::Object(found))) = (&mut all, serde_json::to_value(report))
    {
        all.extend(found);
    }
    all
}

fn table(report: &Report) -> String {
    let caps = &report.device;
    let mut text = format!(
        "longtake {} on {} {}: {}, {}, tier {}\nthe device copies {:.1} GB/s\n\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        caps.title(),
        caps.driver,
        caps.tier.name(),
        report.copy_rate,
    );
    let head = [
        "",
        "OP",
        "SIZES",
        "ERROR",
        "ALLOWED",
        "FIRST RUN",
        "TIME",
        "RATE",
        "OF COPY",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(report.ops.iter().map(|op| line(op, report.copy_rate)));
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; 9] = std::array::from_fn(width);
    for line in &lines {
        let cells: Vec<String> = (0..line.len())
            .map(|i| match i {
                0..=2 => format!("{:<1$}", line[i], widths[i]),
                _ => format!("{:>1$}", line[i], widths[i]),
            })
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    let film = &report.film;
    let db = film
        .psnr_db
        .map_or("every bit".to_owned(), |db| format!("{db:.1} dB"));
    let _ = writeln!(
        text,
        "{}  a film of {} frames: {db} of the recorded one ({:.0} dB are asked for), {}",
        word(film.wrong.as_deref()),
        film.frames,
        film.least_db,
        say::secs(film.secs),
    );
    text.push('\n');
    for op in &report.ops {
        if let Some(wrong) = &op.wrong {
            let kernels: Vec<_> = op.kernels.keys().copied().collect();
            let _ = writeln!(
                text,
                "WRONG: {} ({}; kernels {}): {wrong}",
                op.op,
                op.what,
                kernels.join(", ")
            );
        }
    }
    if let Some(wrong) = &film.wrong {
        let _ = writeln!(text, "WRONG: {wrong}");
    }
    let n = report.ops.iter().filter(|op| op.wrong.is_some()).count()
        + usize::from(film.wrong.is_some());
    let _ = match n {
        0 => writeln!(text, "all is well, {}", say::secs(report.secs)),
        n => writeln!(
            text,
            "{n} of {} checks failed, {}: films from this device are not to be trusted; please report it, with --report FILE attached",
            report.ops.len() + 1,
            say::secs(report.secs)
        ),
    };
    text
}

fn word(wrong: Option<&str>) -> &'static str {
    match wrong {
        None => "ok   ",
        Some(_) => "WRONG",
    }
}

fn line(op: &OpResult, copy_rate: f64) -> [String; 9] {
    let share = match op.unit {
        "GB/s" => format!("{:.0} %", 100.0 * op.rate / copy_rate),
        _ => "-".to_owned(),
    };
    let exact = |v: f64| match v {
        0.0 => "0".to_owned(),
        v => format!("{v:.1e}"),
    };
    [
        word(op.wrong.as_deref()).to_owned(),
        op.op.to_owned(),
        op.what.clone(),
        exact(op.error),
        exact(op.allowed),
        format!("{:.0} ms", 1e3 * op.first_secs),
        format!("{:.3} ms", 1e3 * op.secs),
        format!("{:.2} {:<7}", op.rate, op.unit),
        share,
    ]
}

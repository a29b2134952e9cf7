//! The two streams. Nobody who reads them may end the program by going away: a closed stream is quiet.

use std::io::{self, IsTerminal as _, Write as _};

pub(super) use longtake::compare::mib;

use super::args::{Colour, Voice};

/// A result, on standard output. False once its reader has gone.
pub(super) fn result(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_ok()
}

/// A message, on standard error, with a line end.
pub(super) fn message(text: &str) {
    // There is nobody to tell when this fails.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// How messages look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    coloured: bool,
}

impl Style {
    pub(super) fn new(voice: &Voice) -> Style {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let coloured = match voice.color {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => {
                !set("NO_COLOR") && (set("CLICOLOR_FORCE") || (!dumb && io::stderr().is_terminal()))
            }
        };
        Style { coloured }
    }

    pub(super) fn warning(self, text: &str) -> String {
        self.lead("warning:", "33", text)
    }

    pub(super) fn error(self, text: &str) -> String {
        self.lead("error:", "31", text)
    }

    fn lead(self, word: &str, colour: &str, text: &str) -> String {
        match self.coloured {
            true => format!("\x1b[1;{colour}m{word}\x1b[0m {text}"),
            false => format!("{word} {text}"),
        }
    }
}

/// Lines of equally many cells, each column as wide as its widest cell.
pub(super) fn columns(lines: &[Vec<String>]) -> String {
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let count = lines.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// `1 frame`, `2 frames`.
pub(super) fn n(count: u32, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// Frames a second; where that is a small number, seconds a frame.
pub(super) fn rate(fps: f64) -> String {
    match fps {
        fps if 10.0 <= fps => format!("{fps:.1} fps"),
        fps if 0.1 <= fps => format!("{fps:.2} fps"),
        fps if 0.0 < fps => format!("{:.1} s/frame", 1.0 / fps),
        _ => "- fps".to_owned(),
    }
}

/// Seconds as people read them: `3.2 s`, `4:05 min`, `2:03:00 h`.
pub(super) fn secs(secs: f64) -> String {
    if secs < 60.0 {
        return format!("{secs:.1} s");
    }
    let whole = std::time::Duration::from_secs_f64(secs.min(1e9)).as_secs();
    let (h, m, s) = (whole / 3600, whole / 60 % 60, whole % 60);
    match h {
        0 => format!("{m}:{s:02} min"),
        _ => format!("{h}:{m:02}:{s:02} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(mib(3 << 19), "1.5 MiB");
        assert_eq!(mib(3 << 29), "1.50 GiB");
        assert_eq!(mib(200 << 20), "200 MiB");
        assert_eq!(
            (rate(12.34), rate(0.42), rate(0.05), rate(0.0)),
            (
                "12.3 fps".to_owned(),
                "0.42 fps".into(),
                "20.0 s/frame".into(),
                "- fps".into()
            )
        );
        assert_eq!(
            (secs(3.21), secs(245.0), secs(7380.0)),
            ("3.2 s".to_owned(), "4:05 min".into(), "2:03:00 h".into())
        );
    }
}

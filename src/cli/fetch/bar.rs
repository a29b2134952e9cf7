//! How far a download is: a line that moves on a terminal, else a plain line now and then.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::super::{say, store};

/// Time between plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Bar {
    is_silent: bool,
    moving: Option<ProgressBar>,
    name: String,
    bytes: u64,
    last: Instant,
}

impl Bar {
    /// Says nothing under `quiet` or `HF_HUB_DISABLE_PROGRESS_BARS`.
    pub(super) fn new(quiet: bool) -> Self {
        Self {
            is_silent: quiet || store::is_set("HF_HUB_DISABLE_PROGRESS_BARS"),
            moving: None,
            name: String::new(),
            bytes: 0,
            last: Instant::now(),
        }
    }

    /// A file of `bytes`, of which `done` are there.
    pub(super) fn start(&mut self, name: &str, done: u64, bytes: u64) {
        (self.name, self.bytes, self.last) = (name.to_owned(), bytes, Instant::now());
        if self.is_silent {
            return;
        }
        let from = match done {
            0 => String::new(),
            done => format!(", {} are there already", megabytes(done)),
        };
        say::message(&format!("{name}: {}{from}", megabytes(bytes)));
        let dumb = store::var("TERM").is_some_and(|term| term == "dumb");
        if io::stderr().is_terminal() && !dumb {
            let bar = ProgressBar::new(bytes);
            // The template is ours; if a newer indicatif refused it, its own look would do.
            let look = "[{bar:20}] {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  eta {eta}";
            if let Ok(style) = ProgressStyle::with_template(look) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_position(done);
            bar.reset_eta();
            self.moving = Some(bar);
        }
    }

    pub(super) fn set(&mut self, done: u64) {
        match &self.moving {
            Some(bar) => bar.set_position(done),
            None if !self.is_silent && PLAIN_EVERY <= self.last.elapsed() => {
                self.last = Instant::now();
                let (done, bytes) = (megabytes(done), megabytes(self.bytes));
                say::message(&format!("{}: {done} of {bytes}", self.name));
            }
            None => {}
        }
    }

    /// Prints a line without tearing the bar.
    pub(super) fn message(&self, text: &str) {
        match &self.moving {
            Some(bar) => bar.suspend(|| say::message(text)),
            None => say::message(text),
        }
    }

    pub(super) fn finish(&mut self) {
        if let Some(bar) = self.moving.take() {
            bar.finish_and_clear();
        }
    }
}

/// Bytes as download pages give them: `508 MB`, `11.4 GB`.
pub(in crate::cli) fn megabytes(bytes: u64) -> String {
    match bytes as f64 {
        gb if 1e9 <= gb => format!("{:.1} GB", gb / 1e9),
        mb if 1e7 <= mb => format!("{:.0} MB", mb / 1e6),
        mb if 1e5 <= mb => format!("{:.1} MB", mb / 1e6),
        _ => format!("{bytes} B"),
    }
}

//! The line that moves while a film is made, or a plain line now and then where standard error is no terminal.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use longtake::rollout::event::{Event, LoadStage, PassKind};

use super::say;

/// Seconds between plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Share of the newest chunk in the running mean of seconds a chunk.
const NEWEST: f64 = 0.2;

/// What is known of a run so far.
#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    given: u32,
    given_done: u32,
    chunk: u32,
    chunks: u32,
    frames: u32,
    frames_done: u32,
    pass: u32,
    passes: u32,
    chunk_secs: f64,
    chunk_frames: u32,
    cache_bytes: u64,
    device_bytes: u64,
    /// The stage of loading at hand: done, of.
    loading: Option<(LoadStage, u64, u64)>,
}

impl State {
    fn take(&mut self, event: &Event) {
        if let Event::PassDone { .. } | Event::ChunkStarted { .. } = event {
            self.loading = None;
        }
        match event {
            Event::Loading { stage, done, of } => self.loading = Some((*stage, *done, *of)),
            Event::Plan {
                frames,
                given_frames,
                chunks,
                ..
            } => {
                (self.frames, self.given, self.chunks) = (*frames, *given_frames, *chunks);
            }
            Event::PassDone {
                kind: PassKind::Given,
                chunk,
                ..
            } => self.given_done = chunk + 1,
            Event::PassDone {
                kind: PassKind::Denoise,
                pass,
                passes,
                ..
            } => (self.pass, self.passes) = (pass + 1, passes.saturating_sub(1)),
            Event::ChunkStarted { chunk, frames, .. } => {
                (self.chunk, self.chunk_frames, self.pass) = (chunk + 1, *frames, 0);
            }
            Event::FramesReady { frames, secs, .. } => {
                self.frames_done += frames;
                self.chunk_secs = match self.chunk_secs {
                    0.0 => *secs,
                    mean => mean + NEWEST * (secs - mean),
                };
            }
            Event::Memory(m) => {
                (self.cache_bytes, self.device_bytes) =
                    (m.cache_bytes + m.spans_bytes, m.device_bytes);
            }
            _ => {}
        }
    }

    fn line(&self) -> String {
        if let Some((stage, done, of)) = self.loading {
            return match stage {
                LoadStage::Device => "opening the device".to_owned(),
                LoadStage::Weights => format!("checking weights {done}/{of} tensors"),
                LoadStage::Upload => {
                    format!("uploading weights {}/{}", say::mib(done), say::mib(of))
                }
                LoadStage::Kernels => format!("compiling kernels {done}/{of}"),
            };
        }
        if self.chunk == 0 && 0 < self.given {
            return format!("given frames {}/{}", self.given_done, self.given);
        }
        let mut line = format!(
            "chunk {}/{}  {}/{} frames",
            self.chunk, self.chunks, self.frames_done, self.frames
        );
        if 0 < self.passes {
            line += &format!("  step {}/{}", self.pass, self.passes);
        }
        if 0.0 < self.chunk_secs {
            let fps = f64::from(self.chunk_frames) / self.chunk_secs;
            let left = f64::from(self.chunks - self.chunk.min(self.chunks)) * self.chunk_secs;
            line += &format!(
                "  {:.2} s/chunk  {}  eta {}  kv {}  gpu {}",
                self.chunk_secs,
                say::rate(fps),
                say::secs(left),
                say::mib(self.cache_bytes),
                say::mib(self.device_bytes),
            );
        }
        line
    }
}

enum Form {
    /// Says nothing.
    Silent,
    /// A line that is drawn over.
    Bar(ProgressBar),
    /// A line every ten seconds.
    Plain(Instant),
}

/// Progress of one run.
pub(super) struct Progress {
    state: State,
    form: Form,
}

impl Progress {
    pub(super) fn silent() -> Progress {
        Progress {
            state: State::default(),
            form: Form::Silent,
        }
    }

    /// A bar on a terminal, else plain lines.
    pub(super) fn on_stderr() -> Progress {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let form = match io::stderr().is_terminal() && !dumb {
            true => Form::Bar(bar()),
            false => Form::Plain(Instant::now()),
        };
        Progress {
            state: State::default(),
            form,
        }
    }

    /// Shows what a run says.
    pub(super) fn event(&mut self, event: &Event) {
        self.state.take(event);
        let (done, of) = match self.state.loading {
            Some((_, done, of)) => (done, of),
            None => (
                u64::from(self.state.given_done + self.state.frames_done),
                u64::from(self.state.given + self.state.frames),
            ),
        };
        match &mut self.form {
            Form::Silent => {}
            Form::Bar(bar) => {
                bar.set_length(of.max(1));
                bar.set_position(done);
                bar.set_message(self.state.line());
            }
            Form::Plain(last) => {
                if PLAIN_EVERY <= last.elapsed() {
                    *last = Instant::now();
                    say::message(&self.state.line());
                }
            }
        }
    }

    /// Prints a message without tearing the bar.
    pub(super) fn message(&self, text: &str) {
        match &self.form {
            Form::Bar(bar) => bar.suspend(|| say::message(text)),
            _ => say::message(text),
        }
    }

    /// Takes the bar away.
    pub(super) fn clear(&mut self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
        self.form = Form::Silent;
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(1);
    // The template is ours; if a newer indicatif refused it, its own look would do.
    if let Ok(style) = ProgressStyle::with_template("[{bar:20}] {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;
    use longtake::rollout::event::MemoryUse;

    fn pass(kind: PassKind, chunk: u32) -> Event {
        Event::PassDone {
            kind,
            chunk,
            pass: 0,
            passes: 3,
            timestep: 1000.0,
            secs: 0.1,
        }
    }

    #[test]
    fn the_line_follows_the_events() {
        let mut state = State {
            given: 2,
            frames: 8,
            chunks: 4,
            ..State::default()
        };
        for (stage, line) in [
            (LoadStage::Upload, "uploading weights 3.0 MiB/4.0 MiB"),
            (LoadStage::Kernels, "compiling kernels 3145728/4194304"),
        ] {
            state.take(&Event::Loading {
                stage,
                done: 3 << 20,
                of: 4 << 20,
            });
            assert_eq!(state.line(), line);
        }
        state.take(&pass(PassKind::Given, 0));
        assert_eq!(state.line(), "given frames 1/2");
        state.take(&Event::ChunkStarted {
            chunk: 0,
            chunks: 4,
            first_frame: 0,
            frames: 2,
        });
        state.take(&pass(PassKind::Denoise, 0));
        assert_eq!(state.line(), "chunk 1/4  0/8 frames  step 1/2");
        state.take(&Event::FramesReady {
            chunk: 0,
            first_frame: 0,
            frames: 2,
            secs: 4.0,
            decode_secs: 0.5,
        });
        state.take(&Event::Memory(MemoryUse {
            cache_bytes: 1 << 20,
            device_bytes: 3 << 20,
            ..MemoryUse::default()
        }));
        assert_eq!(
            state.line(),
            "chunk 1/4  2/8 frames  step 1/2  4.00 s/chunk  0.50 fps  eta 12.0 s  kv 1.0 MiB  gpu 3.0 MiB"
        );
    }
}

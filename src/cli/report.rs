//! What a run says, to people or to programs: one place that hears every event.

use longtake::cache::KvFigures;
use longtake::gpu::{Caps, Ledger, Purpose};
use longtake::rollout::event::{Event, Offload, PassKind, StageTime, Summary};

use super::Clock;
use super::args::{ReportArgs, Voice};
use super::progress::Progress;
use super::say::{self, Style};

/// Hears the events of one run and keeps its times.
pub(super) struct Reporter {
    clock: Clock,
    style: Style,
    json: bool,
    quiet: bool,
    verbose: bool,
    progress: Progress,
    /// Seconds since the process began when the first chunk began: given frames lie before it.
    pub(super) first_chunk_at: Option<f64>,
    /// The same for the first generated frame in hand.
    pub(super) first_frame_at: Option<f64>,
    /// Seconds that the given frames took.
    pub(super) given_secs: f64,
}

impl Reporter {
    pub(super) fn new(clock: Clock, voice: &Voice, args: &ReportArgs) -> Reporter {
        let silent = args.json || voice.quiet || args.no_progress;
        Reporter {
            clock,
            style: Style::new(voice),
            json: args.json,
            quiet: voice.quiet || args.json,
            verbose: 0 < voice.verbose && !voice.quiet && !args.json,
            progress: match silent {
                true => Progress::silent(),
                false => Progress::on_stderr(),
            },
            first_chunk_at: None,
            first_frame_at: None,
            given_secs: 0.0,
        }
    }

    /// For a command that has a result of its own and no event stream.
    pub(super) fn progress_only(clock: Clock, voice: &Voice, no_progress: bool) -> Reporter {
        let args = ReportArgs {
            view: false,
            json: false,
            no_progress,
            timings: false,
            dry_run: false,
        };
        Reporter::new(clock, voice, &args)
    }

    /// Passes an event on.
    pub(super) fn event(&mut self, event: &Event) {
        let now = self.clock.secs();
        match event {
            Event::ChunkStarted { .. } => {
                self.first_chunk_at.get_or_insert(now);
            }
            Event::FramesReady { .. } => {
                self.first_frame_at.get_or_insert(now);
            }
            Event::PromptSet {
                chunk: 1..,
                first_frame,
                renewed_frames,
            } => self.detail(&match renewed_frames {
                0 => format!("another prompt from frame {first_frame} on"),
                n => format!(
                    "another prompt from frame {first_frame} on, {} seen anew under it",
                    say::n(*n, "latent frame")
                ),
            }),
            Event::PassDone {
                kind: PassKind::Given,
                secs,
                ..
            } => self.given_secs += secs,
            Event::Warning { text } if !self.json => {
                self.progress.message(&self.style.warning(text));
            }
            _ => {}
        }
        if self.json {
            // Whoever listened has gone; the film is wanted all the same.
            let _ = say::result(&event.json_line(now));
        }
        self.progress.event(event);
    }

    pub(super) fn warn(&mut self, text: &str) {
        self.event(&Event::Warning {
            text: text.to_owned(),
        });
    }

    /// For people who did not ask for silence.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            self.progress.message(text);
        }
    }

    /// For people who asked for more.
    pub(super) fn detail(&self, text: &str) {
        if self.verbose {
            self.progress.message(text);
        }
    }

    /// Takes the progress bar away, for good.
    pub(super) fn end_progress(&mut self) {
        self.progress.clear();
    }
}

/// The plan as people read it.
pub(super) fn plan_text(event: &Event) -> String {
    let Event::Plan {
        model,
        device,
        tier,
        seed,
        frames,
        given_frames,
        chunks,
        width,
        height,
        fps,
        steps,
        window,
        sink,
        kv,
        offload,
        decoder_bands,
        decoder_host_bytes,
        planned,
    } = event
    else {
        return String::new();
    };
    let window = match window {
        Some(n) => format!("window {n} (sink {sink})"),
        None => "attending to all".to_owned(),
    };
    let given = match given_frames {
        0 => String::new(),
        n => format!(", from {}", say::n(*n, "given frame")),
    };
    let kv = kv
        .as_ref()
        .map_or(String::new(), |kv| format!(", cache in {kv}"));
    format!(
        "{model} on {device}, {tier}\n\
         {} of {width}x{height} at {fps} a second ({}) in {} of {}{given}, {window}{kv}, seed {seed}\n\
         device memory at most {}: weights {}, cache {} exact and {} coded, activations {}, scratch {}",
        say::n(*frames, "frame"),
        say::secs(f64::from(*frames) / f64::from(*fps).max(1.0)),
        say::n(*chunks, "chunk"),
        say::n(*steps, "step"),
        say::mib(planned.peak_device_bytes),
        say::mib(planned.weights_bytes),
        say::mib(planned.cache_bytes),
        say::mib(planned.spans_bytes),
        say::mib(planned.activations_bytes),
        say::mib(planned.scratch_bytes),
    ) + &match offload.layers {
        0 => String::new(),
        _ => format!("\n{}", offload_text(offload, "wait")),
    } + &match decoder_bands {
        1 => String::new(),
        bands => format!(
            "\npictures in {bands} bands of rows, {} of the decoder's past in main memory",
            say::mib(*decoder_host_bytes)
        ),
    }
}

/// What waits, and what that costs.
fn offload_text(offload: &Offload, wait: &str) -> String {
    format!(
        "{} of {} {wait} in main memory: {}, {} uploaded a pass",
        offload.layers,
        say::n(offload.of_layers, "layer"),
        say::mib(offload.host_bytes),
        say::mib(offload.pass_bytes),
    )
}

/// The figures at the end as people read them.
pub(super) fn summary_text(summary: &Summary, caps: &Caps, ledger: &Ledger) -> String {
    let by_purpose: Vec<String> = Purpose::ALL
        .into_iter()
        .filter(|p| *p != Purpose::Viewer || ledger.peak_of(*p) > 0)
        .map(|p| format!("{} {}", p.name(), say::mib(ledger.peak_of(p))))
        .collect();
    format!(
        "{}{} in {}: {} ({} without decoding and encoding), the first after {}\n\
         cache {}{}; device memory at most {}: {}\n\
         {}seed {} on {}, {}",
        if summary.interrupted {
            "interrupted: "
        } else {
            ""
        },
        say::n(summary.frames, "frame"),
        say::secs(summary.secs),
        say::rate(summary.fps),
        say::rate(summary.fps_model),
        say::secs(summary.first_frame_secs),
        say::mib(summary.cache_bytes),
        kv_text(&summary.kv),
        say::mib(summary.peak_device_bytes),
        by_purpose.join(", "),
        match summary.offload.layers {
            0 => String::new(),
            _ => format!(
                "{}, {} in all\n",
                offload_text(&summary.offload, "waited"),
                say::mib(summary.uploaded_bytes)
            ),
        },
        summary.seed,
        caps.title(),
        caps.tier.name(),
    )
}

/// What a coded cache came to.
fn kv_text(kv: &KvFigures) -> String {
    let Some(codec) = kv.codec.as_ref().filter(|_| kv.coded_frames > 0) else {
        return String::new();
    };
    let coded = kv.coded_bytes.max(1) as f64;
    let half = (kv.k.ratio * kv.k.coded.total() as f64 + kv.v.ratio * kv.v.coded.total() as f64)
        / (kv.k.coded.total() + kv.v.coded.total()).max(1) as f64;
    format!(
        " ({} in {codec}: {}, {:.2} bits an element, {half:.2} times smaller than in 16 bits; {} exact: {}; free slots {}; {:.1} ms to code a span)",
        say::n(u32::try_from(kv.coded_frames).unwrap_or(u32::MAX), "frame"),
        say::mib(coded as u64),
        16.0 / half.max(1e-9),
        say::n(u32::try_from(kv.exact_frames).unwrap_or(u32::MAX), "frame"),
        say::mib(kv.exact_bytes),
        say::mib(kv.unused_bytes),
        kv.encode_ms_per_span,
    )
}

/// Phases with their seconds in one line.
pub(super) fn phases_text(phases: &[StageTime]) -> String {
    let phase = |p: &StageTime| format!("{} {}", p.stage.replace('_', " "), say::secs(p.secs));
    phases.iter().map(phase).collect::<Vec<_>>().join(", ")
}

/// Stages with their seconds and their share of all.
pub(super) fn timings_text(stages: &[StageTime]) -> String {
    let total: f64 = stages.iter().map(|s| s.secs).sum();
    let width = stages.iter().map(|s| s.stage.len()).max().unwrap_or(0);
    let row = |name: &str, secs: f64| {
        let share = if 0.0 < total {
            100.0 * secs / total
        } else {
            0.0
        };
        format!("{name:width$}  {secs:9.3} s  {share:5.1} %")
    };
    let rows: Vec<String> = stages
        .iter()
        .map(|s| row(&s.stage, s.secs))
        .chain([row("sum", total)])
        .collect();
    rows.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        let stage = |stage: &str, secs| StageTime {
            stage: stage.into(),
            secs,
        };
        let table = timings_text(&[stage("attention", 3.0), stage("linear", 1.0)]);
        assert_eq!(
            table,
            "attention      3.000 s   75.0 %\nlinear         1.000 s   25.0 %\nsum            4.000 s  100.0 %"
        );
        assert!(timings_text(&[]).contains("0.0 %"));
    }
}

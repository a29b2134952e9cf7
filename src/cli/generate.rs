//! `longtake generate`: opens the device, runs the session, gives frames to the writer as they come.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use longtake::frame::Frame;
use longtake::gpu::{Caps, Device, Kind, Select, TierRequest};
use longtake::media::{self, Recipe, Spec, VideoWriter};
use longtake::rollout::event::{Event, LoadStage, StageTime, Summary};
use longtake::rollout::{Film, Session};

use super::args::{GenerateArgs, NetworkArgs, TierArg, Voice};
use super::encode::{Encoder, Written};
use super::fault::{self, Fault, INTERRUPTED};
use super::job::{Job, Subject};
use super::report::{self, Reporter};
use super::stop::Stop;
use super::{Clock, recipe, say, target, view};

/// Seconds of the steps before the film.
#[derive(Debug, Default)]
struct Before {
    open: f64,
    /// For a film from text.
    text: Option<f64>,
    load: f64,
}

/// Makes a film; gives the exit code. An error ends with an `error` event where events are asked for.
pub(super) fn run(mut args: GenerateArgs, voice: &Voice, clock: Clock) -> anyhow::Result<u8> {
    let mut reporter = Reporter::new(clock, voice, &args.reports);
    let result = film(&mut args, &mut reporter, clock);
    reporter.end_progress();
    if let Err(err) = &result
        && args.reports.json
        && !fault::is_closed_pipe(err)
    {
        reporter.event(&Event::Error {
            code: fault::code(err),
            what: fault::text(err),
            hint: fault::hint(err).to_owned(),
        });
    }
    result
}

fn film(args: &mut GenerateArgs, reporter: &mut Reporter, clock: Clock) -> anyhow::Result<u8> {
    if let Some(file) = args.from.clone() {
        for text in recipe::fill(args, &file)? {
            reporter.warn(&text);
        }
    }
    let mut job = Job::new(args)?;
    for text in job.subject.warnings() {
        reporter.warn(text);
    }
    if args.reports.view && !args.reports.dry_run {
        return view::run(args, &job, reporter);
    }
    let begun = Instant::now();
    let opening = |done| Event::Loading {
        stage: LoadStage::Device,
        done,
        of: 1,
    };
    // A dry run has a result and no events.
    let is_told = !args.reports.dry_run;
    if is_told {
        reporter.event(&opening(0));
    }
    let device = open_device(&args.network, reporter)?;
    if is_told {
        reporter.event(&opening(1));
    }
    let mut before = Before {
        open: begun.elapsed().as_secs_f64(),
        ..Before::default()
    };
    args.budget.settle(&mut job, &device, reporter)?;
    if args.reports.dry_run {
        return dry_run(args, &job, &device, reporter);
    }
    let stop = Stop::listen("this chunk; the film keeps its frames");
    if args.reports.timings {
        device.measure_stages();
    }
    let film = match &job.subject {
        Subject::Walk(scene) => Film::from(scene.walk.clone()),
        Subject::Text(scene) => {
            // Whether the film fits is said before the encoder takes its time.
            Session::preview(&device, &scene.model, &job.subject.outline(), &job.config)?;
            let begun = Instant::now();
            let script = scene.encode(&device, args.output.overwrite, reporter)?;
            before.text = Some(begun.elapsed().as_secs_f64());
            script.into()
        }
    };
    if stop.is_asked() {
        return Err(Fault::Interrupted.into());
    }
    let model = job.subject.model();
    let plan = Session::preview(&device, model, &film, &job.config)?;
    let plan = with_rate(plan, job.subject.fps());
    reporter.detail(&report::plan_text(&plan));
    reporter.event(&plan);
    let begun = Instant::now();
    let most = film.told();
    let mut session = Session::load(&device, model, film, most, &job.config, &mut |event| {
        reporter.event(&event);
    })?;
    before.load = begun.elapsed().as_secs_f64();
    if stop.is_asked() {
        return Err(Fault::Interrupted.into());
    }
    let mut recipe = recipe::of(&job, device.caps());
    let writer = writer(args, &job, &recipe)?;
    let encoder = Encoder::start(writer)?;
    let made = rollout(&job, &mut session, &encoder, &stop, reporter);
    let written = encoder.close()?;
    reporter.end_progress();
    let dumped = dump(args, &mut session, &made, reporter);
    let run = Run {
        job: &job,
        device: &device,
        session: &session,
        before,
        clock,
    };
    // The film comes first: it is whole whatever became of the dump.
    let code = run.finish(args, made, written, &mut recipe, reporter)?;
    dumped.map(|()| code)
}

/// Writes keys and values where they are asked for, also of a film that the user stopped.
fn dump(
    args: &GenerateArgs,
    session: &mut Session,
    made: &Made,
    reporter: &mut Reporter,
) -> anyhow::Result<()> {
    let is_due = made.fault.is_none() && 0 < made.chunks;
    let Some(path) = args.output.dump_kv.as_ref().filter(|_| is_due) else {
        return Ok(());
    };
    let existing = target::existing(args.output.overwrite);
    let d = session.dump_kv(path, existing).context("--dump-kv")?;
    let decoded = match d.decoded {
        0 => String::new(),
        n => format!(", {n} of them coded in the cache and decoded here"),
    };
    reporter.note(&format!(
        "keys and values of {} in {} layers{decoded}: {}",
        say::n(count(d.frames), "latent frame"),
        d.layers,
        path.display()
    ));
    reporter.event(&Event::DumpedKv {
        path: path.to_string_lossy().into_owned(),
        layers: d.layers,
        frames: d.frames,
        decoded_frames: d.decoded,
        query_frames: d.query_frames,
    });
    Ok(())
}

/// What a run of the session came to.
struct Made {
    frames: u32,
    chunks: u32,
    interrupted: bool,
    fault: Option<anyhow::Error>,
}

/// Chunk after chunk until the film is whole, the user stops it, or something fails; nothing made is lost.
fn rollout(
    job: &Job,
    session: &mut Session,
    encoder: &Encoder,
    stop: &Stop,
    reporter: &mut Reporter,
) -> Made {
    let mut made = Made {
        frames: 0,
        chunks: 0,
        interrupted: false,
        fault: None,
    };
    if job.show_given && !encoder.push(job.subject.given().to_vec()) {
        return made;
    }
    loop {
        if stop.is_asked() {
            made.interrupted = made.frames < count(job.subject.frames());
            return made;
        }
        let chunk = match session.next_chunk(&mut |event| reporter.event(&event)) {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return made,
            Err(err) => {
                made.fault = Some(err.into());
                return made;
            }
        };
        let frames: Vec<Frame> = chunk.frames;
        made.frames += count(frames.len());
        made.chunks += 1;
        if !encoder.push(frames) {
            return made;
        }
    }
}

/// Everything that the figures at the end are made of.
struct Run<'a> {
    job: &'a Job,
    device: &'a Device,
    session: &'a Session,
    before: Before,
    clock: Clock,
}

impl Run<'_> {
    fn finish(
        self,
        args: &GenerateArgs,
        made: Made,
        written: Written,
        recipe: &mut Recipe,
        reporter: &mut Reporter,
    ) -> anyhow::Result<u8> {
        let Written {
            writer,
            secs: encode_secs,
            fault,
        } = written;
        let fault = made.fault.or_else(|| fault.map(anyhow::Error::from));
        let kept = writer.frames();
        let mut summary = Summary {
            frames: made.frames,
            chunks: made.chunks,
            interrupted: made.interrupted,
            ..self.summary(reporter, made.frames, encode_secs)
        };
        recipe::add_run(recipe, &summary);
        let closed = match args.output.no_metadata {
            true => writer.finish(),
            false => writer.finish_with(recipe),
        };
        let output = (!self.job.target.is_stdout())
            .then(|| self.job.target.path.to_string_lossy().into_owned());
        if let Some(err) = fault {
            let Some(path) = output else { return Err(err) };
            if kept == 0 {
                drop_empty(&self.job.target.path, closed.ok());
                return Err(err);
            }
            reporter.event(&Event::Saved { path: path.clone() });
            return Err(err.context(format!("stopped; the first {kept} frames are in {path}")));
        }
        closed?;
        // Once more, now that the end of the file is written.
        let end = self.clock.secs();
        summary.secs = end;
        summary.fps = reporter
            .first_chunk_at
            .map_or(0.0, |from| f64::from(made.frames) / (end - from).max(1e-9));
        summary.output.clone_from(&output);
        self.tell(args, summary, reporter);
        Ok(if made.interrupted { INTERRUPTED } else { 0 })
    }

    fn summary(&self, reporter: &Reporter, frames: u32, encode_secs: f64) -> Summary {
        let memory = self.session.memory();
        let (offload, uploaded_bytes) = self.session.offload();
        let now = self.clock.secs();
        let made_since = |at: Option<f64>| at.map_or(0.0, |from| now - from);
        let per_sec = |secs: f64| match 0.0 < secs {
            true => f64::from(frames) / secs,
            false => 0.0,
        };
        let phase = |stage: &str, secs: f64| StageTime {
            stage: stage.to_owned(),
            secs,
        };
        let mut timings = vec![
            phase("open", self.before.open),
            phase("load", self.before.load),
            phase("given_frames", reporter.given_secs),
            phase("generate", made_since(reporter.first_chunk_at)),
            phase("encode", encode_secs),
        ];
        if let Some(secs) = self.before.text {
            timings.insert(1, phase("text", secs));
        }
        timings.extend(self.stages());
        Summary {
            given_frames: count(self.job.subject.given().len()),
            fps: per_sec(made_since(reporter.first_chunk_at)),
            fps_model: per_sec(self.session.model_secs()),
            first_frame_secs: reporter.first_frame_at.unwrap_or(0.0),
            secs: now,
            cache_bytes: memory.cache_bytes + memory.spans_bytes,
            kv: self.session.kv(),
            drift: self.session.drift(),
            peak_device_bytes: memory.peak_device_bytes,
            offload,
            uploaded_bytes,
            seed: self.job.config.seed,
            timings,
            ..Summary::default()
        }
    }

    /// Stages of the device's work, if they were measured.
    fn stages(&self) -> Vec<StageTime> {
        let stage = |(stage, secs): (&str, f64)| StageTime {
            stage: stage.to_owned(),
            secs,
        };
        self.device.stage_secs().into_iter().map(stage).collect()
    }

    fn tell(&self, args: &GenerateArgs, summary: Summary, reporter: &mut Reporter) {
        let caps = self.device.caps();
        reporter.note(&report::summary_text(&summary, caps, self.device.ledger()));
        let stages = self.stages();
        let (phases, _) = summary
            .timings
            .split_at(summary.timings.len() - stages.len());
        reporter.detail(&report::phases_text(phases));
        if args.reports.timings {
            reporter.note(&report::timings_text(&stages));
        }
        if let Some(path) = &summary.output {
            reporter.event(&Event::Saved { path: path.clone() });
            if !args.reports.json {
                // Nobody may be there to read it; the film is.
                let _ = say::result(&format!("{path}\n"));
            }
        }
        reporter.event(&Event::Done(summary));
    }
}

/// Takes away what holds no frame, so that its name is free again.
fn drop_empty(path: &Path, closed: Option<media::Summary>) {
    let recipe = closed.and_then(|summary| summary.recipe_path);
    for path in [Some(path.to_owned()), recipe].into_iter().flatten() {
        if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file()) {
            // Left behind, it does no harm.
            let _ = std::fs::remove_file(&path);
        }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The plan with the playback rate of the file instead of the model's.
fn with_rate(mut plan: Event, rate: u32) -> Event {
    if let Event::Plan { fps, .. } = &mut plan {
        *fps = rate;
    }
    plan
}

fn dry_run(
    args: &GenerateArgs,
    job: &Job,
    device: &Device,
    reporter: &mut Reporter,
) -> anyhow::Result<u8> {
    let subject = &job.subject;
    let plan = Session::preview(device, subject.model(), &subject.outline(), &job.config)?;
    let plan = with_rate(plan, subject.fps());
    if args.reports.json {
        reporter.event(&plan);
    } else {
        let _ = say::result(&format!("{}\n", report::plan_text(&plan)));
        let _ = say::result(&format!("output {}\n", job.target.path.display()));
    }
    Ok(0)
}

fn writer(args: &GenerateArgs, job: &Job, recipe: &Recipe) -> anyhow::Result<VideoWriter> {
    let (width, height) = job.subject.size();
    let spec = Spec {
        width,
        height,
        fps: f64::from(job.subject.fps()),
        scale: job.scale,
        frames: Some(job.file_frames()),
        overwrite: args.output.overwrite,
        recipe: (!args.output.no_metadata).then_some(recipe),
    };
    Ok(VideoWriter::create(&job.target.path, &spec)?)
}

/// Opens the device that the flags name.
pub(super) fn open(device: Option<&str>, tier: Option<TierArg>) -> anyhow::Result<Device> {
    Device::open(&Select {
        device: device.map(str::to_owned),
        tier: match tier {
            Some(TierArg::Portable) => TierRequest::Portable,
            _ => TierRequest::Best,
        },
    })
    .context("--device")
}

/// Opens the device and says aloud where it is not the kind that one hopes for.
pub(super) fn open_device(
    network: &NetworkArgs,
    reporter: &mut Reporter,
) -> anyhow::Result<Device> {
    let device = open(network.device.as_deref(), network.tier)?;
    let is_auto = match &network.device {
        Some(name) => name.eq_ignore_ascii_case("auto"),
        None => std::env::var_os("WGPU_ADAPTER_NAME").is_none(),
    };
    if let Some(text) = is_auto.then(|| second_best(device.caps())).flatten() {
        reporter.warn(&text);
    }
    Ok(device)
}

/// What to say of a device that was taken for want of a better one.
fn second_best(caps: &Caps) -> Option<String> {
    let Caps { name, driver, .. } = caps;
    match caps.kind {
        Kind::Discrete | Kind::Virtual | Kind::Other => None,
        Kind::Integrated => Some(format!(
            "no discrete GPU was found; running on the integrated {name}, driver {driver}"
        )),
        Kind::Software | Kind::Twin => Some(format!(
            "no GPU was found; running on the processor by {name}, driver {driver}, which is slow"
        )),
    }
}

//! A film from text in the making: the worker's side of [`crate::text`]. Prompts are encoded on the worker's thread between two
//! chunks, so the window never waits, and what is set is in force from the next chunk on.

use std::time::Instant;

use longtake::gpu::{Caps, Device};
use longtake::model::config::DitConfig;
use longtake::rollout::event::{Event, LoadStage};
use longtake::rollout::{self, Cue, Script, Session, Turn};
use longtake::store::{Prompter, Ready};
use longtake::world::{Action, Pose};

use crate::fault::Fault;
use crate::job::{Job, Widths};
use crate::memory::Errors;
use crate::text::{Mark, Settled, TextJob, Told, fault};
use crate::worker::{
    Begun, Heard, Made, Message, Out, coded, coding, main_bytes, measure, memory, repack,
};

/// What a film from text would take.
///
/// # Errors
/// As [`TextJob::settle`]; a film that does not fit.
pub fn plan(caps: &Caps, job: &Job, text: &TextJob) -> Result<Event, Fault> {
    preview(caps, &text.settle(job)?)
}

fn preview(caps: &Caps, settled: &Settled) -> Result<Event, Fault> {
    let outline = Script {
        cues: Vec::new(),
        latents: settled.latents,
    };
    let latents = settled.latents;
    Session::preview_on(
        caps,
        &settled.model,
        &outline.into(),
        latents,
        &settled.config,
    )
    .map_err(|e| Fault::of(&e))
}

/// The film.
pub struct TextRun {
    job: Job,
    session: Session,
    config: DitConfig,
    settings: rollout::Config,
    prompter: Option<Prompter>,
    /// Every prompt's rows by chunk, to make the film again.
    script: Script,
    /// What the prompts say, by their first chunks, blends included.
    said: Vec<(u32, String)>,
    /// Chunks made.
    chunks: u32,
    /// Widths, and the chunk from which on they hold.
    bits: Vec<(u32, Widths)>,
    /// Seconds of coding so far.
    encoded: f64,
    measures: bool,
}

impl TextRun {
    /// Encodes the prompts, then loads the network: memory holds one of them at a time.
    ///
    /// # Errors
    /// As [`TextJob::settle`] and [`TextJob::read`]; what does not fit the device; the device failed.
    pub(crate) fn start(device: &Device, job: Job, out: &Out) -> Result<TextRun, Fault> {
        let text = job.text.clone().unwrap_or_default();
        let settled = text.settle(&job)?;
        // Whether the film fits is said before the encoder takes its time.
        let plan = preview(device.caps(), &settled)?;
        if let Some(path) = &settled.found.guess {
            out.send(Message::Warning(format!(
                "no preset knows {path:?} by name; it is run as {}",
                settled.found.preset.map_or("", |p| &p.name)
            )));
        }
        let read = text.read(&settled)?;
        let (mut turns, mut said) = (Vec::new(), Vec::new());
        for (ready, at) in read.ready.iter().zip(&read.placed) {
            let rows = rows(device, read.prompter.as_ref(), ready, out)?;
            said.push((at.chunk, ready.prompt().to_owned()));
            turns.push(Turn {
                chunk: at.chunk,
                blend: at.blend,
                rows,
            });
        }
        let Settled {
            model,
            config: settings,
            latents,
            ..
        } = settled;
        let c = model.config.clone();
        let chunks = (latents / c.chunk_frames as usize) as u32;
        let script = Script::new(&turns, chunks, latents);
        out.event(&plan);
        // It was opened before the window was.
        out.send(Message::Loading(LoadStage::Device, 1, 1));
        let mut told = |event| out.loading(event);
        let session = Session::load(
            device,
            &model,
            script.clone(),
            latents,
            &settings,
            &mut told,
        )
        .map_err(|e| Fault::of(&e).at(0, device.caps()))?;
        out.send(Message::Begun(Box::new(Begun {
            job: job.clone(),
            film_name: model.name.clone(),
            plan,
            given: Vec::new(),
            layers: u64::from(c.layers),
            cell_frames: c.cell_frames as usize,
        })));
        Ok(TextRun {
            bits: vec![(0, job.widths)],
            job,
            session,
            config: c,
            settings,
            prompter: read.prompter,
            script,
            said,
            chunks: 0,
            encoded: 0.0,
            measures: false,
        })
    }

    /// Pictures made.
    pub fn made(&self) -> usize {
        let latents = self.chunks as usize * self.config.chunk_frames as usize;
        self.config.pictures(latents)
    }

    /// Sets another prompt from the next chunk on; false where the device was lost over it. Whatever else is wrong is told, and the
    /// film goes on under the prompt before.
    pub(crate) fn set_prompt(&mut self, device: &Device, prompt: &str, out: &Out) -> bool {
        out.send(Message::Prompt(Told::Encoding));
        match self.try_prompt(device, prompt, out) {
            Ok(prompt) => {
                let frame = self.made();
                out.send(Message::Prompt(Told::Set { frame, prompt }));
            }
            Err(_) if device.is_lost() => return false,
            Err(fault) => out.send(Message::Prompt(Told::Refused(Box::new(fault)))),
        }
        true
    }

    fn try_prompt(&mut self, device: &Device, prompt: &str, out: &Out) -> Result<String, Fault> {
        let Some(prompter) = &self.prompter else {
            let text = self.job.text.clone().unwrap_or_default();
            let missing = text
                .find()
                .and_then(|found| found.check(text.decoder, true, true).map_err(|e| fault(&e)));
            return Err(missing.err().unwrap_or_else(|| {
                Fault::plain("the film began from a prompt that was encoded before; make it again to change it")
            }));
        };
        let ready = prompter.read(prompt).map_err(|e| fault(&e))?;
        let new = rows(device, Some(prompter), &ready, out)?;
        self.session
            .set_prompt(new.clone())
            .map_err(|e| Fault::of(&e))?;
        let chunk = self.chunks;
        self.script.cues.retain(|cue| cue.chunk < chunk);
        self.script.cues.push(Cue { chunk, rows: new });
        self.said.retain(|(at, _)| *at < chunk);
        self.said.push((chunk, ready.prompt().to_owned()));
        Ok(ready.prompt().to_owned())
    }

    /// Spans from now on at these widths; older, wider ones follow one a chunk.
    ///
    /// # Errors
    /// A width that the codec does not have.
    pub fn set_bits(&mut self, widths: Widths) -> Result<(), Fault> {
        let pair = self.job.pair(widths).map_err(|e| Fault::plain(&e))?;
        self.session.set_codecs(pair).map_err(|e| Fault::of(&e))?;
        self.bits.push((self.chunks, widths));
        Ok(())
    }

    /// Measures spans from now on, or no more.
    pub(crate) fn measure(&mut self, on: bool, out: &Out) {
        measure(&mut self.session, &mut self.measures, on, out);
    }

    /// The next chunk; `None` at the film's end.
    ///
    /// # Errors
    /// As [`Session::next_chunk`].
    pub(crate) fn make(
        &mut self,
        device: &Device,
        out: &Out,
    ) -> Result<Option<Made>, rollout::Error> {
        let first = self.made();
        repack(&mut self.session, out);
        let begun = Instant::now();
        let (mut heard, mut mark) = (Heard::default(), None);
        let said = &self.said;
        let mut listen = |event: Event| {
            if let Event::PromptSet {
                chunk, first_frame, ..
            } = &event
            {
                let said = said.iter().rfind(|(at, _)| at <= chunk);
                mark = said.map(|(_, prompt)| Mark {
                    frame: *first_frame as usize,
                    chunk: *chunk,
                    prompt: prompt.clone(),
                });
            }
            heard.event(event, out);
        };
        let Some(chunk) = self.session.next_chunk(&mut listen)? else {
            return Ok(None);
        };
        log::debug!("chunk {} in {:?}", chunk.index, begun.elapsed());
        self.chunks += 1;
        if let Some(mark) = mark {
            out.send(Message::Prompt(Told::InForce(mark)));
        }
        let kv = self.session.kv();
        let Heard { mut split, drift } = heard;
        split.encode = coding(&kv, &mut self.encoded, first, split.total);
        // A film from text stands still: it has no camera.
        let still = |frame| (frame, Pose::default(), Action::Stay.into());
        Ok(Some(Made {
            first,
            frames: chunk.frames.into_iter().map(still).collect(),
            pictures: None,
            truth: Vec::new(),
            split,
            memory: memory(device),
            other: 0,
            kv,
            held: self.session.held(),
            drift,
            errors: self
                .measures
                .then(|| Errors::of(&self.session.span_errors())),
            main_bytes: main_bytes(),
            undo_bytes: 0,
        }))
    }

    /// The same film on a newly opened device up to its last finished chunk: the same seed and prompts give the same bytes.
    ///
    /// # Errors
    /// As [`TextRun::start`].
    pub(crate) fn again(self, device: &Device, out: &Out) -> Result<TextRun, Fault> {
        let text = self.job.text.clone().unwrap_or_default();
        let model = text.settle(&self.job)?.model;
        let TextRun {
            session,
            chunks,
            bits,
            script,
            settings,
            ..
        } = self;
        drop(session);
        let session = Session::new(device, &model, script.clone(), &settings)
            .map_err(|e| Fault::of(&e).at(0, device.caps()))?;
        let mut run = TextRun {
            bits: vec![(0, self.job.widths)],
            job: self.job,
            session,
            config: self.config,
            settings,
            prompter: self.prompter,
            script,
            said: self.said,
            chunks: 0,
            encoded: 0.0,
            measures: false,
        };
        let all = run
            .config
            .pictures(chunks as usize * run.config.chunk_frames as usize);
        for chunk in 0..chunks {
            for (_, widths) in bits.iter().skip(1).filter(|(at, _)| *at == chunk) {
                run.set_bits(*widths)?;
            }
            repack(&mut run.session, out);
            run.session
                .next_chunk(&mut |_| {})
                .map_err(|e| Fault::of(&e).at(run.made(), device.caps()))?;
            run.chunks += 1;
            out.send(Message::Again(run.made(), all));
        }
        // Widths that were chosen later still hold from here on.
        if let Some((_, now)) = bits.last()
            && run.bits.last().is_some_and(|(_, w)| w != now)
        {
            run.set_bits(*now)?;
        }
        run.encoded = coded(&run.session.kv());
        out.send(Message::WentBack(run.made(), run.session.held()));
        Ok(run)
    }
}

/// The rows of a prompt, with what is to be said of it.
fn rows(
    device: &Device,
    prompter: Option<&Prompter>,
    ready: &Ready,
    out: &Out,
) -> Result<Vec<f32>, Fault> {
    let begun = Instant::now();
    let (embeddings, cached) = match (ready.known(), prompter) {
        (Some(known), _) => (known.clone(), true),
        (None, Some(prompter)) => {
            let made = prompter.encode(device, ready).map_err(|e| fault(&e))?;
            (made.embeddings, made.cached)
        }
        (None, None) => return Err(Fault::plain("the tokenizer is not here any more")),
    };
    if let Some(text) = prompter.and_then(|p| ready.warning(p.text_len())) {
        out.event(&Event::Warning { text: text.clone() });
        out.send(Message::Warning(text));
    }
    out.event(&Event::TextEncoded {
        prompt: embeddings.source.prompt.clone(),
        tokens: embeddings.n_tokens() as u32,
        lost: ready.lost as u32,
        cached,
        secs: begun.elapsed().as_secs_f64(),
    });
    Ok(embeddings.rows)
}

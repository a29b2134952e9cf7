//! A film in the making: what a user asked for, checked; given frames, then chunk after chunk.

use std::ops::Range;
use std::time::Instant;

use super::config::{Config, codecs};
use super::error::Error;
use super::event::{Event, LoadStage, MemoryUse, Offload, PassKind};
use super::film::{Cue, Film, check_rows};
use super::fit;
use super::noise::{self, START};
use super::plan::Plan;
use super::renewal::Recent;
use super::sampler::{Sampler, SamplerError};
use super::schedule::{Schedule, Step};
use super::source::ModelSource;
use super::undo::Past;
use super::watch::{DriftSummary, Seen, Watch};
use crate::cache::{Held, KvFigures, Sink, SpanErrors};
use crate::codec::KvPair;
use crate::decode::{self, Decoder, Pictures};
use crate::frame::Frame;
use crate::gpu::{Caps, Device, Purpose};
use crate::model::{Dit, Loading, Tape};
use crate::world::pose::Pose;

/// A chunk as it comes out of [`Session::next_chunk`].
#[derive(Debug)]
pub struct Chunk {
    /// Chunk index from 0.
    pub index: u32,
    /// Its pictures.
    pub frames: Vec<Frame>,
}

/// A film in the making. Frame ids count given frames first, from 0.
#[derive(Debug)]
pub struct Session {
    pub(super) device: Device,
    pub(super) sampler: Sampler,
    pub(super) film: Film,
    pub(super) plan: Plan,
    decoder: Box<dyn Decoder>,
    /// Place of the prompt whose keys and values are set.
    cue: Option<usize>,
    /// Given frames are in the cache.
    started: bool,
    /// Chunks made.
    pub(super) chunks: u32,
    /// A finished chunk whose keys and values are still to be written: its latents lie on the device.
    pub(super) unwritten: Option<Range<i64>>,
    /// What going back takes beside the cache.
    pub(super) past: Past,
    /// What becomes of the sink when the cache is computed anew; `None`: it never is.
    pub(super) renewed_sink: Option<Sink>,
    /// [`Config::renew`] asks for what coded keys and values do not allow, and nobody was told yet.
    stays_coded: bool,
    /// What computing it anew takes.
    pub(super) recent: Recent,
    pub(super) watch: Watch,
    model_secs: f64,
}

impl Session {
    /// Checks, plans and loads. Given frames are not run yet.
    ///
    /// # Errors
    /// A setting that contradicts another, a model that does not fit (with numbers), weights that do not match.
    pub fn new(
        device: &Device,
        model: &ModelSource,
        film: impl Into<Film>,
        config: &Config,
    ) -> Result<Session, Error> {
        let film = film.into();
        let frames = film.told();
        Session::open(device, model, film, frames, config)
    }

    /// As [`Session::new`], for a way that is told while the film is made: [`Session::push_poses`] adds to it. The plan is that
    /// of a film of `most` latent frames.
    ///
    /// # Errors
    /// As [`Session::new`]; more told at the start than `most`; no prompt where one is needed.
    pub fn open(
        device: &Device,
        model: &ModelSource,
        film: impl Into<Film>,
        most: usize,
        config: &Config,
    ) -> Result<Session, Error> {
        Session::load(device, model, film, most, config, &mut |_| {})
    }

    /// As [`Session::open`]; `on` hears how far the loading is ([`Event::Loading`]), at most fifty times a stage.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn load(
        device: &Device,
        model: &ModelSource,
        film: impl Into<Film>,
        most: usize,
        config: &Config,
        on: &mut dyn FnMut(Event),
    ) -> Result<Session, Error> {
        let (c, film) = (&model.config, film.into());
        check_room(film.told(), most)?;
        let (schedule, plan) = check(device.caps(), model, &film, most, config)?;
        if matches!(&film, Film::Text(script) if script.cues.is_empty()) {
            return Err(Error::Setting("a film from text needs a prompt".into()));
        }
        let tensors = c.tensors().len() as u64;
        let decoder_bytes = plan.decoder.weights_bytes;
        let network_bytes = Dit::bytes(c, config.weights, plan.offload.layers);
        let mut upload = Gauge::new(LoadStage::Upload, network_bytes + decoder_bytes);
        on(Gauge::new(LoadStage::Weights, tensors).event(0));
        let mut told = |bytes| {
            if bytes == 0 {
                on(Gauge::new(LoadStage::Weights, tensors).event(tensors));
            }
            upload.tell(bytes, on);
        };
        let how = Loading {
            format: config.weights,
            lora: model.lora.as_ref(),
            offload: plan.offload.layers,
        };
        let dit = Dit::load_told(device, c, &model.weights, &how, &mut told)?;
        let setup = config.cache(c, film.given().len(), most)?;
        let sampler = Sampler::new(device, dit, schedule, c.chunk_frames as usize, &setup)?;
        let decoder = model
            .decoder
            .load(device, c.latent_grid(), plan.decoder.bands)?;
        if decoder_bytes > 0 {
            upload.tell(network_bytes + decoder_bytes, on);
        }
        Ok(Session {
            device: device.clone(),
            sampler,
            watch: Watch::new(film.given(), c.chunk_frames * c.cell_frames, c.fps),
            film,
            decoder,
            cue: None,
            started: false,
            chunks: 0,
            unwritten: None,
            past: Past::new(config.undo_bytes),
            renewed_sink: config.renewed_sink(),
            stays_coded: config.renew.is_some() && config.coded.is_some(),
            recent: Recent::new(plan.renewed_frames),
            plan,
            model_secs: 0.0,
        })
    }

    /// The `plan` event of a session that is not begun: all checks of [`Session::new`], nothing loaded.
    ///
    /// # Errors
    /// As [`Session::new`], but that prompts may be missing.
    pub fn preview(
        device: &Device,
        model: &ModelSource,
        film: &Film,
        config: &Config,
    ) -> Result<Event, Error> {
        Session::preview_open(device, model, film, film.told(), config)
    }

    /// The `plan` event of a session that [`Session::open`] would give.
    ///
    /// # Errors
    /// As [`Session::preview`].
    pub fn preview_open(
        device: &Device,
        model: &ModelSource,
        film: &Film,
        most: usize,
        config: &Config,
    ) -> Result<Event, Error> {
        Session::preview_on(device.caps(), model, film, most, config)
    }

    /// As [`Session::preview_open`], for a device of which only the capabilities are known, such as a card of [`fit::card`].
    ///
    /// # Errors
    /// As [`Session::preview`].
    pub fn preview_on(
        caps: &Caps,
        model: &ModelSource,
        film: &Film,
        most: usize,
        config: &Config,
    ) -> Result<Event, Error> {
        let (_, plan) = check(caps, model, film, most, config)?;
        Ok(plan.event())
    }

    /// The `plan` event.
    pub fn plan(&self) -> Event {
        self.plan.event()
    }

    /// Tells more of the way.
    ///
    /// # Errors
    /// More frames than the film was planned for, or a film without a way; nothing is changed then.
    pub fn push_poses(&mut self, poses: &[Pose]) -> Result<(), Error> {
        check_room(self.film.told() + poses.len(), self.plan.latents as usize)?;
        match &mut self.film {
            Film::Walk(walk) => walk.poses.extend_from_slice(poses),
            Film::Text(_) => {
                return Err(Error::Setting("a film from text has no way to tell".into()));
            }
        }
        Ok(())
    }

    /// Sets another prompt from the next chunk on, whatever prompts were to come. `rows` are as in [`Cue::rows`].
    ///
    /// The cache keeps what the chunks before left in it under their own prompts, unless [`Config::renew`] says otherwise.
    ///
    /// # Errors
    /// Rows of other sizes than the network takes, or a model without text; nothing is changed then.
    pub fn set_prompt(&mut self, rows: Vec<f32>) -> Result<(), Error> {
        check_rows(self.sampler.config(), &rows)?;
        let chunk = self.chunks;
        let Film::Text(script) = &mut self.film else {
            return Err(Error::Setting(
                "this film is a walk and takes no prompt".into(),
            ));
        };
        script.cues.retain(|cue| cue.chunk < chunk);
        script.cues.push(Cue { chunk, rows });
        let last = script.cues.len() - 1;
        self.cue = self.cue.filter(|at| *at < last);
        Ok(())
    }

    /// Spans coded from now on use `pair`; those that are coded stay as they are.
    ///
    /// # Errors
    /// A film that was begun without coded spans, or a codec that the model's heads or layers cannot have.
    pub fn set_codecs(&mut self, pair: KvPair) -> Result<(), Error> {
        let pair = codecs(&pair, self.sampler.config())?;
        Ok(self.sampler.cache_mut().set_codecs(pair)?)
    }

    /// Re-codes one span that is wider than what codes the next one, between two chunks, and tells `on`. False: none is; a span
    /// is never made wider again, since what is lost is lost. A call takes about as long as coding a span does.
    ///
    /// # Errors
    /// No room for a page of narrower spans while the wider ones are still read: nothing is changed then. The device failed.
    pub fn repack_span(&mut self, on: &mut dyn FnMut(Event)) -> Result<bool, Error> {
        let t0 = Instant::now();
        let cache = self.sampler.cache_mut();
        let Some(r) = cache.repack(&self.device)? else {
            return Ok(false);
        };
        let left = cache.wider_spans() as u32;
        self.device.wait()?;
        on(Event::SpanRepacked {
            first_frame: r.frames.start as u32,
            frames: (r.frames.end - r.frames.start) as u32,
            bits: r.bits,
            bytes_before: r.bytes_before,
            bytes: r.bytes,
            spans_left: left,
            secs: t0.elapsed().as_secs_f64(),
        });
        on(Event::Memory(self.memory()));
        Ok(true)
    }

    /// Whether spans coded from now on are compared with what they were coded from, for [`Session::span_errors`]. It takes some
    /// time a span and a little device memory beyond the plan.
    ///
    /// # Errors
    /// No device memory.
    pub fn measure_errors(&mut self, is_on: bool) -> Result<(), Error> {
        let cache = self.sampler.cache_mut();
        Ok(cache.measure_errors(&self.device, is_on)?)
    }

    /// Relative L2 errors of K and V of every resident span by layer, oldest first, as far as they were measured.
    pub fn span_errors(&self) -> Vec<SpanErrors> {
        self.sampler.cache().span_errors()
    }

    /// Spans that [`Session::repack_span`] would make narrower.
    pub fn wider_spans(&self) -> usize {
        self.sampler.cache().wider_spans()
    }

    /// Which latent frames the cache holds, and at how many bits, oldest first.
    pub fn held(&self) -> Vec<Held> {
        self.sampler.cache().held()
    }

    /// Runs the given frames on the first call, then makes the next chunk; `None` after the last one, and where the way that
    /// is told so far does not fill a chunk. A chunk of `n` latent frames gives `n` pictures of each, the film's very first
    /// latent frame one ([`DitConfig::pictures`](crate::model::config::DitConfig::pictures)).
    /// `on` hears every event of the chunk.
    ///
    /// # Errors
    /// The device failed, or the network gave values that are no picture, or nothing but blank frames for a while; the session
    /// can only go back then ([`Session::back_to`]).
    pub fn next_chunk(&mut self, on: &mut dyn FnMut(Event)) -> Result<Option<Chunk>, Error> {
        let chunk_frames = self.plan.chunk_frames as usize;
        let first = self.chunks as usize * chunk_frames;
        let n_frames = chunk_frames.min((self.plan.latents as usize).saturating_sub(first));
        if n_frames == 0 || self.film.told() < first + n_frames {
            return Ok(None);
        }
        let config = self.sampler.config();
        let first_picture = config.pictures(first);
        let pictures = (config.pictures(first + n_frames) - first_picture) as u32;
        let first_picture = first_picture as u32;
        if !self.started {
            self.run_given(on)?;
            self.started = true;
            self.sampler.cache_mut().keep_undo(self.past.most());
        }
        let started = Instant::now();
        on(Event::ChunkStarted {
            chunk: self.chunks,
            chunks: self.plan.chunks,
            first_frame: first_picture,
            frames: pictures,
        });
        let renewed_frames = self.renew(on)?;
        self.write_unwritten(on)?;
        if self.set_cue(self.chunks)? || 0 < renewed_frames {
            on(Event::PromptSet {
                chunk: self.chunks,
                first_frame: first_picture,
                renewed_frames,
            });
            if 0 < self.chunks && std::mem::take(&mut self.stays_coded) {
                on(Event::Warning {
                    text: format!(
                        "{} was trained to see its history anew under another prompt, and coded keys and values stay as they are: what the film shows before it weighs on what comes after",
                        self.plan.model
                    ),
                });
            }
        }
        let id = (self.film.given().len() + first) as i64;
        let frames = id..id + n_frames as i64;
        self.denoise(first, frames.clone(), on)?;
        self.unwritten = Some(frames);
        self.model_secs += started.elapsed().as_secs_f64();
        let decoding = Instant::now();
        let latents = self.sampler.latents(n_frames)?;
        let (index, made) = (self.chunks, self.pictures(first, &latents)?);
        let decode_secs = decoding.elapsed().as_secs_f64();
        let seen = self.watch.see(&made);
        // As pictures that are no numbers: the chunk is not announced.
        let blank = seen.iter().find_map(|seen| match seen {
            Seen::Blank(text) => Some(text.clone()),
            _ => None,
        });
        if let Some(text) = blank {
            return Err(Error::Blank(text));
        }
        self.chunks += 1;
        self.recent.take_in(&latents, self.sampler.frame_values());
        self.keep_past(latents);
        on(Event::FramesReady {
            chunk: index,
            first_frame: first_picture,
            frames: pictures,
            secs: started.elapsed().as_secs_f64(),
            decode_secs,
        });
        on(Event::Memory(self.memory()));
        on(Event::Kv(Box::new(self.kv())));
        for seen in seen {
            match seen {
                Seen::Drift(drift) => on(Event::Drift(Box::new(drift))),
                Seen::Warning(text) => on(Event::Warning { text }),
                Seen::Blank(_) => {}
            }
        }
        Ok(Some(Chunk {
            index,
            frames: made,
        }))
    }

    /// The last finished chunk's pictures once more, where a window on the same device finds them; the same bytes as those that
    /// [`Session::next_chunk`] gave. `None`: no chunk was finished since the film began or was cut back to its beginning, the
    /// model's latents are no pictures, or the device lends nothing to a window.
    ///
    /// # Errors
    /// No device memory; the device failed.
    pub fn device_pictures(&self) -> Result<Option<Pictures>, Error> {
        match &self.unwritten {
            Some(frames) if matches!(self.film, Film::Walk(_)) && self.device.lend().is_some() => {
                Ok(Some(self.sampler.pictures(frames.clone().count())?))
            }
            _ => Ok(None),
        }
    }

    /// Device bytes by purpose, now and at most.
    pub fn memory(&self) -> MemoryUse {
        let l = self.device.ledger();
        MemoryUse {
            weights_bytes: l.bytes(Purpose::Weights),
            cache_bytes: l.bytes(Purpose::Cache),
            spans_bytes: l.bytes(Purpose::Spans),
            activations_bytes: l.bytes(Purpose::Activations),
            scratch_bytes: l.bytes(Purpose::Scratch),
            viewer_bytes: l.bytes(Purpose::Viewer),
            device_bytes: l.total(),
            peak_device_bytes: l.peak(),
        }
    }

    /// What the cache holds, byte by byte.
    pub fn kv(&self) -> KvFigures {
        self.sampler.cache().figures()
    }

    /// How far the film has drifted from its beginning.
    pub fn drift(&self) -> DriftSummary {
        self.watch.summary()
    }

    /// The layers that wait in main memory, and the bytes uploaded for them so far.
    pub fn offload(&self) -> (Offload, u64) {
        (self.plan.offload, self.sampler.uploaded_bytes())
    }

    /// Seconds the network itself ran for generated frames, given frames left out.
    pub fn model_secs(&self) -> f64 {
        self.model_secs
    }

    /// Runs every given frame once, in order: its keys and values are all that the film knows of the place.
    fn run_given(&mut self, on: &mut dyn FnMut(Event)) -> Result<(), Error> {
        for i in 0..self.film.given().len() {
            let (t0, frames) = (Instant::now(), i as i64..i as i64 + 1);
            let latents = decode::from_frame(&self.film.given()[i]);
            self.sampler.begin(frames.clone(), &latents)?;
            let poses = self.film.given_pose(i);
            if i == 0 {
                let pass = |s: &mut Sampler| s.write_cache(frames.clone(), &poses);
                self.compile(on, pass)?;
            }
            self.sampler.write_cache(frames, &poses)?;
            self.sampler.wait()?;
            let timestep = self.sampler.schedule().context_timestep;
            on(Event::PassDone {
                kind: PassKind::Given,
                chunk: i as u32,
                pass: 0,
                passes: 1,
                timestep,
                secs: t0.elapsed().as_secs_f64(),
            });
        }
        Ok(())
    }

    /// Compiles what a pass will need, and tells how far it is: else the first one would stand still for it without a word.
    fn compile(
        &mut self,
        on: &mut dyn FnMut(Event),
        pass: impl FnOnce(&mut Sampler) -> Result<(), SamplerError>,
    ) -> Result<(), Error> {
        let device = self.device.clone();
        let kernels = device.rehearse(|| pass(&mut self.sampler))?;
        let mut gauge = Gauge::new(LoadStage::Kernels, kernels.len() as u64);
        for (done, kernel) in (0..).zip(&kernels) {
            gauge.tell(done, on);
            device.compile(kernel)?;
        }
        if !kernels.is_empty() {
            gauge.tell(kernels.len() as u64, on);
        }
        Ok(())
    }

    /// The cache pass of the chunk before: put off until another chunk wants to read it.
    fn write_unwritten(&mut self, on: &mut dyn FnMut(Event)) -> Result<(), Error> {
        let Some(frames) = self.unwritten.take() else {
            return Ok(());
        };
        let t0 = Instant::now();
        let first = frames.start as usize - self.film.given().len();
        let poses = self.film.poses(first, (frames.end - frames.start) as usize);
        // Under the prompt that the chunk was made with.
        self.set_cue(self.chunks - 1)?;
        let steps = self.steps(first, &frames).len() as u32;
        let timestep = self.sampler.schedule().context_timestep;
        self.sampler.write_cache(frames, &poses)?;
        self.sampler.wait()?;
        let (chunk, secs) = (self.chunks - 1, t0.elapsed().as_secs_f64());
        on(Event::PassDone {
            kind: PassKind::Cache,
            chunk,
            pass: steps,
            passes: steps + 1,
            timestep,
            secs,
        });
        Ok(())
    }

    fn denoise(
        &mut self,
        first: usize,
        frames: Range<i64>,
        on: &mut dyn FnMut(Event),
    ) -> Result<(), Error> {
        let (seed, len) = (self.plan.seed, self.sampler.frame_values());
        let draw = |stream: u32, scale: f32| -> Vec<f32> {
            frames
                .clone()
                .flat_map(|f| noise::normal(seed, stream, f, len))
                .map(|v| v * scale)
                .collect()
        };
        let scale = self.sampler.schedule().noise_scale;
        self.sampler.begin(frames.clone(), &draw(START, scale))?;
        let poses = self.film.poses(first, (frames.end - frames.start) as usize);
        let steps = self.steps(first, &frames).to_vec();
        for (pass_index, step) in (0..).zip(&steps) {
            let t0 = Instant::now();
            let mut again = || draw(START + 1 + pass_index, 1.0);
            if self.chunks == 0 && pass_index == 0 {
                let (frames, tape) = (frames.clone(), &mut Tape::blank());
                let pass = |s: &mut Sampler| s.denoise(*step, frames, &poses, &mut again, tape);
                self.compile(on, pass)?;
            }
            self.sampler.denoise(
                *step,
                frames.clone(),
                &poses,
                &mut again,
                &mut Tape::blank(),
            )?;
            self.sampler.wait()?;
            on(Event::PassDone {
                kind: PassKind::Denoise,
                chunk: self.chunks,
                pass: pass_index,
                passes: steps.len() as u32 + 1,
                timestep: step.timestep,
                secs: t0.elapsed().as_secs_f64(),
            });
        }
        Ok(())
    }

    /// Denoising passes of the chunk of `frames`, the first of them frame `first` to make.
    fn steps(&self, first: usize, frames: &Range<i64>) -> &[Step] {
        let (window, sink) = (
            self.plan.window.map(|w| w as usize),
            self.plan.sink as usize,
        );
        let is_new = self.film.is_new(first, window, sink);
        self.sampler.schedule().steps_of(frames.start, is_new)
    }

    /// Sets the prompt of a chunk; whether it was not set yet.
    pub(super) fn set_cue(&mut self, chunk: u32) -> Result<bool, Error> {
        let Film::Text(script) = &self.film else {
            return Ok(false);
        };
        let at = script.cue(chunk);
        if self.cue == Some(at) {
            return Ok(false);
        }
        self.sampler
            .set_text(&script.cues[at].rows, &mut Tape::blank())?;
        self.cue = Some(at);
        Ok(true)
    }

    fn pictures(&mut self, first: usize, latents: &[f32]) -> Result<Vec<Frame>, Error> {
        self.decoder.decode(latents)?.ok_or(Error::BadFrames {
            frame: first,
            chunk: self.chunks,
            device: self.device.caps().title(),
        })
    }
}

/// A stage of loading, told in steps of a fiftieth at least.
struct Gauge {
    stage: LoadStage,
    of: u64,
    told: Option<u64>,
}

impl Gauge {
    fn new(stage: LoadStage, of: u64) -> Gauge {
        Gauge {
            stage,
            of,
            told: None,
        }
    }

    fn event(&self, done: u64) -> Event {
        Event::Loading {
            stage: self.stage,
            done,
            of: self.of,
        }
    }

    fn tell(&mut self, done: u64, on: &mut dyn FnMut(Event)) {
        let step = (self.of / 50).max(1);
        if done == self.of || self.told.is_none_or(|told| told + step <= done) {
            self.told = Some(done);
            on(self.event(done));
        }
    }
}

/// All that can be refused before anything is loaded.
fn check(
    caps: &Caps,
    model: &ModelSource,
    film: &Film,
    frames: usize,
    config: &Config,
) -> Result<(Schedule, Plan), Error> {
    film.check(&model.config, frames)?;
    if matches!(film, Film::Text(_)) && 0 < config.undo_bytes {
        return Err(Error::Setting(
            "a film from text cannot be cut back: its decoder remembers what it has seen".into(),
        ));
    }
    let schedule = Schedule::new(&model.config, config.steps).map_err(Error::Setting)?;
    let film = model.outline(film.given().len(), frames)?;
    let plan = fit::check(caps, &film, config)?;
    Ok((schedule, plan))
}

/// A way longer than the plan has no place in the cache.
fn check_room(frames: usize, most: usize) -> Result<(), Error> {
    if frames <= most {
        return Ok(());
    }
    Err(Error::Setting(format!(
        "a way of {frames} frames is longer than the {most} that the film was planned for; start a longer film"
    )))
}

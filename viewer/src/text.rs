//! Films from text: what one is made of, settled against the files that are here; and what the window shows of its prompts.

use std::path::{Path, PathBuf};

use longtake::media::Recipe;
use longtake::model::config::DitConfig;
use longtake::model::preset::Preset;
use longtake::ops::WeightFormat;
use longtake::rollout::{Config, ModelSource};
use longtake::store::{self, Decoding, Found, Named, Prompter, Ready, Store, placed};
use longtake::text::{EmbeddingCache, Embeddings, MAX_PROMPT, Placed, Prompts};

use crate::fault::{Fault, causes};
use crate::job::Job;
use crate::state::{Phase, State};
use crate::worker::Command;

/// Pictures of a film for which no length was asked: what published models were trained on.
pub const USUAL_FRAMES: usize = 81;
/// Why a film from text cannot be taken back.
pub const NO_WAY_BACK: &str = "A film from text cannot be taken back: its decoder remembers what it has seen. Change the prompt instead, or make the film again.";
/// Why it is not steered.
pub const NO_STEERING: &str =
    "A film from text has no camera to steer: what it shows is in the prompt";
/// Why it is not compared.
pub const NO_COMPARISON: &str = "A film from text is not made twice at once: two of its networks seldom fit one device. Make it again at other bits with the same seed.";

/// What a film from text is made of, beside what it shares with walks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextJob {
    /// A preset's name, a folder, or a file of weights.
    pub model: String,
    /// The preset that weights without a name are run by.
    pub preset: Option<String>,
    /// What the film shows.
    pub prompt: String,
    /// Prompts over the film instead, as [`Prompts::parse`] takes them.
    pub list: Option<String>,
    /// The encoded prompt instead.
    pub embeddings: Option<PathBuf>,
    /// Width and height of a picture; `None`: the model's.
    pub size: Option<[u32; 2]>,
    /// What makes pictures of latents.
    pub decoder: Decoding,
    /// Frames a second that prompts are placed by; `None`: the model's.
    pub fps: Option<u32>,
    /// Where files are looked for beside what `model` says, and encoded prompts kept.
    pub store: Option<Store>,
}

/// A text job held against its files; nothing but names and sizes was read of the weights.
pub struct Settled {
    /// The model.
    pub model: ModelSource,
    /// Settings of the film.
    pub config: Config,
    /// Latent frames, whole chunks.
    pub latents: usize,
    /// The files.
    pub found: Found,
    /// Storage of the encoder's weights.
    pub format: WeightFormat,
    /// Playback rate that prompts are placed by.
    fps: u32,
}

impl TextJob {
    /// The same without its prompts: what a plan depends on.
    pub fn outline(&self) -> TextJob {
        TextJob {
            prompt: String::new(),
            list: None,
            ..self.clone()
        }
    }

    /// The files of the model.
    ///
    /// # Errors
    /// No such model, a preset that there is not.
    pub fn find(&self) -> Result<Found, Fault> {
        let named = Named::of(&self.model).ok_or_else(|| no_model(&self.model))?;
        let preset = match &self.preset {
            Some(name) => Some(Preset::named(name).ok_or_else(|| no_model(name))?),
            None => None,
        };
        named
            .find(preset, self.store.as_ref())
            .map_err(|e| fault(&e))
    }

    /// Finds and opens the model and settles the film.
    ///
    /// # Errors
    /// A model that is not whole here, or settings that do not go with it.
    pub fn settle(&self, job: &Job) -> Result<Settled, Fault> {
        let found = self.find()?;
        found.text_sizes().map_err(|e| fault(&e))?;
        let needs_text = self.embeddings.is_none();
        // The encoder may be left out where the prompt was encoded before.
        let check = found.check(self.decoder, needs_text, false);
        check.map_err(|e| fault(&e))?;
        let c = match self.size {
            Some(size) => sized(&found.config, size)?,
            None => found.config.clone(),
        };
        let (latents, fps) = (c.whole_chunks(job.most), self.fps.unwrap_or(c.fps));
        let format = match job.weights {
            WeightFormat::F32 => WeightFormat::F32,
            _ => WeightFormat::F16,
        };
        let model = found.open(c, self.decoder, format).map_err(|e| fault(&e))?;
        let config = Config {
            positions: found.policy.positions,
            ema_sink: found.policy.ema_sink,
            renew: found.preset.and_then(Preset::renew),
            undo_bytes: 0,
            ..job.config().map_err(|e| Fault::plain(&e))?
        };
        Ok(Settled {
            model,
            config,
            latents,
            found,
            format,
            fps,
        })
    }

    /// The prompts, where each begins, and each on its way to the network; `None` for the prompter: the model's tokenizer is not here.
    ///
    /// # Errors
    /// No prompt, one that is empty or too long, a list that cannot be followed, a damaged tokenizer, files that are missing.
    pub fn read(&self, settled: &Settled) -> Result<Read, Fault> {
        let cache = self.store.as_ref();
        let cache = cache.map(|store| EmbeddingCache::new(&store.embeddings()));
        let prompter =
            Prompter::new(&settled.found, settled.format, cache).map_err(|e| fault(&e))?;
        let text = |what, source| fault(&store::Error::text(what)(source));
        let (prompts, ready) = match (&self.embeddings, &prompter) {
            (Some(path), _) => {
                let (dim, rows) = settled.found.text_sizes().map_err(|e| fault(&e))?;
                let known =
                    Embeddings::load(path, dim, rows).map_err(|e| text("the encoded prompt", e))?;
                let prompts = Prompts::one(&known.source.prompt);
                (prompts, vec![Ready::encoded(known)])
            }
            (None, Some(prompter)) => {
                let prompts = match &self.list {
                    Some(list) => Prompts::parse(Path::new("prompts"), list.as_bytes())
                        .map_err(|e| text("the prompts", e))?,
                    None => Prompts::one(&self.prompt),
                };
                let shots = prompts.shots().iter();
                let ready = shots
                    .map(|shot| prompter.read(&shot.prompt))
                    .collect::<Result<Vec<_>, _>>();
                (prompts, ready.map_err(|e| fault(&e))?)
            }
            (None, None) => {
                let missing = settled.found.check(self.decoder, true, true);
                let missing = missing.err().map(|e| fault(&e));
                return Err(missing.unwrap_or_else(|| no_model(&self.model)));
            }
        };
        let is_new = ready.iter().any(Ready::is_new);
        let check = settled
            .found
            .check(self.decoder, self.embeddings.is_none(), is_new);
        check.map_err(|e| fault(&e))?;
        let at = placed(
            &prompts,
            Path::new("prompts"),
            &settled.model.config,
            settled.fps,
        );
        Ok(Read {
            placed: at.map_err(|e| text("the prompts", e))?,
            ready,
            prompter,
        })
    }

    /// The prompt that the film begins with.
    pub fn first(&self) -> String {
        let list = self.list.as_ref().and_then(|list| {
            let prompts = Prompts::parse(Path::new("prompts"), list.as_bytes()).ok()?;
            Some(prompts.shots().first()?.prompt.clone())
        });
        list.unwrap_or_else(|| self.prompt.clone())
    }

    /// The command that makes the same film again.
    pub fn command(&self, job: &Job, kv: &str) -> String {
        let mut line = format!("longtake generate -m {}", quoted(&self.model));
        let mut add = |text: String| line += &text;
        if let Some(preset) = &self.preset {
            add(format!(" --preset {preset}"));
        }
        match &self.list {
            Some(_) => add(" --prompts prompts.json".to_owned()),
            None => add(format!(" --prompt {}", quoted(&self.prompt))),
        }
        if let Some([w, h]) = self.size {
            add(format!(" --size {w}x{h}"));
        }
        if self.decoder != Decoding::default() {
            add(format!(" --decoder {}", self.decoder.name()));
        }
        add(format!(
            " --frames {} --seed {} --window {} --sink {}{kv}",
            job.most, job.seed, job.window, job.sink
        ));
        line
    }
}

/// Prompts on their way to the network.
pub struct Read {
    /// Where each begins.
    pub placed: Vec<Placed>,
    /// Each, in the same order.
    pub ready: Vec<Ready>,
    /// What reads more of them.
    pub prompter: Option<Prompter>,
}

/// One word of a shell's command line.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn sized(config: &DitConfig, [w, h]: [u32; 2]) -> Result<DitConfig, Fault> {
    let (near_w, near_h) = config.nearest_picture(w, h);
    let wrong = |why: String| Fault {
        causes: vec![why],
        advice: "Change the size in Settings.".to_owned(),
        code: 2,
        ..Fault::plain(&format!("Pictures cannot be {w} × {h}"))
    };
    if [w, h] != [near_w, near_h] {
        return Err(wrong(format!(
            "the model makes pictures of whole tokens; {near_w} × {near_h} is near"
        )));
    }
    let made = config.clone().with_picture(h, w);
    made.map_err(|e| wrong(e.to_string()))
}

fn no_model(name: &str) -> Fault {
    let path = Path::new(name);
    let presets: Vec<&str> = Preset::all().iter().map(|p| p.name.as_str()).collect();
    let cause = match (path.is_dir(), path.is_file()) {
        (true, _) => format!(
            "the folder {path:?} is no text model: it has neither a preset's files nor a config.json with the sizes of one"
        ),
        (_, true) => format!("{path:?} is no file of weights (.safetensors, .pt, .pth)"),
        _ => format!("nothing lies at {path:?}, and no preset has that name"),
    };
    Fault {
        causes: vec![cause, format!("presets: {}", presets.join(", "))],
        advice: "Choose a model in Settings; longtake models tells which are here, longtake fetch NAME brings one.".to_owned(),
        code: 4,
        ..Fault::plain("Model not found")
    }
}

/// What the window says of it.
pub fn fault(error: &store::Error) -> Fault {
    use store::Error as E;
    let (headline, advice, code) = match error {
        E::NotHere(_) => (
            "The model is not whole here",
            "Run longtake fetch with the model's name in a terminal, then start again.",
            4,
        ),
        E::NoText(_) => (
            "The model takes no text",
            "Choose another one in Settings.",
            2,
        ),
        E::EmptyPrompt => (
            "The prompt is empty",
            "Write what the film shows, then start.",
            2,
        ),
        E::WouldNotFit(_) => (
            "The text encoder does not fit the device",
            "Take a shorter window or fewer bits in Settings, or a prompt that was encoded before.",
            3,
        ),
        E::Text {
            what: "the prompt" | "the prompts",
            ..
        } => ("The prompt cannot be used", "Change it, then start.", 2),
        E::Text {
            what: "the encoded prompt",
            ..
        } => ("The encoded prompt cannot be used", "", 2),
        E::Model { source, .. } => {
            return Fault {
                causes: causes(error),
                ..Fault::of(source)
            };
        }
        E::Gpu(_) => ("The device reported an error", "", 1),
        _ => ("The model cannot be read", "", 2),
    };
    Fault {
        causes: causes(error),
        advice: advice.to_owned(),
        code,
        ..Fault::plain(headline)
    }
}

/// What the worker says of prompts.
#[derive(Debug)]
pub enum Told {
    /// One is being encoded.
    Encoding,
    /// One is ready, and in force from that frame on.
    Set {
        /// First frame under it.
        frame: usize,
        /// What it says, cleaned.
        prompt: String,
    },
    /// One cannot be set; the film goes on under the one before.
    Refused(Box<Fault>),
    /// A chunk is made under another prompt than the one before.
    InForce(Mark),
}

/// Where a prompt begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// First frame under it.
    pub frame: usize,
    /// Its chunk.
    pub chunk: u32,
    /// What it says.
    pub prompt: String,
}

/// What the window knows of prompts.
#[derive(Debug, Clone, Default)]
pub struct Pane {
    /// Where each prompt of the film begins.
    pub marks: Vec<Mark>,
    /// One that is ready and waits for its chunk: first frame, prompt.
    pub pending: Option<(usize, String)>,
    /// One is being encoded.
    pub encoding: bool,
    /// What was applied last, as it was typed.
    applied: Option<String>,
    /// Prompts were changed while the film was made.
    changed: bool,
    /// Why the last one was not taken.
    pub refused: Option<Box<Fault>>,
    /// The prompt of the film from text that was left for a walk.
    draft: String,
    /// Where models are looked for.
    pub store: Option<Store>,
    /// The path that is typed.
    pub path: String,
}

/// What applying the prompt in the box does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// A film begins.
    Start,
    /// The film at hand changes.
    Change,
    /// Nothing, and why.
    No(String),
}

impl Mark {
    /// The beginning of what it says.
    pub fn short(&self) -> String {
        const MOST: usize = 60;
        match self.prompt.char_indices().nth(MOST) {
            Some((at, _)) => format!("{}…", &self.prompt[..at]),
            None => self.prompt.clone(),
        }
    }
}

impl Pane {
    /// The prompt that a frame was made under.
    pub fn at(&self, frame: usize) -> Option<&Mark> {
        self.marks.iter().rfind(|m| m.frame <= frame)
    }

    /// A film is asked for.
    pub(crate) fn ask(&mut self, job: &Job) {
        self.applied = job.text.as_deref().map(TextJob::first);
    }

    /// A film begins.
    pub(crate) fn begin(&mut self) {
        self.marks.clear();
        (self.pending, self.refused) = (None, None);
        (self.encoding, self.changed) = (false, false);
    }
}

impl State {
    /// The film at hand is one from text.
    pub fn is_text(&self) -> bool {
        self.film.job.text.is_some()
    }

    /// What applying the prompt does now.
    pub fn way(&self) -> Way {
        let no = |why: &str| Way::No(why.to_owned());
        let Some(text) = &self.job.text else {
            return no("choose a text model in Settings");
        };
        let prompt = text.first();
        let is_encoded = text.embeddings.is_some();
        let runs = match self.phase {
            Phase::Making | Phase::Stopped => self.is_text(),
            Phase::Loading(..) => true,
            _ => false,
        };
        if prompt.trim().is_empty() && (runs || !is_encoded) {
            return no("the prompt is empty; write what the film shows");
        }
        if MAX_PROMPT < prompt.len() {
            return Way::No(format!(
                "the prompt has {} bytes, at most {MAX_PROMPT} are taken; shorten it",
                prompt.len()
            ));
        }
        if !runs {
            return match self.phase {
                Phase::GoingBack(..) => no("the film is being made again"),
                _ => Way::Start,
            };
        }
        if self.text.encoding {
            return no("the prompt before is still being encoded");
        }
        match self.text.applied.as_deref() == Some(&prompt) {
            true => no("this prompt is in force"),
            false => Way::Change,
        }
    }

    /// Applies the prompt in the box: from the next chunk of the film at hand on, or to a new film.
    pub fn apply(&mut self) {
        match self.way() {
            Way::Start => self.start(),
            Way::Change => {
                let prompt = self.job.text.as_deref().map(TextJob::first);
                let prompt = prompt.unwrap_or_default();
                self.text.refused = None;
                self.text.applied = Some(prompt.clone());
                self.command(Command::Prompt(prompt));
            }
            Way::No(why) => self.warn(why),
        }
    }

    /// Chooses the model of the next film: none is the built-in world; a name or path of a text model makes films from text, any other
    /// is a demo world's folder.
    pub fn choose_model(&mut self, name: Option<&str>) {
        let text = name.filter(|name| Named::of(name).is_some());
        let old = self.job.text.clone();
        if let Some(old) = &old {
            self.text.draft.clone_from(&old.prompt);
        }
        let usual = Job::default();
        match (text, name) {
            (Some(name), _) => {
                let kept = TextJob {
                    prompt: self.text.draft.clone(),
                    store: self.text.store.clone(),
                    ..*old.unwrap_or_default()
                };
                let text = TextJob {
                    model: name.to_owned(),
                    preset: None,
                    size: None,
                    ..kept
                };
                self.job.model = None;
                self.job.suit(text);
            }
            (None, name) => {
                self.job.model = name.map(PathBuf::from);
                self.job.text = None;
                if old.is_some() {
                    self.job.most = usual.most;
                    (self.job.window, self.job.sink) = (usual.window, usual.sink);
                    (self.job.span, self.job.recent) = (usual.span, usual.recent);
                }
            }
        }
        self.widths = self.job.widths;
    }

    /// Takes what the worker says of prompts.
    pub(crate) fn told(&mut self, told: Told) {
        let pane = &mut self.text;
        match told {
            Told::Encoding => {
                pane.encoding = true;
                self.say("encoding the prompt; the film waits for it");
            }
            Told::Set { frame, prompt } => {
                (pane.encoding, pane.changed) = (false, true);
                pane.pending = Some((frame, prompt));
                self.say(format!("another prompt from frame {frame} on"));
            }
            Told::Refused(fault) => {
                (pane.encoding, pane.applied) = (false, None);
                let why = fault.causes.last().unwrap_or(&fault.headline).clone();
                pane.refused = Some(fault);
                self.warn(format!("the prompt stays as it was: {why}"));
            }
            Told::InForce(mark) => {
                if pane.pending.as_ref().is_some_and(|(f, _)| *f <= mark.frame) {
                    pane.pending = None;
                }
                // Chunks of a blend are under the prompt that it leads to; a film that is made again says its prompts once more.
                pane.marks.retain(|m| m.chunk < mark.chunk);
                if pane.marks.last().is_none_or(|m| m.prompt != mark.prompt) {
                    pane.marks.push(mark);
                }
            }
        }
    }

    /// The prompts of the film so far as a list that makes it again.
    pub fn prompts(&self) -> Option<String> {
        let text = self.film.job.text.as_ref()?;
        if !self.text.changed {
            // As it was asked for, blends included.
            return text.list.clone();
        }
        let marks = self.text.marks.iter();
        let entries: Vec<_> = marks
            .map(|m| match m.chunk {
                0 => serde_json::json!({ "prompt": m.prompt }),
                chunk => serde_json::json!({ "chunk": chunk, "prompt": m.prompt }),
            })
            .collect();
        let list = serde_json::json!({ "prompts": entries });
        (!self.text.marks.is_empty()).then(|| format!("{list:#}\n"))
    }

    /// The settings that make the film at hand again, prompts that were changed on the way included.
    pub(crate) fn same(&self) -> Job {
        let mut job = self.film.job.clone();
        let list = self.prompts();
        if let Some(text) = &mut job.text {
            text.list = list;
        }
        job
    }

    /// Saves the prompts as a file that `longtake generate --prompts` takes.
    pub fn save_prompts(&mut self) {
        let one = || {
            let prompt = &self.film.job.text.as_ref()?.prompt;
            Some(format!("{:#}\n", Prompts::one(prompt).to_json()))
        };
        if let Some(text) = self.prompts().or_else(one) {
            self.effects.push(crate::state::Effect::Save {
                name: format!("{}-seed{}.prompts.json", self.film.name, self.film.job.seed),
                bytes: text.into_bytes(),
            });
        }
    }

    /// What made a film from text, in its recipe.
    pub(crate) fn text_recipe(&self, recipe: &mut Recipe) {
        let Some(text) = &self.film.job.text else {
            return;
        };
        let list = self.prompts();
        let list = list.and_then(|list| serde_json::from_str::<serde_json::Value>(&list).ok());
        match list {
            Some(list) => recipe.set("prompts", list),
            None => recipe.set("prompt", text.prompt.clone()),
        };
        recipe.set("decoder", text.decoder.name());
        if let Some(preset) = &text.preset {
            recipe.set("preset", preset.clone());
        }
    }
}

impl Job {
    /// Makes films from text of it, by the rules that the model was made for, as far as they can be read.
    pub fn suit(&mut self, text: TextJob) {
        let found = text.find().ok();
        let policy = found.as_ref().map(|f| f.policy).unwrap_or_default();
        self.window = policy.window.frames.map_or(0, |n| n as u32);
        self.sink = policy.window.sink as u32;
        // A span is a chunk: frames of text models have tokens enough, and longer ones would leave most of a short film exact.
        self.span = found.as_ref().map_or(3, |f| f.config.chunk_frames);
        (self.recent, self.exact) = (0, 1);
        if self.text.is_none() {
            self.most = USUAL_FRAMES;
        }
        self.text = Some(Box::new(text));
    }
}

/// What is left of a preset to fetch: none where it is whole here, else why not.
pub fn lacks(preset: &'static Preset, store: Option<&Store>, decoder: Decoding) -> Option<String> {
    let found = Named::Preset(preset).find(None, store);
    match found.and_then(|found| found.check(decoder, true, true)) {
        Ok(()) => None,
        Err(why) => Some(why.to_string()),
    }
}

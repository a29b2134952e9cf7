//! Films from text: the model's files, the size, the prompts; and the prompts encoded before the network is loaded, so that
//! memory holds one of them at a time.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use longtake::cache::{Policy, Sink};
use longtake::gpu::Device;
use longtake::model::config::DitConfig;
use longtake::model::preset::Preset;
use longtake::ops::WeightFormat;
use longtake::rollout::event::Event;
use longtake::rollout::{ModelSource, Script, Turn};
use longtake::store::{self, Decoding, Found, Named, Prompter, Ready};
use longtake::text::{EmbeddingCache, Embeddings, MAX_PROMPT, Placed, Prompts};
use longtake::weights;

use super::args::{GenerateArgs, LengthArgs, NetworkArgs, Precision, TextArgs, WorldArgs};
use super::fault::Fault;
use super::report::Reporter;
use super::{job, models, target};

/// Pictures of a film for which nothing was asked: what published models were trained on.
const DEFAULT_FRAMES: usize = 81;

/// A film from text, settled.
#[derive(Debug)]
pub(super) struct TextScene {
    pub(super) model: ModelSource,
    /// The preset that files or a folder are run by, where it is not the model's own name.
    pub(super) preset: Option<&'static str>,
    pub(super) decoder: Decoding,
    /// What was asked, as it was told.
    pub(super) prompts: Prompts,
    placed: Vec<Placed>,
    /// One a prompt.
    ready: Vec<Ready>,
    /// None where they all come encoded.
    prompter: Option<Prompter>,
    save: Option<PathBuf>,
    latents: usize,
    pub(super) frames: usize,
    pub(super) fps: u32,
    /// What the model is run with where nothing else is asked.
    pub(super) policy: Policy,
    /// What becomes of the sink when a prompt has the cache computed anew; `None`: none has.
    pub(super) renew: Option<Sink>,
    pub(super) warnings: Vec<String>,
}

impl TextScene {
    /// Settles the film; nothing runs yet, and of the weights no more than names and sizes are read.
    ///
    /// # Errors
    /// Flags that a text model has no use for or that contradict each other, files that are missing, damaged or of another model.
    pub(super) fn new(named: &Named, args: &GenerateArgs) -> anyhow::Result<TextScene> {
        let text = &args.text;
        check_flags(args)?;
        let found = find(named, text)?;
        let (_, text_len) = found.text_sizes().context("--model")?;
        let config = match text.size {
            Some(size) => size.of(&found.config)?,
            None => found.config.clone(),
        };
        let format = side_format(&args.network);
        let decoder = text.decoder.map_or(Decoding::Taehv, Into::into);
        let mut warnings: Vec<String> = found.guess.iter().map(|path| {
            let preset = found.preset.map_or("", |p| &p.name);
            format!("no preset knows {path:?} by name; it is run as {preset}, --preset says otherwise")
        }).collect();
        let (prompts, ready, prompter) = match &text.embeddings {
            Some(path) => {
                found.check(decoder, false, false)?;
                let (dim, text_len) = found.text_sizes()?;
                let known = Embeddings::load(path, dim, text_len).context("--embeddings")?;
                let prompts = Prompts::one(&known.source.prompt);
                (prompts, vec![Ready::encoded(known)], None)
            }
            None => {
                let prompts = prompts(text)?;
                let store = super::store::from_env(text.comfyui.clone());
                // Where no home folder is known, nothing is kept.
                let cache = store.map(|store| EmbeddingCache::new(&store.embeddings()));
                let prompter = Prompter::new(&found, format, cache)?;
                let known = read(&found, decoder, &prompts, prompter.as_ref())?;
                (prompts, known, prompter)
            }
        };
        warnings.extend(ready.iter().filter_map(|ready| ready.warning(text_len)));
        let fps = args.output.fps.unwrap_or(config.fps);
        let (latents, frames) = length(&args.length, &config, fps, &mut warnings)?;
        let path = text.prompts.as_deref().unwrap_or(Path::new("the recipe"));
        let placed = store::placed(&prompts, path, &config, fps).context("--prompts")?;
        if let [.., last] = &placed[..]
            && latents / config.chunk_frames as usize <= last.chunk as usize
        {
            warnings.push(format!(
                "the last prompt begins with chunk {}, and the film has {}",
                last.chunk,
                latents / config.chunk_frames as usize
            ));
        }
        let several = prompts.single().is_none();
        if let Some(path) = &text.save_embeddings {
            if several {
                return Err(Fault::Usage(
                    "--save-embeddings writes one prompt; the film has several".into(),
                )
                .into());
            }
            weights::check_free(path, target::existing(args.output.overwrite))
                .context("--save-embeddings")?;
        }
        Ok(TextScene {
            model: found.open(config, decoder, format).context("--model")?,
            preset: found
                .preset
                .map(|p| p.name.as_str())
                .filter(|name| *name != found.name),
            decoder,
            prompts,
            placed,
            ready,
            prompter,
            save: text.save_embeddings.clone(),
            latents,
            frames,
            fps,
            policy: found.policy,
            renew: found.preset.and_then(Preset::renew).filter(|_| several),
            warnings,
        })
    }

    /// The film without its prompts, for a plan.
    pub(super) fn outline(&self) -> Script {
        Script {
            cues: Vec::new(),
            latents: self.latents,
        }
    }

    /// Encodes what is not encoded yet and gives the whole script. The encoder is gone from the device afterwards.
    ///
    /// # Errors
    /// An encoder that does not fit the device or is damaged; a file that cannot be written.
    pub(super) fn encode(
        &self,
        device: &Device,
        overwrite: bool,
        reporter: &mut Reporter,
    ) -> anyhow::Result<Script> {
        let c = &self.model.config;
        let mut turns = Vec::with_capacity(self.ready.len());
        for (ready, placed) in self.ready.iter().zip(&self.placed) {
            let begun = Instant::now();
            let (embeddings, cached) = match ready.known() {
                Some(known) => (known.clone(), true),
                None => self.run_encoder(device, ready, reporter)?,
            };
            reporter.event(&Event::TextEncoded {
                prompt: embeddings.source.prompt.clone(),
                tokens: embeddings.n_tokens() as u32,
                lost: ready.lost as u32,
                cached,
                secs: begun.elapsed().as_secs_f64(),
            });
            if let Some(path) = &self.save {
                embeddings
                    .save(path, target::existing(overwrite))
                    .context("--save-embeddings")?;
                reporter.event(&Event::Saved {
                    path: path.to_string_lossy().into_owned(),
                });
            }
            turns.push(Turn {
                chunk: placed.chunk,
                blend: placed.blend,
                rows: embeddings.rows,
            });
        }
        let chunks = self.latents / c.chunk_frames as usize;
        Ok(Script::new(&turns, chunks as u32, self.latents))
    }

    fn run_encoder(
        &self,
        device: &Device,
        ready: &Ready,
        reporter: &Reporter,
    ) -> anyhow::Result<(Embeddings, bool)> {
        let Some(prompter) = &self.prompter else {
            return Err(Fault::NotFetched("the tokenizer is not here any more".into()).into());
        };
        if let Some(path) = prompter.encoder() {
            reporter.detail(&format!("encoding the prompt with {}", path.display()));
        }
        let made = prompter.encode(device, ready)?;
        Ok((made.embeddings, made.cached))
    }
}

/// The model's files, run as `--preset` says.
fn find(named: &Named, text: &TextArgs) -> anyhow::Result<Found> {
    let asked = text.preset.as_deref().map(models::preset).transpose()?;
    let no = |why: String| Err(Fault::Usage(why).into());
    match (asked, named) {
        (Some(asked), Named::Preset(own)) if asked != *own => no(format!(
            "--model {} and --preset {} are two models; give one of them",
            own.name, asked.name
        )),
        (Some(asked), Named::Folder(folder)) => no(format!(
            "--preset {}: {folder:?} says its own sizes and steps in config.json",
            asked.name
        )),
        (_, Named::Preset(_)) => {
            let store = models::store(text.comfyui.clone())?;
            Ok(named.find(None, Some(&store))?)
        }
        _ => {
            let store = super::store::from_env(text.comfyui.clone());
            Ok(named.find(asked, store.as_ref()).context("--model")?)
        }
    }
}

/// Refuses flags that belong to demo worlds, and those that no text model of today has a use for.
fn check_flags(args: &GenerateArgs) -> Result<(), Fault> {
    let WorldArgs {
        camera,
        film,
        given,
        on_wall,
    } = &args.world;
    for (is_set, flag) in [
        (camera.is_some(), "--camera"),
        (film.is_some(), "--film"),
        (given.is_some(), "--given"),
        (on_wall.is_some(), "--on-wall"),
        (args.output.show_given, "--show-given"),
    ] {
        if is_set {
            return Err(Fault::Usage(format!(
                "{flag} is for demo worlds; a text model has no place to walk through"
            )));
        }
    }
    if args.text.negative_prompt.is_some() {
        return Err(Fault::Usage(
            "--negative-prompt has no effect on this model: it was distilled to run without guidance, and takes what \
             should be seen, not what should not; leave it out"
                .into(),
        ));
    }
    Ok(())
}

/// Refuses the flags of text models for a demo world.
pub(super) fn refuse_for_world(args: &TextArgs) -> Result<(), Fault> {
    let TextArgs {
        words,
        prompt,
        prompts,
        negative_prompt,
        size,
        decoder,
        embeddings,
        save_embeddings,
        preset,
        // Where files are looked for says nothing about the film.
        comfyui: _,
        stored,
    } = args;
    let set = [
        (words.is_some() || prompt.is_some(), "a prompt"),
        (prompts.is_some() || stored.is_some(), "--prompts"),
        (negative_prompt.is_some(), "--negative-prompt"),
        (size.is_some(), "--size"),
        (decoder.is_some(), "--decoder"),
        (embeddings.is_some(), "--embeddings"),
        (save_embeddings.is_some(), "--save-embeddings"),
        (preset.is_some(), "--preset"),
    ];
    match set.iter().find(|(is_set, _)| *is_set) {
        Some((_, what)) => Err(Fault::Usage(format!(
            "{what} is for text models, this is a demo world; add --model self-forcing (longtake models lists others)"
        ))),
        None => Ok(()),
    }
}

/// Storage of the text encoder and of Wan's decoder: blocks of few bits are for the network alone.
pub(super) fn side_format(network: &NetworkArgs) -> WeightFormat {
    match network.weights {
        Some(Precision::F32) => WeightFormat::F32,
        _ => WeightFormat::F16,
    }
}

/// What the film is to show.
fn prompts(text: &TextArgs) -> anyhow::Result<Prompts> {
    if let Some(path) = &text.prompts {
        return Prompts::open(path).context("--prompts");
    }
    let typed = text.words.as_ref().or(text.prompt.as_ref());
    let prompt = match (typed, &text.stored) {
        (Some(prompt), _) if prompt == "-" => from_stdin()?,
        (Some(prompt), _) => prompt.clone(),
        (None, Some(stored)) => return Ok(stored.clone()),
        (None, None) => {
            return Err(Fault::Usage(
                "a text model needs a prompt: longtake generate -m MODEL \"a red fox in snow\""
                    .into(),
            )
            .into());
        }
    };
    Ok(Prompts::one(&prompt))
}

fn from_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    // One byte more than is taken tells the tokenizer that there is more.
    std::io::stdin()
        .lock()
        .take(MAX_PROMPT as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|why| {
            Fault::Usage(format!(
                "the prompt on standard input cannot be read: {why}"
            ))
        })?;
    Ok(text)
}

/// Every prompt in tokens, or encoded where that was done before; holds the files to be here that the rest takes.
fn read(
    found: &Found,
    decoder: Decoding,
    prompts: &Prompts,
    prompter: Option<&Prompter>,
) -> anyhow::Result<Vec<Ready>> {
    let Some(prompter) = prompter else {
        found.check(decoder, true, true)?;
        return Ok(Vec::new());
    };
    let shots = prompts.shots().iter();
    let all: Vec<Ready> = shots
        .map(|shot| prompter.read(&shot.prompt))
        .collect::<Result<_, _>>()?;
    found.check(decoder, true, all.iter().any(Ready::is_new))?;
    Ok(all)
}

/// Latent frames and pictures of the film: whole chunks.
fn length(
    length: &LengthArgs,
    config: &DitConfig,
    fps: u32,
    warnings: &mut Vec<String>,
) -> Result<(usize, usize), Fault> {
    let asked = job::frames(length, config, fps)?;
    let latents = config.whole_chunks(asked.unwrap_or(DEFAULT_FRAMES));
    let frames = config.pictures(latents);
    if let Some(asked) = asked.filter(|asked| *asked != frames) {
        warnings.push(format!(
            "the film gets {frames} frames instead of {asked}: whole chunks of {}, the first of {}",
            config.chunk_frames * config.cell_frames,
            config.pictures(config.chunk_frames as usize)
        ));
    }
    Ok((latents, frames))
}

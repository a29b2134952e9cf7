//! Films from text: the model's files, the size, the prompts; and the prompts encoded before the network is loaded, so that
//! memory holds one of them at a time.

mod files;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use longtake::cache::{Policy, Sink};
use longtake::decode::{DecoderSource, WanOptions};
use longtake::gpu::Device;
use longtake::model::Lora;
use longtake::model::config::{Cross, DitConfig};
use longtake::model::preset::Preset;
use longtake::ops::WeightFormat;
use longtake::rollout::event::Event;
use longtake::rollout::{self, ModelSource, Script, Turn};
use longtake::text::{
    EmbeddingCache, Embeddings, MAX_PROMPT, Placed, Prompts, Source, Umt5, embed,
};
use longtake::weights::{self, Weights};

use self::files::Found;
use super::args::{
    DecoderArg, GenerateArgs, LengthArgs, NetworkArgs, Precision, TextArgs, WorldArgs,
};
use super::fault::Fault;
use super::report::Reporter;
use super::store::Store;
use super::{job, say, target};

pub(super) use self::files::Named;

/// Pictures of a film for which nothing was asked: what published models were trained on.
const DEFAULT_FRAMES: usize = 81;

/// A film from text, settled.
#[derive(Debug)]
pub(super) struct TextScene {
    pub(super) model: ModelSource,
    /// The preset that files or a folder are run by, where it is not the model's own name.
    pub(super) preset: Option<&'static str>,
    pub(super) decoder: DecoderArg,
    /// What was asked, as it was told.
    pub(super) prompts: Prompts,
    placed: Vec<Placed>,
    /// One a prompt.
    ready: Vec<Ready>,
    cache: Option<EmbeddingCache>,
    encoder: Option<PathBuf>,
    format: WeightFormat,
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

/// A prompt on its way to the network.
#[derive(Debug)]
struct Ready {
    state: State,
    /// Tokens that found no room.
    lost: usize,
}

#[derive(Debug)]
enum State {
    /// Encoded, and kept somewhere.
    Encoded(Embeddings),
    /// Cut into tokens.
    Tokens(Source),
}

impl Ready {
    fn prompt(&self) -> &str {
        match &self.state {
            State::Encoded(embeddings) => &embeddings.source.prompt,
            State::Tokens(source) => &source.prompt,
        }
    }
}

impl TextScene {
    /// Settles the film; nothing runs yet, and of the weights no more than names and sizes are read.
    ///
    /// # Errors
    /// Flags that a text model has no use for or that contradict each other, files that are missing, damaged or of another model.
    pub(super) fn new(named: &Named, args: &GenerateArgs) -> anyhow::Result<TextScene> {
        let text = &args.text;
        check_flags(args)?;
        let found = named.find(text.preset.as_deref(), text.comfyui.clone())?;
        let config = match text.size {
            Some(size) => size.of(&found.config)?,
            None => found.config.clone(),
        };
        let Cross::Separate { text_dim, text_len } = config.cross else {
            return Err(Fault::Usage(format!("--model: {} takes no text", found.name)).into());
        };
        let sizes = (text_dim as usize, text_len as usize);
        let format = side_format(&args.network);
        let decoder = text.decoder.unwrap_or(DecoderArg::Taehv);
        let mut warnings: Vec<String> = found.note.iter().cloned().collect();
        // Where no home folder is known, nothing is kept.
        let store = Store::from_env(text.comfyui.clone());
        let cache = store.map(|store| EmbeddingCache::new(&store.embeddings()));
        let (prompts, ready) = match &text.embeddings {
            Some(path) => {
                found.check(decoder, false, false)?;
                let known = Embeddings::load(path, sizes.0, sizes.1).context("--embeddings")?;
                let prompts = Prompts::one(&known.source.prompt);
                let known = Ready {
                    state: State::Encoded(known),
                    lost: 0,
                };
                (prompts, vec![known])
            }
            None => {
                let prompts = prompts(text)?;
                let known = tokens(&found, decoder, &prompts, sizes, cache.as_ref(), format)?;
                (prompts, known)
            }
        };
        for ready in ready.iter().filter(|ready| 0 < ready.lost) {
            warnings.push(format!(
                "the prompt {:?} is {} too long for the model, which reads the first {}; what is behind them has no effect",
                start_of(ready.prompt()),
                say::n(ready.lost as u32, "token"),
                sizes.1
            ));
        }
        let fps = args.output.fps.unwrap_or(config.fps);
        let (latents, frames) = length(&args.length, &config, fps, &mut warnings)?;
        let placed = placed(&prompts, text, &config, fps)?;
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
            model: open(&found, config, decoder, format)?,
            preset: found
                .preset
                .map(|p| p.name.as_str())
                .filter(|name| *name != found.name),
            decoder,
            prompts,
            placed,
            ready,
            cache,
            encoder: found.encoder,
            format,
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
            let (embeddings, cached) = match &ready.state {
                State::Encoded(embeddings) => (embeddings.clone(), true),
                State::Tokens(source) => {
                    let made = self.run_encoder(device, source, ready.lost, reporter)?;
                    (made.embeddings, made.cached)
                }
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
        source: &Source,
        lost: usize,
        reporter: &Reporter,
    ) -> anyhow::Result<longtake::text::Prompted> {
        let Some(path) = &self.encoder else {
            return Err(Fault::NotFetched("the text encoder is not here any more".into()).into());
        };
        let Cross::Separate { text_dim, text_len } = self.model.config.cross else {
            return Err(Fault::Usage("the model takes no text".into()).into());
        };
        self.check_encoder_fits(device, path, source.ids.len())?;
        reporter.detail(&format!("encoding the prompt with {}", path.display()));
        let made = embed(
            device,
            (source.clone(), lost),
            (text_dim as usize, text_len as usize),
            self.cache.as_ref(),
            || Ok(Weights::open(path)?),
            self.format,
        )
        .context("the text encoder")?;
        device.wait()?;
        Ok(made)
    }

    /// Refuses, with numbers, an encoder whose largest part the device cannot hold.
    fn check_encoder_fits(&self, device: &Device, path: &Path, rows: usize) -> anyhow::Result<()> {
        let Some(have) = device.caps().memory_bytes else {
            return Ok(());
        };
        let weights = Weights::open(path).context("the text encoder")?;
        let encoder = Umt5::new(&weights, self.format).context("the text encoder")?;
        let bytes = encoder.bytes(device.caps(), rows);
        let need = bytes.weights + bytes.activations;
        if need <= have {
            return Ok(());
        }
        Err(rollout::Error::WouldNotFit(format!(
            "the text encoder on {} would not fit: {} are needed, {} are free; encode the prompt on another device (--save-embeddings) and give it here with --embeddings",
            device.caps().title(),
            say::mib(need),
            say::mib(have)
        ))
        .into())
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

/// The network and the decoder, held to their names and sizes.
fn open(
    found: &Found,
    config: DitConfig,
    decoder: DecoderArg,
    format: WeightFormat,
) -> anyhow::Result<ModelSource> {
    let (Some(generator), Some(path)) = (&found.generator, found.decoder(decoder)) else {
        return Err(Fault::NotFetched(format!("{} is not whole here", found.name)).into());
    };
    let parts: Vec<&str> = found.parts.iter().map(String::as_str).collect();
    let weights = Weights::open_part(generator, &parts).context("--model")?;
    weights
        .check(config.family.name(), &config.tensors())
        .context("--model")?;
    let pictures = Weights::open(path).context("the decoder")?;
    let decoder = match decoder {
        DecoderArg::Taehv => DecoderSource::Taehv(pictures),
        DecoderArg::Wan => {
            let options = WanOptions {
                format,
                ..WanOptions::default()
            };
            DecoderSource::Wan(pictures, options)
        }
    };
    decoder
        .shape()
        .map_err(rollout::Error::from)
        .context("the decoder")?;
    let lora = found.preset.and_then(|preset| preset.lora.as_ref());
    let lora = match (lora, &found.lora) {
        (Some(change), Some(path)) => {
            Some(Lora::open(path, &config, change).context("the preset's change of weights")?)
        }
        _ => None,
    };
    Ok(ModelSource {
        name: found.name.clone(),
        config,
        weights,
        lora,
        decoder,
    })
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
    match prompt.trim().is_empty() {
        true => Err(Fault::Usage("the prompt is empty; say what the film shows".into()).into()),
        false => Ok(Prompts::one(&prompt)),
    }
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
fn tokens(
    found: &Found,
    decoder: DecoderArg,
    prompts: &Prompts,
    sizes: (usize, usize),
    cache: Option<&EmbeddingCache>,
    format: WeightFormat,
) -> anyhow::Result<Vec<Ready>> {
    let Some(tokenizer) = &found.tokenizer else {
        found.check(decoder, true, true)?;
        return Ok(Vec::new());
    };
    let tokenizer = files::tokenizer(tokenizer).context("the tokenizer")?;
    let name = format!("{} {}", found.encoder_name, format.name());
    let ready = |prompt: &str| -> anyhow::Result<Ready> {
        let (source, lost) = Source::new(&name, &tokenizer, prompt, sizes.1)?;
        let known = cache.and_then(|cache| cache.get(&source, sizes.0, sizes.1));
        let state = match known {
            Some(embeddings) => State::Encoded(embeddings),
            None => State::Tokens(source),
        };
        Ok(Ready { state, lost })
    };
    let all: Vec<Ready> = prompts
        .shots()
        .iter()
        .map(|shot| ready(&shot.prompt))
        .collect::<Result<_, _>>()?;
    let is_new = all.iter().any(|r| matches!(r.state, State::Tokens(_)));
    found.check(decoder, true, is_new)?;
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

/// The chunk that each prompt begins with.
fn placed(
    prompts: &Prompts,
    text: &TextArgs,
    config: &DitConfig,
    fps: u32,
) -> anyhow::Result<Vec<Placed>> {
    // Beyond what any film has, so that nothing overflows.
    let most = f64::from(super::values::max_frames()) * 4.0;
    let chunk_at = |secs: f64| {
        let picture = (secs * f64::from(fps)).ceil().min(most);
        config.chunk_from(picture as usize) as u32
    };
    let path = text.prompts.as_deref().unwrap_or(Path::new("the recipe"));
    prompts.placed(path, chunk_at).context("--prompts")
}

/// The first words of a prompt.
fn start_of(prompt: &str) -> String {
    const MOST: usize = 40;
    match prompt.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &prompt[..at]),
        None => prompt.to_owned(),
    }
}

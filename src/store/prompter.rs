//! From a prompt to the rows that a network takes: read into tokens at once, encoded when there is a device.

use std::path::{Path, PathBuf};

use super::model::tokenizer;
use super::{Error, Found};
use crate::gpu::Device;
use crate::model::config::DitConfig;
use crate::ops::WeightFormat;
use crate::text::{
    self, EmbeddingCache, Embeddings, Placed, Prompted, Prompts, Source, Tokenizer, Umt5, embed,
};
use crate::weights::Weights;

/// What a text model has to read prompts with.
#[derive(Debug)]
pub struct Prompter {
    tokenizer: Tokenizer,
    encoder: Option<PathBuf>,
    /// What the encoder is called where encoded prompts are kept.
    name: String,
    /// Width of a row, and rows at most.
    sizes: (usize, usize),
    format: WeightFormat,
    cache: Option<EmbeddingCache>,
}

/// A prompt on its way to the network.
#[derive(Debug, Clone)]
pub struct Ready {
    state: State,
    /// Tokens that found no room.
    pub lost: usize,
}

#[derive(Debug, Clone)]
enum State {
    /// Encoded, and kept somewhere.
    Encoded(Embeddings),
    /// Cut into tokens.
    Tokens(Source),
}

impl Ready {
    /// One that was encoded elsewhere.
    pub fn encoded(embeddings: Embeddings) -> Ready {
        Ready {
            state: State::Encoded(embeddings),
            lost: 0,
        }
    }

    /// The prompt, cleaned.
    pub fn prompt(&self) -> &str {
        match &self.state {
            State::Encoded(embeddings) => &embeddings.source.prompt,
            State::Tokens(source) => &source.prompt,
        }
    }

    /// Its rows, where it is encoded.
    pub fn known(&self) -> Option<&Embeddings> {
        match &self.state {
            State::Encoded(embeddings) => Some(embeddings),
            State::Tokens(_) => None,
        }
    }

    /// It waits for the encoder.
    pub fn is_new(&self) -> bool {
        self.known().is_none()
    }

    /// What to say where the prompt is longer than the model reads.
    pub fn warning(&self, text_len: usize) -> Option<String> {
        const MOST: usize = 40;
        let prompt = self.prompt();
        let start = match prompt.char_indices().nth(MOST) {
            Some((at, _)) => format!("{}…", &prompt[..at]),
            None => prompt.to_owned(),
        };
        let tokens = if self.lost == 1 { "token" } else { "tokens" };
        (0 < self.lost).then(|| {
            format!(
                "the prompt {start:?} is {} {tokens} too long for the model, which reads the first {text_len}; what is behind them has no effect",
                self.lost
            )
        })
    }
}

impl Prompter {
    /// `format`: storage of the encoder's weights; `cache`: where encoded prompts are kept. `None` where the model's tokenizer is
    /// not here.
    ///
    /// # Errors
    /// A tokenizer that is damaged or of another kind, a network that takes no text.
    pub fn new(
        found: &Found,
        format: WeightFormat,
        cache: Option<EmbeddingCache>,
    ) -> Result<Option<Prompter>, Error> {
        let sizes = found.text_sizes()?;
        let Some(path) = &found.tokenizer else {
            return Ok(None);
        };
        let tokenizer = tokenizer(path)?;
        Ok(Some(Prompter {
            tokenizer,
            encoder: found.encoder.clone(),
            name: format!("{} {}", found.encoder_name, format.name()),
            sizes,
            format,
            cache,
        }))
    }

    /// Rows that the network takes at most.
    pub fn text_len(&self) -> usize {
        self.sizes.1
    }

    /// The encoder's file.
    pub fn encoder(&self) -> Option<&Path> {
        self.encoder.as_deref()
    }

    /// Cuts a prompt into tokens, or finds it encoded.
    ///
    /// # Errors
    /// An empty prompt or one beyond all use.
    pub fn read(&self, prompt: &str) -> Result<Ready, Error> {
        let (source, lost) = Source::new(&self.name, &self.tokenizer, prompt, self.sizes.1)
            .map_err(Error::text("the prompt"))?;
        if source.prompt.trim().is_empty() {
            return Err(Error::EmptyPrompt);
        }
        let cache = self.cache.as_ref();
        let known = cache.and_then(|cache| cache.get(&source, self.sizes.0, self.sizes.1));
        let state = match known {
            Some(embeddings) => State::Encoded(embeddings),
            None => State::Tokens(source),
        };
        Ok(Ready { state, lost })
    }

    /// The rows of a prompt. The encoder is gone from the device afterwards.
    ///
    /// # Errors
    /// An encoder that is not here, has no room beside what the device holds, or is damaged; the device failed.
    pub fn encode(&self, device: &Device, ready: &Ready) -> Result<Prompted, Error> {
        let source = match &ready.state {
            State::Encoded(embeddings) => {
                return Ok(Prompted {
                    embeddings: embeddings.clone(),
                    lost: ready.lost,
                    cached: true,
                });
            }
            State::Tokens(source) => source,
        };
        let Some(path) = &self.encoder else {
            return Err(Error::NotHere("the text encoder is not here".to_owned()));
        };
        self.check_fits(device, path, source.ids.len())?;
        let made = embed(
            device,
            (source.clone(), ready.lost),
            self.sizes,
            self.cache.as_ref(),
            || Ok(Weights::open(path)?),
            self.format,
        )
        .map_err(Error::text("the text encoder"))?;
        device.wait()?;
        Ok(made)
    }

    /// Refuses, with numbers, an encoder whose largest part the device cannot hold beside what it holds now.
    fn check_fits(&self, device: &Device, path: &Path, rows: usize) -> Result<(), Error> {
        let Some(have) = device.caps().memory_bytes else {
            return Ok(());
        };
        let free = have.saturating_sub(device.ledger().total());
        let what = "the text encoder";
        let weights = Weights::open(path).map_err(Error::weights(what))?;
        let encoder = Umt5::new(&weights, self.format).map_err(Error::text(what))?;
        let bytes = encoder.bytes(device.caps(), rows);
        let need = bytes.weights + bytes.activations;
        if need <= free {
            return Ok(());
        }
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        Err(Error::WouldNotFit(format!(
            "the text encoder on {} would not fit: {} are needed, {} are free",
            device.caps().title(),
            mib(need),
            mib(free)
        )))
    }
}

/// The chunk that each prompt begins with, in a film of `fps` pictures a second; `path` stands in errors.
///
/// # Errors
/// As [`Prompts::placed`].
pub fn placed(
    prompts: &Prompts,
    path: &Path,
    config: &DitConfig,
    fps: u32,
) -> Result<Vec<Placed>, text::Error> {
    // Beyond what any film has, so that nothing overflows.
    const MOST: f64 = (1 << 30) as f64;
    let chunk_at = |secs: f64| {
        let picture = (secs * f64::from(fps)).ceil().min(MOST);
        config.chunk_from(picture as usize) as u32
    };
    prompts.placed(path, chunk_at)
}

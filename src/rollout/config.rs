//! What a user settles about a rollout, and what of the cache follows from it.

use super::error::Error;
use super::event::Offload;
use super::sampler::CacheSetup;
use crate::cache::{KeyPositions, Policy, Sink, SpansPlan, Window};
use crate::codec::KvPair;
use crate::model::Dit;
use crate::model::config::DitConfig;
use crate::ops::{KvFormat, WeightFormat};

/// What a user settles about a rollout.
#[derive(Debug, Clone)]
pub struct Config {
    /// Seed of the noise.
    pub seed: u64,
    /// Latent frames attention sees, sink and the frame itself included; `None`: all.
    pub window: Option<u32>,
    /// First latent frames that never leave the window.
    pub sink: u32,
    /// Positions that turn keys and queries.
    pub positions: KeyPositions,
    /// Share of itself that the sink keeps when it takes in what leaves the window, see [`Policy::ema_sink`].
    pub ema_sink: Option<f32>,
    /// Whether another prompt in mid-film computes the keys and values of all frames that attention sees anew, and what becomes
    /// of the sink then; `None`: the cache keeps what the prompts before left in it. Coded ones always stay, and a warning says
    /// so.
    pub renew: Option<Sink>,
    /// Storage of exact keys and values.
    pub kv: KvFormat,
    /// Which keys and values are coded, and how; `None`: all stay exact.
    pub coded: Option<Coded>,
    /// Storage of weights on the device.
    pub weights: WeightFormat,
    /// Layers whose weights wait in main memory and are uploaded in every pass; as many as the network has, or more: all.
    pub offload: u32,
    /// Denoising steps; `None`: the model's own list.
    pub steps: Option<u32>,
    /// Device bytes that the film may take; `None`: what the device is known to have free.
    pub budget_bytes: Option<u64>,
    /// Host bytes that may be kept for [`Session::back_to`](super::Session::back_to); 0: nothing is kept, and there is no way back.
    pub undo_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            seed: 0,
            window: None,
            sink: 0,
            positions: KeyPositions::Absolute,
            ema_sink: None,
            renew: None,
            kv: KvFormat::F16,
            coded: None,
            weights: WeightFormat::F16,
            offload: 0,
            steps: None,
            budget_bytes: None,
            undo_bytes: 0,
        }
    }
}

/// Which keys and values of a film are coded, and how.
#[derive(Debug, Clone)]
pub struct Coded {
    /// Codecs.
    pub pair: KvPair,
    /// Latent frames of a span, rounded up to whole chunks; `None`: [`SPAN_FRAMES`].
    pub span: Option<u32>,
    /// Newest latent frames that stay exact, rounded up to whole chunks.
    pub recent: u32,
    /// First latent frames of the film that stay exact.
    pub sink: u32,
}

/// Latent frames of a span where nothing else is asked for.
pub const SPAN_FRAMES: u32 = 16;

impl Coded {
    /// These codecs with the usual spans.
    pub fn new(pair: KvPair) -> Coded {
        Coded {
            pair,
            span: None,
            recent: 0,
            sink: 1,
        }
    }
}

/// The codecs that `pair` has in the layers of a model.
pub(super) fn codecs(pair: &KvPair, model: &DitConfig) -> Result<KvPair, Error> {
    pair.for_model(&model.kv_fine, model.layers)
        .map_err(Error::Setting)
}

impl Config {
    /// Rules of the cache for chunks of `chunk_frames`.
    pub(super) fn policy(&self, chunk_frames: u32) -> Policy {
        let chunks = |frames: u32| frames.div_ceil(chunk_frames) as usize;
        let coded = self.coded.as_ref();
        Policy {
            window: Window {
                frames: self.window.map(|w| w as usize),
                sink: self.sink as usize,
            },
            span_chunks: coded.map_or(0, |c| chunks(c.span.unwrap_or(SPAN_FRAMES)).max(1)),
            recent_chunks: coded.map_or(0, |c| chunks(c.recent)),
            exact_sink: coded.map_or(0, |c| c.sink as usize),
            positions: self.positions,
            ema_sink: self.ema_sink,
        }
    }

    /// The layers of a model that wait in main memory.
    ///
    /// # Errors
    /// One alone, which would have its place on the device to itself.
    pub fn offloaded(&self, model: &DitConfig) -> Result<Offload, Error> {
        let layers = self.offload.min(model.layers);
        if layers == 1 {
            return Err(Error::Setting(format!(
                "--offload 1: one layer alone has none to make way for; let 0, or 2 to {} wait in main memory",
                model.layers
            )));
        }
        Ok(Offload {
            layers,
            of_layers: model.layers,
            host_bytes: u64::from(layers) * Dit::block_bytes(model, self.weights),
            pass_bytes: Dit::pass_bytes(model, self.weights, layers),
        })
    }

    /// The cache of a film of these frames: given ones come one by one.
    ///
    /// # Errors
    /// A window too small for a chunk, a sink that cannot take in what leaves, codecs that the model's heads or layers cannot have, a span of no frames.
    pub fn cache(
        &self,
        model: &DitConfig,
        given: usize,
        frames: usize,
    ) -> Result<CacheSetup, Error> {
        let chunk = model.chunk_frames as usize;
        let policy = self.policy(model.chunk_frames);
        if self.coded.as_ref().is_some_and(|c| c.span == Some(0)) {
            return Err(Error::Setting("a span has at least one frame".into()));
        }
        let whole = std::iter::repeat_n(chunk, frames / chunk);
        let rest = Some(frames % chunk).filter(|n| *n > 0);
        let chunks = std::iter::repeat_n(1, given).chain(whole).chain(rest);
        for n in chunks.clone() {
            policy.check(n)?;
        }
        let spans = match &self.coded {
            Some(c) => {
                let dim = model.rope_split().head_dim();
                SpansPlan::new(codecs(&c.pair, model)?, dim, &policy, chunks)?
            }
            None => None,
        };
        let all = policy
            .window
            .frames
            .map_or(given + frames, |w| w.min(given + frames));
        Ok(CacheSetup {
            format: self.kv,
            max_frames: spans.as_ref().map_or(all, |s| s.exact_frames),
            policy,
            spans,
        })
    }
}

//! Published models by name: which files they need, under which licence, and how they are rolled out. All of it is data, in
//! `assets/models/presets.json`; finding and fetching the files is the program's business.
//!
//! Sources: the repositories of Self-Forcing, CausVid, Causal-Forcing, LongLive, Reward-Forcing and TAEHV, and their pages on
//! Hugging Face; sizes are those of public listings, absent where none was seen.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::config::{DitConfig, SamplerConfig};
use crate::cache::{KeyPositions, Policy, Sink, Window};

/// The file with everything, as it lies in the repository.
const DATA: &str = include_str!("../../assets/models/presets.json");

/// What one may do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// Anything, also commercially, under the licence's terms.
    Open,
    /// Nothing commercial.
    NonCommercial,
    /// Sources contradict each other or say nothing.
    Unclear,
}

/// A licence, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// Its name.
    pub name: String,
    /// What it allows.
    #[serde(rename = "use")]
    pub allows: Use,
    /// What else is to be known; may be empty.
    pub text: String,
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The causal transformer.
    Generator,
    /// A low-rank change of its weights.
    Lora,
    /// Text encoder and tokenizer.
    Text,
    /// The full decoder.
    Vae,
    /// The tiny decoder.
    Taehv,
}

impl Part {
    /// All of them, in the order that a film needs them.
    pub const ALL: [Self; 5] = [
        Self::Generator,
        Self::Lora,
        Self::Text,
        Self::Vae,
        Self::Taehv,
    ];

    /// The name in flags and listings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Generator => "generator",
            Self::Lora => "lora",
            Self::Text => "text",
            Self::Vae => "vae",
            Self::Taehv => "taehv",
        }
    }

    /// Folders below ComfyUI's `models` that hold such files, today's name first.
    ///
    /// Source: ComfyUI, `folder_paths.py`.
    #[must_use]
    pub fn comfyui_folders(self) -> &'static [&'static str] {
        match self {
            Self::Generator => &["diffusion_models", "unet", "checkpoints"],
            Self::Lora => &["loras"],
            Self::Text => &["text_encoders", "clip"],
            Self::Vae => &["vae"],
            Self::Taehv => &["vae_approx"],
        }
    }
}

/// Where a file is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A model repository on Hugging Face.
    HuggingFace,
    /// A repository on GitHub.
    Github,
}

/// One published file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// What it is for.
    pub part: Part,
    /// Where it is published.
    pub source: Source,
    /// `owner/name` there.
    pub repo: String,
    /// Path in the repository.
    pub path: String,
    /// Its size, where a listing was seen.
    pub bytes: Option<u64>,
    /// Its expected size, where that follows from what it holds.
    pub about_bytes: Option<u64>,
    /// Commit that it is taken from; the newest one where none is named.
    pub revision: Option<String>,
    /// Its SHA-256 in hexadecimal, where the source does not tell the sum itself.
    pub sha256: Option<String>,
    /// Key of its licence, see [`ModelFile::licence`].
    licence: String,
    /// Names that it goes by in a ComfyUI folder.
    pub comfyui: Vec<String>,
}

impl ModelFile {
    /// Its licence.
    #[must_use]
    pub fn licence(&self) -> &'static Licence {
        &data().licences[&self.licence]
    }

    /// The size as far as it is known before asking the source.
    #[must_use]
    pub fn known_bytes(&self) -> Option<u64> {
        self.bytes.or(self.about_bytes)
    }

    /// The name without folders.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// How much of the history a pass sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Span {
    /// As many latent frames, the sink and the chunk itself counted.
    Frames(u32),
    /// All of it.
    Named(Whole),
}

/// Without a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whole {
    /// All frames there are.
    All,
    /// All frames, of which there may be no more than the cache was made for.
    Capacity,
}

/// Which position a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PositionKind {
    /// That of its frame in the film.
    Absolute,
    /// That of its place in what is seen now.
    Relative,
}

/// What becomes of the sink when another prompt in mid-film has the cache computed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recache {
    /// It stays as the film's first prompt left it: LongLive's `global_sink`.
    SinkKept,
    /// The first of the frames that are run again become the sink.
    SinkRenewed,
}

/// A low-rank change that a preset adds to its generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rank of both factors.
    pub rank: u32,
    /// The change is `alpha / rank * B A`.
    pub alpha: f64,
    /// Key of the file's top level that holds it.
    pub part: String,
}

/// A published model and how it is rolled out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// What it is called here.
    pub name: String,
    /// A few words.
    pub about: String,
    /// Keys of its own files, see [`Preset::files`].
    files: Vec<String>,
    /// Parts of the checkpoint that may hold the network, the best one first; none: the file is the network.
    pub parts: Vec<String>,
    /// Latent frames denoised together.
    pub chunk: u32,
    /// Steps of a chunk, 1 to 1000, before `warp`.
    pub steps: Vec<u32>,
    /// Steps of the first chunk, where they are others.
    pub first_chunk_steps: Option<Vec<u32>>,
    /// Whether a step means an entry of the shifted table rather than a timestep.
    pub warp: bool,
    /// Shift of that table.
    pub shift: f64,
    /// Latent frames that a pass sees.
    pub window: Span,
    /// First latent frames that never leave it.
    pub sink: u32,
    /// Which positions keys have.
    pub positions: PositionKind,
    /// Share of the old value when the sink takes in what leaves the window.
    pub ema_sink: Option<f64>,
    /// Timestep told when finished frames write their keys and values.
    pub context_t: f32,
    /// Whether another prompt in mid-film has the cache computed anew, and how.
    pub recache: Option<Recache>,
    /// A change of the generator's weights.
    pub lora: Option<Lora>,
}

impl Preset {
    /// Every preset, in the order of the list.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &data().presets
    }

    /// The preset called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|preset| preset.name == name)
    }

    /// Every file that it needs: its own, then those that all presets share.
    pub fn files(&self) -> impl Iterator<Item = &'static ModelFile> {
        let keys = self.files.iter().chain(&data().shared_files);
        keys.map(|key| &data().files[key])
    }

    /// The network and its sampler. What the config does not hold is in [`Preset::policy`].
    #[must_use]
    pub fn config(&self) -> DitConfig {
        DitConfig {
            chunk_frames: self.chunk,
            sampler: SamplerConfig::Renoise {
                steps: self.steps.clone(),
                first_chunk_steps: self.first_chunk_steps.clone(),
                warp: self.warp,
                shift: self.shift,
                context_t: self.context_t,
            },
            ..DitConfig::selfforcing_1_3b()
        }
    }

    /// The rules of its cache, in which every frame is exact.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            window: Window {
                frames: match self.window {
                    Span::Frames(frames) => Some(frames as usize),
                    Span::Named(_) => None,
                },
                sink: self.sink as usize,
            },
            positions: match self.positions {
                PositionKind::Absolute => KeyPositions::Absolute,
                PositionKind::Relative => KeyPositions::Relative,
            },
            ema_sink: self.ema_sink.map(|share| share as f32),
            ..Policy::default()
        }
    }

    /// What becomes of the sink when another prompt has the cache computed anew; `None`: the cache stays as it is.
    #[must_use]
    pub fn renew(&self) -> Option<Sink> {
        self.recache.map(|recache| match recache {
            Recache::SinkKept => Sink::Kept,
            Recache::SinkRenewed => Sink::Renewed,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    licences: BTreeMap<String, Licence>,
    files: BTreeMap<String, ModelFile>,
    presets: Vec<Preset>,
    shared_files: Vec<String>,
}

fn data() -> &'static Data {
    // Built in and read by a test, so it is sound.
    static PARSED: LazyLock<Data> =
        LazyLock::new(|| serde_json::from_str(DATA).expect("the built-in presets are sound"));
    &PARSED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_whole() {
        assert!(!Preset::all().is_empty());
        for preset in Preset::all() {
            preset.config().check().unwrap();
            preset.policy().check(preset.chunk as usize).unwrap();
            assert!(
                preset
                    .ema_sink
                    .is_none_or(|share| (0.0..1.0).contains(&share))
            );
            let parts: Vec<Part> = preset.files().map(|file| file.part).collect();
            for part in [Part::Generator, Part::Text, Part::Vae, Part::Taehv] {
                assert!(parts.contains(&part), "{}: no {}", preset.name, part.name());
            }
            assert_eq!(preset.lora.is_some(), parts.contains(&Part::Lora));
            assert_eq!(Preset::named(&preset.name), Some(preset));
            if let Span::Frames(window) = preset.window {
                assert!(preset.sink + preset.chunk <= window, "{}", preset.name);
            }
            for file in preset.files() {
                // Paths become folders, so they must stay inside.
                let segments = file.repo.split('/').chain(file.path.split('/'));
                for segment in segments {
                    assert!(!segment.is_empty() && !segment.starts_with('.'), "{file:?}");
                }
                assert_eq!(file.repo.split('/').count(), 2);
                let is_hex = |text: &String, len| {
                    text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit())
                };
                assert!(file.revision.as_ref().is_none_or(|r| is_hex(r, 40)));
                assert!(file.sha256.as_ref().is_none_or(|s| is_hex(s, 64)));
                // A source that tells no sum is asked for one commit's file alone.
                if file.source == Source::Github {
                    assert!(file.revision.is_some() && file.sha256.is_some());
                }
                assert!(!file.licence().name.is_empty());
                assert!(file.licence().allows == Use::Open || !file.licence().text.is_empty());
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = Preset::all().iter().map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Preset::all().len());
    }
}

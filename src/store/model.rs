//! Which files a text model is made of, and where they lie: a preset's in the cache of downloads, a folder's, or those around
//! one file of weights.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::{Error, Store, in_folder};
use crate::cache::Policy;
use crate::decode::{DecoderSource, WanOptions};
use crate::model::Lora;
use crate::model::config::{Cross, DitConfig};
use crate::model::preset::{ModelFile, Part, Preset};
use crate::ops::WeightFormat;
use crate::rollout::{self, ModelSource};
use crate::text::Tokenizer;
use crate::weights::Weights;

/// Endings of files of weights, the best one first.
const WEIGHTS: [&str; 3] = ["safetensors", "pt", "pth"];
/// The tokenizer's file, in a folder of one's own as in a published one.
const TOKENIZER: &str = "spiece.model";
/// The preset of files that no preset knows by name.
const USUAL: &str = "self-forcing";
/// Bytes at each end of an encoder's file that tell it apart from others.
const SAMPLE: u64 = 1 << 20;

/// A text model, as far as its files are here.
#[derive(Debug)]
pub struct Found {
    /// Name shown to people and stored in recipes.
    pub name: String,
    /// The preset that it is run by; none for a folder that says its own sizes.
    pub preset: Option<&'static Preset>,
    /// Sizes and sampler.
    pub config: DitConfig,
    /// What attention sees, and how.
    pub policy: Policy,
    /// Parts of a checkpoint that may hold the network.
    pub parts: Vec<String>,
    /// The network.
    pub generator: Option<PathBuf>,
    /// A change of the network's weights, where the preset has one.
    pub lora: Option<PathBuf>,
    /// The text encoder.
    pub encoder: Option<PathBuf>,
    /// The tokenizer.
    pub tokenizer: Option<PathBuf>,
    /// The tiny decoder.
    pub taehv: Option<PathBuf>,
    /// Wan's decoder.
    pub vae: Option<PathBuf>,
    /// What the encoder is called where encoded prompts are kept.
    pub encoder_name: String,
    /// The file that no preset knows by name, and is run as a guess.
    pub guess: Option<PathBuf>,
}

/// What makes pictures of a text model's latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Decoding {
    /// The tiny decoder.
    #[default]
    Taehv,
    /// Wan's own.
    Wan,
}

impl Decoding {
    /// Its name, as flags and recipes take it.
    pub fn name(self) -> &'static str {
        match self {
            Decoding::Taehv => "taehv",
            Decoding::Wan => "wan",
        }
    }

    /// What its file is called among a model's.
    fn part(self) -> &'static str {
        match self {
            Decoding::Taehv => "taehv",
            Decoding::Wan => "vae",
        }
    }
}

/// What a model's name or path stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Named {
    /// A published model.
    Preset(&'static Preset),
    /// A folder with published files, and the preset that they are of.
    Snapshot(PathBuf, &'static Preset),
    /// A folder that says its own sizes.
    Folder(PathBuf),
    /// A file of weights.
    File(PathBuf),
}

impl Named {
    /// The text model called `name`; none where it is a demo world or nothing at all.
    pub fn of(name: &str) -> Option<Named> {
        if let Some(preset) = Preset::named(name) {
            return Some(Named::Preset(preset));
        }
        let path = PathBuf::from(name);
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        if path.is_file() {
            return WEIGHTS.contains(&ending).then_some(Named::File(path));
        }
        let has = |preset: &&Preset| {
            generator(preset).is_some_and(|file| in_folder(&path, file).is_some())
        };
        if let Some(preset) = Preset::all().iter().find(has) {
            return Some(Named::Snapshot(path, preset));
        }
        // Told by its weights too, so that a damaged config is called one.
        let is_text = own_weights(&path, "generator").is_some() || has_network(&path);
        is_text.then_some(Named::Folder(path))
    }

    /// Its files and sizes. `preset`: how weights without a name are run; one that goes by its own name and a folder that says
    /// its own sizes take none. `store`: where files are looked for beside what the name says.
    ///
    /// # Errors
    /// A folder whose config is missing or makes no network.
    pub fn find(
        &self,
        preset: Option<&'static Preset>,
        store: Option<&Store>,
    ) -> Result<Found, Error> {
        let stored = |file: &ModelFile| store?.find(file);
        match self {
            Named::Preset(preset) => published(preset, preset.name.clone(), stored),
            Named::Snapshot(folder, own) => {
                let near = |file: &ModelFile| in_folder(folder, file).or_else(|| stored(file));
                published(preset.unwrap_or(own), name_of(folder), near)
            }
            Named::File(path) => {
                let folder = path.parent().unwrap_or(Path::new("."));
                let known = || Preset::all().iter().find(|p| is_generator(p, path));
                let asked = preset.or_else(known);
                let usual = || Preset::all().iter().find(|p| p.name == USUAL);
                let Some(preset) = asked.or_else(usual) else {
                    return Err(Error::NotHere(format!("there is no preset {USUAL}")));
                };
                let mut found = published(preset, name_of(path), |file| match file.part {
                    Part::Generator => Some(path.clone()),
                    _ => in_folder(folder, file).or_else(|| stored(file)),
                })?;
                found.guess = asked.is_none().then(|| path.clone());
                Ok(found)
            }
            Named::Folder(folder) => own(folder),
        }
    }
}

impl Found {
    /// The file of a decoder.
    pub fn decoder(&self, decoder: Decoding) -> &Option<PathBuf> {
        match decoder {
            Decoding::Taehv => &self.taehv,
            Decoding::Wan => &self.vae,
        }
    }

    /// Refuses what is not whole: names what is missing and how to get it.
    ///
    /// # Errors
    /// [`Error::NotHere`] if anything is.
    pub fn check(
        &self,
        decoder: Decoding,
        needs_tokenizer: bool,
        needs_encoder: bool,
    ) -> Result<(), Error> {
        let parts = [
            (true, &self.generator, "generator"),
            (
                self.preset.is_some_and(|p| p.lora.is_some()),
                &self.lora,
                "lora",
            ),
            (needs_tokenizer, &self.tokenizer, "tokenizer"),
            (needs_encoder, &self.encoder, "text_encoder"),
            (true, self.decoder(decoder), decoder.part()),
        ];
        let missing: Vec<&str> = parts
            .iter()
            .filter(|(needed, path, _)| *needed && path.is_none())
            .map(|(.., part)| *part)
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let name = &self.name;
        Err(Error::NotHere(match self.preset {
            Some(preset) => {
                let files: Vec<String> = missing
                    .iter()
                    .map(|part| format!("{} ({})", part.replace('_', " "), file_of(preset, part)))
                    .collect();
                format!(
                    "{name} is not whole here, it lacks {}; run: longtake fetch {}",
                    files.join(", "),
                    preset.name
                )
            }
            None => {
                let file = |part: &&str| match *part {
                    "tokenizer" => TOKENIZER.to_owned(),
                    part => format!("{part}.safetensors (or .pt, .pth)"),
                };
                let files: Vec<String> = missing.iter().map(file).collect();
                format!("the model folder {name:?} lacks {}", files.join(", "))
            }
        }))
    }
}

/// A file of weights called so in a folder of one's own.
fn own_weights(folder: &Path, stem: &str) -> Option<PathBuf> {
    let paths = WEIGHTS.map(|ending| folder.join(format!("{stem}.{ending}")));
    paths.into_iter().find(|path| path.is_file())
}

/// Whether the folder's config says the sizes of a text model.
fn has_network(folder: &Path) -> bool {
    let text = fs::read(folder.join("config.json")).unwrap_or_default();
    let json = serde_json::from_slice::<serde_json::Value>(&text);
    json.is_ok_and(|json| json.get("dit").is_some())
}

impl Found {
    /// The width of an encoded prompt's rows, and how many of them the network takes.
    ///
    /// # Errors
    /// A network that takes no text.
    pub fn text_sizes(&self) -> Result<(usize, usize), Error> {
        match self.config.cross {
            Cross::Separate { text_dim, text_len } => Ok((text_dim as usize, text_len as usize)),
            _ => Err(Error::NoText(self.name.clone())),
        }
    }

    /// The network, as large as `config` says, and the decoder, held to their names and sizes.
    ///
    /// # Errors
    /// A file that is not here, damaged, or of another model.
    pub fn open(
        &self,
        config: DitConfig,
        decoder: Decoding,
        format: WeightFormat,
    ) -> Result<ModelSource, Error> {
        let (Some(generator), Some(path)) = (&self.generator, self.decoder(decoder)) else {
            return Err(Error::NotHere(format!("{} is not whole here", self.name)));
        };
        let network = Error::weights("the network");
        let parts: Vec<&str> = self.parts.iter().map(String::as_str).collect();
        let weights = Weights::open_part(generator, &parts).map_err(&network)?;
        weights
            .check(config.family.name(), &config.tensors())
            .map_err(&network)?;
        let pictures = Weights::open(path).map_err(Error::weights("the decoder"))?;
        let decoder = match decoder {
            Decoding::Taehv => DecoderSource::Taehv(pictures),
            Decoding::Wan => {
                let options = WanOptions {
                    format,
                    ..WanOptions::default()
                };
                DecoderSource::Wan(pictures, options)
            }
        };
        decoder.shape().map_err(|why| Error::Model {
            what: "the decoder",
            source: Box::new(rollout::Error::from(why)),
        })?;
        let lora = self.preset.and_then(|preset| preset.lora.as_ref());
        let lora = match (lora, &self.lora) {
            (Some(change), Some(path)) => {
                let opened = Lora::open(path, &config, change);
                Some(opened.map_err(|why| Error::Model {
                    what: "the preset's change of weights",
                    source: Box::new(rollout::Error::from(why)),
                })?)
            }
            _ => None,
        };
        Ok(ModelSource {
            name: self.name.clone(),
            config,
            weights,
            lora,
            decoder,
        })
    }
}

/// Name of the preset's file for a part.
fn file_of(preset: &Preset, part: &str) -> &'static str {
    let is_it = |file: &&ModelFile| match part {
        "generator" => file.part == Part::Generator,
        "lora" => file.part == Part::Lora,
        "taehv" => file.part == Part::Taehv,
        "vae" => file.part == Part::Vae,
        "tokenizer" => is_tokenizer(file),
        _ => file.part == Part::Text && !is_tokenizer(file),
    };
    preset.files().find(is_it).map_or("?", ModelFile::file_name)
}

fn is_tokenizer(file: &ModelFile) -> bool {
    file.part == Part::Text && file.file_name() == TOKENIZER
}

fn generator(preset: &Preset) -> Option<&'static ModelFile> {
    preset.files().find(|file| file.part == Part::Generator)
}

/// Whether the preset's network goes by the name of `path`.
fn is_generator(preset: &Preset, path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    generator(preset).is_some_and(|file| {
        file.file_name() == name || file.comfyui.iter().any(|known| known == name)
    })
}

/// The last part of a path without its ending: what a model of one's own is called.
pub fn name_of(path: &Path) -> String {
    // `.` and `..` have no name to show, the folder behind them has.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = match path.is_dir() {
        true => path.file_name(),
        false => path.file_stem(),
    };
    name.map_or_else(|| "model".to_owned(), |n| n.to_string_lossy().into_owned())
}

fn published(
    preset: &'static Preset,
    name: String,
    find: impl Fn(&ModelFile) -> Option<PathBuf>,
) -> Result<Found, Error> {
    let place = |is_it: &dyn Fn(&ModelFile) -> bool| {
        let file = preset.files().find(|file| is_it(file));
        file.and_then(&find)
    };
    let is_encoder = |file: &ModelFile| file.part == Part::Text && !is_tokenizer(file);
    let encoder = place(&is_encoder);
    let encoder_name = match (preset.files().find(|file| is_encoder(file)), &encoder) {
        // Another program's copy has other values: its prompts are kept apart.
        (Some(file), Some(path)) if path.file_name() != Some(OsStr::new(file.file_name())) => {
            fingerprint(path).map_err(|why| io(path, why))?
        }
        (Some(file), _) => format!("{}/{}", file.repo, file.path),
        (None, _) => String::new(),
    };
    Ok(Found {
        name,
        preset: Some(preset),
        config: preset.config(),
        policy: preset.policy(),
        parts: preset.parts.clone(),
        generator: place(&|file| file.part == Part::Generator),
        lora: place(&|file| file.part == Part::Lora),
        tokenizer: place(&is_tokenizer).or_else(|| brings_tokenizer(&encoder)),
        encoder,
        taehv: place(&|file| file.part == Part::Taehv),
        vae: place(&|file| file.part == Part::Vae),
        encoder_name,
        guess: None,
    })
}

/// A folder with a config of its own: `generator`, `text_encoder`, `taehv` and `vae` as files of weights, and the tokenizer.
fn own(folder: &Path) -> Result<Found, Error> {
    let path = folder.join("config.json");
    // Bytes that are no text are no JSON either, which says what to do.
    let text = fs::read(&path).map_err(|why| io(&path, why))?;
    let text = String::from_utf8_lossy(&text);
    let config = DitConfig::from_selfforcing_json(&text).map_err(|source| Error::Config {
        path: path.clone(),
        source,
    })?;
    let weights = |stem: &str| own_weights(folder, stem);
    let encoder = weights("text_encoder");
    let encoder_name = match &encoder {
        Some(path) => fingerprint(path).map_err(|why| io(path, why))?,
        None => String::new(),
    };
    Ok(Found {
        name: name_of(folder),
        preset: None,
        config,
        policy: Policy::default(),
        parts: vec!["generator_ema".to_owned(), "generator".to_owned()],
        generator: weights("generator"),
        lora: None,
        tokenizer: Some(folder.join(TOKENIZER))
            .filter(|path| path.is_file())
            .or_else(|| brings_tokenizer(&encoder)),
        encoder,
        taehv: weights("taehv"),
        vae: weights("vae"),
        encoder_name,
        guess: None,
    })
}

/// The encoder's file, where it has the tokenizer in it.
fn brings_tokenizer(encoder: &Option<PathBuf>) -> Option<PathBuf> {
    let path = encoder.as_ref()?;
    // What is wrong with the file is told when it is needed.
    let weights = Weights::open(path).ok()?;
    Tokenizer::within(&weights).map(|_| path.clone())
}

/// Reads a tokenizer: a file of its own, or the one within an encoder's weights.
///
/// # Errors
/// As [`Tokenizer::open`]; weights without one.
pub(super) fn tokenizer(path: &Path) -> Result<Tokenizer, Error> {
    const WHAT: &str = "the tokenizer";
    let ending = path.extension().and_then(OsStr::to_str).unwrap_or("");
    if !WEIGHTS.contains(&ending) {
        return Tokenizer::open(path).map_err(Error::text(WHAT));
    }
    let weights = Weights::open(path).map_err(Error::weights(WHAT))?;
    match Tokenizer::within(&weights) {
        Some(within) => within.map_err(Error::text(WHAT)),
        None => Err(Error::NotHere(format!(
            "no tokenizer is in the file: {path:?}"
        ))),
    }
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

/// A name for an encoder that nobody published: its size and 64 bits of FNV-1a over both ends of its file.
fn fingerprint(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.by_ref().take(SAMPLE).read_to_end(&mut bytes)?;
    file.seek(SeekFrom::Start(len.saturating_sub(SAMPLE)))?;
    file.take(SAMPLE).read_to_end(&mut bytes)?;
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| {
        (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    Ok(format!("own-{len}-{hash:016x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_named_and_other_words_are_not() {
        for preset in Preset::all() {
            assert_eq!(Named::of(&preset.name), Some(Named::Preset(preset)));
        }
        assert_eq!(Named::of("rooms"), None);
        assert_eq!(Named::of("Cargo.toml"), None);
        assert_eq!(Named::of("src"), None);
    }

    #[test]
    fn a_file_is_run_by_the_preset_that_knows_its_name() {
        let folder = std::env::temp_dir().join(format!("longtake-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let find = |name: &str, preset: Option<&str>| {
            let path = folder.join(name);
            fs::write(&path, "").unwrap();
            let named = Named::of(path.to_str().unwrap()).unwrap();
            let preset = preset.and_then(Preset::named);
            let found = named.find(preset, None).unwrap();
            let preset = found.preset.unwrap().name.clone();
            assert_eq!(found.generator, Some(path));
            (preset, found.guess.is_some())
        };
        assert_eq!(
            find("self_forcing_dmd.pt", None),
            ("self-forcing".into(), false)
        );
        assert_eq!(
            find("mine.safetensors", None),
            ("self-forcing".into(), true)
        );
        let asked = find("mine.safetensors", Some("causvid-4step"));
        assert_eq!(asked, ("causvid-4step".into(), false));
        assert_eq!(
            find("framewise-1step.pt", None),
            ("causal-forcing-pp-1step".into(), false)
        );
        // With two files that presets know, the first preset of the list is taken.
        let named = Named::of(folder.to_str().unwrap()).unwrap();
        assert!(matches!(named, Named::Snapshot(_, p) if p.name == "self-forcing"));
        fs::remove_dir_all(&folder).unwrap();
    }
}

//! `longtake models`: the presets, what they need, what of it is here, and whether a file on disk is the model of one.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use longtake::model::preset::{Licence, ModelFile, Part, Preset, Span, Use, Whole};
use longtake::store::{Store, in_folder};
use longtake::weights::Weights;
use serde_json::{Value, json};

use super::args::ModelsArgs;
use super::fault::Fault;
use super::fetch::megabytes;
use super::say;
use super::store;

/// A part of a preset, as flags name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PartArg(pub(super) Part);

impl FromStr for PartArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let part = Part::ALL.into_iter().find(|part| part.name() == text);
        let names: Vec<&str> = Part::ALL.iter().map(|part| part.name()).collect();
        part.map(Self)
            .ok_or_else(|| format!("expected one of {}", names.join(", ")))
    }
}

/// Prints the list, one preset, or the verdict on a file.
///
/// # Errors
/// When there is no such preset, or the file is not its model.
pub(super) fn run(args: &ModelsArgs) -> anyhow::Result<u8> {
    let store = store(args.comfyui.clone())?;
    let presets: Vec<&Preset> = match &args.preset {
        Some(name) => vec![preset(name)?],
        None => Preset::all().iter().collect(),
    };
    if let (Some(path), [preset]) = (&args.check, &presets[..]) {
        let path = checked(preset, path)?;
        let _ = say::result(&format!(
            "{}: the network of {}\n",
            path.display(),
            preset.name
        ));
        return Ok(0);
    }
    let text = match (args.json, &presets[..]) {
        (true, _) => {
            let presets: Vec<Value> = presets
                .iter()
                .map(|preset| as_json(preset, &store))
                .collect();
            format!("{:#}\n", json!({ "schema": 1, "models": presets }))
        }
        (false, [preset]) if args.preset.is_some() => one(preset, &store),
        (false, _) => table(&presets, &store),
    };
    // A reader that has gone is quiet.
    let _ = say::result(&text);
    Ok(0)
}

/// The preset called `name`.
///
/// # Errors
/// When there is none; names those there are.
pub(super) fn preset(name: &str) -> anyhow::Result<&'static Preset> {
    let names = || {
        let names: Vec<&str> = Preset::all()
            .iter()
            .map(|preset| preset.name.as_str())
            .collect();
        names.join(", ")
    };
    Preset::named(name).ok_or_else(|| {
        Fault::NotFetched(format!(
            "there is no preset {name:?}; there are {}",
            names()
        ))
        .into()
    })
}

/// Where files are looked for.
///
/// # Errors
/// When no folder is known at all.
pub(super) fn store(comfyui: Option<PathBuf>) -> anyhow::Result<Store> {
    store::from_env(comfyui).ok_or_else(|| {
        Fault::Usage(
            "no home folder is known; set HF_HOME to the folder for downloaded models".to_owned(),
        )
        .into()
    })
}

/// Finds the network of `preset` at `path`, a file or a folder, and holds it to its tensors.
fn checked(preset: &Preset, path: &Path) -> anyhow::Result<PathBuf> {
    let mut file = path.to_owned();
    if path.is_dir() {
        let generator = preset.files().find(|file| file.part == Part::Generator);
        let found = generator.and_then(|generator| in_folder(path, generator));
        file = found.or_else(|| only_weights(path)).ok_or_else(|| {
            let name = generator.map_or("", ModelFile::file_name);
            Fault::Usage(format!(
                "{path:?} has neither {name} nor a single .safetensors or .pt file; name the file itself"
            ))
        })?;
    }
    check_generator(preset, &file)?;
    Ok(file)
}

/// The one weights file of a folder, such as `diffusion_pytorch_model.safetensors`.
fn only_weights(folder: &Path) -> Option<PathBuf> {
    let is_weights = |path: &PathBuf| {
        let end = path.extension().and_then(|end| end.to_str());
        path.is_file() && end.is_some_and(|end| ["safetensors", "pt", "pth"].contains(&end))
    };
    let entries = std::fs::read_dir(folder).ok()?;
    let mut files = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_weights);
    let first = files.next()?;
    files.next().is_none().then_some(first)
}

/// Holds a file to the tensors of the preset's network.
///
/// # Errors
/// As [`Weights::open_part`] and [`Weights::check`].
pub(super) fn check_generator(preset: &Preset, path: &Path) -> anyhow::Result<()> {
    let parts: Vec<&str> = preset.parts.iter().map(String::as_str).collect();
    let weights = Weights::open_part(path, &parts)?;
    let config = preset.config();
    weights.check(config.family.name(), &config.tensors())?;
    Ok(())
}

/// `CC-BY-NC-SA-4.0 (non-commercial: not for commercial use)`.
pub(super) fn licence_text(licence: &Licence) -> String {
    let kind = match licence.allows {
        Use::Open => return licence.name.clone(),
        Use::NonCommercial => "NON-COMMERCIAL",
        Use::Unclear => "UNCLEAR",
    };
    format!("{kind}: {} ({})", licence.name, licence.text)
}

/// The strictest licence among a preset's files, for one column.
fn strictest(preset: &Preset) -> &'static Licence {
    let rank = |licence: &&Licence| match licence.allows {
        Use::Open => 0,
        Use::Unclear => 1,
        Use::NonCommercial => 2,
    };
    // The first file is the preset's own network; ties are settled by it.
    let licences = preset.files().map(ModelFile::licence);
    let first = preset.files().next().map(ModelFile::licence);
    licences
        .chain(first)
        .max_by_key(rank)
        .expect("every preset has files")
}

/// `17.6 GB`, with a sign where some size is not known before asking.
fn size<'a>(files: impl Iterator<Item = &'a ModelFile>) -> String {
    let (mut bytes, mut unknown) = (0, 0);
    for file in files {
        match file.known_bytes() {
            Some(known) => bytes += known,
            None => unknown += 1,
        }
    }
    match (bytes, unknown) {
        (0, 0) => "-".to_owned(),
        (_, 0) => megabytes(bytes),
        (_, n) => format!("{} + {}", megabytes(bytes), say::n(n, "file")),
    }
}

fn window(preset: &Preset) -> String {
    match preset.window {
        Span::Frames(n) => format!("{n}, sink {}", preset.sink),
        Span::Named(Whole::All | Whole::Capacity) => "all".to_owned(),
    }
}

fn table(presets: &[&Preset], store: &Store) -> String {
    let head = [
        "NAME", "SIZE", "TO FETCH", "LICENCE", "STEPS", "CHUNK", "WINDOW", "ABOUT",
    ];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(presets.iter().map(|preset| {
        let missing = preset.files().filter(|file| store.find(file).is_none());
        let licence = strictest(preset);
        vec![
            preset.name.clone(),
            size(preset.files()),
            size(missing),
            match licence.allows {
                Use::Open => licence.name.clone(),
                Use::NonCommercial => "NON-COMMERCIAL".to_owned(),
                Use::Unclear => "UNCLEAR".to_owned(),
            },
            preset.steps.len().to_string(),
            preset.chunk.to_string(),
            window(preset),
            preset.about.clone(),
        ]
    }));
    say::columns(&lines)
        + "SIZE and TO FETCH count all parts; + marks files whose size only their source knows. longtake models NAME tells more\n"
}

fn one(preset: &Preset, store: &Store) -> String {
    let mut text = format!("{}: {}\n", preset.name, preset.about);
    let steps = |steps: &[u32]| {
        let steps: Vec<String> = steps.iter().map(u32::to_string).collect();
        steps.join(" ")
    };
    text += &format!(
        "  steps {}{}, shift {}, {} frames a chunk, window {}, positions {}\n",
        steps(&preset.steps),
        match &preset.first_chunk_steps {
            Some(first) => format!(" (first chunk {})", steps(first)),
            None => String::new(),
        },
        preset.shift,
        preset.chunk,
        window(preset),
        json!(preset.positions).as_str().unwrap_or_default(),
    );
    let mut lines = Vec::new();
    for file in preset.files() {
        let place = match store.find(file) {
            Some(path) => path.display().to_string(),
            None => "not here".to_owned(),
        };
        let bytes = file.known_bytes().map_or("?".to_owned(), megabytes);
        let name = format!("{}/{}", file.repo, file.path);
        lines.push(vec![format!("  {}", file.part.name()), bytes, name, place]);
    }
    text += &say::columns(&lines);
    let mut licences: Vec<String> = preset
        .files()
        .map(|file| format!("  {}: {}\n", file.repo, licence_text(file.licence())))
        .collect();
    licences.dedup();
    text + "Licences:\n" + &licences.concat()
}

fn as_json(preset: &Preset, store: &Store) -> Value {
    let file = |file: &'static ModelFile| {
        json!({
            "part": file.part,
            "source": file.source,
            "repo": file.repo,
            "file": file.path,
            "bytes": file.bytes,
            "about_bytes": file.about_bytes,
            "licence": file.licence(),
            "path": store.find(file),
        })
    };
    let mut json = json!(preset);
    json["files"] = preset.files().map(file).collect();
    json["licence"] = json!(strictest(preset));
    json
}

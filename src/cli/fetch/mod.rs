//! `longtake fetch`: downloads what a preset needs, once it was said how much that is and under which licence.

mod bar;
mod disk;
mod download;
mod http;

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use longtake::model::preset::{ModelFile, Part, Preset, Source};
use longtake::store::Store;
use longtake::weights::Weights;
use serde_json::json;

use self::bar::Bar;
use self::http::{Facts, HttpError, Web};
use super::args::{FetchArgs, Voice};
use super::fault::Fault;
use super::store;
use super::{models, say};

pub(super) use self::bar::megabytes;

/// A file that is not here yet, and what its source says of it.
struct Missing {
    file: &'static ModelFile,
    facts: Facts,
}

/// Downloads; gives the exit code.
///
/// # Errors
/// When the preset is unknown, nothing may be downloaded, or a download fails.
pub(super) fn run(args: &FetchArgs, voice: &Voice) -> anyhow::Result<u8> {
    let preset = models::preset(&args.preset)?;
    let store = models::store(args.comfyui.clone())?;
    let files = wanted(preset, &args.parts);
    let missing: Vec<&ModelFile> = files
        .iter()
        .copied()
        .filter(|file| store.find(file).is_none())
        .collect();
    if !missing.is_empty() {
        if http::is_offline() {
            let names: Vec<&str> = missing.iter().map(|file| file.file_name()).collect();
            return Err(Fault::NotFetched(format!(
                "HF_HUB_OFFLINE forbids to download {}; unset it, or copy the files into the cache",
                names.join(", ")
            ))
            .into());
        }
        let web = Web::from_env();
        let missing = ask_sources(&web, &missing)?;
        if !voice.quiet || !args.yes {
            say::message(&statement(preset, &missing, &web));
        }
        check_room(&store, &missing)?;
        if args.dry_run {
            return Ok(0);
        }
        if !args.yes {
            confirm()?;
        }
        let mut bar = Bar::new(voice.quiet || args.json);
        for one in &missing {
            fetch(&web, &store, one, &mut bar)?;
        }
    } else if !voice.quiet {
        say::message(&format!("everything that {} needs is here", preset.name));
    }
    tell(args, preset, &store, &files)
}

/// The files of the parts that were asked for.
fn wanted(preset: &Preset, parts: &[models::PartArg]) -> Vec<&'static ModelFile> {
    let parts: BTreeSet<Part> = parts.iter().map(|part| part.0).collect();
    let is_wanted = |file: &&ModelFile| parts.is_empty() || parts.contains(&file.part);
    preset.files().filter(is_wanted).collect()
}

/// What the sources say of the files, so that sizes are known and refusals come before the first byte.
fn ask_sources(web: &Web, files: &[&'static ModelFile]) -> anyhow::Result<Vec<Missing>> {
    files
        .iter()
        .map(|file| {
            let mut tries = 0;
            let facts = loop {
                tries += 1;
                match web.facts(file) {
                    Ok(facts) => break facts,
                    Err(HttpError::Passing { what, wait }) if tries < 3 => {
                        let wait = wait.unwrap_or(std::time::Duration::from_secs(1));
                        say::message(&format!("{what}; asking again in {} s", wait.as_secs()));
                        std::thread::sleep(wait);
                    }
                    Err(err) => {
                        return Err(
                            anyhow::Error::new(err).context(format!("cannot fetch {}", file.path))
                        );
                    }
                }
            };
            Ok(Missing { file, facts })
        })
        .collect()
}

/// What will be downloaded, how much, from where, and under which licences.
fn statement(preset: &Preset, missing: &[Missing], web: &Web) -> String {
    let mut text = format!("{} needs:\n", preset.name);
    let mut total = 0u64;
    for Missing { file, facts } in missing {
        let bytes = facts.bytes.unwrap_or(0);
        total = total.saturating_add(bytes);
        text += &format!(
            "  {:>8}  {:9}  {}  ({})\n",
            megabytes(bytes),
            file.part.name(),
            file.file_name(),
            web.page(file)
        );
    }
    text += &format!("  {:>8}  in all\nLicences:\n", megabytes(total));
    let licences: BTreeSet<(&str, String)> = missing
        .iter()
        .map(|one| {
            (
                one.file.repo.as_str(),
                models::licence_text(one.file.licence()),
            )
        })
        .collect();
    for (repo, licence) in licences {
        text += &format!("  {repo}: {licence}\n");
    }
    text.trim_end().to_owned()
}

/// Where a file's bytes go, and the place of the lock on them.
fn place(store: &Store, one: &Missing) -> (PathBuf, PathBuf) {
    match (one.file.source, &one.facts.etag) {
        (Source::HuggingFace, Some(etag)) => {
            let repo = store.repo(&one.file.repo);
            (repo.blob(etag), repo.lock(etag))
        }
        _ => {
            let to = store.own_path(one.file);
            let lock = to.with_extension("lock");
            (to, lock)
        }
    }
}

/// Refuses what the fullest disk has no room for, before the first byte; nearly always all files go to one.
fn check_room(store: &Store, missing: &[Missing]) -> anyhow::Result<()> {
    let places = missing.iter().map(|one| (one, place(store, one).0));
    let mut needs = 0u64;
    let mut room: Option<(u64, PathBuf)> = None;
    for (one, to) in places {
        needs = needs.saturating_add(download::bytes_to_come(&one.facts, &to));
        let free = disk::free_bytes(&to);
        if let Some(free) = free.filter(|free| room.as_ref().is_none_or(|(least, _)| free < least))
        {
            room = Some((free, to));
        }
    }
    match room {
        Some((free, to)) if free < needs => anyhow::bail!(
            "{} are to be downloaded and {} are free; make room, or set HF_HOME to a folder on another disk: {:?}",
            megabytes(needs),
            megabytes(free),
            to.parent().unwrap_or(&to)
        ),
        _ => Ok(()),
    }
}

/// Asks on the terminal; where there is none, refuses.
fn confirm() -> anyhow::Result<()> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Fault::NotFetched(
            "nothing was downloaded: there is nobody to ask; add --yes to accept size and licences"
                .to_owned(),
        )
        .into());
    }
    say::message("Download this and accept the licences? [y/N]");
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("cannot read the answer")?;
    match ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
        true => Ok(()),
        false => Err(Fault::NotFetched("nothing was downloaded".to_owned()).into()),
    }
}

/// Brings one file to its place.
fn fetch(web: &Web, store: &Store, one: &Missing, bar: &mut Bar) -> anyhow::Result<()> {
    let Missing { file, facts } = one;
    let (to, lock) = place(store, one);
    download::to_place(web, file, facts, &to, &lock, bar)?;
    if let (Source::HuggingFace, Some(etag), Some(commit)) =
        (file.source, &facts.etag, &facts.commit)
    {
        let repo = store.repo(&file.repo);
        let links = !store::is_set("HF_HUB_DISABLE_SYMLINKS");
        repo.publish(etag, commit, &file.path, links)
            .with_context(|| format!("cannot put {} into the cache", file.path))?;
    }
    Ok(())
}

/// Where everything is, on standard output, and whether the network's file is what it should be.
fn tell(
    args: &FetchArgs,
    preset: &Preset,
    store: &Store,
    files: &[&'static ModelFile],
) -> anyhow::Result<u8> {
    let mut places: Vec<(&ModelFile, PathBuf)> = Vec::new();
    for &file in files {
        let path = store.find(file);
        let path =
            path.with_context(|| format!("{} was downloaded and is gone again", file.path))?;
        check(preset, file, &path)?;
        places.push((file, path));
    }
    let text = match args.json {
        true => {
            let entry = |(file, path): &(&ModelFile, PathBuf)| json!({ "part": file.part.name(), "repo": file.repo, "file": file.path, "path": path });
            let files: Vec<_> = places.iter().map(entry).collect();
            format!(
                "{:#}\n",
                json!({ "schema": 1, "preset": preset.name, "files": files })
            )
        }
        false => places
            .iter()
            .map(|(_, path)| format!("{}\n", path.display()))
            .collect(),
    };
    // A reader that has gone is quiet.
    let _ = say::result(&text);
    Ok(0)
}

/// Holds the network's file to names, shapes and dtypes; of the others it is only seen that they can be read.
fn check(preset: &Preset, file: &ModelFile, path: &Path) -> anyhow::Result<()> {
    let is_weights = |end: &str| file.path.ends_with(end);
    match file.part {
        Part::Generator => models::check_generator(preset, path)?,
        Part::Lora => {
            let parts: Vec<&str> = preset.lora.iter().map(|lora| lora.part.as_str()).collect();
            Weights::open_part(path, &parts)?;
        }
        _ if [".pt", ".pth", ".safetensors"]
            .iter()
            .any(|end| is_weights(end)) =>
        {
            Weights::open(path)?;
        }
        _ => {}
    }
    Ok(())
}

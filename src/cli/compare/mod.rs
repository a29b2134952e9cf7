//! `longtake compare`: the same seeds under several settings of the cache, against one of them, as a report.

mod protocol;
mod run;
mod setting;

use anyhow::Context as _;
use longtake::compare::{self, Comparison, Files};
use longtake::gpu::Device;
use longtake::rollout::Session;

pub(super) use self::setting::Setting;

use self::run::{Studio, Trial};
use super::args::{CompareArgs, Voice, WorldArgs};
use super::fault::{Fault, INTERRUPTED};
use super::job::Scene;
use super::stop::Stop;
use super::{Clock, generate, say};

/// Compares; gives the exit code. Whatever ends it early, comparisons that are whole are reported.
pub(super) fn run(args: &CompareArgs, voice: &Voice, clock: Clock) -> anyhow::Result<u8> {
    let files = Files::new(&args.output, args.overwrite)?;
    let seeds = seeds(args)?;
    let scenes = scenes(args)?;
    let mut reporter = run::reporter(args, voice, clock);
    for text in scenes.iter().flat_map(|scene| &scene.warnings) {
        reporter.warn(text);
    }
    let device = generate::open_device(&args.network, &mut reporter)?;
    reporter.end_progress();
    check(args, &scenes, &device)?;
    let caps = device.caps().clone();
    // Every run opens its own; this one would only take memory beside it.
    drop(device);
    let stop = Stop::listen("this chunk; the report keeps the comparisons that are whole");
    let studio = Studio {
        args,
        voice,
        clock,
        stop: &stop,
    };
    let (mut runs, mut strips, mut fault) = (Vec::new(), Vec::new(), None);
    let of = scenes.len() * seeds.len();
    let pairs = scenes
        .iter()
        .flat_map(|scene| seeds.iter().map(move |seed| (scene, *seed)));
    let mut whole = 0;
    for (scene, seed) in pairs {
        let trial = match studio.trial(scene, seed, &format!("{}/{of}", whole + 1)) {
            Ok(Some(trial)) => trial,
            Ok(None) => break,
            Err(err) => {
                fault = Some(err);
                break;
            }
        };
        if strips.is_empty() {
            strips = compare::strips(&scene.walk, &trial.runs, &trial.films);
        }
        let Trial { runs: more, .. } = trial;
        runs.extend(more);
        whole += 1;
    }
    if whole == 0 {
        return Err(fault.unwrap_or_else(|| Fault::NothingWhole.into()));
    }
    let protocol = protocol::of(args, &scenes, &seeds, &caps, (whole, of));
    let comparison = Comparison::new(protocol, runs, strips);
    files.write(&comparison)?;
    if let Some(err) = fault {
        let kept = format!(
            "stopped; {whole} of {of} comparisons are whole, they are in {}",
            files.html().display()
        );
        return Err(err.context(kept));
    }
    tell(args, voice, &comparison, &files);
    Ok(if whole < of { INTERRUPTED } else { 0 })
}

fn tell(args: &CompareArgs, voice: &Voice, comparison: &Comparison, files: &Files) {
    // Whoever listened may have gone; the files are there.
    if args.json {
        let _ = say::result(&format!("{}\n", compare::json(comparison)));
        return;
    }
    if !voice.quiet {
        say::message(&compare::terminal(comparison));
    }
    let _ = say::result(&format!("{}\n", files.html().display()));
}

fn seeds(args: &CompareArgs) -> Result<Vec<u64>, Fault> {
    let seeds = match args.seeds.is_empty() {
        true => (0..u64::from(args.n_seeds)).collect(),
        false => args.seeds.clone(),
    };
    only_once("--seeds", &seeds)?;
    only_once("--films", &args.films)?;
    only_once("--kv", &args.kv)?;
    Ok(seeds)
}

/// Two equal runs would pass for two samples.
pub(super) fn only_once<T: PartialEq + std::fmt::Display>(
    flag: &str,
    values: &[T],
) -> Result<(), Fault> {
    let mut rest = values;
    while let [first, others @ ..] = rest {
        if others.contains(first) {
            let text = format!("{flag} names {first} twice; name it once");
            return Err(Fault::Usage(text));
        }
        rest = others;
    }
    Ok(())
}

/// One a film.
fn scenes(args: &CompareArgs) -> anyhow::Result<Vec<Scene>> {
    let films: Vec<Option<u32>> = match args.films.is_empty() {
        true => vec![args.world.film],
        false => args.films.iter().copied().map(Some).collect(),
    };
    let scene = |film| {
        let world = WorldArgs {
            film,
            ..args.world.clone()
        };
        Scene::new(args.model.as_deref(), &args.length, &world, None)
    };
    films.into_iter().map(scene).collect()
}

/// Every setting's own refusals, before the first of them runs.
fn check(args: &CompareArgs, scenes: &[Scene], device: &Device) -> anyhow::Result<()> {
    for scene in scenes {
        for setting in std::iter::once(&args.against).chain(&args.kv) {
            let config = run::config(args, 0, setting)?;
            Session::preview(device, &scene.model, &scene.walk.clone().into(), &config)
                .with_context(|| format!("{setting}"))?;
        }
    }
    Ok(())
}

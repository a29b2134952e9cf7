//! Settings to a recipe and back: what `--from` repeats is what a film stores.

use std::path::Path;

use anyhow::Context as _;
use longtake::gpu::Caps;
use longtake::media::Recipe;
use longtake::media::recipe as stored;
use longtake::ops::BiasFix;
use longtake::rollout::SPAN_FRAMES;
use longtake::rollout::event::Summary;
use longtake::text::Prompts;
use serde_json::{Value, json};

use super::args::{DecoderArg, Fix, GenerateArgs, Precision, Wall};
use super::fault::Fault;
use super::job::{Job, Scene, Subject};
use super::text::TextScene;
use super::values::{self, Attended, KvName, Seed, Size};

/// Value of `path` where the camera followed the default path, which another length then continues.
const DEFAULT_PATH: &str = "default";

/// Fills what was not asked for from the recipe in `file`; tells what may keep the film from coming out the same.
///
/// # Errors
/// When the file has no recipe, or one whose values this version does not take.
pub(super) fn fill(args: &mut GenerateArgs, file: &Path) -> anyhow::Result<Vec<String>> {
    let info = stored::read(file).context("--from")?;
    let recipe = info.recipe.ok_or_else(|| {
        Fault::Usage(format!(
            "--from: no recipe is stored in {file:?}; it was written with --no-metadata, or by another program"
        ))
    })?;
    fill_from(args, &recipe)
        .map_err(|what| Fault::Usage(format!("--from: {what}, in {file:?}")))?;
    let mut warnings = Vec::new();
    let (theirs, ours) = (recipe.version().unwrap_or("?"), env!("CARGO_PKG_VERSION"));
    if theirs != ours {
        warnings.push(format!(
            "{file:?} was made by longtake {theirs}, this is {ours}: frames may differ"
        ));
    }
    Ok(warnings)
}

fn fill_from(args: &mut GenerateArgs, recipe: &Recipe) -> Result<(), String> {
    let follows_default = recipe.get("path").and_then(Value::as_str) == Some(DEFAULT_PATH);
    let length_is_typed = args.length.frames.is_some()
        || args.length.seconds.is_some()
        || args.length.chunks.is_some();
    let place_is_typed = args.world.film.is_some() || args.world.given.is_some();
    let camera_is_typed = args.world.camera.is_some();
    if !camera_is_typed && !(follows_default && (length_is_typed || place_is_typed)) {
        args.world.camera = text(recipe, "camera")?;
    }
    if !length_is_typed && !camera_is_typed {
        args.length.frames = number(recipe, "frames")?
            .map(|n| values::frames(&n.to_string()).map_err(|why| format!("frames: {why}")))
            .transpose()?;
    }
    if args.seed.is_none() {
        args.seed = number(recipe, "seed")?.map(Seed::Fixed);
    }
    if args.model.is_none() {
        args.model = text(recipe, "model")?;
    }
    fill_text(args, recipe)?;
    let world = &mut args.world;
    let network = &mut args.network;
    fill_u32(&mut world.film, recipe, "film")?;
    fill_u32(&mut world.given, recipe, "given_frames")?;
    fill_u32(&mut network.steps, recipe, "steps")?;
    fill_u32(&mut network.sink, recipe, "sink")?;
    fill_u32(&mut args.output.scale, recipe, "scale")?;
    fill_u32(&mut args.output.fps, recipe, "fps")?;
    if network.window.is_none() {
        network.window = match recipe.get("window") {
            Some(Value::Null) => Some(Attended(None)),
            _ => u32_of(recipe, "window")?.map(|n| Attended(Some(n))),
        };
    }
    fill_enum::<Wall>(&mut world.on_wall, recipe, "on_wall")?;
    let kv = &mut args.kv;
    if [&kv.kv, &kv.kv_k, &kv.kv_v].iter().all(|n| n.is_none()) {
        kv.kv_k = kv_name(recipe, "cache_type_k")?;
        kv.kv_v = kv_name(recipe, "cache_type_v")?;
        fill_u32(&mut kv.kv_span, recipe, "kv_span")?;
        fill_u32(&mut kv.kv_recent, recipe, "kv_recent")?;
        fill_u32(&mut kv.kv_sink, recipe, "kv_sink")?;
        fill_enum::<Fix>(&mut kv.kv_bias_fix, recipe, "kv_bias_fix")?;
    }
    fill_enum::<Precision>(&mut network.weights, recipe, "weights")?;
    args.output.show_given |= recipe.get("show_given") == Some(&Value::Bool(true));
    Ok(())
}

/// The settings of a film from text; other films have none of them.
fn fill_text(args: &mut GenerateArgs, recipe: &Recipe) -> Result<(), String> {
    let (prompt, prompts) = (text(recipe, "prompt")?, recipe.get("prompts"));
    if prompt.is_none() && prompts.is_none() {
        return Ok(());
    }
    let typed = &mut args.text;
    let is_told = typed.words.is_some()
        || typed.prompt.is_some()
        || typed.prompts.is_some()
        || typed.embeddings.is_some();
    if !is_told {
        typed.stored = match (prompt, prompts) {
            (Some(prompt), _) => Some(Prompts::one(&prompt)),
            (None, Some(list)) => {
                let bytes = list.to_string();
                let list = Prompts::parse(Path::new("prompts"), bytes.as_bytes());
                Some(list.map_err(|why| why.to_string())?)
            }
            (None, None) => None,
        };
    }
    if typed.size.is_none() {
        let (width, height) = (u32_of(recipe, "width")?, u32_of(recipe, "height")?);
        typed.size = width
            .zip(height)
            .map(|(width, height)| Size { width, height });
    }
    fill_enum::<DecoderArg>(&mut typed.decoder, recipe, "decoder")?;
    if typed.preset.is_none() {
        typed.preset = text(recipe, "preset")?;
    }
    Ok(())
}

fn kv_name(recipe: &Recipe, key: &str) -> Result<Option<KvName>, String> {
    text(recipe, key)?
        .map(|t| t.parse().map_err(|why| format!("{key}: {why}")))
        .transpose()
}

fn text(recipe: &Recipe, key: &str) -> Result<Option<String>, String> {
    match recipe.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("{key} is {other}, not a text")),
    }
}

fn number(recipe: &Recipe, key: &str) -> Result<Option<u64>, String> {
    match recipe.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(n) => Ok(Some(n)),
            None => Err(format!("{key} is {value}, not a whole number")),
        },
    }
}

fn u32_of(recipe: &Recipe, key: &str) -> Result<Option<u32>, String> {
    number(recipe, key)?
        .map(|n| u32::try_from(n).map_err(|_| format!("{key} is {n}, which is too large")))
        .transpose()
}

fn fill_u32(slot: &mut Option<u32>, recipe: &Recipe, key: &str) -> Result<(), String> {
    if slot.is_none() {
        *slot = u32_of(recipe, key)?;
    }
    Ok(())
}

fn fill_enum<T: clap::ValueEnum>(
    slot: &mut Option<T>,
    recipe: &Recipe,
    key: &str,
) -> Result<(), String> {
    if slot.is_none() {
        *slot = text(recipe, key)?
            .map(|name| {
                T::from_str(&name, true).map_err(|_| format!("{key} {name:?} is not known"))
            })
            .transpose()?;
    }
    Ok(())
}

fn name(value: &impl clap::ValueEnum) -> Option<String> {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
}

/// The recipe of a film to come.
pub(super) fn of(job: &Job, caps: &Caps) -> Recipe {
    let mut recipe = Recipe::new();
    let subject = &job.subject;
    recipe
        .set("model", subject.model().name.as_str())
        .set("seed", job.config.seed)
        .set("frames", subject.frames());
    match subject {
        Subject::Walk(scene) => walk(&mut recipe, scene, job.show_given),
        Subject::Text(scene) => from_text(&mut recipe, scene),
    }
    let (width, height) = subject.size();
    recipe
        .set("fps", subject.fps())
        .set("width", width)
        .set("height", height)
        .set("scale", job.scale)
        .set("steps", job.steps)
        .set("window", job.config.window)
        .set("sink", job.config.sink)
        .set("cache_type_k", job.kv.names[0].as_str())
        .set("cache_type_v", job.kv.names[1].as_str())
        .set("weights", name(&job.precision));
    if let Some(c) = &job.kv.coded {
        let fix = match c.pair.bias {
            BiasFix::Off => "off",
            BiasFix::Step => "step",
            BiasFix::Energy => "energy",
        };
        recipe
            .set("kv_span", c.span.unwrap_or(SPAN_FRAMES))
            .set("kv_recent", c.recent)
            .set("kv_sink", c.sink)
            .set("kv_bias_fix", fix);
    }
    recipe
        .set("device", caps.name.as_str())
        .set("backend", caps.backend.as_str())
        .set("driver", caps.driver.as_str())
        .set("tier", caps.tier.name());
    recipe
}

fn walk(recipe: &mut Recipe, scene: &Scene, show_given: bool) {
    let path = match scene.follows_default {
        true => DEFAULT_PATH,
        false => "given",
    };
    recipe
        .set("film", scene.film_idx)
        .set("film_name", scene.film_name.as_str())
        .set("given_frames", scene.walk.given.len())
        .set("show_given", show_given)
        .set("camera", scene.camera.as_str())
        .set("path", path)
        .set("on_wall", name(&scene.on_wall));
}

fn from_text(recipe: &mut Recipe, scene: &TextScene) {
    match scene.prompts.single() {
        Some(prompt) => recipe.set("prompt", prompt),
        None => recipe.set("prompts", scene.prompts.to_json()),
    };
    recipe.set("decoder", scene.decoder.name());
    if let Some(preset) = scene.preset {
        recipe.set("preset", preset);
    }
}

/// Adds what the run took.
pub(super) fn add_run(recipe: &mut Recipe, summary: &Summary) {
    let ms = |secs: f64| (secs * 1000.0).round() / 1000.0;
    let timings: serde_json::Map<String, Value> = summary
        .timings
        .iter()
        .map(|t| (t.stage.clone(), json!(ms(t.secs))))
        .collect();
    recipe
        .set("frames_made", summary.frames)
        .set("interrupted", summary.interrupted)
        .set("secs", ms(summary.secs))
        .set("first_frame_secs", ms(summary.first_frame_secs))
        .set("fps_made", ms(summary.fps))
        .set("fps_model", ms(summary.fps_model))
        .set("cache_bytes", summary.cache_bytes)
        .set("kv_bits_per_element", ms(summary.kv.bits_per_element))
        .set("peak_device_bytes", summary.peak_device_bytes)
        .set("timings", Value::Object(timings));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Command;
    use crate::cli::parse;

    fn typed(line: &str) -> GenerateArgs {
        let line = format!("longtake generate {line}");
        let cli = parse::parse(line.split_whitespace().map(Into::into)).unwrap();
        match cli.command {
            Some(Command::Generate(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn film() -> Recipe {
        let mut recipe = Recipe::new();
        recipe
            .set("model", "rooms")
            .set("seed", u64::MAX)
            .set("frames", 4)
            .set("camera", "w-4")
            .set("path", DEFAULT_PATH)
            .set("window", Value::Null)
            .set("cache_type_k", "bf16")
            .set("on_wall", "refuse")
            .set("show_given", true);
        recipe
    }

    #[test]
    fn a_recipe_fills_what_was_not_typed() {
        let mut args = typed("--kv f32");
        fill_from(&mut args, &film()).unwrap();
        assert_eq!(args.seed, Some(Seed::Fixed(u64::MAX)));
        assert_eq!(
            (args.length.frames, args.world.camera.as_deref()),
            (Some(4), Some("w-4"))
        );
        assert_eq!(args.kv.kv.as_ref().map(KvName::as_str), Some("f32"));
        assert!(args.kv.kv_k.is_none() && args.kv.kv_v.is_none());
        assert_eq!(args.network.window, Some(Attended(None)));
        assert_eq!(args.world.on_wall, Some(Wall::Refuse));
        assert!(args.output.show_given);
    }

    #[test]
    fn another_length_continues_the_default_path() {
        let mut args = typed("--frames 9");
        fill_from(&mut args, &film()).unwrap();
        assert_eq!((args.length.frames, args.world.camera), (Some(9), None));
    }

    #[test]
    fn another_camera_brings_its_own_length() {
        let mut args = typed("--camera s-2");
        fill_from(&mut args, &film()).unwrap();
        assert_eq!(
            (args.length.frames, args.world.camera.as_deref()),
            (None, Some("s-2"))
        );
    }

    #[test]
    fn values_of_the_wrong_kind_are_named() {
        for (key, value) in [
            ("seed", json!("x")),
            ("seed", json!(-1)),
            ("camera", json!(3)),
            ("film", json!(1e30)),
            ("film", json!(u64::MAX)),
            ("cache_type_k", json!("q2")),
            ("frames", json!(0)),
            ("window", json!("a")),
        ] {
            let mut recipe = film();
            recipe.set(key, value);
            let why = fill_from(&mut typed(""), &recipe).unwrap_err();
            assert!(why.contains(key), "{why}");
        }
    }
}

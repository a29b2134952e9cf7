//! Films from text by the real binary: a model folder of two blocks with its own text encoder, tokenizer and decoder.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::{Outcome, Scratch, check_phases, device, has, json, probe};
use crate::support::toy;

const PROMPT: &str = "A cat walks on the grass.";

/// A scratch folder with the model in `tiny/`.
fn scratch() -> Scratch {
    let scratch = Scratch::new();
    toy::write(&scratch.path("tiny"));
    scratch
}

fn shader_cache() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    cache.or_else(|| Some(std::env::home_dir()?.join(".cache")))
}

/// Runs `generate` on the tests' device with caches of its own.
fn generate(scratch: &Scratch, args: &[&str]) -> Outcome {
    let mut command = scratch.command(["generate", "--device", device()]);
    command.args(args);
    for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE"] {
        command.env_remove(name);
    }
    command.env("HF_HOME", scratch.path("hf"));
    command.env("XDG_CACHE_HOME", scratch.path("cache"));
    // Mesa's own cache stays where it is, or every run compiles all shaders again.
    if let Some(shaders) = shader_cache() {
        command.env("MESA_SHADER_CACHE_DIR", shaders);
    }
    Outcome::of(command.output().unwrap())
}

fn events(out: &str) -> Vec<Value> {
    out.lines().map(json).collect()
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|e| e["event"] == name).collect()
}

#[test]
fn a_prompt_becomes_a_film_that_can_be_made_again() {
    let scratch = scratch();
    let args = ["-m", "tiny", PROMPT, "--seed", "7", "--frames", "10"];
    let out = generate(
        &scratch,
        &[&args[..], &["--json", "-o", "cat.mp4"]].concat(),
    )
    .ok();
    let mut all = events(&out);
    all.retain(|e| e["event"] != "loading");
    let names: Vec<&str> = all.iter().map(|e| e["event"].as_str().unwrap()).collect();
    // Ten frames are more than a chunk's nine, so it is two chunks.
    let mut expected = vec!["warning", "text_encoded", "plan"];
    for chunk in 0..2 {
        expected.push("chunk_started");
        expected.extend(match chunk {
            0 => vec!["prompt_set"],
            _ => vec!["pass_done"],
        });
        expected.extend(["pass_done"; 4]);
        expected.extend(["frames_ready", "memory", "kv"]);
    }
    expected.extend(["saved", "done"]);
    assert_eq!(names, expected);
    assert_eq!(check_phases(&all), 2);
    let text = &all[1];
    assert_eq!(
        (&text["prompt"], &text["tokens"]),
        (&PROMPT.into(), &12.into())
    );
    assert_eq!((&text["lost"], &text["cached"]), (&0.into(), &false.into()));
    let plan = &all[2];
    assert_eq!(
        (&plan["frames"], &plan["given_frames"], &plan["fps"]),
        (&21.into(), &0.into(), &16.into())
    );
    assert_eq!((&plan["width"], &plan["height"]), (&48.into(), &32.into()));
    let done = all.last().unwrap();
    assert_eq!((&done["frames"], &done["seed"]), (&21.into(), &7.into()));
    // The encoder was gone when the network came.
    assert_eq!(
        done["peak_device_bytes"],
        plan["planned"]["peak_device_bytes"]
    );
    if has("ffprobe") {
        assert_eq!(probe(&scratch.path("cat.mp4")), 21);
    }
    let info = json(
        &Outcome::of(
            scratch
                .command(["info", "--json", "cat.mp4"])
                .output()
                .unwrap(),
        )
        .ok(),
    );
    let recipe = &info["recipe"];
    assert_eq!(
        (&recipe["model"], &recipe["prompt"], &recipe["decoder"]),
        (&"tiny".into(), &PROMPT.into(), &"taehv".into())
    );
    assert_eq!(recipe["steps"], 4);

    // The same again from the film itself; the prompt is not encoded a second time.
    let again = ["--from", "cat.mp4", "-o", "again.mp4", "--json"];
    let out = generate(&scratch, &again).ok();
    let again = events(&out);
    assert_eq!(named(&again, "text_encoded")[0]["cached"], true);
    assert!(scratch.path("again.mp4").is_file());
    let film = |line: &[&str]| {
        let all = [line, &["-m", "tiny", "-o", "film.y4m", "-y"]].concat();
        generate(&scratch, &all).ok();
        fs::read(scratch.path("film.y4m")).unwrap()
    };
    let first = film(&[PROMPT, "--seed", "7", "--frames", "9"]);
    for same in [
        vec!["-p", PROMPT, "--seed", "7", "--chunks", "1"],
        vec!["--from", "cat.mp4", "--frames", "9", "--scale", "1"],
    ] {
        assert!(first == film(&same), "{same:?}");
    }
    for other in [
        vec![PROMPT, "--seed", "8", "--frames", "9"],
        vec!["the the the", "--seed", "7", "--frames", "9"],
    ] {
        assert!(first != film(&other), "{other:?}");
    }
    let large = film(&[PROMPT, "--seed", "7", "--frames", "9", "--size", "64x48"]);
    assert!(large.starts_with(b"YUV4MPEG2 W64 H48 "));
}

#[test]
fn either_decoder_makes_the_pictures_and_is_kept_in_the_recipe() {
    let scratch = scratch();
    let args = ["-m", "tiny", PROMPT, "--seed", "7", "--frames", "9"];
    let film = |more: &[&str]| {
        generate(&scratch, &[&args[..], more].concat()).ok();
    };
    film(&["-o", "small.y4m"]);
    film(&["-o", "own.y4m", "--decoder", "wan"]);
    generate(&scratch, &["--from", "own.json", "-o", "again.y4m"]).ok();
    let read = |name: &str| fs::read(scratch.path(name)).unwrap();
    assert_eq!(read("small.y4m").len(), read("own.y4m").len());
    assert!(read("small.y4m") != read("own.y4m"));
    assert!(read("again.y4m") == read("own.y4m"));
}

#[test]
fn saved_embeddings_need_no_encoder() {
    let scratch = scratch();
    let common = ["-m", "tiny", "--seed", "7", "--frames", "9"];
    let save = [
        PROMPT,
        "-o",
        "a.y4m",
        "--save-embeddings",
        "cat.safetensors",
    ];
    generate(&scratch, &[&common[..], &save].concat()).ok();
    for name in ["text_encoder.safetensors", "spiece.model"] {
        fs::remove_file(scratch.path("tiny").join(name)).unwrap();
    }
    fs::remove_dir_all(scratch.path("cache")).unwrap();
    let load = ["-o", "b.y4m", "--embeddings", "cat.safetensors"];
    generate(&scratch, &[&common[..], &load].concat()).ok();
    let film = |name: &str| fs::read(scratch.path(name)).unwrap();
    assert!(film("a.y4m") == film("b.y4m"));
    let err = generate(&scratch, &[&common[..], &save, &["-y"]].concat()).refused(4);
    assert!(
        err.contains("lacks spiece.model, text_encoder.safetensors"),
        "{err}"
    );
    let err = generate(&scratch, &[&common[..], &load, &[PROMPT]].concat()).refused(2);
    assert!(err.contains("cannot be used with"), "{err}");
}

#[test]
fn prompts_follow_each_other_and_blend() {
    let scratch = scratch();
    let list = r#"{"prompts": [{"prompt": "A cat walks on the grass."}, {"seconds": 0.5, "prompt": "the the the", "blend_chunks": 2}]}"#;
    fs::write(scratch.path("shots.json"), list).unwrap();
    let args = ["-m", "tiny", "--seed", "7", "--chunks", "5", "--json"];
    let film = ["--prompts", "shots.json", "-o", "a.mp4"];
    let out = generate(&scratch, &[&args[..], &film].concat()).ok();
    let all = events(&out);
    let chunks = |events: &[Value]| -> Vec<(u64, u64)> {
        let number = |e: &Value, key: &str| e[key].as_u64().unwrap();
        let set = named(events, "prompt_set");
        set.iter()
            .map(|e| (number(e, "chunk"), number(e, "first_frame")))
            .collect()
    };
    // Half a second is frame 8; the first chunk that begins there or later is the second.
    assert_eq!(chunks(&all), [(0, 0), (1, 9), (2, 21), (3, 33)]);
    assert_eq!(named(&all, "text_encoded").len(), 2);
    let out = generate(
        &scratch,
        &["-m", "tiny", "--from", "a.mp4", "-o", "b.mp4", "--json"],
    )
    .ok();
    let again = events(&out);
    assert_eq!(chunks(&again), chunks(&all));

    for (list, says) in [
        ("{", "shots.json"),
        (
            r#"{"prompts": [{"prompt": "a"}, {"chunk": 0, "prompt": "b"}]}"#,
            "chunk 1 is the first",
        ),
    ] {
        fs::write(scratch.path("shots.json"), list).unwrap();
        let err = generate(&scratch, &[&["-m", "tiny"], &film[..], &["-y"]].concat()).refused(2);
        assert!(err.contains(says), "{err}");
    }
    let err = generate(&scratch, &["-m", "tiny", "--prompts", "none.json"]).refused(2);
    assert!(err.contains("none.json"), "{err}");
}

#[test]
fn what_is_missing_is_named_with_the_command_that_brings_it() {
    let scratch = scratch();
    let err = generate(&scratch, &["-m", "self-forcing", PROMPT]).refused(4);
    for says in [
        "self_forcing_dmd.pt",
        "models_t5_umt5-xxl-enc-bf16.pth",
        "spiece.model",
        "taew2_1.safetensors",
        "longtake fetch self-forcing",
    ] {
        assert!(err.contains(says), "{says}: {err}");
    }
    // A change of weights is a file like the others.
    let err = generate(&scratch, &["-m", "longlive", PROMPT]).refused(4);
    for says in [
        "longlive_base.pt",
        "lora (lora.pt)",
        "longtake fetch longlive",
    ] {
        assert!(err.contains(says), "{says}: {err}");
    }
    for (file, says) in [
        ("generator.safetensors", "lacks generator.safetensors"),
        ("taehv.safetensors", "lacks taehv.safetensors"),
        ("text_encoder.safetensors", "lacks text_encoder.safetensors"),
        ("spiece.model", "lacks spiece.model"),
    ] {
        let (from, to) = (scratch.path("tiny").join(file), scratch.path("aside"));
        fs::rename(&from, &to).unwrap();
        let err = generate(&scratch, &["-m", "tiny", PROMPT]).refused(4);
        assert!(err.contains(says), "{err}");
        fs::rename(&to, &from).unwrap();
    }
    // Files of another model and damaged ones say which file.
    let folder = scratch.path("tiny");
    fs::copy(
        folder.join("taehv.safetensors"),
        folder.join("generator.pt"),
    )
    .unwrap();
    fs::remove_file(folder.join("generator.safetensors")).unwrap();
    let err = generate(&scratch, &["-m", "tiny", PROMPT]).refused(2);
    assert!(err.contains("generator.pt"), "{err}");
    fs::write(folder.join("config.json"), r#"{"dit": {}}"#).unwrap();
    let err = generate(&scratch, &["-m", "tiny", PROMPT]).refused(2);
    assert!(
        err.contains("config.json") && err.contains("missing field"),
        "{err}"
    );
    for damaged in [
        &b""[..],
        b"{\"dit\": {\"dim",
        b"<!DOCTYPE html>",
        &[0; 100],
        &[0xff; 100],
    ] {
        fs::write(folder.join("config.json"), damaged).unwrap();
        let err = generate(&scratch, &["-m", "tiny", PROMPT]).refused(2);
        let says = "use the config.json that came with the weights";
        assert!(
            err.contains("tiny/config.json") && err.contains(says),
            "{err}"
        );
    }
}

/// Every file of a model, damaged as files are, or another one in its place: what is said names the file and what to do.
#[test]
fn damaged_files_of_a_model_are_told_by_name() {
    let scratch = scratch();
    let folder = scratch.path("tiny");
    let page: &[u8] = b"<!DOCTYPE html><html>404</html>";
    let pointer: &[u8] = b"version https://git-lfs.github.com/spec/v1\nsize 22642902\n";
    let pickle = fs::read(toy::fixture("pickle/bad_os_system.pt")).unwrap();
    let weights = [
        "generator.safetensors",
        "taehv.safetensors",
        "text_encoder.safetensors",
        "vae.safetensors",
    ];
    for (i, file) in weights.iter().chain(&["spiece.model"]).enumerate() {
        let path = folder.join(file);
        let whole = fs::read(&path).unwrap();
        let other = fs::read(folder.join(weights[(i + 1) % weights.len()])).unwrap();
        let is_weights = file.ends_with(".safetensors");
        let mut damages = vec![
            (Vec::new(), "download it again"),
            (whole[..whole.len() / 2].to_vec(), "again"),
            (page.to_vec(), "the download went to a page"),
            (pointer.to_vec(), "git lfs pull"),
        ];
        match is_weights {
            true => damages.extend([
                (other, "check model and config|belongs to another model"),
                (pickle.clone(), "take a .safetensors file"),
                (
                    [&whole[..], &[0; 9]].concat(),
                    "download or export it again",
                ),
            ]),
            false => damages.push((other, "a safetensors file of weights")),
        }
        for (bytes, says) in damages {
            fs::write(&path, &bytes).unwrap();
            let decoder = if file.starts_with("vae") {
                "wan"
            } else {
                "taehv"
            };
            let args = ["-m", "tiny", PROMPT, "--decoder", decoder, "-y"];
            let err = generate(&scratch, &args).refused(2);
            assert!(err.contains(&format!("tiny/{file}")), "{file}: {err}");
            assert!(
                says.split('|').any(|says| err.contains(says)),
                "{file}, {says}: {err}"
            );
        }
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn flags_of_the_other_kind_of_model_are_refused_by_name() {
    let scratch = scratch();
    for (args, says) in [
        (vec!["-m", "tiny"], "needs a prompt"),
        (vec!["-m", "tiny", " "], "the prompt is empty"),
        (
            vec!["-m", "tiny", PROMPT, "--camera", "w-3"],
            "--camera is for demo worlds",
        ),
        (
            vec!["-m", "tiny", PROMPT, "--show-given"],
            "--show-given is for demo worlds",
        ),
        (
            vec!["-m", "tiny", PROMPT, "-n", "blurry"],
            "distilled to run without guidance",
        ),
        (
            vec!["-m", "tiny", PROMPT, "--size", "50x32"],
            "48x32 is near",
        ),
        (
            vec!["-m", "tiny", PROMPT, "--steps", "2"],
            "distilled for 4 steps",
        ),
        (
            vec!["-m", "tiny", PROMPT, "--preset", "longlive"],
            "says its own sizes",
        ),
        (
            vec!["-m", "tiny", PROMPT, "--view", "--save-embeddings", "a"],
            "--view does not go with --save-embeddings",
        ),
        (
            vec!["-m", "tiny", PROMPT, "--window", "3", "--sink", "1"],
            "window",
        ),
        (
            vec!["-m", "self-forcing", "--preset", "longlive", PROMPT],
            "two models",
        ),
        (vec![PROMPT], "add --model self-forcing"),
        (vec!["--size", "64x48"], "--size is for text models"),
        (
            vec!["--embeddings", "a.safetensors"],
            "--embeddings is for text models",
        ),
    ] {
        let err = generate(&scratch, &args).refused(2);
        assert!(err.contains(says), "{args:?}: {err}");
    }
    let err = scratch.run("compare -m tiny").refused(2);
    assert!(err.contains("is a text model"), "{err}");
    assert_eq!(scratch.names(), ["tiny"]);
}

#[test]
fn a_prompt_beyond_the_model_is_cut_and_that_is_said() {
    let scratch = scratch();
    let long = "the ".repeat(40);
    let args = ["-m", "tiny", &long, "--frames", "9", "-o", "a.y4m", "-y"];
    let first = generate(&scratch, &args);
    assert!(first.err.contains("25 tokens too long"), "{}", first.err);
    first.ok();
    // It is kept like any other.
    fs::remove_file(scratch.path("tiny").join("taehv.safetensors")).unwrap();
    let err = generate(&scratch, &args).refused(4);
    assert!(
        err.contains("lacks taehv") && !err.contains("encoder"),
        "{err}"
    );
}

#[test]
fn a_dry_run_encodes_nothing() {
    let scratch = scratch();
    let out = generate(
        &scratch,
        &["-m", "tiny", PROMPT, "--dry-run", "--seed", "1"],
    )
    .ok();
    assert!(
        out.contains("81 frames of 48x32 at 16 a second") && !out.contains("given"),
        "{out}"
    );
    assert_eq!(scratch.names(), ["tiny"]);
}

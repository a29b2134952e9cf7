//! `longtake generate --view`: the same film in a window, which is a program of its own so that this one needs none of what
//! draws it. All is checked here first, by the words of `generate`; the window is told what came out.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use clap::ValueEnum as _;

use super::args::{GenerateArgs, TierArg};
use super::fault::{FAILED, Fault};
use super::job::{Job, Subject};
use super::report::Reporter;
use super::stop::Stop;

/// The program that has the window.
const PROGRAM: &str = "longtake-viewer";

/// Shows the film while it is made, until the window closes; gives the window's exit code.
pub(super) fn run(args: &GenerateArgs, job: &Job, reporter: &mut Reporter) -> anyhow::Result<u8> {
    refuse(args, job)?;
    let own = std::env::current_exe().ok();
    let program = find(own.as_deref(), std::env::var_os("PATH").as_deref()).ok_or_else(|| {
        Fault::Usage(format!(
            "--view: {PROGRAM} lies neither beside this program nor in PATH; build it with: cargo build --release -p {PROGRAM}"
        ))
    })?;
    reporter.end_progress();
    // Ctrl-C reaches the window as well; this program only waits for it.
    let _stop = Stop::listen("the window");
    let status = Command::new(&program)
        .args(flags(args, job))
        .status()
        .with_context(|| format!("--view: {} cannot be started", program.display()))?;
    Ok(status
        .code()
        .map_or(FAILED, |code| u8::try_from(code).unwrap_or(FAILED)))
}

/// What has no meaning in a window.
fn refuse(args: &GenerateArgs, job: &Job) -> Result<(), Fault> {
    let no = |what: &str, why: &str| {
        Err(Fault::Usage(format!(
            "--view does not go with {what}: {why}"
        )))
    };
    if job.target.is_stdout() {
        return no(
            "--output -",
            "a window can go back in the film; name a file",
        );
    }
    if args.output.dump_kv.is_some() {
        return no(
            "--dump-kv",
            "the film in a window has no end of its own; leave --view out",
        );
    }
    if args.budget.auto_fit || args.budget.max_vram.is_some() {
        return no(
            "--auto-fit or --max-vram",
            "there the bits are turned while the film is made",
        );
    }
    if args.text.save_embeddings.is_some() {
        return no(
            "--save-embeddings",
            "the window encodes prompts itself; leave --view out",
        );
    }
    if args.reports.timings {
        return no(
            "--timings",
            "waiting for every stage would hold up the window",
        );
    }
    if let Some(name) = job
        .kv
        .names
        .iter()
        .find(|n| n.exact().is_some() && n.as_str() != "f16")
    {
        return no(
            &format!("--kv {name}"),
            "there the bits can be turned, and what is exact is f16",
        );
    }
    Ok(())
}

/// The window's program: beside this one, else in `PATH`.
fn find(own: Option<&Path>, path: Option<&OsStr>) -> Option<PathBuf> {
    let name = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
    let beside = own.and_then(Path::parent).map(Path::to_owned);
    let folders = path.map(std::env::split_paths).into_iter().flatten();
    beside
        .into_iter()
        .chain(folders)
        .map(|folder| folder.join(&name))
        .find(|file| file.is_file())
}

/// The settled film in the window's flags. Nothing is left to its own defaults, which are those of a walk without an end.
fn flags(args: &GenerateArgs, job: &Job) -> Vec<OsString> {
    let config = &job.config;
    let [k, v] = &job.kv.names;
    let tier = match args.network.tier {
        Some(TierArg::Portable) => "portable",
        _ => "auto",
    };
    let weights = job.precision.to_possible_value();
    let mut flags: Vec<OsString> = vec!["--walk".into()];
    let mut flag = |name: &str, value: &dyn std::fmt::Display| {
        // One word each, so that no value is taken for a flag.
        flags.push(format!("--{name}={value}").into());
    };
    match &job.subject {
        Subject::Walk(scene) => {
            flag("film", &scene.film_idx);
            flag("given", &scene.walk.given.len());
            flag("camera", &scene.camera);
        }
        Subject::Text(scene) => {
            let (width, height) = job.subject.size();
            flag("picture", &format!("{width}x{height}"));
            flag("decoder", &scene.decoder.name());
            match (&args.text.embeddings, scene.prompts.single()) {
                // Told below, as a path.
                (Some(_), _) => {}
                (None, Some(prompt)) => flag("prompt", &prompt),
                (None, None) => flag("prompts", &scene.prompts.to_json()),
            }
            if let Some(preset) = &args.text.preset {
                flag("preset", preset);
            }
        }
    }
    flag("frames", &job.subject.frames());
    flag("seed", &config.seed);
    flag("window", &config.window.unwrap_or(0));
    flag("sink", &config.sink);
    flag("steps", &job.steps);
    flag("offload", &config.offload);
    flag("weights", &weights.as_ref().map_or("f16", |w| w.get_name()));
    flag("tier", &tier);
    flag("kv-k", k);
    flag("kv-v", v);
    if let Some(coded) = &config.coded {
        let span = coded.span.unwrap_or(longtake::rollout::SPAN_FRAMES);
        flag("kv-span", &span);
        flag("kv-recent", &coded.recent);
        flag("kv-sink", &coded.sink);
    }
    if let Some(fix) = args.kv.kv_bias_fix.and_then(|fix| fix.to_possible_value()) {
        flag("kv-bias-fix", &fix.get_name());
    }
    flag("fps", &job.subject.fps());
    flag("scale-film", &job.scale);
    if let Some(device) = &args.network.device {
        flag("device", device);
    }
    let mut path = |name: &str, value: &OsStr| {
        let mut word = OsString::from(format!("--{name}="));
        word.push(value);
        flags.push(word);
    };
    path("output", job.target.path.as_os_str());
    if let Some(model) = &args.model {
        path("model", OsStr::new(model));
    }
    for (name, value) in [
        ("embeddings", &args.text.embeddings),
        ("comfyui", &args.text.comfyui),
    ] {
        if let Some(value) = value {
            path(name, value.as_os_str());
        }
    }
    for (is_on, name) in [
        (args.output.overwrite, "--overwrite"),
        (job.show_given, "--show-given"),
        (args.output.no_metadata, "--no-metadata"),
        (args.reports.json, "--json"),
    ] {
        if is_on {
            flags.push(name.into());
        }
    }
    flags
}

#[cfg(test)]
#[path = "../../tests/it/support/toy.rs"]
mod toy;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Command as Asked;
    use crate::cli::parse;

    fn of(line: &str) -> (GenerateArgs, Job) {
        let line = format!("longtake generate {line}");
        let cli = parse::parse(line.split_whitespace().map(Into::into)).unwrap();
        match cli.command {
            Some(Asked::Generate(args)) => {
                let job = Job::new(&args).unwrap();
                (*args, job)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_window_is_told_what_was_settled() {
        let (args, job) = of(
            "--view --seed 7 --camera left-5 --frames 3 --window 20 --kv-k qvg --kv-v 4bit --kv-span 4 -o never.mp4 --show-given",
        );
        let flags = flags(&args, &job);
        for flag in [
            "--seed=7",
            "--camera=left-3",
            "--frames=3",
            "--window=20",
            "--kv-k=qvg-int2",
            "--kv-v=int4",
            "--kv-span=4",
            "--kv-recent=0",
            "--kv-sink=1",
            "--steps=2",
            "--offload=0",
            "--output=never.mp4",
            "--show-given",
        ] {
            assert!(flags.iter().any(|f| f == flag), "{flag} in {flags:?}");
        }
        assert!(!flags.iter().any(|f| f == "--json"));
    }

    #[test]
    fn a_film_from_text_is_told_in_the_same_words() {
        let folder = std::env::temp_dir().join(format!("longtake-told-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (model, list) = (folder.join("tiny"), folder.join("shots.json"));
        toy::write(&model);
        let text = r#"{"prompts": [{"prompt": "a cat"}, {"chunk": 2, "prompt": "a dog"}]}"#;
        std::fs::write(&list, text).unwrap();
        let line = format!(
            "--view -m {} --seed 7 --frames 20 --kv int4 -o never.mp4",
            model.display()
        );
        let told = |more: String| {
            let (args, job) = of(&format!("{line} {more}"));
            assert!(refuse(&args, &job).is_ok());
            flags(&args, &job)
        };
        let model = format!("--model={}", model.display());
        let one = told("-p cat".into());
        for flag in [
            model.as_str(),
            "--prompt=cat",
            "--picture=48x32",
            "--decoder=taehv",
            "--frames=21",
            "--seed=7",
            "--window=0",
            "--sink=0",
            "--kv-k=int4",
            "--kv-span=3",
            "--fps=16",
        ] {
            assert!(one.iter().any(|f| f == flag), "{flag} in {one:?}");
        }
        let several = told(format!("--prompts {}", list.display()));
        let told = several.iter().filter_map(|f| f.to_str());
        let told: Vec<&str> = told.filter_map(|f| f.strip_prefix("--prompts=")).collect();
        let [told] = told[..] else {
            panic!("{several:?}")
        };
        let read = longtake::text::Prompts::parse(Path::new("a"), told.as_bytes()).unwrap();
        assert_eq!(read, longtake::text::Prompts::open(&list).unwrap());
        std::fs::remove_dir_all(&folder).ok();
    }

    #[test]
    fn what_has_no_meaning_in_a_window_is_refused() {
        for (line, what) in [
            ("--view --kv bf16", "--kv bf16"),
            ("--view --timings", "--timings"),
            ("--view --dump-kv never.safetensors", "--dump-kv"),
        ] {
            let (args, job) = of(line);
            let why = refuse(&args, &job).unwrap_err().to_string();
            assert!(why.contains(what), "{why}");
        }
        let (args, job) = of("--view --kv int2 --offload 2");
        assert!(refuse(&args, &job).is_ok());
        assert!(flags(&args, &job).iter().any(|f| f == "--offload=2"));
    }

    #[test]
    fn the_program_beside_this_one_comes_first() {
        let folder = std::env::temp_dir().join(format!("longtake-view-{}", std::process::id()));
        let name = format!("{PROGRAM}{}", std::env::consts::EXE_SUFFIX);
        let (beside, far) = (folder.join("a"), folder.join("b"));
        for folder in [&beside, &far] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let own = beside.join("longtake");
        let path = far.as_os_str();
        assert_eq!(find(Some(&own), Some(path)), None);
        std::fs::write(far.join(&name), "").unwrap();
        assert_eq!(find(Some(&own), Some(path)), Some(far.join(&name)));
        std::fs::write(beside.join(&name), "").unwrap();
        assert_eq!(find(Some(&own), Some(path)), Some(beside.join(&name)));
        std::fs::remove_dir_all(&folder).ok();
    }
}

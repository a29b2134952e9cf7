//! The program from the outside: the real binary in a folder of its own.

mod compare;
mod fetch;
mod film;
mod hub;
mod kill;
mod kv;
mod plan;
mod selftest;
mod text;
mod usage;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder of its own for one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("longtake-cli-{}-{n}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// The program in this folder, without the caller's settings.
    fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longtake"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LONGTAKE_") {
                command.env_remove(name);
            }
        }
        // Mesa's device selection complains on standard error where there is none.
        command.env("XDG_RUNTIME_DIR", &self.0);
        command.args(args).current_dir(&self.0).stdin(Stdio::null());
        command
    }

    /// Runs a command line, split at blanks.
    fn run(&self, line: &str) -> Outcome {
        Outcome::of(self.command(line.split_whitespace()).output().unwrap())
    }

    /// As `run`, for a film of the built-in world on the device that the tests have.
    fn generate(&self, line: &str) -> Outcome {
        self.run(&format!("generate --device {} {line}", device()))
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A folder left behind is no reason to fail.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a run left.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Outcome {
    fn of(output: Output) -> Self {
        let this = Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(!this.err.contains("panicked"), "{}", this.err);
        this
    }

    /// Its standard output, after checking that it ended well.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Its complaint, after checking the exit code and that there is exactly one.
    #[track_caller]
    fn refused(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.err.matches("error: ").count(), 1, "{}", self.err);
        self.err
    }
}

/// What the tests run on: the first adapter, else the CPU twins.
fn device() -> &'static str {
    static DEVICE: OnceLock<&str> = OnceLock::new();
    DEVICE.get_or_init(|| {
        let json = json(&Scratch::new().run("devices --json").ok());
        match json["devices"].as_array().unwrap().len() {
            1 => "cpu",
            _ => "0",
        }
    })
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|err| panic!("{err} in {text}"))
}

/// Holds every chunk's decoding and its passes to the time that the chunk took; gives the chunks.
fn check_phases(events: &[serde_json::Value]) -> usize {
    let secs = |e: &serde_json::Value, key: &str| e[key].as_f64().unwrap();
    let (mut passes, mut chunks) = (0.0, 0);
    for event in events {
        match event["event"].as_str() {
            Some("chunk_started") => passes = 0.0,
            Some("pass_done") => passes += secs(event, "secs"),
            Some("frames_ready") => {
                let (decode, all) = (secs(event, "decode_secs"), secs(event, "secs"));
                assert!(
                    0.0 < decode && passes + decode <= all,
                    "{passes} before {event}"
                );
                chunks += 1;
            }
            _ => {}
        }
    }
    chunks
}

fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("-version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        eprintln!("SKIPPED: needs {program}");
    }
    found
}

/// Frames that ffprobe decodes.
fn probe(path: &Path) -> u64 {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-of", "csv=p=0"])
        .args(["-show_entries", "stream=nb_read_frames"])
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    text.trim().trim_end_matches(',').parse().unwrap_or(0)
}

//! Where the film goes: `--output` and `--format` settled into one name.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use longtake::media::{self, Format};
use longtake::weights::Existing;

use super::args::{FileFormat, OutputArgs};
use super::fault::Fault;

/// Films of one second and seed that get a name of their own.
const MOST_NAMES: u32 = 1000;

/// A film's name, its format known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) path: PathBuf,
    pub(super) format: Format,
}

impl Target {
    /// # Errors
    /// For names without a format and formats that contradict the name; for an MP4 or Y4M that is there already.
    pub(super) fn new(args: &OutputArgs, model: &str, seed: u64) -> anyhow::Result<Target> {
        let here = Path::new(".");
        let path = args.output.as_deref().unwrap_or(here);
        let format = args.format.map(format_of);
        if media::is_folder(path) {
            let stem = format!("{}_{}_{seed}", stamp(SystemTime::now()), plain(model));
            let folder = if path == here { Path::new("") } else { path };
            return Ok(free_name(folder, &stem, format.unwrap_or(Format::Mp4)));
        }
        let target = Target {
            path: path.to_owned(),
            format: Format::from_path(path)?,
        };
        if let Some(asked) = format.filter(|&f| f != target.format) {
            return Err(Fault::Usage(format!(
                "--format {} does not go with the output {path:?}; leave one of them out",
                suffix(asked)
            ))
            .into());
        }
        if !args.overwrite {
            media::check_free(&target.path, target.format)?;
        }
        if target.is_stdout() && io::stdout().is_terminal() {
            return Err(Fault::Usage(
                "raw video is no text for a terminal; pipe it: longtake generate -o - | mpv -"
                    .into(),
            )
            .into());
        }
        Ok(target)
    }

    pub(super) fn is_stdout(&self) -> bool {
        self.path == Path::new("-")
    }
}

/// What `--overwrite` means for a file of tensors.
pub(super) fn existing(overwrite: bool) -> Existing {
    match overwrite {
        true => Existing::Replace,
        false => Existing::Keep,
    }
}

/// Standard output takes one thing.
///
/// # Errors
/// When it would get both the film and the events.
pub(super) fn check_json(target: &Target, json: bool) -> Result<(), Fault> {
    if json && target.is_stdout() {
        return Err(Fault::Usage(
            "--json and --output - both want standard output; give the film a file".into(),
        ));
    }
    Ok(())
}

fn format_of(format: FileFormat) -> Format {
    match format {
        FileFormat::Mp4 => Format::Mp4,
        FileFormat::Png => Format::PngSequence,
        FileFormat::Y4m => Format::Y4m,
    }
}

fn suffix(format: Format) -> &'static str {
    match format {
        Format::Mp4 => "mp4",
        Format::PngSequence => "png",
        Format::Y4m => "y4m",
    }
}

/// `STEM.mp4`, or with `-2` and so on where that is taken. PNGs get a folder.
fn free_name(folder: &Path, stem: &str, format: Format) -> Target {
    let name = |n: u32| {
        let stem = match n {
            1 => stem.to_owned(),
            n => format!("{stem}-{n}"),
        };
        match format {
            Format::PngSequence => folder.join(stem),
            _ => folder.join(format!("{stem}.{}", suffix(format))),
        }
    };
    // With every name taken the writer refuses the last.
    let free = (1..MOST_NAMES).map(name).find(|path| !path.exists());
    let path = free.unwrap_or_else(|| name(MOST_NAMES));
    let path = match format {
        Format::PngSequence => path.join("%04d.png"),
        _ => path,
    };
    Target { path, format }
}

/// `20260131-235959`, UTC.
fn stamp(now: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(now).to_string();
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    match digits.split_at_checked(8) {
        Some((date, time)) => format!("{date}-{time}"),
        None => digits,
    }
}

/// What a model's name leaves in a file's name.
fn plain(model: &str) -> String {
    let plain = |c: char| match c {
        c if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') => c,
        _ => '-',
    };
    model.chars().map(plain).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn target(output: Option<&str>, format: Option<FileFormat>) -> anyhow::Result<Target> {
        let args = OutputArgs {
            output: output.map(PathBuf::from),
            format,
            overwrite: false,
            show_given: false,
            scale: None,
            fps: None,
            dump_kv: None,
            no_metadata: false,
        };
        Target::new(&args, "a/b c", 7)
    }

    #[test]
    fn stamps_are_utc() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(86_399);
        assert_eq!(stamp(time), "19700101-235959");
    }

    #[test]
    fn folders_get_a_name() {
        let name = |t: Target| t.path.to_string_lossy().into_owned();
        let here = name(target(None, None).unwrap());
        assert!(
            here.ends_with("_a-b-c_7.mp4") && !here.contains('/'),
            "{here}"
        );
        let png = name(target(Some("out/"), Some(FileFormat::Png)).unwrap());
        assert!(
            png.starts_with("out/") && png.ends_with("_a-b-c_7/%04d.png"),
            "{png}"
        );
        assert!(name(target(None, Some(FileFormat::Y4m)).unwrap()).ends_with(".y4m"));
    }

    #[test]
    fn a_format_must_go_with_the_name() {
        assert!(target(Some("x.mp4"), Some(FileFormat::Y4m)).is_err());
        assert_eq!(
            target(Some("x.mp4"), Some(FileFormat::Mp4)).unwrap().format,
            Format::Mp4
        );
        assert!(target(Some("x.webm"), None).is_err());
    }
}

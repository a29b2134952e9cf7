//! What was asked of a comparison, for its report.

use std::time::SystemTime;

use longtake::compare::{METHOD, Place, Protocol, RECENT};
use longtake::gpu::Caps;

use crate::cli::args::{CompareArgs, Precision};
use crate::cli::job::{self, Scene};

/// `whole` of the `asked` pairs of film and seed are there.
pub(super) fn of(
    args: &CompareArgs,
    scenes: &[Scene],
    seeds: &[u64],
    caps: &Caps,
    (whole, asked): (usize, usize),
) -> Protocol {
    let first = scenes.first();
    let place = |scene: &Scene| {
        let (name, camera) = (&scene.film_name, &scene.camera);
        Place::new(
            scene.film_idx,
            name,
            camera,
            scene.follows_default,
            &scene.walk,
        )
    };
    let config = job::config(&args.network, 0);
    Protocol {
        version: env!("CARGO_PKG_VERSION"),
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        command_line: command_line(),
        model: first.map_or_else(String::new, |s| s.model.name.clone()),
        device: caps.title(),
        driver: caps.driver.clone(),
        tier: caps.tier.name(),
        reference: args.against.to_string(),
        settings: args.kv.iter().map(ToString::to_string).collect(),
        windows_of_equal_bytes: args.windows_of_equal_bytes,
        seeds: seeds.to_vec(),
        films: scenes.iter().map(place).collect(),
        given_frames: first.map_or(0, |s| s.walk.given.len()),
        frames: first.map_or(0, |s| s.walk.poses.len()),
        width: first.map_or(0, |s| s.width),
        height: first.map_or(0, |s| s.height),
        chunk_frames: first.map_or(0, |s| s.model.config.chunk_frames),
        steps: first.map_or(0, |s| job::steps(&s.model.config, &args.network)),
        weights: word(args.network.weights.unwrap_or(Precision::F16)),
        window: config.window,
        sink: config.sink,
        on_wall: first.map_or_else(String::new, |s| word(s.on_wall)),
        whole,
        asked,
        recent: RECENT,
        method: METHOD,
    }
}

/// The word that the flag takes.
fn word(value: impl clap::ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// As it can be typed again in a POSIX shell.
fn command_line() -> String {
    let args = std::env::args_os().skip(1);
    let quoted = args.map(|arg| quote(&arg.to_string_lossy()));
    std::iter::once("longtake".to_owned())
        .chain(quoted)
        .collect::<Vec<_>>()
        .join(" ")
}

fn quote(arg: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=+,./:%@".contains(c);
    match !arg.is_empty() && arg.chars().all(plain) {
        true => arg.to_owned(),
        false => format!("'{}'", arg.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_can_be_typed_again() {
        assert_eq!(quote("--kv=bf16,window-6"), "--kv=bf16,window-6");
        assert_eq!(quote("my report.html"), "'my report.html'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}

//! From a command line to the flags: spellings, the environment, and which of several lengths counts.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _};

use super::args::{Cli, Command, LengthArgs};

/// The flags of which one settles the length.
const LENGTHS: [&str; 3] = ["frames", "seconds", "chunks"];

/// The command as clap knows it. Twins are named once, above the flags, and an empty variable is as good as none.
pub(super) fn command() -> clap::Command {
    fn tame(command: clap::Command) -> clap::Command {
        let is_empty = |arg: &clap::Arg| {
            arg.get_env()
                .and_then(std::env::var_os)
                .is_some_and(|value| value.is_empty())
        };
        let command = command.mut_args(|arg| match is_empty(&arg) {
            true => arg.env(None::<&'static str>),
            false => arg.hide_env(true),
        });
        command.mut_subcommands(tame)
    }
    tame(Cli::command())
}

/// Parses a command line, the program's name first.
///
/// # Errors
/// As clap says it: also for `--help` and `--version`, which print and end well.
pub(super) fn parse(args: impl Iterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(with_dashes(args))?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|err| err.format(&mut command))?;
    let length = match &mut cli.command {
        Some(Command::Generate(args)) => Some(&mut args.length),
        Some(Command::Compare(args)) => Some(&mut args.length),
        Some(Command::Plan(args)) => Some(&mut args.length),
        _ => None,
    };
    if let (Some(length), Some((_, matches))) = (length, matches.subcommand()) {
        one_length(length, matches).map_err(|err| err.format(&mut command))?;
    }
    Ok(cli)
}

/// `--no_progress` is `--no-progress`: only names of long flags change, never values.
fn with_dashes(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut are_flags = true;
    args.map(|arg| {
        let Some(text) = arg
            .to_str()
            .filter(|text| are_flags && text.starts_with("--"))
        else {
            return arg;
        };
        are_flags = text != "--";
        let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
        format!("{}{value}", name.replace('_', "-")).into()
    })
    .collect()
}

/// Keeps one of the three lengths: what was typed goes before the environment; two of one kind contradict each other.
fn one_length(length: &mut LengthArgs, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
    let from = |source| -> Vec<&str> {
        LENGTHS
            .into_iter()
            .filter(|id| matches.value_source(id) == Some(source))
            .collect()
    };
    let typed = from(ValueSource::CommandLine);
    let chosen = if typed.is_empty() {
        from(ValueSource::EnvVariable)
    } else {
        typed
    };
    if let [a, b, ..] = chosen[..] {
        let text = format!("--{a} and --{b} both settle the length; give one of them\n");
        return Err(clap::Error::raw(ErrorKind::ArgumentConflict, text));
    }
    let keeps = |id| chosen.first() == Some(&id);
    length.frames = length.frames.filter(|_| keeps("frames"));
    length.seconds = length.seconds.filter(|_| keeps("seconds"));
    length.chunks = length.chunks.filter(|_| keeps("chunks"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::GenerateArgs;
    use crate::cli::values::{Attended, Seed};
    use std::path::PathBuf;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn generate(line: &str) -> GenerateArgs {
        match parsed(&format!("longtake generate {line}"))
            .unwrap()
            .command
        {
            Some(Command::Generate(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(line: &str) -> String {
        parsed(&format!("longtake generate {line}"))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_its_twin() {
        let command = Cli::command();
        let generate = command.find_subcommand("generate").unwrap();
        for arg in command.get_arguments().chain(generate.get_arguments()) {
            let Some(long) = arg.get_long().filter(|l| !["help", "version"].contains(l)) else {
                continue;
            };
            let twin = format!("LONGTAKE_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(
                arg.get_env().and_then(|e| e.to_str()),
                Some(twin.as_str()),
                "--{long}"
            );
            assert!(arg.get_help().is_some(), "--{long}");
        }
    }

    #[test]
    fn help_fits_two_screens_of_forty_lines() {
        for line in [
            "longtake --help",
            "longtake generate --help",
            "longtake compare --help",
            "longtake kv --help",
            "longtake plan --help",
        ] {
            let help = parsed(line).unwrap_err().to_string();
            assert!(
                help.lines().count() <= 80,
                "{line}: {}",
                help.lines().count()
            );
            assert!(help.find("Examples") < help.find("Usage"), "{help}");
        }
    }

    #[test]
    fn underscores_in_names_are_dashes_and_values_are_left_alone() {
        let args = generate("--show_given --num_frames=7 --output=a_b.mp4 --no_progress");
        assert_eq!(
            (args.length.frames, args.output.show_given),
            (Some(7), true)
        );
        assert_eq!(args.output.output, Some(PathBuf::from("a_b.mp4")));
        assert!(args.reports.no_progress);
    }

    #[test]
    fn lengths_exclude_each_other() {
        assert_eq!(generate("--seconds 2.5").length.seconds, Some(2.5));
        assert_eq!(generate("--chunks 3").length.chunks, Some(3));
        assert!(
            refusal("--frames 3 --seconds 1")
                .contains("--frames and --seconds both settle the length")
        );
        assert!(refusal("--frames 3 --chunks 1").contains("both settle"));
    }

    #[test]
    fn absurd_numbers_are_refused_with_a_range() {
        for line in [
            "--frames 0",
            "--frames -4",
            "--frames 1.5",
            "--frames 99999999999999999999",
            "--seconds 0",
            "--seconds -1",
            "--seconds nan",
            "--seconds inf",
            "--seconds 1e300",
            "--chunks 0",
            "--steps 0",
            "--scale 0",
            "--fps 0",
            "--fps 5000",
            "--seed -2",
            "--seed x",
            "--window -2",
            "--kv q9",
            "--on-wall jump",
        ] {
            let err = parsed(&format!("longtake generate {line}")).unwrap_err();
            assert_eq!(err.exit_code(), 2, "{line}");
        }
        assert!(
            refusal("--frames 0").contains("1 to 1000000"),
            "{}",
            refusal("--frames 0")
        );
    }

    #[test]
    fn seeds_and_windows_take_their_special_values() {
        assert_eq!(generate("-s -1").seed, Some(Seed::Random));
        assert_eq!(
            generate("-s 18446744073709551615").seed,
            Some(Seed::Fixed(u64::MAX))
        );
        assert_eq!(generate("--window -1").network.window, Some(Attended(None)));
        assert_eq!(generate("--window 0").network.window, Some(Attended(None)));
        assert_eq!(
            generate("--window 9").network.window,
            Some(Attended(Some(9)))
        );
    }

    fn kv(args: &GenerateArgs) -> &str {
        args.kv.kv.as_ref().unwrap().as_str()
    }

    #[test]
    fn other_programs_spellings_are_known() {
        let args = generate("--video-frames 9 --pose w-3 --kv-cache-quant off");
        assert_eq!((args.length.frames, kv(&args)), (Some(9), "f16"));
        assert_eq!(args.world.camera.as_deref(), Some("w-3"));
        assert_eq!(kv(&generate("--kv-bits 32")), "f32");
        assert_eq!(kv(&generate("--kv-bits 2")), "int2");
    }

    #[test]
    fn an_unknown_flag_suggests_the_nearest() {
        assert!(refusal("--framse 3").contains("--frames"));
    }
}

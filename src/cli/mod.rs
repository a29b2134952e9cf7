//! The command line program: a stranger to the library like any other, and the only place that prints.

mod args;
mod budget;
mod clock;
mod compare;
mod devices;
mod encode;
mod fault;
mod fetch;
mod generate;
mod info;
mod job;
mod kv;
mod models;
mod parse;
mod plan;
mod progress;
mod recipe;
mod report;
mod say;
mod selftest;
mod stop;
mod store;
mod target;
mod text;
mod values;
mod view;

use std::ffi::OsString;

use clap::CommandFactory as _;

pub(crate) use self::clock::Clock;

use self::args::{Cli, Command};
use self::say::Style;

/// Parses, runs, and gives the exit code.
pub(crate) fn run(args: impl Iterator<Item = OsString>, clock: Clock) -> u8 {
    let cli = match parse::parse(args) {
        Ok(cli) => cli,
        Err(err) => return end_of_parsing(&err),
    };
    start_log(&cli);
    let style = Style::new(&cli.voice);
    match dispatch(cli, clock) {
        Ok(code) => code,
        Err(err) if fault::is_closed_pipe(&err) => 0,
        Err(err) => {
            say::message(&style.error(&fault::text(&err)));
            let hint = fault::hint(&err);
            if !hint.is_empty() {
                say::message(&format!("try: {hint}"));
            }
            fault::code(&err)
        }
    }
}

fn dispatch(cli: Cli, clock: Clock) -> anyhow::Result<u8> {
    match cli.command {
        Some(Command::Generate(args)) => generate::run(*args, &cli.voice, clock),
        Some(Command::Compare(args)) => compare::run(&args, &cli.voice, clock),
        Some(Command::Plan(args)) => plan::run(&args, &cli.voice),
        Some(Command::Kv(args)) => kv::run(&args, &cli.voice),
        Some(Command::Models(args)) => models::run(&args),
        Some(Command::Fetch(args)) => fetch::run(&args, &cli.voice),
        Some(Command::Devices(args)) => Ok(devices::run(&args)),
        Some(Command::Selftest(args)) => selftest::run(&args, &cli.voice),
        Some(Command::Info(args)) => info::run(&args),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "longtake", &mut script);
            Ok(print(&script))
        }
        Some(Command::Man) => Ok(print(&manual()?)),
        None => Ok(print(parse::command().render_help().to_string().as_bytes())),
    }
}

/// One page: the program, then the flags of each command.
fn manual() -> std::io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for sub in command.get_subcommands() {
        let mut part = Vec::new();
        let man = clap_mangen::Man::new(sub.clone());
        man.render_description_section(&mut part)?;
        man.render_synopsis_section(&mut part)?;
        man.render_options_section(&mut part)?;
        let part = String::from_utf8_lossy(&part).replace(".SH ", ".SS ");
        let title = sub.get_name().to_uppercase();
        page.extend(format!(".SH \"COMMAND {title}\"\n{part}").bytes());
    }
    Ok(page)
}

fn print(bytes: &[u8]) -> u8 {
    // A reader that has gone is quiet.
    let _ = say::result(&String::from_utf8_lossy(bytes));
    0
}

/// Help, version, or what was wrong with the command line.
fn end_of_parsing(err: &clap::Error) -> u8 {
    // Printing fails only where nobody reads.
    let _ = err.print();
    u8::try_from(err.exit_code()).unwrap_or(fault::USAGE)
}

/// The library's log goes to standard error: warnings, with `-vv` what the drivers' side notes, with `-vvv` everything; `RUST_LOG` wins.
fn start_log(cli: &Cli) {
    let filter = match (cli.voice.quiet, cli.voice.verbose) {
        (true, _) => "error",
        (_, 0 | 1) => "warn,wgpu_core=error,wgpu_hal=error,naga=error",
        (_, 2) => "info,wgpu_core=warn,wgpu_hal=warn,naga=warn",
        _ => "debug",
    };
    let env = env_logger::Env::default().default_filter_or(filter);
    // A second logger is no reason to stop; there is none.
    let _ = env_logger::Builder::from_env(env).try_init();
}

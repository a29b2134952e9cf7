//! The command line program; everything is in [`cli`].

mod cli;

fn main() -> std::process::ExitCode {
    let clock = cli::Clock::start();
    cli::run(std::env::args_os(), clock).into()
}

//! `longtake-viewer`: flags, device, window.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use longtake::gpu::{Device, Select, TierRequest, list_devices};
use longtake_viewer::app::{self, Options, Pane};
use longtake_viewer::job::{Job, Width, Widths};

/// Watch a film as it is made, its memory live, and turn the bits of its cache.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Walk at once, without the first screen
    #[arg(long)]
    walk: bool,
    /// Seed of the noise
    #[arg(short, long)]
    seed: Option<u64>,
    /// Which embedded walk to start from, 0 to 3
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=3))]
    film: Option<u8>,
    /// True frames of it that are given, 1 to 96
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=96))]
    given: Option<u8>,
    /// Frames to make at most
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=28_800))]
    frames: Option<u32>,
    /// Latent frames that attention sees, sink included
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=4096))]
    window: Option<u32>,
    /// First latent frames that never leave the window
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=512))]
    sink: Option<u32>,
    /// Latent frames of a coded span
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    span: Option<u32>,
    /// Cache bits at the start
    #[arg(long, value_enum)]
    bits: Option<Bits>,
    /// Device: auto, a number or part of a name of `longtake devices`, or cpu
    #[arg(short, long, env = "LONGTAKE_DEVICE")]
    device: Option<String>,
    /// Window size in points, WIDTHxHEIGHT
    #[arg(long, value_parser = size, default_value = "1440x900")]
    size: [f32; 2],
    /// Pixels a point, instead of the system's
    #[arg(long, value_parser = scale)]
    scale: Option<f32>,
    /// Theme, instead of the system's
    #[arg(long, value_enum)]
    theme: Option<Theme>,
    /// Panes to open at once
    #[arg(long, value_enum, value_delimiter = ',')]
    open: Vec<Open>,
    /// Save a picture of the window there and quit
    #[arg(long, value_name = "FILE")]
    screenshot_to: Option<PathBuf>,
    /// Frames to make before that picture; 0: the first screen
    #[arg(
        long,
        value_name = "FRAMES",
        default_value_t = 0,
        requires = "screenshot_to"
    )]
    screenshot_after: usize,
    /// Print the run's events as JSON lines
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bits {
    #[value(name = "16")]
    Exact,
    #[value(name = "8")]
    Eight,
    #[value(name = "4")]
    Four,
    #[value(name = "3")]
    Three,
    #[value(name = "2")]
    Two,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Theme {
    Dark,
    Light,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Open {
    Settings,
    Statistics,
    Keys,
    Layers,
}

fn size(text: &str) -> Result<[f32; 2], String> {
    let (w, h) = text
        .split_once('x')
        .ok_or("write WIDTHxHEIGHT, such as 1440x900")?;
    let side = |s: &str| {
        s.parse::<f32>()
            .ok()
            .filter(|v| (320.0..=8192.0).contains(v))
    };
    match (side(w), side(h)) {
        (Some(w), Some(h)) => Ok([w, h]),
        _ => Err("both sides are 320 to 8192".into()),
    }
}

fn scale(text: &str) -> Result<f32, String> {
    let k = text.parse::<f32>().ok().filter(|v| (0.5..=4.0).contains(v));
    k.ok_or_else(|| "a number from 0.5 to 4".into())
}

impl Args {
    fn job(&self) -> Job {
        let usual = Job::default();
        let given = self.given.map_or(usual.given, usize::from);
        Job {
            seed: self.seed.unwrap_or(usual.seed),
            film: self.film.map_or(usual.film, usize::from),
            given,
            most: self.frames.map_or(usual.most, |n| n as usize),
            window: self.window.unwrap_or(usual.window),
            sink: self.sink.unwrap_or(usual.sink.min(given as u32)),
            span: self.span.unwrap_or(usual.span),
            widths: self
                .bits
                .map_or(usual.widths, |b| Widths::both(Width::ALL[b as usize])),
            ..usual
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    let device = Device::open(&Select {
        device: args.device.clone(),
        tier: TierRequest::Best,
    })
    .context("no device")?;
    let devices = list_devices().iter().map(|c| c.title()).collect();
    let options = Options {
        job: args.job(),
        walk: args.walk,
        size: args.size,
        scale: args.scale,
        theme: args.theme.map(|t| match t {
            Theme::Dark => egui::Theme::Dark,
            Theme::Light => egui::Theme::Light,
        }),
        open: args
            .open
            .iter()
            .map(|o| match o {
                Open::Settings => Pane::Settings,
                Open::Statistics => Pane::Statistics,
                Open::Keys => Pane::Keys,
                Open::Layers => Pane::Layers,
            })
            .collect(),
        screenshot: args.screenshot_to.map(|path| (path, args.screenshot_after)),
        json: args.json,
    };
    app::run(device, devices, options)
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::new().filter("LONGTAKE_LOG")).init();
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("longtake-viewer: {e:#}");
            ExitCode::FAILURE
        }
    }
}

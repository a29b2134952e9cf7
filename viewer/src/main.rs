//! `longtake-viewer`: flags, device, window.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use longtake::gpu::{Device, Select, TierRequest, list_devices};
use longtake::media::{self, Format};
use longtake::ops::{BiasFix, WeightFormat};
use longtake::rollout::event::{Event, LoadStage};
use longtake::store::{Decoding, Named, Store};
use longtake::text::Prompts;
use longtake::world;
use longtake_viewer::app::{self, Options, Pane};
use longtake_viewer::fault::Fault;
use longtake_viewer::job::{BUILT_IN, Job, Width, Widths};
use longtake_viewer::record::Record;
use longtake_viewer::text::TextJob;
use longtake_viewer::worker::tell;

/// Watch a film as it is made, its memory live, and turn the bits of its cache.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Walk at once, without the first screen
    #[arg(long)]
    walk: bool,
    /// Folder of a model, or rooms, which is built in; for films from text a preset of `longtake models`, a folder or a file
    #[arg(short, long, value_name = "NAME|PATH", default_value = BUILT_IN)]
    model: String,
    /// Film from text: what it shows
    #[arg(short, long, value_name = "TEXT", conflicts_with_all = ["prompts", "embeddings"])]
    prompt: Option<String>,
    /// Film from text: JSON that lists prompts by second or chunk, or a file of it
    #[arg(long, value_name = "FILE|JSON", conflicts_with = "embeddings")]
    prompts: Option<String>,
    /// Film from text: the encoded prompt
    #[arg(long, value_name = "FILE")]
    embeddings: Option<PathBuf>,
    /// Film from text: picture size, instead of the model's
    #[arg(long, value_name = "WxH", value_parser = picture)]
    picture: Option<[u32; 2]>,
    /// Film from text: what makes pictures of latents
    #[arg(long, value_enum)]
    decoder: Option<Decoder>,
    /// Film from text: how weights are run, a name of `longtake models`
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// ComfyUI's folder, to find models there too
    #[arg(long, value_name = "DIR", env = "LONGTAKE_COMFYUI")]
    comfyui: Option<PathBuf>,
    /// The way at the beginning, a camera text or a file of one; after it the camera tours what was seen
    #[arg(long, value_name = "STR|FILE")]
    camera: Option<String>,
    /// Seed of the noise
    #[arg(short, long)]
    seed: Option<u64>,
    /// World to start in: 0 to 3 are built in, any other number draws one
    #[arg(long)]
    film: Option<u32>,
    /// True frames of it that are given, 1 to 96
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=96))]
    given: Option<u8>,
    /// Frames to make at most
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    frames: Option<u32>,
    /// Latent frames that attention sees, sink included; 0: all
    #[arg(long)]
    window: Option<u32>,
    /// First latent frames that never leave the window
    #[arg(long)]
    sink: Option<u32>,
    /// Latent frames of a coded span
    #[arg(long = "kv-span", value_parser = clap::value_parser!(u32).range(1..))]
    span: Option<u32>,
    /// Newest latent frames that stay exact beside the span that gathers
    #[arg(long = "kv-recent")]
    recent: Option<u32>,
    /// First latent frames that are never coded
    #[arg(long = "kv-sink")]
    exact: Option<u32>,
    /// Cache bits at the start
    #[arg(long, value_enum)]
    bits: Option<Bits>,
    /// Setting of keys and values at the start, as `longtake generate --kv` takes it
    #[arg(long, value_name = "TYPE", conflicts_with = "bits")]
    kv: Option<String>,
    /// Setting of keys alone
    #[arg(long, value_name = "TYPE", conflicts_with = "bits")]
    kv_k: Option<String>,
    /// Setting of values alone
    #[arg(long, value_name = "TYPE", conflicts_with = "bits")]
    kv_v: Option<String>,
    /// Correct the attention that coding noise moves, instead of as the codec does
    #[arg(long, value_enum)]
    kv_bias_fix: Option<Fix>,
    /// Denoising steps a chunk, instead of the model's
    #[arg(long)]
    steps: Option<u32>,
    /// Layers that wait in main memory
    #[arg(long, default_value_t = 0)]
    offload: u32,
    /// Storage of weights on the device
    #[arg(long, value_enum)]
    weights: Option<Weights>,
    /// Write the film there while it is made: .mp4, .y4m or %04d.png
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Replace what is there
    #[arg(short = 'y', long, requires = "output")]
    overwrite: bool,
    /// Frames a second of that file, instead of the model's
    #[arg(long, requires = "output", value_parser = clap::value_parser!(u32).range(1..=1000))]
    fps: Option<u32>,
    /// Enlargement of that file
    #[arg(long, requires = "output", value_parser = clap::value_parser!(u32).range(1..=64))]
    scale_film: Option<u32>,
    /// Given frames come first in that file
    #[arg(long, requires = "output")]
    show_given: bool,
    /// No recipe in that file
    #[arg(long, requires = "output")]
    no_metadata: bool,
    /// Device: auto, a number or part of a name of `longtake devices`, or cpu
    #[arg(short, long, env = "LONGTAKE_DEVICE")]
    device: Option<String>,
    /// Kernels: auto, or portable, which need no optional feature
    #[arg(long, value_enum, default_value = "auto")]
    tier: Tier,
    /// Window size in points, WIDTHxHEIGHT, instead of the one it was left with
    #[arg(long, value_parser = size)]
    size: Option<[f32; 2]>,
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
enum Fix {
    Off,
    Step,
    Energy,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Weights {
    F16,
    F32,
    #[value(name = "q8_0")]
    Q8_0,
    #[value(name = "q4_0")]
    Q4_0,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Decoder {
    Taehv,
    Wan,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Tier {
    Auto,
    Portable,
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

fn picture(text: &str) -> Result<[u32; 2], String> {
    let sides = text
        .split_once('x')
        .and_then(|(w, h)| Some([w.parse().ok()?, h.parse().ok()?]));
    let is_some = |[w, h]: &[u32; 2]| (1..=8192).contains(w) && (1..=8192).contains(h);
    sides
        .filter(is_some)
        .ok_or_else(|| "write WIDTHxHEIGHT in pixels, such as 832x480".into())
}

fn scale(text: &str) -> Result<f32, String> {
    let k = text.parse::<f32>().ok().filter(|v| (0.5..=4.0).contains(v));
    k.ok_or_else(|| "a number from 0.5 to 4".into())
}

impl Args {
    fn job(&self) -> anyhow::Result<Job> {
        let usual = Job::default();
        let given = self.given.map_or(usual.given, usize::from);
        let camera = match &self.camera {
            Some(text) => world::camera::from_arg(text).context("--camera")?,
            None => Vec::new(),
        };
        let long = match camera.len() {
            0 => usual.most,
            n => n,
        };
        let text = self.text()?;
        let usual = match text {
            Some(text) => {
                let mut job = usual;
                job.suit(text);
                job
            }
            None => usual,
        };
        let is_text = usual.text.is_some();
        let long = if is_text { usual.most } else { long };
        let mut job = Job {
            model: Some(PathBuf::from(&self.model))
                .filter(|_| !is_text)
                .filter(|_| !self.model.eq_ignore_ascii_case(BUILT_IN)),
            seed: self.seed.unwrap_or(usual.seed),
            film: self.film.map_or(usual.film, |film| film as usize),
            given,
            most: self.frames.map_or(long, |n| n as usize),
            camera,
            window: self.window.unwrap_or(usual.window),
            sink: self.sink.unwrap_or(match is_text {
                true => usual.sink,
                false => usual.sink.min(given as u32),
            }),
            span: self.span.unwrap_or(usual.span),
            widths: self
                .bits
                .map_or(usual.widths, |b| Widths::both(Width::ALL[b as usize])),
            recent: self.recent.unwrap_or(usual.recent),
            exact: self.exact.unwrap_or(usual.exact),
            bias: self.kv_bias_fix.map(|fix| match fix {
                Fix::Off => BiasFix::Off,
                Fix::Step => BiasFix::Step,
                Fix::Energy => BiasFix::Energy,
            }),
            steps: self.steps,
            offload: self.offload,
            weights: match self.weights {
                Some(Weights::F16) => WeightFormat::F16,
                Some(Weights::F32) => WeightFormat::F32,
                Some(Weights::Q8_0) => WeightFormat::Q8_0,
                Some(Weights::Q4_0) => WeightFormat::Q4_0,
                None => usual.weights,
            },
            ..usual
        };
        let names = [&self.kv_k, &self.kv_v].map(|name| name.as_ref().or(self.kv.as_ref()));
        if names.iter().any(Option::is_some) {
            let [k, v] = names.map(|name| name.map_or("off", |name| name.as_str()));
            job.name(k, v)
                .map_err(|why| anyhow::anyhow!("--kv: {why}"))?;
        }
        Ok(job)
    }

    /// What a film from text is made of; none where the model is a demo world.
    fn text(&self) -> anyhow::Result<Option<TextJob>> {
        let is_text = Named::of(&self.model).is_some();
        let asks = self.prompt.is_some() || self.prompts.is_some() || self.embeddings.is_some();
        if !is_text && !asks {
            return Ok(None);
        }
        if self.model.eq_ignore_ascii_case(BUILT_IN) {
            anyhow::bail!(
                "a prompt is for text models, this is a demo world; add --model self-forcing (longtake models lists others)"
            );
        }
        if self.camera.is_some() || self.film.is_some() || self.given.is_some() {
            anyhow::bail!(
                "--camera, --film and --given are for demo worlds; a text model has no place to walk through"
            );
        }
        let list = match &self.prompts {
            Some(text) if text.trim_start().starts_with('{') => Some(text.clone()),
            Some(path) => {
                let prompts = Prompts::open(path.as_ref()).context("--prompts")?;
                Some(prompts.to_json().to_string())
            }
            None => None,
        };
        Ok(Some(TextJob {
            model: self.model.clone(),
            preset: self.preset.clone(),
            prompt: self.prompt.clone().unwrap_or_default(),
            list,
            embeddings: self.embeddings.clone(),
            size: self.picture,
            decoder: match self.decoder {
                Some(Decoder::Wan) => Decoding::Wan,
                _ => Decoding::Taehv,
            },
            fps: self.fps,
            store: self.store(),
        }))
    }

    /// Where model files lie, as the environment says.
    fn store(&self) -> Option<Store> {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Store::of(var, std::env::home_dir(), self.comfyui.clone())
    }

    /// Where the film goes, refused before anything is opened.
    fn record(&self) -> anyhow::Result<Option<Record>> {
        let Some(path) = self.output.clone() else {
            return Ok(None);
        };
        let format = Format::from_path(&path)?;
        if path.as_os_str() == "-" {
            anyhow::bail!("--output: a window has no standard output for a film; name a file");
        }
        if !self.overwrite {
            media::check_free(&path, format)?;
        }
        Ok(Some(Record {
            path,
            overwrite: self.overwrite,
            fps: self.fps,
            scale: self.scale_film,
            show_given: self.show_given,
            no_metadata: self.no_metadata,
        }))
    }
}

fn run(args: Args, begun: Instant) -> anyhow::Result<Option<Fault>> {
    let (job, record) = (args.job()?, args.record()?);
    let select = Select {
        device: args.device.clone(),
        tier: match args.tier {
            Tier::Auto => TierRequest::Best,
            Tier::Portable => TierRequest::Portable,
        },
    };
    let opening = |done| {
        let stage = LoadStage::Device;
        if args.json {
            tell(&Event::Loading { stage, done, of: 1 }, begun);
        }
    };
    opening(0);
    let device = Device::open(&select).context("no device")?;
    opening(1);
    let devices = list_devices().iter().map(|c| c.title()).collect();
    let options = Options {
        store: args.store(),
        job,
        select,
        record,
        walk: args.walk,
        size: args
            .size
            .or(args.screenshot_to.as_ref().map(|_| [1440.0, 900.0])),
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
        json: args.json.then_some(begun),
    };
    app::run(device, devices, options)
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::new().filter("LONGTAKE_LOG")).init();
    let (begun, args) = (Instant::now(), Args::parse());
    let json = args.json;
    let fault = match run(args, begun) {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(fault)) => fault,
        Err(e) => Fault::plain(&format!("{e:#}")),
    };
    if json {
        tell(&fault.event(), begun);
    }
    eprintln!("longtake-viewer: {}", fault.headline);
    ExitCode::from(fault.code)
}

//! `longtake plan`: what a film would take of a device, without its weights or its frames, and which settings fit.

use std::fmt::Write as _;
use std::path::Path;

use clap::Args;
use longtake::cache::{Policy, Sink};
use longtake::decode::{DecoderShape, TaehvShape, WanOptions, WanShape};
use longtake::gpu::{Caps, Device};
use longtake::model::config::DitConfig;
use longtake::model::preset::Preset;
use longtake::ops::WeightFormat;
use longtake::rollout::fit::{self, Fit, Reach};
use longtake::rollout::{Config, Outline, Speed, renewal_bytes};
use longtake::text::Umt5Config;
use longtake::world::film::DEFAULT_GIVEN;
use serde_json::{Value, json};

use super::args::{DecoderArg, KvArgs, LengthArgs, NetworkArgs, Voice};
use super::budget::Budget;
use super::fault::Fault;
use super::job::{self, Kv};
use super::values::Size;
use super::{generate, say, text, values};

/// Frames of a demo film for which nothing was asked.
const WALK_FRAMES: f64 = 64.0;
/// Latent frames of a film from text for which nothing was asked: what these models were trained on.
const TEXT_LATENTS: usize = 21;
/// Tokens of the longest prompt.
const PROMPT_TOKENS: usize = 512;

const EXAMPLES: &str = "\
Examples:
  longtake plan                                     the built-in world on the device that there is
  longtake plan -m self-forcing --vram 8G           does it fit a card, and with what
  longtake plan -m longlive --seconds 60 --kv int4 --kv-span 3 --vram 12G --tflops 20
  longtake plan -m self-forcing --size 576x320 --window 9 --json
";

const AFTER: &str = "\
With --max-vram (--vram) and no --device the card is assumed: nothing is opened, and without --tflops no time is told. Else the
device's speed is measured for a second or two. `generate --auto-fit` takes the line that is called the widest.";

const TEMPLATE: &str = "{about}\n\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// A film to plan: those of `generate`'s flags that cost memory or time.
#[derive(Debug, Clone, Args)]
#[command(before_help = EXAMPLES, after_help = AFTER, help_template = TEMPLATE)]
pub(super) struct PlanArgs {
    /// A name from `models`, `rooms`, or a folder with config.json and weights.safetensors [default: rooms]
    #[arg(
        short,
        long,
        value_name = "NAME|PATH",
        env = "LONGTAKE_MODEL",
        help_heading = "Model"
    )]
    pub(super) model: Option<String>,
    /// Picture of a text model in pixels [default: the model's, 832x480]
    #[arg(
        long,
        value_name = "WxH",
        env = "LONGTAKE_SIZE",
        help_heading = "Model"
    )]
    pub(super) size: Option<Size>,
    /// What makes a text model's pictures: taehv, wan [default: taehv]
    #[arg(
        long,
        value_name = "NAME",
        hide_possible_values = true,
        env = "LONGTAKE_DECODER",
        help_heading = "Model"
    )]
    pub(super) decoder: Option<DecoderArg>,
    /// True frames that a film of a demo world starts from [default: 48]
    #[arg(long, value_name = "N", env = "LONGTAKE_GIVEN", help_heading = "Model")]
    pub(super) given: Option<u32>,
    #[command(flatten)]
    pub(super) length: LengthArgs,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    #[command(flatten)]
    pub(super) kv: KvArgs,
    /// Device memory to keep within: 8G, 512M, 50%; -1G: all but that of what is free [default: what is known to be free]
    #[arg(
        long,
        alias = "vram",
        value_name = "SIZE",
        allow_negative_numbers = true,
        allow_hyphen_values = true,
        env = "LONGTAKE_MAX_VRAM",
        help_heading = "Memory and speed"
    )]
    pub(super) max_vram: Option<Budget>,
    /// Reckon with a device that sustains so many 10^12 operations a second, and measure nothing
    #[arg(long, value_name = "N", value_parser = tera, help_heading = "Memory and speed")]
    pub(super) tflops: Option<f64>,
    /// As JSON
    #[arg(long, env = "LONGTAKE_JSON", value_parser = values::switch, help_heading = "Messages")]
    pub(super) json: bool,
}

fn tera(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(n) if 0.0 < n && n < 1e6 => Ok(n),
        _ => Err("operations a second are a number of 10^12 above 0".to_owned()),
    }
}

/// What is filmed, as far as it costs something.
struct Subject {
    name: String,
    model: DitConfig,
    /// Given latent frames.
    given: usize,
    latents: usize,
    pictures: usize,
    window: Option<u32>,
    sink: u32,
    policy: Policy,
    /// What becomes of the sink when another prompt has the cache computed anew.
    renew: Option<Sink>,
    is_text: bool,
    decoder: DecoderShape,
    /// Storage of what lies beside the network.
    format: WeightFormat,
}

/// Prints the plan. That a film does not fit is an answer and no failure.
///
/// # Errors
/// A model that there is not, settings that contradict each other, a device that fails.
pub(super) fn run(args: &PlanArgs, voice: &Voice) -> anyhow::Result<u8> {
    let subject = Subject::new(args)?;
    let kv = Kv::new(&args.kv)?;
    let device = match (args.max_vram, &args.network.device) {
        (Some(_), None) => None,
        (_, name) => Some(generate::open(name.as_deref(), args.network.tier)?),
    };
    let assumed = match (&device, args.max_vram) {
        (None, Some(Budget::Bytes(bytes))) => fit::card(bytes),
        (None, Some(Budget::AllBut(_) | Budget::Share(_))) => {
            return Err(Fault::Usage(
                "--max-vram: what is free is told by a device; add --device, or give a size, such as 8G".to_owned(),
            )
            .into());
        }
        _ => fit::card(u64::MAX),
    };
    let caps = device.as_ref().map_or(&assumed, Device::caps).clone();
    let config = Config {
        kv: kv.exact,
        coded: match subject.is_text {
            true => kv.coded.clone().map(|c| job::text_spans(c, &subject.model)),
            false => kv.coded.clone(),
        },
        positions: subject.policy.positions,
        ema_sink: subject.policy.ema_sink,
        window: subject.window,
        sink: subject.sink,
        budget_bytes: args.max_vram.map(|b| b.bytes(&caps)).transpose()?,
        ..job::config(&args.network, 0)
    };
    let film = subject.outline(&caps);
    let fit = Fit::new(&caps, &film, &config)?;
    let speed = speed(args, voice, device.as_ref(), &film, &config)?;
    let several = Config {
        renew: subject.renew,
        ..config.clone()
    };
    let told = Told {
        another_prompt_bytes: renewal_bytes(&film, &several).unwrap_or(0),
        subject: &subject,
        config: &config,
        caps: &caps,
        fit: &fit,
        speed,
    };
    let text = match args.json {
        true => format!("{:#}\n", told.json()),
        false => told.text(),
    };
    // A reader that has gone is quiet.
    let _ = say::result(&text);
    Ok(0)
}

/// As stated, else as measured where there is a device.
fn speed(
    args: &PlanArgs,
    voice: &Voice,
    device: Option<&Device>,
    film: &Outline<'_>,
    config: &Config,
) -> anyhow::Result<Option<Speed>> {
    if let Some(tera) = args.tflops {
        return Ok(Some(Speed::even(tera * 1e12)));
    }
    let Some(device) = device else {
        return Ok(None);
    };
    match Speed::measure(
        device,
        film.model,
        config,
        film.decoder != DecoderShape::Pixels,
    ) {
        Ok(speed) => Ok(Some(speed)),
        // The rest of the answer stands without it.
        Err(err) => {
            if !voice.quiet {
                say::message(&format!("the speed was not measured: {err}"));
            }
            Ok(None)
        }
    }
}

impl Subject {
    fn new(args: &PlanArgs) -> anyhow::Result<Subject> {
        let name = args.model.as_deref().unwrap_or("rooms");
        let preset = Preset::named(name).filter(|_| !Path::new(name).is_dir());
        let (name, mut model) = match preset {
            Some(preset) => (preset.name.clone(), preset.config()),
            None => {
                let source = job::open_model(name)?;
                (source.name, source.config)
            }
        };
        let is_text = preset.is_some();
        if let Some(size) = args.size {
            if !is_text {
                let (height, width) = model.picture_px();
                return Err(Fault::Usage(format!(
                    "--size: the picture of {name} is its own, {width}x{height}"
                ))
                .into());
            }
            model = size.of(&model)?;
        }
        if is_text && args.given.is_some() {
            return Err(Fault::Usage(format!(
                "--given: films of {name} start from text; only demo worlds take true frames"
            ))
            .into());
        }
        if !is_text && args.decoder.is_some() {
            return Err(Fault::Usage(format!(
                "--decoder: the latents of {name} are pictures; only text models have decoders"
            ))
            .into());
        }
        let format = text::side_format(&args.network);
        let decoder = match args.decoder.unwrap_or(DecoderArg::Taehv) {
            _ if !is_text => DecoderShape::Pixels,
            DecoderArg::Taehv => DecoderShape::Taehv(TaehvShape::published()),
            DecoderArg::Wan => {
                let options = WanOptions {
                    format,
                    ..WanOptions::default()
                };
                DecoderShape::Wan(WanShape::published(), options)
            }
        };
        let policy = preset.map(Preset::policy).unwrap_or_default();
        let latents = latents(&args.length, &model, is_text)?;
        Ok(Subject {
            given: match is_text {
                true => 0,
                false => args.given.map_or(DEFAULT_GIVEN, |n| n as usize),
            },
            latents,
            pictures: model.pictures(latents),
            window: match args.network.window {
                Some(asked) => asked.0,
                None => policy.window.frames.map(|n| n as u32),
            },
            sink: args.network.sink.unwrap_or(policy.window.sink as u32),
            policy,
            renew: preset.and_then(Preset::renew),
            name,
            model,
            is_text,
            decoder,
            format,
        })
    }

    fn outline(&self, caps: &Caps) -> Outline<'_> {
        let text = Umt5Config::xxl().bytes(self.format, caps.max_storage_bytes(), PROMPT_TOKENS);
        Outline {
            name: &self.name,
            model: &self.model,
            given: self.given,
            frames: self.latents,
            decoder: self.decoder.clone(),
            text_encoder_bytes: match self.is_text {
                true => text.weights + text.activations,
                false => 0,
            },
        }
    }
}

/// Latent frames, in whole chunks where text makes the film.
fn latents(length: &LengthArgs, model: &DitConfig, is_text: bool) -> Result<usize, Fault> {
    let chunk = model.chunk_frames as usize;
    let most = f64::from(values::max_frames());
    let pictures = match (length.frames, length.seconds, length.chunks) {
        (Some(n), ..) => f64::from(n),
        (_, Some(secs), _) => (secs * f64::from(model.fps)).ceil(),
        (.., Some(n)) => return Ok(n as usize * chunk),
        _ if is_text => return Ok(TEXT_LATENTS.next_multiple_of(chunk)),
        _ => WALK_FRAMES,
    };
    if most < pictures {
        return Err(Fault::Usage(format!(
            "{pictures} frames; a film has at most {most}"
        )));
    }
    let pictures = pictures.max(1.0) as usize;
    Ok(match is_text {
        true => model.whole_chunks(pictures),
        false => pictures,
    })
}

/// Everything that is told.
struct Told<'a> {
    subject: &'a Subject,
    config: &'a Config,
    caps: &'a Caps,
    fit: &'a Fit,
    /// What every prompt but the first takes for a moment; not among the needs, for most films have one.
    another_prompt_bytes: u64,
    speed: Option<Speed>,
}

impl Told<'_> {
    /// `None`: nobody knows.
    fn fits(&self) -> Option<bool> {
        let have = self.fit.have_bytes?;
        let fits = self.fit.needs.memory.peak_device_bytes <= have;
        Some(fits && self.fit.refused.is_none())
    }

    fn seconds(&self) -> f64 {
        self.subject.pictures as f64 / f64::from(self.subject.model.fps)
    }

    fn flop(&self) -> f64 {
        let n = &self.fit.needs;
        n.work.linear_flop + n.work.attention_flop + n.decoder_flop
    }

    fn text(&self) -> String {
        let (s, n, m) = (self.subject, &self.fit.needs, &self.fit.needs.memory);
        let (height, width) = s.model.picture_px();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let mut text = format!(
            "{} on {}\n{} of {width}x{height} at {} a second ({}): {} of {}, {}, attending to {} of {}{}\n\n",
            s.name,
            self.caps.title(),
            say::n(count(s.pictures), "frame"),
            s.model.fps,
            say::secs(self.seconds()),
            say::n(n.chunks, "chunk"),
            say::n(s.model.chunk_frames, "latent frame"),
            say::n(n.steps, "step"),
            n.visible_frames,
            s.given + s.latents,
            match s.given {
                0 => String::new(),
                given => format!(", {given} of them given"),
            },
        );
        let others: Vec<String> = (self.fit.weights.iter())
            .map(|(format, bytes)| format!("{} {}", format.name(), say::mib(*bytes)))
            .collect();
        let mut rows = vec![
            (
                "weights",
                m.weights_bytes,
                format!("{}; {}", self.config.weights.name(), others.join(", ")),
            ),
            (
                "cache, exact",
                m.cache_bytes - n.text_bytes,
                self.config.kv.name().to_owned(),
            ),
            (
                "cache, coded",
                m.spans_bytes,
                self.config
                    .coded
                    .as_ref()
                    .map_or("", |c| &c.pair.name)
                    .to_owned(),
            ),
            (
                "text",
                n.text_bytes,
                "keys and values for cross-attention".to_owned(),
            ),
            ("activations", m.activations_bytes, String::new()),
            (
                "scratch",
                m.scratch_bytes,
                "tables, uniforms, the encoder of spans".to_owned(),
            ),
            ("read back", n.staging_bytes, "for a moment".to_owned()),
        ];
        if 0 < n.decoder_bytes {
            let name = s.decoder.name();
            let what = match n.decoder_bands {
                1 => format!("{name}: among weights and activations"),
                bands => format!(
                    "{name} in {bands} bands of rows: among weights and activations; {} of the past wait on the host",
                    say::mib(n.decoder_host_bytes)
                ),
            };
            rows.push(("(decoder)", n.decoder_bytes, what));
        }
        if 0 < n.offload.layers {
            let (layers, of) = (n.offload.layers, n.offload.of_layers);
            let what = format!(
                "{layers} of {of} layers, in main memory; {} uploaded a pass, {} in all",
                say::mib(n.offload.pass_bytes),
                say::mib(n.upload_bytes)
            );
            rows.push(("(offload)", n.offload.host_bytes, what));
        }
        if 0 < self.another_prompt_bytes {
            let what = "the window seen anew under it: for a moment, with several prompts only";
            rows.push((
                "(another prompt)",
                self.another_prompt_bytes,
                what.to_owned(),
            ));
        }
        if 0 < n.text_encoder_bytes {
            let what = "a part of a layer at a time, before all else, not beside it".to_owned();
            rows.push(("(text encoder)", n.text_encoder_bytes, what));
        }
        rows.push((
            "peak",
            m.peak_device_bytes,
            match (self.fit.have_bytes, self.fits()) {
                (Some(u64::MAX), Some(true)) => "no limit".to_owned(),
                (Some(have), Some(true)) => format!("fits in {}", say::mib(have)),
                (Some(have), _) => format!("does NOT fit in {}", say::mib(have)),
                (None, _) => "how much is free is not known".to_owned(),
            },
        ));
        let lines: Vec<Vec<String>> = rows
            .into_iter()
            .filter(|(_, bytes, _)| 0 < *bytes)
            .map(|(what, bytes, note)| {
                vec![what.to_owned(), format!("{:>9}", say::mib(bytes)), note]
            })
            .collect();
        text += &say::columns(&lines);
        text.push('\n');
        if let Some(refused) = &self.fit.refused {
            let _ = writeln!(text, "{refused}\n");
        }
        text += &self.fit.table();
        text += "\n\n";
        text + &self.work_text()
    }

    fn work_text(&self) -> String {
        let n = &self.fit.needs;
        let tera = |flop: f64| match flop * 1e-12 {
            t if t < 0.1 => format!("{t:.4}"),
            t if t < 10.0 => format!("{t:.2}"),
            t => format!("{t:.0}"),
        };
        let mut text = format!(
            "10^12 operations: matrices {}, attention {}{}, {} a frame\n",
            tera(n.work.linear_flop),
            tera(n.work.attention_flop),
            match 0.0 < n.decoder_flop {
                true => format!(", decoder {}", tera(n.decoder_flop)),
                false => String::new(),
            },
            tera(self.flop() / self.subject.pictures as f64),
        );
        if let Some(speed) = &self.speed {
            let secs = speed.secs(n);
            let uploads = match (n.upload_bytes, speed.upload) {
                (0, _) => String::new(),
                (_, None) => ", uploads of layers not counted".to_owned(),
                (bytes, Some(speed)) => format!(
                    ", {} of it uploads of layers at {} a second",
                    say::secs(bytes as f64 / speed),
                    say::mib(speed as u64)
                ),
            };
            let _ = writeln!(
                text,
                "at {}, {} and {} of them a second: {} a frame, {} for the film, {:.2} seconds for a second of it{uploads}",
                tera(speed.linear),
                tera(speed.attention),
                tera(speed.convolution),
                say::secs(secs / self.subject.pictures as f64),
                say::secs(secs),
                secs / self.seconds(),
            );
        }
        text
    }

    fn json(&self) -> Value {
        let (s, n) = (self.subject, &self.fit.needs);
        let (height, width) = s.model.picture_px();
        let best = self.fit.best.map(|i| &self.fit.choices[i]);
        let weights: serde_json::Map<String, Value> = (self.fit.weights.iter())
            .map(|(format, bytes)| (format.name().to_owned(), json!(bytes)))
            .collect();
        let choices = self.fit.choices.iter().map(|c| {
            let mut choice = json!(c);
            choice["flags"] = json!(c.flags());
            choice
        });
        let secs = self.speed.map(|speed| speed.secs(n));
        json!({
            "schema": 1,
            "model": s.name,
            "device": self.caps,
            "width": width,
            "height": height,
            "frames": s.pictures,
            "fps": s.model.fps,
            "given_frames": s.given,
            "latent_frames": s.latents,
            "chunk_frames": s.model.chunk_frames,
            "window": self.config.window,
            "sink": self.config.sink,
            "kv": self.config.coded.as_ref().map(|c| &c.pair.name),
            "exact": self.config.kv.name(),
            "weights": self.config.weights.name(),
            "decoder": s.decoder.name(),
            "needs": n,
            "another_prompt_bytes": self.another_prompt_bytes,
            "have_bytes": self.fit.have_bytes.filter(|b| *b < u64::MAX),
            "fits": self.fits(),
            "refused": self.fit.refused,
            "weights_bytes": weights,
            "choices": choices.collect::<Vec<_>>(),
            "widest": best.map(|c| json!({
                "flags": c.flags(),
                "kv": c.kv,
                "offload": c.offload,
                "span": c.span,
                "window": match c.reach {
                    Some(Reach::Window(frames)) => Some(frames),
                    _ => self.config.window,
                },
            })),
            "smaller_picture": self.fit.smaller_picture.map(|(h, w)| json!({"height": h, "width": w})),
            "speed": self.speed,
            "flop": self.flop(),
            "secs": secs,
            "secs_per_frame": secs.map(|s| s / self.subject.pictures as f64),
        })
    }
}

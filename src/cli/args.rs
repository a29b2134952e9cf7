//! What can be typed: commands, flags and their `LONGTAKE_*` twins. Read by `parse`, settled by `job`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::budget::BudgetArgs;
use super::compare::Setting;
use super::kv::{Layers, PairName};
use super::models::PartArg;
use super::plan::PlanArgs;
use super::values::{self, Attended, KvName, Seed, Size};
use longtake::store::Decoding;
use longtake::text::Prompts;

const EXAMPLES: &str = "\
Examples:
  longtake generate                                 64 frames of the built-in world, as an MP4 here
  longtake generate -o walk.mp4 --camera left-2,s-7,left-16,w-7 --seed 7
  longtake generate -m self-forcing \"a red fox in snow\" -o fox.mp4
  longtake generate --seconds 60 --window 48 -o frames/%04d.png
  longtake generate --kv int2                       the same film, its cache in 2 bits
  longtake generate -o - | mpv -                    watch while it is made
  longtake compare --n-seeds 3                      what a smaller cache costs, as a report
  longtake kv dump.safetensors                      what every codec costs on your own keys and values
  longtake plan -m self-forcing --vram 8G           whether a film fits a card, and with what
  longtake models                                   published models, their sizes and licences
  longtake devices                                  what it could run on
  longtake selftest                                 whether a device computes what it should
  longtake info walk.mp4                            how a film was made
";

const AFTER: &str = "\
Every flag of `generate` has a twin in the environment: --on-wall is LONGTAKE_ON_WALL. Flags win.
Exit codes: 0 done, 1 failed, 2 bad use or input, 3 would not fit, 4 no such model, 130 interrupted.";

const GENERATE_EXAMPLES: &str = "\
Examples:
  longtake generate --camera left-2,s-7,left-16,w-7 one frame a step
  longtake generate --from walk.mp4 --seed 8        the same again, with another seed
  longtake generate -m self-forcing \"a red fox in snow\" -o fox.mp4
";

const GENERATE_AFTER: &str = "\
Camera: w s a d walk, left right turn 22.5 degrees, stay; + joins, -COUNT repeats: w-8,w+left-2
The path of the finished film is printed on standard output, all else on standard error.";

const COMPARE_EXAMPLES: &str = "\
Examples:
  longtake compare                                  one film, one seed, as compare.html here
  longtake compare --n-seeds 5 --frames 96
  longtake compare --kv int2,window-16 --films 0,1,2,3 -o report.html
";

const COMPARE_AFTER: &str = "\
Beside REPORT.html lie REPORT.json with every figure and REPORT.csv with a line a run and time window.
The path of the report is printed on standard output, all else on standard error.";

const KV_EXAMPLES: &str = "\
Examples:
  longtake generate --frames 16 --dump-kv rooms.safetensors
  longtake kv rooms.safetensors                     every codec on that film's keys and values
  longtake kv mine.safetensors --layout htd --kv qvg-int2,int2 --layers 0,10-12 -v
  longtake kv rooms.safetensors --kv qvg-int2 --export packed.safetensors
  longtake kv packed.safetensors --original rooms.safetensors
";

const KV_AFTER: &str = "\
FILE is a safetensors file with [tokens, heads, head_dim] or [heads, tokens, head_dim] for each layer: tensors whose names
differ in k, v, q or key(s), value(s), query(s) alone belong together. The table is printed on standard output.";

const TEMPLATE: &str = "{about}\n\n{before-help}{usage-heading} {usage}\n\n{all-args}{after-help}";

/// Long videos, generated chunk by chunk on the GPU that you already have
#[derive(Debug, Parser)]
#[command(name = "longtake", version, before_help = EXAMPLES, after_help = AFTER, help_template = TEMPLATE)]
#[command(disable_help_subcommand = true, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) voice: Voice,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a film
    Generate(Box<GenerateArgs>),
    /// Measure settings of the cache of keys and values against the 16-bit one
    Compare(Box<CompareArgs>),
    /// Tell what a film would take of a device, and which settings fit
    Plan(Box<PlanArgs>),
    /// Measure codecs on keys and values from a file, and write or read what they store
    Kv(Box<KvFileArgs>),
    /// List published models: size, licence, and what of them is here
    Models(ModelsArgs),
    /// Download what a published model needs
    Fetch(FetchArgs),
    /// List the devices that a film can be made on
    Devices(ListArgs),
    /// Check that a device computes what it should, and how fast
    Selftest(SelftestArgs),
    /// Tell what an MP4, a PNG or a recipe says about its making
    Info(InfoArgs),
    /// Print a script that completes commands and flags in a shell
    Completions {
        /// Shell to write it for
        shell: clap_complete::Shell,
    },
    /// Print the manual page (roff)
    Man,
}

/// How much is said, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Messages")]
pub(super) struct Voice {
    /// Only warnings and errors
    #[arg(short, long, global = true, env = "LONGTAKE_QUIET", value_parser = values::switch)]
    pub(super) quiet: bool,
    /// Tell the plan and the phases; twice: the library's log
    #[arg(short, long, global = true, action = clap::ArgAction::Count, env = "LONGTAKE_VERBOSE")]
    pub(super) verbose: u8,
    /// Colours on standard error: auto, always, never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        hide_possible_values = true,
        env = "LONGTAKE_COLOR"
    )]
    pub(super) color: Colour,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Colour {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Fix {
    Off,
    Step,
    Energy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Precision {
    #[value(aliases = ["fp16", "float16", "16"])]
    F16,
    #[value(aliases = ["fp32", "float32", "32"])]
    F32,
    #[value(name = "q8_0", aliases = ["q8", "8"])]
    Q8_0,
    #[value(name = "q4_0", aliases = ["q4", "4"])]
    Q4_0,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Wall {
    Refuse,
    Slide,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TierArg {
    Auto,
    Portable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FileFormat {
    Mp4,
    Png,
    Y4m,
}

/// Everything that can be asked of a film. `None`: not asked, so that a recipe or the default fills it.
#[derive(Debug, Clone, Args)]
#[command(override_usage = "longtake generate [OPTIONS] [PROMPT]")]
#[command(before_help = GENERATE_EXAMPLES, after_help = GENERATE_AFTER, help_template = TEMPLATE)]
pub(super) struct GenerateArgs {
    /// `rooms`, a name from `models`, a folder or weights [default: rooms]
    #[arg(
        short,
        long,
        value_name = "NAME|PATH",
        env = "LONGTAKE_MODEL",
        help_heading = "Model"
    )]
    pub(super) model: Option<String>,
    /// Seed of the noise, 0 to 2^64-1; -1 draws one [default: -1]
    #[arg(
        short,
        long,
        value_name = "N",
        allow_negative_numbers = true,
        env = "LONGTAKE_SEED",
        help_heading = "Model"
    )]
    pub(super) seed: Option<Seed>,
    /// Repeat the settings stored in a film, PNG or JSON; other flags win
    #[arg(
        long,
        value_name = "FILE",
        env = "LONGTAKE_FROM",
        help_heading = "Model"
    )]
    pub(super) from: Option<PathBuf>,

    #[command(flatten)]
    pub(super) text: TextArgs,
    #[command(flatten)]
    pub(super) length: LengthArgs,
    #[command(flatten)]
    pub(super) world: WorldArgs,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    #[command(flatten)]
    pub(super) budget: BudgetArgs,
    #[command(flatten)]
    pub(super) kv: KvArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
    #[command(flatten)]
    pub(super) reports: ReportArgs,
}

/// What a text model is told.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Text models")]
pub(super) struct TextArgs {
    /// What the film shows
    #[arg(value_name = "PROMPT", hide = true)]
    pub(super) words: Option<String>,
    /// PROMPT as a flag: what the film shows; - reads standard input
    #[arg(
        short,
        long,
        value_name = "TEXT",
        conflicts_with = "words",
        env = "LONGTAKE_PROMPT"
    )]
    pub(super) prompt: Option<String>,
    /// JSON that lists prompts by second or chunk
    #[arg(long, value_name = "FILE", conflicts_with_all = ["words", "prompt"], env = "LONGTAKE_PROMPTS")]
    pub(super) prompts: Option<PathBuf>,
    /// Refused: distilled models run without guidance
    #[arg(
        short,
        long,
        value_name = "TEXT",
        hide = true,
        env = "LONGTAKE_NEGATIVE_PROMPT"
    )]
    pub(super) negative_prompt: Option<String>,
    /// Picture size [default: the model's, 832x480 for published ones]
    #[arg(long, value_name = "WxH", env = "LONGTAKE_SIZE")]
    pub(super) size: Option<Size>,
    /// Latents to pictures: taehv, wan [default: taehv]
    #[arg(
        long,
        value_name = "NAME",
        hide_possible_values = true,
        env = "LONGTAKE_DECODER"
    )]
    pub(super) decoder: Option<DecoderArg>,
    /// Take the encoded prompt from a file; no text encoder is needed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["words", "prompt", "prompts"],
        env = "LONGTAKE_EMBEDDINGS")]
    pub(super) embeddings: Option<PathBuf>,
    /// Write the encoded prompt to a file
    #[arg(long, value_name = "FILE", env = "LONGTAKE_SAVE_EMBEDDINGS")]
    pub(super) save_embeddings: Option<PathBuf>,
    /// How weights are run: a name from `models` [default: by their name]
    #[arg(long, value_name = "NAME", env = "LONGTAKE_PRESET")]
    pub(super) preset: Option<String>,
    /// ComfyUI's folder, to find files there too
    #[arg(long, value_name = "DIR", env = "LONGTAKE_COMFYUI")]
    pub(super) comfyui: Option<PathBuf>,
    /// The list of prompts that a recipe holds.
    #[arg(skip)]
    pub(super) stored: Option<Prompts>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum DecoderArg {
    #[value(alias = "tiny")]
    Taehv,
    #[value(alias = "full")]
    Wan,
}

impl From<DecoderArg> for Decoding {
    fn from(arg: DecoderArg) -> Decoding {
        match arg {
            DecoderArg::Taehv => Decoding::Taehv,
            DecoderArg::Wan => Decoding::Wan,
        }
    }
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Length (one of these)")]
pub(super) struct LengthArgs {
    /// Length in frames [default: the camera path's, else 64; 81 from text]
    #[arg(long, value_name = "N", aliases = ["video-frames", "num-frames"], value_parser = values::frames,
        env = "LONGTAKE_FRAMES")]
    pub(super) frames: Option<u32>,
    /// Length in seconds of playback, rounded up to whole frames
    #[arg(long, value_name = "S", value_parser = values::seconds, allow_negative_numbers = true,
        env = "LONGTAKE_SECONDS")]
    pub(super) seconds: Option<f64>,
    /// Length in chunks, the frames that the model makes together
    #[arg(long, value_name = "N", value_parser = values::frames, env = "LONGTAKE_CHUNKS")]
    pub(super) chunks: Option<u32>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "World and camera")]
pub(super) struct WorldArgs {
    /// Path or file; longer films stay at its end [default: revisits]
    #[arg(long, alias = "pose", value_name = "STR|FILE", env = "LONGTAKE_CAMERA")]
    pub(super) camera: Option<String>,
    /// Film of the place: 0 to 3 are built in, others are drawn [default: 3]
    #[arg(long, value_name = "N", env = "LONGTAKE_FILM")]
    pub(super) film: Option<u32>,
    /// True frames of it to start from, 1 to 96 [default: 48]
    #[arg(long, value_name = "N", env = "LONGTAKE_GIVEN")]
    pub(super) given: Option<u32>,
    /// Where the path meets a wall: refuse, slide [default: slide]
    #[arg(
        long,
        value_name = "DO",
        hide_possible_values = true,
        env = "LONGTAKE_ON_WALL"
    )]
    pub(super) on_wall: Option<Wall>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Network and device")]
pub(super) struct NetworkArgs {
    /// Latent frames attended, sink and own counted; 0: all [default: all]
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        env = "LONGTAKE_WINDOW"
    )]
    pub(super) window: Option<Attended>,
    /// First latent frames that never leave the window [default: 0]
    #[arg(long, value_name = "N", env = "LONGTAKE_SINK")]
    pub(super) sink: Option<u32>,
    /// Denoising steps a chunk [default: the model's]
    #[arg(long, value_name = "N", value_parser = values::steps, env = "LONGTAKE_STEPS")]
    pub(super) steps: Option<u32>,
    /// Storage of weights: f16, f32, q8_0, q4_0 [default: f16]
    #[arg(
        long,
        value_name = "TYPE",
        hide_possible_values = true,
        env = "LONGTAKE_WEIGHTS"
    )]
    pub(super) weights: Option<Precision>,
    /// Layers kept in main memory, uploaded each pass; all [default: 0]
    #[arg(
        long,
        value_name = "N",
        alias = "blocks-to-swap",
        env = "LONGTAKE_OFFLOAD",
        value_parser = values::layers
    )]
    pub(super) offload: Option<u32>,
    /// Name or index in `devices`; auto; cpu: no driver [default: auto]
    #[arg(long, value_name = "NAME|INDEX", env = "LONGTAKE_DEVICE")]
    pub(super) device: Option<String>,
    /// auto, or portable: no optional feature, smallest limits [default: auto]
    #[arg(
        long,
        value_name = "TIER",
        hide_possible_values = true,
        env = "LONGTAKE_TIER"
    )]
    pub(super) tier: Option<TierArg>,
}

/// How keys and values are kept; `compare` has its own flag for that.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "KV cache")]
pub(super) struct KvArgs {
    /// off f32 bf16; int2 int3 int4 int8; qvg- rtn- kivi- quarot-int2; qvg-pro
    #[arg(long, value_name = "TYPE", aliases = ["kv-bits", "kv-cache-quant", "cache-type"], env = "LONGTAKE_KV")]
    pub(super) kv: Option<KvName>,
    /// Keys alone
    #[arg(
        long,
        value_name = "TYPE",
        alias = "cache-type-k",
        env = "LONGTAKE_KV_K"
    )]
    pub(super) kv_k: Option<KvName>,
    /// Values alone
    #[arg(
        long,
        value_name = "TYPE",
        alias = "cache-type-v",
        env = "LONGTAKE_KV_V"
    )]
    pub(super) kv_v: Option<KvName>,
    /// Latent frames coded together, rounded up to chunks [default: 16]
    #[arg(long, value_name = "N", value_parser = values::frames, env = "LONGTAKE_KV_SPAN")]
    pub(super) kv_span: Option<u32>,
    /// Newest latent frames that stay exact beside that [default: 0]
    #[arg(long, value_name = "N", env = "LONGTAKE_KV_RECENT")]
    pub(super) kv_recent: Option<u32>,
    /// First latent frames that stay exact [default: 1]
    #[arg(long, value_name = "N", env = "LONGTAKE_KV_SINK")]
    pub(super) kv_sink: Option<u32>,
    /// Correct attention for coding noise: off, step, energy [default: its own]
    #[arg(
        long,
        value_name = "FORM",
        hide_possible_values = true,
        env = "LONGTAKE_KV_BIAS_FIX"
    )]
    pub(super) kv_bias_fix: Option<Fix>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// .mp4 .y4m %04d.png, folder, - for raw Y4M [default: UTC_MODEL_SEED.mp4]
    #[arg(short, long, value_name = "PATH", env = "LONGTAKE_OUTPUT")]
    pub(super) output: Option<PathBuf>,
    /// mp4, png or y4m, where the name leaves it open [default: mp4]
    #[arg(
        long,
        value_name = "FORMAT",
        hide_possible_values = true,
        env = "LONGTAKE_FORMAT"
    )]
    pub(super) format: Option<FileFormat>,
    /// Replace what is there
    #[arg(short = 'y', long, env = "LONGTAKE_OVERWRITE", value_parser = values::switch)]
    pub(super) overwrite: bool,
    /// Write the given true frames before the generated ones
    #[arg(long, env = "LONGTAKE_SHOW_GIVEN", value_parser = values::switch)]
    pub(super) show_given: bool,
    /// Enlargement [default: 1; for MP4 to a short side of 384 or more]
    #[arg(long, value_name = "N", value_parser = values::scale, env = "LONGTAKE_SCALE")]
    pub(super) scale: Option<u32>,
    /// Playback rate, 1 to 1000; never changes the frames [default: the model's]
    #[arg(long, value_name = "N", value_parser = values::fps, env = "LONGTAKE_FPS")]
    pub(super) fps: Option<u32>,
    /// Also write the keys and values of the end, for `longtake kv`
    #[arg(long, value_name = "FILE", env = "LONGTAKE_DUMP_KV")]
    pub(super) dump_kv: Option<PathBuf>,
    /// Store no recipe in the film or beside it
    #[arg(long, env = "LONGTAKE_NO_METADATA", value_parser = values::switch)]
    pub(super) no_metadata: bool,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Messages")]
pub(super) struct ReportArgs {
    /// Events as JSON lines on standard output
    #[arg(long, env = "LONGTAKE_JSON", value_parser = values::switch)]
    pub(super) json: bool,
    /// No progress bar
    #[arg(long, env = "LONGTAKE_NO_PROGRESS", value_parser = values::switch)]
    pub(super) no_progress: bool,
    /// Measure every stage and print a table; costs a little speed
    #[arg(long, env = "LONGTAKE_TIMINGS", value_parser = values::switch)]
    pub(super) timings: bool,
    /// Watch the film in a window while it is made, and steer it there
    #[arg(long, env = "LONGTAKE_VIEW", value_parser = values::switch)]
    pub(super) view: bool,
    /// Check everything, print the plan, make nothing
    #[arg(long, env = "LONGTAKE_DRY_RUN", value_parser = values::switch)]
    pub(super) dry_run: bool,
}

/// What is to be compared. The lists of its own have no twin: they mean something else than `generate`'s flags of that name.
#[derive(Debug, Clone, Args)]
#[command(before_help = COMPARE_EXAMPLES, after_help = COMPARE_AFTER, help_template = TEMPLATE)]
#[command(next_help_heading = "Comparison")]
pub(super) struct CompareArgs {
    /// Settings of the cache, as `generate --kv` takes them, or window-N
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        default_value = "rtn-int2,kivi-int2,quarot-int2,qvg-int2,qvg-pro,int2"
    )]
    pub(super) kv: Vec<Setting>,
    /// The setting that they are measured against
    #[arg(long, value_name = "NAME", default_value = "f16")]
    pub(super) against: Setting,
    /// Seeds of the noise; every setting runs with each
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        conflicts_with = "n_seeds"
    )]
    pub(super) seeds: Vec<u64>,
    /// As many seeds from 0 on
    #[arg(long, value_name = "N", default_value = "1", value_parser = values::seeds)]
    pub(super) n_seeds: u32,
    /// Films, 0 to 3 built in, others drawn; every seed runs in each [default: --film]
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        conflicts_with = "film"
    )]
    pub(super) films: Vec<u32>,
    /// Also run 16-bit sliding windows of as many bytes as each setting [default: on]
    #[arg(long, value_name = "on|off", value_parser = values::switch, num_args = 0..=1, require_equals = true,
        default_value = "on", default_missing_value = "on", hide_default_value = true,
        action = clap::ArgAction::Set)]
    pub(super) windows_of_equal_bytes: bool,
    /// `rooms`, which is built in, or a folder with config.json and weights.safetensors [default: rooms]
    #[arg(short, long, value_name = "NAME|PATH", env = "LONGTAKE_MODEL")]
    pub(super) model: Option<String>,

    #[command(flatten)]
    pub(super) length: LengthArgs,
    #[command(flatten)]
    pub(super) world: WorldArgs,
    #[command(flatten)]
    pub(super) network: NetworkArgs,

    /// The report, .html; .json and .csv are written beside it
    #[arg(
        short,
        long,
        value_name = "REPORT.html",
        default_value = "compare.html",
        help_heading = "Output"
    )]
    pub(super) output: PathBuf,
    /// Replace what is there
    #[arg(short = 'y', long, env = "LONGTAKE_OVERWRITE", value_parser = values::switch, help_heading = "Output")]
    pub(super) overwrite: bool,
    /// The figures as JSON on standard output
    #[arg(long, env = "LONGTAKE_JSON", value_parser = values::switch, help_heading = "Messages")]
    pub(super) json: bool,
    /// No progress bar
    #[arg(long, env = "LONGTAKE_NO_PROGRESS", value_parser = values::switch, help_heading = "Messages")]
    pub(super) no_progress: bool,
}

/// Keys and values from a file. What it shares with `generate` has the same twin, the rest has none.
#[derive(Debug, Clone, Args)]
#[command(before_help = KV_EXAMPLES, after_help = KV_AFTER, help_template = TEMPLATE)]
#[command(next_help_heading = "Input")]
pub(super) struct KvFileArgs {
    /// A dump by `generate --dump-kv`, another program's, or what --export wrote
    pub(super) file: PathBuf,
    /// How axes run: thd tokens first, htd heads first [default: as the file says, else the shorter axis is the heads]
    #[arg(long, value_name = "AXES", hide_possible_values = true)]
    pub(super) layout: Option<AxesArg>,
    /// Layers to take, such as 0,3-5 [default: all]
    #[arg(
        long,
        value_name = "N,...",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) layers: Layers,
    /// For a FILE of --export: the dump that it was made from, to measure it against
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kv", "span", "export"])]
    pub(super) original: Option<PathBuf>,

    /// Settings, as `generate --kv` takes them; KEYS/VALUES for two, off for half floats [default: all]
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        help_heading = "Codecs"
    )]
    pub(super) kv: Vec<PairName>,
    /// Tokens coded together [default: 16 latent frames of a dump by longtake, else all]
    #[arg(long, value_name = "N", value_parser = values::tokens, help_heading = "Codecs")]
    pub(super) span: Option<usize>,
    /// Also measure attention under the corrections of the softmax mass that are not the setting's own
    #[arg(long, help_heading = "Codecs")]
    pub(super) corrections: bool,
    /// Queries that attention is measured with, evenly spaced [default: 64]
    #[arg(long, value_name = "N", value_parser = values::queries, default_value = "64", hide_default_value = true,
        help_heading = "Codecs")]
    pub(super) queries: usize,
    /// Name or index in `devices`; auto; cpu: no driver [default: auto]
    #[arg(
        long,
        value_name = "NAME|INDEX",
        env = "LONGTAKE_DEVICE",
        help_heading = "Codecs"
    )]
    pub(super) device: Option<String>,
    /// auto, or portable: no optional feature, smallest limits [default: auto]
    #[arg(
        long,
        value_name = "TIER",
        hide_possible_values = true,
        env = "LONGTAKE_TIER",
        help_heading = "Codecs"
    )]
    pub(super) tier: Option<TierArg>,

    /// Write what one setting stores, in the released layout where it fits that
    #[arg(short = 'o', long, value_name = "FILE", help_heading = "Output")]
    pub(super) export: Option<PathBuf>,
    /// Replace what is there
    #[arg(short = 'y', long, env = "LONGTAKE_OVERWRITE", value_parser = values::switch, help_heading = "Output")]
    pub(super) overwrite: bool,
    /// The figures as JSON on standard output
    #[arg(long, env = "LONGTAKE_JSON", value_parser = values::switch, help_heading = "Messages")]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum AxesArg {
    Thd,
    Htd,
}

#[derive(Debug, Clone, Args)]
pub(super) struct ListArgs {
    /// As JSON
    #[arg(long, env = "LONGTAKE_JSON", value_parser = values::switch)]
    pub(super) json: bool,
}

const MODELS_AFTER: &str = "\
Files are looked for in Hugging Face's cache (HF_HUB_CACHE, HF_HOME) and, with --comfyui, in ComfyUI's folders.";

const FETCH_EXAMPLES: &str = "\
Examples:
  longtake fetch self-forcing                       says size and licences, asks, downloads, checks
  longtake fetch self-forcing --parts generator,taehv --yes
  longtake fetch longlive --dry-run                 says size and licences only
";

const FETCH_AFTER: &str = "\
A download that was cut goes on where it stopped. HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE mean what they
mean to Hugging Face's own tools. The paths of all files are printed on standard output, all else on standard error.";

#[derive(Debug, Clone, Args)]
#[command(after_help = MODELS_AFTER)]
pub(super) struct ModelsArgs {
    /// Tell all about one of them
    pub(super) preset: Option<String>,
    /// Hold a file, or the one in a folder, to the tensors of PRESET's network
    #[arg(long, value_name = "PATH", requires = "preset")]
    pub(super) check: Option<PathBuf>,
    /// ComfyUI's folder, to find files there too
    #[arg(long, value_name = "DIR", env = "LONGTAKE_COMFYUI")]
    pub(super) comfyui: Option<PathBuf>,
    /// As JSON
    #[arg(long, env = "LONGTAKE_JSON", value_parser = values::switch)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Args)]
#[command(before_help = FETCH_EXAMPLES, after_help = FETCH_AFTER, help_template = TEMPLATE)]
pub(super) struct FetchArgs {
    /// A name from `models`
    pub(super) preset: String,
    /// Only these: generator, lora, text, vae, taehv [default: all]
    #[arg(long, value_name = "PART,...", value_delimiter = ',')]
    pub(super) parts: Vec<PartArg>,
    /// Accept size and licences without being asked
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Say what would be downloaded, and download nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// ComfyUI's folder; what is there is not downloaded
    #[arg(long, value_name = "DIR", env = "LONGTAKE_COMFYUI")]
    pub(super) comfyui: Option<PathBuf>,
    /// The paths as JSON on standard output
    #[arg(long, env = "LONGTAKE_JSON", value_parser = values::switch)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct SelftestArgs {
    /// Name or index in `devices`; auto; cpu: no driver [default: auto]
    #[arg(long, value_name = "NAME|INDEX", env = "LONGTAKE_DEVICE")]
    pub(super) device: Option<String>,
    /// auto, or portable: no optional feature, smallest limits [default: auto]
    #[arg(
        long,
        value_name = "TIER",
        hide_possible_values = true,
        env = "LONGTAKE_TIER"
    )]
    pub(super) tier: Option<TierArg>,
    /// As JSON
    #[arg(long, env = "LONGTAKE_JSON", value_parser = values::switch)]
    pub(super) json: bool,
    /// Also write table and JSON to a file, to be attached to a bug report
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Spoil the result of an op, to see what is printed then
    #[arg(long, value_name = "OP", hide = true)]
    pub(super) spoil: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(super) struct InfoArgs {
    /// An MP4, a PNG or a JSON file
    pub(super) file: PathBuf,
    /// As JSON
    #[arg(long, env = "LONGTAKE_JSON", value_parser = values::switch)]
    pub(super) json: bool,
}

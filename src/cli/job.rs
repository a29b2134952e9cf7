//! What was meant: flags, recipe and model settled into one checked piece of work, before any device is opened.

use std::path::Path;

use anyhow::Context as _;
use longtake::codec::KvPair;
use longtake::frame::Frame;
use longtake::model::config::DitConfig;
use longtake::ops::{BiasFix, KvFormat, WeightFormat};
use longtake::rollout::{Coded, Config, Film, ModelSource, Walk};
use longtake::store::Named;
use longtake::weights;
use longtake::world::camera::{self, Step};
use longtake::world::film::{DEFAULT_FILM, DEFAULT_GIVEN, SeedFilm};
use longtake::world::map::{OnWall, Path as Way};
use longtake::world::pose::Action;

use super::args::{Fix, GenerateArgs, KvArgs, LengthArgs, NetworkArgs, Precision, Wall, WorldArgs};
use super::fault::Fault;
use super::target::{self, Target};
use super::text::{self, TextScene};
use super::values::{self, Attended, KvName, Seed};

/// Frames of a film for which nothing was asked.
const DEFAULT_FRAMES: usize = 64;
/// The model inside the program.
const BUILT_IN: &str = "rooms";

/// What is filmed: the model, the place, and the way through it.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) model: ModelSource,
    pub(super) film_idx: usize,
    pub(super) film_name: String,
    pub(super) walk: Walk,
    /// The path in its canonical form, as long as the film.
    pub(super) camera: String,
    pub(super) follows_default: bool,
    pub(super) on_wall: Wall,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) fps: u32,
    /// What the user should hear before it starts.
    pub(super) warnings: Vec<String>,
}

impl Scene {
    /// Settles the place; nothing is opened but the model and the camera file.
    ///
    /// # Errors
    /// A model that is missing or faulty, a film that there is not, a path that cannot be walked.
    pub(super) fn new(
        model: Option<&str>,
        length: &LengthArgs,
        world: &WorldArgs,
        fps: Option<u32>,
    ) -> anyhow::Result<Scene> {
        let model = open_model(model.unwrap_or(BUILT_IN))?;
        let (height, width) = model.config.picture_px();
        let film_idx = world.film.map_or(DEFAULT_FILM, |n| n as usize);
        let film = SeedFilm::load(film_idx).context("--film")?;
        let given = world.given.map_or(DEFAULT_GIVEN, |n| n as usize);
        film.default_path(given, 0).context("--given")?;
        let fps = fps.unwrap_or(model.config.fps);
        let mut warnings = Vec::new();
        let asked = frames(length, &model.config, fps)?;
        let steps = path(world, &film, given, asked, &mut warnings)?;
        let on_wall = world.on_wall.unwrap_or(Wall::Slide);
        let walk = walk(&film, given, &steps, on_wall, &mut warnings)?;
        Ok(Scene {
            film_idx,
            film_name: film.name,
            camera: camera::format(&steps),
            follows_default: world.camera.is_none(),
            on_wall,
            width,
            height,
            fps,
            walk,
            model,
            warnings,
        })
    }
}

/// How keys and values are kept.
#[derive(Debug, Clone)]
pub(super) struct Kv {
    /// Setting of keys and of values.
    pub(super) names: [KvName; 2],
    /// Storage of what is exact.
    pub(super) exact: KvFormat,
    /// What is coded.
    pub(super) coded: Option<Coded>,
}

impl Kv {
    /// Settles the cache's flags.
    ///
    /// # Errors
    /// Settings that do not go together.
    pub(super) fn new(args: &KvArgs) -> Result<Kv, Fault> {
        let both = args.kv.clone().unwrap_or_else(KvName::halves);
        let names = [&args.kv_k, &args.kv_v].map(|n| n.clone().unwrap_or_else(|| both.clone()));
        let [k, v] = &names;
        let exact = match (k.exact(), v.exact()) {
            (Some(k), Some(v)) if k == v => {
                let spans = [args.kv_span, args.kv_recent, args.kv_sink];
                if spans.iter().any(Option::is_some) || args.kv_bias_fix.is_some() {
                    return Err(Fault::Usage(format!(
                        "--kv-span, --kv-recent, --kv-sink and --kv-bias-fix are for coded keys or values; these are {}: add --kv int2",
                        k.name()
                    )));
                }
                return Ok(Kv {
                    names: names.clone(),
                    exact: k,
                    coded: None,
                });
            }
            (Some(_), Some(_)) => {
                return Err(Fault::Usage(format!(
                    "keys in {k} and values in {v}: exact ones are of one type; use --kv"
                )));
            }
            (Some(f), None) | (None, Some(f)) if f != KvFormat::F16 => {
                return Err(Fault::Usage(format!(
                    "keys in {k} and values in {v}: what stays exact beside a codec is f16; write off for it"
                )));
            }
            _ => KvFormat::F16,
        };
        let word = |n: &KvName| match n.exact() {
            Some(_) => "off".to_owned(),
            None => n.as_str().to_owned(),
        };
        let pair =
            KvPair::of(&word(k), &word(v)).map_err(|why| Fault::Usage(format!("--kv: {why}")))?;
        let pair = match args.kv_bias_fix {
            None => pair,
            Some(Fix::Off) => pair.with_bias(BiasFix::Off),
            Some(Fix::Step) => pair.with_bias(BiasFix::Step),
            Some(Fix::Energy) => pair.with_bias(BiasFix::Energy),
        };
        let usual = Coded::new(pair);
        let coded = Coded {
            span: args.kv_span,
            recent: args.kv_recent.unwrap_or(usual.recent),
            sink: args.kv_sink.unwrap_or(usual.sink),
            ..usual
        };
        Ok(Kv {
            names,
            exact,
            coded: Some(coded),
        })
    }
}

/// What a film is of.
#[derive(Debug)]
pub(super) enum Subject {
    /// A walk through a demo world.
    Walk(Box<Scene>),
    /// Prompts.
    Text(Box<TextScene>),
}

impl Subject {
    fn new(args: &GenerateArgs) -> anyhow::Result<Subject> {
        let name = args.model.as_deref().unwrap_or(BUILT_IN);
        if let Some(named) = Named::of(name) {
            return TextScene::new(&named, args).map(|scene| Subject::Text(Box::new(scene)));
        }
        if args.model.is_none() || name.eq_ignore_ascii_case(BUILT_IN) || Path::new(name).is_dir() {
            text::refuse_for_world(&args.text)?;
        }
        Scene::new(
            args.model.as_deref(),
            &args.length,
            &args.world,
            args.output.fps,
        )
        .map(|scene| Subject::Walk(Box::new(scene)))
    }

    pub(super) fn model(&self) -> &ModelSource {
        match self {
            Subject::Walk(scene) => &scene.model,
            Subject::Text(scene) => &scene.model,
        }
    }

    pub(super) fn fps(&self) -> u32 {
        match self {
            Subject::Walk(scene) => scene.fps,
            Subject::Text(scene) => scene.fps,
        }
    }

    /// Width and height of a picture.
    pub(super) fn size(&self) -> (u32, u32) {
        let (height, width) = self.model().config.picture_px();
        (width, height)
    }

    /// True frames that the film starts from.
    pub(super) fn given(&self) -> &[Frame] {
        match self {
            Subject::Walk(scene) => &scene.walk.given,
            Subject::Text(_) => &[],
        }
    }

    /// Pictures to make.
    pub(super) fn frames(&self) -> usize {
        match self {
            Subject::Walk(scene) => scene.walk.poses.len(),
            Subject::Text(scene) => scene.frames,
        }
    }

    /// The film as far as a plan needs it.
    pub(super) fn outline(&self) -> Film {
        match self {
            Subject::Walk(scene) => scene.walk.clone().into(),
            Subject::Text(scene) => scene.outline().into(),
        }
    }

    /// What the user should hear before it starts.
    pub(super) fn warnings(&self) -> &[String] {
        match self {
            Subject::Walk(scene) => &scene.warnings,
            Subject::Text(scene) => &scene.warnings,
        }
    }
}

/// Denoising steps that the network will take.
pub(super) fn steps(config: &DitConfig, network: &NetworkArgs) -> u32 {
    let own = || u32::try_from(config.sampler.n_passes()).unwrap_or(u32::MAX);
    network.steps.unwrap_or_else(own)
}

/// A film to make.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) subject: Subject,
    pub(super) show_given: bool,
    pub(super) config: Config,
    pub(super) kv: Kv,
    pub(super) precision: Precision,
    /// Denoising steps that the network will take.
    pub(super) steps: u32,
    pub(super) scale: u32,
    pub(super) target: Target,
}

impl Job {
    /// Settles `args`; nothing is written or opened but the model and the camera file.
    ///
    /// # Errors
    /// As [`Scene::new`]; settings that contradict each other, an output that cannot be.
    pub(super) fn new(args: &GenerateArgs) -> anyhow::Result<Job> {
        let mut subject = Subject::new(args)?;
        let seed = args.seed.unwrap_or(Seed::Random).number();
        let target = Target::new(&args.output, &subject.model().name, seed)?;
        target::check_json(&target, args.reports.json)?;
        if let Some(dump) = &args.output.dump_kv {
            if *dump == target.path {
                return Err(Fault::Usage(format!(
                    "--dump-kv and --output name one file; give the dump another: {dump:?}"
                ))
                .into());
            }
            weights::check_free(dump, target::existing(args.output.overwrite))
                .context("--dump-kv")?;
        }
        let kv = Kv::new(&args.kv)?;
        let mut config = Config {
            kv: kv.exact,
            coded: kv.coded.clone(),
            ..config(&args.network, seed)
        };
        if let Subject::Text(scene) = &mut subject {
            if args.network.window.is_none() {
                config.window = scene.policy.window.frames.map(|n| n as u32);
            }
            if args.network.sink.is_none() && config.window.is_some() {
                config.sink = scene.policy.window.sink as u32;
            }
            (config.positions, config.ema_sink) = (scene.policy.positions, scene.policy.ema_sink);
            config.renew = scene.renew;
            if config.renew.is_some() && config.coded.is_some() {
                scene.warnings.push(format!(
                    "{} was trained to see its window anew under every prompt, which coded keys and values do not allow: what the film shows before a prompt weighs on what comes after; --kv off changes at once",
                    scene.model.name
                ));
            }
            config.coded = config.coded.map(|c| text_spans(c, &scene.model.config));
        }
        let (width, height) = subject.size();
        let scale = args.output.scale;
        Ok(Job {
            show_given: args.output.show_given,
            config,
            kv,
            precision: args.network.weights.unwrap_or(Precision::F16),
            steps: steps(&subject.model().config, &args.network),
            scale: scale.unwrap_or_else(|| target.format.default_scale(width, height)),
            target,
            subject,
        })
    }

    /// Frames that the file will hold.
    pub(super) fn file_frames(&self) -> u64 {
        let shown = if self.show_given {
            self.subject.given().len()
        } else {
            0
        };
        (shown + self.subject.frames()) as u64
    }
}

/// Spans of a chunk, unless others were asked for: frames of text models have tokens enough, and the usual spans would leave
/// most of a short film exact.
pub(super) fn text_spans(coded: Coded, model: &DitConfig) -> Coded {
    Coded {
        span: coded.span.or(Some(model.chunk_frames)),
        ..coded
    }
}

/// What the network's flags settle; the storage of keys and values is the default.
pub(super) fn config(network: &NetworkArgs, seed: u64) -> Config {
    Config {
        seed,
        window: network.window.and_then(|Attended(n)| n),
        sink: network.sink.unwrap_or(0),
        weights: match network.weights.unwrap_or(Precision::F16) {
            Precision::F16 => WeightFormat::F16,
            Precision::F32 => WeightFormat::F32,
            Precision::Q8_0 => WeightFormat::Q8_0,
            Precision::Q4_0 => WeightFormat::Q4_0,
        },
        offload: network.offload.unwrap_or(0),
        steps: network.steps,
        ..Config::default()
    }
}

/// A built-in model by name, another by its folder.
pub(super) fn open_model(name: &str) -> anyhow::Result<ModelSource> {
    if name.eq_ignore_ascii_case(BUILT_IN) {
        return Ok(ModelSource::rooms()?);
    }
    if Named::of(name).is_some() {
        return Err(Fault::Usage(format!(
            "--model: {name:?} is a text model, and this is for demo worlds; longtake generate makes films from text"
        ))
        .into());
    }
    let path = Path::new(name);
    if path.is_file() {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        return Err(Fault::Usage(format!(
            "--model: {name:?} is a file; name the folder that it lies in: {:?}",
            folder.unwrap_or(Path::new("."))
        ))
        .into());
    }
    if !path.is_dir() {
        return Err(Fault::NoModel(format!(
            "--model: there is no model {name:?}: {BUILT_IN} is built in, longtake models lists published ones, others are \
             folders with config.json and weights"
        ))
        .into());
    }
    // `.` and `..` have no name to show, the folder behind them has.
    let folder = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    ModelSource::open(&folder).context("--model")
}

/// The steps of the film, one a frame.
fn path(
    world: &WorldArgs,
    film: &SeedFilm,
    given: usize,
    asked: Option<usize>,
    warnings: &mut Vec<String>,
) -> anyhow::Result<Vec<Step>> {
    let Some(text) = &world.camera else {
        return Ok(film.default_path(given, asked.unwrap_or(DEFAULT_FRAMES))?);
    };
    let mut steps = camera::from_arg(text).context("--camera")?;
    let (has, wants) = (steps.len(), asked.unwrap_or(steps.len()));
    if wants < has {
        warnings.push(format!(
            "the film ends with step {wants} of the camera path's {has}"
        ));
    }
    if has < wants {
        warnings.push(format!(
            "the camera path has {has} steps, the film {wants} frames: the camera stays where it is for the last {}",
            wants - has
        ));
    }
    steps.resize(wants, Action::Stay.into());
    Ok(steps)
}

/// Frames that were asked for, if any.
///
/// # Errors
/// More than a film has.
pub(super) fn frames(
    length: &LengthArgs,
    config: &DitConfig,
    fps: u32,
) -> Result<Option<usize>, Fault> {
    let most = f64::from(values::max_frames());
    let (frames, asked) = match (length.frames, length.seconds, length.chunks) {
        (Some(n), ..) => (f64::from(n), format!("--frames {n}")),
        (_, Some(secs), _) => (
            (secs * f64::from(fps)).ceil(),
            format!("--seconds {secs} at {fps} frames a second"),
        ),
        (.., Some(n)) => (
            config.pictures(n as usize * config.chunk_frames as usize) as f64,
            format!("--chunks {n}"),
        ),
        _ => return Ok(None),
    };
    if most < frames {
        return Err(Fault::Usage(format!(
            "{asked} is {frames} frames; a film has at most {most}"
        )));
    }
    // Between 1 and the limit, by the flags' own checks and the one above.
    Ok(Some(frames.max(1.0) as usize))
}

fn walk(
    film: &SeedFilm,
    given: usize,
    steps: &[Step],
    on_wall: Wall,
    warnings: &mut Vec<String>,
) -> anyhow::Result<Walk> {
    let (frames, poses) = (&film.frames[..given], &film.poses[..given]);
    let from = poses.last().copied().unwrap_or_default();
    let rule = match on_wall {
        Wall::Refuse => OnWall::Refuse,
        Wall::Slide => OnWall::Slide,
    };
    let way = Way::along(&film.map, from, steps, rule).context("--camera")?;
    if let Some(first) = way.first_hit {
        warnings.push(format!(
            "the path meets walls: {} steps slid along one, {} could not move, the first is step {} ({}); \
             --on-wall refuse stops instead",
            way.n_slid, way.n_blocked, first + 1, steps[first],
        ));
    }
    Ok(Walk {
        given: frames.to_vec(),
        given_poses: poses.to_vec(),
        poses: way.poses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Command;
    use crate::cli::parse;

    fn job(line: &str) -> anyhow::Result<Job> {
        let line = format!("longtake generate {line}");
        let cli = parse::parse(line.split_whitespace().map(Into::into)).unwrap();
        match cli.command {
            Some(Command::Generate(args)) => Job::new(&args),
            other => panic!("{other:?}"),
        }
    }

    /// The walk of a film that is one.
    fn scene(job: &Job) -> &Scene {
        match &job.subject {
            Subject::Walk(scene) => scene,
            Subject::Text(scene) => panic!("{scene:?}"),
        }
    }

    #[test]
    fn nothing_asked_is_64_frames_of_the_default_film() {
        let job = job("").unwrap();
        assert_eq!(
            (scene(&job).walk.poses.len(), scene(&job).walk.given.len()),
            (64, 48)
        );
        assert!(scene(&job).follows_default && scene(&job).warnings.is_empty());
        assert_eq!((scene(&job).fps, job.scale, job.steps), (8, 8, 2));
    }

    #[test]
    fn a_camera_path_is_as_long_as_its_steps() {
        assert_eq!(scene(&job("--camera left-5").unwrap()).walk.poses.len(), 5);
        let cut = job("--camera left-5 --frames 3").unwrap();
        assert_eq!(
            (scene(&cut).camera.as_str(), scene(&cut).warnings.len()),
            ("left-3", 1)
        );
        let held = job("--camera left-5 --frames 7").unwrap();
        assert_eq!(scene(&held).camera, "left-5,stay-2");
        assert!(scene(&held).warnings[0].contains("for the last 2"));
    }

    #[test]
    fn seconds_count_playback() {
        assert_eq!(scene(&job("--seconds 1.01").unwrap()).walk.poses.len(), 9);
        assert_eq!(
            scene(&job("--seconds 1 --fps 30").unwrap())
                .walk
                .poses
                .len(),
            30
        );
        assert!(job("--seconds 1000000").is_err());
    }

    #[test]
    fn walls_are_told_or_refused() {
        let slid = job("--camera w-60").unwrap();
        assert!(
            scene(&slid).warnings[0].contains("could not move"),
            "{:?}",
            scene(&slid).warnings
        );
        let err = job("--camera w-60 --on-wall refuse").unwrap_err();
        assert_eq!(crate::cli::fault::code(&err), 2);
    }

    #[test]
    fn given_frames_and_films_have_their_range() {
        for line in ["--given 0", "--given 97", "--film 5 --given 97"] {
            let err = job(line).unwrap_err();
            assert_eq!(crate::cli::fault::code(&err), 2, "{line}");
        }
        assert_eq!(
            job("--given 1 --show-given --frames 2")
                .unwrap()
                .file_frames(),
            3
        );
    }

    #[test]
    fn a_missing_model_is_told_apart_from_a_file() {
        let code = |line: &str| crate::cli::fault::code(&job(line).unwrap_err());
        assert_eq!(code("-m no-such-model"), 4);
        assert_eq!(code("-m Cargo.toml"), 2);
        assert_eq!(code("-m src"), 4);
    }
}

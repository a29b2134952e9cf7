//! All that the window shows, and what its controls do. Panels read it and call its methods; what reaches outside (the
//! worker, files, the window itself) leaves as [`Effect`]s, so that everything here runs in tests without a device.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use longtake::cache::Held;
use longtake::frame::Frame;
use longtake::gpu::{Caps, Kind, Select};
use longtake::media::Recipe;
use longtake::quality;
use longtake::rollout::event::{Event, MemoryUse, StageTime, Summary};
use longtake::rollout::{Drift, DriftSummary, Walk};
use longtake::world::{Pose, SeedFilm, Step, camera};

use crate::fault::{Fault, Remedy};
use crate::job::{Job, Width, Widths};
use crate::loading::Loading;
use crate::memory::{Change, Errors, History, Sample};
use crate::offer::Offer;
use crate::pictures::Gallery;
use crate::play::Play;
use crate::say;
use crate::text::{NO_COMPARISON, NO_STEERING, NO_WAY_BACK, Pane, Way};
use crate::versus::{Cost, Report, Versus};
use crate::worker::{Begun, Command, Made, Message, Reins, Split};

/// What has to happen outside.
#[derive(Debug, Clone)]
pub enum Effect {
    /// For the worker.
    Command(Command),
    /// A file to write into the working folder.
    Save {
        /// Its name; a number is put in where it is taken.
        name: String,
        /// What is in it.
        bytes: Vec<u8>,
    },
    /// The report of the comparison.
    SaveReport(Box<Report>),
    /// The made frames as a film file.
    SaveFilm {
        /// Its name.
        name: String,
        /// Frames.
        frames: Vec<Arc<Frame>>,
        /// Frames a second.
        fps: u32,
    },
    /// The window fills the screen, or no more.
    Fullscreen(bool),
    /// The window closes.
    Quit,
}

/// How far the film is.
#[derive(Debug, Clone, PartialEq)]
pub enum Phase {
    /// Nothing is loaded.
    Empty,
    /// A film was asked for; weights and given frames come first: (given frames done, of).
    Loading(usize, usize),
    /// Chunks are made.
    Making,
    /// The user stopped the making.
    Stopped,
    /// The film is as long as planned.
    Finished,
    /// The film up to a frame is made again: (done, of).
    GoingBack(usize, usize),
    /// It failed.
    Failed(Fault),
}

/// One frame of the film.
#[derive(Debug, Clone)]
pub struct Shot {
    /// The picture.
    pub frame: Arc<Frame>,
    /// Where it was taken.
    pub pose: Pose,
    /// What led there; `None` for given frames and in films from text.
    pub step: Option<Step>,
    /// Widths at which the cache coded while it was made.
    pub widths: Widths,
    /// The true picture there, and how near this one comes in dB, where the walk has it.
    pub truth: Option<(Arc<Frame>, f64)>,
}

/// How the cache holds a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Not in it any more.
    Evicted,
    /// In an exact page.
    Page,
    /// In a span, K and V at these bits.
    Span([u32; 2]),
}

impl Slot {
    /// The stop whose bar it wears; `None`: evicted.
    pub fn width(self) -> Option<Width> {
        match self {
            Slot::Evicted => None,
            Slot::Page => Some(Width::Exact),
            Slot::Span([k, v]) => Some(Width::of_bits((k + v) / 2)),
        }
    }

    /// Words for a tooltip.
    pub fn name(self) -> String {
        match self {
            Slot::Evicted => "evicted".to_owned(),
            Slot::Page => "exact".to_owned(),
            Slot::Span([16, 16]) => "exact".to_owned(),
            Slot::Span([k, v]) if k == v => format!("{k} bit"),
            Slot::Span([k, v]) => format!("K {k} bit, V {v} bit"),
        }
    }
}

/// The film so far, given frames first.
#[derive(Debug, Clone, Default)]
pub struct Film {
    /// Name of the walk it starts from.
    pub name: String,
    /// Its settings.
    pub job: Job,
    /// Name of the model.
    pub model: String,
    /// Frames made together.
    pub chunk_frames: u32,
    /// Pictures of a latent frame behind the first, which is one.
    pub cell_frames: usize,
    /// Given frames at its beginning.
    pub given: usize,
    /// Frames.
    pub shots: Vec<Shot>,
    /// Where each lies; as long as `shots`.
    pub slots: Vec<Slot>,
    /// First frames of the chunks.
    pub chunks: Vec<usize>,
    /// Frames a second.
    pub fps: u32,
    /// Picture size.
    pub size: [u32; 2],
    /// Denoising steps a chunk.
    pub steps: u32,
    /// Layers of the network.
    pub layers: u64,
    /// Pass of the chunk in the making: (done, of).
    pub pass: (u32, u32),
}

impl Film {
    /// Made frames.
    pub fn made(&self) -> usize {
        self.shots.len() - self.given
    }

    /// The way so far as a camera text.
    pub fn camera(&self) -> String {
        let steps: Vec<Step> = self.shots.iter().filter_map(|s| s.step).collect();
        camera::format(&steps)
    }

    /// Seconds from the first made frame; given ones lie before 0.
    pub fn time(&self, frame: usize) -> f64 {
        (frame as f64 - self.given as f64) / f64::from(self.fps.max(1))
    }

    fn hold(&mut self, held: &[Held]) {
        self.slots = vec![Slot::Evicted; self.shots.len()];
        // Pictures of so many latent frames.
        let pictures = |latents: i64| match usize::try_from(latents) {
            Ok(n @ 1..) => 1 + (n - 1) * self.cell_frames.max(1),
            _ => 0,
        };
        for h in held {
            let n = self.slots.len();
            let shown = pictures(h.frames.start).min(n)..pictures(h.frames.end).min(n);
            self.slots[shown].fill(h.bits.map_or(Slot::Page, Slot::Span));
        }
    }
}

/// A way that was left: what was made after the frame that the film went back to.
#[derive(Debug, Clone)]
pub struct Take {
    /// The frame it leaves the film after.
    pub from: usize,
    /// Its frames.
    pub shots: Vec<Shot>,
}

impl Take {
    /// Its frame at a place of the film.
    pub fn at(&self, frame: usize) -> Option<&Shot> {
        self.shots.get(frame.checked_sub(self.from + 1)?)
    }
}

/// How the film is looked at: how much larger than it fits, and which part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Zoom {
    /// Times larger; 1 fits.
    pub times: f32,
    /// Where the area's middle lies on the picture, in parts of it.
    pub middle: egui::Vec2,
}

/// Times that the film can be looked at more closely.
pub const MOST_ZOOM: f32 = 16.0;

impl Default for Zoom {
    fn default() -> Self {
        Zoom {
            times: 1.0,
            middle: egui::vec2(0.5, 0.5),
        }
    }
}

/// Which parts are on the screen.
#[derive(Debug, Clone)]
pub struct Show {
    /// Settings pane.
    pub settings: bool,
    /// Statistics over the film.
    pub statistics: bool,
    /// List of keys.
    pub keys: bool,
    /// Panels beside film and timeline.
    pub panels: bool,
    /// Only the film.
    pub fullscreen: bool,
    /// Keys and values apart.
    pub apart: bool,
    /// Coded bytes by tensor.
    pub layers: bool,
    /// Drift.
    pub drift: bool,
    /// True picture beside the film.
    pub truth: bool,
    /// The frame the pointer is over, on the graph or the timeline.
    pub hover: Option<usize>,
}

/// The device in use.
#[derive(Debug, Clone, Default)]
pub struct DeviceInfo {
    /// Name and back end.
    pub title: String,
    /// Driver.
    pub driver: String,
    /// What kind it is.
    pub kind: &'static str,
    /// Kernel variants.
    pub tier: &'static str,
    /// Free bytes, where they are known.
    pub free: Option<u64>,
    /// The processor does its work.
    pub software: bool,
}

impl DeviceInfo {
    fn of(caps: &Caps) -> DeviceInfo {
        DeviceInfo {
            title: caps.title(),
            driver: caps.driver.clone(),
            tier: caps.tier.name(),
            kind: match caps.kind {
                Kind::Discrete => "a card of its own",
                Kind::Integrated => "shares main memory",
                Kind::Virtual => "a virtual machine's",
                Kind::Other => "of unknown kind",
                Kind::Software => "shaders on the processor, no GPU",
                Kind::Twin => "reference loops on the processor: for checking",
            },
            free: caps.memory_bytes,
            software: matches!(caps.kind, Kind::Software | Kind::Twin),
        }
    }
}

/// Times of the window itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct WindowTimes {
    /// Seconds of processor time that the last pass over the panels took.
    pub pass: f64,
    /// Seconds from the last input to its picture.
    pub input: f64,
}

/// Speed of the making.
#[derive(Debug, Clone, Default)]
pub struct Speed {
    /// The newest chunks' seconds and frames, eight at most.
    recent: Vec<(Split, usize)>,
    /// Frames of every chunk so far, those that were undone included, its seconds, and the network's own of them.
    all: (usize, f64, f64),
    /// Main memory.
    pub main_bytes: Option<u64>,
    /// What of it is kept for going back.
    pub undo_bytes: u64,
}

impl Speed {
    fn push(&mut self, split: Split, frames: usize) {
        if self.recent.len() == 8 {
            self.recent.remove(0);
        }
        self.recent.push((split, frames));
        self.all.0 += frames;
        self.all.1 += split.total;
        self.all.2 += split.denoise + split.cache;
    }

    /// Mean seconds of a chunk by phase; `None` before the first.
    pub fn mean(&self) -> Option<Split> {
        let n = self.recent.len() as f64;
        let mean = |of: fn(&Split) -> f64| self.recent.iter().map(|(s, _)| of(s)).sum::<f64>() / n;
        (!self.recent.is_empty()).then(|| Split {
            denoise: mean(|s| s.denoise),
            cache: mean(|s| s.cache),
            encode: mean(|s| s.encode),
            decode: mean(|s| s.decode),
            total: mean(|s| s.total),
        })
    }

    /// Made frames a second.
    pub fn fps(&self) -> f64 {
        let frames: usize = self.recent.iter().map(|(_, n)| n).sum();
        let secs: f64 = self.recent.iter().map(|(s, _)| s.total).sum();
        frames as f64 / secs.max(1e-9)
    }
}

/// A line at the foot of the window.
#[derive(Debug, Clone, Default)]
pub struct Note {
    /// The text.
    pub text: String,
    /// It warns.
    pub warns: bool,
}

/// Everything.
pub struct State {
    /// Settings of the next film.
    pub job: Job,
    /// The film.
    pub film: Film,
    /// Ways that were left.
    pub takes: Vec<Take>,
    /// The one that is played beside the film.
    pub beside: Option<usize>,
    /// The comparison with the film in half floats.
    pub versus: Option<Versus>,
    /// What the film costs, for the report.
    cost: Cost,
    /// How the film is looked at.
    pub zoom: Zoom,
    /// Frames that the timeline shows, first and number; `None`: all.
    pub reach: Option<(f32, f32)>,
    /// How far it is.
    pub phase: Phase,
    /// What of the loading the engine has told.
    pub loading: Loading,
    /// Playhead.
    pub play: Play,
    /// Device memory.
    pub history: History,
    /// The ledger while given frames run.
    pub ledger: MemoryUse,
    /// Newest cache figures.
    pub kv: Option<Box<longtake::cache::KvFigures>>,
    /// What coding did to the cache; `None`: not asked for, or nothing was made since.
    pub errors: Option<Errors>,
    /// It is asked for.
    measures: bool,
    /// Prompts of films from text.
    pub text: Pane,
    /// Widths of spans from now on.
    pub widths: Widths,
    /// What the next film would take.
    pub plan: Option<Result<Event, Fault>>,
    /// The job that `plan` is of.
    planned: Option<Job>,
    /// Speed.
    pub speed: Speed,
    /// The film's stretches beside its beginning.
    pub drift: Vec<Drift>,
    /// Device in use.
    pub device: DeviceInfo,
    /// Devices there are, by name.
    pub devices: Vec<String>,
    /// The camera's reins; the worker reads them.
    pub reins: Arc<Reins>,
    /// The film has the keyboard for steering.
    pub steering: bool,
    /// The pointer went down or up in the last pass.
    pub pointed: bool,
    /// Points that the pointer was dragged since the last turn.
    pub dragged: f32,
    /// What is shown.
    pub show: Show,
    /// Foot of the window.
    pub note: Note,
    /// Window times.
    pub times: WindowTimes,
    /// Frames as textures.
    pub gallery: Gallery,
    /// The difference that is shown, and of which two.
    pub difference: Option<(Arc<Frame>, [Arc<Frame>; 2])>,
    /// Frame behind the first screen.
    pub still: Option<Arc<Frame>>,
    /// What has to happen outside.
    pub effects: Vec<Effect>,
    /// How far the film was when its device was lost.
    was: Option<Phase>,
    /// Films begun so far.
    pub films: u64,
    /// Made frames that were kept when the film last went back; the recorder asks and forgets.
    pub kept: usize,
}

impl State {
    /// Nothing loaded yet.
    pub fn new(job: Job, reins: Arc<Reins>) -> State {
        // A picture of the world behind the first screen: the last one that is given.
        let still = SeedFilm::load(job.film).ok().and_then(|film| {
            let last = job.given.clamp(1, film.frames.len()) - 1;
            film.frames.into_iter().nth(last).map(Arc::new)
        });
        State {
            widths: job.widths,
            job,
            film: Film::default(),
            takes: Vec::new(),
            beside: None,
            versus: None,
            cost: Cost::default(),
            zoom: Zoom::default(),
            reach: None,
            phase: Phase::Empty,
            loading: Loading::default(),
            play: Play::default(),
            history: History::default(),
            ledger: MemoryUse::default(),
            kv: None,
            errors: None,
            measures: false,
            text: Pane::default(),
            plan: None,
            planned: None,
            speed: Speed::default(),
            drift: Vec::new(),
            device: DeviceInfo::default(),
            devices: Vec::new(),
            reins,
            steering: false,
            pointed: false,
            dragged: 0.0,
            show: Show {
                settings: false,
                statistics: false,
                keys: false,
                panels: true,
                fullscreen: false,
                apart: false,
                layers: false,
                drift: true,
                truth: true,
                hover: None,
            },
            note: Note::default(),
            times: WindowTimes::default(),
            gallery: Gallery::default(),
            difference: None,
            still,
            effects: Vec::new(),
            was: None,
            films: 0,
            kept: usize::MAX,
        }
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.effects.push(Effect::Command(command));
    }

    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.note = Note {
            text: text.into(),
            warns: false,
        };
    }

    pub(crate) fn warn(&mut self, text: impl Into<String>) {
        self.note = Note {
            text: text.into(),
            warns: true,
        };
    }

    /// Frames of the film, given ones included.
    pub fn len(&self) -> usize {
        self.film.shots.len()
    }

    /// Whether there is no frame yet.
    pub fn is_empty(&self) -> bool {
        self.film.shots.is_empty()
    }

    /// Frames will still come by themselves.
    pub fn grows(&self) -> bool {
        matches!(self.phase, Phase::Loading(..) | Phase::Making)
    }

    /// The frame at the playhead.
    pub fn shot(&self) -> Option<&Shot> {
        self.film.shots.get(self.play.at)
    }

    /// Asks for a plan of the next film where the settings have changed.
    pub fn replan(&mut self) {
        let job = self.job.outline();
        if self.planned.as_ref() != Some(&job) {
            self.planned = Some(job.clone());
            self.command(Command::Plan(job));
        }
    }

    /// Enter on the first screen: begins, or takes the first of what would fit.
    pub fn enter(&mut self) {
        match &self.plan {
            Some(Err(fault)) => match fault.offers.first().cloned() {
                Some(offer) => self.take_offer(offer),
                None => self.show.settings = true,
            },
            _ => self.start(),
        }
    }

    /// Sets the next film to one that fits; it is planned anew.
    pub fn take_offer(&mut self, offer: Offer) {
        self.job = *offer.job;
        self.widths = self.job.widths;
        self.say(format!("set: {}", offer.name));
    }

    /// Makes a film by the settings, from its beginning.
    pub fn start(&mut self) {
        self.leave();
        self.loading = Loading::default();
        self.film.pass = (0, 0);
        self.job.widths = self.widths;
        self.text.ask(&self.job);
        let given = match self.job.text {
            Some(_) => 0,
            None => self.job.given,
        };
        self.phase = Phase::Loading(0, given);
        self.say("loading");
        let job = self.job.clone();
        self.command(Command::Start(job));
    }

    /// Makes the film at hand again: same settings, same seed.
    pub fn again(&mut self) {
        if !self.is_empty() {
            self.job = self.same();
            self.widths = self.job.widths;
        }
        self.start();
    }

    /// Stops the making, or goes on.
    pub fn stop_or_go(&mut self) {
        match self.phase {
            Phase::Making => {
                self.phase = Phase::Stopped;
                self.say("making stopped; the view goes on");
                self.command(Command::Stop);
            }
            Phase::Stopped => {
                self.phase = Phase::Making;
                self.say("making");
                self.command(Command::Continue);
            }
            _ => {}
        }
    }

    /// Goes back to the shown frame and takes another way from there.
    pub fn go_on_from_here(&mut self) {
        match self.play.at + 1 < self.film.given {
            true => self.warn("given frames are what the film starts from; go on from a later one"),
            false => self.back_to(self.play.at),
        }
    }

    /// Looks so many times closer at the middle of what is shown of the film.
    pub fn look_closer(&mut self, times: f32) {
        self.zoom.times = (self.zoom.times * times).clamp(1.0, MOST_ZOOM);
        if self.zoom.times <= 1.0 {
            self.zoom = Zoom::default();
        }
    }

    /// Goes back to a frame and takes another way from there; what came after is kept as a take.
    pub fn back_to(&mut self, frame: usize) {
        self.back_along(frame, Vec::new());
    }

    fn back_along(&mut self, frame: usize, lead: Vec<(Step, Widths)>) {
        if self.is_text() {
            self.warn(NO_WAY_BACK);
            return;
        }
        // Whole chunks stay: the engine goes back to no other place.
        let (given, chunk) = (self.film.given, self.film.chunk_frames.max(1) as usize);
        let made = (frame + 1).saturating_sub(given).min(self.film.made()) / chunk * chunk;
        let keep = given + made;
        if !self.can_go_back() || (keep >= self.len() && lead.is_empty()) {
            return;
        }
        let shots = self.film.shots.split_off(keep);
        self.film.slots.truncate(keep);
        self.film.chunks.retain(|first| *first < keep);
        if !shots.is_empty() {
            self.takes.push(Take {
                from: keep - 1,
                shots,
            });
        }
        if let Some(v) = &mut self.versus {
            v.cut(made);
        }
        self.kept = self.kept.min(made);
        self.history.cut(made);
        self.drift
            .retain(|d| (d.first_frame + d.frames) as usize <= made);
        self.play.live(keep);
        self.phase = Phase::GoingBack(0, made);
        self.say(format!("going back to frame {}", self.film.given + made));
        self.command(Command::BackTo(made, lead));
    }

    /// Takes a way that was left once more, the last one or the one that is played beside the film; what was made in its
    /// place is kept as a take.
    pub fn redo(&mut self) {
        let last = self.takes.len().checked_sub(1);
        let Some(at) = self.beside.or(last).filter(|_| self.can_go_back()) else {
            return;
        };
        if self.len() <= self.takes[at].from {
            self.warn("the film was taken back beyond where that take begins");
            return;
        }
        self.leave();
        let take = self.takes.remove(at);
        self.beside = None;
        let lead = take.shots.iter();
        let lead = lead.filter_map(|s| Some((s.step?, s.widths))).collect();
        self.back_along(take.from, lead);
        self.say("the same way again: the same frames, byte for byte");
    }

    /// Plays the next take beside the film, after the last none.
    pub fn next_beside(&mut self) {
        self.beside = match self.beside.map_or(0, |i| i + 1) {
            i if i < self.takes.len() => Some(i),
            _ => None,
        };
        if self.takes.is_empty() {
            self.warn("no way was left yet: undo a frame, or go on from another one");
        }
    }

    /// Makes the same film beside it in half floats, or no more.
    pub fn toggle_compare(&mut self) {
        if self.is_text() {
            self.warn(NO_COMPARISON);
        } else if self.versus.take().is_some() {
            self.command(Command::Compare(false));
        } else if self.film.made() > 0 {
            self.versus = Some(Versus::default());
            self.beside = None;
            self.say("the film is made once more in 16 bit, from its beginning; then both go on");
            self.command(Command::Compare(true));
        }
    }

    /// Has spans measured from now on, or no more: it takes time, so only while somebody looks.
    pub fn measure(&mut self, on: bool) {
        if self.measures != on {
            self.measures = on;
            self.errors = self.errors.take().filter(|_| on);
            self.command(Command::Measure(on));
        }
    }

    /// What made the film, for its file.
    pub fn recipe(&self) -> Recipe {
        let (film, job) = (&self.film, &self.film.job);
        let mut recipe = Recipe::new();
        let window = match job.window {
            0 => serde_json::Value::Null,
            n => n.into(),
        };
        recipe.set("model", film.model.clone());
        match &job.text {
            Some(_) => self.text_recipe(&mut recipe),
            None => {
                recipe
                    .set("film", job.film)
                    .set("given_frames", film.given)
                    .set("camera", film.camera());
            }
        }
        recipe
            .set("frames", film.made())
            .set("seed", job.seed)
            .set("steps", film.steps)
            .set("window", window)
            .set("sink", job.sink)
            .set("width", film.size[0])
            .set("height", film.size[1])
            .set("fps", film.fps)
            .set("device", self.device.title.clone())
            .set("driver", self.device.driver.clone());
        let mut widths: Vec<(usize, String)> = Vec::new();
        for (i, shot) in film.shots[film.given..].iter().enumerate() {
            let name = shot.widths.name();
            if widths.last().is_none_or(|(_, last)| *last != name) {
                widths.push((i, name));
            }
        }
        let [k, v] = job.settings();
        recipe
            .set("cache_type_k", k)
            .set("cache_type_v", v)
            .set("kv_span", job.span)
            .set("kv_recent", job.recent)
            .set("kv_sink", job.exact);
        if widths.len() > 1 {
            // What a command line cannot repeat is told all the same.
            let list = widths
                .into_iter()
                .map(|(i, name)| format!("frame {i}: {name}"));
            recipe.set("widths", list.collect::<Vec<_>>().join(", "));
        }
        recipe
    }

    /// The figures that the run ends with. Times of drawing are in none of them, and of phases only the generation is known.
    pub fn summary(&self) -> Summary {
        let film = &self.film;
        let (frames, secs, network) = self.speed.all;
        let rate = |secs: f64| match 0.0 < secs {
            true => frames as f64 / secs,
            false => 0.0,
        };
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Summary {
            frames: count(film.made()),
            given_frames: count(film.given),
            chunks: count(film.made()).div_ceil(film.chunk_frames.max(1)),
            fps: rate(secs),
            fps_model: rate(network),
            cache_bytes: self.ledger.cache_bytes + self.ledger.spans_bytes,
            kv: self.kv.as_deref().cloned().unwrap_or_default(),
            drift: DriftSummary::of(&self.drift),
            peak_device_bytes: self.ledger.peak_device_bytes,
            seed: film.job.seed,
            interrupted: self.phase != Phase::Finished,
            timings: vec![StageTime {
                stage: "generate".to_owned(),
                secs,
            }],
            ..Summary::default()
        }
    }

    fn own_frames(&self) -> Vec<Arc<Frame>> {
        let made = &self.film.shots[self.film.given..];
        made.iter().map(|s| s.frame.clone()).collect()
    }

    /// Saves the comparison as a report.
    pub fn save_report(&mut self) {
        let Some(v) = self.versus.as_ref().filter(|v| !v.quality.is_empty()) else {
            return;
        };
        let (given, made) = self.film.shots.split_at(self.film.given);
        let job = &self.film.job;
        let camera = self.film.camera();
        let last = made.last().map_or(job.widths, |s| s.widths);
        let report = Report {
            place: (job.film, self.film.name.clone()),
            seed: job.seed,
            walk: Walk {
                given: given.iter().map(|s| Frame::clone(&s.frame)).collect(),
                given_poses: given.iter().map(|s| s.pose).collect(),
                poses: made.iter().map(|s| s.pose).collect(),
            },
            own: self.own_frames(),
            exact: v.frames.clone(),
            costs: [self.cost.clone(), v.exact.clone()],
            setting: (last.name(), job.command(&camera)),
            camera,
            model: self.film.model.clone(),
            device: (
                self.device.title.clone(),
                self.device.driver.clone(),
                self.device.tier,
            ),
            sizes: (
                self.film.size,
                self.film.chunk_frames,
                self.film.steps,
                job.window,
                job.sink,
            ),
            weights: job.weights,
        };
        self.say("writing the report");
        self.effects.push(Effect::SaveReport(Box::new(report)));
    }

    /// The film can be cut back now.
    fn can_go_back(&self) -> bool {
        matches!(
            self.phase,
            Phase::Making | Phase::Stopped | Phase::Finished | Phase::Failed(_)
        )
    }

    /// There is a chunk to take back.
    pub fn can_undo(&self) -> bool {
        self.film.made() > 0 && !self.is_text() && self.can_go_back()
    }

    /// Goes back by one chunk of made frames.
    pub fn undo(&mut self) {
        let chunk = self.film.chunk_frames.max(1) as usize;
        if let Some(before) = self.film.made().checked_sub(1) {
            let keep = self.film.given + before / chunk * chunk;
            self.back_to(keep.saturating_sub(1));
        }
    }

    /// Codes spans from now on at these widths.
    pub fn set_bits(&mut self, widths: Widths) {
        if !self.job.has(widths.k) || !self.job.has(widths.v) || widths == self.widths {
            return;
        }
        self.widths = widths;
        match self.phase {
            Phase::Empty | Phase::Failed(_) => self.job.widths = widths,
            _ => self.command(Command::Bits(widths)),
        }
    }

    /// Takes or leaves the reins.
    pub fn steer(&mut self) {
        if self.is_empty() {
            return;
        }
        if self.is_text() {
            self.warn(NO_STEERING);
            return;
        }
        self.steering = true;
        self.reins.steering.store(true, Ordering::Relaxed);
        self.play.live(self.len());
        if self.phase == Phase::Stopped {
            self.stop_or_go();
        }
        self.say("steering: what is held while a frame is made is what it shows");
    }

    /// Lets go of the reins: the camera tours what was seen.
    pub fn leave(&mut self) {
        if self.steering {
            self.say("the camera tours what was seen");
        }
        self.steering = false;
        self.reins.steering.store(false, Ordering::Relaxed);
        self.reins.release();
    }

    /// Saves the shown frame.
    pub fn save_frame(&mut self) {
        let Some(shot) = self.shot() else {
            return;
        };
        let f = &shot.frame;
        let scale = longtake::media::default_scale(f.width, f.height);
        match crate::pictures::png(f, scale) {
            Ok(bytes) => {
                let name = format!(
                    "{}-seed{}-frame{:04}.png",
                    self.film.name, self.film.job.seed, self.play.at
                );
                self.effects.push(Effect::Save { name, bytes });
            }
            Err(e) => self.warn(format!("the frame was not saved: {e}")),
        }
    }

    /// Saves the way so far as a camera file that `--camera` takes.
    pub fn save_path(&mut self) {
        if self.is_text() {
            return self.save_prompts();
        }
        if self.film.made() == 0 {
            return;
        }
        let camera = self.film.camera();
        let name = format!("{}-seed{}.camera.txt", self.film.name, self.film.job.seed);
        let text = format!("# {}\n{camera}\n", self.film.job.command(&name));
        self.effects.push(Effect::Save {
            name,
            bytes: text.into_bytes(),
        });
    }

    /// Saves the made frames as a film.
    pub fn save_film(&mut self) {
        if self.film.made() == 0 {
            return;
        }
        let made = &self.film.shots[self.film.given..];
        self.effects.push(Effect::SaveFilm {
            name: format!("{}-seed{}.mp4", self.film.name, self.film.job.seed),
            frames: made.iter().map(|s| s.frame.clone()).collect(),
            fps: self.film.fps,
        });
    }

    /// Works on another device.
    pub fn choose_device(&mut self, index: usize) {
        let n = self.devices.len();
        let device = match index < n {
            true => index.to_string(),
            false => "cpu".to_owned(),
        };
        self.leave();
        self.phase = Phase::Empty;
        self.planned = None;
        self.plan = None;
        self.command(Command::Device(Select {
            device: Some(device),
            ..Select::default()
        }));
    }

    /// The error card's way on.
    pub fn way_on(&mut self) {
        let Phase::Failed(fault) = self.phase.clone() else {
            return;
        };
        match (fault.remedy, fault.offers.first().cloned()) {
            (Remedy::Again, _) => self.again(),
            (Remedy::GoOn, _) => {
                self.phase = Phase::Stopped;
                self.stop_or_go();
            }
            (Remedy::Other, Some(offer)) => {
                self.take_offer(offer);
                self.start();
            }
            (Remedy::Other, None) => {
                self.show.settings = true;
                self.phase = match self.is_empty() {
                    true => Phase::Empty,
                    false => Phase::Finished,
                };
            }
        }
    }

    /// The film's file cannot be written any more: what was made is kept, and nothing more is made until that is settled.
    pub fn unwritten(&mut self, causes: Vec<String>) {
        self.command(Command::Stop);
        let fault = Fault::unwritten(causes, self.film.made());
        self.hear(Message::Fault(Box::new(fault)));
    }

    /// What Enter does while the film has the keyboard; `None`: nothing.
    pub fn enters(&self) -> Option<&'static str> {
        let fits = |fault: &Fault| !fault.offers.is_empty();
        match (&self.phase, &self.plan) {
            (Phase::Empty, _) if self.job.text.is_some() => {
                (self.way() == Way::Start).then_some("start the film")
            }
            (Phase::Empty, Some(Err(fault))) => Some(Remedy::Other.name(fits(fault))),
            (Phase::Empty, _) => Some("walk"),
            (Phase::Failed(fault), _) => Some(fault.remedy.name(fits(fault))),
            _ => (!self.is_empty() && !self.is_text()).then_some("steer"),
        }
    }

    /// Words that say the state, for the pill.
    pub fn pill(&self) -> &'static str {
        match &self.phase {
            Phase::Empty => "nothing loaded",
            Phase::Loading(..) => "loading",
            Phase::GoingBack(..) => "going back",
            Phase::Failed(_) => "stopped",
            _ if self.play.waits(self.len()) && self.grows() => "buffering",
            _ if self.play.follow && self.phase == Phase::Making => "live",
            _ if !self.play.moving => "paused",
            Phase::Finished => "finished",
            _ => "playing",
        }
    }

    /// Takes what the worker says.
    pub fn hear(&mut self, message: Message) {
        match message {
            Message::Opened(caps, _) => {
                self.device = DeviceInfo::of(&caps);
                self.planned = None;
            }
            Message::Planned(plan) => self.plan = Some(*plan),
            Message::NotLost => {}
            Message::Loading(stage, done, of) => self.loading.take(stage, done, of),
            Message::Begun(begun) => self.begun(*begun),
            Message::Given(n, memory) => {
                self.ledger = memory;
                if let Phase::Loading(done, _) = &mut self.phase {
                    *done = n;
                }
            }
            Message::Pass(pass, passes) => self.film.pass = (pass, passes),
            Message::Made(made) => self.made(*made),
            Message::Compared(c) => {
                let own = self.own_frames();
                // While the film goes back, what comes is still of the way that it leaves.
                let is_back = matches!(self.phase, Phase::GoingBack(..));
                if let Some(v) = self.versus.as_mut().filter(|_| !is_back) {
                    let new = v.push(&c, &own);
                    self.gallery.arrive(&v.frames[new..], c.pictures);
                }
            }
            Message::CompareEnded(None) => {}
            Message::CompareEnded(Some(why)) => {
                self.versus = None;
                self.warn(format!("the comparison ended: {why}"));
            }
            Message::Lost(made) => {
                self.was = Some(self.phase.clone());
                self.phase = Phase::GoingBack(0, made);
                self.warn(crate::worker::lost(made));
            }
            Message::Again(done, of) => {
                if let Phase::GoingBack(..) = self.phase {
                    self.phase = Phase::GoingBack(done, of);
                }
            }
            Message::WentBack(made, held) => {
                self.film.hold(&held);
                // A film that was stopped when its device was lost stays so, and one that has stopped since.
                self.phase = match (self.was.take(), &self.phase) {
                    (Some(was @ (Phase::Stopped | Phase::Finished | Phase::Failed(_))), _) => was,
                    (_, Phase::Failed(fault)) => Phase::Failed(fault.clone()),
                    _ => Phase::Making,
                };
                if self.note.warns || self.note.text.starts_with("the same way") {
                    return;
                }
                self.say(format!("another way from frame {}", self.film.given + made));
            }
            Message::Bits(widths, frame) => {
                self.widths = widths;
                self.history.changes.push(Change {
                    frame,
                    name: match widths.k == widths.v {
                        true if widths.k == Width::Exact => "16".to_owned(),
                        true => widths.k.bits().to_string(),
                        false => format!("{}/{}", widths.k.bits(), widths.v.bits()),
                    },
                    colour: widths.k as usize,
                });
                self.say(format!("new spans: {}", widths.name()));
            }
            Message::Prompt(told) => self.told(told),
            // What stopped it in the window stands until that is settled; the worker says this again then.
            Message::Finished if matches!(self.phase, Phase::Failed(_)) => {}
            Message::Finished => {
                self.phase = Phase::Finished;
                self.leave();
                self.say(format!(
                    "{} made: the film is as long as planned",
                    say::n(self.film.made(), "frame")
                ));
            }
            Message::Fault(fault) => {
                self.leave();
                self.say("");
                self.phase = Phase::Failed(*fault);
            }
            Message::Warning(text) => self.warn(text),
        }
    }

    fn begun(&mut self, begun: Begun) {
        let Event::Plan {
            model,
            frames,
            chunks,
            fps,
            width,
            height,
            steps,
            ..
        } = begun.plan
        else {
            return;
        };
        let widths = begun.job.widths;
        let shots = begun.given.into_iter().map(|(frame, pose)| Shot {
            frame: Arc::new(frame),
            pose,
            step: None,
            widths,
            truth: None,
        });
        let shots: Vec<Shot> = shots.collect();
        self.film = Film {
            name: begun.film_name,
            model,
            chunk_frames: frames.div_ceil(chunks.max(1)),
            cell_frames: begun.cell_frames,
            given: shots.len(),
            slots: vec![Slot::Page; shots.len()],
            chunks: Vec::new(),
            shots,
            fps,
            size: [width, height],
            steps,
            layers: begun.layers,
            job: begun.job,
            pass: (0, steps),
        };
        self.films += 1;
        self.text.begin();
        self.takes.clear();
        self.beside = None;
        self.cost = Cost::default();
        self.reach = None;
        if self.is_text() && self.versus.take().is_some() {
            self.command(Command::Compare(false));
        }
        if let Some(v) = &mut self.versus {
            *v = Versus::default();
        }
        self.history = History::default();
        self.drift.clear();
        self.speed = Speed::default();
        self.kv = None;
        self.errors = None;
        self.play = Play::default();
        self.phase = Phase::Loading(0, self.film.given);
    }

    fn made(&mut self, made: Made) {
        if self.film.made() != made.first {
            // A chunk that was under way when the film went back.
            return;
        }
        if let Phase::Loading(..) = self.phase {
            self.phase = Phase::Making;
        }
        let n = made.frames.len();
        let first = self.film.shots.len();
        self.film.chunks.push(first);
        let is_walk = !self.is_text();
        let truths = made.truth.into_iter().map(Some);
        let truths = truths.chain(std::iter::repeat(None));
        for ((frame, pose, step), truth) in made.frames.into_iter().zip(truths) {
            let truth = truth.and_then(|truth| {
                // None where the model's pictures are of another size than the world's.
                let mse = quality::mse(&frame, &truth).ok()?;
                Some((truth, quality::psnr(mse)))
            });
            self.film.shots.push(Shot {
                frame: Arc::new(frame),
                pose,
                step: is_walk.then_some(step),
                widths: self.widths,
                truth,
            });
        }
        self.play.batch = n;
        let new = &self.film.shots[first..];
        let new: Vec<Arc<Frame>> = new.iter().map(|s| s.frame.clone()).collect();
        self.gallery.arrive(&new, made.pictures);
        self.drift.extend(made.drift);
        self.film.hold(&made.held);
        self.film.pass = (0, self.film.steps);
        let halves = [0, 1].map(|tensor: usize| {
            let of = |h: &&Held| h.bits.is_some_and(|b| b[tensor] == 16);
            let held = made.held.iter().filter(of);
            held.map(|h| h.frames.clone().count() as u64).sum()
        });
        let sample = Sample::new(self.film.made(), &made.memory, &made.kv, halves, made.other);
        let own = made
            .memory
            .device_bytes
            .saturating_sub(made.other + made.memory.viewer_bytes);
        self.cost.push(&made.kv, own, made.split.total);
        if self.versus.is_some() {
            let frames = self.own_frames();
            self.versus.iter_mut().for_each(|v| v.measure(&frames));
        }
        self.history.push(sample);
        self.ledger = made.memory;
        self.kv = Some(Box::new(made.kv));
        self.errors = made.errors;
        self.speed.push(made.split, n);
        self.speed.main_bytes = made.main_bytes;
        self.speed.undo_bytes = made.undo_bytes;
        if self.phase == Phase::Making && !self.note.warns {
            let at = self.film.made();
            self.say(format!(
                "frame {} made in {}",
                at - 1,
                say::secs(made.split.total)
            ));
        }
    }
}

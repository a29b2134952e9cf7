//! The thread that makes the film. It owns the session; the window sends commands and hears messages, and neither waits
//! for the other. What is held on the keyboard is read between chunks, as a latest value and not as a queue.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::Instant;

use longtake::cache::{Held, KvFigures};
use longtake::decode::Pictures;
use longtake::frame::Frame;
use longtake::gpu::{self, Caps, Device, Purpose, Select};
use longtake::rollout::event::{Event, LoadStage, MemoryUse, PassKind};
use longtake::rollout::{self, Drift, ModelSource, Session, Walk};
use longtake::world::{self, OnWall, Path, Pose, SeedFilm, Step};

use crate::fault::{Fault, Remedy};
use crate::job::{Job, Widths};
use crate::memory::Errors;
use crate::offer;
use crate::text::Told;
use crate::text_run::{self, TextRun};

/// What the window asks for.
#[derive(Debug, Clone)]
pub enum Command {
    /// Plan a film without loading anything.
    Plan(Job),
    /// Make a film from its beginning.
    Start(Job),
    /// Make no more chunks for now.
    Stop,
    /// Go on.
    Continue,
    /// Code spans from now on at these widths.
    Bits(Widths),
    /// Go back to the first so many made frames, and on from there along these steps, each at these widths; after them as ever.
    BackTo(usize, Vec<(Step, Widths)>),
    /// Another prompt for a film from text, from its next chunk on.
    Prompt(String),
    /// Make the same film beside it with every span in half floats, or no more.
    Compare(bool),
    /// Compare spans that are coded from now on with what they were coded from, or no more.
    Measure(bool),
    /// The window could not be drawn: the device may be lost.
    Recover,
    /// Work on another device; the film ends.
    Device(Select),
}

/// What the thread tells the window.
#[derive(Debug)]
pub enum Message {
    /// A device is open.
    Opened(Box<Caps>, Device),
    /// The driver gave the device up with so many frames made; another is opened and the film made again up to there.
    Lost(usize),
    /// The device is not lost, whatever the window has met.
    NotLost,
    /// What a film would take, or why it cannot be.
    Planned(Box<Result<Event, Fault>>),
    /// A stage of loading is so far: (done, of).
    Loading(LoadStage, u64, u64),
    /// What is loaded; the given frames of the film.
    Begun(Box<Begun>),
    /// So many given frames are in the cache.
    Given(usize, MemoryUse),
    /// A pass of the chunk at hand is done: (pass, passes).
    Pass(u32, u32),
    /// A chunk.
    Made(Box<Made>),
    /// A chunk of the film that this one is compared with.
    Compared(Box<Compared>),
    /// That film ended, and why where it was not asked for.
    CompareEnded(Option<String>),
    /// A replay after going back: (frames made again, frames to make again).
    Again(usize, usize),
    /// The replay is done: the film has so many made frames, and this is in the cache.
    WentBack(usize, Vec<Held>),
    /// The widths of spans from now on, at so many made frames.
    Bits(Widths, usize),
    /// What became of a prompt of a film from text.
    Prompt(Told),
    /// The film is as long as planned.
    Finished,
    /// It stopped.
    Fault(Box<Fault>),
    /// Something to know.
    Warning(String),
}

/// A film's beginning.
#[derive(Debug)]
pub struct Begun {
    /// What it is made of.
    pub job: Job,
    /// Name of the embedded walk.
    pub film_name: String,
    /// Its plan.
    pub plan: Event,
    /// Given frames and their poses.
    pub given: Vec<(Frame, Pose)>,
    /// Layers of the network.
    pub layers: u64,
    /// Pictures of a latent frame behind the first, which is one.
    pub cell_frames: usize,
}

/// A chunk and the figures after it.
#[derive(Debug)]
pub struct Made {
    /// Made frames before it.
    pub first: usize,
    /// Its pictures, with where they were taken and what led there; a film from text stands still.
    pub frames: Vec<(Frame, Pose, Step)>,
    /// The same on the device; `None` where it lends nothing to a window.
    pub pictures: Option<Pictures>,
    /// True pictures at those poses, where the walk has them.
    pub truth: Vec<Arc<Frame>>,
    /// Seconds by phase.
    pub split: Split,
    /// Device memory of this film.
    pub memory: MemoryUse,
    /// Device bytes of the film that it is compared with.
    pub other: u64,
    /// The cache.
    pub kv: KvFigures,
    /// Who is in it.
    pub held: Vec<Held>,
    /// Stretches of the film that are whole now, beside its beginning.
    pub drift: Vec<Drift>,
    /// What coding did to it; `None`: not asked for.
    pub errors: Option<Errors>,
    /// Main memory of this process, where it is known.
    pub main_bytes: Option<u64>,
    /// What of it is kept for going back.
    pub undo_bytes: u64,
}

/// A chunk of the film in half floats.
#[derive(Debug)]
pub struct Compared {
    /// Its frames before it.
    pub first: usize,
    /// Its pictures.
    pub frames: Vec<Frame>,
    /// The same on the device; `None` where it lends nothing to a window.
    pub pictures: Option<Pictures>,
    /// Its cache.
    pub kv: KvFigures,
    /// Seconds it took.
    pub secs: f64,
    /// Device bytes of that film.
    pub bytes: u64,
}

/// Seconds of one chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Split {
    /// Denoising passes.
    pub denoise: f64,
    /// The pass that writes the keys and values of the chunk before.
    pub cache: f64,
    /// Coding of spans.
    pub encode: f64,
    /// From finished latents to pictures: read back, decoded, and for the window once more on the device.
    pub decode: f64,
    /// All of it.
    pub total: f64,
}

impl Split {
    /// What is in none of the parts.
    pub fn other(&self) -> f64 {
        self.total - self.denoise - self.cache - self.encode - self.decode
    }
}

/// What drives the camera, written by the window at any time and read before a chunk.
#[derive(Debug, Default)]
pub struct Reins {
    /// The camera is steered; else it tours what was seen.
    pub steering: AtomicBool,
    /// Keys that are down, by [`KEYS`].
    pub held: AtomicU8,
    /// Keys that went down since they were last read: a short tap must not be lost.
    pub tapped: AtomicU8,
    /// Turns by mouse that are still to be made, left positive.
    pub turns: AtomicI32,
}

/// Actions by bit of [`Reins::held`], as camera texts name them.
pub const KEYS: [&str; 6] = ["w", "s", "a", "d", "left", "right"];

impl Reins {
    /// Sets a key, by its place in [`KEYS`].
    pub fn key(&self, key: usize, down: bool) {
        let bit = 1 << key;
        if down {
            if self.held.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
                self.tapped.fetch_or(bit, Ordering::Relaxed);
            }
        } else {
            self.held.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Lets go of everything.
    pub fn release(&self) {
        self.held.store(0, Ordering::Relaxed);
        self.tapped.store(0, Ordering::Relaxed);
        self.turns.store(0, Ordering::Relaxed);
    }

    /// The step that what is held makes.
    fn step(&self) -> Step {
        let mut keys = self.held.load(Ordering::Relaxed) | self.tapped.swap(0, Ordering::Relaxed);
        let turns = self.turns.load(Ordering::Relaxed).signum();
        if turns != 0 {
            self.turns.fetch_sub(turns, Ordering::Relaxed);
            keys = keys & 0b1111 | if turns > 0 { 0b1_0000 } else { 0b10_0000 };
        }
        step_of(keys)
    }
}

/// The step of keys that are down; what contradicts itself cancels out.
fn step_of(keys: u8) -> Step {
    let down = |key: usize| keys >> key & 1 == 1;
    let names: Vec<&str> = (0..KEYS.len())
        .filter(|key| down(*key) && !down(key ^ 1))
        .map(|key| KEYS[key])
        .collect();
    let text = match names.is_empty() {
        true => "stay".to_owned(),
        false => names.join("+"),
    };
    let steps = world::camera::parse(&text).unwrap_or_default();
    steps
        .first()
        .copied()
        .unwrap_or_else(|| world::Action::Stay.into())
}

/// Steps that undo one, where no wall was in the way: it turned first, so its movements are taken back first.
fn undo(step: Step) -> Vec<Step> {
    let (turns, moves): (Vec<_>, Vec<_>) = step
        .actions()
        .filter(|a| *a != world::Action::Stay)
        .partition(|a| matches!(a, world::Action::TurnLeft | world::Action::TurnRight));
    [moves, turns]
        .into_iter()
        .filter(|part| !part.is_empty())
        .filter_map(|part| {
            let names: Vec<&str> = part.iter().map(|a| a.inverse().name()).collect();
            let steps = world::camera::parse(&names.join("+")).ok()?;
            steps.first().copied()
        })
        .collect()
}

/// Prints an event for programs, as `longtake generate --json` does. `begun`: when the program began.
pub fn tell(event: &Event, begun: Instant) {
    let line = event.json_line(begun.elapsed().as_secs_f64());
    // A reader that went away is no reason to stop the film.
    let _ = std::io::stdout().write_all(line.as_bytes());
}

/// Tells the window: a message, and that there is one.
pub(crate) struct Out {
    messages: SyncSender<Message>,
    wake: Box<dyn Fn() + Send>,
    json: Option<Instant>,
}

impl Out {
    pub(crate) fn send(&self, message: Message) {
        // A window that is gone hears nothing; the thread ends when its commands end.
        let _ = self.messages.send(message);
        (self.wake)();
    }

    /// A stage of loading, for both.
    pub(crate) fn loading(&self, event: Event) {
        self.event(&event);
        if let Event::Loading { stage, done, of } = event {
            self.send(Message::Loading(stage, done, of));
        }
    }

    /// An event for programs, one JSON line.
    pub(crate) fn event(&self, event: &Event) {
        if let Some(begun) = self.json {
            tell(event, begun);
        }
    }
}

/// The window's end of the thread.
#[derive(Debug)]
pub struct Worker {
    commands: SyncSender<Command>,
    /// What drives the camera.
    pub reins: Arc<Reins>,
}

impl Worker {
    /// Starts the thread on an open device; `select` opens it again where it is lost. `wake` is called after every message; `json`: events also go to standard output, with the time since then.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        device: Device,
        select: Select,
        json: Option<Instant>,
        wake: Box<dyn Fn() + Send>,
    ) -> std::io::Result<(Worker, Receiver<Message>)> {
        let (commands, inbox) = sync_channel(64);
        let (messages, outbox) = sync_channel(256);
        let reins = Arc::new(Reins::default());
        let mut engine = Engine {
            device,
            select,
            reins: reins.clone(),
            run: None,
            text: None,
            twin: None,
            compares: false,
            measures: false,
            making: false,
            recovered: None,
            out: Out {
                messages,
                wake,
                json,
            },
        };
        std::thread::Builder::new()
            .name("rollout".into())
            .spawn(move || engine.serve(&inbox))?;
        Ok((Worker { commands, reins }, outbox))
    }

    /// Sends a command; false when the thread is gone or so far behind that it would have to be waited for.
    pub fn send(&self, command: Command) -> bool {
        match self.commands.try_send(command) {
            Ok(()) => true,
            Err(TrySendError::Full(c) | TrySendError::Disconnected(c)) => {
                log::warn!("not taken: {c:?}");
                false
            }
        }
    }
}

struct Engine {
    device: Device,
    select: Select,
    reins: Arc<Reins>,
    run: Option<Run>,
    /// A film from text in its place.
    text: Option<TextRun>,
    /// The film in half floats that it is compared with.
    twin: Option<Twin>,
    /// There should be one.
    compares: bool,
    /// Spans are compared with what they were coded from.
    measures: bool,
    making: bool,
    /// Made frames when a device was lost last: a second loss at the same place is a fault.
    recovered: Option<usize>,
    out: Out,
}

impl Engine {
    fn serve(&mut self, inbox: &Receiver<Command>) {
        self.opened();
        loop {
            let command = if self.making || self.is_behind() {
                match inbox.try_recv() {
                    Ok(c) => Some(c),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => return,
                }
            } else {
                match inbox.recv() {
                    Ok(c) => Some(c),
                    Err(_) => return,
                }
            };
            let done = match command {
                Some(command) => self.obey(command),
                None => self.make(),
            };
            if let Err(fault) = done {
                self.making = false;
                (self.twin, self.compares) = (None, false);
                self.out.send(Message::Fault(Box::new(fault)));
            }
        }
    }

    fn opened(&self) {
        let caps = Box::new(self.device.caps().clone());
        self.out.send(Message::Opened(caps, self.device.clone()));
    }

    /// The film in half floats has frames to make that this one has.
    fn is_behind(&self) -> bool {
        let made = self.twin.as_ref().map_or(0, |t| t.made);
        self.compares && self.run.as_ref().is_some_and(|r| made < r.path.len())
    }

    fn obey(&mut self, command: Command) -> Result<(), Fault> {
        match command {
            Command::Plan(job) => {
                let plan = plan(self.device.caps(), &job);
                self.out.send(Message::Planned(Box::new(plan)));
            }
            Command::Start(job) => {
                // The old film's memory first.
                (self.run, self.twin, self.recovered) = (None, None, None);
                self.text = None;
                match job.text {
                    Some(_) => self.text = Some(TextRun::start(&self.device, job, &self.out)?),
                    None => self.run = Some(Run::start(&self.device, job, &self.out)?),
                }
                self.making = true;
            }
            Command::Stop => self.making = false,
            Command::Continue => self.making = self.run.is_some() || self.text.is_some(),
            Command::Bits(widths) => {
                if let Some(run) = &mut self.run {
                    run.set_bits(widths)?;
                    // What is turned holds on the way ahead too.
                    run.lead.iter_mut().for_each(|(_, ahead)| *ahead = widths);
                    self.out.send(Message::Bits(widths, run.path.len()));
                }
                if let Some(text) = &mut self.text {
                    text.set_bits(widths)?;
                    self.out.send(Message::Bits(widths, text.made()));
                }
            }
            Command::Prompt(prompt) => self.set_prompt(&prompt)?,
            Command::BackTo(frames, lead) => {
                let before = Use::of(&self.device);
                if self.twin.as_mut().is_some_and(|t| !t.back_to(frames)) {
                    // It is made again from its beginning.
                    self.twin = None;
                }
                if let Some(twin) = &mut self.twin {
                    twin.held = twin.held.and(Use::of(&self.device).less(before));
                }
                if let Some(run) = self.run.take() {
                    self.back(run, frames, lead)?;
                }
            }
            Command::Compare(on) => {
                self.compares = on;
                self.twin = None;
                if !on {
                    self.out.send(Message::CompareEnded(None));
                }
            }
            Command::Measure(on) => self.measures = on,
            Command::Recover => {
                // A loss is told when work is waited for.
                let _ = self.device.wait();
                match self.device.is_lost() {
                    true => self.recover()?,
                    false => self.out.send(Message::NotLost),
                }
            }
            Command::Device(select) => {
                (self.run, self.text, self.twin) = (None, None, None);
                self.making = false;
                self.device = Device::open(&select).map_err(|e| Fault::of(&e.into()))?;
                self.select = select;
                self.opened();
            }
        }
        Ok(())
    }

    /// Sets another prompt; what is wrong with it is told, and the film goes on.
    fn set_prompt(&mut self, prompt: &str) -> Result<(), Fault> {
        let told = self
            .text
            .as_mut()
            .map(|text| text.set_prompt(&self.device, prompt, &self.out));
        let refused = match told {
            Some(true) => return Ok(()),
            Some(false) => {
                self.recover()?;
                "the graphics driver restarted while it was encoded; apply it again"
            }
            None => "there is no film from text to change",
        };
        let told = Told::Refused(Box::new(Fault::plain(refused)));
        self.out.send(Message::Prompt(told));
        Ok(())
    }

    /// Goes back to `frames` made ones, and on along `lead`.
    fn back(&mut self, run: Run, frames: usize, lead: Vec<(Step, Widths)>) -> Result<(), Fault> {
        let mut run = run;
        if let Some((_, widths)) = lead.first() {
            // The way on says its widths: turning them forth and back would put its spans on other pages.
            run.bits.push((usize::MAX, *widths));
        }
        if !run.cut_back(frames, &self.out)? {
            run = run.back_to(&self.device, frames, &self.out)?;
        }
        run.lead = lead.into();
        self.out
            .send(Message::WentBack(run.path.len(), run.session.held()));
        self.run = Some(run);
        self.making = true;
        Ok(())
    }

    fn make(&mut self) -> Result<(), Fault> {
        if self.is_behind() {
            if let Err(e) = self.compare() {
                (self.twin, self.compares) = (None, false);
                if self.is_loss(&e) {
                    return self.recover();
                }
                let why = Fault::of(&e).causes.first().cloned();
                self.out.send(Message::CompareEnded(why));
            }
            return Ok(());
        }
        if self.text.is_some() {
            return self.make_text();
        }
        let Some(run) = &mut self.run else {
            self.making = false;
            return Ok(());
        };
        measure(
            &mut run.session,
            &mut run.measures,
            self.measures,
            &self.out,
        );
        run.other = self.twin.as_ref().map(|t| t.held).unwrap_or_default();
        match run.make(&self.device, &self.reins, &self.out) {
            Ok(Some(made)) => self.out.send(Message::Made(Box::new(made))),
            Ok(None) => {
                self.making = false;
                self.out.send(Message::Finished);
            }
            Err(e) => {
                let made = run.path.len();
                if self.is_loss(&e) && self.recovered != Some(made) {
                    return self.recover();
                }
                return Err(Fault::of(&e).at(made, self.device.caps()));
            }
        }
        Ok(())
    }

    fn make_text(&mut self) -> Result<(), Fault> {
        let Some(text) = &mut self.text else {
            return Ok(());
        };
        text.measure(self.measures, &self.out);
        match text.make(&self.device, &self.out) {
            Ok(Some(made)) => self.out.send(Message::Made(Box::new(made))),
            Ok(None) => {
                self.making = false;
                self.out.send(Message::Finished);
            }
            Err(e) if is_loss(&e) && self.recovered != Some(text.made()) => self.recover()?,
            Err(e) => {
                let fault = Fault::of(&e).at(text.made(), self.device.caps());
                // A session that failed goes no further.
                self.text = None;
                return Err(fault);
            }
        }
        Ok(())
    }

    /// The error is that the device is lost. What fails first on such a device may say something else, so it is asked.
    fn is_loss(&self, e: &rollout::Error) -> bool {
        if let rollout::Error::Gpu(gpu::Error::Device { .. }) = e {
            let _ = self.device.wait();
        }
        is_loss(e) || self.device.is_lost()
    }

    /// Makes the next chunk of the film in half floats.
    fn compare(&mut self) -> Result<(), rollout::Error> {
        let Some(run) = &self.run else { return Ok(()) };
        let before = Use::of(&self.device);
        let mut twin = match self.twin.take() {
            Some(twin) => twin,
            None => Twin::load(&self.device, &run.job)?,
        };
        let (first, n) = (twin.made, run.chunk_frames.min(run.path.len() - twin.made));
        let poses = &run.poses[run.given + first..][..n];
        twin.session.push_poses(poses)?;
        let begun = Instant::now();
        let chunk = twin.session.next_chunk(&mut |_| {})?;
        twin.made += n;
        // This thread is the only one that allocates for films, so what came or went meanwhile is the twin's.
        twin.held = twin.held.and(Use::of(&self.device).less(before));
        self.out.send(Message::Compared(Box::new(Compared {
            first,
            pictures: on_device(&twin.session),
            frames: chunk.map_or_else(Vec::new, |c| c.frames),
            kv: twin.session.kv(),
            secs: begun.elapsed().as_secs_f64(),
            bytes: twin.held.total(),
        })));
        self.twin = Some(twin);
        Ok(())
    }

    /// Opens the device again and makes the film again up to its last finished chunk.
    fn recover(&mut self) -> Result<(), Fault> {
        let made = self.run.as_ref().map_or(0, |r| r.path.len());
        let made = self.text.as_ref().map_or(made, TextRun::made);
        self.recovered = Some(made);
        self.twin = None;
        self.out.event(&Event::Warning { text: lost(made) });
        self.out.send(Message::Lost(made));
        let (run, was_making) = (self.run.take(), self.making);
        self.device = Device::open(&self.select).map_err(|e| {
            let fault = Fault::of(&e.into());
            Fault {
                remedy: Remedy::Again,
                ..fault.at(made, self.device.caps())
            }
        })?;
        self.opened();
        if let Some(text) = self.text.take() {
            self.text = Some(text.again(&self.device, &self.out)?);
        }
        if let Some(mut run) = run {
            run.is_dead = true;
            let lead = run.lead.clone().into();
            self.back(run, made, lead)?;
            self.making = was_making;
        }
        Ok(())
    }
}

/// What a lost device means for a film of so many made frames.
pub fn lost(made: usize) -> String {
    format!(
        "the graphics driver restarted; {} {} made again on a new device, then the film goes on",
        crate::say::n(made, "frame"),
        if made == 1 { "is" } else { "are" }
    )
}

pub(crate) fn is_loss(e: &rollout::Error) -> bool {
    matches!(e, rollout::Error::Gpu(gpu::Error::Lost { .. }))
}

/// Device bytes by purpose, the window's left out.
#[derive(Debug, Clone, Copy, Default)]
struct Use([i64; 5]);

impl Use {
    fn of(device: &Device) -> Use {
        let m = memory(device);
        let of = [
            m.weights_bytes,
            m.cache_bytes,
            m.spans_bytes,
            m.activations_bytes,
            m.scratch_bytes,
        ];
        Use(of.map(|n| n as i64))
    }

    fn and(self, other: Use) -> Use {
        Use(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    fn less(self, other: Use) -> Use {
        Use(std::array::from_fn(|i| self.0[i] - other.0[i]))
    }

    fn total(self) -> u64 {
        self.0.iter().sum::<i64>().max(0) as u64
    }
}

/// The same film, seed and way with every span in half floats.
struct Twin {
    session: Session,
    made: usize,
    chunk_frames: usize,
    held: Use,
}

impl Twin {
    /// Goes back in place; false where that is too far.
    fn back_to(&mut self, frames: usize) -> bool {
        if self.made <= frames {
            return true;
        }
        let whole = frames / self.chunk_frames;
        let chunks = u32::try_from(whole).unwrap_or(u32::MAX);
        let can = self.session.undo_reach() <= chunks;
        let done = can && self.session.back_to(chunks, &mut |_| {}).is_ok();
        self.made = whole * self.chunk_frames;
        done
    }

    fn load(device: &Device, job: &Job) -> Result<Twin, rollout::Error> {
        let job = job.in_halves();
        let (model, _, walk, config) =
            settle(&job).map_err(|f| rollout::Error::Setting(f.headline))?;
        Ok(Twin {
            session: Session::open(device, &model, walk, job.most, &config)?,
            made: 0,
            chunk_frames: model.config.chunk_frames as usize,
            held: Use::default(),
        })
    }
}

/// Model, walk and settings of a job.
fn settle(job: &Job) -> Result<(ModelSource, SeedFilm, Walk, rollout::Config), Fault> {
    let model = job.source().map_err(|e| Fault::of(&e))?;
    let film = SeedFilm::load(job.film).map_err(|e| Fault::plain(&e.to_string()))?;
    let given = job.given.clamp(1, film.frames.len());
    let walk = Walk {
        given: film.frames[..given].to_vec(),
        given_poses: film.poses[..given].to_vec(),
        poses: Vec::new(),
    };
    let config = job.config().map_err(|e| Fault::plain(&e))?;
    Ok((model, film, walk, config))
}

/// The plan of a film on a device of such capabilities.
///
/// # Errors
/// Why it cannot be made there, with what could where memory is missing.
pub fn plan(caps: &Caps, job: &Job) -> Result<Event, Fault> {
    if let Some(text) = &job.text {
        return text_run::plan(caps, job, text);
    }
    let (model, _, walk, config) = settle(job)?;
    Session::preview_on(caps, &model, &walk.into(), job.most, &config)
        .map_err(|e| refusal(&e, caps, &model, job))
}

fn refusal(e: &rollout::Error, caps: &Caps, model: &ModelSource, job: &Job) -> Fault {
    let fault = Fault::of(e);
    match e {
        rollout::Error::WouldNotFit(_) => offer::refusal(caps, model, job, fault),
        _ => fault,
    }
}

/// A film in the making.
struct Run {
    job: Job,
    session: Session,
    film: SeedFilm,
    given: usize,
    /// Every pose so far, given ones first.
    poses: Vec<Pose>,
    /// What led to the made ones.
    path: Vec<Step>,
    /// Steps to take first, each at these widths.
    lead: VecDeque<(Step, Widths)>,
    /// The way on while nobody steers.
    tour: VecDeque<Step>,
    /// Made frames when the reins were taken.
    taken: Option<usize>,
    /// Widths, and the number of made frames from which on they hold.
    bits: Vec<(usize, Widths)>,
    chunk_frames: usize,
    layers: u64,
    /// Seconds of coding so far.
    encoded: f64,
    /// What the film holds that this one is compared with.
    other: Use,
    /// Its spans are compared with what they were coded from.
    measures: bool,
    /// Its device is lost, or its session failed.
    is_dead: bool,
}

impl Run {
    fn start(device: &Device, job: Job, out: &Out) -> Result<Run, Fault> {
        let plan = plan(device.caps(), &job)?;
        out.event(&plan);
        // It was opened before the window was.
        out.send(Message::Loading(LoadStage::Device, 1, 1));
        let run = Run::load(device, job, &mut |event| out.loading(event))?;
        let frames = run.film.frames.iter().zip(&run.film.poses);
        out.send(Message::Begun(Box::new(Begun {
            job: run.job.clone(),
            film_name: run.film.name.clone(),
            plan,
            given: frames
                .take(run.given)
                .map(|(f, p)| (f.clone(), *p))
                .collect(),
            layers: run.layers,
            cell_frames: 1,
        })));
        Ok(run)
    }

    fn load(device: &Device, job: Job, on: &mut dyn FnMut(Event)) -> Result<Run, Fault> {
        let (model, film, walk, config) = settle(&job)?;
        let poses = walk.given_poses.clone();
        let caps = device.caps();
        let session = Session::load(device, &model, walk, job.most, &config, on)
            .map_err(|e| refusal(&e, caps, &model, &job).at(0, caps))?;
        Ok(Run {
            session,
            given: poses.len(),
            poses,
            film,
            path: Vec::new(),
            lead: job.camera.iter().map(|s| (*s, job.widths)).collect(),
            tour: VecDeque::new(),
            taken: None,
            bits: vec![(0, job.widths)],
            chunk_frames: model.config.chunk_frames as usize,
            layers: u64::from(model.config.layers),
            encoded: 0.0,
            other: Use::default(),
            measures: false,
            is_dead: false,
            job,
        })
    }

    /// Spans from now on at these widths; older, wider ones follow one a chunk ([`repack`]).
    fn set_bits(&mut self, widths: Widths) -> Result<(), Fault> {
        let pair = self.job.pair(widths).map_err(|e| Fault::plain(&e))?;
        self.session.set_codecs(pair).map_err(|e| Fault::of(&e))?;
        self.bits.push((self.path.len(), widths));
        Ok(())
    }

    /// The next step: what is held, or the tour over everything seen so far.
    fn step(&mut self, reins: &Reins) -> Step {
        if reins.steering.load(Ordering::Relaxed) {
            self.taken.get_or_insert(self.path.len());
            self.tour.clear();
            self.lead.clear();
            return reins.step();
        }
        if let Some((step, _)) = self.lead.pop_front() {
            return step;
        }
        if let Some(from) = self.taken.take() {
            // Back the way it was steered: a tour knows single actions only, and these may not lead to where it stands.
            self.tour = self.path[from.min(self.path.len())..]
                .iter()
                .rev()
                .flat_map(|step| undo(*step))
                .collect();
        }
        if self.tour.is_empty() {
            let way = world::tour(&self.poses, 256);
            self.tour = way.into_iter().map(Step::from).collect();
        }
        let stay = || world::Action::Stay.into();
        self.tour.pop_front().unwrap_or_else(stay)
    }

    /// Walks one step, along walls where they are in the way.
    fn walk(&mut self, step: Step) -> Result<Pose, rollout::Error> {
        let from = self.poses.last().copied().unwrap_or_default();
        let way = Path::along(&self.film.map, from, &[step], OnWall::Slide)
            .map_err(|e| rollout::Error::Setting(e.to_string()))?;
        Ok(way.poses.first().copied().unwrap_or(from))
    }

    fn make(
        &mut self,
        device: &Device,
        reins: &Reins,
        out: &Out,
    ) -> Result<Option<Made>, rollout::Error> {
        let n = self.chunk_frames.min(self.job.most - self.path.len());
        let first = self.path.len();
        // A way that is taken again is taken at the widths that it had.
        let again = self.lead.front().map(|(_, widths)| *widths);
        if let Some(widths) = again.filter(|w| self.bits.last().is_some_and(|(_, now)| now != w)) {
            self.set_bits(widths)
                .map_err(|f| rollout::Error::Setting(f.headline))?;
            out.send(Message::Bits(widths, first));
        }
        for _ in 0..n {
            let step = self.step(reins);
            self.go(step)?;
        }
        if n > 0 {
            repack(&mut self.session, out);
        }
        let made = self.chunk(first, device, out);
        if made.is_err() {
            self.is_dead = true;
            // The chunk was not finished: a film that goes on after this does so from the last one that was.
            let now = self.bits.last().map_or(self.job.widths, |(_, now)| *now);
            for step in self.path.drain(first..).rev() {
                self.lead.push_front((step, now));
            }
            self.poses.truncate(self.given + first);
        }
        made
    }

    /// Takes a step into the session's way.
    fn go(&mut self, step: Step) -> Result<(), rollout::Error> {
        let pose = self.walk(step)?;
        self.session.push_poses(&[pose])?;
        self.poses.push(pose);
        self.path.push(step);
        Ok(())
    }

    fn chunk(
        &mut self,
        first: usize,
        device: &Device,
        out: &Out,
    ) -> Result<Option<Made>, rollout::Error> {
        let begun = Instant::now();
        let mut heard = Heard::default();
        let mut listen = |event: Event| {
            if let Event::PassDone {
                kind: PassKind::Given,
                chunk,
                ..
            } = &event
            {
                out.send(Message::Given(*chunk as usize + 1, memory(device)));
            }
            heard.event(event, out);
        };
        let Some(chunk) = self.session.next_chunk(&mut listen)? else {
            return Ok(None);
        };
        log::debug!("chunk {} in {:?}", chunk.index, begun.elapsed());
        let kv = self.session.kv();
        let Heard { mut split, drift } = heard;
        split.encode = coding(&kv, &mut self.encoded, first, split.total);
        // The window's own pictures are made behind the engine's, and the next chunk waits for them.
        let decoding = Instant::now();
        let pictures = on_device(&self.session);
        let secs = decoding.elapsed().as_secs_f64();
        split.decode += secs;
        split.total += secs;
        let poses = &self.poses[self.given + first..];
        let steps = &self.path[first..];
        Ok(Some(Made {
            first,
            truth: poses
                .iter()
                .map(|p| Arc::new(self.film.true_frame(*p)))
                .collect(),
            pictures,
            frames: chunk
                .frames
                .into_iter()
                .zip(poses)
                .zip(steps)
                .map(|((frame, pose), step)| (frame, *pose, *step))
                .collect(),
            split,
            memory: own(device, self.other),
            other: self.other.total(),
            kv,
            held: self.session.held(),
            drift,
            errors: self
                .measures
                .then(|| Errors::of(&self.session.span_errors())),
            main_bytes: main_bytes(),
            undo_bytes: self.session.undo_bytes(),
        }))
    }

    /// Cuts the film back in place; false where what is kept for that does not reach so far, or the device is gone.
    fn cut_back(&mut self, frames: usize, out: &Out) -> Result<bool, Fault> {
        let whole = frames.min(self.path.len()) / self.chunk_frames;
        let frames = whole * self.chunk_frames;
        let chunks = u32::try_from(whole).unwrap_or(u32::MAX);
        if chunks < self.session.undo_reach() || self.is_dead {
            return Ok(false);
        }
        self.session
            .back_to(chunks, &mut |event| out.event(&event))
            .map_err(|e| Fault::of(&e))?;
        self.path.truncate(frames);
        self.poses.truncate(self.given + frames);
        self.tour.clear();
        self.taken = None;
        // Codecs are as they were then; widths that were chosen later still hold from here on.
        let now = self.bits.last().map_or(self.job.widths, |(_, now)| *now);
        self.bits.retain(|(at, _)| *at == 0 || *at < frames);
        if self.bits.last().is_some_and(|(_, then)| *then != now) {
            self.set_bits(now)?;
        }
        self.encoded = coded(&self.session.kv());
        Ok(true)
    }

    /// The same film up to `frames`, made again: the same seed on the same device gives the same bytes, and the cache is as
    /// it was.
    fn back_to(self, device: &Device, frames: usize, out: &Out) -> Result<Run, Fault> {
        let Run {
            job,
            path,
            bits,
            session,
            ..
        } = self;
        drop(session);
        let frames = frames.min(path.len()) / self.chunk_frames * self.chunk_frames;
        let mut run = Run::load(device, job, &mut |_| {})?;
        run.lead.clear();
        for first in (0..frames).step_by(self.chunk_frames) {
            for (_, widths) in bits.iter().skip(1).filter(|(at, _)| *at == first) {
                run.set_bits(*widths)?;
            }
            let again = |run: &mut Run| {
                for step in &path[first..first + self.chunk_frames] {
                    run.go(*step)?;
                }
                repack(&mut run.session, out);
                run.session.next_chunk(&mut |_| {})
            };
            again(&mut run).map_err(|e| Fault::of(&e).at(first, device.caps()))?;
            out.send(Message::Again(first + self.chunk_frames, frames));
        }
        // Widths that were chosen later still hold from here on.
        if let Some((_, now)) = bits.last()
            && run.bits.last().is_some_and(|(_, w)| w != now)
        {
            run.set_bits(*now)?;
        }
        run.encoded = coded(&run.session.kv());
        Ok(run)
    }
}

/// What a chunk's events say of it.
#[derive(Default)]
pub(crate) struct Heard {
    /// Seconds by phase, but for coding.
    pub(crate) split: Split,
    /// Stretches of the film that are whole now.
    pub(crate) drift: Vec<Drift>,
}

impl Heard {
    /// Takes an event of a chunk, and passes it on to the window and to programs.
    pub(crate) fn event(&mut self, event: Event, out: &Out) {
        match &event {
            Event::PassDone {
                kind: PassKind::Denoise,
                pass,
                passes,
                secs,
                ..
            } => {
                self.split.denoise += secs;
                out.send(Message::Pass(pass + 1, *passes - 1));
            }
            // Given frames lie before the first chunk.
            Event::PassDone {
                kind: PassKind::Given,
                ..
            } => {}
            Event::PassDone { secs, .. } => self.split.cache += secs,
            Event::FramesReady {
                secs, decode_secs, ..
            } => (self.split.total, self.split.decode) = (*secs, *decode_secs),
            Event::Drift(stretch) => self.drift.push(Drift::clone(stretch)),
            Event::Warning { text } => out.send(Message::Warning(text.clone())),
            Event::Loading { .. } => return out.loading(event),
            _ => {}
        }
        out.event(&event);
    }
}

/// Seconds of coding so far.
pub(crate) fn coded(kv: &KvFigures) -> f64 {
    1e-3 * kv.encode_ms_per_span * kv.spans_coded as f64
}

/// Seconds of coding in a chunk of `total` seconds behind `first` made frames; `before`: those of the chunks before it.
pub(crate) fn coding(kv: &KvFigures, before: &mut f64, first: usize, total: f64) -> f64 {
    let all = coded(kv);
    let secs = all - std::mem::replace(before, all);
    // Coding lies before the passes of the chunk, and what the given frames had coded is no part of it.
    match first == 0 || total < secs {
        true => 0.0,
        false => secs,
    }
}

/// Measures spans from now on, or no more. What cannot be measured for want of memory is told once, and the film goes on.
pub(crate) fn measure(session: &mut Session, measures: &mut bool, on: bool, out: &Out) {
    if std::mem::replace(measures, on) == on {
        return;
    }
    if let Err(e) = session.measure_errors(on) {
        out.send(Message::Warning(format!(
            "reconstruction errors are not measured: {e}"
        )));
    }
}

/// Packs one older span again that is wider than what codes the next one. Always once before a chunk: a film that is made
/// again goes through the same states.
pub(crate) fn repack(session: &mut Session, out: &Out) {
    match session.repack_span(&mut |event| out.event(&event)) {
        Err(e) if !is_loss(&e) => {
            // Nothing was changed: the film goes on with the spans as they are.
            out.send(Message::Warning(format!(
                "older spans keep their width: {e}"
            )));
        }
        // A loss is told by the chunk.
        Ok(_) | Err(_) => {}
    }
}

/// The newest chunk's pictures where the window's textures are. Without them the window brings them there from main memory, so
/// that a failure here is none of the film's; a device that is lost says so in the next chunk.
fn on_device(session: &Session) -> Option<Pictures> {
    session.device_pictures().unwrap_or_else(|e| {
        log::warn!("pictures do not stay on the device: {e}");
        None
    })
}

/// The ledger while a session is busy.
pub(crate) fn memory(device: &Device) -> MemoryUse {
    let l = device.ledger();
    MemoryUse {
        weights_bytes: l.bytes(Purpose::Weights),
        cache_bytes: l.bytes(Purpose::Cache),
        spans_bytes: l.bytes(Purpose::Spans),
        activations_bytes: l.bytes(Purpose::Activations),
        scratch_bytes: l.bytes(Purpose::Scratch),
        viewer_bytes: l.bytes(Purpose::Viewer),
        device_bytes: l.total(),
        peak_device_bytes: l.peak(),
    }
}

/// The ledger without the film that this one is compared with; `device_bytes` is everything.
fn own(device: &Device, other: Use) -> MemoryUse {
    let mut m = memory(device);
    let of = [
        &mut m.weights_bytes,
        &mut m.cache_bytes,
        &mut m.spans_bytes,
        &mut m.activations_bytes,
        &mut m.scratch_bytes,
    ];
    for (bytes, less) in of.into_iter().zip(other.0) {
        *bytes = bytes.saturating_add_signed(-less);
    }
    m
}

/// Main memory that this process holds, on Linux.
pub(crate) fn main_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_keys_make_one_step_and_contradictions_cancel() {
        let text = |keys| step_of(keys).to_string();
        assert_eq!(text(0b00_0001), "w");
        assert_eq!(text(0b01_0101), "w+a+left");
        assert_eq!(text(0b00_0011), "stay");
        assert_eq!(text(0b11_1111), "stay");
        assert_eq!(text(0b10_0111), "a+right");
        assert_eq!(text(0), "stay");
    }

    #[test]
    fn a_tap_between_chunks_is_one_step() {
        let reins = Reins::default();
        reins.key(0, true);
        reins.key(0, false);
        assert_eq!(reins.step().to_string(), "w");
        assert_eq!(reins.step().to_string(), "stay");
        reins.key(4, true);
        assert_eq!(reins.step().to_string(), "left");
        assert_eq!(reins.step().to_string(), "left", "held on");
    }

    #[test]
    fn steered_steps_can_be_walked_back() {
        let start = Pose { x: 3, y: -5, k: 2 };
        let way = world::camera::parse("w+left,a,d+w-2,right,stay,s+right").unwrap();
        let there = way.iter().fold(start, |p, s| s.after(p));
        assert_ne!(there, start);
        let back = way.iter().rev().flat_map(|s| undo(*s));
        assert_eq!(back.fold(there, |p, s| s.after(p)), start);
    }

    #[test]
    fn the_mouse_turns_notch_by_notch() {
        let reins = Reins::default();
        reins.turns.store(-2, Ordering::Relaxed);
        reins.key(0, true);
        assert_eq!(reins.step().to_string(), "w+right");
        assert_eq!(reins.step().to_string(), "w+right");
        assert_eq!(reins.step().to_string(), "w");
    }
}

//! The window: winit's loop, one pass over the panels when something happened, and what they asked for.
//!
//! An idle window does nothing: a pass runs on input, on a message of the worker, and when the next frame is due.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use egui_winit::accesskit_winit;
use longtake::gpu::{Device, Select};
use longtake::rollout::event::{Event, Summary};
use longtake::store::Store;
use winit::application::ApplicationHandler;
use winit::dpi::LogicalSize;
use winit::event::{ElementState, StartCause, WindowEvent};
use winit::event_loop::{ActiveEventLoop, ControlFlow, EventLoop, EventLoopProxy};
use winit::window::{Fullscreen, Window, WindowId};

use crate::fault::Fault;
use crate::job::Job;
use crate::paint::{Painted, Painter, Picture, Textures};
use crate::prefs::Prefs;
use crate::record::{Record, Recorder};
use crate::state::{Effect, Phase, State};
use crate::worker::{Command, Message, Worker, tell};
use crate::{panels, save, tokens};

/// Size of a window in points where nothing is known.
const USUAL: [f32; 2] = [1440.0, 900.0];

/// How the window starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// The film.
    pub job: Job,
    /// Where models are looked for.
    pub store: Option<Store>,
    /// The device that was asked for, to open it again.
    pub select: Select,
    /// A file that the film goes to.
    pub record: Option<Record>,
    /// Walk at once.
    pub walk: bool,
    /// Size in points; `None`: as it was left, or the usual one.
    pub size: Option<[f32; 2]>,
    /// Pixels a point; `None`: the system's.
    pub scale: Option<f32>,
    /// Theme; `None`: the system's.
    pub theme: Option<egui::Theme>,
    /// Panes that are open at once.
    pub open: Vec<Pane>,
    /// A screenshot, and after how many made frames; the window closes then.
    pub screenshot: Option<(PathBuf, usize)>,
    /// Events to standard output, with the time since then.
    pub json: Option<Instant>,
}

/// Panes that can be open from the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    /// Settings.
    Settings,
    /// Statistics.
    Statistics,
    /// Keys.
    Keys,
    /// Coded bytes by tensor.
    Layers,
}

/// What wakes the loop.
#[derive(Debug)]
enum Wake {
    Worker,
    /// What a painter tells, by its number.
    Painted(u64, Painted),
    Saved(Result<PathBuf, String>),
    /// The film's file cannot be written any more, for these causes.
    Unwritten(Vec<String>),
    Repaint(Duration),
    Access(accesskit_winit::Event),
}

impl From<accesskit_winit::Event> for Wake {
    fn from(e: accesskit_winit::Event) -> Self {
        Wake::Access(e)
    }
}

/// Opens the window on a device and stays until it closes; gives what the film had stopped with by then.
///
/// # Errors
/// No display, or a device that cannot show on it.
pub fn run(
    device: Device,
    devices: Vec<String>,
    options: Options,
) -> anyhow::Result<Option<Fault>> {
    let event_loop = EventLoop::<Wake>::with_user_event().build()?;
    let proxy = event_loop.create_proxy();
    let wake = {
        let proxy = proxy.clone();
        Box::new(move || {
            // A loop that has ended hears nothing.
            let _ = proxy.send_event(Wake::Worker);
        })
    };
    let (worker, messages) =
        Worker::start(device.clone(), options.select.clone(), options.json, wake)?;
    let prefs = match options.size {
        // A window whose size was asked for is one of its own, and leaves no trace.
        Some(_) => None,
        None => Some(Prefs::load()),
    };
    let ctx = egui::Context::default();
    tokens::apply(&ctx);
    let remembered = prefs.and_then(|p| p.dark).map(|dark| match dark {
        true => egui::Theme::Dark,
        false => egui::Theme::Light,
    });
    ctx.set_theme(match options.theme.or(remembered) {
        Some(egui::Theme::Light) => egui::ThemePreference::Light,
        Some(egui::Theme::Dark) => egui::ThemePreference::Dark,
        None => egui::ThemePreference::System,
    });
    let repaint = proxy.clone();
    ctx.set_request_repaint_callback(move |info| {
        let _ = repaint.send_event(Wake::Repaint(info.delay));
    });
    let mut state = State::new(options.job.clone(), worker.reins.clone());
    state.devices = devices;
    state.text.store.clone_from(&options.store);
    state.show.settings = prefs.is_some_and(|p| p.settings);
    for pane in &options.open {
        match pane {
            Pane::Settings => state.show.settings = true,
            Pane::Statistics => state.show.statistics = true,
            Pane::Keys => state.show.keys = true,
            Pane::Layers => state.show.layers = true,
        }
    }
    if options.walk {
        state.start();
    }
    let recorder = options.record.clone().map(|record| {
        let proxy = proxy.clone();
        Recorder::start(record, move |causes| {
            let _ = proxy.send_event(Wake::Unwritten(causes));
        })
    });
    let recorder = recorder.transpose()?;
    let mut app = App {
        device,
        prefs,
        recorder,
        recorded: (0, 0),
        options,
        proxy,
        worker,
        messages,
        ctx,
        state,
        opened: None,
        failed: None,
        unpainted: None,
        painters: 0,
        input: None,
        last_pass: Instant::now(),
        due: None,
        first_frame: None,
        shots: Vec::new(),
        shot_asked: false,
        log: Log::default(),
    };
    event_loop.run_app(&mut app)?;
    app.remember();
    let json = app.options.json;
    app.log.print(json.is_some());
    let mut output = None;
    if let Some(recorder) = app.recorder.take() {
        let about = app.state.recipe();
        let saved = recorder.finish(about)?;
        output = saved.map(|path| path.display().to_string());
        match (output.clone(), json) {
            (Some(path), Some(begun)) => tell(&Event::Saved { path }, begun),
            (Some(path), None) => {
                use std::io::Write as _;
                let _ = writeln!(std::io::stdout(), "{path}");
            }
            (None, _) => {}
        }
    }
    if let Some(e) = app.failed {
        return Err(e);
    }
    if let Phase::Failed(fault) = app.state.phase {
        return Ok(Some(fault));
    }
    if let Some(begun) = json {
        let first = app.first_frame.map(|at| at.duration_since(begun));
        let summary = Summary {
            first_frame_secs: first.map_or(0.0, |d| d.as_secs_f64()),
            secs: begun.elapsed().as_secs_f64(),
            output,
            ..app.state.summary()
        };
        tell(&Event::Done(summary), begun);
    }
    Ok(None)
}

struct Opened {
    window: Arc<Window>,
    egui: egui_winit::State,
    /// None only while it moves to another device.
    painter: Option<Painter>,
}

struct App {
    device: Device,
    prefs: Option<Prefs>,
    recorder: Option<Recorder>,
    /// Film and made frames that the recorder has.
    recorded: (u64, usize),
    options: Options,
    proxy: EventLoopProxy<Wake>,
    worker: Worker,
    messages: Receiver<Message>,
    ctx: egui::Context,
    state: State,
    opened: Option<Opened>,
    failed: Option<anyhow::Error>,
    /// Why the painter ended, until it is known whether its device is lost.
    unpainted: Option<String>,
    /// Painters so far.
    painters: u64,
    /// The oldest input that no pass has seen.
    input: Option<Instant>,
    last_pass: Instant,
    /// When the next pass is due.
    due: Option<Instant>,
    /// When the first made frame was there.
    first_frame: Option<Instant>,
    shots: Vec<PathBuf>,
    shot_asked: bool,
    log: Log,
}

/// How quickly the window answered.
#[derive(Debug, Default)]
struct Log {
    /// Milliseconds of the passes.
    passes: Vec<f64>,
    /// Milliseconds from an input until the loop had taken it in.
    answers: Vec<f64>,
    /// Milliseconds from an input until its picture was submitted.
    inputs: Vec<f64>,
}

impl Log {
    fn print(&mut self, json: bool) {
        let of = |v: &mut Vec<f64>| {
            v.sort_by(f64::total_cmp);
            let at = |share: f64| {
                v.get(((v.len().max(1) - 1) as f64 * share) as usize)
                    .copied()
                    .unwrap_or(0.0)
            };
            serde_json::json!({"n": v.len(), "median_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0)})
        };
        let line = serde_json::json!({
            "event": "window",
            "pass": of(&mut self.passes),
            "answer": of(&mut self.answers),
            "shown": of(&mut self.inputs),
        });
        log::info!("{line}");
        if json {
            use std::io::Write as _;
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }
}

impl App {
    fn open(&mut self, event_loop: &ActiveEventLoop) -> anyhow::Result<Opened> {
        let remembered = self.prefs.and_then(|p| p.size);
        let usual = || match event_loop.available_monitors().next() {
            // On a small screen nine tenths of it.
            Some(m) => {
                let screen = m.size().to_logical::<f32>(m.scale_factor());
                [
                    USUAL[0].min(0.9 * screen.width),
                    USUAL[1].min(0.9 * screen.height),
                ]
            }
            None => USUAL,
        };
        let [w, h] = self.options.size.or(remembered).unwrap_or_else(usual);
        let scale = self.options.scale;
        let mut attributes = Window::default_attributes()
            .with_title("longtake")
            .with_min_inner_size(LogicalSize::new(1024.0, 640.0))
            .with_visible(false);
        attributes = match scale {
            Some(k) => attributes.with_inner_size(winit::dpi::PhysicalSize::new(w * k, h * k)),
            None => attributes.with_inner_size(LogicalSize::new(w, h)),
        };
        if let Some([x, y]) = self.prefs.and_then(|p| p.place) {
            attributes = attributes.with_position(winit::dpi::PhysicalPosition::new(x, y));
        }
        let window = Arc::new(event_loop.create_window(attributes)?);
        let painter = self.painter(&window, Textures::default())?;
        let native = scale.unwrap_or(window.scale_factor() as f32);
        let mut egui = egui_winit::State::new(
            self.ctx.clone(),
            egui::ViewportId::ROOT,
            event_loop,
            Some(window.scale_factor() as f32),
            window.theme(),
            Some(painter.max_side),
        );
        if let Some(k) = scale {
            self.ctx.set_zoom_factor(k / window.scale_factor() as f32);
        }
        log::info!("{native} pixels a point");
        egui.init_accesskit(event_loop, &window, self.proxy.clone());
        window.set_visible(true);
        window.request_redraw();
        Ok(Opened {
            window,
            egui,
            painter: Some(painter),
        })
    }

    fn painter(&mut self, window: &Arc<Window>, textures: Textures) -> anyhow::Result<Painter> {
        self.painters += 1;
        let (proxy, number) = (self.proxy.clone(), self.painters);
        let tell = Box::new(move |painted| {
            let _ = proxy.send_event(Wake::Painted(number, painted));
        });
        Painter::start(&self.device, window.clone(), textures, tell)
    }

    /// Draws on the newly opened device where the one so far is lost.
    fn move_painter(&mut self) -> anyhow::Result<()> {
        let Some(opened) = &mut self.opened else {
            return Ok(());
        };
        let Some(old) = opened.painter.take_if(|p| p.is_lost()) else {
            return Ok(());
        };
        // The old surface goes before there is another one on the same window.
        let (textures, window) = (old.end(), opened.window.clone());
        let painter = self.painter(&window, textures)?;
        if let Some(opened) = &mut self.opened {
            opened.painter = Some(painter);
        }
        Ok(())
    }

    /// Draws where the worker works, where it can.
    fn follow(&mut self, event_loop: &ActiveEventLoop) {
        if let Err(e) = self.move_painter() {
            self.failed = Some(e);
            event_loop.exit();
        }
        self.share();
    }

    /// Ends, if nothing can be drawn any more.
    fn give_up(&mut self, event_loop: &ActiveEventLoop) {
        if let Some(e) = self.unpainted.take() {
            self.failed = Some(anyhow::anyhow!("the window cannot be drawn any more: {e}"));
            event_loop.exit();
        }
    }

    /// Tells the gallery where the window draws.
    fn share(&mut self) {
        let painter = self.opened.as_ref().and_then(|o| o.painter.as_ref());
        let shares = painter.is_some_and(|p| p.shares(&self.device));
        self.state.gallery.share(shares);
    }

    /// Hands the recorder what it lacks of the film.
    fn record(&mut self) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        let film = &self.state.film;
        let (number, given, made) = (self.state.films, film.given, film.made());
        if made == 0 {
            return;
        }
        let (known, n) = self.recorded;
        let kept = match known == number {
            true => n.min(self.state.kept),
            false => 0,
        };
        if kept < n {
            recorder.cut(kept);
        }
        if kept < made {
            let frame = |s: &crate::state::Shot| s.frame.clone();
            let all = &film.shots;
            recorder.push(
                all[..given].iter().map(frame).collect(),
                all[given + kept..].iter().map(frame).collect(),
                film.fps,
            );
        }
        self.state.kept = usize::MAX;
        self.recorded = (number, made);
    }

    /// Keeps how the window stood.
    fn remember(&self) {
        let (Some(_), Some(opened)) = (self.prefs, &self.opened) else {
            return;
        };
        let window = &opened.window;
        let size = window.inner_size().to_logical::<f32>(window.scale_factor());
        let place = window.outer_position().ok().map(|p| [p.x, p.y]);
        Prefs {
            size: Some([size.width, size.height]),
            place,
            dark: match self.ctx.options(|o| o.theme_preference) {
                egui::ThemePreference::System => None,
                theme => Some(theme == egui::ThemePreference::Dark),
            },
            settings: self.state.show.settings,
        }
        .save();
    }

    fn redraw(&mut self, event_loop: &ActiveEventLoop) {
        let Some(opened) = &mut self.opened else {
            return;
        };
        let begun = Instant::now();
        let secs = begun.duration_since(self.last_pass).as_secs_f64();
        self.last_pass = begun;
        self.due = None;
        let raw = opened.egui.take_egui_input(&opened.window);
        let state = &mut self.state;
        let output = self.ctx.run_ui(raw, |ui| panels::show(ui, state, secs));
        if let Some(v) = output.viewport_output.get(&egui::ViewportId::ROOT) {
            self.due = begun.checked_add(v.repaint_delay);
        }
        opened
            .egui
            .handle_platform_output(&opened.window, output.platform_output);
        let meshes = self.ctx.tessellate(output.shapes, output.pixels_per_point);
        let size = opened.window.inner_size();
        let input = self.input.take();
        if let Some(at) = input {
            self.log.answers.push(1e3 * at.elapsed().as_secs_f64());
        }
        if let Some(painter) = &opened.painter {
            painter.show(Picture {
                meshes,
                textures: output.textures_delta,
                arrivals: self.state.gallery.arrivals(),
                size: [size.width, size.height],
                ppp: output.pixels_per_point,
                input,
                shots: std::mem::take(&mut self.shots),
            });
        }
        self.state.times.pass = begun.elapsed().as_secs_f64();
        self.log.passes.push(1e3 * self.state.times.pass);
        self.act(event_loop);
    }

    /// Does what the panels asked for.
    fn act(&mut self, event_loop: &ActiveEventLoop) {
        for effect in std::mem::take(&mut self.state.effects) {
            match effect {
                Effect::Command(command) => {
                    if !self.worker.send(command) {
                        self.state.note.text = "the engine is busy; try again".to_owned();
                        self.state.note.warns = true;
                    }
                }
                Effect::Save { name, bytes } => {
                    self.write(move |folder| save::file(folder, &name, &bytes));
                }
                Effect::SaveFilm { name, frames, fps } => {
                    self.state.note.text = "saving the film".to_owned();
                    self.write(move |folder| save::film(folder, &name, &frames, fps));
                }
                Effect::SaveReport(report) => {
                    let name = format!("{}-seed{}-compare.html", report.place.1, report.seed);
                    self.write(move |folder| save::report(folder, &name, &report));
                }
                Effect::Fullscreen(on) => {
                    if let Some(opened) = &self.opened {
                        let full = on.then_some(Fullscreen::Borderless(None));
                        opened.window.set_fullscreen(full);
                    }
                }
                Effect::Quit => event_loop.exit(),
            }
        }
    }

    /// Writes a file beside the window's own work.
    fn write(
        &self,
        work: impl FnOnce(&std::path::Path) -> anyhow::Result<PathBuf> + Send + 'static,
    ) {
        let proxy = self.proxy.clone();
        let job = move || {
            let saved = work(std::path::Path::new(".")).map_err(|e| format!("{e:#}"));
            let _ = proxy.send_event(Wake::Saved(saved));
        };
        if let Err(e) = std::thread::Builder::new().name("save".into()).spawn(job) {
            let _ = self.proxy.send_event(Wake::Saved(Err(e.to_string())));
        }
    }

    fn is_lost(&self) -> bool {
        let painter = self.opened.as_ref().and_then(|o| o.painter.as_ref());
        painter.is_none_or(Painter::is_lost)
    }

    fn request(&self) {
        if let Some(opened) = &self.opened {
            opened.window.request_redraw();
        }
    }

    /// Asks for the screenshot when the film is long enough.
    fn watch_screenshot(&mut self) {
        let Some((path, after)) = &self.options.screenshot else {
            return;
        };
        let ready = match self.state.phase {
            Phase::Empty => *after == 0 && self.state.plan.is_some(),
            Phase::Failed(_) => true,
            _ => {
                self.state.film.shots.len() > self.state.film.given
                    && *after <= self.state.film.made()
            }
        };
        if ready && !self.shot_asked {
            self.shot_asked = true;
            self.shots.push(path.clone());
        }
    }

    fn saved(&mut self, saved: Result<PathBuf, String>) {
        (self.state.note.text, self.state.note.warns) = match saved {
            Ok(path) => (format!("saved {}", path.display()), false),
            Err(e) => (format!("not saved: {e}"), true),
        };
    }
}

impl ApplicationHandler<Wake> for App {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        if self.opened.is_none() {
            match self.open(event_loop) {
                Ok(opened) => {
                    self.opened = Some(opened);
                    self.share();
                }
                Err(e) => {
                    self.failed = Some(e);
                    event_loop.exit();
                }
            }
        }
    }

    fn user_event(&mut self, event_loop: &ActiveEventLoop, wake: Wake) {
        match wake {
            Wake::Worker => {
                let mut heard = false;
                while let Ok(message) = self.messages.try_recv() {
                    // Where the processor also draws, a pass alone is not worth the time that a picture takes from it.
                    heard |= !(self.state.device.software && matches!(message, Message::Pass(..)));
                    if let Message::Opened(_, device) = &message {
                        self.device = device.clone();
                        self.unpainted = None;
                        self.follow(event_loop);
                    }
                    if matches!(message, Message::NotLost) {
                        // The painter may have one of its own.
                        match self.is_lost() {
                            true => self.follow(event_loop),
                            false => self.give_up(event_loop),
                        }
                    }
                    if matches!(message, Message::Made(_)) {
                        self.first_frame.get_or_insert_with(Instant::now);
                    }
                    self.state.hear(message);
                    self.record();
                }
                if heard {
                    self.watch_screenshot();
                    self.request();
                }
                self.act(event_loop);
            }
            Wake::Painted(_, Painted::Shown(secs)) => {
                if let Some(secs) = secs {
                    self.state.times.input = secs;
                    self.log.inputs.push(1e3 * secs);
                }
            }
            Wake::Painted(_, Painted::Shot(saved)) => {
                if let Err(e) = &saved {
                    self.failed = Some(anyhow::anyhow!("the screenshot was not saved: {e}"));
                }
                event_loop.exit();
            }
            // Whether the device is lost may not be known yet. The worker finds out; it opens another one, and the painter
            // follows it there.
            // One that was followed by another already has nothing more to say.
            Wake::Painted(number, Painted::Failed(_)) if number != self.painters => {}
            Wake::Painted(_, Painted::Failed(e)) => {
                self.unpainted = Some(e);
                if !self.worker.send(Command::Recover) {
                    self.give_up(event_loop);
                }
            }
            Wake::Saved(saved) => {
                self.saved(saved);
                self.request();
            }
            Wake::Unwritten(causes) => {
                if let Some(begun) = self.options.json {
                    let text = format!("the film is no longer written: {}", causes.join("; "));
                    tell(&Event::Warning { text }, begun);
                }
                self.state.unwritten(causes);
                self.act(event_loop);
                self.request();
            }
            Wake::Repaint(delay) => {
                let at = Instant::now().checked_add(delay);
                self.due = match (self.due, at) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            Wake::Access(event) => {
                if let Some(opened) = &mut self.opened {
                    match event.window_event {
                        accesskit_winit::WindowEvent::InitialTreeRequested => {
                            self.ctx.enable_accesskit()
                        }
                        accesskit_winit::WindowEvent::ActionRequested(request) => {
                            opened.egui.on_accesskit_action_request(request);
                        }
                        accesskit_winit::WindowEvent::AccessibilityDeactivated => {
                            self.ctx.disable_accesskit()
                        }
                    }
                }
                self.request();
            }
        }
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let Some(opened) = &mut self.opened else {
            return;
        };
        if matches!(event, WindowEvent::RedrawRequested) {
            return self.redraw(event_loop);
        }
        let answer = opened.egui.on_window_event(&opened.window, &event);
        let is_input = matches!(
            event,
            WindowEvent::MouseInput { .. } | WindowEvent::MouseWheel { .. }
        ) || matches!(&event, WindowEvent::KeyboardInput { event, .. } if event.state == ElementState::Pressed);
        if is_input {
            self.input.get_or_insert_with(Instant::now);
        }
        if answer.repaint || matches!(event, WindowEvent::Resized(_)) {
            opened.window.request_redraw();
        }
        if matches!(event, WindowEvent::CloseRequested) {
            event_loop.exit();
        }
    }

    fn new_events(&mut self, _: &ActiveEventLoop, cause: StartCause) {
        if matches!(cause, StartCause::ResumeTimeReached { .. }) {
            self.due = None;
            self.request();
        }
    }

    fn about_to_wait(&mut self, event_loop: &ActiveEventLoop) {
        let now = Instant::now();
        match self.due {
            Some(at) if at <= now => {
                self.due = None;
                self.request();
                event_loop.set_control_flow(ControlFlow::Wait);
            }
            Some(at) => event_loop.set_control_flow(ControlFlow::WaitUntil(at)),
            None => event_loop.set_control_flow(ControlFlow::Wait),
        }
    }
}

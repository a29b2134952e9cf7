//! Films from text in the window: the rollout thread on a toy model, the box with the prompt, and pictures of it.

#![expect(clippy::unwrap_used, reason = "what fails here is the test's result")]

#[expect(dead_code, reason = "each test takes its part")]
mod support;
#[path = "../../tests/it/support/toy.rs"]
mod toy;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use egui::{Key, Modifiers, Theme};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use longtake::cache::Held;
use longtake::frame::Frame;
use longtake::gpu::{Device, Select, list_devices};
use longtake::store::{Decoding, Store};
use longtake_viewer::fault::Fault;
use longtake_viewer::job::{Job, Width, Widths};
use longtake_viewer::state::{Effect, Phase, State};
use longtake_viewer::text::{NO_COMPARISON, NO_WAY_BACK, TextJob, Told, Way};
use longtake_viewer::worker::{Command, Made, Message, Worker};
use longtake_viewer::{panels, tokens};

const CAT: &str = "A cat walks on the grass.";
const DOG: &str = "the dog sleeps in the snow";

/// A folder of its own with the toy model in `tiny/`, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("longtake-text-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        toy::write(&path.join("tiny"));
        Folder(path)
    }

    fn text(&self, prompt: &str) -> TextJob {
        let home = self.0.to_string_lossy().into_owned();
        // Everything that is kept lies in the folder.
        let var =
            |name: &str| (name == "HF_HOME" || name == "XDG_CACHE_HOME").then(|| home.clone());
        TextJob {
            model: self.0.join("tiny").to_string_lossy().into_owned(),
            prompt: prompt.to_owned(),
            store: Store::of(var, None, None),
            ..TextJob::default()
        }
    }

    /// A film of so many chunks: nine pictures, then twelve each.
    fn job(&self, prompt: &str, chunks: usize) -> Job {
        let mut job = Job {
            seed: 7,
            widths: Widths::both(Width::Exact),
            ..Job::default()
        };
        job.suit(self.text(prompt));
        job.most = 12 * chunks - 3;
        job
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

fn start() -> Option<(Worker, Receiver<Message>, Device)> {
    let select = Select::default();
    match Device::open(&select) {
        Ok(device) => {
            let started = Worker::start(device.clone(), select, None, Box::new(|| {}));
            let (worker, messages) = started.unwrap();
            Some((worker, messages, device))
        }
        Err(e) => {
            assert!(std::env::var_os("LONGTAKE_REQUIRE_GPU").is_none(), "{e}");
            eprintln!("SKIPPED: needs a device");
            None
        }
    }
}

/// What a film gave, message by message, until it ends.
#[derive(Default)]
struct Heard {
    frames: Vec<Frame>,
    chunks: Vec<(usize, usize)>,
    /// Made frames when a prompt was set, the frame that it is in force from, and what it says.
    set: Vec<(usize, String)>,
    in_force: Vec<(usize, u32, String)>,
    refused: Vec<Fault>,
    warnings: Vec<String>,
    is_lost: bool,
}

/// Hears until `ends` says so; `each` is called with what was heard after every chunk.
fn hear(messages: &Receiver<Message>, mut each: impl FnMut(&Made, &Heard)) -> Result<Heard, Fault> {
    let mut heard = Heard::default();
    loop {
        match messages.recv_timeout(Duration::from_secs(300)).unwrap() {
            Message::Made(made) => {
                heard.chunks.push((made.first, made.frames.len()));
                let s = made.split;
                assert!(
                    0.0 < s.denoise && 0.0 < s.decode && -1e-6 < s.other(),
                    "{s:?}"
                );
                each(&made, &heard);
                heard
                    .frames
                    .extend(made.frames.into_iter().map(|(f, ..)| f));
            }
            Message::Prompt(Told::Set { frame, prompt }) => heard.set.push((frame, prompt)),
            Message::Prompt(Told::InForce(m)) => {
                heard.in_force.push((m.frame, m.chunk, m.prompt));
            }
            Message::Prompt(Told::Refused(fault)) => heard.refused.push(*fault),
            Message::Warning(text) => heard.warnings.push(text),
            Message::Lost(_) => heard.is_lost = true,
            Message::Finished => return Ok(heard),
            Message::Fault(fault) => return Err(*fault),
            _ => {}
        }
    }
}

fn film(worker: &Worker, messages: &Receiver<Message>, job: Job) -> Result<Heard, Fault> {
    assert!(worker.send(Command::Start(job)));
    hear(messages, |_, _| {})
}

#[test]
fn another_prompt_changes_the_film_from_the_next_chunk_on_and_not_before() {
    let Some((worker, messages, _)) = start() else {
        return;
    };
    let folder = Folder::new();
    let plain = film(&worker, &messages, folder.job(CAT, 5)).unwrap();
    assert_eq!(
        plain.chunks,
        [(0, 9), (9, 12), (21, 12), (33, 12), (45, 12)]
    );
    assert_eq!(plain.in_force, [(0, 0, CAT.to_owned())]);

    assert!(worker.send(Command::Start(folder.job(CAT, 5))));
    let changed = hear(&messages, |_, heard| {
        if heard.chunks.len() == 1 {
            worker.send(Command::Prompt(DOG.to_owned()));
        }
    })
    .unwrap();
    let [(from, said)] = &changed.set[..] else {
        panic!("{:?}", changed.set)
    };
    assert_eq!(said, DOG);
    // A chunk or two were under way when it was applied.
    assert!((9..=33).contains(from), "{from}");
    assert_eq!(changed.in_force.len(), 2);
    let (frame, chunk, said) = &changed.in_force[1];
    assert_eq!((frame, said.as_str()), (from, DOG));
    assert_eq!(plain.frames[..*from], changed.frames[..*from]);
    let chunk_end = from + 12;
    let apart = |i: &usize| plain.frames[*i] != changed.frames[*i];
    assert!(
        (*from..chunk_end).all(|i| apart(&i)),
        "every frame of it is another"
    );

    // A list that says the same makes the same film, byte for byte.
    let mut listed = folder.job(CAT, 5);
    let list = serde_json::json!({ "prompts": [
        { "prompt": CAT }, { "chunk": chunk, "prompt": DOG },
    ]});
    listed.text.as_mut().unwrap().list = Some(list.to_string());
    let listed = film(&worker, &messages, listed).unwrap();
    assert!(listed.frames == changed.frames);
}

#[test]
fn bits_are_turned_in_a_film_from_text_and_older_spans_follow() {
    let Some((worker, messages, _)) = start() else {
        return;
    };
    let folder = Folder::new();
    let job = Job {
        widths: Widths::both(Width::Eight),
        ..folder.job(CAT, 8)
    };
    assert!(worker.send(Command::Start(job)));
    let (mut at_eight, mut held) = (Vec::new(), Vec::new());
    hear(&messages, |made, heard| {
        if heard.chunks.len() == 3 {
            worker.send(Command::Bits(Widths::both(Width::Two)));
        }
        let eight = made.held.iter().filter(|h| h.bits == Some([8, 8]));
        at_eight.extend(eight.map(|h| h.frames.clone()));
        held.clone_from(&made.held);
    })
    .unwrap();
    let narrowed = |h: &Held| at_eight.contains(&h.frames) && h.bits == Some([2, 2]);
    assert!(held.iter().any(narrowed), "packed again: {held:?}");
    let new = |h: &Held| !at_eight.contains(&h.frames) && h.bits == Some([2, 2]);
    assert!(held.iter().any(new), "coded anew: {held:?}");
}

#[test]
fn a_lost_device_is_opened_again_and_the_film_from_text_goes_on_as_it_was() {
    let Some((worker, messages, device)) = start() else {
        return;
    };
    let folder = Folder::new();
    let whole = film(&worker, &messages, folder.job(CAT, 6)).unwrap();
    assert!(worker.send(Command::Start(folder.job(CAT, 6))));
    let again = hear(&messages, |_, heard| {
        if heard.chunks.len() == 2 {
            device.lose();
        }
    })
    .unwrap();
    assert!(again.is_lost, "the loss is told");
    assert!(again.frames == whole.frames);
}

#[test]
fn what_is_wrong_with_a_prompt_is_told_and_the_film_goes_on() {
    let Some((worker, messages, _)) = start() else {
        return;
    };
    let folder = Folder::new();
    let plain = film(&worker, &messages, folder.job(CAT, 3)).unwrap();
    assert!(worker.send(Command::Start(folder.job(CAT, 3))));
    let refused = hear(&messages, |_, heard| {
        if heard.chunks.len() == 1 {
            worker.send(Command::Prompt(" \n".to_owned()));
            worker.send(Command::Prompt("a ".repeat(1 << 16)));
        }
    })
    .unwrap();
    let headlines: Vec<&str> = refused
        .refused
        .iter()
        .map(|f| f.headline.as_str())
        .collect();
    assert_eq!(
        headlines,
        ["The prompt is empty", "The prompt cannot be used"]
    );
    assert!(refused.refused[1].causes[1].contains("shorten it"));
    assert!(refused.frames == plain.frames, "the film is the one before");

    // 10,000 characters are more than the model reads: it says so and films what it read.
    let long = film(&worker, &messages, folder.job(&"cats ".repeat(2000), 1)).unwrap();
    assert_eq!(long.frames.len(), 9);
    assert!(
        long.warnings
            .iter()
            .any(|w| w.contains("too long for the model, which reads the first 16")),
        "{:?}",
        long.warnings
    );
}

#[test]
fn what_cannot_be_filmed_has_a_headline_a_cause_and_what_to_do() {
    let Some((worker, messages, _)) = start() else {
        return;
    };
    let folder = Folder::new();
    let tiny = folder.0.join("tiny");
    let refused = |job: Job| film(&worker, &messages, job).err().unwrap();
    let fault = refused(folder.job("  ", 1));
    assert_eq!(
        (fault.headline.as_str(), fault.code),
        ("The prompt is empty", 2)
    );
    assert!(!fault.advice.is_empty());

    for (file, says) in [
        ("generator.safetensors", "lacks generator.safetensors"),
        ("taehv.safetensors", "lacks taehv.safetensors"),
        ("text_encoder.safetensors", "lacks text_encoder.safetensors"),
        ("spiece.model", "lacks spiece.model"),
    ] {
        let aside = folder.0.join("aside");
        std::fs::rename(tiny.join(file), &aside).unwrap();
        let fault = refused(folder.job(CAT, 1));
        std::fs::rename(&aside, tiny.join(file)).unwrap();
        assert_eq!(
            (fault.headline.as_str(), fault.code),
            ("The model is not whole here", 4)
        );
        assert!(fault.causes[0].contains(says), "{fault:?}");
    }

    let mut nowhere = folder.job(CAT, 1);
    nowhere.text.as_mut().unwrap().model = "no-such-model".to_owned();
    let fault = refused(nowhere);
    assert_eq!(
        (fault.headline.as_str(), fault.code),
        ("Model not found", 4)
    );
    assert!(fault.causes[1].contains("self-forcing"), "{fault:?}");

    let mut published = folder.job(CAT, 1);
    published.text.as_mut().unwrap().model = "self-forcing".to_owned();
    let fault = refused(published);
    assert!(
        fault.causes[0].contains("longtake fetch self-forcing"),
        "{fault:?}"
    );

    let mut sized = folder.job(CAT, 1);
    sized.text.as_mut().unwrap().size = Some([50, 32]);
    let fault = refused(sized);
    assert!(fault.causes[0].contains("48 × 32 is near"), "{fault:?}");

    std::fs::write(tiny.join("taehv.safetensors"), "damaged").unwrap();
    let fault = refused(folder.job(CAT, 1));
    assert_eq!(fault.headline, "The model cannot be read");
    assert!(
        fault.causes.last().unwrap().contains("taehv.safetensors"),
        "{fault:?}"
    );

    // The worker lives on, with the other decoder.
    let mut wan = folder.job(CAT, 1);
    wan.text.as_mut().unwrap().decoder = Decoding::Wan;
    assert_eq!(film(&worker, &messages, wan).unwrap().frames.len(), 9);
}

fn harness(state: State, size: [f32; 2], theme: Theme, draws: bool) -> Harness<'static, State> {
    let mut builder = Harness::builder()
        .with_size(size)
        .with_theme(theme)
        .with_pixels_per_point(1.0)
        .with_context_setup(tokens::apply);
    if draws {
        builder = builder.wgpu();
    }
    let mut harness = builder.build_ui_state(|ui, s: &mut State| panels::show(ui, s, 0.0), state);
    harness.run_steps(3);
    harness
}

fn plain(state: State) -> Harness<'static, State> {
    harness(state, [1440.0, 900.0], Theme::Dark, false)
}

fn commands(h: &mut Harness<'static, State>) -> Vec<Command> {
    let effects = std::mem::take(&mut h.state_mut().effects);
    let command = |e| match e {
        Effect::Command(Command::Plan(_)) => None,
        Effect::Command(c) => Some(c),
        _ => None,
    };
    effects.into_iter().filter_map(command).collect()
}

fn press(h: &mut Harness<'static, State>, key: Key) {
    h.key_press(key);
    h.run_steps(2);
}

fn ctrl_enter(h: &mut Harness<'static, State>) {
    h.key_press_modifiers(Modifiers::CTRL, Key::Enter);
    h.run_steps(2);
}

/// Types into the prompt's box.
fn write(h: &mut Harness<'static, State>, text: &str) {
    h.get_by_label("Prompt").focus();
    h.run_steps(2);
    for c in text.chars() {
        h.event(egui::Event::Text(c.to_string()));
    }
    h.run_steps(2);
}

#[test]
fn keys_typed_in_the_box_neither_steer_nor_play() {
    let mut s = support::running(20);
    s.steer();
    s.job.suit(TextJob::default());
    let mut h = plain(s);
    h.get_by_label("Prompt").focus();
    h.run_steps(2);
    assert!(
        !h.state().steering,
        "the box takes the keyboard from the film"
    );
    let at = h.state().play.at;
    for key in [
        Key::W,
        Key::A,
        Key::Space,
        Key::P,
        Key::Num2,
        Key::Q,
        Key::ArrowLeft,
    ] {
        press(&mut h, key);
    }
    write(&mut h, "w");
    h.key_press_modifiers(Modifiers::CTRL, Key::Z);
    h.run_steps(2);
    let held = h.state().reins.held.load(Ordering::Relaxed);
    let tapped = h.state().reins.tapped.load(Ordering::Relaxed);
    assert_eq!((held, tapped), (0, 0));
    assert_eq!((h.state().play.at, h.state().pill()), (at, "live"));
    assert_eq!(h.state().film.made(), 20, "Ctrl Z is the text's own");
    assert!(
        h.state()
            .effects
            .iter()
            .all(|e| matches!(e, Effect::Command(Command::Plan(_))))
    );
}

#[test]
fn ctrl_enter_starts_a_film_and_then_changes_it() {
    let mut h = plain(support::text_empty());
    assert_eq!(
        h.state().way(),
        Way::No("the prompt is empty; write what the film shows".into())
    );
    ctrl_enter(&mut h);
    assert!(commands(&mut h).is_empty() && h.state().note.warns);
    write(&mut h, "a fox");
    ctrl_enter(&mut h);
    let sent = commands(&mut h);
    let [Command::Start(job)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(job.text.as_ref().unwrap().prompt, "a fox");

    let mut h = plain(support::text_running(3));
    assert_eq!(h.state().way(), Way::No("this prompt is in force".into()));
    write(&mut h, " at night");
    ctrl_enter(&mut h);
    let sent = commands(&mut h);
    let [Command::Prompt(prompt)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert!(prompt.contains(" at night"), "{prompt}");
    h.state_mut().hear(Message::Prompt(Told::Encoding));
    h.run_steps(2);
    assert!(matches!(h.state().way(), Way::No(why) if why.contains("being encoded")));
    let prompt = prompt.clone();
    h.state_mut()
        .hear(Message::Prompt(Told::Set { frame: 33, prompt }));
    h.run_steps(2);
    assert_eq!(h.state().way(), Way::No("this prompt is in force".into()));
}

#[test]
fn what_cannot_be_done_in_a_film_from_text_says_why() {
    let mut h = plain(support::text_running(3));
    h.key_press_modifiers(Modifiers::CTRL, Key::Z);
    h.run_steps(2);
    assert_eq!(h.state().note.text, NO_WAY_BACK);
    press(&mut h, Key::C);
    assert_eq!(h.state().note.text, NO_COMPARISON);
    press(&mut h, Key::Enter);
    assert!(h.state().note.text.contains("no camera") && !h.state().steering);
    assert!(commands(&mut h).is_empty());
    assert_eq!(
        (h.state().film.made(), h.state().phase.clone()),
        (33, Phase::Making)
    );
    h.get_by_label("Undo frame").hover();
    h.run_steps(40);
    assert!(h.query_by_label(NO_WAY_BACK).is_some());
}

#[test]
fn prompts_are_marked_saved_and_made_again() {
    let mut s = support::text_running(3);
    let marks: Vec<usize> = s.text.marks.iter().map(|m| m.frame).collect();
    assert_eq!(marks, [0, 21]);
    // The picture of the timeline is as long as the pictures, not as the latent frames.
    assert_eq!((s.film.shots.len(), s.film.slots.len()), (33, 33));
    s.save_path();
    let [Effect::Save { name, bytes }] = &s.effects[..] else {
        panic!("{:?}", s.effects)
    };
    assert!(name.ends_with(".prompts.json"), "{name}");
    let list: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    assert_eq!(list["prompts"][1]["chunk"], 2);
    assert_eq!(list["prompts"][1]["prompt"], support::SECOND);
    let recipe = serde_json::to_value(s.recipe()).unwrap();
    assert!(recipe.to_string().contains(support::SECOND), "{recipe}");
    s.effects.clear();
    s.again();
    let [Effect::Command(Command::Start(job))] = &s.effects[..] else {
        panic!("{:?}", s.effects)
    };
    let list = job.text.as_ref().unwrap().list.as_ref().unwrap();
    assert!(list.contains(support::SECOND), "{list}");
    let h = plain(support::text_running(3));
    assert!(
        h.query_by_label(&format!("Prompt from frame 21: {}", support::SECOND))
            .is_some()
    );
}

#[test]
fn a_model_is_chosen_by_its_name_and_left_again() {
    let folder = Folder::new();
    let mut s = support::text_empty();
    s.choose_model(None);
    assert!(s.job.text.is_none());
    let usual = Job::default();
    assert_eq!(
        (s.job.window, s.job.sink, s.job.most),
        (usual.window, usual.sink, usual.most)
    );
    s.choose_model(Some("longlive"));
    let text = s.job.text.as_ref().unwrap();
    assert_eq!(text.model, "longlive");
    assert!(s.job.window > 0, "a preset's own window");
    let path = folder.0.join("tiny").to_string_lossy().into_owned();
    s.choose_model(Some(&path));
    assert_eq!((s.job.window, s.job.span, s.job.most), (0, 3, 81));
    s.choose_model(Some("some/demo"));
    assert!(s.job.text.is_none() && s.job.model == Some(PathBuf::from("some/demo")));
}

fn picture(name: &str, state: State, size: [f32; 2], theme: Theme) {
    if list_devices().is_empty() {
        assert!(
            std::env::var_os("LONGTAKE_REQUIRE_GPU").is_none(),
            "no adapter to draw on"
        );
        eprintln!("SKIPPED: needs an adapter");
        return;
    }
    let options = egui_kittest::SnapshotOptions::new().threshold(1.5);
    harness(state, size, theme, true).snapshot_options(name, &options);
}

#[test]
fn picture_of_the_first_screen_of_a_film_from_text() {
    let mut s = support::text_empty();
    s.show.settings = true;
    if let Some(text) = &mut s.job.text {
        text.prompt = support::FIRST.to_owned();
    }
    picture("text-first-dark", s, [1280.0, 800.0], Theme::Dark);
}

#[test]
fn picture_of_a_running_film_from_text() {
    let mut s = support::text_running(5);
    s.show.settings = true;
    picture("text-running-dark", s, [1600.0, 1000.0], Theme::Dark);
}

#[test]
fn picture_of_a_model_that_is_not_whole() {
    let mut s = support::text_empty();
    let fault = Fault {
        causes: vec![
            "self-forcing is not whole here, it lacks generator (self_forcing_dmd.pt), tokenizer (spiece.model); run: longtake fetch self-forcing".to_owned(),
        ],
        advice: "Run longtake fetch with the model's name in a terminal, then start again.".to_owned(),
        code: 4,
        ..Fault::plain("The model is not whole here")
    };
    s.hear(Message::Planned(Box::new(Err(fault.clone()))));
    s.hear(Message::Fault(Box::new(fault)));
    picture("text-missing-light", s, [1024.0, 640.0], Theme::Light);
}

#[test]
fn every_frame_of_a_chunk_is_shown_at_the_films_rate() {
    let mut s = support::text_running(1);
    let mut shown = Vec::new();
    s.play.at = 0;
    for _ in 0..9 {
        shown.push(s.play.at);
        s.play.tick(1.0 / 16.0, s.film.shots.len(), 16.0);
    }
    assert_eq!(shown, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
}

//! The keyboard: what each key does, in one table for `?` and one function that reads them.

use egui::{Context, Event, Key, Modifiers};

use crate::job::{Width, Widths};
use crate::state::{Effect, Phase, State};

/// Keys and what they do, as `?` shows them.
pub const TABLE: [(&str, &str); 33] = [
    ("Enter", "walk, then steer; on an error its way on"),
    ("W A S D", "steer: forward, left, back, right"),
    (
        "Left Right",
        "turn while steering; else 1 s, with Shift 5 s",
    ),
    ("drag", "turn the camera while steering"),
    ("Esc", "leave steering, close what is open"),
    ("Space", "play or pause the view; making goes on"),
    (". ,", "a frame forward, back"),
    ("Home End", "to the start, to the live edge"),
    ("[ ]", "slower, faster"),
    ("Backspace", "the film's own speed"),
    ("L", "mark A, mark B, no marks"),
    ("Shift L", "repeat all"),
    ("1 8 4 3 2", "exact, 8, 4, 3, 2 bits for new spans"),
    ("Ctrl Z", "undo a frame, and go on from there"),
    ("G", "go on from the shown frame; what follows is kept"),
    ("Ctrl Shift Z", "redo: the way that was left, once more"),
    ("B", "a take that was left beside the film; the next; none"),
    ("C", "compare with the same film in 16 bit, or no more"),
    ("X", "swap the two"),
    ("wheel", "look closer at the film or the timeline"),
    ("+ -", "look closer at the film, less closely"),
    ("P", "stop making, go on making"),
    ("S", "save the frame as PNG"),
    ("Ctrl S", "save the film as MP4"),
    ("Shift S", "save the way as a camera file, or the prompts"),
    ("R", "the same film again: same seed"),
    ("Ctrl N", "a new film by the settings"),
    ("Ctrl Enter", "a film from text: apply the prompt"),
    ("F2", "settings"),
    ("I", "statistics"),
    ("H", "hide the panels"),
    ("F", "full screen"),
    ("Q", "quit"),
];

/// Keys that steer, by the worker's order of actions.
const STEER: [(Key, usize); 8] = [
    (Key::W, 0),
    (Key::ArrowUp, 0),
    (Key::S, 1),
    (Key::ArrowDown, 1),
    (Key::A, 2),
    (Key::D, 3),
    (Key::ArrowLeft, 4),
    (Key::ArrowRight, 5),
];

/// Reads what was pressed since the last pass.
pub fn read(ctx: &Context, s: &mut State) {
    let typing = ctx.text_edit_focused();
    let on_film = let_go(ctx, s, typing);
    let (events, has_window) = ctx.input(|i| (i.events.clone(), i.focused));
    if !has_window && s.steering {
        s.reins.release();
    }
    for event in events {
        let Event::Key {
            key,
            pressed,
            modifiers,
            ..
        } = event
        else {
            continue;
        };
        if s.steering && !modifiers.ctrl && !modifiers.alt && !modifiers.command {
            if let Some((_, action)) = STEER.iter().find(|(k, _)| *k == key) {
                s.reins.key(*action, pressed);
                continue;
            }
            if pressed && matches!(key, Key::Escape | Key::Tab) {
                s.leave();
                continue;
            }
        }
        if pressed && !typing {
            plain(ctx, s, key, modifiers, on_film);
        }
        // A text field undoes its own changes.
        if pressed && !(typing && key == Key::Z) {
            with_modifier(s, key, modifiers);
        }
    }
}

/// Takes the keyboard from a control that was only pointed at; whether the film has it.
///
/// Who tabs to a control wants its keys to go there: Space presses it, arrows move it. Who points at one has used it by then,
/// and goes on with the film's keys. A text field keeps what is typed either way.
fn let_go(ctx: &Context, s: &mut State, typing: bool) -> bool {
    let film = crate::panels::film::id();
    let held = ctx.memory(|m| m.focused()).filter(|id| *id != film);
    // A number that is clicked becomes a text field in the pass after, so it is looked at one pass later.
    let points = ctx.input(|i| i.pointer.any_pressed() || i.pointer.any_released());
    let pointed = std::mem::replace(&mut s.pointed, points);
    match held {
        Some(id) if pointed && !typing => {
            ctx.memory_mut(|m| m.surrender_focus(id));
            true
        }
        held => held.is_none(),
    }
}

/// Keys that act unless a text field or steering has them.
fn plain(ctx: &Context, s: &mut State, key: Key, m: Modifiers, on_film: bool) {
    if m.ctrl || m.alt || m.command {
        return;
    }
    let n = s.len();
    let second = f64::from(s.film.fps.max(1)).round() as isize;
    let jump = if m.shift { 5 * second } else { second };
    match key {
        // A focused button takes Enter and Space itself.
        Key::Enter if on_film => match s.phase {
            Phase::Empty if s.job.text.is_some() => s.apply(),
            Phase::Empty => s.enter(),
            Phase::Failed(_) => s.way_on(),
            _ => s.steer(),
        },
        Key::Space if on_film => s.play.toggle(n, s.grows()),
        Key::Escape => escape(s),
        Key::Period => s.play.step(1, n),
        Key::Comma => s.play.step(-1, n),
        Key::ArrowRight if on_film => s.play.step(jump, n),
        Key::ArrowLeft if on_film => s.play.step(-jump, n),
        Key::Home => s.play.seek(0, n),
        Key::End => s.play.live(n),
        Key::OpenBracket => s.play.faster(-0.1),
        Key::CloseBracket => s.play.faster(0.1),
        Key::Backspace => s.play.speed = 1.0,
        Key::L if m.shift => s.play.repeat_all(),
        Key::L => s.play.mark(),
        Key::P => s.stop_or_go(),
        Key::B => s.next_beside(),
        Key::C => s.toggle_compare(),
        Key::X => crate::panels::compare::swap(s),
        Key::G => s.go_on_from_here(),
        Key::Plus | Key::Equals => s.look_closer(1.25),
        Key::Minus => s.look_closer(0.8),
        Key::S if m.shift => s.save_path(),
        Key::S => s.save_frame(),
        Key::R if s.phase != Phase::Empty => s.again(),
        Key::F2 => s.show.settings = !s.show.settings,
        Key::I => s.show.statistics = !s.show.statistics,
        Key::Questionmark => s.show.keys = !s.show.keys,
        Key::Slash if m.shift => s.show.keys = !s.show.keys,
        Key::H => s.show.panels = !s.show.panels,
        Key::F => fullscreen(s, !s.show.fullscreen),
        Key::Q => s.effects.push(Effect::Quit),
        _ => bits(s, key),
    }
    ctx.request_repaint();
}

/// Keys that act wherever the keyboard is.
fn with_modifier(s: &mut State, key: Key, m: Modifiers) {
    if m.alt {
        bits(s, key);
    }
    if !(m.ctrl || m.command) {
        return;
    }
    match key {
        Key::Z if m.shift => s.redo(),
        Key::Z => s.undo(),
        Key::S => s.save_film(),
        Key::N => s.start(),
        _ => {}
    }
}

fn bits(s: &mut State, key: Key) {
    let width = match key {
        Key::Num1 => Width::Exact,
        Key::Num8 => Width::Eight,
        Key::Num4 => Width::Four,
        Key::Num3 => Width::Three,
        Key::Num2 => Width::Two,
        _ => return,
    };
    s.set_bits(Widths::both(width));
}

fn escape(s: &mut State) {
    if s.show.keys {
        s.show.keys = false;
    } else if s.show.fullscreen {
        fullscreen(s, false);
    } else if s.show.statistics {
        s.show.statistics = false;
    }
}

/// Fills the screen, or no more.
pub fn fullscreen(s: &mut State, on: bool) {
    s.show.fullscreen = on;
    s.effects.push(Effect::Fullscreen(on));
}

//! Films from text: the box with the prompt, its marks on the timeline, the first screen, and what the side pane has for them.

use egui::{
    Align, ComboBox, DragValue, Event as Input, Id, Key, Layout, Rect, RichText, Role, ScrollArea,
    Sense, Shape, Stroke, TextEdit, TextStyle, Ui, UiBuilder, WidgetInfo, pos2, vec2,
};
use longtake::model::preset::Preset;
use longtake::rollout::event::Event;
use longtake::store::Decoding;

use super::settings::line;
use crate::say;
use crate::state::{Phase, State};
use crate::text::{Mark, Way, lacks};
use crate::tokens;
use crate::widgets::{Icon, Press, title};

/// Height of the box's panel.
pub const HEIGHT: f32 = 92.0;
/// Width of what stands beside the box.
const SIDE: f32 = 260.0;
/// Characters of a prompt that a tooltip shows.
const MOST_SHOWN: usize = 600;

/// The box's widget.
pub fn id() -> Id {
    Id::unique("prompt box")
}

/// The next film, or the one at hand, is one from text.
pub fn is_shown(s: &State) -> bool {
    s.job.text.is_some()
}

/// Shows the box and the button that applies it.
pub fn show(ui: &mut Ui, s: &mut State) {
    let Some(text) = &s.job.text else { return };
    let before = text.first();
    let mut prompt = before.clone();
    let hint = match &text.embeddings {
        Some(path) => format!("the prompt that {} was made of", path.display()),
        None => "What the film shows".to_owned(),
    };
    ui.add_space(8.0);
    let high = HEIGHT - 16.0;
    let mut applies = false;
    ui.horizontal_top(|ui| {
        let wide = (ui.available_width() - SIDE).max(160.0);
        let place = vec2(wide, high);
        ui.allocate_ui_with_layout(place, Layout::top_down(Align::LEFT), |ui| {
            ScrollArea::vertical()
                .id_salt("prompt")
                .max_height(high)
                .auto_shrink([false, false])
                .show(ui, |ui| {
                    let edit = TextEdit::multiline(&mut prompt)
                        .id(id())
                        .hint_text(hint)
                        .desired_width(f32::INFINITY)
                        .desired_rows(4);
                    let response = ui.add(edit).accessible_name("Prompt");
                    if response.has_focus() && s.steering {
                        s.leave();
                    }
                });
        });
        if prompt != before
            && let Some(text) = &mut s.job.text
        {
            text.prompt = prompt;
            // What is typed takes the place of what was given otherwise.
            (text.list, text.embeddings) = (None, None);
        }
        ui.vertical(|ui| applies = side(ui, s));
    });
    applies |= takes_ctrl_enter(ui);
    if applies {
        s.apply();
    }
}

/// Whether Ctrl Enter was pressed; nothing else hears of it then.
fn takes_ctrl_enter(ui: &Ui) -> bool {
    let is_it = |e: &Input| {
        matches!(e, Input::Key { key: Key::Enter, pressed: true, modifiers, .. }
            if modifiers.ctrl || modifiers.command)
    };
    ui.input_mut(|i| {
        let n = i.events.len();
        i.events.retain(|e| !is_it(e));
        i.events.len() < n
    })
}

/// The button and a line on what it does, or why it does nothing; whether it was pressed.
fn side(ui: &mut Ui, s: &State) -> bool {
    let t = tokens::of(ui);
    let way = s.way();
    let runs = s.is_text() && matches!(s.phase, Phase::Making | Phase::Stopped);
    let word = match (&way, runs) {
        (Way::Change, _) | (Way::No(_), true) => "Change the prompt",
        _ => "Start film",
    };
    let press = Press {
        enabled: !matches!(way, Way::No(_)),
        primary: true,
        ..Press::word(word).key("Ctrl Enter")
    };
    let mut response = press.show(ui);
    if let Way::No(why) = &way {
        response = response.on_hover_text(why);
    }
    let (note, ink) = match (&way, &s.text.refused, &s.text.pending) {
        (_, Some(fault), _) => (
            fault.causes.last().unwrap_or(&fault.headline).clone(),
            t.error,
        ),
        _ if s.text.encoding => ("encoding the prompt".to_owned(), t.weak),
        (Way::No(why), _, Some((frame, _))) if why.contains("in force") => {
            (format!("from frame {frame} on"), t.weak)
        }
        (Way::No(why), ..) => (why.clone(), t.weak),
        (Way::Change, ..) => ("from the next chunk on".to_owned(), t.weak),
        (Way::Start, ..) => {
            let n = s
                .job
                .text
                .as_ref()
                .map_or(0, |text| text.first().chars().count());
            (say::n(n, "character"), t.weak)
        }
    };
    ui.add_space(2.0);
    let label = egui::Label::new(RichText::new(&note).small().color(ink)).truncate();
    ui.add(label).on_hover_text(note);
    response.clicked()
}

/// Where prompts begin, over the timeline; a click goes there.
pub fn marks(ui: &mut Ui, s: &mut State, x: impl Fn(f32) -> f32, well: Rect, row: Option<Rect>) {
    if !s.is_text() {
        return;
    }
    let t = tokens::of(ui);
    let pending = s.text.pending.clone().map(|(frame, prompt)| Mark {
        frame,
        chunk: u32::MAX,
        prompt,
    });
    let all: Vec<Mark> = s.text.marks.iter().cloned().chain(pending).collect();
    let font = TextStyle::Small.resolve(ui.style());
    let mut seek = None;
    for (i, mark) in all.iter().enumerate() {
        let at = x(mark.frame as f32).round();
        let end = all.get(i + 1).map_or(well.right(), |m| x(m.frame as f32));
        if at < well.left() - 1.0 || well.right() < at {
            continue;
        }
        let waits = mark.chunk == u32::MAX;
        let ink = if waits { t.weak } else { t.accent };
        let foot = row.map_or(well.bottom() + 3.0, |row| row.bottom());
        let p = ui.painter();
        p.vline(at, well.top()..=foot, Stroke::new(1.5, ink));
        let top = pos2(at, well.bottom() + 1.0);
        let flag = [vec2(0.0, 0.0), vec2(8.0, 4.0), vec2(0.0, 8.0)].map(|v| top + v);
        p.add(Shape::convex_polygon(flag.to_vec(), ink, Stroke::NONE));
        let mut place = Rect::from_min_size(top, vec2(12.0, 12.0));
        if let Some(row) = row {
            // A little above the row's own place: letters that reach down would be cut at the panel's edge.
            let words_top = row.top() - 3.0;
            let room =
                Rect::from_x_y_ranges(at..=(end - 4.0).max(at + 8.0), words_top..=row.bottom());
            let words = mark.prompt.replace('\n', " ");
            let galley = p.layout_no_wrap(words, font.clone(), t.weak);
            let clipped = p.with_clip_rect(room);
            clipped.galley(pos2(at + 5.0, words_top), galley, t.weak);
            place = place.union(room);
        }
        let response = ui.interact(place, Id::unique(("prompt mark", i)), Sense::click());
        let label = format!("Prompt from frame {}: {}", mark.frame, mark.short());
        response.widget_info(|| WidgetInfo::labeled(Role::Button, true, &label));
        crate::widgets::focus_ring(ui, &response, place, t);
        let shown: String = mark.prompt.chars().take(MOST_SHOWN).collect();
        let tip = match waits {
            true => format!("from frame {} on:\n{shown}", mark.frame),
            false => format!("frame {}:\n{shown}", mark.frame),
        };
        if response.on_hover_text(tip).clicked() && !waits {
            seek = Some(mark.frame);
        }
    }
    if let Some(frame) = seek {
        s.play.seek(frame, s.len());
    }
}

/// The model of the next film: the built-in world, published ones, or what is typed.
pub fn model(ui: &mut Ui, s: &mut State) {
    const OWN: &str = "a folder";
    let name = s.job.text.as_ref().map(|text| text.model.clone());
    let preset = name.as_deref().and_then(Preset::named);
    let typed = match (&name, &s.job.model) {
        (Some(name), _) if preset.is_none() => Some(name.clone()),
        (None, Some(folder)) => Some(folder.display().to_string()),
        _ => None,
    };
    let shown = match (preset, &typed) {
        (Some(preset), _) => preset.name.as_str(),
        (None, Some(_)) => OWN,
        (None, None) => "rooms (built in)",
    };
    let mut chosen: Option<Option<String>> = None;
    line(ui, "Model", |ui| {
        ComboBox::from_id_salt("model")
            .width(140.0)
            .truncate()
            .selected_text(shown)
            .show_ui(ui, |ui| {
                let is_rooms = preset.is_none() && typed.is_none();
                if ui.selectable_label(is_rooms, "rooms (built in)").clicked() {
                    chosen = Some(None);
                }
                for p in Preset::all() {
                    offer(ui, s, p, preset == Some(p), &mut chosen);
                }
                if ui.selectable_label(typed.is_some(), OWN).clicked() {
                    chosen = Some(Some(s.text.path.clone()));
                }
            })
            .response
            .accessible_name("Model");
    });
    if let Some(typed) = typed {
        let mut path = typed.clone();
        let edit = TextEdit::singleline(&mut path)
            .hint_text("a folder with config.json, or a file of weights");
        ui.add_sized([232.0, 24.0], edit)
            .accessible_name("Folder of the model");
        if path != typed {
            s.text.path.clone_from(&path);
            chosen = Some(Some(path));
        }
    }
    if let Some(name) = chosen {
        s.choose_model(name.as_deref());
    }
}

/// A published model in the list: one that is not here says how to get it.
fn offer(
    ui: &mut Ui,
    s: &State,
    preset: &'static Preset,
    is_chosen: bool,
    chosen: &mut Option<Option<String>>,
) {
    let decoder = s
        .job
        .text
        .as_ref()
        .map_or(Decoding::Taehv, |text| text.decoder);
    let missing = lacks(preset, s.text.store.as_ref(), decoder);
    let label = match &missing {
        None => preset.name.clone(),
        Some(_) => format!("{}: longtake fetch {0}", preset.name),
    };
    let row = ui.selectable_label(is_chosen, label);
    let row = row.on_hover_text(match &missing {
        None => preset.about.clone(),
        Some(why) => format!("{}\n{why}", preset.about),
    });
    if row.clicked() {
        *chosen = Some(Some(preset.name.clone()));
    }
}

/// What a film from text has in place of a world.
pub fn rows(ui: &mut Ui, s: &mut State) {
    let planned = match &s.plan {
        Some(Ok(Event::Plan { width, height, .. })) => [*width, *height],
        _ => [832, 480],
    };
    let Some(text) = &mut s.job.text else { return };
    line(ui, "Picture", |ui| {
        let mut own = text.size.is_some();
        ComboBox::from_id_salt("picture")
            .width(140.0)
            .selected_text(if own {
                "a size of its own"
            } else {
                "the model's size"
            })
            .show_ui(ui, |ui| {
                ui.selectable_value(&mut own, false, "the model's size");
                ui.selectable_value(&mut own, true, "a size of its own");
            })
            .response
            .accessible_name("Picture size");
        text.size = own.then(|| text.size.unwrap_or(planned));
    });
    if let Some([w, h]) = &mut text.size {
        line(ui, "", |ui| {
            let side = |v| DragValue::new(v).range(16..=4096).speed(16.0);
            ui.add_sized([62.0, 24.0], side(w)).accessible_name("Width");
            ui.label("×");
            ui.add_sized([62.0, 24.0], side(h))
                .accessible_name("Height");
        });
    }
    line(ui, "Decoder", |ui| {
        ComboBox::from_id_salt("decoder")
            .width(140.0)
            .selected_text(text.decoder.name())
            .show_ui(ui, |ui| {
                for decoder in [Decoding::Taehv, Decoding::Wan] {
                    ui.selectable_value(&mut text.decoder, decoder, decoder.name());
                }
            })
            .response
            .accessible_name("Decoder");
    });
}

/// The film's prompts, and how to make it again.
pub fn so_far(ui: &mut Ui, s: &mut State) {
    let t = tokens::of(ui);
    title(ui, "Prompts so far", &say::n(s.text.marks.len(), "prompt"));
    egui::Frame::new()
        .fill(t.control[0])
        .corner_radius(4.0)
        .inner_margin(8.0)
        .show(ui, |ui| {
            ui.set_min_size(vec2(ui.available_width(), 40.0));
            let newest = s.text.marks.len().saturating_sub(5);
            for mark in &s.text.marks[newest..] {
                let text = format!("{}: {}", mark.frame, mark.short());
                ui.label(RichText::new(text).size(11.0).color(t.text));
            }
        });
    ui.horizontal(|ui| {
        let save = Press {
            enabled: !s.text.marks.is_empty(),
            ..Press::word("Save prompts")
        };
        let tip = "A file for `longtake generate --prompts`: each prompt with its chunk";
        if save.show(ui).on_hover_text(tip).clicked() {
            s.save_prompts();
        }
        if Press::word("Copy command").show(ui).clicked() {
            ui.ctx().copy_text(s.same().command(""));
        }
    });
}

/// The first screen of a film from text: what it will be, and the way to start it.
pub fn first(ui: &mut Ui, s: &mut State) {
    let area = ui.max_rect();
    let size = vec2(
        520.0f32.min(area.width() - 24.0),
        236.0f32.min(area.height() - 24.0),
    );
    let rect = Rect::from_center_size(area.center(), size).round();
    ui.painter().rect_filled(rect, 8.0, tokens::OVER_FILM);
    let mut card = ui.new_child(
        UiBuilder::new()
            .max_rect(rect.shrink2(vec2(32.0, 24.0)))
            .layout(Layout::top_down(Align::Center)),
    );
    let ui = &mut card;
    ui.label(
        RichText::new("A film from text")
            .text_style(tokens::display())
            .color(tokens::OVER_TEXT),
    );
    ui.add_space(8.0);
    let name = s.job.text.as_ref().map(|text| text.model.clone());
    let lines = match &s.plan {
        Some(Ok(Event::Plan {
            model,
            frames,
            width,
            height,
            fps,
            planned,
            ..
        })) => [
            format!("{model}: {frames} frames of {width} × {height} at {fps} a second"),
            format!(
                "{} of device memory at {}",
                say::bytes(planned.peak_device_bytes),
                s.job.widths.name()
            ),
        ],
        Some(Err(fault)) => [
            format!("{}: {}", name.unwrap_or_default(), fault.headline),
            fault.causes.first().cloned().unwrap_or_default(),
        ],
        _ => [name.unwrap_or_default(), "planning".to_owned()],
    };
    for text in lines {
        let label = RichText::new(&text).size(13.0).color(tokens::OVER_TEXT);
        ui.add(egui::Label::new(label).truncate())
            .on_hover_text(text);
    }
    ui.add_space(12.0);
    let way = s.way();
    let start = Press {
        icon: Some(Icon::Play),
        primary: true,
        enabled: way == Way::Start,
        ..Press::word("Start film").key("Ctrl Enter")
    };
    let mut response = start.show(ui);
    if let Way::No(why) = &way {
        response = response.on_hover_text(why);
    }
    if response.clicked() {
        s.apply();
    }
    ui.add_space(10.0);
    let foot = "The prompt stands in the box below. It can be changed while the film is made.";
    ui.label(RichText::new(foot).small().color(tokens::OVER_WEAK));
}

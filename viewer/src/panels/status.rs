//! The foot of the window: what happened last, and the keys that matter now.

use egui::{Align, Layout, RichText, Ui};

use crate::state::{Phase, State};
use crate::tokens;
use crate::widgets::hint;

/// Shows it.
pub fn show(ui: &mut Ui, s: &State, narrow: bool) {
    let t = tokens::of(ui);
    ui.horizontal_centered(|ui| {
        let text = match (s.note.text.is_empty(), &s.phase) {
            (false, _) => s.note.text.clone(),
            (true, Phase::Empty) => format!("ready · longtake {}", env!("CARGO_PKG_VERSION")),
            _ => String::new(),
        };
        let ink = if s.note.warns { t.warn } else { t.weak };
        let room = ui.available_width() * if narrow { 0.5 } else { 0.6 };
        ui.allocate_ui_with_layout(
            egui::vec2(room, 24.0),
            Layout::left_to_right(Align::Center),
            |ui| {
                ui.add(egui::Label::new(RichText::new(text).small().color(ink)).truncate());
            },
        );
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let lacks = matches!(&s.plan, Some(Err(_)));
            let hints: &[(&str, &str)] = match (s.phase == Phase::Empty, narrow) {
                (true, _) if s.job.text.is_some() => &[
                    ("?", "all keys"),
                    ("F2", "settings"),
                    ("Ctrl Enter", "start the film"),
                ],
                (false, _) if s.is_text() || s.is_empty() && s.job.text.is_some() => &[
                    ("?", "all keys"),
                    ("I", "statistics"),
                    ("Ctrl Enter", "apply the prompt"),
                    ("Space", "play"),
                ],
                (true, _) if lacks => &[("?", "all keys"), ("F2", "settings")],
                (true, _) => &[("?", "all keys"), ("F2", "settings"), ("Enter", "walk")],
                (false, true) => &[("?", "all keys"), ("Enter", "steer"), ("Space", "play")],
                (false, false) => &[
                    ("?", "all keys"),
                    ("I", "statistics"),
                    ("Ctrl Z", "undo"),
                    ("Enter", "steer"),
                    ("Space", "play"),
                ],
            };
            // The layout runs from the right, so the last hint comes first.
            hints.iter().for_each(|(keys, does)| hint(ui, keys, does));
        });
    });
}

//! The foot of the window: what happened last, and the keys that matter now.

use egui::{Align, Layout, RichText, Ui};

use crate::state::{Phase, State};
use crate::text::Way;
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
            let mut hints = vec![("?", "all keys")];
            let prompt = match s.way() {
                Way::Start => Some("start the film"),
                Way::Change => Some("apply the prompt"),
                Way::No(_) => None,
            };
            let is_empty = s.phase == Phase::Empty;
            if is_empty {
                hints.push(("F2", "settings"));
            } else if !narrow {
                hints.push(("I", "statistics"));
                if s.can_undo() {
                    hints.push(("Ctrl Z", "undo"));
                }
            }
            // Of two keys that do the same, the one that always does it.
            match (prompt, s.enters()) {
                (Some(does), enters) if enters.is_none() || is_empty => {
                    hints.push(("Ctrl Enter", does));
                }
                (_, Some(does)) => hints.push(("Enter", does)),
                _ => {}
            }
            if !s.is_empty() {
                hints.push(("Space", "play"));
            }
            // The layout runs from the right, so the last hint comes first.
            hints
                .into_iter()
                .for_each(|(keys, does)| hint(ui, keys, does));
        });
    });
}

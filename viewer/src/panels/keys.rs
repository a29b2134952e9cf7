//! All keys, over everything.

use egui::{Context, RichText};

use crate::keys::TABLE;
use crate::state::State;
use crate::tokens;
use crate::widgets::keycap;

/// Shows the list.
pub fn show(ctx: &Context, s: &mut State) {
    let mut open = true;
    egui::Window::new("Keys")
        .open(&mut open)
        .collapsible(false)
        .resizable(false)
        .anchor(egui::Align2::CENTER_CENTER, [0.0, 0.0])
        .show(ctx, |ui| {
            let t = tokens::of(ui);
            ui.horizontal_top(|ui| {
                for (i, half) in TABLE.chunks(TABLE.len().div_ceil(2)).enumerate() {
                    egui::Grid::new(("keys", i))
                        .spacing([16.0, 6.0])
                        .min_col_width(110.0)
                        .show(ui, |ui| {
                            for (keys, does) in half {
                                ui.horizontal(|ui| {
                                    for key in keys.split(' ') {
                                        keycap(ui, key, t.text, None);
                                    }
                                });
                                ui.label(RichText::new(*does).color(t.text));
                                ui.end_row();
                            }
                        });
                    if i == 0 {
                        ui.add_space(24.0);
                    }
                }
            });
        });
    s.show.keys &= open;
}

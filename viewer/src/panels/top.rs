//! The top bar: what is running and where; the buttons that open panes.

use egui::{
    Align, Align2, Layout, RichText, Role, Sense, Shape, Stroke, TextStyle, Ui, WidgetInfo, pos2,
    vec2,
};

use crate::keys;
use crate::state::{Phase, State};
use crate::tokens;
use crate::widgets::{Icon, Press};

/// Shows it.
pub fn show(ui: &mut Ui, s: &mut State, narrow: bool) {
    let t = tokens::of(ui);
    ui.horizontal_centered(|ui| {
        ui.label(RichText::new("longtake").heading().color(t.strong));
        pill(ui, s);
        if !s.film.name.is_empty() && s.phase != Phase::Empty {
            ui.label(RichText::new(&s.film.name).color(t.strong));
            let weak = |text: String| RichText::new(text).color(t.weak);
            ui.label(weak(format!("seed {}", s.film.job.seed)));
            if !narrow {
                let [w, h] = s.film.size;
                ui.label(weak(format!("· {w} × {h}, {} fps", s.film.fps)));
            }
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let press = |p: Press<'static>, bare: bool| Press { bare, ..p };
            if Press::word("?")
                .show(ui)
                .on_hover_text("All keys [?]")
                .clicked()
            {
                s.show.keys = !s.show.keys;
            }
            let full = Press::icon("Full screen", Icon::Screen).key("F");
            if full.show(ui).clicked() {
                keys::fullscreen(s, true);
            }
            let camera = Press {
                enabled: !s.is_empty(),
                ..Press::icon("Save this frame", Icon::Camera).key("S")
            };
            if camera.show(ui).clicked() {
                s.save_frame();
            }
            let settings = Press {
                icon: Some(Icon::Settings),
                on: s.show.settings,
                ..press(Press::word("Settings").key("F2"), narrow)
            };
            if settings.show(ui).clicked() {
                s.show.settings = !s.show.settings;
            }
            let compare = Press {
                icon: Some(Icon::Compare),
                on: s.versus.is_some(),
                enabled: s.film.made() > 0 && !s.is_text(),
                ..press(Press::word("Compare").key("C"), narrow)
            };
            let tip = match s.is_text() {
                true => crate::text::NO_COMPARISON,
                false => "This film beside the same one in 16 bit, with their difference",
            };
            if compare.show(ui).on_hover_text(tip).clicked() {
                s.toggle_compare();
            }
            if !narrow {
                ui.add_space(4.0);
                ui.add(
                    egui::Label::new(RichText::new(&s.device.title).small().color(t.weak))
                        .truncate(),
                )
                .on_hover_text(format!("{}\n{}", s.device.driver, s.device.kind));
            }
        });
    });
}

/// The state in a word, with a mark of its own shape.
fn pill(ui: &mut Ui, s: &State) {
    let t = tokens::of(ui);
    let word = s.pill();
    let font = TextStyle::Body.resolve(ui.style());
    let galley = ui.painter().layout_no_wrap(word.to_owned(), font, t.text);
    let size = vec2(galley.size().x + 32.0, 22.0);
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("State: {word}")));
    let p = ui.painter();
    p.rect_filled(rect, 11.0, t.control[0]);
    let c = pos2(rect.left() + 13.0, rect.center().y);
    match word {
        "paused" => {
            for x in [-3.0, 1.0] {
                let bar = egui::Rect::from_min_size(c + vec2(x, -4.0), vec2(2.5, 8.0));
                p.rect_filled(bar, 0.0, t.text);
            }
        }
        "stopped" | "finished" => {
            let ink = if word == "stopped" { t.error } else { t.ok };
            p.rect_filled(egui::Rect::from_center_size(c, vec2(8.0, 8.0)), 1.0, ink);
        }
        "playing" => {
            let points = [vec2(-3.0, -4.0), vec2(4.0, 0.0), vec2(-3.0, 4.0)].map(|v| c + v);
            p.add(Shape::convex_polygon(points.to_vec(), t.ok, Stroke::NONE));
        }
        _ => {
            let ink = match word {
                "live" => t.ok,
                "buffering" => t.warn,
                "nothing loaded" => t.edge,
                _ => t.accent,
            };
            p.circle_filled(c, 4.0, ink);
        }
    }
    p.galley(
        Align2::LEFT_CENTER
            .anchor_size(pos2(rect.left() + 22.0, rect.center().y), galley.size())
            .min,
        galley,
        t.text,
    );
}

//! The first screen: one key to walk, and what it will need.

use crate::state::State;
use crate::tokens;
use crate::widgets::{Icon, Press, keycap};
use egui::{Rect, RichText, Sense, TextStyle, Ui, UiBuilder, vec2};

/// The card over the dimmed still.
pub fn show(ui: &mut Ui, s: &mut State) {
    if s.job.text.is_some() {
        return super::prompt::first(ui, s);
    }
    let area = ui.max_rect();
    let size = vec2(
        480.0f32.min(area.width() - 24.0),
        316.0f32.min(area.height() - 24.0),
    );
    let rect = Rect::from_center_size(area.center(), size).round();
    ui.painter().rect_filled(rect, 8.0, tokens::OVER_FILM);
    let mut card = ui.new_child(
        UiBuilder::new()
            .max_rect(rect.shrink2(vec2(40.0, 28.0)))
            .layout(egui::Layout::top_down(egui::Align::Center)),
    );
    let ui = &mut card;
    ui.label(
        RichText::new("A world to walk in")
            .text_style(tokens::display())
            .color(tokens::OVER_TEXT),
    );
    ui.add_space(8.0);
    let line = |ui: &mut Ui, text: String| {
        ui.label(RichText::new(text).size(14.0).color(tokens::OVER_TEXT));
    };
    line(
        ui,
        "Its model is inside the program: nothing to download.".to_owned(),
    );
    line(
        ui,
        format!(
            "The film starts from {} true frames of a walk.",
            s.job.given
        ),
    );
    ui.add_space(12.0);
    let walk = Press {
        icon: Some(Icon::Play),
        primary: true,
        ..Press::word("Walk").key("Enter")
    };
    let walk = walk.show(ui);
    if ui.memory(|m| m.focused()).is_none() {
        walk.request_focus();
    }
    if walk.clicked() {
        s.start();
    }
    ui.add_space(10.0);
    ui.horizontal(|ui| {
        let wide = 252.0;
        ui.add_space(((ui.available_width() - wide) / 2.0).max(0.0));
        ui.label(RichText::new("then").color(tokens::OVER_WEAK));
        for key in ["W", "A", "S", "D"] {
            keycap(ui, key, tokens::OVER_TEXT, None);
        }
        ui.label(RichText::new("and the mouse steer").color(tokens::OVER_WEAK));
    });
    ui.add_space(12.0);
    let (rule, _) = ui.allocate_exact_size(vec2(ui.available_width(), 1.0), Sense::hover());
    ui.painter()
        .rect_filled(rule, 0.0, tokens::OVER_WEAK.gamma_multiply(0.4));
    ui.add_space(8.0);
    let font = TextStyle::Small.resolve(ui.style());
    let (foot, _) = ui.allocate_exact_size(vec2(ui.available_width(), 16.0), Sense::hover());
    let text = format!(
        "What was seen comes back from the cache; a place never seen comes out blurred.\n{}",
        s.device.title
    );
    let mut text = egui::text::LayoutJob::simple(text, font, tokens::OVER_WEAK, foot.width());
    text.halign = egui::Align::Center;
    let galley = ui.painter().layout_job(text);
    ui.painter()
        .galley(foot.center_top(), galley, tokens::OVER_WEAK);
}

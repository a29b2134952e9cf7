//! The first screen: one key to walk, and what it will need.

use crate::fault::Fault;
use crate::state::State;
use crate::tokens;
use crate::widgets::{Icon, Press, keycap};
use egui::{Label, Rect, Response, RichText, Sense, TextStyle, Ui, UiBuilder, vec2};

/// Points that the card takes.
fn height(s: &State) -> f32 {
    match &s.plan {
        Some(Err(fault)) => 304.0 + 32.0 * fault.offers.len().saturating_sub(1) as f32,
        _ => 270.0,
    }
}

/// The button that Enter presses.
fn first(ui: &mut Ui, press: Press<'_>) -> Response {
    let response = press.show(ui);
    if ui.memory(|m| m.focused()).is_none() {
        response.request_focus();
    }
    response
}

/// Why it cannot begin, and what could: the first one in place of the way in.
fn refused(ui: &mut Ui, s: &mut State, fault: &Fault) {
    let text = RichText::new(&fault.headline).size(14.0);
    ui.add(Label::new(text.color(tokens::DARK.error)).truncate())
        .on_hover_text(fault.text());
    ui.add_space(4.0);
    for (i, offer) in fault.offers.iter().enumerate() {
        let name = format!("Take {}", offer.name);
        let press = match i {
            0 => Press {
                primary: true,
                ..Press::word(&name).key("Enter")
            },
            _ => Press::word(&name),
        };
        let response = match i {
            0 => first(ui, press),
            _ => press.show(ui),
        };
        if response.clicked() {
            s.take_offer(offer.clone());
        }
        ui.add_space(2.0);
    }
    if fault.offers.is_empty() {
        let settings = Press {
            primary: true,
            icon: Some(Icon::Settings),
            ..Press::word("Change the settings").key("Enter")
        };
        if first(ui, settings).clicked() {
            s.show.settings = true;
        }
    }
}

/// The card over the dimmed still.
pub fn show(ui: &mut Ui, s: &mut State) {
    if s.job.text.is_some() {
        return super::prompt::first(ui, s);
    }
    let area = ui.max_rect();
    let size = vec2(
        480.0f32.min(area.width() - 24.0),
        height(s).min(area.height() - 24.0),
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
    match &s.plan {
        Some(Err(fault)) => {
            let fault = fault.clone();
            refused(ui, s, &fault);
        }
        _ => {
            let walk = Press {
                icon: Some(Icon::Play),
                primary: true,
                ..Press::word("Walk").key("Enter")
            };
            if first(ui, walk).clicked() {
                s.start();
            }
        }
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
        "What was seen comes back from the cache; what was not is made up, roughly.\n{}",
        s.device.title
    );
    let mut text = egui::text::LayoutJob::simple(text, font, tokens::OVER_WEAK, foot.width());
    text.halign = egui::Align::Center;
    let galley = ui.painter().layout_job(text);
    ui.painter()
        .galley(foot.center_top(), galley, tokens::OVER_WEAK);
}

//! The error card: what happened and where, what is safe, causes, the way on.

use egui::{Align2, FontId, Rect, RichText, Shape, Stroke, StrokeKind, Ui, UiBuilder, pos2, vec2};

use crate::fault::{Fault, Remedy};
use crate::state::State;
use crate::tokens;
use crate::widgets::{Icon, Press};

/// Shows it over the film.
pub fn show(ui: &mut Ui, s: &mut State, fault: &Fault) {
    let t = tokens::of(ui);
    let area = ui.max_rect();
    let wide = 640.0f32.min(area.width() - 24.0);
    let mono = FontId::monospace(12.0);
    // Laid out first, so that the card is as tall as its text.
    let causes: Vec<_> = fault
        .causes
        .iter()
        .enumerate()
        .map(|(depth, cause)| {
            let mark = if depth == 0 {
                String::new()
            } else {
                "  ".repeat(depth - 1) + "└ "
            };
            let ink = if depth == 0 { t.error } else { t.text };
            let room = wide - 88.0;
            ui.painter()
                .layout(format!("{mark}{cause}"), mono.clone(), ink, room)
        })
        .collect();
    let title = ui.painter().layout(
        fault.headline.clone(),
        FontId::proportional(20.0),
        t.strong,
        wide - 106.0,
    );
    let list = causes.iter().map(|g| g.size().y + 4.0).sum::<f32>() + 20.0;
    let safe = if fault.safe.is_empty() { 0.0 } else { 22.0 };
    let advice = if fault.advice.is_empty() { 0.0 } else { 30.0 };
    let height = 24.0 + title.size().y.max(28.0) + safe + 12.0 + list + 16.0 + 32.0 + advice + 20.0;
    let rect = Rect::from_center_size(area.center(), vec2(wide, height)).round();
    let p = ui.painter().clone();
    p.rect_filled(rect, 6.0, t.card);
    p.rect_stroke(rect, 6.0, Stroke::new(1.0, t.line), StrokeKind::Inside);
    let edge = Rect::from_min_size(rect.min, vec2(4.0, rect.height()));
    p.rect_filled(
        edge,
        egui::CornerRadius {
            nw: 6,
            sw: 6,
            ne: 0,
            se: 0,
        },
        t.error,
    );
    // An octagon, so that the state has a shape and not only a colour.
    let c = rect.min + vec2(42.0, 24.0 + title.size().y.max(28.0) / 2.0);
    let corners = (0..8).map(|i| {
        let a = std::f32::consts::PI * (i as f32 / 4.0 + 0.125);
        c + 14.0 * vec2(a.cos(), a.sin())
    });
    p.add(Shape::closed_line(
        corners.collect(),
        Stroke::new(2.0, t.error),
    ));
    p.text(
        c,
        Align2::CENTER_CENTER,
        "!",
        FontId::proportional(18.0),
        t.error,
    );
    let mut y = rect.top() + 24.0;
    let title_y = y + (title.size().y.max(28.0) - title.size().y) / 2.0;
    let title_height = title.size().y.max(28.0);
    p.galley(pos2(rect.left() + 68.0, title_y), title, t.strong);
    y += title_height;
    if !fault.safe.is_empty() {
        p.text(
            pos2(rect.left() + 68.0, y + 4.0),
            Align2::LEFT_TOP,
            &fault.safe,
            FontId::proportional(13.0),
            t.weak,
        );
        y += safe;
    }
    y += 12.0;
    let well = Rect::from_min_size(pos2(rect.left() + 28.0, y), vec2(wide - 56.0, list));
    p.rect_filled(well, 4.0, t.well);
    p.rect_stroke(well, 4.0, Stroke::new(1.0, t.line), StrokeKind::Inside);
    let mut line = y + 10.0;
    for g in causes {
        let h = g.size().y + 4.0;
        p.galley(pos2(well.left() + 12.0, line), g, t.text);
        line += h;
    }
    y += list + 16.0;
    let row = Rect::from_min_size(pos2(rect.left() + 28.0, y), vec2(wide - 56.0, 32.0));
    let mut buttons = ui.new_child(
        UiBuilder::new()
            .max_rect(row)
            .layout(egui::Layout::left_to_right(egui::Align::Center)),
    );
    let taken = fault.offers.first().map(|o| format!("Take {}", o.name));
    let (way, icon) = match (&taken, fault.remedy) {
        (_, Remedy::Again) => ("Start again, same seed", Icon::Undo),
        (_, Remedy::GoOn) => ("Go on without the file", Icon::Play),
        (Some(offer), Remedy::Other) => (offer.as_str(), Icon::Play),
        (None, Remedy::Other) => ("Change the settings", Icon::Settings),
    };
    let primary = Press {
        primary: true,
        icon: Some(icon),
        ..Press::word(way).key("Enter")
    };
    // Enter takes it by the table of keys. It has not the focus, or Space, which plays what is safe, would press it.
    if primary.show(&mut buttons).clicked() {
        s.way_on();
    }
    for offer in fault.offers.iter().skip(1).take(2) {
        if Press::word(&offer.name).show(&mut buttons).clicked() {
            s.take_offer(offer.clone());
            s.start();
        }
    }
    buttons.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
        let copy = Press {
            icon: Some(Icon::Copy),
            ..Press::word("Copy details").key("Ctrl C")
        };
        let asked = ui.input(|i| i.events.contains(&egui::Event::Copy));
        if copy.show(ui).clicked() || asked {
            ui.ctx().copy_text(fault.text());
        }
    });
    if !fault.advice.is_empty() {
        let foot = Rect::from_min_size(pos2(rect.left() + 28.0, y + 40.0), vec2(wide - 56.0, 20.0));
        let mut foot = ui.new_child(UiBuilder::new().max_rect(foot));
        foot.add(egui::Label::new(RichText::new(&fault.advice).small().color(t.weak)).truncate());
    }
}

//! The bits slider: its stops wear the timeline's bricks, so it is the timeline's legend too.

use egui::accesskit::{Action, ActionData};
use egui::{
    Align2, EventFilter, Key, Rect, RichText, Sense, Stroke, StrokeKind, TextStyle, Ui, WidgetInfo,
    pos2, vec2,
};

use crate::job::{Width, Widths};
use crate::say;
use crate::state::{Phase, Slot, State};
use crate::tokens;
use crate::widgets::{Bricks, bar};

/// Shows it with what it has done so far.
pub fn show(ui: &mut Ui, s: &mut State, narrow: bool) {
    let t = tokens::of(ui);
    ui.horizontal(|ui| {
        ui.label(RichText::new("Cache bits").heading().color(t.strong));
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            let text = RichText::new("K and V apart").small().color(t.weak);
            ui.checkbox(&mut s.show.apart, text);
        });
    });
    if s.show.apart {
        if let Some(k) = cells(ui, s, "Keys", s.widths.k, 44.0) {
            s.set_bits(Widths { k, ..s.widths });
        }
        if let Some(v) = cells(ui, s, "Values", s.widths.v, 44.0) {
            s.set_bits(Widths { v, ..s.widths });
        }
    } else if let Some(w) = cells(ui, s, "Cache bits", s.widths.k, 62.0) {
        s.set_bits(Widths::both(w));
    }
    progress(ui, s);
    if !narrow {
        let text = match s.phase {
            Phase::Empty => "Can be turned while the film runs.",
            _ => {
                "Down packs older spans again, one a chunk. Up holds for new spans only: what was packed has lost its detail for good."
            }
        };
        ui.label(RichText::new(text).small().color(t.weak));
    }
}

/// A row of stops; gives the one that was chosen now.
fn cells(ui: &mut Ui, s: &State, name: &str, chosen: Width, high: f32) -> Option<Width> {
    let t = tokens::of(ui);
    let (rect, response) =
        ui.allocate_exact_size(vec2(ui.available_width(), high), Sense::click_and_drag());
    let now = chosen as usize;
    let label = format!("{name}, {}", chosen.name());
    response.widget_info(|| WidgetInfo::slider(true, f64::from(chosen.bits()), &label));
    let mut target = None;
    if (response.clicked() || response.dragged())
        && let Some(at) = response.interact_pointer_pos()
    {
        let share = (at.x - rect.left()) / rect.width();
        target = Some(((share * 5.0) as usize).min(4));
    }
    if response.has_focus() {
        let filter = EventFilter {
            horizontal_arrows: true,
            ..EventFilter::default()
        };
        ui.memory_mut(|m| m.set_focus_lock_filter(response.id, filter));
        ui.input(|i| {
            if i.key_pressed(Key::ArrowRight) {
                target = Some((now + 1).min(4));
            }
            if i.key_pressed(Key::ArrowLeft) {
                target = Some(now.saturating_sub(1));
            }
        });
    }
    // A screen reader moves it by increments, or sets bits.
    let asked = ui.input(|i| {
        let up = i.num_accesskit_action_requests(response.id, Action::Increment);
        let down = i.num_accesskit_action_requests(response.id, Action::Decrement);
        up as isize - down as isize
    });
    if asked != 0 {
        target = Some(now.saturating_add_signed(-asked).min(4));
    }
    let set = ui.input(|i| {
        let requests = i.accesskit_action_requests(response.id, Action::SetValue);
        let of = |data: &Option<ActionData>| match data {
            Some(ActionData::NumericValue(bits)) => Some(bits.round() as u32),
            _ => None,
        };
        requests.filter_map(|r| of(&r.data)).last()
    });
    if let Some(bits) = set {
        target = Some(Width::of_bits(bits) as usize);
    }
    ui.ctx().accesskit_node_builder(response.id, |node| {
        node.set_min_numeric_value(2.0);
        node.set_max_numeric_value(16.0);
        for action in [Action::Increment, Action::Decrement, Action::SetValue] {
            node.add_action(action);
        }
    });
    let p = ui.painter();
    p.rect_filled(rect, 6.0, t.card);
    p.rect_stroke(rect, 6.0, Stroke::new(1.0, t.line), StrokeKind::Inside);
    let w = rect.width() / 5.0;
    let font = TextStyle::Small.resolve(ui.style());
    let mut bricks = Bricks::new(ui.pixels_per_point());
    for (i, width) in Width::ALL.into_iter().enumerate() {
        let cell = Rect::from_min_size(rect.min + vec2(i as f32 * w, 0.0), vec2(w, high));
        let has = s.job.has(width);
        if i == now {
            let frame = if ui.visuals().dark_mode {
                t.strong
            } else {
                t.accent
            };
            p.rect_filled(cell, 6.0, t.control[0]);
            p.rect_stroke(cell, 6.0, Stroke::new(2.0, frame), StrokeKind::Inside);
        } else if i > 0 && i != now + 1 {
            let line = cell.left();
            p.vline(
                line,
                cell.top() + 12.0..=cell.bottom() - 12.0,
                Stroke::new(1.0, t.line),
            );
        }
        let foot = cell.bottom() - if high > 50.0 { 26.0 } else { 18.0 };
        let scale = 8.0;
        let x = cell.center().x;
        let colour = match has {
            true => t.bits[i],
            false => t.bits[i].gamma_multiply(0.25),
        };
        bar(
            &mut bricks,
            x - scale..x + scale,
            foot,
            Some(width.bits()),
            colour,
        );
        let ink = match (has, i == now) {
            (false, _) => t.edge,
            (true, true) => t.strong,
            (true, false) => t.text,
        };
        let y = cell.bottom() - if high > 50.0 { 13.0 } else { 9.0 };
        p.text(
            pos2(x, y),
            Align2::CENTER_CENTER,
            width.name(),
            font.clone(),
            ink,
        );
    }
    bricks.paint(p);
    crate::widgets::focus_ring(ui, &response, rect, t);
    target.filter(|i| *i != now).map(|i| Width::ALL[i])
}

/// How much of what is coded has the chosen width, from the cache itself; two lines high in every state.
fn progress(ui: &mut Ui, s: &State) {
    let t = tokens::of(ui);
    let coded = s
        .film
        .slots
        .iter()
        .filter(|x| matches!(x, Slot::Span(_)))
        .count();
    let want = [s.widths.k.bits(), s.widths.v.bits()];
    let done = s
        .film
        .slots
        .iter()
        .filter(|x| **x == Slot::Span(want))
        .count();
    let (text, count) = match coded {
        0 => ("No span is written yet".to_owned(), String::new()),
        _ if done == coded => (
            format!("All spans: {}", s.widths.name()),
            say::n(coded, "frame"),
        ),
        _ => (
            format!("Spans at {}", s.widths.name()),
            format!("{done} / {coded} frames"),
        ),
    };
    crate::widgets::row(ui, &text, &count, coded == 0);
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 4.0), Sense::hover());
    if coded > 0 {
        let p = ui.painter();
        p.rect_filled(rect, 2.0, t.control[0]);
        let mut filled = rect;
        filled.set_width(rect.width() * done as f32 / coded as f32);
        p.rect_filled(filled, 2.0, t.bits[s.widths.k as usize]);
    }
    ui.add_space(2.0);
}

//! The film: the largest whole multiple of its pixels, steering, and what lies over it.

use egui::{
    Align2, Color32, EventFilter, FontId, Id, Rect, Response, RichText, Role, Sense, Stroke,
    StrokeKind, TextStyle, Ui, UiBuilder, WidgetInfo, pos2, vec2,
};

use crate::state::{MOST_ZOOM, Phase, State, Zoom};
use crate::tokens;
use crate::widgets::keycap;
use crate::worker::KEYS;

use super::{compare, error, first, loading, statistics};

/// Points that the pointer is dragged for a turn of 22.5 degrees.
const DRAG_TURN: f32 = 60.0;

/// The film's widget.
pub fn id() -> Id {
    Id::unique("film")
}

/// Shows it.
pub fn show(ui: &mut Ui, s: &mut State) {
    let t = tokens::of(ui);
    let area = ui.max_rect();
    ui.painter().rect_filled(area, 0.0, t.stage);
    let shot = s.shot().map(|shot| shot.frame.clone());
    let frame = match s.phase {
        Phase::Empty => s.still.clone(),
        _ => shot.or(s.still.clone()),
    };
    let response = ui.interact(area, id(), Sense::click_and_drag());
    let Some(frame) = frame else {
        return;
    };
    let is_plain = !matches!(s.phase, Phase::Empty | Phase::Failed(_)) && !s.is_empty();
    if is_plain && (s.versus.is_some() || s.beside.is_some()) {
        drive(ui, s, &response);
        describe(s, &response);
        match s.versus.is_some() {
            true => compare::show(ui, s, area),
            false => compare::take(ui, s, area),
        }
        if s.steering {
            badge(ui, s, area);
        }
        return;
    }
    let rect = fit(area, [frame.width, frame.height], ui.pixels_per_point());
    let rect = match s.zoom.times > 1.0 && is_plain {
        true => enlarged(rect, area, s.zoom),
        false => rect,
    };
    let tint = match s.phase {
        Phase::Empty | Phase::Failed(_) => 72,
        Phase::Loading(..) if s.is_empty() => 72,
        _ => 255,
    };
    let inside = ui.painter().with_clip_rect(area);
    inside.rect_filled(rect, 0.0, tokens::DARK.stage);
    let tint = Color32::from_gray(tint);
    s.gallery.paint(&inside, &frame, rect, tint);
    drive(ui, s, &response);
    if is_plain {
        look(ui, s, &response, rect, area);
    }
    describe(s, &response);
    let rect = rect.intersect(area.shrink(2.0));
    if s.steering {
        let line = Stroke::new(2.0, t.steer);
        ui.painter()
            .rect_stroke(rect.expand(2.0), 0.0, line, StrokeKind::Inside);
    } else if response.has_focus() {
        let line = Stroke::new(2.0, t.accent);
        ui.painter()
            .rect_stroke(rect.expand(2.0), 0.0, line, StrokeKind::Inside);
    }
    match &s.phase {
        Phase::Empty => return first::show(ui, s),
        Phase::Failed(fault) => {
            let fault = fault.clone();
            return error::show(ui, s, &fault);
        }
        _ => {}
    }
    let badge = badge(ui, s, rect);
    if s.show.statistics {
        let at = badge.map_or(rect.min + vec2(12.0, 12.0), |b| {
            b.left_bottom() + vec2(0.0, 12.0)
        });
        statistics::show(ui, s, at);
    }
    if s.show.truth {
        truth(ui, s, rect);
    }
}

/// The largest whole multiple in physical pixels that leaves air around it; a frame that is larger than the area shrinks.
fn fit(area: Rect, [w, h]: [u32; 2], ppp: f32) -> Rect {
    let (w, h) = (w as f32, h as f32);
    let room = (area.size() - vec2(24.0, 24.0)).max(vec2(16.0, 12.0)) * ppp;
    let k = (room.x / w).min(room.y / h);
    let k = if k >= 1.0 { k.floor() } else { k };
    let size = vec2(w, h) * k / ppp;
    let corner = area.center() - size / 2.0;
    let round = |v: f32| (v * ppp).round() / ppp;
    Rect::from_min_size(pos2(round(corner.x), round(corner.y)), size)
}

/// The film's place when it is looked at more closely.
fn enlarged(fit: Rect, area: Rect, zoom: Zoom) -> Rect {
    let size = fit.size() * zoom.times;
    Rect::from_min_size(area.center() - zoom.middle * size, size)
}

/// The wheel looks closer where the pointer is; without the reins a drag moves the picture, two clicks show all of it.
fn look(ui: &Ui, s: &mut State, response: &Response, rect: Rect, area: Rect) {
    let wheel = ui.input(|i| i.smooth_scroll_delta.y + 400.0 * (i.zoom_delta() - 1.0));
    if let Some(at) = response.hover_pos()
        && wheel != 0.0
    {
        let times = (s.zoom.times * (wheel / 240.0).exp()).clamp(1.0, MOST_ZOOM);
        // What lies under the pointer stays under it.
        let point = (at - rect.min) / rect.size();
        let size = rect.size() / s.zoom.times * times;
        s.zoom = Zoom {
            times,
            middle: point - (at - area.center()) / size,
        };
    }
    if response.dragged() && !s.steering && s.zoom.times > 1.0 {
        s.zoom.middle -= response.drag_delta() / rect.size();
    }
    s.zoom.middle = s.zoom.middle.clamp(vec2(0.0, 0.0), vec2(1.0, 1.0));
    if response.double_clicked() || s.zoom.times <= 1.0 {
        s.zoom = Zoom::default();
    }
}

/// Clicks take the reins; drags turn.
fn drive(ui: &mut Ui, s: &mut State, response: &Response) {
    let can = !s.is_empty() && !matches!(s.phase, Phase::Empty | Phase::Failed(_));
    if response.clicked() && can {
        response.request_focus();
        if !s.steering {
            s.steer();
        }
    }
    if s.steering {
        if !response.has_focus() {
            response.request_focus();
        }
        let filter = EventFilter {
            horizontal_arrows: true,
            vertical_arrows: true,
            escape: true,
            tab: true,
        };
        ui.memory_mut(|m| m.set_focus_lock_filter(id(), filter));
        if response.dragged() {
            s.dragged += response.drag_delta().x;
            let turns = (s.dragged / DRAG_TURN).trunc();
            s.dragged -= turns * DRAG_TURN;
            // To the right turns right, which the worker counts as negative.
            s.reins
                .turns
                .fetch_sub(turns as i32, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

fn describe(s: &State, response: &Response) {
    let text = match s.phase {
        Phase::Empty => "Film, nothing made yet".to_owned(),
        Phase::Loading(..) => format!("Film, loading: {}", crate::loading::line(s)),
        _ => format!(
            "Film, frame {} of {}, {}, steering {}",
            s.play.at,
            s.len(),
            s.pill(),
            if s.steering { "on" } else { "off" }
        ),
    };
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &text));
}

/// What is going on, over the film's upper left corner.
fn badge(ui: &mut Ui, s: &State, film: Rect) -> Option<Rect> {
    let at = film.min + vec2(12.0, 12.0);
    let text = match s.phase {
        Phase::Loading(..) => return Some(loading::show(ui, s, at)),
        Phase::GoingBack(done, of) => format!("making the way here again: {done} / {of}"),
        _ if s.steering => return Some(steering(ui, s, at)),
        _ => return None,
    };
    let font = FontId::proportional(13.0);
    let galley = ui.painter().layout_no_wrap(text, font, tokens::OVER_TEXT);
    let size = galley.size() + vec2(24.0, 20.0);
    let rect = Rect::from_min_size(at, size);
    let p = ui.painter();
    p.rect_filled(rect, 6.0, tokens::OVER_FILM);
    p.galley(at + vec2(12.0, 7.0), galley, tokens::OVER_TEXT);
    if let Phase::GoingBack(done, of) = s.phase {
        let bar = Rect::from_min_size(
            rect.left_bottom() + vec2(12.0, -7.0),
            vec2(rect.width() - 24.0, 3.0),
        );
        p.rect_filled(bar, 1.5, tokens::OVER_WEAK.gamma_multiply(0.35));
        let mut done_bar = bar;
        done_bar.set_width(bar.width() * done as f32 / of.max(1) as f32);
        p.rect_filled(done_bar, 1.5, tokens::DARK.accent);
    }
    Some(rect)
}

fn steering(ui: &mut Ui, s: &State, at: egui::Pos2) -> Rect {
    let rect = Rect::from_min_size(at, vec2(310.0, 33.0));
    ui.painter().rect_filled(rect, 6.0, tokens::OVER_FILM);
    let mut row = ui.new_child(
        UiBuilder::new()
            .max_rect(rect.shrink2(vec2(12.0, 8.0)))
            .layout(egui::Layout::left_to_right(egui::Align::Center)),
    );
    let dot = row.allocate_exact_size(vec2(8.0, 8.0), Sense::hover()).0;
    row.painter()
        .circle_filled(dot.center(), 4.0, tokens::OVER_HELD);
    row.label(RichText::new("steering").color(tokens::OVER_TEXT));
    let held = s.reins.held.load(std::sync::atomic::Ordering::Relaxed);
    for (i, name) in KEYS.iter().enumerate() {
        let key = match *name {
            "left" => "<".to_owned(),
            "right" => ">".to_owned(),
            name => name.to_uppercase(),
        };
        let down = held >> i & 1 == 1;
        let fill = down.then_some((tokens::OVER_HELD, tokens::OVER_ON_HELD));
        keycap(&mut row, &key, tokens::OVER_TEXT, fill);
    }
    row.label(RichText::new("Esc leaves").color(tokens::OVER_WEAK));
    rect
}

/// The true picture at the pose, over the lower right corner, where the walk has one.
fn truth(ui: &mut Ui, s: &mut State, film: Rect) {
    let Some((frame, db)) = s.shot().and_then(|shot| shot.truth.clone()) else {
        return;
    };
    let k = (film.width() / 5.0 / frame.width as f32)
        .clamp(1.0, 3.0)
        .floor();
    let size = vec2(frame.width as f32, frame.height as f32) * k;
    let outer = size + vec2(8.0, 30.0);
    if film.width() < 3.0 * outer.x {
        return;
    }
    let rect = Rect::from_min_size(film.max - outer - vec2(12.0, 12.0), outer).round();
    let p = ui.painter();
    p.rect_filled(rect, 6.0, tokens::OVER_FILM);
    let picture = Rect::from_min_size(rect.min + vec2(4.0, 4.0), size);
    s.gallery.paint(p, &frame, picture, Color32::WHITE);
    let db = match db.is_finite() {
        true => format!("{db:.1} dB"),
        false => "same bytes".to_owned(),
    };
    p.text(
        pos2(
            picture.left() + 4.0,
            (picture.bottom() + rect.bottom()) / 2.0,
        ),
        Align2::LEFT_CENTER,
        match size.x < 120.0 {
            true => db,
            false => format!("true view here · {db}"),
        },
        TextStyle::Small.resolve(ui.style()),
        tokens::OVER_TEXT,
    );
}

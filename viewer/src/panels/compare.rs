//! The film beside another: the same one in half floats, with the difference and PSNR by frame; or a take that was left.

use std::sync::Arc;

use egui::{
    Align, Align2, Color32, Layout, Pos2, Rect, RichText, Role, Sense, Shape, Stroke, TextStyle,
    Ui, UiBuilder, WidgetInfo, pos2, vec2,
};
use longtake::compare;
use longtake::frame::Frame;

use crate::say;
use crate::state::State;
use crate::tokens::{self, Tokens};
use crate::versus::Versus;
use crate::widgets::Press;

/// Top of the PSNR scale, in dB: what is nearer than that is drawn there.
const TOP_DB: f64 = 50.0;
/// Points of the curve at most.
const MOST_POINTS: usize = 1024;

/// A picture with what stands over it.
struct Picture {
    title: String,
    remark: String,
    frame: Option<Arc<Frame>>,
}

/// The film against itself in half floats.
pub fn show(ui: &mut Ui, s: &mut State, area: Rect) {
    let t = tokens::of(ui);
    let Some(v) = s.versus.clone() else { return };
    let inner = area.shrink2(vec2(24.0, 12.0));
    // At the live edge the other film is a chunk behind half of the time: the newest frame that both have is shown then.
    let both = s.film.given + v.frames.len();
    let behind = s.play.follow && both <= s.play.at;
    let at = match behind && s.play.at < both + s.film.chunk_frames.max(1) as usize {
        true => both.saturating_sub(1),
        false => s.play.at,
    };
    let index = at.checked_sub(s.film.given);
    let shot = s.film.shots.get(at);
    let widths = shot.map(|shot| shot.widths.name());
    let own = shot.map(|shot| shot.frame.clone());
    // Given frames are the same in both.
    let exact = match index {
        Some(i) => v.frames.get(i).cloned(),
        None => own.clone(),
    };
    let now = index.and_then(|i| v.quality.get(i));
    let difference = own
        .clone()
        .zip(exact.clone())
        .map(|(a, b)| difference(s, a, b));
    let coded = Picture {
        title: match widths {
            Some(widths) => format!("This film, {widths}"),
            None => "This film".to_owned(),
        },
        remark: s.history.last().map_or(String::new(), |x| {
            format!("{:.2} bits · {}", x.bits_per_element, say::bytes(x.cache()))
        }),
        frame: own,
    };
    let reference = Picture {
        title: "The same in 16 bit".to_owned(),
        remark: match v.frames.len() {
            n if n < s.film.shots.len() - s.film.given => {
                format!("{n} / {} frames", s.film.shots.len() - s.film.given)
            }
            _ => say::bytes(v.exact.cache()),
        },
        frame: exact,
    };
    let apart = Picture {
        title: format!("Difference × {}", compare::GAIN),
        remark: match now {
            Some(q) if q.is_exact() => "same bytes".to_owned(),
            Some(q) => format!("{:.1} dB", q.psnr),
            None => say::UNKNOWN.to_owned(),
        },
        frame: difference,
    };
    let pair = match v.swapped {
        true => [coded, reference],
        false => [reference, coded],
    };
    let [a, b] = pair;
    let below = row(ui, s, inner, 0.42 * inner.height(), &[a, b, apart]).bottom();
    let head = Rect::from_min_size(pos2(inner.left(), below + 12.0), vec2(inner.width(), 28.0));
    if inner.bottom() < head.bottom() + 90.0 {
        return;
    }
    let card = Rect::from_min_max(
        head.left_top() - vec2(12.0, 4.0),
        inner.max + vec2(12.0, 4.0),
    );
    ui.painter().rect_filled(card, 6.0, t.panel);
    header(ui, s, head, &v);
    let foot = Rect::from_min_max(pos2(inner.left(), inner.bottom() - 22.0), inner.max);
    let plot = Rect::from_min_max(
        pos2(inner.left() + 44.0, head.bottom() + 8.0),
        pos2(inner.right(), foot.top() - 24.0),
    );
    curve(ui, s, plot, &v, t);
    figures(ui, s, foot, &v, t);
}

/// A take that was left beside the film.
pub fn take(ui: &mut Ui, s: &mut State, area: Rect) {
    let Some(i) = s.beside.filter(|i| *i < s.takes.len()) else {
        return;
    };
    let t = tokens::of(ui);
    let inner = area.shrink2(vec2(24.0, 12.0));
    let at = s.play.at;
    let shot = s.shot().cloned();
    let take = &s.takes[i];
    let (from, frames) = (take.from, take.shots.len());
    let other = match at <= from {
        true => shot.clone(),
        false => take.at(at).cloned(),
    };
    let name = |shot: &Option<crate::state::Shot>| {
        let step = shot.as_ref().and_then(|s| s.step);
        step.map_or(String::new(), |step| format!("came by {step}"))
    };
    let pictures = [
        Picture {
            title: "This film".to_owned(),
            remark: name(&shot),
            frame: shot.map(|x| x.frame),
        },
        Picture {
            title: format!("Take {}", i + 1),
            remark: match at <= from {
                true => "the same up to here".to_owned(),
                false => name(&other),
            },
            frame: other.map(|x| x.frame),
        },
    ];
    // In the middle of what is left, with the line of buttons.
    let high = fit(ui, s, inner, inner.height() - 72.0, pictures.len()).y + 64.0;
    let inner = inner.translate(vec2(0.0, ((inner.height() - high) / 2.0).max(0.0)));
    let shown = row(ui, s, inner, inner.height() - 72.0, &pictures);
    let foot = Rect::from_min_size(
        shown.left_bottom() + vec2(0.0, 12.0),
        vec2(shown.width(), 28.0),
    );
    let mut foot = child(ui, foot);
    let text = format!(
        "left at frame {}, {} long",
        from.saturating_sub(s.film.given),
        say::n(frames, "frame")
    );
    foot.label(RichText::new(text).color(t.weak));
    foot.with_layout(Layout::right_to_left(Align::Center), |ui| {
        let word = match i + 1 < s.takes.len() {
            true => "Next take",
            false => "Close",
        };
        if Press::word(word).key("B").show(ui).clicked() {
            s.next_beside();
        }
        let again = Press::word("Take it again").key("Ctrl Shift Z").show(ui);
        if again
            .on_hover_text("The same steps at the same widths: the same frames, byte for byte")
            .clicked()
        {
            s.redo();
        }
    });
}

/// Kept while the two frames stay the same.
fn difference(s: &mut State, a: Arc<Frame>, b: Arc<Frame>) -> Arc<Frame> {
    if let Some((d, [x, y])) = &s.difference
        && Arc::ptr_eq(x, &a)
        && Arc::ptr_eq(y, &b)
    {
        return d.clone();
    }
    let d = Arc::new(compare::difference(&a, &b));
    s.difference = Some((d.clone(), [a, b]));
    d
}

fn child(ui: &mut Ui, rect: Rect) -> Ui {
    ui.new_child(
        UiBuilder::new()
            .max_rect(rect)
            .layout(Layout::left_to_right(Align::Center)),
    )
}

/// The size of `n` pictures side by side, the largest whole multiple of their pixels.
fn fit(ui: &Ui, s: &State, inner: Rect, high: f32, n: usize) -> egui::Vec2 {
    let n = n as f32;
    let [w, h] = s.film.size.map(|v| v.max(1) as f32);
    let ppp = ui.pixels_per_point();
    let room = vec2((inner.width() - 12.0 * (n - 1.0)) / n, high - 24.0) * ppp;
    let k = (room.x / w).min(room.y / h);
    let k = if k >= 1.0 { k.floor() } else { k.max(0.1) };
    vec2(w, h) * k / ppp
}

/// Pictures side by side at one whole multiple of their pixels; gives their place.
fn row(ui: &mut Ui, s: &mut State, inner: Rect, high: f32, pictures: &[Picture]) -> Rect {
    let t = tokens::of(ui);
    let n = pictures.len() as f32;
    let ppp = ui.pixels_per_point();
    let size = fit(ui, s, inner, high, pictures.len());
    let wide = n * size.x + 12.0 * (n - 1.0);
    let left = inner.center().x - wide / 2.0;
    let round = |v: f32| (v * ppp).round() / ppp;
    let body = TextStyle::Body.resolve(ui.style());
    let small = TextStyle::Small.resolve(ui.style());
    let p = ui.painter();
    let top = round(inner.top() + 24.0);
    for (i, picture) in pictures.iter().enumerate() {
        let corner = pos2(round(left + i as f32 * (size.x + 12.0)), top);
        let rect = Rect::from_min_size(corner, size);
        let y = inner.top() + 10.0;
        p.text(
            pos2(rect.left(), y),
            Align2::LEFT_CENTER,
            &picture.title,
            body.clone(),
            t.text,
        );
        p.text(
            pos2(rect.right(), y),
            Align2::RIGHT_CENTER,
            &picture.remark,
            small.clone(),
            t.weak,
        );
        p.rect_filled(rect, 0.0, tokens::DARK.stage);
        match &picture.frame {
            Some(frame) => s.gallery.paint(p, frame, rect, Color32::WHITE),
            None => {
                p.text(
                    rect.center(),
                    Align2::CENTER_CENTER,
                    "not made yet",
                    body.clone(),
                    tokens::OVER_WEAK,
                );
            }
        }
    }
    Rect::from_min_size(pos2(round(left), top), vec2(wide, size.y))
}

fn header(ui: &mut Ui, s: &mut State, rect: Rect, v: &Versus) {
    let t = tokens::of(ui);
    let mut row = child(ui, rect);
    row.label(RichText::new("PSNR by frame").heading().color(t.strong));
    row.label(
        RichText::new("same seed, same way, raw frames")
            .small()
            .color(t.weak),
    );
    row.with_layout(Layout::right_to_left(Align::Center), |ui| {
        let save = Press {
            enabled: !v.quality.is_empty(),
            ..Press::word("Save report")
        };
        let tip = "HTML with figures and pictures, JSON and CSV beside it, as `longtake compare` writes them";
        if save.show(ui).on_hover_text(tip).clicked() {
            s.save_report();
        }
        let worst = v.worst(s.film.fps);
        let go = Press {
            enabled: worst.is_some(),
            ..Press::word("Go to the worst second")
        };
        if go.show(ui).clicked()
            && let Some((at, _)) = worst
        {
            s.play.seek(s.film.given + at, s.len());
        }
        if Press::word("Swap").key("X").show(ui).clicked() {
            swap(s);
        }
    });
}

/// Lets the two change places.
pub fn swap(s: &mut State) {
    if let Some(v) = &mut s.versus {
        v.swapped = !v.swapped;
    }
}

fn curve(ui: &mut Ui, s: &mut State, plot: Rect, v: &Versus, t: &Tokens) {
    let response = ui.interact(plot, egui::Id::unique("psnr"), Sense::click_and_drag());
    let n = v.quality.len().max(1);
    let finite = v.quality.iter().map(|q| q.psnr).filter(|p| p.is_finite());
    let least = finite.fold(TOP_DB - 10.0, f64::min);
    let low = ((least / 10.0).floor() * 10.0).clamp(0.0, TOP_DB - 20.0);
    let x = |i: f32| plot.left() + i / n as f32 * plot.width();
    let y = |db: f64| {
        let share = (db.min(TOP_DB) - low) / (TOP_DB - low);
        plot.bottom() - share as f32 * plot.height()
    };
    let small = TextStyle::Small.resolve(ui.style());
    let p = ui.painter().clone();
    let mut db = low;
    while db <= TOP_DB {
        p.hline(plot.x_range(), y(db), Stroke::new(1.0, t.line));
        let unit = if db == TOP_DB { " dB" } else { "" };
        p.text(
            pos2(plot.left() - 8.0, y(db)),
            Align2::RIGHT_CENTER,
            format!("{db:.0}{unit}"),
            small.clone(),
            t.weak,
        );
        db += 10.0;
    }
    for (share, align) in [
        (0.0, Align2::LEFT_TOP),
        (0.5, Align2::CENTER_TOP),
        (1.0, Align2::RIGHT_TOP),
    ] {
        let at = ((n - 1) as f32 * share) as usize;
        let text = match share {
            0.0 => format!("frame {at}"),
            _ => at.to_string(),
        };
        let at = pos2(plot.left() + share * plot.width(), plot.bottom() + 5.0);
        p.text(at, align, text, small.clone(), t.weak);
    }
    let equal = v.equal();
    if equal > 0 {
        let bar = Rect::from_min_max(
            pos2(plot.left(), plot.top() - 1.5),
            pos2(x(equal as f32), plot.top() + 1.5),
        );
        p.rect_filled(bar, 0.0, t.ok);
        let text = format!("equal byte for byte for {}", say::n(equal, "frame"));
        p.text(
            pos2(plot.left() + 8.0, plot.top() + 6.0),
            Align2::LEFT_TOP,
            text,
            small.clone(),
            t.weak,
        );
    }
    let every = v.quality.len().div_ceil(MOST_POINTS).max(1);
    let rest = v.quality.iter().enumerate().skip(equal).step_by(every);
    let points: Vec<Pos2> = rest
        .map(|(i, q)| pos2(x(i as f32 + 0.5), y(q.psnr)))
        .collect();
    if points.len() == 1 {
        p.circle_filled(points[0], 2.0, t.accent);
    }
    p.add(Shape::line(points, Stroke::new(1.5, t.accent)));
    if let Some(at) = v.parted(s.film.fps) {
        let x = x(at as f32 + 0.5).round();
        p.add(Shape::dotted_line(
            &[pos2(x, plot.top()), pos2(x, plot.bottom())],
            t.warn,
            5.0,
            1.0,
        ));
    }
    if let Some((at, db)) = v.worst(s.film.fps) {
        let middle = at as f32 + s.film.fps.min(n as u32) as f32 / 2.0;
        let c = pos2(x(middle), y(db));
        p.circle_stroke(c, 4.0, Stroke::new(2.0, t.warn));
        let text = format!(
            "worst second: {db:.1} dB at {}",
            say::clock(s.film.time(s.film.given + at))
        );
        let g = p.layout_no_wrap(text, small.clone(), t.warn);
        // To the left of the ring where the right has no room: the curve comes from above there.
        let left = match c.x + 10.0 + g.size().x <= plot.right() - 4.0 {
            true => c.x + 10.0,
            false => (c.x - 10.0 - g.size().x).max(plot.left()),
        };
        let above = if plot.bottom() < c.y + 22.0 {
            -20.0
        } else {
            6.0
        };
        p.galley(pos2(left, c.y + above), g, t.warn);
    }
    if let Some(i) = s.play.at.checked_sub(s.film.given).filter(|i| *i < n) {
        let x = x(i as f32 + 0.5).round();
        p.vline(x, plot.y_range(), Stroke::new(2.0, t.strong));
    }
    let frame =
        |at: Pos2| (((at.x - plot.left()) / plot.width()).clamp(0.0, 1.0) * n as f32) as usize;
    if (response.clicked() || response.dragged())
        && let Some(at) = response.interact_pointer_pos()
    {
        let i = frame(at).min(n - 1);
        s.leave();
        s.play.seek(s.film.given + i, s.len());
    }
    let words = sentence(s, v);
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &words));
    if let Some(q) = response
        .hover_pos()
        .map(frame)
        .and_then(|i| Some((i, v.quality.get(i)?)))
    {
        let (i, q) = q;
        let text = match q.is_exact() {
            true => format!("frame {i}: same bytes"),
            false => format!(
                "frame {i}: {:.1} dB, largest difference {} of 255",
                q.psnr, q.max_abs
            ),
        };
        s.show.hover = Some(s.film.given + i);
        response.on_hover_text_at_pointer(text);
    }
}

fn sentence(s: &State, v: &Versus) -> String {
    match (v.mean(), v.worst(s.film.fps)) {
        (Some(mean), Some((at, worst))) => format!(
            "PSNR by frame: equal for {}, mean after that {mean:.1} dB, lowest second {worst:.1} dB from frame {at}",
            say::n(v.equal(), "frame")
        ),
        _ => format!("PSNR by frame: equal for {}", say::n(v.equal(), "frame")),
    }
}

/// One line of figures below the curve.
fn figures(ui: &mut Ui, s: &State, rect: Rect, v: &Versus, t: &Tokens) {
    let db = |v: Option<f64>| match v {
        Some(db) if db.is_finite() => format!("{db:.1} dB"),
        Some(_) => "same bytes".to_owned(),
        None => say::UNKNOWN.to_owned(),
    };
    let mut cells = vec![
        (
            format!("mean from frame {}", v.equal()),
            db(v.mean()),
            t.strong,
        ),
        (
            "lowest second".to_owned(),
            db(v.worst(s.film.fps).map(|(_, db)| db)),
            t.warn,
        ),
        (
            "SSIM".to_owned(),
            v.ssim()
                .map_or(say::UNKNOWN.to_owned(), |x| format!("{x:.3}")),
            t.strong,
        ),
    ];
    match v.parted(s.film.fps) {
        Some(at) => cells.push((
            "parted".to_owned(),
            format!("at frame {at}: what follows are two takes"),
            t.warn,
        )),
        None if !v.quality.is_empty() => {
            cells.push(("parted".to_owned(), "not yet".to_owned(), t.strong))
        }
        None => {}
    }
    let (small, body) = (
        TextStyle::Small.resolve(ui.style()),
        TextStyle::Body.resolve(ui.style()),
    );
    let p = ui.painter();
    let mut x = rect.left();
    for (name, value, ink) in cells {
        let name = p.layout_no_wrap(name, small.clone(), t.weak);
        let value = p.layout_no_wrap(value, body.clone(), ink);
        if rect.right() < x + name.size().x + value.size().x + 6.0 {
            break;
        }
        let y = rect.center().y;
        p.galley(pos2(x, y - name.size().y / 2.0), name.clone(), t.weak);
        x += name.size().x + 6.0;
        p.galley(pos2(x, y - value.size().y / 2.0), value.clone(), ink);
        x += value.size().x + 22.0;
    }
}

//! The timeline: transport, ruler, thumbnails, one bar a frame for how the cache holds it, and ways that were left.

use egui::{
    Align, Align2, Color32, Id, Key, Layout, Painter, Pos2, Rect, RichText, Role, Sense, Shape,
    Stroke, StrokeKind, TextStyle, Ui, WidgetInfo, pos2, vec2,
};

use crate::play::Repeat;
use crate::say;
use crate::state::{Phase, Slot, State};
use crate::tokens::{self, Tokens};
use crate::widgets::{Bricks, Icon, Press, bar};

/// Fewest frames that the timeline can show.
const LEAST_REACH: f32 = 24.0;

/// Shows it.
pub fn show(ui: &mut Ui, s: &mut State, narrow: bool) {
    transport(ui, s, narrow);
    strip(ui, s, narrow);
}

fn transport(ui: &mut Ui, s: &mut State, narrow: bool) {
    let t = tokens::of(ui);
    let n = s.len();
    let some = n > 0;
    ui.allocate_ui_with_layout(
        vec2(ui.available_width(), 40.0),
        Layout::left_to_right(Align::Center),
        |ui| {
            ui.spacing_mut().item_spacing.x = 4.0;
            let icon = |name: &'static str, icon: Icon, key: &'static str| Press {
                enabled: some,
                ..Press::icon(name, icon).key(key)
            };
            if icon("To the start", Icon::Start, "Home").show(ui).clicked() {
                s.play.seek(0, n);
            }
            if icon("A frame back", Icon::Back, ",").show(ui).clicked() {
                s.play.step(-1, n);
            }
            let (name, picture) = match s.play.moving && some {
                true => ("Pause", Icon::Pause),
                false => ("Play", Icon::Play),
            };
            if icon(name, picture, "Space").show(ui).clicked() {
                s.play.toggle(n, s.grows());
            }
            if icon("A frame forward", Icon::Forward, ".")
                .show(ui)
                .clicked()
            {
                s.play.step(1, n);
            }
            let live = Press {
                on: s.play.follow && some,
                ..icon("To the live edge", Icon::Live, "End")
            };
            if live.show(ui).clicked() {
                s.play.live(n);
            }
            ui.add_space(8.0);
            let secs = s.film.time(s.play.at);
            let clock = match some {
                true if secs < 0.0 => format!("−{}", say::clock(-secs)),
                true => say::clock(secs),
                false => say::clock(0.0),
            };
            ui.label(RichText::new(clock).monospace().size(13.0).color(t.strong));
            ui.add_space(8.0);
            let what = match (some, s.play.at < s.film.given) {
                (false, _) => "no film yet".to_owned(),
                (_, true) => format!("given frame {}", s.play.at + 1),
                (_, false) => format!("frame {}", s.play.at - s.film.given),
            };
            ui.label(RichText::new(what).color(t.weak).small());
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                buttons(ui, s, narrow);
                if !narrow {
                    ui.add_space(12.0);
                    ui.label(RichText::new(making(s)).color(t.weak).small());
                }
            });
        },
    );
}

fn buttons(ui: &mut Ui, s: &mut State, narrow: bool) {
    let (word, icon, can) = match s.phase {
        Phase::Stopped => ("Go on making", Icon::Play, true),
        Phase::Making => ("Stop making", Icon::Stop, true),
        _ => ("Stop making", Icon::Stop, false),
    };
    let stop = Press {
        icon: Some(icon),
        enabled: can,
        ..Press::word(word)
    };
    if stop.key("P").show(ui).clicked() {
        s.stop_or_go();
    }
    let repeat = match s.play.repeat {
        Repeat::Off => "Loop: off".to_owned(),
        Repeat::All => "Loop: all".to_owned(),
        Repeat::From(a) => format!("Loop: {a} to …"),
        Repeat::Between(a, b) => format!("Loop: {a} to {b}"),
    };
    let press = Press::word(&repeat).show(ui);
    if press
        .on_hover_text("Mark A, mark B, off [L]; all [Shift L]")
        .clicked()
    {
        match s.play.repeat {
            Repeat::Off => s.play.repeat_all(),
            _ => s.play.repeat = Repeat::Off,
        }
    }
    let speed = format!("{:.1} ×", s.play.speed);
    if Press::word(&speed)
        .show(ui)
        .on_hover_text("Slower [[], faster []], normal [Backspace]")
        .clicked()
    {
        s.play.speed = if s.play.speed == 1.0 { 2.0 } else { 1.0 };
    }
    let undo = Press {
        icon: Some(Icon::Undo),
        bare: narrow,
        enabled: s.can_undo(),
        ..Press::word("Undo frame").key("Ctrl Z")
    };
    let tip = match s.is_text() {
        true => crate::text::NO_WAY_BACK,
        false => "Goes back a frame, and on from there another way; this one is kept as a take",
    };
    if undo.show(ui).on_hover_text(tip).clicked() {
        s.undo();
    }
}

fn making(s: &State) -> String {
    let (pass, of) = s.film.pass;
    match s.phase {
        Phase::Making => format!(
            "making frame {}: pass {} / {of}",
            s.film.made(),
            (pass + 1).min(of)
        ),
        Phase::Loading(done, of) if done > 0 => format!("given frame {done} / {of}"),
        Phase::GoingBack(done, of) => format!("made again: {done} / {of}"),
        _ => String::new(),
    }
}

/// Frames that the strip is long: a tenth more than there are, growing in steps, so that nothing creeps.
fn scale(n: usize, fps: u32) -> usize {
    let mut scale = 10.0 * f64::from(fps.max(1));
    while scale < 1.1 * n as f64 {
        scale *= 1.2;
    }
    scale as usize
}

/// Where things lie on the strip.
struct Strip {
    ruler: Rect,
    thumbs: Option<Rect>,
    bars: Rect,
    labels: Rect,
    takes: Option<Rect>,
    /// First frame at the left edge, and frames that the width stands for.
    reach: (f32, f32),
}

impl Strip {
    fn x(&self, frame: f32) -> f32 {
        let (first, frames) = self.reach;
        self.bars.left() + (frame - first) / frames * self.bars.width()
    }

    fn frame(&self, x: f32) -> usize {
        let share = ((x - self.bars.left()) / self.bars.width()).clamp(0.0, 1.0);
        let (first, frames) = self.reach;
        (first + share * frames).max(0.0) as usize
    }
}

fn strip(ui: &mut Ui, s: &mut State, narrow: bool) {
    let t = tokens::of(ui);
    let (rect, response) = ui.allocate_exact_size(
        vec2(ui.available_width(), ui.available_height()),
        Sense::click_and_drag(),
    );
    let down = |y: f32, h: f32| Rect::from_min_size(rect.min + vec2(0.0, y), vec2(rect.width(), h));
    let strip = Strip {
        ruler: down(0.0, 14.0),
        thumbs: (!narrow).then(|| down(18.0, 48.0)),
        bars: down(if narrow { 18.0 } else { 72.0 }, 24.0),
        labels: down(if narrow { 45.0 } else { 99.0 }, 18.0),
        takes: (!narrow).then(|| down(117.0, 14.0)),
        reach: reach(ui, s, rect, &response),
    };
    let top = strip.thumbs.unwrap_or(strip.bars).top();
    let well = Rect::from_min_max(pos2(rect.left(), top), strip.bars.max);
    ui.painter().rect_filled(well, 0.0, t.well);
    ruler(ui, s, &strip, t);
    if s.is_empty() {
        let text =
            "Frames appear here as they are made: one bar each, as tall as its bits in the cache.";
        let font = TextStyle::Body.resolve(ui.style());
        ui.painter()
            .text(well.center(), Align2::CENTER_CENTER, text, font, t.weak);
        let info = WidgetInfo::labeled(Role::Slider, false, "Time, no film yet");
        response.widget_info(|| info.clone());
        return;
    }
    if let Some(row) = strip.thumbs {
        thumbs(ui, s, &strip, row);
    }
    bars(ui, s, &strip, t);
    labels(ui, s, &strip, t);
    if let Some(row) = strip.takes {
        takes(ui, s, &strip, row, t);
    }
    marks(ui.painter(), s, &strip, well, t);
    super::prompt::marks(ui, s, |frame| strip.x(frame), well, strip.takes);
    heads(ui, s, &strip, well, t);
    let at = s.play.at;
    let slot = s.film.slots.get(at).copied().unwrap_or(Slot::Evicted);
    let label = format!(
        "Time {}, frame {at}, {}",
        say::clock(s.film.time(at).abs()),
        slot.name()
    );
    response.widget_info(|| WidgetInfo::slider(true, at as f64, &label));
    crate::widgets::focus_ring(ui, &response, well, t);
    pointer(ui, s, &strip, &response);
}

/// The part of the film that is shown: all of it, or what the wheel chose, which then goes with the playhead.
fn reach(ui: &Ui, s: &mut State, rect: Rect, response: &egui::Response) -> (f32, f32) {
    let all = scale(s.len().max(s.film.given), s.film.fps.max(8)) as f32;
    let (mut first, mut frames) = s.reach.unwrap_or((0.0, all));
    let (mut wheel, mut at) = (0.0, response.hover_pos().map(|at| at.x));
    if at.is_some() {
        wheel = ui.input(|i| i.smooth_scroll_delta.y);
    }
    if response.has_focus() {
        let presses = |key| ui.input(|i| i.num_presses(key)) as f32;
        let by = presses(Key::ArrowUp) - presses(Key::ArrowDown);
        if by != 0.0 {
            let shown = (s.play.at as f32 + 0.5 - first) / frames;
            (wheel, at) = (60.0 * by, Some(rect.left() + shown * rect.width()));
        }
    }
    if let Some(at) = at
        && wheel != 0.0
        && !s.is_empty()
    {
        let share = (at - rect.left()) / rect.width();
        let under = first + share * frames;
        frames = (frames * (-wheel / 240.0).exp()).clamp(LEAST_REACH.min(all), all);
        first = under - share * frames;
    } else if s.reach.is_some() && (s.play.moving || s.play.follow) {
        let at = s.play.at as f32;
        if at < first || first + 0.95 * frames < at {
            first = at - 0.5 * frames;
        }
    }
    first = first.clamp(0.0, (all - frames).max(0.0));
    s.reach = match response.double_clicked() || all <= frames {
        true => None,
        false => Some((first, frames)),
    };
    s.reach.unwrap_or((0.0, all))
}

fn ruler(ui: &Ui, s: &State, strip: &Strip, t: &Tokens) {
    let fps = s.film.fps.max(8) as f32;
    let given = s.film.given as f32;
    let (from, frames) = strip.reach;
    let points = strip.bars.width() / frames * fps;
    let steps = [
        1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
    ];
    let step = steps
        .into_iter()
        .find(|x| x * points >= 70.0)
        .unwrap_or(3600.0);
    let font = TextStyle::Small.resolve(ui.style());
    let p = ui.painter();
    let skipped = ((from - given) / fps / step).ceil().max(0.0) as u32;
    for i in skipped.. {
        let secs = step * i as f32;
        let x = strip.x(given + secs * fps).round();
        if strip.ruler.right() - 1.0 < x {
            break;
        }
        p.vline(
            x,
            strip.ruler.bottom() - 5.0..=strip.ruler.bottom(),
            Stroke::new(1.0, t.edge),
        );
        if x + 34.0 < strip.ruler.right() {
            let text = say::clock(f64::from(secs));
            let text = text.trim_end_matches(".0").to_owned();
            p.text(
                pos2(x + 4.0, strip.ruler.center().y),
                Align2::LEFT_CENTER,
                text,
                font.clone(),
                t.weak,
            );
        }
    }
    if strip.x(given) > strip.ruler.left() + 36.0 {
        p.text(
            strip.ruler.left_center(),
            Align2::LEFT_CENTER,
            "given",
            font,
            t.weak,
        );
    }
}

fn thumbs(ui: &Ui, s: &mut State, strip: &Strip, row: Rect) {
    let n = s.film.shots.len();
    let end = strip.x(n as f32).min(row.right());
    let p = ui
        .painter()
        .with_clip_rect(Rect::from_min_max(row.min, pos2(end, row.bottom())));
    let mut x = row.left();
    let [w, h] = s.film.size.map(|side| side.max(1) as f32);
    let wide = (row.height() * w / h).round().clamp(16.0, 240.0);
    while x < end {
        // The frame in the middle of the thumbnail, so that it says what lies below it.
        let frame = strip.frame((x + wide / 2.0).min(end)).min(n - 1);
        let shot = &s.film.shots[frame];
        let rect = Rect::from_min_size(pos2(x, row.top()), vec2(wide, row.height()));
        s.gallery.paint(&p, &shot.frame, rect, Color32::WHITE);
        x += wide + 1.0;
    }
}

fn colour(slot: Slot, t: &Tokens) -> (Option<u32>, Color32) {
    match slot.width() {
        None => (None, t.edge),
        Some(w) => (Some(w.bits()), t.bits[w as usize]),
    }
}

fn bars(ui: &Ui, s: &State, strip: &Strip, t: &Tokens) {
    let mut bricks = Bricks::new(ui.pixels_per_point());
    let wide = strip.bars.width() / strip.reach.1;
    let foot = strip.bars.bottom();
    let pixel = 1.0 / ui.pixels_per_point();
    if wide >= pixel {
        let (first, frames) = strip.reach;
        let shown = s.film.slots.iter().enumerate().skip(first as usize);
        for (i, slot) in shown.take(frames as usize + 2) {
            let (bits, ink) = colour(*slot, t);
            bar(
                &mut bricks,
                strip.x(i as f32)..strip.x((i + 1) as f32),
                foot,
                bits,
                ink,
            );
        }
    } else {
        // Several frames a pixel: the tallest speaks for them.
        let mut x = strip.bars.left();
        while strip.frame(x) < s.film.slots.len() && x < strip.bars.right() {
            let (a, b) = (
                strip.frame(x),
                strip.frame(x + pixel).max(strip.frame(x) + 1),
            );
            let run = &s.film.slots[a..b.min(s.film.slots.len())];
            let tallest = run.iter().max_by_key(|x| x.width().map_or(0, |w| w.bits()));
            if let Some(slot) = tallest {
                let (bits, ink) = colour(*slot, t);
                bar(&mut bricks, x..x + pixel, foot, bits, ink);
            }
            x += pixel;
        }
    }
    let p = ui
        .painter()
        .with_clip_rect(strip.bars.expand2(vec2(0.0, 1.0)));
    bricks.paint(&p);
    borders(&p, s, strip, t);
    // The chunk in the making fills from below.
    if s.phase == Phase::Making {
        let n = s.film.slots.len() as f32;
        let end = strip.x(n + s.film.chunk_frames.max(1) as f32);
        let cell = Rect::from_min_max(
            pos2(strip.x(n), foot - 24.0),
            pos2(end.max(strip.x(n) + 3.0), foot),
        );
        let (pass, of) = s.film.pass;
        let high = 24.0 * pass as f32 / of.max(1) as f32;
        p.rect_filled(
            Rect::from_min_max(pos2(cell.left(), foot - high), cell.max),
            0.0,
            t.weak,
        );
        p.rect_stroke(cell, 0.0, Stroke::new(1.0, t.strong), StrokeKind::Inside);
    }
    if let Phase::Failed(_) = s.phase {
        let n = s.film.slots.len() as f32;
        let cell = Rect::from_min_size(
            pos2(strip.x(n), foot - 24.0),
            vec2((strip.x(1.0) - strip.x(0.0)).max(10.0), 24.0),
        );
        let line = Stroke::new(1.5, t.error);
        p.rect_stroke(cell, 0.0, line, StrokeKind::Inside);
        p.line_segment([cell.left_top(), cell.right_bottom()], line);
        p.line_segment([cell.right_top(), cell.left_bottom()], line);
    }
}

/// Where chunks of several frames begin, as long as that can be told apart.
fn borders(p: &Painter, s: &State, strip: &Strip, t: &Tokens) {
    let chunk = s.film.chunk_frames as f32;
    if s.film.chunk_frames < 2 || strip.x(chunk) - strip.x(0.0) < 8.0 {
        return;
    }
    for first in &s.film.chunks {
        let x = strip.x(*first as f32).round();
        p.vline(x, strip.bars.y_range(), Stroke::new(1.0, t.strong));
    }
}

/// Runs of one state under the bars, in words where they fit.
fn labels(ui: &Ui, s: &State, strip: &Strip, t: &Tokens) {
    let p = ui.painter().with_clip_rect(strip.labels);
    let font = TextStyle::Small.resolve(ui.style());
    let slots = &s.film.slots;
    let mut start = 0;
    while start < slots.len() {
        let name = slots[start].name();
        let run = slots[start..]
            .iter()
            .take_while(|x| x.name() == name)
            .count();
        let a = strip.x(start as f32).max(strip.bars.left());
        let b = strip.x((start + run) as f32).min(strip.bars.right());
        let (_, ink) = colour(slots[start], t);
        let y = strip.labels.top() + 2.0;
        if b - a > 6.0 {
            let line = Stroke::new(1.0, ink);
            p.hline(a + 1.0..=b - 2.0, y, line);
            p.vline(a + 1.0, y - 2.0..=y, line);
            p.vline(b - 2.0, y - 2.0..=y, line);
        }
        let long = format!("{name} · {}", say::n(run, "frame"));
        for text in [long, name] {
            let g = p.layout_no_wrap(text, font.clone(), t.weak);
            if g.size().x + 6.0 <= b - a {
                p.galley(pos2((a + b - g.size().x) / 2.0, y + 3.0), g, t.weak);
                break;
            }
        }
        start += run;
    }
}

fn takes(ui: &mut Ui, s: &mut State, strip: &Strip, row: Rect, t: &Tokens) {
    let clip = Rect::from_min_max(pos2(row.left(), strip.bars.top()), row.max + vec2(0.0, 3.0));
    let p = ui.painter().with_clip_rect(clip);
    let font = TextStyle::Small.resolve(ui.style());
    // The newest lies on top; older ones that would cross it are left out.
    let newest = s.takes.len().checked_sub(1);
    let Some((i, take)) = s.beside.or(newest).and_then(|i| Some((i, s.takes.get(i)?))) else {
        return;
    };
    let a = strip.x((take.from + 1) as f32);
    let b = strip
        .x((take.from + 1 + take.shots.len()) as f32)
        .max(a + 24.0);
    let y = row.center().y;
    let line = Stroke::new(1.5, t.accent);
    p.vline(a, strip.bars.bottom()..=y, line);
    p.hline(a..=b, y, line);
    p.circle_filled(pos2(b, y), 3.0, t.accent);
    let text = format!(
        "take {}, left at frame {} · {}",
        i + 1,
        take.from.saturating_sub(s.film.given),
        say::n(take.shots.len(), "frame")
    );
    let label = p.text(pos2(b + 8.0, y), Align2::LEFT_CENTER, &text, font, t.weak);
    let place = Rect::from_min_max(pos2(a, row.top()), pos2(label.right(), row.bottom()));
    let response = ui.interact(place.intersect(row), Id::unique("take"), Sense::click());
    let is_beside = s.beside == Some(i);
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, is_beside, &text));
    crate::widgets::focus_ring(ui, &response, place, t);
    if response
        .on_hover_text("Play it beside the film [B]; take it again [Ctrl Shift Z]")
        .clicked()
    {
        s.beside = if is_beside { None } else { Some(i) };
    }
}

fn marks(p: &Painter, s: &State, strip: &Strip, well: Rect, t: &Tokens) {
    let (a, b) = match s.play.repeat {
        Repeat::From(a) => (a, a + 1),
        Repeat::Between(a, b) => (a, b + 1),
        _ => return,
    };
    let rect = Rect::from_x_y_ranges(
        strip.x(a as f32)..=strip.x(b as f32),
        well.top() - 3.0..=well.top(),
    );
    p.rect_filled(rect, 0.0, t.accent);
}

fn heads(ui: &Ui, s: &State, strip: &Strip, well: Rect, t: &Tokens) {
    let p = &ui.painter().with_clip_rect(well.expand2(vec2(7.0, 16.0)));
    let font = TextStyle::Body.resolve(ui.style());
    let edge = strip.x(s.len() as f32 + 1.0);
    let word = match s.phase {
        Phase::Making => Some(("live edge", t.ok)),
        Phase::Failed(_) => Some(("stopped here", t.error)),
        Phase::Stopped => Some(("making stopped", t.weak)),
        Phase::Finished => Some(("the end", t.weak)),
        _ => None,
    };
    if let Some((word, ink)) = word {
        let y = strip.thumbs.unwrap_or(strip.bars).center().y;
        p.text(pos2(edge + 10.0, y), Align2::LEFT_CENTER, word, font, ink);
    }
    if let Some(hover) = s.show.hover {
        let x = strip.x(hover as f32 + 0.5).round();
        p.vline(x, well.y_range(), Stroke::new(1.0, t.text));
    }
    let x = strip.x(s.play.at as f32 + 0.5).round();
    p.vline(
        x,
        well.top() - 4.0..=well.bottom() + 2.0,
        Stroke::new(2.0, t.strong),
    );
    let y = well.top() - 4.0;
    let handle = [
        vec2(-6.0, -9.0),
        vec2(6.0, -9.0),
        vec2(6.0, -3.0),
        vec2(0.0, 3.0),
        vec2(-6.0, -3.0),
    ];
    let handle = handle.map(|v| Pos2::new(x, y) + v).to_vec();
    p.add(Shape::convex_polygon(handle, t.strong, Stroke::NONE));
}

fn pointer(ui: &mut Ui, s: &mut State, strip: &Strip, response: &egui::Response) {
    let n = s.len();
    let start = Id::unique("timeline A-B");
    let shift = ui.input(|i| i.modifiers.shift);
    if let Some(at) = response.interact_pointer_pos()
        && shift
        && (response.drag_started() || response.dragged())
    {
        // The stretch that is drawn with Shift held is repeated.
        let frame = strip.frame(at.x).min(n - 1);
        if response.drag_started() {
            ui.data_mut(|d| d.insert_temp(start, frame));
        }
        let from = ui.data(|d| d.get_temp::<usize>(start)).unwrap_or(frame);
        if from != frame {
            s.play.repeat = Repeat::Between(from.min(frame), from.max(frame));
        }
    } else if let Some(at) = response.interact_pointer_pos()
        && (response.dragged() || response.clicked())
    {
        s.leave();
        s.play.seek(strip.frame(at.x), n);
    }
    if response.has_focus() {
        // The arrows are the strip's own keys here: a frame back and forth, and how many it shows.
        let filter = egui::EventFilter {
            horizontal_arrows: true,
            vertical_arrows: true,
            ..egui::EventFilter::default()
        };
        ui.memory_mut(|m| m.set_focus_lock_filter(response.id, filter));
        let by = ui.input(|i| {
            i.key_pressed(Key::ArrowRight) as isize - i.key_pressed(Key::ArrowLeft) as isize
        });
        if by != 0 {
            s.play.step(by, n);
        }
    }
    let menu = Id::unique("timeline menu");
    if response.secondary_clicked()
        && let Some(at) = response.interact_pointer_pos()
    {
        ui.data_mut(|d| d.insert_temp(menu, strip.frame(at.x).min(n - 1)));
    }
    response.context_menu(|ui| {
        let frame = ui.data(|d| d.get_temp::<usize>(menu)).unwrap_or(s.play.at);
        let given = s.film.given;
        ui.label(
            RichText::new(match frame < given {
                true => format!("given frame {}", frame + 1),
                false => format!("frame {}", frame - given),
            })
            .small(),
        );
        let can = frame + 1 >= given && frame + 1 < n && !s.is_text();
        let go_on = ui.add_enabled(can, egui::Button::new("Go on from here (keeps this take)"));
        let go_on = match s.is_text() {
            true => go_on.on_disabled_hover_text(crate::text::NO_WAY_BACK),
            false => go_on,
        };
        if go_on.clicked() {
            s.back_to(frame);
            ui.close();
        }
        if ui.button("Save frame").clicked() {
            s.play.seek(frame, n);
            s.save_frame();
            ui.close();
        }
        let pose = ui.add_enabled(!s.is_text(), egui::Button::new("Copy pose"));
        if pose
            .on_disabled_hover_text(crate::text::NO_STEERING)
            .clicked()
        {
            let p = s.film.shots[frame].pose;
            ui.ctx().copy_text(format!("x {} y {} k {}", p.x, p.y, p.k));
            ui.close();
        }
    });
    if let Some(at) = response
        .hover_pos()
        .filter(|_| !response.context_menu_opened())
    {
        let frame = strip.frame(at.x);
        if let Some(shot) = s.film.shots.get(frame) {
            s.show.hover = Some(frame);
            let slot = s.film.slots.get(frame).copied().unwrap_or(Slot::Evicted);
            let given = frame < s.film.given;
            let (x, y) = shot.pose.cells();
            let time = s.film.time(frame);
            let place = match s.text.at(frame).filter(|_| s.is_text()) {
                Some(mark) => format!("under: {}", mark.short()),
                None => format!(
                    "{x:.2}, {y:.2} cells, heading {:.1}°",
                    f64::from(shot.pose.k) * 22.5
                ),
            };
            let mut lines = vec![
                match given {
                    true => format!("given frame {}", frame + 1),
                    false => format!("frame {} · {}", frame - s.film.given, say::clock(time)),
                },
                place,
                format!("in the cache: {}", slot.name()),
            ];
            if let Some(step) = shot.step {
                lines.push(format!(
                    "came here by {step}; new spans then: {}",
                    shot.widths.name()
                ));
            }
            response.clone().on_hover_text_at_pointer(lines.join("\n"));
        }
    }
}

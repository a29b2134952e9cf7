//! The memory pane: bits, one big number, the graph, its legend, speed, drift, coded bytes by tensor.

use egui::{
    Align2, FontId, Rect, RichText, Role, ScrollArea, Sense, Shape, Stroke, TextStyle, Ui,
    WidgetInfo, pos2, vec2,
};
use longtake::rollout::event::Event;

use crate::drift;
use crate::memory::Part;
use crate::say;
use crate::state::{Phase, State};
use crate::tokens;
use crate::widgets::{divider, fold, row, title};

use super::{bits, graph};

/// Shows it.
pub fn show(ui: &mut Ui, s: &mut State, narrow: bool) {
    ScrollArea::vertical()
        .auto_shrink([false, false])
        .show(ui, |ui| {
            // Room for the scroll bar, which would lie on the numbers.
            ui.set_max_width(ui.available_width() - 6.0);
            ui.add_space(10.0);
            s.show.hover = None;
            bits::show(ui, s, narrow);
            divider(ui);
            if s.history.last().is_none() {
                plan(ui, s);
                return;
            }
            device(ui, s);
            let high = if ui.ctx().content_rect().height() >= 1080.0 {
                210.0
            } else {
                150.0
            };
            let part = ui.data(|d| {
                d.get_temp::<Option<Part>>(egui::Id::unique("legend"))
                    .flatten()
            });
            graph::show(ui, s, high, part);
            if !narrow {
                legend(ui, s);
            }
            divider(ui);
            speed(ui, s);
            if !narrow {
                divider(ui);
                meter(ui, s);
                divider(ui);
                layers(ui, s);
            }
            ui.add_space(10.0);
        });
}

/// Before anything is loaded: what it will take.
fn plan(ui: &mut Ui, s: &mut State) {
    let t = tokens::of(ui);
    match &s.plan {
        Some(Ok(Event::Plan {
            planned,
            frames,
            window,
            sink,
            ..
        })) => {
            title(ui, "Device memory", "plan");
            ui.add_space(2.0);
            for (name, bytes) in [
                ("Weights to load", planned.weights_bytes),
                ("Keys and values, exact", planned.cache_bytes),
                ("Keys and values, coded", planned.spans_bytes),
                ("Activations", planned.activations_bytes),
                ("Scratch", planned.scratch_bytes),
            ] {
                row(ui, name, &say::bytes(bytes), false);
            }
            row(ui, "At most", &say::bytes(planned.peak_device_bytes), false);
            let free = s.device.free.map_or(say::UNKNOWN.to_owned(), say::bytes);
            row(ui, "Free for this device", &free, false);
            ui.add_space(4.0);
            let (dot, _) = ui.allocate_exact_size(vec2(ui.available_width(), 20.0), Sense::hover());
            let (ink, fits) = match s.device.free {
                Some(_) => (t.ok, "Fits, for the whole film"),
                None => (t.warn, "The card does not say what is free"),
            };
            ui.painter()
                .circle_filled(dot.left_center() + vec2(4.0, 0.0), 4.0, ink);
            ui.painter().text(
                dot.left_center() + vec2(16.0, 0.0),
                Align2::LEFT_CENTER,
                fits,
                TextStyle::Body.resolve(ui.style()),
                t.text,
            );
            let window = window.map_or("all frames".to_owned(), |w| {
                format!("a window of {w} frames")
            });
            ui.label(RichText::new(format!("Up to {frames} frames, {window}, the first {sink} of them kept for good. The plan is for the width chosen here.")).small().color(t.weak));
        }
        Some(Err(fault)) => {
            title(ui, "Device memory", "plan");
            ui.label(RichText::new(&fault.headline).color(t.error));
            for cause in &fault.causes {
                let text = RichText::new(cause).text_style(TextStyle::Monospace);
                // A table stays one: its lines are scrolled, not broken.
                ScrollArea::horizontal().id_salt(cause).show(ui, |ui| {
                    ui.add(egui::Label::new(text.size(11.0).color(t.text)).extend());
                });
            }
            ui.label(RichText::new(&fault.advice).small().color(t.weak));
        }
        _ => title(ui, "Device memory", "planning"),
    }
    if let Phase::Loading(..) = s.phase {
        divider(ui);
        row(ui, "Held now", &say::bytes(s.ledger.device_bytes), false);
    }
    divider(ui);
    title(ui, "Device", "");
    ui.label(RichText::new(&s.device.title).color(t.text));
    ui.label(
        RichText::new(format!("{}; {}", s.device.driver, s.device.kind))
            .small()
            .color(t.weak),
    );
}

/// The big number and its company.
fn device(ui: &mut Ui, s: &State) {
    let t = tokens::of(ui);
    let Some(x) = s.history.last() else { return };
    let total = say::bytes(x.total());
    title(ui, "Device memory", "");
    let frozen = matches!(s.phase, Phase::Failed(_));
    let strong = if frozen { t.weak } else { t.strong };
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 46.0), Sense::hover());
    let p = ui.painter();
    let body = TextStyle::Body.resolve(ui.style());
    let small = TextStyle::Small.resolve(ui.style());
    p.text(
        pos2(rect.right(), rect.top() - 16.0),
        Align2::RIGHT_CENTER,
        &total,
        body.clone(),
        t.text,
    );
    let big = say::bytes(x.cache());
    let (number, unit) = big.split_once(' ').unwrap_or((&big, ""));
    let base = rect.top() + 28.0;
    let g = p.text(
        pos2(rect.left(), base),
        Align2::LEFT_BOTTOM,
        number,
        FontId::proportional(26.0),
        strong,
    );
    p.text(
        pos2(g.right() + 5.0, base - 3.0),
        Align2::LEFT_BOTTOM,
        unit,
        body.clone(),
        strong,
    );
    p.text(
        pos2(rect.left(), rect.bottom()),
        Align2::LEFT_BOTTOM,
        "cache",
        small.clone(),
        t.weak,
    );
    let bits = format!("{:.2}", x.bits_per_element);
    let cells = [
        (bits, "bits / element", 78.0),
        (say::ratio(x.ratio()), "smaller", 62.0),
        (say::bytes(x.half), "at 16 bit", 76.0),
    ];
    let mut right = rect.right();
    for (value, name, wide) in cells {
        if right - wide < g.right() + 40.0 {
            break;
        }
        p.text(
            pos2(right, base - 3.0),
            Align2::RIGHT_BOTTOM,
            value,
            body.clone(),
            strong,
        );
        p.text(
            pos2(right, rect.bottom()),
            Align2::RIGHT_BOTTOM,
            name,
            small.clone(),
            t.weak,
        );
        right -= wide;
    }
    let sentence = format!(
        "Cache {}, {} at 16 bit, device {total}",
        say::bytes(x.cache()),
        say::bytes(x.half)
    );
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, &sentence));
    response.on_hover_text(format!(
        "{} of keys and values are held, {} of pages wait for frames.\nThe same frames in 16 bit: {}.",
        say::exact(x.cache()),
        say::exact(x.of(Part::Reserved)),
        say::exact(x.half)
    ));
    ui.add_space(4.0);
}

/// The legend is a table that sums to the device's bytes.
fn legend(ui: &mut Ui, s: &State) {
    let t = tokens::of(ui);
    let Some(x) = s.history.last() else { return };
    ui.add_space(4.0);
    let body = TextStyle::Body.resolve(ui.style());
    let mut over = None;
    for part in Part::ALL.into_iter().rev() {
        let bytes = x.of(part);
        if part == Part::Other && bytes == 0 {
            continue;
        }
        let (rect, response) =
            ui.allocate_exact_size(vec2(ui.available_width(), 17.0), Sense::hover());
        if response.hovered() {
            over = Some(part);
        }
        let name = part.name();
        response.widget_info(|| {
            let sentence = format!("{name} {}, {}", say::bytes(bytes), say::exact(bytes));
            WidgetInfo::labeled(Role::Label, true, sentence)
        });
        let p = ui.painter();
        let swatch = Rect::from_center_size(rect.left_center() + vec2(6.0, 0.0), vec2(12.0, 12.0));
        p.rect_filled(swatch, 2.0, t.parts[part as usize]);
        p.text(
            rect.left_center() + vec2(20.0, 0.0),
            Align2::LEFT_CENTER,
            name,
            body.clone(),
            t.text,
        );
        let share = 100.0 * bytes as f64 / x.total().max(1) as f64;
        p.text(
            rect.right_center(),
            Align2::RIGHT_CENTER,
            format!("{share:.0} %"),
            body.clone(),
            t.weak,
        );
        p.text(
            rect.right_center() - vec2(52.0, 0.0),
            Align2::RIGHT_CENTER,
            say::bytes(bytes),
            body.clone(),
            t.strong,
        );
        response.on_hover_text(say::exact(bytes));
    }
    ui.data_mut(|d| d.insert_temp(egui::Id::unique("legend"), over));
}

fn speed(ui: &mut Ui, s: &State) {
    let t = tokens::of(ui);
    let Some(mean) = s.speed.mean() else { return };
    let rate = match s.phase {
        Phase::Making => say::rate(s.speed.fps()),
        _ => "not making".to_owned(),
    };
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 24.0), Sense::hover());
    let p = ui.painter();
    let body = TextStyle::Body.resolve(ui.style());
    let heading = TextStyle::Heading.resolve(ui.style());
    p.text(
        rect.left_center(),
        Align2::LEFT_CENTER,
        "Speed",
        heading,
        t.strong,
    );
    p.text(
        rect.right_center(),
        Align2::RIGHT_CENTER,
        format!("{} / chunk", say::secs(mean.total)),
        body.clone(),
        t.weak,
    );
    p.text(
        rect.right_center() - vec2(112.0, 0.0),
        Align2::RIGHT_CENTER,
        rate,
        body,
        t.strong,
    );
    let phases = [
        ("denoise", mean.denoise, t.accent),
        ("write", mean.cache, t.bits[2]),
        ("encode", mean.encode, t.parts[Part::Codes as usize]),
        ("decode", mean.decode, t.parts[Part::Activations as usize]),
        ("other", mean.other().max(0.0), t.edge),
    ];
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 8.0), Sense::hover());
    let parts = phases.map(|(name, secs, _)| format!("{name} {}", say::secs(secs)));
    let sentence = format!(
        "A chunk takes {}: {}",
        say::secs(mean.total),
        parts.join(", ")
    );
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &sentence));
    let p = ui.painter();
    let mut x = rect.left();
    for (_, secs, colour) in phases {
        let w = rect.width() * (secs / mean.total.max(1e-9)) as f32;
        let part = Rect::from_min_max(
            pos2(x, rect.top()),
            pos2((x + w - 1.0).max(x), rect.bottom()),
        );
        p.rect_filled(part, 0.0, colour);
        x += w;
    }
    ui.add_space(2.0);
    // Names over figures, in cells as wide as the names, so that nothing moves when a figure gets longer. The last one has
    // nothing beside it to reach into.
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 30.0), Sense::hover());
    let p = ui.painter();
    let small = TextStyle::Small.resolve(ui.style());
    let names = phases.map(|(name, ..)| p.layout_no_wrap(name.to_owned(), small.clone(), t.weak));
    let figure = p.layout_no_wrap(say::secs(8.888), small.clone(), t.text);
    let last = phases.len() - 1;
    let before: f32 = names[..last].iter().map(|g| 12.0 + g.size().x).sum();
    let room = 12.0 + names[last].size().x.max(figure.size().x);
    let gap = (rect.width() - before - room) / last as f32;
    let mut at = rect.left_top() + vec2(0.0, 8.0);
    for (name, (_, secs, colour)) in names.into_iter().zip(phases) {
        let square = Rect::from_center_size(at + vec2(4.0, 0.0), vec2(8.0, 8.0));
        p.rect_filled(square, 1.0, colour);
        let (wide, high) = (name.size().x, name.size().y);
        p.galley(at + vec2(12.0, -high / 2.0), name, t.weak);
        let below = at + vec2(12.0, 14.0);
        p.text(
            below,
            Align2::LEFT_CENTER,
            say::secs(secs),
            small.clone(),
            t.text,
        );
        at.x += 12.0 + wide + gap;
    }
    let main = s
        .speed
        .main_bytes
        .map_or(say::UNKNOWN.to_owned(), say::bytes);
    row(ui, "Main memory", &main, false);
}

fn meter(ui: &mut Ui, s: &mut State) {
    let t = tokens::of(ui);
    let trends = drift::trends(&s.drift);
    let outside: Vec<&str> = trends
        .iter()
        .filter(|x| x.outside)
        .map(|x| x.name)
        .collect();
    let remark = match (trends.is_empty(), outside.is_empty()) {
        (true, _) => "nothing to compare yet".to_owned(),
        (_, true) => "in the range of its beginning".to_owned(),
        _ => format!("{} out of range", outside.join(", ").to_lowercase()),
    };
    fold(ui, "Drift", &remark, &mut s.show.drift);
    if !s.show.drift {
        return;
    }
    let body = TextStyle::Body.resolve(ui.style());
    for trend in trends {
        let (rect, response) =
            ui.allocate_exact_size(vec2(ui.available_width(), 19.0), Sense::hover());
        let p = ui.painter();
        p.text(
            rect.left_center(),
            Align2::LEFT_CENTER,
            trend.name,
            body.clone(),
            t.text,
        );
        let plot = Rect::from_min_max(rect.min + vec2(86.0, 3.0), rect.max - vec2(66.0, 3.0));
        let low = trend.values.iter().copied().fold(trend.range.0, f64::min);
        let high = trend.values.iter().copied().fold(trend.range.1, f64::max);
        let span = (high - low).max(1e-3);
        let y = |v: f64| plot.bottom() - ((v - low) / span) as f32 * plot.height();
        let band = Rect::from_x_y_ranges(plot.x_range(), y(trend.range.1)..=y(trend.range.0));
        p.rect_filled(band, 1.0, t.control[0]);
        let every = trend.values.len().div_ceil(128).max(1);
        let n = trend.values.len().max(2) - 1;
        let line = trend.values.iter().enumerate().step_by(every);
        let line = line.map(|(i, v)| pos2(plot.left() + plot.width() * i as f32 / n as f32, y(*v)));
        let ink = if trend.outside { t.warn } else { t.accent };
        p.add(Shape::line(line.collect(), Stroke::new(1.5, ink)));
        let change = 100.0 * trend.change;
        let sign = if change < 0.0 { "−" } else { "+" };
        let value = format!("{sign} {:.0} %", change.abs());
        let ink = if trend.outside { t.warn } else { t.strong };
        p.text(
            rect.right_center(),
            Align2::RIGHT_CENTER,
            &value,
            body.clone(),
            ink,
        );
        response.widget_info(|| {
            WidgetInfo::labeled(Role::Label, true, format!("{} {value}", trend.name))
        });
    }
}

fn layers(ui: &mut Ui, s: &mut State) {
    let t = tokens::of(ui);
    let kv = s.kv.clone();
    let remark = match &kv {
        Some(kv) if kv.coded_bytes > 0 => format!(
            "K {:.2}, V {:.2} bits / element",
            kv.k.bits_per_element, kv.v.bits_per_element
        ),
        _ => "nothing is coded yet".to_owned(),
    };
    fold(ui, "Coded keys and values", &remark, &mut s.show.layers);
    s.measure(s.show.layers);
    let Some(kv) = kv.filter(|kv| s.show.layers && kv.coded_bytes > 0) else {
        return;
    };
    let gap = 12.0;
    let wide = ((ui.available_width() - 2.0 * gap) / 3.0).floor();
    egui::Grid::new("coded")
        .num_columns(3)
        .striped(true)
        .min_col_width(wide)
        .max_col_width(wide)
        .spacing([gap, 3.0])
        .show(ui, |ui| {
            let right = |ui: &mut Ui, text: String, strong: bool| {
                ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                    ui.label(RichText::new(text).color(if strong { t.strong } else { t.weak }));
                });
            };
            ui.label(
                RichText::new(format!("all {} layers", s.film.layers))
                    .small()
                    .color(t.weak),
            );
            right(ui, "K".into(), false);
            right(ui, "V".into(), false);
            ui.end_row();
            type Of = fn(&longtake::ops::SpanBytes) -> u64;
            let rows: [(&str, Of); 6] = [
                ("codes", |b| b.codes),
                ("scales", |b| b.scales),
                ("cluster ids", |b| b.ids),
                ("centroids", |b| b.centroids),
                ("head tables", |b| b.heads),
                ("padding", |b| b.padding),
            ];
            for (name, of) in rows {
                ui.label(name);
                right(ui, say::bytes(of(&kv.k.coded)), true);
                right(ui, say::bytes(of(&kv.v.coded)), true);
                ui.end_row();
            }
            ui.label("smaller than 16 bit");
            right(ui, say::ratio(kv.k.ratio), true);
            right(ui, say::ratio(kv.v.ratio), true);
            ui.end_row();
        });
    ui.label(
        RichText::new(format!(
            "{} coded, {} each",
            say::n(kv.spans_coded as usize, "span"),
            say::secs(1e-3 * kv.encode_ms_per_span)
        ))
        .small()
        .color(t.weak),
    );
    errors(ui, s, &kv);
}

/// Layer by layer: bytes, and how far decoded keys and values lie from what was coded.
fn errors(ui: &mut Ui, s: &State, kv: &longtake::cache::KvFigures) {
    let t = tokens::of(ui);
    let errors = s.errors.as_ref();
    let said = match errors {
        Some(e) if e.measured > 0 => format!(
            "Error: |decoded − exact| / |exact|, mean of {} of {}. Spans that were packed again or coded before this table was open are not measured.",
            e.measured,
            say::n(e.spans, "span")
        ),
        _ => "Error: not measured yet; spans that are coded from now on are.".to_owned(),
    };
    ui.add_space(4.0);
    let gap = 4.0;
    let wide = ((ui.available_width() - 4.0 * gap) / 5.0).floor();
    egui::Grid::new("errors")
        .num_columns(5)
        .striped(true)
        .min_col_width(wide)
        .max_col_width(wide)
        .spacing([gap, 3.0])
        .show(ui, |ui| {
            let right = |ui: &mut Ui, text: String, strong: bool| {
                ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                    ui.label(RichText::new(text).color(if strong { t.strong } else { t.weak }));
                });
            };
            for name in ["layer", "K", "error", "V", "error"] {
                match name {
                    "layer" => drop(ui.label(RichText::new(name).small().color(t.weak))),
                    name => right(ui, name.to_owned(), false),
                }
            }
            ui.end_row();
            for layer in 0..s.film.layers as usize {
                ui.label(layer.to_string());
                let bytes = kv.layers.get(layer).map_or([0; 2], |l| l.bytes);
                for (i, bytes) in bytes.into_iter().enumerate() {
                    let error = errors.and_then(|e| e.by_layer.get(layer));
                    let error = error.map_or(say::UNKNOWN.to_owned(), |e| {
                        format!("{:.2} %", 100.0 * e[i])
                    });
                    right(ui, say::bytes(bytes), true);
                    right(ui, error, true);
                }
                ui.end_row();
            }
        });
    ui.label(RichText::new(said).small().color(t.weak));
}

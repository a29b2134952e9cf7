//! Device bytes by purpose over the film, stacked, under the line of the same frames in 16 bit.

use egui::{
    Align2, Color32, Mesh, Pos2, Rect, Role, Sense, Shape, Stroke, TextStyle, Ui, WidgetInfo,
    epaint::Vertex, pos2, vec2,
};

use crate::memory::{Part, Sample};
use crate::say;
use crate::state::State;
use crate::tokens;

/// Width of the axis at the left.
const AXIS: f32 = 34.0;

/// Shows it, `high` points high; the frame the pointer is over is marked here and on the timeline.
pub fn show(ui: &mut Ui, s: &mut State, high: f32, highlight: Option<Part>) {
    let t = tokens::of(ui);
    let (rect, response) =
        ui.allocate_exact_size(vec2(ui.available_width(), high + 18.0), Sense::hover());
    let sentence = match s.history.last() {
        Some(x) => format!(
            "Device {}: cache {}, {} smaller than 16 bit",
            say::bytes(x.total()),
            say::bytes(x.cache()),
            say::ratio(x.ratio())
        ),
        None => "Device memory, nothing made yet".to_owned(),
    };
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &sentence));
    let plot = Rect::from_min_max(rect.min + vec2(AXIS, 0.0), rect.max - vec2(0.0, 18.0));
    let top = s.history.top() as f32;
    let samples = s.history.thinned(512);
    let last = samples.last().map_or(0, |x| x.frame).max(16) as f32;
    let first = samples.first().map_or(0, |x| x.frame).min(1) as f32;
    let x_of = |frame: f32| plot.left() + (frame - first) / (last - first).max(1.0) * plot.width();
    let y_of = |bytes: f32| plot.bottom() - bytes / top * plot.height();
    let p = ui.painter().with_clip_rect(rect.expand(1.0));
    p.rect_filled(plot, 0.0, t.well);
    let small = TextStyle::Small.resolve(ui.style());
    let mib = f32::from(1u16 << 10) * f32::from(1u16 << 10);
    for i in 0..=2 {
        let value = top / 2.0 * i as f32;
        let y = y_of(value).round();
        p.hline(plot.x_range(), y, Stroke::new(1.0, t.line));
        let text = match i {
            0 => "0".to_owned(),
            _ if top < 20.0 * mib => format!("{:.1}", value / mib),
            _ => format!("{:.0}", value / mib),
        };
        let (align, y) = match i {
            0 => (Align2::RIGHT_BOTTOM, y + 2.0),
            2 => (Align2::RIGHT_TOP, y - 1.0),
            _ => (Align2::RIGHT_CENTER, y),
        };
        p.text(
            pos2(plot.left() - 6.0, y),
            align,
            text,
            small.clone(),
            t.weak,
        );
    }
    p.text(
        pos2(rect.left(), rect.bottom()),
        Align2::LEFT_BOTTOM,
        "MiB",
        small.clone(),
        t.weak,
    );
    let frame_label = |frame: f32, align: Align2, text: String| {
        p.text(
            pos2(x_of(frame), rect.bottom()),
            align,
            text,
            small.clone(),
            t.weak,
        );
    };
    if !samples.is_empty() {
        frame_label(first, Align2::LEFT_BOTTOM, format!("frame {first:.0}"));
        frame_label(last, Align2::RIGHT_BOTTOM, format!("{last:.0}"));
        stack(&p, &samples, &x_of, &y_of, t, highlight);
        ghost(&p, &samples, &x_of, &y_of, t.text);
    }
    for change in &s.history.changes {
        let x = x_of(change.frame as f32).round();
        let dots = [pos2(x, plot.top()), pos2(x, plot.bottom())];
        p.extend(Shape::dashed_line(
            &dots,
            Stroke::new(1.0, t.text),
            1.5,
            2.5,
        ));
        let g = p.layout_no_wrap(change.name.clone(), small.clone(), t.on_bits[change.colour]);
        let size = vec2(g.size().x.max(8.0) + 8.0, 14.0);
        let left = (x - size.x / 2.0).clamp(plot.left(), plot.right() - size.x);
        let chip = Rect::from_min_size(pos2(left, plot.top()), size);
        p.rect_filled(chip, 3.0, t.bits[change.colour]);
        p.galley(chip.center() - g.size() / 2.0, g, t.on_bits[change.colour]);
    }
    let given = s.film.given;
    if let Some(at) = response.hover_pos().filter(|at| plot.contains(*at)) {
        let share = (at.x - plot.left()) / plot.width();
        let made = (first + share * (last - first)).round().max(1.0) as usize;
        s.show.hover = Some(given + made - 1);
        if let Some(sample) = s.history.at(made - 1).copied() {
            response.show_tooltip_ui(|ui| exact(ui, &sample));
        }
    }
    if let Some(hover) = s.show.hover.filter(|h| *h >= given && !samples.is_empty()) {
        let x = x_of((hover - given + 1) as f32);
        if x <= plot.right() {
            p.vline(x.round(), plot.y_range(), Stroke::new(1.0, t.strong));
        }
    }
}

fn stack(
    p: &egui::Painter,
    samples: &[Sample],
    x_of: &impl Fn(f32) -> f32,
    y_of: &impl Fn(f32) -> f32,
    t: &tokens::Tokens,
    highlight: Option<Part>,
) {
    // One sample is drawn as wide as a frame.
    let doubled;
    let samples = match samples {
        [one] => {
            doubled = [
                Sample {
                    frame: one.frame.saturating_sub(1),
                    ..*one
                },
                *one,
            ];
            &doubled[..]
        }
        more => more,
    };
    let mut below = vec![0u64; samples.len()];
    for part in Part::ALL {
        let colour = t.parts[part as usize];
        let colour = match highlight {
            Some(h) if h != part => colour.gamma_multiply(0.35),
            _ => colour,
        };
        let mut mesh = Mesh::default();
        let mut line = Vec::new();
        for (i, s) in samples.iter().enumerate() {
            let x = x_of(s.frame as f32);
            let (low, high) = (below[i], below[i] + s.of(part));
            below[i] = high;
            for y in [low, high] {
                mesh.vertices.push(Vertex {
                    pos: pos2(x, y_of(y as f32)),
                    uv: egui::epaint::WHITE_UV,
                    color: colour,
                });
            }
            line.push(pos2(x, y_of(high as f32)));
            if i > 0 {
                let at = 2 * i as u32;
                mesh.add_triangle(at - 2, at - 1, at);
                mesh.add_triangle(at - 1, at, at + 1);
            }
        }
        p.add(Shape::mesh(mesh));
        p.add(Shape::line(line, Stroke::new(1.0, t.well)));
    }
}

fn ghost(
    p: &egui::Painter,
    samples: &[Sample],
    x_of: &impl Fn(f32) -> f32,
    y_of: &impl Fn(f32) -> f32,
    colour: Color32,
) {
    let line: Vec<Pos2> = samples
        .iter()
        .map(|s| pos2(x_of(s.frame as f32), y_of(s.ghost() as f32)))
        .collect();
    if line.len() > 1 {
        p.extend(Shape::dashed_line(
            &line,
            Stroke::new(1.5, colour),
            6.0,
            4.0,
        ));
    }
}

/// Every purpose to the byte.
fn exact(ui: &mut Ui, s: &Sample) {
    let t = tokens::of(ui);
    ui.label(
        egui::RichText::new(format!("after frame {}", s.frame.saturating_sub(1))).color(t.strong),
    );
    egui::Grid::new("exact")
        .spacing([16.0, 2.0])
        .show(ui, |ui| {
            let mut line = |name: &str, bytes: u64| {
                ui.label(name);
                ui.label(say::bytes(bytes));
                ui.label(egui::RichText::new(say::exact(bytes)).small().color(t.weak));
                ui.end_row();
            };
            for part in Part::ALL.into_iter().rev() {
                line(part.name(), s.of(part));
            }
            line("Device", s.total());
            line("Cache at 16 bit", s.half);
        });
}

//! The list of what lies before the first frame, over the film.

use egui::{Align2, Pos2, Rect, Role, Sense, Shape, Stroke, TextStyle, Ui, WidgetInfo, pos2, vec2};

use crate::loading::{self, Step};
use crate::state::State;
use crate::tokens;

const WIDE: f32 = 312.0;
const ROW: f32 = 26.0;

/// Shows it with the upper left corner at `at`.
pub fn show(ui: &mut Ui, s: &State, at: Pos2) -> Rect {
    let rows = loading::rows(s);
    let rect = Rect::from_min_size(at, vec2(WIDE, ROW * rows.len() as f32 + 16.0));
    let card = ui.interact(rect, ui.scope_id().with("loading"), Sense::hover());
    let text = format!("Loading: {}", loading::line(s));
    card.widget_info(|| WidgetInfo::labeled(Role::ProgressIndicator, true, &text));
    let p = ui.painter();
    p.rect_filled(rect, 6.0, tokens::OVER_FILM);
    let body = TextStyle::Body.resolve(ui.style());
    let small = TextStyle::Small.resolve(ui.style());
    for (i, row) in rows.iter().enumerate() {
        let y = rect.top() + 8.0 + ROW * (i as f32 + 0.5);
        let mark = pos2(rect.left() + 18.0, y);
        let ink = match row.step {
            Step::Now => tokens::OVER_TEXT,
            _ => tokens::OVER_WEAK,
        };
        match row.step {
            Step::Done => {
                let tick = [vec2(-4.0, 0.0), vec2(-1.0, 3.5), vec2(4.5, -4.0)];
                let line = Stroke::new(1.5, tokens::DARK.ok);
                p.add(Shape::line(tick.map(|v| mark + v).to_vec(), line));
            }
            Step::Now => {
                p.circle_filled(mark, 4.0, tokens::DARK.accent);
            }
            Step::Next => {
                p.circle_stroke(mark, 3.5, Stroke::new(1.0, tokens::OVER_WEAK));
            }
        }
        let name = pos2(rect.left() + 34.0, y);
        p.text(name, Align2::LEFT_CENTER, row.name, body.clone(), ink);
        let figure = pos2(rect.right() - 12.0, y);
        p.text(
            figure,
            Align2::RIGHT_CENTER,
            &row.figure,
            small.clone(),
            ink,
        );
        if row.step == Step::Now {
            let bar = Rect::from_min_max(
                pos2(rect.left() + 34.0, y + 9.0),
                pos2(rect.right() - 12.0, y + 12.0),
            );
            p.rect_filled(bar, 1.5, tokens::OVER_WEAK.gamma_multiply(0.35));
            let mut done = bar;
            done.set_width(bar.width() * row.share.clamp(0.0, 1.0));
            p.rect_filled(done, 1.5, tokens::DARK.accent);
        }
    }
    rect
}

//! Small parts that panels share: painted icons, buttons with their key, keycaps, rows of numbers.

use egui::{
    Align2, Color32, FontId, Painter, Pos2, Rect, Response, Role, Sense, Shape, Stroke, StrokeKind,
    TextStyle, Ui, Vec2, WidgetInfo, pos2, vec2,
};

use crate::tokens::{self, Tokens};

/// Icons, painted in a 16 x 16 box: no font has all of them at the same weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Icon {
    /// To the start.
    Start,
    /// A frame back.
    Back,
    /// Play.
    Play,
    /// Pause.
    Pause,
    /// A frame forward.
    Forward,
    /// To the live edge.
    Live,
    /// Stop making.
    Stop,
    /// Undo.
    Undo,
    /// Save the frame.
    Camera,
    /// Fill the screen.
    Screen,
    /// Settings.
    Settings,
    /// Two sheets: copy.
    Copy,
    /// Two pictures.
    Compare,
}

impl Icon {
    /// Paints it with its upper left corner at `at`.
    pub fn paint(self, p: &Painter, at: Pos2, colour: Color32) {
        let point = |x: f32, y: f32| at + vec2(x, y);
        let bar = |x: f32, y: f32, w: f32, h: f32| {
            p.rect_filled(Rect::from_min_size(point(x, y), vec2(w, h)), 0.0, colour);
        };
        let triangle = |a: (f32, f32), b: (f32, f32), c: (f32, f32)| {
            let points = [a, b, c].map(|(x, y)| point(x, y)).to_vec();
            p.add(Shape::convex_polygon(points, colour, Stroke::NONE));
        };
        let stroke = Stroke::new(1.5, colour);
        match self {
            Icon::Start => {
                bar(2.0, 3.0, 2.0, 10.0);
                triangle((9.0, 3.0), (9.0, 13.0), (4.5, 8.0));
                triangle((14.0, 3.0), (14.0, 13.0), (9.5, 8.0));
            }
            Icon::Back => {
                bar(3.0, 3.0, 2.0, 10.0);
                triangle((12.0, 3.0), (12.0, 13.0), (6.0, 8.0));
            }
            Icon::Play => triangle((4.0, 2.5), (13.0, 8.0), (4.0, 13.5)),
            Icon::Pause => {
                bar(4.0, 3.0, 3.0, 10.0);
                bar(9.0, 3.0, 3.0, 10.0);
            }
            Icon::Forward => {
                triangle((4.0, 3.0), (10.0, 8.0), (4.0, 13.0));
                bar(11.0, 3.0, 2.0, 10.0);
            }
            Icon::Live => {
                triangle((2.0, 3.0), (6.5, 8.0), (2.0, 13.0));
                triangle((7.0, 3.0), (11.5, 8.0), (7.0, 13.0));
                bar(12.0, 3.0, 2.0, 10.0);
            }
            Icon::Stop => bar(4.0, 4.0, 8.0, 8.0),
            Icon::Undo => {
                triangle((2.0, 6.5), (7.0, 2.5), (7.0, 10.5));
                let arc: Vec<Pos2> = (0..=8)
                    .map(|i| {
                        let a = std::f32::consts::PI * (-0.5 + i as f32 / 8.0);
                        point(9.0 + 4.0 * a.cos(), 10.0 + 3.5 * a.sin())
                    })
                    .collect();
                p.line_segment([point(6.0, 6.5), point(9.0, 6.5)], stroke);
                p.line(arc, stroke);
            }
            Icon::Camera => {
                p.rect_filled(
                    Rect::from_min_size(point(1.5, 4.5), vec2(13.0, 9.0)),
                    1.5,
                    colour,
                );
                bar(5.5, 2.5, 5.0, 3.0);
                let hole = if luma(colour) < 128.0 {
                    Color32::WHITE
                } else {
                    Color32::BLACK
                };
                p.circle_filled(point(8.0, 9.0), 2.6, hole);
                p.circle_filled(point(8.0, 9.0), 1.4, colour);
            }
            Icon::Screen => {
                for (x, y, dx, dy) in [
                    (2.0, 2.0, 1.0, 1.0),
                    (14.0, 2.0, -1.0, 1.0),
                    (2.0, 14.0, 1.0, -1.0),
                    (14.0, 14.0, -1.0, -1.0),
                ] {
                    let corner: (f32, f32) = (x, y);
                    let legs = vec![
                        point(corner.0 + 4.0 * dx, corner.1),
                        point(corner.0, corner.1),
                        point(corner.0, corner.1 + 4.0 * dy),
                    ];
                    p.line(legs, Stroke::new(2.0, colour));
                }
            }
            Icon::Settings => {
                for y in [3.0, 7.0, 11.0] {
                    bar(2.5, y, 11.0, 2.0);
                }
            }
            Icon::Compare => {
                bar(2.0, 3.0, 5.0, 10.0);
                let right = Rect::from_min_size(point(9.0, 3.0), vec2(5.0, 10.0));
                p.rect_stroke(right, 0.0, stroke, StrokeKind::Inside);
            }
            Icon::Copy => {
                let back = Rect::from_min_size(point(5.0, 2.0), vec2(8.0, 8.0));
                p.rect_stroke(back, 1.0, stroke, StrokeKind::Middle);
                p.rect_filled(
                    Rect::from_min_size(point(2.0, 5.0), vec2(8.0, 8.0)),
                    1.0,
                    colour,
                );
            }
        }
    }
}

fn luma(c: Color32) -> f32 {
    0.3 * f32::from(c.r()) + 0.59 * f32::from(c.g()) + 0.11 * f32::from(c.b())
}

/// A button: an icon, a word, a key, or some of them.
#[derive(Debug, Clone, Copy)]
pub struct Press<'a> {
    /// What it is called, on it and by screen readers.
    pub name: &'a str,
    /// Its icon.
    pub icon: Option<Icon>,
    /// The key that does the same.
    pub key: Option<&'a str>,
    /// Only the icon is shown; the name is in the tooltip.
    pub bare: bool,
    /// The one sensible way on.
    pub primary: bool,
    /// It is on.
    pub on: bool,
    /// It can be pressed.
    pub enabled: bool,
}

impl<'a> Press<'a> {
    /// A word.
    pub fn word(name: &'a str) -> Press<'a> {
        Press {
            name,
            icon: None,
            key: None,
            bare: false,
            primary: false,
            on: false,
            enabled: true,
        }
    }

    /// An icon alone.
    pub fn icon(name: &'a str, icon: Icon) -> Press<'a> {
        Press {
            icon: Some(icon),
            bare: true,
            ..Press::word(name)
        }
    }

    /// With its key.
    pub fn key(self, key: &'a str) -> Press<'a> {
        Press {
            key: Some(key),
            ..self
        }
    }

    /// Shows it; true in the response's `clicked` when it was pressed.
    pub fn show(self, ui: &mut Ui) -> Response {
        let t = tokens::of(ui);
        let font = TextStyle::Button.resolve(ui.style());
        let galley = (!self.bare).then(|| {
            ui.painter()
                .layout_no_wrap(self.name.to_owned(), font, Color32::PLACEHOLDER)
        });
        let cap = self.key.filter(|_| !self.bare).map(|k| keycap_size(ui, k));
        let (pad, gap) = (if self.bare { 6.0 } else { 10.0 }, 8.0);
        let mut inner = 0.0;
        for w in [
            self.icon.map(|_| 16.0),
            galley.as_ref().map(|g| g.size().x),
            cap.map(|c| c.x),
        ]
        .into_iter()
        .flatten()
        {
            inner += w + if inner > 0.0 { gap } else { 0.0 };
        }
        let height = if self.primary { 32.0 } else { 24.0 };
        let pad = if self.primary { 20.0 } else { pad };
        let sense = match self.enabled {
            true => Sense::click(),
            false => Sense::hover(),
        };
        let (rect, response) = ui.allocate_exact_size(vec2(inner + 2.0 * pad, height), sense);
        let (enabled, name, on) = (self.enabled, self.name, self.on);
        response.widget_info(|| WidgetInfo::selected(Role::Button, enabled, on, name));
        if ui.is_rect_visible(rect) {
            let hot = self.enabled && (response.hovered() || response.is_pointer_button_down_on());
            let (fill, text) = match (self.enabled, self.primary) {
                (false, _) => (t.card, t.edge),
                (true, true) => (t.accent_fill, t.on_accent),
                (true, false) => (t.control[usize::from(hot)], t.strong),
            };
            let p = ui.painter();
            p.rect_filled(rect, 4.0, fill);
            if self.on {
                p.rect_stroke(rect, 4.0, Stroke::new(1.0, t.accent), StrokeKind::Inside);
            }
            if self.primary && hot {
                p.rect_stroke(rect, 4.0, Stroke::new(1.0, t.accent), StrokeKind::Inside);
            }
            focus_ring(ui, &response, rect, t);
            let mut x = rect.left() + pad;
            let mid = rect.center().y;
            if let Some(icon) = self.icon {
                icon.paint(p, pos2(x, mid - 8.0).round(), text);
                x += 16.0 + gap;
            }
            if let Some(g) = galley {
                let w = g.size().x;
                p.galley_with_override_text_color(pos2(x, mid - g.size().y / 2.0), g, text);
                x += w + gap;
            }
            if let (Some(size), Some(key)) = (cap, self.key) {
                let colours = match (self.enabled, self.primary) {
                    (false, _) => (t.line, t.edge),
                    (true, true) => (t.on_accent, t.on_accent),
                    (true, false) => (t.weak, t.text),
                };
                keycap_at(p, pos2(x, mid - size.y / 2.0), size, key, colours, None);
            }
        }
        let tip = match (self.bare, self.key) {
            (true, Some(key)) => Some(format!("{} [{key}]", self.name)),
            (true, None) => Some(self.name.to_owned()),
            _ => None,
        };
        match tip {
            Some(tip) => response.on_hover_text(tip),
            None => response,
        }
    }
}

/// A ring around what has the keyboard.
pub fn focus_ring(ui: &Ui, response: &Response, rect: Rect, t: &Tokens) {
    if response.has_focus() {
        ui.painter().rect_stroke(
            rect.expand(2.0),
            6.0,
            Stroke::new(2.0, t.accent),
            StrokeKind::Inside,
        );
    }
}

fn keycap_font() -> FontId {
    FontId::monospace(11.0)
}

fn keycap_size(ui: &Ui, key: &str) -> Vec2 {
    let g = ui
        .painter()
        .layout_no_wrap(key.to_owned(), keycap_font(), Color32::PLACEHOLDER);
    vec2((g.size().x + 8.0).max(17.0), 17.0)
}

fn keycap_at(
    p: &Painter,
    at: Pos2,
    size: Vec2,
    key: &str,
    (line, text): (Color32, Color32),
    fill: Option<Color32>,
) {
    let rect = Rect::from_min_size(at, size);
    if let Some(fill) = fill {
        p.rect_filled(rect, 3.0, fill);
    } else {
        p.rect_stroke(rect, 3.0, Stroke::new(1.0, line), StrokeKind::Inside);
    }
    p.text(
        rect.center(),
        Align2::CENTER_CENTER,
        key,
        keycap_font(),
        text,
    );
}

/// A keycap; `held`: filled with this ground, with this text.
pub fn keycap(ui: &mut Ui, key: &str, text: Color32, held: Option<(Color32, Color32)>) {
    let size = keycap_size(ui, key);
    let (rect, _) = ui.allocate_exact_size(size, Sense::hover());
    let (fill, ink) = match held {
        Some((fill, ink)) => (Some(fill), ink),
        None => (None, text),
    };
    keycap_at(ui.painter(), rect.min, size, key, (text, ink), fill);
}

/// A weak hint, for layouts that run from the right: what keys do, then the keycap to its left.
pub fn hint(ui: &mut Ui, keys: &str, does: &str) {
    let t = tokens::of(ui);
    ui.label(egui::RichText::new(does).small().color(t.weak));
    ui.add_space(-3.0);
    keycap(ui, keys, t.weak, None);
    ui.add_space(6.0);
}

/// A line between sections of a pane.
pub fn divider(ui: &mut Ui) {
    ui.add_space(6.0);
    let t = tokens::of(ui);
    let wide = ui.clip_rect().expand(12.0).x_range();
    let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), 1.0), Sense::hover());
    ui.painter()
        .hline(wide, rect.center().y, Stroke::new(1.0, t.line));
    ui.add_space(6.0);
}

/// A name at the left and a value at the right of one row.
pub fn row(ui: &mut Ui, name: &str, value: &str, weak: bool) -> Response {
    let t = tokens::of(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 20.0), Sense::hover());
    let font = TextStyle::Body.resolve(ui.style());
    let p = ui.painter();
    let colour = if weak { t.weak } else { t.text };
    p.text(
        rect.left_center(),
        Align2::LEFT_CENTER,
        name,
        font.clone(),
        colour,
    );
    let strong = if weak { t.weak } else { t.strong };
    p.text(
        rect.right_center(),
        Align2::RIGHT_CENTER,
        value,
        font,
        strong,
    );
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{name}: {value}")));
    response
}

/// A section's title with a remark at the right.
pub fn title(ui: &mut Ui, text: &str, remark: &str) {
    let t = tokens::of(ui);
    ui.horizontal(|ui| {
        ui.label(egui::RichText::new(text).heading().color(t.strong));
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            ui.label(egui::RichText::new(remark).small().color(t.weak));
        });
    });
}

/// A title that opens and closes its section.
pub fn fold(ui: &mut Ui, text: &str, remark: &str, open: &mut bool) {
    let t = tokens::of(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 24.0), Sense::click());
    if response.clicked() {
        *open = !*open;
    }
    let is_open = *open;
    response.widget_info(|| WidgetInfo::selected(Role::DisclosureTriangle, true, is_open, text));
    focus_ring(ui, &response, rect, t);
    let p = ui.painter();
    let c = pos2(rect.left() + 4.0, rect.center().y);
    let points = match is_open {
        true => [vec2(-4.0, -2.5), vec2(4.0, -2.5), vec2(0.0, 3.5)],
        false => [vec2(-2.5, -4.0), vec2(3.5, 0.0), vec2(-2.5, 4.0)],
    };
    let ink = if response.hovered() { t.strong } else { t.text };
    p.add(Shape::convex_polygon(
        points.map(|v| c + v).to_vec(),
        ink,
        Stroke::NONE,
    ));
    let heading = TextStyle::Heading.resolve(ui.style());
    p.text(
        pos2(rect.left() + 14.0, rect.center().y),
        Align2::LEFT_CENTER,
        text,
        heading,
        t.strong,
    );
    p.text(
        rect.right_center(),
        Align2::RIGHT_CENTER,
        remark,
        TextStyle::Small.resolve(ui.style()),
        t.weak,
    );
}

/// The bar of a cache state, standing on `foot`, at most 24 high: as tall as its bits.
pub fn bar(
    shapes: &mut Bricks,
    x: std::ops::Range<f32>,
    foot: f32,
    bits: Option<u32>,
    colour: Color32,
) {
    let w = x.end - x.start;
    let (brick, gap, n) = match bits {
        None => {
            // Evicted: a dash on the base line, with air between neighbours where there is room.
            let air = if w >= 3.0 { 1.0 } else { 0.0 };
            shapes.rect(x.start..x.end - air, foot - 2.0..foot, colour);
            return;
        }
        Some(16) => (24.0, 0.0, 1),
        Some(8) => (11.0, 2.0, 2),
        Some(n) => (4.0, 1.0, n.min(5)),
    };
    let air = if w >= 4.0 { 1.0 } else { 0.0 };
    if w < 4.0 {
        let high = n as f32 * (brick + gap) - gap;
        shapes.rect(x.start..x.end, foot - high..foot, colour);
        return;
    }
    for i in 0..n {
        let bottom = foot - i as f32 * (brick + gap);
        shapes.rect(x.start..x.end - air, bottom - brick..bottom, colour);
    }
}

/// Rectangles on whole pixels, all in one mesh.
pub struct Bricks {
    mesh: egui::Mesh,
    ppp: f32,
}

impl Bricks {
    /// None yet.
    pub fn new(ppp: f32) -> Bricks {
        Bricks {
            mesh: egui::Mesh::default(),
            ppp,
        }
    }

    /// Adds one.
    pub fn rect(&mut self, x: std::ops::Range<f32>, y: std::ops::Range<f32>, colour: Color32) {
        let round = |v: f32| (v * self.ppp).round() / self.ppp;
        let (x0, y1) = (round(x.start), round(y.end));
        // Never thinner than a pixel.
        let (x1, y0) = (
            round(x.end).max(x0 + 1.0 / self.ppp),
            round(y.start).min(y1 - 1.0 / self.ppp),
        );
        let rect = Rect::from_min_max(pos2(x0, y0), pos2(x1, y1));
        self.mesh.add_colored_rect(rect, colour);
    }

    /// Paints them.
    pub fn paint(self, p: &Painter) {
        if !self.mesh.is_empty() {
            p.add(Shape::mesh(self.mesh));
        }
    }
}

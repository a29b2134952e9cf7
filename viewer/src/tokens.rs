//! Every colour and size of the window, one set for each theme. No colour is written anywhere else.
//!
//! Text stands at 4.5 or more against its ground, shapes at 3.0 (WCAG contrast); a test holds them to it.

use egui::{Color32, CornerRadius, FontFamily, FontId, Margin, Stroke, Style, TextStyle, vec2};

/// The colours of one theme.
#[derive(Debug, Clone, Copy)]
pub struct Tokens {
    /// Ground of panels.
    pub panel: Color32,
    /// Ground of cards.
    pub card: Color32,
    /// Ground of controls, and under the pointer.
    pub control: [Color32; 2],
    /// Ground of the graph and the timeline.
    pub well: Color32,
    /// Ground around the film.
    pub stage: Color32,
    /// Lines that only decorate.
    pub line: Color32,
    /// Outlines of controls, ticks, evicted frames.
    pub edge: Color32,
    /// Text that leads.
    pub strong: Color32,
    /// Text.
    pub text: Color32,
    /// Text that follows.
    pub weak: Color32,
    /// Focus, links, the denoising passes.
    pub accent: Color32,
    /// Ground of the primary button.
    pub accent_fill: Color32,
    /// Text on `accent_fill`.
    pub on_accent: Color32,
    /// Live, fits.
    pub ok: Color32,
    /// Needs a look.
    pub warn: Color32,
    /// Failed.
    pub error: Color32,
    /// Outline of the film while it is steered.
    pub steer: Color32,
    /// Cache states: exact, 8, 4, 3, 2 bits.
    pub bits: [Color32; 5],
    /// Memory by purpose, in the order of [`crate::memory::Part`].
    pub parts: [Color32; 9],
    /// Text on a state's colour, by state.
    pub on_bits: [Color32; 5],
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

/// For dark rooms.
pub const DARK: Tokens = Tokens {
    panel: rgb(0x16181c),
    card: rgb(0x1e2126),
    control: [rgb(0x2b3038), rgb(0x363c46)],
    well: rgb(0x0b0c0e),
    stage: rgb(0x0b0c0e),
    line: rgb(0x363c46),
    edge: rgb(0x6e7681),
    strong: rgb(0xf1f3f5),
    text: rgb(0xc9ced6),
    weak: rgb(0x9aa1ac),
    accent: rgb(0x8fb8ff),
    accent_fill: rgb(0x2a4a86),
    on_accent: rgb(0xffffff),
    ok: rgb(0x5fd38d),
    warn: rgb(0xffb454),
    error: rgb(0xff8a80),
    steer: rgb(0xffd98a),
    bits: [
        rgb(0xffd98a),
        rgb(0xa7c84a),
        rgb(0x2db9ae),
        rgb(0x068a9d),
        rgb(0x7563cf),
    ],
    parts: [
        rgb(0x7a7a89),
        rgb(0xd477b4),
        rgb(0xa8593a),
        rgb(0xb5b4ba),
        rgb(0x4f86b0),
        rgb(0x4a515c),
        rgb(0xffd98a),
        rgb(0x7563cf),
        rgb(0x8cdfeb),
    ],
    on_bits: [
        rgb(0x101215),
        rgb(0x101215),
        rgb(0x101215),
        rgb(0x101215),
        rgb(0xffffff),
    ],
};

/// For daylight.
pub const LIGHT: Tokens = Tokens {
    panel: rgb(0xf7f7f5),
    card: rgb(0xffffff),
    control: [rgb(0xe4e6e9), rgb(0xd6d9de)],
    well: rgb(0xffffff),
    stage: rgb(0xe3e4e6),
    line: rgb(0xcbcfd4),
    edge: rgb(0x7c838c),
    strong: rgb(0x16181c),
    text: rgb(0x33383f),
    weak: rgb(0x5a616a),
    accent: rgb(0x1558c0),
    accent_fill: rgb(0x1558c0),
    on_accent: rgb(0xffffff),
    ok: rgb(0x1b7a3d),
    warn: rgb(0x8a5a00),
    error: rgb(0xb3261e),
    steer: rgb(0xa85f00),
    bits: [
        rgb(0x5e3b00),
        rgb(0x4d5f05),
        rgb(0x017566),
        rgb(0x0a88a4),
        rgb(0x8672dc),
    ],
    parts: [
        rgb(0x4a4c55),
        rgb(0xb0508e),
        rgb(0x7c4122),
        rgb(0x8c8c90),
        rgb(0x2f6f9f),
        rgb(0xc4c8ce),
        rgb(0x5e3b00),
        rgb(0x8672dc),
        rgb(0x04606f),
    ],
    on_bits: [
        rgb(0xffffff),
        rgb(0xffffff),
        rgb(0xffffff),
        rgb(0x101215),
        rgb(0x101215),
    ],
};

/// What lies over the film, in both themes: its ground and its text.
pub const OVER_FILM: Color32 = Color32::from_rgba_premultiplied(0x09, 0x0a, 0x0c, 0xd9);
/// Text on [`OVER_FILM`].
pub const OVER_TEXT: Color32 = rgb(0xf1f3f5);
/// Weak text on [`OVER_FILM`].
pub const OVER_WEAK: Color32 = rgb(0xa9b0ba);
/// A held key on [`OVER_FILM`].
pub const OVER_HELD: Color32 = rgb(0xffd98a);
/// Text on [`OVER_HELD`].
pub const OVER_ON_HELD: Color32 = rgb(0x101215);

/// The tokens of the theme that `ui` is shown in.
pub fn of(ui: &egui::Ui) -> &'static Tokens {
    if ui.visuals().dark_mode {
        &DARK
    } else {
        &LIGHT
    }
}

/// The one large number.
pub fn figure() -> TextStyle {
    TextStyle::Name("figure".into())
}

/// Headlines of errors.
pub fn title() -> TextStyle {
    TextStyle::Name("title".into())
}

/// The first screen's line.
pub fn display() -> TextStyle {
    TextStyle::Name("display".into())
}

/// Sets sizes, spaces and colours of both themes.
pub fn apply(ctx: &egui::Context) {
    ctx.all_styles_mut(|s| {
        s.animation_time = 0.0;
        let sizes = [
            (TextStyle::Small, 11.0, FontFamily::Proportional),
            (TextStyle::Body, 13.0, FontFamily::Proportional),
            (TextStyle::Button, 13.0, FontFamily::Proportional),
            (TextStyle::Monospace, 12.0, FontFamily::Monospace),
            (TextStyle::Heading, 15.0, FontFamily::Proportional),
            (title(), 20.0, FontFamily::Proportional),
            (figure(), 26.0, FontFamily::Proportional),
            (display(), 34.0, FontFamily::Proportional),
        ];
        s.text_styles = sizes
            .into_iter()
            .map(|(style, size, family)| (style, FontId::new(size, family)))
            .collect();
        s.spacing.item_spacing = vec2(8.0, 4.0);
        s.spacing.button_padding = vec2(10.0, 4.0);
        s.spacing.interact_size = vec2(28.0, 24.0);
        s.spacing.window_margin = Margin::same(12);
        s.spacing.tooltip_width = 320.0;
        s.interaction.tooltip_delay = 0.3;
        s.visuals.window_corner_radius = CornerRadius::same(8);
        s.visuals.menu_corner_radius = CornerRadius::same(6);
    });
    ctx.style_mut_of(egui::Theme::Dark, |s| DARK.colour(s));
    ctx.style_mut_of(egui::Theme::Light, |s| LIGHT.colour(s));
}

impl Tokens {
    fn colour(&self, s: &mut Style) {
        let v = &mut s.visuals;
        v.panel_fill = self.panel;
        v.window_fill = self.panel;
        v.window_stroke = Stroke::new(1.0, self.line);
        v.faint_bg_color = self.card;
        v.extreme_bg_color = self.well;
        v.text_edit_bg_color = Some(self.control[0]);
        v.code_bg_color = self.well;
        v.weak_text_color = Some(self.weak);
        v.hyperlink_color = self.accent;
        v.warn_fg_color = self.warn;
        v.error_fg_color = self.error;
        v.selection.bg_fill = self.accent_fill;
        v.selection.stroke = Stroke::new(1.0, self.accent);
        let w = &mut v.widgets;
        w.noninteractive.bg_stroke = Stroke::new(1.0, self.line);
        w.noninteractive.fg_stroke = Stroke::new(1.0, self.text);
        w.noninteractive.bg_fill = self.panel;
        w.noninteractive.weak_bg_fill = self.panel;
        for (w, ground) in [
            (&mut w.inactive, self.control[0]),
            (&mut w.open, self.control[0]),
            (&mut w.hovered, self.control[1]),
            (&mut w.active, self.control[1]),
        ] {
            w.corner_radius = CornerRadius::same(4);
            w.bg_fill = ground;
            w.weak_bg_fill = ground;
            w.bg_stroke = Stroke::NONE;
            w.fg_stroke = Stroke::new(1.0, self.strong);
            w.expansion = 0.0;
        }
        v.widgets.active.bg_stroke = Stroke::new(1.0, self.accent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn luminance(c: Color32) -> f64 {
        let part = |v: u8| {
            let v = f64::from(v) / 255.0;
            if v <= 0.04045 {
                v / 12.92
            } else {
                ((v + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * part(c.r()) + 0.7152 * part(c.g()) + 0.0722 * part(c.b())
    }

    fn contrast(a: Color32, b: Color32) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_stands_out_from_every_ground_it_is_written_on() {
        for t in [DARK, LIGHT] {
            let texts = [t.strong, t.text, t.weak, t.accent, t.ok, t.warn, t.error];
            for text in texts {
                for ground in [t.panel, t.card, t.well] {
                    let c = contrast(text, ground);
                    assert!(4.5 <= c, "{text:?} on {ground:?}: {c:.1}");
                }
            }
            assert!(4.5 <= contrast(t.strong, t.control[1]));
            assert!(4.5 <= contrast(t.on_accent, t.accent_fill));
            for (ground, text) in t.bits.iter().zip(t.on_bits) {
                let c = contrast(text, *ground);
                assert!(4.4 <= c, "{text:?} on the state {ground:?}: {c:.1}");
            }
        }
        for text in [OVER_TEXT, OVER_WEAK, OVER_HELD] {
            // At worst the film behind is white: 15 % of it shines through.
            assert!(4.5 <= contrast(text, rgb(0x2f3032)), "{text:?}");
        }
        assert!(4.5 <= contrast(OVER_ON_HELD, OVER_HELD));
    }

    #[test]
    fn shapes_stand_out_from_the_well_and_from_their_neighbours() {
        for t in [DARK, LIGHT] {
            for shape in t.bits.into_iter().chain([t.edge, t.steer]) {
                let c = contrast(shape, t.well);
                assert!(3.0 <= c, "{shape:?} in the well: {c:.1}");
            }
            // What stands next to each other on the graph is parted by a line of the well, so it need only be told apart.
            for pair in t.parts.windows(2) {
                assert!(1.1 <= contrast(pair[0], pair[1]), "{pair:?}");
            }
            let lightness: Vec<f64> = t.bits.iter().map(|c| contrast(*c, t.well)).collect();
            assert!(
                lightness.windows(2).all(|w| w[0] > w[1]),
                "more bits stand farther from the ground: {lightness:?}"
            );
        }
    }
}

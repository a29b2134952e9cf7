//! Statistics over the film, for those who want every number at once.

use egui::{FontId, Pos2, Rect, Ui, vec2};

use crate::say;
use crate::state::State;
use crate::tokens;

/// Shows them with the upper left corner at `at`.
pub fn show(ui: &mut Ui, s: &State, at: Pos2) {
    let dash = || say::UNKNOWN.to_owned();
    let mean = s.speed.mean();
    let share = |of: fn(&crate::worker::Split) -> f64| {
        let (a, b) = mean.as_ref().map_or((dash(), dash()), |m| {
            (
                say::secs(of(m)),
                format!("{:.1} %", 100.0 * of(m) / m.total.max(1e-9)),
            )
        });
        (a, b)
    };
    let last = s.history.last();
    let of = |f: &dyn Fn(&crate::memory::Sample) -> String| last.map_or(dash(), f);
    let (denoise, write) = (share(|m| m.denoise), share(|m| m.cache));
    let (encode, decode) = (share(|m| m.encode), share(|m| m.decode));
    let (pass, passes) = s.film.pass;
    let rows: [(&str, String, String); 12] = [
        (
            "frame",
            s.play.at.to_string(),
            format!("pass {pass}/{passes}"),
        ),
        (
            "play",
            format!("{:.1} fps", f64::from(s.film.fps) * s.play.speed),
            format!("behind {}", s.len().saturating_sub(s.play.at + 1)),
        ),
        (
            "make",
            mean.map_or(dash(), |_| say::rate(s.speed.fps())),
            mean.map_or(dash(), |m| format!("{}/chunk", say::secs(m.total))),
        ),
        ("  denoise", denoise.0, denoise.1),
        ("  write", write.0, write.1),
        ("  encode", encode.0, encode.1),
        ("  decode", decode.0, decode.1),
        (
            "cache",
            of(&|x| say::bytes(x.cache())),
            of(&|x| format!("{:.2} bit/el", x.bits_per_element)),
        ),
        (
            "at 16 bit",
            of(&|x| say::bytes(x.half)),
            of(&|x| say::ratio(x.ratio())),
        ),
        (
            "device",
            say::bytes(last.map_or(s.ledger.device_bytes, crate::memory::Sample::total)),
            s.device
                .free
                .map_or(dash(), |b| format!("of {}", say::bytes(b))),
        ),
        (
            "main",
            s.speed.main_bytes.map_or(dash(), say::bytes),
            String::new(),
        ),
        (
            "screen",
            say::secs(s.times.pass),
            format!("input {}", say::secs(s.times.input)),
        ),
    ];
    let font = FontId::monospace(11.0);
    let size = vec2(282.0, 15.0 * rows.len() as f32 + 16.0);
    let p = ui.painter();
    p.rect_filled(Rect::from_min_size(at, size), 6.0, tokens::OVER_FILM);
    for (i, (name, value, note)) in rows.iter().enumerate() {
        let y = at.y + 8.0 + 15.0 * i as f32;
        let line = format!("{name:<11}{value:>11}   {note}");
        let text = p.layout_no_wrap(line, font.clone(), tokens::OVER_TEXT);
        p.galley(Pos2::new(at.x + 12.0, y), text, tokens::OVER_TEXT);
    }
}

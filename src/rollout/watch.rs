//! What a film looks like as it goes on: frames of one colour stop it, and a drift meter compares every few seconds with its
//! beginning. Pure; no device.
//!
//! Only what cannot be a film stops one: values that are no numbers (where latents become pictures) and a long run of frames of
//! one value each. Drift warns and nothing more, since a film may well walk into a darker room.

use serde::Serialize;

use crate::frame::Frame;
use crate::quality::{LUMA, mean};

/// Frames of one value, in a row, that stop a film...
const BLANK_FRAMES: usize = 8;
/// ...if they are this many chunks.
const BLANK_CHUNKS: usize = 3;
/// Seconds of film in a window of the drift meter.
const WINDOW_SECS: usize = 4;
/// How far beyond the values of its beginning a film may go: these shares of what they spread over, or these amounts if that is
/// more. Colour and contrast in 8-bit steps; sharpness as a share of its mean. The true films of the demo world stay inside.
const SLACK: f64 = 1.0;
const COLOR_SLACK: f64 = 24.0;
const CONTRAST_SLACK: f64 = 12.0;
const SHARPNESS_SLACK: f64 = 0.75;
/// Whatever the spread, less than this share of the mean is beyond: one plain wall at the beginning would let a value vanish.
const LEAST_SHARE: f64 = 0.2;

/// Colour, contrast and sharpness of a frame, or their means over several.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Look {
    /// Mean red, green and blue, in 8-bit steps.
    pub color: [f64; 3],
    /// Standard deviation of luma, in 8-bit steps.
    pub contrast: f64,
    /// Gradient energy of luma: mean square of the steps to the right and down, in 8-bit steps squared.
    pub sharpness: f64,
}

impl Look {
    /// Of a frame.
    pub fn of(frame: &Frame) -> Look {
        let (w, h) = (frame.width as usize, frame.height as usize);
        let n = (w * h).max(1) as f64;
        let pixels = || frame.rgb.chunks_exact(3);
        let color = [0, 1, 2].map(|c| pixels().map(|p| f64::from(p[c])).sum::<f64>() / n);
        let dot = |p: &[u8]| -> f64 { LUMA.iter().zip(p).map(|(l, v)| l * f64::from(*v)).sum() };
        let luma: Vec<f64> = pixels().map(dot).collect();
        let middle = luma.iter().sum::<f64>() / n;
        let variance = luma.iter().map(|y| (y - middle).powi(2)).sum::<f64>() / n;
        let step = |at: usize, to: usize| (luma[to] - luma[at]).powi(2);
        let mut energy = 0.0;
        for y in 0..h {
            for x in 0..w {
                let at = y * w + x;
                energy += if x + 1 < w { step(at, at + 1) } else { 0.0 };
                energy += if y + 1 < h { step(at, at + w) } else { 0.0 };
            }
        }
        Look {
            color,
            contrast: variance.sqrt(),
            sharpness: energy / n,
        }
    }

    fn values(&self) -> [f64; 5] {
        let [r, g, b] = self.color;
        [r, g, b, self.contrast, self.sharpness]
    }

    fn of_values(of: impl Fn(usize) -> f64) -> Look {
        Look {
            color: [of(0), of(1), of(2)],
            contrast: of(3),
            sharpness: of(4),
        }
    }

    fn mean(looks: &[Look]) -> Look {
        Look::of_values(|i| mean(looks.iter().map(|l| l.values()[i])).unwrap_or(0.0))
    }
}

/// A stretch of the film beside its beginning.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// Its first generated frame.
    pub first_frame: u32,
    /// Its frames.
    pub frames: u32,
    /// What it looks like.
    pub look: Look,
    /// What the beginning looked like: the given frames and the first stretch.
    pub start: Look,
    /// Least of each value that is still in the range of the beginning.
    pub low: Look,
    /// Largest of each.
    pub high: Look,
    /// What of `color`, `contrast` and `sharpness` has left the range of the beginning; empty: nothing.
    pub left: Vec<&'static str>,
}

impl Drift {
    fn text(&self) -> String {
        let (now, then) = (&self.look, &self.start);
        let parts = self.left.iter().map(|what| match *what {
            "color" => {
                let rgb = |c: &[f64; 3]| format!("{:.0} {:.0} {:.0}", c[0], c[1], c[2]);
                format!("mean colour {} from {}", rgb(&now.color), rgb(&then.color))
            }
            "contrast" => format!("contrast {:.0} from {:.0}", now.contrast, then.contrast),
            _ => format!("sharpness {:.0} from {:.0}", now.sharpness, then.sharpness),
        });
        format!(
            "frames {} to {} left the range that the film started in: {}",
            self.first_frame,
            self.first_frame + self.frames - 1,
            parts.collect::<Vec<_>>().join(", ")
        )
    }
}

/// What the drift meter came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DriftSummary {
    /// Stretches compared with the beginning.
    pub stretches: u32,
    /// Those that had left its range.
    pub outside: u32,
    /// First generated frame of the first of them.
    pub first_outside: Option<u32>,
    /// The last stretch.
    pub last: Option<Box<Drift>>,
}

impl DriftSummary {
    /// Of every stretch of a film, in its order.
    pub fn of(drifts: &[Drift]) -> DriftSummary {
        let outside = || drifts.iter().filter(|d| !d.left.is_empty());
        DriftSummary {
            stretches: drifts.len() as u32,
            outside: outside().count() as u32,
            first_outside: outside().next().map(|d| d.first_frame),
            last: drifts.last().cloned().map(Box::new),
        }
    }
}

/// What the watch has to say of a chunk.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    /// A stretch is whole.
    Drift(Drift),
    /// Something to know.
    Warning(String),
    /// The film is none any more, in a sentence.
    Blank(String),
}

/// Watches a film.
#[derive(Debug)]
pub(super) struct Watch {
    chunk_frames: usize,
    window: usize,
    given: Vec<Look>,
    /// Of every frame, with its value where it has but one.
    looks: Vec<(Look, Option<[u8; 3]>)>,
    drifts: Vec<Drift>,
}

impl Watch {
    pub(super) fn new(given: &[Frame], chunk_frames: u32, fps: u32) -> Watch {
        Watch {
            chunk_frames: (chunk_frames as usize).max(1),
            window: (fps as usize * WINDOW_SECS).max(1),
            given: given.iter().map(Look::of).collect(),
            looks: Vec::new(),
            drifts: Vec::new(),
        }
    }

    /// Takes in the frames of a chunk.
    pub(super) fn see(&mut self, frames: &[Frame]) -> Vec<Seen> {
        let mut seen = Vec::new();
        for frame in frames {
            let was_flat = self.looks.last().is_some_and(|(_, flat)| flat.is_some());
            let flat = only_value(frame);
            if flat.is_some() && !was_flat {
                seen.push(Seen::Warning(format!(
                    "frame {} is one flat colour; if that goes on, the film has lost its place",
                    self.looks.len()
                )));
            }
            self.looks.push((Look::of(frame), flat));
            seen.extend(self.drift());
        }
        seen.extend(self.blank().map(Seen::Blank));
        seen
    }

    /// Forgets all but the first `frames`.
    pub(super) fn cut(&mut self, frames: usize) {
        self.looks.truncate(frames);
        self.drifts
            .truncate((frames / self.window).saturating_sub(1));
    }

    pub(super) fn summary(&self) -> DriftSummary {
        DriftSummary::of(&self.drifts)
    }

    fn blank(&self) -> Option<String> {
        let flat = |(_, flat): &&(Look, Option<[u8; 3]>)| flat.is_some();
        let n = self.looks.iter().rev().take_while(flat).count();
        if n < BLANK_FRAMES.max(BLANK_CHUNKS * self.chunk_frames) {
            return None;
        }
        let what = match self.looks.last()?.1? {
            [0, 0, 0] => "black".to_owned(),
            [255, 255, 255] => "white".to_owned(),
            [r, g, b] => format!("one colour ({r}, {g}, {b})"),
        };
        let first = self.looks.len() - n;
        Some(format!(
            "the film shows nothing any more: {n} frames from {first} on are {what}; another seed, more bits or a longer window may keep it"
        ))
    }

    /// Compares the newest stretch when it is whole.
    fn drift(&mut self) -> Vec<Seen> {
        let n = self.looks.len();
        if n < 2 * self.window || !n.is_multiple_of(self.window) {
            return Vec::new();
        }
        let looks = |range: std::ops::Range<usize>| self.looks[range].iter().map(|(l, _)| *l);
        let start: Vec<Look> = self
            .given
            .iter()
            .copied()
            .chain(looks(0..self.window))
            .collect();
        let now: Vec<Look> = looks(n - self.window..n).collect();
        let (look, from) = (Look::mean(&now), Look::mean(&start));
        let [low, high] = range(&start, &from);
        let drift = Drift {
            first_frame: (n - self.window) as u32,
            frames: self.window as u32,
            look,
            start: from,
            left: left(&look, &low, &high),
            low,
            high,
        };
        let was_out = self.drifts.last().is_some_and(|d| !d.left.is_empty());
        let mut seen = vec![Seen::Drift(drift.clone())];
        if !drift.left.is_empty() && !was_out {
            seen.push(Seen::Warning(drift.text()));
        }
        self.drifts.push(drift);
        seen
    }
}

/// How far down and up a look may go that began like these frames.
fn range(start: &[Look], from: &Look) -> [Look; 2] {
    let end = |i: usize, is_high: bool| {
        let of = |l: &Look| l.values()[i];
        let low = start.iter().map(of).fold(f64::INFINITY, f64::min);
        let high = start.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        let least = match i {
            3 => CONTRAST_SLACK,
            4 => SHARPNESS_SLACK * from.sharpness,
            _ => COLOR_SLACK,
        };
        let slack = (SLACK * (high - low)).max(least);
        match is_high {
            true => high + slack,
            false => (low - slack).max(LEAST_SHARE * of(from)),
        }
    };
    [false, true].map(|is_high| Look::of_values(|i| end(i, is_high)))
}

/// What of a look lies outside a range.
fn left(now: &Look, low: &Look, high: &Look) -> Vec<&'static str> {
    let (now, low, high) = (now.values(), low.values(), high.values());
    let is_out = |i: usize| now[i] < low[i] || high[i] < now[i];
    let mut left = Vec::new();
    if (0..3).any(is_out) {
        left.push("color");
    }
    if is_out(3) {
        left.push("contrast");
    }
    if is_out(4) {
        left.push("sharpness");
    }
    left
}

/// The value of a frame that has but one.
fn only_value(frame: &Frame) -> Option<[u8; 3]> {
    let first = [*frame.rgb.first()?, *frame.rgb.get(1)?, *frame.rgb.get(2)?];
    frame
        .rgb
        .chunks_exact(3)
        .all(|p| p == first)
        .then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::film::SeedFilm;

    const FPS: u32 = 8;

    fn flat(value: u8) -> Frame {
        Frame {
            width: 4,
            height: 3,
            rgb: vec![value; 36],
        }
    }

    fn all(watch: &mut Watch, frames: &[Frame]) -> Vec<Seen> {
        let chunks = frames.chunks(watch.chunk_frames);
        chunks.flat_map(|c| watch.see(c)).collect()
    }

    #[test]
    fn true_films_are_never_stopped_and_stay_in_their_range() {
        for film in (0..SeedFilm::count()).map(|i| SeedFilm::load(i).unwrap()) {
            // There and back again, so that every stretch is compared.
            let way: Vec<Frame> = film
                .frames
                .iter()
                .chain(film.frames.iter().rev())
                .cloned()
                .collect();
            let mut watch = Watch::new(&film.frames[..1], 1, FPS);
            let seen = all(&mut watch, &way);
            assert!(watch.summary().stretches > 0);
            for s in &seen {
                assert!(
                    matches!(s, Seen::Drift(d) if d.left.is_empty()),
                    "{}: {s:?}",
                    film.name
                );
            }
        }
    }

    #[test]
    fn dark_frames_go_on_and_a_run_of_blank_ones_stops() {
        // A dark wall: nearly black, but a picture.
        let mut wall = flat(2);
        wall.rgb[5] = 3;
        let mut watch = Watch::new(&[wall.clone()], 1, FPS);
        assert!(
            all(&mut watch, &vec![wall.clone(); 40])
                .iter()
                .all(|s| matches!(s, Seen::Drift(_)))
        );
        let seen = all(&mut watch, &[vec![flat(0); 7], vec![wall]].concat());
        assert!(
            matches!(seen[..], [Seen::Warning(_)]),
            "a short blackout goes on: {seen:?}"
        );
        let seen = all(&mut watch, &vec![flat(0); 8]);
        let Some(Seen::Blank(text)) = seen.last() else {
            panic!("{seen:?}");
        };
        assert!(text.contains("8 frames from 48 on are black"), "{text}");
        // Three chunks at least, however long a chunk is.
        let mut watch = Watch::new(&[], 6, FPS);
        let seen = all(&mut watch, &vec![flat(9); 12]);
        assert!(
            !seen.iter().any(|s| matches!(s, Seen::Blank(_))),
            "{seen:?}"
        );
        let seen = all(&mut watch, &vec![flat(9); 6]);
        assert!(seen.iter().any(|s| matches!(s, Seen::Blank(_))), "{seen:?}");
    }

    #[test]
    fn a_film_that_fades_blurs_or_turns_red_leaves_its_range_and_is_told_once() {
        let film = SeedFilm::load(0).unwrap();
        type Spoil = fn(&Frame) -> Frame;
        let spoil: [(&str, Spoil); 3] = [
            ("contrast", |f| per_pixel(f, |v, _| 110 + v / 12)),
            ("color", |f| {
                per_pixel(f, |v, c| if c == 0 { v.saturating_add(120) } else { v / 4 })
            }),
            ("sharpness", blurred),
        ];
        for (what, by) in spoil {
            let mut watch = Watch::new(&film.frames[..1], 1, FPS);
            let window = watch.window;
            let good = film.frames[..window].to_vec();
            let bad: Vec<Frame> = film
                .frames
                .iter()
                .cycle()
                .take(2 * window)
                .map(by)
                .collect();
            let seen = all(&mut watch, &[good, bad].concat());
            let warnings = seen
                .iter()
                .filter(|s| matches!(s, Seen::Warning(_)))
                .count();
            assert_eq!(warnings, 1, "{what}: {seen:?}");
            let summary = watch.summary();
            let last = summary.last.unwrap();
            assert!(last.left.contains(&what), "{what}: {last:?}");
            let (low, now, high) = (last.low.values(), last.look.values(), last.high.values());
            let is_in = |i: usize| low[i] <= now[i] && now[i] <= high[i];
            assert_eq!((0..5).all(is_in), last.left.is_empty(), "{what}: {last:?}");
            assert!(
                (0..5)
                    .all(|i| low[i] <= last.start.values()[i] && last.start.values()[i] <= high[i])
            );
            assert_eq!(
                (summary.outside, summary.first_outside),
                (2, Some(window as u32))
            );
            watch.cut(window + 3);
            assert_eq!(watch.summary(), DriftSummary::default());
        }
    }

    fn per_pixel(f: &Frame, by: impl Fn(u8, usize) -> u8) -> Frame {
        let rgb = f
            .rgb
            .iter()
            .enumerate()
            .map(|(i, v)| by(*v, i % 3))
            .collect();
        Frame { rgb, ..*f }
    }

    /// Each pixel the mean of 9 x 9.
    fn blurred(f: &Frame) -> Frame {
        let (w, h) = (f.width as i64, f.height as i64);
        let at = |x: i64, y: i64, c: i64| {
            let (x, y) = (x.clamp(0, w - 1), y.clamp(0, h - 1));
            u32::from(f.rgb[(3 * (y * w + x) + c) as usize])
        };
        let mut rgb = Vec::with_capacity(f.rgb.len());
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            for c in 0..3 {
                let near = (-4..=4).flat_map(|dy| (-4..=4).map(move |dx| (dx, dy)));
                let sum: u32 = near.map(|(dx, dy)| at(x + dx, y + dy, c)).sum();
                rgb.push((sum / 81) as u8);
            }
        }
        Frame { rgb, ..*f }
    }
}

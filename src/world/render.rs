//! What a rooms world looks like from a pose: one ray a column, four samples a pixel.

use super::pose::{HEADINGS, Pose};
use super::rooms::{Decoration, Rgb, Rooms, SIDE, Style};
use crate::frame::Frame;

/// Pixels in a row.
pub const WIDTH: usize = 64;
/// Rows.
pub const HEIGHT: usize = 48;
/// Samples of a pixel along each axis.
const SAMPLES: usize = 2;
/// Focal length in samples: the view is 90 degrees wide.
const FOCAL: f64 = (WIDTH / 2 * SAMPLES) as f64;
/// Cells a ray crosses at most.
const REACH: usize = 64;
/// Nothing is nearer than this, in cells.
const NEAREST: f64 = 1e-3;

/// What a column's ray meets.
struct Hit {
    /// In view depth, cells.
    distance: f64,
    room: usize,
    kind: Surface,
}

enum Surface {
    /// Across the face from 0 to 1, what hangs there, and how much light the face gets.
    Wall(f64, Decoration, f64),
    /// How much light that side of the pillar gets.
    Pillar(f64),
}

impl Rooms {
    /// The picture at a pose, `WIDTH` by `HEIGHT`. Anywhere is allowed: inside a wall it shows the inside of a wall.
    pub fn render(&self, pose: Pose) -> Frame {
        let (dx, dy) = pose.cells();
        let eye = (self.map.start.0 + dx, self.map.start.1 + dy);
        let yaw = f64::from(pose.k) * (std::f64::consts::TAU / f64::from(HEADINGS));
        let (ahead_x, ahead_y) = (yaw.cos(), yaw.sin());
        let mut sums = vec![[0f32; 3]; WIDTH * HEIGHT];
        let (columns, rows) = (WIDTH * SAMPLES, HEIGHT * SAMPLES);
        for column in 0..columns {
            let s = (column as f64 + 0.5 - (columns / 2) as f64) / FOCAL;
            let ray = (ahead_x + ahead_y * s, ahead_y - ahead_x * s);
            let hit = self.cast(eye, ray);
            for row in 0..rows {
                // Down is positive; the wall spans |down| * distance < 0.5.
                let down = (row as f64 + 0.5 - (rows / 2) as f64) / FOCAL;
                let colour = match down.abs() * hit.distance < 0.5 {
                    true => self.upright(&hit, 0.5 - down * hit.distance),
                    false => self.level(eye, ray, down),
                };
                let sum = &mut sums[row / SAMPLES * WIDTH + column / SAMPLES];
                let share = (SAMPLES * SAMPLES) as f32;
                sum.iter_mut()
                    .zip(colour)
                    .for_each(|(s, c)| *s += c / share);
            }
        }
        let byte = |v: &f32| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
        Frame {
            width: WIDTH as u32,
            height: HEIGHT as u32,
            rgb: sums.iter().flatten().map(byte).collect(),
        }
    }

    /// Goes from cell to cell along a ray to the first pillar or wall.
    fn cast(&self, (x, y): (f64, f64), (dx, dy): (f64, f64)) -> Hit {
        let per_cell = |d: f64| if d.abs() > 1e-9 { (1.0 / d).abs() } else { 1e9 };
        let (to_x, to_y) = (per_cell(dx), per_cell(dy));
        let first = |at: f64, d: f64, per: f64| {
            (if d > 0.0 {
                at.floor() + 1.0 - at
            } else {
                at - at.floor()
            }) * per
        };
        let (mut next_x, mut next_y) = (first(x, dx, to_x), first(y, dy, to_y));
        let (mut cx, mut cy) = (x.floor() as i64, y.floor() as i64);
        let side = SIDE as i64;
        let cell = |cx: i64, cy: i64| {
            (
                cx.clamp(0, side - 1) as usize,
                cy.clamp(0, side - 1) as usize,
            )
        };
        let mut distance = 0.0;
        for _ in 0..REACH {
            let (at_x, at_y) = cell(cx, cy);
            if let Some((t, light)) = self.pillar_at((at_x, at_y), (x, y), (dx, dy)) {
                return Hit {
                    distance: f64::max(t, NEAREST),
                    room: self.room[at_y][at_x],
                    kind: Surface::Pillar(light),
                };
            }
            let face = if next_x < next_y {
                distance = next_x;
                next_x += to_x;
                cx += if dx > 0.0 { 1 } else { -1 };
                if dx > 0.0 { 0 } else { 1 }
            } else {
                distance = next_y;
                next_y += to_y;
                cy += if dy > 0.0 { 1 } else { -1 };
                if dy > 0.0 { 2 } else { 3 }
            };
            let outside = cx < 0 || cy < 0 || cx >= side || cy >= side;
            let (hit_x, hit_y) = cell(cx, cy);
            if outside || self.map.walls[hit_y][hit_x] {
                let along = if face < 2 {
                    y + distance * dy
                } else {
                    x + distance * dx
                };
                let across = along - along.floor();
                let across = if face == 0 || face == 3 {
                    1.0 - across
                } else {
                    across
                };
                let distance = f64::max(distance, NEAREST);
                let light = fall_off(distance) * if face >= 2 { 0.78 } else { 1.0 };
                return Hit {
                    distance,
                    room: self.room[at_y][at_x],
                    kind: Surface::Wall(across, self.decorations[hit_y][hit_x][face], light),
                };
            }
        }
        Hit {
            distance: f64::max(distance, NEAREST),
            room: 0,
            kind: Surface::Wall(0.0, Decoration::default(), fall_off(distance)),
        }
    }

    /// Where the ray meets this cell's pillar, and the light on it there.
    fn pillar_at(
        &self,
        (cx, cy): (usize, usize),
        (x, y): (f64, f64),
        (dx, dy): (f64, f64),
    ) -> Option<(f64, f64)> {
        let radius = f64::from(self.pillar[cy][cx]);
        if radius == 0.0 {
            return None;
        }
        let (from_x, from_y) = (x - (cx as f64 + 0.5), y - (cy as f64 + 0.5));
        let a = dx * dx + dy * dy;
        let b = from_x * dx + from_y * dy;
        let c = from_x * from_x + from_y * from_y - radius * radius;
        let root = b * b - a * c;
        if root <= 0.0 {
            return None;
        }
        let t = (-b - root.sqrt()) / a;
        let normal = |from: f64, d: f64| (from + t * d) / radius;
        let light = 0.55 + 0.45 * (0.8 * normal(from_x, dx) + 0.6 * normal(from_y, dy));
        (t > 0.01).then_some((t, light))
    }

    /// A wall's or a pillar's colour at a height from 0 to 1.
    fn upright(&self, hit: &Hit, z: f64) -> Rgb {
        let style = &self.styles[hit.room];
        match &hit.kind {
            Surface::Pillar(light) => {
                let rim = if (0.08..=0.92).contains(&z) { 1.0 } else { 0.6 };
                scaled(
                    style.pillar,
                    fall_off(hit.distance) * (0.35 + 0.65 * light) * rim,
                )
            }
            Surface::Wall(across, decoration, light) => {
                let colour = hung(decoration, *across, z)
                    .unwrap_or(style.wall[usize::from(is_second(style, *across, z))]);
                let skirting = if z < 0.05 { 0.5 } else { 1.0 };
                scaled(colour, light * skirting)
            }
        }
    }

    /// The floor's or the ceiling's colour.
    fn level(&self, eye: (f64, f64), ray: (f64, f64), down: f64) -> Rgb {
        let distance = 0.5 / down.abs();
        let (x, y) = (eye.0 + distance * ray.0, eye.1 + distance * ray.1);
        let cell = |v: f64| v.floor().clamp(0.0, (SIDE - 1) as f64) as usize;
        let style = &self.styles[self.room[cell(y)][cell(x)]];
        let light = 1.0 / (1.0 + 0.05 * distance * distance);
        let (in_x, in_y) = (x - x.floor(), y - y.floor());
        if down > 0.0 {
            let odd = |v: f64| v.rem_euclid(2.0) == 1.0;
            let second = match style.floor_pattern {
                1 => odd((x * 2.0).floor() + (y * 2.0).floor()),
                2 => odd((x * 3.0).floor()),
                3 => in_x < 0.12 || in_y < 0.12,
                _ => false,
            };
            return scaled(style.floor[usize::from(second)], light);
        }
        let panel = match style.ceiling_pattern {
            1 if (in_x - 0.5).abs() < 0.22 && (in_y - 0.5).abs() < 0.22 => 1.25,
            2 if in_x < 0.15 || in_y < 0.15 => 0.5,
            _ => 0.8,
        };
        scaled(style.ceiling, light * panel)
    }
}

fn fall_off(distance: f64) -> f64 {
    1.0 / (1.0 + 0.035 * distance * distance)
}

fn scaled(colour: Rgb, by: f64) -> Rgb {
    colour.map(|c| (f64::from(c) * by) as f32)
}

/// Whether a wall shows the second of its colours there.
fn is_second(style: &Style, across: f64, z: f64) -> bool {
    let odd = |v: f64| v.rem_euclid(2.0) == 1.0;
    match style.wall_pattern {
        1 => {
            // Bricks, every other row moved by half of one.
            let row = (z * 5.0).floor();
            let place = across * 2.0 + 0.5 * row.rem_euclid(2.0);
            z * 5.0 - row < 0.18 || place - place.floor() < 0.09
        }
        2 => odd((across * 4.0).floor()),
        3 => z < 0.36,
        4 => odd((across * 3.0).floor() + (z * 3.0).floor()),
        5 => 0.4 < z && z < 0.6,
        _ => false,
    }
}

/// The colour of what hangs on a face, where it covers the wall.
fn hung(d: &Decoration, across: f64, z: f64) -> Option<Rgb> {
    let within = |v: f64, low: f64, high: f64| low < v && v < high;
    let colour = match d.kind {
        1 if within(across, 0.2, 0.8) && within(z, 0.32, 0.78) => {
            let framed = !(0.26..=0.74).contains(&across) || !(0.37..=0.73).contains(&z);
            match (framed, across < 0.5) {
                (true, _) => 2,
                (false, true) => 0,
                (false, false) => 1,
            }
        }
        2 => match (across - 0.5).powi(2) + (z - 0.55).powi(2) {
            q if q < 0.025 => 0,
            q if q < 0.075 => 1,
            _ => return None,
        },
        3 if within(across, 0.22, 0.78) && z < 0.8 => {
            usize::from(within(across, 0.32, 0.68) && within(z, 0.42, 0.7))
        }
        _ => return None,
    };
    Some(d.colours[colour])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::SeedFilm;

    /// The stored films were taken by the renderer that the model was trained with.
    #[test]
    fn worlds_and_pictures_are_those_of_the_stored_films() {
        for i in 0..SeedFilm::count() {
            let film = SeedFilm::load(i).unwrap();
            let rooms = Rooms::new(film.seed);
            assert_eq!(rooms.map.walls, film.map.walls, "{}", film.name);
            assert_eq!(rooms.map.start, film.map.start, "{}", film.name);
            assert_eq!(rooms.map.pillars.len(), film.map.pillars.len());
            for (pose, frame) in film.poses.iter().zip(&film.frames) {
                let got = rooms.render(*pose);
                let apart = got
                    .rgb
                    .iter()
                    .zip(&frame.rgb)
                    .filter(|(a, b)| a.abs_diff(**b) > 1);
                // A sample on an edge may fall to either side where a machine's sines differ in the last bit.
                assert!(apart.count() <= 12, "{} at {pose:?}", film.name);
            }
        }
    }

    #[test]
    fn nowhere_is_a_panic() {
        let rooms = Rooms::new(1);
        for x in [-400, -180, 0, 7, 180, 400] {
            for k in 0..16 {
                assert_eq!(
                    rooms.render(Pose { x, y: -x / 2, k }).rgb.len(),
                    WIDTH * HEIGHT * 3
                );
            }
        }
    }
}

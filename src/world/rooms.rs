//! One rooms world: a floor plan, colours, patterns and pictures, all of them drawn from one seed.
//!
//! The draws, their order and their formulas are those of the renderer that the demo model was trained with, so that a seed
//! names the same world here and there.

use super::draws::Draws;
use super::map::{Map, Pillar};

/// Cells of a side.
pub(super) const SIDE: usize = 25;

/// A colour, each part from 0 to 1.
pub(super) type Rgb = [f32; 3];

/// How a room looks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Style {
    pub(super) wall_pattern: usize,
    pub(super) floor_pattern: usize,
    pub(super) ceiling_pattern: usize,
    pub(super) wall: [Rgb; 2],
    pub(super) floor: [Rgb; 2],
    pub(super) ceiling: Rgb,
    pub(super) pillar: Rgb,
}

/// What hangs on one face of a wall.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Decoration {
    /// 0 nothing, 1 a split picture, 2 a disc, 3 a panel door.
    pub(super) kind: usize,
    pub(super) colours: [Rgb; 3],
}

/// A world: see [`Rooms::render`] for what it looks like from somewhere.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// What it was drawn from.
    pub seed: u64,
    /// Walls, pillars and the place of pose (0, 0, 0).
    pub map: Map,
    /// Number of the room that a cell belongs to, `[y][x]`; 0 inside walls, all doorways one room of their own.
    pub(super) room: Vec<[usize; SIDE]>,
    /// Radius of the pillar in the middle of a cell, 0 without.
    pub(super) pillar: Vec<[f32; SIDE]>,
    /// Looks by room.
    pub(super) styles: Vec<Style>,
    /// `[y][x][side]`: faces seen while going to larger x, smaller x, larger y, smaller y.
    pub(super) decorations: Vec<[[Decoration; 4]; SIDE]>,
}

/// A room's cells: first column, the one after its last, first row, the one after its last.
type Room = (usize, usize, usize, usize);

impl Rooms {
    /// The world with this seed.
    pub fn new(seed: u64) -> Rooms {
        let mut d = Draws::new(seed);
        let (xs, ys) = (cuts(&mut d), cuts(&mut d));
        let mut walls = vec![vec![true; SIDE]; SIDE];
        let mut room = vec![[0; SIDE]; SIDE];
        let mut rooms: Vec<Room> = Vec::new();
        for y in ys.windows(2) {
            for x in xs.windows(2) {
                let (x0, x1, y0, y1) = (x[0] + 1, x[1], y[0] + 1, y[1]);
                if x1 <= x0 || y1 <= y0 {
                    continue;
                }
                rooms.push((x0, x1, y0, y1));
                for row in y0..y1 {
                    walls[row][x0..x1].fill(false);
                    room[row][x0..x1].fill(rooms.len());
                }
            }
        }
        let doorway = rooms.len() + 1;
        doors(&mut d, &rooms, &mut walls, &mut room);
        let mut pillar = vec![[0.0; SIDE]; SIDE];
        for &(x0, x1, y0, y1) in &rooms {
            if x1 - x0 >= 3 && y1 - y0 >= 3 && d.unit() < 0.6 {
                // The radius is drawn first: NumPy's side works out the right of an assignment before the left.
                let radius = d.uniform(0.15, 0.3) as f32;
                let y = d.below(y0 + 1, y1 - 1);
                let x = d.below(x0 + 1, x1 - 1);
                pillar[y][x] = radius;
            }
        }
        let styles = styles(&mut d, rooms.len() + 2);
        let decorations = decorations(&mut d);
        let mut free = Vec::new();
        for y in 9..16 {
            for x in 9..16 {
                if !walls[y][x] && pillar[y][x] == 0.0 && room[y][x] != doorway {
                    free.push((x, y));
                }
            }
        }
        let (x, y) = match free.is_empty() {
            false => d.choice(&free),
            true => (SIDE / 2, SIDE / 2),
        };
        let mut pillars = Vec::new();
        for (y, row) in pillar.iter().enumerate() {
            for (x, radius) in row.iter().enumerate().filter(|(_, r)| **r > 0.0) {
                let radius = f64::from(*radius);
                pillars.push(Pillar { x, y, radius });
            }
        }
        Rooms {
            seed,
            map: Map {
                walls,
                pillars,
                start: (x as f64 + 0.5, y as f64 + 0.5),
            },
            room,
            pillar,
            styles,
            decorations,
        }
    }
}

/// Lines of walls across one axis.
fn cuts(d: &mut Draws) -> Vec<usize> {
    let mut cuts = vec![0];
    let mut last = 0;
    while last < SIDE - 3 {
        last += d.below(3, 6);
        cuts.push(last);
    }
    if let Some(end) = cuts.last_mut() {
        *end = SIDE - 1;
    }
    cuts
}

/// Opens doorways to the right of rooms and above them.
fn doors(d: &mut Draws, rooms: &[Room], walls: &mut [Vec<bool>], room: &mut [[usize; SIDE]]) {
    for &(x0, x1, y0, y1) in rooms {
        for to_the_right in [true, false] {
            let (edge, low, high) = match to_the_right {
                true => (x1, y0, y1),
                false => (y1, x0, x1),
            };
            if edge >= SIDE - 1 || d.unit() < 0.1 {
                continue;
            }
            let width = if d.unit() < 0.7 { 1 } else { 2 };
            let most = (high + 1).saturating_sub(width);
            let first = d.below(low, most.max(low + 1));
            for at in first..(first + width).min(high) {
                let ((y, x), (beyond_y, beyond_x)) = match to_the_right {
                    true => ((at, edge), (at, edge + 1)),
                    false => ((edge, at), (edge + 1, at)),
                };
                if !walls[beyond_y][beyond_x] {
                    walls[y][x] = false;
                    room[y][x] = rooms.len() + 1;
                }
            }
        }
    }
}

fn styles(d: &mut Draws, n: usize) -> Vec<Style> {
    let base = d.unit();
    let style = |_| {
        let hue = base + d.choice(&[0.0, 0.08, 0.33, 0.5, 0.66]) + d.normal(0.0, 0.04);
        let wall = hsv(hue, d.uniform(0.2, 0.85), d.uniform(0.5, 1.0));
        let second = hue + d.normal(0.0, 0.08);
        let wall = [wall, hsv(second, d.uniform(0.1, 0.8), d.uniform(0.3, 0.9))];
        let hue = d.unit();
        let floor = hsv(hue, d.uniform(0.1, 0.6), d.uniform(0.35, 0.8));
        let second = hue + d.normal(0.0, 0.05);
        let floor = [
            floor,
            hsv(second, d.uniform(0.1, 0.6), d.uniform(0.25, 0.6)),
        ];
        let ceiling = hsv(d.unit(), d.uniform(0.0, 0.35), d.uniform(0.35, 0.95));
        let pillar = hsv(d.unit(), d.uniform(0.4, 1.0), d.uniform(0.5, 1.0));
        Style {
            wall_pattern: d.below(0, 6),
            floor_pattern: d.below(0, 4),
            ceiling_pattern: d.below(0, 3),
            wall,
            floor,
            ceiling,
            pillar,
        }
    };
    (0..n).map(style).collect()
}

fn decorations(d: &mut Draws) -> Vec<[[Decoration; 4]; SIDE]> {
    const FACES: usize = SIDE * SIDE * 4;
    let hangs: Vec<bool> = (0..FACES).map(|_| d.unit() < 0.5).collect();
    let kinds: Vec<usize> = (0..FACES).map(|_| d.below(1, 4)).collect();
    let mut many =
        |low, high| -> Vec<f64> { (0..3 * FACES).map(|_| d.uniform(low, high)).collect() };
    let (hues, saturations, values) = (many(0.0, 1.0), many(0.3, 1.0), many(0.2, 1.0));
    let colour = |i: usize| hsv(hues[i], saturations[i], values[i]);
    let face = |i: usize| Decoration {
        kind: if hangs[i] { kinds[i] } else { 0 },
        colours: [colour(3 * i), colour(3 * i + 1), colour(3 * i + 2)],
    };
    let cell = |c: usize| std::array::from_fn(|side| face(4 * c + side));
    (0..SIDE)
        .map(|y| std::array::from_fn(|x| cell(y * SIDE + x)))
        .collect()
}

/// A colour by hue (of which the whole part does not count), saturation and value.
fn hsv(hue: f64, saturation: f64, value: f64) -> Rgb {
    let sixth = hue.rem_euclid(1.0) * 6.0;
    let (i, f) = (sixth as usize, sixth.fract());
    let p = value * (1.0 - saturation);
    let q = value * (1.0 - saturation * f);
    let t = value * (1.0 - saturation * (1.0 - f));
    let rgb = match i % 6 {
        0 => [value, t, p],
        1 => [q, value, p],
        2 => [p, value, t],
        3 => [p, q, value],
        4 => [t, p, value],
        _ => [value, p, q],
    };
    rgb.map(|v| v as f32)
}

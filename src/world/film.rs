//! Seed films: short true films of rooms worlds, to start a rollout from and to compare with.
//!
//! Four are stored inside the program: one contact sheet a film and the camera text, from which poses follow. Their worlds
//! were held out from training. Any other seed gives a world and a film of its own, drawn here.

use serde::Deserialize;

use super::camera::{self, MAX_STEPS, Step};
use super::error::Error;
use super::map::{Map, Pillar};
use super::pose::Pose;
use super::rooms::Rooms;
use super::stroll::stroll;
use super::tour::tour;
use crate::frame::Frame;

/// Everything but the pictures.
const FILMS: &str = include_str!("../../assets/worlds/rooms/films.json");
/// Contact sheets, one a film, in the order of `films.json`.
const SHEETS: [(&str, &[u8]); 4] = [
    (
        "film-0.png",
        include_bytes!("../../assets/worlds/rooms/film-0.png"),
    ),
    (
        "film-1.png",
        include_bytes!("../../assets/worlds/rooms/film-1.png"),
    ),
    (
        "film-2.png",
        include_bytes!("../../assets/worlds/rooms/film-2.png"),
    ),
    (
        "film-3.png",
        include_bytes!("../../assets/worlds/rooms/film-3.png"),
    ),
];
/// The `schema` that `films.json` must have.
const SCHEMA: &str = "longtake.seed-films.v1";

/// The film to start from if none is named.
///
/// Its landmarks (rings, a pillar, a picture, doors) are large enough to be told apart at 64 x 48, and its first
/// 48 frames hold a full turn and a walk of seven steps, so that its default path leaves every one of them for a while
/// and comes back: the eye can check what the cache recalls.
pub const DEFAULT_FILM: usize = 3;
/// Frames of a film.
pub const N_FRAMES: usize = 96;
/// How many of its frames are given if nothing is said.
///
/// With 40 the walk up to the large ring is not yet among them; each further frame makes every pass over the history longer
/// and adds little to see.
pub const DEFAULT_GIVEN: usize = 48;

/// One true film and the world that it was taken in.
#[derive(Debug, Clone)]
pub struct SeedFilm {
    /// Name to show, such as `rooms-900001`.
    pub name: String,
    /// Seed of the world's layout and colours.
    pub seed: u64,
    /// True frames, the first at pose (0, 0, 0).
    pub frames: Vec<Frame>,
    /// Pose of every frame; `poses.len() == frames.len()`.
    pub poses: Vec<Pose>,
    /// What led from frame to frame; one fewer than frames.
    pub steps: Vec<Step>,
    /// Floor plan, for the paths that leave the film.
    pub map: Map,
    /// What every other pose looks like.
    rooms: Rooms,
}

#[derive(Deserialize)]
struct FilmsJson {
    schema: String,
    frame_width: u32,
    frame_height: u32,
    frames: usize,
    sheet_columns: usize,
    films: Vec<FilmJson>,
}

#[derive(Deserialize)]
struct FilmJson {
    name: String,
    seed: u64,
    sheet: String,
    camera: String,
    start: (f64, f64),
    grid: Vec<String>,
    pillars: Vec<PillarJson>,
}

#[derive(Deserialize)]
struct PillarJson {
    x: usize,
    y: usize,
    radius: f64,
}

impl SeedFilm {
    /// How many films are stored.
    pub fn count() -> usize {
        SHEETS.len()
    }

    /// Decodes stored film `film_idx`; beyond them, a film of the world that is drawn from this number.
    ///
    /// # Errors
    ///
    /// Where the program was built from damaged files.
    pub fn load(film_idx: usize) -> Result<SeedFilm, Error> {
        let Some(&(sheet_name, sheet)) = SHEETS.get(film_idx) else {
            return Ok(Self::of_world(film_idx as u64));
        };
        let json: FilmsJson =
            serde_json::from_str(FILMS).map_err(|err| damaged("films.json", err))?;
        if json.schema != SCHEMA {
            let what = format!("schema {:?}, expected {SCHEMA:?}", json.schema);
            return Err(damaged("films.json", what));
        }
        let film = json
            .films
            .get(film_idx)
            .filter(|film| film.sheet == sheet_name);
        let film =
            film.ok_or_else(|| damaged("films.json", format!("no entry for {sheet_name}")))?;
        let steps = camera::parse(&film.camera).map_err(|err| damaged("films.json", err))?;
        if steps.len() + 1 != json.frames {
            let what = format!(
                "{} steps for {} frames in {}",
                steps.len(),
                json.frames,
                film.name
            );
            return Err(damaged("films.json", what));
        }
        let mut poses = vec![Pose::default()];
        poses.extend(steps.iter().scan(Pose::default(), |pose, step| {
            *pose = step.after(*pose);
            Some(*pose)
        }));
        Ok(SeedFilm {
            name: film.name.clone(),
            seed: film.seed,
            frames: cut_sheet(sheet, &json).map_err(|what| damaged(sheet_name, what))?,
            poses,
            steps,
            map: film.map()?,
            rooms: Rooms::new(film.seed),
        })
    }

    /// A film of a world that no film is stored of, drawn from `seed`: a look around and a walk, as long as stored films.
    pub fn of_world(seed: u64) -> SeedFilm {
        let rooms = Rooms::new(seed);
        let actions = stroll(&rooms.map, seed, N_FRAMES - 1);
        let mut poses = vec![Pose::default()];
        poses.extend(actions.iter().scan(Pose::default(), |pose, action| {
            *pose = pose.after(*action);
            Some(*pose)
        }));
        SeedFilm {
            name: format!("rooms-{seed}"),
            seed,
            frames: poses.iter().map(|pose| rooms.render(*pose)).collect(),
            poses,
            steps: actions.into_iter().map(Step::from).collect(),
            map: rooms.map.clone(),
            rooms,
        }
    }

    /// What is truly seen from `pose`: the film's frame where it has one, else drawn.
    pub fn true_frame(&self, pose: Pose) -> Frame {
        let at = self.poses.iter().position(|&seen| seen == pose);
        match at.and_then(|i| self.frames.get(i)) {
            Some(frame) => frame.clone(),
            None => self.rooms.render(pose),
        }
    }

    /// `n` steps to follow the first `given` frames that only visit poses among them, and that take in all of them
    /// again and again. With `given = 1` there is only one such pose, and the camera turns on the spot.
    ///
    /// # Errors
    ///
    /// Where `given` is not in 1 to the number of frames, or `n` is above [`MAX_STEPS`].
    pub fn default_path(&self, given: usize, n: usize) -> Result<Vec<Step>, Error> {
        let walk = self.poses.get(..given).filter(|walk| !walk.is_empty());
        let walk = walk.ok_or_else(|| Error::Given {
            given,
            n_frames: self.poses.len(),
            name: self.name.clone(),
        })?;
        if MAX_STEPS < n {
            return Err(Error::TourTooLong {
                n,
                limit: MAX_STEPS,
            });
        }
        Ok(tour(walk, n).into_iter().map(Step::from).collect())
    }
}

impl FilmJson {
    fn map(&self) -> Result<Map, Error> {
        let mut walls = Vec::with_capacity(self.grid.len());
        for (y, row) in self.grid.iter().enumerate() {
            if row.len() != self.grid.len() || row.bytes().any(|b| b != b'#' && b != b'.') {
                let what = format!(
                    "row {y} of {} is not {} of # and .",
                    self.name,
                    self.grid.len()
                );
                return Err(damaged("films.json", what));
            }
            walls.push(row.bytes().map(|b| b == b'#').collect());
        }
        let pillars = self.pillars.iter().map(|p| Pillar {
            x: p.x,
            y: p.y,
            radius: p.radius,
        });
        Ok(Map {
            walls,
            pillars: pillars.collect(),
            start: self.start,
        })
    }
}

/// Cuts a contact sheet, row by row, into its frames; the error says what was found.
fn cut_sheet(png: &[u8], json: &FilmsJson) -> Result<Vec<Frame>, String> {
    let decoder = png::Decoder::new(std::io::Cursor::new(png));
    let mut reader = decoder.read_info().map_err(|err| err.to_string())?;
    let mut sheet = vec![0; reader.output_buffer_size().ok_or("too large a picture")?];
    let info = reader
        .next_frame(&mut sheet)
        .map_err(|err| err.to_string())?;
    let (frame_w, frame_h) = (json.frame_width as usize, json.frame_height as usize);
    let (w, h) = (info.width as usize, info.height as usize);
    let columns = json.sheet_columns;
    let rgb8 = (png::ColorType::Rgb, png::BitDepth::Eight);
    let fits = (info.color_type, info.bit_depth) == rgb8
        && w == columns * frame_w
        && json.frames.div_ceil(columns.max(1)) * frame_h <= h;
    if !fits {
        return Err(format!(
            "a {w} x {h} {:?} picture for {} frames of {frame_w} x {frame_h} in {columns} columns of RGB",
            info.color_type, json.frames
        ));
    }
    let cut = |frame_idx: usize| {
        let (top, left) = (frame_idx / columns * frame_h, frame_idx % columns * frame_w);
        let mut rgb = Vec::with_capacity(frame_w * frame_h * 3);
        for row in top..top + frame_h {
            let at = (row * w + left) * 3;
            rgb.extend_from_slice(&sheet[at..at + frame_w * 3]);
        }
        Frame {
            width: json.frame_width,
            height: json.frame_height,
            rgb,
        }
    };
    Ok((0..json.frames).map(cut).collect())
}

fn damaged(asset: &str, what: impl ToString) -> Error {
    Error::Asset {
        asset: asset.to_owned(),
        what: what.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::map::{OnWall, Path};

    fn films() -> Vec<SeedFilm> {
        let load = |i| SeedFilm::load(i).unwrap();
        (0..SeedFilm::count()).map(load).collect()
    }

    /// Values below are read from the archive that the films were converted from.
    #[test]
    fn films_hold_the_reference_frames_and_poses() {
        let pixel_sums = [82_227_358, 93_093_023, 75_408_841, 92_015_330];
        let last = [(2, 6, 0), (-8, -2, 10), (20, -8, 12), (0, 0, 3)];
        for ((film, pixel_sum), (x, y, k)) in films().iter().zip(pixel_sums).zip(last) {
            assert_eq!(
                (film.frames.len(), film.poses.len(), film.steps.len()),
                (96, 96, 95)
            );
            assert!(
                film.frames
                    .iter()
                    .all(|f| (f.width, f.height, f.rgb.len()) == (64, 48, 64 * 48 * 3))
            );
            let sum: u64 = film
                .frames
                .iter()
                .flat_map(|f| &f.rgb)
                .map(|&v| u64::from(v))
                .sum();
            assert_eq!(sum, pixel_sum, "{}", film.name);
            assert_eq!(film.poses[95], Pose { x, y, k }, "{}", film.name);
        }
    }

    #[test]
    fn camera_texts_of_the_films_are_canonical() {
        let json: FilmsJson = serde_json::from_str(FILMS).unwrap();
        for (film, entry) in films().iter().zip(json.films) {
            assert_eq!(camera::format(&film.steps), entry.camera);
        }
    }

    #[test]
    fn equal_poses_have_equal_frames() {
        for film in films() {
            for (pose, frame) in film.poses.iter().zip(&film.frames) {
                assert_eq!(film.true_frame(*pose), *frame);
            }
        }
    }

    #[test]
    fn films_of_new_worlds_are_like_the_stored_ones() {
        let film = SeedFilm::of_world(77);
        let counts = (film.frames.len(), film.poses.len(), film.steps.len());
        assert_eq!(counts, (N_FRAMES, N_FRAMES, N_FRAMES - 1));
        let path = Path::along(&film.map, Pose::default(), &film.steps, OnWall::Refuse).unwrap();
        assert_eq!(path.poses, film.poses[1..]);
        assert!(film.default_path(DEFAULT_GIVEN, 150).is_ok());
        assert_eq!(film.frames, SeedFilm::of_world(77).frames);
        assert_ne!(film.frames[0], SeedFilm::of_world(78).frames[0]);
        // It goes somewhere: not all of it is a turn on the spot.
        for seed in 0..50 {
            let film = SeedFilm::of_world(seed);
            let places: std::collections::BTreeSet<_> = film.poses[..DEFAULT_GIVEN]
                .iter()
                .map(|p| (p.x, p.y))
                .collect();
            assert!(places.len() >= 4, "world {seed}: {} places", places.len());
        }
    }

    /// Counts of free lattice positions by the reference's `World.free` within its bound.
    #[test]
    fn free_space_equals_the_reference() {
        for (film, expected) in films().iter().zip([63538, 53317, 55341, 64440]) {
            let lattice = (-181..=181).flat_map(|y| (-181..=181).map(move |x| Pose { x, y, k: 0 }));
            let n_free = lattice.filter(|&pose| film.map.is_free(pose)).count();
            assert_eq!(n_free, expected, "{}", film.name);
        }
    }

    #[test]
    fn films_never_touch_a_wall() {
        for film in films() {
            let path =
                Path::along(&film.map, Pose::default(), &film.steps, OnWall::Refuse).unwrap();
            assert_eq!(path.poses, film.poses[1..]);
        }
    }

    #[test]
    fn default_paths_only_visit_given_poses() {
        for film in films() {
            for given in 2..=96 {
                let steps = film.default_path(given, 150).unwrap();
                assert_eq!(steps.len(), 150);
                assert_eq!(steps, film.default_path(given, 150).unwrap());
                let path =
                    Path::along(&film.map, film.poses[given - 1], &steps, OnWall::Refuse).unwrap();
                assert!(
                    path.poses
                        .iter()
                        .all(|pose| film.poses[..given].contains(pose))
                );
            }
        }
    }

    #[test]
    fn default_paths_begin_alike_whatever_their_length() {
        let film = SeedFilm::load(DEFAULT_FILM).unwrap();
        let long = film.default_path(DEFAULT_GIVEN, 200).unwrap();
        assert_eq!(film.default_path(DEFAULT_GIVEN, 77).unwrap(), long[..77]);
        assert!(film.default_path(DEFAULT_GIVEN, 0).unwrap().is_empty());
    }

    #[test]
    fn the_default_path_takes_in_every_given_pose() {
        let film = SeedFilm::load(DEFAULT_FILM).unwrap();
        let steps = film.default_path(DEFAULT_GIVEN, 96).unwrap();
        let start = film.poses[DEFAULT_GIVEN - 1];
        let path = Path::along(&film.map, start, &steps, OnWall::Refuse).unwrap();
        assert!(
            film.poses[..DEFAULT_GIVEN]
                .iter()
                .all(|pose| path.poses.contains(pose))
        );
    }

    #[test]
    fn one_given_frame_makes_a_turn_on_the_spot() {
        let steps = SeedFilm::load(0).unwrap().default_path(1, 16).unwrap();
        assert_eq!(camera::format(&steps), "left-16");
    }

    #[test]
    fn numbers_out_of_range_are_errors() {
        let film = SeedFilm::load(0).unwrap();
        for given in [0, 97, usize::MAX] {
            let message = film.default_path(given, 8).unwrap_err().to_string();
            assert!(message.contains("take 1 to 96"), "{message}");
        }
        assert!(matches!(
            film.default_path(24, usize::MAX),
            Err(Error::TourTooLong { .. })
        ));
    }

    #[test]
    fn a_damaged_sheet_is_an_error() {
        let json: FilmsJson = serde_json::from_str(FILMS).unwrap();
        let (_, png) = SHEETS[0];
        assert!(cut_sheet(&png[..png.len() / 2], &json).is_err());
        assert!(cut_sheet(b"no picture", &json).is_err());
        for (frames, sheet_columns) in [(97, 12), (96, 0), (96, 11)] {
            let json: FilmsJson = serde_json::from_str(FILMS).unwrap();
            let json = FilmsJson {
                frames,
                sheet_columns,
                ..json
            };
            assert!(cut_sheet(png, &json).is_err());
        }
    }
}

//! Two frames of the demo world, after four given ones, against the frames that the CPU twins made.
//!
//! `assets/selftest` was written by `longtake generate --device cpu --frames 2 --given 4 --seed 1 --no-metadata
//! -o 'assets/selftest/film-%d.png'`; `the_golden_film_is_what_the_twins_make` holds it to that.

use crate::frame::Frame;
use crate::gpu::Device;
use crate::rollout::{Config, Error, ModelSource, Session, Walk};
use crate::world;
use crate::world::film::{DEFAULT_FILM, SeedFilm};
use crate::world::map::{OnWall, Path};

const GOLDEN: [&[u8]; 2] = [
    include_bytes!("../../assets/selftest/film-0.png"),
    include_bytes!("../../assets/selftest/film-1.png"),
];
const GIVEN: usize = 4;
const SEED: u64 = 1;

/// Decibels that a device's film keeps to the twins'. Sums in f32 instead of f64 move a latent by some 1e-6, keys and
/// values that lie on a boundary of their half floats by 2^-11; every value one step of 8 bits off would be 48 dB.
pub const LEAST_DB: f64 = 48.0;

/// The frames that the twins made.
///
/// # Panics
/// When the program was built from damaged files.
pub fn golden() -> Vec<Frame> {
    let decode = |png: &&[u8]| {
        let mut reader = png::Decoder::new(std::io::Cursor::new(*png))
            .read_info()
            .ok()?;
        let mut rgb = vec![0; reader.output_buffer_size()?];
        let info = reader.next_frame(&mut rgb).ok()?;
        Some(Frame {
            width: info.width,
            height: info.height,
            rgb,
        })
    };
    GOLDEN
        .iter()
        .map(|png| decode(png).expect("the golden film is part of the program"))
        .collect()
}

/// Makes the same film on a device.
///
/// # Errors
/// Of the device.
pub fn make(device: &Device) -> Result<Vec<Frame>, Error> {
    let walk = walk().expect("the film and its path are part of the program");
    let config = Config {
        seed: SEED,
        ..Config::default()
    };
    let mut session = Session::new(device, &ModelSource::rooms()?, walk, &config)?;
    let mut frames = Vec::new();
    while let Some(chunk) = session.next_chunk(&mut |_| {})? {
        frames.extend(chunk.frames);
    }
    Ok(frames)
}

fn walk() -> Result<Walk, world::Error> {
    let film = SeedFilm::load(DEFAULT_FILM)?;
    let steps = film.default_path(GIVEN, GOLDEN.len())?;
    let path = Path::along(&film.map, film.poses[GIVEN - 1], &steps, OnWall::Refuse)?;
    Ok(Walk {
        given: film.frames[..GIVEN].to_vec(),
        given_poses: film.poses[..GIVEN].to_vec(),
        poses: path.poses,
    })
}

/// Peak signal-to-noise ratio of two films, over all frames; infinite when they are equal.
pub fn psnr(a: &[Frame], b: &[Frame]) -> f64 {
    let values = |f: &[Frame]| f.iter().flat_map(|f| f.rgb.clone()).collect::<Vec<u8>>();
    let (a, b) = (values(a), values(b));
    if a.len() != b.len() {
        return 0.0;
    }
    let square = |(a, b): (&u8, &u8)| (f64::from(*a) - f64::from(*b)).powi(2);
    let mean = a.iter().zip(&b).map(square).sum::<f64>() / a.len() as f64;
    10.0 * (255.0f64.powi(2) / mean).log10()
}

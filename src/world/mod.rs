//! The rooms world as the rest of the program sees it: poses, camera texts, floor plans and the built-in seed films.
//!
//! Pictures are not rendered here; the world's renderer is part of the training code. What a pose looks like is known
//! only where a seed film has it.

pub mod camera;
pub mod error;
pub mod film;
pub mod map;
pub mod pose;
mod tour;

pub use camera::Step;
pub use error::Error;
pub use film::SeedFilm;
pub use map::{Map, OnWall, Path};
pub use pose::{Action, Pose, pose_features};
pub use tour::tour;

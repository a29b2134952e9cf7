//! The rooms world: what a seed makes, what it looks like from a pose, camera texts, floor plans and seed films.

pub mod camera;
mod draws;
pub mod error;
pub mod film;
pub mod map;
pub mod pose;
mod render;
mod rooms;
mod stroll;
mod tour;

pub use camera::Step;
pub use error::Error;
pub use film::SeedFilm;
pub use map::{Map, OnWall, Path};
pub use pose::{Action, Pose, pose_features};
pub use rooms::Rooms;
pub use tour::tour;

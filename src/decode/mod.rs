//! Latents to RGB frames.

mod pixel;

pub use pixel::{from_frame, to_frames};

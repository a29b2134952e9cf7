//! Weights on the host: a safetensors file, mapped or built into the program, as checked tensors with bare names.
//!
//! A file is accepted whole or not at all, and every refusal says what to do. What is left out: other containers
//! (`.pt`, which is a pickle), conversion on disk, and everything on the device; uploading is the business of who holds one.

mod error;
mod view;

pub use error::{Error, Mismatch, Misshaped};
pub use view::View;

//! Chunk by chunk: denoise passes, then the cache pass.

pub mod event;
mod session;

pub use session::{Chunk, Config, Error, ModelSource, Session, Walk};

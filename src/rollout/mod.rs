//! Chunk by chunk: denoise passes, then the cache pass.

pub mod event;

//! The integration tests: one binary, one module a subject.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod cli;
mod dump;
mod full_width;
mod media;
mod offload;
mod ops;
mod plan;
mod repack;
mod rollout;
mod shaders;
mod support;
mod text;
mod text_film;
mod undo;
mod wan;

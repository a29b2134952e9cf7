//! The integration tests: one binary, one module a subject.

mod cli;
mod media;
mod ops;
mod shaders;
mod support;

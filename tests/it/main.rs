//! The integration tests: one binary, one module a subject.

mod ops;
mod shaders;
mod support;

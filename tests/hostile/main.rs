//! Files from strangers: sound ones damaged in many ways, and hostile ones. Whatever is in a file, there is an answer, no panic
//! and no memory beyond the file's own measure. The same readers are fuzzed
//! in `fuzz/`.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod corpus;
mod memory;
#[path = "../../fuzz/readers.rs"]
mod readers;
mod tokenizer;
mod torch_file;
mod weights;

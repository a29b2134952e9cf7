//! See `readers.rs`.
#![no_main]

#[path = "../readers.rs"]
#[allow(dead_code, reason = "a target has one reader")]
mod readers;

libfuzzer_sys::fuzz_target!(|data: &[u8]| readers::safetensors(data));

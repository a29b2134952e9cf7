//! A list of prompts by second or chunk.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use longtake::text::Prompts;

fuzz_target!(|data: &[u8]| {
    let path = Path::new("fuzz");
    let Ok(prompts) = Prompts::parse(path, data) else {
        return;
    };
    let _ = prompts.placed(path, |secs| (secs * 16.0).ceil() as u32);
    let again = Prompts::parse(path, prompts.to_json().to_string().as_bytes());
    assert_eq!(again.expect("its own form").shots().len(), prompts.shots().len());
});

//! Inputs that fuzzing found, each of which takes a way of its own through a reader; see `fuzz/README.md`.

use std::fs;
use std::path::Path;

use crate::{memory, readers};

/// What reading all of them may add to the process. The files have some KiB each.
const MAX_GROWTH: u64 = 256 << 20;

#[test]
fn every_input_that_fuzzing_found_is_answered() {
    let name = "corpus::every_input_that_fuzzing_found_is_answered";
    memory::alone(name, || {
        let before = memory::peak_bytes();
        for (target, read) in [
            ("checkpoint", readers::checkpoint as fn(&[u8])),
            ("unpickler", readers::unpickler),
            ("safetensors", readers::safetensors),
            ("prompts", readers::prompts),
            ("tokenizer", readers::tokenizer),
        ] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/fuzz");
            let inputs = fs::read_dir(folder.join(target)).unwrap();
            let mut n = 0;
            for input in inputs {
                read(&fs::read(input.unwrap().path()).unwrap());
                n += 1;
            }
            assert!(10 < n, "{n} inputs of {target}");
        }
        let growth = memory::peak_bytes() - before;
        assert!(growth < MAX_GROWTH, "{growth} bytes more");
    });
}

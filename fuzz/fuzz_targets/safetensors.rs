//! The header of a safetensors file, with some data behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtake::weights::Weights;

fuzz_target!(|data: &[u8]| {
    let len = (data.len() as u64).to_le_bytes();
    for behind in [0, 8, 64] {
        let file = [&len, data, &vec![0; behind]].concat();
        if let Ok(weights) = Weights::from_bytes("fuzz", file) {
            for name in weights.names() {
                let _ = weights.get(name).map(|view| view.to_f32());
            }
        }
    }
});

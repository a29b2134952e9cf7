//! A checkpoint without a zip, from its object on: nothing stands between the input and the machine that reads it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtake::weights::Weights;

/// The number, the version and the facts that such a file begins with: three pickles, the last one an empty dictionary.
const HEAD: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";

fuzz_target!(|data: &[u8]| {
    if let Ok(weights) = Weights::from_bytes("fuzz", [HEAD, data].concat()) {
        for name in weights.names() {
            let _ = weights.get(name).map(|view| view.to_f32());
        }
    }
});

//! A whole weights file in any of the forms that are read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longtake::weights::Weights;

fuzz_target!(|data: &[u8]| {
    let Ok(weights) = Weights::from_bytes("fuzz", data.to_vec()) else {
        return;
    };
    for name in weights.names() {
        if let Some(view) = weights.get(name) {
            let values: usize = view.shape().iter().product();
            assert_eq!(view.bytes().len(), values * view.dtype().bitsize() / 8);
            let _ = (view.to_f32(), view.to_f16_bits());
        }
    }
});

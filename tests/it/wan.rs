//! Wan's decoder in one piece and in bands of rows: the same pictures to the bit, and the bytes that its shape says.

use std::path::Path;

use longtake::decode::{Decoder as _, DecoderShape, WanOptions, WanShape, WanVae};
use longtake::gpu::{Device, TierRequest};
use longtake::ops::WeightFormat;
use longtake::weights::Weights;

use crate::support;

fn weights() -> Weights {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/selfforcing");
    Weights::open(&root.join("weights_vae.safetensors")).unwrap()
}

/// Raw frames of calls of 2, 1 and 1 latent frames, and all that is remembered then.
fn decode(
    device: &Device,
    grid: (usize, usize),
    options: &WanOptions,
) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let mut decoder = WanVae::load(device, &weights(), grid, options).unwrap();
    let one = 16 * grid.0 * grid.1;
    let latents = support::values(5, 4 * one);
    let mut frames = Vec::new();
    for call in [0..2, 2..3, 3..4] {
        let call = &latents[call.start * one..call.end * one];
        frames.extend(decoder.raw(call, None).unwrap());
    }
    let mut past = Vec::new();
    while let Some(values) = decoder.past(past.len()).unwrap() {
        past.push(values);
    }
    (frames, past)
}

#[test]
fn bands_are_the_whole_picture_to_the_bit() {
    let Some(device) = support::device() else {
        return;
    };
    // One latent row a band and several; sizes that nothing divides; bands that cut every resolution.
    for (grid, counts, format) in [
        ((5, 3), vec![2, 5], WeightFormat::F32),
        ((17, 1), vec![3], WeightFormat::F16),
        ((20, 2), vec![4], WeightFormat::F32),
    ] {
        let with = |bands| WanOptions {
            format,
            bands,
            ..WanOptions::default()
        };
        let whole = decode(device, grid, &with(1));
        assert_eq!(whole.0.len(), 13);
        assert!(whole.0.iter().flatten().all(|v| v.is_finite()));
        for bands in counts {
            let cut = decode(device, grid, &with(bands));
            assert!(cut.0 == whole.0, "pictures of {grid:?} in {bands} bands");
            assert!(cut.1 == whole.1, "the past of {grid:?} in {bands} bands");
        }
    }
}

/// Rows and columns that nothing divides, on the device against the twin.
#[test]
fn odd_pictures_equal_the_twin() {
    let Some(device) = support::device() else {
        return;
    };
    for (grid, bands) in [((1, 1), 1), ((3, 5), 1), ((3, 1), 3)] {
        let options = WanOptions {
            bands,
            ..WanOptions::default()
        };
        let got = decode(device, grid, &options).0.concat();
        let want = decode(&Device::twin(), grid, &options).0.concat();
        let largest = want.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for (got, want) in got.iter().zip(&want) {
            let off = (got - want).abs();
            assert!(off <= 1e-4 * largest, "{grid:?}: {got} is {off} off");
        }
    }
}

#[test]
fn the_decoder_takes_what_its_shape_says() {
    let shape = WanShape::read(&weights()).unwrap();
    let grid = (13, 1);
    let mut before = u64::MAX;
    for format in WeightFormat::FLOATS {
        for (bands, largest_bytes) in [(1, u64::MAX), (2, u64::MAX), (4, 4096), (13, u64::MAX)] {
            let Some(device) = support::open(TierRequest::Best) else {
                return;
            };
            let options = WanOptions {
                format,
                largest_bytes,
                bands,
            };
            let empty = device.ledger().total();
            let needs = DecoderShape::Wan(shape.clone(), options).needs(grid);
            let mut decoder = WanVae::load(&device, &weights(), grid, &options).unwrap();
            let held = device.ledger().total() - empty;
            let what = format!("{format:?} in {bands} bands");
            assert_eq!(needs.bands, bands);
            assert_eq!(
                needs.weights_bytes + needs.activations_bytes,
                held,
                "{what}"
            );
            let latents = support::values(1, 2 * 16 * grid.0 * grid.1);
            decoder.decode(&latents).unwrap();
            let peak = device.ledger().peak() - empty;
            assert_eq!(peak, held + needs.read_bytes, "{what}");
            assert!(bands == 1 || held < before, "{what}");
            before = held;
        }
    }
}

//! A text model on disk that is small enough to run in tests: two blocks, its own text encoder, tokenizer and decoders.

use std::fs;
use std::path::{Path, PathBuf};

use longtake::text::Tokenizer;
use longtake::weights::{Dtype, Existing, Planned, Weights, Writer};

/// A recorded file.
pub fn fixture(name: &str) -> PathBuf {
    // The package of the tests may be the library or a member beside it.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let roots = [Some(here), here.parent()];
    let paths = roots.into_iter().flatten();
    let mut paths = paths.map(|root| root.join("tests/fixtures/selfforcing").join(name));
    paths.find(|path| path.exists()).unwrap()
}

/// Makes the folder.
pub fn write(folder: &Path) {
    fs::create_dir(folder).unwrap();
    for (from, to) in [
        ("config.json", "config.json"),
        ("weights_dit.safetensors", "generator.safetensors"),
        ("weights_taehv.safetensors", "taehv.safetensors"),
        ("weights_vae.safetensors", "vae.safetensors"),
        ("tokenizer/spiece.model", "spiece.model"),
    ] {
        fs::copy(fixture(from), folder.join(to)).unwrap();
    }
    encoder(&folder.join("text_encoder.safetensors"));
}

/// The encoder with as many rows as the tokenizer has pieces, its own rows over and over.
fn encoder(path: &Path) {
    let weights = Weights::open(&fixture("weights_t5.safetensors")).unwrap();
    let tokenizer = Tokenizer::open(&fixture("tokenizer/spiece.model")).unwrap();
    let table = "token_embedding.weight";
    let tensors: Vec<(Planned, Vec<f32>)> = weights
        .names()
        .map(|name| {
            let view = weights.get(name).unwrap();
            let (mut shape, mut values) = (view.shape().to_vec(), view.to_f32().unwrap());
            if name == table {
                let n = tokenizer.n_pieces() * shape[1];
                values = values.iter().copied().cycle().take(n).collect();
                shape[0] = tokenizer.n_pieces();
            }
            let planned = Planned {
                name: name.to_owned(),
                dtype: Dtype::F32,
                shape,
            };
            (planned, values)
        })
        .collect();
    let planned: Vec<Planned> = tensors.iter().map(|(p, _)| p.clone()).collect();
    let mut writer = Writer::create(path, Existing::Keep, &[].into(), &planned).unwrap();
    for (planned, values) in &tensors {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        writer.write(&planned.name, 0, &bytes).unwrap();
    }
    writer.finish().unwrap();
}

//! What the targets do with their input: the readers of files from strangers, and what must hold of whatever they accept. The
//! tests in `tests/hostile` do the same with the inputs in `tests/fixtures/fuzz`.

use std::path::Path;

use longtake::text::{Prompts, Tokenizer};
use longtake::weights::Weights;

/// The number, the version and the facts that a checkpoint without a zip begins with: three pickles, the last one an empty
/// dictionary.
const HEAD: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.";

/// What tokenizers treat in ways of their own: spaces at both ends, compatibility forms, characters that no piece has.
const TEXTS: [&str; 4] = [
    "",
    "  a cat  jumps over\ta log ",
    "\u{fb01}ne \u{ff21}\u{3000}caf\u{e9} \u{1f98a}\u{200b}",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
];

/// A whole weights file in any of the forms that are read.
pub fn checkpoint(data: &[u8]) {
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
}

/// A checkpoint without a zip, from its object on: nothing stands between the input and the machine that reads it.
pub fn unpickler(data: &[u8]) {
    checkpoint(&[HEAD, data].concat());
}

/// The header of a safetensors file, with some data behind it.
pub fn safetensors(data: &[u8]) {
    let len = (data.len() as u64).to_le_bytes();
    for behind in [0, 8, 64] {
        checkpoint(&[&len, data, &vec![0; behind]].concat());
    }
}

/// A list of prompts by second or chunk.
pub fn prompts(data: &[u8]) {
    let path = Path::new("fuzz");
    let Ok(prompts) = Prompts::parse(path, data) else {
        return;
    };
    let _ = prompts.placed(path, |secs| (secs * 16.0).ceil() as u32);
    let again = Prompts::parse(path, prompts.to_json().to_string().as_bytes());
    assert_eq!(
        again.expect("its own form").shots().len(),
        prompts.shots().len()
    );
}

/// A SentencePiece model, and texts under it.
pub fn tokenizer(data: &[u8]) {
    let Ok(tokenizer) = Tokenizer::parse(Path::new("fuzz"), data) else {
        return;
    };
    for text in TEXTS {
        if let Ok(tokens) = tokenizer.tokens(text, 16) {
            assert!(tokens.ids.len() <= 16);
            assert_eq!(tokens.ids.last(), Some(&tokenizer.end()));
            assert!(tokens.ids.iter().all(|id| tokenizer.piece(*id).is_some()));
        }
    }
}

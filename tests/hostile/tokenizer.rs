//! SentencePiece models.

use std::path::Path;

use longtake::text::{MAX_PROMPT, Tokenizer};

/// A field of protocol buffers that holds bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = bytes.len();
    while 0x7f < len {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend(bytes);
    out
}

/// A model of three special pieces and `a`, whose character map has `texts` for the letter `A`.
fn model(texts: &[u8]) -> Vec<u8> {
    let special =
        |text: &str, kind| field(1, &[field(1, text.as_bytes()), vec![0x18, kind]].concat());
    let mut trie = [0u32; 0x44];
    // A run ends below the unit of its last byte.
    trie[0] = 1 << 10;
    trie[0x40] = 0x41 | 0x100 | 2 << 10;
    trie[0x42] = 0x8000_0000;
    let size = u32::try_from(size_of_val(&trie)).unwrap();
    let trie: Vec<u8> = trie.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    let map = [&size.to_le_bytes(), &trie[..], texts].concat();
    [
        special("<pad>", 3),
        special("</s>", 3),
        special("<unk>", 2),
        field(1, &field(1, b"a")),
        // Numbers of the unknown, the end and the padding piece.
        field(2, &[0xc0, 2, 2, 0xd0, 2, 1, 0xd8, 2, 0]),
        field(3, &field(2, &map)),
    ]
    .concat()
}

#[test]
fn a_character_map_without_ends_costs_no_time() {
    let parse = |texts: &[u8]| Tokenizer::parse(Path::new("hostile"), &model(texts)).unwrap();
    assert_eq!(parse(b"a\0").encode("A").unwrap().last(), Some(&3));
    // A text of spaces alone leaves nothing behind, so that every letter of the prompt would look through all of it.
    let prompt = "A".repeat(MAX_PROMPT);
    for texts in [
        &b" ".repeat(4 << 20)[..],
        &[b" ".repeat(4 << 20), vec![0]].concat(),
    ] {
        let text = parse(texts).encode(&prompt).unwrap_err().to_string();
        assert!(
            text.contains("character map") && text.contains("hostile"),
            "{text}"
        );
    }
}

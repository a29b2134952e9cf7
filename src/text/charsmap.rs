//! The character map of a SentencePiece model: a trie from runs of bytes to what stands for them.
//!
//! The map is `[size of the trie: u32][trie: u32 units of a double array][texts, each with a zero behind it]`.
//! Source: SentencePiece, `normalizer.cc::Normalizer::DecodePrecompiledCharsMap`; the units are those of Darts-clone.

/// Bytes of a run that the map is asked about; the longest that any published map holds has about 12.
const MAX_RUN: usize = 64;
/// Longest text that may stand for a run, in bytes: compatibility forms have 33 at most.
const MAX_TEXT: usize = 1024;

/// A parsed map; empty for a model without one.
#[derive(Debug, Default)]
pub(super) struct CharsMap {
    trie: Vec<u32>,
    texts: String,
}

impl CharsMap {
    /// Reads a map.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub(super) fn parse(blob: &[u8]) -> Result<CharsMap, &'static str> {
        if blob.is_empty() {
            return Ok(CharsMap::default());
        }
        let Some((size, rest)) = blob.split_first_chunk::<4>() else {
            return Err("a character map without a size");
        };
        let size = u32::from_le_bytes(*size) as usize;
        let Some((trie, texts)) = rest.split_at_checked(size) else {
            return Err("a character map that ends early");
        };
        let (units, []) = trie.as_chunks::<4>() else {
            return Err("a character map whose trie is no whole number of units");
        };
        let map = CharsMap {
            trie: units.iter().map(|u| u32::from_le_bytes(*u)).collect(),
            texts: String::from_utf8(texts.to_vec())
                .map_err(|_| "a character map whose texts are not UTF-8")?,
        };
        if map.trie.is_empty() {
            return Err("a character map without a trie");
        }
        Ok(map)
    }

    /// What stands for the beginning of `text`, and the bytes it stands for: the longest run in the map, else the first
    /// character itself.
    ///
    /// # Errors
    /// A sentence, when the map points outside itself.
    ///
    /// # Panics
    /// When `text` is empty.
    pub(super) fn prefix<'a>(&'a self, text: &'a str) -> Result<(&'a str, usize), &'static str> {
        if let Some((run, at)) = self.longest(text.as_bytes()) {
            // No farther than that, or every character of a prompt would search the whole map.
            let rest = self.texts.get(at..).unwrap_or_default().as_bytes();
            let end = rest.iter().take(MAX_TEXT + 1).position(|b| *b == 0);
            // A run that ends within a character cannot be taken out of text.
            return match end.and_then(|n| self.texts.get(at..at + n)) {
                Some(stands) if text.is_char_boundary(run) => Ok((stands, run)),
                _ => Err("a character map that points outside itself or has no end of a text"),
            };
        }
        let c = text.chars().next().expect("asked about some text");
        Ok((&text[..c.len_utf8()], c.len_utf8()))
    }

    /// Length of the longest run that `bytes` begin with, and the place of its text.
    fn longest(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let mut at = offset(*self.trie.first()?);
        let mut found = None;
        for (i, byte) in bytes.iter().take(MAX_RUN).enumerate() {
            at ^= usize::from(*byte);
            let Some(unit) = self.trie.get(at) else { break };
            // The uppermost bit tells values from labels, so that no value is taken for a byte.
            if unit & 0x8000_00ff != u32::from(*byte) {
                break;
            }
            at ^= offset(*unit);
            if unit & 0x100 != 0 {
                let value = self.trie.get(at).map(|v| (v & 0x7fff_ffff) as usize);
                found = Some((i + 1, value.unwrap_or(usize::MAX)));
            }
        }
        found
    }
}

/// Distance from a unit to its children.
fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & 0x200) >> 6)) as usize
}

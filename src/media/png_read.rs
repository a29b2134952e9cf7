//! Reads size and recipe of a PNG without decoding it. Any bytes are safe to read.
//!
//! Source: PNG specification (third edition), 5.3 chunk layout, 11.3.3 textual information.

use std::io::{Read, Seek, SeekFrom};

use super::mp4_read::Fault;
use super::png_sequence::KEYWORD;

/// First bytes of every PNG.
pub(super) const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Chunks before the picture that are looked at.
const MAX_CHUNKS: u32 = 4096;

/// What a PNG tells before its picture.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Still {
    pub width: u32,
    pub height: u32,
    /// The recipe, as JSON that nobody has checked.
    pub recipe: Option<Vec<u8>>,
}

/// Walks the chunks up to the picture; longer texts than `max_recipe` are passed over.
pub(super) fn scan(file: &mut (impl Read + Seek), max_recipe: u64) -> Result<Still, Fault> {
    let len = file.seek(SeekFrom::End(0))?;
    let mut still = Still::default();
    let mut at = SIGNATURE.len() as u64;
    for index in 0..MAX_CHUNKS {
        let cut = Fault::Damaged("the PNG ends before its picture", len);
        if len.saturating_sub(at) < 12 {
            return Err(cut);
        }
        let mut head = [0; 8];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head)?;
        let [a, b, c, d, kind @ ..] = head;
        let bytes = u64::from(u32::from_be_bytes([a, b, c, d]));
        if len - at - 12 < bytes {
            // A picture that is cut off still has its recipe.
            return if &kind == b"IDAT" {
                Ok(still)
            } else {
                Err(cut)
            };
        }
        let is_text = matches!(&kind, b"iTXt" | b"tEXt") && bytes <= max_recipe.saturating_add(256);
        if (index == 0) != (&kind == b"IHDR") || (index == 0 && bytes != 13) {
            return Err(Fault::Damaged("the PNG does not begin with its header", at));
        }
        if &kind == b"IDAT" {
            return Ok(still);
        }
        if index == 0 || is_text {
            let mut body = vec![0; bytes as usize];
            file.read_exact(&mut body)?;
            if index == 0 {
                still.width = u32::from_be_bytes([body[0], body[1], body[2], body[3]]);
                still.height = u32::from_be_bytes([body[4], body[5], body[6], body[7]]);
            } else if let Some(found) = text(&kind, &body) {
                still.recipe = Some(found.to_vec());
            }
        }
        at += 12 + bytes;
    }
    Err(Fault::Damaged(
        "the PNG has no picture among its first chunks",
        at,
    ))
}

/// The text of a chunk under our keyword. Compressed text is not ours and stays closed.
fn text<'a>(kind: &[u8; 4], body: &'a [u8]) -> Option<&'a [u8]> {
    let rest = body.strip_prefix(KEYWORD.as_bytes())?.strip_prefix(b"\0")?;
    if kind == b"tEXt" {
        return Some(rest);
    }
    // Two bytes of compression, then language and translated keyword, each with a zero at its end.
    let mut rest = rest.strip_prefix(b"\0\0")?;
    for _ in 0..2 {
        let end = rest.iter().position(|&byte| byte == 0)?;
        rest = &rest[end + 1..];
    }
    Some(rest)
}

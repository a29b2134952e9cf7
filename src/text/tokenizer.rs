//! A SentencePiece unigram model: text to the tokens that the text encoder knows.
//!
//! Everything comes from the file `spiece.model`: pieces, their scores and kinds, the numbers of the special ones, how text
//! is normalized. Source: SELF-FORCING 2.2; SentencePiece, `sentencepiece_model.proto`, `unigram_model.cc`.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::Error;
use super::charsmap::CharsMap;
use super::proto::{Fields, Value};

/// Longest prompt taken, in bytes: a hundred times what fits into 512 tokens.
pub const MAX_PROMPT: usize = 1 << 16;

/// Largest model file read: the largest published ones have 5 MB.
const MAX_FILE: u64 = 64 << 20;

/// Longest piece taken, in bytes; trainers stop at 16 characters.
const MAX_PIECE: usize = 1024;

/// Longest normalized prompt, in bytes: compatibility forms grow by a factor of 11 at most.
const MAX_NORMALIZED: usize = 1 << 20;

/// What the file writes for a space: U+2581.
const SPACE: &str = "\u{2581}";

/// An unknown character counts as the least likely piece and this much less.
const UNKNOWN_PENALTY: f32 = 10.0;

/// A read model.
#[derive(Debug)]
pub struct Tokenizer {
    path: PathBuf,
    pieces: Vec<Piece>,
    /// Pieces that text may match, by their bytes.
    sorted: Vec<u32>,
    /// The pieces `<0x00>` to `<0xFF>`, where unknown characters become bytes.
    bytes: Option<Vec<u32>>,
    unknown: u32,
    end: u32,
    pad: u32,
    unknown_score: f32,
    normalizer: Normalizer,
}

#[derive(Debug)]
struct Piece {
    text: String,
    score: f32,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Kind {
    fn of(number: i64) -> Option<Kind> {
        Some(match number {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => return None,
        })
    }

    fn is_text(self) -> bool {
        matches!(self, Kind::Normal | Kind::UserDefined)
    }
}

#[derive(Debug)]
struct Normalizer {
    map: CharsMap,
    dummy_prefix: bool,
    remove_extra_spaces: bool,
    escape_spaces: bool,
}

/// A prompt in tokens, the end token last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Numbers of the tokens.
    pub ids: Vec<u32>,
    /// Tokens of the text that found no room.
    pub lost: usize,
}

/// What the file says besides its pieces, with the format's defaults.
struct Numbers {
    kind: i64,
    byte_fallback: bool,
    suffix_spaces: bool,
    unknown: i64,
    end: i64,
    pad: i64,
}

impl Tokenizer {
    /// Reads the model at `path`.
    ///
    /// # Errors
    /// No such file, another file, a damaged one, or a model of another kind.
    pub fn open(path: &Path) -> Result<Tokenizer, Error> {
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound {
                path: path.to_owned(),
            },
            _ => Error::Io {
                source,
                path: path.to_owned(),
            },
        };
        let meta = fs::metadata(path).map_err(refused)?;
        let not = |what| Error::NotAModel {
            what,
            path: path.to_owned(),
        };
        if meta.is_dir() {
            return Err(not("a folder"));
        }
        if !meta.is_file() {
            return Err(not("not a regular file"));
        }
        let mut bytes = Vec::new();
        // One byte more than is taken, should the file have grown since it was measured.
        let file = fs::File::open(path).map_err(refused)?;
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(refused)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(not("far larger than any tokenizer model"));
        }
        Tokenizer::parse(path, &bytes)
    }

    /// Reads a model from memory; `path` stands for it in errors.
    ///
    /// # Errors
    /// Another file, a damaged one, or a model of another kind.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Tokenizer, Error> {
        if let Some(what) = other_file(bytes) {
            return Err(Error::NotAModel {
                what,
                path: path.to_owned(),
            });
        }
        let damaged = |what: String| Error::Damaged {
            what,
            path: path.to_owned(),
        };
        let (mut pieces, mut trainer, mut normalizer) = (Vec::new(), None, None);
        let mut fields = Fields::new(bytes);
        loop {
            let at = bytes.len() - fields.left();
            let here = |what: &str| damaged(format!("{what}, at byte {at}"));
            let Some((number, value)) = fields.next().map_err(here)? else {
                break;
            };
            match number {
                1 => pieces.push(piece(value).map_err(here)?),
                2 => trainer = Some(numbers(value).map_err(here)?),
                3 => normalizer = Some(normalization(value).map_err(here)?),
                _ => {}
            }
        }
        if pieces.is_empty() {
            return Err(damaged("it has no pieces".to_owned()));
        }
        let Some(trainer) = trainer else {
            return Err(damaged("it ends before the trainer's settings".to_owned()));
        };
        let Some(normalizer) = normalizer else {
            return Err(damaged("it ends before the normalizer".to_owned()));
        };
        Tokenizer::checked(path, pieces, &trainer, normalizer)
    }

    fn checked(
        path: &Path,
        pieces: Vec<Piece>,
        n: &Numbers,
        normalizer: Normalizer,
    ) -> Result<Tokenizer, Error> {
        let unsupported = |what: String| Error::Unsupported {
            what,
            path: path.to_owned(),
        };
        if n.kind != 1 {
            return Err(unsupported("is not a unigram model".to_owned()));
        }
        if n.suffix_spaces {
            return Err(unsupported("puts spaces behind words".to_owned()));
        }
        let special = |name: &str, id: i64, kinds: &[Kind]| {
            let found = usize::try_from(id).ok().and_then(|at| pieces.get(at));
            match found {
                Some(p) if kinds.contains(&p.kind) => Ok(id as u32),
                _ => Err(unsupported(format!(
                    "has no {name} token (its number would be {id})"
                ))),
            }
        };
        let unknown = special("unknown", n.unknown, &[Kind::Unknown])?;
        let end = special("end", n.end, &[Kind::Control, Kind::UserDefined])?;
        let pad = special("padding", n.pad, &[Kind::Control, Kind::UserDefined])?;
        let mut sorted: Vec<u32> = (0..)
            .zip(&pieces)
            .filter(|(_, p)| p.kind.is_text())
            .map(|(id, _)| id)
            .collect();
        let text = |id: &u32| pieces[*id as usize].text.as_bytes();
        sorted.sort_by(|a, b| text(a).cmp(text(b)));
        if let Some(pair) = sorted.windows(2).find(|p| text(&p[0]) == text(&p[1])) {
            return Err(Error::Damaged {
                what: format!("pieces {} and {} are the same", pair[0], pair[1]),
                path: path.to_owned(),
            });
        }
        let normal = pieces.iter().filter(|p| p.kind == Kind::Normal);
        let least = normal.map(|p| p.score).fold(f32::INFINITY, f32::min);
        if least == f32::INFINITY {
            return Err(unsupported("has no ordinary piece".to_owned()));
        }
        let bytes = if n.byte_fallback {
            Some(byte_pieces(&pieces).ok_or_else(|| {
                unsupported(
                    "asks for bytes and lacks some of the pieces <0x00> to <0xFF>".to_owned(),
                )
            })?)
        } else {
            None
        };
        Ok(Tokenizer {
            path: path.to_owned(),
            sorted,
            bytes,
            unknown,
            end,
            pad,
            unknown_score: least - UNKNOWN_PENALTY,
            normalizer,
            pieces,
        })
    }

    /// Pieces of the model.
    pub fn n_pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Text of a piece; a space is U+2581 in it.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id as usize).map(|p| p.text.as_str())
    }

    /// Number of the end token.
    pub fn end(&self) -> u32 {
        self.end
    }

    /// Number of the padding token.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// The prompt's tokens with the end token behind them, `max` in all: what is beyond that is dropped, the end token
    /// never.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn tokens(&self, prompt: &str, max: usize) -> Result<Tokens, Error> {
        let mut ids = self.encode(prompt)?;
        let room = max.saturating_sub(1);
        let lost = ids.len().saturating_sub(room);
        ids.truncate(room);
        ids.push(self.end);
        Ok(Tokens { ids, lost })
    }

    /// Refuses a text beyond [`MAX_PROMPT`].
    ///
    /// # Errors
    /// That.
    pub(super) fn check_length(&self, text: &str) -> Result<(), Error> {
        match text.len() > MAX_PROMPT {
            true => Err(Error::PromptTooLong {
                bytes: text.len(),
                limit: MAX_PROMPT,
            }),
            false => Ok(()),
        }
    }

    /// The tokens of a text, without special ones.
    ///
    /// # Errors
    /// A text beyond [`MAX_PROMPT`], or a character map that turns out damaged.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.check_length(text)?;
        let text = self
            .normalizer
            .normalize(text)
            .map_err(|what| Error::Damaged {
                what: what.to_owned(),
                path: self.path.clone(),
            })?;
        Ok(self.best_split(&text))
    }

    /// The split with the largest sum of scores (Viterbi). Of equals the one whose last piece is longest. Sums are f32 from
    /// the front, as SentencePiece adds them: `9 99` and `99 9` differ by their rounding alone.
    fn best_split(&self, text: &str) -> Vec<u32> {
        // Of every end of a character: the best sum, where its last piece begins, and the piece; `None` if unknown.
        let mut best: Vec<Option<(f32, usize, Option<u32>)>> = vec![None; text.len() + 1];
        best[0] = Some((0.0, 0, None));
        for (start, c) in text.char_indices() {
            // Every character begins where the one before ends, and each can be taken alone.
            let Some((sum, ..)) = best[start] else {
                continue;
            };
            let mut offer = |end: usize, sum: f32, id: Option<u32>| {
                if best[end].is_none_or(|(old, ..)| old < sum) {
                    best[end] = Some((sum, start, id));
                }
            };
            let mut alone = false;
            self.each_match(&text.as_bytes()[start..], |len, id| {
                alone |= len == c.len_utf8();
                let score = self.pieces[id as usize].score;
                offer(start + len, sum + score, Some(id));
            });
            if !alone {
                offer(start + c.len_utf8(), sum + self.unknown_score, None);
            }
        }
        let mut pieces = Vec::new();
        let mut end = text.len();
        while let Some((_, start, id)) = best[end].filter(|_| end > 0) {
            pieces.push((start..end, id));
            end = start;
        }
        pieces.reverse();
        let mut ids = Vec::with_capacity(pieces.len());
        let mut after_unknown = false;
        for (range, id) in pieces {
            match (id, &self.bytes) {
                (Some(id), _) => ids.push(id),
                (None, Some(bytes)) => {
                    ids.extend(
                        text.as_bytes()[range]
                            .iter()
                            .map(|b| bytes[usize::from(*b)]),
                    );
                }
                (None, None) if after_unknown => {}
                (None, None) => ids.push(self.unknown),
            }
            after_unknown = id.is_none();
        }
        ids
    }

    /// Calls `found` with length and number of every piece that `text` begins with, shortest first.
    fn each_match(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        let bytes = |id: u32| self.pieces[id as usize].text.as_bytes();
        // The pieces that agree with all bytes so far.
        let mut range = &self.sorted[..];
        for (at, byte) in text.iter().take(MAX_PIECE).enumerate() {
            // Those that end here come first.
            let next = |id: &u32| bytes(*id).get(at).copied();
            let low = range.partition_point(|id| next(id) < Some(*byte));
            let high = range.partition_point(|id| next(id) <= Some(*byte));
            range = &range[low..high];
            match range.first() {
                None => return,
                Some(first) if bytes(*first).len() == at + 1 => found(at + 1, *first),
                Some(_) => {}
            }
        }
    }
}

impl Normalizer {
    /// Characters mapped, spaces dropped, set and written as the pieces have them.
    ///
    /// Source: SentencePiece, `normalizer.cc::Normalizer::Normalize`.
    fn normalize(&self, text: &str) -> Result<String, &'static str> {
        let mut rest = text;
        while self.remove_extra_spaces && !rest.is_empty() {
            let (stands, len) = self.map.prefix(rest)?;
            if stands != " " {
                break;
            }
            rest = &rest[len..];
        }
        let space = if self.escape_spaces { SPACE } else { " " };
        let mut out = String::with_capacity(rest.len() + SPACE.len());
        if !rest.is_empty() && self.dummy_prefix {
            out.push_str(space);
        }
        let mut after_space = self.remove_extra_spaces;
        while !rest.is_empty() {
            let (mut stands, len) = self.map.prefix(rest)?;
            if after_space {
                stands = stands.trim_start_matches(' ');
            }
            if !stands.is_empty() {
                after_space = self.remove_extra_spaces && stands.ends_with(' ');
                out.push_str(&stands.replace(' ', space));
            }
            if out.len() > MAX_NORMALIZED {
                return Err("a character map under which text grows without measure");
            }
            rest = &rest[len..];
        }
        if self.remove_extra_spaces {
            out.truncate(out.trim_end_matches(space).len());
        }
        Ok(out)
    }
}

/// What a file that is no model looks like, where that can be told.
fn other_file(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.trim_ascii_start();
    let begins = |with: &[u8]| {
        let head = start.get(..with.len());
        head.is_some_and(|h| h.eq_ignore_ascii_case(with))
    };
    if bytes.is_empty() {
        Some("an empty file: download it again")
    } else if begins(b"version https://git-lfs") {
        Some("a git-lfs pointer: run `git lfs pull` in its folder")
    } else if begins(b"<!doctype") || begins(b"<html") {
        Some("a web page: the download went to a page that asks for a login or reports an error")
    } else if begins(b"{") {
        Some("JSON text, such as tokenizer.json")
    } else if bytes.starts_with(b"PK") {
        Some("a zip, such as a checkpoint of weights")
    } else if is_safetensors(bytes) {
        Some("a safetensors file of weights")
    } else {
        None
    }
}

/// The length of a header that is in the file, and the brace that it begins with.
fn is_safetensors(bytes: &[u8]) -> bool {
    let len = bytes.first_chunk().map(|len| u64::from_le_bytes(*len));
    bytes.get(8) == Some(&b'{') && len.is_some_and(|len| len < bytes.len() as u64)
}

fn piece(value: Value<'_>) -> Result<Piece, &'static str> {
    let mut p = Piece {
        text: String::new(),
        score: 0.0,
        kind: Kind::Normal,
    };
    let mut fields = Fields::new(value.bytes().ok_or("a piece that is no message")?);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => value
                .text()
                .ok_or("a piece that is not UTF-8")?
                .clone_into(&mut p.text),
            2 => p.score = value.float().ok_or("a piece whose score is no number")?,
            3 => {
                p.kind = value
                    .int()
                    .and_then(Kind::of)
                    .ok_or("a piece of no known kind")?
            }
            _ => {}
        }
    }
    if p.text.is_empty() {
        return Err("a piece without text");
    }
    if p.text.len() > MAX_PIECE {
        return Err("a piece beyond 1024 bytes");
    }
    if !p.score.is_finite() {
        return Err("a piece whose score is not finite");
    }
    Ok(p)
}

fn numbers(value: Value<'_>) -> Result<Numbers, &'static str> {
    let mut n = Numbers {
        kind: 1,
        byte_fallback: false,
        suffix_spaces: false,
        unknown: 0,
        end: 2,
        pad: -1,
    };
    let mut fields = Fields::new(
        value
            .bytes()
            .ok_or("trainer settings that are no message")?,
    );
    while let Some((number, value)) = fields.next()? {
        let wrong = "a trainer setting of the wrong type";
        match number {
            3 => n.kind = value.int().ok_or(wrong)?,
            24 => n.suffix_spaces = value.flag().ok_or(wrong)?,
            35 => n.byte_fallback = value.flag().ok_or(wrong)?,
            40 => n.unknown = value.int().ok_or(wrong)?,
            42 => n.end = value.int().ok_or(wrong)?,
            43 => n.pad = value.int().ok_or(wrong)?,
            _ => {}
        }
    }
    Ok(n)
}

fn normalization(value: Value<'_>) -> Result<Normalizer, &'static str> {
    let mut n = Normalizer {
        map: CharsMap::default(),
        dummy_prefix: true,
        remove_extra_spaces: true,
        escape_spaces: true,
    };
    let mut fields = Fields::new(value.bytes().ok_or("a normalizer that is no message")?);
    while let Some((number, value)) = fields.next()? {
        let wrong = "a normalizer setting of the wrong type";
        match number {
            2 => n.map = CharsMap::parse(value.bytes().ok_or(wrong)?)?,
            3 => n.dummy_prefix = value.flag().ok_or(wrong)?,
            4 => n.remove_extra_spaces = value.flag().ok_or(wrong)?,
            5 => n.escape_spaces = value.flag().ok_or(wrong)?,
            _ => {}
        }
    }
    Ok(n)
}

/// The numbers of `<0x00>` to `<0xFF>`, if all are there.
fn byte_pieces(pieces: &[Piece]) -> Option<Vec<u32>> {
    let mut found = vec![None; 256];
    for (id, p) in (0..).zip(pieces).filter(|(_, p)| p.kind == Kind::Byte) {
        let hex = p.text.strip_prefix("<0x")?.strip_suffix('>')?;
        let byte = u8::from_str_radix(hex, 16).ok()?;
        found[usize::from(byte)] = Some(id);
    }
    found.into_iter().collect()
}

//! Prompts over a film: which one is in force from when on, as a file lists them.
//!
//! ```json
//! {"prompts": [
//!   {"prompt": "a red fox in snow"},
//!   {"seconds": 4, "prompt": "the fox jumps over a log", "blend_seconds": 1.5},
//!   {"chunk": 12, "prompt": "the fox sleeps", "blend_chunks": 2}
//! ]}
//! ```
//!
//! The first one begins with the film. A prompt takes effect with the first chunk that begins at its second or later. Over the
//! blend its share grows evenly, chunk by chunk.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Error;

/// Most prompts of a film.
pub const MAX_PROMPTS: usize = 1000;
/// Largest file read.
const MAX_FILE: u64 = 4 << 20;

/// A place in a film, or a length of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// In chunks.
    Chunks(u32),
    /// In seconds of playback, finite and not negative.
    Seconds(f64),
}

/// A prompt, and from when on it is in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Shot {
    /// Its beginning.
    pub at: When,
    /// How long the prompt before it fades.
    pub blend: When,
    /// What it says.
    pub prompt: String,
}

/// Prompts in the order of the film; at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompts {
    shots: Vec<Shot>,
}

/// Where a prompt stands in a film of known chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its first chunk.
    pub chunk: u32,
    /// Chunks of its blend.
    pub blend: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    prompts: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk: Option<u32>,
    prompt: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    blend_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blend_chunks: Option<u32>,
}

impl Prompts {
    /// One prompt for a whole film.
    pub fn one(prompt: &str) -> Prompts {
        Prompts {
            shots: vec![Shot {
                at: When::Chunks(0),
                blend: When::Chunks(0),
                prompt: prompt.to_owned(),
            }],
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// No such file, or what [`Prompts::parse`] refuses.
    pub fn open(path: &Path) -> Result<Prompts, Error> {
        let io = |source| Error::Io {
            source,
            path: path.to_owned(),
        };
        let file = fs::File::open(path).map_err(io)?;
        let mut bytes = Vec::new();
        // One byte more than is taken tells that there is more.
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        Prompts::parse(path, &bytes)
    }

    /// Reads a list; `path` stands in errors.
    ///
    /// # Errors
    /// Bytes that are no such list, unknown entries, too many prompts, an empty one, times that are none.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Prompts, Error> {
        let refused = |what: String| Error::Prompts {
            what,
            path: path.to_owned(),
        };
        if MAX_FILE < bytes.len() as u64 {
            return Err(refused(format!("it is larger than {} MiB", MAX_FILE >> 20)));
        }
        let list: List = serde_json::from_slice(bytes).map_err(|e| refused(e.to_string()))?;
        let n = list.prompts.len();
        if n == 0 || MAX_PROMPTS < n {
            return Err(refused(format!(
                "it has {n} prompts; 1 to {MAX_PROMPTS} are taken"
            )));
        }
        let shot = |(i, entry): (usize, Entry)| {
            entry
                .shot(i == 0)
                .map_err(|what| refused(format!("prompt {}: {what}", i + 1)))
        };
        let shots = list.prompts.into_iter().enumerate().map(shot);
        Ok(Prompts {
            shots: shots.collect::<Result<_, _>>()?,
        })
    }

    /// The prompts.
    pub fn shots(&self) -> &[Shot] {
        &self.shots
    }

    /// The only prompt, where there is one.
    pub fn single(&self) -> Option<&str> {
        match &self.shots[..] {
            [shot] => Some(&shot.prompt),
            _ => None,
        }
    }

    /// The list as [`Prompts::parse`] takes it.
    pub fn to_json(&self) -> serde_json::Value {
        let entry = |(i, shot): (usize, &Shot)| {
            let (seconds, chunk) = parts((0 < i).then_some(shot.at));
            let (blend_seconds, blend_chunks) =
                parts(Some(shot.blend).filter(|b| *b != When::Chunks(0)));
            Entry {
                seconds,
                chunk,
                prompt: shot.prompt.clone(),
                blend_seconds,
                blend_chunks,
            }
        };
        let prompts = self.shots.iter().enumerate().map(entry).collect();
        // Plain numbers and texts have no way to fail.
        serde_json::to_value(List { prompts }).unwrap_or_default()
    }

    /// Where each prompt stands; `chunk_at` says which chunk is the first to begin at a second or later. `path` stands in errors.
    ///
    /// # Errors
    /// Prompts that begin with the same chunk or one before, or before the blend of the one before is over.
    pub fn placed(&self, path: &Path, chunk_at: impl Fn(f64) -> u32) -> Result<Vec<Placed>, Error> {
        let mut placed: Vec<Placed> = Vec::with_capacity(self.shots.len());
        for (i, shot) in self.shots.iter().enumerate() {
            let chunk = match shot.at {
                When::Chunks(n) => n,
                When::Seconds(s) => chunk_at(s),
            };
            let blend = match (shot.blend, shot.at) {
                (When::Chunks(n), _) => n,
                (When::Seconds(s), When::Seconds(at)) => chunk_at(at + s).saturating_sub(chunk),
                // Counted from the film's beginning, as good as any: chunks are of one length but for the first.
                (When::Seconds(s), When::Chunks(_)) => chunk_at(s),
            };
            if let Some(before) = placed.last() {
                let free = before.chunk.saturating_add(before.blend.max(1));
                if chunk < free {
                    return Err(Error::Prompts {
                        what: format!(
                            "prompt {} begins with chunk {chunk}; the one before is whole from chunk {} on, so chunk {free} is the first that it can have",
                            i + 1,
                            before.chunk.saturating_add(before.blend)
                        ),
                        path: path.to_owned(),
                    });
                }
            }
            placed.push(Placed { chunk, blend });
        }
        Ok(placed)
    }
}

/// Seconds and chunks of a place or length.
fn parts(when: Option<When>) -> (Option<f64>, Option<u32>) {
    match when {
        Some(When::Seconds(s)) => (Some(s), None),
        Some(When::Chunks(n)) => (None, Some(n)),
        None => (None, None),
    }
}

/// One of two ways to say it, or neither.
fn when(
    seconds: Option<f64>,
    chunks: Option<u32>,
    names: [&str; 2],
) -> Result<Option<When>, String> {
    match (seconds, chunks) {
        (Some(_), Some(_)) => Err(format!(
            "{} and {} say the same; give one",
            names[0], names[1]
        )),
        (Some(s), None) if s.is_finite() && 0.0 <= s => Ok(Some(When::Seconds(s))),
        (Some(s), None) => Err(format!("{} is {s}, which is no time", names[0])),
        (None, n) => Ok(n.map(When::Chunks)),
    }
}

impl Entry {
    fn shot(self, is_first: bool) -> Result<Shot, String> {
        let at = when(self.seconds, self.chunk, ["seconds", "chunk"])?;
        let blend = when(
            self.blend_seconds,
            self.blend_chunks,
            ["blend_seconds", "blend_chunks"],
        )?;
        if self.prompt.trim().is_empty() {
            return Err("it is empty".to_owned());
        }
        let at = match (at, is_first) {
            (None | Some(When::Chunks(0)), true) => When::Chunks(0),
            (Some(When::Seconds(0.0)), true) => When::Chunks(0),
            (_, true) => {
                return Err("the first prompt begins with the film; leave its time out".to_owned());
            }
            (Some(at), false) => at,
            (None, false) => return Err("it says neither seconds nor chunk".to_owned()),
        };
        if is_first && blend.is_some() {
            return Err("there is no prompt before the first to blend from".to_owned());
        }
        Ok(Shot {
            at,
            blend: blend.unwrap_or(When::Chunks(0)),
            prompt: self.prompt,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Prompts, Error> {
        Prompts::parse(Path::new("shots.json"), text.as_bytes())
    }

    /// Four chunks a second, the first a quarter longer.
    fn chunk_at(s: f64) -> u32 {
        (s * 4.0).ceil() as u32
    }

    const SOUND: &str = r#"{"prompts": [{"prompt": "a fox"}, {"seconds": 1.1, "prompt": "it jumps", "blend_seconds": 0.5},
        {"chunk": 12, "prompt": "it \"sleeps\"", "blend_chunks": 2}, {"chunk": 14, "prompt": "Füchse 🦊"}]}"#;

    #[test]
    fn a_list_is_placed_and_comes_back_from_its_own_json() {
        let prompts = parse(SOUND).unwrap();
        let placed = prompts.placed(Path::new(""), chunk_at).unwrap();
        let placed: Vec<_> = placed.iter().map(|p| (p.chunk, p.blend)).collect();
        assert_eq!(placed, [(0, 0), (5, 2), (12, 2), (14, 0)]);
        assert_eq!(parse(&prompts.to_json().to_string()).unwrap(), prompts);
        assert_eq!(prompts.single(), None);
        let one = Prompts::one("a fox");
        assert_eq!(parse(&one.to_json().to_string()).unwrap(), one);
        assert_eq!(one.single(), Some("a fox"));
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_place() {
        for (text, says) in [
            ("", "EOF"),
            ("[]", "invalid length 0"),
            ("{}", "missing field `prompts`"),
            (r#"{"prompts": []}"#, "0 prompts"),
            (r#"{"prompts": [{}]}"#, "missing field `prompt`"),
            (r#"{"prompts": [{"prompt": " "}]}"#, "prompt 1: it is empty"),
            (r#"{"prompts": [{"prompt": 3}]}"#, "expected a string"),
            (
                r#"{"prompts": [{"prompt": "a", "sec": 1}]}"#,
                "unknown field `sec`",
            ),
            (
                r#"{"prompts": [{"prompt": "a"}], "x": 1}"#,
                "unknown field `x`",
            ),
            (
                r#"{"prompts": [{"prompt": "a", "seconds": 2}]}"#,
                "leave its time out",
            ),
            (
                r#"{"prompts": [{"prompt": "a", "blend_chunks": 2}]}"#,
                "no prompt before",
            ),
            (
                r#"{"prompts": [{"prompt": "a"}, {"prompt": "b"}]}"#,
                "prompt 2: it says neither",
            ),
            (
                r#"{"prompts": [{"prompt": "a"}, {"prompt": "b", "seconds": -1}]}"#,
                "no time",
            ),
            (
                r#"{"prompts": [{"prompt": "a"}, {"prompt": "b", "seconds": 1e999}]}"#,
                "out of range",
            ),
            (
                r#"{"prompts": [{"prompt": "a"}, {"prompt": "b", "chunk": -1}]}"#,
                "expected u32",
            ),
            (
                r#"{"prompts": [{"prompt": "a"}, {"prompt": "b", "chunk": 1, "seconds": 1}]}"#,
                "give one",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.contains(says) && error.contains("shots.json"),
                "{text}: {error}"
            );
        }
        let many = vec![r#"{"chunk": 1, "prompt": "a"}"#; MAX_PROMPTS + 1].join(",");
        let error = parse(&format!("{{\"prompts\": [{many}]}}")).unwrap_err();
        assert!(error.to_string().contains("1001 prompts"), "{error}");
        assert!(parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn prompts_that_crowd_each_other_are_refused() {
        for (second, third, free) in [
            (r#""chunk": 0"#, r#""chunk": 9"#, "chunk 1 is"),
            (r#""seconds": 0"#, r#""chunk": 9"#, "chunk 1 is"),
            (r#""chunk": 5"#, r#""chunk": 4"#, "chunk 6 is"),
            (
                r#""chunk": 5, "blend_chunks": 3"#,
                r#""chunk": 7"#,
                "chunk 8 is",
            ),
            (
                r#""chunk": 5, "blend_chunks": 4294967295"#,
                r#""chunk": 4294967294"#,
                "chunk 4294967295 is",
            ),
        ] {
            let text = format!(
                r#"{{"prompts": [{{"prompt": "a"}}, {{{second}, "prompt": "b"}}, {{{third}, "prompt": "c"}}]}}"#
            );
            let placed = parse(&text).unwrap().placed(Path::new("f"), chunk_at);
            let error = placed.unwrap_err().to_string();
            assert!(error.contains(free), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Prompts::parse(Path::new("f"), &bytes);
        }

        #[test]
        fn a_damaged_list_gets_an_answer(at in 0..SOUND.len(), byte in any::<u8>(), cut in 0..SOUND.len()) {
            let mut bytes = SOUND.as_bytes().to_vec();
            bytes[at] = byte;
            for bytes in [&bytes[..], &bytes[..cut]] {
                if let Ok(prompts) = Prompts::parse(Path::new("f"), bytes) {
                    let _ = prompts.placed(Path::new("f"), chunk_at);
                    let json = prompts.to_json().to_string();
                    prop_assert_eq!(parse(&json).unwrap(), prompts);
                }
            }
        }
    }
}

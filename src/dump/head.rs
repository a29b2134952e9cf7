//! What a dump says of itself, as strings beside the tensors. Pure.

use std::collections::BTreeMap;

use crate::ops::{Positions, RopeSplit};

/// The value of `kind` in a dump.
pub(super) const DUMP: &str = "kv-dump";
/// Frames that a list may name: more than any film has.
const MOST_FRAMES: i64 = 1 << 24;
/// Patches of a side of a frame at most.
const MOST_SIDE: usize = 4096;

/// Where the tokens of a dump lie.
#[derive(Debug, Clone, PartialEq)]
pub struct Places {
    /// Patches down and across a frame; tokens run frame by frame, row by row.
    pub grid: (usize, usize),
    /// Base of the RoPE frequencies.
    pub theta: f64,
    /// Channel pairs of a head by axis.
    pub split: RopeSplit,
    /// Frame ids of the keys and values.
    pub frames: Vec<i64>,
    /// Frame ids of the queries; empty without queries.
    pub query_frames: Vec<i64>,
}

impl Places {
    /// Tokens of a frame.
    pub fn tokens_per_frame(&self) -> usize {
        self.grid.0 * self.grid.1
    }
}

/// What is known of a dump beside its tensors.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Head {
    /// Where its tokens lie; `None`: unknown, keys are taken as attention sees them.
    pub places: Option<Places>,
    /// Latent frames that the cache codes together.
    pub span_frames: Option<usize>,
    /// The rest, for people: `model`, `seed`, `cache`, `decoded_frames`.
    pub notes: BTreeMap<String, String>,
}

impl Head {
    /// The metadata of a file of this `kind`.
    pub(super) fn to_metadata(&self, kind: &str) -> BTreeMap<String, String> {
        let mut m = self.notes.clone();
        let mut put = |key: &str, value: String| m.insert(key.to_owned(), value);
        put("kind", kind.to_owned());
        put("longtake", env!("CARGO_PKG_VERSION").to_owned());
        if let Some(p) = &self.places {
            let s = &p.split;
            put("keys", "before-rope".to_owned());
            put("grid", format!("{}x{}", p.grid.0, p.grid.1));
            put("theta", p.theta.to_string());
            put("rope_pairs", format!("{},{},{}", s.frame, s.row, s.col));
            put("frames", ranges(&p.frames));
            if !p.query_frames.is_empty() {
                put("query_frames", ranges(&p.query_frames));
            }
        }
        if let Some(n) = self.span_frames {
            put("span_frames", n.to_string());
        }
        m
    }

    /// Reads metadata; a file that names no grid has no places.
    ///
    /// # Errors
    /// The key that is missing or has no sense, in a sentence.
    pub(super) fn from_metadata(m: &BTreeMap<String, String>) -> Result<Head, String> {
        let text = |key: &str| {
            m.get(key)
                .ok_or_else(|| format!("the metadata has a grid but no {key:?}; dump it again"))
        };
        let wrong = |key: &str| {
            let value = m.get(key).map_or("", String::as_str);
            format!("{key:?} is {value:?} in the metadata, which has no sense; dump it again")
        };
        let places = match m.get("grid") {
            None => None,
            Some(grid) => Some(Places {
                grid: sides(grid).ok_or_else(|| wrong("grid"))?,
                theta: Some(text("theta")?.parse().unwrap_or(0.0))
                    .filter(|t: &f64| t.is_finite() && 1.0 <= *t)
                    .ok_or_else(|| wrong("theta"))?,
                split: split(text("rope_pairs")?).ok_or_else(|| wrong("rope_pairs"))?,
                frames: list(text("frames")?).ok_or_else(|| wrong("frames"))?,
                query_frames: match m.get("query_frames") {
                    Some(text) => list(text).ok_or_else(|| wrong("query_frames"))?,
                    None => Vec::new(),
                },
            }),
        };
        if let Some(p) = &places
            && Positions::capacity(p.split, p.grid.0, p.grid.1) == 0
        {
            return Err(wrong("grid"));
        }
        let span_frames = m.get("span_frames").map(|t| t.parse::<usize>());
        let span_frames = match span_frames {
            Some(Ok(n)) if n > 0 => Some(n),
            Some(_) => return Err(wrong("span_frames")),
            None => None,
        };
        let notes = ["model", "seed", "cache", "decoded_frames"];
        let noted = |key: &&str| Some((key.to_string(), m.get(*key)?.clone()));
        Ok(Head {
            places,
            span_frames,
            notes: notes.iter().filter_map(noted).collect(),
        })
    }
}

/// `ROWSxCOLS`.
fn sides(text: &str) -> Option<(usize, usize)> {
    let (rows, cols) = text.split_once('x')?;
    let side = |t: &str| t.parse().ok().filter(|n| (1..=MOST_SIDE).contains(n));
    Some((side(rows)?, side(cols)?))
}

/// `FRAME,ROW,COL` in pairs.
fn split(text: &str) -> Option<RopeSplit> {
    let mut parts = text.split(',').map(|t| t.parse::<usize>().ok());
    let mut next = || parts.next()?.filter(|n| *n <= MOST_SIDE);
    let split = RopeSplit {
        frame: next()?,
        row: next()?,
        col: next()?,
    };
    parts.next().is_none().then_some(split)
}

/// Frame ids as `0-15,18`.
pub fn ranges(frames: &[i64]) -> String {
    let mut runs: Vec<(i64, i64)> = Vec::new();
    for &f in frames {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == f => *last = f,
            _ => runs.push((f, f)),
        }
    }
    let run = |(a, b): (i64, i64)| match a == b {
        true => a.to_string(),
        false => format!("{a}-{b}"),
    };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

/// The inverse of [`ranges`], for ids from 0 on; `None` for anything else.
pub fn list(text: &str) -> Option<Vec<i64>> {
    let mut out = Vec::new();
    for run in text.split(',') {
        let (a, b) = run.split_once('-').unwrap_or((run, run));
        let number = |t: &str| {
            let n: i64 = t.trim().parse().ok()?;
            (0..MOST_FRAMES).contains(&n).then_some(n)
        };
        let (a, b) = (number(a)?, number(b)?);
        if b < a || MOST_FRAMES < out.len() as i64 + b - a {
            return None;
        }
        out.extend(a..=b);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            places: Some(Places {
                grid: (6, 8),
                theta: 10_000.0,
                split: RopeSplit::wan(32),
                frames: vec![0, 1, 2, 5, 7, 8],
                query_frames: vec![8],
            }),
            span_frames: Some(16),
            notes: BTreeMap::from([("model".to_owned(), "rooms".to_owned())]),
        }
    }

    #[test]
    fn metadata_says_all_of_a_head() {
        let m = head().to_metadata(DUMP);
        assert_eq!(
            (m["frames"].as_str(), m["kind"].as_str()),
            ("0-2,5,7-8", DUMP)
        );
        assert_eq!(Head::from_metadata(&m), Ok(head()));
        assert_eq!(Head::from_metadata(&BTreeMap::new()), Ok(Head::default()));
    }

    #[test]
    fn what_has_no_sense_is_named() {
        for (key, value) in [
            ("grid", "0x4"),
            ("grid", "6"),
            ("grid", "99999x4"),
            ("grid", "4096x4096"),
            ("theta", "nan"),
            ("theta", "-3"),
            ("rope_pairs", "1,2"),
            ("rope_pairs", "1,2,3,4"),
            ("frames", "5-2"),
            ("frames", ""),
            ("frames", "0-99999999999999"),
            ("frames", "0-9223372036854775807"),
            ("query_frames", "x"),
            ("span_frames", "0"),
        ] {
            let mut m = head().to_metadata(DUMP);
            m.insert(key.to_owned(), value.to_owned());
            let why = Head::from_metadata(&m).unwrap_err();
            assert!(why.contains(key), "{key}={value}: {why}");
        }
        let mut m = head().to_metadata(DUMP);
        m.remove("theta");
        assert!(Head::from_metadata(&m).unwrap_err().contains("theta"));
    }
}

//! Values of flags: each is checked here once, with a message that tells the range.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::str::FromStr;

use longtake::codec;
use longtake::model::config::DitConfig;
use longtake::ops::KvFormat;
use longtake::world::camera::MAX_STEPS;

use super::fault::Fault;

/// A seed as it can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seed {
    /// Drawn by the program.
    Random,
    /// Given.
    Fixed(u64),
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Seed, String> {
        match text.trim() {
            "-1" | "random" => Ok(Seed::Random),
            text => text.parse().map(Seed::Fixed).map_err(|_| {
                format!(
                    "a seed is a whole number from 0 to {}, or -1 for a random one",
                    u64::MAX
                )
            }),
        }
    }
}

impl Seed {
    /// The number; a drawn one has at most six digits, so that it can be typed again.
    pub(super) fn number(self) -> u64 {
        match self {
            Seed::Fixed(seed) => seed,
            // The standard library seeds these from the system's randomness.
            Seed::Random => RandomState::new().build_hasher().finish() % 1_000_000,
        }
    }
}

/// How many latent frames attention sees; `None`: all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attended(pub(super) Option<u32>);

impl FromStr for Attended {
    type Err = String;

    fn from_str(text: &str) -> Result<Attended, String> {
        match text.trim() {
            "-1" | "0" | "all" => Ok(Attended(None)),
            text => text.parse().map(|n| Attended(Some(n))).map_err(|_| {
                "a window is a whole number of latent frames from 1 on, or 0 for all".to_owned()
            }),
        }
    }
}

impl fmt::Display for Attended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("all"),
            Some(n) => n.fmt(f),
        }
    }
}

/// Width and height of a picture in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Size {
    /// `model` for pictures of this size.
    ///
    /// # Errors
    /// Sides that are no whole tokens.
    pub(super) fn of(self, model: &DitConfig) -> Result<DitConfig, Fault> {
        let [_, rows, columns] = model.patch.map(|side| side * model.cell_px);
        let (width, height) = model.nearest_picture(self.width, self.height);
        let nearest = Size { width, height };
        if nearest != self {
            return Err(Fault::Usage(format!(
                "--size {self}: the model takes widths in steps of {columns} and heights in steps of {rows}; {nearest} is near"
            )));
        }
        model
            .clone()
            .with_picture(self.height, self.width)
            .map_err(|why| Fault::Usage(format!("--size {self}: {why}")))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let side = |text: &str| text.trim().parse().ok().filter(|n| 0 < *n);
        text.trim()
            .split_once(['x', 'X', '*', '\u{d7}'])
            .and_then(|(width, height)| Some((side(width)?, side(height)?)))
            .map(|(width, height)| Size { width, height })
            .ok_or_else(|| "a size is width x height in pixels, such as 832x480".to_owned())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// How keys or values are kept: `f16`, `f32`, `bf16`, or the name of a codec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KvName(String);

impl KvName {
    /// Half floats, the default.
    pub(super) fn halves() -> KvName {
        KvName("f16".to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The format of an exact setting; `None`: a codec's name.
    pub(super) fn exact(&self) -> Option<KvFormat> {
        KvFormat::ALL.into_iter().find(|f| f.name() == self.0)
    }
}

impl FromStr for KvName {
    type Err = String;

    fn from_str(text: &str) -> Result<KvName, String> {
        let text = text.trim().to_ascii_lowercase();
        let name = match text.as_str() {
            "off" | "none" | "fp16" | "float16" | "16" => "f16",
            "fp32" | "float32" | "32" => "f32",
            "bfloat16" => "bf16",
            "2" | "2bit" => "int2",
            "3" | "3bit" => "int3",
            "4" | "4bit" => "int4",
            "8" | "8bit" => "int8",
            "qvg" => "qvg-int2",
            "qvg-pro-int2" => "qvg-pro",
            other => other,
        };
        let known = KvName(name.to_owned());
        if known.exact().is_none() {
            codec::KvPair::of(name, name)
                .map_err(|why| format!("{why}, and off, f32, f16, bf16"))?;
        }
        Ok(known)
    }
}

impl fmt::Display for KvName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A flag without a value, or its twin in the environment.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" | "y" | "t" => Ok(true),
        "" | "0" | "false" | "no" | "off" | "n" | "f" => Ok(false),
        _ => Err("use 1, true, yes or on; 0, false, no or off".to_owned()),
    }
}

fn whole(text: &str, most: u32, what: &str) -> Result<u32, String> {
    match text.trim().parse::<u32>() {
        Ok(n) if (1..=most).contains(&n) => Ok(n),
        _ => Err(format!("{what} are a whole number, 1 to {most}")),
    }
}

/// A number of frames or chunks.
pub(super) fn frames(text: &str) -> Result<u32, String> {
    whole(text, max_frames(), "they")
}

/// Most frames of one film: as many as a camera path has steps.
pub(super) fn max_frames() -> u32 {
    u32::try_from(MAX_STEPS).unwrap_or(u32::MAX)
}

/// Seconds of playback.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.trim().parse::<f64>() {
        Ok(s) if 0.0 < s && s <= f64::from(max_frames()) => Ok(s),
        _ => Err(format!(
            "seconds are a number above 0, at most {}",
            max_frames()
        )),
    }
}

/// Denoising steps.
pub(super) fn steps(text: &str) -> Result<u32, String> {
    whole(text, 1000, "steps")
}

/// Layers of a network; `all`: however many there are.
pub(super) fn layers(text: &str) -> Result<u32, String> {
    match text.trim() {
        all if all.eq_ignore_ascii_case("all") => Ok(u32::MAX),
        number => number
            .parse()
            .map_err(|_| "layers are a whole number from 0 on, or all".to_owned()),
    }
}

/// A number of seeds.
pub(super) fn seeds(text: &str) -> Result<u32, String> {
    whole(text, 1000, "seeds")
}

/// Tokens of a span.
pub(super) fn tokens(text: &str) -> Result<usize, String> {
    whole(text, u32::MAX, "tokens").map(|n| n as usize)
}

/// Queries of a measurement.
pub(super) fn queries(text: &str) -> Result<usize, String> {
    whole(text, 65_536, "queries").map(|n| n as usize)
}

/// Enlargement.
pub(super) fn scale(text: &str) -> Result<u32, String> {
    whole(text, 1000, "enlargements")
}

/// Playback rate.
pub(super) fn fps(text: &str) -> Result<u32, String> {
    whole(text, 1000, "frames a second")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_seeds_are_short_and_differ() {
        let draws: Vec<u64> = (0..20).map(|_| Seed::Random.number()).collect();
        assert!(draws.iter().all(|&seed| seed < 1_000_000));
        assert!(draws.iter().any(|&seed| seed != draws[0]));
    }

    #[test]
    fn sizes_are_width_by_height() {
        let size = |text: &str| text.parse::<Size>().map(|s| (s.width, s.height));
        for text in ["832x480", " 832 X 480 ", "832*480", "832\u{d7}480"] {
            assert_eq!(size(text), Ok((832, 480)), "{text}");
        }
        for text in [
            "832",
            "832x",
            "x480",
            "0x480",
            "832x-1",
            "832x480x3",
            "99999999999x1",
            "",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn switches_read_like_the_hub() {
        for text in ["1", "true", "YES", "on"] {
            assert_eq!(switch(text), Ok(true));
        }
        for text in ["0", "false", "no", "Off", ""] {
            assert_eq!(switch(text), Ok(false));
        }
        assert!(switch("maybe").is_err());
    }
}

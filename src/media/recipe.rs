//! What made a film: written into every file and beside it, and read back.
//!
//! A recipe is an open JSON object, so that later settings need no new format. It stands
//! - in an MP4 as the comment tag (`moov/udta/meta/ilst/©cmt`), and once more at the end as it was when the run finished,
//! - in each PNG as text under the keyword `longtake`,
//! - beside the file as `film.json`, for a sequence `frames/%04d.png` as `frames/recipe.json`; there with `written` added,
//!   which tells what is in the file. Standard output has no such file.
//!
//! Every MP4 and PNG is also marked as made by a trained model: IPTC's digital source type in an XMP packet.

use std::fs::{self, File};
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::mp4_read::{self, Fault};
use super::{Error, opened, png_read};

/// Largest recipe that is written or read, as JSON.
pub const MAX_BYTES: usize = 8 << 20;
/// Every recipe has this key: the version of the program that made it.
const VERSION: &str = "longtake";
/// The key that the file beside the film has in addition.
const WRITTEN: &str = "written";

/// What made a film. Keys keep their order. No paths and no user names belong in here: the file travels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Recipe(Map<String, Value>);

impl Default for Recipe {
    fn default() -> Self {
        Self::new()
    }
}

impl Recipe {
    /// A recipe that tells this program's version and nothing else yet.
    pub fn new() -> Self {
        Self(Map::from_iter([(
            VERSION.to_owned(),
            Value::from(env!("CARGO_PKG_VERSION")),
        )]))
    }

    /// Sets one entry. Use the accessors' names where there is one: `model`, `model_hash`, `seed`, `frames`,
    /// `given_frames`, `fps`, `width`, `height`, `steps`, `window`, `sink`, `camera`, `prompt`, `device`, `driver`,
    /// `cache_type_k`, `cache_type_v`, `secs`.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// One entry.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// All entries in their order.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Version of the program that made the film.
    pub fn version(&self) -> Option<&str> {
        self.text(VERSION)
    }

    /// Name of the model.
    pub fn model(&self) -> Option<&str> {
        self.text("model")
    }

    /// Hash of the model's file.
    pub fn model_hash(&self) -> Option<&str> {
        self.text("model_hash")
    }

    /// Seed of the noise.
    pub fn seed(&self) -> Option<u64> {
        self.number("seed")
    }

    /// Frames that the run was to make.
    pub fn frames(&self) -> Option<u64> {
        self.number("frames")
    }

    /// True frames that the run started from.
    pub fn given_frames(&self) -> Option<u64> {
        self.number("given_frames")
    }

    /// Frames a second.
    pub fn fps(&self) -> Option<f64> {
        self.get("fps").and_then(Value::as_f64)
    }

    /// Pixels in a row that the model made, before enlarging.
    pub fn width(&self) -> Option<u64> {
        self.number("width")
    }

    /// Rows that the model made, before enlarging.
    pub fn height(&self) -> Option<u64> {
        self.number("height")
    }

    /// Denoising steps a chunk.
    pub fn steps(&self) -> Option<u64> {
        self.number("steps")
    }

    /// Camera or keys, as a pose string.
    pub fn camera(&self) -> Option<&str> {
        self.text("camera")
    }

    /// Name of the device.
    pub fn device(&self) -> Option<&str> {
        self.text("device")
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(Value::as_u64)
    }

    /// The recipe in one line.
    pub(super) fn to_json(&self) -> Result<String, Error> {
        let json = Value::Object(self.0.clone()).to_string();
        if MAX_BYTES < json.len() {
            return Err(Error::RecipeTooLarge {
                bytes: json.len(),
                limit: MAX_BYTES,
            });
        }
        Ok(json)
    }

    /// The text of the file beside the film.
    pub(super) fn sidecar(&self, written: &Written) -> String {
        let mut map = self.0.clone();
        map.insert(WRITTEN.to_owned(), json!(written));
        format!("{:#}\n", Value::Object(map))
    }

    /// Another program's JSON is no recipe: ours has the version.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let recipe: Self = serde_json::from_slice(bytes).ok()?;
        recipe.version().is_some().then_some(recipe)
    }
}

/// What is in the film, told by the file beside it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Written {
    pub frames: u64,
    pub fps: f64,
    pub width: u32,
    pub height: u32,
    pub finished: bool,
}

/// Kind of a file that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A film.
    Mp4,
    /// One frame.
    Png,
    /// The recipe beside a film.
    Json,
}

/// What a file tells about itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Info {
    /// Kind of the file.
    pub kind: Kind,
    /// Pixels in a row, after enlarging.
    pub width: Option<u32>,
    /// Rows, after enlarging.
    pub height: Option<u32>,
    /// Frames a second.
    pub fps: Option<f64>,
    /// Frames that can be played.
    pub frames: Option<u64>,
    /// False where the run that wrote the film did not come to its end. A PNG cannot tell.
    pub finished: Option<bool>,
    /// The newest recipe in the file.
    pub recipe: Option<Recipe>,
}

impl Info {
    /// Length of the film in seconds.
    pub fn secs(&self) -> Option<f64> {
        match (self.frames, self.fps) {
            (Some(frames), Some(fps)) if 0.0 < fps => Some(frames as f64 / fps),
            _ => None,
        }
    }
}

/// Reads what an MP4, a PNG or a recipe in JSON tells; the kind is taken from the first bytes, not from the name.
///
/// Only heads are read, so a long film takes no longer than its number of fragments asks.
///
/// # Errors
///
/// When the file cannot be read, is none of the three, or is cut off before its recipe. A film cut off later is no error:
/// whole fragments count.
pub fn read(path: &Path) -> Result<Info, Error> {
    let failed = |source| Error::Read {
        path: path.to_path_buf(),
        source,
    };
    // Opening a pipe would wait for a writer.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::UnknownContent {
            path: path.to_path_buf(),
        });
    }
    let mut file = BufReader::with_capacity(512, File::open(path).map_err(failed)?);
    read_from(&mut file).map_err(|e| e.at(path))
}

/// As [`read`], from bytes in memory.
///
/// # Errors
///
/// As [`read`]; the path in them is empty.
pub fn read_bytes(bytes: &[u8]) -> Result<Info, Error> {
    read_from(&mut Cursor::new(bytes)).map_err(|e| e.at(Path::new("")))
}

enum Refused {
    Unknown,
    Fault(Fault),
}

impl<E: Into<Fault>> From<E> for Refused {
    fn from(e: E) -> Self {
        Self::Fault(e.into())
    }
}

impl Refused {
    fn at(self, path: &Path) -> Error {
        let path = path.to_path_buf();
        match self {
            Self::Unknown => Error::UnknownContent { path },
            Self::Fault(Fault::Damaged(what, at)) => Error::Damaged { what, at, path },
            Self::Fault(Fault::Io(source)) => Error::Read { path, source },
        }
    }
}

fn read_from(file: &mut (impl Read + Seek)) -> Result<Info, Refused> {
    let mut start = Vec::new();
    file.take(12).read_to_end(&mut start)?;
    let is_json = start.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if start.get(4..8) == Some(b"ftyp") {
        let film = mp4_read::scan(file, MAX_BYTES as u64)?;
        let fps = film.frames as f64 * f64::from(film.timescale) / film.ticks as f64;
        return Ok(Info {
            kind: Kind::Mp4,
            width: Some(film.width),
            height: Some(film.height),
            fps: fps.is_normal().then_some(fps),
            frames: Some(film.frames),
            finished: Some(film.is_finished),
            recipe: film.recipe.and_then(|json| Recipe::parse(&json)),
        });
    }
    if start.starts_with(&png_read::SIGNATURE) {
        let still = png_read::scan(file, MAX_BYTES as u64)?;
        let recipe = still.recipe.and_then(|json| Recipe::parse(&json));
        let (width, height) = (Some(still.width), Some(still.height));
        return Ok(Info {
            kind: Kind::Png,
            width,
            height,
            fps: None,
            frames: Some(1),
            finished: None,
            recipe,
        });
    }
    if is_json {
        return read_json(file);
    }
    Err(Refused::Unknown)
}

fn read_json(file: &mut (impl Read + Seek)) -> Result<Info, Refused> {
    let len = file.seek(SeekFrom::End(0))?;
    // Printed over several lines a recipe takes more room than what we measured when writing it.
    if 4 * (MAX_BYTES as u64) < len {
        return Err(Fault::Damaged("the JSON is larger than any recipe", len).into());
    }
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let not_ours = Fault::Damaged("the JSON is no recipe of longtake's, or is cut off", len);
    let mut recipe = Recipe::parse(&bytes).ok_or(not_ours)?;
    let written = recipe
        .0
        .shift_remove(WRITTEN)
        .and_then(|value| serde_json::from_value::<Written>(value).ok());
    Ok(Info {
        kind: Kind::Json,
        width: written.map(|w| w.width),
        height: written.map(|w| w.height),
        fps: written.map(|w| w.fps).or(recipe.fps()),
        frames: written.map(|w| w.frames),
        finished: written.map(|w| w.finished),
        recipe: Some(recipe),
    })
}

/// Refuses to put a recipe where another file is.
pub(super) fn check_sidecar(path: &Path, overwrite: bool) -> Result<(), Error> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    if !overwrite {
        return Err(opened::exists(path));
    }
    match read(path) {
        Ok(Info {
            kind: Kind::Json, ..
        }) => Ok(()),
        _ => Err(Error::ForeignSidecar {
            path: path.to_path_buf(),
        }),
    }
}

/// Name and version of this program.
pub(super) fn tool() -> String {
    format!("longtake {}", env!("CARGO_PKG_VERSION"))
}

/// The mark that a trained model made the picture.
///
/// Source: IPTC Photo Metadata Standard, "Digital Source Type"; the packet form is the Adobe XMP specification's, part 1.
pub(super) fn xmp() -> String {
    format!(
        "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n\
         <x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n\
         <rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">\n\
         <rdf:Description rdf:about=\"\" xmlns:xmp=\"http://ns.adobe.com/xap/1.0/\" \
         xmlns:Iptc4xmpExt=\"http://iptc.org/std/Iptc4xmpExt/2008-02-29/\">\n\
         <xmp:CreatorTool>{}</xmp:CreatorTool>\n\
         <Iptc4xmpExt:DigitalSourceType>\
         http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia\
         </Iptc4xmpExt:DigitalSourceType>\n\
         </rdf:Description>\n</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end=\"w\"?>",
        tool()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_survives_json_with_unknown_keys_and_big_seeds() {
        let mut recipe = Recipe::new();
        recipe
            .set("model", "tiny")
            .set("seed", u64::MAX)
            .set("later", json!({"a": [1, 2]}))
            .set("prompt", "Füße 🦶");
        let back = Recipe::parse(recipe.to_json().unwrap().as_bytes()).unwrap();
        assert_eq!(back, recipe);
        assert_eq!(back.seed(), Some(u64::MAX));
        assert_eq!(back.model(), Some("tiny"));
        assert_eq!(back.version(), Some(env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn the_file_beside_tells_the_film_and_gives_the_recipe_back() {
        let mut recipe = Recipe::new();
        recipe.set("seed", 3);
        let written = Written {
            frames: 32,
            fps: 16.0,
            width: 64,
            height: 48,
            finished: true,
        };
        let info = read_bytes(recipe.sidecar(&written).as_bytes()).unwrap();
        assert_eq!(
            (info.kind, info.frames, info.secs(), info.finished),
            (Kind::Json, Some(32), Some(2.0), Some(true))
        );
        assert_eq!(info.recipe, Some(recipe));
    }

    #[test]
    fn other_json_and_deep_json_are_refused() {
        for bytes in [
            "{}",
            "{\"a\":1}",
            "{\"longtake\":1}",
            "{",
            &"{\"a\":".repeat(100_000),
            "[1]",
            "",
            " ",
        ] {
            assert!(read_bytes(bytes.as_bytes()).is_err());
        }
    }

    #[test]
    fn a_recipe_beyond_the_limit_is_refused() {
        let mut recipe = Recipe::new();
        recipe.set("prompt", "x".repeat(MAX_BYTES));
        assert!(matches!(
            recipe.to_json(),
            Err(Error::RecipeTooLarge { .. })
        ));
    }
}

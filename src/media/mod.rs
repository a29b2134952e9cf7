//! Frames to files: MP4, numbered PNGs or raw Y4M, chosen by the output's name, with the recipe in and beside them.
//!
//! A film is playable while it is written: a killed run leaves every chunk whose [`VideoWriter::write_chunk`] returned. Sound,
//! other codecs and changing sizes are left out.

mod error;
mod h264;
mod mp4;
mod mp4_file;
mod mp4_read;
mod opened;
mod png_read;
mod png_sequence;
pub mod recipe;
mod y4m;
mod yuv;

use std::path::{Path, PathBuf};

pub use error::Error;
pub use recipe::{Info, Recipe};

use self::mp4_file::Mp4File;
use self::png_sequence::{Pattern, PngSequence};
use self::recipe::Written;
use self::y4m::Y4m;
use self::yuv::Geometry;
use crate::frame::Frame;

/// Short side, in pixels, that small pictures are enlarged to: below it players blur them.
const SHORT_SIDE: u32 = 384;
/// Largest side after enlarging: what PNG readers and 32-bit sizes take without trouble.
const MAX_SIDE: u64 = 16_384;

/// Kind of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// H.264 in fragmented MP4: plays everywhere.
    Mp4,
    /// One lossless PNG a frame.
    PngSequence,
    /// Raw YUV4MPEG2, for pipes.
    Y4m,
}

impl Format {
    /// The format that a name asks for: `.mp4`, `.png`, `.y4m`, or `-` for Y4M on standard output.
    ///
    /// # Errors
    ///
    /// For folders (see [`name_in_folder`]) and other names.
    pub fn from_path(path: &Path) -> Result<Self, Error> {
        if path == Path::new("-") {
            return Ok(Self::Y4m);
        }
        if is_folder(path) {
            let example = name_in_folder(path, "film");
            return Err(Error::Folder {
                path: path.to_path_buf(),
                example,
            });
        }
        match path.extension().map(|suffix| suffix.to_ascii_lowercase()) {
            Some(suffix) if suffix == "mp4" => Ok(Self::Mp4),
            Some(suffix) if suffix == "png" => Ok(Self::PngSequence),
            Some(suffix) if suffix == "y4m" => Ok(Self::Y4m),
            _ => Err(Error::UnknownSuffix {
                path: path.to_path_buf(),
            }),
        }
    }

    /// The enlargement to use when nobody asked for one: MP4 is for looking at, the others are for measuring.
    pub fn default_scale(self, width: u32, height: u32) -> u32 {
        match self {
            Self::Mp4 => default_scale(width, height),
            Self::PngSequence | Self::Y4m => 1,
        }
    }
}

/// The smallest whole enlargement that makes the short side 384 pixels or more.
pub fn default_scale(width: u32, height: u32) -> u32 {
    SHORT_SIDE.div_ceil(width.min(height).max(1)).max(1)
}

/// True for a folder that exists and for a name that ends in a slash: the film's name is then the caller's to choose.
pub fn is_folder(path: &Path) -> bool {
    path.as_os_str()
        .as_encoded_bytes()
        .last()
        .is_some_and(|&byte| std::path::is_separator(byte.into()))
        || path.is_dir()
}

/// The MP4 called `stem` in the folder `path`.
pub fn name_in_folder(path: &Path, stem: &str) -> PathBuf {
    path.join(format!("{stem}.mp4"))
}

/// Refuses a film's name that is taken, before any work is done for it. Numbered PNGs are looked at when they are written.
///
/// # Errors
///
/// When there is a file, with what it holds.
pub fn check_free(path: &Path, format: Format) -> Result<(), Error> {
    let is_taken = format != Format::PngSequence
        && path != Path::new("-")
        && std::fs::symlink_metadata(path).is_ok();
    match is_taken {
        true => Err(opened::exists(path)),
        false => Ok(()),
    }
}

/// What to write.
#[derive(Debug, Clone, Copy)]
pub struct Spec<'a> {
    /// Pixels in a row of each frame.
    pub width: u32,
    /// Rows of each frame.
    pub height: u32,
    /// Frames a second, 0.1 to 1000.
    pub fps: f64,
    /// Whole-pixel enlargement, at least 1; see [`Format::default_scale`]. An MP4 needs even sides: where a side comes out
    /// odd, its last column or row is repeated once.
    pub scale: u32,
    /// Frames to come, where known: then a `.png` without a pattern is refused before any work.
    pub frames: Option<u64>,
    /// Replace what is there. Otherwise an existing file is an error.
    pub overwrite: bool,
    /// What makes the film; none leaves recipe and the file beside the film out. The mark that a model made it stays.
    pub recipe: Option<&'a Recipe>,
}

/// What was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The film, or the pattern of its files, as given.
    pub path: PathBuf,
    /// The recipe beside it.
    pub recipe_path: Option<PathBuf>,
    /// Frames.
    pub frames: u64,
    /// Bytes of all files but the recipe.
    pub bytes: u64,
    /// Length in seconds.
    pub secs: f64,
}

/// A film in the making. Dropping it leaves what was written, without the mark of a finished film.
pub struct VideoWriter {
    path: PathBuf,
    sink: Sink,
    sidecar: Option<Sidecar>,
    width: u32,
    height: u32,
    fps: f64,
    geometry: Geometry,
}

enum Sink {
    Mp4(Box<Mp4File>),
    Png(PngSequence),
    Y4m(Y4m),
}

struct Sidecar {
    path: PathBuf,
    recipe: Recipe,
}

impl VideoWriter {
    /// Opens the output that `path` names and writes its head and the recipe.
    ///
    /// # Errors
    ///
    /// For names, sizes and rates that no writer takes, for files that would be overwritten, and when writing fails.
    pub fn create(path: &Path, spec: &Spec<'_>) -> Result<Self, Error> {
        let format = Format::from_path(path)?;
        let geometry = check(path, format, spec)?;
        if !spec.overwrite {
            // The film first: what it holds says more than that its recipe is there.
            check_free(path, format)?;
        }
        let json = spec.recipe.map(Recipe::to_json).transpose()?;
        let sidecar = match spec.recipe {
            Some(recipe) if path != Path::new("-") => {
                let path = sidecar_path(path, format)?;
                recipe::check_sidecar(&path, spec.overwrite)?;
                Some(Sidecar {
                    path,
                    recipe: recipe.clone(),
                })
            }
            _ => None,
        };
        let sink = match format {
            Format::Mp4 => Sink::Mp4(Box::new(Mp4File::create(
                path,
                spec.overwrite,
                geometry,
                spec.fps,
                json.as_deref(),
            )?)),
            Format::PngSequence => {
                Sink::Png(PngSequence::create(path, spec.overwrite, geometry, json)?)
            }
            Format::Y4m => Sink::Y4m(Y4m::create(path, spec.overwrite, geometry, spec.fps)?),
        };
        let (width, height, fps) = (spec.width, spec.height, spec.fps);
        let this = Self {
            path: path.to_path_buf(),
            sink,
            sidecar,
            width,
            height,
            fps,
            geometry,
        };
        this.write_sidecar(false)?;
        Ok(this)
    }

    /// Writes the frames of one chunk. When this returns, they survive the end of the process; an MP4 is put on the disk once a
    /// second, for power cuts.
    ///
    /// # Errors
    ///
    /// For frames of another size and when writing fails; then [`frames`](Self::frames) tells how many are safe, and the rest can
    /// be given again.
    pub fn write_chunk(&mut self, frames: &[Frame]) -> Result<(), Error> {
        self.check_frames(frames)?;
        match &mut self.sink {
            Sink::Mp4(file) => file.write_chunk(frames),
            Sink::Png(files) => files.write_chunk(frames),
            Sink::Y4m(stream) => stream.write_chunk(frames),
        }
    }

    /// Frames that are safe in the output.
    pub fn frames(&self) -> u64 {
        match &self.sink {
            Sink::Mp4(file) => file.frames(),
            Sink::Png(files) => files.frames(),
            Sink::Y4m(stream) => stream.frames(),
        }
    }

    /// Marks the film as finished.
    ///
    /// # Errors
    ///
    /// When writing fails; the frames are there all the same.
    pub fn finish(self) -> Result<Summary, Error> {
        self.close(None)
    }

    /// As [`finish`](Self::finish), with the recipe as it is now: what the run took, for example. It replaces the one beside the
    /// film, and an MP4 gets it as well; PNGs keep the first.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish).
    pub fn finish_with(mut self, recipe: &Recipe) -> Result<Summary, Error> {
        let json = recipe.to_json()?;
        if let Some(sidecar) = &mut self.sidecar {
            sidecar.recipe = recipe.clone();
        }
        self.close(Some(&json))
    }

    fn close(mut self, json: Option<&str>) -> Result<Summary, Error> {
        match &mut self.sink {
            Sink::Mp4(file) => file.finish(json)?,
            Sink::Y4m(stream) => stream.finish()?,
            Sink::Png(_) => {}
        }
        self.write_sidecar(true)?;
        let bytes = match &self.sink {
            Sink::Mp4(file) => file.bytes(),
            Sink::Png(files) => files.bytes(),
            Sink::Y4m(stream) => stream.bytes(),
        };
        let frames = self.frames();
        let recipe_path = self.sidecar.map(|sidecar| sidecar.path);
        Ok(Summary {
            path: self.path,
            recipe_path,
            frames,
            bytes,
            secs: frames as f64 / self.fps,
        })
    }

    fn write_sidecar(&self, finished: bool) -> Result<(), Error> {
        let Some(Sidecar { path, recipe }) = &self.sidecar else {
            return Ok(());
        };
        let (width, height) = match &self.sink {
            Sink::Mp4(_) => self.geometry.even(),
            Sink::Png(_) | Sink::Y4m(_) => self.geometry.enlarged(),
        };
        let frames = self.frames();
        let written = Written {
            frames,
            fps: self.fps,
            width: width as u32,
            height: height as u32,
            finished,
        };
        opened::replace(path, recipe.sidecar(&written).as_bytes())
            .map_err(|source| Error::write(path, frames, source))
    }

    fn check_frames(&self, frames: &[Frame]) -> Result<(), Error> {
        let (width, height) = (self.width, self.height);
        let want = width as usize * height as usize * 3;
        for (i, frame) in frames.iter().enumerate() {
            if (frame.width, frame.height, frame.rgb.len()) != (width, height, want) {
                return Err(Error::FrameSize {
                    index: self.frames() + i as u64,
                    found_width: frame.width,
                    found_height: frame.height,
                    found_bytes: frame.rgb.len(),
                    width,
                    height,
                });
            }
        }
        Ok(())
    }
}

fn check(path: &Path, format: Format, spec: &Spec<'_>) -> Result<Geometry, Error> {
    if !(0.1..=1000.0).contains(&spec.fps) {
        return Err(Error::Fps { fps: spec.fps });
    }
    let (width, height) = (
        u64::from(spec.width) * u64::from(spec.scale),
        u64::from(spec.height) * u64::from(spec.scale),
    );
    let why = match (width.min(height), width.max(height)) {
        (0, _) => "empty; sizes and --scale begin at 1",
        (_, long) if MAX_SIDE < long => "larger than 16384 pixels on a side; lower --scale",
        _ => "",
    };
    if !why.is_empty() {
        return Err(Error::Size {
            width,
            height,
            scale: spec.scale,
            why,
        });
    }
    let is_many = spec.frames.is_some_and(|frames| 1 < frames);
    if format == Format::PngSequence && is_many && !Pattern::parse(path)?.is_numbered() {
        return Err(Error::NeedsPattern {
            path: path.to_path_buf(),
            example: Pattern::example(path),
        });
    }
    Ok(Geometry {
        width: spec.width as usize,
        height: spec.height as usize,
        scale: spec.scale as usize,
    })
}

/// Where the recipe goes: `film.json` beside `film.mp4`; see [`recipe`] for sequences.
fn sidecar_path(path: &Path, format: Format) -> Result<PathBuf, Error> {
    match format {
        Format::PngSequence => Ok(Pattern::parse(path)?.sidecar()),
        Format::Mp4 | Format::Y4m => Ok(path.with_extension("json")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_chooses_the_format() {
        let format = |name: &str| Format::from_path(Path::new(name));
        assert!(matches!(format("a.mp4"), Ok(Format::Mp4)));
        assert!(matches!(format("a.MP4"), Ok(Format::Mp4)));
        assert!(matches!(
            format("no/such/%04d.png"),
            Ok(Format::PngSequence)
        ));
        assert!(matches!(format("a.y4m"), Ok(Format::Y4m)));
        assert!(matches!(format("-"), Ok(Format::Y4m)));
        assert!(matches!(format("folder/"), Err(Error::Folder { .. })));
        assert!(matches!(format("."), Err(Error::Folder { .. })));
        for name in ["a.webm", "a", ".mp4", ""] {
            assert!(
                matches!(format(name), Err(Error::UnknownSuffix { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn small_pictures_grow_to_384_and_large_ones_stay() {
        assert_eq!(default_scale(64, 48), 8);
        assert_eq!(default_scale(48, 64), 8);
        assert_eq!(default_scale(64, 47), 9);
        assert_eq!(default_scale(832, 480), 1);
        assert_eq!(default_scale(512, 384), 1);
        assert_eq!(default_scale(512, 383), 2);
        assert_eq!(default_scale(0, 0), 384);
        assert_eq!(Format::Mp4.default_scale(64, 48), 8);
        assert_eq!(Format::Y4m.default_scale(64, 48), 1);
    }

    #[test]
    fn a_folder_gets_a_name() {
        assert_eq!(
            name_in_folder(Path::new("out"), "cat"),
            Path::new("out/cat.mp4")
        );
        assert!(is_folder(Path::new("nowhere/")));
        assert!(!is_folder(Path::new("nowhere")));
    }
}

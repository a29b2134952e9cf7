//! Frames as numbered PNG files, lossless, each with the recipe in it. A name without a pattern takes one frame.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::yuv::{Geometry, enlarge};
use super::{Error, opened, recipe};
use crate::frame::Frame;

/// Keyword of the text that holds the recipe.
pub(super) const KEYWORD: &str = "longtake";
/// Keyword of XMP. Source: Adobe XMP specification part 3, "PNG".
const XMP_KEYWORD: &str = "XML:com.adobe.xmp";
/// Number of the first file.
const FIRST: u64 = 0;

/// A file name with one place for a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    folder: PathBuf,
    before: String,
    after: String,
    digits: usize,
    is_numbered: bool,
}

impl Pattern {
    /// Reads `%d` or `%04d` in the file name; `%%` is a percent sign.
    pub(super) fn parse(path: &Path) -> Result<Self, Error> {
        let fail = |why| Error::Pattern {
            why,
            path: path.to_path_buf(),
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        if folder.to_string_lossy().contains('%') {
            return Err(fail("the number pattern stands in the folder's name"));
        }
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| fail("the name is not UTF-8"))?;
        let mut parts = [String::new(), String::new()];
        let (mut digits, mut is_numbered) = (1, false);
        let mut chars = name.chars().peekable();
        while let Some(c) = chars.next() {
            let part = &mut parts[usize::from(is_numbered)];
            if c != '%' {
                part.push(c);
                continue;
            }
            if chars.next_if_eq(&'%').is_some() {
                part.push('%');
                continue;
            }
            let mut width = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                width.push(digit);
            }
            if chars.next() != Some('d') {
                return Err(fail("the percent sign begins no %d or %04d"));
            }
            if is_numbered {
                return Err(fail("there are two number patterns"));
            }
            digits = match width.parse() {
                Ok(n @ 1..=12) => n,
                _ if width.is_empty() => 1,
                _ => return Err(fail("the number pattern wants 1 to 12 digits")),
            };
            is_numbered = true;
        }
        let [before, after] = parts;
        Ok(Self {
            folder,
            before,
            after,
            digits,
            is_numbered,
        })
    }

    /// False for a name that takes one frame.
    pub(super) fn is_numbered(&self) -> bool {
        self.is_numbered
    }

    fn path(&self, index: u64) -> PathBuf {
        let (before, after, digits) = (&self.before, &self.after, self.digits);
        self.folder.join(if self.is_numbered {
            format!("{before}{index:0digits$}{after}")
        } else {
            before.clone()
        })
    }

    /// The recipe's name beside the files: the name without its number, or `recipe.json` where nothing is left.
    pub(super) fn sidecar(&self) -> PathBuf {
        let name = format!("{}{}", self.before, self.after);
        let stem = Path::new(&name)
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let stem = stem.trim_matches(|c| matches!(c, '_' | '-' | '.' | ' '));
        let stem = if stem.is_empty() || stem == "png" {
            "recipe"
        } else {
            stem
        };
        self.folder.join(format!("{stem}.json"))
    }

    /// The same name with a pattern, to show.
    pub(super) fn example(path: &Path) -> PathBuf {
        let mut name = path.file_stem().map(OsString::from).unwrap_or_default();
        name.push("_%04d.png");
        path.with_file_name(name)
    }

    /// Files in the folder that have a name of this pattern.
    fn existing(&self) -> Result<Vec<PathBuf>, io::Error> {
        if !self.is_numbered {
            return Ok(self
                .path(FIRST)
                .symlink_metadata()
                .map(|_| vec![self.path(FIRST)])
                .unwrap_or_default());
        }
        let folder = if self.folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &self.folder
        };
        let entries = match fs::read_dir(folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|n| {
                n.strip_prefix(self.before.as_str())?
                    .strip_suffix(self.after.as_str())
            });
            let is_number =
                |n: &str| self.digits <= n.len() && n.bytes().all(|byte| byte.is_ascii_digit());
            if number.is_some_and(is_number) {
                found.push(self.folder.join(&name));
            }
        }
        Ok(found)
    }
}

/// A sequence in the making.
pub(super) struct PngSequence {
    path: PathBuf,
    pattern: Pattern,
    geometry: Geometry,
    recipe: Option<String>,
    frames: u64,
    bytes: u64,
}

impl PngSequence {
    /// Checks the names. With `overwrite` the files of an older sequence of this name are removed: mixed with ours they
    /// would look like one film.
    pub(super) fn create(
        path: &Path,
        overwrite: bool,
        geometry: Geometry,
        recipe: Option<String>,
    ) -> Result<Self, Error> {
        let pattern = Pattern::parse(path)?;
        opened::make_folder(path)?;
        let open = |source| Error::Open {
            path: path.to_path_buf(),
            source,
        };
        let existing = pattern.existing().map_err(open)?;
        if !existing.is_empty() && !overwrite {
            let found = match existing.len() {
                1 => "a file of this name exists".to_owned(),
                n => format!("{n} files of this name exist"),
            };
            return Err(Error::Exists {
                found,
                path: path.to_path_buf(),
            });
        }
        for old in existing {
            fs::remove_file(&old).map_err(open)?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            pattern,
            geometry,
            recipe,
            frames: 0,
            bytes: 0,
        })
    }

    /// Frames written.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes written.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes one file a frame.
    pub(super) fn write_chunk(&mut self, frames: &[Frame]) -> Result<(), Error> {
        for frame in frames {
            if !self.pattern.is_numbered && 0 < self.frames {
                return Err(Error::NeedsPattern {
                    path: self.path.clone(),
                    example: Pattern::example(&self.path),
                });
            }
            let path = self.pattern.path(FIRST + self.frames);
            let failed = |source| Error::write(&self.path, self.frames, source);
            let bytes = encode(frame, self.geometry, self.recipe.as_deref()).map_err(failed)?;
            opened::replace(&path, &bytes).map_err(failed)?;
            self.frames += 1;
            self.bytes += bytes.len() as u64;
        }
        Ok(())
    }
}

fn encode(frame: &Frame, geometry: Geometry, recipe: Option<&str>) -> Result<Vec<u8>, io::Error> {
    let (width, height) = geometry.enlarged();
    let mut rgb = Vec::with_capacity(width * height * 3);
    enlarge(&frame.rgb, 3, geometry, &mut rgb);
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Balanced);
    // iTXt, because a prompt may hold any letters and tEXt is Latin-1.
    if let Some(json) = recipe {
        encoder.add_itxt_chunk(KEYWORD.to_owned(), json.to_owned())?;
    }
    encoder.add_itxt_chunk(XMP_KEYWORD.to_owned(), recipe::xmp())?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&rgb)?;
    writer.finish()?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_number_names() {
        let name = |pattern: &str, i| Pattern::parse(Path::new(pattern)).unwrap().path(i);
        assert_eq!(name("a/%04d.png", 7), Path::new("a/0007.png"));
        assert_eq!(name("x_%d.png", 12), Path::new("x_12.png"));
        assert_eq!(name("%%%3d.png", 1), Path::new("%001.png"));
        assert_eq!(name("still.png", 0), Path::new("still.png"));
        assert_eq!(name("%02d.png", 12345), Path::new("12345.png"));
    }

    #[test]
    fn bad_patterns_are_refused() {
        for bad in [
            "%x.png",
            "%04.png",
            "%",
            "%99d.png",
            "%0d.png",
            "%d%d.png",
            "a%d/b.png",
            "%-3d.png",
        ] {
            assert!(
                matches!(Pattern::parse(Path::new(bad)), Err(Error::Pattern { .. })),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_recipe_lies_beside_under_the_name_without_number() {
        let sidecar = |pattern: &str| Pattern::parse(Path::new(pattern)).unwrap().sidecar();
        assert_eq!(sidecar("frames/%04d.png"), Path::new("frames/recipe.json"));
        assert_eq!(sidecar("frames/cat_%04d.png"), Path::new("frames/cat.json"));
        assert_eq!(sidecar("%d-dog.png"), Path::new("dog.json"));
        assert_eq!(sidecar("still.png"), Path::new("still.json"));
    }
}

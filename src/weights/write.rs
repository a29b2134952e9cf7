//! A safetensors file written tensor by tensor, in any order and in parts, so that it never lies in memory as a whole.
//!
//! It grows beside its place under a name of its own and takes the place when it is whole; what is left unfinished is
//! removed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Map, Value, json};

/// Bytes that the header's length is a multiple of, as the format's own writer keeps it.
const ALIGN: usize = 8;

/// What is done with a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is left alone, and the writing refused.
    Keep,
    /// It is replaced once the new one is whole.
    Replace,
}

/// A tensor that will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// Its dtype, of whole bytes.
    pub dtype: Dtype,
    /// Sizes, slowest first.
    pub shape: Vec<usize>,
}

impl Planned {
    /// Bytes of its values.
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The name is taken.
    #[error("the file exists; choose another name or replace it with --overwrite (-y): {path:?}")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The name belongs to a folder, a pipe or a device, which a finished file cannot replace.
    #[error("this is no regular file and cannot be replaced by one; name a file: {path:?}")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// There is no folder to write into.
    #[error("there is no folder {folder:?}; make it, or name another, for {path:?}")]
    NoFolder {
        /// The folder.
        folder: PathBuf,
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("the file cannot be written ({source}): {path:?}")]
    Io {
        /// What the system said.
        source: io::Error,
        /// The file.
        path: PathBuf,
    },
}

/// Whether a file can be written to `path`, before anything is done for it.
///
/// # Errors
/// A name that is taken, or no folder for it.
pub fn check_free(path: &Path, existing: Existing) -> Result<(), WriteError> {
    let owned = || path.to_owned();
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() || fs::metadata(path).is_ok_and(|m| !m.is_file()) => {
            Err(WriteError::NotAFile { path: owned() })
        }
        Ok(_) if existing == Existing::Keep => Err(WriteError::Exists { path: owned() }),
        Ok(_) => Ok(()),
        Err(_) => {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
            match folder.filter(|p| !p.is_dir()) {
                Some(folder) => Err(WriteError::NoFolder {
                    folder: folder.to_owned(),
                    path: owned(),
                }),
                None if path.file_name().is_none() => Err(WriteError::NotAFile { path: owned() }),
                None => Ok(()),
            }
        }
    }
}

/// A tensor's place in the file.
#[derive(Debug)]
struct Place {
    at: u64,
    bytes: usize,
    written: usize,
}

/// A safetensors file in the making.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
    /// Where it grows until it is whole.
    part: PathBuf,
    existing: Existing,
    places: BTreeMap<String, Place>,
    finished: bool,
}

impl Writer {
    /// Writes the header and makes room for the tensors.
    ///
    /// # Errors
    /// As [`check_free`], or the system refused.
    ///
    /// # Panics
    /// When two tensors have one name: a bug in the caller.
    pub fn create(
        path: &Path,
        existing: Existing,
        metadata: &BTreeMap<String, String>,
        tensors: &[Planned],
    ) -> Result<Writer, WriteError> {
        check_free(path, existing)?;
        let mut order: Vec<&Planned> = tensors.iter().collect();
        // Wide values first, so that every tensor is aligned to its own.
        order.sort_by_key(|t| std::cmp::Reverse(t.dtype.bitsize()));
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!(metadata));
        let (mut at, mut places) = (0, BTreeMap::new());
        for t in &order {
            let (dtype, shape, bytes) = (t.dtype.to_string(), &t.shape, t.bytes());
            let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes] });
            header.insert(t.name.clone(), entry);
            let place = Place {
                at: at as u64,
                bytes,
                written: 0,
            };
            assert!(
                places.insert(t.name.clone(), place).is_none(),
                "two tensors are called {:?}",
                t.name
            );
            at += bytes;
        }
        let mut text = Value::Object(header).to_string();
        text.extend(std::iter::repeat_n(
            ' ',
            text.len().next_multiple_of(ALIGN) - text.len(),
        ));
        let data = (size_of::<u64>() + text.len()) as u64;
        places.values_mut().for_each(|p| p.at += data);
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".{}.part", std::process::id()));
        let part = PathBuf::from(part);
        let refused = |source| WriteError::Io {
            source,
            path: path.to_owned(),
        };
        let writer = Writer {
            file: File::create(&part).map_err(refused)?,
            path: path.to_owned(),
            part,
            existing,
            places,
            finished: false,
        };
        let head = [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
        (&writer.file)
            .write_all(&head)
            .and_then(|()| writer.file.set_len(data + at as u64))
            .map_err(refused)?;
        Ok(writer)
    }

    /// Writes `bytes` of a tensor, from its byte `first` on.
    ///
    /// # Errors
    /// The system refused.
    ///
    /// # Panics
    /// When the tensor is not planned or shorter: a bug in the caller.
    pub fn write(&mut self, name: &str, first: usize, bytes: &[u8]) -> Result<(), WriteError> {
        let Some(place) = self.places.get_mut(name) else {
            panic!("{name:?} is not planned")
        };
        assert!(first + bytes.len() <= place.bytes, "{name:?} is shorter");
        place.written += bytes.len();
        let at = place.at + first as u64;
        let done = self.file.seek(SeekFrom::Start(at));
        done.and_then(|_| self.file.write_all(bytes))
            .map_err(|source| WriteError::Io {
                source,
                path: self.path.clone(),
            })
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// The system refused, or a file has come to lie there.
    ///
    /// # Panics
    /// When not every byte was written: a bug in the caller.
    pub fn finish(mut self) -> Result<(), WriteError> {
        for (name, place) in &self.places {
            assert_eq!(place.written, place.bytes, "bytes of {name:?}");
        }
        check_free(&self.path, self.existing)?;
        let done = self.file.sync_all();
        done.and_then(|()| fs::rename(&self.part, &self.path))
            .map_err(|source| WriteError::Io {
                source,
                path: self.path.clone(),
            })?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            // Left behind, it does no harm.
            let _ = fs::remove_file(&self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Weights;
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("longtake-write-{}-{name}", std::process::id()))
    }

    fn planned(name: &str, dtype: Dtype, shape: &[usize]) -> Planned {
        Planned {
            name: name.to_owned(),
            dtype,
            shape: shape.to_vec(),
        }
    }

    fn write(path: &Path, existing: Existing) -> Result<(), WriteError> {
        let metadata = BTreeMap::from([("kind".to_owned(), "a \"test\"".to_owned())]);
        let tensors = [
            planned("bytes", Dtype::U8, &[3]),
            planned("halves", Dtype::F16, &[1, 2]),
            planned("none", Dtype::F32, &[0, 4]),
            planned("reals", Dtype::F32, &[2]),
        ];
        let mut w = Writer::create(path, existing, &metadata, &tensors)?;
        w.write("reals", 4, &2f32.to_le_bytes())?;
        w.write("bytes", 0, &[7, 8, 9])?;
        w.write("halves", 0, &[0, 0x3c, 0, 0x40])?;
        w.write("reals", 0, &1f32.to_le_bytes())?;
        w.finish()
    }

    #[test]
    fn what_is_written_in_parts_reads_back() {
        let path = scratch("parts");
        write(&path, Existing::Keep).unwrap();
        let read = Weights::open(&path).unwrap();
        assert_eq!(read.metadata()["kind"], "a \"test\"");
        let reals = |name: &str| read.require(name).unwrap().to_f32().unwrap();
        assert_eq!(reals("reals"), [1.0, 2.0]);
        assert_eq!(reals("halves"), [1.0, 2.0]);
        assert_eq!(read.require("bytes").unwrap().bytes(), [7, 8, 9]);
        assert_eq!(read.require("none").unwrap().shape(), [0, 4]);
        drop(read);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn files_that_are_there_are_kept_or_replaced() {
        let path = scratch("there");
        fs::write(&path, "mine").unwrap();
        let kept = write(&path, Existing::Keep);
        assert!(matches!(kept, Err(WriteError::Exists { .. })), "{kept:?}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        write(&path, Existing::Replace).unwrap();
        assert!(Weights::open(&path).is_ok());
        fs::remove_file(&path).unwrap();
        let folder = write(&std::env::temp_dir(), Existing::Replace);
        assert!(
            matches!(folder, Err(WriteError::NotAFile { .. })),
            "{folder:?}"
        );
        let nowhere = write(&path.join("x"), Existing::Keep);
        assert!(
            matches!(nowhere, Err(WriteError::NoFolder { .. })),
            "{nowhere:?}"
        );
    }

    #[test]
    fn what_is_not_finished_goes() {
        let path = scratch("unfinished");
        let tensors = [planned("a", Dtype::U8, &[1])];
        let w = Writer::create(&path, Existing::Keep, &BTreeMap::new(), &tensors).unwrap();
        let part = w.part.clone();
        assert!(part.exists());
        drop(w);
        assert!(!part.exists() && !path.exists());
    }
}

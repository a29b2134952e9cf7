//! Weights on the host: a safetensors file or a PyTorch checkpoint, mapped or built into the program, as checked tensors
//! with bare names.
//!
//! A file is accepted whole or not at all, and every refusal says what to do. Of a checkpoint, which is a pickle, only what
//! tensors need is understood, and nothing in it is run. [`Writer`] writes a safetensors file tensor by tensor.
//! What is left out: conversion on disk, and everything on the device; uploading is the business of who holds one.

mod entry;
mod error;
mod header;
#[cfg(test)]
mod sample;
mod torch;
mod view;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
pub use safetensors::Dtype;

use entry::{Entries, Naming, Place};
pub use error::{Error, Mismatch, Misshaped};
use header::Parsed;
pub use torch::Fault;
pub use view::View;
pub use write::{Existing, Planned, WriteError, Writer, check_free};

/// Bare names that a checkpoint may hold beside the network: heads that only training used.
///
/// Source: Self-Forcing, `utils/wan_wrapper.py::WanDiffusionWrapper.adding_cls_branch`; published weights have none.
const TRAINING_ONLY: [&str; 3] = ["_cls_pred_branch", "_register_tokens", "_gan_ca_blocks"];

/// Parts of a training checkpoint that may hold the network, the best one first.
///
/// Source: Self-Forcing, `trainer/distillation.py::Trainer.save` and `inference.py`.
const PARTS: [&str; 3] = ["generator_ema", "generator", "model"];

/// A tensor that a model needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Bare name.
    pub name: String,
    /// Sizes, slowest first.
    pub shape: Vec<usize>,
}

/// The tensors of one file, by bare name.
///
/// Bare means as the network itself calls them, such as `blocks.0.self_attn.q.weight`: prefixes and infixes of training
/// wrappers (`model.`, `model.diffusion_model.`, `_fsdp_wrapped_module.`, `_checkpoint_wrapped_module.`) are taken off.
pub struct Weights {
    path: PathBuf,
    data: Data,
    entries: Entries,
    metadata: BTreeMap<String, String>,
}

/// Where the file's bytes are.
enum Data {
    Mapped(Mmap),
    Static(&'static [u8]),
    Owned(Vec<u8>),
}

impl Data {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Weights({:?}, {} tensors, {} bytes)",
            self.path,
            self.entries.len(),
            self.data.bytes().len()
        )
    }
}

impl Weights {
    /// Maps the file at `path` and reads what it says of its tensors; values are read from disk when they are asked for. Of a
    /// checkpoint with several networks, `generator_ema`, else `generator`, else `model` is taken.
    ///
    /// The file must not be written to or cut short while this lives: changed bytes would be read as they are, and a
    /// cut file ends the process with a bus error.
    ///
    /// # Errors
    /// When there is no readable file, or it is damaged, or neither a safetensors file nor a PyTorch checkpoint.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::map(path, Naming::Bare(&PARTS))
    }

    /// As [`Weights::open`], but of a checkpoint with several networks the first of `parts` that is there, else `model`.
    ///
    /// # Errors
    /// As [`Weights::open`]; when the checkpoint has parts and none of these.
    pub fn open_part(path: &Path, parts: &[&str]) -> Result<Self, Error> {
        let parts = [parts, &["model"]].concat();
        Self::map(path, Naming::Bare(&parts))
    }

    /// As [`Weights::open`], but every tensor under the name that the file has for it, such as
    /// `generator_ema.model.head.modulation`; keys of dictionaries and places in lists are joined by dots.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn open_stored(path: &Path) -> Result<Self, Error> {
        Self::map(path, Naming::Stored)
    }

    fn map(path: &Path, naming: Naming<'_>) -> Result<Self, Error> {
        let refused = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound {
                path: path.to_owned(),
            },
            _ => Error::Io {
                source,
                path: path.to_owned(),
            },
        };
        // Asked before opening: to open a pipe would wait for its writer.
        let meta = fs::metadata(path).map_err(refused)?;
        if meta.is_dir() {
            return Err(Error::Directory {
                path: path.to_owned(),
            });
        }
        if !meta.is_file() {
            return Err(Error::NotAFile {
                path: path.to_owned(),
            });
        }
        if meta.len() == 0 {
            // Some systems refuse to map nothing, with a text that would not help.
            return Err(Error::Empty {
                path: path.to_owned(),
            });
        }
        let file = File::open(path).map_err(refused)?;
        #[allow(
            unsafe_code,
            reason = "files of several GiB must not be copied into memory"
        )]
        // SAFETY: the map is only ever read, as plain bytes, for which every value is valid; all offsets into it were
        // checked against its length and are kept outside it. That nobody changes the file meanwhile is in the contract.
        let map = unsafe { Mmap::map(&file) }.map_err(refused)?;
        Self::parse(path.to_owned(), Data::Mapped(map), naming)
    }

    /// Reads a file that is built into the program. `name` stands for its path in errors.
    ///
    /// # Errors
    /// When the bytes are damaged, or neither a safetensors file nor a PyTorch checkpoint.
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Self, Error> {
        Self::parse(
            PathBuf::from(name),
            Data::Static(bytes),
            Naming::Bare(&PARTS),
        )
    }

    /// Reads a file that is in memory. `name` stands for its path in errors.
    ///
    /// # Errors
    /// When the bytes are damaged, or neither a safetensors file nor a PyTorch checkpoint.
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        Self::parse(
            PathBuf::from(name),
            Data::Owned(bytes),
            Naming::Bare(&PARTS),
        )
    }

    fn parse(path: PathBuf, data: Data, naming: Naming<'_>) -> Result<Self, Error> {
        let Parsed { entries, metadata } = match torch::is_checkpoint(data.bytes()) {
            true => Parsed {
                entries: torch::parse(data.bytes(), &path, naming)?,
                metadata: BTreeMap::new(),
            },
            false => header::parse(data.bytes(), &path, naming)?,
        };
        log::debug!("{} tensors in {path:?}", entries.len());
        Ok(Self {
            path,
            data,
            entries,
            metadata,
        })
    }

    /// The file, or the name of the built-in one.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted; bare ones but for [`Weights::open_stored`].
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// What the file's writer noted beside the tensors; empty where nothing was.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensor called `name`, a bare name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<View<'_>> {
        let (name, entry) = self.entries.get_key_value(name)?;
        let bytes = match &entry.place {
            Place::File(range) => self.data.bytes().get(range.clone())?,
            Place::Copied(values) => values,
        };
        Some(View {
            name,
            path: &self.path,
            dtype: entry.dtype,
            shape: &entry.shape,
            bytes,
        })
    }

    /// As [`Weights::get`], for a tensor that must be there.
    ///
    /// # Errors
    /// [`Error::Absent`] if it is not.
    pub fn require(&self, name: &str) -> Result<View<'_>, Error> {
        self.get(name).ok_or_else(|| Error::Absent {
            name: name.to_owned(),
            path: self.path.clone(),
        })
    }

    /// Holds the file to be exactly the tensors in `expected`, each in its shape and as F32, F16 or BF16. Parts that only
    /// training used may be there too. `family` is the model family's name, for the error.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with every difference.
    pub fn check(&self, family: &'static str, expected: &[Expected]) -> Result<(), Error> {
        let dtypes = [Dtype::F32, Dtype::F16, Dtype::BF16];
        self.check_among(family, expected, &dtypes, |_| false)
    }

    /// As [`Weights::check`], for tensors of these dtypes among others for which `is_extra` holds.
    ///
    /// # Errors
    /// As [`Weights::check`].
    pub fn check_among(
        &self,
        family: &'static str,
        expected: &[Expected],
        dtypes: &[Dtype],
        is_extra: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        let (missing, unexpected) = (Vec::new(), Vec::new());
        let (misshaped, wrong_dtype) = (Vec::new(), Vec::new());
        let mut found = Mismatch {
            family,
            missing,
            unexpected,
            misshaped,
            wrong_dtype,
            path: self.path.clone(),
        };
        let wanted: BTreeMap<&str, &[usize]> = expected
            .iter()
            .map(|e| (e.name.as_str(), e.shape.as_slice()))
            .collect();
        for (&name, &shape) in &wanted {
            let Some(entry) = self.entries.get(name) else {
                found.missing.push(name.to_owned());
                continue;
            };
            if entry.shape != shape {
                let (name, expected) = (name.to_owned(), shape.to_owned());
                found.misshaped.push(Misshaped {
                    name,
                    found: entry.shape.clone(),
                    expected,
                });
            }
            if !dtypes.contains(&entry.dtype) {
                found.wrong_dtype.push((name.to_owned(), entry.dtype));
            }
        }
        let others = self.names().filter(|name| !wanted.contains_key(name));
        for name in others.filter(|name| !is_extra(name)) {
            if TRAINING_ONLY.iter().any(|part| name.starts_with(part)) {
                log::debug!(
                    "not used: {name:?}, a part for training, in {:?}",
                    self.path
                );
            } else {
                found.unexpected.push(name.to_owned());
            }
        }
        if found.is_empty() {
            Ok(())
        } else {
            Err(Error::Mismatch(Box::new(found)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(bytes: Vec<u8>) -> Result<Weights, Error> {
        Weights::from_static("test", bytes.leak())
    }

    fn expect(name: &str, shape: &[usize]) -> Expected {
        Expected {
            name: name.to_owned(),
            shape: shape.to_owned(),
        }
    }

    /// A path in the system's temporary folder that no other test uses.
    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("longtake-weights-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_mapped_file_reads_like_a_static_one() {
        let path = scratch("small.safetensors");
        fs::write(&path, sample::small()).unwrap();
        let mapped = Weights::open(&path).unwrap();
        let fixed = load(sample::small()).unwrap();
        assert_eq!(
            mapped.names().collect::<Vec<_>>(),
            ["a.weight", "b.bias", "c"]
        );
        assert_eq!(
            fixed.names().collect::<Vec<_>>(),
            mapped.names().collect::<Vec<_>>()
        );
        for name in fixed.names() {
            assert_eq!(
                mapped.require(name).unwrap().to_f32().unwrap(),
                fixed.require(name).unwrap().to_f32().unwrap()
            );
        }
        let a = mapped.get("a.weight").unwrap();
        assert_eq!(
            (a.dtype(), a.shape(), a.bytes().len()),
            (Dtype::F32, &[2, 2][..], 16)
        );
        assert_eq!(a.to_f32().unwrap(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(
            mapped.get("b.bias").unwrap().to_f16_bits().unwrap(),
            [0x3c00, 0xc000]
        );
        assert_eq!(mapped.get("c").unwrap().to_f32().unwrap(), [-1.0]);
        assert!(mapped.get("model.a.weight").is_none());
        assert!(matches!(mapped.require("d"), Err(Error::Absent { name, .. }) if name == "d"));
        drop(mapped);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn paths_that_hold_no_file_are_told_apart() {
        assert!(matches!(
            Weights::open(&scratch("nothing")),
            Err(Error::NotFound { .. })
        ));
        assert!(matches!(
            Weights::open(&std::env::temp_dir()),
            Err(Error::Directory { .. })
        ));
        let path = scratch("empty.safetensors");
        fs::write(&path, b"").unwrap();
        assert!(matches!(Weights::open(&path), Err(Error::Empty { .. })));
        fs::remove_file(&path).unwrap();
        #[cfg(unix)]
        assert!(matches!(
            Weights::open(Path::new("/dev/null")),
            Err(Error::NotAFile { .. })
        ));
    }

    #[test]
    fn check_collects_every_difference() {
        let weights = load(sample::file(&[
            ("model.a", "F16", &[2], &[0; 4]),
            ("model.b", "F16", &[2], &[0; 4]),
            ("model.c", "I64", &[1], &[0; 8]),
            ("model.extra", "F16", &[], &[0; 2]),
            ("model._cls_pred_branch.0.weight", "F16", &[1], &[0; 2]),
        ]))
        .unwrap();
        let expected = [
            expect("a", &[2]),
            expect("b", &[1, 2]),
            expect("c", &[1]),
            expect("d", &[7]),
        ];
        let Err(Error::Mismatch(found)) = weights.check("tiny", &expected) else {
            panic!("accepted")
        };
        assert_eq!(
            (found.family, found.missing.as_slice()),
            ("tiny", &["d".to_owned()][..])
        );
        assert_eq!(found.unexpected, ["extra"]);
        let misshaped = Misshaped {
            name: "b".to_owned(),
            found: vec![2],
            expected: vec![1, 2],
        };
        assert_eq!(found.misshaped, [misshaped]);
        assert_eq!(found.wrong_dtype, [("c".to_owned(), Dtype::I64)]);
        let exact = load(sample::small()).unwrap();
        exact
            .check(
                "tiny",
                &[
                    expect("b.bias", &[2]),
                    expect("c", &[]),
                    expect("a.weight", &[2, 2]),
                ],
            )
            .unwrap();
    }

    #[test]
    fn damaged_bytes_never_panic() {
        let whole = sample::small();
        let mut rng = sample::Rng(0x5eed);
        let mut accepted = 0;
        for _ in 0..6000 {
            let mut bytes = whole.clone();
            for _ in 0..=rng.below(3) {
                let at = rng.below(bytes.len());
                match rng.below(4) {
                    0 => bytes[at] = rng.byte(),
                    1 => bytes[at] ^= 1 << rng.below(8),
                    // Digits keep the header readable, so that shapes and offsets go wrong instead.
                    2 if bytes[at].is_ascii_digit() => bytes[at] = b'0' + (rng.byte() % 10),
                    2 => bytes.insert(at, b'0' + (rng.byte() % 10)),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            let Ok(weights) = load(bytes) else { continue };
            accepted += 1;
            for name in weights.names() {
                let view = weights.get(name).unwrap();
                let _ = (view.to_f32(), view.to_f16_bits());
            }
            let _ = weights.check("tiny", &[expect("c", &[])]);
        }
        assert!(
            100 < accepted,
            "only {accepted} damaged files got past the header"
        );
    }
}

//! A golden file: named tensors with their shapes, as f64 or as integers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

/// Values of a tensor. Every real dtype in use fits into f64.
#[derive(Debug)]
pub enum Values {
    Real(Vec<f64>),
    Int(Vec<i64>),
}

#[derive(Debug)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub values: Values,
}

impl Tensor {
    pub fn reals(&self) -> Vec<f32> {
        match &self.values {
            Values::Real(v) => v.iter().map(|v| *v as f32).collect(),
            Values::Int(v) => v.iter().map(|v| *v as f32).collect(),
        }
    }

    pub fn ints(&self) -> Vec<i64> {
        match &self.values {
            Values::Real(v) => v.iter().map(|v| *v as i64).collect(),
            Values::Int(v) => v.clone(),
        }
    }
}

/// All tensors of one file.
#[derive(Debug)]
pub struct Golden(pub BTreeMap<String, Tensor>);

impl Golden {
    pub fn read(path: &Path) -> Golden {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file =
            SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let one = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
            let shape = view.shape().to_vec();
            let values = values(&name, view.dtype(), view.data());
            (name, Tensor { shape, values })
        };
        Golden(file.tensors().into_iter().map(one).collect())
    }
}

fn values(name: &str, dtype: Dtype, data: &[u8]) -> Values {
    fn all<const N: usize, T>(data: &[u8], f: impl Fn([u8; N]) -> T) -> Vec<T> {
        data.as_chunks::<N>().0.iter().map(|b| f(*b)).collect()
    }
    match dtype {
        Dtype::F64 => Values::Real(all(data, f64::from_le_bytes)),
        Dtype::F32 => Values::Real(all(data, |b| f64::from(f32::from_le_bytes(b)))),
        Dtype::F16 => Values::Real(all(data, |b| f64::from(f16::from_le_bytes(b)))),
        Dtype::BF16 => Values::Real(all(data, |b| f64::from(bf16::from_le_bytes(b)))),
        Dtype::I64 => Values::Int(all(data, i64::from_le_bytes)),
        Dtype::I32 => Values::Int(all(data, |b| i64::from(i32::from_le_bytes(b)))),
        Dtype::U8 | Dtype::BOOL => Values::Int(data.iter().map(|b| i64::from(*b)).collect()),
        other => panic!("{name} has dtype {other}, which no check reads"),
    }
}

/// Folder of one set, such as `selfforcing` or `tiny/rooms`.
#[derive(Debug)]
pub struct Set {
    pub name: &'static str,
    pub folder: PathBuf,
}

impl Set {
    /// The set below `LONGTAKE_GOLDENS`, or below the repository's fixtures. `None`, and a line, when it is not there.
    ///
    /// # Panics
    /// When the folder that was asked for holds no set at all: then nothing would be checked.
    pub fn find(name: &'static str) -> Option<Set> {
        let asked = std::env::var_os("LONGTAKE_GOLDENS").map(PathBuf::from);
        let root = asked.unwrap_or_else(|| {
            PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"))
        });
        let there = |set: &str| root.join(set).is_dir();
        assert!(
            super::SETS.iter().any(|set| there(set)),
            "nothing to check: {} holds none of {:?}",
            root.display(),
            super::SETS
        );
        if !there(name) {
            say(&format!("{name}: absent: the set"));
            return None;
        }
        Some(Set {
            name,
            folder: root.join(name),
        })
    }

    pub fn has(&self, file: &str) -> bool {
        self.folder.join(file).is_file()
    }

    /// Path of a file of the set. `None`, and a line, when it is not there.
    pub fn file(&self, file: &str) -> Option<PathBuf> {
        if self.has(file) {
            return Some(self.folder.join(file));
        }
        say(&format!("{}: absent: {file}", self.name));
        None
    }

    /// Text of a file that the checks cannot do without once there is something to check.
    pub fn config(&self) -> String {
        let path = self.folder.join("config.json");
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }
}

/// Prints past the test harness, which would swallow the lines of tests that pass.
pub fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}

//! Why weights were refused: what was found, what was expected, what to do, and last the tensor or file.

use std::fmt;
use std::path::PathBuf;

use safetensors::{Dtype, SafeTensorError};

use super::torch::Fault;

/// Names of each kind that [`Mismatch`] prints before it only counts the rest.
const MAX_LISTED: usize = 4;

/// Why a weights file was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing lies at the path.
    #[error("no such file; check the path or download the model: {path:?}")]
    NotFound {
        /// The path asked for.
        path: PathBuf,
    },
    /// The path is a folder.
    #[error("this is a folder; name the .safetensors or .pt file inside it: {path:?}")]
    Directory {
        /// The folder.
        path: PathBuf,
    },
    /// The path is a pipe, a socket or a device.
    #[error(
        "this is not a regular file, and weights are mapped into memory; save them to a file first: {path:?}"
    )]
    NotAFile {
        /// The path asked for.
        path: PathBuf,
    },
    /// The system refused to open or map the file.
    #[error("the file cannot be read ({source}): {path:?}")]
    Io {
        /// What the system said.
        source: std::io::Error,
        /// The file.
        path: PathBuf,
    },
    /// The file has no bytes.
    #[error("the file is empty; download it again: {path:?}")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A web page was saved in place of the weights.
    #[error(
        "this is a web page, not weights: the download went to a page that asks for a login or reports an error; \
         download the file itself: {path:?}"
    )]
    WebPage {
        /// The file.
        path: PathBuf,
    },
    /// A git-lfs pointer was checked out in place of the weights.
    #[error("this is a git-lfs pointer{}, not the weights; run `git lfs pull` in its folder: {path:?}", stands_for(.bytes))]
    LfsPointer {
        /// Size of the real file, if the pointer tells it.
        bytes: Option<u64>,
        /// The file.
        path: PathBuf,
    },
    /// A PyTorch checkpoint that cannot be read, or must not.
    #[error("{source}: {path:?}")]
    Torch {
        /// What is wrong with it.
        source: Fault,
        /// The file.
        path: PathBuf,
    },
    /// JSON text, such as a config or the index of a split checkpoint.
    #[error("this is JSON text, not weights; name the .safetensors file it belongs to: {path:?}")]
    Json {
        /// The file.
        path: PathBuf,
    },
    /// No known file type.
    #[error(
        "this is neither a safetensors file nor a PyTorch checkpoint; check that it is the right one: {path:?}"
    )]
    NotSafetensors {
        /// The file.
        path: PathBuf,
    },
    /// The file ends early.
    #[error(
        "the file ends after {found} bytes, its header asks for {expected}; download it again: {path:?}"
    )]
    Truncated {
        /// Bytes in the file.
        found: u64,
        /// Bytes that it must have at least.
        expected: u64,
        /// The file.
        path: PathBuf,
    },
    /// Bytes follow the last tensor.
    #[error(
        "the file has {found} bytes, its header describes {expected}; download or export it again: {path:?}"
    )]
    TooLong {
        /// Bytes in the file.
        found: u64,
        /// Bytes that the header accounts for.
        expected: u64,
        /// The file.
        path: PathBuf,
    },
    /// The header is not what the format prescribes.
    #[error(
        "the safetensors header is damaged ({source}); download or export the file again: {path:?}"
    )]
    Header {
        /// What the reader said.
        source: SafeTensorError,
        /// The file.
        path: PathBuf,
    },
    /// A tensor overlaps the one before it, leaves a gap, or ends before it starts.
    #[error(
        "the data lies at bytes {start}..{end}, expected to start at {expected}, right after the tensor before; \
         export the file again: tensor {name:?} in {path:?}"
    )]
    Offsets {
        /// The tensor, as the file names it.
        name: String,
        /// First byte of its data, counted from the end of the header.
        start: usize,
        /// One past its last byte.
        end: usize,
        /// Where it should start.
        expected: usize,
        /// The file.
        path: PathBuf,
    },
    /// A tensor's bytes do not make its shape.
    #[error(
        "the data has {found} bytes, expected {expected} for {dtype} {shape:?}; \
         export the file again: tensor {name:?} in {path:?}"
    )]
    Length {
        /// The tensor, as the file names it.
        name: String,
        /// Its dtype.
        dtype: Dtype,
        /// Its shape.
        shape: Vec<usize>,
        /// Bytes set aside for it.
        found: usize,
        /// Bytes that shape and dtype ask for.
        expected: usize,
        /// The file.
        path: PathBuf,
    },
    /// A shape whose size no machine can hold.
    #[error(
        "the shape {shape:?} overflows; the file is damaged, download it again: tensor {name:?} in {path:?}"
    )]
    ShapeOverflow {
        /// The tensor, as the file names it.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The file.
        path: PathBuf,
    },
    /// Two stored names mean the same tensor.
    #[error(
        "{first:?} and {second:?} are both {name:?} once wrapper prefixes are taken off; \
         export only one of them: {path:?}"
    )]
    Collision {
        /// The bare name.
        name: String,
        /// One stored name.
        first: String,
        /// The other.
        second: String,
        /// The file.
        path: PathBuf,
    },
    /// The tensors are not those of the model.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
    /// A tensor that was asked for is not there.
    #[error(
        "there is no such tensor; the file belongs to another model: tensor {name:?} in {path:?}"
    )]
    Absent {
        /// The bare name asked for.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// A dtype that weights cannot have.
    #[error(
        "the dtype is {found}, expected F32, F16 or BF16; convert the file: tensor {name:?} in {path:?}"
    )]
    Dtype {
        /// The bare name.
        name: String,
        /// Its dtype.
        found: Dtype,
        /// The file.
        path: PathBuf,
    },
    /// A value that is no number.
    #[error(
        "the value at index {index} is {value}, expected a finite number; \
         the file is damaged, then download it again, or its training diverged: tensor {name:?} in {path:?}"
    )]
    NotFinite {
        /// The bare name.
        name: String,
        /// Row-major index of the value.
        index: usize,
        /// NaN or an infinity.
        value: f32,
        /// The file.
        path: PathBuf,
    },
    /// A value that half floats cannot hold.
    #[error(
        "the value {value} at index {index} is beyond ±65504, the range of half floats; \
         this tensor has to stay in f32: tensor {name:?} in {path:?}"
    )]
    F16Range {
        /// The bare name.
        name: String,
        /// Row-major index of the value.
        index: usize,
        /// The value.
        value: f32,
        /// The file.
        path: PathBuf,
    },
}

/// All that differs between a file's tensors and those a model expects. Names are bare, each list is sorted by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Model family that was expected.
    pub family: &'static str,
    /// Expected, not in the file.
    pub missing: Vec<String>,
    /// In the file, not expected.
    pub unexpected: Vec<String>,
    /// In both, with different shapes.
    pub misshaped: Vec<Misshaped>,
    /// In both, with a dtype other than F32, F16 or BF16.
    pub wrong_dtype: Vec<(String, Dtype)>,
    /// The file.
    pub path: PathBuf,
}

/// A tensor whose shape differs from the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misshaped {
    /// The bare name.
    pub name: String,
    /// Shape in the file.
    pub found: Vec<usize>,
    /// Shape that the model has.
    pub expected: Vec<usize>,
}

impl Mismatch {
    /// True when nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.misshaped.is_empty()
            && self.wrong_dtype.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = self
            .missing
            .iter()
            .map(|name| format!("{name:?}"))
            .collect();
        let unexpected = self
            .unexpected
            .iter()
            .map(|name| format!("{name:?}"))
            .collect();
        let misshaped = self
            .misshaped
            .iter()
            .map(|m| format!("{:?} {:?}, expected {:?}", m.name, m.found, m.expected));
        let wrong_dtype = self
            .wrong_dtype
            .iter()
            .map(|(name, dtype)| format!("{name:?} {dtype}"))
            .collect();
        let parts: Vec<String> = [
            listed("missing", missing),
            listed("unexpected", unexpected),
            listed("of another shape", misshaped.collect()),
            listed("neither F32, F16 nor BF16", wrong_dtype),
        ]
        .into_iter()
        .flatten()
        .collect();
        let (family, parts, path) = (self.family, parts.join("; "), &self.path);
        write!(
            f,
            "the tensors are not those of this {family} model: {parts}; check model and config: {path:?}"
        )
    }
}

/// `3 missing ("a", "b", "c")`, cut after [`MAX_LISTED`] names; `None` for an empty list.
fn listed(what: &str, mut items: Vec<String>) -> Option<String> {
    let count = items.len();
    items.truncate(MAX_LISTED);
    let rest = match count - items.len() {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    (count > 0).then(|| format!("{count} {what} ({}{rest})", items.join(", ")))
}

/// Part of the text about a git-lfs pointer.
fn stands_for(bytes: &Option<u64>) -> String {
    bytes
        .map(|bytes| format!(" to {bytes} bytes"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mismatch_prints_a_few_names_and_counts_the_rest() {
        let mismatch = Mismatch {
            family: "tiny",
            missing: (0..9).map(|i| format!("blocks.{i}.modulation")).collect(),
            unexpected: vec!["lora".to_owned()],
            misshaped: vec![Misshaped {
                name: "head.modulation".to_owned(),
                found: vec![2, 8],
                expected: vec![1, 2, 8],
            }],
            wrong_dtype: Vec::new(),
            path: PathBuf::from("a.safetensors"),
        };
        let text = Error::Mismatch(Box::new(mismatch)).to_string();
        assert_eq!(
            text,
            "the tensors are not those of this tiny model: 9 missing (\"blocks.0.modulation\", \"blocks.1.modulation\", \
             \"blocks.2.modulation\", \"blocks.3.modulation\", and 5 more); 1 unexpected (\"lora\"); \
             1 of another shape (\"head.modulation\" [2, 8], expected [1, 2, 8]); check model and config: \"a.safetensors\""
        );
    }
}

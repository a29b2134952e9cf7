//! What can be wrong with a PyTorch checkpoint, in words for whoever downloaded it.

/// Names of a checkpoint's top level that an error prints before it only counts the rest.
const MAX_LISTED: usize = 8;

/// Why a `.pt` or `.pth` file was refused. Nothing in such a file is ever run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A zip without the directory that ends it.
    #[error(
        "the file begins as a zip and has no directory at its end, as when a download stops early; download it again"
    )]
    NoDirectory,
    /// A zip whose parts contradict each other.
    #[error("the zip is damaged ({0}); download it again")]
    Zip(&'static str),
    /// A zip entry that cannot be mapped.
    #[error(
        "the zip's entry {0:?} is compressed, which torch.save never does; save it again with torch.save"
    )]
    Compressed(String),
    /// No `data.pkl`, or several.
    #[error(
        "the zip has {0} entries called data.pkl, expected one; it is no PyTorch checkpoint, check that it is the right file"
    )]
    Pickles(usize),
    /// Written on a big-endian machine.
    #[error("its values are big-endian; save it again on a little-endian machine")]
    BigEndian,
    /// The pickle's bytes are not those that the zip was made from.
    #[error(
        "its data.pkl is not what was saved (the checksum differs), the file was damaged; download it again"
    )]
    Checksum,
    /// The file ends early.
    #[error(
        "the file ends in the middle of {0}, as when a download stops early; download it again"
    )]
    Truncated(&'static str),
    /// A pickle, but none that `torch.save` began.
    #[error(
        "this is a pickle that torch.save did not write; only PyTorch checkpoints are read, save the tensors with torch.save or as .safetensors"
    )]
    NotTorch,
    /// A pickle protocol that is not known here.
    #[error("its pickle has protocol {0}, expected 2 to 4; save it again with torch.save")]
    Protocol(u8),
    /// An instruction outside the subset that tensors need.
    #[error(
        "its pickle uses {0}, an instruction that no checkpoint of tensors needs and that can run code; \
         it was refused and nothing was run; take a .safetensors file, or the file of another source"
    )]
    Opcode(String),
    /// A name outside the list that tensors need.
    #[error(
        "its pickle asks for {0:?}, which no checkpoint of tensors needs and which can run code; \
         it was refused and nothing was run; take a .safetensors file, or the file of another source"
    )]
    Global(String),
    /// Instructions that do not fit together.
    #[error("its pickle is damaged ({0}); download or save it again")]
    Malformed(&'static str),
    /// More than any real checkpoint has.
    #[error(
        "its pickle has {0}, more than any known checkpoint; it was refused, take the file of another source"
    )]
    TooMuch(&'static str),
    /// A tensor that does not fit its storage.
    #[error("a tensor of storage {key:?} is impossible ({why}); download or save the file again")]
    Tensor {
        /// The storage's key.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A storage that the pickle names and the file does not hold.
    #[error("the values of storage {0:?} are not in the file; download it again")]
    NoStorage(String),
    /// A storage of the wrong length.
    #[error("storage {key:?} has {found} bytes, expected {expected}; download it again")]
    StorageLength {
        /// The storage's key.
        key: String,
        /// Bytes in the file.
        found: u64,
        /// Bytes that the pickle declares.
        expected: u64,
    },
    /// The top object is no dictionary.
    #[error("it holds {0}, expected a dictionary of tensors; check that it is the right file")]
    NotDict(&'static str),
    /// None of the wanted parts is there.
    #[error("it has no {}, only {}; check that file and preset belong together", any_of(.wanted), listed(.found))]
    NoPart {
        /// Keys that were tried, in this order.
        wanted: Vec<String>,
        /// Keys of the top level.
        found: Vec<String>,
    },
}

/// `"a" or "b"`.
fn any_of(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match names.is_empty() {
        true => "tensors at its top level".to_owned(),
        false => names.join(" or "),
    }
}

/// `"a", "b" and 3 more`.
fn listed(names: &[String]) -> String {
    let mut text: Vec<String> = names
        .iter()
        .take(MAX_LISTED)
        .map(|name| format!("{:?}", shortened(name)))
        .collect();
    if text.is_empty() {
        return "nothing".to_owned();
    }
    if MAX_LISTED < names.len() {
        text.push(format!("{} more", names.len() - MAX_LISTED));
    }
    text.join(", ")
}

/// A name short enough for a message: names come from the file and may be of any length.
pub(super) fn shortened(name: &str) -> String {
    const MAX_CHARS: usize = 80;
    match name.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

//! What a reader says of one tensor, the same for every kind of file.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;

/// Where a tensor's values are, row-major.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// These bytes of the file, inside it.
    File(Range<usize>),
    /// Gathered from a view that does not lie in one piece.
    Copied(Vec<u8>),
}

/// One tensor. Its bytes have the length that dtype and shape ask for.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) place: Place,
}

/// Tensors by name.
pub(super) type Entries = BTreeMap<String, Entry>;

/// Under which names tensors are wanted, and which of them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Naming<'a> {
    /// All, as the file names them; in dictionaries of dictionaries the keys are joined by dots.
    Stored,
    /// Bare names. Of a checkpoint of several networks the first of these parts that is there; the whole of any other file.
    Bare(&'a [&'a str]),
}

impl Naming<'_> {
    /// The name that `stored` goes by.
    pub(super) fn name(self, stored: &str) -> String {
        match self {
            Self::Stored => stored.to_owned(),
            Self::Bare(_) => bare_name(stored),
        }
    }
}

/// Takes off what training wrappers and other programs put around a tensor's name: every `_fsdp_wrapped_module.` and
/// `_checkpoint_wrapped_module.`, then one leading `model.diffusion_model.` or `model.`.
///
/// Source: Self-Forcing, `utils/wan_wrapper.py` (the network is `WanDiffusionWrapper.model`); the infixes are the names of
/// the modules that `torch.distributed` wraps around others.
pub(super) fn bare_name(stored: &str) -> String {
    let name = stored
        .replace("_fsdp_wrapped_module.", "")
        .replace("_checkpoint_wrapped_module.", "");
    let bare = name
        .strip_prefix("model.diffusion_model.")
        .or_else(|| name.strip_prefix("model."));
    bare.map(str::to_owned).unwrap_or(name)
}

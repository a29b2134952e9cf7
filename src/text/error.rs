//! Why text could not be read, tokenized or encoded: what was found, what to do, and last the file.

use std::path::PathBuf;

/// Why the text path refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing lies at the path.
    #[error(
        "no such file; check the path or download the tokenizer model (spiece.model): {path:?}"
    )]
    NotFound {
        /// The path asked for.
        path: PathBuf,
    },
    /// The system refused to read the file.
    #[error("the file cannot be read ({source}): {path:?}")]
    Io {
        /// What the system said.
        source: std::io::Error,
        /// The file.
        path: PathBuf,
    },
    /// Another file in place of a tokenizer model.
    #[error("this is {what}; name the file spiece.model: {path:?}")]
    NotAModel {
        /// What it looks like.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A tokenizer model that is not what the format prescribes.
    #[error("the tokenizer model is damaged ({what}); download spiece.model again: {path:?}")]
    Damaged {
        /// What is wrong, and where.
        what: String,
        /// The file.
        path: PathBuf,
    },
    /// A sound tokenizer model of another kind.
    #[error(
        "this tokenizer model {what}; take the spiece.model that came with the text encoder: {path:?}"
    )]
    Unsupported {
        /// What it has or lacks.
        what: String,
        /// The file.
        path: PathBuf,
    },
    /// A list of prompts that cannot be followed.
    #[error("the list of prompts cannot be used ({what}): {path:?}")]
    Prompts {
        /// What is wrong, and where.
        what: String,
        /// The file, or what stands for it.
        path: PathBuf,
    },
    /// A prompt beyond all use.
    #[error("the prompt has {bytes} bytes, at most {limit} are taken; shorten it")]
    PromptTooLong {
        /// Its length.
        bytes: usize,
        /// The longest taken.
        limit: usize,
    },
    /// An encoder whose sizes contradict each other.
    #[error(
        "the text encoder's tensor {name:?} has shape {found:?}: {what}; download the text encoder again: {path:?}"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// Its sizes.
        found: Vec<usize>,
        /// What they should be.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A token that the encoder has no row for.
    #[error(
        "token {id} is beyond the text encoder's {rows} tokens; tokenizer and encoder are of different models: {path:?}"
    )]
    Token {
        /// The token.
        id: u32,
        /// Rows of the embedding.
        rows: usize,
        /// The encoder's file.
        path: PathBuf,
    },
    /// Embeddings beyond f32.
    #[error(
        "the encoded prompt is not finite: the text encoder's weights are wrong; download them again: {path:?}"
    )]
    NotFinite {
        /// The encoder's file.
        path: PathBuf,
    },
    /// A file of embeddings that is not one, or not for this model.
    #[error(
        "these prompt embeddings {what}; delete the file, so that they are made again: {path:?}"
    )]
    Embeddings {
        /// What is wrong.
        what: String,
        /// The file.
        path: PathBuf,
    },
    /// The device.
    #[error(transparent)]
    Gpu(#[from] crate::gpu::Error),
    /// The encoder's weights.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
    /// A folder for embeddings that cannot be made.
    #[error("the folder for prompt embeddings cannot be made ({source}): {path:?}")]
    Folder {
        /// What the system said.
        source: std::io::Error,
        /// The folder.
        path: PathBuf,
    },
    /// A file that could not be written.
    #[error(transparent)]
    Write(#[from] crate::weights::WriteError),
}

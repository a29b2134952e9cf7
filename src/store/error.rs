//! Why a text model could not be found or opened, or a prompt not encoded.

use std::io;
use std::path::PathBuf;

/// Why it was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Files that are not on this machine; says which, and how to get them.
    #[error("{0}")]
    NotHere(String),
    /// A folder's config that makes no network.
    #[error("{path:?}: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: crate::model::config::Error,
    },
    /// The system refused to read a file.
    #[error("{path:?} cannot be read")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A network that takes no text.
    #[error("{0} takes no text")]
    NoText(String),
    /// Nothing to encode.
    #[error("the prompt is empty; say what the film shows")]
    EmptyPrompt,
    /// A text encoder that the device has no room for.
    #[error("{0}")]
    WouldNotFit(String),
    /// Tokenizer, prompt or encoder.
    #[error("{what}")]
    Text {
        /// Which of them.
        what: &'static str,
        /// What is wrong.
        source: Box<crate::text::Error>,
    },
    /// A file of weights.
    #[error("{what}")]
    Weights {
        /// Whose.
        what: &'static str,
        /// What is wrong.
        source: Box<crate::weights::Error>,
    },
    /// A part that does not make a film.
    #[error("{what}")]
    Model {
        /// Which.
        what: &'static str,
        /// What is wrong.
        source: Box<crate::rollout::Error>,
    },
    /// The device.
    #[error(transparent)]
    Gpu(#[from] crate::gpu::Error),
}

impl Error {
    /// Tokenizer, prompt or encoder.
    pub fn text(what: &'static str) -> impl Fn(crate::text::Error) -> Error {
        move |source| Error::Text {
            what,
            source: Box::new(source),
        }
    }

    pub(super) fn weights(what: &'static str) -> impl Fn(crate::weights::Error) -> Error {
        move |source| Error::Weights {
            what,
            source: Box::new(source),
        }
    }
}

//! Films of the same seed under several settings of the cache, measured against one of them: figures, and the report.
//!
//! Whoever makes the films (the command line, the window) hands them over with what they cost; nothing here runs a session.

mod bars;
mod figures;
mod files;
mod measure;
mod picture;
mod plot;
mod protocol;
mod report_html;
mod report_parts;
mod rows;
mod say;
mod tables;

use std::path::PathBuf;

use serde::Serialize;

pub use self::figures::{CacheFigures, Heard};
pub use self::files::{Files, json};
pub use self::measure::{RECENT, Role, Run, Which};
pub use self::picture::{GAIN, Strip, difference, strips};
pub use self::protocol::{METHOD, Place, Protocol};
pub use self::say::mib;
pub use self::tables::{aligned, terminal};

use self::rows::Row;

/// Version of the JSON; raised when a field changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// Everything that the three files are written from.
#[derive(Debug, Serialize)]
pub struct Comparison {
    schema: u32,
    protocol: Protocol,
    /// One a setting, over all films and seeds.
    settings: Vec<Row>,
    runs: Vec<Run>,
    #[serde(skip)]
    strips: Vec<Strip>,
}

impl Comparison {
    /// Gathers what was measured.
    pub fn new(protocol: Protocol, runs: Vec<Run>, strips: Vec<Strip>) -> Comparison {
        Comparison {
            schema: SCHEMA,
            protocol,
            settings: rows::rows(&runs),
            runs,
            strips,
        }
    }
}

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The place that was named for it.
    #[error("{0}")]
    Output(String),
    /// The system.
    #[error("cannot write {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A picture of it.
    #[error("a picture of the report")]
    Picture(#[from] png::EncodingError),
}

//! What can go wrong between a frame and a file, each with what to do next.

use std::io;
use std::path::PathBuf;

/// Why a film could not be written or read back.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The output name has a suffix that no writer knows.
    #[error(
        "no video format is known for this name; use .mp4, .png with a number pattern such as frames/%04d.png, .y4m, or - for raw Y4M on standard output: {path:?}"
    )]
    UnknownSuffix {
        /// The name as given.
        path: PathBuf,
    },
    /// The output is a folder, and a writer needs a file name.
    #[error("this is a folder; name a file in it, such as {example:?}: {path:?}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// A name that would work.
        example: PathBuf,
    },
    /// The number pattern of a PNG sequence cannot be used.
    #[error(
        "{why}; a PNG sequence wants one pattern in the file name, such as frames/%04d.png: {path:?}"
    )]
    Pattern {
        /// What is wrong with the pattern.
        why: &'static str,
        /// The name as given.
        path: PathBuf,
    },
    /// Several frames were meant for one PNG.
    #[error(
        "one PNG holds one frame; write more of them with a number pattern, such as {example:?}, not {path:?}"
    )]
    NeedsPattern {
        /// The name as given.
        path: PathBuf,
        /// The same name with a pattern.
        example: PathBuf,
    },
    /// Something of this name is there and overwriting was not asked for.
    #[error("{found}; give --overwrite to replace it, or another name with --output: {path:?}")]
    Exists {
        /// What is there, as far as it could be read.
        found: String,
        /// The name.
        path: PathBuf,
    },
    /// Another run is writing this file now.
    #[error(
        "another run is writing this file now; wait for it, or give another name with --output: {path:?}"
    )]
    InUse {
        /// The name.
        path: PathBuf,
    },
    /// The recipe would replace a JSON file that is no recipe.
    #[error(
        "the recipe would be stored here, but this file is no recipe of longtake's and is left alone; give the film another name with --output: {path:?}"
    )]
    ForeignSidecar {
        /// The JSON file.
        path: PathBuf,
    },
    /// The picture is outside what the format can hold.
    #[error("pictures of {width}x{height} after enlarging by {scale} are {why}")]
    Size {
        /// Pixels in a row after enlarging.
        width: u64,
        /// Rows after enlarging.
        height: u64,
        /// The enlargement.
        scale: u32,
        /// The limit, and what to do.
        why: &'static str,
    },
    /// The frame rate is no usable number.
    #[error("{fps} frames a second is outside 0.1 to 1000; set --fps")]
    Fps {
        /// The rate as given.
        fps: f64,
    },
    /// A frame differs from the size that the film was opened with.
    #[error(
        "frame {index} is {found_width}x{found_height} with {found_bytes} bytes, the film is {width}x{height}, 3 bytes a pixel"
    )]
    FrameSize {
        /// Number of the frame in the film, from 0.
        index: u64,
        /// Its pixels in a row.
        found_width: u32,
        /// Its rows.
        found_height: u32,
        /// Its bytes.
        found_bytes: usize,
        /// The film's pixels in a row.
        width: u32,
        /// The film's rows.
        height: u32,
    },
    /// The recipe is larger than any reader would accept.
    #[error(
        "the recipe takes {bytes} bytes, at most {limit} are stored; shorten the prompt or the camera script"
    )]
    RecipeTooLarge {
        /// Its size as JSON.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The H.264 encoder refused.
    #[error(
        "the H.264 encoder failed at frame {index} ({what}); a .y4m or .png output does not need it"
    )]
    Encode {
        /// Number of the frame in the film, from 0.
        index: u64,
        /// The encoder's own words.
        what: String,
    },
    /// The output could not be opened.
    #[error("cannot open the output ({source}): {path:?}")]
    Open {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Writing failed: a full disk, most of the time.
    #[error("writing failed ({source}); the first {frames_kept} frames are safe in {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Frames that can be played from it.
        frames_kept: u64,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever read standard output has gone. Not a fault: end quietly.
    #[error("the reader of standard output has closed it")]
    BrokenPipe,
    /// The file could not be read.
    #[error("cannot read ({source}): {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is none of MP4, PNG and recipe JSON.
    #[error("this is neither an MP4, nor a PNG, nor a recipe in JSON: {path:?}")]
    UnknownContent {
        /// The file.
        path: PathBuf,
    },
    /// The file is of a known kind, but broken or cut off.
    #[error("{what}, at byte {at}: {path:?}")]
    Damaged {
        /// What was expected and not found.
        what: &'static str,
        /// Where, from the start of the file.
        at: u64,
        /// The file.
        path: PathBuf,
    },
}

impl Error {
    /// Sorts a failed write: a reader that has gone away is told apart from a full disk.
    pub(super) fn write(path: &std::path::Path, frames_kept: u64, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Write {
                path: path.to_path_buf(),
                frames_kept,
                source,
            },
        }
    }
}

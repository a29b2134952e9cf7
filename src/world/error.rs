//! What can go wrong at this layer's border, and what the user can do about it.

use std::fmt;
use std::path::PathBuf;

use super::map::Obstacle;

/// What every camera error ends with: the whole language in one line.
const ACCEPTED: &str = "use w s a d (or forward back), left right or stay, each with -COUNT, joined with commas: w-8,left-4,w+left-2";

/// Where in a camera text something stands; both numbers count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line, or `None` where the text has only one.
    pub line: Option<usize>,
    /// Column of the piece's first character.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}, ")?;
        }
        write!(f, "column {}", self.column)
    }
}

/// Why a camera text, a path or a seed film was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A piece names something that is no action.
    #[error("camera, {at}: {found:?} in {piece:?} is no action; {ACCEPTED}")]
    CameraAction {
        /// Piece as it was typed.
        piece: String,
        /// The part of it that was not understood.
        found: String,
        /// Where the piece begins.
        at: Place,
    },
    /// The number behind the dash is missing, zero, or no number.
    #[error(
        "camera, {at}: {found:?} in {piece:?} is no count, which is a whole number from 1 on; {ACCEPTED}"
    )]
    CameraCount {
        /// Piece as it was typed.
        piece: String,
        /// What stands where the count should be.
        found: String,
        /// Where the piece begins.
        at: Place,
    },
    /// Two actions of one step that exclude each other, or one named twice.
    #[error(
        "camera, {at}: {first} and {second} in {piece:?} cannot be done in one step; leave one out, or write two steps: {first},{second}"
    )]
    CameraClash {
        /// Piece as it was typed.
        piece: String,
        /// The action named first.
        first: &'static str,
        /// The action that does not go with it.
        second: &'static str,
        /// Where the piece begins.
        at: Place,
    },
    /// More steps than anybody can mean.
    #[error(
        "camera, {at}: with {piece:?} the path has more than {limit} steps, the most that is taken; lower the count"
    )]
    CameraTooLong {
        /// The piece that goes past the limit, as it was typed.
        piece: String,
        /// Most steps of one text.
        limit: usize,
        /// Where the piece begins.
        at: Place,
    },
    /// Nothing but blanks, commas and comments.
    #[error("the camera text has no step; {ACCEPTED}")]
    CameraEmpty,
    /// The value is no file, and does not parse either.
    #[error("{value:?} is neither a camera file ({file}) nor a camera string ({text})")]
    CameraNeither {
        /// What was given, cut if it is long.
        value: String,
        /// Why it could not be read as a file.
        file: String,
        /// Why it is no camera string.
        text: Box<Error>,
    },
    /// The camera file is there but cannot be read.
    #[error(
        "cannot read the camera file {path:?}: {why}; check its permissions, and that it is UTF-8 text"
    )]
    CameraFile {
        /// The file.
        path: PathBuf,
        /// What the system said; not a `source`, because the message has it already.
        why: std::io::Error,
    },
    /// The camera file is too long to be one.
    #[error(
        "the camera file {path:?} is longer than {limit} bytes; is it a camera text? Counts shorten one: w-40 instead of w,w,w"
    )]
    CameraFileTooLong {
        /// The file.
        path: PathBuf,
        /// Most bytes that are read.
        limit: u64,
    },
    /// The camera file was read, and its text is wrong.
    #[error("{why} (in the file {path:?})")]
    CameraFileText {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        why: Box<Error>,
    },
    /// A step of the path would end where the camera cannot stand.
    #[error(
        "step {step_idx} of the path ({step}) ends at x {x:.2}, y {y:.2} cells from the start, {obstacle}; shorten the path there, or let it slide along walls"
    )]
    Collision {
        /// Index of the step from 0.
        step_idx: usize,
        /// The step as a camera text.
        step: String,
        /// Where it would have ended, in cells from the first frame.
        x: f64,
        /// The same, across.
        y: f64,
        /// What is in the way.
        obstacle: Obstacle,
    },
    /// More true frames were asked for than the film has, or none.
    #[error(
        "{given} given frames were asked for, seed film {name} has {n_frames}; take 1 to {n_frames}"
    )]
    Given {
        /// The number asked for.
        given: usize,
        /// Frames of the film.
        n_frames: usize,
        /// Name of the film.
        name: String,
    },
    /// A longer tour was asked for than a path may be.
    #[error("a tour of {n} steps was asked for, the most is {limit}; ask for fewer frames")]
    TourTooLong {
        /// The number asked for.
        n: usize,
        /// Most steps of one path.
        limit: usize,
    },
    /// A file inside the program does not hold what it should: the build is broken, not the input.
    #[error(
        "the built-in world file {asset} is damaged: {what}; build the program again from a clean checkout"
    )]
    Asset {
        /// Name of the file below `assets/worlds/rooms/`.
        asset: String,
        /// What was found and what was expected.
        what: String,
    },
}

//! Camera texts: `w-8, left-4, w+left-2` to steps and back.
//!
//! A text is a list of pieces between commas or line ends; a piece is one action or several joined with `+`, and a
//! count (`-8`; without one, 1). Every count is one frame. Blanks around names and signs, capitals and empty pieces are
//! let through, `#` hides the rest of a line. Where the steps lead is not this file's matter.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use super::error::{Error, Place};
use super::pose::{Action, Pose};

/// Most steps of one text, far above any film: a slip of the finger in a count must not eat the memory.
pub const MAX_STEPS: usize = 1_000_000;
/// Most bytes of a camera file.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the camera does in one frame: one action, or several at once.
///
/// Several at once are one frame: first the turn, then the movements along the new heading, added up. So `w+left`
/// walks a curve, and `w+a` goes diagonally, 1.4 times as far as one action. Only steps of one action have an inverse:
/// undoing `w+left` takes an `s` and a `right`, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Step {
    /// Bit `i` is `Action::ALL[i]`; never empty, and `stay` only alone.
    actions: u8,
}

impl From<Action> for Step {
    fn from(action: Action) -> Step {
        Step {
            actions: bit(action),
        }
    }
}

impl Step {
    /// Its actions, movements before turns (the order of the text, not of what happens).
    pub fn actions(self) -> impl Iterator<Item = Action> {
        Action::ALL
            .into_iter()
            .filter(move |&action| self.actions & bit(action) != 0)
    }

    /// The pose after this step where nothing is in the way.
    pub fn after(self, pose: Pose) -> Pose {
        let k = self.actions().fold(pose.k, |k, action| action.turn(k));
        let (dx, dy) = self.actions().fold((0, 0), |(dx, dy), action| {
            let (ax, ay) = action.offset(k);
            (dx + ax, dy + ay)
        });
        Pose {
            x: pose.x.saturating_add(dx),
            y: pose.y.saturating_add(dy),
            k,
        }
    }

    /// The step with `action` added, or the action that does not go with it.
    fn with(self, action: Action) -> Result<Step, Action> {
        let clash = self.actions().find(|&a| {
            a == action || a == action.inverse() || a == Action::Stay || action == Action::Stay
        });
        match clash {
            Some(first) => Err(first),
            None => Ok(Step {
                actions: self.actions | bit(action),
            }),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, action) in self.actions().enumerate() {
            let plus = if i == 0 { "" } else { "+" };
            write!(f, "{plus}{}", action.name())?;
        }
        Ok(())
    }
}

fn bit(action: Action) -> u8 {
    match action {
        Action::Forward => 1,
        Action::Back => 2,
        Action::StrafeLeft => 4,
        Action::StrafeRight => 8,
        Action::TurnLeft => 16,
        Action::TurnRight => 32,
        Action::Stay => 64,
    }
}

/// The steps of a camera text, at least one and at most [`MAX_STEPS`].
///
/// # Errors
///
/// Names the first piece that is wrong and its column, and its line if the text has several.
pub fn parse(text: &str) -> Result<Vec<Step>, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let many_lines = text.trim_end().contains('\n');
    let mut steps = Vec::new();
    for (line_idx, line) in text.lines().enumerate() {
        let code = line.split('#').next().unwrap_or_default();
        let mut column = 1;
        for raw in code.split(',') {
            let blanks = raw.chars().take_while(|c| c.is_whitespace()).count();
            let at = Place {
                line: many_lines.then_some(line_idx + 1),
                column: column + blanks,
            };
            column += raw.chars().count() + 1;
            let piece = raw.trim();
            if piece.is_empty() {
                continue;
            }
            let (step, count) = parse_piece(piece, at)?;
            if MAX_STEPS - steps.len() < count {
                return Err(Error::CameraTooLong {
                    piece: clip(piece),
                    limit: MAX_STEPS,
                    at,
                });
            }
            steps.extend(std::iter::repeat_n(step, count));
        }
    }
    if steps.is_empty() {
        return Err(Error::CameraEmpty);
    }
    Ok(steps)
}

/// One piece, `w+left-4`: what is done and how often. Counts above [`MAX_STEPS`] come back as `MAX_STEPS + 1`.
fn parse_piece(piece: &str, at: Place) -> Result<(Step, usize), Error> {
    let (names, count) = match piece.split_once('-') {
        Some((names, count)) => (names, Some(count)),
        None => (piece, None),
    };
    let mut step: Option<Step> = None;
    for name in names.split('+') {
        let action = parse_action(name.trim()).ok_or_else(|| Error::CameraAction {
            piece: clip(piece),
            found: clip(name.trim()),
            at,
        })?;
        let joined = match step {
            None => Ok(Step::from(action)),
            Some(before) => before.with(action),
        };
        step = Some(joined.map_err(|first| Error::CameraClash {
            piece: clip(piece),
            first: first.name(),
            second: action.name(),
            at,
        })?);
    }
    // The count comes last, so that a wrong file name is told that it names no action.
    let count = count.map_or(Ok(1), |count| parse_count(piece, count, at))?;
    // `split` yields at least one name, so there is a step; the error stands in for a promise to the compiler.
    step.map(|step| (step, count)).ok_or(Error::CameraEmpty)
}

fn parse_count(piece: &str, count: &str, at: Place) -> Result<usize, Error> {
    let digits = count.trim();
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !all_digits || digits.bytes().all(|b| b == b'0') {
        return Err(Error::CameraCount {
            piece: clip(piece),
            found: clip(digits),
            at,
        });
    }
    // Only digits are left, so a parse that fails has overflowed: too long, as the caller will say.
    Ok(digits.parse().unwrap_or(usize::MAX).min(MAX_STEPS + 1))
}

fn parse_action(name: &str) -> Option<Action> {
    match name.to_ascii_lowercase().as_str() {
        "forward" => Some(Action::Forward),
        "back" => Some(Action::Back),
        name => Action::ALL.into_iter().find(|action| action.name() == name),
    }
}

/// The canonical text of a path: runs of equal steps, each with its count, no blanks. Empty for no steps.
pub fn format(steps: &[Step]) -> String {
    let runs = steps.chunk_by(|a, b| a == b);
    let pieces: Vec<String> = runs
        .filter_map(|run| Some(format!("{}-{}", run.first()?, run.len())))
        .collect();
    pieces.join(",")
}

/// The steps that the value of `--camera` means: the text in the file of that name if there is one, else the value
/// itself.
///
/// # Errors
///
/// As [`parse`], with the path where the text came from a file; and where the value is neither a file nor a camera
/// text, both reasons.
pub fn from_arg(value: &str) -> Result<Vec<Step>, Error> {
    let path = Path::new(value);
    // Anything that is not a folder may be read, so that a shell's <(command) works too.
    let file = match std::fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => return from_file(path),
        Ok(_) => "it is a folder".to_owned(),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            "there is none of this name".to_owned()
        }
        Err(err) => err.to_string(),
    };
    parse(value).map_err(|err| Error::CameraNeither {
        value: clip(value),
        file,
        text: Box::new(err),
    })
}

/// The steps of the camera text in a file of at most [`MAX_FILE_BYTES`].
///
/// # Errors
///
/// As [`parse`], and where the file cannot be read, is too long or not UTF-8.
pub fn from_file(path: &Path) -> Result<Vec<Step>, Error> {
    let unreadable = |why| Error::CameraFile {
        path: path.to_owned(),
        why,
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if MAX_FILE_BYTES < bytes.len() as u64 {
        return Err(Error::CameraFileTooLong {
            path: path.to_owned(),
            limit: MAX_FILE_BYTES,
        });
    }
    let text = String::from_utf8(bytes)
        .map_err(|err| unreadable(std::io::Error::new(std::io::ErrorKind::InvalidData, err)))?;
    parse(&text).map_err(|why| Error::CameraFileText {
        path: path.to_owned(),
        why: Box::new(why),
    })
}

/// Enough of a piece to find it again; a whole binary file has no place in a message.
fn clip(text: &str) -> String {
    const MOST: usize = 40;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(input: &str) -> String {
        format(&parse(input).unwrap())
    }

    fn error(input: &str) -> String {
        parse(input).unwrap_err().to_string()
    }

    #[test]
    fn canonical_texts_come_back_unchanged() {
        for input in [
            "w-1",
            "w-8,a-4,left-8",
            "stay-2,d-1,right-16,s-3",
            "w+left-4,w+d-1",
        ] {
            assert_eq!(text(input), input);
        }
    }

    #[test]
    fn what_people_type_is_understood() {
        assert_eq!(text("W-31"), "w-31");
        assert_eq!(text(" w-3, right-1 ,\n d - 4,"), "w-3,right-1,d-4");
        assert_eq!(text("w"), "w-1");
        assert_eq!(text("w,w,,w-2"), "w-4");
        assert_eq!(text("Forward-2,BACK"), "w-2,s-1");
        assert_eq!(text("left + w - 4"), "w+left-4");
        assert_eq!(text("\u{feff}# out\r\nw-2 # and\r\nleft\r\n"), "w-2,left-1");
    }

    #[test]
    fn errors_name_piece_and_column() {
        let message = error("w-3, jump-2");
        assert!(message.starts_with("camera, column 6: \"jump\" in \"jump-2\" is no action"));
        assert!(message.contains("w s a d"));
        assert!(error("w-3,w+up").contains("column 5: \"up\" in \"w+up\""));
        assert!(error("w-3,left-x").contains("column 5: \"x\" in \"left-x\" is no count"));
        assert!(error("w-").contains("no count"));
        assert!(error("w--3").contains("no count"));
        assert!(error("w-0").contains("no count"));
        assert!(error("w-1.5").contains("no count"));
        assert!(error("-3").contains("\"\" in \"-3\" is no action"));
        assert!(error("w-3 a-2").contains("commas"));
    }

    #[test]
    fn columns_count_characters_and_lines_count_from_one() {
        assert!(error("w-3,é").contains("column 5"));
        assert!(error("é,jump").contains("column 1"));
        let message = error("# a walk\nw-3,\n  left, über-3\n");
        assert!(
            message.starts_with("camera, line 3, column 9: \"über\""),
            "{message}"
        );
        assert!(!error("jump\n").contains("line"));
    }

    #[test]
    fn actions_that_exclude_each_other_are_refused() {
        for input in ["w+s", "left+right", "a+d-2", "w+w", "w+stay", "stay+left"] {
            let message = error(input);
            assert!(
                message.contains("column 1") && message.contains("one step"),
                "{message}"
            );
        }
    }

    #[test]
    fn absurd_lengths_are_refused_without_being_built() {
        for input in ["w-1000001", "w-1000000,s", "w-99999999999999999999999999"] {
            assert!(error(input).contains("more than 1000000 steps"));
        }
        assert_eq!(parse("w-1000000").unwrap().len(), MAX_STEPS);
    }

    #[test]
    fn a_text_without_steps_is_refused() {
        for input in ["", " , ,\n", "# nothing"] {
            assert!(matches!(parse(input), Err(Error::CameraEmpty)));
        }
    }

    #[test]
    fn a_long_wrong_piece_is_cut_in_the_message() {
        assert!(error(&"x".repeat(100_000)).len() < 400);
    }

    #[test]
    fn a_combined_step_turns_first_and_moves_once_for_each_action() {
        let curve = parse("w+left").unwrap()[0];
        let turned = Pose::default()
            .after(Action::TurnLeft)
            .after(Action::Forward);
        assert_eq!(curve.after(Pose::default()), turned);
        let diagonal = parse("a+w").unwrap()[0];
        assert_eq!(diagonal.after(Pose::default()), Pose { x: 4, y: 4, k: 0 });
    }

    /// A file name of its own for one test, removed when the test is over.
    struct Scratch(std::path::PathBuf);

    impl Scratch {
        fn new(name: &str, bytes: &[u8]) -> Scratch {
            let path = std::env::temp_dir().join(format!("longtake-{}-{name}", std::process::id()));
            std::fs::write(&path, bytes).unwrap();
            Scratch(path)
        }

        fn arg(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            // A file left behind in the temporary folder is no reason to fail.
            std::fs::remove_file(&self.0).ok();
        }
    }

    #[test]
    fn the_flag_takes_a_file_or_a_text() {
        let file = Scratch::new("walk.txt", b"# out and back\nw-4\nleft-8, w-4\n");
        assert_eq!(format(&from_arg(file.arg()).unwrap()), "w-4,left-8,w-4");
        assert_eq!(format(&from_arg("w-2,s").unwrap()), "w-2,s-1");
        let message = from_arg("no-such-walk.txt").unwrap_err().to_string();
        assert!(
            message.contains("neither a camera file (there is none of this name)"),
            "{message}"
        );
        assert!(
            message.contains("\"no\" in \"no-such-walk.txt\" is no action"),
            "{message}"
        );
        let folder = std::env::temp_dir();
        let message = from_arg(folder.to_str().unwrap()).unwrap_err().to_string();
        assert!(message.contains("it is a folder"), "{message}");
        assert!(matches!(from_arg("w\0"), Err(Error::CameraNeither { .. })));
    }

    #[test]
    fn bad_files_are_named() {
        let wrong = Scratch::new("wrong.txt", b"w-4\nleap-8\n");
        let message = from_arg(wrong.arg()).unwrap_err().to_string();
        assert!(
            message.contains("line 2, column 1") && message.contains("wrong.txt"),
            "{message}"
        );
        let binary = Scratch::new("binary.txt", &[0xff, 0xfe, 0x00]);
        assert!(matches!(
            from_arg(binary.arg()),
            Err(Error::CameraFile { .. })
        ));
        let long = Scratch::new("long.txt", "é,".repeat(400_000).as_bytes());
        assert!(matches!(
            from_arg(long.arg()),
            Err(Error::CameraFileTooLong { .. })
        ));
    }
}

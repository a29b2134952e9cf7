//! What went wrong, as a person reads it: a headline, what is safe, causes, and the way on.

use longtake::gpu::{self, Caps};
use longtake::rollout::Error;
use longtake::rollout::event::Event;

use crate::offer::Offer;

/// The way on from an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The same film again.
    Again,
    /// Another film: one that fits, where there is one, else other settings.
    Other,
    /// The film goes on where it stopped.
    GoOn,
}

impl Remedy {
    /// In words; `offer`: a film would fit.
    pub fn name(self, offer: bool) -> &'static str {
        match (self, offer) {
            (Remedy::Again, _) => "start again",
            (Remedy::Other, true) => "take what fits",
            (Remedy::Other, false) => "change the settings",
            (Remedy::GoOn, _) => "go on",
        }
    }
}

/// An error with everything that the window shows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What happened and where, one line.
    pub headline: String,
    /// What is not lost; empty before anything was made.
    pub safe: String,
    /// The chain of causes, outermost first.
    pub causes: Vec<String>,
    /// What to do if it comes back; may be empty.
    pub advice: String,
    /// What Enter does.
    pub remedy: Remedy,
    /// Films that would fit, where it is memory that is missing; the widest first.
    pub offers: Box<[Offer]>,
    /// The program's exit code where it ends with this, as that of `longtake generate`.
    pub code: u8,
}

impl Fault {
    /// A sentence that needs no more.
    pub fn plain(text: &str) -> Fault {
        Fault {
            headline: text.to_owned(),
            safe: String::new(),
            causes: Vec::new(),
            advice: String::new(),
            remedy: Remedy::Other,
            offers: Box::default(),
            code: 1,
        }
    }

    /// From the library's error.
    pub fn of(error: &Error) -> Fault {
        let self_check = "If it comes back: longtake generate --device cpu --frames 1 tells a driver's fault from one of the weights.";
        let (headline, advice, remedy) = match error {
            Error::BadFrames { chunk, .. } => (
                format!("Stopped: chunk {chunk} came out as NaN, not as a picture"),
                self_check,
                Remedy::Again,
            ),
            Error::Cache(_) => (
                "Stopped: the cache holds values that are not numbers".to_owned(),
                self_check,
                Remedy::Again,
            ),
            Error::Blank(_) => (
                "Stopped: the film shows nothing any more".to_owned(),
                "Go back on the timeline, or take another seed.",
                Remedy::Again,
            ),
            Error::WouldNotFit(_) => (
                "This film does not fit the device".to_owned(),
                "Take a shorter window or fewer bits in Settings.",
                Remedy::Other,
            ),
            Error::Gpu(gpu::Error::Lost { .. }) => (
                "The graphics driver restarted".to_owned(),
                "Choose the device again in Settings; a shorter window keeps its work shorter.",
                Remedy::Again,
            ),
            Error::Gpu(gpu::Error::OutOfMemory { .. } | gpu::Error::TooLarge { .. }) => (
                "The device has no memory left for this film".to_owned(),
                "Take a shorter window or fewer bits in Settings, or close other programs.",
                Remedy::Other,
            ),
            Error::Gpu(gpu::Error::NoDevice | gpu::Error::NoSuchDevice { .. }) => {
                ("No such device".to_owned(), "", Remedy::Other)
            }
            Error::Gpu(_) => (
                "The device reported an error".to_owned(),
                self_check,
                Remedy::Again,
            ),
            Error::NoModel { .. }
            | Error::Config { .. }
            | Error::Weights(_)
            | Error::Decoder(_) => ("The model cannot be read".to_owned(), "", Remedy::Other),
            Error::Dump(_) => (
                "Keys and values could not be written".to_owned(),
                "",
                Remedy::Other,
            ),
            Error::Setting(_) | Error::Window(_) => (
                "These settings do not go together".to_owned(),
                "",
                Remedy::Other,
            ),
        };
        Fault {
            headline,
            safe: String::new(),
            causes: causes(error),
            advice: advice.to_owned(),
            remedy,
            offers: Box::default(),
            code: match error {
                Error::Setting(_) | Error::Window(_) | Error::Config { .. } => 2,
                Error::WouldNotFit(_) => 3,
                Error::NoModel { .. } => 4,
                _ => 1,
            },
        }
    }

    /// The film's file cannot be written any more: the film stops, and Enter goes on without the file.
    pub fn unwritten(causes: Vec<String>, made: usize) -> Fault {
        let kept = crate::say::n(made, "frame");
        Fault {
            headline: "Stopped: the film's file cannot be written".to_owned(),
            safe: format!(
                "{kept} are in memory: they can be played, and Ctrl S saves them elsewhere."
            ),
            causes,
            advice: "Going on makes the rest without this file.".to_owned(),
            remedy: Remedy::GoOn,
            ..Fault::plain("")
        }
    }

    /// With what is known of the run: made frames that are safe, and the device.
    pub fn at(mut self, made: usize, caps: &Caps) -> Fault {
        if made > 0 {
            self.safe = format!(
                "{} finished before it {} safe and can be played and saved.",
                crate::say::n(made, "frame"),
                if made == 1 { "is" } else { "are" }
            );
        }
        self.causes
            .push(format!("device: {}, {}", caps.title(), caps.driver));
        self
    }

    /// For programs.
    pub fn event(&self) -> Event {
        let what = match self.causes.is_empty() {
            true => self.headline.clone(),
            false => format!("{}: {}", self.headline, self.causes.join("; ")),
        };
        Event::Error {
            code: self.code,
            what,
            hint: self.advice.clone(),
        }
    }

    /// All of it, for the clipboard.
    pub fn text(&self) -> String {
        let mut out = format!(
            "longtake-viewer {}\n{}\n",
            env!("CARGO_PKG_VERSION"),
            self.headline
        );
        for (depth, cause) in self.causes.iter().enumerate() {
            out += &format!("{}{cause}\n", "  ".repeat(depth + 1));
        }
        out
    }
}

/// An error and what is behind it, outermost first.
pub(crate) fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let mut causes = vec![error.to_string()];
    let mut source = error.source();
    while let Some(e) = source {
        let text = e.to_string();
        // Errors that pass on another one say the same again, and some say it in brackets.
        if causes.last().is_none_or(|last| !last.contains(&text)) {
            causes.push(text);
        }
        source = e.source();
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;
    use longtake::gpu::Device;

    #[test]
    fn a_fault_says_what_where_and_what_is_safe() {
        let error = Error::BadFrames {
            frame: 852,
            chunk: 213,
            device: "llvmpipe (vulkan)".into(),
        };
        let fault = Fault::of(&error).at(852, Device::twin().caps());
        assert!(fault.headline.contains("chunk 213 came out as NaN"));
        assert!(fault.safe.starts_with("852 frames"));
        let text = fault.text();
        assert!(
            text.contains("frame 852") && text.contains("device: cpu"),
            "{text}"
        );
        assert_eq!(fault.causes.len(), 2, "{fault:?}");
    }

    #[test]
    fn a_film_that_shows_nothing_stops_with_the_reason() {
        let why = "8 frames from 5 on are black";
        let fault = Fault::of(&Error::Blank(why.into()));
        assert_eq!(fault.headline, "Stopped: the film shows nothing any more");
        assert_eq!(fault.causes, [why]);
    }
}

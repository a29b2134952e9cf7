//! From an error to an exit code and to what to do next.

use longtake::{compare, dump, gpu, media, rollout, store, weights, world};

/// Failed while running.
pub(super) const FAILED: u8 = 1;
/// Wrong use or bad input.
pub(super) const USAGE: u8 = 2;
/// The plan does not fit the device.
pub(super) const NO_ROOM: u8 = 3;
/// No such model.
pub(super) const NO_MODEL: u8 = 4;
/// Ended by the user.
pub(super) const INTERRUPTED: u8 = 130;

/// An error of the command line's own.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Flags that contradict each other or the files they name.
    #[error("{0}")]
    Usage(String),
    /// No such model.
    #[error("{0}")]
    NoModel(String),
    /// A model that is not here and was not downloaded.
    #[error("{0}")]
    NotFetched(String),
    /// Ended by the user before there was anything to keep.
    #[error("interrupted before the first frame; nothing was written")]
    Interrupted,
    /// Ended by the user before one comparison had all of its runs.
    #[error("interrupted before the first comparison was whole; nothing was written")]
    NothingWhole,
    /// Ended by the user before every layer was measured.
    #[error("interrupted before every layer was measured; nothing was written")]
    NotMeasured,
}

/// The exit code of `err`.
pub(super) fn code(err: &anyhow::Error) -> u8 {
    err.chain().find_map(code_of).unwrap_or(FAILED)
}

/// Whether whoever read standard output has gone: the end of the run, and no fault.
pub(super) fn is_closed_pipe(err: &anyhow::Error) -> bool {
    err.chain()
        .any(|e| matches!(e.downcast_ref(), Some(media::Error::BrokenPipe)))
}

fn code_of(err: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(err) = err.downcast_ref::<Fault>() {
        return Some(match err {
            Fault::Usage(_) => USAGE,
            Fault::NoModel(_) | Fault::NotFetched(_) => NO_MODEL,
            Fault::Interrupted | Fault::NothingWhole | Fault::NotMeasured => INTERRUPTED,
        });
    }
    if let Some(err) = err.downcast_ref::<rollout::Error>() {
        return Some(rollout_code(err));
    }
    if let Some(err) = err.downcast_ref::<store::Error>() {
        return store_code(err);
    }
    if let Some(err) = err.downcast_ref::<longtake::text::Error>() {
        return Some(text_code(err));
    }
    if let Some(err) = err.downcast_ref::<media::Error>() {
        return Some(media_code(err));
    }
    if let Some(err) = err.downcast_ref::<gpu::Error>() {
        return Some(gpu_code(err));
    }
    if let Some(err) = err.downcast_ref::<weights::Error>() {
        return Some(weights_code(err));
    }
    if let Some(err) = err.downcast_ref::<dump::Error>() {
        return Some(dump_code(err));
    }
    if let Some(compare::Error::Output(_)) = err.downcast_ref() {
        return Some(USAGE);
    }
    if let Some(err) = err.downcast_ref::<weights::WriteError>() {
        return Some(write_code(err));
    }
    err.downcast_ref::<world::Error>().map(|_| USAGE)
}

fn rollout_code(err: &rollout::Error) -> u8 {
    match err {
        rollout::Error::Gpu(err) => gpu_code(err),
        rollout::Error::Weights(err) => weights_code(err),
        rollout::Error::Dump(err) => dump_code(err),
        rollout::Error::NoModel { .. } => NO_MODEL,
        rollout::Error::Config { .. }
        | rollout::Error::Setting(_)
        | rollout::Error::Decoder(_)
        | rollout::Error::Window(_) => USAGE,
        rollout::Error::WouldNotFit(_) => NO_ROOM,
        _ => FAILED,
    }
}

/// None where the cause says it.
fn store_code(err: &store::Error) -> Option<u8> {
    use store::Error as E;
    match err {
        E::NotHere(_) => Some(NO_MODEL),
        E::Config { .. } | E::NoText(_) | E::EmptyPrompt => Some(USAGE),
        E::WouldNotFit(_) => Some(NO_ROOM),
        E::Model { source, .. } => Some(rollout_code(source)),
        E::Gpu(err) => Some(gpu_code(err)),
        E::Text { source, .. } => Some(text_code(source)),
        E::Weights { source, .. } => Some(weights_code(source)),
        E::Io { .. } => None,
    }
}

fn text_code(err: &longtake::text::Error) -> u8 {
    use longtake::text::Error as E;
    match err {
        E::Gpu(err) => gpu_code(err),
        E::Weights(err) => weights_code(err),
        E::Write(err) => write_code(err),
        E::Folder { .. } | E::NotFinite { .. } => FAILED,
        _ => USAGE,
    }
}

fn weights_code(err: &weights::Error) -> u8 {
    match err {
        weights::Error::NotFound { .. } => NO_MODEL,
        _ => USAGE,
    }
}

fn dump_code(err: &dump::Error) -> u8 {
    match err {
        dump::Error::Gpu(err) => gpu_code(err),
        dump::Error::Write(err) => write_code(err),
        // A file of keys and values is no model: one that is missing is bad input like any other.
        _ => USAGE,
    }
}

fn write_code(err: &weights::WriteError) -> u8 {
    match err {
        weights::WriteError::Io { .. } => FAILED,
        _ => USAGE,
    }
}

fn gpu_code(err: &gpu::Error) -> u8 {
    match err {
        gpu::Error::NoSuchDevice { .. } => USAGE,
        gpu::Error::TooLarge { .. } => NO_ROOM,
        _ => FAILED,
    }
}

fn media_code(err: &media::Error) -> u8 {
    use media::Error as E;
    match err {
        E::Open { .. }
        | E::Write { .. }
        | E::Encode { .. }
        | E::BrokenPipe
        | E::FrameSize { .. } => FAILED,
        _ => USAGE,
    }
}

/// The error with its causes in one line, as `{err:#}` but without the causes that a message already tells.
pub(super) fn text(err: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in err.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// What to do next, where the message itself does not say so already.
pub(super) fn hint(err: &anyhow::Error) -> &'static str {
    if let Some(Fault::NotFetched(_)) = err.downcast_ref() {
        return "";
    }
    match err.downcast_ref() {
        Some(store::Error::NotHere(_)) => return "",
        Some(store::Error::WouldNotFit(_)) => {
            return "encode the prompt on another device (--save-embeddings) and give it here with --embeddings";
        }
        _ => {}
    }
    match code(err) {
        NO_ROOM => {
            "--auto-fit, fewer --frames, a --window, or another --device (longtake devices); longtake plan tells more"
        }
        NO_MODEL => {
            "leave --model out for the built-in world, or name a folder with config.json and weights.safetensors"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_reach_through_contexts() {
        let err = anyhow::Error::new(rollout::Error::WouldNotFit("no".into())).context("outer");
        assert_eq!(code(&err), NO_ROOM);
        let err = anyhow::Error::new(rollout::Error::Gpu(gpu::Error::NoDevice));
        assert_eq!(code(&err), FAILED);
        assert_eq!(code(&anyhow::anyhow!("x")), FAILED);
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let err = anyhow::Error::new(media::Error::Open {
            path: "p".into(),
            source: denied,
        })
        .context("outer");
        assert_eq!(
            text(&err),
            "outer: cannot open the output (permission denied): \"p\""
        );
        assert!(is_closed_pipe(&anyhow::Error::new(
            media::Error::BrokenPipe
        )));
    }
}

//! Ctrl-C: the first one asks, the second one ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::fault::INTERRUPTED;
use super::say;

/// Set once the user wants the run to end.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens to Ctrl-C and to requests to end. Under `nohup` the program is left to the system, so that it outlives its
    /// terminal; a film killed there still plays up to its last chunk. `after` says what is finished first and what is kept.
    pub(super) fn listen(after: &'static str) -> Stop {
        let stop = Stop::default();
        if ignores_hangup() {
            return stop;
        }
        let asked = Arc::clone(&stop.0);
        let heard = ctrlc::set_handler(move || {
            if asked.swap(true, Ordering::Relaxed) {
                std::process::exit(i32::from(INTERRUPTED));
            }
            say::message(&format!(
                "\nstopping after {after} (Ctrl-C again stops at once)"
            ));
        });
        if let Err(err) = heard {
            log::warn!("Ctrl-C will stop the program at once: {err}");
        }
        stop
    }

    pub(super) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether hang-ups are ignored, as `nohup` does; told by Linux.
fn ignores_hangup() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| masks_hangup(&status))
}

/// Bit 0 of the mask is signal 1, the hang-up.
fn masks_hangup(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hangups_are_found_in_the_mask() {
        assert!(masks_hangup("Name:\tx\nSigIgn:\t0000000000000001\n"));
        assert!(!masks_hangup("SigIgn:\t0000000000001000\n"));
        assert!(!masks_hangup(""));
    }
}

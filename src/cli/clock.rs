//! Seconds since the process began, loading of the program included.

use std::time::{Duration, Instant};

/// Kernel ticks a second in /proc; a constant of Linux's user interface on every platform that wgpu runs on.
const TICKS_PER_SEC: f64 = 100.0;
/// A start longer ago than this is a clock of another machine or container, not a slow start.
const MOST_SECS: f64 = 30.0;

/// When the process began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    before: Duration,
}

impl Clock {
    /// Call this first in `main`.
    pub(crate) fn start() -> Clock {
        let started = Instant::now();
        let before = process_age().filter(|age| (0.0..MOST_SECS).contains(age));
        Clock {
            started,
            before: Duration::from_secs_f64(before.unwrap_or(0.0)),
        }
    }

    /// Seconds since the process began.
    pub(super) fn secs(&self) -> f64 {
        (self.started.elapsed() + self.before).as_secs_f64()
    }
}

/// Where /proc tells it, to 10 ms.
fn process_age() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let up: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Some(up - start_ticks(&stat)? / TICKS_PER_SEC)
}

/// Field 22 of /proc/PID/stat; the name in field 2 may hold blanks and brackets.
fn start_ticks(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_found_behind_any_name() {
        let stat = "7 (a ) b) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(start_ticks(stat), Some(4711.0));
        assert_eq!(start_ticks(""), None);
    }

    #[test]
    fn time_goes_on() {
        let clock = Clock::start();
        assert!(0.0 <= clock.secs() && clock.secs() < 2.0 * MOST_SECS);
    }
}

//! Whether a long film holds its memory: a small film of many chunks by the window's own thread, and every tenth of the way
//! the bytes that it holds on the device and in main memory. From the middle on the window slides and nothing should grow
//! but the frames that the window keeps (9 KiB each, and as much for the true picture) and, up to its limit, what undo needs.
//!
//! Usage: `cargo bench -p longtake-viewer --bench hold -- [CHUNKS]` (default 1000). It judges nothing.

#![expect(clippy::unwrap_used, reason = "what fails here ends the run")]

use std::sync::Arc;

use longtake::gpu::{Device, Select};
use longtake_viewer::job::{Job, Width, Widths};
use longtake_viewer::state::{Effect, State};
use longtake_viewer::worker::{Message, Worker};

fn main() {
    let number = |a: String| a.parse::<usize>().ok();
    let chunks = std::env::args().skip(1).find_map(number).unwrap_or(1000);
    let select = Select::default();
    let device = Device::open(&select).unwrap();
    println!("{}, {}", device.caps().title(), device.caps().driver);
    let (worker, messages) = Worker::start(device.clone(), select, None, Box::new(|| {})).unwrap();
    let mut state = State::new(
        Job {
            given: 6,
            most: chunks,
            window: 24,
            sink: 2,
            span: 4,
            recent: 2,
            widths: Widths::both(Width::Two),
            ..Job::default()
        },
        Arc::clone(&worker.reins),
    );
    state.start();
    println!(
        "{:>8} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "chunk", "device MiB", "cache MiB", "main MiB", "undo MiB", "frames MiB"
    );
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let every = (chunks / 10).max(1);
    for effect in std::mem::take(&mut state.effects) {
        if let Effect::Command(command) = effect {
            assert!(worker.send(command));
        }
    }
    for message in messages {
        let (is_made, ends) = match &message {
            Message::Made(_) => (true, false),
            Message::Finished | Message::Fault(_) => (false, true),
            _ => (false, false),
        };
        if let Message::Fault(fault) = &message {
            println!("{}", fault.text());
        }
        state.hear(message);
        state.effects.clear();
        let n = state.film.made();
        if is_made && n.is_multiple_of(every) {
            let sample = state.history.last().unwrap();
            let frames: usize = state.film.shots.iter().map(|s| s.frame.rgb.len()).sum();
            println!(
                "{n:>8} {:>12.2} {:>12.2} {:>12.1} {:>12.1} {:>12.1}",
                mib(sample.total()),
                mib(sample.cache()),
                mib(state.speed.main_bytes.unwrap_or(0)),
                mib(state.speed.undo_bytes),
                mib(frames as u64)
            );
        }
        if ends {
            return;
        }
    }
}

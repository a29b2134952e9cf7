//! The rollout thread on a device, without a window.

#![expect(clippy::unwrap_used, reason = "what fails here is the test's result")]

use std::time::Duration;

use longtake::frame::Frame;
use longtake::gpu::{Device, Select};
use longtake_viewer::job::{Job, Width, Widths};
use longtake_viewer::worker::{Command, Made, Message, Worker};

fn start() -> Option<(Worker, std::sync::mpsc::Receiver<Message>)> {
    match Device::open(&Select::default()) {
        Ok(device) => Some(Worker::start(device, false, Box::new(|| {})).unwrap()),
        Err(e) => {
            assert!(std::env::var_os("LONGTAKE_REQUIRE_GPU").is_none(), "{e}");
            eprintln!("SKIPPED: needs a device");
            None
        }
    }
}

fn job(most: usize) -> Job {
    Job {
        given: 6,
        most,
        window: 12,
        sink: 2,
        span: 2,
        recent: 1,
        widths: Widths::both(Width::Four),
        ..Job::default()
    }
}

/// The next message that `pick` takes.
fn next<T>(
    messages: &std::sync::mpsc::Receiver<Message>,
    pick: impl Fn(Message) -> Option<T>,
) -> T {
    loop {
        let message = messages
            .recv_timeout(Duration::from_secs(300))
            .expect("the worker goes on");
        if let Message::Fault(fault) = &message {
            panic!("{fault:?}");
        }
        if let Some(found) = pick(message) {
            return found;
        }
    }
}

fn made(messages: &std::sync::mpsc::Receiver<Message>) -> Box<Made> {
    next(messages, |m| match m {
        Message::Made(made) => Some(made),
        _ => None,
    })
}

#[test]
fn going_back_and_the_same_way_again_gives_the_same_bytes() {
    let Some((worker, messages)) = start() else {
        return;
    };
    assert!(worker.send(Command::Start(job(7))));
    let mut frames: Vec<Frame> = Vec::new();
    for i in 0..7 {
        let chunk = made(&messages);
        assert_eq!(chunk.first, i);
        if i == 2 {
            // Taken before some later chunk; going back must find the same place again.
            worker.send(Command::Bits(Widths::both(Width::Two)));
        }
        frames.extend(chunk.frames.into_iter().map(|(f, ..)| f));
    }
    next(&messages, |m| matches!(m, Message::Finished).then_some(()));
    assert!(worker.send(Command::BackTo(5)));
    let back = next(&messages, |m| match m {
        Message::WentBack(made, _) => Some(made),
        _ => None,
    });
    assert_eq!(back, 5);
    for frame in &frames[5..] {
        let again = made(&messages);
        assert_eq!(&again.frames[0].0, frame);
    }
}

#[test]
fn a_key_shows_within_two_chunks() {
    let Some((worker, messages)) = start() else {
        return;
    };
    assert!(worker.send(Command::Start(job(8))));
    made(&messages);
    worker
        .reins
        .steering
        .store(true, std::sync::atomic::Ordering::Relaxed);
    worker.reins.key(4, true);
    let steps: Vec<String> = (0..3)
        .map(|_| made(&messages).frames[0].2.to_string())
        .collect();
    // Two chunks may have been under way or waiting when the key went down.
    assert!(
        steps[..2].contains(&"left".to_owned()) || steps[2] == "left",
        "{steps:?}"
    );
    assert_eq!(steps[2], "left");
}

#[test]
fn settings_that_do_not_go_together_are_told_and_the_worker_lives() {
    let Some((worker, messages)) = start() else {
        return;
    };
    let wrong = Job {
        window: 2,
        sink: 2,
        ..job(3)
    };
    assert!(worker.send(Command::Start(wrong)));
    let fault = loop {
        match messages.recv_timeout(Duration::from_secs(60)).unwrap() {
            Message::Fault(fault) => break fault,
            Message::Made(_) => panic!("a window that holds nothing"),
            _ => {}
        }
    };
    assert!(fault.causes[0].contains("window of 2"), "{fault:?}");
    assert!(worker.send(Command::Start(job(1))));
    assert_eq!(made(&messages).first, 0);
}

//! The rollout thread on a device, without a window.

#![expect(clippy::unwrap_used, reason = "what fails here is the test's result")]

use std::time::Duration;

use longtake::cache::Held;
use longtake::decode::Pictures;
use longtake::frame::Frame;
use longtake::gpu::{Device, Purpose, Select};
use longtake_viewer::job::{Job, Width, Widths};
use longtake_viewer::worker::{Command, Made, Message, Worker};

fn start() -> Option<(Worker, std::sync::mpsc::Receiver<Message>)> {
    on_device().map(|(worker, messages, _)| (worker, messages))
}

/// The worker, and the device that it began on.
fn on_device() -> Option<(Worker, std::sync::mpsc::Receiver<Message>, Device)> {
    let select = Select::default();
    match Device::open(&select) {
        Ok(device) => {
            let started = Worker::start(device.clone(), select, None, Box::new(|| {}));
            let (worker, messages) = started.unwrap();
            Some((worker, messages, device))
        }
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
    let (mut at_four, mut held) = (Vec::new(), Vec::new());
    for i in 0..7 {
        let chunk = made(&messages);
        assert_eq!(chunk.first, i);
        if i == 2 {
            // Taken before some later chunk; going back must find the same place again.
            worker.send(Command::Bits(Widths::both(Width::Two)));
        }
        let four = chunk.held.iter().filter(|h| h.bits == Some([4, 4]));
        at_four.extend(four.map(|h| h.frames.clone()));
        held = chunk.held;
        frames.extend(chunk.frames.into_iter().map(|(f, ..)| f));
    }
    next(&messages, |m| matches!(m, Message::Finished).then_some(()));
    let narrowed = |h: &Held| at_four.contains(&h.frames) && h.bits == Some([2, 2]);
    assert!(held.iter().any(narrowed), "packed again: {held:?}");
    assert!(worker.send(Command::BackTo(5, Vec::new())));
    let back = next(&messages, |m| match m {
        Message::WentBack(made, _) => Some(made),
        Message::Again(..) => panic!("spans that were packed again come back in place"),
        _ => None,
    });
    assert_eq!(back, 5);
    for frame in &frames[5..] {
        let again = made(&messages);
        assert_eq!(&again.frames[0].0, frame);
    }
}

#[test]
fn the_pictures_on_the_device_are_the_frames() {
    let Some((worker, messages, device)) = on_device() else {
        return;
    };
    assert!(worker.send(Command::Start(job(2))));
    worker.send(Command::Compare(true));
    let check = |frame: &Frame, pictures: Option<Pictures>| {
        let pictures = pictures.expect("this device lends");
        assert_eq!((pictures.frames, pictures.width), (1, frame.width));
        let words = device.read_all(&pictures.words).unwrap();
        let rows = words.chunks_exact(pictures.row_bytes() as usize / 4);
        let pixels = rows.flat_map(|row| &row[..frame.width as usize]);
        let rgb: Vec<u8> = pixels
            .flat_map(|p| p.to_le_bytes().into_iter().take(3))
            .collect();
        assert_eq!(&rgb, &frame.rgb);
    };
    let (mut own, mut other) = (0, 0);
    while own < 2 || other < 2 {
        match messages.recv_timeout(Duration::from_secs(300)).unwrap() {
            Message::Made(mut chunk) => {
                check(&chunk.frames[0].0, chunk.pictures.take());
                let s = chunk.split;
                assert!(
                    0.0 < s.denoise && 0.0 < s.decode && -1e-6 < s.other(),
                    "{s:?}"
                );
                own += 1;
            }
            Message::Compared(mut chunk) => {
                check(&chunk.frames[0], chunk.pictures.take());
                other += 1;
            }
            Message::Fault(fault) => panic!("{fault:?}"),
            _ => {}
        }
    }
    let ledger = device.ledger();
    assert_eq!(
        ledger.bytes(Purpose::Viewer),
        0,
        "booked while they are held"
    );
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
fn turned_bits_hold_on_the_planned_way() {
    let Some((worker, messages)) = start() else {
        return;
    };
    let camera = longtake::world::camera::parse("right-2,w,left-5").unwrap();
    assert!(worker.send(Command::Start(Job { camera, ..job(8) })));
    made(&messages);
    worker.send(Command::Bits(Widths::both(Width::Two)));
    let mut turned = Vec::new();
    while let Some(widths) = next(&messages, |m| match m {
        Message::Bits(widths, _) => Some(Some(widths)),
        Message::Finished => Some(None),
        _ => None,
    }) {
        turned.push(widths);
    }
    assert_eq!(turned, [Widths::both(Width::Two)]);
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

#[test]
fn a_lost_device_is_opened_again_and_the_film_goes_on_as_it_was() {
    let Some((worker, messages, device)) = on_device() else {
        return;
    };
    assert!(worker.send(Command::Start(job(6))));
    let whole: Vec<Frame> = (0..6).map(|_| made(&messages).frames.remove(0).0).collect();
    next(&messages, |m| matches!(m, Message::Finished).then_some(()));
    assert!(worker.send(Command::Start(job(6))));
    let mut frames = Vec::new();
    for _ in 0..3 {
        frames.push(made(&messages).frames.remove(0).0);
    }
    device.lose();
    let (mut lost, mut opened) = (None, false);
    while frames.len() < 6 {
        match messages.recv_timeout(Duration::from_secs(300)).unwrap() {
            Message::Made(mut chunk) => {
                assert_eq!(chunk.first, frames.len());
                frames.push(chunk.frames.remove(0).0);
            }
            Message::Lost(made) => {
                assert_eq!(made, frames.len(), "what was finished is not lost");
                lost = Some(made);
            }
            Message::Opened(_, new) => {
                assert!(!new.is_lost() && device.is_lost());
                opened = true;
            }
            Message::Fault(fault) => panic!("{fault:?}"),
            _ => {}
        }
    }
    assert!(lost.is_some() && opened);
    assert!(frames == whole, "the same film");
}

#[test]
fn a_way_that_was_left_is_taken_again_byte_for_byte() {
    let Some((worker, messages)) = start() else {
        return;
    };
    assert!(worker.send(Command::Start(job(6))));
    let (mut take, mut turned) = (Vec::new(), 0);
    while take.len() < 6 {
        match messages.recv_timeout(Duration::from_secs(300)).unwrap() {
            Message::Made(chunk) => {
                take.extend(chunk.frames);
                if take.len() == 3 {
                    worker.send(Command::Bits(Widths::both(Width::Two)));
                }
            }
            Message::Bits(_, at) => turned = at,
            Message::Fault(fault) => panic!("{fault:?}"),
            _ => {}
        }
    }
    next(&messages, |m| matches!(m, Message::Finished).then_some(()));
    assert!((3..6).contains(&turned), "{turned}");
    let back = |lead| {
        worker.send(Command::BackTo(2, lead));
        next(&messages, |m| {
            matches!(m, Message::WentBack(2, _)).then_some(())
        });
    };
    // Another way in its place, at other widths.
    let steering = |on| {
        let order = std::sync::atomic::Ordering::Relaxed;
        worker.reins.steering.store(on, order);
    };
    let turn = match take[2].2.to_string().as_str() {
        "right" => 4,
        _ => 5,
    };
    steering(true);
    worker.reins.key(turn, true);
    back(Vec::new());
    assert_ne!(made(&messages).frames[0].2, take[2].2);
    steering(false);
    worker.reins.release();
    let widths = |i: usize| Widths::both(if i < turned { Width::Four } else { Width::Two });
    let lead = take.iter().enumerate().skip(2);
    back(lead.map(|(i, (_, _, step))| (*step, widths(i))).collect());
    for (i, (frame, pose, step)) in take.iter().enumerate().skip(2) {
        let again = made(&messages);
        assert_eq!(
            (again.first, again.frames[0].1, again.frames[0].2),
            (i, *pose, *step)
        );
        assert!(&again.frames[0].0 == frame, "frame {i}");
    }
}

#[test]
fn the_film_in_half_floats_catches_up_and_is_the_film_where_nothing_is_coded() {
    let Some((worker, messages)) = start() else {
        return;
    };
    let exact = Job {
        widths: Widths::both(Width::Exact),
        ..job(5)
    };
    assert!(worker.send(Command::Start(exact)));
    let mut own = vec![made(&messages).frames.remove(0).0];
    worker.send(Command::Compare(true));
    let mut other = Vec::new();
    let mut bytes = (0, 0);
    while other.len() < 5 {
        match messages.recv_timeout(Duration::from_secs(300)).unwrap() {
            Message::Made(mut chunk) => {
                if chunk.other > 0 {
                    // What both hold is on one device, and nothing is counted twice.
                    let m = &chunk.memory;
                    let parts = m.weights_bytes
                        + m.cache_bytes
                        + m.spans_bytes
                        + m.activations_bytes
                        + m.scratch_bytes
                        + m.viewer_bytes;
                    assert_eq!(parts + chunk.other, m.device_bytes);
                    bytes = (m.weights_bytes, chunk.other);
                }
                own.push(chunk.frames.remove(0).0);
            }
            Message::Compared(chunk) => {
                assert_eq!(chunk.first, other.len());
                other.extend(chunk.frames);
            }
            Message::Fault(fault) => panic!("{fault:?}"),
            _ => {}
        }
    }
    assert!(own == other, "same seed, same way, same cache: same bytes");
    assert!(bytes.0 > 0 && bytes.1 > bytes.0, "{bytes:?}");
}

#[test]
fn errors_are_measured_while_they_are_asked_for() {
    let Some((worker, messages)) = start() else {
        return;
    };
    assert!(worker.send(Command::Measure(true)));
    assert!(worker.send(Command::Start(job(6))));
    let errors = made(&messages).errors.expect("it was asked for");
    assert!(errors.measured > 0 && errors.measured == errors.spans);
    let small = |e: &f64| 0.0 < *e && *e < 0.5;
    assert!(!errors.by_layer.is_empty(), "{errors:?}");
    assert!(errors.by_layer.iter().flatten().all(small), "{errors:?}");
    assert!(worker.send(Command::Measure(false)));
    let ends = |m| match m {
        Message::Made(made) => made.errors.is_none().then_some(()),
        Message::Finished => panic!("it goes on after it was asked to end"),
        _ => None,
    };
    next(&messages, ends);
}

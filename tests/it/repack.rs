//! Spans coded again, narrower: what the twin makes of the decoded rows, fewer bytes, and a film that goes on.

use longtake::cache::{Policy, Window};
use longtake::codec::{KvPair, SpanShape};
use longtake::dump::{CodedLayer, Queries, Rows};
use longtake::gpu::{Device, TierRequest};
use longtake::rollout::event::Event;
use longtake::rollout::{Coded, Config};

use crate::support::{self, bits};
use crate::undo::{self, Rig};

const SPAN: usize = 3;

fn policy(window: Option<usize>) -> Policy {
    Policy {
        window: Window {
            frames: window,
            sink: window.map_or(0, |_| 1),
        },
        span_chunks: SPAN,
        recent_chunks: 0,
        exact_sink: 1,
        ..Policy::default()
    }
}

/// K and V of a span's frames of one layer as the encoder takes them, `[head, token, head_dim]`.
fn rows(rig: &Rig, layer: usize, frames: std::ops::Range<i64>) -> Rows {
    let tokens = rig.shape.tokens_per_frame();
    let shape = SpanShape {
        n_heads: rig.shape.n_heads,
        head_dim: rig.shape.split.head_dim(),
        tokens: tokens * frames.clone().count(),
    };
    let mut kv = [Vec::new(), Vec::new()];
    let read = |f| rig.cache.read_frame(&rig.device, layer, f).unwrap();
    let all: Vec<_> = frames.map(read).collect();
    for head in 0..shape.n_heads {
        for (k, v) in &all {
            for (to, from) in kv.iter_mut().zip([k, v]) {
                let of_head = from.chunks(shape.head_dim).skip(head);
                to.extend(of_head.step_by(shape.n_heads).flatten());
            }
        }
    }
    let [k, v] = kv;
    Rows {
        shape,
        k,
        v,
        queries: Queries {
            rows: Vec::new(),
            n: 0,
            are_keys: true,
        },
    }
}

/// The same after the twin coded them and decoded them again.
fn coded_by_the_twin(pair: &KvPair, rows: &Rows) -> [Vec<f32>; 2] {
    let all = 0..rows.shape.tokens;
    let cuts = std::slice::from_ref(&all);
    let coded = CodedLayer::encode(&Device::twin(), pair, rows, cuts).unwrap();
    let span = &coded.spans[0];
    [0, 1].map(|i| {
        let l = &span.layouts[i];
        let places = (0..l.n_heads).flat_map(|h| (0..l.tokens).map(move |t| (h, t)));
        places
            .flat_map(|(h, t)| l.row(&span.words[i], h, t))
            .collect()
    })
}

#[test]
fn a_repacked_span_is_what_the_twin_makes_of_the_decoded_one() {
    let twin = Device::twin();
    for device in support::device().into_iter().chain([&twin]) {
        for (wide, narrow) in [
            ("int8", "int2"),
            ("int4", "kivi-int2"),
            ("qvg-int4", "int3"),
            ("int4:fine=0", "int2:fine=0"),
        ] {
            let mut rig = Rig::new(device, policy(None), wide, 14);
            (0..14).for_each(|f| rig.frame(f));
            assert_eq!(
                rig.cache.repack(device).unwrap(),
                None,
                "nothing narrower is asked for"
            );
            let pair = undo::pair(narrow);
            rig.cache.set_codecs(pair.clone()).unwrap();
            let n = rig.cache.wider_spans();
            assert_eq!(n, 4);
            for left in (0..n).rev() {
                let spans: Vec<_> = rig.cache.residency().spans().to_vec();
                let before: Vec<_> = spans
                    .iter()
                    .map(|s| [0, 1].map(|l| rows(&rig, l, s.clone())))
                    .collect();
                let done = rig.cache.repack(device).unwrap().unwrap();
                assert_eq!(rig.cache.wider_spans(), left);
                assert!(done.bytes < done.bytes_before, "{done:?}");
                for (span, before) in spans.iter().zip(&before) {
                    for layer in [0, 1] {
                        let after = rows(&rig, layer, span.clone());
                        let want = match *span == done.frames {
                            true => coded_by_the_twin(&pair.layer(layer), &before[layer]),
                            false => [before[layer].k.clone(), before[layer].v.clone()],
                        };
                        let same = (bits(after.k), bits(after.v))
                            == (bits(want[0].clone()), bits(want[1].clone()));
                        assert!(same, "{wide} to {narrow}, {span:?} layer {layer}");
                    }
                }
            }
            assert_eq!(rig.cache.repack(device).unwrap(), None);
            // Wider is no way back: what is lost is lost.
            rig.cache.set_codecs(undo::pair(wide)).unwrap();
            assert_eq!(
                (rig.cache.wider_spans(), rig.cache.repack(device).unwrap()),
                (0, None)
            );
        }
    }
}

#[test]
fn bytes_fall_page_by_page_and_come_back_with_the_undo() {
    for window in [None, Some(13)] {
        let mut rig = Rig::new(&Device::twin(), policy(window), "int8", 40);
        rig.cache.keep_undo(1 << 30);
        (0..31).for_each(|f| rig.frame(f));
        let before = rig.state();
        rig.cache
            .set_codecs(KvPair::of("int2", "int4").unwrap())
            .unwrap();
        let (mut held, mut gone) = (vec![rig.cache.bytes()], 0);
        for frame in 31..40 {
            // One more wide span is never coded: what comes now is narrow already.
            while let Some(done) = rig.cache.repack(&rig.device).unwrap() {
                assert_eq!(done.bits, [2, 4]);
                gone += u32::from(rig.cache.bytes() < *held.last().unwrap());
                held.push(rig.cache.bytes());
            }
            rig.frame(frame);
        }
        assert!(gone > 0, "{held:?}");
        let last = held[held.len() - 1];
        assert!(last < held[0], "{held:?}");
        let figures = rig.cache.figures();
        let sum = figures.exact_bytes + figures.coded_bytes + figures.unused_bytes;
        assert_eq!(sum, rig.cache.bytes());
        // 8 bits and tables against 3 on average.
        assert!(
            2 * figures.coded_bytes < figures.coded_frames * held[0],
            "{figures:?}"
        );
        let after = rig.state();
        assert!(rig.cache.back_before(&rig.device, 31).unwrap());
        assert!(rig.state() == before, "window {window:?}");
        rig.cache
            .set_codecs(KvPair::of("int2", "int4").unwrap())
            .unwrap();
        for frame in 31..40 {
            while rig.cache.repack(&rig.device).unwrap().is_some() {}
            rig.frame(frame);
        }
        assert!(rig.state() == after, "the same again, window {window:?}");
    }
}

#[test]
fn spans_of_which_one_tensor_would_get_wider_are_kept_and_equal_ones_are_moved() {
    let twin = Device::twin();
    let mut rig = Rig::new(&twin, policy(None), "int4", 8);
    (0..8).for_each(|f| rig.frame(f));
    rig.cache
        .set_codecs(KvPair::of("int2", "int8").unwrap())
        .unwrap();
    assert_eq!(rig.cache.repack(&twin).unwrap(), None);
    rig.cache
        .set_codecs(KvPair::of("int2", "int4").unwrap())
        .unwrap();
    let first = rig.cache.residency().spans()[0].clone();
    let before = rows(&rig, 1, first.clone());
    assert!(rig.cache.repack(&twin).unwrap().is_some());
    let after = rows(&rig, 1, first);
    assert!(
        bits(after.v) == bits(before.v),
        "values of the same setting are moved, not coded twice"
    );
    assert!(bits(after.k) != bits(before.k));
}

#[test]
fn errors_of_spans_are_those_of_their_decoded_rows() {
    let twin = Device::twin();
    for device in support::device().into_iter().chain([&twin]) {
        let mut rig = Rig::new(device, policy(None), "int4", 8);
        rig.frame(0);
        let held = device.ledger().total();
        rig.cache.measure_errors(device, true).unwrap();
        assert!(device.ledger().total() > held, "what it takes is booked");
        let mut exact = Vec::new();
        for frame in 1..4 {
            rig.frame(frame);
        }
        exact.extend([0, 1].map(|layer| rows(&rig, layer, 1..4)));
        rig.frame(4);
        let errors = rig.cache.span_errors();
        assert_eq!(
            (errors.len(), &errors[0].frames, errors[0].bits),
            (1, &(1..4), [4, 4])
        );
        let by_layer = errors[0].by_layer.clone().unwrap();
        for (layer, exact) in exact.iter().enumerate() {
            let coded = rows(&rig, layer, 1..4);
            for (is_v, (a, b)) in [(&coded.k, &exact.k), (&coded.v, &exact.v)]
                .into_iter()
                .enumerate()
            {
                let square = |(a, b): (&f32, &f32)| f64::from(a - b).powi(2);
                let error = a.iter().zip(b).map(square).sum::<f64>();
                let size = b.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
                let (want, got) = ((error / size).sqrt(), by_layer[layer][is_v]);
                assert!(
                    (got / want - 1.0).abs() < 1e-4,
                    "layer {layer}: {got} for {want}"
                );
                assert!(0.01 < got && got < 0.2, "int4: {got}");
            }
        }
        // Of a span that was coded again only the way from its first codes is known.
        rig.cache
            .set_codecs(KvPair::of("int2", "int2").unwrap())
            .unwrap();
        rig.cache.repack(device).unwrap().unwrap();
        let errors = rig.cache.span_errors();
        assert_eq!((errors[0].bits, &errors[0].by_layer), ([2, 2], &None));
        rig.cache.measure_errors(device, false).unwrap();
        (5..8).for_each(|f| rig.frame(f));
        assert!(rig.cache.span_errors().iter().all(|e| e.by_layer.is_none()));
    }
}

#[test]
fn a_film_goes_on_over_repacked_spans() {
    let Some(device) = support::open(TierRequest::Best) else {
        return;
    };
    let config = Config {
        coded: Some(Coded {
            span: Some(2),
            ..Coded::new(KvPair::of("int8", "int8").unwrap())
        }),
        undo_bytes: 64 << 20,
        ..Config::default()
    };
    let (mut session, way) = undo::begin(&device, &config);
    undo::go(&mut session, &way[..4]);
    assert!(!session.repack_span(&mut |_| {}).unwrap());
    session
        .set_codecs(KvPair::of("int2", "int2").unwrap())
        .unwrap();
    let (wide, before) = (session.wider_spans(), session.memory());
    assert!(wide > 0);
    let mut heard = Vec::new();
    while session.repack_span(&mut |e| heard.push(e)).unwrap() {}
    let left = heard.iter().filter_map(|e| match e {
        Event::SpanRepacked {
            spans_left, bits, ..
        } => Some((*spans_left, *bits)),
        _ => None,
    });
    let want: Vec<_> = (0..wide as u32).rev().map(|n| (n, [2, 2])).collect();
    assert_eq!(left.collect::<Vec<_>>(), want);
    let after = session.memory();
    assert!(
        2 * after.spans_bytes < before.spans_bytes,
        "{before:?} then {after:?}"
    );
    let kv = session.kv();
    let held = after.cache_bytes + after.spans_bytes;
    assert_eq!(kv.exact_bytes + kv.coded_bytes + kv.unused_bytes, held);
    assert!(
        session
            .held()
            .iter()
            .all(|h| h.bits.is_none_or(|b| b == [2, 2]))
    );
    let on = undo::go(&mut session, &way[4..6]);
    // Undone and done again, re-packing too: the same bytes.
    session.back_to(4, &mut |_| {}).unwrap();
    assert_eq!(session.memory().spans_bytes, before.spans_bytes);
    session
        .set_codecs(KvPair::of("int2", "int2").unwrap())
        .unwrap();
    while session.repack_span(&mut |_| {}).unwrap() {}
    assert_eq!(undo::go(&mut session, &way[4..6]), on);
}

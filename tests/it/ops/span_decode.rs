//! Rows of a coded span against what its words mean, bit for bit: decoded rows are coded again, and codes must not depend on the
//! device.

use std::collections::BTreeSet;

use longtake::gpu::{Device, Purpose};
use longtake::ops::{Coding, SpanLayout, SpanPlace, sample_codings, span_decode};

use super::attention_coded::words;
use crate::support::{Out, bits, gpus, run};

const HEADS: usize = 3;
const TOKENS: usize = 27;

fn check(device: &Device, coding: Coding, head_dim: usize) {
    let l = SpanLayout::new(coding, HEADS, head_dim, TOKENS, 5);
    let host = words(300, &l);
    let page = device.upload(Purpose::Spans, "spans", &host).unwrap();
    // The second span of the page, all heads but the first.
    let (base, first_head) = (l.words, 1);
    let n = (HEADS - first_head) * TOKENS * head_dim;
    let out = Out::unwritten(device, n);
    let span = SpanPlace {
        words: &page,
        base,
        layout: l,
    };
    run(device, |rec| {
        span_decode(rec, span, (first_head, HEADS - first_head), &out.buffer);
    });
    let rows = (first_head..HEADS).flat_map(|h| (0..TOKENS).map(move |t| (h, t)));
    let want: Vec<f32> = rows.flat_map(|(h, t)| l.row(&host[base..], h, t)).collect();
    let (got, want) = (bits(out.read(device)), bits(want));
    let off = got.iter().zip(&want).position(|(g, w)| g != w);
    assert_eq!(off, None, "a value differs: {l:?}");
}

#[test]
fn every_sample_coding_is_decoded_to_the_bit() {
    let all: BTreeSet<String> = sample_codings()
        .iter()
        .flat_map(|(k, v, _)| [k, v])
        .map(|c| serde_json::to_string(c).unwrap())
        .collect();
    let twin = Device::twin();
    for device in gpus().iter().map(|g| &g.device).chain([&twin]) {
        for text in &all {
            check(device, serde_json::from_str(text).unwrap(), 64);
        }
        for (head_dim, at) in [(32, 0), (128, 4), (256, 0)] {
            let (coding, ..) = sample_codings()[at];
            let block = match coding.axis {
                longtake::ops::Axis::Token => coding.block.min(head_dim),
                longtake::ops::Axis::Channel => coding.block,
            };
            check(device, Coding { block, ..coding }, head_dim);
        }
    }
}

//! Attention over coded spans: every coding, its words made up, read in place by the kernels and row by row by the twin.

use half::f16;
use longtake::gpu::{Device, Purpose};
use longtake::ops::{
    Attention, Axis, BiasFix, Coding, FramePlace, Grid, KvFormat, Positions, RopeSplit, Rows,
    ScaleFormat, Segment, SpanLayout, attention, sample_codings,
};

use crate::support::{Out, Tol, check_twin, hash, input, run, values};

const HEADS: usize = 3;
const SLOTS: usize = 3;
/// Patches of a frame, and frames of a span: rows are no multiple of four.
const GRID: (usize, usize) = (3, 3);
const FRAMES: usize = 3;

/// Words of `SLOTS` spans: codes at random, scales and tables of a size that keys and values have.
pub(super) fn words(seed: u64, l: &SpanLayout) -> Vec<u32> {
    let c = l.coding;
    let mut out = Vec::new();
    for slot in 0..SLOTS as u64 {
        let random = |i: usize| hash(seed + 31 * slot, i as u64);
        let unit = |i: usize| values(random(i), 1)[0];
        let small = |i: usize| u32::from(f16::from_f32(unit(i)).to_bits());
        let mut span = vec![0u32; l.words];
        for (i, w) in span[..l.scales_at].iter_mut().enumerate() {
            *w = match c.is_quantized() {
                true => random(i) as u32,
                false => small(2 * i) | small(2 * i + 1) << 16,
            };
        }
        let scale = |i: usize| 0.05 + 0.3 * unit(i).abs();
        for (i, w) in (l.scales_at..).zip(&mut span[l.scales_at..l.ids_at]) {
            *w = match c.scales {
                // Steps of 0.04 to 0.4; any byte is a zero, but for the two that are no number.
                ScaleFormat::E4m3 => (0..4).fold(0, |w, k| {
                    let r = random(9 * i + k) as u32;
                    let flag = if c.grid == Grid::Dual { r & 128 } else { 0 };
                    w | ((0x1a + r % 26) | flag) << (8 * k)
                }),
                ScaleFormat::F16 => {
                    let zero = if c.grid == Grid::ZeroPoint {
                        2.0
                    } else {
                        unit(3 * i)
                    };
                    u32::from(f16::from_f32(scale(i)).to_bits())
                        | u32::from(f16::from_f32(zero).to_bits()) << 16
                }
                ScaleFormat::F32 if (i - l.scales_at).is_multiple_of(2) => scale(i).to_bits(),
                ScaleFormat::F32 => unit(i).to_bits(),
            };
        }
        for (i, w) in (l.ids_at..).zip(&mut span[l.ids_at..l.cents_at]) {
            *w = (0..4).fold(0, |w, k| {
                w | (random(5 * i + k) as u32 % l.n_centroids as u32) << (8 * k)
            });
        }
        for (i, w) in (l.cents_at..).zip(&mut span[l.cents_at..l.heads_at]) {
            let bf16 = |v: f32| v.to_bits() >> 16;
            *w = bf16(unit(2 * i)) | bf16(unit(2 * i + 1)) << 16;
        }
        let table = 1 + c.gains(l.head_dim);
        for (i, w) in span[l.heads_at..].iter_mut().enumerate() {
            let is_guard = i.is_multiple_of(table);
            *w = if is_guard { 2.0 } else { 0.2 * unit(i) }.to_bits();
        }
        out.extend(span);
    }
    out
}

fn check(head_dim: usize, k: Coding, v: Coding, bias: BiasFix) {
    let tokens = GRID.0 * GRID.1;
    let layout = |c: Coding| SpanLayout::new(c, HEADS, head_dim, FRAMES * tokens, 5);
    let (lk, lv) = (layout(k), layout(v));
    // Two of the spans, one of them without its first frame; then an exact page: all one softmax.
    let places: Vec<FramePlace> = [(2, 0, 4), (2, 1, 5), (2, 2, 6), (0, 1, 8), (0, 2, 9)]
        .into_iter()
        .map(|(slot, frame, id)| FramePlace {
            frame: id,
            slot,
            row: frame * tokens as u32,
        })
        .collect();
    let split = RopeSplit::wan(head_dim);
    let width = HEADS * head_dim;
    let n_queries = 50;
    let ops = |device: &Device| {
        let size = 6.0 / (head_dim as f32).sqrt();
        let q: Vec<f32> = values(7, n_queries * width)
            .iter()
            .map(|v| size * v)
            .collect();
        let q = input(device, &q);
        let upload = |words: &[u32]| device.upload(Purpose::Spans, "spans", words).unwrap();
        let spans = [upload(&words(100, &lk)), upload(&words(200, &lv))];
        let exact = [11, 12].map(|s| upload(&KvFormat::F16.pack(&values(s, tokens * width))));
        let table = || Positions::new(device, split, 1e4, GRID.0, GRID.1).unwrap();
        let (mut coded, mut plain) = (table(), table());
        coded.set_places(device, &places);
        plain.set_frames(device, &[(10, 0)]);
        let rows = Rows::Coded { k: lk, v: lv, bias };
        let pages = [
            (&spans, rows, &coded),
            (&exact, Rows::Plain(KvFormat::F16), &plain),
        ];
        let segments = pages.map(|(kv, rows, positions)| Segment {
            k: &kv[0],
            v: &kv[1],
            rows,
            positions,
            rope: true,
            tokens_per_frame: tokens,
        });
        let out = Out::unwritten(device, n_queries * width);
        let state = Out::unwritten(device, n_queries * HEADS * 2);
        let args = Attention {
            q: &q,
            q_stride: width,
            n_queries,
            n_heads: HEADS,
            segments: &segments,
            out: &out.buffer,
            state: &state.buffer,
        };
        run(device, |rec| attention(rec, &args));
        state.read(device);
        vec![out.read(device)]
    };
    // As over exact pages, with larger scores: rows here are sums of codes and centroids.
    let t = Tol::sums(head_dim);
    let tol = Tol {
        nmse: 256.0 * t.nmse,
        max: 16.0 * t.max,
    };
    check_twin(&format!("{head_dim} {k:?} {v:?} {bias:?}"), tol, ops);
}

#[test]
fn every_sample_coding_is_read_in_place() {
    for (k, v, bias) in sample_codings() {
        check(64, k, v, bias);
    }
}

#[test]
fn codings_are_read_in_place_in_heads_of_other_widths() {
    let samples = sample_codings();
    // Compiling is what takes time here: the plainest, the one by channel, and ours.
    for (head_dim, some) in [(32, &[0][..]), (128, &[4, 10]), (256, &[0])] {
        for (k, v, bias) in some.iter().map(|i| &samples[*i]) {
            let fit = |c: &Coding| Coding {
                block: match c.axis {
                    Axis::Token => c.block.min(head_dim),
                    Axis::Channel => c.block,
                },
                ..*c
            };
            check(head_dim, fit(k), fit(v), *bias);
        }
    }
}

#[test]
fn named_settings_are_among_the_samples() {
    for name in longtake::codec::NAMES {
        let pair = longtake::codec::KvPair::of(name, name).unwrap();
        let codings = (pair.k.coding(64), pair.v.coding(64), pair.bias);
        assert!(sample_codings().contains(&codings), "{name}: {codings:?}");
    }
}

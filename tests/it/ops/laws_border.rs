//! A law of the border of the codec: whatever bits a page holds, what is no number becomes 0 and is counted, all else stays.

use longtake::gpu::{Device, Purpose};
use longtake::ops::{KvFormat, SpanGather, span_gather};
use proptest::prelude::*;

use super::properties::config;
use crate::support::{Out, gpus, run};

const HEAD_DIM: usize = 8;

/// Words of any bits; every format's infinities and NaNs, quiet and signalling, more often than they come by chance.
fn words(n: usize) -> impl Strategy<Value = Vec<u32>> {
    let one = prop_oneof![
        any::<u32>(),
        Just(0x7f80_0000u32),
        Just(0xff80_0001),
        Just(0x7fc0_0000),
        Just(0x7c00_3c00),
        Just(0xfe01_fc00),
        Just(0x3f80_0000),
        Just(0x8000_0000),
    ];
    proptest::collection::vec(one, n)
}

/// (rows, heads, words of a page in f32)
fn pages() -> impl Strategy<Value = (usize, usize, Vec<u32>)> {
    (1usize..20, 1usize..4)
        .prop_flat_map(|(rows, heads)| (Just(rows), Just(heads), words(rows * heads * HEAD_DIM)))
}

fn gathered(
    d: &Device,
    format: KvFormat,
    rows: usize,
    heads: usize,
    words: &[u32],
) -> (Vec<f32>, Vec<u32>) {
    let page = &words[..format.words(rows * heads * HEAD_DIM)];
    let page = d.upload(Purpose::Cache, "page", page).unwrap();
    let x = Out::unwritten(d, heads * rows * HEAD_DIM);
    let counters = Out::holding(d, &[5u32, 0, 5]);
    let args = SpanGather {
        page: &page,
        format,
        src_row: 0,
        n_rows: rows,
        heads_in_page: heads,
        first_head: 0,
        n_heads: heads,
        head_dim: HEAD_DIM,
        x: &x.buffer,
        dst_rows: rows,
        dst_row: 0,
        not_numbers: &counters.buffer,
        counter: 1,
    };
    run(d, |rec| span_gather(rec, &args));
    (x.read(d), counters.read(d))
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn what_is_no_number_becomes_zero_and_is_counted((rows, heads, words) in pages()) {
        for format in KvFormat::ALL {
            let floats = format.unpack(&words[..format.words(rows * heads * HEAD_DIM)]);
            let at = |head: usize, row: usize| (row * heads + head) * HEAD_DIM;
            let order = (0..heads).flat_map(|h| (0..rows).flat_map(move |r| (0..HEAD_DIM).map(move |c| at(h, r) + c)));
            let want: Vec<f32> = order.map(|i| floats[i]).collect();
            let bad = want.chunks_exact(4).filter(|quad| quad.iter().any(|v| !v.is_finite())).count();
            // A subnormal of its format may be read as 0.
            let least = if format == KvFormat::F16 { 6.2e-5 } else { f32::MIN_POSITIVE };
            for (device, label) in gpus().iter().map(|g| (&g.device, g.label)).chain([(&Device::twin(), "twin")]) {
                let (x, counters) = gathered(device, format, rows, heads, &words);
                prop_assert_eq!(&counters, &[5, bad as u32, 5], "{:?} on {}", format, label);
                for (i, (got, want)) in x.iter().zip(&want).enumerate() {
                    let want = if want.is_finite() { *want } else { 0.0 };
                    let is_kept = got.to_bits() == want.to_bits() || (want.abs() < least && *got == 0.0);
                    prop_assert!(is_kept, "value {} in {:?} on {}: {:?} for {:?}", i, format, label, got, want);
                }
            }
        }
    }
}

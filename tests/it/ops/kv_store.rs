use longtake::ops::{KvFormat, KvStore, kv_store};

use crate::support::{Out, check_twin_bits, hostile, input, run};

struct Case {
    n_rows: usize,
    channels: usize,
    src_stride: usize,
    at: (usize, usize),
    src_row: usize,
    dst_row: usize,
}

const CASES: [Case; 3] = [
    Case {
        n_rows: 1,
        channels: 4,
        src_stride: 8,
        at: (0, 4),
        src_row: 0,
        dst_row: 0,
    },
    // K and V of a fused projection, into the middle of a page.
    Case {
        n_rows: 17,
        channels: 64,
        src_stride: 192,
        at: (64, 128),
        src_row: 3,
        dst_row: 5,
    },
    Case {
        n_rows: 48,
        channels: 36,
        src_stride: 80,
        at: (40, 0),
        src_row: 0,
        dst_row: 48,
    },
];

/// Packing rounds to nearest even in the twin; WGSL leaves a half's rounding to the driver, but every driver met so far
/// rounds alike, and codes that differ between devices are worth hearing about: bits must agree.
#[test]
fn kv_store_equals_twin_in_every_bit() {
    for format in KvFormat::ALL {
        for c in &CASES {
            let mut x = hostile(9, (c.src_row + c.n_rows) * c.src_stride);
            if format == KvFormat::F16 {
                // Below 2^-24 a driver may flush: what is left of such a value is its sign.
                x.iter_mut()
                    .filter(|v| v.abs() < 6.2e-5)
                    .for_each(|v| *v = 0.0);
            }
            let page = (c.dst_row + c.n_rows + 2) * c.channels;
            check_twin_bits(
                &format!("{format:?}, {} rows of {}", c.n_rows, c.channels),
                |device| {
                    let src = input(device, &x);
                    let blank: Vec<u32> = (0..format.words(page) as u32)
                        .map(|i| 0xdead_0000 + i)
                        .collect();
                    let (k, v) = (Out::holding(device, &blank), Out::holding(device, &blank));
                    let store = KvStore {
                        k_src: &src,
                        v_src: &src,
                        at: c.at,
                        src_stride: c.src_stride,
                        src_row: c.src_row,
                        n_rows: c.n_rows,
                        channels: c.channels,
                        k: &k.buffer,
                        v: &v.buffer,
                        dst_row: c.dst_row,
                        format,
                    };
                    run(device, |rec| kv_store(rec, &store));
                    vec![k.read(device), v.read(device)]
                },
            );
        }
    }
}

#[test]
fn small_halves_keep_their_size() {
    for gpu in crate::support::gpus() {
        let d = &gpu.device;
        let src = input(d, &[3e-5, -4e-6, 6e-8, 1e-9]);
        let (k, v) = (Out::<u32>::unwritten(d, 2), Out::<u32>::unwritten(d, 2));
        let store = KvStore {
            k_src: &src,
            v_src: &src,
            at: (0, 0),
            src_stride: 4,
            src_row: 0,
            n_rows: 1,
            channels: 4,
            k: &k.buffer,
            v: &v.buffer,
            dst_row: 0,
            format: KvFormat::F16,
        };
        run(d, |rec| kv_store(rec, &store));
        // Denormal halves are steps of 6e-8, or zero where a driver flushes them.
        for (got, want) in KvFormat::F16
            .unpack(&k.read(d))
            .iter()
            .zip([3e-5, -4e-6, 6e-8, 0.0f32])
        {
            assert!(
                (got - want).abs() <= 6e-8 || *got == 0.0,
                "{}: {got} for {want}",
                gpu.label
            );
        }
    }
}

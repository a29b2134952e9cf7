use longtake::gpu::{Device, Purpose};
use longtake::ops::{KvFormat, KvMix, kv_mix};

use crate::support::{Out, Tol, check_twin, check_twin_bits, hostile, run, values};

/// (values, place in x, place in y): one quad, edges of a workgroup of 64 quads, the middle of a page.
const CASES: [(usize, usize, usize); 4] = [(4, 0, 0), (256, 8, 4), (260, 4, 0), (1000, 516, 64)];

fn mixed(
    format: KvFormat,
    c: (usize, usize, usize),
    shares: (f32, f32),
    device: &Device,
    x: &[f32],
    y: &[f32],
) -> Vec<u32> {
    let (n, x_at, y_at) = c;
    let page = Out::holding(device, &format.pack(x));
    let other = device
        .upload(Purpose::Cache, "page", &format.pack(y))
        .unwrap();
    run(device, |rec| {
        kv_mix(
            rec,
            &KvMix {
                x: &page.buffer,
                x_at,
                y: &other,
                y_at,
                n,
                a: shares.0,
                b: shares.1,
                format,
            },
        );
    });
    page.read(device)
}

#[test]
fn kv_mix_equals_twin_and_touches_nothing_else() {
    for format in KvFormat::ALL {
        // A result next to the middle of two halves may fall to either side.
        let tol = match format {
            KvFormat::F32 => Tol::ELEMENTWISE,
            KvFormat::F16 => Tol {
                nmse: 1e-7,
                max: 1e-3,
            },
            KvFormat::Bf16 => Tol {
                nmse: 1e-5,
                max: 8e-3,
            },
        };
        for c in CASES {
            let (x, y) = (values(1, c.0 + c.1 + 40), values(2, c.0 + c.2 + 8));
            check_twin(&format!("{format:?}, {c:?}"), tol, |device| {
                let all = mixed(format, c, (0.999, 0.001), device, &x, &y);
                let (before, behind) = (format.words(c.1), format.words(c.1 + c.0));
                let was = format.pack(&x);
                assert_eq!(all[..before], was[..before]);
                assert_eq!(all[behind..], was[behind..]);
                vec![format.unpack(&all)]
            });
        }
    }
}

#[test]
fn kv_mix_with_zero_and_one_copies() {
    for format in KvFormat::ALL {
        let c = CASES[3];
        // Denormals may be flushed on the way.
        let y: Vec<f32> = hostile(3, c.0 + c.2)
            .into_iter()
            .map(|v| if v.abs() < 6.2e-5 { 0.0 } else { v })
            .collect();
        let x = values(4, c.0 + c.1);
        check_twin_bits(&format!("{format:?}"), |device| {
            let all = mixed(format, c, (0.0, 1.0), device, &x, &y);
            let copied = format.unpack(&all[format.words(c.1)..]);
            let wanted = format.unpack(&format.pack(&y)[format.words(c.2)..]);
            assert_eq!(copied, wanted);
            vec![all]
        });
    }
}

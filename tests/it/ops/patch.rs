use longtake::ops::{Patches, patchify, unpatchify};

use crate::support::{Out, bits, check_twin_bits, hostile, input, run};

const CASES: [Patches; 4] = [
    Patches {
        n_frames: 1,
        channels: 1,
        grid: (1, 1),
        patch: (1, 1),
        token_stride: 4,
    },
    Patches {
        n_frames: 3,
        channels: 16,
        grid: (6, 8),
        patch: (2, 2),
        token_stride: 64,
    },
    Patches {
        n_frames: 2,
        channels: 3,
        grid: (5, 7),
        patch: (2, 1),
        token_stride: 8,
    },
    Patches {
        n_frames: 1,
        channels: 12,
        grid: (6, 8),
        patch: (1, 3),
        token_stride: 36,
    },
];

#[test]
fn patchify_equals_twin() {
    for p in CASES {
        let n_tokens = p.n_frames * p.grid.0 * p.grid.1;
        let x = hostile(1, p.channels * n_tokens * p.patch.0 * p.patch.1);
        check_twin_bits(&format!("{p:?}"), |device| {
            let (x, tokens) = (
                input(device, &x),
                Out::unwritten(device, n_tokens * p.token_stride),
            );
            run(device, |rec| patchify(rec, &x, &tokens.buffer, &p));
            vec![bits(tokens.read(device))]
        });
    }
}

#[test]
fn unpatchify_equals_twin() {
    for p in CASES {
        let n_tokens = p.n_frames * p.grid.0 * p.grid.1;
        let tokens = hostile(2, n_tokens * p.token_stride);
        check_twin_bits(&format!("{p:?}"), |device| {
            let (tokens, x) = (
                input(device, &tokens),
                Out::unwritten(device, p.channels * n_tokens * p.patch.0 * p.patch.1),
            );
            run(device, |rec| unpatchify(rec, &tokens, &x.buffer, &p));
            vec![bits(x.read(device))]
        });
    }
}

/// By hand: two channels, a 2 x 2 picture, one patch.
#[test]
fn patches_are_channel_first_when_cut_and_channel_last_when_put_back() {
    let p = Patches {
        n_frames: 1,
        channels: 2,
        grid: (1, 1),
        patch: (2, 2),
        token_stride: 8,
    };
    let device = longtake::gpu::Device::twin();
    let x = input(&device, &[0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0]);
    let tokens = input(&device, &[0.0; 8]);
    run(&device, |rec| patchify(rec, &x, &tokens, &p));
    assert_eq!(
        device.read_all(&tokens).unwrap(),
        [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0]
    );
    let tokens = input(&device, &[0.0, 10.0, 1.0, 11.0, 2.0, 12.0, 3.0, 13.0]);
    let back = input(&device, &[0.0; 8]);
    run(&device, |rec| unpatchify(rec, &tokens, &back, &p));
    assert_eq!(
        device.read_all(&back).unwrap(),
        device.read_all(&x).unwrap()
    );
}

use longtake::ops::{Pixels, rgba};

use crate::support::{Out, check_twin_bits, input, run, values};

/// Values near whole levels, so that a fused multiply-add decides none of them, and some that are cut.
fn near_levels(n: usize) -> Vec<f32> {
    let near = |(i, v): (usize, &f32)| match i % 17 {
        0 => 3.0 * v,
        _ => ((i * 89 % 256) as f32 + 0.4 * v) / 127.5 - 1.0,
    };
    values(7, n).iter().enumerate().map(near).collect()
}

#[test]
fn rgba_equals_twin() {
    // One pixel; rows that end where they begin; rows with room behind; more than a workgroup's pixels.
    for (frames, size, row) in [
        (1, (1, 1), 1),
        (2, (5, 7), 7),
        (3, (6, 9), 64),
        (2, (48, 64), 64),
    ] {
        let p = Pixels { frames, size, row };
        let x = near_levels(frames * 3 * size.0 * size.1);
        check_twin_bits(&format!("{p:?}"), |device| {
            let blank: Vec<u32> = (0..(frames * size.0 * row) as u32).collect();
            let (x, y) = (input(device, &x), Out::holding(device, &blank));
            run(device, |rec| rgba(rec, &x, &y.buffer, &p));
            vec![y.read(device)]
        });
    }
}

#[test]
fn every_level_is_its_own_and_halves_go_up() {
    let device = longtake::gpu::Device::twin();
    let levels = (0..=255).map(|v| v as f32 / 127.5 - 1.0);
    // Red: every level. Green: beyond both ends. Blue: the middle, which lies between two levels.
    let ends = (0..256).map(|i| if i % 2 == 0 { -7.0 } else { 7.0 });
    let x: Vec<f32> = levels.chain(ends).chain([0.0; 256]).collect();
    let (x, y) = (input(&device, &x), Out::<u32>::unwritten(&device, 256));
    let p = Pixels {
        frames: 1,
        size: (16, 16),
        row: 16,
    };
    run(&device, |rec| rgba(rec, &x, &y.buffer, &p));
    for (i, word) in y.read(&device).into_iter().enumerate() {
        let green = if i % 2 == 0 { 0 } else { 255 };
        assert_eq!(word.to_le_bytes(), [i as u8, green, 128, 255]);
    }
}

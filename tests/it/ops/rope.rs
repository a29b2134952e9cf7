use longtake::ops::{Positions, Rope, RopeSplit, rope};

use crate::support::{Out, Tol, check_twin, run, values};

#[test]
fn rope_equals_twin() {
    // (head_dim, heads, grid, frames): odd pairs on an axis (20, 32, 128), frames in no order, far into a film, and before it.
    type Case = (usize, usize, (usize, usize), &'static [i64]);
    let cases: [Case; 5] = [
        (32, 2, (6, 8), &[0, 1, 2]),
        (64, 4, (6, 8), &[5000, 3, 4999]),
        (128, 3, (1, 1), &[123_456]),
        (20, 1, (3, 5), &[-7, 5001]),
        (40, 2, (5, 1), &[1]),
    ];
    for (head_dim, n_heads, (rows, cols), frames) in cases {
        let split = RopeSplit::wan(head_dim);
        let row_stride = n_heads * head_dim + 8;
        let x = values(1, frames.len() * rows * cols * row_stride);
        // Two products and a sum of values below 1.
        check_twin(
            &format!("rope {head_dim} x {n_heads}, frames {frames:?}"),
            Tol::ELEMENTWISE,
            |device| {
                let mut positions = Positions::new(device, split, 10_000.0, rows, cols).unwrap();
                let slots: Vec<_> = frames
                    .iter()
                    .enumerate()
                    .map(|(i, f)| (*f, 9 - i as u32))
                    .collect();
                positions.set_frames(device, &slots);
                let x = Out::holding(device, &x);
                let args = Rope {
                    x: &x.buffer,
                    positions: &positions,
                    n_heads,
                    row_stride,
                };
                run(device, |rec| rope(rec, &args));
                vec![x.read(device)]
            },
        );
    }
}

/// By hand: one token at row 1, column 2, frame 3, one pair an axis.
#[test]
fn rope_turns_each_axis_by_its_own_position() {
    let split = RopeSplit {
        frame: 1,
        row: 1,
        col: 1,
    };
    let device = longtake::gpu::Device::twin();
    let mut positions = Positions::new(&device, split, 10_000.0, 2, 3).unwrap();
    positions.set_frames(&device, &[(3, 0)]);
    let x = Out::holding(&device, &[1.0f32, 0.0].repeat(3 * 6));
    let args = Rope {
        x: &x.buffer,
        positions: &positions,
        n_heads: 1,
        row_stride: 6,
    };
    run(&device, |rec| rope(rec, &args));
    let token = &x.read(&device)[5 * 6..];
    for (pair, angle) in [3.0f32, 1.0, 2.0].into_iter().enumerate() {
        assert!(
            (token[2 * pair] - angle.cos()).abs() < 1e-6
                && (token[2 * pair + 1] - angle.sin()).abs() < 1e-6
        );
    }
}

use longtake::ops::mix;

use crate::support::{Out, Tol, bits, check_twin, check_twin_bits, hostile, input, run, values};

/// Values at the edges of a workgroup of 64, and more than 65,535 groups of them, where the grid folds.
const SIZES: [usize; 6] = [1, 63, 64, 65, 1000, 65_535 * 64 + 1];

#[test]
fn mix_equals_twin() {
    for n in SIZES {
        let (x, y) = (values(1, n), values(2, n));
        // Two products and a sum, or a fused one: at most two roundings of the larger product.
        check_twin(&format!("mix of {n}"), Tol::ELEMENTWISE, |device| {
            let (x, y) = (Out::holding(device, &x), input(device, &y));
            run(device, |rec| mix(rec, &x.buffer, &y, 0.8125, -0.37));
            vec![x.read(device)]
        });
    }
}

#[test]
fn mix_with_one_and_zero_keeps_normal_values() {
    let x: Vec<f32> = hostile(3, 200)
        .into_iter()
        .map(|v| if v.is_subnormal() { 0.0 } else { v })
        .collect();
    let y = values(4, 200);
    check_twin_bits("mix with 1 and 0", |device| {
        let (x, y) = (Out::holding(device, &x), input(device, &y));
        run(device, |rec| mix(rec, &x.buffer, &y, 1.0, 0.0));
        // Adding a zero may turn -0 into 0.
        vec![bits(x.read(device).into_iter().map(|v| v + 0.0).collect())]
    });
}

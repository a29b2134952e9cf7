use longtake::ops::silu;

use crate::support::{Out, Tol, check_twin, gpus, hostile, input, run, values};

fn check(case: &str, x: &[f32], tol: Tol) {
    check_twin(case, tol, |device| {
        let x = input(device, x);
        let y = Out::unwritten(device, x.len());
        run(device, |rec| silu(rec, &x, &y.buffer));
        vec![y.read(device)]
    });
}

#[test]
fn silu_equals_twin() {
    for n in [1, 63, 64, 65, 4096] {
        let x: Vec<f32> = values(n as u64, n).into_iter().map(|v| 8.0 * v).collect();
        // exp may err by 3 + 2 |x| ulp, here below 19, where the result is small beside the largest.
        check(&format!("silu of {n}"), &x, Tol::ELEMENTWISE);
    }
}

#[test]
fn silu_stays_finite_far_out() {
    check("silu of hostile values", &hostile(5, 256), Tol::ELEMENTWISE);
    let far = [-80.0f32, -88.0, -89.0, -100.0, -1e4, -1e30];
    for gpu in gpus() {
        let (x, y) = (
            input(&gpu.device, &far),
            Out::<f32>::unwritten(&gpu.device, 6),
        );
        run(&gpu.device, |rec| silu(rec, &x, &y.buffer));
        for (x, y) in far.iter().zip(y.read(&gpu.device)) {
            assert!(
                (-2e-33..=0.0).contains(&y),
                "{}: silu({x}) = {y}",
                gpu.label
            );
        }
    }
}

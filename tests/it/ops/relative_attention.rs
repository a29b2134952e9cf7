use longtake::ops::{MAX_RELATIVE_KEYS, RelativeAttention, relative_attention};

use crate::support::{Out, Tol, check_twin, input, run, values};

/// (rows, keys, heads, channels of a head), and how large queries are.
fn check(case: &str, (n_rows, n_keys, n_heads, head_dim): (usize, usize, usize, usize), size: f32) {
    let n = n_rows * n_heads * head_dim;
    let q: Vec<f32> = values(1, n).into_iter().map(|v| size * v).collect();
    let (k, mut v) = (values(2, n), values(3, n));
    // What padding holds must not matter.
    v[n_keys * n_heads * head_dim..].fill(1e30);
    let bias = values(4, n_heads * (2 * n_rows - 1));
    let score = 1.0 + f64::from(size) * (head_dim as f64).sqrt();
    check_twin(
        &format!("{case}: {n_rows} x {n_keys} x {n_heads} x {head_dim}"),
        Tol::attention(head_dim.max(n_keys), score),
        |device| {
            let [q, k, v, bias] = [&q, &k, &v, &bias].map(|x| input(device, x));
            let out = Out::unwritten(device, n);
            let args = RelativeAttention {
                q: &q,
                k: &k,
                v: &v,
                bias: &bias,
                out: &out.buffer,
                n_rows,
                n_keys,
                n_heads,
                head_dim,
            };
            run(device, |rec| relative_attention(rec, &args));
            vec![out.read(device)]
        },
    );
}

#[test]
fn relative_attention_equals_twin() {
    // One key; short of, at and past a workgroup of keys; narrow and wide heads; padding behind the keys.
    for sizes in [
        (1, 1, 1, 4),
        (9, 1, 2, 8),
        (63, 63, 2, 64),
        (64, 64, 3, 20),
        (65, 65, 1, 64),
        (130, 129, 2, 68),
        (70, 40, 2, 128),
        (5, 3, 4, 260),
    ] {
        check("plain", sizes, 1.0);
    }
    check("sharp", (70, 67, 2, 64), 30.0);
}

#[test]
fn relative_attention_takes_as_many_keys_as_it_says() {
    check(
        "most keys",
        (MAX_RELATIVE_KEYS, MAX_RELATIVE_KEYS, 1, 4),
        1.0,
    );
}

/// With one score far above the rest the output is that key's value, and the bias alone decides where scores are equal.
#[test]
fn the_bias_is_by_key_minus_row() {
    let (n_rows, head_dim) = (5, 4);
    let zeros = vec![0.0; n_rows * head_dim];
    let v: Vec<f32> = (0..n_rows * head_dim)
        .map(|i| (i / head_dim) as f32)
        .collect();
    // Only the key two before a row counts; where there is none, all count alike.
    let mut bias = vec![0.0; 2 * n_rows - 1];
    bias[n_rows - 1 - 2] = 1000.0;
    let device = longtake::gpu::Device::twin();
    let [q, k, v, bias] = [&zeros, &zeros, &v, &bias].map(|x| input(&device, x));
    let out = Out::unwritten(&device, zeros.len());
    let args = RelativeAttention {
        q: &q,
        k: &k,
        v: &v,
        bias: &bias,
        out: &out.buffer,
        n_rows,
        n_keys: n_rows,
        n_heads: 1,
        head_dim,
    };
    run(&device, |rec| relative_attention(rec, &args));
    let firsts: Vec<f32> = out
        .read(&device)
        .iter()
        .step_by(head_dim)
        .copied()
        .collect();
    assert_eq!(firsts, [2.0, 2.0, 0.0, 1.0, 2.0]);
}

use longtake::gpu::Purpose;
use longtake::ops::{MAX_PIXEL_CHANNELS, PixelAttention, pixel_attention};

use crate::support::{Out, Tol, check_twin, run, values};

/// (pixels, channels), and how large queries are.
fn check(case: &str, (n_pixels, channels): (usize, usize), size: f32) {
    let n = n_pixels * channels;
    let bits = |seed, size: f32| -> Vec<u32> {
        let values = values(seed, n);
        values.iter().map(|v| (size * v).to_bits()).collect()
    };
    let (q, k, v) = (bits(1, size), bits(2, 1.0), bits(3, 1.0));
    check_twin(
        &format!("{case}: {n_pixels} x {channels}"),
        Tol::attention(channels.max(n_pixels), 1.0 + f64::from(size)),
        |device| {
            let [q, k, v] =
                [&q, &k, &v].map(|x| device.upload(Purpose::Activations, "x", x).unwrap());
            let out = Out::<u32>::unwritten(device, n);
            let args = PixelAttention {
                q: &q,
                k: &k,
                v: &v,
                out: &out.buffer,
                n_pixels,
                channels,
            };
            run(device, |rec| pixel_attention(rec, &args));
            vec![out.read(device).into_iter().map(f32::from_bits).collect()]
        },
    );
}

#[test]
fn pixel_attention_equals_twin() {
    // Rows that fill no workgroup; short of, at and past a tile of keys; one quad, and two quads a lane.
    for sizes in [
        (1, 4),
        (3, 16),
        (5, 36),
        (63, 8),
        (64, 64),
        (65, 20),
        (130, 384),
    ] {
        check("plain", sizes, 1.0);
    }
    check("sharp", (70, 64), 30.0);
}

#[test]
fn pixel_attention_takes_as_many_channels_as_it_says() {
    check("most channels", (9, MAX_PIXEL_CHANNELS), 1.0);
}

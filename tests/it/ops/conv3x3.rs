use longtake::gpu::{Device, Purpose};
use longtake::ops::{Conv3x3, ConvMatrix, conv3x3, pack_conv3x3};

use crate::support::{Out, Tol, check_twin, input, run, values};

#[derive(Debug, Clone, Copy)]
struct Case {
    size: (usize, usize),
    /// Channels of the two inputs.
    inputs: (usize, usize),
    outputs: usize,
    upscale: bool,
    add: bool,
    relu: bool,
}

fn outputs(device: &Device, c: Case) -> Vec<f32> {
    let pixels = c.size.0 * c.size.1;
    let from = if c.upscale { pixels / 4 } else { pixels };
    let (k, n) = (c.inputs.0 + c.inputs.1, c.outputs.next_multiple_of(4));
    let weights = pack_conv3x3(&values(3, c.outputs * k * 9), c.outputs, k);
    let mut bias = values(4, c.outputs);
    bias.resize(n, 0.0);
    let matrix = ConvMatrix {
        weight: device.upload(Purpose::Weights, "w", &weights).unwrap(),
        bias: input(device, &bias),
        n,
        k,
    };
    let a = input(device, &values(1, from * c.inputs.0));
    let b = (c.inputs.1 > 0).then(|| input(device, &values(2, from * c.inputs.1)));
    let add = c.add.then(|| input(device, &values(5, pixels * n)));
    let y = Out::unwritten(device, pixels * n);
    let args = Conv3x3 {
        a: &a,
        a_channels: c.inputs.0,
        b: b.as_ref(),
        matrix: &matrix,
        y: &y.buffer,
        add: add.as_ref(),
        size: c.size,
        upscale: c.upscale,
        relu: c.relu,
    };
    run(device, |rec| conv3x3(rec, &args));
    y.read(device)
}

#[test]
fn conv3x3_equals_twin() {
    // Pictures of one pixel, narrow ones, and about a workgroup of pixels; outputs that fill no quad.
    let sizes = [(1, 1), (1, 5), (7, 1), (8, 8), (5, 13), (16, 12)];
    let channels = [((4, 0), 4), ((8, 4), 3), ((16, 16), 24), ((20, 0), 9)];
    for (i, size) in sizes.into_iter().enumerate() {
        for (j, (inputs, outputs_n)) in channels.into_iter().enumerate() {
            let case = Case {
                size,
                inputs,
                outputs: outputs_n,
                upscale: size.0 % 2 == 0 && size.1 % 2 == 0 && j % 2 == 0,
                add: (i + j) % 2 == 0,
                relu: (i / 2 + j) % 2 == 0,
            };
            let n = 9 * (inputs.0 + inputs.1);
            check_twin(&format!("{case:?}"), Tol::sums(n), |d| {
                vec![outputs(d, case)]
            });
        }
    }
}

/// A kernel with a single 1 moves the picture by a place, and what comes in from outside is 0.
#[test]
fn taps_lie_where_they_should() {
    let device = Device::twin();
    let (width, height) = (3, 2);
    for tap in 0..9 {
        let mut weights = vec![0.0; 4 * 9];
        weights[tap] = 1.0;
        let matrix = ConvMatrix {
            weight: input(&device, &pack_conv3x3(&weights, 1, 4)),
            bias: input(&device, &[0.0; 4]),
            n: 4,
            k: 4,
        };
        let picture: Vec<f32> = (0..6)
            .flat_map(|i| [(i + 1) as f32, 9.0, 9.0, 9.0])
            .collect();
        let (a, y) = (input(&device, &picture), Out::unwritten(&device, 24));
        let args = Conv3x3 {
            a: &a,
            a_channels: 4,
            b: None,
            matrix: &matrix,
            y: &y.buffer,
            add: None,
            size: (width, height),
            upscale: false,
            relu: false,
        };
        run(&device, |rec| conv3x3(rec, &args));
        let (down, right) = ((tap / 3) as i32 - 1, (tap % 3) as i32 - 1);
        for (i, got) in y.read(&device).chunks_exact(4).enumerate() {
            let (r, c) = ((i / width) as i32 + down, (i % width) as i32 + right);
            let inside = (0..height as i32).contains(&r) && (0..width as i32).contains(&c);
            let want = if inside {
                (r * width as i32 + c + 1) as f32
            } else {
                0.0
            };
            assert_eq!(got, [want, 0.0, 0.0, 0.0], "tap {tap}, pixel {i}");
        }
    }
}

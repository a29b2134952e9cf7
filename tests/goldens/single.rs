//! Single operations: norms, activations, attention, patches, low-rank changes, each as the device or its twin computes it.

use std::path::Path;

use longtake::decode::soft_clamp;
use longtake::gpu::{Buffer, Device, Purpose, Recorder};
use longtake::model::config::DitConfig;
use longtake::model::lora::{Change, merged};
use longtake::ops::{
    Activation, Attention, KvFormat, Linear, Matrix, Norm, NormMode, Patches, Positions, RmsNorm,
    RopeSplit, Rows, Segment, Store, WeightFormat, attention, linear, norm, patchify, rms_norm,
    silu, unpatchify,
};
use longtake::weights::Weights;

use super::check::Check;

pub fn run(check: &mut Check, config: &str, weights: &Path, device: &Device) -> Option<()> {
    let config = DitConfig::from_selfforcing_json(config).unwrap();
    // The full decoder's own layers are looked at beside it.
    check.leave("conv.", "");
    check.leave("norm.", ".vae");
    check.leave("norm.", ".vae_x");
    check.leave("norm.vae_gamma", "");
    norms(check, device, config.eps)?;
    activations(check, device)?;
    let names = check.names();
    for case in names.iter().filter_map(|n| n.strip_suffix(".q")) {
        attended(check, device, case)?;
    }
    patches(check, device, &config, weights)?;
    change(check, device)
}

fn upload(device: &Device, values: &[f32]) -> Buffer<f32> {
    device.upload(Purpose::Scratch, "input", values).unwrap()
}

fn blank(device: &Device, n: usize) -> Buffer<f32> {
    let nan = vec![f32::NAN; n];
    device.upload(Purpose::Scratch, "output", &nan).unwrap()
}

/// Records, runs, and reads what was written to `y`.
fn on(device: &Device, y: &Buffer<f32>, record: impl FnOnce(&mut Recorder<'_>)) -> Vec<f32> {
    let mut rec = device.recorder();
    record(&mut rec);
    device.run(rec).unwrap();
    device.read_all(y).unwrap()
}

fn norms(check: &mut Check, device: &Device, eps: f32) -> Option<()> {
    let [weight, bias, rms, t5] = ["ln_weight", "ln_bias", "rms_weight", "t5_weight"]
        .map(|n| check.reals(&format!("norm.{n}")));
    let weight_bias = upload(device, &[weight?, bias?].concat());
    let weights = [("rms", rms?), ("t5", t5?)];
    let names = check.names();
    for case in names
        .iter()
        .filter_map(|n| n.strip_suffix(".x")?.strip_prefix("norm."))
    {
        let name = |part: &str| format!("norm.{case}.{part}");
        let channels = check.shape(&name("x"))?[1];
        let x = check.reals(&name("x"))?;
        let n_rows = x.len() / channels;
        let input = upload(device, &x);
        for (part, mode) in [
            ("ln", NormMode::Plain),
            (
                "ln_affine",
                NormMode::Affine {
                    weight_bias: &weight_bias,
                },
            ),
        ] {
            let y = blank(device, x.len());
            let args = Norm {
                x: &input,
                y: &y,
                n_rows,
                channels,
                rows_per_frame: n_rows,
                eps,
                mode,
            };
            let got = on(device, &y, |rec| norm(rec, &args));
            check.real(&name(part), &got);
        }
        for (part, weight) in &weights {
            let (y, weight) = (upload(device, &x), upload(device, weight));
            let args = RmsNorm {
                x: &y,
                weight: &weight,
                n_rows,
                n_parts: 1,
                channels,
                row_stride: channels,
                eps,
            };
            let got = on(device, &y, |rec| rms_norm(rec, &args));
            check.real(&name(part), &got);
        }
    }
    Some(())
}

/// A matrix in f32, its widths padded with zeros.
fn matrix(device: &Device, weight: &[f32], bias: &[f32]) -> Matrix {
    let (n, k) = (bias.len(), weight.len() / bias.len());
    let (n_pad, k_pad) = (n.next_multiple_of(4), k.next_multiple_of(4));
    let mut padded = vec![0.0; n_pad * k_pad];
    for (to, from) in padded.chunks_mut(k_pad).zip(weight.chunks(k)) {
        to[..k].copy_from_slice(from);
    }
    let mut bias = bias.to_vec();
    bias.resize(n_pad, 0.0);
    let format = WeightFormat::F32;
    Matrix {
        weight: (device.upload(Purpose::Weights, "weight", &format.pack(&padded))).unwrap(),
        bias: upload(device, &bias),
        n: n_pad,
        k: k_pad,
        format,
    }
}

fn activations(check: &mut Check, device: &Device) -> Option<()> {
    let x = check.reals("act.x")?;
    // GELU comes after a linear layer: here one that changes nothing, a value a row.
    let one = matrix(device, &[1.0], &[0.0]);
    let rows: Vec<f32> = x.iter().flat_map(|v| [*v, 0.0, 0.0, 0.0]).collect();
    let activated = |act| -> Vec<f32> {
        let (input, y) = (upload(device, &rows), blank(device, rows.len()));
        let args = Linear {
            x: &input,
            matrix: &one,
            y: &y,
            n_rows: x.len(),
            act,
            store: Store::Set,
        };
        let all = on(device, &y, |rec| linear(rec, &args));
        all.chunks(4).map(|row| row[0]).collect()
    };
    let gelu = activated(Activation::GeluTanh);
    check.real("act.gelu_tanh", &gelu);
    check.real("act.gelu_t5", &gelu);
    let (input, y) = (upload(device, &x), blank(device, x.len()));
    let alone = on(device, &y, |rec| silu(rec, &input, &y));
    check.real("act.silu", &alone);
    let after = activated(Activation::Silu);
    let after: Vec<f64> = after.iter().map(|v| f64::from(*v)).collect();
    check.against("act.silu", " after a linear layer", &after, super::F32);
    let clamped: Vec<f32> = x.iter().copied().map(soft_clamp).collect();
    check.real("act.tae_clamp", &clamped);
    Some(())
}

fn attended(check: &mut Check, device: &Device, case: &str) -> Option<()> {
    let name = |part: &str| format!("{case}.{part}");
    let shape = check.shape(&name("q"))?;
    let (n_queries, n_heads, head_dim) = (shape[0], shape[1], shape[2]);
    let n_keys = check.shape(&name("k"))?[0];
    let [q, k, v] = ["q", "k", "v"].map(|part| check.reals(&name(part)));
    let page = |rows: Vec<f32>| {
        let words = KvFormat::F32.pack(&rows);
        device.upload(Purpose::Cache, "page", &words).unwrap()
    };
    let (q, k, v) = (upload(device, &q?), page(k?), page(v?));
    let mut positions = Positions::new(device, RopeSplit::wan(head_dim), 1e4, 1, 1).unwrap();
    positions.set_frames(device, &[(0, 0)]);
    let width = n_heads * head_dim;
    let (out, state) = (
        blank(device, n_queries * width),
        blank(device, n_queries * n_heads * 2),
    );
    let segment = Segment {
        k: &k,
        v: &v,
        rows: Rows::Plain(KvFormat::F32),
        positions: &positions,
        rope: false,
        tokens_per_frame: n_keys,
    };
    let args = Attention {
        q: &q,
        q_stride: width,
        n_queries,
        n_heads,
        segments: &[segment],
        out: &out,
        state: &state,
    };
    let got = on(device, &out, |rec| attention(rec, &args));
    check.real(&name("out"), &got);
    Some(())
}

fn patches(check: &mut Check, device: &Device, config: &DitConfig, weights: &Path) -> Option<()> {
    let weights = Weights::open(weights).unwrap();
    let tensor = |name: &str| weights.require(name).unwrap().to_f32().unwrap();
    let embedding = matrix(
        device,
        &tensor("patch_embedding.weight"),
        &tensor("patch_embedding.bias"),
    );
    let [_, ph, pw] = config.patch.map(|p| p as usize);
    let of = |shape: &[usize], token_stride| Patches {
        n_frames: shape[0],
        channels: shape[1],
        grid: (shape[2] / ph, shape[3] / pw),
        patch: (ph, pw),
        token_stride,
    };
    let shape = check.shape("patch.x")?;
    let x = check.reals("patch.x")?;
    let cut = of(&shape, embedding.k);
    let n_rows = shape[0] * cut.grid.0 * cut.grid.1;
    let (frames, tokens) = (upload(device, &x), blank(device, n_rows * embedding.k));
    let y = blank(device, n_rows * embedding.n);
    let args = Linear {
        x: &tokens,
        matrix: &embedding,
        y: &y,
        n_rows,
        act: Activation::None,
        store: Store::Set,
    };
    let got = on(device, &y, |rec| {
        patchify(rec, &frames, &tokens, &cut);
        linear(rec, &args);
    });
    check.real("patch.tokens", &got);

    let shape = check.shape("unpatch.out")?;
    let stride = check.shape("unpatch.tokens")?[1];
    let tokens = upload(device, &check.reals("unpatch.tokens")?);
    let y = blank(device, shape.iter().product());
    let got = on(device, &y, |rec| {
        unpatchify(rec, &tokens, &y, &of(&shape, stride));
    });
    check.real("unpatch.out", &got);
    Some(())
}

fn change(check: &mut Check, device: &Device) -> Option<()> {
    let n_out = check.shape("lora.w")?[0];
    let [w, a, b, scale] = ["w", "A", "B", "alpha_rank"].map(|n| check.reals(&format!("lora.{n}")));
    let (a, b, scale) = (a?, b?, scale?);
    let change = Change {
        b: &b,
        a: &a,
        rank: scale[1] as usize,
        scale: scale[0] / scale[1],
    };
    let got = merged(device, w?, n_out, &change).unwrap();
    check.real("lora.merged", &got);
    Some(())
}

//! One case or two for every kernel, of sizes that the demo world has or that miss every tile's edge.
//!
//! The tests run them on every executor, the program on its user's device. `every_kernel_has_a_case` holds the list
//! to be whole.

use std::fmt::Debug;

use super::probe::{Must, Output, Part, Tol, values};
use crate::gpu::{Buffer, Device, Error, Purpose, Recorder};
use crate::ops::{
    Activation, Attention, BiasFix, ChannelNorm, Cluster, Coding, Conv3x3, ConvMatrix, ConvTap,
    Doubled, FramePlace, Grid, KvFormat, KvMix, KvStore, Linear, Matrix, Norm, NormMode, Patches,
    PixelAttention, Pixels, Positions, Quantize, RelativeAttention, RmsNorm, Rope, RopeSplit, Rows,
    ScaleFormat, Segment, SpanError, SpanGather, SpanLayout, SpanPlace, Store, TapMatrix, TapSizes,
    WeightFormat, attention, channel_norm, conv_tap, conv3x3, hadamard_rows, kmeans, kmeans_start,
    kv_mix, kv_store, linear, mix, norm, pack_conv3x3, patchify, pixel_attention, quantize,
    relative_attention, residual, rgba, rms_norm, rope, sample_codings, silu, span_decode,
    span_error, span_gather, unpatchify,
};

/// What an op's time is measured in.
#[derive(Debug, Clone, Copy)]
pub enum Work {
    /// Floating point operations.
    Flop(f64),
    /// Bytes read and written at least.
    Bytes(f64),
}

/// One op at one size.
#[derive(Debug)]
pub struct Case {
    /// Name of the op.
    pub op: &'static str,
    /// Sizes, for people.
    pub what: String,
    /// Of one run.
    pub work: Work,
    /// Makes inputs and poisoned outputs on a device.
    pub set_up: SetUp,
}

type MakeJob = dyn Fn(&Device) -> Result<Job, Error>;
type RecordJob = dyn Fn(&mut Recorder<'_>, &[Output<u32>], &[Output<f32>]);

/// Makes inputs and poisoned outputs on a device.
pub struct SetUp(Box<MakeJob>);

impl Debug for SetUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SetUp")
    }
}

impl SetUp {
    /// On this device.
    ///
    /// # Errors
    /// No memory left on the device.
    pub fn on(&self, device: &Device) -> Result<Job, Error> {
        (self.0)(device)
    }
}

/// A case on a device. The record may be made again; what it leaves after the first run is only timed.
pub struct Job {
    record: Box<RecordJob>,
    words: Vec<Output<u32>>,
    floats: Vec<Output<f32>>,
    /// Of each output, words first.
    parts: Vec<Vec<Part>>,
}

impl Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job {:?}", self.parts)
    }
}

impl Job {
    /// Records the op.
    pub fn record(&self, rec: &mut Recorder<'_>) {
        (self.record)(rec, &self.words, &self.floats);
    }

    /// Words of every output, and what each must be; or which guard was overwritten.
    ///
    /// # Errors
    /// Of the device.
    pub fn outputs(&self, device: &Device) -> Result<Result<Vec<Vec<u32>>, String>, Error> {
        let mut all = Vec::new();
        for w in &self.words {
            match w.read(device)? {
                Ok(words) => all.push(words),
                Err(wrong) => return Ok(Err(wrong)),
            }
        }
        for f in &self.floats {
            match f.read(device)? {
                Ok(floats) => all.push(bytemuck::cast_slice(&floats).to_vec()),
                Err(wrong) => return Ok(Err(wrong)),
            }
        }
        Ok(Ok(all))
    }

    /// Parts of each output.
    pub fn parts(&self) -> &[Vec<Part>] {
        &self.parts
    }

    /// A job with one output of floats.
    fn floats(
        out: Output<f32>,
        n: usize,
        tol: Tol,
        record: impl Fn(&mut Recorder<'_>, &Buffer<f32>) + 'static,
    ) -> Job {
        Job {
            record: Box::new(move |rec, _, f| record(rec, &f[0].buffer)),
            words: Vec::new(),
            floats: vec![out],
            parts: vec![vec![part("output", 0..n, Must::Near(tol))]],
        }
    }
}

fn part(name: &'static str, words: std::ops::Range<usize>, must: Must) -> Part {
    Part { name, words, must }
}

fn input(device: &Device, data: &[f32]) -> Result<Buffer<f32>, Error> {
    device.upload(Purpose::Activations, "input", data)
}

fn case(
    op: &'static str,
    what: String,
    work: Work,
    set_up: impl Fn(&Device) -> Result<Job, Error> + 'static,
) -> Case {
    Case {
        op,
        what,
        work,
        set_up: SetUp(Box::new(set_up)),
    }
}

/// All cases, in the order of a pass and then of the codec.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    all.extend([patchify_case(), unpatchify_case()]);
    all.extend([norm_case(), rms_norm_case(), silu_case(), mix_case()]);
    for format in WeightFormat::ALL {
        all.push(linear_case(format, 48, 768, 256));
    }
    all.push(linear_case(WeightFormat::F16, 5, 36, 20));
    all.extend([
        rope_case(),
        kv_store_case(),
        kv_mix_case(),
        relative_attention_case(),
        conv3x3_case(),
        conv_tap_case(),
        channel_norm_case(),
        pixel_attention_case(),
        rgba_case(),
    ]);
    // Compiling attention is what takes time on CPU drivers: the usual format, the released coding and ours. The op's
    // tests have the others.
    all.push(attention_case(KvFormat::F16));
    let samples = sample_codings();
    all.extend([0, 10].map(|i| coded_case(samples[i])));
    all.extend([span_gather_case(), hadamard_case()]);
    all.extend([span_decode_case(), span_error_case()]);
    all.extend([kmeans_case(false), kmeans_case(true)]);
    let released = Coding {
        bits: 2,
        block: 64,
        ..Coding::HALVES
    };
    let ours = Coding {
        grid: Grid::Dual,
        head_table: true,
        ..released
    };
    let by_channel = samples[4].0;
    let pairs = Coding {
        bits: 4,
        grid: Grid::MinMax,
        block: 32,
        scales: ScaleFormat::F16,
        ..released
    };
    all.extend([released, ours, by_channel, pairs].map(quantize_case));
    all
}

fn patches() -> Patches {
    Patches {
        n_frames: 5,
        channels: 16,
        grid: (6, 8),
        patch: (2, 2),
        token_stride: 64,
    }
}

fn patchify_case() -> Case {
    let n = 5 * 16 * 12 * 16;
    case(
        "patchify",
        format!("{n} values"),
        Work::Bytes(8.0 * n as f64),
        move |d| {
            let x = input(d, &values(1, n))?;
            let out = Output::unwritten(d, n)?;
            Ok(Job::floats(
                out,
                n,
                Tol {
                    nmse: 0.0,
                    max: 0.0,
                },
                move |rec, y| {
                    patchify(rec, &x, y, &patches());
                },
            ))
        },
    )
}

fn unpatchify_case() -> Case {
    let n = 5 * 16 * 12 * 16;
    case(
        "unpatchify",
        format!("{n} values"),
        Work::Bytes(8.0 * n as f64),
        move |d| {
            let tokens = input(d, &values(2, n))?;
            let out = Output::unwritten(d, n)?;
            Ok(Job::floats(
                out,
                n,
                Tol {
                    nmse: 0.0,
                    max: 0.0,
                },
                move |rec, x| {
                    unpatchify(rec, &tokens, x, &patches());
                },
            ))
        },
    )
}

fn norm_case() -> Case {
    let (n_rows, channels) = (192, 260);
    let n = n_rows * channels;
    case(
        "norm",
        format!("{n_rows} x {channels}, modulated"),
        Work::Bytes(8.0 * n as f64),
        move |d| {
            let x: Vec<f32> = values(3, n).iter().map(|v| 3.0 * v + 0.5).collect();
            let x = input(d, &x)?;
            let table = input(d, &values(4, 6 * channels))?;
            let cond = input(d, &values(5, 4 * 6 * channels))?;
            let out = Output::unwritten(d, n)?;
            Ok(Job::floats(out, n, Tol::sums(channels), move |rec, y| {
                let mode = NormMode::Modulate {
                    table: &table,
                    cond: &cond,
                    cond_vectors: 6,
                    shift: (3, 1),
                    scale: (4, 5),
                };
                norm(
                    rec,
                    &Norm {
                        x: &x,
                        y,
                        n_rows,
                        channels,
                        rows_per_frame: 48,
                        eps: 1e-6,
                        mode,
                    },
                );
            }))
        },
    )
}

fn rms_norm_case() -> Case {
    let (n_rows, channels) = (192, 256);
    let n = n_rows * channels;
    case(
        "rms_norm",
        format!("{n_rows} x {channels}"),
        Work::Bytes(8.0 * n as f64),
        move |d| {
            let weight = input(d, &values(7, channels))?;
            let out = Output::holding(d, &values(6, n))?;
            Ok(Job::floats(out, n, Tol::sums(channels), move |rec, x| {
                rms_norm(
                    rec,
                    &RmsNorm {
                        x,
                        weight: &weight,
                        n_rows,
                        n_parts: 1,
                        channels,
                        row_stride: channels,
                        eps: 1e-6,
                    },
                );
            }))
        },
    )
}

fn silu_case() -> Case {
    let n = 50_001;
    case(
        "silu",
        format!("{n} values"),
        Work::Bytes(8.0 * n as f64),
        move |d| {
            let x: Vec<f32> = values(8, n).iter().map(|v| 8.0 * v).collect();
            let x = input(d, &x)?;
            let out = Output::unwritten(d, n)?;
            Ok(Job::floats(out, n, Tol::ELEMENTWISE, move |rec, y| {
                silu(rec, &x, y);
            }))
        },
    )
}

fn mix_case() -> Case {
    // More than 65,535 groups would fold the grid; the tests of the op do that.
    let n = 100_001;
    case(
        "mix",
        format!("{n} values"),
        Work::Bytes(12.0 * n as f64),
        move |d| {
            let y = input(d, &values(10, n))?;
            let out = Output::holding(d, &values(9, n))?;
            Ok(Job::floats(out, n, Tol::ELEMENTWISE, move |rec, x| {
                mix(rec, x, &y, 0.8125, -0.37);
            }))
        },
    )
}

fn linear_case(format: WeightFormat, n_rows: usize, n: usize, k: usize) -> Case {
    case(
        "linear",
        format!("{n_rows} x {n} x {k}, {format:?} weights, GELU"),
        Work::Flop(2.0 * (n_rows * n * k) as f64),
        move |d| {
            let x = input(d, &values(11, n_rows * k))?;
            let matrix = Matrix {
                weight: d.upload(
                    Purpose::Weights,
                    "weights",
                    &format.pack(&values(12, n * k)),
                )?,
                bias: input(d, &values(13, n))?,
                n,
                k,
                format,
            };
            let out = Output::unwritten(d, n_rows * n)?;
            Ok(Job::floats(out, n_rows * n, Tol::sums(k), move |rec, y| {
                linear(
                    rec,
                    &Linear {
                        x: &x,
                        matrix: &matrix,
                        y,
                        n_rows,
                        act: Activation::GeluTanh,
                        store: Store::Set,
                    },
                );
            }))
        },
    )
}

fn rope_case() -> Case {
    let (rows, cols, n_heads, head_dim) = (6, 8, 4, 64);
    let n = 4 * rows * cols * n_heads * head_dim;
    case(
        "rope",
        format!("4 frames of {rows} x {cols}, {n_heads} heads of {head_dim}"),
        Work::Bytes(8.0 * n as f64),
        move |d| {
            let mut positions = Positions::new(d, RopeSplit::wan(head_dim), 1e4, rows, cols)?;
            positions.set_frames(d, &[(7, 3), (8, 0), (9, 2), (5000, 1)]);
            let out = Output::holding(d, &values(14, n))?;
            Ok(Job::floats(out, n, Tol::ELEMENTWISE, move |rec, x| {
                rope(
                    rec,
                    &Rope {
                        x,
                        positions: &positions,
                        n_heads,
                        row_stride: n_heads * head_dim,
                    },
                );
            }))
        },
    )
}

fn relative_attention_case() -> Case {
    let (n_rows, n_keys, n_heads, head_dim) = (70, 67, 3, 64);
    let n = n_rows * n_heads * head_dim;
    case(
        "relative_attention",
        format!("{n_rows} rows, {n_keys} keys, {n_heads} heads of {head_dim}"),
        Work::Flop(4.0 * (n * n_keys) as f64),
        move |d| {
            let [q, k, v] = [31, 32, 33].map(|seed| input(d, &values(seed, n)));
            let (q, k, v) = (q?, k?, v?);
            let bias = input(d, &values(34, n_heads * (2 * n_rows - 1)))?;
            let out = Output::unwritten(d, n)?;
            // Scores are sums of 64 products below 1: up to some 10 with the bias.
            let tol = Tol::attention(head_dim, 10.0);
            Ok(Job::floats(out, n, tol, move |rec, out| {
                relative_attention(
                    rec,
                    &RelativeAttention {
                        q: &q,
                        k: &k,
                        v: &v,
                        bias: &bias,
                        out,
                        n_rows,
                        n_keys,
                        n_heads,
                        head_dim,
                    },
                );
            }))
        },
    )
}

fn conv3x3_case() -> Case {
    let (size, a_channels, n) = ((24, 20), 16, 8);
    let (pixels, k) = (size.0 * size.1, 2 * a_channels);
    case(
        "conv3x3",
        format!("{} x {} pixels, {k} to {n} channels", size.0, size.1),
        Work::Flop(18.0 * (pixels * n * k) as f64),
        move |d| {
            let [a, b] = [41, 42].map(|seed| input(d, &values(seed, pixels * a_channels / 4)));
            let (a, b) = (a?, b?);
            let weights = pack_conv3x3(&values(43, n * k * 9), n, k);
            let matrix = ConvMatrix {
                weight: d.upload(Purpose::Weights, "weights", &weights)?,
                bias: input(d, &values(44, n))?,
                n,
                k,
            };
            let add = input(d, &values(45, pixels * n))?;
            let out = Output::unwritten(d, pixels * n)?;
            Ok(Job::floats(
                out,
                pixels * n,
                Tol::sums(9 * k),
                move |rec, y| {
                    conv3x3(
                        rec,
                        &Conv3x3 {
                            a: &a,
                            a_channels,
                            b: Some(&b),
                            matrix: &matrix,
                            y,
                            add: Some(&add),
                            size,
                            upscale: true,
                            relu: true,
                        },
                    );
                },
            ))
        },
    )
}

/// Floats as the words that the decoder's ops take.
fn words(device: &Device, data: &[f32]) -> Result<Buffer<u32>, Error> {
    device.upload(Purpose::Activations, "input", &WeightFormat::F32.pack(data))
}

/// A job with one output of floats in a buffer of words.
fn float_words(
    out: Output<u32>,
    n: usize,
    tol: Tol,
    record: impl Fn(&mut Recorder<'_>, &Buffer<u32>) + 'static,
) -> Job {
    Job {
        record: Box::new(move |rec, w, _| record(rec, &w[0].buffer)),
        words: vec![out],
        floats: Vec::new(),
        parts: vec![vec![part("output", 0..n, Must::Near(tol))]],
    }
}

fn conv_tap_case() -> Case {
    // Some rows of a picture of 12 x 10 that is doubled.
    let (size, rows, k, n) = ((24, 15), 10, 20, 36);
    let pixels = size.0 * size.1;
    case(
        "conv_tap",
        format!("{} x {} pixels, {k} to {n} channels", size.0, size.1),
        Work::Flop(18.0 * (pixels * n * k) as f64),
        move |d| {
            let x = words(d, &values(46, size.0 / 2 * rows * k))?;
            let sizes = TapSizes {
                n,
                k,
                times: 3,
                side: 3,
            };
            let format = WeightFormat::F16;
            let weights = sizes.pack(&values(47, n * k * 27));
            let matrix = TapMatrix {
                weight: d.upload(Purpose::Weights, "weights", &format.pack(&weights))?,
                bias: input(d, &values(48, n))?,
                sizes,
                format,
            };
            let out = Output::unwritten(d, pixels * n)?;
            let tol = Tol::sums(9 * k);
            Ok(float_words(out, pixels * n, tol, move |rec, y| {
                let tap = ConvTap {
                    x: &x,
                    x_format: WeightFormat::F32,
                    inputs: 0..k,
                    matrix: &matrix,
                    time: 1,
                    outputs: 0..n,
                    y,
                    size,
                    doubled: Some(Doubled { rows, first: 3 }),
                    add: false,
                    bias: true,
                };
                conv_tap(rec, &tap);
            }))
        },
    )
}

fn channel_norm_case() -> Case {
    let (n_pixels, channels) = (333, 96);
    let n = n_pixels * channels;
    case(
        "channel_norm",
        format!("{n_pixels} pixels of {channels} channels"),
        Work::Bytes(12.0 * n as f64),
        move |d| {
            let x = words(d, &values(49, n))?;
            let gamma = input(d, &values(50, channels))?;
            let sums = d.zeros(Purpose::Activations, "sums", n_pixels)?;
            let out = Output::unwritten(d, n)?;
            Ok(float_words(out, n, Tol::sums(channels), move |rec, y| {
                let norm = ChannelNorm {
                    x: vec![&x],
                    gamma: Some(&gamma),
                    sums: &sums,
                    y: vec![y],
                    y_format: WeightFormat::F32,
                    channels,
                    n_pixels,
                    silu: true,
                };
                channel_norm(rec, &norm);
            }))
        },
    )
}

fn pixel_attention_case() -> Case {
    let (n_pixels, channels) = (131, 260);
    let n = n_pixels * channels;
    case(
        "pixel_attention",
        format!("{n_pixels} pixels of {channels} channels"),
        Work::Flop(4.0 * (n * n_pixels) as f64),
        move |d| {
            let [q, k, v] = [51, 52, 53].map(|seed| words(d, &values(seed, n)));
            let (q, k, v) = (q?, k?, v?);
            let out = Output::unwritten(d, n)?;
            // Scores are below the root of 260, far below it mostly.
            let tol = Tol::attention(channels, 2.0);
            Ok(float_words(out, n, tol, move |rec, out| {
                let attention = PixelAttention {
                    q: &q,
                    k: &k,
                    v: &v,
                    out,
                    n_pixels,
                    channels,
                };
                pixel_attention(rec, &attention);
            }))
        },
    )
}

fn kv_store_case() -> Case {
    let (n_rows, channels, dst_row) = (48, 256, 48);
    let format = KvFormat::F16;
    let words = format.words((dst_row + n_rows) * channels);
    case(
        "kv_store",
        format!("{n_rows} x {channels}, {format:?}"),
        Work::Bytes((n_rows * channels * 12) as f64),
        move |d| {
            let src = input(d, &values(15, n_rows * 3 * channels))?;
            // The rows before are not the op's to touch.
            let blank: Vec<u32> = (0..words as u32).map(|i| 0xdead_0000 + i).collect();
            Ok(Job {
                record: Box::new(move |rec, w, _| {
                    kv_store(
                        rec,
                        &KvStore {
                            k_src: &src,
                            v_src: &src,
                            at: (channels, 2 * channels),
                            src_stride: 3 * channels,
                            src_row: 0,
                            n_rows,
                            channels,
                            k: &w[0].buffer,
                            v: &w[1].buffer,
                            dst_row,
                            format,
                        },
                    );
                }),
                words: vec![Output::holding(d, &blank)?, Output::holding(d, &blank)?],
                floats: Vec::new(),
                parts: vec![
                    vec![part("K", 0..words, Must::Equal)],
                    vec![part("V", 0..words, Must::Equal)],
                ],
            })
        },
    )
}

fn kv_mix_case() -> Case {
    let (n, x_at, y_at) = (48 * 256, 1024, 64);
    let format = KvFormat::F32;
    case(
        "kv_mix",
        format!("{n}, {format:?}"),
        Work::Bytes((n * 12) as f64),
        move |d| {
            let y = d.upload(
                Purpose::Activations,
                "page",
                &format.pack(&values(32, y_at + n)),
            )?;
            let x = values(33, x_at + n);
            // What lies before is not the op's to touch.
            let record = move |rec: &mut Recorder<'_>, w: &[Output<u32>], _: &[Output<f32>]| {
                kv_mix(
                    rec,
                    &KvMix {
                        x: &w[0].buffer,
                        x_at,
                        y: &y,
                        y_at,
                        n,
                        a: 0.75,
                        b: 0.25,
                        format,
                    },
                );
            };
            Ok(Job {
                record: Box::new(record),
                words: vec![Output::holding(d, &format.pack(&x))?],
                floats: Vec::new(),
                parts: vec![vec![
                    part("before", 0..x_at, Must::Equal),
                    part("mixed", x_at..x_at + n, Must::Near(Tol::ELEMENTWISE)),
                ]],
            })
        },
    )
}

fn rgba_case() -> Case {
    let p = Pixels {
        frames: 3,
        size: (48, 60),
        row: 64,
    };
    let (n, words) = (p.frames * 48 * 60, p.frames * 48 * p.row);
    case(
        "rgba",
        format!("{} frames of 60 x 48", p.frames),
        Work::Bytes((16 * n) as f64),
        move |d| {
            // Within a level, so that no rounding decides between two.
            let near = |(i, v): (usize, &f32)| ((i * 89 % 256) as f32 + 0.4 * v) / 127.5 - 1.0;
            let x: Vec<f32> = values(23, 3 * n).iter().enumerate().map(near).collect();
            let x = input(d, &x)?;
            let blank: Vec<u32> = (0..words as u32).collect();
            Ok(Job {
                record: Box::new(move |rec, w, _| rgba(rec, &x, &w[0].buffer, &p)),
                words: vec![Output::holding(d, &blank)?],
                floats: Vec::new(),
                parts: vec![vec![part("pixels", 0..words, Must::Equal)]],
            })
        },
    )
}

/// Sizes of the attention cases: the demo world's heads and patches.
const QUERIES: usize = 48;
const HEADS: usize = 4;
const HEAD_DIM: usize = 64;
const GRID: (usize, usize) = (6, 8);

fn attention_work(n_frames: usize) -> Work {
    let keys = n_frames * GRID.0 * GRID.1;
    Work::Flop(4.0 * (QUERIES * keys * HEADS * HEAD_DIM) as f64)
}

/// Queries for scores up to about `score` over keys of size 1: softmax has something to choose from.
fn queries(device: &Device, score: f32) -> Result<Buffer<f32>, Error> {
    let size = 3.0 * score / (HEAD_DIM as f32).sqrt();
    let q: Vec<f32> = values(16, QUERIES * HEADS * HEAD_DIM)
        .iter()
        .map(|v| size * v)
        .collect();
    input(device, &q)
}

/// One page and how attention reads it.
struct Page {
    k: Buffer<u32>,
    v: Buffer<u32>,
    rows: Rows,
    positions: Positions,
}

fn attention_job(
    device: &Device,
    q: Buffer<f32>,
    pages: Vec<Page>,
    tol: Tol,
) -> Result<Job, Error> {
    let n = QUERIES * HEADS * HEAD_DIM;
    let n_state = QUERIES * HEADS * 2;
    let record = move |rec: &mut Recorder<'_>, _: &[Output<u32>], f: &[Output<f32>]| {
        let segments: Vec<_> = pages
            .iter()
            .map(|p| Segment {
                k: &p.k,
                v: &p.v,
                rows: p.rows,
                positions: &p.positions,
                rope: true,
                tokens_per_frame: GRID.0 * GRID.1,
            })
            .collect();
        attention(
            rec,
            &Attention {
                q: &q,
                q_stride: HEADS * HEAD_DIM,
                n_queries: QUERIES,
                n_heads: HEADS,
                segments: &segments,
                out: &f[0].buffer,
                state: &f[1].buffer,
            },
        );
    };
    Ok(Job {
        record: Box::new(record),
        words: Vec::new(),
        floats: vec![
            Output::unwritten(device, n)?,
            Output::unwritten(device, n_state)?,
        ],
        // The state is the op's own, and no form of it is promised; its guard is looked at.
        parts: vec![vec![part("output", 0..n, Must::Near(tol))], Vec::new()],
    })
}

fn table(device: &Device) -> Result<Positions, Error> {
    Positions::new(device, RopeSplit::wan(HEAD_DIM), 1e4, GRID.0, GRID.1)
}

fn attention_case(format: KvFormat) -> Case {
    case(
        "attention",
        format!("{QUERIES} queries, 6 frames in two {format:?} pages"),
        attention_work(6),
        move |d| {
            let mut pages = Vec::new();
            for (seed, frames) in [
                (17, &[(0i64, 2u32), (1, 0), (2, 1)][..]),
                (19, &[(30, 0), (31, 3), (32, 1)]),
            ] {
                let rows = 4 * GRID.0 * GRID.1 * HEADS * HEAD_DIM;
                let upload =
                    |seed| d.upload(Purpose::Cache, "page", &format.pack(&values(seed, rows)));
                let mut positions = table(d)?;
                positions.set_frames(d, frames);
                pages.push(Page {
                    k: upload(seed)?,
                    v: upload(seed + 1)?,
                    rows: Rows::Plain(format),
                    positions,
                });
            }
            attention_job(d, queries(d, 4.0)?, pages, Tol::attention(HEAD_DIM, 4.0))
        },
    )
}

/// Words of one span as the twin codes them.
fn coded(layout: &SpanLayout, seed: u64) -> Result<Vec<u32>, Error> {
    let twin = Device::twin();
    let n = HEADS * layout.tokens * HEAD_DIM;
    let x = input(&twin, &values(seed, n))?;
    let words = twin.zeros(Purpose::Spans, "span", layout.words)?;
    let span = SpanPlace {
        words: &words,
        base: 0,
        layout: *layout,
    };
    let scratch = Scratch::new(&twin, layout)?;
    let mut rec = twin.recorder();
    if layout.coding.hadamard {
        hadamard_rows(&mut rec, &x, HEADS * layout.tokens, HEAD_DIM);
    }
    for stage in 0..layout.coding.stages {
        let cluster = scratch.cluster(&x, span, stage);
        kmeans_start(&mut rec, &cluster, None);
        kmeans(&mut rec, &cluster, 2, 0.0);
        residual(&mut rec, &cluster);
    }
    quantize(&mut rec, &scratch.quantize(&x, span));
    twin.run(rec)?;
    twin.read_all(&words)
}

fn coded_case((k, v, bias): (Coding, Coding, BiasFix)) -> Case {
    let n_frames = 3;
    case(
        "attention_coded",
        format!(
            "{QUERIES} queries, a span of {n_frames} frames, K {} bits {:?}",
            k.bits, k.grid
        ),
        attention_work(n_frames),
        move |d| {
            let tokens = GRID.0 * GRID.1;
            let layout = |c| SpanLayout::new(c, HEADS, HEAD_DIM, n_frames * tokens, 5);
            let (lk, lv) = (layout(k), layout(v));
            let mut positions = table(d)?;
            let places: Vec<_> = (0..n_frames as u32)
                .map(|frame| FramePlace {
                    frame: i64::from(frame) + 4,
                    slot: 0,
                    row: frame * tokens as u32,
                })
                .collect();
            positions.set_places(d, &places);
            let page = Page {
                k: d.upload(Purpose::Spans, "span", &coded(&lk, 21)?)?,
                v: d.upload(Purpose::Spans, "span", &coded(&lv, 22)?)?,
                rows: Rows::Coded { k: lk, v: lv, bias },
                positions,
            };
            attention_job(
                d,
                queries(d, 4.0)?,
                vec![page],
                Tol::attention(HEAD_DIM, 8.0),
            )
        },
    )
}

fn span_gather_case() -> Case {
    let (n_rows, heads_in_page, n_heads) = (144, 4, 3);
    let n = n_heads * n_rows * HEAD_DIM;
    case(
        "span_gather",
        format!("{n_rows} rows of {n_heads} heads, F16"),
        Work::Bytes(6.0 * n as f64),
        move |d| {
            let mut rows = values(23, n_rows * heads_in_page * HEAD_DIM);
            // What is no number becomes 0 and is counted.
            rows[HEAD_DIM + 5] = f32::NAN;
            rows[3 * HEAD_DIM + 9] = f32::INFINITY;
            let page = d.upload(Purpose::Cache, "page", &KvFormat::F16.pack(&rows))?;
            Ok(Job {
                record: Box::new(move |rec, w, f| {
                    span_gather(
                        rec,
                        &SpanGather {
                            page: &page,
                            format: KvFormat::F16,
                            src_row: 0,
                            n_rows,
                            heads_in_page,
                            first_head: 1,
                            n_heads,
                            head_dim: HEAD_DIM,
                            x: &f[0].buffer,
                            dst_rows: n_rows,
                            dst_row: 0,
                            not_numbers: &w[0].buffer,
                            counter: 1,
                        },
                    );
                }),
                words: vec![Output::holding(d, &[7u32, 0, 7])?],
                floats: vec![Output::unwritten(d, n)?],
                parts: vec![
                    vec![part("counters", 0..3, Must::Equal)],
                    vec![part("rows", 0..n, Must::Equal)],
                ],
            })
        },
    )
}

fn span_decode_case() -> Case {
    // Everything at once: a guard's multiplier, a centroid, a rotation, the dual grid.
    let ours = sample_codings().into_iter().find(|(k, ..)| k.head_table);
    let coding = ours.map_or(Coding::HALVES, |(k, ..)| k);
    let tokens = 145;
    let n = HEADS * tokens * HEAD_DIM;
    case(
        "span_decode",
        format!("{tokens} rows of {HEADS} heads, {} bits", coding.bits),
        Work::Bytes((4.0 + f64::from(coding.bits) / 8.0) * n as f64),
        move |d| {
            let layout = SpanLayout::new(coding, HEADS, HEAD_DIM, tokens, 5);
            let words = d.upload(Purpose::Spans, "span", &coded(&layout, 26)?)?;
            let out = Output::unwritten(d, n)?;
            Ok(Job::floats(out, n, Tol::sums(HEAD_DIM), move |rec, x| {
                let span = SpanPlace {
                    words: &words,
                    base: 0,
                    layout,
                };
                span_decode(rec, span, (0, HEADS), x);
            }))
        },
    )
}

fn span_error_case() -> Case {
    let (n_rows, dst_rows, heads_in_page, n_heads) = (131, 144, 4, 3);
    let n = n_heads * dst_rows;
    case(
        "span_error",
        format!("{n_rows} rows of {n_heads} heads, F16"),
        Work::Bytes(6.0 * (n_heads * n_rows * HEAD_DIM) as f64),
        move |d| {
            let mut rows = values(27, (n_rows + 2) * heads_in_page * HEAD_DIM);
            rows[9 * HEAD_DIM + 5] = f32::NAN;
            let page = d.upload(Purpose::Cache, "page", &KvFormat::F16.pack(&rows))?;
            let x = input(d, &values(28, n * HEAD_DIM))?;
            // Rows that are not compared keep what they hold.
            let out = Output::holding(d, &vec![0.5; 2 * n])?;
            Ok(Job::floats(
                out,
                2 * n,
                Tol::sums(HEAD_DIM),
                move |rec, sums| {
                    span_error(
                        rec,
                        &SpanError {
                            page: &page,
                            format: KvFormat::F16,
                            src_row: 2,
                            n_rows,
                            heads_in_page,
                            first_head: 1,
                            n_heads,
                            head_dim: HEAD_DIM,
                            x: &x,
                            dst_rows,
                            dst_row: 7,
                            sums,
                        },
                    );
                },
            ))
        },
    )
}

fn hadamard_case() -> Case {
    let n_rows = 576;
    let n = n_rows * HEAD_DIM;
    case(
        "hadamard",
        format!("{n_rows} x {HEAD_DIM}"),
        Work::Bytes(8.0 * n as f64),
        move |d| {
            let out = Output::holding(d, &values(24, n))?;
            // A tree of additions: as deep as the logarithm of the width.
            Ok(Job::floats(out, n, Tol::sums(HEAD_DIM), move |rec, x| {
                hadamard_rows(rec, x, n_rows, HEAD_DIM);
            }))
        },
    )
}

/// What coding needs besides rows and words.
struct Scratch {
    cents: Buffer<f32>,
    order: Buffer<u32>,
    ranges: Buffer<u32>,
    changed: Buffer<u32>,
    err: Buffer<f32>,
}

impl Scratch {
    fn new(d: &Device, l: &SpanLayout) -> Result<Scratch, Error> {
        let clusters = (l.n_heads * l.n_centroids).max(1);
        let zeros = |n| d.zeros::<u32>(Purpose::Scratch, "lists", n);
        let reals = |n| d.zeros::<f32>(Purpose::Scratch, "rows", n);
        Ok(Scratch {
            cents: reals(clusters * l.head_dim)?,
            order: zeros(l.n_heads * l.tokens)?,
            ranges: zeros(2 * clusters)?,
            changed: zeros(16)?,
            err: reals(l.n_heads * l.rows * l.head_dim / 8)?,
        })
    }

    fn cluster<'a>(&'a self, x: &'a Buffer<f32>, span: SpanPlace<'a>, stage: usize) -> Cluster<'a> {
        Cluster {
            x,
            first_head: 0,
            n_heads: span.layout.n_heads,
            span,
            stage,
            cents: &self.cents,
            order: &self.order,
            ranges: &self.ranges,
            changed: &self.changed,
            bf16: false,
        }
    }

    fn quantize<'a>(&'a self, x: &'a Buffer<f32>, span: SpanPlace<'a>) -> Quantize<'a> {
        Quantize {
            x,
            first_head: 0,
            n_heads: span.layout.n_heads,
            span,
            clip: 1.0,
            err: &self.err,
        }
    }
}

/// Rows about centroids that lie apart, so that no assignment hangs on a rounding.
fn clustered(seed: u64, n_rows: usize, n_centroids: usize) -> Vec<f32> {
    let (places, noise) = (
        values(seed, n_centroids * HEAD_DIM),
        values(seed + 1, n_rows * HEAD_DIM),
    );
    (0..n_rows * HEAD_DIM)
        .map(|i| {
            let (row, ch) = (i / HEAD_DIM, i % HEAD_DIM);
            places[row * 7 % n_centroids * HEAD_DIM + ch] + 0.1 * noise[i]
        })
        .collect()
}

/// Clustering; with `and_residual` also what it leaves of the rows, a case of its own for the table's sake.
fn kmeans_case(and_residual: bool) -> Case {
    let (tokens, n_centroids, rounds) = (141, 9, 3);
    let coding = Coding {
        bits: 2,
        block: 64,
        stages: 1,
        ..Coding::HALVES
    };
    let l = SpanLayout::new(coding, HEADS, HEAD_DIM, tokens, n_centroids);
    let n = HEADS * tokens * HEAD_DIM;
    let flop = 2.0 * (rounds * HEADS * tokens * n_centroids * HEAD_DIM) as f64;
    case(
        if and_residual { "residual" } else { "kmeans" },
        format!("{HEADS} heads, {tokens} rows, {n_centroids} centroids, {rounds} rounds"),
        Work::Flop(flop),
        move |d| {
            let x = clustered(25, HEADS * tokens, n_centroids);
            let scratch = Scratch::new(d, &l)?;
            let mut words = vec![0u32; l.words];
            words[l.ids_at..l.heads_at].fill(0xffff_ffff);
            let parts = vec![
                part("ids", l.ids_at..l.cents_at, Must::Equal),
                // Sums of a cluster's rows, one bf16 apart where a mean lies on a boundary: 2^-8 of a value.
                part("codes and scales, not this op's", 0..l.ids_at, Must::Equal),
            ];
            let rows = part("rows", 0..n, Must::Near(RESIDUAL));
            Ok(Job {
                record: Box::new(move |rec, w, f| {
                    let span = SpanPlace {
                        words: &w[0].buffer,
                        base: 0,
                        layout: l,
                    };
                    let cluster = scratch.cluster(&f[0].buffer, span, 0);
                    kmeans_start(rec, &cluster, None);
                    kmeans(rec, &cluster, rounds, 0.0);
                    if and_residual {
                        residual(rec, &cluster);
                    }
                }),
                words: vec![Output::holding(d, &words)?],
                floats: vec![Output::holding(d, &x)?],
                parts: vec![parts, vec![rows]],
            })
        },
    )
}

/// A stored centroid is a bf16: where a mean, a sum in another order, lies on a boundary between two of them, the whole
/// row of it is off by a step, 2^-8 of a value of the size of the rows. One channel in a hundred may be.
const RESIDUAL: Tol = Tol {
    nmse: 0.01 / 65536.0 * 16.0,
    max: 1.0 / 128.0,
};

fn quantize_case(coding: Coding) -> Case {
    let tokens = 143;
    let l = SpanLayout::new(coding, HEADS, HEAD_DIM, tokens, 0);
    let n = HEADS * tokens * HEAD_DIM;
    case(
        "quantize",
        format!(
            "{tokens} rows, {} bits, {:?}, by {:?}",
            coding.bits, coding.grid, coding.axis
        ),
        Work::Bytes(4.0 * n as f64 + 4.0 * l.words as f64),
        move |d| {
            let x = input(d, &values(27, n))?;
            let scratch = Scratch::new(d, &l)?;
            let mut parts = vec![part("codes and scales", 0..l.heads_at, Must::Equal)];
            if l.words > l.heads_at {
                parts.push(part(
                    "head tables",
                    l.heads_at..l.words,
                    Must::Near(Tol::sums(n / HEADS)),
                ));
            }
            Ok(Job {
                record: Box::new(move |rec, w, _| {
                    let span = SpanPlace {
                        words: &w[0].buffer,
                        base: 0,
                        layout: l,
                    };
                    quantize(rec, &scratch.quantize(&x, span));
                }),
                words: vec![Output::holding(d, &vec![0u32; l.words])?],
                floats: Vec::new(),
                parts: vec![parts],
            })
        },
    )
}

//! How fast a device runs the kernels that take the time, at a model's own sizes: a second or two of work, kept nowhere.

use std::time::Instant;

use serde::Serialize;

use super::config::Config;
use super::error::Error;
use super::fit::Needs;
use super::noise::{self, START};
use crate::cache::{KvCache, Policy, SpansPlan};
use crate::gpu::{Device, Purpose, Recorder};
use crate::model::Dit;
use crate::model::config::DitConfig;
use crate::ops::{
    Activation, Attention, Conv3x3, ConvMatrix, Linear, Matrix, Rows, Segment, Store, attention,
    conv3x3, linear,
};

/// Seconds that a measurement should last.
const LONG_ENOUGH: f64 = 0.1;
/// Bytes of an upload that is measured, at most.
const MOST_UPLOADED: u64 = 64 << 20;

/// Floating-point operations a second by kernel, two a multiply-add.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speed {
    /// Of linear layers, with weights as they are stored.
    pub linear: f64,
    /// Of attention, to keys and values as they are stored.
    pub attention: f64,
    /// Of the decoder's convolutions.
    pub convolution: f64,
    /// Bytes a second that layers which wait in main memory are uploaded at; `None`: not known, or none wait.
    pub upload: Option<f64>,
}

impl Speed {
    /// The same for all kernels; of uploads nothing is known.
    #[must_use]
    pub fn even(flop_per_sec: f64) -> Speed {
        Speed {
            linear: flop_per_sec,
            attention: flop_per_sec,
            convolution: flop_per_sec,
            upload: None,
        }
    }

    /// Measures them, uploads where `config` has layers wait.
    ///
    /// # Errors
    /// No device memory, or the device failed; codecs that the model's heads cannot have.
    pub fn measure(
        device: &Device,
        model: &DitConfig,
        config: &Config,
        has_decoder: bool,
    ) -> Result<Speed, Error> {
        let linear = linear_speed(device, model, config)?;
        Ok(Speed {
            linear,
            attention: attention_speed(device, model, config)?,
            convolution: match has_decoder {
                true => convolution_speed(device)?,
                false => linear,
            },
            upload: match config.offload {
                0 => None,
                _ => Some(upload_speed(device, model, config)?),
            },
        })
    }

    /// Seconds of a film's matrices, attention, convolutions and, where their speed is known, uploads, one after the other: a
    /// device that copies while it computes takes less. What is left out: norms, coding, the text encoder, files.
    #[must_use]
    pub fn secs(&self, needs: &Needs) -> f64 {
        needs.work.linear_flop / self.linear
            + needs.work.attention_flop / self.attention
            + needs.decoder_flop / self.convolution
            + self
                .upload
                .map_or(0.0, |speed| needs.upload_bytes as f64 / speed)
    }
}

fn values(stream: u32, n: usize) -> Vec<f32> {
    noise::normal(1, START + stream, 0, n)
}

/// Operations a second of what `record` does to as many rows as it takes to last, `flop` operations a row.
fn rate(
    device: &Device,
    most_rows: usize,
    flop: f64,
    record: &dyn Fn(&mut Recorder<'_>, usize),
) -> Result<f64, Error> {
    let secs = |rows: usize, times: usize| -> Result<f64, Error> {
        let start = Instant::now();
        let mut rec = device.recorder();
        (0..times).for_each(|_| record(&mut rec, rows));
        device.run(rec)?;
        device.wait()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let (mut rows, mut times) = (most_rows.min(32), 1);
    // The first run compiles.
    secs(rows, 1)?;
    loop {
        let took = secs(rows, times)?;
        if LONG_ENOUGH <= took || (rows == most_rows && 4096 <= times) {
            return Ok(flop * (rows * times) as f64 / took.max(1e-9));
        }
        match rows < most_rows {
            true => rows = (4 * rows).min(most_rows),
            false => times *= 4,
        }
    }
}

/// Uploads as large as a block, but no larger than a device surely binds.
fn upload_speed(device: &Device, model: &DitConfig, config: &Config) -> Result<f64, Error> {
    let bytes = Dit::block_bytes(model, config.weights).min(MOST_UPLOADED);
    let words = vec![1u32; bytes as usize / 4];
    let place = device.zeros::<u32>(Purpose::Scratch, "speed", words.len())?;
    let mut feed = device.feed(vec![place])?;
    let mut secs = |times: usize| -> Result<f64, Error> {
        let start = Instant::now();
        for _ in 0..times {
            feed.fill(device, [(0, words.as_slice())].into_iter())?;
        }
        device.wait()?;
        Ok(start.elapsed().as_secs_f64())
    };
    // The first one finds memory that was never touched.
    secs(1)?;
    let mut times = 1;
    loop {
        let took = secs(times)?;
        if LONG_ENOUGH <= took || 4096 <= times {
            return Ok((4 * words.len() * times) as f64 / took.max(1e-9));
        }
        times *= 4;
    }
}

/// The matrix of q, k and v, over the tokens of a chunk.
fn linear_speed(device: &Device, model: &DitConfig, config: &Config) -> Result<f64, Error> {
    let (k, n) = (model.hidden as usize, 3 * model.hidden as usize);
    let rows = (model.chunk_frames * model.tokens_per_frame()) as usize;
    let format = config.weights.for_width(k);
    let up = |label, v: &[f32]| device.upload(Purpose::Scratch, label, v);
    let matrix = Matrix {
        weight: device.upload(Purpose::Scratch, "speed", &format.pack(&values(0, n * k)))?,
        bias: up("speed", &vec![0.0; n])?,
        n,
        k,
        format,
    };
    let x = up("speed", &values(1, rows * k))?;
    let y = device.zeros(Purpose::Scratch, "speed", rows * n)?;
    rate(device, rows, 2.0 * (n * k) as f64, &|rec, n_rows| {
        let l = Linear {
            x: &x,
            matrix: &matrix,
            y: &y,
            n_rows,
            act: Activation::None,
            store: Store::Set,
        };
        linear(rec, &l);
    })
}

/// A chunk's queries over one chunk of keys, stored as the film will mostly have them.
fn attention_speed(device: &Device, model: &DitConfig, config: &Config) -> Result<f64, Error> {
    let chunk = model.chunk_frames as usize;
    let policy = Policy {
        span_chunks: usize::from(config.coded.is_some()),
        ..Policy::default()
    };
    let spans = match &config.coded {
        Some(c) => {
            let dim = model.rope_split().head_dim();
            SpansPlan::new(c.pair.clone(), dim, &policy, [chunk, chunk].into_iter())?
        }
        None => None,
    };
    let mut shape = model.cache_shape(config.kv, 2 * chunk);
    shape.n_layers = 1;
    let mut cache = KvCache::new(shape, device.caps(), policy, spans.as_ref());
    cache.begin(device, 0..chunk as i64)?;
    for frame in 0..chunk {
        let rows = |stream| values(stream, shape.frame_values());
        cache.write_frame(device, 0, frame as i64, &rows(2), &rows(3));
    }
    if config.coded.is_some() {
        cache.begin(device, chunk as i64..2 * chunk as i64)?;
    }
    let all = cache.segments(0);
    let is_meant = |s: &Segment<'_>| config.coded.is_none() || matches!(s.rows, Rows::Coded { .. });
    let segments: Vec<Segment<'_>> = all.into_iter().filter(is_meant).collect();
    let (d, heads) = (model.hidden as usize, model.heads as usize);
    let tokens = chunk * model.tokens_per_frame() as usize;
    let q = device.upload(Purpose::Scratch, "speed", &values(4, tokens * d))?;
    let out = device.zeros(Purpose::Scratch, "speed", tokens * d)?;
    let state = device.zeros(Purpose::Scratch, "speed", tokens * heads * 2)?;
    rate(
        device,
        tokens,
        4.0 * (tokens * d) as f64,
        &|rec, n_queries| {
            let a = Attention {
                q: &q,
                q_stride: d,
                n_queries,
                n_heads: heads,
                segments: &segments,
                out: &out,
                state: &state,
            };
            attention(rec, &a);
        },
    )
}

/// A convolution of the decoder's last stage.
fn convolution_speed(device: &Device) -> Result<f64, Error> {
    const CHANNELS: usize = 64;
    const WIDTH: usize = 64;
    const MOST_ROWS: usize = 512;
    let up = |v: &[f32]| device.upload(Purpose::Scratch, "speed", v);
    let matrix = ConvMatrix {
        weight: up(&values(5, CHANNELS * CHANNELS * 9))?,
        bias: up(&[0.0; CHANNELS])?,
        n: CHANNELS,
        k: CHANNELS,
    };
    let a = up(&values(6, MOST_ROWS * WIDTH * CHANNELS))?;
    let y = device.zeros(Purpose::Scratch, "speed", MOST_ROWS * WIDTH * CHANNELS)?;
    let flop = 2.0 * (9 * CHANNELS * CHANNELS * WIDTH) as f64;
    rate(device, MOST_ROWS, flop, &|rec, rows| {
        let c = Conv3x3 {
            a: &a,
            a_channels: CHANNELS,
            b: None,
            matrix: &matrix,
            y: &y,
            add: None,
            size: (WIDTH, rows),
            upscale: false,
            relu: true,
        };
        conv3x3(rec, &c);
    })
}

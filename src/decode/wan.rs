//! Wan 2.1's own decoder of latents, on a device and latent by latent: every convolution keeps the two frames before.
//!
//! A film's first latent frame gives one picture, every later one four, whatever the calls. Pictures lie channels fastest, and
//! are cut by channels into buffers where a frame outgrows a binding. Stages run frame by frame, the first frame down to its
//! pixels before the second, so that each resolution needs room for one.
//! Source: SELF-FORCING 7.

use super::taehv::{Watch, transposed};
use super::wan_shape::{ATTENTION, LATENT, StageShape, WanOptions, WanShape, groups, refuse};
use super::{Decoder, Error};
use crate::frame::Frame;
use crate::gpu::{Buffer, Device, Purpose, Recorder};
use crate::ops::{
    ChannelNorm, ConvTap, PixelAttention, TapMatrix, TapSizes, WeightFormat, channel_norm,
    conv_tap, pixel_attention,
};
use crate::weights::Weights;

/// Pixels of a latent's side.
const SCALE: usize = 8;
const MEAN: [f64; LATENT] = [
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517,
    -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
];
const STD: [f64; LATENT] = [
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579,
    1.6382, 1.1253, 2.8251, 1.9160,
];

/// The decoder of one film.
#[derive(Debug)]
pub struct WanVae {
    device: Device,
    /// Rows and columns of a latent frame.
    grid: (usize, usize),
    /// The 1x1 convolution in front, which the host does: weights `[output, input]` and bias.
    mix: (Vec<f32>, Vec<f32>),
    latent: Picture,
    first: Conv,
    stages: Vec<Stage>,
    head: (Buffer<f32>, Conv),
    rgb: Picture,
    /// Latent frames decoded.
    n_latents: usize,
}

/// One frame: `[pixel, channel]`, as many channels in every buffer.
#[derive(Debug)]
struct Picture {
    parts: Vec<Buffer<u32>>,
    channels: usize,
    format: WeightFormat,
}

/// A convolution and the frames that it has seen, the oldest first.
#[derive(Debug)]
struct Conv {
    matrix: TapMatrix,
    past: Vec<Picture>,
}

#[derive(Debug)]
struct Stage {
    /// Columns and rows.
    size: (usize, usize),
    blocks: Vec<(&'static str, Block)>,
    up: Option<Up>,
    /// What comes in, where the blocks are of another width.
    input: Option<Picture>,
    x: Picture,
    inner: Picture,
    /// What a convolution takes: of the blocks' width, and of the input's where that is another.
    now: Vec<Picture>,
    sums: Buffer<f32>,
}

#[derive(Debug)]
enum Block {
    Residual {
        gammas: [Buffer<f32>; 2],
        convs: Box<[Conv; 2]>,
        shortcut: Option<TapMatrix>,
    },
    Attention {
        gamma: Buffer<f32>,
        to_qkv: TapMatrix,
        proj: TapMatrix,
        qkv: [Picture; 3],
    },
}

#[derive(Debug)]
struct Up {
    name: &'static str,
    time: Option<Conv>,
    conv: TapMatrix,
}

struct Loader<'a> {
    device: &'a Device,
    weights: &'a Weights,
    format: WeightFormat,
    /// Bytes beyond which a picture is cut.
    limit: u64,
}

impl Loader<'_> {
    /// Values of a tensor that must be `len` long.
    fn values(&self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        let values = self.weights.require(name)?.to_f32()?;
        if values.len() == len {
            Ok(values)
        } else {
            refuse(self.weights, name)
        }
    }

    fn gamma(&self, layer: &str, n: usize) -> Result<Buffer<f32>, Error> {
        let values = self.values(&format!("decoder.{layer}.gamma"), n)?;
        Ok(self.device.upload(Purpose::Weights, "wan vae", &values)?)
    }

    fn matrix(&self, layer: &str, sizes: TapSizes) -> Result<TapMatrix, Error> {
        let n = sizes.n * sizes.k * sizes.times * sizes.side * sizes.side;
        let values = self.values(&format!("decoder.{layer}.weight"), n)?;
        let mut bias = self.values(&format!("decoder.{layer}.bias"), sizes.n)?;
        bias.resize(sizes.n_pad(), 0.0);
        let format = self.format;
        let words = format.pack(&sizes.pack(&values));
        Ok(TapMatrix {
            weight: self.device.upload(Purpose::Weights, "wan vae", &words)?,
            bias: self.device.upload(Purpose::Weights, "wan vae", &bias)?,
            sizes,
            format,
        })
    }

    /// A convolution with an empty past of pictures.
    fn conv(&self, layer: &str, sizes: TapSizes, pixels: usize) -> Result<Conv, Error> {
        let past = (1..sizes.times).map(|_| self.kept(sizes.k, pixels));
        Ok(Conv {
            matrix: self.matrix(layer, sizes)?,
            past: past.collect::<Result<_, _>>()?,
        })
    }

    fn picture(
        &self,
        channels: usize,
        pixels: usize,
        format: WeightFormat,
    ) -> Result<Picture, Error> {
        // Pictures of a size are cut alike, whatever their storage.
        let n = groups(channels, pixels, self.limit);
        let words = format.packed_bytes(channels / n * pixels) / 4;
        let part = |_| (self.device).zeros(Purpose::Activations, "wan vae", words);
        Ok(Picture {
            parts: (0..n).map(part).collect::<Result<_, _>>()?,
            channels,
            format,
        })
    }

    fn plain(&self, channels: usize, pixels: usize) -> Result<Picture, Error> {
        self.picture(channels, pixels, WeightFormat::F32)
    }

    fn kept(&self, channels: usize, pixels: usize) -> Result<Picture, Error> {
        self.picture(channels, pixels, self.format)
    }

    fn block(
        &self,
        name: &'static str,
        (from, wide): (usize, usize),
        pixels: usize,
    ) -> Result<Block, Error> {
        let part = |part: &str| format!("{name}.{part}");
        let taps = |n, k, times, side| TapSizes { n, k, times, side };
        if name == ATTENTION {
            let one = || self.plain(wide, pixels);
            return Ok(Block::Attention {
                gamma: self.gamma(&part("norm"), wide)?,
                to_qkv: self.matrix(&part("to_qkv"), taps(3 * wide, wide, 1, 1))?,
                proj: self.matrix(&part("proj"), taps(wide, wide, 1, 1))?,
                qkv: [one()?, one()?, one()?],
            });
        }
        let shortcut = (from != wide)
            .then(|| self.matrix(&part("shortcut"), taps(wide, from, 1, 1)))
            .transpose()?;
        Ok(Block::Residual {
            gammas: [
                self.gamma(&part("residual.0"), from)?,
                self.gamma(&part("residual.3"), wide)?,
            ],
            convs: Box::new([
                self.conv(&part("residual.2"), taps(wide, from, 3, 3), pixels)?,
                self.conv(&part("residual.6"), taps(wide, wide, 3, 3), pixels)?,
            ]),
            shortcut,
        })
    }

    fn stage(&self, shape: &StageShape, size: (usize, usize)) -> Result<Stage, Error> {
        let pixels = size.0 * size.1;
        let [from, wide] = shape.widths;
        let mut width = from;
        let mut blocks = Vec::new();
        for name in shape.blocks {
            blocks.push((*name, self.block(name, (width, wide), pixels)?));
            width = wide;
        }
        let up = match shape.up {
            None => None,
            Some(up) => {
                let layer = |part: &str| format!("{}.{part}", up.name);
                let time = |sizes| self.conv(&layer("time_conv"), sizes, pixels);
                Some(Up {
                    name: up.name,
                    time: up.time.map(time).transpose()?,
                    conv: self.matrix(&layer("resample.1"), up.conv)?,
                })
            }
        };
        let mut now = vec![self.kept(wide, pixels)?];
        let mut input = None;
        if from != wide {
            now.push(self.kept(from, pixels)?);
            input = Some(self.plain(from, pixels)?);
        }
        Ok(Stage {
            size,
            blocks,
            up,
            input,
            x: self.plain(wide, pixels)?,
            inner: self.plain(wide, pixels)?,
            now,
            sums: (self.device).zeros(Purpose::Activations, "wan vae", pixels)?,
        })
    }
}

impl WanVae {
    /// Reads the decoder's weights (`decoder.*`, `conv2.*`) and makes room for pictures of `grid` latent rows and columns.
    /// Widths come from the file. [`WanShape::bytes`] says what it takes.
    ///
    /// # Errors
    /// Tensors missing or of other shapes; pictures beyond what the device has.
    pub fn load(
        device: &Device,
        weights: &Weights,
        grid: (usize, usize),
        options: &WanOptions,
    ) -> Result<WanVae, Error> {
        let shape = WanShape::read(weights)?;
        let l = Loader {
            device,
            weights,
            format: options.format,
            limit: options.largest_bytes.min(device.caps().max_storage_bytes()),
        };
        // Attention takes whole pictures; the device says where they are too large for that.
        let whole = Loader {
            limit: u64::MAX,
            ..l
        };
        let mut stages = Vec::new();
        for (i, s) in shape.stages.iter().enumerate() {
            let attends = s.blocks.contains(&ATTENTION);
            let loader = if attends { &whole } else { &l };
            stages.push(loader.stage(s, shape.size(grid, i))?);
        }
        let pixels = grid.0 * grid.1;
        let (width, height) = stages[stages.len() - 1].size;
        Ok(WanVae {
            device: device.clone(),
            grid,
            mix: (
                l.values("conv2.weight", LATENT * LATENT)?,
                l.values("conv2.bias", LATENT)?,
            ),
            latent: whole.kept(LATENT, pixels)?,
            first: whole.conv("conv1", shape.first, pixels)?,
            stages,
            head: (
                l.gamma("head.0", shape.head.k)?,
                l.conv("head.2", shape.head, width * height)?,
            ),
            rgb: l.plain(shape.head.n_pad(), width * height)?,
            n_latents: 0,
        })
    }

    /// The frames of one latent frame, `[channel, row, column]` each, before they are cut to -1..=1.
    ///
    /// # Errors
    /// The device failed.
    ///
    /// # Panics
    /// When the latent is not one frame: a bug in the caller.
    pub fn raw(&mut self, latent: &[f32], mut watch: Watch<'_>) -> Result<Vec<Vec<f32>>, Error> {
        let pixels = self.grid.0 * self.grid.1;
        assert_eq!(latent.len(), LATENT * pixels, "a latent frame");
        let device = self.device.clone();
        let scaled = |(i, v): (usize, &f32)| {
            let c = i / pixels;
            (f64::from(*v) * STD[c] + MEAN[c]) as f32
        };
        let scaled: Vec<f32> = latent.iter().enumerate().map(scaled).collect();
        let mixed = mixed(&scaled, &self.mix, pixels);
        let words = (self.latent.format).pack(&transposed(&mixed, LATENT, pixels));
        if let Some(watch) = &mut watch {
            watch("z_scaled", scaled);
            watch("z_conv2", mixed);
        }
        device.write(&self.latent.parts[0], 0, &words);
        let mut rec = device.recorder();
        rec.stage("decode");
        let s = &self.stages[0];
        let to = s.input.as_ref().unwrap_or(&s.x);
        (self.first).run(&mut rec, &mut self.latent, to, s.size, false);
        device.run(rec)?;
        see(&mut watch, &device, "conv1", to, s.size)?;
        let mut out = Vec::new();
        self.stage(0, &mut out, &mut watch)?;
        self.n_latents += 1;
        Ok(out)
    }

    /// What a convolution over time keeps of the two frames before, `[channel, frame, row, column]`, by its place among
    /// these convolutions. `None` behind the last.
    ///
    /// # Errors
    /// The device failed.
    pub fn past(&self, slot: usize) -> Result<Option<Vec<f32>>, Error> {
        let mut all = vec![(&self.first, self.stages[0].size)];
        for s in &self.stages {
            for (_, block) in &s.blocks {
                if let Block::Residual { convs, .. } = block {
                    all.extend(convs.iter().map(|c| (c, s.size)));
                }
            }
            let time = s.up.as_ref().and_then(|u| u.time.as_ref());
            all.extend(time.map(|c| (c, s.size)));
        }
        let last = self.stages[self.stages.len() - 1].size;
        all.push((&self.head.1, last));
        let Some((conv, (width, height))) = all.get(slot) else {
            return Ok(None);
        };
        let pixels = width * height;
        let mut frames = Vec::new();
        for picture in &conv.past {
            frames.push(picture.planes(&self.device, pixels)?);
        }
        let channels = 0..conv.matrix.sizes.k;
        let plane = |c: usize| frames.iter().flat_map(move |f| &f[c * pixels..][..pixels]);
        Ok(Some(channels.flat_map(plane).copied().collect()))
    }

    /// Runs a stage on its picture, and the later ones on each frame that it becomes.
    fn stage(
        &mut self,
        at: usize,
        out: &mut Vec<Vec<f32>>,
        watch: &mut Watch<'_>,
    ) -> Result<(), Error> {
        let device = self.device.clone();
        for i in 0..self.stages[at].blocks.len() {
            let mut rec = device.recorder();
            rec.stage("decode");
            let s = &mut self.stages[at];
            s.block(&mut rec, i);
            device.run(rec)?;
            see(watch, &device, &short(s.blocks[i].0), &s.x, s.size)?;
        }
        if self.stages[at].up.is_none() {
            return self.pixels(at, out);
        }
        let is_first = self.n_latents == 0;
        let s = &mut self.stages[at];
        let grows = s.up.as_ref().is_some_and(|u| u.time.is_some()) && !is_first;
        if grows {
            let mut rec = device.recorder();
            rec.stage("decode");
            prepare(&mut rec, &s.x, None, &s.sums, &s.now[0], s.size);
            device.run(rec)?;
        }
        for frame in 0..if grows { 2 } else { 1 } {
            let (before, after) = self.stages.split_at(at + 1);
            let (s, next) = (&before[at], &after[0]);
            let Some(up) = &s.up else { break };
            let to = next.input.as_ref().unwrap_or(&next.x);
            let mut rec = device.recorder();
            rec.stage("decode");
            let mut from = &s.x;
            if let (true, Some(time)) = (grows, &up.time) {
                let first = frame * s.x.channels;
                time.record(&mut rec, &s.now[0], &s.inner, first, s.size, false);
                from = &s.inner;
            }
            convolve(&mut rec, &up.conv, &[from], to, 0, next.size, true, false);
            device.run(rec)?;
            see(watch, &device, &short(up.name), to, next.size)?;
            self.stage(at + 1, out, watch)?;
        }
        let s = &mut self.stages[at];
        if let (true, Some(time)) = (grows, s.up.as_mut().and_then(|u| u.time.as_mut())) {
            time.remember(&mut s.now[0]);
        }
        Ok(())
    }

    /// The last stage's picture as pixels.
    fn pixels(&mut self, at: usize, out: &mut Vec<Vec<f32>>) -> Result<(), Error> {
        let device = self.device.clone();
        let s = &mut self.stages[at];
        let (gamma, conv) = &mut self.head;
        let mut rec = device.recorder();
        rec.stage("decode");
        prepare(&mut rec, &s.x, Some(gamma), &s.sums, &s.now[0], s.size);
        conv.run(&mut rec, &mut s.now[0], &self.rgb, s.size, false);
        device.run(rec)?;
        let n = s.size.0 * s.size.1;
        let mut planes = self.rgb.planes(&device, n)?;
        planes.truncate(3 * n);
        out.push(planes);
        Ok(())
    }
}

impl Decoder for WanVae {
    /// The film's first latent frame gives one picture, every later one four.
    fn decode(&mut self, latents: &[f32]) -> Result<Option<Vec<Frame>>, Error> {
        let one = LATENT * self.grid.0 * self.grid.1;
        assert!(latents.len().is_multiple_of(one), "whole latent frames");
        let (width, height) = (SCALE * self.grid.1, SCALE * self.grid.0);
        let level = |v: f32| ((v.clamp(-1.0, 1.0) * 0.5 + 0.5).clamp(0.0, 1.0) * 255.0) as u8;
        let mut frames = Vec::new();
        for latent in latents.chunks_exact(one) {
            for planes in self.raw(latent, None)? {
                if planes.iter().any(|v| !v.is_finite()) {
                    return Ok(None);
                }
                let n = width * height;
                frames.push(Frame {
                    width: width as u32,
                    height: height as u32,
                    rgb: (0..3 * n)
                        .map(|i| level(planes[i % 3 * n + i / 3]))
                        .collect(),
                });
            }
        }
        Ok(Some(frames))
    }
}

impl Stage {
    /// Records block `i`: x becomes its output.
    fn block(&mut self, rec: &mut Recorder<'_>, i: usize) {
        let (sums, size) = (&self.sums, self.size);
        match &mut self.blocks[i].1 {
            Block::Residual {
                gammas,
                convs,
                shortcut,
            } => {
                let [one, two] = &mut **convs;
                let (from, now) = match (&self.input, shortcut) {
                    (Some(input), Some(shortcut)) => {
                        convolve(rec, shortcut, &[input], &self.x, 0, size, false, false);
                        (input, 1)
                    }
                    _ => (&self.x, 0),
                };
                let now = &mut self.now[now];
                prepare(rec, from, Some(&gammas[0]), sums, now, size);
                one.run(rec, now, &self.inner, size, false);
                let now = &mut self.now[0];
                prepare(rec, &self.inner, Some(&gammas[1]), sums, now, size);
                two.run(rec, now, &self.x, size, true);
            }
            Block::Attention {
                gamma,
                to_qkv,
                proj,
                qkv,
            } => {
                let n_pixels = size.0 * size.1;
                let norm = ChannelNorm {
                    silu: false,
                    ..ready(&self.x, Some(gamma), sums, &self.inner, n_pixels)
                };
                channel_norm(rec, &norm);
                for (i, part) in qkv.iter().enumerate() {
                    let first = i * self.x.channels;
                    let input = &[&self.inner];
                    convolve(rec, to_qkv, input, part, first, size, false, false);
                }
                let [q, k, v] = &*qkv;
                let attention = PixelAttention {
                    q: &q.parts[0],
                    k: &k.parts[0],
                    v: &v.parts[0],
                    out: &self.inner.parts[0],
                    n_pixels,
                    channels: self.x.channels,
                };
                pixel_attention(rec, &attention);
                convolve(rec, proj, &[&self.inner], &self.x, 0, size, false, true);
            }
        }
    }
}

impl Conv {
    /// Records the convolution of `now` and the past, and keeps `now`, which becomes another picture.
    fn run(
        &mut self,
        rec: &mut Recorder<'_>,
        now: &mut Picture,
        y: &Picture,
        size: (usize, usize),
        add: bool,
    ) {
        self.record(rec, now, y, 0, size, add);
        self.remember(now);
    }

    fn record(
        &self,
        rec: &mut Recorder<'_>,
        now: &Picture,
        y: &Picture,
        first: usize,
        size: (usize, usize),
        add: bool,
    ) {
        let mut frames: Vec<&Picture> = self.past.iter().collect();
        frames.push(now);
        convolve(rec, &self.matrix, &frames, y, first, size, false, add);
    }

    /// Keeps `now` in the place of the oldest frame, which nothing needs any more.
    fn remember(&mut self, now: &mut Picture) {
        self.past.rotate_left(1);
        if let Some(oldest) = self.past.last_mut() {
            std::mem::swap(oldest, now);
        }
    }
}

impl Picture {
    fn width(&self) -> usize {
        self.channels / self.parts.len()
    }

    /// `[channel, row, column]`.
    fn planes(&self, device: &Device, pixels: usize) -> Result<Vec<f32>, Error> {
        let mut planes = Vec::with_capacity(self.channels * pixels);
        for part in &self.parts {
            let values = self.format.unpack(&device.read_all(part)?);
            planes.extend(transposed(&values, pixels, self.width()));
        }
        Ok(planes)
    }
}

/// Records a convolution of `frames`, the oldest first, whose outputs from `first` on are `y`'s channels.
#[allow(
    clippy::too_many_arguments,
    reason = "one call of one kernel, cut into parts"
)]
fn convolve(
    rec: &mut Recorder<'_>,
    matrix: &TapMatrix,
    frames: &[&Picture],
    y: &Picture,
    first: usize,
    size: (usize, usize),
    upscale: bool,
    add: bool,
) {
    for (j, to) in y.parts.iter().enumerate() {
        let out = first + j * y.width();
        let mut begun = false;
        for (time, frame) in frames.iter().enumerate() {
            for (i, x) in frame.parts.iter().enumerate() {
                let tap = ConvTap {
                    x,
                    x_format: frame.format,
                    inputs: i * frame.width()..(i + 1) * frame.width(),
                    matrix,
                    time,
                    outputs: out..out + y.width(),
                    y: to,
                    size,
                    upscale,
                    add: add || begun,
                    bias: !begun,
                };
                conv_tap(rec, &tap);
                begun = true;
            }
        }
    }
}

/// What a convolution takes: normed and through SiLU.
fn ready<'a>(
    x: &'a Picture,
    gamma: Option<&'a Buffer<f32>>,
    sums: &'a Buffer<f32>,
    y: &'a Picture,
    n_pixels: usize,
) -> ChannelNorm<'a> {
    ChannelNorm {
        x: x.parts.iter().collect(),
        gamma,
        sums,
        y: y.parts.iter().collect(),
        y_format: y.format,
        channels: x.channels,
        n_pixels,
        silu: true,
    }
}

/// Records what turns `x` into a convolution's `now`: norm and SiLU, or without a norm storage alone.
fn prepare(
    rec: &mut Recorder<'_>,
    x: &Picture,
    gamma: Option<&Buffer<f32>>,
    sums: &Buffer<f32>,
    now: &Picture,
    size: (usize, usize),
) {
    let norm = ChannelNorm {
        silu: gamma.is_some(),
        ..ready(x, gamma, sums, now, size.0 * size.1)
    };
    channel_norm(rec, &norm);
}

/// The 1x1 convolution in front, `[channel, pixel]`.
fn mixed(z: &[f32], (weights, bias): &(Vec<f32>, Vec<f32>), pixels: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(z.len());
    for (weights, bias) in weights.chunks_exact(LATENT).zip(bias) {
        for pixel in 0..pixels {
            let inputs = z[pixel..].iter().step_by(pixels);
            let products = weights.iter().zip(inputs);
            let sum: f64 = products.map(|(w, z)| f64::from(*w) * f64::from(*z)).sum();
            out.push((sum + f64::from(*bias)) as f32);
        }
    }
    out
}

/// A layer's name to whoever watches: `mid0`, `up11`.
fn short(name: &str) -> String {
    name.replace("middle.", "mid").replace("upsamples.", "up")
}

/// Gives a picture to whoever watches.
fn see(
    watch: &mut Watch<'_>,
    device: &Device,
    name: &str,
    picture: &Picture,
    size: (usize, usize),
) -> Result<(), Error> {
    if let Some(watch) = watch {
        watch(name, picture.planes(device, size.0 * size.1)?);
    }
    Ok(())
}

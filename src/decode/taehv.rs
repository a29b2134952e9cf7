//! TAEHV, the small decoder of Wan's latents, on a device and latent by latent: no picture of the past but one a memory.
//!
//! Pictures lie channels fastest. Every latent frame gives four raw frames, and of a film's first three are dropped.
//! Source: SELF-FORCING 8.

use super::{Decoder, Error, TaehvShape};
use crate::frame::Frame;
use crate::gpu::{Buffer, Device, Purpose, Recorder};
use crate::ops::{
    Activation, Conv3x3, ConvMatrix, Linear, Matrix, Store, WeightFormat, conv3x3, linear,
    pack_conv3x3,
};
use crate::weights::Weights;

/// Raw frames of a latent frame.
pub(super) const FRAMES: usize = 4;
/// Raw frames at a film's beginning that are no pictures yet.
const WARM_UP: usize = 3;
/// Pixels of a latent's side.
const SCALE: usize = 8;
/// Layers that begin with a memory, by stage, and the layer that grows frames behind them.
pub(super) const STAGES: [([usize; 3], usize); 3] =
    [([3, 4, 5], 7), ([9, 10, 11], 13), ([15, 16, 17], 19)];

/// Takes an intermediate tensor by name, `[channel, row, column]`.
pub type Watch<'a> = Option<&'a mut dyn FnMut(&str, Vec<f32>)>;

/// The decoder of one film.
#[derive(Debug)]
pub struct Taehv {
    device: Device,
    /// Rows and columns of a latent frame.
    grid: (usize, usize),
    channels: usize,
    /// Behind each convolution: to the first stage, between the stages, and to the full picture.
    convs: Vec<ConvMatrix>,
    stages: Vec<Stage>,
    to_rgb: ConvMatrix,
    latent: Buffer<f32>,
    full: Buffer<f32>,
    rgb: Buffer<f32>,
    n_raw: usize,
}

/// Three memories at one resolution, and the frames they grow into.
#[derive(Debug)]
struct Stage {
    mems: Vec<Memory>,
    /// One product a frame.
    grow: Vec<Matrix>,
    width: usize,
    /// Columns and rows.
    size: (usize, usize),
    x: Buffer<f32>,
    inner: [Buffer<f32>; 2],
    grown: Buffer<f32>,
}

/// A residual block that also sees its input of the frame before.
#[derive(Debug)]
struct Memory {
    convs: [ConvMatrix; 3],
    past: Buffer<f32>,
}

struct Loader<'a> {
    device: &'a Device,
    weights: &'a Weights,
}

/// Sizes of a tensor, some of them wanted.
pub(super) fn shape<const N: usize>(
    weights: &Weights,
    name: &str,
    want: &[Option<usize>; N],
) -> Result<[usize; N], Error> {
    let view = weights.require(name)?;
    let found = <[usize; N]>::try_from(view.shape()).ok();
    let fits = |found: &[usize; N]| {
        found
            .iter()
            .zip(want)
            .all(|(f, w)| *f > 0 && w.is_none_or(|w| w == *f))
    };
    match found.filter(fits) {
        Some(found) => Ok(found),
        None => refuse(weights, name),
    }
}

/// Says of a tensor that its sizes do not fit.
pub(super) fn refuse<T>(weights: &Weights, name: &str) -> Result<T, Error> {
    Err(Error::Shape {
        name: name.to_owned(),
        found: weights.require(name)?.shape().to_vec(),
        path: weights.path().to_owned(),
    })
}

impl Loader<'_> {
    /// A convolution of `k` inputs, and of `n` outputs where that is known.
    fn conv(
        &self,
        layer: &str,
        n: Option<usize>,
        k: usize,
        has_bias: bool,
    ) -> Result<ConvMatrix, Error> {
        let name = format!("decoder.{layer}.weight");
        let [n, ..] = shape(self.weights, &name, &[n, Some(k), Some(3), Some(3)])?;
        let values = self.weights.require(&name)?.to_f32()?;
        let mut bias = vec![0.0; n];
        if has_bias {
            let name = format!("decoder.{layer}.bias");
            shape(self.weights, &name, &[Some(n)])?;
            bias = self.weights.require(&name)?.to_f32()?;
        }
        let n_pad = n.next_multiple_of(4);
        bias.resize(n_pad, 0.0);
        let upload = |values: &[f32]| self.device.upload(Purpose::Weights, "taehv", values);
        Ok(ConvMatrix {
            weight: upload(&pack_conv3x3(&values, n, k))?,
            bias: upload(&bias)?,
            n: n_pad,
            k,
        })
    }

    fn memory(&self, layer: usize, n: usize, pixels: usize) -> Result<Memory, Error> {
        let conv = |i: usize, k| self.conv(&format!("{layer}.conv.{i}"), Some(n), k, true);
        Ok(Memory {
            convs: [conv(0, 2 * n)?, conv(2, n)?, conv(4, n)?],
            past: self.picture(n * pixels)?,
        })
    }

    /// The frames that a layer grows, a matrix each.
    fn grow(&self, layer: usize, n: usize) -> Result<Vec<Matrix>, Error> {
        let name = format!("decoder.{layer}.conv.weight");
        let values = self.weights.require(&name)?.to_f32()?;
        values
            .chunks_exact(n * n)
            .map(|part| {
                let format = WeightFormat::F32;
                Ok(Matrix {
                    weight: (self.device).upload(Purpose::Weights, "taehv", &format.pack(part))?,
                    bias: self.device.zeros(Purpose::Weights, "taehv", n)?,
                    n,
                    k: n,
                    format,
                })
            })
            .collect()
    }

    fn picture(&self, values: usize) -> Result<Buffer<f32>, crate::gpu::Error> {
        self.device.zeros(Purpose::Activations, "taehv", values)
    }
}

impl Taehv {
    /// Reads the decoder's weights and makes room for pictures of `grid` latent rows and columns. Widths come from the file.
    ///
    /// # Errors
    /// Tensors missing or of other shapes; pictures beyond a binding; no device memory.
    pub fn load(device: &Device, weights: &Weights, grid: (usize, usize)) -> Result<Taehv, Error> {
        let l = Loader { device, weights };
        let widths = TaehvShape::of(weights)?;
        let channels = widths.channels;
        let mut convs = vec![l.conv("1", Some(widths.widths[0]), channels, true)?];
        let (mut stages, mut size) = (Vec::new(), (grid.1, grid.0));
        for ((mems, grows), width) in STAGES.into_iter().zip(widths.widths) {
            let pixels = size.0 * size.1;
            let mems = mems.map(|layer| l.memory(layer, width, pixels));
            let inner = [l.picture(width * pixels)?, l.picture(width * pixels)?];
            stages.push(Stage {
                mems: mems.into_iter().collect::<Result<_, _>>()?,
                grow: l.grow(grows, width)?,
                width,
                size,
                x: l.picture(width * pixels)?,
                inner,
                grown: l.picture(width * pixels)?,
            });
            convs.push(l.conv(&format!("{}", grows + 1), None, width, false)?);
            size = (2 * size.0, 2 * size.1);
        }
        let width = widths.full;
        let pixels = size.0 * size.1;
        Ok(Taehv {
            device: device.clone(),
            grid,
            channels,
            convs,
            stages,
            to_rgb: l.conv("22", Some(3), width, true)?,
            latent: l.picture(channels * grid.0 * grid.1)?,
            full: l.picture(width * pixels)?,
            rgb: l.picture(4 * pixels)?,
            n_raw: 0,
        })
    }

    /// The four raw frames of one latent frame, `[channel, row, column]` each, before they are cut to 0..=1.
    ///
    /// # Errors
    /// The device failed.
    ///
    /// # Panics
    /// When the latent is not one frame: a bug in the caller.
    pub fn raw(&mut self, latent: &[f32], mut watch: Watch<'_>) -> Result<Vec<Vec<f32>>, Error> {
        let pixels = self.grid.0 * self.grid.1;
        assert_eq!(latent.len(), self.channels * pixels, "a latent frame");
        let soft: Vec<f32> = latent.iter().copied().map(soft_clamp).collect();
        if let Some(watch) = &mut watch {
            watch("l0", soft.clone());
        }
        self.device
            .write(&self.latent, 0, &transposed(&soft, self.channels, pixels));
        let first = &self.stages[0];
        let conv = plain(&self.latent, &self.convs[0], &first.x, first.size);
        if watch.is_some() {
            let mut rec = self.device.recorder();
            conv3x3(&mut rec, &conv);
            self.device.run(rec)?;
            see(
                &mut watch,
                &self.device,
                "l1",
                &first.x,
                first.width,
                first.size,
            )?;
        }
        let mut rec = self.device.recorder();
        rec.stage("decode");
        conv3x3(&mut rec, &Conv3x3 { relu: true, ..conv });
        self.device.run(rec)?;
        let mut out = Vec::with_capacity(FRAMES);
        self.stage(0, &mut out, &mut watch)?;
        self.n_raw += out.len();
        Ok(out)
    }

    /// Runs a stage on its picture, and the later ones on each frame it grows into.
    fn stage(
        &mut self,
        at: usize,
        out: &mut Vec<Vec<f32>>,
        watch: &mut Watch<'_>,
    ) -> Result<(), Error> {
        let device = self.device.clone();
        let (mems, grows) = STAGES[at];
        for (i, layer) in mems.into_iter().enumerate() {
            let mut rec = device.recorder();
            rec.stage("decode");
            self.stages[at].remember(&mut rec, i);
            device.run(rec)?;
            let s = &self.stages[at];
            if layer != 4 {
                see(watch, &device, &format!("l{layer}"), &s.x, s.width, s.size)?;
            }
        }
        for frame in 0..self.stages[at].grow.len() {
            let s = &self.stages[at];
            let mut rec = device.recorder();
            rec.stage("decode");
            // A product of each pixel by itself commutes with doubling the picture, so it comes first.
            linear(
                &mut rec,
                &Linear {
                    x: &s.x,
                    matrix: &s.grow[frame],
                    y: &s.grown,
                    n_rows: s.size.0 * s.size.1,
                    act: Activation::None,
                    store: Store::Set,
                },
            );
            let last = at + 1 == self.stages.len();
            let size = (2 * s.size.0, 2 * s.size.1);
            let next = if last {
                &self.full
            } else {
                &self.stages[at + 1].x
            };
            let grown = Conv3x3 {
                upscale: true,
                relu: last,
                ..plain(&s.grown, &self.convs[at + 1], next, size)
            };
            conv3x3(&mut rec, &grown);
            if last {
                conv3x3(&mut rec, &plain(&self.full, &self.to_rgb, &self.rgb, size));
            }
            device.run(rec)?;
            if watch.is_some() {
                let small = device.read(&s.grown, 0..s.width * s.size.0 * s.size.1)?;
                let doubled = doubled(&transposed(&small, s.size.0 * s.size.1, s.width), s.size);
                if let Some(watch) = watch {
                    watch(&format!("l{grows}"), doubled);
                }
            }
            if last {
                let n = size.0 * size.1;
                let rgb = device.read(&self.rgb, 0..4 * n)?;
                let mut planes = transposed(&rgb, n, 4);
                planes.truncate(3 * n);
                out.push(planes);
            } else {
                self.stage(at + 1, out, watch)?;
            }
        }
        Ok(())
    }
}

impl Decoder for Taehv {
    /// The film's first latent frame gives one picture, every later one four.
    fn decode(&mut self, latents: &[f32]) -> Result<Option<Vec<Frame>>, Error> {
        let one = self.channels * self.grid.0 * self.grid.1;
        assert!(latents.len().is_multiple_of(one), "whole latent frames");
        let (width, height) = (SCALE * self.grid.1, SCALE * self.grid.0);
        let level = |v: &f32| (v.clamp(0.0, 1.0) * 255.0) as u8;
        let mut frames = Vec::new();
        for latent in latents.chunks_exact(one) {
            let first = self.n_raw;
            let raw = self.raw(latent, None)?;
            for (_, planes) in (first..).zip(raw).filter(|(i, _)| WARM_UP <= *i) {
                if planes.iter().any(|v| !v.is_finite()) {
                    return Ok(None);
                }
                let n = width * height;
                frames.push(Frame {
                    width: width as u32,
                    height: height as u32,
                    rgb: (0..3 * n)
                        .map(|i| level(&planes[i % 3 * n + i / 3]))
                        .collect(),
                });
            }
        }
        Ok(Some(frames))
    }
}

impl Stage {
    /// Records memory `i`: x becomes its output, and its past what x was.
    fn remember(&mut self, rec: &mut Recorder<'_>, i: usize) {
        let mem = &mut self.mems[i];
        let [one, two] = &self.inner;
        let [first, second, third] = &mem.convs;
        let both = Conv3x3 {
            a_channels: self.width,
            b: Some(&mem.past),
            ..plain(&self.x, first, one, self.size)
        };
        let inner = plain(one, second, two, self.size);
        // Nothing needs the past any more.
        let sum = Conv3x3 {
            add: Some(&self.x),
            ..plain(two, third, &mem.past, self.size)
        };
        for conv in [both, inner, sum] {
            conv3x3(rec, &Conv3x3 { relu: true, ..conv });
        }
        std::mem::swap(&mut self.x, &mut mem.past);
    }
}

/// A convolution of one picture and nothing else.
fn plain<'a>(
    a: &'a Buffer<f32>,
    matrix: &'a ConvMatrix,
    y: &'a Buffer<f32>,
    size: (usize, usize),
) -> Conv3x3<'a> {
    Conv3x3 {
        a,
        a_channels: matrix.k,
        b: None,
        matrix,
        y,
        add: None,
        size,
        upscale: false,
        relu: false,
    }
}

/// Gives a picture to whoever watches.
fn see(
    watch: &mut Watch<'_>,
    device: &Device,
    name: &str,
    picture: &Buffer<f32>,
    width: usize,
    size: (usize, usize),
) -> Result<(), Error> {
    if let Some(watch) = watch {
        let pixels = size.0 * size.1;
        let values = device.read(picture, 0..pixels * width)?;
        watch(name, transposed(&values, pixels, width));
    }
    Ok(())
}

/// `[row, column]` as `[column, row]`.
pub(super) fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns)
        .map(|i| values[i % rows * columns + i / rows])
        .collect()
}

/// Planes with every pixel four times.
fn doubled(planes: &[f32], (width, height): (usize, usize)) -> Vec<f32> {
    let plane = |p: &[f32]| -> Vec<f32> {
        (0..4 * width * height)
            .map(|i| p[i / (2 * width) / 2 * width + i % (2 * width) / 2])
            .collect()
    };
    planes
        .chunks_exact(width * height)
        .flat_map(plane)
        .collect()
}

/// A latent value as the first layer takes it: within -3..3, and nearly itself where it is small.
///
/// Source: TAEHV, `Clamp`.
#[must_use]
pub fn soft_clamp(v: f32) -> f32 {
    3.0 * (v / 3.0).tanh()
}

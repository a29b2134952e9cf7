//! Wan's decoder from its file onto a device.

use super::Error;
use super::wan_shape::{ATTENTION, StageShape, groups, refuse};
use super::wan_stage::{Block, Conv, Picture, Stage, Up};
use crate::gpu::{Buffer, Device, Purpose};
use crate::ops::{TapMatrix, TapSizes, WeightFormat};
use crate::weights::Weights;

/// What is loaded, and how it lies.
#[derive(Clone, Copy)]
pub(super) struct Loader<'a> {
    pub(super) device: &'a Device,
    pub(super) weights: &'a Weights,
    pub(super) format: WeightFormat,
    /// Bytes beyond which a picture is cut.
    pub(super) limit: u64,
}

impl Loader<'_> {
    /// Values of a tensor that must be `len` long.
    pub(super) fn values(&self, name: &str, len: usize) -> Result<Vec<f32>, Error> {
        let values = self.weights.require(name)?.to_f32()?;
        if values.len() == len {
            Ok(values)
        } else {
            refuse(self.weights, name)
        }
    }

    pub(super) fn gamma(&self, layer: &str, n: usize) -> Result<Buffer<f32>, Error> {
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
    pub(super) fn conv(&self, layer: &str, sizes: TapSizes, pixels: usize) -> Result<Conv, Error> {
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

    pub(super) fn plain(&self, channels: usize, pixels: usize) -> Result<Picture, Error> {
        self.picture(channels, pixels, WeightFormat::F32)
    }

    pub(super) fn kept(&self, channels: usize, pixels: usize) -> Result<Picture, Error> {
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

    /// A stage of pictures of `size` columns and rows, with room for `pixels` of them.
    pub(super) fn stage(
        &self,
        shape: &StageShape,
        size: (usize, usize),
        pixels: usize,
    ) -> Result<Stage, Error> {
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
            first_row: 0,
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

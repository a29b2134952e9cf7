//! Latents to RGB frames: on the host where latents are pixels, on the device through a network else.

mod pictures;
mod pixel;
mod taehv;
mod taehv_shape;
mod wan;
mod wan_bands;
mod wan_load;
mod wan_shape;
mod wan_stage;

use std::fmt::Debug;
use std::path::PathBuf;

use crate::frame::Frame;
use crate::gpu::Device;
use crate::weights::Weights;

pub use pictures::Pictures;
pub use pixel::{from_frame, to_frames};
pub use taehv::{Taehv, Watch, soft_clamp};
pub use taehv_shape::TaehvShape;
pub use wan::WanVae;
pub use wan_shape::{WanBytes, WanOptions, WanShape};

/// Makes the pictures of one film, latent frame after latent frame: it may remember those before.
pub trait Decoder: Debug + Send {
    /// Pictures of latent frames `[frame, channel, row, column]` that follow those before. `None` when a value is not a number.
    ///
    /// # Errors
    /// The device failed.
    ///
    /// # Panics
    /// When the length is no multiple of a frame: a bug in the caller.
    fn decode(&mut self, latents: &[f32]) -> Result<Option<Vec<Frame>>, Error>;
}

/// What makes pictures of a model's latents, not loaded yet.
#[derive(Debug)]
pub enum DecoderSource {
    /// Nothing: the latents are the picture.
    Pixels,
    /// TAEHV with these weights.
    Taehv(Weights),
    /// Wan's own decoder with these weights.
    Wan(Weights, WanOptions),
}

/// A decoder as far as sizes go.
#[derive(Debug, Clone, PartialEq)]
pub enum DecoderShape {
    /// As [`DecoderSource::Pixels`].
    Pixels,
    /// TAEHV of these widths.
    Taehv(TaehvShape),
    /// Wan's own decoder of these widths, stored so.
    Wan(WanShape, WanOptions),
}

/// What a decoder that is ready for one film takes: latents, device bytes, operations.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct DecoderNeeds {
    /// Channels of the latents.
    pub channels: usize,
    /// Bands of rows that a picture is made in, one after the other.
    pub bands: usize,
    /// Bytes that wait on the host meanwhile.
    pub host_bytes: u64,
    /// Pixels of a latent's side.
    pub cell_px: u32,
    /// Pictures of a latent frame behind the film's first.
    pub cell_frames: u32,
    /// Bytes of weights.
    pub weights_bytes: u64,
    /// Bytes of pictures on their way and of what is remembered.
    pub activations_bytes: u64,
    /// Bytes of the largest read-back.
    pub read_bytes: u64,
    /// Bytes of the largest single buffer.
    pub largest_bytes: u64,
    /// Floating-point operations of a latent frame, two a multiply-add.
    pub flop: f64,
}

impl DecoderShape {
    /// The word used in messages and recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pixels => "pixels",
            Self::Taehv(_) => "taehv",
            Self::Wan(..) => "wan",
        }
    }

    /// What it takes for pictures of `grid` latent rows and columns.
    #[must_use]
    pub fn needs(&self, grid: (usize, usize)) -> DecoderNeeds {
        match self {
            Self::Pixels => DecoderNeeds {
                channels: pixel::CHANNELS,
                bands: 1,
                host_bytes: 0,
                cell_px: 1,
                cell_frames: 1,
                weights_bytes: 0,
                activations_bytes: 0,
                read_bytes: 0,
                largest_bytes: 0,
                flop: 0.0,
            },
            Self::Taehv(shape) => shape.needs(grid),
            Self::Wan(shape, options) => shape.needs(grid, options),
        }
    }
}

impl DecoderShape {
    /// The same in more bands, fewest first, for pictures of `grid` latent rows and columns: less memory, more work, the same
    /// pictures. Nothing where a decoder is not cut.
    pub fn smaller(&self, grid: (usize, usize)) -> impl Iterator<Item = DecoderShape> {
        let wan = match self {
            Self::Wan(shape, options) => Some((shape, options)),
            _ => None,
        };
        wan.into_iter().flat_map(move |(shape, options)| {
            let more = wan_bands::ladder(grid.0).filter(|n| options.bands < *n);
            more.map(|bands| {
                let options = WanOptions { bands, ..*options };
                Self::Wan(shape.clone(), options)
            })
        })
    }
}

impl DecoderSource {
    /// Its sizes, read off the tensors.
    ///
    /// # Errors
    /// Tensors missing or of other shapes.
    pub fn shape(&self) -> Result<DecoderShape, Error> {
        Ok(match self {
            Self::Pixels => DecoderShape::Pixels,
            Self::Taehv(weights) => DecoderShape::Taehv(TaehvShape::of(weights)?),
            Self::Wan(weights, options) => DecoderShape::Wan(WanShape::read(weights)?, *options),
        })
    }

    /// The decoder, for pictures of `grid` latent rows and columns in so many bands ([`DecoderNeeds::bands`]).
    ///
    /// # Errors
    /// Tensors missing or of other shapes; pictures beyond a binding; no device memory.
    pub fn load(
        &self,
        device: &Device,
        grid: (usize, usize),
        bands: usize,
    ) -> Result<Box<dyn Decoder>, Error> {
        Ok(match self {
            Self::Pixels => Box::new(pixel::Pixels {
                height: grid.0 as u32,
                width: grid.1 as u32,
            }),
            Self::Taehv(weights) => Box::new(Taehv::load(device, weights, grid)?),
            Self::Wan(weights, options) => {
                let options = WanOptions { bands, ..*options };
                Box::new(WanVae::load(device, weights, grid, &options)?)
            }
        })
    }
}

/// Why a decoder could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor whose sizes do not fit the others.
    #[error(
        "the decoder's tensor {name:?} has shape {found:?}, which does not fit; take the decoder that belongs to the model: {path:?}"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// Its sizes.
        found: Vec<usize>,
        /// The file.
        path: PathBuf,
    },
    /// The device.
    #[error(transparent)]
    Gpu(#[from] crate::gpu::Error),
    /// The weights.
    #[error(transparent)]
    Weights(#[from] crate::weights::Error),
}

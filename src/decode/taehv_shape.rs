//! What TAEHV takes, by the widths that its file tells.

use super::taehv::{FRAMES, STAGES, refuse, shape};
use super::{DecoderNeeds, Error};
use crate::weights::Weights;

/// Taps of a convolution.
const TAPS: usize = 9;
/// Memories of a stage.
const MEMORIES: usize = 3;

/// Widths of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaehvShape {
    /// Channels of a latent.
    pub channels: usize,
    /// Channels of the stages.
    pub widths: [usize; STAGES.len()],
    /// Frames that a stage makes of one.
    pub grows: [usize; STAGES.len()],
    /// Channels of the full picture before its colours.
    pub full: usize,
}

impl TaehvShape {
    /// `taew2_1`, as published. Source: SELF-FORCING 8.
    #[must_use]
    pub fn published() -> TaehvShape {
        TaehvShape {
            channels: 16,
            widths: [256, 128, 64],
            grows: [1, 2, 2],
            full: 64,
        }
    }

    /// Reads the widths off the tensors.
    ///
    /// # Errors
    /// Tensors missing or of other shapes.
    pub fn of(weights: &Weights) -> Result<TaehvShape, Error> {
        let [first, channels, ..] =
            shape(weights, "decoder.1.weight", &[None, None, Some(3), Some(3)])?;
        if !first.is_multiple_of(4) || !channels.is_multiple_of(4) {
            return refuse(weights, "decoder.1.weight");
        }
        let mut full = first;
        let (mut widths, mut grows) = ([0; STAGES.len()], [0; STAGES.len()]);
        for (i, (_, layer)) in STAGES.into_iter().enumerate() {
            let name = format!("decoder.{layer}.conv.weight");
            let [rows, ..] = shape(weights, &name, &[None, Some(full), Some(1), Some(1)])?;
            if !rows.is_multiple_of(full) {
                return refuse(weights, &name);
            }
            (widths[i], grows[i]) = (full, rows / full);
            let name = format!("decoder.{}.weight", layer + 1);
            [full, ..] = shape(weights, &name, &[None, Some(full), Some(3), Some(3)])?;
            if !full.is_multiple_of(4) {
                return refuse(weights, &name);
            }
        }
        if grows.iter().product::<usize>() != FRAMES {
            return refuse(weights, "decoder.19.conv.weight");
        }
        Ok(TaehvShape {
            channels,
            widths,
            grows,
            full,
        })
    }

    /// What [`Taehv::load`](super::Taehv::load) takes for pictures of `grid` latent rows and columns, and what a latent frame
    /// costs.
    #[must_use]
    pub fn needs(&self, grid: (usize, usize)) -> DecoderNeeds {
        let mut all = Sum(DecoderNeeds {
            channels: self.channels,
            bands: 1,
            host_bytes: 0,
            cell_px: 1 << self.grows.len(),
            cell_frames: self.grows.iter().product::<usize>() as u32,
            weights_bytes: 0,
            activations_bytes: 0,
            read_bytes: 0,
            largest_bytes: 0,
            flop: 0.0,
        });
        let (mut pixels, mut times) = (grid.0 * grid.1, 1);
        all.picture(self.channels * pixels);
        all.conv(self.widths[0], self.channels, pixels);
        let nexts = self.widths[1..].iter().copied().chain([self.full]);
        for ((width, grow), next) in self.widths.into_iter().zip(self.grows).zip(nexts) {
            for inputs in [2 * width, width, width].repeat(MEMORIES) {
                all.conv(width, inputs, pixels * times);
            }
            for _ in 0..grow {
                all.weights(width * width);
                all.weights(width);
                all.0.flop += 2.0 * (width * width) as f64 * (pixels * times) as f64;
            }
            // A past a memory; x, two between the convolutions, and what is grown.
            (0..MEMORIES + 4).for_each(|_| all.picture(width * pixels));
            (pixels, times) = (4 * pixels, times * grow);
            all.conv(next, width, pixels * times);
        }
        all.conv(3, self.full, pixels * times);
        all.picture(self.full * pixels);
        all.picture(4 * pixels);
        all.0.read_bytes = 16 * pixels as u64;
        all.0
    }
}

struct Sum(DecoderNeeds);

impl Sum {
    fn conv(&mut self, n: usize, k: usize, pixels: usize) {
        let n = n.next_multiple_of(4);
        self.weights(n * k * TAPS);
        self.weights(n);
        self.0.flop += 2.0 * (n * k * TAPS) as f64 * pixels as f64;
    }

    fn weights(&mut self, values: usize) {
        let bytes = 4 * values as u64;
        self.0.weights_bytes += bytes;
        self.0.largest_bytes = self.0.largest_bytes.max(bytes);
    }

    fn picture(&mut self, values: usize) {
        let bytes = 4 * values as u64;
        self.0.activations_bytes += bytes;
        self.0.largest_bytes = self.0.largest_bytes.max(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SELF-FORCING 8: 0.54 TFLOP a latent frame of 480 x 832, a little more than ours, which grows frames before it doubles
    /// them; section 1.3: 11,315,539 parameters with the encoder.
    #[test]
    fn the_published_decoder_takes_the_published_work() {
        let needs = TaehvShape::published().needs((60, 104));
        assert!((0.52..0.54).contains(&(needs.flop * 1e-12)), "{needs:?}");
        assert!(needs.weights_bytes < 4 * 11_315_539, "{needs:?}");
    }
}

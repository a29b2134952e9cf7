//! What Wan's decoder is made of, read from its tensors' shapes before anything is uploaded, and the bytes it will take.

use super::{DecoderNeeds, Error};
use crate::ops::{MAX_PIXEL_CHANNELS, TapSizes, WeightFormat};
use crate::weights::Weights;

/// Channels of a latent: as many as its scales have.
pub(super) const LATENT: usize = 16;

/// How the decoder lies on the device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WanOptions {
    /// Storage of weights and of what convolutions keep of the past. Arithmetic, and all that is added up, is f32.
    pub format: WeightFormat,
    /// No buffer of a picture beyond these bytes, where the device would allow it.
    pub largest_bytes: u64,
}

impl Default for WanOptions {
    fn default() -> WanOptions {
        WanOptions {
            format: WeightFormat::F32,
            largest_bytes: u64::MAX,
        }
    }
}

/// What the decoder takes on a device as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WanBytes {
    /// Weights.
    pub weights: u64,
    /// What convolutions keep of the past, of all frames seen: part of the activations.
    pub past: u64,
    /// Pictures, past ones too.
    pub activations: u64,
}

/// Layers at one resolution.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct StageShape {
    /// Channels that come in, and those of the blocks.
    pub(super) widths: [usize; 2],
    pub(super) blocks: &'static [&'static str],
    pub(super) up: Option<UpShape>,
}

/// What doubles rows and columns, and perhaps frames.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct UpShape {
    pub(super) name: &'static str,
    pub(super) conv: TapSizes,
    /// Two frames out of one, after the film's first.
    pub(super) time: Option<TapSizes>,
}

/// Widths of a decoder.
#[derive(Debug, Clone, PartialEq)]
pub struct WanShape {
    pub(super) stages: Vec<StageShape>,
    pub(super) first: TapSizes,
    pub(super) head: TapSizes,
}

/// The block that is attention; the others are residual ones.
pub(super) const ATTENTION: &str = "middle.1";

const BLOCKS: [&[&str]; 4] = [
    &[
        "middle.0",
        ATTENTION,
        "middle.2",
        "upsamples.0",
        "upsamples.1",
        "upsamples.2",
    ],
    &["upsamples.4", "upsamples.5", "upsamples.6"],
    &["upsamples.8", "upsamples.9", "upsamples.10"],
    &["upsamples.12", "upsamples.13", "upsamples.14"],
];

/// Layers that double pictures behind a stage, and whether they double frames.
const UPS: [(&str, bool); 3] = [
    ("upsamples.3", true),
    ("upsamples.7", true),
    ("upsamples.11", false),
];

/// Sizes of a weight named without its `decoder.` and `.weight`.
fn sizes(weights: &Weights, layer: &str) -> Result<TapSizes, Error> {
    let name = format!("decoder.{layer}.weight");
    let view = weights.require(&name)?;
    let found = match *view.shape() {
        [n, k, times, side, width] if side == width => [n, k, times, side],
        [n, k, side, width] if side == width => [n, k, 1, side],
        _ => return refuse(weights, &name),
    };
    let [n, k, times, side] = found;
    let fits = n > 0 && k > 0 && k.is_multiple_of(4) && matches!(times, 1 | 3);
    if !fits || !matches!(side, 1 | 3) {
        return refuse(weights, &name);
    }
    Ok(TapSizes { n, k, times, side })
}

/// Says of a tensor that its sizes do not fit.
pub(super) fn refuse<T>(weights: &Weights, name: &str) -> Result<T, Error> {
    Err(Error::Shape {
        name: name.to_owned(),
        found: weights.require(name)?.shape().to_vec(),
        path: weights.path().to_owned(),
    })
}

/// The same where outputs, inputs, times and side are known.
fn expect(weights: &Weights, layer: &str, want: TapSizes) -> Result<TapSizes, Error> {
    if sizes(weights, layer)? == want {
        Ok(want)
    } else {
        refuse(weights, &format!("decoder.{layer}.weight"))
    }
}

fn taps(n: usize, k: usize, times: usize, side: usize) -> TapSizes {
    TapSizes { n, k, times, side }
}

/// Buffers that a picture is cut into by channels, so that none of them is beyond `limit`.
pub(super) fn groups(channels: usize, pixels: usize, limit: u64) -> usize {
    let quads = channels / 4;
    let fits = |g: &usize| {
        quads.is_multiple_of(*g) && (channels / g * pixels) as u64 * 4 <= limit || *g == quads
    };
    (1..=quads).find(fits).unwrap_or(1)
}

impl WanShape {
    /// The decoder of Wan 2.1.
    #[must_use]
    pub fn published() -> WanShape {
        let widths = [[384, 384], [192, 384], [192, 192], [96, 96]];
        let stage = |i: usize| StageShape {
            widths: widths[i],
            blocks: BLOCKS[i],
            up: UPS.get(i).map(|(name, grows)| UpShape {
                name,
                conv: taps(widths[i + 1][0], widths[i][1], 1, 3),
                time: grows.then(|| taps(2 * widths[i][1], widths[i][1], 3, 1)),
            }),
        };
        WanShape {
            stages: (0..widths.len()).map(stage).collect(),
            first: taps(widths[0][0], LATENT, 3, 3),
            head: taps(3, widths[3][1], 3, 3),
        }
    }

    /// Reads the shapes of all convolutions and holds them to each other.
    ///
    /// # Errors
    /// Tensors missing or of other shapes.
    pub fn read(weights: &Weights) -> Result<WanShape, Error> {
        let first = sizes(weights, "conv1")?;
        let n = first.n;
        let fits = n.is_multiple_of(4) && n <= MAX_PIXEL_CHANNELS;
        if !fits || first != taps(n, LATENT, 3, 3) {
            return refuse(weights, "decoder.conv1.weight");
        }
        let mut stages = Vec::new();
        let mut width = first.n;
        for (i, blocks) in BLOCKS.into_iter().enumerate() {
            let wider = if i == 0 {
                width
            } else {
                sizes(weights, &format!("{}.residual.2", blocks[0]))?.n
            };
            if !wider.is_multiple_of(4) {
                return refuse(weights, &format!("decoder.{}.residual.2.weight", blocks[0]));
            }
            let widths = [width, wider];
            let up = match UPS.get(i) {
                None => None,
                Some((name, grows)) => {
                    let layer = format!("{name}.resample.1");
                    let n = sizes(weights, &layer)?.n;
                    if !n.is_multiple_of(4) {
                        return refuse(weights, &format!("decoder.{layer}.weight"));
                    }
                    width = n;
                    let time = format!("{name}.time_conv");
                    Some(UpShape {
                        name,
                        conv: expect(weights, &layer, taps(n, wider, 1, 3))?,
                        time: grows
                            .then(|| expect(weights, &time, taps(2 * wider, wider, 3, 1)))
                            .transpose()?,
                    })
                }
            };
            let stage = StageShape { widths, blocks, up };
            for layer in stage.convs() {
                expect(weights, &layer.0, layer.1)?;
            }
            stages.push(stage);
        }
        let last = stages[stages.len() - 1].widths[1];
        Ok(WanShape {
            first,
            head: expect(weights, "head.2", taps(3, last, 3, 3))?,
            stages,
        })
    }

    /// Columns and rows at a stage.
    pub(super) fn size(&self, grid: (usize, usize), stage: usize) -> (usize, usize) {
        (grid.1 << stage, grid.0 << stage)
    }

    /// What the decoder will take on a device for latents of `grid` rows and columns; a test holds it to the ledger.
    pub fn bytes(&self, grid: (usize, usize), format: WeightFormat) -> WanBytes {
        let kept = |channels: usize, pixels: usize| format.packed_bytes(channels * pixels) as u64;
        let plain = |channels: usize, pixels: usize| (channels * pixels) as u64 * 4;
        // Cutting pictures into buffers changes no sum.
        let mut convs = vec![self.first, self.head];
        let (mut gammas, mut past, mut now) = (self.head.k, 0, 0);
        let frames = |c: &TapSizes| c.times as u64 - 1;
        for (i, s) in self.stages.iter().enumerate() {
            let (width, height) = self.size(grid, i);
            let pixels = width * height;
            let [from, wide] = s.widths;
            now += 2 * plain(wide, pixels) + kept(wide, pixels) + plain(1, pixels);
            if from != wide {
                now += plain(from, pixels) + kept(from, pixels);
            }
            gammas += s.gammas();
            let own = s.convs().into_iter().map(|(_, c)| c);
            let time = s.up.and_then(|u| u.time);
            for c in own.chain(time) {
                past += frames(&c) * kept(c.k, pixels);
                convs.push(c);
            }
            convs.extend(s.up.map(|u| u.conv));
            if s.blocks.contains(&ATTENTION) {
                now += 3 * plain(wide, pixels);
            }
            if i == 0 {
                past += frames(&self.first) * kept(self.first.k, pixels);
                now += kept(self.first.k, pixels);
            }
            if i + 1 == self.stages.len() {
                past += frames(&self.head) * kept(self.head.k, pixels);
                now += plain(self.head.n_pad(), pixels);
            }
        }
        WanBytes {
            weights: convs.iter().map(|c| c.bytes(format)).sum::<u64>() + gammas as u64 * 4,
            past,
            activations: past + now,
        }
    }

    /// What a film takes of a device, and of what latents.
    #[must_use]
    pub fn needs(&self, grid: (usize, usize), format: WeightFormat) -> DecoderNeeds {
        let bytes = self.bytes(grid, format);
        let last = self.stages.len() - 1;
        let pixels = |stage: usize| {
            let (width, height) = self.size(grid, stage);
            (width * height) as u64
        };
        let (mut convs, mut frames) = (vec![self.first, self.head], 1);
        for s in &self.stages {
            convs.extend(s.convs().into_iter().map(|(_, c)| c));
            convs.extend(s.up.map(|u| u.conv));
            let time = s.up.and_then(|u| u.time);
            frames <<= u32::from(time.is_some());
            convs.extend(time);
        }
        let weights = convs.iter().map(|c| c.bytes(format)).max().unwrap_or(0);
        // Pictures are cut to what a binding takes, but for those that attention sees.
        let attended = self.stages.iter().enumerate();
        let attended = attended.filter(|(_, s)| s.blocks.contains(&ATTENTION));
        let attended = attended.map(|(i, s)| 4 * pixels(i) * s.widths[1] as u64);
        DecoderNeeds {
            channels: LATENT,
            cell_px: 1 << last,
            cell_frames: frames,
            weights_bytes: bytes.weights,
            activations_bytes: bytes.activations,
            read_bytes: 4 * pixels(last) * self.head.n_pad() as u64,
            largest_bytes: attended.max().unwrap_or(0).max(weights),
            flop: 2.0 * self.multiply_adds(grid),
        }
    }

    /// Multiply-adds of a latent frame after the film's first, by rows and columns of latents.
    pub fn multiply_adds(&self, grid: (usize, usize)) -> f64 {
        let (mut sum, mut frames) = (0.0, 1.0);
        let macs = |c: &TapSizes| (c.n * c.k * c.times * c.side * c.side) as f64;
        for (i, s) in self.stages.iter().enumerate() {
            let (width, height) = self.size(grid, i);
            let pixels = (width * height) as f64;
            let mut of_pixel: f64 = s.convs().iter().map(|(_, c)| macs(c)).sum();
            if i == 0 {
                of_pixel += macs(&self.first);
            }
            if s.blocks.contains(&ATTENTION) {
                of_pixel += 2.0 * pixels * s.widths[1] as f64;
            }
            if i + 1 == self.stages.len() {
                of_pixel += macs(&self.head);
            }
            let time = s.up.and_then(|u| u.time);
            of_pixel += time.as_ref().map_or(0.0, macs);
            sum += frames * pixels * of_pixel;
            if time.is_some() {
                frames *= 2.0;
            }
            sum += s.up.map_or(0.0, |u| 4.0 * pixels * frames * macs(&u.conv));
        }
        sum
    }
}

impl StageShape {
    /// Its blocks' convolutions in order, with their names.
    fn convs(&self) -> Vec<(String, TapSizes)> {
        let [mut from, wide] = self.widths;
        let mut all = Vec::new();
        for block in self.blocks {
            let name = |part: &str| format!("{block}.{part}");
            if *block == ATTENTION {
                all.push((name("to_qkv"), taps(3 * wide, wide, 1, 1)));
                all.push((name("proj"), taps(wide, wide, 1, 1)));
                continue;
            }
            all.push((name("residual.2"), taps(wide, from, 3, 3)));
            all.push((name("residual.6"), taps(wide, wide, 3, 3)));
            if from != wide {
                all.push((name("shortcut"), taps(wide, from, 1, 1)));
            }
            from = wide;
        }
        all
    }

    /// Values of its norms.
    fn gammas(&self) -> usize {
        let [from, wide] = self.widths;
        let of = |block: &&str| if *block == ATTENTION { wide } else { 2 * wide };
        self.blocks.iter().map(of).sum::<usize>() + from - wide
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The published decoder at 480 x 832.
    #[test]
    fn bytes_and_work_of_the_published_decoder() {
        let shape = WanShape::published();
        let half = shape.bytes((60, 104), WeightFormat::F16);
        let full = shape.bytes((60, 104), WeightFormat::F32);
        // SELF-FORCING 7.5: values of all caches, and multiply-adds counted twice.
        assert_eq!((half.past, full.past), (2 * 944_286_720, 4 * 944_286_720));
        let total = |b: WanBytes| b.weights + b.activations;
        assert_eq!((total(half), total(full)), (2_796_315_280, 4_980_205_456));
        let flop = 2.0 * shape.multiply_adds((60, 104));
        assert!((13.5e12..13.65e12).contains(&flop), "{flop}");
    }
}

//! Wan 2.1's own decoder of latents, on a device and latent by latent: every convolution keeps the two frames before.
//!
//! A film's first latent frame gives one picture, every later one four, whatever the calls. Pictures lie channels fastest, and
//! are cut by channels into buffers where a frame outgrows a binding. Stages run frame by frame, the first frame down to its
//! pixels before the second, so that each resolution needs room for one.
//!
//! Where memory is short, what comes behind the first resolution is made in bands of rows, each over all latent frames of a call
//! before the next: the device has room for one band and its past, and the past of the others waits on the host. Keeping all of
//! it on the device would save little, since it is two thirds of what the decoder takes.
//! Source: SELF-FORCING 7.

use super::taehv::{Watch, transposed};
use super::wan_bands::Band;
use super::wan_load::Loader;
use super::wan_shape::{ATTENTION, LATENT, SLICE_BYTES, WanOptions, WanShape};
use super::wan_stage::{Conv, Picture, Stage, convolve, prepare};
use super::{Decoder, Error};
use crate::frame::Frame;
use crate::gpu::{Buffer, Device, Recorder};
use crate::ops::Doubled;
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
    bands: Vec<Band>,
    /// The band whose past is on the device.
    at_hand: usize,
    /// By band, every buffer of its past; of the band at hand none.
    waiting: Vec<Vec<Vec<u32>>>,
    /// Latent frames decoded.
    n_latents: usize,
}

/// What comes out of the resolutions.
#[derive(Debug, Default)]
struct Made {
    /// Of the first one, where several bands go on from it: a frame's buffers, and whether it is the film's first.
    handed: Vec<(bool, Vec<Vec<u32>>)>,
    /// Of the last one: pictures `[channel, row, column]` of the band at hand.
    frames: Vec<Vec<f32>>,
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
        let room = shape.room(grid, options.bands);
        let mut stages = Vec::new();
        for (i, s) in shape.stages.iter().enumerate() {
            let attends = s.blocks.contains(&ATTENTION);
            let loader = if attends { &whole } else { &l };
            stages.push(loader.stage(s, shape.size(grid, i), room[i])?);
        }
        let (pixels, picture) = (room[0], room[stages.len() - 1]);
        let bands = shape.bands(grid, options.bands);
        let mut decoder = WanVae {
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
                l.conv("head.2", shape.head, picture)?,
            ),
            rgb: l.plain(shape.head.n_pad(), picture)?,
            waiting: vec![Vec::new(); bands.len()],
            bands,
            at_hand: 0,
            n_latents: 0,
        };
        let empty: Vec<usize> = decoder.cut_past().map(Buffer::len).collect();
        for past in &mut decoder.waiting[1..] {
            *past = empty.iter().map(|n| vec![0; *n]).collect();
        }
        decoder.take_sizes(0);
        Ok(decoder)
    }

    /// The frames of latent frames, `[channel, row, column]` each, before they are cut to -1..=1. Whoever watches sees layers
    /// behind the first resolution only where there is one band.
    ///
    /// # Errors
    /// The device failed.
    ///
    /// # Panics
    /// When the latents are no whole frames: a bug in the caller.
    pub fn raw(&mut self, latents: &[f32], mut watch: Watch<'_>) -> Result<Vec<Vec<f32>>, Error> {
        let one = LATENT * self.grid.0 * self.grid.1;
        assert!(latents.len().is_multiple_of(one), "whole latent frames");
        let mut made = Made::default();
        for latent in latents.chunks_exact(one) {
            self.latent(latent, &mut made, &mut watch)?;
        }
        let Made { handed, mut frames } = made;
        if self.bands.len() == 1 {
            return Ok(frames);
        }
        // To and fro, so that a call begins with the band that the one before ended with.
        let mut order: Vec<usize> = (0..self.bands.len()).collect();
        if self.at_hand != 0 {
            order.reverse();
        }
        let (width, height) = (SCALE * self.grid.1, SCALE * self.grid.0);
        for band in order {
            self.take(band)?;
            let mut made = Made::default();
            for (is_first, parts) in &handed {
                let device = self.device.clone();
                self.stages[0].inner.write(&device, parts);
                self.double(device.recorder(), 0, true, *is_first, &mut made, &mut None)?;
            }
            let own = &self.bands[band].own;
            frames.resize_with(made.frames.len(), || vec![0.0; 3 * width * height]);
            for (frame, part) in frames.iter_mut().zip(&made.frames) {
                set_rows(frame, part, SCALE * own.start, width, height);
            }
        }
        Ok(frames)
    }

    /// What a convolution over time keeps of the two frames before, `[channel, frame, row, column]`, by its place among
    /// these convolutions. `None` behind the last.
    ///
    /// # Errors
    /// The device failed.
    pub fn past(&self, slot: usize) -> Result<Option<Vec<f32>>, Error> {
        let last = self.stages.len() - 1;
        let mut all = vec![(&self.first, 0)];
        for (i, s) in self.stages.iter().enumerate() {
            all.extend(s.convs().map(|c| (c, i)));
        }
        all.push((&self.head.1, last));
        let Some(&(conv, stage)) = all.get(slot) else {
            return Ok(None);
        };
        let behind_cut = all[..slot].iter().filter(|(_, stage)| 0 < *stage);
        let mut buffer: usize = behind_cut
            .flat_map(|(c, _)| &c.past)
            .map(Picture::cuts)
            .sum();
        let (width, height) = (self.grid.1 << stage, self.grid.0 << stage);
        let mut frames = Vec::new();
        for picture in &conv.past {
            let mut frame = vec![0.0; picture.channels * width * height];
            for (i, band) in self.bands.iter().enumerate() {
                let rows = match stage {
                    0 => 0..height,
                    _ => band.own_at(stage),
                };
                let pixels = rows.start * width..rows.end * width;
                let n = pixels.len();
                let parts = match stage == 0 || i == self.at_hand {
                    true => picture.read(&self.device, pixels)?,
                    false => picture.cut(&self.waiting[i][buffer..][..picture.cuts()], pixels),
                };
                let from = if stage == 0 {
                    0
                } else {
                    band.own.start << stage
                };
                set_rows(&mut frame, &picture.planes(&parts, n), from, width, height);
            }
            buffer += picture.cuts();
            frames.push(frame);
        }
        let pixels = width * height;
        let channels = 0..conv.matrix.sizes.k;
        let plane = |c: usize| frames.iter().flat_map(move |f| &f[c * pixels..][..pixels]);
        Ok(Some(channels.flat_map(plane).copied().collect()))
    }

    /// The buffers of a band's past, in a fixed order.
    fn cut_past(&self) -> impl Iterator<Item = &Buffer<u32>> {
        let convs = self.stages[1..].iter().flat_map(Stage::convs);
        let convs = convs.chain([&self.head.1]);
        convs.flat_map(|c| &c.past).flat_map(|p| &p.parts)
    }

    /// Makes a band the one at hand. Slice by slice, so that copies on their way are small: reading one waits for the one written
    /// before.
    fn take(&mut self, band: usize) -> Result<(), Error> {
        if band == self.at_hand {
            return Ok(());
        }
        let coming = std::mem::take(&mut self.waiting[band]);
        let mut leaving = Vec::with_capacity(coming.len());
        for (buffer, words) in self.cut_past().zip(&coming) {
            let mut old = Vec::with_capacity(words.len());
            for slice in words.chunks(SLICE_BYTES as usize / 4) {
                let at = old.len();
                old.extend(self.device.read(buffer, at..at + slice.len())?);
                self.device.write(buffer, at, slice);
            }
            leaving.push(old);
        }
        self.waiting[self.at_hand] = leaving;
        self.at_hand = band;
        self.take_sizes(band);
        Ok(())
    }

    fn take_sizes(&mut self, band: usize) {
        for (i, s) in self.stages.iter_mut().enumerate().skip(1) {
            s.size.1 = self.bands[band].rows[i].len();
            s.first_row = self.bands[band].first(i);
        }
    }

    /// Runs a latent frame through the first resolution, and on where there is one band.
    fn latent(
        &mut self,
        latent: &[f32],
        made: &mut Made,
        watch: &mut Watch<'_>,
    ) -> Result<(), Error> {
        let pixels = self.grid.0 * self.grid.1;
        let device = self.device.clone();
        let scaled = |(i, v): (usize, &f32)| {
            let c = i / pixels;
            (f64::from(*v) * STD[c] + MEAN[c]) as f32
        };
        let scaled: Vec<f32> = latent.iter().enumerate().map(scaled).collect();
        let mixed = mixed(&scaled, &self.mix, pixels);
        let words = (self.latent.format).pack(&transposed(&mixed, LATENT, pixels));
        if let Some(watch) = watch {
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
        see(watch, &device, "conv1", to, s.size)?;
        self.stage(0, self.n_latents == 0, made, watch)?;
        self.n_latents += 1;
        Ok(())
    }

    /// Runs a stage on its picture, and the later ones on each frame that it becomes.
    fn stage(
        &mut self,
        at: usize,
        is_first: bool,
        made: &mut Made,
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
            return self.pixels(at, made);
        }
        let s = &mut self.stages[at];
        let grows = s.up.as_ref().is_some_and(|u| u.time.is_some()) && !is_first;
        if grows {
            let mut rec = device.recorder();
            rec.stage("decode");
            prepare(&mut rec, &s.x, None, &s.sums, &s.now[0], s.size);
            device.run(rec)?;
        }
        for frame in 0..if grows { 2 } else { 1 } {
            let s = &self.stages[at];
            let mut rec = device.recorder();
            rec.stage("decode");
            if let (true, Some(time)) = (grows, s.up.as_ref().and_then(|u| u.time.as_ref())) {
                let first = frame * s.x.channels;
                time.record(&mut rec, &s.now[0], &s.inner, first, s.size, false);
            }
            if at == 0 && 1 < self.bands.len() {
                device.run(rec)?;
                let from = if grows { &s.inner } else { &s.x };
                let parts = from.read(&device, 0..s.size.0 * s.size.1)?;
                made.handed.push((is_first, parts));
                continue;
            }
            self.double(rec, at, grows, is_first, made, watch)?;
        }
        let s = &mut self.stages[at];
        if let (true, Some(time)) = (grows, s.up.as_mut().and_then(|u| u.time.as_mut())) {
            time.remember(&mut s.now[0]);
        }
        Ok(())
    }

    /// Doubles what lies in a stage's `inner` or `x`, and runs the later ones on it.
    fn double(
        &mut self,
        mut rec: Recorder<'_>,
        at: usize,
        from_inner: bool,
        is_first: bool,
        made: &mut Made,
        watch: &mut Watch<'_>,
    ) -> Result<(), Error> {
        let device = self.device.clone();
        let (before, after) = self.stages.split_at(at + 1);
        let (s, next) = (&before[at], &after[0]);
        let Some(up) = &s.up else { return Ok(()) };
        let from = if from_inner { &s.inner } else { &s.x };
        let to = next.input.as_ref().unwrap_or(&next.x);
        let doubled = Some(Doubled {
            rows: s.size.1,
            first: next.first_row,
        });
        rec.stage("decode");
        convolve(
            &mut rec,
            &up.conv,
            &[from],
            to,
            0,
            next.size,
            doubled,
            false,
        );
        device.run(rec)?;
        see(watch, &device, &short(up.name), to, next.size)?;
        self.stage(at + 1, is_first, made, watch)
    }

    /// The last stage's picture as pixels: the rows that are the band's own.
    fn pixels(&mut self, at: usize, made: &mut Made) -> Result<(), Error> {
        let device = self.device.clone();
        let s = &mut self.stages[at];
        let (gamma, conv) = &mut self.head;
        let mut rec = device.recorder();
        rec.stage("decode");
        prepare(&mut rec, &s.x, Some(gamma), &s.sums, &s.now[0], s.size);
        conv.run(&mut rec, &mut s.now[0], &self.rgb, s.size, false);
        device.run(rec)?;
        let own = self.bands[self.at_hand].own_at(at);
        let own = own.start * s.size.0..own.end * s.size.0;
        let n = own.len();
        let mut planes = self.rgb.planes(&self.rgb.read(&device, own)?, n);
        planes.truncate(3 * n);
        made.frames.push(planes);
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
        // A past comes from the host and goes there once a call.
        let at_once = match self.bands.len() {
            1 => one,
            _ => latents.len().max(one),
        };
        let mut frames = Vec::new();
        for latents in latents.chunks(at_once) {
            for planes in self.raw(latents, None)? {
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

/// Puts some rows of all channels, `[channel, row, column]` both, into a picture, from row `from` on.
fn set_rows(picture: &mut [f32], part: &[f32], from: usize, width: usize, height: usize) {
    let channels = picture.chunks_exact_mut(width * height);
    let n = part.len() / channels.len();
    for (picture, part) in channels.zip(part.chunks_exact(n)) {
        picture[from * width..][..n].copy_from_slice(part);
    }
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
        let n = size.0 * size.1;
        watch(name, picture.planes(&picture.read(device, 0..n)?, n));
    }
    Ok(())
}

//! Frames as textures: one atlas of the newest ones, so that device bytes do not grow with the film.
//!
//! A chunk's pictures come into the atlas from the engine's own buffer, device to device: no host copy is made to show a new
//! frame. Other frames are brought there from main memory when they are drawn: those that were made so long ago that their place
//! was taken over, given frames and true views, which the processor draws, differences, which it computes, and what is made
//! on a device that the window does not draw on. Main memory has every frame in any case, for the film file, PNGs and what is measured
//! of them, 9 KiB each in the demo world; so nothing is kept on the device beyond the atlas.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use egui::{Color32, ColorImage, Context, Rect, TextureHandle, TextureId, TextureOptions, pos2};
use longtake::decode::Pictures;
use longtake::frame::Frame;

/// Frames across and down the atlas at most: 1,024 of the demo world are 12 MiB.
const GRID: usize = 32;
/// Bytes of it at most, where frames are large.
const MOST_BYTES: usize = 64 << 20;
/// Chunks that wait for a pass over the panels: a window that is not shown makes none, and the device must not fill up.
const MOST_WAITING: usize = 8;

/// Pixels that stay pixels when they are enlarged.
fn options() -> TextureOptions {
    TextureOptions {
        magnification: egui::TextureFilter::Nearest,
        minification: egui::TextureFilter::Linear,
        ..TextureOptions::NEAREST
    }
}

fn image(frame: &Frame) -> ColorImage {
    ColorImage::from_rgb([frame.width as usize, frame.height as usize], &frame.rgb)
}

/// A chunk's pictures on their way into the atlas.
#[derive(Debug)]
pub struct Arrival {
    /// The atlas.
    pub texture: TextureId,
    /// The pictures.
    pub pictures: Pictures,
    /// Pixel at which each begins.
    pub places: Vec<[u32; 2]>,
}

/// A frame's place, taken over by another one when it was not drawn for the longest time.
#[derive(Debug, Clone)]
struct Slot {
    /// Held, so that no other frame can have its address.
    frame: Arc<Frame>,
    /// The pass that it was last drawn in.
    used: u64,
}

struct Atlas {
    texture: TextureHandle,
    /// Pixels of a frame.
    size: [usize; 2],
    columns: usize,
    slots: Vec<Option<Slot>>,
    /// Slots by the frame's address.
    of: HashMap<usize, usize>,
}

impl Atlas {
    fn new(ctx: &Context, size: [usize; 2]) -> Atlas {
        let side = ctx.input(|i| i.max_texture_side);
        let [w, h] = size.map(|v| v.max(1));
        let columns = (side / w).clamp(1, GRID);
        let rows = (side / h).clamp(1, GRID);
        let rows = rows.min((MOST_BYTES / (4 * w * h * columns)).max(1));
        let blank = ColorImage::filled([w * columns, h * rows], crate::tokens::DARK.well);
        Atlas {
            texture: ctx.load_texture("frames", blank, options()),
            size,
            columns,
            slots: vec![None; columns * rows],
            of: HashMap::new(),
        }
    }

    fn find(&mut self, frame: &Arc<Frame>, now: u64) -> Option<usize> {
        let at = *self.of.get(&Arc::as_ptr(frame).addr())?;
        if let Some(slot) = &mut self.slots[at] {
            slot.used = now;
        }
        Some(at)
    }

    /// Gives the frame a place.
    fn take(&mut self, frame: &Arc<Frame>, now: u64) -> usize {
        let used = |s: &usize| self.slots[*s].as_ref().map_or(0, |s| s.used);
        let at = (0..self.slots.len()).min_by_key(used).unwrap_or(0);
        if let Some(gone) = &self.slots[at] {
            self.of.remove(&Arc::as_ptr(&gone.frame).addr());
        }
        self.of.insert(Arc::as_ptr(frame).addr(), at);
        self.slots[at] = Some(Slot {
            frame: frame.clone(),
            used: now,
        });
        at
    }

    /// First pixel of a slot.
    fn corner(&self, slot: usize) -> [usize; 2] {
        let [w, h] = self.size;
        [slot % self.columns * w, slot / self.columns * h]
    }
}

/// The frames that the window can draw.
#[derive(Default)]
pub struct Gallery {
    atlas: Option<Atlas>,
    /// The window draws on the device that makes the film.
    shares: bool,
    waiting: VecDeque<(Vec<Arc<Frame>>, Pictures)>,
    arrivals: Vec<Arrival>,
    passes: u64,
}

impl Gallery {
    /// Begins anew on a device, with nothing in its textures. `shares`: the window draws on the one that makes the film.
    pub fn share(&mut self, shares: bool) {
        *self = Gallery {
            shares,
            passes: self.passes,
            ..Gallery::default()
        };
    }

    /// Takes the pictures of a new chunk, the same as `frames`.
    pub fn arrive(&mut self, frames: &[Arc<Frame>], pictures: Option<Pictures>) {
        let Some(pictures) = pictures.filter(|_| self.shares) else {
            return;
        };
        if pictures.frames as usize == frames.len() {
            self.waiting.push_back((frames.to_vec(), pictures));
        }
        if MOST_WAITING < self.waiting.len() {
            self.waiting.pop_front();
        }
    }

    /// Begins a pass: what arrived gets its places.
    pub fn begin(&mut self, ctx: &Context) {
        self.passes += 1;
        for (frames, pictures) in std::mem::take(&mut self.waiting) {
            let size = [pictures.width as usize, pictures.height as usize];
            let now = self.passes;
            let atlas = self.atlas(ctx, size);
            let place = |f: &Arc<Frame>| {
                let slot = atlas.find(f, now).unwrap_or_else(|| atlas.take(f, now));
                atlas.corner(slot).map(|v| v as u32)
            };
            let places = frames.iter().map(place).collect();
            let texture = atlas.texture.id();
            self.arrivals.push(Arrival {
                texture,
                pictures,
                places,
            });
        }
    }

    /// What has to be copied before the pass at hand is drawn.
    pub fn arrivals(&mut self) -> Vec<Arrival> {
        std::mem::take(&mut self.arrivals)
    }

    fn atlas(&mut self, ctx: &Context, size: [usize; 2]) -> &mut Atlas {
        let old = self.atlas.take().filter(|a| a.size == size);
        self.atlas
            .insert(old.unwrap_or_else(|| Atlas::new(ctx, size)))
    }

    /// Draws a frame.
    pub fn paint(&mut self, p: &egui::Painter, frame: &Arc<Frame>, rect: Rect, tint: Color32) {
        let now = self.passes;
        let size = [frame.width as usize, frame.height as usize];
        let atlas = self.atlas(p.ctx(), size);
        let slot = atlas.find(frame, now).unwrap_or_else(|| {
            let slot = atlas.take(frame, now);
            let at = atlas.corner(slot);
            atlas.texture.set_partial(at, image(frame), options());
            slot
        });
        let [w, h] = atlas.texture.size().map(|v| v as f32);
        let [x, y] = atlas.corner(slot).map(|v| v as f32);
        let mut uv = Rect::from_min_max(pos2(x, y), pos2(x + size[0] as f32, y + size[1] as f32));
        if rect.width() * p.ctx().pixels_per_point() < size[0] as f32 {
            // Linear filtering would draw in what lies beside it.
            uv = uv.shrink(0.5);
        }
        let uv = Rect::from_min_max(
            pos2(uv.min.x / w, uv.min.y / h),
            pos2(uv.max.x / w, uv.max.y / h),
        );
        p.image(atlas.texture.id(), rect, uv, tint);
    }
}

/// A frame as a PNG, enlarged by whole pixels.
///
/// # Errors
/// What the encoder says.
pub fn png(frame: &Frame, scale: u32) -> Result<Vec<u8>, png::EncodingError> {
    let (w, h) = (frame.width as usize, frame.height as usize);
    let k = scale.max(1) as usize;
    let mut rgb = Vec::with_capacity(frame.rgb.len() * k * k);
    for row in 0..h {
        let pixels = frame.rgb[3 * w * row..3 * w * (row + 1)].chunks_exact(3);
        let wide: Vec<u8> = pixels.flat_map(|p| p.repeat(k)).collect();
        (0..k).for_each(|_| rgb.extend_from_slice(&wide));
    }
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, (w * k) as u32, (h * k) as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header()?.write_image_data(&rgb)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(level: u8) -> Frame {
        Frame {
            width: 2,
            height: 1,
            rgb: vec![level, 0, 0, 0, level, 0],
        }
    }

    #[test]
    fn a_saved_frame_is_enlarged_by_whole_pixels() {
        let bytes = png(&frame(200), 3).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
            .read_info()
            .unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut rgb).unwrap();
        assert_eq!((info.width, info.height), (6, 3));
        assert_eq!(
            &rgb[..3 * 6],
            [[200, 0, 0]; 3]
                .into_iter()
                .chain([[0, 200, 0]; 3])
                .flatten()
                .collect::<Vec<u8>>()
        );
    }

    #[test]
    fn what_arrives_on_the_device_is_not_brought_from_main_memory() {
        use longtake::gpu::{Device, Purpose};
        let device = Device::twin();
        let latents = device
            .zeros::<f32>(Purpose::Scratch, "latents", 3 * 2)
            .unwrap();
        // Parts of the atlas that are uploaded, and pictures that are copied on the device, where a new frame is drawn.
        let drawn = |shares: bool| {
            let (ctx, mut g) = (Context::default(), Gallery::default());
            g.share(shares);
            let new = Arc::new(frame(1));
            let pictures = Pictures::of(&device, &latents, 1, 2, 1).unwrap();
            g.arrive(std::slice::from_ref(&new), Some(pictures));
            let rect = Rect::from_min_size(pos2(0.0, 0.0), egui::vec2(2.0, 1.0));
            let output = ctx.run_ui(Default::default(), |ui| {
                g.begin(ui.ctx());
                g.paint(ui.painter(), &new, rect, Color32::WHITE);
            });
            let id = g.atlas.as_ref().unwrap().texture.id();
            let sets = &output.textures_delta.set[&id];
            let parts = sets.iter().filter(|delta| !delta.is_whole()).count();
            (parts, g.arrivals().len())
        };
        assert_eq!(drawn(true), (0, 1));
        assert_eq!(drawn(false), (1, 0), "where the window draws elsewhere");
    }

    #[test]
    fn frames_give_way_to_others_oldest_first() {
        let ctx = Context::default();
        let mut g = Gallery::default();
        let frames: Vec<Arc<Frame>> = (0..GRID * GRID + 1).map(|_| Arc::new(frame(1))).collect();
        let rect = Rect::from_min_size(pos2(0.0, 0.0), egui::vec2(2.0, 1.0));
        let p = egui::Painter::new(ctx.clone(), egui::LayerId::background(), rect);
        let draw = |g: &mut Gallery, i: usize| {
            g.begin(&ctx);
            g.paint(&p, &frames[i], rect, Color32::WHITE);
        };
        (0..GRID * GRID).for_each(|i| draw(&mut g, i));
        draw(&mut g, 0);
        draw(&mut g, GRID * GRID);
        let has = |g: &Gallery, i: usize| {
            let of = &g.atlas.as_ref().unwrap().of;
            of.contains_key(&Arc::as_ptr(&frames[i]).addr())
        };
        assert!(has(&g, GRID * GRID) && has(&g, 0), "frame 0 was just drawn");
        assert!(!has(&g, 1), "frame 1 was not");
        assert_eq!(g.atlas.as_ref().unwrap().of.len(), GRID * GRID);
    }
}

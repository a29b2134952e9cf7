//! Frames as textures: the one that is shown, and a small atlas of thumbnails, so that device bytes do not grow with the
//! film. Pixels come from the host, where the engine decodes them: 12 KiB for a frame of the demo world.

use std::collections::HashMap;
use std::sync::Arc;

use egui::{ColorImage, Context, Pos2, Rect, TextureHandle, TextureId, TextureOptions, pos2, vec2};
use longtake::frame::Frame;

/// Thumbnails across and down the atlas.
const GRID: [usize; 2] = [16, 8];

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

/// A texture of one frame, filled again when another is shown.
#[derive(Default)]
pub struct Shown {
    texture: Option<TextureHandle>,
    frame: Option<Arc<Frame>>,
}

impl Shown {
    /// The texture, holding `frame`.
    pub fn texture(&mut self, ctx: &Context, frame: &Arc<Frame>) -> TextureId {
        let same = self.frame.as_ref().is_some_and(|f| Arc::ptr_eq(f, frame));
        match &mut self.texture {
            Some(t) if same => t.id(),
            Some(t) => {
                t.set(image(frame), options());
                self.frame = Some(frame.clone());
                t.id()
            }
            None => {
                let t = ctx.load_texture("film", image(frame), options());
                let id = t.id();
                (self.texture, self.frame) = (Some(t), Some(frame.clone()));
                id
            }
        }
    }
}

/// Thumbnails of the timeline: a slot is taken over by another frame when it was not drawn for the longest time.
#[derive(Default)]
pub struct Thumbs {
    atlas: Option<TextureHandle>,
    /// Frame of each slot and the draw it was last used in.
    slots: Vec<Option<(usize, u64)>>,
    of: HashMap<usize, usize>,
    draws: u64,
}

impl Thumbs {
    /// Begins a draw.
    pub fn begin(&mut self) {
        self.draws += 1;
    }

    /// Forgets frames from `first` on: others will take their place.
    pub fn cut(&mut self, first: usize) {
        self.of.retain(|frame, _| *frame < first);
        for slot in &mut self.slots {
            if slot.is_some_and(|(frame, _)| first <= frame) {
                *slot = None;
            }
        }
    }

    /// Texture and place of a frame's thumbnail.
    pub fn get(&mut self, ctx: &Context, index: usize, frame: &Frame) -> (TextureId, Rect) {
        let size = [frame.width as usize, frame.height as usize];
        let [columns, rows] = GRID;
        let atlas = self.atlas.get_or_insert_with(|| {
            let blank = ColorImage::filled(
                [size[0] * columns, size[1] * rows],
                crate::tokens::DARK.well,
            );
            ctx.load_texture("thumbnails", blank, options())
        });
        self.slots.resize(columns * rows, None);
        let slot = match self.of.get(&index) {
            Some(slot) => *slot,
            None => {
                let oldest = |s: &usize| self.slots[*s].map_or(0, |(_, used)| used);
                let slot = (0..self.slots.len()).min_by_key(oldest).unwrap_or(0);
                if let Some((gone, _)) = self.slots[slot] {
                    self.of.remove(&gone);
                }
                self.of.insert(index, slot);
                let at = [slot % columns * size[0], slot / columns * size[1]];
                atlas.set_partial(at, image(frame), options());
                slot
            }
        };
        self.slots[slot] = Some((index, self.draws));
        let (w, h) = (1.0 / columns as f32, 1.0 / rows as f32);
        let corner = pos2((slot % columns) as f32 * w, (slot / columns) as f32 * h);
        (atlas.id(), Rect::from_min_size(corner, vec2(w, h)))
    }
}

/// The whole of a texture.
pub const WHOLE: Rect = Rect {
    min: Pos2::ZERO,
    max: pos2(1.0, 1.0),
};

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
    fn thumbnails_give_way_to_others_oldest_first() {
        let ctx = Context::default();
        let mut t = Thumbs::default();
        for i in 0..GRID[0] * GRID[1] {
            t.begin();
            t.get(&ctx, i, &frame(1));
        }
        t.begin();
        let first = t.get(&ctx, 0, &frame(1)).1;
        t.begin();
        let new = t.get(&ctx, 1000, &frame(1)).1;
        assert_ne!(first, new, "frame 0 was just drawn");
        assert!(!t.of.contains_key(&1), "frame 1 was not");
        t.cut(500);
        assert!(!t.of.contains_key(&1000) && t.of.contains_key(&0));
    }
}

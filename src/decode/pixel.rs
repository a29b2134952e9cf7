//! Pixel worlds: the latents are the picture, RGB in -1..=1, channel first. Source: `train/model.py`.

use super::{Decoder, Error};
use crate::frame::Frame;

/// Red, green, blue.
pub(super) const CHANNELS: usize = 3;

/// The decoder that has nothing to do.
#[derive(Debug)]
pub(super) struct Pixels {
    pub(super) width: u32,
    pub(super) height: u32,
}

impl Decoder for Pixels {
    fn decode(&mut self, latents: &[f32]) -> Result<Option<Vec<Frame>>, Error> {
        Ok(to_frames(latents, self.width, self.height))
    }
}

/// Frames of `values [frame, 3, height, width]`. Values beyond -1..=1 are cut. `None` when one is not a number.
///
/// # Panics
/// When the length is no multiple of a frame: a bug in the caller.
pub fn to_frames(values: &[f32], width: u32, height: u32) -> Option<Vec<Frame>> {
    let plane = (width * height) as usize;
    assert!(values.len().is_multiple_of(3 * plane), "whole frames");
    if values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let level = |v: f32| ((v.clamp(-1.0, 1.0) + 1.0) * 127.5).round() as u8;
    let frame = |planes: &[f32]| Frame {
        width,
        height,
        rgb: (0..plane)
            .flat_map(|i| [planes[i], planes[plane + i], planes[2 * plane + i]])
            .map(level)
            .collect(),
    };
    Some(values.chunks_exact(3 * plane).map(frame).collect())
}

/// `[3, height, width]` in -1..=1 of a frame.
pub fn from_frame(frame: &Frame) -> Vec<f32> {
    let value = |v: &u8| f32::from(*v) / 127.5 - 1.0;
    (0..3)
        .flat_map(|c| frame.rgb.iter().skip(c).step_by(3).map(value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_comes_back() {
        let rgb: Vec<u8> = (0..=255).flat_map(|v| [v, 255 - v, v / 2]).collect();
        let frame = Frame {
            width: 16,
            height: 16,
            rgb,
        };
        assert_eq!(to_frames(&from_frame(&frame), 16, 16), Some(vec![frame]));
    }

    #[test]
    fn nan_is_no_picture() {
        assert_eq!(to_frames(&[f32::NAN; 3], 1, 1), None);
    }
}

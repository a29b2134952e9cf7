//! Pictures that stay on the device, for a window that copies them into its textures there.

use crate::gpu::{Buffer, Device, Error, Purpose};
use crate::ops::{Pixels, rgba};

/// Rows begin at whole multiples of so many words: 256 bytes, what copies from buffers into textures ask for.
const ROW_WORDS: usize = 64;

/// Frames of a pixel world as 8-bit pixels on a device, booked as the window's own.
#[derive(Debug)]
pub struct Pictures {
    /// `[frame, row, column]`, red in the lowest byte, the highest 255; rows lie [`Pictures::row_bytes`] apart.
    pub words: Buffer<u32>,
    /// How many.
    pub frames: u32,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Pictures {
    /// The first `frames` of `latents [frame, 3, height, width]`, written when this returns: a copy that another thread submits
    /// comes after.
    ///
    /// # Errors
    /// No device memory; the device failed.
    pub fn of(
        device: &Device,
        latents: &Buffer<f32>,
        frames: usize,
        width: u32,
        height: u32,
    ) -> Result<Pictures, Error> {
        let size = (height as usize, width as usize);
        let row = size.1.next_multiple_of(ROW_WORDS);
        let words = device.zeros(Purpose::Viewer, "pictures", frames * size.0 * row)?;
        let mut rec = device.recorder();
        rec.stage("pictures");
        rgba(&mut rec, latents, &words, &Pixels { frames, size, row });
        device.run(rec)?;
        device.wait()?;
        Ok(Pictures {
            words,
            frames: u32::try_from(frames).unwrap_or(u32::MAX),
            width,
            height,
        })
    }

    /// Bytes from one row to the next.
    pub fn row_bytes(&self) -> u32 {
        4 * self.width.next_multiple_of(ROW_WORDS as u32)
    }
}

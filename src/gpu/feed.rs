//! Device buffers that are filled again and again from the host while work goes on: weights that do not stay on the device.
//!
//! There is one queue. A fill is a copy on it: behind all work recorded before, which may still read the old words, and before
//! all recorded later. So one place serves any number of fills in turn, and what can overlap does: the host writes the words of
//! the next fill into staging while the device works, and only the copy itself stands in line.

use std::time::Instant;

use super::Error;
use super::backend_wgpu::Fill;
use super::buffer::{Buffer, Storage, Usage};
use super::device::{Backend, Device};
use super::ledger::Purpose;

/// Buffers that are filled in turn, and staging as large as they, which is booked under scratch: drivers may lay memory that the
/// host maps on the device. The twins need none.
#[derive(Debug)]
pub struct Feed {
    places: Vec<Buffer<u32>>,
    /// One a place.
    staging: Vec<Buffer<u32>>,
    /// The newest copy out of `staging`.
    last: Option<wgpu::SubmissionIndex>,
    filled_bytes: u64,
}

impl Feed {
    /// Bytes of all fills so far.
    #[must_use]
    pub fn filled_bytes(&self) -> u64 {
        self.filled_bytes
    }

    /// Bytes of staging that a feed of so many bytes takes on a device of this kind.
    #[must_use]
    pub fn staging_bytes(caps: &super::Caps, bytes: u64) -> u64 {
        match caps.kind {
            super::Kind::Twin => 0,
            _ => bytes,
        }
    }

    /// Replaces all words of some places, by their number; work recorded before sees the old words, later work the new ones.
    ///
    /// # Errors
    /// Device lost, or an error of earlier work.
    ///
    /// # Panics
    /// When words do not fill their place.
    pub fn fill<'a>(
        &mut self,
        device: &Device,
        words: impl Iterator<Item = (usize, &'a [u32])>,
    ) -> Result<(), Error> {
        let begun = Instant::now();
        let Backend::Wgpu(backend) = &device.shared.backend else {
            for (place, words) in words {
                assert_eq!(words.len(), self.places[place].len(), "words of a fill");
                self.filled_bytes += self.places[place].bytes();
                device.write(&self.places[place], 0, words);
            }
            return Ok(());
        };
        if device.rehearses() {
            return Ok(());
        }
        device.flush(device.pending())?;
        let fill = |(place, words): (usize, &'a [u32])| {
            let (to, staging) = (&self.places[place], &self.staging[place]);
            assert_eq!(words.len(), to.len(), "words of a fill");
            match (&to.inner.storage, &staging.inner.storage) {
                (Storage::Wgpu(place), Storage::Wgpu(staging)) => Fill {
                    staging,
                    place,
                    data: bytemuck::cast_slice(words),
                },
                _ => unreachable!("buffer of another device"),
            }
        };
        let fills: Vec<Fill<'_>> = words.map(fill).collect();
        let last = backend.fill(&fills, self.last.clone())?;
        let bytes: usize = fills.iter().map(|f| f.data.len()).sum();
        drop(fills);
        (self.last, self.filled_bytes) = (Some(last), self.filled_bytes + bytes as u64);
        if device.stages().is_some() {
            device.wait()?;
            device.book_stage("upload of layers", begun.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

impl Device {
    /// Staging for buffers that [`Feed::fill`] fills.
    ///
    /// # Errors
    /// No memory left.
    pub fn feed(&self, places: Vec<Buffer<u32>>) -> Result<Feed, Error> {
        let staging = match &self.shared.backend {
            Backend::Wgpu(_) => (places.iter())
                .map(|p| {
                    let purpose = Purpose::Scratch;
                    self.make(purpose, "staging of uploads", p.len(), None, Usage::Staging)
                })
                .collect::<Result<_, _>>()?,
            Backend::Twin => Vec::new(),
        };
        Ok(Feed {
            places,
            staging,
            last: None,
            filled_bytes: 0,
        })
    }
}

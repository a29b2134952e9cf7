//! The cache computed anew with another prompt: which frames run again, and what of the sink stays.
//! Source: SELF-FORCING 5.7, LongLive prompt switch.

use std::ops::Range;

use super::{CacheError, KvCache};
use crate::gpu::Device;
use crate::ops::Positions;

/// What becomes of the sink when the prompt changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sink {
    /// Its keys and values stay as they are: LongLive's global sink.
    Kept,
    /// It is given up: the first of the frames that run again are the sink from then on.
    Renewed,
}

impl KvCache {
    /// Frames that [`KvCache::renew`] runs again: the newest, as many as attention sees.
    ///
    /// # Errors
    /// A coded cache, or more frames than one pass can have.
    pub fn renewal(&self) -> Result<Range<i64>, CacheError> {
        if self.spans.is_some() {
            return Err(CacheError::CodedRenewal);
        }
        let (frames, (rows, cols)) = (self.shown.len(), self.shape.grid);
        let most = Positions::capacity(self.shape.split, rows, cols);
        if most < frames {
            return Err(CacheError::LongRenewal { frames, most });
        }
        let end = self.shown.last().map_or(0, |f| f + 1);
        Ok(end - frames as i64..end)
    }

    /// Prepares for one pass over [`KvCache::renewal`], all frames of it at once, which leaves their keys and values in place
    /// of those that are there. With [`Sink::Kept`] and a film longer than the window the sink stays, and what the pass
    /// makes of its first frames, as many as the sink has, is thrown away and not seen. What was before cannot be gone back
    /// to any more.
    ///
    /// # Errors
    /// As [`KvCache::renewal`]; nothing is changed then.
    pub fn renew(&mut self, device: &Device, sink: Sink) -> Result<Range<i64>, CacheError> {
        let frames = self.renewal()?;
        let stays = self.residency.sink(&self.policy);
        self.thrown = 0..0;
        if stays.start < frames.start {
            match sink {
                Sink::Kept => {
                    self.thrown = frames.start..frames.start + (stays.end - stays.start);
                }
                Sink::Renewed => {
                    let gone = stays.start..frames.start;
                    let gone: Vec<i64> =
                        self.layout.frames().filter(|f| gone.contains(f)).collect();
                    self.layout.remove(gone.into_iter());
                    self.layout.place(frames.clone())?;
                    self.residency.restart(&self.policy, frames.clone());
                }
            }
        }
        self.forget_past();
        self.show(device, None);
        Ok(frames)
    }
}

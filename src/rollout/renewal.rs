//! Another prompt in mid-film for networks that were trained to see their history under it: the frames that attention sees are run
//! once more, so that keys and values are those of the new prompt. Source: SELF-FORCING 5.7, LongLive prompt switch.

use std::collections::VecDeque;
use std::time::Instant;

use super::config::Config;
use super::error::Error;
use super::event::{Event, PassKind};
use super::plan::Outline;
use super::session::Session;
use crate::cache::{CacheError, Sink};
use crate::model::Activations;
use crate::ops::Positions;

impl Config {
    /// What becomes of the sink when the prompt changes; `None`: the cache stays as it is.
    pub(super) fn renewed_sink(&self) -> Option<Sink> {
        self.renew.filter(|_| self.coded.is_none())
    }

    /// Frames that another prompt runs again at most: all that are seen before the last chunk.
    ///
    /// # Errors
    /// More than one pass can have.
    pub(super) fn renewed_frames(&self, film: &Outline<'_>) -> Result<usize, Error> {
        let c = film.model;
        let before = film.total().saturating_sub(c.chunk_frames as usize);
        let frames = match (self.renewed_sink(), self.window) {
            (None, _) => 0,
            (Some(_), None) => before,
            (Some(_), Some(window)) => before.min(window as usize),
        };
        let (rows, cols) = c.grid();
        let most = Positions::capacity(c.rope_split(), rows as usize, cols as usize);
        match most < frames {
            true => Err(CacheError::LongRenewal { frames, most }.into()),
            false => Ok(frames),
        }
    }
}

/// Device bytes that another prompt in mid-film takes for a moment, beside all else: activations of as many frames as are run
/// again. 0 where the cache stays as it is, or a chunk's own activations are enough.
///
/// # Errors
/// More frames than one pass can have.
pub fn renewal_bytes(film: &Outline<'_>, config: &Config) -> Result<u64, Error> {
    let frames = config.renewed_frames(film)?;
    if frames <= film.model.chunk_frames as usize {
        return Ok(0);
    }
    let (activations, tables) = Activations::bytes(film.model, frames);
    Ok(activations + tables)
}

/// Latents of the newest frames, on the host, as many as may have to be run again.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// `[channel, y, x]` of each frame, oldest first.
    frames: VecDeque<Vec<f32>>,
    most: usize,
}

impl Recent {
    /// Keeps up to `most` frames.
    pub(super) fn new(most: usize) -> Recent {
        Recent {
            frames: VecDeque::new(),
            most,
        }
    }

    /// Takes in a chunk's latents, `len` values a frame.
    pub(super) fn take_in(&mut self, latents: &[f32], len: usize) {
        if self.most == 0 {
            return;
        }
        self.frames
            .extend(latents.chunks_exact(len).map(<[f32]>::to_vec));
        let gone = self.frames.len().saturating_sub(self.most);
        self.frames.drain(..gone);
    }

    /// The newest `n` frames, one after the other.
    fn newest(&self, n: usize) -> Vec<f32> {
        let skipped = self.frames.len().saturating_sub(n);
        self.frames
            .iter()
            .skip(skipped)
            .flatten()
            .copied()
            .collect()
    }
}

impl Session {
    /// Before a chunk with another prompt, in place of the cache pass of the chunk before: sets the prompt and runs all frames
    /// that attention sees again. How many; 0: nothing was to be done, and the cache pass is still to come.
    pub(super) fn renew(&mut self, on: &mut dyn FnMut(Event)) -> Result<u32, Error> {
        let (Some(sink), Some(_)) = (self.renewed_sink, &self.unwritten) else {
            return Ok(0);
        };
        let t0 = Instant::now();
        if !self.set_cue(self.chunks)? {
            return Ok(0);
        }
        let frames = self.sampler.cache().renewal()?;
        let n = frames.clone().count();
        self.sampler.renew(&self.recent.newest(n), &[], sink)?;
        self.unwritten = None;
        let schedule = self.sampler.schedule();
        on(Event::PassDone {
            kind: PassKind::Renewal,
            chunk: self.chunks,
            pass: 0,
            passes: 1,
            timestep: schedule.context_timestep,
            secs: t0.elapsed().as_secs_f64(),
        });
        Ok(n as u32)
    }
}

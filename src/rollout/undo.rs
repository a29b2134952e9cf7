//! Going back to a chunk and on from there another way.
//!
//! The cache takes its own changes back, word for word ([`KvCache::back_before`](crate::cache::KvCache::back_before)). What
//! lies beside it is the chunk whose keys and values were still to be written: its latents are kept. Noise depends on seed and
//! frame alone, so the same way from there gives the same frames, byte for byte, and another way another film.

use std::collections::VecDeque;

use super::error::Error;
use super::event::Event;
use super::session::Session;

/// Latents of the newest chunks.
#[derive(Debug)]
pub(super) struct Past {
    most: u64,
    bytes: u64,
    latents: VecDeque<Vec<f32>>,
    /// Chunk of the oldest.
    first: u32,
}

impl Past {
    pub(super) fn new(most: u64) -> Past {
        Past {
            most,
            bytes: 0,
            latents: VecDeque::new(),
            first: 0,
        }
    }

    pub(super) fn most(&self) -> u64 {
        self.most
    }

    fn of(&self, chunk: u32) -> Option<&[f32]> {
        let at = chunk.checked_sub(self.first)?;
        self.latents.get(at as usize).map(Vec::as_slice)
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.latents.pop_front() {
            self.bytes -= 4 * oldest.len() as u64;
            self.first += 1;
        }
    }

    fn cut(&mut self, chunks: u32) {
        while chunks < self.first + self.latents.len() as u32
            && let Some(newest) = self.latents.pop_back()
        {
            self.bytes -= 4 * newest.len() as u64;
        }
        self.first = self.first.min(chunks);
    }
}

impl Session {
    /// Cuts the film back to its first `chunks` chunks: the cache is what it was then, codecs and device bytes too, and the way
    /// behind them is forgotten ([`Session::push_poses`] tells another). Tells `on` what is left.
    ///
    /// # Errors
    /// More chunks than there are, fewer than [`Session::undo_reach`], or no device memory for what was given back since: nothing
    /// is changed then.
    pub fn back_to(&mut self, chunks: u32, on: &mut dyn FnMut(Event)) -> Result<(), Error> {
        if chunks > self.chunks {
            return Err(Error::Setting(format!(
                "there are {} chunks; the film cannot go back to {chunks}",
                self.chunks
            )));
        }
        let frames = chunks as usize * self.plan.chunk_frames as usize;
        let pictures = self.sampler.config().pictures(frames);
        let id = (self.film.given().len() + frames) as i64;
        let latents = match chunks.checked_sub(1) {
            None => &[],
            Some(last) => match self.past.of(last) {
                Some(latents) => latents,
                // The newest chunk is where the film is, if the next one was not begun.
                None if chunks == self.chunks => &[],
                None => return Err(self.too_far(chunks)),
            },
        };
        if self.sampler.back_before(id, latents)? {
            let whole = i64::from(self.plan.chunk_frames);
            self.unwritten = (chunks > 0).then_some(id - whole..id);
            self.film.cut(frames);
            self.chunks = chunks;
            self.past.cut(chunks);
            self.watch.cut(pictures);
        }
        on(Event::CutBack {
            chunks,
            frames: pictures as u32,
        });
        on(Event::Memory(self.memory()));
        on(Event::Kv(Box::new(self.kv())));
        Ok(())
    }

    /// The fewest chunks that the film can go back to now; the chunks it has where nothing is kept.
    pub fn undo_reach(&self) -> u32 {
        let Some(frame) = self.sampler.cache().undo_reach() else {
            return self.chunks;
        };
        let made = frame - self.film.given().len() as i64;
        let chunk = u32::try_from(made.max(0) / i64::from(self.plan.chunk_frames));
        match chunk.unwrap_or(self.chunks) {
            0 if self.past.first == 0 => 0,
            chunk => chunk.max(self.past.first + 1).min(self.chunks),
        }
    }

    /// Host bytes that are kept for going back.
    pub fn undo_bytes(&self) -> u64 {
        self.past.bytes + self.sampler.cache().undo_bytes()
    }

    /// Takes in the latents of the newest chunk and forgets the oldest ones, within the limit that both parts share.
    pub(super) fn keep_past(&mut self, latents: Vec<f32>) {
        if self.past.most == 0 {
            return;
        }
        self.past.bytes += 4 * latents.len() as u64;
        self.past.latents.push_back(latents);
        while self.past.bytes > self.past.most {
            self.past.forget_oldest();
        }
        let rest = self.past.most - self.past.bytes;
        self.sampler.cache_mut().keep_undo(rest.max(1));
        while self.past.first + 1 < self.undo_reach() {
            self.past.forget_oldest();
        }
    }

    fn too_far(&self, chunks: u32) -> Error {
        Error::Setting(format!(
            "the film cannot go back to chunk {chunks}: what is kept reaches back to chunk {}; make it again up to there",
            self.undo_reach()
        ))
    }
}

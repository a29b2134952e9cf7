//! Which exact latent frame lies in which slot of which page. Pure; no device.
//! Source: SELF-FORCING 5.2 (write rule), 5.5 (absolute positions, keys before RoPE).

use std::collections::BTreeMap;
use std::ops::Range;

/// Why a chunk cannot be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The chunk and the sink alone exceed the window.
    #[error("a window of {window} frames cannot hold {sink} sink frames and a chunk of {chunk}; make it at least {}", sink + chunk)]
    WindowTooSmall {
        /// Frames of the window.
        window: usize,
        /// Sink frames.
        sink: usize,
        /// Frames of the chunk.
        chunk: usize,
    },
    /// A sink that takes in what leaves, and a window from which something else leaves.
    #[error("a sink that takes in the frames that leave the window needs a window, chunks as long as the sink, and room for whole chunks behind it; the sink has {sink} frames, a chunk {chunk}, the window {}", window.map_or("no end".to_owned(), |w| w.to_string()))]
    SinkTakesIn {
        /// Frames of the window; `None`: all.
        window: Option<usize>,
        /// Sink frames.
        sink: usize,
        /// Frames of the chunk.
        chunk: usize,
    },
    /// The same with a coded cache.
    #[error(
        "a sink that takes in the frames that leave the window needs exact keys and values; use --kv f16, bf16 or f32 for this model"
    )]
    CodedSinkTakesIn,
    /// More frames than the cache was planned for.
    #[error("the cache was planned for {planned} frames and has no place for one more")]
    Full {
        /// Frames planned.
        planned: usize,
    },
}

/// Frames, slots and pages of a cache.
#[derive(Debug, Clone)]
pub struct Layout {
    page_frames: usize,
    max_frames: usize,
    /// Frame id to slot; slots count through all pages.
    slots: BTreeMap<i64, usize>,
    /// Slots ever used.
    used: usize,
}

impl Layout {
    /// An empty layout of pages of `page_frames` slots, the last one cut to `max_frames` in all.
    pub fn new(page_frames: usize, max_frames: usize) -> Layout {
        Layout {
            page_frames,
            max_frames,
            slots: BTreeMap::new(),
            used: 0,
        }
    }

    /// Places the frames of a chunk in free slots, lowest first. A stored frame stays where it is.
    ///
    /// # Errors
    /// The plan is exhausted; nothing is changed then.
    pub fn place(&mut self, frames: Range<i64>) -> Result<(), LayoutError> {
        let fresh: Vec<i64> = frames.filter(|f| !self.slots.contains_key(f)).collect();
        if self.slots.len() + fresh.len() > self.max_frames {
            return Err(LayoutError::Full {
                planned: self.max_frames,
            });
        }
        let taken: std::collections::BTreeSet<usize> = self.slots.values().copied().collect();
        let free = (0..self.max_frames).filter(|s| !taken.contains(s));
        for (frame, slot) in fresh.into_iter().zip(free) {
            self.used = self.used.max(slot + 1);
            self.slots.insert(frame, slot);
        }
        Ok(())
    }

    /// Frees the slots of frames that are stored.
    pub fn remove(&mut self, frames: impl Iterator<Item = i64>) {
        for frame in frames {
            self.slots.remove(&frame);
        }
    }

    /// Slot of a frame, counted through all pages.
    pub(super) fn slot(&self, frame: i64) -> Option<usize> {
        self.slots.get(&frame).copied()
    }

    /// Slots ever used: what the number of pages follows from.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Puts frames into slots they had when `used` was so small.
    pub(super) fn put_back(&mut self, frames: impl Iterator<Item = (i64, usize)>, used: usize) {
        self.slots.extend(frames);
        self.used = used;
    }

    /// Stored frames, oldest first.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = i64> {
        self.slots.keys().copied()
    }

    /// Page and slot in it of a frame.
    pub fn find(&self, frame: i64) -> Option<(usize, usize)> {
        self.slots
            .get(&frame)
            .map(|s| (s / self.page_frames, s % self.page_frames))
    }

    /// Pages needed so far.
    pub fn n_pages(&self) -> usize {
        self.used.div_ceil(self.page_frames)
    }

    /// Slots of a page: the last one holds only what the plan still allows.
    pub fn page_slots(&self, page: usize) -> usize {
        self.page_frames
            .min(self.max_frames - page * self.page_frames)
    }

    /// By page: (position, slot) of all stored frames to which `position` gives one, oldest first.
    pub fn visible(&self, position: impl Fn(i64) -> Option<i64>) -> Vec<Vec<(i64, u32)>> {
        let mut pages = vec![Vec::new(); self.n_pages()];
        for (frame, slot) in &self.slots {
            if let Some(position) = position(*frame) {
                pages[slot / self.page_frames].push((position, (slot % self.page_frames) as u32));
            }
        }
        pages
    }

    /// Cuts frames into runs that lie in neighbouring slots of one page: (index of the first frame in `frames`, page,
    /// first slot, frames).
    ///
    /// # Panics
    /// When a frame is not stored.
    pub fn runs(&self, frames: Range<i64>) -> Vec<(usize, usize, usize, usize)> {
        let mut runs: Vec<(usize, usize, usize, usize)> = Vec::new();
        for (i, frame) in frames.enumerate() {
            let (page, slot) = self
                .find(frame)
                .expect("the frame is placed before it is stored");
            match runs.last_mut() {
                Some((_, p, s, n)) if *p == page && *s + *n == slot => *n += 1,
                _ => runs.push((i, page, slot, 1)),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(l: &Layout) -> Vec<i64> {
        l.frames().collect()
    }

    #[test]
    fn freed_slots_are_taken_again() {
        let mut l = Layout::new(4, 6);
        l.place(0..6).unwrap();
        l.remove(1..4);
        l.place(6..9).unwrap();
        assert_eq!(stored(&l), [0, 4, 5, 6, 7, 8]);
        assert_eq!((l.n_pages(), l.find(6)), (2, Some((0, 1))));
    }

    #[test]
    fn passes_of_one_chunk_share_their_slots() {
        let mut l = Layout::new(8, 6);
        l.place(0..3).unwrap();
        l.place(3..6).unwrap();
        let before = l.clone().slots;
        l.place(3..6).unwrap();
        assert_eq!(l.slots, before);
    }

    #[test]
    fn the_last_page_is_only_as_long_as_the_plan() {
        let l = Layout::new(64, 112);
        assert_eq!((l.page_slots(0), l.page_slots(1)), (64, 48));
    }

    #[test]
    fn refusals_change_nothing() {
        let mut f = Layout::new(8, 4);
        f.place(0..3).unwrap();
        assert_eq!(f.place(3..6), Err(LayoutError::Full { planned: 4 }));
        assert_eq!(stored(&f), [0, 1, 2]);
    }

    #[test]
    fn visible_is_what_is_shown() {
        let mut l = Layout::new(2, 8);
        l.place(7..12).unwrap();
        let frames: Vec<i64> = l
            .visible(|f| (f >= 10).then_some(f - 10))
            .into_iter()
            .flatten()
            .map(|(f, _)| f)
            .collect();
        assert_eq!(frames, [0, 1]);
    }

    #[test]
    fn runs_follow_slots() {
        let mut l = Layout::new(4, 16);
        l.place(0..6).unwrap();
        assert_eq!(l.runs(2..6), [(0, 0, 2, 2), (2, 1, 0, 2)]);
    }
}

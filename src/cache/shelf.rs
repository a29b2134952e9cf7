//! Which coded span lies in which slot of which page. Pure; no device.

use std::ops::Range;

/// One page of spans.
#[derive(Debug, Clone)]
pub(super) struct ShelfPage {
    /// Frames of each of its spans.
    pub(super) span_frames: usize,
    /// Which of the cache's settings coded them.
    pub(super) setting: usize,
    /// What lies in each slot.
    pub(super) slots: Vec<Option<Range<i64>>>,
}

/// All pages of spans. A page holds spans of one length and setting; the last one of a kind is only as long as the plan
/// has spans of that kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf {
    pages: Vec<ShelfPage>,
}

impl Shelf {
    /// Finds a slot for a span: (page, slot). Opens a page of at most `page_spans` slots when there is none free, no longer
    /// than what `planned` spans of this length, resident at once, still need.
    pub(super) fn place(
        &mut self,
        span: Range<i64>,
        setting: usize,
        page_spans: usize,
        planned: usize,
    ) -> (usize, usize) {
        let span_frames = (span.end - span.start) as usize;
        let mut held = 0;
        for (i, page) in self.pages.iter_mut().enumerate() {
            if page.span_frames != span_frames || page.setting != setting {
                continue;
            }
            held += page.slots.len();
            if let Some(slot) = page.slots.iter().position(Option::is_none) {
                page.slots[slot] = Some(span);
                return (i, slot);
            }
        }
        let n = page_spans.min(planned.saturating_sub(held)).max(1);
        let mut slots = vec![None; n];
        slots[0] = Some(span);
        self.pages.push(ShelfPage {
            span_frames,
            setting,
            slots,
        });
        (self.pages.len() - 1, 0)
    }

    /// Frees the slot of a span that is there.
    pub(super) fn remove(&mut self, span: &Range<i64>) {
        for page in &mut self.pages {
            for slot in page.slots.iter_mut().filter(|s| s.as_ref() == Some(span)) {
                *slot = None;
            }
        }
    }

    /// Frees one slot.
    pub(super) fn free(&mut self, page: usize, slot: usize) {
        self.pages[page].slots[slot] = None;
    }

    /// Puts a span into a slot it had.
    pub(super) fn put_back(&mut self, span: Range<i64>, page: usize, slot: usize) {
        self.pages[page].slots[slot] = Some(span);
    }

    /// Forgets the pages that were opened when there were so many.
    pub(super) fn cut(&mut self, n_pages: usize) {
        self.pages.truncate(n_pages);
    }

    /// Takes a page without spans out of the list; those behind it move up.
    pub(super) fn take(&mut self, page: usize) -> ShelfPage {
        self.pages.remove(page)
    }

    /// Puts it in again.
    pub(super) fn insert(&mut self, at: usize, page: ShelfPage) {
        self.pages.insert(at, page);
    }

    /// Pages in the order they were opened.
    pub(super) fn pages(&self) -> &[ShelfPage] {
        &self.pages
    }

    /// Page, slot and frame within the span of a coded frame.
    pub(super) fn find(&self, frame: i64) -> Option<(usize, usize, usize)> {
        self.pages.iter().enumerate().find_map(|(p, page)| {
            page.slots.iter().enumerate().find_map(|(s, span)| {
                let span = span.as_ref().filter(|r| r.contains(&frame))?;
                Some((p, s, (frame - span.start) as usize))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_fill_and_the_last_is_only_as_long_as_the_plan() {
        let mut s = Shelf::default();
        let places: Vec<_> = (0..5).map(|i| s.place(i * 8..i * 8 + 8, 0, 3, 5)).collect();
        assert_eq!(places, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]);
        assert_eq!(s.pages()[1].slots.len(), 2);
        assert_eq!(s.find(19), Some((0, 2, 3)));
    }

    #[test]
    fn a_span_of_another_length_takes_no_more_than_its_own_slot() {
        let mut s = Shelf::default();
        s.place(1..8, 0, 3, 1);
        s.place(8..16, 0, 3, 2);
        let slots: Vec<_> = s.pages().iter().map(|p| p.slots.len()).collect();
        assert_eq!(slots, [1, 2]);
    }

    #[test]
    fn freed_slots_are_taken_again_by_spans_of_their_kind() {
        let mut s = Shelf::default();
        s.place(0..4, 0, 2, 2);
        s.place(4..8, 0, 2, 2);
        s.remove(&(0..4));
        assert_eq!(s.find(2), None);
        assert_eq!(s.place(8..12, 1, 2, 2), (1, 0), "another setting");
        assert_eq!(s.place(12..16, 0, 2, 2), (0, 0));
    }
}

//! Re-packing: a span that was coded wider than what is asked for now is decoded and coded again, one span a step, and the page
//! that all spans have left is given back.
//!
//! Rows of some heads of one tensor of one layer are decoded into the encoder's own scratch and coded from there, as when the
//! span was new: no layer exists in 16 or 32 bits. The old codes are read by attention until the new ones are whole. What a
//! codec lost stays lost: spans never get wider.

use std::ops::Range;

use super::spans::{Spans, page_spans, span_words};
use super::undo::Done;
use super::{CacheError, KvCache};
use crate::codec::Encode;
use crate::gpu::{Device, Error};
use crate::ops::{Positions, SpanPlace, span_decode};

/// A span that was made narrower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repacked {
    /// Its frames.
    pub frames: Range<i64>,
    /// Bits of a code of K and of V, 16 for halves, as they are now.
    pub bits: [u32; 2],
    /// Its bytes before, all layers.
    pub bytes_before: u64,
    /// Its bytes now.
    pub bytes: u64,
}

impl KvCache {
    /// Spans that [`KvCache::repack`] would make narrower.
    pub fn wider_spans(&self) -> usize {
        self.spans.as_ref().map_or(0, Spans::n_wider)
    }

    /// Codes the first span that is wider than what codes the next one again, as the next one will be; from a cold start of
    /// k-means. `None`: none is wider. Spans of which K or V would get wider are kept as they are.
    ///
    /// # Errors
    /// No room for a page: nothing is changed then. The device failed.
    pub fn repack(&mut self, device: &Device) -> Result<Option<Repacked>, CacheError> {
        let Some(spans) = &self.spans else {
            return Ok(None);
        };
        let Some((span, from)) = spans.next_wider() else {
            return Ok(None);
        };
        spans.check_room(device, &span)?;
        let lost = self.keep_span(device, &span)?;
        self.note(Done::Repacked, lost.into_iter().collect());
        let Some(spans) = &mut self.spans else {
            return Ok(None);
        };
        let bytes_before = spans.span_bytes(from.0);
        let to = spans.repack(device, &span, from)?;
        let (bytes, bits) = (spans.span_bytes(to.0), spans.pages[to.0].bits());
        spans.shelf.free(from.0, from.1);
        let gone = spans.give_back();
        let (shown, positions) = (&self.shown, self.policy.positions);
        spans.show(device, |f| positions.of(shown, f));
        self.note_gone(gone);
        self.forget_error(&span);
        Ok(Some(Repacked {
            frames: span,
            bits,
            bytes_before,
            bytes,
        }))
    }
}

impl Spans {
    /// Whether the spans of a page would get narrower by what codes the next one, and neither K nor V wider.
    fn is_wider(&self, page: usize) -> bool {
        let now = &self.pages[page].layouts;
        let shape = self
            .plan
            .shape(&self.cache, self.shelf.pages()[page].span_frames);
        let next = self.setting().layouts(shape, self.cache.n_layers);
        let bits = || {
            let pairs = now.iter().flatten().zip(next.iter().flatten());
            pairs.map(|(a, b)| (a.coding.bits, b.coding.bits))
        };
        bits().all(|(a, b)| b <= a)
            && bits().any(|(a, b)| b < a)
            && span_words(&next) < span_words(now)
    }

    /// Spans of wider pages, page by page: the sooner a page is empty, the sooner its bytes are free.
    fn wider(&self) -> impl Iterator<Item = (Range<i64>, (usize, usize))> {
        let pages = self.shelf.pages().iter().enumerate();
        pages
            .filter(|(page, _)| self.is_wider(*page))
            .flat_map(|(page, on_shelf)| {
                let slots = on_shelf.slots.iter().enumerate();
                slots.filter_map(move |(slot, span)| Some((span.clone()?, (page, slot))))
            })
    }

    fn n_wider(&self) -> usize {
        self.wider().count()
    }

    fn next_wider(&self) -> Option<(Range<i64>, (usize, usize))> {
        self.wider().next()
    }

    /// Bytes of a span of a page, all layers.
    fn span_bytes(&self, page: usize) -> u64 {
        4 * span_words(&self.pages[page].layouts) as u64
    }

    /// Where a span would go, as the next setting codes it.
    fn find_place(
        &self,
        device: &Device,
        span: &Range<i64>,
    ) -> (super::shelf::Shelf, (usize, usize)) {
        let shape = self
            .plan
            .shape(&self.cache, (span.end - span.start) as usize);
        let mut shelf = self.shelf.clone();
        let to = shelf.place(
            span.clone(),
            self.settings.len() - 1,
            page_spans(&self.cache, self.setting(), shape, device.caps()),
            self.plan.planned(span),
        );
        (shelf, to)
    }

    /// Refuses a page that the device is known to have no memory for.
    fn check_room(&self, device: &Device, span: &Range<i64>) -> Result<(), CacheError> {
        let (shelf, (page, _)) = self.find_place(device, span);
        let Some(have) = device
            .caps()
            .memory_bytes
            .filter(|_| page == self.pages.len())
        else {
            return Ok(());
        };
        let shape = self
            .plan
            .shape(&self.cache, (span.end - span.start) as usize);
        let words = span_words(&self.setting().layouts(shape, self.cache.n_layers));
        let slots = shelf.pages()[page].slots.len();
        let need = (4 * slots * words) as u64 + Positions::BYTES;
        let held = device.ledger().total();
        match held + need > have {
            true => Err(CacheError::NoRoom { need, held, have }),
            false => Ok(()),
        }
    }

    /// Codes a span again, into a slot of its own; the old one is still there.
    fn repack(
        &mut self,
        device: &Device,
        span: &Range<i64>,
        from: (usize, usize),
    ) -> Result<(usize, usize), Error> {
        self.ensure_scratch(device)?;
        let shape = self
            .plan
            .shape(&self.cache, (span.end - span.start) as usize);
        let pair = self.setting().clone();
        let (shelf, to) = self.find_place(device, span);
        if to.0 == self.pages.len() {
            let made = self.open(device, &pair, shape, shelf.pages()[to.0].slots.len())?;
            self.pages.push(made);
        }
        self.shelf = shelf;
        let Some(scratch) = &self.scratch else {
            return Ok(to);
        };
        for layer in 0..self.cache.n_layers {
            for is_v in 0..2 {
                let codec = pair.codec(layer, is_v == 1);
                let old = self.pages[from.0].place(layer, is_v, from.1);
                let new = self.pages[to.0].place(layer, is_v, to.1);
                if old.layout == new.layout {
                    self.copy(device, old, new)?;
                    continue;
                }
                let mut first_head = 0;
                while first_head < shape.n_heads {
                    let n_heads = scratch.heads.min(shape.n_heads - first_head);
                    let mut rec = device.recorder();
                    rec.stage("repack");
                    span_decode(&mut rec, old, (first_head, n_heads), &scratch.x);
                    let job = Encode {
                        x: &scratch.x,
                        first_head,
                        n_heads,
                        to: new,
                        earlier: None,
                    };
                    codec.encode(&mut rec, scratch, &job);
                    device.run(rec)?;
                    first_head += n_heads;
                }
            }
        }
        Ok(to)
    }

    /// Moves words that are coded as they should be, where only the other tensor gets narrower.
    fn copy(&self, device: &Device, old: SpanPlace<'_>, new: SpanPlace<'_>) -> Result<(), Error> {
        let piece = self.cache.format.words(self.cache.frame_values());
        for at in (0..old.layout.words).step_by(piece) {
            let n = piece.min(old.layout.words - at);
            let words = device.read(old.words, old.base + at..old.base + at + n)?;
            device.write(new.words, new.base + at, &words);
        }
        Ok(())
    }
}

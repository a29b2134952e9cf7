//! The way back: what each change of the cache destroyed, kept on the host, so that the cache can be cut back to an earlier
//! chunk word for word.
//!
//! A frame that is coded, a frame or span that leaves the window, a span that is re-packed: their words are read back before
//! they go. Everything else about a state follows from the change itself. Slots, pages and the encoder's start are restored
//! too, because sums of floats depend on which page a frame lies in, and codes on the span before. The journal has a limit
//! in bytes; what is older than it reaches is forgotten.

use std::collections::VecDeque;
use std::ops::Range;

use super::policy::Step;
use super::shelf::ShelfPage;
use super::spans::{Page, Spans};
use super::{CacheError, KvCache};
use crate::codec::{EncodeScratch, KvPair};
use crate::gpu::{Buffer, Device, Error};

/// Words of an exact frame: K and V of every layer.
#[derive(Debug)]
pub(super) struct LostFrame {
    frame: i64,
    slot: usize,
    words: Vec<u32>,
}

/// Words of a span: K and V of every layer.
#[derive(Debug)]
pub(super) struct LostSpan {
    pub(super) span: Range<i64>,
    pub(super) page: usize,
    pub(super) slot: usize,
    pub(super) words: Vec<u32>,
}

/// What was done.
#[derive(Debug)]
pub(super) enum Done {
    /// A chunk was begun.
    Begun {
        frames: Range<i64>,
        step: Step,
        live_from: i64,
        /// Slots ever used before.
        used: usize,
        lost: Vec<LostFrame>,
    },
    /// Other codecs were set.
    Codecs,
    /// A span was re-packed: the one lost.
    Repacked,
}

/// A change, and what takes it back.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) done: Done,
    /// Of the spans, before.
    pub(super) mark: Option<Mark>,
    /// Spans whose words it destroyed.
    pub(super) lost: Vec<LostSpan>,
    /// Pages it gave back, each with its place in the list at that moment.
    pub(super) gone: Vec<(usize, ShelfPage)>,
}

impl Entry {
    fn bytes(&self) -> u64 {
        let frames = match &self.done {
            Done::Begun { lost, .. } => lost.iter().map(|l| l.words.len()).sum(),
            _ => 0,
        };
        let spans: usize = self.lost.iter().map(|l| l.words.len()).sum();
        (size_of::<Entry>() + 4 * (frames + spans)) as u64
    }
}

/// What of the spans is not in their pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pages: usize,
    settings: usize,
    last: Option<(usize, usize)>,
    has_scratch: bool,
    coded: u64,
    coding_secs: f64,
}

/// Device memory that going back takes.
#[derive(Debug, Default)]
struct Returning {
    /// Pages in the order in which they come back.
    pages: VecDeque<Page>,
    scratch: Scratch,
}

/// The encoder's scratch after going back.
#[derive(Debug, Default)]
enum Scratch {
    None,
    #[default]
    Same,
    Of(Box<EncodeScratch>),
}

/// Changes, oldest first, as far back as the limit allows.
#[derive(Debug)]
pub(super) struct Journal {
    most: u64,
    bytes: u64,
    entries: VecDeque<Entry>,
    /// First chunk that can be taken back, by its first frame; `None` before any chunk was begun.
    reach: Option<i64>,
    /// Something done since the newest chunk is forgotten: the next one cannot be taken back.
    has_gap: bool,
}

impl Journal {
    pub(super) fn new(most: u64) -> Journal {
        Journal {
            most,
            bytes: 0,
            entries: VecDeque::new(),
            reach: None,
            has_gap: false,
        }
    }

    pub(super) fn push(&mut self, entry: Entry) {
        if let Done::Begun { frames, .. } = &entry.done {
            let from = if self.has_gap {
                frames.end
            } else {
                frames.start
            };
            self.reach.get_or_insert(from);
            self.has_gap = false;
        }
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        self.trim();
    }

    /// Forgets the oldest chunks until the rest is within the limit.
    fn trim(&mut self) {
        while self.bytes > self.most
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= oldest.bytes();
            match oldest.done {
                Done::Begun { frames, .. } => self.reach = Some(frames.end),
                // Between two chunks: the one before can be gone back to only with all of what followed it.
                _ => self.forget_chunk(),
            }
        }
    }

    fn forget_chunk(&mut self) {
        while let Some(oldest) = self.entries.pop_front() {
            self.bytes -= oldest.bytes();
            if let Done::Begun { frames, .. } = oldest.done {
                self.reach = Some(frames.end);
                return;
            }
        }
        (self.reach, self.has_gap) = (None, true);
    }
}

impl KvCache {
    /// Keeps, in at most `most` bytes of host memory, what it takes to go back to the chunks begun from now on; 0: nothing.
    pub fn keep_undo(&mut self, most: u64) {
        match &mut self.journal {
            Some(journal) if most > 0 => {
                journal.most = most;
                journal.trim();
            }
            journal => *journal = (most > 0).then(|| Journal::new(most)),
        }
    }

    /// Forgets all that was kept: nothing before now can be gone back to.
    pub(super) fn forget_past(&mut self) {
        if let Some(journal) = &mut self.journal {
            *journal = Journal::new(journal.most);
        }
    }

    /// Host bytes kept for going back.
    pub fn undo_bytes(&self) -> u64 {
        self.journal.as_ref().map_or(0, |j| j.bytes)
    }

    /// First frame of the earliest chunk that can be taken back; `None`: none can.
    pub fn undo_reach(&self) -> Option<i64> {
        self.journal.as_ref().and_then(|j| j.reach)
    }

    /// Cuts the cache back to what it was before the chunk that begins with `frame` was begun: every word that is seen, its
    /// place, the codecs and the device bytes. What was done between that chunk and the one before it is taken back too. False:
    /// that chunk was not begun, and nothing is done.
    ///
    /// # Errors
    /// Farther back than the journal reaches, or no device memory for pages that were given back: nothing is changed then.
    pub fn back_before(&mut self, device: &Device, frame: i64) -> Result<bool, CacheError> {
        if self.residency.last_begun().is_none_or(|f| f < frame) {
            return Ok(false);
        }
        if self.undo_reach().is_none_or(|reach| frame < reach) {
            return Err(CacheError::NoWayBack {
                frame,
                reach: self.undo_reach(),
            });
        }
        let begun_before =
            |e: &Entry| matches!(&e.done, Done::Begun { frames, .. } if frames.start < frame);
        let entries = self.journal.iter().flat_map(|j| j.entries.iter().rev());
        let entries: Vec<&Entry> = entries.take_while(|e| !begun_before(e)).collect();
        // All that can fail comes first.
        let mut returning = match &self.spans {
            Some(spans) => spans.returning(device, &entries)?,
            None => Returning::default(),
        };
        while let Some(journal) = &mut self.journal
            && let Some(entry) = journal.entries.pop_back_if(|e| !begun_before(e))
        {
            journal.bytes -= entry.bytes();
            self.take_back(device, entry, &mut returning);
        }
        if let Some(spans) = &mut self.spans {
            spans.scratch = match returning.scratch {
                Scratch::None => None,
                Scratch::Same => spans.scratch.take(),
                Scratch::Of(made) => Some(*made),
            };
        }
        if let Some(journal) = &mut self.journal
            && journal.entries.is_empty()
        {
            journal.reach = None;
        }
        self.show(device, None);
        Ok(true)
    }

    fn take_back(&mut self, device: &Device, entry: Entry, returning: &mut Returning) {
        if let Some(spans) = &mut self.spans {
            for (at, page) in entry.gone.into_iter().rev() {
                if let Some(made) = returning.pages.pop_front() {
                    spans.pages.insert(at, made);
                    spans.shelf.insert(at, page);
                }
            }
            match &entry.done {
                Done::Begun { step, .. } => step.code.iter().for_each(|s| spans.remove(s)),
                Done::Repacked => entry.lost.iter().for_each(|l| spans.remove(&l.span)),
                Done::Codecs => {}
            }
            for lost in entry.lost {
                spans.write_words(device, (lost.page, lost.slot), &lost.words);
                spans.shelf.put_back(lost.span, lost.page, lost.slot);
            }
            if let Some(mark) = &entry.mark {
                spans.restore(mark);
            }
        }
        if let Done::Begun {
            frames,
            step,
            live_from,
            used,
            lost,
        } = entry.done
        {
            self.residency.take_back(&frames, &step, live_from);
            self.layout.remove(frames);
            self.layout
                .put_back(lost.iter().map(|l| (l.frame, l.slot)), used);
            self.pages.truncate(self.layout.n_pages());
            self.tables.truncate(self.layout.n_pages());
            for l in lost {
                self.write_frame_words(device, l.frame, &l.words);
            }
        }
    }

    /// Notes a change in the journal, where there is one, before it is made.
    pub(super) fn note(&mut self, done: Done, lost: Vec<LostSpan>) {
        if let Some(journal) = &mut self.journal {
            journal.push(Entry {
                done,
                mark: self.spans.as_ref().map(Spans::mark),
                lost,
                gone: Vec::new(),
            });
        }
    }

    /// A span with its words, where there is a journal for them.
    pub(super) fn keep_span(
        &self,
        device: &Device,
        span: &Range<i64>,
    ) -> Result<Option<LostSpan>, Error> {
        let Some(spans) = self.spans.as_ref().filter(|_| self.journal.is_some()) else {
            return Ok(None);
        };
        let Some((page, slot, _)) = spans.shelf.find(span.start) else {
            return Ok(None);
        };
        Ok(Some(LostSpan {
            span: span.clone(),
            page,
            slot,
            words: spans.words(device, (page, slot))?,
        }))
    }

    /// Notes that the chunk of `frames` begins with `step`; its frames are not placed yet.
    pub(super) fn note_begun(
        &mut self,
        device: &Device,
        frames: Range<i64>,
        step: &Step,
        live_from: i64,
    ) -> Result<(), Error> {
        if self.journal.is_none() {
            return Ok(());
        }
        let exact = step.code.iter().cloned().flatten();
        let mut lost = Vec::new();
        // A sink that takes in what leaves is no more what it was.
        let takes_in = self.policy.ema_sink.is_some() && !step.free.is_empty();
        let sink = self.residency.sink(&self.policy).filter(|_| takes_in);
        for frame in exact.chain(step.free.iter().copied()).chain(sink) {
            if let Some(slot) = self.layout.slot(frame) {
                let words = self.frame_words(device, frame)?;
                lost.push(LostFrame { frame, slot, words });
            }
        }
        // One that is coded and dropped in one step is no span yet: it is restored as exact frames.
        let mut spans = Vec::new();
        for span in &step.free_spans {
            spans.extend(self.keep_span(device, span)?);
        }
        let done = Done::Begun {
            frames,
            step: step.clone(),
            live_from,
            used: self.layout.used(),
            lost,
        };
        self.note(done, spans);
        Ok(())
    }

    /// Adds pages given back to the entry of the change that emptied them.
    pub(super) fn note_gone(&mut self, gone: Vec<(usize, ShelfPage)>) {
        if let Some(entry) = self.journal.as_mut().and_then(|j| j.entries.back_mut()) {
            entry.gone.extend(gone);
        }
    }

    /// K and V of every layer of an exact frame as its page has them. Frame by frame and tensor by tensor, so that the copy on
    /// its way takes no more device memory than a frame of one layer.
    fn frame_words(&self, device: &Device, frame: i64) -> Result<Vec<u32>, Error> {
        let (page, at) = self.place_of(frame);
        let n = self.shape.format.words(self.shape.frame_values());
        let mut words = Vec::with_capacity(2 * n * self.shape.n_layers);
        for p in &self.pages[page] {
            words.extend(device.read(&p.k, at..at + n)?);
            words.extend(device.read(&p.v, at..at + n)?);
        }
        Ok(words)
    }

    fn write_frame_words(&self, device: &Device, frame: i64, words: &[u32]) {
        let (page, at) = self.place_of(frame);
        let n = self.shape.format.words(self.shape.frame_values());
        let tensors = self.pages[page].iter().flat_map(|p| [&p.k, &p.v]);
        for (tensor, words) in tensors.zip(words.chunks_exact(n)) {
            device.write(tensor, at, words);
        }
    }
}

impl Spans {
    fn mark(&self) -> Mark {
        Mark {
            pages: self.pages.len(),
            settings: self.settings.len(),
            last: self.last,
            has_scratch: self.scratch.is_some(),
            coded: self.coded,
            coding_secs: self.coding_secs,
        }
    }

    fn restore(&mut self, mark: &Mark) {
        self.pages.truncate(mark.pages);
        self.shelf.cut(mark.pages);
        self.settings.truncate(mark.settings);
        (self.last, self.coded, self.coding_secs) = (mark.last, mark.coded, mark.coding_secs);
    }

    /// Allocates what taking back `entries`, newest first, will want, while the cache stays as it is.
    fn returning(&self, device: &Device, entries: &[&Entry]) -> Result<Returning, Error> {
        // Who lies on each page: one that is there now, or the n-th that comes back.
        let mut pages: Vec<Option<usize>> = vec![None; self.pages.len()];
        let mut back = Vec::new();
        for entry in entries {
            for (at, page) in entry.gone.iter().rev() {
                pages.insert(*at, Some(back.len()));
                back.push(page);
            }
            if let Some(mark) = &entry.mark {
                pages.truncate(mark.pages);
            }
        }
        let stays = |n: usize| pages.contains(&Some(n));
        let make = |(n, page): (usize, &&ShelfPage)| {
            let shape = self.plan.shape(&self.cache, page.span_frames);
            let pair = &self.settings[page.setting];
            match stays(n) {
                true => self.open(device, pair, shape, page.slots.len()),
                false => self.open_hollow(device, pair, shape),
            }
        };
        let made = back.iter().enumerate().map(make);
        let made = made.collect::<Result<VecDeque<_>, Error>>()?;
        let scratch = match entries.last().and_then(|e| e.mark) {
            Some(mark) if !mark.has_scratch => Scratch::None,
            Some(mark) if mark.settings < self.settings.len() || self.scratch.is_none() => {
                let pair = &self.settings[mark.settings - 1];
                Scratch::Of(Box::new(self.make_scratch(device, pair)?))
            }
            _ => Scratch::Same,
        };
        Ok(Returning {
            pages: made,
            scratch,
        })
    }

    /// The encoder's scratch for what codes the next span.
    pub(super) fn ensure_scratch(&mut self, device: &Device) -> Result<(), Error> {
        if self.scratch.is_none() {
            self.scratch = Some(self.make_scratch(device, self.setting())?);
        }
        Ok(())
    }

    fn make_scratch(&self, device: &Device, pair: &KvPair) -> Result<EncodeScratch, Error> {
        let longest = self.plan.shape(&self.cache, self.plan.span_frames());
        EncodeScratch::new(device, pair, longest, self.cache.n_layers)
    }

    /// Gives back the pages without spans that no span will be coded into: those of settings before. What it was before is in
    /// the answer, in the order of going.
    pub(super) fn give_back(&mut self) -> Vec<(usize, ShelfPage)> {
        let now = self.settings.len() - 1;
        let mut gone = Vec::new();
        while let Some(at) = self
            .shelf
            .pages()
            .iter()
            .position(|p| p.setting != now && p.slots.iter().all(Option::is_none))
        {
            self.pages.remove(at);
            gone.push((at, self.shelf.take(at)));
            self.last = match self.last {
                Some((page, _)) if page == at => None,
                Some((page, slot)) if page > at => Some((page - 1, slot)),
                other => other,
            };
        }
        gone
    }

    /// Buffers of a slot in the order that words are kept in, with the first word there and the words.
    fn tensors(&self, (page, slot): (usize, usize)) -> impl Iterator<Item = Place<'_>> {
        let page = &self.pages[page];
        let tensors = page.layers.iter().flatten();
        tensors
            .zip(page.layouts.iter().flatten())
            .map(move |(words, l)| Place {
                words,
                at: slot * l.words,
                n: l.words,
            })
    }

    /// Words of a slot, all layers.
    fn words(&self, device: &Device, at: (usize, usize)) -> Result<Vec<u32>, Error> {
        let piece = self.cache.format.words(self.cache.frame_values());
        let mut words = Vec::new();
        for t in self.tensors(at) {
            // In pieces of a frame's size: see `KvCache::frame_words`.
            let mut from = t.at;
            while from < t.at + t.n {
                let to = (from + piece).min(t.at + t.n);
                words.extend(device.read(t.words, from..to)?);
                from = to;
            }
        }
        Ok(words)
    }

    fn write_words(&self, device: &Device, at: (usize, usize), words: &[u32]) {
        let mut rest = words;
        for t in self.tensors(at) {
            let (now, behind) = rest.split_at(t.n);
            device.write(t.words, t.at, now);
            rest = behind;
        }
    }
}

/// A run of words in a page.
struct Place<'a> {
    words: &'a Buffer<u32>,
    at: usize,
    n: usize,
}

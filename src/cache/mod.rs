//! The KV cache: keys before RoPE and values of every visible latent frame, in pages of exact frames and pages of coded spans.
//!
//! A page is a run of slots of one layer, small enough for one binding and shared in layout by all layers. An exact page
//! has a slot for a frame, a coded page one for a span: a run of frames whose K and V were turned into codes once, all
//! their exact slots being free from then on. Frames keep their absolute ids. What attention needs to know of a page
//! (visible slots, angles) is one table a page. Deliberately absent: what a layer computes, what a chunk means, how a
//! codec codes. Source: SELF-FORCING section 5; METHOD section 7.

mod errors;
mod layout;
mod policy;
mod renew;
mod repack;
mod shelf;
mod sink;
mod spans;
mod undo;

pub use errors::SpanErrors;
pub use layout::{Layout, LayoutError};
pub use policy::{KeyPositions, Policy, Residency, Step, Window};
pub use renew::Sink;
pub use repack::Repacked;
pub use spans::{Held, KvFigures, LayerFigures, Spans, SpansPlan, TensorFigures};

use std::ops::Range;

use crate::codec::KvPair;
use crate::gpu::{Buffer, Caps, Device, Error, Purpose, Recorder};
use crate::ops::{KvFormat, KvStore, Positions, RopeSplit, Rows, Segment, kv_store};

/// Bytes of one layer's keys in a page that the planner aims at: long enough for few dispatches, short enough for any binding.
const PAGE_BYTES: u64 = 16 << 20;
/// Frames of a page at most.
const PAGE_FRAMES: usize = 256;

/// What a cache holds, settled once.
#[derive(Debug, Clone, Copy)]
pub struct CacheShape {
    /// Transformer layers.
    pub n_layers: usize,
    /// Heads.
    pub n_heads: usize,
    /// Channel pairs of a head by axis.
    pub split: RopeSplit,
    /// Base of the RoPE frequencies.
    pub theta: f64,
    /// Patches down and across a frame.
    pub grid: (usize, usize),
    /// Storage of keys and values.
    pub format: KvFormat,
    /// Exact frames the cache will ever hold at once: the window, or the whole film, less what is coded.
    pub max_frames: usize,
}

impl CacheShape {
    /// Tokens of a frame.
    pub fn tokens_per_frame(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// Values of K, or of V, of one frame in one layer.
    pub fn frame_values(&self) -> usize {
        self.tokens_per_frame() * self.n_heads * self.split.head_dim()
    }

    /// Bytes of K and V of one frame in all layers.
    pub fn frame_bytes(&self) -> u64 {
        2 * (self.n_layers * self.frame_values() * self.format.bytes()) as u64
    }

    /// Frames in a full page on this device; 0 when not even one frame fits a binding.
    pub fn page_frames(&self, caps: &Caps) -> usize {
        let frame = (self.frame_values() * self.format.bytes()) as u64;
        let fits = (caps.max_storage_bytes() / frame.max(1)) as usize;
        let aim = (PAGE_BYTES / frame.max(1)).max(1) as usize;
        let table = Positions::capacity(self.split, self.grid.0, self.grid.1);
        aim.min(PAGE_FRAMES)
            .min(fits)
            .min(table)
            .min(self.max_frames)
    }

    /// A table for a page.
    fn table(&self, device: &Device) -> Result<Positions, Error> {
        Positions::new(device, self.split, self.theta, self.grid.0, self.grid.1)
    }

    /// Bytes of all exact pages when the cache is full, without tables.
    pub fn bytes(&self) -> u64 {
        self.frame_bytes() * self.max_frames as u64
    }

    /// Bytes of the tables of all exact pages.
    pub fn table_bytes(&self, caps: &Caps) -> u64 {
        let pages = self.max_frames.div_ceil(self.page_frames(caps).max(1));
        pages as u64 * Positions::BYTES
    }
}

/// Keys and values of one layer in one page.
#[derive(Debug)]
struct Page {
    k: Buffer<u32>,
    v: Buffer<u32>,
}

/// Keys and values of all layers of one film.
#[derive(Debug)]
pub struct KvCache {
    shape: CacheShape,
    policy: Policy,
    residency: Residency,
    /// Exact frames.
    layout: Layout,
    /// `[page][layer]`.
    pages: Vec<Vec<Page>>,
    /// One a page.
    tables: Vec<Positions>,
    /// Coded frames.
    spans: Option<Spans>,
    /// Frames that attention sees, oldest first.
    shown: Vec<i64>,
    /// Frames of the pass at hand whose keys and values are thrown away, because the sink's stay.
    thrown: Range<i64>,
    /// Words of a frame on its way into the sink, where the sink takes any in.
    on_its_way: Option<Buffer<u32>>,
    /// What takes changes back, where that is kept.
    journal: Option<undo::Journal>,
    /// What coding did to spans, where somebody asks.
    errors: Option<errors::Errors>,
}

impl KvCache {
    /// An empty cache; pages are allocated as frames come. `spans`: what is coded, by the policy's rule.
    pub fn new(
        shape: CacheShape,
        caps: &Caps,
        policy: Policy,
        spans: Option<&SpansPlan>,
    ) -> KvCache {
        KvCache {
            layout: Layout::new(shape.page_frames(caps).max(1), shape.max_frames),
            spans: spans.map(|plan| Spans::new(shape, plan.clone())),
            shape,
            policy,
            residency: Residency::default(),
            pages: Vec::new(),
            tables: Vec::new(),
            shown: Vec::new(),
            thrown: 0..0,
            on_its_way: None,
            journal: None,
            errors: None,
        }
    }

    /// What it holds.
    pub fn shape(&self) -> &CacheShape {
        &self.shape
    }

    /// Which frame lies where.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Who is where.
    pub fn residency(&self) -> &Residency {
        &self.residency
    }

    /// Coded frames, where anything is coded.
    pub fn spans(&self) -> Option<&Spans> {
        self.spans.as_ref()
    }

    /// Device bytes of all pages, exact and coded, read from the buffers.
    pub fn bytes(&self) -> u64 {
        let exact: u64 = self
            .pages
            .iter()
            .flatten()
            .map(|p| p.k.bytes() + p.v.bytes())
            .sum();
        exact + self.spans.as_ref().map_or(0, Spans::bytes)
    }

    /// Spans coded from now on use `pair`; those that are coded stay as they are. The setting in use changes nothing.
    ///
    /// # Errors
    /// A cache that was planned without spans, or a codec that heads of this width cannot have.
    pub fn set_codecs(&mut self, pair: KvPair) -> Result<(), CacheError> {
        let refuse = |text: String| Err(CacheError::Codec(text));
        let Some(spans) = &self.spans else {
            return refuse("this film was planned with an exact cache; start it with --kv".into());
        };
        if let Err(text) = pair.check(self.shape.split.head_dim()) {
            return refuse(text);
        }
        let now = spans.setting();
        if (&now.name, now.bias) == (&pair.name, pair.bias) {
            return Ok(());
        }
        self.note(undo::Done::Codecs, Vec::new());
        if let Some(spans) = &mut self.spans {
            spans.set_codecs(pair);
        }
        Ok(())
    }

    /// Codes what is due, makes room for `frames`, evicting what leaves the window, and points attention at everything
    /// visible to them. Passes over frames that are stored already rewrite them in place.
    ///
    /// # Errors
    /// A window too small for the chunk, a sink that cannot take in what leaves, a film longer than planned, keys or values
    /// that are not numbers, or no device memory.
    pub fn begin(&mut self, device: &Device, frames: Range<i64>) -> Result<(), CacheError> {
        let (chunks, live_from) = self.residency.mark();
        let step = self.residency.begin(&self.policy, frames.clone())?;
        if self.residency.mark().0 > chunks {
            self.note_begun(device, frames.clone(), &step, live_from)?;
        }
        for span in &step.code {
            self.code(device, span.clone())?;
        }
        self.take_in(device, &step.free)?;
        self.thrown = 0..0;
        self.layout.remove(step.free.iter().copied());
        if let Some(spans) = &mut self.spans {
            spans.foresee(
                device,
                frames.clone().count() * self.shape.tokens_per_frame(),
            );
            step.free_spans.iter().for_each(|s| spans.remove(s));
            let gone = spans.give_back();
            self.note_gone(gone);
        }
        self.layout.place(frames)?;
        while self.pages.len() < self.layout.n_pages() {
            let values = self.layout.page_slots(self.pages.len()) * self.shape.frame_values();
            let words = self.shape.format.words(values);
            let mut page = Vec::with_capacity(self.shape.n_layers);
            for _ in 0..self.shape.n_layers {
                page.push(Page {
                    k: device.zeros(Purpose::Cache, "keys", words)?,
                    v: device.zeros(Purpose::Cache, "values", words)?,
                });
            }
            self.pages.push(page);
            self.tables.push(self.shape.table(device)?);
        }
        self.show(device, None);
        Ok(())
    }

    /// Turns exact frames into a span and frees their slots.
    fn code(&mut self, device: &Device, span: Range<i64>) -> Result<(), CacheError> {
        let Some(spans) = &mut self.spans else {
            return Ok(());
        };
        let (layout, pages) = (&self.layout, &self.pages);
        let tokens = self.shape.tokens_per_frame();
        let runs: Vec<_> = layout.runs(span.clone());
        spans.encode(device, span.clone(), &mut |layer, gather| {
            for (row, page, slot, n) in &runs {
                let p = &pages[*page][layer];
                gather(&p.k, &p.v, slot * tokens, n * tokens, row * tokens);
            }
        })?;
        self.measure(device, &span)?;
        self.layout.remove(span);
        Ok(())
    }

    /// Restricts what attention sees to the `last` newest frames; `None`: all that the policy lets it see.
    pub fn show(&mut self, device: &Device, last: Option<usize>) {
        let mut frames: Vec<i64> = self
            .residency
            .spans()
            .iter()
            .cloned()
            .flatten()
            .chain(self.layout.frames())
            .filter(|f| self.residency.is_attended(&self.policy, *f))
            .collect();
        frames.sort_unstable();
        let hidden = last.map_or(0, |n| frames.len().saturating_sub(n));
        self.shown = frames.split_off(hidden);
        let (shown, positions) = (&self.shown, self.policy.positions);
        let position = |f: i64| positions.of(shown, f);
        for (table, frames) in self.tables.iter_mut().zip(self.layout.visible(position)) {
            table.set_frames(device, &frames);
        }
        if let Some(spans) = &mut self.spans {
            spans.show(device, position);
        }
    }

    /// Position of a frame of the pass at hand, by which its queries are turned.
    pub fn position(&self, frame: i64) -> i64 {
        match self.policy.positions {
            KeyPositions::Absolute => frame,
            // Its keys would lie where the sink's lie.
            KeyPositions::Relative if self.thrown.contains(&frame) => frame - self.thrown.start,
            positions => positions
                .of(&self.shown, frame)
                .expect("a pass runs over frames that attention sees"),
        }
    }

    /// Frames that attention sees, oldest first.
    pub fn shown(&self) -> &[i64] {
        &self.shown
    }

    /// Records the writing of K and V of `frames` (in order, rows of `src`) into their slots of a layer; of frames that
    /// [`KvCache::renew`] throws away nothing is written.
    ///
    /// # Panics
    /// When a frame was not placed by [`KvCache::begin`].
    pub fn store(
        &self,
        rec: &mut Recorder<'_>,
        layer: usize,
        frames: Range<i64>,
        src: &KvSource<'_>,
    ) {
        let tokens = self.shape.tokens_per_frame();
        let skipped = (self.thrown.end.min(frames.end) - frames.start).max(0);
        for (row, page, slot, n) in self.layout.runs(frames.start + skipped..frames.end) {
            let (row, p) = (row + skipped as usize, &self.pages[page][layer]);
            kv_store(
                rec,
                &KvStore {
                    k_src: src.k,
                    v_src: src.v,
                    at: src.at,
                    src_stride: src.stride,
                    src_row: row * tokens,
                    n_rows: n * tokens,
                    channels: self.shape.n_heads * self.shape.split.head_dim(),
                    k: &p.k,
                    v: &p.v,
                    dst_row: slot * tokens,
                    format: self.shape.format,
                },
            );
        }
    }

    /// What attention reads in a layer: every page with a visible frame.
    pub fn segments(&self, layer: usize) -> Vec<Segment<'_>> {
        let coded = self.spans.iter().flat_map(|s| s.segments(layer));
        let exact = self
            .pages
            .iter()
            .zip(&self.tables)
            .filter(|(_, t)| t.n_frames() > 0);
        let exact = exact.map(|(page, table)| Segment {
            k: &page[layer].k,
            v: &page[layer].v,
            rows: Rows::Plain(self.shape.format),
            positions: table,
            rope: true,
            tokens_per_frame: self.shape.tokens_per_frame(),
        });
        coded.chain(exact).collect()
    }

    /// Replaces K (before RoPE) and V of an exact frame, each `[token, head, head_dim]`.
    ///
    /// # Panics
    /// When the frame is not stored or the lengths are wrong.
    pub fn write_frame(&self, device: &Device, layer: usize, frame: i64, k: &[f32], v: &[f32]) {
        let (page, at) = self.place_of(frame);
        assert!(
            k.len() == self.shape.frame_values() && v.len() == k.len(),
            "a frame's keys and values"
        );
        device.write(&self.pages[page][layer].k, at, &self.shape.format.pack(k));
        device.write(&self.pages[page][layer].v, at, &self.shape.format.pack(v));
    }

    /// K (before RoPE) and V of a frame as attention reads them, each `[token, head, head_dim]`.
    ///
    /// # Errors
    /// The device failed.
    ///
    /// # Panics
    /// When the frame is not stored.
    pub fn read_frame(
        &self,
        device: &Device,
        layer: usize,
        frame: i64,
    ) -> Result<(Vec<f32>, Vec<f32>), Error> {
        if let Some(found) = self.spans.as_ref().and_then(|s| s.find(frame)) {
            return found.read(device, layer);
        }
        let (page, at) = self.place_of(frame);
        let range = at..at + self.shape.format.words(self.shape.frame_values());
        let p = &self.pages[page][layer];
        let (k, v) = (device.read(&p.k, range.clone())?, device.read(&p.v, range)?);
        Ok((self.shape.format.unpack(&k), self.shape.format.unpack(&v)))
    }

    /// What is resident, oldest first: runs of exact frames and spans.
    pub fn held(&self) -> Vec<Held> {
        let mut held = self.spans.as_ref().map_or(Vec::new(), Spans::held);
        for frame in self.layout.frames() {
            match held.last_mut() {
                Some(run) if run.bits.is_none() && run.frames.end == frame => run.frames.end += 1,
                _ => held.push(Held {
                    frames: frame..frame + 1,
                    bits: None,
                }),
            }
        }
        held.sort_by_key(|h| h.frames.start);
        held
    }

    /// Coded and exact bytes of what is resident, by layer.
    pub fn figures(&self) -> KvFigures {
        let exact = self.layout.frames().len() as u64;
        let frame = self.shape.frame_bytes() / (2 * self.shape.n_layers as u64);
        KvFigures::new(self.spans.as_ref(), &self.shape, exact, frame, self.bytes())
    }

    /// Page of an exact frame, and its first word there.
    fn place_of(&self, frame: i64) -> (usize, usize) {
        let (page, slot) = self.layout.find(frame).expect("the frame is stored");
        (
            page,
            self.shape.format.words(slot * self.shape.frame_values()),
        )
    }
}

/// Where a pass left its keys and values: rows of tokens, K and V somewhere in each row.
#[derive(Debug, Clone, Copy)]
pub struct KvSource<'a> {
    /// Buffer of K.
    pub k: &'a Buffer<f32>,
    /// Buffer of V; may be the same.
    pub v: &'a Buffer<f32>,
    /// First value of K and of V in a row.
    pub at: (usize, usize),
    /// Values from row to row.
    pub stride: usize,
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

fn no_way_back(frame: i64, reach: Option<i64>) -> String {
    let kept = match reach {
        Some(reach) => format!("what is kept reaches back to latent frame {reach}"),
        None => "nothing is kept to go back with".to_owned(),
    };
    format!("latent frame {frame} cannot be taken back: {kept}; make the film again up to there")
}

/// Why a chunk found no place.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The policy and the chunk do not go together.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A codec that this cache cannot have.
    #[error("{0}")]
    Codec(String),
    /// Farther back than what is kept.
    #[error("{}", no_way_back(*frame, *reach))]
    NoWayBack {
        /// First frame of the chunk that was to be taken back.
        frame: i64,
        /// First frame of the earliest one that can be.
        reach: Option<i64>,
    },
    /// A coded cache cannot be computed anew in one pass.
    #[error(
        "another prompt computes the keys and values of the window anew, which takes an exact cache; start the film with --kv f16, bf16 or f32"
    )]
    CodedRenewal,
    /// More frames than one pass can have.
    #[error(
        "another prompt computes {frames} latent frames anew in one pass, which takes at most {most}; start the film with --window {most} or less"
    )]
    LongRenewal {
        /// Frames that attention sees.
        frames: usize,
        /// Frames of a pass at most.
        most: usize,
    },
    /// No memory for a page that re-packing needs while the old one is still read.
    #[error("re-packing needs {} for a page; {} are free of {}", mib(*need), mib(have.saturating_sub(*held)), mib(*have))]
    NoRoom {
        /// Bytes of the page.
        need: u64,
        /// Bytes held now.
        held: u64,
        /// Bytes that were free when the device was opened.
        have: u64,
    },
    /// Keys or values that no codec can hold.
    #[error(
        "{what} of layer {layer} hold values that are not numbers in latent frames {first} to {last}; the weights or the driver are at fault: try --kv f32, then --device cpu, to tell them apart"
    )]
    NotNumbers {
        /// Keys or values.
        what: &'static str,
        /// Layer.
        layer: usize,
        /// First frame of the span.
        first: i64,
        /// Last frame of the span.
        last: i64,
    },
    /// The device.
    #[error(transparent)]
    Gpu(#[from] Error),
}

//! The KV cache: keys before RoPE and values of every visible latent frame, in pages of whole frames.
//!
//! A page is a run of frame slots of one layer, small enough for one binding and shared in layout by all layers. Frames
//! keep their absolute ids and never move; eviction frees slots, and later frames take them. What attention needs to know
//! of a page (visible slots, angles) is one table a page. Deliberately absent: what a layer computes, what a chunk means.
//! Source: SELF-FORCING section 5.

mod layout;

pub use layout::{Layout, LayoutError, Window};

use std::ops::Range;

use crate::gpu::{Buffer, Caps, Device, Error, Purpose, Recorder};
use crate::ops::{KvFormat, KvStore, Positions, RopeSplit, Segment, kv_store};

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
    /// Frames the cache will ever hold at once: the window, or the whole film.
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

    /// Bytes of all pages when the cache is full, without tables.
    pub fn bytes(&self) -> u64 {
        self.frame_bytes() * self.max_frames as u64
    }

    /// Bytes of the tables of a full cache.
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
    layout: Layout,
    /// `[page][layer]`.
    pages: Vec<Vec<Page>>,
    /// One a page.
    tables: Vec<Positions>,
}

impl KvCache {
    /// An empty cache; pages are allocated as frames come.
    pub fn new(shape: CacheShape, caps: &Caps, window: Window) -> KvCache {
        let layout = Layout::new(shape.page_frames(caps).max(1), shape.max_frames, window);
        KvCache {
            shape,
            layout,
            pages: Vec::new(),
            tables: Vec::new(),
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

    /// Device bytes of all pages, read from the buffers.
    pub fn bytes(&self) -> u64 {
        self.pages
            .iter()
            .flatten()
            .map(|p| p.k.bytes() + p.v.bytes())
            .sum()
    }

    /// Makes room for `frames`, evicting what leaves the window, and points attention at everything visible to them.
    /// Passes over frames that are stored already rewrite them in place.
    ///
    /// # Errors
    /// A window too small for the chunk, a film longer than planned, or no device memory.
    pub fn begin(&mut self, device: &Device, frames: Range<i64>) -> Result<(), CacheError> {
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
            let (rows, cols) = self.shape.grid;
            self.tables.push(Positions::new(
                device,
                self.shape.split,
                self.shape.theta,
                rows,
                cols,
            )?);
        }
        self.show(device, None);
        Ok(())
    }

    /// Restricts what attention sees to the `last` newest frames; `None`: all that is stored.
    pub fn show(&mut self, device: &Device, last: Option<usize>) {
        for (table, frames) in self.tables.iter_mut().zip(self.layout.visible(last)) {
            table.set_frames(device, &frames);
        }
    }

    /// Records the writing of K and V of `frames` (in order, rows of `src`) into their slots of a layer.
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
        for (row, page, slot, n) in self.layout.runs(frames) {
            let p = &self.pages[page][layer];
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
        let visible = self
            .pages
            .iter()
            .zip(&self.tables)
            .filter(|(_, t)| t.n_frames() > 0);
        visible
            .map(|(page, table)| Segment {
                k: &page[layer].k,
                v: &page[layer].v,
                format: self.shape.format,
                positions: table,
                rope: true,
                tokens_per_frame: self.shape.tokens_per_frame(),
            })
            .collect()
    }

    /// Replaces K (before RoPE) and V of a stored frame, each `[token, head, head_dim]`.
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

    /// K (before RoPE) and V of a stored frame, each `[token, head, head_dim]`.
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
        let (page, at) = self.place_of(frame);
        let range = at..at + self.shape.format.words(self.shape.frame_values());
        let p = &self.pages[page][layer];
        let (k, v) = (device.read(&p.k, range.clone())?, device.read(&p.v, range)?);
        Ok((self.shape.format.unpack(&k), self.shape.format.unpack(&v)))
    }

    /// Page of a stored frame, and its first word there.
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

/// Why a chunk found no place.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The policy and the chunk do not go together.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The device.
    #[error(transparent)]
    Gpu(#[from] Error),
}

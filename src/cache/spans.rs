//! Coded spans: their pages, the coding of one, and what attention and accounting read of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use serde::Serialize;

use super::shelf::{Shelf, ShelfPage};
use super::{CacheError, CacheShape, Policy, Residency};
use crate::codec::{Encode, EncodeScratch, KvPair, SpanShape};
use crate::gpu::{Buffer, Caps, Device, Error, Purpose};
use crate::ops::{
    FramePlace, KvFormat, Positions, Rows, Segment, SpanBytes, SpanGather, SpanLayout, SpanPlace,
    attention_plan, span_gather, span_gather_kernel,
};

/// Bytes of one layer's keys in a page of spans that the planner aims at.
const PAGE_BYTES: u64 = 16 << 20;
/// Spans of a page at most: a page is allocated whole, so this bounds what is held for spans to come. A page more is a
/// dispatch more, which this many spans outweigh.
const PAGE_SPANS: usize = 8;

/// What is coded in a film, settled once.
#[derive(Debug, Clone)]
pub struct SpansPlan {
    /// Codecs of the first spans.
    pub pair: KvPair,
    /// Exact frames that are resident at once at most.
    pub exact_frames: usize,
    /// Spans that are resident at once at most, by their frames.
    most: BTreeMap<usize, usize>,
    /// Every span in the order it is coded, and those that leave before the next: what pages will be opened for.
    steps: Vec<super::Step>,
}

impl SpansPlan {
    /// Goes through a film of these chunks without a device. `None`: nothing of it is ever coded.
    ///
    /// # Errors
    /// A window too small for a chunk, or codecs that heads of this width cannot have.
    pub fn new(
        pair: KvPair,
        head_dim: usize,
        policy: &Policy,
        chunks: impl Iterator<Item = usize>,
    ) -> Result<Option<SpansPlan>, CacheError> {
        pair.check(head_dim).map_err(CacheError::Codec)?;
        let mut r = Residency::default();
        let (mut exact_frames, mut most) = (0, BTreeMap::new());
        let (mut steps, mut at) = (Vec::new(), 0i64);
        for n in chunks {
            let step = r.begin(policy, at..at + n as i64)?;
            at += n as i64;
            exact_frames = exact_frames.max(r.exact().len());
            // A span that leaves in the same step still needed its slot beside the others.
            let held = r.spans().iter().chain(&step.free_spans);
            for (frames, n) in by_frames(held) {
                let most = most.entry(frames).or_default();
                *most = n.max(*most);
            }
            steps.push(step);
        }
        Ok((!most.is_empty()).then_some(SpansPlan {
            pair,
            exact_frames,
            most,
            steps,
        }))
    }

    /// Frames of the longest span.
    pub(super) fn span_frames(&self) -> usize {
        self.most.last_key_value().map_or(0, |(frames, _)| *frames)
    }

    /// Spans as long as this one that are resident at once at most.
    pub(super) fn planned(&self, span: &Range<i64>) -> usize {
        let frames = (span.end - span.start) as usize;
        self.most.get(&frames).copied().unwrap_or(1)
    }

    pub(super) fn shape(&self, cache: &CacheShape, frames: usize) -> SpanShape {
        SpanShape {
            n_heads: cache.n_heads,
            head_dim: cache.split.head_dim(),
            tokens: frames * cache.tokens_per_frame(),
        }
    }

    /// Device bytes in the end: (pages of spans, tables of those pages, scratch of the encoder).
    pub fn bytes(&self, cache: &CacheShape, caps: &Caps) -> (u64, u64, u64) {
        let mut shelf = Shelf::default();
        for step in &self.steps {
            for span in &step.code {
                let shape = self.shape(cache, (span.end - span.start) as usize);
                let n = page_spans(cache, &self.pair, shape, caps);
                shelf.place(span.clone(), 0, n, self.planned(span));
            }
            step.free_spans.iter().for_each(|s| shelf.remove(s));
        }
        let page = |p: &ShelfPage| {
            let shape = self.shape(cache, p.span_frames);
            let words = span_words(&self.pair.layouts(shape, cache.n_layers));
            (4 * p.slots.len() * words) as u64
        };
        let longest = self.shape(cache, self.span_frames());
        (
            shelf.pages().iter().map(page).sum(),
            shelf.pages().len() as u64 * Positions::BYTES,
            EncodeScratch::bytes(&self.pair, longest, cache.n_layers),
        )
    }

    /// The largest single buffer: one span, or the encoder's rows of one head.
    pub fn largest(&self, cache: &CacheShape) -> u64 {
        let shape = self.shape(cache, self.span_frames());
        let span = longest(&self.pair, shape);
        (4 * span.max(shape.tokens * shape.head_dim)) as u64
    }
}

/// How many spans there are of each length in frames.
fn by_frames<'a>(spans: impl Iterator<Item = &'a Range<i64>>) -> BTreeMap<usize, usize> {
    let mut n = BTreeMap::new();
    for span in spans {
        *n.entry((span.end - span.start) as usize).or_default() += 1;
    }
    n
}

/// Words of a span of all layers.
pub(super) fn span_words(layouts: &[[SpanLayout; 2]]) -> usize {
    layouts.iter().flatten().map(|l| l.words).sum()
}

/// Words of the span of the layer and tensor that takes most.
fn longest(pair: &KvPair, shape: SpanShape) -> usize {
    let words = pair.codecs().map(|codec| codec.layout(shape).words);
    words.max().unwrap_or(0)
}

/// Spans of a page on this device.
pub(super) fn page_spans(
    cache: &CacheShape,
    pair: &KvPair,
    shape: SpanShape,
    caps: &Caps,
) -> usize {
    let bytes = (4 * longest(pair, shape)).max(1) as u64;
    let frames = (shape.tokens / cache.tokens_per_frame()).max(1);
    let table = Positions::capacity(cache.split, cache.grid.0, cache.grid.1) / frames;
    ((PAGE_BYTES.min(caps.max_storage_bytes()) / bytes) as usize)
        .min(PAGE_SPANS)
        .min(table)
        .max(1)
}

/// One page of spans of all layers.
#[derive(Debug)]
pub(super) struct Page {
    /// Of K and of V, by layer.
    pub(super) layouts: Vec<[SpanLayout; 2]>,
    bias: crate::ops::BiasFix,
    /// K and V by layer.
    pub(super) layers: Vec<[Buffer<u32>; 2]>,
    table: Positions,
}

impl Page {
    pub(super) fn place(&self, layer: usize, is_v: usize, slot: usize) -> SpanPlace<'_> {
        SpanPlace {
            words: &self.layers[layer][is_v],
            base: slot * self.layouts[layer][is_v].words,
            layout: self.layouts[layer][is_v],
        }
    }

    /// Bits of a code of K and of V, of layers with finer codes those of the others.
    pub(super) fn bits(&self) -> [u32; 2] {
        let least = |is_v: usize| {
            let bits = self.layouts.iter().map(|l| l[is_v].coding.bits);
            bits.min().unwrap_or_default()
        };
        [least(0), least(1)]
    }
}

/// All coded spans of a film.
#[derive(Debug)]
pub struct Spans {
    pub(super) cache: CacheShape,
    pub(super) plan: SpansPlan,
    /// Every setting that was in use; the last one codes the next span.
    pub(super) settings: Vec<KvPair>,
    pub(super) shelf: Shelf,
    pub(super) pages: Vec<Page>,
    pub(super) scratch: Option<EncodeScratch>,
    /// Where the span coded last lies, for a warm start.
    pub(super) last: Option<(usize, usize)>,
    pub(super) coded: u64,
    pub(super) coding_secs: f64,
    /// The device knows which kernels the setting will want.
    foreseen: bool,
}

/// Hands the rows of a layer to the encoder: (K page, V page, first row there, rows, first row of the span).
pub(super) type Gather<'g> = dyn FnMut(&Buffer<u32>, &Buffer<u32>, usize, usize, usize) + 'g;

impl Spans {
    pub(super) fn new(cache: CacheShape, plan: SpansPlan) -> Spans {
        Spans {
            cache,
            settings: vec![plan.pair.clone()],
            plan,
            shelf: Shelf::default(),
            pages: Vec::new(),
            scratch: None,
            last: None,
            coded: 0,
            coding_secs: 0.0,
            foreseen: false,
        }
    }

    /// Has the kernels of the setting compiled before the first span is due: what codes one, and what attention of
    /// `n_queries` tokens reads it with.
    pub(super) fn foresee(&mut self, device: &Device, n_queries: usize) {
        if std::mem::replace(&mut self.foreseen, true) {
            return;
        }
        let shape = self.plan.shape(&self.cache, self.plan.span_frames());
        let pair = self.setting();
        let mut kernels = vec![span_gather_kernel(self.cache.format)];
        // Most layers want the same; what is compiled is not compiled again.
        for [k, v] in pair.layouts(shape, self.cache.n_layers) {
            let bias = pair.bias;
            let rows = Rows::Coded { k, v, bias };
            let caps = device.caps();
            kernels.push(attention_plan(caps, self.cache.split, &rows, n_queries));
        }
        for codec in pair.codecs() {
            kernels.extend(codec.kernels(shape.head_dim));
        }
        device.foresee(kernels);
    }

    /// What codes the next span.
    pub(super) fn setting(&self) -> &KvPair {
        &self.settings[self.settings.len() - 1]
    }

    pub(super) fn set_codecs(&mut self, pair: KvPair) {
        self.settings.push(pair);
        // Scratch is sized for a pair; centroids of another are no start.
        (self.scratch, self.last) = (None, None);
        self.foreseen = false;
    }

    /// Device bytes of all pages, read from the buffers.
    pub fn bytes(&self) -> u64 {
        let buffers = self.pages.iter().flat_map(|p| p.layers.iter().flatten());
        buffers.map(Buffer::bytes).sum()
    }

    /// Spans coded so far, and the seconds that took.
    pub fn coded(&self) -> (u64, f64) {
        (self.coded, self.coding_secs)
    }

    pub(super) fn remove(&mut self, span: &Range<i64>) {
        self.shelf.remove(span);
    }

    /// Codes the frames of `span` in all layers.
    pub(super) fn encode(
        &mut self,
        device: &Device,
        span: Range<i64>,
        rows_of: &mut dyn FnMut(usize, &mut Gather<'_>),
    ) -> Result<(), CacheError> {
        let t0 = Instant::now();
        let shape = self
            .plan
            .shape(&self.cache, (span.end - span.start) as usize);
        let setting = self.settings.len() - 1;
        let pair = self.settings[setting].clone();
        let (page, slot) = self.shelf.place(
            span.clone(),
            setting,
            page_spans(&self.cache, &pair, shape, device.caps()),
            self.plan.planned(&span),
        );
        if page == self.pages.len() {
            let made = self.open(device, &pair, shape, self.shelf.pages()[page].slots.len())?;
            self.pages.push(made);
        }
        self.ensure_scratch(device)?;
        let Some(scratch) = &self.scratch else {
            return Ok(());
        };
        device.write(
            &scratch.not_numbers,
            0,
            &vec![0u32; scratch.not_numbers.len()],
        );
        for layer in 0..self.cache.n_layers {
            for is_v in 0..2 {
                let codec = pair.codec(layer, is_v == 1);
                let to = self.pages[page].place(layer, is_v, slot);
                let earlier = self
                    .last
                    .map(|(page, slot)| self.pages[page].place(layer, is_v, slot))
                    .filter(|e| {
                        (e.layout.coding, e.layout.n_centroids)
                            == (to.layout.coding, to.layout.n_centroids)
                    });
                let mut first_head = 0;
                while first_head < shape.n_heads {
                    let n_heads = scratch.heads.min(shape.n_heads - first_head);
                    let mut rec = device.recorder();
                    rec.stage("encode");
                    rows_of(layer, &mut |k, v, src_row, n_rows, dst_row| {
                        span_gather(
                            &mut rec,
                            &SpanGather {
                                page: if is_v == 0 { k } else { v },
                                format: self.cache.format,
                                src_row,
                                n_rows,
                                heads_in_page: shape.n_heads,
                                first_head,
                                n_heads,
                                head_dim: shape.head_dim,
                                x: &scratch.x,
                                dst_rows: shape.tokens,
                                dst_row,
                                not_numbers: &scratch.not_numbers,
                                counter: 2 * layer + is_v,
                            },
                        );
                    });
                    let job = Encode {
                        x: &scratch.x,
                        first_head,
                        n_heads,
                        to,
                        earlier,
                    };
                    codec.encode(&mut rec, scratch, &job);
                    device.run(rec)?;
                    first_head += n_heads;
                }
            }
        }
        let bad = device.read_all(&scratch.not_numbers)?;
        self.coded += 1;
        self.coding_secs += t0.elapsed().as_secs_f64();
        self.last = Some((page, slot));
        match bad.iter().position(|n| *n > 0) {
            Some(i) => Err(CacheError::NotNumbers {
                what: ["keys", "values"][i % 2],
                layer: i / 2,
                first: span.start,
                last: span.end - 1,
            }),
            None => Ok(()),
        }
    }

    pub(super) fn open(
        &self,
        device: &Device,
        pair: &KvPair,
        shape: SpanShape,
        n_slots: usize,
    ) -> Result<Page, Error> {
        let layouts = pair.layouts(shape, self.cache.n_layers);
        let zeros =
            |l: &SpanLayout, label| device.zeros::<u32>(Purpose::Spans, label, n_slots * l.words);
        let layer = |[k, v]: &[SpanLayout; 2]| -> Result<_, Error> {
            Ok([zeros(k, "coded keys")?, zeros(v, "coded values")?])
        };
        Ok(Page {
            layers: layouts.iter().map(layer).collect::<Result<_, Error>>()?,
            layouts,
            bias: pair.bias,
            table: self.cache.table(device)?,
        })
    }

    /// A page of no layers, for one that comes and goes while the cache is cut back: what is written into it is nothing.
    pub(super) fn open_hollow(
        &self,
        device: &Device,
        pair: &KvPair,
        shape: SpanShape,
    ) -> Result<Page, Error> {
        Ok(Page {
            layouts: pair.layouts(shape, self.cache.n_layers),
            bias: pair.bias,
            layers: Vec::new(),
            table: self.cache.table(device)?,
        })
    }

    /// Points attention at the coded frames to which `position` gives one.
    pub(super) fn show(&mut self, device: &Device, position: impl Fn(i64) -> Option<i64>) {
        let tokens = self.cache.tokens_per_frame();
        for (page, on_shelf) in self.pages.iter_mut().zip(self.shelf.pages()) {
            let mut places = Vec::new();
            for (slot, span) in on_shelf.slots.iter().enumerate() {
                for frame in span.iter().cloned().flatten() {
                    let first = span.as_ref().map_or(frame, |s| s.start);
                    places.extend(position(frame).map(|position| FramePlace {
                        frame: position,
                        slot: slot as u32,
                        row: ((frame - first) as usize * tokens) as u32,
                    }));
                }
            }
            page.table.set_places(device, &places);
        }
    }

    /// What attention reads of a layer: every page with a visible frame.
    pub(super) fn segments(&self, layer: usize) -> Vec<Segment<'_>> {
        let visible = self.pages.iter().filter(|p| p.table.n_frames() > 0);
        visible
            .map(|p| Segment {
                k: &p.layers[layer][0],
                v: &p.layers[layer][1],
                rows: Rows::Coded {
                    k: p.layouts[layer][0],
                    v: p.layouts[layer][1],
                    bias: p.bias,
                },
                positions: &p.table,
                rope: true,
                tokens_per_frame: self.cache.tokens_per_frame(),
            })
            .collect()
    }

    /// Every span and its codes' bits.
    pub(super) fn held(&self) -> Vec<Held> {
        let pages = self.pages.iter().zip(self.shelf.pages());
        let spans = pages.flat_map(|(page, on_shelf)| {
            let bits = page.bits();
            let spans = on_shelf.slots.iter().flatten();
            spans.map(move |s| Held {
                frames: s.clone(),
                bits: Some(bits),
            })
        });
        spans.collect()
    }

    pub(super) fn find(&self, frame: i64) -> Option<Found<'_>> {
        let (page, slot, in_span) = self.shelf.find(frame)?;
        Some(Found {
            spans: self,
            page: &self.pages[page],
            slot,
            in_span,
        })
    }
}

/// Latent frames that lie in the cache in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The frames.
    pub frames: Range<i64>,
    /// Bits of a code of K and of V, 16 for halves; `None`: exact pages.
    pub bits: Option<[u32; 2]>,
}

/// A coded frame.
pub(super) struct Found<'a> {
    spans: &'a Spans,
    page: &'a Page,
    slot: usize,
    in_span: usize,
}

impl Found<'_> {
    /// Its K and V, decoded, each `[token, head, head_dim]`.
    pub(super) fn read(
        &self,
        device: &Device,
        layer: usize,
    ) -> Result<(Vec<f32>, Vec<f32>), Error> {
        let tensor = |is_v| -> Result<Vec<f32>, Error> {
            let place = self.page.place(layer, is_v, self.slot);
            let l = &place.layout;
            let words = device.read(place.words, place.base..place.base + l.words)?;
            let tokens = self.spans.cache.tokens_per_frame();
            let mut out = Vec::with_capacity(self.spans.cache.frame_values());
            for t in self.in_span * tokens..(self.in_span + 1) * tokens {
                (0..l.n_heads).for_each(|h| out.extend(l.row(&words, h, t)));
            }
            Ok(out)
        };
        Ok((tensor(0)?, tensor(1)?))
    }
}

/// Bytes of K, or of V, in all layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct TensorFigures {
    /// Coded bytes by kind.
    pub coded: SpanBytes,
    /// Bits per element of what is coded; 0 when nothing is.
    pub bits_per_element: f64,
    /// The same elements in 16 bit, divided by the coded bytes; 0 when nothing is coded.
    pub ratio: f64,
}

/// What is coded of K and of V in one layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct LayerFigures {
    /// Bytes.
    pub bytes: [u64; 2],
    /// Bits per element; 0 when nothing is coded.
    pub bits_per_element: [f64; 2],
}

/// What the cache holds: every byte of its pages, by what it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct KvFigures {
    /// Setting that codes the next span; `None`: nothing is coded.
    pub codec: Option<String>,
    /// Exact frames resident.
    pub exact_frames: u64,
    /// Coded frames resident.
    pub coded_frames: u64,
    /// Bytes of exact frames.
    pub exact_bytes: u64,
    /// Bytes of coded frames, all layers, K and V.
    pub coded_bytes: u64,
    /// Bytes of slots that no frame lies in: allocated, not used.
    pub unused_bytes: u64,
    /// All resident frames in 16 bit.
    pub half_bytes: u64,
    /// `half_bytes` over the bytes of what is resident.
    pub ratio: f64,
    /// Bits per element over all that is resident, exact frames included.
    pub bits_per_element: f64,
    /// K.
    pub k: TensorFigures,
    /// V.
    pub v: TensorFigures,
    /// The same by layer; empty when nothing is coded.
    pub layers: Vec<LayerFigures>,
    /// Spans coded so far.
    pub spans_coded: u64,
    /// Mean milliseconds to code a span in all layers; 0 before the first.
    pub encode_ms_per_span: f64,
}

impl KvFigures {
    /// `frame`: bytes of K, or of V, of an exact frame of one layer; `held`: bytes of all pages.
    pub(super) fn new(
        spans: Option<&Spans>,
        cache: &CacheShape,
        exact_frames: u64,
        frame: u64,
        held: u64,
    ) -> KvFigures {
        let layers = cache.n_layers as u64;
        // Bytes by kind and bytes in 16 bit, by layer and tensor.
        let mut by_layer = vec![[(SpanBytes::default(), 0u64); 2]; cache.n_layers];
        let mut coded_frames = 0;
        for (page, on_shelf) in spans
            .iter()
            .flat_map(|s| s.pages.iter().zip(s.shelf.pages()))
        {
            let n = on_shelf.slots.iter().flatten().count();
            coded_frames += (n * on_shelf.span_frames) as u64;
            let sums = by_layer.iter_mut().flatten();
            for (sum, l) in sums.zip(page.layouts.iter().flatten()) {
                (0..n).for_each(|_| sum.0.add(&l.bytes()));
                sum.1 += n as u64 * l.half_bytes();
            }
        }
        let bits = |(coded, half): &(SpanBytes, u64)| match half {
            0 => 0.0,
            half => 16.0 * coded.total() as f64 / *half as f64,
        };
        let of_layer = |l: &[(SpanBytes, u64); 2]| LayerFigures {
            bytes: [l[0].0.total(), l[1].0.total()],
            bits_per_element: [bits(&l[0]), bits(&l[1])],
        };
        let mut tensors = [(SpanBytes::default(), 0u64); 2];
        for layer in &by_layer {
            for (sum, of) in tensors.iter_mut().zip(layer) {
                sum.0.add(&of.0);
                sum.1 += of.1;
            }
        }
        let of = |sum: &(SpanBytes, u64)| TensorFigures {
            coded: sum.0,
            bits_per_element: bits(sum),
            ratio: sum.1 as f64 / sum.0.total().max(1) as f64,
        };
        let exact_bytes = exact_frames * 2 * frame * layers;
        let coded_bytes = tensors[0].0.total() + tensors[1].0.total();
        let halves = KvFormat::F16.bytes() as u64;
        let exact_half = exact_bytes / cache.format.bytes() as u64 * halves;
        let half_bytes = exact_half + tensors[0].1 + tensors[1].1;
        let resident = (exact_bytes + coded_bytes).max(1) as f64;
        let (spans_coded, secs) = spans.map_or((0, 0.0), Spans::coded);
        KvFigures {
            codec: spans
                .and_then(|s| s.settings.last())
                .map(|p| p.name.clone()),
            exact_frames,
            coded_frames,
            exact_bytes,
            coded_bytes,
            unused_bytes: held.saturating_sub(exact_bytes + coded_bytes),
            half_bytes,
            ratio: half_bytes as f64 / resident,
            bits_per_element: 16.0 * resident / half_bytes.max(1) as f64,
            k: of(&tensors[0]),
            v: of(&tensors[1]),
            layers: match coded_frames {
                0 => Vec::new(),
                _ => by_layer.iter().map(of_layer).collect(),
            },
            spans_coded,
            encode_ms_per_span: 1e3 * secs / spans_coded.max(1) as f64,
        }
    }
}

//! What coding did to each span, layer by layer, where somebody asks: after a span is coded, its words are decoded into the
//! encoder's scratch and compared with the exact frames, which are still there. Runs that do not ask do nothing of it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::spans::Spans;
use super::{CacheError, KvCache};
use crate::gpu::{Buffer, Device, Purpose};
use crate::ops::{SpanError, span_decode, span_error};

/// Relative L2 errors of a span: of K and of V, by layer, against the exact keys and values it was coded from.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SpanErrors {
    /// Its frames.
    pub frames: Range<i64>,
    /// Bits of a code of K and of V now.
    pub bits: [u32; 2],
    /// `|decoded - exact| / |exact|` of K and of V, by layer; `None`: not measured, or the span was re-packed since.
    pub by_layer: Option<Vec<[f64; 2]>>,
}

/// Measured errors.
#[derive(Debug)]
pub(super) struct Errors {
    /// Two sums a row of a head.
    sums: Buffer<f32>,
    /// By first frame of the span.
    of: BTreeMap<i64, Vec<[f64; 2]>>,
}

impl KvCache {
    /// Whether spans coded from now on are measured. Takes two floats of device memory a row that is coded at once, and some
    /// time after each span.
    ///
    /// # Errors
    /// No device memory.
    pub fn measure_errors(&mut self, device: &Device, is_on: bool) -> Result<(), CacheError> {
        self.errors = match (self.errors.take(), &self.spans) {
            (Some(errors), Some(_)) if is_on => Some(errors),
            (None, Some(spans)) if is_on => {
                let longest = spans.plan.shape(&self.shape, spans.plan.span_frames());
                let rows = longest.n_heads * longest.tokens;
                Some(Errors {
                    sums: device.zeros(Purpose::Scratch, "errors of rows", 2 * rows)?,
                    of: BTreeMap::new(),
                })
            }
            _ => None,
        };
        Ok(())
    }

    /// Errors of the spans that are resident, oldest first.
    pub fn span_errors(&self) -> Vec<SpanErrors> {
        let of = |frames: &Range<i64>| self.errors.as_ref()?.of.get(&frames.start).cloned();
        let held = self.spans.as_ref().map_or(Vec::new(), Spans::held);
        let mut all: Vec<_> = held
            .into_iter()
            .map(|h| SpanErrors {
                by_layer: of(&h.frames),
                bits: h.bits.unwrap_or_default(),
                frames: h.frames,
            })
            .collect();
        all.sort_by_key(|e| e.frames.start);
        all
    }

    /// Measures a span that was just coded; its exact frames still lie in their pages.
    pub(super) fn measure(&mut self, device: &Device, span: &Range<i64>) -> Result<(), CacheError> {
        let (Some(errors), Some(spans)) = (&mut self.errors, &self.spans) else {
            return Ok(());
        };
        let (Some(scratch), Some((page, slot, _))) = (&spans.scratch, spans.shelf.find(span.start))
        else {
            return Ok(());
        };
        let shape = spans
            .plan
            .shape(&self.shape, (span.end - span.start) as usize);
        let tokens = self.shape.tokens_per_frame();
        let runs = self.layout.runs(span.clone());
        let mut by_layer = vec![[0.0; 2]; self.shape.n_layers];
        for (layer, errors_of) in by_layer.iter_mut().enumerate() {
            for (is_v, relative) in errors_of.iter_mut().enumerate() {
                let place = spans.pages[page].place(layer, is_v, slot);
                let (mut error, mut size) = (0.0, 0.0);
                let mut first_head = 0;
                while first_head < shape.n_heads {
                    let n_heads = scratch.heads.min(shape.n_heads - first_head);
                    let mut rec = device.recorder();
                    rec.stage("errors");
                    span_decode(&mut rec, place, (first_head, n_heads), &scratch.x);
                    for (row, of_page, first, n) in &runs {
                        let exact = &self.pages[*of_page][layer];
                        span_error(
                            &mut rec,
                            &SpanError {
                                page: if is_v == 0 { &exact.k } else { &exact.v },
                                format: self.shape.format,
                                src_row: first * tokens,
                                n_rows: n * tokens,
                                heads_in_page: shape.n_heads,
                                first_head,
                                n_heads,
                                head_dim: shape.head_dim,
                                x: &scratch.x,
                                dst_rows: shape.tokens,
                                dst_row: row * tokens,
                                sums: &errors.sums,
                            },
                        );
                    }
                    device.run(rec)?;
                    for row in device
                        .read(&errors.sums, 0..2 * n_heads * shape.tokens)?
                        .chunks_exact(2)
                    {
                        error += f64::from(row[0]);
                        size += f64::from(row[1]);
                    }
                    first_head += n_heads;
                }
                // Of nothing at all: no error, or all of it.
                *relative = match (error > 0.0, size > 0.0) {
                    (_, true) => (error / size).sqrt(),
                    (true, false) => 1.0,
                    (false, false) => 0.0,
                };
            }
        }
        errors.of.insert(span.start, by_layer);
        // Spans that left long ago are of no interest to anybody.
        let oldest = spans.held().iter().map(|h| h.frames.start).min();
        errors
            .of
            .retain(|start, _| oldest.is_none_or(|o| o <= *start));
        Ok(())
    }

    /// Forgets what was measured of a span whose words are others now.
    pub(super) fn forget_error(&mut self, span: &Range<i64>) {
        if let Some(errors) = &mut self.errors {
            errors.of.remove(&span.start);
        }
    }
}

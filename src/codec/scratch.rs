//! What encoding a span needs besides the span: rows of a few heads in f32 and k-means' lists, used again for every span.

use super::{KvPair, SpanShape};
use crate::gpu::{Buffer, Device, Error, Purpose};
use crate::ops::MAX_ROUNDS;

/// Bytes of f32 rows that the planner aims at: a span of a large model is coded some heads at a time.
const ROWS_BYTES: usize = 8 << 20;

/// Buffers of the encoder, sized for the largest span.
#[derive(Debug)]
pub struct EncodeScratch {
    /// Heads coded at a time.
    pub heads: usize,
    /// Rows, `[head, token, head_dim]`.
    pub x: Buffer<f32>,
    pub(super) cents: Buffer<f32>,
    pub(super) order: Buffer<u32>,
    pub(super) ranges: Buffer<u32>,
    /// Counters of k-means' changed ids: a run of rounds for every span, stage and batch of heads.
    pub(super) changed: Buffer<u32>,
    pub(super) err: Buffer<f32>,
    /// Groups of four channels with values that are not numbers: one counter a layer and tensor.
    pub not_numbers: Buffer<u32>,
}

/// Elements of the buffers, in the order of [`EncodeScratch`].
#[derive(Debug, Clone, Copy)]
struct Sizes {
    heads: usize,
    elements: [usize; 7],
}

fn sizes(pair: &KvPair, shape: SpanShape, n_layers: usize) -> Sizes {
    let SpanShape {
        n_heads,
        head_dim,
        tokens,
    } = shape;
    let layouts: Vec<_> = pair.codecs().map(|codec| codec.layout(shape)).collect();
    let heads = (ROWS_BYTES / (4 * head_dim * tokens)).clamp(1, n_heads);
    let most = |of: &dyn Fn(&crate::ops::SpanLayout) -> usize| {
        layouts.iter().map(of).max().unwrap_or(0).max(1)
    };
    let clusters = heads
        * most(&|l| {
            if l.coding.stages > 0 {
                l.n_centroids
            } else {
                0
            }
        });
    let clustered = layouts.iter().any(|l| l.coding.stages > 0);
    Sizes {
        heads,
        elements: [
            heads * tokens * head_dim,
            clusters * head_dim,
            if clustered { heads * tokens } else { 1 },
            2 * clusters,
            MAX_ROUNDS + 1,
            most(&|l| match l.coding.head_table {
                true => heads * l.rows * l.coding.blocks(head_dim),
                false => 0,
            }),
            2 * n_layers,
        ],
    }
}

impl EncodeScratch {
    /// Scratch for spans of up to `shape.tokens` tokens.
    ///
    /// # Errors
    /// No device memory.
    pub fn new(
        device: &Device,
        pair: &KvPair,
        shape: SpanShape,
        n_layers: usize,
    ) -> Result<EncodeScratch, Error> {
        let Sizes { heads, elements: n } = sizes(pair, shape, n_layers);
        Ok(EncodeScratch {
            heads,
            x: device.zeros(Purpose::Scratch, "rows of a span", n[0])?,
            cents: device.zeros(Purpose::Scratch, "centroids", n[1])?,
            order: device.zeros(Purpose::Scratch, "tokens by cluster", n[2])?,
            ranges: device.zeros(Purpose::Scratch, "clusters", n[3])?,
            changed: device.zeros(Purpose::Scratch, "changed ids", n[4])?,
            err: device.zeros(Purpose::Scratch, "energy of blocks", n[5])?,
            not_numbers: device.zeros(Purpose::Scratch, "values not numbers", n[6])?,
        })
    }

    /// Bytes of that scratch.
    pub fn bytes(pair: &KvPair, shape: SpanShape, n_layers: usize) -> u64 {
        let n: usize = sizes(pair, shape, n_layers).elements.iter().sum();
        4 * n as u64
    }
}

//! A layer in spans of codes: coded as the cache does, kept on the host.

use std::ops::Range;
use std::time::Instant;

use super::{Error, Rows};
use crate::codec::{Encode, EncodeScratch, KvCodec, KvPair, SpanShape};
use crate::gpu::{Device, Purpose};
use crate::ops::{SpanLayout, SpanPlace};

/// Tokens that kernels are tried on before they are timed.
const FEW_TOKENS: usize = 32;

/// A span of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodedSpan {
    /// Its tokens.
    pub tokens: Range<usize>,
    /// Planes of K and of V.
    pub layouts: [SpanLayout; 2],
    /// Their words.
    pub words: [Vec<u32>; 2],
}

/// A layer's spans, oldest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CodedLayer {
    /// Spans.
    pub spans: Vec<CodedSpan>,
    /// Seconds that coding took; `None`: they were read.
    pub encode_secs: Option<f64>,
}

/// Cuts tokens into spans of `n`; the last one takes what is left.
pub fn spans(tokens: usize, n: usize) -> Vec<Range<usize>> {
    (0..tokens)
        .step_by(n.max(1))
        .map(|first| first..tokens.min(first.saturating_add(n.max(1))))
        .collect()
}

impl CodedLayer {
    /// Codes a layer, span by span; a span starts from the centroids of the one before, as in the cache.
    ///
    /// # Errors
    /// A codec that these heads cannot have; no device memory.
    pub fn encode(
        device: &Device,
        pair: &KvPair,
        rows: &Rows,
        cuts: &[Range<usize>],
    ) -> Result<CodedLayer, Error> {
        pair.check(rows.shape.head_dim).map_err(Error::Codec)?;
        let shape = |tokens| SpanShape {
            tokens,
            ..rows.shape
        };
        let longest = cuts.iter().map(Range::len).max().unwrap_or(0);
        let scratch = EncodeScratch::new(device, pair, shape(longest), 1)?;
        let mut coded = CodedLayer {
            spans: Vec::new(),
            encode_secs: Some(0.0),
        };
        for cut in cuts {
            coded.spans.push(CodedSpan {
                tokens: cut.clone(),
                layouts: [&pair.k, &pair.v].map(|c| c.layout(shape(cut.len()))),
                words: Default::default(),
            });
        }
        for (is_v, codec) in [&pair.k, &pair.v].into_iter().enumerate() {
            let values = [&rows.k, &rows.v][is_v];
            let few = 0..longest.min(FEW_TOKENS);
            let mut tensor = Tensor {
                device,
                codec: &**codec,
                scratch: &scratch,
                values,
                shape: rows.shape,
                secs: 0.0,
            };
            // The first use of a kernel waits for its compilation.
            tensor.encode(codec.layout(shape(few.len())), &few, None)?;
            tensor.secs = 0.0;
            let mut before: Option<(SpanLayout, crate::gpu::Buffer<u32>)> = None;
            for span in &mut coded.spans {
                let layout = span.layouts[is_v];
                let earlier = before
                    .as_ref()
                    .filter(|(l, _)| {
                        (l.coding, l.n_centroids) == (layout.coding, layout.n_centroids)
                    })
                    .map(|(layout, words)| SpanPlace {
                        words,
                        base: 0,
                        layout: *layout,
                    });
                let words = tensor.encode(layout, &span.tokens, earlier)?;
                span.words[is_v] = device.read_all(&words)?;
                before = Some((layout, words));
            }
            if let Some(secs) = &mut coded.encode_secs {
                *secs += tensor.secs;
            }
        }
        Ok(coded)
    }
}

/// One tensor on its way into codes.
struct Tensor<'a> {
    device: &'a Device,
    codec: &'a dyn KvCodec,
    scratch: &'a EncodeScratch,
    /// `[head, token, head_dim]`.
    values: &'a [f32],
    /// Of all of it.
    shape: SpanShape,
    /// Seconds of the device's work so far.
    secs: f64,
}

impl Tensor<'_> {
    fn encode(
        &mut self,
        layout: SpanLayout,
        tokens: &Range<usize>,
        earlier: Option<SpanPlace<'_>>,
    ) -> Result<crate::gpu::Buffer<u32>, Error> {
        let (device, d) = (self.device, self.shape.head_dim);
        let words = device.zeros::<u32>(Purpose::Spans, "span", layout.words)?;
        let mut first_head = 0;
        while first_head < layout.n_heads {
            let n_heads = self.scratch.heads.min(layout.n_heads - first_head);
            for head in 0..n_heads {
                let from = ((first_head + head) * self.shape.tokens + tokens.start) * d;
                let part = &self.values[from..from + tokens.len() * d];
                device.write(&self.scratch.x, head * tokens.len() * d, part);
            }
            // Uploads are no part of coding.
            device.wait()?;
            let begun = Instant::now();
            let mut rec = device.recorder();
            let job = Encode {
                x: &self.scratch.x,
                first_head,
                n_heads,
                to: SpanPlace {
                    words: &words,
                    base: 0,
                    layout,
                },
                earlier,
            };
            self.codec.encode(&mut rec, self.scratch, &job);
            device.run(rec)?;
            device.wait()?;
            self.secs += begun.elapsed().as_secs_f64();
            first_head += n_heads;
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_all_tokens() {
        assert_eq!(spans(10, 4), [0..4, 4..8, 8..10]);
        let whole = 0..3;
        assert_eq!(spans(3, 100), std::slice::from_ref(&whole));
        assert_eq!(spans(3, usize::MAX), std::slice::from_ref(&whole));
        assert_eq!(spans(0, 4), []);
    }
}

//! What coding a layer costs: bytes, errors of keys and values, and what becomes of attention.
//!
//! Attention over the codes is the cache's own kernel; what it is held against is computed here in f64 from the rows.

use super::read::turned;
use super::{CodedLayer, Error, Places, Rows};
use crate::gpu::{Buffer, Device, Purpose};
use crate::ops::{
    Attention, Axis, BiasFix, Coding, FramePlace, Positions, RopeSplit, Segment, SpanBytes,
    attention,
};

/// Bytes of K's or V's words in one buffer that are aimed at.
const PAGE_BYTES: u64 = 64 << 20;
/// The largest E4M3 value, without its sign.
const E4M3_LAST: u8 = 0x7e;

/// Sums of squares, which add up over rows, heads and layers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// Of the differences.
    pub error: f64,
    /// Of the true values.
    pub truth: f64,
}

impl Sums {
    fn add(&mut self, got: f32, want: f64) {
        self.error += (f64::from(got) - want).powi(2);
        self.truth += want * want;
    }

    fn join(&mut self, other: &Sums) {
        self.error += other.error;
        self.truth += other.truth;
    }

    /// |got - want| / |want|; 0 where nothing differs, infinite where nothing is true or a value is no number.
    pub fn relative(&self) -> f64 {
        match self.error {
            0.0 => 0.0,
            e if e.is_finite() => (e / self.truth).sqrt(),
            _ => f64::INFINITY,
        }
    }

    /// Signal to noise in dB; infinite where nothing differs.
    pub fn snr_db(&self) -> f64 {
        -20.0 * self.relative().log10()
    }
}

/// What keys, or values, cost and lose.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TensorCost {
    /// Bytes by kind; their sum is that of the words.
    pub bytes: SpanBytes,
    /// Bytes of the same values in 16 bit.
    pub half_bytes: u64,
    /// Of the decoded values.
    pub sums: Sums,
    /// E4M3 scales of the largest value there is: what lies beyond is cut.
    pub scales_at_limit: u64,
    /// E4M3 scales.
    pub scales: u64,
    /// Decoded values that are no numbers: scales in half floats that overflowed.
    pub not_numbers: u64,
}

impl TensorCost {
    /// Bits per element, everything counted.
    pub fn bits_per_element(&self) -> f64 {
        16.0 * self.bytes.total() as f64 / (self.half_bytes as f64).max(1.0)
    }

    /// Times smaller than in 16 bit.
    pub fn ratio(&self) -> f64 {
        self.half_bytes as f64 / (self.bytes.total() as f64).max(1.0)
    }

    fn join(&mut self, o: &TensorCost) {
        self.bytes.add(&o.bytes);
        self.half_bytes += o.half_bytes;
        self.sums.join(&o.sums);
        self.scales_at_limit += o.scales_at_limit;
        self.scales += o.scales;
        self.not_numbers += o.not_numbers;
    }
}

/// Attention over codes under one correction of the mass, against attention over the rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attended {
    /// The correction.
    pub bias: BiasFix,
    /// Of the outputs.
    pub sums: Sums,
    /// Sum of the log-sum-exps' errors, with their signs.
    pub lse_error: f64,
    /// Sum of their squares.
    pub lse_square: f64,
    /// Log-sum-exps: queries times heads.
    pub lses: u64,
}

impl Attended {
    /// Mean error of the log-sum-exp.
    pub fn lse_mean(&self) -> f64 {
        self.lse_error / (self.lses as f64).max(1.0)
    }

    /// Root of its mean square.
    pub fn lse_rms(&self) -> f64 {
        (self.lse_square / (self.lses as f64).max(1.0)).sqrt()
    }

    fn join(&mut self, o: &Attended) {
        self.sums.join(&o.sums);
        self.lse_error += o.lse_error;
        self.lse_square += o.lse_square;
        self.lses += o.lses;
    }
}

/// All that one setting costs on one layer, or on several.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// Keys.
    pub k: TensorCost,
    /// Values.
    pub v: TensorCost,
    /// By correction of the mass.
    pub attended: Vec<Attended>,
    /// Seconds that coding took; `None`: the codes were read.
    pub encode_secs: Option<f64>,
}

impl Measured {
    /// Adds another layer.
    pub fn join(&mut self, o: &Measured) {
        self.k.join(&o.k);
        self.v.join(&o.v);
        for a in &o.attended {
            match self.attended.iter_mut().find(|b| b.bias == a.bias) {
                Some(b) => b.join(a),
                None => self.attended.push(*a),
            }
        }
        self.encode_secs = match (self.encode_secs, o.encode_secs) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
    }

    /// Attention under one correction, where the keys can have it.
    pub fn under(&self, bias: BiasFix) -> Option<&Attended> {
        self.attended.iter().find(|a| a.bias == bias)
    }

    /// Measures a coded layer against its rows; attention under those of `biases` that the keys can have, or under none.
    ///
    /// # Errors
    /// No device memory.
    pub fn of(
        device: &Device,
        coded: &CodedLayer,
        rows: &Rows,
        exact: &Exact,
        places: Option<&Places>,
        biases: &[BiasFix],
    ) -> Result<Measured, Error> {
        let mut attended = Vec::new();
        if let Some(first) = coded.spans.first() {
            let pages = pages(device, coded, places)?;
            let mut can = corrections(&first.layouts[0].coding);
            can.retain(|b| biases.contains(b));
            if can.is_empty() {
                can.push(BiasFix::Off);
            }
            for bias in can {
                attended.push(attend(device, &pages, rows, exact, bias)?);
            }
        }
        Ok(Measured {
            k: tensor(coded, 0, Some(&rows.k), rows.shape.tokens),
            v: tensor(coded, 1, Some(&rows.v), rows.shape.tokens),
            attended,
            encode_secs: coded.encode_secs,
        })
    }

    /// Bytes alone, where there are no rows to hold the codes against.
    pub fn bytes(coded: &CodedLayer) -> Measured {
        Measured {
            k: tensor(coded, 0, None, 0),
            v: tensor(coded, 1, None, 0),
            ..Measured::default()
        }
    }
}

/// The corrections that keys of this form can have (METHOD 10.1).
fn corrections(k: &Coding) -> Vec<BiasFix> {
    let mut all = vec![BiasFix::Off];
    if k.is_quantized() && k.axis == Axis::Token && !k.hadamard {
        all.push(BiasFix::Step);
    }
    if k.is_quantized() && k.head_table {
        all.push(BiasFix::Energy);
    }
    all
}

fn tensor(coded: &CodedLayer, is_v: usize, rows: Option<&Vec<f32>>, tokens: usize) -> TensorCost {
    let mut cost = TensorCost::default();
    for span in &coded.spans {
        let (l, words) = (&span.layouts[is_v], &span.words[is_v]);
        let bytes = l.bytes();
        assert_eq!(bytes.total(), 4 * words.len() as u64, "bytes of a span");
        cost.bytes.add(&bytes);
        cost.half_bytes += l.half_bytes();
        if l.coding.has_scale_bytes() {
            let scales = l.export(words).scales;
            let at_limit = scales.iter().filter(|s| **s & 0x7f == E4M3_LAST).count();
            cost.scales_at_limit += at_limit as u64;
            cost.scales += scales.len() as u64;
        }
        let Some(rows) = rows else { continue };
        for head in 0..l.n_heads {
            for (i, token) in span.tokens.clone().enumerate() {
                let truth = &rows[(head * tokens + token) * l.head_dim..][..l.head_dim];
                for (got, want) in l.row(words, head, i).iter().zip(truth) {
                    cost.not_numbers += u64::from(!got.is_finite());
                    cost.sums.add(*got, f64::from(*want));
                }
            }
        }
    }
    cost
}

/// Attention over the rows themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct Exact {
    /// `[query, head, head_dim]`.
    out: Vec<f64>,
    /// `[query, head]`.
    lse: Vec<f64>,
}

impl Exact {
    /// Computes it in f64.
    pub fn of(rows: &Rows, places: Option<&Places>) -> Exact {
        let (h, d, s) = (rows.shape.n_heads, rows.shape.head_dim, rows.shape.tokens);
        let n = rows.queries.n;
        let scale = 1.0 / (d as f64).sqrt();
        let (mut out, mut lse) = (vec![0.0; n * h * d], vec![0.0; n * h]);
        for head in 0..h {
            let (mut keys, values) = (
                rows.k[head * s * d..][..s * d].to_vec(),
                &rows.v[head * s * d..][..s * d],
            );
            if let Some(p) = places {
                for (t, key) in keys.chunks_exact_mut(d).enumerate() {
                    key.copy_from_slice(&turned(key, p, &p.frames, t));
                }
            }
            for i in 0..n {
                let at = i * h + head;
                let q = &rows.queries.rows[at * d..][..d];
                let dot = |key: &[f32]| -> f64 {
                    let products = q.iter().zip(key);
                    let products = products.map(|(a, b)| f64::from(*a) * f64::from(*b));
                    scale * products.sum::<f64>()
                };
                let mut weights: Vec<f64> = keys.chunks_exact(d).map(dot).collect();
                let most = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                weights.iter_mut().for_each(|w| *w = (*w - most).exp());
                let sum: f64 = weights.iter().sum();
                lse[at] = most + sum.ln();
                let out = &mut out[at * d..][..d];
                for (w, v) in weights.iter().zip(values.chunks_exact(d)) {
                    out.iter_mut()
                        .zip(v)
                        .for_each(|(o, v)| *o += w / sum * f64::from(*v));
                }
            }
        }
        Exact { out, lse }
    }
}

/// Spans of one layout in buffers, as attention reads them.
struct Page {
    layouts: [crate::ops::SpanLayout; 2],
    words: [Buffer<u32>; 2],
    table: Positions,
    tokens_per_frame: usize,
    rope: bool,
}

/// Puts spans of one length together, as many as a table and a binding hold.
fn pages(device: &Device, coded: &CodedLayer, places: Option<&Places>) -> Result<Vec<Page>, Error> {
    let most_bytes = PAGE_BYTES.min(device.caps().max_storage_bytes());
    let (mut pages, mut rest) = (Vec::new(), &coded.spans[..]);
    while let Some(first) = rest.first() {
        let (k, v) = (first.layouts[0], first.layouts[1]);
        let (split, (rows, cols), theta) = match places {
            Some(p) => (p.split, p.grid, p.theta),
            // A span is one frame that nothing turns.
            None => (RopeSplit::wan(k.head_dim), (1, 1), 1.0),
        };
        let tokens_per_frame = places.map_or(k.tokens, Places::tokens_per_frame);
        let frames = (k.tokens / tokens_per_frame).max(1);
        let by_table = Positions::capacity(split, rows, cols) / frames;
        let by_bytes = most_bytes / (4 * k.words.max(v.words)).max(1) as u64;
        let most = by_table.min(by_bytes as usize).max(1);
        let alike = rest.iter().take_while(|s| s.layouts == first.layouts);
        let (here, behind) = rest.split_at(alike.count().min(most));
        rest = behind;
        let upload = |is_v: usize| {
            let words: Vec<u32> = here.iter().flat_map(|s| s.words[is_v].clone()).collect();
            device.upload(Purpose::Spans, "spans", &words)
        };
        let words = [upload(0)?, upload(1)?];
        let mut table = Positions::new(device, split, theta, rows, cols)?;
        let mut at = Vec::new();
        for (slot, span) in here.iter().enumerate() {
            for f in 0..frames {
                let row = f * tokens_per_frame;
                at.push(FramePlace {
                    frame: places.map_or(0, |p| {
                        p.frames[(span.tokens.start + row) / tokens_per_frame]
                    }),
                    slot: slot as u32,
                    row: row as u32,
                });
            }
        }
        table.set_places(device, &at);
        pages.push(Page {
            layouts: [k, v],
            words,
            table,
            tokens_per_frame,
            rope: places.is_some(),
        });
    }
    Ok(pages)
}

fn attend(
    device: &Device,
    pages: &[Page],
    rows: &Rows,
    exact: &Exact,
    bias: BiasFix,
) -> Result<Attended, Error> {
    let (n, h, d) = (rows.queries.n, rows.shape.n_heads, rows.shape.head_dim);
    let segments: Vec<Segment<'_>> = pages
        .iter()
        .map(|p| Segment {
            k: &p.words[0],
            v: &p.words[1],
            rows: crate::ops::Rows::Coded {
                k: p.layouts[0],
                v: p.layouts[1],
                bias,
            },
            positions: &p.table,
            rope: p.rope,
            tokens_per_frame: p.tokens_per_frame,
        })
        .collect();
    let q = device.upload(Purpose::Activations, "queries", &rows.queries.rows)?;
    let zeros = |n| device.zeros::<f32>(Purpose::Activations, "attention", n);
    let (out, state) = (zeros(n * h * d)?, zeros(n * h * 2)?);
    let mut rec = device.recorder();
    let a = Attention {
        q: &q,
        q_stride: h * d,
        n_queries: n,
        n_heads: h,
        segments: &segments,
        out: &out,
        state: &state,
    };
    attention(&mut rec, &a);
    device.run(rec)?;
    let mut sums = Sums::default();
    for (got, want) in device.read_all(&out)?.iter().zip(&exact.out) {
        sums.add(*got, *want);
    }
    let (mut lse_error, mut lse_square) = (0.0, 0.0);
    let state = device.read_all(&state)?;
    for (state, want) in state.as_chunks::<2>().0.iter().zip(&exact.lse) {
        let [most, sum] = state.map(f64::from);
        let off = most + sum.ln() - want;
        lse_error += off;
        lse_square += off * off;
    }
    Ok(Attended {
        bias,
        sums,
        lse_error,
        lse_square,
        lses: (n * h) as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_relate_to_what_is_true() {
        let mut s = Sums::default();
        assert_eq!((s.relative(), s.snr_db()), (0.0, f64::INFINITY));
        s.add(3.0, 4.0);
        s.add(0.0, 3.0);
        assert!((s.relative() - (10f64 / 25.0).sqrt()).abs() < 1e-12);
        assert!((s.snr_db() - 3.9794).abs() < 1e-4);
        s.add(f32::NAN, 1.0);
        assert_eq!(s.relative(), f64::INFINITY);
    }

    #[test]
    fn layers_add_up_by_energy() {
        let layer = |error, truth, secs| Measured {
            k: TensorCost {
                sums: Sums { error, truth },
                ..TensorCost::default()
            },
            encode_secs: Some(secs),
            ..Measured::default()
        };
        let mut all = Measured::default();
        all.join(&layer(1.0, 4.0, 0.5));
        all.join(&layer(0.0, 12.0, 0.25));
        assert_eq!(all.k.sums.relative(), 0.25);
        assert_eq!(all.encode_secs, Some(0.75));
    }
}

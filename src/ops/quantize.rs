//! Codes, scales and head tables of a span's rows: four kernels.
//!
//! The twins round with IEEE division where the shaders compare exact products (METHOD 4.4): the same results, stated
//! twice. Source: METHOD sections 4, 9, 10.

use bytemuck::{Pod, Zeroable};
use half::f16;

use super::coding::{Axis, Coding, Grid, ScaleFormat, SpanLayout, e4m3_decode, e4m3_encode};
use super::kmeans::SpanPlace;
use super::{LANES, each, each_of, u32_of};
use crate::gpu::{Buffer, Kernel, Knob, Launch, Plan, Recorder, Source, Variant};

pub(super) static KERNEL: Kernel = Kernel {
    name: "quantize",
    source: Source::File(include_str!("../../shaders/quantize.wgsl")),
    params_bytes: size_of::<Params>(),
    plans: |_| plans(),
    twin,
};

pub(super) static CHANNELS: Kernel = Kernel {
    name: "quantize_channels",
    source: Source::File(include_str!("../../shaders/quantize_channels.wgsl")),
    params_bytes: size_of::<ChannelParams>(),
    plans: |_| [2, 3, 4, 8].map(|b| vec![("BITS", b)]).to_vec(),
    twin: channels_twin,
};

pub(super) static GUARD: Kernel = Kernel {
    name: "head_guard",
    source: Source::File(include_str!("../../shaders/head_guard.wgsl")),
    params_bytes: size_of::<GuardParams>(),
    plans: |_| {
        let each = |q| [0, 1].map(|z| vec![("QUADS", q), ("ZEROS", z)]);
        [4, 8, 16, 32, 64].into_iter().flat_map(each).collect()
    },
    twin: guard_twin,
};

pub(super) static GAIN: Kernel = Kernel {
    name: "head_gain",
    source: Source::File(include_str!("../../shaders/head_gain.wgsl")),
    params_bytes: size_of::<GainParams>(),
    plans: |_| vec![Vec::new()],
    twin: gain_twin,
};

/// What codecs may ask for: every coding by token that [`Coding::check`] lets through.
fn plans() -> Vec<Vec<Knob>> {
    let mut all = vec![knobs(&Coding::HALVES)];
    for bits in [2, 3, 4, 8] {
        for block in [16, 32, 64, 128, 256] {
            for grid in Grid::ALL {
                for scales in [ScaleFormat::E4m3, ScaleFormat::F16, ScaleFormat::F32] {
                    for head_table in [false, true] {
                        let coding = Coding {
                            bits,
                            grid,
                            block,
                            scales,
                            head_table,
                            ..Coding::HALVES
                        };
                        if coding.check(256).is_ok() {
                            all.push(knobs(&coding));
                        }
                    }
                }
            }
        }
    }
    all
}

fn knobs(c: &Coding) -> Vec<Knob> {
    let quads = match c.is_quantized() {
        true => c.block / 4,
        false => HALVES_STEP / 4,
    };
    vec![
        ("BITS", c.bits),
        ("GRID", c.grid.code()),
        ("SCALES", c.scales as u32),
        ("QUADS", u32_of(quads)),
        ("GUARD", u32::from(c.head_table)),
    ]
}

/// Rows of some heads, and the span whose codes they become.
#[derive(Debug, Clone, Copy)]
pub struct Quantize<'a> {
    /// `[head, token, head_dim]`.
    pub x: &'a Buffer<f32>,
    /// First head of the span that `x` holds.
    pub first_head: usize,
    /// Heads that `x` holds.
    pub n_heads: usize,
    /// Where codes and scales go.
    pub span: SpanPlace<'a>,
    /// Share of a block's range that QuaRot's grids keep; 1: all of it (METHOD 9.3).
    pub clip: f32,
    /// Scratch, `[head, row, block]`, where the span keeps head tables: largest magnitudes, then what coding added to the energy.
    pub err: &'a Buffer<f32>,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n_heads: u32,
    tokens: u32,
    rows: u32,
    blocks: u32,
    first_head: u32,
    row_words: u32,
    codes_at: u32,
    scales_at: u32,
    zeros_at: u32,
    heads_at: u32,
    head_words: u32,
    clip: f32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ChannelParams {
    first_group: u32,
    n_groups: u32,
    n_heads: u32,
    tokens: u32,
    rows: u32,
    n_quads: u32,
    first_head: u32,
    run: u32,
    runs: u32,
    codes_at: u32,
    scales_at: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct GuardParams {
    first_group: u32,
    n_groups: u32,
    blocks_per_head: u32,
    first_head: u32,
    heads_at: u32,
    head_words: u32,
    entries: u32,
    inverse_levels: f32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct GainParams {
    first_group: u32,
    n_groups: u32,
    tokens: u32,
    rows: u32,
    blocks: u32,
    gains: u32,
    first_head: u32,
    heads_at: u32,
    channels: f32,
}

/// Blocks of channels of a row as the kernel walks them; halves are walked in sixteens.
fn blocks_of(l: &SpanLayout) -> usize {
    if l.coding.is_quantized() {
        l.coding.blocks(l.head_dim)
    } else {
        l.head_dim / HALVES_STEP
    }
}

/// Channels a step of the halves' path takes: what every head_dim it allows divides into.
const HALVES_STEP: usize = 8;

fn guard_knobs(c: &Coding) -> Vec<Knob> {
    vec![
        ("QUADS", u32_of(c.block / 4)),
        ("ZEROS", u32::from(c.grid.has_zero())),
    ]
}

fn channel_knobs(c: &Coding) -> Vec<Knob> {
    vec![("BITS", c.bits)]
}

/// What [`quantize`] runs.
pub fn quantize_kernels(c: &Coding) -> Vec<Variant> {
    if c.axis == Axis::Channel {
        return vec![(&CHANNELS, channel_knobs(c))];
    }
    let mut all: Vec<Variant> = vec![(&KERNEL, knobs(c))];
    if c.head_table {
        all.extend([(&GUARD, guard_knobs(c)), (&GAIN, Vec::new())]);
    }
    all
}

/// Records the coding of rows that are ready: centroids subtracted, rotated where the coding rotates.
///
/// # Panics
/// When sizes contradict each other: a bug in the caller.
pub fn quantize(rec: &mut Recorder<'_>, a: &Quantize<'_>) {
    let l = &a.span.layout;
    let c = l.coding;
    assert!(
        a.x.len() >= a.n_heads * l.tokens * l.head_dim
            && a.first_head + a.n_heads <= l.n_heads
            && a.span.base + l.words <= a.span.words.len(),
        "quantize sizes"
    );
    let (heads, tokens, rows) = (u32_of(a.n_heads), u32_of(l.tokens), u32_of(l.rows));
    let at = |plane: usize| u32_of(a.span.base + plane);
    let first_head = u32_of(a.first_head);
    if c.axis == Axis::Channel {
        let p = ChannelParams {
            first_group: 0,
            n_groups: 0,
            n_heads: heads,
            tokens,
            rows,
            n_quads: u32_of(l.head_dim / 4),
            first_head,
            run: u32_of(c.block),
            runs: u32_of(l.groups),
            codes_at: at(0),
            scales_at: at(l.scales_at),
        };
        let plan = Plan {
            knobs: channel_knobs(&c),
            work_per_group: (LANES * 32 * c.block * 4) as u64,
            ..each(a.n_heads * l.groups * l.head_dim / 32)
        };
        rec.dispatch(&CHANNELS, plan, &p, &[a.x.into(), a.span.words.into()]);
        return;
    }
    let blocks = blocks_of(l);
    let head_words = if c.head_table {
        1 + c.gains(l.head_dim)
    } else {
        0
    };
    if c.head_table {
        assert!(
            a.err.len() >= a.n_heads * l.rows * blocks,
            "quantize scratch"
        );
        let levels = if c.grid.has_zero() {
            (1 << c.bits) - 1
        } else {
            c.most()
        };
        let p = GuardParams {
            first_group: 0,
            n_groups: 0,
            blocks_per_head: u32_of(l.tokens * blocks),
            first_head,
            heads_at: at(l.heads_at),
            head_words: u32_of(head_words),
            entries: u32_of(l.rows * blocks),
            inverse_levels: 1.0 / levels as f32,
        };
        let plan = Plan {
            groups: heads,
            knobs: guard_knobs(&c),
            work_per_group: (l.tokens * l.head_dim) as u64,
        };
        let b = [a.x.into(), a.span.words.into(), a.err.into()];
        rec.dispatch(&GUARD, plan, &p, &b);
    }
    let p = Params {
        first_group: 0,
        n_groups: 0,
        n_heads: heads,
        tokens,
        rows,
        blocks: u32_of(blocks),
        first_head,
        row_words: u32_of(c.row_words(l.head_dim)),
        codes_at: at(0),
        scales_at: at(l.scales_at),
        zeros_at: at(l.zeros_at),
        heads_at: at(l.heads_at),
        head_words: u32_of(head_words),
        clip: a.clip,
    };
    let knobs = knobs(&c);
    let searches = match c.grid {
        Grid::Dual => 13,
        Grid::AsymmetricSearch => 7,
        _ => 1,
    };
    let plan = Plan {
        knobs,
        work_per_group: (LANES * 4 * c.block * 4 * searches) as u64,
        ..each_of(a.n_heads, l.rows * blocks / 4)
    };
    let b = [a.x.into(), a.span.words.into(), a.err.into()];
    rec.dispatch(&KERNEL, plan, &p, &b);
    if c.head_table {
        let gains = c.gains(l.head_dim);
        let p = GainParams {
            first_group: 0,
            n_groups: 0,
            tokens,
            rows,
            blocks: u32_of(blocks),
            gains: u32_of(gains),
            first_head,
            heads_at: at(l.heads_at),
            channels: (l.head_dim / gains) as f32,
        };
        let plan = Plan {
            groups: u32_of(a.n_heads * gains),
            knobs: Vec::new(),
            work_per_group: (l.tokens * blocks / gains) as u64,
        };
        rec.dispatch(&GAIN, plan, &p, &[a.err.into(), a.span.words.into()]);
    }
}

/// A block's scale and zero as decoders read them, and as they are stored.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    scale: f32,
    zero: f32,
    scale_bits: u32,
    zero_bits: u32,
}

/// Six factors a searched scale is tried with (METHOD 10.2).
const GAMMAS: [f32; 6] = [1.0, 0.85, 0.7, 0.6, 0.5, 0.4];

impl SpanLayout {
    fn stored(&self, x: f32) -> (f32, u32) {
        match self.coding.scales {
            ScaleFormat::E4m3 => {
                let b = e4m3_encode(x);
                (e4m3_decode(b), u32::from(b))
            }
            ScaleFormat::F16 => {
                let h = f16::from_f32(x.clamp(-65504.0, 65504.0));
                (h.to_f32(), u32::from(h.to_bits()))
            }
            ScaleFormat::F32 => (x, x.to_bits()),
        }
    }

    fn with(&self, scale: f32, zero: f32) -> Block {
        let ((scale, scale_bits), (zero, zero_bits)) = (self.stored(scale), self.stored(zero));
        let has_zero = self.coding.grid.has_zero();
        Block {
            scale,
            zero: if has_zero { zero } else { 0.0 },
            scale_bits,
            zero_bits: if has_zero { zero_bits } else { 0 },
        }
    }

    /// Code of one value. Quotients of f32 in f64 fall on the right side of every rounding boundary.
    fn code_for(&self, b: &Block, r: f32) -> u32 {
        let (m, top) = (
            f64::from(self.coding.most()),
            f64::from((1u32 << self.coding.bits) - 1),
        );
        let s = f64::from(b.scale);
        let of = |v: f32| f64::from(v) / s;
        let code = match self.coding.grid {
            Grid::Dual if b.scale.is_sign_negative() => {
                let h = m + 1.0;
                match b.scale == 0.0 {
                    true => h,
                    false => (-of(r)).floor().clamp(-h, h - 1.0) + h,
                }
            }
            Grid::Symmetric | Grid::Dual if b.scale == 0.0 => {
                if r > 0.0 {
                    2.0 * m
                } else {
                    0.0
                }
            }
            // f64::round rounds half away from zero.
            Grid::Symmetric | Grid::Dual => of(r).round().clamp(-m, m) + m,
            Grid::Asymmetric | Grid::AsymmetricSearch if b.scale == 0.0 => {
                if r - b.zero > 0.0 {
                    top
                } else {
                    0.0
                }
            }
            Grid::Asymmetric | Grid::AsymmetricSearch => of(r - b.zero).round().clamp(0.0, top),
            Grid::Rtn => of(r).round_ties_even().clamp(-m, m) + m,
            Grid::Wide => of(r).round_ties_even().clamp(-m - 1.0, m) + m + 1.0,
            Grid::ZeroPoint => (of(r).round_ties_even() + f64::from(b.zero)).clamp(0.0, top),
            Grid::MinMax if b.scale == 0.0 => 0.0,
            Grid::MinMax => of(r - b.zero).clamp(0.0, top).round_ties_even(),
        };
        code as u32
    }

    fn error(&self, b: &Block, given: &[f32]) -> f32 {
        given.iter().fold(0.0, |sum, v| {
            let e = self.level(self.code_for(b, *v), b.scale, b.zero) - v;
            sum + e * e
        })
    }

    fn block_for(&self, given: &[f32], clip: f32) -> Block {
        let (m, top) = (
            self.coding.most() as f32,
            ((1u32 << self.coding.bits) - 1) as f32,
        );
        let keep = match self.coding.grid {
            Grid::Wide | Grid::ZeroPoint => clip,
            _ => 1.0,
        };
        let least = given.iter().copied().fold(f32::INFINITY, f32::min) * keep;
        let largest = given.iter().copied().fold(f32::NEG_INFINITY, f32::max) * keep;
        let amax = largest.max(-least);
        let best = |tries: Vec<Block>| {
            let mut best = (3.0e38, Block::default());
            for b in tries {
                let e = self.error(&b, given);
                if e < best.0 {
                    best = (e, b);
                }
            }
            best.1
        };
        match self.coding.grid {
            Grid::Symmetric => self.with((amax / m).max(1e-10), 0.0),
            Grid::Dual => {
                let zero_level = GAMMAS.map(|g| self.with(amax * (g * (1.0 / m)), 0.0));
                let mid_rise = GAMMAS.map(|g| {
                    let b = self.with(amax * (g * (1.0 / (m + 1.0))), 0.0);
                    Block {
                        scale: -b.scale,
                        scale_bits: b.scale_bits | 0x80,
                        ..b
                    }
                });
                best([zero_level, mid_rise].concat())
            }
            Grid::Asymmetric => self.with(((largest - least) / top).max(1e-10), least),
            Grid::AsymmetricSearch => best(
                GAMMAS
                    .map(|g| {
                        let half = g * ((largest - least) * 0.5);
                        self.with(2.0 * half / top, (largest + least) * 0.5 - half)
                    })
                    .to_vec(),
            ),
            Grid::Rtn => {
                let u = (amax / m).clamp(1e-10, 448.0);
                let bits = u.to_bits();
                let byte = if bits < 0x3c80_0000 {
                    ((u * 512.0 + 0.5).floor() as u32).max(1)
                } else {
                    (((bits + 0x80000) >> 20) - 960).min(0x7e)
                };
                Block {
                    scale: e4m3_decode(byte as u8),
                    scale_bits: byte,
                    ..Block::default()
                }
            }
            Grid::MinMax => self.with((largest - least) / top, least),
            Grid::Wide => self.with(if amax == 0.0 { 1.0 } else { amax / m }, 0.0),
            Grid::ZeroPoint => {
                let (low, high) = if amax == 0.0 {
                    (-1.0, 1.0)
                } else {
                    (least, largest)
                };
                let mut scale = self.stored((high - low) / top).0;
                if scale == 0.0 {
                    scale = 1.0;
                }
                self.with(scale, (-low / scale).round_ties_even())
            }
        }
    }
}

fn layout(p: &Params, l: &Launch<'_>) -> SpanLayout {
    let coding = Coding {
        bits: l.knob("BITS"),
        grid: Coding::from_number(l.knob("GRID") << 5).grid,
        axis: Axis::Token,
        block: l.knob("QUADS") as usize * 4,
        scales: Coding::from_number(l.knob("SCALES") << 13).scales,
        stages: 0,
        hadamard: false,
        head_table: l.knob("GUARD") == 1,
    };
    // Only the rounding is asked of it: planes lie where the params say.
    SpanLayout {
        coding,
        n_heads: 0,
        head_dim: p.blocks as usize * coding.block,
        tokens: p.tokens as usize,
        n_centroids: 0,
        rows: p.rows as usize,
        groups: 0,
        scales_at: 0,
        zeros_at: 0,
        ids_at: 0,
        cents_at: 0,
        heads_at: 0,
        words: 0,
    }
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let s = layout(&p, l);
    let (d, blocks) = (s.head_dim, p.blocks as usize);
    let x: Vec<f32> = l.read(1);
    let (mut span, mut err): (Vec<u32>, Vec<f32>) = (l.read(2), l.read(3));
    for head in 0..p.n_heads as usize {
        let at_head = p.first_head as usize + head;
        let by = match s.coding.head_table {
            true => {
                1.0 / f32::from_bits(span[(p.heads_at as usize) + at_head * p.head_words as usize])
            }
            false => 1.0,
        };
        for token in 0..s.tokens {
            let row: Vec<f32> = x[(head * s.tokens + token) * d..][..d]
                .iter()
                .map(|v| v * by)
                .collect();
            let to = p.codes_at as usize + (at_head * s.rows + token) * p.row_words as usize;
            let codes = &mut span[to..to + p.row_words as usize];
            if !s.coding.is_quantized() {
                codes.copy_from_slice(&super::KvFormat::F16.pack(&row));
                continue;
            }
            codes.fill(0);
            for (b, given) in row.chunks_exact(s.coding.block).enumerate() {
                let block = s.block_for(given, p.clip);
                let mut energy = 0f32;
                for (i, v) in given.iter().enumerate() {
                    let code = s.code_for(&block, *v);
                    s.put_code(&mut span[to..], 0, b * s.coding.block + i, code);
                    let decoded = s.level(code, block.scale, block.zero);
                    energy += decoded * decoded - v * v;
                }
                let i = (head * s.rows + token) * blocks + b;
                if s.coding.head_table {
                    err[i] = energy / (by * by);
                }
                let entry = (at_head * s.rows + token) * blocks + b;
                match s.coding.scales {
                    ScaleFormat::E4m3 => {
                        let mut put = |at: u32, bits: u32| {
                            let (w, shift) = (at as usize + entry / 4, 8 * (entry % 4));
                            span[w] = span[w] & !(255 << shift) | bits << shift;
                        };
                        put(p.scales_at, block.scale_bits);
                        if s.coding.grid.has_zero() {
                            put(p.zeros_at, block.zero_bits);
                        }
                    }
                    ScaleFormat::F16 => {
                        span[p.scales_at as usize + entry] =
                            block.scale_bits | block.zero_bits << 16;
                    }
                    ScaleFormat::F32 => {
                        let at = p.scales_at as usize + 2 * entry;
                        (span[at], span[at + 1]) = (block.scale_bits, block.zero_bits);
                    }
                }
            }
        }
    }
    l.write(2, &span);
    l.write(3, &err);
}

fn channels_twin(l: &mut Launch<'_>) {
    let p: ChannelParams = l.params();
    let d = p.n_quads as usize * 4;
    let coding = Coding {
        bits: l.knob("BITS"),
        grid: Grid::MinMax,
        axis: Axis::Channel,
        block: p.run as usize,
        scales: ScaleFormat::F16,
        ..Coding::HALVES
    };
    let s = SpanLayout::new(coding, p.n_heads as usize, d, p.tokens as usize, 0);
    let x: Vec<f32> = l.read(1);
    let mut span: Vec<u32> = l.read(2);
    let words = coding.row_words(d);
    for head in 0..p.n_heads as usize {
        let at_head = p.first_head as usize + head;
        let row_at = |t: usize| p.codes_at as usize + (at_head * p.rows as usize + t) * words;
        for t in 0..s.tokens {
            span[row_at(t)..row_at(t) + words].fill(0);
        }
        for run in 0..p.runs as usize {
            let tokens = run * coding.block..((run + 1) * coding.block).min(s.tokens);
            for ch in 0..d {
                let value = |t: usize| x[(head * s.tokens + t) * d + ch];
                let given: Vec<f32> = tokens.clone().map(value).collect();
                let block = s.block_for(&given, 1.0);
                let at = p.scales_at as usize + (at_head * p.runs as usize + run) * d + ch;
                span[at] = block.scale_bits | block.zero_bits << 16;
                for (t, v) in tokens.clone().zip(&given) {
                    let code = s.code_for(&block, *v);
                    s.put_code(&mut span[row_at(t)..], 0, ch, code);
                }
            }
        }
    }
    l.write(2, &span);
}

fn guard_twin(l: &mut Launch<'_>) {
    let p: GuardParams = l.params();
    let block = l.knob("QUADS") as usize * 4;
    let x: Vec<f32> = l.read(1);
    let (mut span, mut peaks): (Vec<u32>, Vec<f32>) = (l.read(2), l.read(3));
    let per_head = p.blocks_per_head as usize * block;
    for head in 0..p.n_groups as usize {
        let mut need = 0f32;
        let blocks = x[head * per_head..][..per_head].chunks_exact(block);
        for (i, given) in blocks.enumerate() {
            let least = given.iter().copied().fold(f32::INFINITY, f32::min);
            let largest = given.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            need = need.max(match l.knob("ZEROS") {
                1 => ((largest - least) * p.inverse_levels).max(least.abs()),
                _ => {
                    let peak = largest.max(-least);
                    peaks[head * p.entries as usize + i] = peak;
                    peak * p.inverse_levels
                }
            });
        }
        let mut by = 1f32;
        while need > 448.0 * by {
            by *= 2.0;
        }
        let to = p.heads_at as usize + (p.first_head as usize + head) * p.head_words as usize;
        span[to..to + p.head_words as usize].fill(0);
        span[to] = by.to_bits();
    }
    l.write(2, &span);
    l.write(3, &peaks);
}

fn gain_twin(l: &mut Launch<'_>) {
    let p: GainParams = l.params();
    let err: Vec<f32> = l.read(1);
    let mut span: Vec<u32> = l.read(2);
    let (blocks, gains) = (p.blocks as usize, p.gains as usize);
    let per_gain = blocks / gains;
    for g in 0..p.n_groups as usize {
        let (head, gain) = (g / gains, g % gains);
        let sum: f64 = (0..p.tokens as usize)
            .flat_map(|t| (0..per_gain).map(move |b| (t, b)))
            .map(|(t, b)| {
                f64::from(err[(head * p.rows as usize + t) * blocks + gain * per_gain + b])
            })
            .sum();
        let to = p.heads_at as usize + (p.first_head as usize + head) * (1 + gains) + 1 + gain;
        let mean = sum / (f64::from(p.tokens) * f64::from(p.channels));
        span[to] = (mean as f32).to_bits();
    }
    l.write(2, &span);
}

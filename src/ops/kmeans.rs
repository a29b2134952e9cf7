//! k-means of a span's rows, head by head, and the residual that is left: five kernels, no float atomics, nothing random.
//!
//! The number of rounds is fixed when the work is recorded; the stop rule is obeyed on the device, where later rounds
//! return at once. Source: METHOD section 3.

use bytemuck::{Pod, Zeroable};

use super::coding::{SpanLayout, bf16_round};
use super::{LANES, each, each_of, u32_of};
use crate::gpu::{Buffer, Kernel, Knob, Launch, Plan, Recorder, Source, Variant};

macro_rules! kernel {
    ($id:ident, $name:literal, $params:ty, $plans:expr, $twin:ident) => {
        pub(super) static $id: Kernel = Kernel {
            name: $name,
            source: Source::File(include_str!(concat!("../../shaders/", $name, ".wgsl"))),
            params_bytes: size_of::<$params>(),
            plans: $plans,
            twin: $twin,
        };
    };
}

kernel!(
    START,
    "kmeans_start",
    StartParams,
    |_| [false, true].map(start_knobs).to_vec(),
    start_twin
);
kernel!(
    ASSIGN,
    "kmeans_assign",
    AssignParams,
    |_| vec![Vec::new()],
    assign_twin
);
kernel!(
    SORT,
    "kmeans_sort",
    SortParams,
    |_| vec![Vec::new()],
    sort_twin
);
kernel!(
    MEAN,
    "kmeans_mean",
    MeanParams,
    |_| vec![Vec::new()],
    mean_twin
);
kernel!(
    RESIDUAL,
    "residual",
    ResidualParams,
    |_| vec![Vec::new()],
    residual_twin
);

/// Rounds a recording may have; `changed` counters are this many, plus one.
pub const MAX_ROUNDS: usize = 127;

/// One span in the words of a page.
#[derive(Debug, Clone, Copy)]
pub struct SpanPlace<'a> {
    /// The page.
    pub words: &'a Buffer<u32>,
    /// First word of the span in it, a multiple of four.
    pub base: usize,
    /// Planes of the span.
    pub layout: SpanLayout,
}

/// Rows of some heads of a span, and what clustering them needs.
#[derive(Debug, Clone, Copy)]
pub struct Cluster<'a> {
    /// `[head, token, head_dim]`.
    pub x: &'a Buffer<f32>,
    /// First head of the span that `x` holds.
    pub first_head: usize,
    /// Heads that `x` holds.
    pub n_heads: usize,
    /// Where ids and tables go.
    pub span: SpanPlace<'a>,
    /// Which stage.
    pub stage: usize,
    /// `[head, centroid, head_dim]`.
    pub cents: &'a Buffer<f32>,
    /// `[head, token]`.
    pub order: &'a Buffer<u32>,
    /// `[head, centroid, 2]`.
    pub ranges: &'a Buffer<u32>,
    /// Ids that changed, by round from 1; the start clears them.
    pub changed: &'a Buffer<u32>,
    /// Round centroids and residuals to bf16, as the released code does on bf16 tensors (METHOD 2.1).
    pub bf16: bool,
}

impl Cluster<'_> {
    fn ids_at(&self) -> usize {
        let l = &self.span.layout;
        self.span.base + l.ids_at + (self.stage * l.n_heads + self.first_head) * l.rows / 4
    }

    fn table_at(&self) -> usize {
        let l = &self.span.layout;
        self.span.base
            + l.cents_at
            + (self.stage * l.n_heads + self.first_head) * l.n_centroids * l.head_dim / 2
    }

    fn check(&self) {
        let l = &self.span.layout;
        let rows = self.n_heads * l.tokens;
        let clusters = self.n_heads * l.n_centroids;
        assert!(
            self.x.len() >= rows * l.head_dim
                && self.cents.len() >= clusters * l.head_dim
                && self.order.len() >= rows
                && self.ranges.len() >= 2 * clusters,
            "k-means scratch"
        );
        assert!(
            self.stage < l.coding.stages
                && self.first_head + self.n_heads <= l.n_heads
                && self.span.base + l.words <= self.span.words.len(),
            "k-means span"
        );
    }
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct StartParams {
    first_group: u32,
    n_groups: u32,
    n_heads: u32,
    tokens: u32,
    n_quads: u32,
    n_centroids: u32,
    table_at: u32,
}

fn start_knobs(warm: bool) -> Vec<Knob> {
    vec![("FROM", u32::from(warm))]
}

/// What [`kmeans_start`], [`kmeans`] and [`residual`] run.
pub fn kmeans_kernels() -> Vec<Variant> {
    let starts = [false, true].map(|warm| (&START, start_knobs(warm)));
    let others = [&ASSIGN, &SORT, &MEAN, &RESIDUAL].map(|k| (k, Vec::new()));
    starts.into_iter().chain(others).collect()
}

/// Records the start: from `earlier`'s table of the same stage where there is one, else from evenly spaced rows.
///
/// # Panics
/// When sizes contradict each other: a bug in the caller.
pub fn kmeans_start(rec: &mut Recorder<'_>, a: &Cluster<'_>, earlier: Option<SpanPlace<'_>>) {
    a.check();
    let l = &a.span.layout;
    let from = earlier.unwrap_or(a.span);
    assert_eq!(
        (from.layout.n_centroids, from.layout.head_dim),
        (l.n_centroids, l.head_dim),
        "a warm start needs tables of one size"
    );
    let p = StartParams {
        first_group: 0,
        n_groups: 0,
        n_heads: u32_of(a.n_heads),
        tokens: u32_of(l.tokens),
        n_quads: u32_of(l.head_dim / 4),
        n_centroids: u32_of(l.n_centroids),
        table_at: u32_of(Cluster { span: from, ..*a }.table_at()),
    };
    let mut plan = each(a.n_heads * l.n_centroids * l.head_dim / 4);
    plan.knobs = start_knobs(earlier.is_some());
    rec.dispatch(
        &START,
        plan,
        &p,
        &[
            a.x.into(),
            from.words.into(),
            a.cents.into(),
            a.changed.into(),
        ],
    );
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct AssignParams {
    first_group: u32,
    n_groups: u32,
    n_heads: u32,
    tokens: u32,
    rows: u32,
    n_quads: u32,
    n_centroids: u32,
    ids_at: u32,
    round: u32,
    limit: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct SortParams {
    first_group: u32,
    n_groups: u32,
    n_heads: u32,
    tokens: u32,
    rows: u32,
    n_centroids: u32,
    ids_at: u32,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct MeanParams {
    first_group: u32,
    n_groups: u32,
    n_heads: u32,
    tokens: u32,
    n_quads: u32,
    n_centroids: u32,
    round: u32,
    limit: u32,
    to_bf16: u32,
}

/// Records at most `rounds` rounds of assignment and mean; they stop when a share of less than `tol` of the ids changed.
///
/// # Panics
/// When sizes contradict each other: a bug in the caller.
pub fn kmeans(rec: &mut Recorder<'_>, a: &Cluster<'_>, rounds: usize, tol: f64) {
    a.check();
    assert!(rounds < a.changed.len(), "a counter for every round");
    let l = &a.span.layout;
    let (heads, tokens) = (u32_of(a.n_heads), u32_of(l.tokens));
    let (n_quads, n_centroids) = (u32_of(l.head_dim / 4), u32_of(l.n_centroids));
    let limit = (tol * (a.n_heads * l.tokens) as f64).ceil() as u32;
    for round in 1..=rounds {
        kmeans_assign(rec, a, round, limit);
        let mut plan = each(a.n_heads * l.n_centroids);
        plan.work_per_group = (LANES * 2 * l.rows) as u64;
        let p = SortParams {
            first_group: 0,
            n_groups: 0,
            n_heads: heads,
            tokens,
            rows: u32_of(l.rows),
            n_centroids,
            ids_at: u32_of(a.ids_at()),
        };
        let (order, ranges, span) = (a.order.into(), a.ranges.into(), a.span.words.into());
        rec.dispatch(&SORT, plan, &p, &[span, order, ranges]);
        let mut plan = each(a.n_heads * l.n_centroids * l.head_dim / 4);
        plan.work_per_group = (LANES * 8 * l.tokens.div_ceil(l.n_centroids)) as u64;
        let p = MeanParams {
            first_group: 0,
            n_groups: 0,
            n_heads: heads,
            tokens,
            n_quads,
            n_centroids,
            round: u32_of(round),
            limit,
            to_bf16: u32::from(a.bf16),
        };
        let b = [
            a.x.into(),
            a.order.into(),
            a.ranges.into(),
            a.cents.into(),
            a.changed.into(),
        ];
        rec.dispatch(&MEAN, plan, &p, &b);
    }
}

/// Records one assignment. `round` 1 counts nothing and always runs.
///
/// # Panics
/// When sizes contradict each other: a bug in the caller.
pub fn kmeans_assign(rec: &mut Recorder<'_>, a: &Cluster<'_>, round: usize, limit: u32) {
    a.check();
    let l = &a.span.layout;
    let plan = Plan {
        work_per_group: (LANES * 4 * l.n_centroids * l.head_dim) as u64,
        ..each_of(a.n_heads, l.rows / 4)
    };
    let p = AssignParams {
        first_group: 0,
        n_groups: 0,
        n_heads: u32_of(a.n_heads),
        tokens: u32_of(l.tokens),
        rows: u32_of(l.rows),
        n_quads: u32_of(l.head_dim / 4),
        n_centroids: u32_of(l.n_centroids),
        ids_at: u32_of(a.ids_at()),
        round: u32_of(round),
        limit,
    };
    let b = [
        a.x.into(),
        a.cents.into(),
        a.span.words.into(),
        a.changed.into(),
    ];
    rec.dispatch(&ASSIGN, plan, &p, &b);
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ResidualParams {
    first_group: u32,
    n_groups: u32,
    n_heads: u32,
    tokens: u32,
    rows: u32,
    n_quads: u32,
    n_centroids: u32,
    ids_at: u32,
    table_at: u32,
    to_bf16: u32,
}

/// Records the storing of a stage's centroids and the subtraction of every row's own.
///
/// # Panics
/// When sizes contradict each other: a bug in the caller.
pub fn residual(rec: &mut Recorder<'_>, a: &Cluster<'_>) {
    a.check();
    let l = &a.span.layout;
    let p = ResidualParams {
        first_group: 0,
        n_groups: 0,
        n_heads: u32_of(a.n_heads),
        tokens: u32_of(l.tokens),
        rows: u32_of(l.rows),
        n_quads: u32_of(l.head_dim / 4),
        n_centroids: u32_of(l.n_centroids),
        ids_at: u32_of(a.ids_at()),
        table_at: u32_of(a.table_at()),
        to_bf16: u32::from(a.bf16),
    };
    let n = l.tokens.max(l.n_centroids) * l.head_dim / 4;
    rec.dispatch(
        &RESIDUAL,
        each_of(a.n_heads, n),
        &p,
        &[a.cents.into(), a.x.into(), a.span.words.into()],
    );
}

fn start_twin(l: &mut Launch<'_>) {
    let p: StartParams = l.params();
    let (tokens, n, d) = (
        p.tokens as usize,
        p.n_centroids as usize,
        p.n_quads as usize * 4,
    );
    let mut cents: Vec<f32> = l.read(3);
    if l.knob("FROM") == 0 {
        let x: Vec<f32> = l.read(1);
        for head in 0..p.n_heads as usize {
            for c in 0..n {
                let row = head * tokens + (2 * c + 1) * tokens / (2 * n);
                cents[(head * n + c) * d..][..d].copy_from_slice(&x[row * d..][..d]);
            }
        }
    } else {
        let words: Vec<u32> = l.read(2);
        for (i, c) in cents[..p.n_heads as usize * n * d].iter_mut().enumerate() {
            let half = words[p.table_at as usize + i / 2] >> (16 * (i % 2)) & 0xffff;
            *c = f32::from_bits(half << 16);
        }
    }
    l.write(3, &cents);
    let changed: Vec<u32> = l.read(4);
    l.write(4, &vec![0u32; changed.len()]);
}

/// Whether rounds before `end` met the stop rule.
fn stopped(changed: &[u32], end: u32, limit: u32) -> bool {
    (2..end).any(|r| changed[r as usize] < limit)
}

/// The shader's sum of products of two rows: quads one after the other, each `(x + y) + (z + w)`.
fn product(a: &[f32], b: &[f32]) -> f32 {
    let quad = |(a, b): (&[f32], &[f32])| (a[0] * b[0] + a[1] * b[1]) + (a[2] * b[2] + a[3] * b[3]);
    a.chunks_exact(4)
        .zip(b.chunks_exact(4))
        .map(quad)
        .fold(0.0, |sum, m| sum + m)
}

fn assign_twin(l: &mut Launch<'_>) {
    let p: AssignParams = l.params();
    let mut changed: Vec<u32> = l.read(4);
    if stopped(&changed, p.round, p.limit) {
        return;
    }
    let (x, cents): (Vec<f32>, Vec<f32>) = (l.read(1), l.read(2));
    let mut span: Vec<u32> = l.read(3);
    let (n, d) = (p.n_centroids as usize, p.n_quads as usize * 4);
    for at in 0..(p.n_heads * p.rows) as usize {
        let (head, token) = (at / p.rows as usize, at % p.rows as usize);
        let mut id = 0u32;
        if token < p.tokens as usize {
            let row = &x[(head * p.tokens as usize + token) * d..][..d];
            let mut best = 3.0e38;
            for (c, cent) in cents[head * n * d..][..n * d].chunks_exact(d).enumerate() {
                let score = product(cent, cent) - 2.0 * product(row, cent);
                if score < best {
                    (best, id) = (score, c as u32);
                }
            }
        }
        let (word, shift) = (p.ids_at as usize + at / 4, 8 * (at % 4));
        if p.round > 1 && (span[word] >> shift & 255) != id {
            changed[p.round as usize] += 1;
        }
        span[word] = span[word] & !(255 << shift) | id << shift;
    }
    l.write(3, &span);
    l.write(4, &changed);
}

fn sort_twin(l: &mut Launch<'_>) {
    let p: SortParams = l.params();
    let span: Vec<u32> = l.read(1);
    let (mut order, mut ranges): (Vec<u32>, Vec<u32>) = (l.read(2), l.read(3));
    let (tokens, rows) = (p.tokens as usize, p.rows as usize);
    for head in 0..p.n_heads as usize {
        let id = |t: usize| {
            let at = head * rows + t;
            span[p.ids_at as usize + at / 4] >> (8 * (at % 4)) & 255
        };
        let mut to = 0;
        for c in 0..p.n_centroids {
            let first = to;
            for t in (0..tokens).filter(|t| id(*t) == c) {
                order[head * tokens + to] = t as u32;
                to += 1;
            }
            let at = 2 * (head * p.n_centroids as usize + c as usize);
            (ranges[at], ranges[at + 1]) = (first as u32, (to - first) as u32);
        }
    }
    l.write(2, &order);
    l.write(3, &ranges);
}

fn mean_twin(l: &mut Launch<'_>) {
    let p: MeanParams = l.params();
    if stopped(&l.read::<u32>(5), p.round + 1, p.limit) {
        return;
    }
    let (x, order, ranges): (Vec<f32>, Vec<u32>, Vec<u32>) = (l.read(1), l.read(2), l.read(3));
    let mut cents: Vec<f32> = l.read(4);
    let (tokens, d) = (p.tokens as usize, p.n_quads as usize * 4);
    for cluster in 0..(p.n_heads * p.n_centroids) as usize {
        let head = cluster / p.n_centroids as usize;
        let (first, n) = (
            ranges[2 * cluster] as usize,
            ranges[2 * cluster + 1] as usize,
        );
        if n == 0 {
            continue;
        }
        let members = &order[head * tokens + first..][..n];
        for ch in 0..d {
            let mut sum = 0f32;
            for run in members.chunks(64) {
                sum += run
                    .iter()
                    .fold(0f32, |s, t| s + x[(head * tokens + *t as usize) * d + ch]);
            }
            let mean = sum * (1.0 / n as f32);
            cents[cluster * d + ch] = if p.to_bf16 == 1 {
                bf16_round(mean)
            } else {
                mean
            };
        }
    }
    l.write(4, &cents);
}

fn residual_twin(l: &mut Launch<'_>) {
    let p: ResidualParams = l.params();
    let cents: Vec<f32> = l.read(1);
    let (mut x, mut span): (Vec<f32>, Vec<u32>) = (l.read(2), l.read(3));
    let (n, d) = (p.n_centroids as usize, p.n_quads as usize * 4);
    for (i, pair) in cents[..p.n_heads as usize * n * d]
        .chunks_exact(2)
        .enumerate()
    {
        let bits = |v: f32| bf16_round(v).to_bits() >> 16;
        span[p.table_at as usize + i] = bits(pair[0]) | bits(pair[1]) << 16;
    }
    for row in 0..(p.n_heads * p.tokens) as usize {
        let (head, token) = (row / p.tokens as usize, row % p.tokens as usize);
        let at = head * p.rows as usize + token;
        let id = (span[p.ids_at as usize + at / 4] >> (8 * (at % 4)) & 255) as usize;
        for ch in 0..d {
            let r = x[row * d + ch] - bf16_round(cents[(head * n + id) * d + ch]);
            x[row * d + ch] = if p.to_bf16 == 1 { bf16_round(r) } else { r };
        }
    }
    l.write(2, &x);
    l.write(3, &span);
}

//! Attention of a pass over keys and values in cache pages, page by page with a carried online softmax.
//!
//! Keys are stored before RoPE and turned as they are loaded. A page is read in place, in its own format; between pages
//! the state (largest score, sum, unnormalized output) stays on the device, so any number of pages of any kind make one
//! softmax, and a long history is cut into short dispatches. A page of coded spans is read in place too: codes become
//! floats in registers or workgroup memory, tile by tile, and never anywhere else.
//! Source: METHOD 10.1 and 10.5 for coded pages; SELF-FORCING 4.2 and 5.5 (pre-RoPE keys); online softmax: Milakov & Gimelshein 2018.

use bytemuck::{Pod, Zeroable};

use super::attention_plans::{attention_plan, coded_plans, plans, queries_per_lane};
use super::attention_text::{Views, write_portable, write_subgroup};
use super::coding::{Axis, Coding, SpanLayout};
use super::positions::HostTable;
use super::{KvFormat, Positions, RopeSplit, u32_of};
use crate::gpu::{Buffer, Caps, Kernel, Launch, Plan, Recorder, Source, Tier};

pub(super) static KERNEL: Kernel = Kernel {
    name: "attention",
    source: Source::Written(write_portable),
    params_bytes: size_of::<Params>(),
    plans: |caps| {
        plans(&Caps {
            tier: Tier::Portable,
            subgroup_size: 0,
            ..caps.clone()
        })
    },
    twin,
};

pub(super) static KERNEL_SG: Kernel = Kernel {
    name: "attention_sg",
    source: Source::Written(write_subgroup),
    params_bytes: size_of::<Params>(),
    plans: |caps| {
        if caps.tier == Tier::Subgroups {
            plans(caps)
        } else {
            Vec::new()
        }
    },
    twin,
};

pub(super) static CODED: Kernel = Kernel {
    name: "attention_coded",
    source: Source::Written(write_portable),
    params_bytes: size_of::<Params>(),
    plans: |caps| {
        coded_plans(&Caps {
            tier: Tier::Portable,
            subgroup_size: 0,
            ..caps.clone()
        })
    },
    twin,
};

pub(super) static CODED_SG: Kernel = Kernel {
    name: "attention_coded_sg",
    source: Source::Written(write_subgroup),
    params_bytes: size_of::<Params>(),
    plans: |caps| {
        if caps.tier == Tier::Subgroups {
            coded_plans(caps)
        } else {
            Vec::new()
        }
    },
    twin,
};

/// How the softmax mass that coding noise lends or takes is put right (METHOD 10.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BiasFix {
    /// Not at all.
    #[default]
    Off,
    /// By the width of each block's step: for min-max grids.
    Step,
    /// By the energy that coding added, measured when the span was coded; needs head tables.
    Energy,
}

impl BiasFix {
    pub(super) const ALL: [BiasFix; 3] = [BiasFix::Off, BiasFix::Step, BiasFix::Energy];

    pub(super) fn from_number(n: u32) -> BiasFix {
        Self::ALL[n as usize]
    }

    /// The correction as these keys can have it: those without what it needs go without.
    pub(super) fn for_keys(self, k: &Coding) -> BiasFix {
        let can = match self {
            BiasFix::Off => true,
            BiasFix::Step => k.is_quantized() && k.axis == Axis::Token && !k.hadamard,
            BiasFix::Energy => k.is_quantized() && k.head_table,
        };
        if can { self } else { BiasFix::Off }
    }
}

/// What the words of a page are.
#[derive(Debug, Clone, Copy)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one a page, for the length of a recording"
)]
pub enum Rows {
    /// `[slot, token, head, head_dim]` in one format.
    Plain(KvFormat),
    /// The same of a page of one frame, whose last row stands for several that are alike.
    Merged {
        /// Storage.
        format: KvFormat,
        /// Added to the scores of the last row: the logarithm of how many it stands for.
        last_bias: f32,
    },
    /// One coded span after the other; a slot is a span.
    Coded {
        /// Every span of K.
        k: SpanLayout,
        /// Every span of V.
        v: SpanLayout,
        /// Correction of the mass that K's noise moves.
        bias: BiasFix,
    },
}

/// One page of keys and values as attention sees it.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Keys before RoPE.
    pub k: &'a Buffer<u32>,
    /// Values.
    pub v: &'a Buffer<u32>,
    /// Storage of both.
    pub rows: Rows,
    /// Visible frames, their slots and angles.
    pub positions: &'a Positions,
    /// Turn keys by their position; off for text.
    pub rope: bool,
    /// Tokens of a frame (for text: its length).
    pub tokens_per_frame: usize,
}

/// Arguments of [`attention`].
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Queries after norm and RoPE, `[query, q_stride]`, heads first in every row.
    pub q: &'a Buffer<f32>,
    /// Values from query to query, a multiple of 4.
    pub q_stride: usize,
    /// Queries.
    pub n_queries: usize,
    /// Heads.
    pub n_heads: usize,
    /// Pages, at least one; each with at least one visible frame.
    pub segments: &'a [Segment<'a>],
    /// `[query, head, head_dim]`.
    pub out: &'a Buffer<f32>,
    /// `[query, head, 2]`: largest score and sum between pages.
    pub state: &'a Buffer<f32>,
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Params {
    first_group: u32,
    n_groups: u32,
    n_queries: u32,
    n_heads: u32,
    q_stride: u32,
    n_frames: u32,
    tokens_per_frame: u32,
    cols: u32,
    rows_at: u32,
    cols_at: u32,
    frames_at: u32,
    row_quads: u32,
    col_quads: u32,
    frame_quads: u32,
    rope: u32,
    first: u32,
    last: u32,
    lane_quads: u32,
    lanes: u32,
    scale: f32,
    last_bias: f32,
    rows: u32,
    k_planes: Planes,
    v_planes: Planes,
}

/// Where the planes of a span lie, in words.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
struct Planes {
    words: u32,
    scales: u32,
    zeros: u32,
    ids: u32,
    cents: u32,
    n_cents: u32,
    heads: u32,
    groups: u32,
    stages: u32,
}

impl Planes {
    fn of(l: &SpanLayout) -> Planes {
        Planes {
            words: u32_of(l.words),
            scales: u32_of(l.scales_at),
            zeros: u32_of(l.zeros_at),
            ids: u32_of(l.ids_at),
            cents: u32_of(l.cents_at),
            n_cents: u32_of(l.n_centroids),
            heads: u32_of(l.heads_at),
            groups: u32_of(l.groups),
            stages: u32_of(l.coding.stages),
        }
    }

    fn layout(&self, coding: Coding, n_heads: usize, head_dim: usize, rows: u32) -> SpanLayout {
        SpanLayout {
            coding,
            n_heads,
            head_dim,
            tokens: rows as usize,
            n_centroids: self.n_cents as usize,
            rows: rows as usize,
            groups: self.groups as usize,
            scales_at: self.scales as usize,
            zeros_at: self.zeros as usize,
            ids_at: self.ids as usize,
            cents_at: self.cents as usize,
            heads_at: self.heads as usize,
            words: self.words as usize,
        }
    }
}

/// Records one dispatch a page.
///
/// # Panics
/// When a buffer's length contradicts the sizes: a bug in the caller.
pub fn attention(rec: &mut Recorder<'_>, a: &Attention<'_>) {
    assert!(!a.segments.is_empty(), "attention over nothing");
    let n_segments = a.segments.len();
    for (i, s) in a.segments.iter().enumerate() {
        let split = s.positions.split;
        let d = split.head_dim();
        assert!(
            d.is_multiple_of(4) && a.q_stride.is_multiple_of(4),
            "head_dim is a multiple of 4"
        );
        assert!(
            a.q.len() >= a.n_queries * a.q_stride && a.out.len() >= a.n_queries * a.n_heads * d,
            "attention sizes"
        );
        assert!(
            a.state.len() >= a.n_queries * a.n_heads * 2 && s.positions.n_frames > 0,
            "attention state"
        );
        let l = s.positions.layout();
        let last_bias = match s.rows {
            Rows::Merged { last_bias, .. } => last_bias,
            _ => 0.0,
        };
        assert!(
            last_bias == 0.0 || s.positions.n_frames == 1,
            "rows are merged in one frame"
        );
        let (mut rows, mut planes) = (0, [Planes::default(); 2]);
        if let Rows::Coded { k, v, .. } = &s.rows {
            assert!(
                k.rows == v.rows && k.n_heads == a.n_heads && k.head_dim == d && v.head_dim == d,
                "spans of K and V"
            );
            (rows, planes) = (u32_of(k.rows), [k, v].map(Planes::of));
        }
        let mut p = Params {
            first_group: 0,
            n_groups: 0,
            n_queries: u32_of(a.n_queries),
            n_heads: u32_of(a.n_heads),
            q_stride: u32_of(a.q_stride / 4),
            n_frames: u32_of(s.positions.n_frames),
            tokens_per_frame: u32_of(s.tokens_per_frame),
            cols: u32_of(s.positions.cols),
            rows_at: l.rows_at,
            cols_at: l.cols_at,
            frames_at: l.frames_at,
            row_quads: l.row_quads,
            col_quads: l.col_quads,
            frame_quads: l.frame_quads,
            rope: u32::from(s.rope),
            first: u32::from(i == 0),
            last: u32::from(i + 1 == n_segments),
            lane_quads: 0,
            lanes: rec.caps().subgroup_size,
            scale: (1.0 / (d as f64).sqrt()) as f32,
            last_bias,
            rows,
            k_planes: planes[0],
            v_planes: planes[1],
        };
        let tier = rec.caps().tier;
        let per_lane = queries_per_lane(rec.caps(), u32_of(d), p.n_queries);
        let (kernel, knobs) = attention_plan(rec.caps(), split, &s.rows, a.n_queries);
        let lanes = match tier {
            Tier::Subgroups => rec.caps().subgroup_size,
            Tier::Portable => 64,
        };
        p.lane_quads = per_lane * u32_of(d / 4);
        let per_group = (lanes * per_lane) as usize;
        let keys = s.positions.n_frames * s.tokens_per_frame;
        let plan = Plan {
            groups: u32_of(a.n_queries.div_ceil(per_group) * a.n_heads),
            knobs,
            work_per_group: (per_group * keys * d * 3) as u64,
        };
        let mut b = vec![
            (&s.positions.buffer).into(),
            a.q.into(),
            s.k.into(),
            s.v.into(),
            a.out.into(),
            a.state.into(),
        ];
        if let (Tier::Subgroups, Rows::Coded { k, v, .. }) = (tier, &s.rows) {
            // The same words once more, as vec4s.
            for (l, words) in [(k, s.k), (v, s.v)] {
                b.extend(Views::of(&l.coding, d).both().then_some(words.into()));
            }
        }
        rec.dispatch(kernel, plan, &p, &b);
    }
}

/// The visible keys of one head, turned, with their values and what a mass correction adds to their scores by query.
struct Key {
    k: Vec<f64>,
    v: Vec<f64>,
    /// Half the noise a unit of query energy meets, by gain.
    noise: Vec<f64>,
    /// What else is added to its scores.
    bias: f64,
}

/// Turns a key by its place.
fn turn(
    p: &Params,
    table: &HostTable,
    split: RopeSplit,
    record: usize,
    token: usize,
    key: &mut [f64],
) {
    let cols = p.cols as usize;
    for pair in 0..key.len() / 2 {
        let (c, s) = if pair < split.frame {
            table.turn(record + 1, pair)
        } else if pair < split.frame + split.row {
            table.turn(
                p.rows_at as usize + token / cols * p.row_quads as usize,
                pair - split.frame,
            )
        } else {
            table.turn(
                p.cols_at as usize + token % cols * p.col_quads as usize,
                pair - split.frame - split.row,
            )
        };
        let (a, b) = (key[2 * pair], key[2 * pair + 1]);
        key[2 * pair] = a * c - b * s;
        key[2 * pair + 1] = a * s + b * c;
    }
}

/// What a page holds, as the twin reads it.
enum HostRows {
    Plain {
        k: Vec<f32>,
        v: Vec<f32>,
    },
    Coded {
        k: Vec<u32>,
        v: Vec<u32>,
        layouts: Box<[SpanLayout; 2]>,
        bias: BiasFix,
    },
}

impl HostRows {
    fn read(l: &Launch<'_>, p: &Params, head_dim: usize) -> HostRows {
        let (k, v): (Vec<u32>, Vec<u32>) = (l.read(3), l.read(4));
        if p.rows == 0 {
            let format = KvFormat::from_code(l.knob("FORMAT"));
            return HostRows::Plain {
                k: format.unpack(&k),
                v: format.unpack(&v),
            };
        }
        let layout = |planes: &Planes, name| {
            let coding = Coding {
                stages: planes.stages as usize,
                ..Coding::from_number(l.knob(name))
            };
            planes.layout(coding, p.n_heads as usize, head_dim, p.rows)
        };
        HostRows::Coded {
            k,
            v,
            layouts: Box::new([layout(&p.k_planes, "K"), layout(&p.v_planes, "V")]),
            bias: BiasFix::from_number(l.knob("BIAS")),
        }
    }

    /// Key and value of a token of the frame with this slot and first row.
    fn key(
        &self,
        p: &Params,
        slot: usize,
        row0: usize,
        token: usize,
        head: usize,
        d: usize,
    ) -> Key {
        let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect();
        match self {
            HostRows::Plain { k, v } => {
                let row = slot * p.tokens_per_frame as usize + token;
                let at = (row * p.n_heads as usize + head) * d;
                Key {
                    k: wide(&k[at..at + d]),
                    v: wide(&v[at..at + d]),
                    noise: Vec::new(),
                    bias: 0.0,
                }
            }
            HostRows::Coded {
                k,
                v,
                layouts,
                bias,
            } => {
                let [lk, lv] = &**layouts;
                let (k, v) = (&k[slot * lk.words..], &v[slot * lv.words..]);
                let noise = match bias {
                    BiasFix::Off => Vec::new(),
                    BiasFix::Energy => lk
                        .head_gains(k, head)
                        .iter()
                        .map(|g| f64::from(*g) / 2.0)
                        .collect(),
                    BiasFix::Step => lk
                        .steps(k, head, row0 + token)
                        .iter()
                        .map(|s| f64::from(*s).powi(2) / 24.0)
                        .collect(),
                };
                Key {
                    k: wide(&lk.row(k, head, row0 + token)),
                    v: wide(&lv.row(v, head, row0 + token)),
                    noise,
                    bias: 0.0,
                }
            }
        }
    }
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let pairs = |name| l.knob(name) as usize;
    let split = RopeSplit {
        frame: pairs("FRAME_PAIRS"),
        row: pairs("ROW_PAIRS"),
        col: pairs("COL_PAIRS"),
    };
    let d = split.head_dim();
    let table = HostTable::new(l.read(1));
    let q: Vec<f32> = l.read(2);
    let rows = HostRows::read(l, &p, d);
    let (mut out, mut state): (Vec<f32>, Vec<f32>) = (l.read(5), l.read(6));
    let heads = p.n_heads as usize;
    for head in 0..heads {
        let mut keys = Vec::new();
        for f in 0..p.n_frames as usize {
            let record = p.frames_at as usize + f * p.frame_quads as usize;
            let (slot, row0) = table.place(record);
            for token in 0..p.tokens_per_frame as usize {
                let mut key = rows.key(&p, slot, row0, token, head, d);
                if p.rope == 1 {
                    turn(&p, &table, split, record, token, &mut key.k);
                }
                keys.push(key);
            }
        }
        if let Some(last) = keys.last_mut() {
            last.bias = f64::from(p.last_bias);
        }
        for i in 0..p.n_queries as usize {
            let at = i * heads + head;
            let qs: Vec<f64> = q[i * p.q_stride as usize * 4 + head * d..][..d]
                .iter()
                .map(|v| f64::from(*v))
                .collect();
            let mut acc: Vec<f64> = out[at * d..][..d].iter().map(|v| f64::from(*v)).collect();
            let (mut max, mut sum) = (f64::from(state[at * 2]), f64::from(state[at * 2 + 1]));
            if p.first == 1 {
                (max, sum, acc) = (-1e30, 0.0, vec![0.0; d]);
            }
            let scale = f64::from(p.scale);
            let score = |key: &Key| {
                let dot: f64 = qs.iter().zip(&key.k).map(|(a, b)| a * b).sum();
                let per_gain = d / key.noise.len().max(1);
                let mass: f64 = key
                    .noise
                    .iter()
                    .zip(qs.chunks(per_gain))
                    .map(|(n, q)| n * q.iter().map(|v| v * v).sum::<f64>())
                    .sum();
                dot * scale - mass * scale * scale + key.bias
            };
            let scores: Vec<f64> = keys.iter().map(score).collect();
            let new = scores.iter().copied().fold(max, f64::max);
            let shrink = (max - new).exp();
            sum *= shrink;
            acc.iter_mut().for_each(|a| *a *= shrink);
            for (s, key) in scores.iter().zip(&keys) {
                let w = (s - new).exp();
                sum += w;
                acc.iter_mut().zip(&key.v).for_each(|(a, v)| *a += w * v);
            }
            if p.last == 1 {
                acc.iter_mut().for_each(|a| *a /= sum);
            }
            (state[at * 2], state[at * 2 + 1]) = (new as f32, sum as f32);
            out[at * d..][..d]
                .iter_mut()
                .zip(acc)
                .for_each(|(o, a)| *o = a as f32);
        }
    }
    l.write(5, &out);
    l.write(6, &state);
}

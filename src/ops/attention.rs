//! Attention of a pass over keys and values in cache pages, page by page with a carried online softmax.
//!
//! Keys are stored before RoPE and turned as they are loaded. A page is read in place, in its own format; between pages
//! the state (largest score, sum, unnormalized output) stays on the device, so any number of pages of any kind make one
//! softmax, and a long history is cut into short dispatches.
//! Source: SELF-FORCING 4.2 and 5.5 (pre-RoPE keys); online softmax: Milakov & Gimelshein 2018.

use bytemuck::{Pod, Zeroable};

use super::attention_text::{write_portable, write_subgroup};
use super::positions::HostTable;
use super::{KvFormat, Positions, RopeSplit, u32_of};
use crate::gpu::{Buffer, Caps, Kernel, Kind, Knob, Launch, Plan, Recorder, Source, Tier};

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

/// One page of keys and values as attention sees it.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Keys before RoPE, `[slot, token, head, head_dim]`.
    pub k: &'a Buffer<u32>,
    /// Values, same shape.
    pub v: &'a Buffer<u32>,
    /// Storage of both.
    pub format: KvFormat,
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
    scale: f32,
}

/// Queries a lane of the subgroup kernel holds: more of them share one key's load and broadcasts, which on a CPU driver
/// is most of the cost; on a GPU registers are, and one is best.
fn queries_per_lane(caps: &Caps, head_dim: u32, n_queries: u32) -> u32 {
    let most = match (caps.kind, head_dim) {
        (Kind::Software, ..=64) => 6,
        (Kind::Software, ..=128) => 3,
        _ => 1,
    };
    let wanted = n_queries.div_ceil(caps.subgroup_size.max(1));
    [6, 3, 2]
        .into_iter()
        .find(|n| *n <= most && *n <= wanted)
        .unwrap_or(1)
}

fn knobs(caps: &Caps, split: RopeSplit, format: KvFormat, per_lane: u32) -> Vec<Knob> {
    let mut k = vec![
        ("FORMAT", format.code()),
        ("FRAME_PAIRS", u32_of(split.frame)),
        ("ROW_PAIRS", u32_of(split.row)),
        ("COL_PAIRS", u32_of(split.col)),
    ];
    k.push(("STAGED", u32::from(caps.loads_compile_slowly)));
    if caps.tier == Tier::Subgroups {
        k.extend([("LANES", caps.subgroup_size), ("QUERIES", per_lane)]);
    }
    k
}

/// Stands for the heads a model may bring: 20 for those whose quads are odd, then the usual ones. Other widths give the
/// same text with other counts.
const HEAD_DIMS: [usize; 5] = [20, 32, 64, 96, 128];

fn plans(caps: &Caps) -> Vec<Vec<Knob>> {
    let mut all = Vec::new();
    for head_dim in HEAD_DIMS {
        let mut counts: Vec<u32> = [1, 2, 3, 6]
            .map(|n| queries_per_lane(caps, u32_of(head_dim), n * caps.subgroup_size))
            .to_vec();
        counts.dedup();
        for format in KvFormat::ALL {
            let split = RopeSplit::wan(head_dim);
            all.extend(counts.iter().map(|n| knobs(caps, split, format, *n)));
        }
    }
    all
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
            scale: (1.0 / (d as f64).sqrt()) as f32,
        };
        let tier = rec.caps().tier;
        let per_lane = match tier {
            Tier::Subgroups => queries_per_lane(rec.caps(), u32_of(d), p.n_queries),
            Tier::Portable => 1,
        };
        let knobs = knobs(rec.caps(), split, s.format, per_lane);
        let (kernel, lanes) = match tier {
            Tier::Subgroups => (&KERNEL_SG, rec.caps().subgroup_size),
            Tier::Portable => (&KERNEL, 64),
        };
        p.lane_quads = per_lane * u32_of(d / 4);
        let per_group = (lanes * per_lane) as usize;
        let keys = s.positions.n_frames * s.tokens_per_frame;
        let plan = Plan {
            groups: u32_of(a.n_queries.div_ceil(per_group) * a.n_heads),
            knobs,
            work_per_group: (per_group * keys * d * 3) as u64,
        };
        let b = [
            (&s.positions.buffer).into(),
            a.q.into(),
            s.k.into(),
            s.v.into(),
            a.out.into(),
            a.state.into(),
        ];
        rec.dispatch(kernel, plan, &p, &b);
    }
}

/// The visible keys of one head, turned, with their values.
fn keys(
    p: &Params,
    table: &HostTable,
    k: &[f32],
    v: &[f32],
    split: RopeSplit,
    head: usize,
) -> Vec<(Vec<f64>, Vec<f64>)> {
    let d = split.head_dim();
    let (cols, tokens) = (p.cols as usize, p.tokens_per_frame as usize);
    let mut out = Vec::new();
    for f in 0..p.n_frames as usize {
        let record = p.frames_at as usize + f * p.frame_quads as usize;
        let slot = table.slot(record);
        for t in 0..tokens {
            let at = ((slot * tokens + t) * p.n_heads as usize + head) * d;
            let mut key: Vec<f64> = k[at..at + d].iter().map(|v| f64::from(*v)).collect();
            for pair in 0..if p.rope == 1 { d / 2 } else { 0 } {
                let (c, s) = if pair < split.frame {
                    table.turn(record + 1, pair)
                } else if pair < split.frame + split.row {
                    table.turn(
                        p.rows_at as usize + t / cols * p.row_quads as usize,
                        pair - split.frame,
                    )
                } else {
                    table.turn(
                        p.cols_at as usize + t % cols * p.col_quads as usize,
                        pair - split.frame - split.row,
                    )
                };
                let (a, b) = (key[2 * pair], key[2 * pair + 1]);
                key[2 * pair] = a * c - b * s;
                key[2 * pair + 1] = a * s + b * c;
            }
            out.push((key, v[at..at + d].iter().map(|v| f64::from(*v)).collect()));
        }
    }
    out
}

fn twin(l: &mut Launch<'_>) {
    let p: Params = l.params();
    let format = KvFormat::from_code(l.knob("FORMAT"));
    let pairs = |name| l.knob(name) as usize;
    let split = RopeSplit {
        frame: pairs("FRAME_PAIRS"),
        row: pairs("ROW_PAIRS"),
        col: pairs("COL_PAIRS"),
    };
    let d = split.head_dim();
    let table = HostTable::new(l.read(1));
    let q: Vec<f32> = l.read(2);
    let (k, v) = (
        format.unpack(&l.read::<u32>(3)),
        format.unpack(&l.read::<u32>(4)),
    );
    let (mut out, mut state): (Vec<f32>, Vec<f32>) = (l.read(5), l.read(6));
    let heads = p.n_heads as usize;
    for head in 0..heads {
        let keys = keys(&p, &table, &k, &v, split, head);
        for i in 0..p.n_queries as usize {
            let at = i * heads + head;
            let qs = &q[i * p.q_stride as usize * 4 + head * d..][..d];
            let mut acc: Vec<f64> = out[at * d..][..d].iter().map(|v| f64::from(*v)).collect();
            let (mut max, mut sum) = (f64::from(state[at * 2]), f64::from(state[at * 2 + 1]));
            if p.first == 1 {
                (max, sum, acc) = (-1e30, 0.0, vec![0.0; d]);
            }
            let scores: Vec<f64> = keys
                .iter()
                .map(|(key, _)| {
                    qs.iter()
                        .zip(key)
                        .map(|(a, b)| f64::from(*a) * b)
                        .sum::<f64>()
                        * f64::from(p.scale)
                })
                .collect();
            let new = scores.iter().copied().fold(max, f64::max);
            let shrink = (max - new).exp();
            sum *= shrink;
            acc.iter_mut().for_each(|a| *a *= shrink);
            for (s, (_, v)) in scores.iter().zip(&keys) {
                let w = (s - new).exp();
                sum += w;
                acc.iter_mut().zip(v).for_each(|(a, v)| *a += w * v);
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

//! What the planner of `attention` chooses, and the variants that stand for all it may choose.
//!
//! Exact pages have few forms, and all are listed. Coded pages have some 10^7: every coding that [`Coding::check`] lets
//! through for K, beside every one for V, beside what a device brings. No compiler sees them all. The text of a kernel is put
//! together from pieces that depend on two or three choices each, so the listed variants hold every three choices that a
//! tensor can have together, and every two of a whole kernel; the shader tests hold the list to that.

use std::collections::HashSet;
use std::sync::OnceLock;

use super::attention::{BiasFix, CODED, CODED_SG, KERNEL, KERNEL_SG, Rows};
use super::coding::{Axis, Coding, Grid, ScaleFormat, SpanLayout};
use super::{KvFormat, RopeSplit, u32_of};
use crate::gpu::{Caps, Kind, Knob, Tier, Variant};

/// Queries a lane of the subgroup kernel holds: more of them share one key's load, decoding and turn, which on a CPU driver
/// cost more than registers do. The portable kernel has one.
pub(super) fn queries_per_lane(caps: &Caps, head_dim: u32, n_queries: u32) -> u32 {
    if caps.tier == Tier::Portable {
        return 1;
    }
    let most = match (caps.kind, head_dim) {
        (Kind::Software, ..=128) => 6,
        (Kind::Software, _) => 3,
        _ => 1,
    };
    let wanted = n_queries.div_ceil(caps.subgroup_size.max(1));
    QUERIES
        .into_iter()
        .rev()
        .find(|n| *n <= most && *n <= wanted)
        .unwrap_or(1)
}

/// Counts of queries that a lane may hold.
const QUERIES: [u32; 4] = [1, 2, 3, 6];

/// The kernel for a page of this form, and its knobs.
pub fn attention_plan(caps: &Caps, split: RopeSplit, rows: &Rows, n_queries: usize) -> Variant {
    let kernel = match (caps.tier, rows) {
        (Tier::Subgroups, Rows::Coded { .. }) => &CODED_SG,
        (Tier::Subgroups, _) => &KERNEL_SG,
        (Tier::Portable, Rows::Coded { .. }) => &CODED,
        (Tier::Portable, _) => &KERNEL,
    };
    let per_lane = queries_per_lane(caps, u32_of(split.head_dim()), u32_of(n_queries));
    (kernel, knobs(caps, split, &Form::of(rows, caps), per_lane))
}

/// What of a page's rows the text of a kernel depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Plain {
        format: KvFormat,
        /// The last row stands for several: text whose padding is one row.
        merged: bool,
    },
    Coded {
        k: Coding,
        v: Coding,
        bias: BiasFix,
        /// Centroids of K, and of V, that a lane of a subgroup holds; 0: they are read row by row, or there are none.
        held: [u32; 2],
    },
}

impl Form {
    fn of(rows: &Rows, caps: &Caps) -> Form {
        let held = |l: &SpanLayout| {
            let lanes = caps.subgroup_size.max(1) as usize;
            match l.n_centroids.div_ceil(lanes) {
                _ if l.coding.stages != 1 => 0,
                1 => 1,
                2..=MOST_HELD => u32_of(MOST_HELD),
                _ => 0,
            }
        };
        match rows {
            Rows::Plain(format) => Form::Plain {
                format: *format,
                merged: false,
            },
            Rows::Merged { format, .. } => Form::Plain {
                format: *format,
                merged: true,
            },
            Rows::Coded { k, v, bias } => Form::Coded {
                k: as_read(&k.coding),
                v: as_read(&v.coding),
                bias: bias.for_keys(&k.coding),
                held: [held(k), held(v)],
            },
        }
    }
}

/// The coding as far as reading it goes: grids differ in how they round, and the count of stages is a parameter. Settings
/// that are read alike share a pipeline.
fn as_read(c: &Coding) -> Coding {
    Coding {
        grid: match c.grid {
            Grid::Rtn => Grid::Symmetric,
            Grid::MinMax | Grid::AsymmetricSearch => Grid::Asymmetric,
            other => other,
        },
        stages: c.stages.min(1),
        ..*c
    }
}

fn knobs(caps: &Caps, split: RopeSplit, form: &Form, per_lane: u32) -> Vec<Knob> {
    let mut all = match form {
        Form::Plain { format, merged } => {
            vec![("FORMAT", format.code()), ("MERGED", u32::from(*merged))]
        }
        Form::Coded { k, v, bias, .. } => {
            vec![("K", k.number()), ("V", v.number()), ("BIAS", *bias as u32)]
        }
    };
    all.extend([
        ("FRAME_PAIRS", u32_of(split.frame)),
        ("ROW_PAIRS", u32_of(split.row)),
        ("COL_PAIRS", u32_of(split.col)),
        ("STAGED", u32::from(caps.loads_compile_slowly)),
    ]);
    if caps.tier == Tier::Subgroups {
        all.extend([("LANES", caps.subgroup_size), ("QUERIES", per_lane)]);
        if let Form::Coded { held, .. } = form {
            all.extend([("K_HELD", held[0]), ("V_HELD", held[1])]);
        }
    }
    all
}

/// Centroids that a lane holds if one is not enough: larger tables are read row by row.
const MOST_HELD: usize = 4;

/// The single choices in a plan of attention: its knobs, with the parts of a coding apart. What only K has begins with
/// `K`, what only V has with `V`.
pub fn attention_choices(plan: &[Knob]) -> Vec<Knob> {
    const PARTS: [[&str; 8]; 2] = [
        [
            "K bits",
            "K grid",
            "K axis",
            "K block",
            "K scales",
            "K stages",
            "K hadamard",
            "K table",
        ],
        [
            "V bits",
            "V grid",
            "V axis",
            "V block",
            "V scales",
            "V stages",
            "V hadamard",
            "V table",
        ],
    ];
    let parts = |names: [&'static str; 8], number: u32| {
        let c = Coding::from_number(number);
        let values = [
            c.bits,
            c.grid.code(),
            c.axis as u32,
            u32_of(c.block),
            c.scales as u32,
            u32_of(c.stages),
            u32::from(c.hadamard),
            u32::from(c.head_table),
        ];
        names.into_iter().zip(values)
    };
    let mut all = Vec::new();
    for (name, value) in plan {
        match *name {
            "K" => all.extend(parts(PARTS[0], *value)),
            "V" => all.extend(parts(PARTS[1], *value)),
            _ => all.push((*name, *value)),
        }
    }
    all
}

/// Stands for the heads a model may bring: 20 for those whose quads are odd, then the usual ones. Other widths give the
/// same text with other counts.
const HEAD_DIMS: [usize; 6] = [20, 32, 64, 96, 128, 256];

/// Counts of queries a lane that a device with these caps may be given.
fn counts(caps: &Caps, head_dim: usize) -> Vec<u32> {
    let mut counts: Vec<u32> = QUERIES
        .map(|n| queries_per_lane(caps, u32_of(head_dim), n * caps.subgroup_size))
        .to_vec();
    counts.dedup();
    counts
}

pub(super) fn plans(caps: &Caps) -> Vec<Vec<Knob>> {
    let mut all = Vec::new();
    for head_dim in HEAD_DIMS {
        for format in KvFormat::ALL {
            let split = RopeSplit::wan(head_dim);
            for merged in [false, true] {
                let one = |n: &u32| knobs(caps, split, &Form::Plain { format, merged }, *n);
                all.extend(counts(caps, head_dim).iter().map(one));
            }
        }
    }
    all
}

/// A form of coded pages in heads of a width.
#[derive(Debug, Clone, Copy)]
struct Sample {
    head_dim: usize,
    form: Form,
}

/// Widths of heads that can be coded, and every coding they can have, as it is read.
fn codings() -> Vec<(usize, Vec<Coding>)> {
    let grids = [
        Grid::Symmetric,
        Grid::Asymmetric,
        Grid::Dual,
        Grid::Rtn,
        Grid::MinMax,
        Grid::ZeroPoint,
        Grid::Wide,
        Grid::AsymmetricSearch,
    ];
    let mut widths: Vec<(usize, Vec<Coding>)> = Vec::new();
    for head_dim in (1..=10).map(|n| 1 << n) {
        let mut all = vec![Coding::HALVES];
        for bits in 1..16 {
            for block in (0..=10).map(|n| 1 << n) {
                for grid in grids {
                    for scales in [ScaleFormat::E4m3, ScaleFormat::F16, ScaleFormat::F32] {
                        for n in 0..16 {
                            let is = |bit: usize| n >> bit & 1 == 1;
                            let coding = Coding {
                                bits,
                                grid,
                                axis: [Axis::Token, Axis::Channel][n & 1],
                                block,
                                scales,
                                stages: usize::from(is(1)),
                                hadamard: is(2),
                                head_table: is(3),
                            };
                            if coding.check(head_dim).is_ok() {
                                all.push(as_read(&coding));
                            }
                        }
                    }
                }
            }
        }
        let mut seen = HashSet::new();
        all.retain(|c| seen.insert(*c));
        if all.len() > 1 {
            widths.push((head_dim, all));
        }
    }
    widths
}

/// Forms that hold every three choices of K, and every three of V, that can be made together: of a few ways through the
/// list of all, each takes what brings enough that is new, the first ways ask for most.
fn cover(lanes_hold: bool) -> Vec<Sample> {
    let held_of = |c: &Coding| match (lanes_hold, c.stages) {
        (true, 1) => vec![0, 1, u32_of(MOST_HELD)],
        _ => vec![0],
    };
    let caps = Caps {
        tier: Tier::Subgroups,
        ..Caps::floor()
    };
    let mut all = Vec::new();
    let mut met = HashSet::new();
    for (head_dim, codings) in codings() {
        let mut ways = Vec::new();
        for k in &codings {
            for bias in BiasFix::ALL.into_iter().filter(|b| b.for_keys(k) == *b) {
                ways.extend(held_of(k).into_iter().map(|held| (*k, bias, held)));
            }
        }
        let choices = |(k, bias, held): (Coding, BiasFix, u32)| -> Vec<Knob> {
            let form = Form::Coded {
                k,
                v: Coding::HALVES,
                bias,
                held: [held, 0],
            };
            let plan = knobs(&caps, RopeSplit::wan(head_dim), &form, 1);
            let is_of_k =
                |name: &str| name.starts_with('K') || ["BIAS", "FRAME_PAIRS"].contains(&name);
            let all = attention_choices(&plan).into_iter();
            all.filter(|(name, _)| is_of_k(name)).collect()
        };
        let threes = |way| {
            let mine = choices(way);
            let mut threes = Vec::new();
            for (i, a) in mine.iter().enumerate() {
                for (j, b) in mine.iter().enumerate().skip(i + 1) {
                    threes.extend(mine[j + 1..].iter().map(|c| [*a, *b, *c]));
                }
            }
            threes
        };
        let mut taken = Vec::new();
        for least in [40, 20, 10, 5, 2, 1] {
            for i in 0..ways.len() {
                // Neighbours are alike: far from one another they bring more.
                let way = ways[i * STRIDE % ways.len()];
                let threes = threes(way);
                if least <= threes.iter().filter(|t| !met.contains(*t)).count() {
                    met.extend(threes);
                    taken.push(way);
                }
            }
        }
        let sample = |k, v, bias, held| Sample {
            head_dim,
            form: Form::Coded { k, v, bias, held },
        };
        // V in another order, so that the two are not always of one form.
        let n = taken.len();
        all.extend((0..n).map(|i| {
            let ((k, bias, held), (v, _, v_held)) = (taken[i], taken[(i + n / 2) % n]);
            sample(k, v, bias, [held, v_held])
        }));
        // Halves are one form among hundreds: they stand beside every choice of the other tensor.
        let mut beside = HashSet::new();
        for way in taken {
            let mine = choices(way);
            if mine.iter().any(|choice| !beside.contains(choice)) {
                beside.extend(mine);
                let (k, bias, held) = way;
                all.push(sample(k, Coding::HALVES, bias, [held, 0]));
                all.push(sample(Coding::HALVES, k, BiasFix::Off, [0, held]));
            }
        }
    }
    all
}

/// A prime that divides no count of forms: steps of it meet every form once.
const STRIDE: usize = 7919;

/// Whether the form at this place of the list is compiled for a device with these caps, and with how many queries a lane: each
/// for one width of subgroups in turn, so that every width meets a third of the forms, and so for the rest.
fn turn_of(i: usize, caps: &Caps, head_dim: usize) -> Option<u32> {
    let software = Caps {
        kind: Kind::Software,
        ..caps.clone()
    };
    let (i, is_mine) = match caps.subgroup_size {
        0 => (i, true),
        lanes => (i / 3, i % 3 == (lanes.ilog2() as usize) % 3),
    };
    let all = counts(&software, head_dim);
    let queries = all[i % all.len()];
    let is_staged = i / all.len() % 2 == 1;
    let can = counts(caps, head_dim).contains(&queries);
    (is_mine && can && is_staged == caps.loads_compile_slowly).then_some(queries)
}

pub(super) fn coded_plans(caps: &Caps) -> Vec<Vec<Knob>> {
    // A constant that takes a moment to work out, and only the tests ask for.
    static BY_TIER: [OnceLock<Vec<Sample>>; 2] = [OnceLock::new(), OnceLock::new()];
    let is_subgroup = caps.tier == Tier::Subgroups;
    let samples = BY_TIER[usize::from(is_subgroup)].get_or_init(|| cover(is_subgroup));
    let mut all = Vec::new();
    for (i, s) in samples.iter().enumerate() {
        if let Some(queries) = turn_of(i, caps, s.head_dim) {
            all.push(knobs(caps, RopeSplit::wan(s.head_dim), &s.form, queries));
        }
    }
    // The usual settings besides, whole: heads of the usual widths, as many queries as a lane takes, a small table.
    for head_dim in [64, 128] {
        for (k, v, bias) in sample_codings().into_iter().take(USUAL) {
            let lanes = caps.subgroup_size.max(1) as usize;
            let layout = |c| SpanLayout::new(for_head(c, head_dim), 1, head_dim, 4, lanes);
            let rows = Rows::Coded {
                k: layout(k),
                v: layout(v),
                bias,
            };
            let most = counts(caps, head_dim).pop().unwrap_or(1);
            let plan = knobs(caps, RopeSplit::wan(head_dim), &Form::of(&rows, caps), most);
            if !all.contains(&plan) {
                all.push(plan);
            }
        }
    }
    all
}

/// Codings of K and of V that stand for all that codecs may bring, with a correction that fits: those of the named settings,
/// then every other width, grid, scale format and option once. Other blocks and stage counts give the same text with
/// other numbers. The shader tests compile them, the op's tests run them.
pub fn sample_codings() -> Vec<(Coding, Coding, BiasFix)> {
    let base = Coding {
        bits: 2,
        block: 64,
        ..Coding::HALVES
    };
    let mut all = Vec::new();
    for bits in [2, 4] {
        let released = Coding {
            bits,
            stages: 1,
            ..base
        };
        let pro = Coding {
            block: 16,
            stages: 4,
            ..released
        };
        let rtn = Coding {
            grid: Grid::Rtn,
            block: 16,
            stages: 0,
            ..released
        };
        let pairs = Coding {
            grid: Grid::MinMax,
            block: 32,
            scales: ScaleFormat::F16,
            ..rtn
        };
        let by_channel = Coding {
            axis: Axis::Channel,
            ..pairs
        };
        let rotated = Coding {
            grid: Grid::ZeroPoint,
            hadamard: true,
            ..pairs
        };
        all.extend([released, pro, rtn, rotated].map(|c| (c, c, BiasFix::Off)));
        all.push((by_channel, pairs, BiasFix::Off));
    }
    let ours = |bits, stages| Coding {
        bits,
        grid: Grid::Dual,
        stages,
        hadamard: true,
        head_table: true,
        ..base
    };
    all.extend([2, 3, 4, 8].map(|bits| (ours(bits, 1), ours(bits, 1), BiasFix::Energy)));
    let with = |bits, grid, scales, block| Coding {
        bits,
        grid,
        scales,
        block,
        ..base
    };
    use ScaleFormat::{E4m3, F16, F32};
    all.extend([
        (
            with(2, Grid::Asymmetric, E4m3, 16),
            Coding::HALVES,
            BiasFix::Step,
        ),
        (Coding::HALVES, ours(2, 0), BiasFix::Off),
        (
            with(3, Grid::AsymmetricSearch, F16, 32),
            with(8, Grid::Symmetric, E4m3, 32),
            BiasFix::Step,
        ),
        (
            with(4, Grid::MinMax, F32, 32),
            with(2, Grid::Wide, F32, 32),
            BiasFix::Step,
        ),
        (
            Coding {
                hadamard: false,
                ..ours(2, 2)
            },
            with(3, Grid::Symmetric, F16, 64),
            BiasFix::Energy,
        ),
    ]);
    all
}

/// How many of these are those of the named settings.
const USUAL: usize = 14;

/// The coding with blocks no wider than a head.
fn for_head(c: Coding, head_dim: usize) -> Coding {
    let block = match c.axis {
        Axis::Token => c.block.min(head_dim),
        Axis::Channel => c.block,
    };
    Coding { block, ..c }
}

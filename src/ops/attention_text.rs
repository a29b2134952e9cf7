//! Writes the WGSL of `attention` for a head's channel split and the form of a page: plain floats or coded spans.
//!
//! Two variants. Portable: 64 queries a workgroup, one a lane, a few keys at a time staged in workgroup memory.
//! Subgroup: one subgroup a workgroup, each lane loads and turns another key and hands it round, which on a CPU driver is
//! several times cheaper than loading every key in every lane.

use std::fmt::Write as _;

use super::coding::{Axis, Coding, Grid, ScaleFormat};
use super::{BiasFix, KvFormat};
use crate::gpu::{Knob, knob};

/// Keys staged at a time in the portable kernel: what 16 KiB hold of keys, values and scores.
fn staged(quads: u32) -> u32 {
    if quads <= 48 { 8 } else { 4 }
}

/// Form of the rows behind a binding.
#[derive(Clone, Copy)]
enum Rows {
    Plain {
        format: KvFormat,
        /// The last row of a page of one frame stands for several.
        merged: bool,
    },
    Coded {
        k: Coding,
        v: Coding,
        bias: BiasFix,
        /// How many of K's, and of V's, centroids of a head each lane of a subgroup holds; 0: they are loaded row by row.
        held: [u32; 2],
    },
}

struct Shape {
    rows: Rows,
    frame: u32,
    row: u32,
    quads: u32,
}

impl Shape {
    fn new(knobs: &[Knob]) -> Shape {
        let (frame, row, col) = (
            knob(knobs, "FRAME_PAIRS"),
            knob(knobs, "ROW_PAIRS"),
            knob(knobs, "COL_PAIRS"),
        );
        let rows = match knobs.iter().any(|(name, _)| *name == "K") {
            true => Rows::Coded {
                k: Coding::from_number(knob(knobs, "K")),
                v: Coding::from_number(knob(knobs, "V")),
                bias: BiasFix::from_number(knob(knobs, "BIAS")),
                held: ["K_HELD", "V_HELD"].map(|name| {
                    let found = knobs.iter().find(|(n, _)| *n == name);
                    found.map_or(0, |(_, held)| *held)
                }),
            },
            false => Rows::Plain {
                format: KvFormat::from_code(knob(knobs, "FORMAT")),
                merged: knob(knobs, "MERGED") == 1,
            },
        };
        Shape {
            rows,
            frame,
            row,
            quads: (frame + row + col) / 2,
        }
    }

    /// Which axis turns a pair, and the pair's place on that axis.
    fn axis(&self, pair: u32) -> (&'static str, u32) {
        if pair < self.frame {
            ("f", pair)
        } else if pair < self.frame + self.row {
            ("r", pair - self.frame)
        } else {
            ("c", pair - self.frame - self.row)
        }
    }

    /// Everything before the entry point; `wide`: coded rows are loaded as `vec4`s of words where their form allows it.
    fn head(&self, wide: bool) -> String {
        let text = r#"//#include "lib/grid.wgsl"
struct Params {
    first_group: u32, n_groups: u32, n_queries: u32, n_heads: u32, q_stride: u32, // stride in quads
    n_frames: u32, tokens_per_frame: u32, cols: u32,
    rows_at: u32, cols_at: u32, frames_at: u32, row_quads: u32, col_quads: u32, frame_quads: u32,
    rope: u32, first: u32, last: u32, lane_quads: u32, lanes: u32, scale: f32, // lane_quads: quads of a lane's queries; lanes of a subgroup
    last_bias: f32, // of merged rows: added to the scores of a frame's last key
    rows: u32, // of a head in a span; then the planes of K's and V's spans, in words
    k_words: u32, k_scales: u32, k_zeros: u32, k_ids: u32, k_cents: u32, k_n_cents: u32, k_heads: u32, k_groups: u32, k_stages: u32,
    v_words: u32, v_scales: u32, v_zeros: u32, v_ids: u32, v_cents: u32, v_n_cents: u32, v_heads: u32, v_groups: u32, v_stages: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> positions: array<vec4<f32>, 4096>;  // see src/ops/positions.rs
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;          // [query, q_stride]
K_AND_V
@group(0) @binding(5) var<storage, read_write> out: array<vec4<f32>>;  // [query, head, head_dim / 4]
@group(0) @binding(6) var<storage, read_write> state: array<vec2<f32>>; // [query, head]: largest score, sum

fn sum_so_far(at: u32) -> vec4<f32> {
    if params.first == 1u { return vec4<f32>(0.0); }
    return out[at];
}

fn turned(x: vec4<f32>, a: vec2<f32>, b: vec2<f32>) -> vec4<f32> {
    return vec4<f32>(x.x * a.x - x.y * a.y, x.x * a.y + x.y * a.x, x.z * b.x - x.w * b.y, x.z * b.y + x.w * b.x);
}
"#;
        let storage = |binding: usize, name: &str, word: &str| {
            format!("@group(0) @binding({binding}) var<storage, read> {name}: array<{word}>;\n")
        };
        match self.rows {
            // [slot, token, head, head_dim]
            Rows::Plain { format, .. } => {
                let word = word(format, self.quads);
                let both = storage(3, "k", word) + &storage(4, "v", word);
                text.replace("K_AND_V\n", &both) + quad_fn(format)
            }
            // Spans; see src/ops/coding.rs
            Rows::Coded { k, v, .. } => {
                let mut all = String::new();
                let (mut next, head_dim) = (7, self.quads as usize * 4);
                for (binding, name, c) in [(3, "k", k), (4, "v", v)] {
                    let views = Views::of(&c, head_dim);
                    if wide && !views.words {
                        all += &storage(binding, &format!("{name}_wide"), "vec4<u32>");
                        continue;
                    }
                    all += &storage(binding, name, "u32");
                    if wide && views.wide {
                        all += &storage(next, &format!("{name}_wide"), "vec4<u32>");
                        next += 1;
                    }
                }
                text.replace("K_AND_V\n", &all).replace(
                    "//#include \"lib/grid.wgsl\"\n",
                    "//#include \"lib/grid.wgsl\"\n//#include \"lib/e4m3.wgsl\"\n",
                )
            }
        }
    }
}

/// How the subgroup kernel reads the words of a coded tensor: a binding that nothing reads fits no bind group.
pub(super) struct Views {
    /// One by one: scales, ids.
    pub words: bool,
    /// As `vec4`s: rows of whole `vec4`s, centroids, scales by channel.
    pub wide: bool,
}

impl Views {
    pub(super) fn of(c: &Coding, head_dim: usize) -> Views {
        Views {
            words: c.is_quantized()
                && (c.axis == Axis::Token || c.stages > 0 || !has_wide_rows(c, head_dim)),
            wide: has_wide_rows(c, head_dim) || c.stages > 0 || c.axis == Axis::Channel,
        }
    }

    /// Whether both are bound.
    pub(super) fn both(&self) -> bool {
        self.words && self.wide
    }
}

fn has_wide_rows(c: &Coding, head_dim: usize) -> bool {
    c.row_words(head_dim).is_multiple_of(4)
}

/// Whether two quads of halves are loaded at once.
fn wide(format: KvFormat, quads: u32) -> bool {
    format != KvFormat::F32 && quads.is_multiple_of(2)
}

fn word(format: KvFormat, quads: u32) -> &'static str {
    match (format, wide(format, quads)) {
        (KvFormat::F32, _) => "vec4<f32>",
        (_, true) => "vec4<u32>",
        (_, false) => "vec2<u32>",
    }
}

/// `quad(words)`: four floats of a stored quad.
fn quad_fn(format: KvFormat) -> &'static str {
    match format {
        KvFormat::F32 => "fn quad(q: vec4<f32>) -> vec4<f32> { return q; }\n",
        KvFormat::F16 => {
            "fn quad(q: vec2<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(q.x), unpack2x16float(q.y)); }\n"
        }
        KvFormat::Bf16 => {
            "fn quad(q: vec2<u32>) -> vec4<f32> { return bitcast<vec4<f32>>(vec4<u32>(q.x << 16u, q.x & 0xffff0000u, q.y << 16u, q.y & 0xffff0000u)); }\n"
        }
    }
}

/// `((vec4<u32>(word) >> shifts) & mask)` for the four codes of a quad, `shift` bits up in its word.
fn four_codes(word: &str, bits: u32, shift: &str) -> String {
    let (shifts, mask) = match bits {
        2 | 3 => ("6u, 4u, 2u, 0u", 3),
        4 => ("4u, 0u, 12u, 8u", 15),
        _ => ("0u, 8u, 16u, 24u", 255),
    };
    format!("((vec4<u32>({word}) >> (vec4<u32>({shifts}) + {shift})) & vec4<u32>({mask}u))")
}

/// Statements that make `{out}s` and `{out}z`, scale and offset of `code * s + z`, out of what is stored of a block:
/// `scale` is a byte, a pair of halves, or the first of two words read by `word(i)`.
fn block_scale(c: &Coding, out: &str, scale: &str, zero: &str, by: &str) -> String {
    let most = c.most() as f32;
    let (s, stored_zero) = match c.scales {
        ScaleFormat::E4m3 => (
            format!("e4m3_decode({scale} & 127u){by}"),
            format!("e4m3_decode({zero}){by}"),
        ),
        ScaleFormat::F16 => (
            format!("unpack2x16float({scale}).x{by}"),
            format!("unpack2x16float({scale}).y{by}"),
        ),
        ScaleFormat::F32 => (
            format!("bitcast<f32>({scale}){by}"),
            format!("bitcast<f32>({zero}){by}"),
        ),
    };
    let z = match c.grid {
        Grid::Symmetric | Grid::Rtn => format!("-{most:?} * {out}s"),
        Grid::Wide => format!("-{:?} * {out}s", most + 1.0),
        Grid::Dual => format!(
            "-select({most:?}, {:?}, ({scale} & 128u) != 0u) * {out}s",
            most + 0.5
        ),
        Grid::Asymmetric | Grid::AsymmetricSearch | Grid::MinMax => stored_zero,
        // Its zero counts levels: no guard on that.
        Grid::ZeroPoint => format!("-({}) * {out}s", stored_zero.replace(by, "")),
    };
    format!("            let {out}s = {s};\n            let {out}z = {z};\n")
}

/// `{name}_quad(base, head, row, i, by)`: quad `i` of a row of a coded span, whatever its coding: what the portable
/// kernel loads with. Hadamard codings are not rotated back here.
fn coded_quad_fn(name: &str, c: &Coding, quads: u32) -> String {
    let d = quads * 4;
    let mut t = format!(
        "fn {name}_quad(base: u32, head: u32, in_span: u32, i: u32, by: f32) -> vec4<f32> {{
    let row = head * params.rows + in_span;
    let at = base + row * {}u;\n",
        c.row_words(d as usize)
    );
    if !c.is_quantized() {
        let _ = writeln!(
            t,
            "    return vec4<f32>(unpack2x16float({name}[at + 2u * i]), unpack2x16float({name}[at + 2u * i + 1u]));\n}}"
        );
        return t;
    }
    let (per_word, step) = match c.bits {
        2 | 3 => (4, 8),
        4 => (2, 16),
        _ => (1, 0),
    };
    let word = format!("{name}[at + i / {per_word}u]");
    let _ = writeln!(
        t,
        "    var code = {};",
        four_codes(&word, c.bits, &format!("{step}u * (i % {per_word}u)"))
    );
    if c.bits == 3 {
        let _ = writeln!(
            t,
            "    code |= ((vec4<u32>({name}[at + {}u + i / 8u]) >> (vec4<u32>(0u, 1u, 2u, 3u) + 4u * (i % 8u))) & vec4<u32>(1u)) << vec4<u32>(2u);",
            d / 16
        );
    }
    if c.axis == Axis::Channel {
        let _ = writeln!(
            t,
            "    let scales = base + params.{name}_scales + ((head * params.{name}_groups + in_span / {}u) * {quads}u + i) * 4u;
    var out = vec4<f32>(0.0);
    for (var e = 0u; e < 4u; e++) {{
        let sz = unpack2x16float({name}[scales + e]);
        out[e] = f32(code[e]) * sz.x + sz.y;
    }}",
            c.block
        );
    } else {
        let _ = writeln!(
            t,
            "    let entry = row * {}u + i / {}u;",
            c.blocks(d as usize),
            c.block / 4
        );
        let byte = |plane: &str| {
            format!(
                "(({name}[base + params.{name}_{plane} + entry / 4u] >> (8u * (entry & 3u))) & 255u)"
            )
        };
        let (scale, zero) = match c.scales {
            ScaleFormat::E4m3 => (byte("scales"), byte("zeros")),
            ScaleFormat::F16 => (
                format!("{name}[base + params.{name}_scales + entry]"),
                String::new(),
            ),
            ScaleFormat::F32 => (
                format!("{name}[base + params.{name}_scales + 2u * entry]"),
                format!("{name}[base + params.{name}_scales + 2u * entry + 1u]"),
            ),
        };
        let _ = writeln!(t, "    let packed = {scale};");
        t += &block_scale(
            c,
            "b",
            "packed",
            &zero,
            if c.head_table { " * by" } else { "" },
        );
        t += "    var out = vec4<f32>(code) * bs + bz;\n";
    }
    if c.stages > 0 {
        let _ = writeln!(
            t,
            "    for (var stage = 0u; stage < params.{name}_stages; stage++) {{
        let all = stage * params.n_heads * params.rows + row;
        let id = ({name}[base + params.{name}_ids + all / 4u] >> (8u * (all & 3u))) & 255u;
        let to = base + params.{name}_cents + ((stage * params.n_heads + head) * params.{name}_n_cents + id) * {}u + 2u * i;
        let ca = {name}[to];
        let cb = {name}[to + 1u];
        out += bitcast<vec4<f32>>(vec4<u32>(ca << 16u, ca & 0xffff0000u, cb << 16u, cb & 0xffff0000u));
    }}",
            d / 2
        );
    }
    t += "    return out;\n}\n";
    t
}

/// `k_step(base, row, block, by)`: decoded step of a block of a key.
fn step_fn(c: &Coding, quads: u32) -> String {
    let blocks = c.blocks(quads as usize * 4);
    let step = match c.scales {
        ScaleFormat::E4m3 => {
            "e4m3_decode((k[base + params.k_scales + entry / 4u] >> (8u * (entry & 3u))) & 127u)"
        }
        ScaleFormat::F16 => "unpack2x16float(k[base + params.k_scales + entry]).x",
        ScaleFormat::F32 => "bitcast<f32>(k[base + params.k_scales + 2u * entry])",
    };
    format!(
        "fn k_step(base: u32, row: u32, block: u32, by: f32) -> f32 {{
    let entry = row * {blocks}u + block;
    return {step} * by;
}}\n"
    )
}

/// Loads the lane's row of a coded span into `{name}0..`, wide loads where rows are whole `vec4`s of words. Leaves the
/// decoded steps of its blocks in `{name}{block}s`. `held`: the row's centroid is one of those that the lanes hold ([`hold_centroids`]). Values
/// that were rotated stay so, keys are turned back.
fn load_coded(t: &mut String, c: &Coding, quads: u32, name: &str, held: u32, lanes: u32) {
    let d = quads * 4;
    let words = c.row_words(d as usize) as u32;
    let _ = writeln!(
        t,
        "            let {name}_at = {name}_base + row * {words}u;"
    );
    let wide = has_wide_rows(c, d as usize);
    for w in 0..if wide { words / 4 } else { words } {
        let _ = match wide {
            true => writeln!(
                t,
                "            let {name}w{w} = {name}_wide[{name}_at / 4u + {w}u];"
            ),
            false => writeln!(t, "            let {name}w{w} = {name}[{name}_at + {w}u];"),
        };
    }
    let word = |w: u32| match wide {
        true => format!(
            "{name}w{}.{}",
            w / 4,
            ["x", "y", "z", "w"][(w % 4) as usize]
        ),
        false => format!("{name}w{w}"),
    };
    if !c.is_quantized() {
        for i in 0..quads {
            let _ = writeln!(
                t,
                "            var {name}{i} = vec4<f32>(unpack2x16float({}), unpack2x16float({}));",
                word(2 * i),
                word(2 * i + 1)
            );
        }
        return;
    }
    let by = if c.head_table {
        format!(" * {name}_by")
    } else {
        String::new()
    };
    let blocks = c.blocks(d as usize) as u32;
    if c.axis == Axis::Channel {
        let _ = writeln!(
            t,
            "            let {name}_scales = ({name}_base + params.{name}_scales) / 4u + (head * params.{name}_groups + (in_span + token) / {}u) * {quads}u;",
            c.block
        );
    } else {
        // Bytes of four and more blocks are whole words of the row's own; fewer share a word with the next rows.
        let bytes = |t: &mut String, plane: &str| {
            if blocks >= 4 {
                for n in 0..blocks / 4 {
                    let _ = writeln!(
                        t,
                        "            let {name}_{plane}{n} = {name}[{name}_base + params.{name}_{plane} + row * {}u + {n}u];",
                        blocks / 4
                    );
                }
            } else {
                let _ = writeln!(
                    t,
                    "            let {name}_{plane}0 = {name}[{name}_base + params.{name}_{plane} + row * {blocks}u / 4u] >> (8u * ((row * {blocks}u) & 3u));"
                );
            }
        };
        if c.scales == ScaleFormat::E4m3 {
            bytes(t, "scales");
            if c.grid.has_zero() {
                bytes(t, "zeros");
            }
        }
        for b in 0..blocks {
            let byte =
                |plane: &str| format!("(({name}_{plane}{} >> {}u) & 255u)", b / 4, 8 * (b % 4));
            let (scale, zero) = match c.scales {
                ScaleFormat::E4m3 => (byte("scales"), byte("zeros")),
                ScaleFormat::F16 => (
                    format!("{name}[{name}_base + params.{name}_scales + row * {blocks}u + {b}u]"),
                    String::new(),
                ),
                ScaleFormat::F32 => (
                    format!(
                        "{name}[{name}_base + params.{name}_scales + 2u * (row * {blocks}u + {b}u)]"
                    ),
                    format!(
                        "{name}[{name}_base + params.{name}_scales + 2u * (row * {blocks}u + {b}u) + 1u]"
                    ),
                ),
            };
            let _ = writeln!(t, "            let {name}_packed{b} = {scale};");
            *t += &block_scale(
                c,
                &format!("{name}_{b}"),
                &format!("{name}_packed{b}"),
                &zero,
                &by,
            );
        }
    }
    for i in 0..quads {
        let code = match c.bits {
            2 | 3 => four_codes(&word(i / 4), c.bits, &format!("{}u", 8 * (i % 4))),
            4 => four_codes(&word(i / 2), 4, &format!("{}u", 16 * (i % 2))),
            _ => four_codes(&word(i), 8, "0u"),
        };
        let code = match c.bits {
            3 => {
                let high = word(d / 16 + i / 8);
                let j = 4 * (i % 8);
                format!(
                    "({code} | (((vec4<u32>({high}) >> vec4<u32>({j}u, {}u, {}u, {}u)) & vec4<u32>(1u)) << vec4<u32>(2u)))",
                    j + 1,
                    j + 2,
                    j + 3
                )
            }
            _ => code,
        };
        if c.axis == Axis::Channel {
            let _ = writeln!(
                t,
                "            let {name}p{i} = {name}_wide[{name}_scales + {i}u];
            let {name}a{i} = unpack2x16float({name}p{i}.x); let {name}b{i} = unpack2x16float({name}p{i}.y); let {name}c{i} = unpack2x16float({name}p{i}.z); let {name}d{i} = unpack2x16float({name}p{i}.w);
            var {name}{i} = vec4<f32>({code}) * vec4<f32>({name}a{i}.x, {name}b{i}.x, {name}c{i}.x, {name}d{i}.x) + vec4<f32>({name}a{i}.y, {name}b{i}.y, {name}c{i}.y, {name}d{i}.y);"
            );
        } else {
            let b = i * 4 / c.block as u32;
            let _ = writeln!(
                t,
                "            var {name}{i} = vec4<f32>({code}) * {name}_{b}s + {name}_{b}z;"
            );
        }
    }
    // Adds eight channels of a centroid, two halves a word.
    let add = |t: &mut String, i: u32, words: &str| {
        let _ = writeln!(t, "                let c{i} = {words};");
        for (n, a, b) in [(i, "x", "y"), (i + 1, "z", "w")] {
            let _ = writeln!(
                t,
                "                {name}{n} += bitcast<vec4<f32>>(vec4<u32>(c{i}.{a} << 16u, c{i}.{a} & 0xffff0000u, c{i}.{b} << 16u, c{i}.{b} & 0xffff0000u));"
            );
        }
    };
    let id_of = |all: &str| {
        format!(
            "({name}[{name}_base + params.{name}_ids + {all} / 4u] >> (8u * ({all} & 3u))) & 255u"
        )
    };
    if held > 0 {
        let _ = writeln!(
            t,
            "            {{
                let id = {};
                let in_lane = id % {lanes}u;",
            id_of("row")
        );
        for i in (0..quads).step_by(2) {
            let of = |n: u32| format!("subgroupShuffle({name}_cent{n}_{i}, in_lane)");
            let chosen = (1..held).fold(of(0), |before, n| {
                format!("select({before}, {}, id >= {}u)", of(n), n * lanes)
            });
            add(t, i, &chosen);
        }
        t.push_str("            }\n");
    } else if c.stages > 0 {
        // The stage count is a parameter so that the driver does not unroll the loads.
        let _ = writeln!(
            t,
            "            for (var stage = 0u; stage < params.{name}_stages; stage++) {{
                let all = stage * params.n_heads * params.rows + row;
                let id = {};
                let to = ({name}_base + params.{name}_cents) / 4u + ((stage * params.n_heads + head) * params.{name}_n_cents + id) * {}u;",
            id_of("all"),
            d / 8
        );
        for i in (0..quads).step_by(2) {
            add(t, i, &format!("{name}_wide[to + {}u]", i / 2));
        }
        t.push_str("            }\n");
    }
    if c.hadamard && name == "k" {
        rotate_back(t, name, quads);
    }
}

/// Multiplies `{name}0..` by the Hadamard matrix of their number.
fn rotate_back(t: &mut String, name: &str, quads: u32) {
    for i in 0..quads {
        let q = format!("{name}{i}");
        let _ = writeln!(
            t,
            "            {q} = vec4<f32>({q}.x + {q}.y, {q}.x - {q}.y, {q}.z + {q}.w, {q}.z - {q}.w);
            {q} = {:?} * vec4<f32>({q}.x + {q}.z, {q}.y + {q}.w, {q}.x - {q}.z, {q}.y - {q}.w);",
            1.0 / f64::from(quads * 4).sqrt()
        );
    }
    let mut half = 1;
    while half < quads {
        for q in 0..quads / 2 {
            let a = q / half * 2 * half + q % half;
            let b = a + half;
            let _ = writeln!(
                t,
                "            {{ let h = {name}{a}; {name}{a} = h + {name}{b}; {name}{b} = h - {name}{b}; }}"
            );
        }
        half *= 2;
    }
}

/// Energies of a query's blocks, `e{j}_{gain}`: what both mass corrections weigh their noise with.
fn energies(t: &mut String, c: &Coding, quads: u32, j: u32) -> u32 {
    let gains = c.gains(quads as usize * 4) as u32;
    for g in 0..gains {
        let per_gain = quads / gains;
        let dots: Vec<String> = (g * per_gain..(g + 1) * per_gain)
            .map(|i| format!("dot(q{j}_{i}, q{j}_{i})"))
            .collect();
        let _ = writeln!(t, "    let e{j}_{g} = {};", dots.join(" + "));
    }
    gains
}

/// At the head of a frame of a coded span: where its planes begin, the guards, and the energy form's number a query.
fn frame_of_span(t: &mut String, k: &Coding, v: &Coding, bias: BiasFix, quads: u32, queries: u32) {
    t.push_str(
        "        let slot = u32(positions[frame_at].x);
        let in_span = u32(positions[frame_at].y);
        let row0 = head * params.rows + in_span;
        let k_base = slot * params.k_words;
        let v_base = slot * params.v_words;\n",
    );
    for (name, c) in [("k", k), ("v", v)] {
        let table = 1 + c.gains(quads as usize * 4);
        let by = match c.head_table {
            true => {
                format!("bitcast<f32>({name}[{name}_base + params.{name}_heads + head * {table}u])")
            }
            false => "1.0".to_owned(),
        };
        let _ = writeln!(t, "        let {name}_by = {by};");
    }
    if bias == BiasFix::Energy {
        let gains = k.gains(quads as usize * 4);
        for j in 0..queries {
            let sum: Vec<String> = (0..gains)
                .map(|g| {
                    format!(
                        "e{j}_{g} * bitcast<f32>(k[k_base + params.k_heads + head * {}u + {}u])",
                        1 + gains,
                        1 + g
                    )
                })
                .collect();
            let _ = writeln!(t, "        let bias{j} = -0.5 * ({});", sum.join(" + "));
        }
    }
}

/// Names of the words of the centroids that a lane holds: eight channels of one of them each.
fn held_words(quads: u32, name: &str, held: u32) -> impl Iterator<Item = (u32, u32, String)> {
    let pairs = (0..held * quads / 2).map(move |k| (k / (quads / 2), k % (quads / 2) * 2));
    pairs.map(move |(n, i)| (n, i, format!("{name}_cent{n}_{i}")))
}

/// At the head of a frame: each lane takes its centroids of the head, as they are stored, for all rows until the next span.
/// What would be loaded for every row is an index into the subgroup then.
fn hold_centroids(t: &mut String, quads: u32, held: &[u32; 2], lanes: u32) {
    t.push_str("        if slot != held_slot {\n            held_slot = slot;\n");
    for (name, held) in ["k", "v"].into_iter().zip(held) {
        for n in 0..*held {
            let _ = writeln!(
                t,
                "            let {name}_own{n} = ({name}_base + params.{name}_cents) / 4u + (head * params.{name}_n_cents + min(lane + {}u, params.{name}_n_cents - 1u)) * {}u;",
                n * lanes,
                quads / 2
            );
        }
        for (n, i, word) in held_words(quads, name, *held) {
            let _ = writeln!(
                t,
                "            {word} = {name}_wide[{name}_own{n} + {}u];",
                i / 2
            );
        }
    }
    t.push_str("        }\n");
}

const MAIN: &str = "fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    if g >= params.n_groups { return; }
    let head = g % params.n_heads;
    let tile = g / params.n_heads;
";

/// A lane's queries: how many, how far apart, and how their values get into named scalars and back.
struct Queries {
    per_lane: u32,
    stride: u32,
    quads: u32,
    /// Through an array filled by one loop, instead of one load expression a value. The loop's length is a parameter so
    /// that the driver cannot unroll it into just those loads.
    staged: bool,
    /// Sums of rotated values are rotated sums: they are turned into that space and back, instead of every value.
    rotated: bool,
}

impl Queries {
    fn at(&self, j: &str) -> String {
        format!("min(query + {j} * {}u, params.n_queries - 1u)", self.stride)
    }

    fn names(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        let quads = self.quads;
        (0..self.per_lane * quads).map(move |k| (k / quads, k % quads))
    }

    /// Fills the array, where there is one, with `expr(j, i)`, a WGSL expression of the query's and the quad's index.
    fn load(&self, t: &mut String, expr: &dyn Fn(&str, &str) -> String) {
        let quads = self.quads;
        if self.staged {
            let value = expr(&format!("(i / {quads}u)"), &format!("(i % {quads}u)"));
            let _ = writeln!(
                t,
                "    for (var i = 0u; i < params.lane_quads; i++) {{ staged[i] = {value}; }}"
            );
        }
    }

    /// Declares `q{j}_{i}`, `acc{j}_{i}` with what `load` left in the array, or with `expr(j, i)` itself.
    fn name(&self, t: &mut String, keyword: &str, expr: &dyn Fn(&str, &str) -> String) {
        for (j, i) in self.names() {
            let value = if self.staged {
                format!("staged[{}]", j * self.quads + i)
            } else {
                expr(&format!("{j}u"), &format!("{i}u"))
            };
            let _ = writeln!(t, "    {keyword}{j}_{i} = {value};");
        }
    }

    /// Turns all sums: where they are staged in a loop, since written out for every query this is half of the kernel's text,
    /// and compilers take their time over it.
    fn turn_sums(&self, t: &mut String) {
        let quads = self.quads;
        if !self.staged {
            (0..self.per_lane).for_each(|j| rotate_back(t, &format!("acc{j}_"), quads));
            return;
        }
        let _ = writeln!(
            t,
            "        for (var first = 0u; first < params.lane_quads; first += {quads}u) {{"
        );
        for i in 0..quads {
            let _ = writeln!(t, "            var r{i} = staged[first + {i}u];");
        }
        rotate_back(t, "r", quads);
        for i in 0..quads {
            let _ = writeln!(t, "            staged[first + {i}u] = r{i};");
        }
        t.push_str("        }\n");
    }

    /// Loads the lane's queries and their state: `q{j}_{i}`, `acc{j}_{i}`, `m{j}`, `l{j}`.
    fn begin(&self, t: &mut String, query: &str) {
        let quads = self.quads;
        if self.staged {
            let _ = writeln!(
                t,
                "    var staged: array<vec4<f32>, {}>;",
                self.per_lane * quads
            );
        }
        let _ = writeln!(t, "    let query = {query};");
        let query = |j: &str, i: &str| {
            format!(
                "q[{} * params.q_stride + head * {quads}u + {i}] * params.scale",
                self.at(j)
            )
        };
        let sum = |j: &str, i: &str| {
            format!(
                "sum_so_far(({} * params.n_heads + head) * {quads}u + {i})",
                self.at(j)
            )
        };
        self.load(t, &query);
        self.name(t, "let q", &query);
        self.load(t, &sum);
        if self.rotated && self.staged {
            // The first page begins with zeros.
            t.push_str("    if params.first == 0u {\n");
            self.turn_sums(t);
            t.push_str("    }\n");
        }
        self.name(t, "var acc", &sum);
        if self.rotated && !self.staged {
            self.turn_sums(t);
        }
        for j in 0..self.per_lane {
            let at = self.at(&format!("{j}u"));
            // -1e30 stands for minus infinity, which WGSL may assume away.
            let _ = writeln!(
                t,
                "    let at{j} = {at} * params.n_heads + head; var m{j} = -1e30; var l{j} = 0.0;"
            );
            let _ = writeln!(
                t,
                "    if params.first == 0u {{ let s = state[at{j}]; m{j} = s.x; l{j} = s.y; }}"
            );
        }
    }

    /// Writes outputs and states.
    fn end(&self, t: &mut String) {
        let quads = self.quads;
        if self.rotated && !self.staged {
            self.turn_sums(t);
        }
        for j in 0..self.per_lane {
            let _ = writeln!(
                t,
                "    let inside{j} = query + {}u < params.n_queries;",
                j * self.stride
            );
            let _ = writeln!(
                t,
                "    let norm{j} = select(1.0, 1.0 / l{j}, params.last == 1u);"
            );
            let _ = writeln!(
                t,
                "    if inside{j} {{ state[at{j}] = vec2<f32>(m{j}, l{j}); }}"
            );
        }
        for (j, i) in self.names() {
            if self.staged {
                let _ = writeln!(t, "    staged[{}] = acc{j}_{i} * norm{j};", j * quads + i);
            } else {
                let _ = writeln!(
                    t,
                    "    if inside{j} {{ out[at{j} * {quads}u + {i}u] = acc{j}_{i} * norm{j}; }}"
                );
            }
        }
        if self.staged {
            if self.rotated {
                self.turn_sums(t);
            }
            let _ = writeln!(
                t,
                "    for (var i = 0u; i < params.lane_quads; i++) {{
        let at = query + (i / {quads}u) * {}u;
        if at < params.n_queries {{ out[(at * params.n_heads + head) * {quads}u + i % {quads}u] = staged[i]; }}
    }}",
                self.stride
            );
        }
    }
}

/// Folds scores `s{j}_0..n` into `m{j}`, `l{j}`, and turns them into weights.
fn softmax(t: &mut String, quads: u32, j: u32, n: u32) {
    let most = (0..n).fold(format!("m{j}"), |a, l| format!("max({a}, s{j}_{l})"));
    let _ = writeln!(
        t,
        "            let most{j} = {most};\n            let shrink{j} = exp(m{j} - most{j}); m{j} = most{j};"
    );
    for l in 0..n {
        let _ = writeln!(t, "            s{j}_{l} = exp(s{j}_{l} - most{j});");
    }
    let sum = (0..n)
        .map(|l| format!("s{j}_{l}"))
        .collect::<Vec<_>>()
        .join(" + ");
    let _ = writeln!(t, "            l{j} = l{j} * shrink{j} + ({sum});");
    for i in 0..quads {
        let _ = writeln!(t, "            acc{j}_{i} *= shrink{j};");
    }
}

/// Loads the quads of one key or value of the lane into `{name}0..`.
fn load(t: &mut String, s: &Shape, name: &str, keyword: &str, lanes: u32) {
    let format = match s.rows {
        Rows::Plain { format, .. } => format,
        Rows::Coded { k, v, held, .. } => {
            let (c, held) = match name {
                "k" => (&k, held[0]),
                _ => (&v, held[1]),
            };
            return load_coded(t, c, s.quads, name, held, lanes);
        }
    };
    for i in 0..s.quads {
        if !wide(format, s.quads) {
            let _ = writeln!(
                t,
                "            {keyword} {name}{i} = quad({name}[at + {i}u]);"
            );
        } else if i % 2 == 0 {
            let _ = writeln!(
                t,
                "            let {name}w{i} = {name}[at / 2u + {}u];\n            {keyword} {name}{i} = quad({name}w{i}.xy);",
                i / 2
            );
        } else {
            let _ = writeln!(
                t,
                "            {keyword} {name}{i} = quad({name}w{}.zw);",
                i - 1
            );
        }
    }
}

/// Turns the lane's key `k0..` in place.
fn turn(t: &mut String, s: &Shape) {
    t.push_str("            if params.rope == 1u {\n                let r_at = params.rows_at + (token / params.cols) * params.row_quads;\n");
    t.push_str("                let c_at = params.cols_at + (token % params.cols) * params.col_quads;\n                let f_at = frame_at + 1u;\n");
    let mut known = Vec::new();
    let mut pair = |t: &mut String, p: u32| {
        let (axis, place) = s.axis(p);
        if !known.contains(&(axis, place / 2)) {
            known.push((axis, place / 2));
            let _ = writeln!(
                t,
                "                let {axis}{} = positions[{axis}_at + {}u];",
                place / 2,
                place / 2
            );
        }
        format!(
            "{axis}{}.{}",
            place / 2,
            if place % 2 == 0 { "xy" } else { "zw" }
        )
    };
    for i in 0..s.quads {
        let (a, b) = (pair(t, 2 * i), pair(t, 2 * i + 1));
        let _ = writeln!(t, "                k{i} = turned(k{i}, {a}, {b});");
    }
    t.push_str("            }\n");
}

const FRAMES: &str = "    for (var f = 0u; f < params.n_frames; f++) {
        let frame_at = params.frames_at + f * params.frame_quads;
";
const FIRST_TOKEN: &str =
    "        let first_token = u32(positions[frame_at].x) * params.tokens_per_frame;\n";

/// Queries of a lane whose sums are kept at once: what sixteen vector registers hold of quads.
const AT_ONCE: u32 = 3;

/// A lane's queries in runs of that many.
fn at_once(per_lane: u32) -> impl Iterator<Item = std::ops::Range<u32>> {
    (0..per_lane)
        .step_by(AT_ONCE as usize)
        .map(move |j| j..(j + AT_ONCE).min(per_lane))
}

/// Keys whose values are added in one pass of their loop.
const KEYS_A_PASS: u32 = 2;

pub(super) fn write_subgroup(knobs: &[Knob]) -> String {
    let s = Shape::new(knobs);
    let (lanes, per_lane) = (knob(knobs, "LANES"), knob(knobs, "QUERIES"));
    let mut t = s.head(true);
    let _ = writeln!(t, "@compute @workgroup_size({lanes})");
    t += MAIN;
    let queries = Queries {
        per_lane,
        stride: lanes,
        quads: s.quads,
        staged: knob(knobs, "STAGED") == 1,
        rotated: matches!(&s.rows, Rows::Coded { v, .. } if v.hadamard),
    };
    queries.begin(&mut t, &format!("tile * {}u + lane", lanes * per_lane));
    let fix = match s.rows {
        Rows::Plain { .. } => BiasFix::Off,
        Rows::Coded { bias, .. } => bias,
    };
    let mut blocks = 0;
    if let Rows::Coded { k, .. } = &s.rows
        && fix != BiasFix::Off
    {
        for j in 0..per_lane {
            blocks = energies(&mut t, k, s.quads, j);
        }
    }
    if let Rows::Coded { held, .. } = &s.rows
        && *held != [0; 2]
    {
        t += "    var held_slot = 0xffffffffu;\n";
        for (name, held) in ["k", "v"].into_iter().zip(held) {
            for (.., word) in held_words(s.quads, name, *held) {
                let _ = writeln!(t, "    var {word}: vec4<u32>;");
            }
        }
    }
    t += FRAMES;
    match &s.rows {
        Rows::Plain { .. } => t += FIRST_TOKEN,
        Rows::Coded { k, v, bias, held } => {
            frame_of_span(&mut t, k, v, *bias, s.quads, per_lane);
            if *held != [0; 2] {
                hold_centroids(&mut t, s.quads, held, lanes);
            }
        }
    }
    let _ = writeln!(
        t,
        "        for (var t0 = 0u; t0 < params.tokens_per_frame; t0 += {lanes}u) {{"
    );
    t += "            let token = min(t0 + lane, params.tokens_per_frame - 1u);\n";
    match s.rows {
        Rows::Plain { .. } => {
            let _ = writeln!(
                t,
                "            let at = ((first_token + token) * params.n_heads + head) * {}u;",
                s.quads
            );
        }
        Rows::Coded { .. } => t += "            let row = row0 + token;\n",
    }
    load(&mut t, &s, "k", "var", lanes);
    if fix == BiasFix::Step {
        for b in 0..blocks {
            let _ = writeln!(
                t,
                "            let step{b} = k_{b}s * k_{b}s * {:?};",
                1.0 / 24.0
            );
        }
    }
    turn(&mut t, &s);
    scores(&mut t, &s, lanes, per_lane, fix, blocks);
    for j in 0..per_lane {
        softmax(&mut t, s.quads, j, lanes);
    }
    load(&mut t, &s, "v", "let", lanes);
    sums(&mut t, &s, lanes, per_lane);
    t += "        }\n    }\n";
    queries.end(&mut t);
    t += "}\n";
    t
}

/// Scores of the lanes' keys `k0..`, each handed round in its turn: `s{j}_{key}`.
///
/// A loop, and its length a parameter so that no driver unrolls it: written out, a step is more code than a processor's
/// instruction cache holds, which costs more than the loop. Scores move down one place a pass instead of being indexed.
fn scores(t: &mut String, s: &Shape, lanes: u32, per_lane: u32, fix: BiasFix, blocks: u32) {
    for j in 0..per_lane {
        for l in 0..lanes {
            let _ = writeln!(t, "            var s{j}_{l} = 0.0;");
        }
    }
    t.push_str("            for (var l = 0u; l < params.lanes; l++) {\n");
    let merged = matches!(s.rows, Rows::Plain { merged: true, .. });
    let start = if merged {
        t.push_str("                let last = vec4<f32>(select(0.0, params.last_bias, t0 + l + 1u == params.tokens_per_frame), 0.0, 0.0, 0.0);\n");
        "last"
    } else {
        "vec4<f32>(0.0)"
    };
    for at in at_once(per_lane) {
        for j in at.clone() {
            let _ = writeln!(t, "                var p{j} = {start};");
        }
        for i in 0..s.quads {
            let b = format!("b{i}_{}", at.start);
            let _ = writeln!(t, "                let {b} = subgroupShuffle(k{i}, l);");
            for j in at.clone() {
                let _ = writeln!(t, "                p{j} += q{j}_{i} * {b};");
            }
        }
    }
    if fix == BiasFix::Step {
        for b in 0..blocks {
            let _ = writeln!(
                t,
                "                let key_step{b} = subgroupShuffle(step{b}, l);"
            );
        }
    }
    for j in 0..per_lane {
        let mass = match fix {
            BiasFix::Off => String::new(),
            BiasFix::Energy => format!(" + bias{j}"),
            BiasFix::Step => (0..blocks)
                .map(|b| format!(" - e{j}_{b} * key_step{b}"))
                .collect(),
        };
        move_down(t, j, lanes, 1);
        let _ = writeln!(
            t,
            "                s{j}_{} = select(-1e30, (p{j}.x + p{j}.y) + (p{j}.z + p{j}.w){mass}, t0 + l < params.tokens_per_frame);",
            lanes - 1
        );
    }
    t.push_str("            }\n");
}

/// Adds the lanes' values `v0..` to `acc{j}_{i}` with the weights `s{j}_{key}`, in a loop as [`scores`] does.
fn sums(t: &mut String, s: &Shape, lanes: u32, per_lane: u32) {
    let _ = writeln!(
        t,
        "            for (var l = 0u; l < params.lanes; l += {KEYS_A_PASS}u) {{"
    );
    for i in 0..s.quads {
        for n in 0..KEYS_A_PASS {
            let _ = writeln!(
                t,
                "                let d{n}_{i} = subgroupShuffle(v{i}, l + {n}u);"
            );
            for j in 0..per_lane {
                let _ = writeln!(t, "                acc{j}_{i} += s{j}_{n} * d{n}_{i};");
            }
        }
    }
    for j in 0..per_lane {
        move_down(t, j, lanes, KEYS_A_PASS);
    }
    t.push_str("            }\n");
}

/// Moves the scores of query `j` down by `n` places.
fn move_down(t: &mut String, j: u32, lanes: u32, n: u32) {
    for l in n..lanes {
        let _ = writeln!(t, "                s{j}_{} = s{j}_{l};", l - n);
    }
}

/// Rotates rows staged in workgroup memory back: within quads, then across them.
fn rotate_staged(t: &mut String, name: &str, staged: u32, quads: u32) {
    let n = staged * quads;
    let _ = writeln!(
        t,
        "            for (var e = lane; e < {n}u; e += 64u) {{
                let h = {name}[e] * {:?};
                let p = vec4<f32>(h.x + h.y, h.x - h.y, h.z + h.w, h.z - h.w);
                {name}[e] = vec4<f32>(p.x + p.z, p.y + p.w, p.x - p.z, p.y - p.w);
            }}
            for (var half = 1u; half < {quads}u; half *= 2u) {{
                workgroupBarrier();
                for (var e = lane; e < {}u; e += 64u) {{
                    let a = e / half * 2u * half + e % half;
                    let x = {name}[a];
                    let y = {name}[a + half];
                    {name}[a] = x + y;
                    {name}[a + half] = x - y;
                }}
            }}",
        1.0 / f64::from(quads * 4).sqrt(),
        n / 2
    );
}

pub(super) fn write_portable(knobs: &[Knob]) -> String {
    let s = Shape::new(knobs);
    let quads = s.quads;
    let (frame, row, staged) = (s.frame, s.row, staged(quads));
    let mut t = s.head(false);
    let (mut fix, mut rotated, mut gains) = (BiasFix::Off, [false; 2], 0);
    if let Rows::Coded { k, v, bias, .. } = &s.rows {
        t += &coded_quad_fn("k", k, quads);
        t += &coded_quad_fn("v", v, quads);
        (fix, rotated) = (*bias, [k.hadamard, v.hadamard]);
        gains = k.gains(quads as usize * 4) as u32;
    }
    if let Rows::Coded { k, .. } = &s.rows
        && fix == BiasFix::Step
    {
        t += &step_fn(k, quads);
        let _ = writeln!(
            t,
            "var<workgroup> steps: array<f32, {}>; // [key, block]",
            staged * gains
        );
    }
    let _ = write!(t, "var<workgroup> ks: array<vec4<f32>, {n}>; // [key, quad]
var<workgroup> vs: array<vec4<f32>, {n}>;
var<workgroup> scores: array<f32, {}>; // [key, lane]: every lane its own

fn pair_at(at: u32, pair: u32) -> vec2<f32> {{
    let both = positions[at + pair / 2u];
    return select(both.xy, both.zw, (pair & 1u) == 1u);
}}

fn angle(pair: u32, frame_at: u32, token: u32) -> vec2<f32> {{
    if pair < {frame}u {{ return pair_at(frame_at + 1u, pair); }}
    if pair < {}u {{ return pair_at(params.rows_at + (token / params.cols) * params.row_quads, pair - {frame}u); }}
    return pair_at(params.cols_at + (token % params.cols) * params.col_quads, pair - {}u);
}}

@compute @workgroup_size(64)
", staged * 64, frame + row, frame + row, n = staged * quads);
    t += MAIN;
    let queries = Queries {
        per_lane: 1,
        stride: 64,
        quads,
        staged: knob(knobs, "STAGED") == 1,
        rotated: false,
    };
    queries.begin(&mut t, "tile * 64u + lane");
    if let Rows::Coded { k, .. } = &s.rows
        && fix != BiasFix::Off
    {
        energies(&mut t, k, quads, 0);
    }
    t += FRAMES;
    match &s.rows {
        Rows::Plain { .. } => t += FIRST_TOKEN,
        Rows::Coded { k, v, bias, .. } => frame_of_span(&mut t, k, v, *bias, quads, 1),
    }
    let _ = writeln!(
        t,
        "        for (var t0 = 0u; t0 < params.tokens_per_frame; t0 += {staged}u) {{"
    );
    let _ = writeln!(
        t,
        "            for (var e = lane; e < {}u; e += 64u) {{",
        staged * quads
    );
    let _ = writeln!(
        t,
        "                let i = e % {quads}u;\n                let token = min(t0 + e / {quads}u, params.tokens_per_frame - 1u);"
    );
    match &s.rows {
        Rows::Plain { format, .. } => {
            let _ = writeln!(
                t,
                "                let at = ((first_token + token) * params.n_heads + head) * {quads}u + i;"
            );
            if wide(*format, quads) {
                t += "                let kw = k[at / 2u]; let vw = v[at / 2u]; let odd = (at & 1u) == 1u;\n";
                t += "                ks[e] = quad(select(kw.xy, kw.zw, odd)); vs[e] = quad(select(vw.xy, vw.zw, odd));\n";
            } else {
                t += "                ks[e] = quad(k[at]); vs[e] = quad(v[at]);\n";
            }
        }
        Rows::Coded { .. } => {
            t += "                ks[e] = k_quad(k_base, head, in_span + token, i, k_by);\n";
            t += "                vs[e] = v_quad(v_base, head, in_span + token, i, v_by);\n";
            if fix == BiasFix::Step {
                let _ = writeln!(
                    t,
                    "                if i % {0}u == 0u {{ let step = k_step(k_base, row0 + token, i / {0}u, k_by); steps[(e / {quads}u) * {gains}u + i / {0}u] = step * step * {1:?}; }}",
                    quads / gains,
                    1.0 / 24.0
                );
            }
        }
    }
    t += "            }\n";
    for (name, on) in ["ks", "vs"].into_iter().zip(rotated) {
        if on {
            rotate_staged(&mut t, name, staged, quads);
        }
    }
    let _ = writeln!(
        t,
        "            if params.rope == 1u {{
                {}for (var e = lane; e < {}u; e += 64u) {{
                    let i = e % {quads}u;
                    let token = min(t0 + e / {quads}u, params.tokens_per_frame - 1u);
                    ks[e] = turned(ks[e], angle(2u * i, frame_at, token), angle(2u * i + 1u, frame_at, token));
                }}
            }}
            workgroupBarrier();",
        if rotated[0] { "workgroupBarrier();\n                " } else { "" },
        staged * quads
    );

    let dots = (0..quads)
        .map(|i| format!("dot(q0_{i}, ks[at + {i}u])"))
        .collect::<Vec<_>>()
        .join(" + ");
    let mass = match fix {
        BiasFix::Off => String::new(),
        BiasFix::Energy => " + bias0".to_owned(),
        BiasFix::Step => (0..gains)
            .map(|b| format!(" - e0_{b} * steps[key * {gains}u + {b}u]"))
            .collect(),
    };
    let last = match s.rows {
        Rows::Plain { merged: true, .. } => {
            "if t0 + n_keys == params.tokens_per_frame {
                let last = (n_keys - 1u) * 64u + lane;
                scores[last] += params.last_bias;
                most = max(most, scores[last]);
            }"
        }
        _ => "",
    };
    let _ = writeln!(
        t,
        "            let n_keys = min({staged}u, params.tokens_per_frame - t0);
            var most = m0;
            for (var key = 0u; key < n_keys; key++) {{
                let at = key * {quads}u;
                let score = {dots}{mass};
                scores[key * 64u + lane] = score;
                most = max(most, score);
            }}
            {last}
            let shrink = exp(m0 - most); m0 = most; l0 *= shrink;"
    );
    for i in 0..quads {
        let _ = writeln!(t, "            acc0_{i} *= shrink;");
    }
    let _ = writeln!(
        t,
        "            for (var key = 0u; key < n_keys; key++) {{
                let at = key * {quads}u;
                let w = exp(scores[key * 64u + lane] - most); l0 += w;"
    );
    for i in 0..quads {
        let _ = writeln!(t, "                acc0_{i} += w * vs[at + {i}u];");
    }
    t += "            }\n";
    t += "            workgroupBarrier();\n        }\n    }\n";
    queries.end(&mut t);
    t += "}\n";
    t
}

//! Writes the WGSL of `attention` for a head's channel split and a page format.
//!
//! Two variants. Portable: 64 queries a workgroup, one a lane, a few keys at a time staged in workgroup memory.
//! Subgroup: one subgroup a workgroup, each lane loads and turns another key and hands it round with broadcasts, which on
//! a CPU driver is several times cheaper than loading every key in every lane.

use std::fmt::Write as _;

use super::KvFormat;
use crate::gpu::{Knob, knob};

/// Keys staged at a time in the portable kernel: what 16 KiB hold of keys, values and scores.
fn staged(quads: u32) -> u32 {
    if quads <= 48 { 8 } else { 4 }
}

struct Shape {
    format: KvFormat,
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
        Shape {
            format: KvFormat::from_code(knob(knobs, "FORMAT")),
            frame,
            row,
            quads: (frame + row + col) / 2,
        }
    }

    /// Whether two quads of halves are loaded at once.
    fn wide(&self) -> bool {
        self.format != KvFormat::F32 && self.quads.is_multiple_of(2)
    }

    fn word(&self) -> &'static str {
        match (self.format, self.wide()) {
            (KvFormat::F32, _) => "vec4<f32>",
            (_, true) => "vec4<u32>",
            (_, false) => "vec2<u32>",
        }
    }

    /// `quad(words)`: four floats of a stored quad.
    fn quad_fn(&self) -> &'static str {
        match self.format {
            KvFormat::F32 => "fn quad(q: vec4<f32>) -> vec4<f32> { return q; }\n",
            KvFormat::F16 => {
                "fn quad(q: vec2<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(q.x), unpack2x16float(q.y)); }\n"
            }
            KvFormat::Bf16 => {
                "fn quad(q: vec2<u32>) -> vec4<f32> { return bitcast<vec4<f32>>(vec4<u32>(q.x << 16u, q.x & 0xffff0000u, q.y << 16u, q.y & 0xffff0000u)); }\n"
            }
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

    fn head(&self) -> String {
        let text = r#"//#include "lib/grid.wgsl"
struct Params {
    first_group: u32, n_groups: u32, n_queries: u32, n_heads: u32, q_stride: u32, // stride in quads
    n_frames: u32, tokens_per_frame: u32, cols: u32,
    rows_at: u32, cols_at: u32, frames_at: u32, row_quads: u32, col_quads: u32, frame_quads: u32,
    rope: u32, first: u32, last: u32, lane_quads: u32, scale: f32, // lane_quads: quads of a lane's queries
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> positions: array<vec4<f32>, 4096>;  // see src/ops/positions.rs
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;          // [query, q_stride]
@group(0) @binding(3) var<storage, read> k: array<WORD>;               // [slot, token, head, head_dim]
@group(0) @binding(4) var<storage, read> v: array<WORD>;               // [slot, token, head, head_dim]
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
        text.replace("WORD", self.word()) + self.quad_fn()
    }
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
}

impl Queries {
    fn at(&self, j: &str) -> String {
        format!("min(query + {j} * {}u, params.n_queries - 1u)", self.stride)
    }

    fn names(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        let quads = self.quads;
        (0..self.per_lane * quads).map(move |k| (k / quads, k % quads))
    }

    /// Declares `q{j}_{i}`, `acc{j}_{i}` with `expr(j, i)`, a WGSL expression of the query's and the quad's index.
    fn load(&self, t: &mut String, keyword: &str, expr: &dyn Fn(&str, &str) -> String) {
        let quads = self.quads;
        if self.staged {
            let value = expr(&format!("(i / {quads}u)"), &format!("(i % {quads}u)"));
            let _ = writeln!(
                t,
                "    for (var i = 0u; i < params.lane_quads; i++) {{ staged[i] = {value}; }}"
            );
        }
        for (j, i) in self.names() {
            let value = if self.staged {
                format!("staged[{}]", j * quads + i)
            } else {
                expr(&format!("{j}u"), &format!("{i}u"))
            };
            let _ = writeln!(t, "    {keyword}{j}_{i} = {value};");
        }
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
        self.load(t, "let q", &|j, i| {
            format!(
                "q[{} * params.q_stride + head * {quads}u + {i}] * params.scale",
                self.at(j)
            )
        });
        self.load(t, "var acc", &|j, i| {
            format!(
                "sum_so_far(({} * params.n_heads + head) * {quads}u + {i})",
                self.at(j)
            )
        });
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

/// Folds scores `s{j}_0..n` into `m{j}`, `l{j}`, and turns them into weights `w{j}_0..n`.
fn softmax(t: &mut String, quads: u32, j: u32, n: u32) {
    let most = (0..n).fold(format!("m{j}"), |a, l| format!("max({a}, s{j}_{l})"));
    let _ = writeln!(
        t,
        "            let most{j} = {most};\n            let shrink{j} = exp(m{j} - most{j}); m{j} = most{j};"
    );
    for l in 0..n {
        let _ = writeln!(t, "            let w{j}_{l} = exp(s{j}_{l} - most{j});");
    }
    let sum = (0..n)
        .map(|l| format!("w{j}_{l}"))
        .collect::<Vec<_>>()
        .join(" + ");
    let _ = writeln!(t, "            l{j} = l{j} * shrink{j} + ({sum});");
    for i in 0..quads {
        let _ = writeln!(t, "            acc{j}_{i} *= shrink{j};");
    }
}

/// Loads the quads of one key or value of the lane into `{name}0..`.
fn load(t: &mut String, s: &Shape, name: &str, keyword: &str) {
    for i in 0..s.quads {
        if !s.wide() {
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
        let first_token = u32(positions[frame_at].x) * params.tokens_per_frame;
";

pub(super) fn write_subgroup(knobs: &[Knob]) -> String {
    let s = Shape::new(knobs);
    let (lanes, per_lane) = (knob(knobs, "LANES"), knob(knobs, "QUERIES"));
    let mut t = s.head();
    let _ = writeln!(t, "@compute @workgroup_size({lanes})");
    t += MAIN;
    let queries = Queries {
        per_lane,
        stride: lanes,
        quads: s.quads,
        staged: knob(knobs, "STAGED") == 1,
    };
    queries.begin(&mut t, &format!("tile * {}u + lane", lanes * per_lane));
    t += FRAMES;
    let _ = writeln!(
        t,
        "        for (var t0 = 0u; t0 < params.tokens_per_frame; t0 += {lanes}u) {{"
    );
    t += "            let token = min(t0 + lane, params.tokens_per_frame - 1u);\n";
    let _ = writeln!(
        t,
        "            let at = ((first_token + token) * params.n_heads + head) * {}u;",
        s.quads
    );
    load(&mut t, &s, "k", "var");
    turn(&mut t, &s);
    for l in 0..lanes {
        for j in 0..per_lane {
            let _ = writeln!(t, "            var s{j}_{l} = 0.0;");
        }
        for i in 0..s.quads {
            let _ = writeln!(
                t,
                "            let b{l}_{i} = subgroupBroadcast(k{i}, {l}u);"
            );
            for j in 0..per_lane {
                let _ = writeln!(t, "            s{j}_{l} += dot(q{j}_{i}, b{l}_{i});");
            }
        }
        for j in 0..per_lane {
            let _ = writeln!(
                t,
                "            s{j}_{l} = select(-1e30, s{j}_{l}, t0 + {l}u < params.tokens_per_frame);"
            );
        }
    }
    for j in 0..per_lane {
        softmax(&mut t, s.quads, j, lanes);
    }
    load(&mut t, &s, "v", "let");
    // One quad of the output after the other: its sums stay in registers over all keys of the step.
    for i in 0..s.quads {
        for l in 0..lanes {
            let _ = writeln!(
                t,
                "            let d{l}_{i} = subgroupBroadcast(v{i}, {l}u);"
            );
            for j in 0..per_lane {
                let _ = writeln!(t, "            acc{j}_{i} += w{j}_{l} * d{l}_{i};");
            }
        }
    }
    t += "        }\n    }\n";
    queries.end(&mut t);
    t += "}\n";
    t
}

pub(super) fn write_portable(knobs: &[Knob]) -> String {
    let s = Shape::new(knobs);
    let quads = s.quads;
    let (frame, row, staged) = (s.frame, s.row, staged(quads));
    let mut t = s.head();
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
    };
    queries.begin(&mut t, "tile * 64u + lane");
    t += FRAMES;
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
    let _ = writeln!(
        t,
        "                let at = ((first_token + token) * params.n_heads + head) * {quads}u + i;"
    );
    if s.wide() {
        t += "                let kw = k[at / 2u]; let vw = v[at / 2u]; let odd = (at & 1u) == 1u;\n";
        t += "                var key = quad(select(kw.xy, kw.zw, odd)); vs[e] = quad(select(vw.xy, vw.zw, odd));\n";
    } else {
        t += "                var key = quad(k[at]); vs[e] = quad(v[at]);\n";
    }
    t += "                if params.rope == 1u { key = turned(key, angle(2u * i, frame_at, token), angle(2u * i + 1u, frame_at, token)); }
                ks[e] = key;
            }
            workgroupBarrier();
";
    let dots = (0..quads)
        .map(|i| format!("dot(q0_{i}, ks[at + {i}u])"))
        .collect::<Vec<_>>()
        .join(" + ");
    let _ = writeln!(
        t,
        "            let n_keys = min({staged}u, params.tokens_per_frame - t0);
            var most = m0;
            for (var key = 0u; key < n_keys; key++) {{
                let at = key * {quads}u;
                let score = {dots};
                scores[key * 64u + lane] = score;
                most = max(most, score);
            }}
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

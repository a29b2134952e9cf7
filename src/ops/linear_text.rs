//! Writes the WGSL of `linear`: tiles of named scalars, which overrides cannot express.
//!
//! Two variants. Portable: 64 lanes share tiles of x and W through workgroup memory, four rows by four columns a lane.
//! Subgroup: one subgroup a workgroup, no memory shared; each lane loads another row of x and hands it round with
//! broadcasts, because on a CPU driver loads cost far more than arithmetic, and holds `ROWS` rows by four columns.

use std::fmt::Write as _;

use crate::gpu::{Knob, knob};

const HEAD: &str = r#"//#include "lib/grid.wgsl"
struct Params {
    first_group: u32, n_groups: u32, n_rows: u32, n_quads: u32, k_quads: u32, row_tiles: u32,
    act: u32, store: u32, table_at: u32, cond_at: u32, cond_stride: u32, rows_per_frame: u32,
    x_row: u32, y_row: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;      // [row, k / 4]
@group(0) @binding(2) var<storage, read> w: array<WORD>;           // [n, k]
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;   // [n / 4]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // [row, n / 4]
@group(0) @binding(5) var<storage, read> table: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> cond: array<vec4<f32>>;

// u / (1 + exp(-z)). exp overflows f32 beyond 88, and where z is below -80 the result is 0 to all that follows.
fn gated(u: vec4<f32>, z: vec4<f32>) -> vec4<f32> {
    let least = vec4<f32>(-80.0);
    return select(u / (1.0 + exp(-max(z, least))), vec4<f32>(0.0), z < least);
}

fn act(u: vec4<f32>) -> vec4<f32> {
    if params.act == 1u {
        // 2 sqrt(2 / pi), for 0.5 (1 + tanh(a)) = 1 / (1 + exp(-2 a))
        return gated(u, 1.5957691216057308 * (u + 0.044715 * u * u * u));
    }
    if params.act == 2u {
        return gated(u, u);
    }
    return u;
}

fn put(row_of_band: u32, quad: u32, sum: vec4<f32>) {
    if quad >= params.n_quads { return; }
    var r = act(sum + bias[quad]);
    let row = params.y_row + row_of_band;
    let at = row * params.n_quads + quad;
    if params.store == 2u {
        r *= table[params.table_at + quad] + cond[(row / params.rows_per_frame) * params.cond_stride + params.cond_at + quad];
    }
    if params.store == 3u {
        r *= y[at];
    } else if params.store != 0u {
        r += y[at];
    }
    y[at] = r;
}
"#;

const MAIN: &str = "fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    if g >= params.n_groups { return; }
    let row_tile = g % params.row_tiles;
    let col_tile = g / params.row_tiles;
";

/// Type of the words that weights lie in, and the function that makes floats of a quad of them, quads being counted along the
/// rows and from row to row. Blocks of codes are 8 quads; their scales lie two a word behind all codes.
fn weights(format: u32) -> (&'static str, &'static str) {
    match format {
        0 => (
            "vec4<f32>",
            "fn weight(at: u32) -> vec4<f32> { return w[at]; }\n",
        ),
        1 => (
            "vec2<u32>",
            "fn weight(at: u32) -> vec4<f32> {
    let q = w[at];
    return vec4<f32>(unpack2x16float(q.x), unpack2x16float(q.y));
}
",
        ),
        2 => (
            "u32",
            "fn weight(at: u32) -> vec4<f32> {
    let c = w[at];
    let codes = bitcast<vec4<i32>>(vec4<u32>(c << 24u, c << 16u, c << 8u, c)) >> vec4<u32>(24u);
    let d = unpack2x16float(w[params.n_quads * params.k_quads * 4u + (at >> 4u)]);
    return vec4<f32>(codes) * select(d.x, d.y, (at & 8u) != 0u);
}
",
        ),
        _ => (
            "u32",
            "fn weight(at: u32) -> vec4<f32> {
    let c = w[at >> 1u] >> ((at & 1u) * 16u);
    let codes = vec4<u32>(c, c >> 4u, c >> 8u, c >> 12u) & vec4<u32>(15u);
    let d = unpack2x16float(w[params.n_quads * params.k_quads * 2u + (at >> 4u)]);
    return (vec4<f32>(codes) - 8.0) * select(d.x, d.y, (at & 8u) != 0u);
}
",
        ),
    }
}

fn head(format: u32) -> String {
    let (word, weight) = weights(format);
    HEAD.replace("WORD", word) + weight
}

/// Stores the sums `s0..n` of rows from `row` on. In a loop, because a CPU driver takes many seconds to compile a copy of
/// `put` for each row; its end depends on params, so that no compiler unrolls it.
fn puts(t: &mut String, n: u32, row: &str, quad: &str) {
    let sums = (0..n)
        .map(|r| format!("s{r}"))
        .collect::<Vec<_>>()
        .join(", ");
    let _ = writeln!(
        t,
        "    var sums = array<vec4<f32>, {n}>({sums});
    let first_row = {row};
    let end = min(first_row + {n}u, params.n_rows);
    for (var r = first_row; r < end; r++) {{ put(r, {quad}, sums[r - first_row]); }}"
    );
}

pub(super) fn write_portable(knobs: &[Knob]) -> String {
    let mut t = head(knob(knobs, "FORMAT"));
    t += "var<workgroup> xs: array<vec4<f32>, 128>; // [32 rows, 4 quads]
var<workgroup> ws: array<vec4<f32>, 128>; // [32 columns, 4 quads]
@compute @workgroup_size(64)
";
    t += MAIN;
    t += "    let row0 = row_tile * 32u;
    let col0 = col_tile * 32u;
    let r = (lane / 8u) * 4u;
    let c = (lane % 8u) * 4u;
    var s0 = vec4<f32>(0.0); var s1 = vec4<f32>(0.0); var s2 = vec4<f32>(0.0); var s3 = vec4<f32>(0.0);
    for (var k = 0u; k < params.k_quads; k += 4u) {
        for (var i = lane; i < 128u; i += 64u) {
            let kq = k + i % 4u;
            let row = row0 + i / 4u;
            let col = col0 + i / 4u;
            var a = vec4<f32>(0.0);
            var b = vec4<f32>(0.0);
            if kq < params.k_quads && row < params.n_rows { a = x[(params.x_row + row) * params.k_quads + kq]; }
            if kq < params.k_quads && col < params.n_quads * 4u { b = weight(col * params.k_quads + kq); }
            xs[i] = a;
            ws[i] = b;
        }
        workgroupBarrier();
        for (var q = 0u; q < 4u; q++) {
            let b0 = ws[c * 4u + q]; let b1 = ws[c * 4u + 4u + q]; let b2 = ws[c * 4u + 8u + q]; let b3 = ws[c * 4u + 12u + q];
";
    for i in 0..4 {
        let _ = writeln!(
            t,
            "            let a{i} = xs[(r + {i}u) * 4u + q]; s{i} += vec4<f32>(dot(a{i}, b0), dot(a{i}, b1), dot(a{i}, b2), dot(a{i}, b3));"
        );
    }
    t += "        }
        workgroupBarrier();
    }
";
    puts(&mut t, 4, "row0 + r", "(col0 + c) / 4u");
    t += "}\n";
    t
}

pub(super) fn write_subgroup(knobs: &[Knob]) -> String {
    let (lanes, rows) = (knob(knobs, "LANES"), knob(knobs, "ROWS"));
    let mut t = head(knob(knobs, "FORMAT"));
    let _ = writeln!(t, "@compute @workgroup_size({lanes})");
    t += MAIN;
    let _ = writeln!(
        t,
        "    let row0 = row_tile * {rows}u;\n    let column = col_tile * {lanes}u + lane; // in quads"
    );
    t += "    let w0 = min(column, params.n_quads - 1u) * 4u * params.k_quads;\n    let last = params.n_rows - 1u;\n";
    for q in 0..rows / lanes {
        let _ = writeln!(
            t,
            "    let x{q} = (params.x_row + min(row0 + {}u + lane, last)) * params.k_quads;",
            q * lanes
        );
    }
    for r in 0..rows {
        let _ = writeln!(t, "    var s{r} = vec4<f32>(0.0);");
    }
    t += "    for (var k = 0u; k < params.k_quads; k++) {\n";
    for c in 0..4 {
        let _ = writeln!(
            t,
            "        let b{c} = weight(w0 + {c}u * params.k_quads + k);"
        );
    }
    for q in 0..rows / lanes {
        let _ = writeln!(t, "        let a{q} = x[x{q} + k];");
    }
    for r in 0..rows {
        let (q, l) = (r / lanes, r % lanes);
        let _ = writeln!(
            t,
            "        let v{r} = subgroupBroadcast(a{q}, {l}u); s{r} += vec4<f32>(dot(v{r}, b0), dot(v{r}, b1), dot(v{r}, b2), dot(v{r}, b3));"
        );
    }
    t += "    }\n";
    puts(&mut t, rows, "row0", "column");
    t += "}\n";
    t
}

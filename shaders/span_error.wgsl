// span_error.wgsl: what coding did to rows of a cache page, row by row. One lane a row of a head.
//   out[head, dst_row + row] = (sum of (decoded - stored)^2, sum of stored^2); a group with what is no number counts as 0
//   FORMAT 0: f32, 1: f16 pairs, 2: bf16 pairs                                        Twin: src/ops/span_error.rs
//#include "lib/grid.wgsl"
override FORMAT: u32 = 1u;
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_rows: u32, n_quads: u32, // quads: channels of a head / 4
    n_heads: u32, first_head: u32, heads_in_page: u32, src_row: u32, dst_row: u32, dst_rows: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> page: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<vec4<f32>>;             // [head, dst_rows, quad], decoded
@group(0) @binding(3) var<storage, read_write> sums: array<vec2<f32>>;    // [head, dst_rows]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    if g >= params.n_groups || i >= params.n_heads * params.n_rows { return; }
    let head = i / params.n_rows;
    let row = i % params.n_rows;
    let src = ((params.src_row + row) * params.heads_in_page + params.first_head + head) * params.n_quads;
    let to = head * params.dst_rows + params.dst_row + row;
    var sum = vec2<f32>(0.0);
    for (var q = 0u; q < params.n_quads; q++) {
        var v: vec4<f32>;
        let at = src + q;
        if FORMAT == 0u {
            v = bitcast<vec4<f32>>(vec4<u32>(page[at * 4u], page[at * 4u + 1u], page[at * 4u + 2u], page[at * 4u + 3u]));
        } else {
            let a = page[at * 2u];
            let b = page[at * 2u + 1u];
            if FORMAT == 1u {
                v = vec4<f32>(unpack2x16float(a), unpack2x16float(b));
            } else {
                v = bitcast<vec4<f32>>(vec4<u32>(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
            }
        }
        // By bits: a shader may assume that there are no NaNs.
        let bits = bitcast<vec4<u32>>(v);
        let bad = (bits & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u);
        v = bitcast<vec4<f32>>(select(bits, vec4<u32>(0u), bad));
        let d = x[to * params.n_quads + q] - v;
        sum += vec2<f32>(dot(d, d), dot(v, v));
    }
    sums[to] = sum;
}

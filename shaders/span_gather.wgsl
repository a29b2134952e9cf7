// span_gather.wgsl: rows of a cache page, head by head, as f32: what the encoder of a span works on. One lane four channels.
//   x[head, dst_row + row] = page[src_row + row, first_head + head]; what is no number becomes 0 and is counted
//   FORMAT 0: f32, 1: f16 pairs, 2: bf16 pairs                                       Twin: src/ops/span_gather.rs
//#include "lib/grid.wgsl"
override FORMAT: u32 = 1u;
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_rows: u32, n_quads: u32, // quads: channels of a head / 4
    n_heads: u32, first_head: u32, heads_in_page: u32, src_row: u32, dst_row: u32, dst_rows: u32, counter: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> page: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<vec4<u32>>;           // [head, dst_rows, quad], f32 bits
@group(0) @binding(3) var<storage, read_write> not_numbers: array<atomic<u32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    // A workgroup stays within a head: dividing for every lane costs more than the copy on CPU drivers.
    let g = group_index(wid, grid, params.first_group);
    let per_head = params.n_rows * params.n_quads;
    let groups = (per_head + WG - 1u) / WG;
    let head = g / groups;
    let i = (g - head * groups) * WG + lane;
    if g >= params.n_groups || i >= per_head { return; }
    let row = i / params.n_quads;
    let quad = i - row * params.n_quads;
    let src = ((params.src_row + row) * params.heads_in_page + params.first_head + head) * params.n_quads + quad;
    var v: vec4<f32>;
    if FORMAT == 0u {
        v = bitcast<vec4<f32>>(vec4<u32>(page[src * 4u], page[src * 4u + 1u], page[src * 4u + 2u], page[src * 4u + 3u]));
    } else {
        let a = page[src * 2u];
        let b = page[src * 2u + 1u];
        if FORMAT == 1u {
            v = vec4<f32>(unpack2x16float(a), unpack2x16float(b));
        } else {
            v = bitcast<vec4<f32>>(vec4<u32>(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
        }
    }
    // By bits: a shader may assume that there are no NaNs.
    var bits = bitcast<vec4<u32>>(v);
    let bad = (bits & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u);
    if any(bad) { atomicAdd(&not_numbers[params.counter], 1u); }
    bits = select(bits, vec4<u32>(0u), bad);
    x[(head * params.dst_rows + params.dst_row + row) * params.n_quads + quad] = bits;
}

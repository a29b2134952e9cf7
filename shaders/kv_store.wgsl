// kv_store.wgsl: writes rows of K and V of a pass into a cache page, in the page's format. One invocation four channels.
//   FORMAT 0: f32, 1: f16 pairs, 2: bf16 pairs (round to nearest even)               Twin: src/ops/kv_store.rs
//#include "lib/grid.wgsl"
override FORMAT: u32 = 1u;
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_rows: u32, n_quads: u32, // quads: channels / 4
    src_row: u32, src_stride: u32, k_at: u32, v_at: u32, // quads
    dst_row: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> k_src: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> v_src: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> k: array<u32>;
@group(0) @binding(4) var<storage, read_write> v: array<u32>;

fn half2(a: vec2<f32>) -> u32 {
    // Beyond f16's range packing is implementation-defined: saturate.
    return pack2x16float(clamp(a, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
}

fn bf16(a: f32) -> u32 {
    let bits = bitcast<u32>(a);
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    if g >= params.n_groups || i >= params.n_rows * params.n_quads { return; }
    let src = (params.src_row + i / params.n_quads) * params.src_stride + i % params.n_quads;
    let dst = params.dst_row * params.n_quads + i;
    let a = k_src[src + params.k_at];
    let b = v_src[src + params.v_at];
    if FORMAT == 0u {
        k[dst * 4u] = bitcast<u32>(a.x); k[dst * 4u + 1u] = bitcast<u32>(a.y);
        k[dst * 4u + 2u] = bitcast<u32>(a.z); k[dst * 4u + 3u] = bitcast<u32>(a.w);
        v[dst * 4u] = bitcast<u32>(b.x); v[dst * 4u + 1u] = bitcast<u32>(b.y);
        v[dst * 4u + 2u] = bitcast<u32>(b.z); v[dst * 4u + 3u] = bitcast<u32>(b.w);
    } else if FORMAT == 1u {
        k[dst * 2u] = half2(a.xy); k[dst * 2u + 1u] = half2(a.zw);
        v[dst * 2u] = half2(b.xy); v[dst * 2u + 1u] = half2(b.zw);
    } else {
        k[dst * 2u] = bf16(a.x) | (bf16(a.y) << 16u); k[dst * 2u + 1u] = bf16(a.z) | (bf16(a.w) << 16u);
        v[dst * 2u] = bf16(b.x) | (bf16(b.y) << 16u); v[dst * 2u + 1u] = bf16(b.z) | (bf16(b.w) << 16u);
    }
}

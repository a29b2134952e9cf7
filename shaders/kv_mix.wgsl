// kv_mix.wgsl: x = a x + b y over values of cache pages, in the pages' format. One invocation four channels.
//   FORMAT 0: f32, 1: f16 pairs, 2: bf16 pairs (both rounded to nearest even)        Twin: src/ops/kv_mix.rs
//#include "lib/bf16.wgsl"
//#include "lib/grid.wgsl"
//#include "lib/half.wgsl"
override FORMAT: u32 = 1u;
const WG: u32 = 64u;

struct Params { first_group: u32, n_groups: u32, n_quads: u32, x_at: u32, y_at: u32, a: f32, b: f32 } // places in quads
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<u32>;
@group(0) @binding(2) var<storage, read> y: array<u32>;

fn mixed(x: f32, y: f32) -> f32 {
    return params.a * x + params.b * y;
}

fn mixed_halves(x: u32, y: u32) -> u32 {
    let v = params.a * unpack2x16float(x) + params.b * unpack2x16float(y);
    return half_bits(v.x) | (half_bits(v.y) << 16u);
}

fn mixed_bf16(x: u32, y: u32) -> u32 {
    let low = mixed(bitcast<f32>(x << 16u), bitcast<f32>(y << 16u));
    let high = mixed(bitcast<f32>(x & 0xffff0000u), bitcast<f32>(y & 0xffff0000u));
    return bf16_bits(low) | (bf16_bits(high) << 16u);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    if g >= params.n_groups || i >= params.n_quads { return; }
    let to = params.x_at + i;
    let from_y = params.y_at + i;
    if FORMAT == 0u {
        for (var c = 0u; c < 4u; c++) {
            x[to * 4u + c] = bitcast<u32>(mixed(bitcast<f32>(x[to * 4u + c]), bitcast<f32>(y[from_y * 4u + c])));
        }
    } else {
        for (var c = 0u; c < 2u; c++) {
            let old = x[to * 2u + c];
            let other = y[from_y * 2u + c];
            if FORMAT == 1u {
                x[to * 2u + c] = mixed_halves(old, other);
            } else {
                x[to * 2u + c] = mixed_bf16(old, other);
            }
        }
    }
}

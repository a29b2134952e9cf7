// channel_norm.wgsl: what a decoder's convolution takes: the picture, divided by its length over the channels, through
// SiLU, in the storage of the convolution's past.                                     Twin: src/ops/channel_norm.rs
//   STEP 0: sums = (carry? sums) + |x|^2, one invocation a pixel; STEP 1, one invocation four channels of a pixel:
//   y = silu?(norm? x / max(sqrt(sums), 1e-12) * scale * gamma : x)
//#include "lib/grid.wgsl"
const WG: u32 = 64u;
override Y_HALF: u32 = 0u;

struct Params {
    first_group: u32, n_groups: u32, n_pixels: u32, n_quads: u32, // quads: channels of x / 4
    first_quad: u32, // of gamma
    step: u32, carry: u32, norm: u32, silu: u32, scale: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // [pixel, channel / 4]
@group(0) @binding(2) var<storage, read> gamma: array<vec4<f32>>;     // [channel / 4] of all groups
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;      // [pixel]
@group(0) @binding(4) var<storage, read_write> y: array<vec2<u32>>;   // [pixel, channel], 2 or 4 channels an element

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    if g >= params.n_groups { return; }
    if params.step == 0u {
        if i >= params.n_pixels { return; }
        var sum = 0.0;
        for (var q = 0u; q < params.n_quads; q++) {
            let v = x[i * params.n_quads + q];
            sum += dot(v, v);
        }
        if params.carry == 1u { sum += sums[i]; }
        sums[i] = sum;
        return;
    }
    if i >= params.n_pixels * params.n_quads { return; }
    var v = x[i];
    if params.norm == 1u {
        let inv = params.scale / max(sqrt(sums[i / params.n_quads]), 1e-12);
        v = v * inv * gamma[params.first_quad + i % params.n_quads];
    }
    if params.silu == 1u {
        // exp overflows f32 beyond 88, and below -80 the result is 0 to all that follows.
        v = select(v / (1.0 + exp(-max(v, vec4<f32>(-80.0)))), vec4<f32>(0.0), v < vec4<f32>(-80.0));
    }
    if Y_HALF == 1u {
        y[i] = vec2<u32>(pack2x16float(v.xy), pack2x16float(v.zw));
    } else {
        y[2u * i] = bitcast<vec2<u32>>(v.xy);
        y[2u * i + 1u] = bitcast<vec2<u32>>(v.zw);
    }
}

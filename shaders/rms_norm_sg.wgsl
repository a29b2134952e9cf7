// rms_norm_sg.wgsl: rms_norm.wgsl with one subgroup a row and part: no workgroup memory, no barrier.
//   x[row, part] = x[row, part] / sqrt(mean(x[row, part]^2) + eps) * weight[part]     Twin: src/ops/rms_norm.rs
//#include "lib/grid.wgsl"
override WG: u32 = 8u; // the device's subgroup size

struct Params {
    first_group: u32, n_groups: u32, n_parts: u32, n_quads: u32, // quads: channels of a part / 4
    row_stride: u32, eps: f32, // stride in quads
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>; // [row, row_stride], parts first
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;  // [part, channel / 4]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    if g >= params.n_groups { return; }
    let part = g % params.n_parts;
    let base = (g / params.n_parts) * params.row_stride + part * params.n_quads;
    var squares = 0.0;
    for (var i = lane; i < params.n_quads; i += WG) {
        let v = x[base + i];
        squares += dot(v, v);
    }
    let inv = inverseSqrt(subgroupAdd(squares) * 0.25 / f32(params.n_quads) + params.eps);
    for (var i = lane; i < params.n_quads; i += WG) {
        x[base + i] = x[base + i] * inv * weight[part * params.n_quads + i];
    }
}

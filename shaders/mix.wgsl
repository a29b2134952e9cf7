// mix.wgsl: x = a x + b y, cut to -limit..limit: the one step of every sampler. One invocation a value.   Twin: src/ops/mix.rs
//#include "lib/grid.wgsl"
const WG: u32 = 64u;

struct Params { first_group: u32, n_groups: u32, n: u32, a: f32, b: f32, limit: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;
@group(0) @binding(2) var<storage, read> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    if g >= params.n_groups || i >= params.n { return; }
    x[i] = clamp(params.a * x[i] + params.b * y[i], -params.limit, params.limit);
}

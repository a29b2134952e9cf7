// silu.wgsl: y = x / (1 + exp(-x)). One invocation a value.   Twin: src/ops/silu.rs
//#include "lib/grid.wgsl"
const WG: u32 = 64u;

struct Params { first_group: u32, n_groups: u32, n: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    if g >= params.n_groups || i >= params.n { return; }
    // exp overflows f32 beyond 88, and below -80 the result is 0 to all that follows.
    let v = x[i];
    y[i] = select(v / (1.0 + exp(-max(v, -80.0))), 0.0, v < -80.0);
}

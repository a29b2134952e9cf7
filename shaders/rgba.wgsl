// rgba.wgsl: planes of values in -1..=1 as 8-bit pixels. One invocation a pixel.   Twin: src/ops/rgba.rs
//#include "lib/grid.wgsl"
const WG: u32 = 64u;

struct Params { first_group: u32, n_groups: u32, n: u32, width: u32, plane: u32, row: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

fn level(v: f32) -> u32 {
    // A half goes up, as on the host; round() would take it to the even level.
    return u32((clamp(v, -1.0, 1.0) + 1.0) * 127.5 + 0.5);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    if g >= params.n_groups || i >= params.n { return; }
    // Planes hold whole rows, so rows count on from frame to frame.
    let row = i / params.width;
    let red = i / params.plane * 3u * params.plane + i % params.plane;
    let rgb = level(x[red]) | (level(x[red + params.plane]) << 8u) | (level(x[red + 2u * params.plane]) << 16u);
    y[row * params.row + i % params.width] = rgb | 0xff000000u;
}

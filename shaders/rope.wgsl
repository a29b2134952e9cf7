// rope.wgsl: rotates pairs of channels by their position in the film, in place. One invocation a pair.
//   (a, b) -> (a cos - b sin, a sin + b cos), the angle from the frame, row or column part of `positions`
//   Twin: src/ops/rope.rs
//#include "lib/grid.wgsl"
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_rows: u32, n_heads: u32,
    n_pairs: u32, row_stride: u32, // pairs of a head; stride of a row in pairs
    frame_pairs: u32, row_pairs: u32, // channel pairs turned by frame and by row, the rest by column
    cols: u32, tokens_per_frame: u32,
    rows_at: u32, cols_at: u32, frames_at: u32, row_quads: u32, col_quads: u32, frame_quads: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> positions: array<vec4<f32>, 4096>; // see src/ops/positions.rs
@group(0) @binding(2) var<storage, read_write> x: array<vec2<f32>>;    // [row, head, pair]

fn turn(at: u32, pair: u32) -> vec2<f32> {
    let both = positions[at + pair / 2u];
    return select(both.xy, both.zw, (pair & 1u) == 1u);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    let width = params.n_heads * params.n_pairs;
    if g >= params.n_groups || i >= params.n_rows * width { return; }
    let row = i / width;
    let pair = i % params.n_pairs;
    let frame = row / params.tokens_per_frame;
    let token = row % params.tokens_per_frame;
    var cs: vec2<f32>;
    if pair < params.frame_pairs {
        cs = turn(params.frames_at + frame * params.frame_quads + 1u, pair);
    } else if pair < params.frame_pairs + params.row_pairs {
        cs = turn(params.rows_at + (token / params.cols) * params.row_quads, pair - params.frame_pairs);
    } else {
        cs = turn(params.cols_at + (token % params.cols) * params.col_quads, pair - params.frame_pairs - params.row_pairs);
    }
    let at = row * params.row_stride + i % width;
    let v = x[at];
    x[at] = vec2<f32>(v.x * cs.x - v.y * cs.y, v.x * cs.y + v.y * cs.x);
}

// patchify.wgsl: cuts frames into patches, one token a patch. One invocation a value.
//   tokens[frame, row, col, (channel, pr, pc)] = x[frame, channel, row * ph + pr, col * pw + pc]   Twin: src/ops/patch.rs
//#include "lib/grid.wgsl"
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_frames: u32, channels: u32,
    rows: u32, cols: u32, ph: u32, pw: u32, token_stride: u32, // values a token takes, padding included
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;               // [frame, channel, rows * ph, cols * pw]
@group(0) @binding(2) var<storage, read_write> tokens: array<f32>;    // [frame, row, col, token_stride]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    let n_tokens = params.n_frames * params.rows * params.cols;
    if g >= params.n_groups || i >= n_tokens * params.token_stride { return; }
    let token = i / params.token_stride;
    let e = i % params.token_stride;
    let area = params.ph * params.pw;
    var value = 0.0;
    if e < params.channels * area {
        let channel = e / area;
        let frame = token / (params.rows * params.cols);
        let y = ((token / params.cols) % params.rows) * params.ph + (e % area) / params.pw;
        let col = (token % params.cols) * params.pw + e % params.pw;
        value = x[((frame * params.channels + channel) * params.rows * params.ph + y) * params.cols * params.pw + col];
    }
    tokens[i] = value;
}

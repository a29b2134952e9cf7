// unpatchify.wgsl: puts the head's tokens back into frames. One invocation a value.
//   x[frame, channel, row * ph + pr, col * pw + pc] = tokens[frame, row, col, (pr, pc, channel)]   Twin: src/ops/patch.rs
//   (channel fastest here, slowest in patchify: the order of Wan's head and of its patch convolution)
//#include "lib/grid.wgsl"
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_frames: u32, channels: u32,
    rows: u32, cols: u32, ph: u32, pw: u32, token_stride: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tokens: array<f32>;     // [frame, row, col, token_stride]
@group(0) @binding(2) var<storage, read_write> x: array<f32>;    // [frame, channel, rows * ph, cols * pw]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    let width = params.cols * params.pw;
    let height = params.rows * params.ph;
    if g >= params.n_groups || i >= params.n_frames * params.channels * height * width { return; }
    let col = i % width;
    let y = (i / width) % height;
    let channel = (i / (width * height)) % params.channels;
    let frame = i / (width * height * params.channels);
    let token = (frame * params.rows + y / params.ph) * params.cols + col / params.pw;
    let e = ((y % params.ph) * params.pw + col % params.pw) * params.channels + channel;
    x[i] = tokens[token * params.token_stride + e];
}

// head_gain.wgsl: what coding added to the energy of a head's keys, per block of channels: the mean of r_hat^2 - r^2.
//   heads[head, 1 + gain] = sum over tokens of err / (tokens * channels); one workgroup a head and gain
// Source: METHOD 10.1 (b)                                                              Twin: src/ops/quantize.rs
//#include "lib/grid.wgsl"
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, tokens: u32, rows: u32, blocks: u32, gains: u32, first_head: u32,
    heads_at: u32, channels: f32, // of a gain
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> err: array<f32>;          // [head, row, block]
@group(0) @binding(2) var<storage, read_write> span: array<u32>;

var<workgroup> sums: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    if g >= params.n_groups { return; }
    let gain = g % params.gains;
    let head = g / params.gains;
    let per_gain = params.blocks / params.gains;
    var sum = 0.0;
    for (var t = lane; t < params.tokens; t += WG) {
        for (var b = 0u; b < per_gain; b++) {
            sum += err[(head * params.rows + t) * params.blocks + gain * per_gain + b];
        }
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half { sums[lane] += sums[lane + half]; }
        workgroupBarrier();
    }
    if lane == 0u {
        let to = params.heads_at + (params.first_head + head) * (1u + params.gains) + 1u + gain;
        span[to] = bitcast<u32>(sums[0] / (f32(params.tokens) * params.channels));
    }
}

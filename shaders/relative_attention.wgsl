// relative_attention.wgsl: attention of a text encoder. One workgroup a row and head.
//   out = softmax(q . k + bias[key - row]) v over the first n_keys rows, unscaled     Twin: src/ops/relative_attention.rs
//#include "lib/grid.wgsl"
const WG: u32 = 64u;
const MAX_KEYS: u32 = 2048u; // 8 KiB of workgroup memory

struct Params {
    first_group: u32, n_groups: u32, n_rows: u32, n_keys: u32, n_heads: u32, n_quads: u32, // quads: channels of a head / 4
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;  // [row, head, channel / 4]
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<f32>;        // [row, head, channel]
@group(0) @binding(4) var<storage, read> bias: array<f32>;     // [head, key - row + n_rows - 1]
@group(0) @binding(5) var<storage, read_write> y: array<f32>;  // [row, head, channel]

var<workgroup> weights: array<f32, MAX_KEYS>;
var<workgroup> partial: array<f32, WG>;

fn row_sum(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half = half / 2u) {
        if lane < half { partial[lane] += partial[lane + half]; }
        workgroupBarrier();
    }
    return partial[0];
}

fn row_max(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half = half / 2u) {
        if lane < half { partial[lane] = max(partial[lane], partial[lane + half]); }
        workgroupBarrier();
    }
    let most = partial[0];
    workgroupBarrier(); // before `partial` is used again
    return most;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    if g >= params.n_groups { return; }
    let head = g % params.n_heads;
    let row = g / params.n_heads;
    let stride = params.n_heads * params.n_quads;
    let own = row * stride + head * params.n_quads;
    let bias_at = head * (2u * params.n_rows - 1u) + params.n_rows - 1u - row;
    let n_keys = min(params.n_keys, MAX_KEYS);
    var most = -3.4028234e38;
    for (var key = lane; key < n_keys; key += WG) {
        let at = key * stride + head * params.n_quads;
        var score = bias[bias_at + key];
        for (var i = 0u; i < params.n_quads; i++) {
            score += dot(q[own + i], k[at + i]);
        }
        weights[key] = score;
        most = max(most, score);
    }
    most = row_max(lane, most);
    var sum = 0.0;
    for (var key = lane; key < n_keys; key += WG) {
        let w = exp(weights[key] - most);
        weights[key] = w;
        sum += w;
    }
    // Its barriers also show every lane's weights to all.
    let inv = 1.0 / row_sum(lane, sum);
    for (var c = lane; c < params.n_quads * 4u; c += WG) {
        var acc = 0.0;
        for (var key = 0u; key < n_keys; key++) {
            acc += weights[key] * v[(key * stride + head * params.n_quads) * 4u + c];
        }
        y[own * 4u + c] = acc * inv;
    }
}

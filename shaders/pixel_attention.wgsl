// pixel_attention.wgsl: attention between the pixels of a picture, one head over all channels, softmax carried from tile to
// tile of keys. One workgroup four rows; a lane one key of a tile, then some channels.  Twin: src/ops/pixel_attention.rs
//   out = softmax(q . k * scale) v
//#include "lib/grid.wgsl"
const WG: u32 = 64u;
const MAX_QUADS: u32 = 128u; // two a lane

struct Params { first_group: u32, n_groups: u32, n_rows: u32, n_quads: u32, scale: f32 } // quads: channels / 4
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>; // [row, channel / 4]
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

var<workgroup> own: array<vec4<f32>, 512>;      // queries [row of the four, channel / 4]
var<workgroup> weights: array<vec4<f32>, WG>;   // of a tile's keys, one component a row
var<workgroup> partial: array<vec4<f32>, WG>;

fn tile_max(lane: u32, value: vec4<f32>) -> vec4<f32> {
    partial[lane] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half = half / 2u) {
        if lane < half { partial[lane] = max(partial[lane], partial[lane + half]); }
        workgroupBarrier();
    }
    return partial[0];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    if g >= params.n_groups { return; }
    let n = min(params.n_quads, MAX_QUADS);
    for (var i = lane; i < 4u * n; i += WG) {
        let row = min(4u * g + i / n, params.n_rows - 1u);
        own[(i / n) * MAX_QUADS + i % n] = q[row * n + i % n] * params.scale;
    }
    workgroupBarrier();
    var most = vec4<f32>(-1e30);
    var sum = vec4<f32>(0.0);
    var a0 = vec4<f32>(0.0);
    var a1 = vec4<f32>(0.0);
    var a2 = vec4<f32>(0.0);
    var a3 = vec4<f32>(0.0);
    var b0 = vec4<f32>(0.0);
    var b1 = vec4<f32>(0.0);
    var b2 = vec4<f32>(0.0);
    var b3 = vec4<f32>(0.0);
    for (var tile = 0u; tile < params.n_rows; tile += WG) {
        let key = tile + lane;
        var score = vec4<f32>(-1e30);
        if key < params.n_rows {
            score = vec4<f32>(0.0);
            for (var i = 0u; i < n; i++) {
                let x = k[key * n + i];
                score += vec4<f32>(dot(own[i], x), dot(own[MAX_QUADS + i], x), dot(own[2u * MAX_QUADS + i], x), dot(own[3u * MAX_QUADS + i], x));
            }
        }
        let most_now = max(most, tile_max(lane, score));
        weights[lane] = select(vec4<f32>(0.0), exp(score - most_now), key < params.n_rows);
        // Also before `partial` is used again.
        workgroupBarrier();
        let fade = exp(most - most_now);
        most = most_now;
        sum *= fade;
        a0 *= fade.x;
        a1 *= fade.y;
        a2 *= fade.z;
        a3 *= fade.w;
        b0 *= fade.x;
        b1 *= fade.y;
        b2 *= fade.z;
        b3 *= fade.w;
        let n_keys = min(WG, params.n_rows - tile);
        for (var j = 0u; j < n_keys; j++) {
            let w = weights[j];
            let at = (tile + j) * n + lane;
            sum += w;
            if lane < n {
                let x = v[at];
                a0 += w.x * x;
                a1 += w.y * x;
                a2 += w.z * x;
                a3 += w.w * x;
            }
            if lane + WG < n {
                let x = v[at + WG];
                b0 += w.x * x;
                b1 += w.y * x;
                b2 += w.z * x;
                b3 += w.w * x;
            }
        }
        workgroupBarrier();
    }
    put(4u * g, n, lane, a0 / sum.x, b0 / sum.x);
    put(4u * g + 1u, n, lane, a1 / sum.y, b1 / sum.y);
    put(4u * g + 2u, n, lane, a2 / sum.z, b2 / sum.z);
    put(4u * g + 3u, n, lane, a3 / sum.w, b3 / sum.w);
}

fn put(row: u32, n: u32, lane: u32, a: vec4<f32>, b: vec4<f32>) {
    if row >= params.n_rows { return; }
    if lane < n { y[row * n + lane] = a; }
    if lane + WG < n { y[row * n + lane + WG] = b; }
}

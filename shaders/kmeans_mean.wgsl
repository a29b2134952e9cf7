// kmeans_mean.wgsl: every cluster's mean, in the order of its tokens, runs of 64 summed first; an empty cluster keeps its
// centroid, and after the stop all do. One lane four channels.
// Source: METHOD 3.4                                                                      Twin: src/ops/kmeans.rs
//#include "lib/grid.wgsl"
//#include "lib/bf16.wgsl"
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_heads: u32, tokens: u32, n_quads: u32, n_centroids: u32,
    round: u32, limit: u32, to_bf16: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;              // [head, token, quad]
@group(0) @binding(2) var<storage, read> order: array<u32>;                // [head, token]
@group(0) @binding(3) var<storage, read> ranges: array<vec2<u32>>;         // [head, centroid]
@group(0) @binding(4) var<storage, read_write> cents: array<vec4<f32>>;    // [head, centroid, quad]
@group(0) @binding(5) var<storage, read> changed: array<u32>;              // by round

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    if g >= params.n_groups || i >= params.n_heads * params.n_centroids * params.n_quads { return; }
    for (var r = 2u; r <= params.round; r++) {
        if changed[r] < params.limit { return; }
    }
    let cluster = i / params.n_quads;
    let head = cluster / params.n_centroids;
    let range = ranges[cluster];
    if range.y == 0u { return; }
    var sum = vec4<f32>(0.0);
    for (var m = 0u; m < range.y; m += 64u) {
        var part = vec4<f32>(0.0);
        for (var k = m; k < min(m + 64u, range.y); k++) {
            let token = order[head * params.tokens + range.x + k];
            part += x[(head * params.tokens + token) * params.n_quads + i % params.n_quads];
        }
        sum += part;
    }
    let mean = sum * (1.0 / f32(range.y));
    cents[i] = select(mean, bf16_round(mean), vec4<bool>(params.to_bf16 == 1u));
}

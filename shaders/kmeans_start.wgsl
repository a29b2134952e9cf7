// kmeans_start.wgsl: first centroids of a span: evenly spaced rows, or the table of the span before. One lane four channels;
// the first one clears k-means' counters.
//   cents[head, c] = FROM 0: x[head, floor((c + 0.5) * tokens / C)]   1: table of the earlier span
// Source: METHOD 3.6                                                                      Twin: src/ops/kmeans.rs
//#include "lib/grid.wgsl"
override FROM: u32 = 0u;
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_heads: u32, tokens: u32, n_quads: u32, n_centroids: u32, table_at: u32, // words
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;              // [head, token, quad]
@group(0) @binding(2) var<storage, read> earlier: array<u32>;
@group(0) @binding(3) var<storage, read_write> cents: array<vec4<f32>>;    // [head, centroid, quad]
@group(0) @binding(4) var<storage, read_write> changed: array<u32>;        // by round: set to 0

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    if g >= params.n_groups || i >= params.n_heads * params.n_centroids * params.n_quads { return; }
    if i == 0u {
        for (var r = 0u; r < arrayLength(&changed); r++) { changed[r] = 0u; }
    }
    if FROM == 0u {
        let c = (i / params.n_quads) % params.n_centroids;
        let head = i / (params.n_quads * params.n_centroids);
        let token = ((2u * c + 1u) * params.tokens) / (2u * params.n_centroids);
        cents[i] = x[(head * params.tokens + token) * params.n_quads + i % params.n_quads];
    } else {
        let a = earlier[params.table_at + 2u * i];
        let b = earlier[params.table_at + 2u * i + 1u];
        cents[i] = bitcast<vec4<f32>>(vec4<u32>(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
    }
}

// kmeans_sort.wgsl: the rows of every cluster in ascending order: a counting sort without atomics. One lane a cluster.
//   ranges[head, c] = (first place, members); order[head, first..] = their tokens           Twin: src/ops/kmeans.rs
//#include "lib/grid.wgsl"
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_heads: u32, tokens: u32, rows: u32, n_centroids: u32, ids_at: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> span: array<u32>;                 // ids: bytes [head, row]
@group(0) @binding(2) var<storage, read_write> order: array<u32>;          // [head, token]
@group(0) @binding(3) var<storage, read_write> ranges: array<vec2<u32>>;   // [head, centroid]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    if g >= params.n_groups || i >= params.n_heads * params.n_centroids { return; }
    let head = i / params.n_centroids;
    let c = i % params.n_centroids;
    let ids = params.ids_at + head * params.rows / 4u;
    var first = 0u;
    var members = 0u;
    for (var w = 0u; w < params.rows / 4u; w++) {
        let four = span[ids + w];
        for (var k = 0u; k < 4u; k++) {
            let id = (four >> (8u * k)) & 255u;
            if w * 4u + k < params.tokens {
                first += select(0u, 1u, id < c);
                members += select(0u, 1u, id == c);
            }
        }
    }
    ranges[i] = vec2<u32>(first, members);
    var to = head * params.tokens + first;
    for (var w = 0u; w < params.rows / 4u; w++) {
        let four = span[ids + w];
        for (var k = 0u; k < 4u; k++) {
            if w * 4u + k < params.tokens && ((four >> (8u * k)) & 255u) == c {
                order[to] = w * 4u + k;
                to++;
            }
        }
    }
}

// kmeans_assign.wgsl: the nearest centroid of every row, by |c|^2 - 2 x.c in f32, lowest index on a tie. One lane four rows.
//   ids[head, row] = argmin; from the second round on the changed ones are counted, and nothing runs after the stop
// Sums are in one fixed order without fused operations, so that the same input gives the same ids wherever f32 is IEEE.
// Source: METHOD 3.2 and 3.4                                                              Twin: src/ops/kmeans.rs
//#include "lib/grid.wgsl"
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_heads: u32, tokens: u32, rows: u32, n_quads: u32, n_centroids: u32,
    ids_at: u32, round: u32, limit: u32, // words; rounds count from 1; fewer changes than the limit stop
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;            // [head, token, quad]
@group(0) @binding(2) var<storage, read> cents: array<vec4<f32>>;        // [head, centroid, quad]
@group(0) @binding(3) var<storage, read_write> span: array<u32>;         // ids: bytes [head, row]
@group(0) @binding(4) var<storage, read_write> changed: array<atomic<u32>>; // by round

fn product(a: vec4<f32>, b: vec4<f32>) -> f32 {
    let m = a * b;
    return (m.x + m.y) + (m.z + m.w);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    // A workgroup stays within a head, so that all its lanes read the same centroids.
    let g = group_index(wid, grid, params.first_group);
    let words = params.rows / 4u;
    let groups = (words + WG - 1u) / WG;
    let head = g / groups;
    let i = (g - head * groups) * WG + lane; // word of ids in the head
    if g >= params.n_groups || i >= words { return; }
    for (var r = 2u; r < params.round; r++) {
        if atomicLoad(&changed[r]) < params.limit { return; }
    }
    let token = i * 4u;
    let last = params.tokens - 1u;
    let n = params.n_quads;
    let at0 = (head * params.tokens + min(token, last)) * n;
    let at1 = (head * params.tokens + min(token + 1u, last)) * n;
    let at2 = (head * params.tokens + min(token + 2u, last)) * n;
    let at3 = (head * params.tokens + min(token + 3u, last)) * n;
    var best = vec4<f32>(3.0e38);
    var ids = vec4<u32>(0u);
    let last_c = params.n_centroids - 1u;
    for (var c = 0u; c < params.n_centroids; c += 4u) {
        let table = head * params.n_centroids;
        let c0 = (table + c) * n;
        let c1 = (table + min(c + 1u, last_c)) * n;
        let c2 = (table + min(c + 2u, last_c)) * n;
        let c3 = (table + min(c + 3u, last_c)) * n;
        var dots0 = vec4<f32>(0.0);
        var dots1 = vec4<f32>(0.0);
        var dots2 = vec4<f32>(0.0);
        var dots3 = vec4<f32>(0.0);
        var norms = vec4<f32>(0.0);
        for (var q = 0u; q < n; q++) {
            let x0 = x[at0 + q]; let x1 = x[at1 + q]; let x2 = x[at2 + q]; let x3 = x[at3 + q];
            let a = cents[c0 + q]; let b = cents[c1 + q]; let e = cents[c2 + q]; let f = cents[c3 + q];
            dots0 += vec4<f32>(product(x0, a), product(x1, a), product(x2, a), product(x3, a));
            dots1 += vec4<f32>(product(x0, b), product(x1, b), product(x2, b), product(x3, b));
            dots2 += vec4<f32>(product(x0, e), product(x1, e), product(x2, e), product(x3, e));
            dots3 += vec4<f32>(product(x0, f), product(x1, f), product(x2, f), product(x3, f));
            norms += vec4<f32>(product(a, a), product(b, b), product(e, e), product(f, f));
        }
        // Beyond the last one is the last one again, which is never below itself.
        let score0 = vec4<f32>(norms.x) - 2.0 * dots0;
        let score1 = vec4<f32>(norms.y) - 2.0 * dots1;
        let score2 = vec4<f32>(norms.z) - 2.0 * dots2;
        let score3 = vec4<f32>(norms.w) - 2.0 * dots3;
        ids = select(ids, vec4<u32>(c), score0 < best);
        best = min(best, score0);
        ids = select(ids, vec4<u32>(c + 1u), score1 < best);
        best = min(best, score1);
        ids = select(ids, vec4<u32>(c + 2u), score2 < best);
        best = min(best, score2);
        ids = select(ids, vec4<u32>(c + 3u), score3 < best);
        best = min(best, score3);
    }
    let real = vec4<u32>(token, token + 1u, token + 2u, token + 3u) < vec4<u32>(params.tokens);
    ids = select(vec4<u32>(0u), ids, real);
    let word = params.ids_at + head * words + i;
    let before = (vec4<u32>(span[word]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
    if params.round > 1u {
        let moved = select(vec4<u32>(0u), vec4<u32>(1u), before != ids);
        let n_moved = (moved.x + moved.y) + (moved.z + moved.w);
        if n_moved > 0u { atomicAdd(&changed[params.round], n_moved); }
    }
    span[word] = ids.x | (ids.y << 8u) | (ids.z << 16u) | (ids.w << 24u);
}

// residual.wgsl: stores a stage's centroids as bf16 and subtracts every row's from it. One lane four channels of a row.
//   table = bf16(cents); x[head, token] -= table[head, id]; rounded to bf16 where the working type asks for it
// Source: METHOD 2 and 2.1                                                                Twin: src/ops/kmeans.rs
//#include "lib/grid.wgsl"
//#include "lib/bf16.wgsl"
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_heads: u32, tokens: u32, rows: u32, n_quads: u32, n_centroids: u32,
    ids_at: u32, table_at: u32, to_bf16: u32, // words
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> cents: array<vec4<f32>>;        // [head, centroid, quad]
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>;      // [head, token, quad]
@group(0) @binding(3) var<storage, read_write> span: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    // A workgroup stays within a head: dividing for every lane costs more than the subtraction on CPU drivers.
    let g = group_index(wid, grid, params.first_group);
    let groups = (max(params.tokens, params.n_centroids) * params.n_quads + WG - 1u) / WG;
    let head = g / groups;
    let i = (g - head * groups) * WG + lane;
    if g >= params.n_groups { return; }
    let table = head * params.n_centroids * params.n_quads;
    if i < params.n_centroids * params.n_quads {
        let c = cents[table + i];
        let to = params.table_at + 2u * (table + i);
        span[to] = bf16_bits(c.x) | (bf16_bits(c.y) << 16u);
        span[to + 1u] = bf16_bits(c.z) | (bf16_bits(c.w) << 16u);
    }
    let token = i / params.n_quads;
    if token >= params.tokens { return; }
    let at = head * params.rows + token;
    let id = (span[params.ids_at + at / 4u] >> (8u * (at & 3u))) & 255u;
    let place = head * params.tokens * params.n_quads + i;
    let r = x[place] - bf16_round(cents[table + id * params.n_quads + (i - token * params.n_quads)]);
    x[place] = select(r, bf16_round(r), vec4<bool>(params.to_bf16 == 1u));
}

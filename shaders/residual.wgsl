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
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    if g >= params.n_groups { return; }
    if i < params.n_heads * params.n_centroids * params.n_quads {
        let c = cents[i];
        span[params.table_at + 2u * i] = bf16_bits(c.x) | (bf16_bits(c.y) << 16u);
        span[params.table_at + 2u * i + 1u] = bf16_bits(c.z) | (bf16_bits(c.w) << 16u);
    }
    if i >= params.n_heads * params.tokens * params.n_quads { return; }
    let row = i / params.n_quads;
    let head = row / params.tokens;
    let at = head * params.rows + row % params.tokens;
    let id = (span[params.ids_at + at / 4u] >> (8u * (at & 3u))) & 255u;
    let r = x[i] - bf16_round(cents[(head * params.n_centroids + id) * params.n_quads + i % params.n_quads]);
    x[i] = select(r, bf16_round(r), vec4<bool>(params.to_bf16 == 1u));
}

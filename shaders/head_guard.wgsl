// head_guard.wgsl: the power of two by which a head's residual is divided so that no scale (or zero) passes E4M3's 448.
//   heads[head] = (2^e, gains left at 0); without zeros peaks[entry] = the block's largest magnitude; one workgroup a head
// Source: METHOD 10.6                                                                  Twin: src/ops/quantize.rs
//#include "lib/grid.wgsl"
override QUADS: u32 = 16u; // of a block
override ZEROS: u32 = 0u;  // blocks store their least value
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, blocks_per_head: u32, first_head: u32, heads_at: u32, head_words: u32,
    entries: u32,        // of a head in peaks: those of the padding rows too
    inverse_levels: f32, // 1 / steps between the largest and the smallest level
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;       // [head, token, block, quad]
@group(0) @binding(2) var<storage, read_write> span: array<u32>;
@group(0) @binding(3) var<storage, read_write> peaks: array<f32>;   // [head, row, block]

var<workgroup> largest: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group_index(wid, grid, params.first_group);
    if head >= params.n_groups { return; }
    var need = 0.0;
    for (var i = lane; i < params.blocks_per_head; i += WG) {
        let at = (head * params.blocks_per_head + i) * QUADS;
        var low = x[at];
        var high = low;
        for (var q = 1u; q < QUADS; q++) {
            low = min(low, x[at + q]);
            high = max(high, x[at + q]);
        }
        let least = min(min(low.x, low.y), min(low.z, low.w));
        let most = max(max(high.x, high.y), max(high.z, high.w));
        if ZEROS == 1u {
            need = max(need, max((most - least) * params.inverse_levels, abs(least)));
        } else {
            let peak = max(most, -least);
            need = max(need, peak * params.inverse_levels);
            peaks[head * params.entries + i] = peak;
        }
    }
    largest[lane] = need;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half { largest[lane] = max(largest[lane], largest[lane + half]); }
        workgroupBarrier();
    }
    if lane != 0u { return; }
    var by = 1.0;
    while largest[0] > 448.0 * by { by *= 2.0; }
    let to = params.heads_at + (params.first_head + head) * params.head_words;
    span[to] = bitcast<u32>(by);
    for (var k = 1u; k < params.head_words; k++) { span[to + k] = 0u; }
}

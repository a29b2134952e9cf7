// hadamard.wgsl: rows times the orthonormal Hadamard matrix of their width, in place. One lane a row.
// Source: METHOD 9.3                                                                      Twin: src/ops/hadamard.rs
//#include "lib/grid.wgsl"
const WG: u32 = 64u;

struct Params { first_group: u32, n_groups: u32, n_rows: u32, n_quads: u32, norm: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>; // [row, quad]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let row = g * WG + lane;
    if g >= params.n_groups || row >= params.n_rows { return; }
    let at = row * params.n_quads;
    for (var q = 0u; q < params.n_quads; q++) {
        let v = x[at + q];
        let p = vec4<f32>(v.x + v.y, v.x - v.y, v.z + v.w, v.z - v.w);
        x[at + q] = vec4<f32>(p.x + p.z, p.y + p.w, p.x - p.z, p.y - p.w);
    }
    // The norm comes last: before, a compiler may take it out of the sums, and codes would depend on the driver.
    for (var half = 1u; half < params.n_quads; half *= 2u) {
        let norm = select(1.0, params.norm, half * 2u == params.n_quads);
        for (var q = 0u; q < params.n_quads / 2u; q++) {
            let a_at = at + (q / half) * 2u * half + q % half;
            let a = x[a_at];
            let b = x[a_at + half];
            x[a_at] = (a + b) * norm;
            x[a_at + half] = (a - b) * norm;
        }
    }
}

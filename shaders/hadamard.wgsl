// hadamard.wgsl: rows times the orthonormal Hadamard matrix of their width, in place. One lane a row.
// Source: METHOD 9.3                                                                      Twin: src/ops/hadamard.rs
//#include "lib/grid.wgsl"
const WG: u32 = 64u;

struct Params { first_group: u32, n_groups: u32, n_rows: u32, n_quads: u32, norm: f32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>; // [row, quad]

// The first two steps, within a quad.
fn within(v: vec4<f32>) -> vec4<f32> {
    let p = vec4<f32>(v.x + v.y, v.x - v.y, v.z + v.w, v.z - v.w);
    return vec4<f32>(p.x + p.z, p.y + p.w, p.x - p.z, p.y - p.w);
}

// Two steps over four quads, as they are stored.
fn across(to: u32, half: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, norm: f32) {
    x[to] = ((a + b) + (c + d)) * norm;
    x[to + half] = ((a - b) + (c - d)) * norm;
    x[to + 2u * half] = ((a + b) - (c + d)) * norm;
    x[to + 3u * half] = ((a - b) - (c - d)) * norm;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let row = g * WG + lane;
    if g >= params.n_groups || row >= params.n_rows { return; }
    // As many steps of the butterfly for each load and store as four quads allow. The norm comes last: before, a compiler
    // may take it out of the sums, and codes would depend on the driver.
    let n = params.n_quads;
    let at = row * n;
    let last = select(1.0, params.norm, n == 4u);
    for (var to = at; to < at + n; to += 4u) {
        across(to, 1u, within(x[to]), within(x[to + 1u]), within(x[to + 2u]), within(x[to + 3u]), last);
    }
    var half = 4u;
    for (; half * 2u < n; half *= 4u) {
        let norm = select(1.0, params.norm, half * 4u == n);
        for (var q = 0u; q < n / 4u; q++) {
            let to = at + (q / half) * 4u * half + q % half;
            across(to, half, x[to], x[to + half], x[to + 2u * half], x[to + 3u * half], norm);
        }
    }
    if half < n {
        for (var q = 0u; q < half; q++) {
            let a = x[at + q];
            let b = x[at + half + q];
            x[at + q] = (a + b) * params.norm;
            x[at + half + q] = (a - b) * params.norm;
        }
    }
}

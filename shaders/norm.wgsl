// norm.wgsl: layer norm of rows with an optional affine or modulated output. One workgroup a row.
//   y = (x - mean) / sqrt(var + eps), then MODE 1: y * (1 + scale) + shift, MODE 2: y * scale + shift
//   scale, shift = table[..] + cond[frame, ..]                                      Twin: src/ops/norm.rs
//#include "lib/grid.wgsl"
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_rows: u32, n_quads: u32, // quads: channels / 4
    mode: u32, shift_at: u32, scale_at: u32, // quads into table
    cond_stride: u32, cond_shift_at: u32, cond_scale_at: u32, // quads into cond
    rows_per_frame: u32, eps: f32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;      // [row, channel / 4]
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> cond: array<vec4<f32>>;   // [frame, cond_stride]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

var<workgroup> partial: array<f32, WG>;

fn row_sum(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half = half / 2u) {
        if lane < half {
            partial[lane] += partial[lane + half];
        }
        workgroupBarrier();
    }
    let sum = partial[0];
    workgroupBarrier();
    return sum;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group_index(wid, grid, params.first_group);
    if row >= params.n_groups { return; }
    let base = row * params.n_quads;
    let inv_n = 0.25 / f32(params.n_quads);
    var sum = vec4<f32>(0.0);
    for (var i = lane; i < params.n_quads; i += WG) {
        sum += x[base + i];
    }
    let mean = row_sum(lane, sum.x + sum.y + sum.z + sum.w) * inv_n;
    var squares = 0.0;
    for (var i = lane; i < params.n_quads; i += WG) {
        let d = x[base + i] - mean;
        squares += dot(d, d);
    }
    let inv = inverseSqrt(row_sum(lane, squares) * inv_n + params.eps);
    let at = (row / params.rows_per_frame) * params.cond_stride;
    for (var i = lane; i < params.n_quads; i += WG) {
        var v = (x[base + i] - mean) * inv;
        if params.mode == 1u {
            let scale = table[params.scale_at + i] + cond[at + params.cond_scale_at + i];
            let shift = table[params.shift_at + i] + cond[at + params.cond_shift_at + i];
            v = v * (1.0 + scale) + shift;
        } else if params.mode == 2u {
            v = v * table[params.scale_at + i] + table[params.shift_at + i];
        }
        y[base + i] = v;
    }
}

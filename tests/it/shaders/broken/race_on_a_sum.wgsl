// Wrong on purpose: every lane reads, adds and writes the one sum, without atomics and without order.
struct Params { first_group: u32, n_groups: u32, n: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
var<workgroup> sum: f32;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (params.first_group + wid.x) * 64u + lane;
    if lane == 0u { sum = 0.0; }
    workgroupBarrier();
    if i < params.n { sum += x[i]; }
    workgroupBarrier();
    if i < params.n && wid.x < params.n_groups { y[i] = sum; }
}

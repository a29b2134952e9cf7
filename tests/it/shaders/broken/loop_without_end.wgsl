// Wrong on purpose: HLSL compilers refuse a loop that has no way out.
struct Params { first_group: u32, n_groups: u32, n: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = (params.first_group + wid.x) * 64u + lane;
    var sum = 0.0;
    loop {
        sum += x[i];
        if sum > 1.0 && i < params.n && wid.x < params.n_groups { y[i] = sum; }
    }
}

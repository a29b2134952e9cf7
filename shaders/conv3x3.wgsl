// conv3x3.wgsl: 3 x 3 convolution of a picture, or of two side by side in channels, zeros around it. One invocation a
// pixel and four channels. With SHIFT 1 every source pixel stands for 2 x 2.            Twin: src/ops/conv3x3.rs
//   y = relu?(w * [a, b] + bias + add?)
//#include "lib/grid.wgsl"
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, width: u32, height: u32, // of y
    a_quads: u32, b_quads: u32, y_quads: u32, // quads: channels / 4
    shift: u32, add: u32, relu: u32,
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;       // [pixel, channel / 4]
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> w: array<vec4<f32>>;       // [y quad, tap, channel / 4 of a and b, row of the quad]
@group(0) @binding(4) var<storage, read> bias: array<vec4<f32>>;    // [y quad]
@group(0) @binding(5) var<storage, read> other: array<vec4<f32>>;   // [pixel, y quad], added
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>; // [pixel, y quad]

fn products(v: vec4<f32>, at: u32) -> vec4<f32> {
    return vec4<f32>(dot(v, w[at]), dot(v, w[at + 1u]), dot(v, w[at + 2u]), dot(v, w[at + 3u]));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let quad = g % params.y_quads;
    let pixel = (g / params.y_quads) * WG + lane;
    if g >= params.n_groups || pixel >= params.width * params.height { return; }
    let row = pixel / params.width;
    let col = pixel % params.width;
    let in_quads = params.a_quads + params.b_quads;
    var sum = bias[quad];
    for (var tap = 0u; tap < 9u; tap++) {
        // One more than the place, so that it stays positive.
        let r = row + tap / 3u;
        let c = col + tap % 3u;
        if r == 0u || c == 0u || r > params.height || c > params.width { continue; }
        let source = ((r - 1u) >> params.shift) * (params.width >> params.shift) + ((c - 1u) >> params.shift);
        var at = (quad * 9u + tap) * in_quads * 4u;
        for (var i = 0u; i < params.a_quads; i++) {
            sum += products(a[source * params.a_quads + i], at);
            at += 4u;
        }
        for (var i = 0u; i < params.b_quads; i++) {
            sum += products(b[source * params.b_quads + i], at);
            at += 4u;
        }
    }
    let to = pixel * params.y_quads + quad;
    if params.add == 1u { sum += other[to]; }
    if params.relu == 1u { sum = max(sum, vec4<f32>(0.0)); }
    y[to] = sum;
}

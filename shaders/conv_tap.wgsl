// conv_tap.wgsl: what one frame of the past gives to a causal convolution: side x side taps over some of its input
// channels, zeros around the picture. One workgroup 32 pixels and 32 outputs, an invocation 4 x 4 of them. With SHIFT 1
// every source pixel stands for 2 x 2, and y may be some of the rows of that.         Twin: src/ops/conv_tap.rs
//   y = (add? y) + w[time] * x + bias?
//#include "lib/grid.wgsl"
const WG: u32 = 64u;
const TILE: u32 = 32u; // pixels, and outputs
const DEEP: u32 = 4u;  // quads of inputs at a time
override X_HALF: u32 = 0u;
override W_HALF: u32 = 0u;

struct Params {
    first_group: u32, n_groups: u32, width: u32, height: u32, // of y
    x_quads: u32, y_quads: u32, k_quads: u32, // quads: channels / 4, of the buffers and of the matrix' inputs
    first_in: u32, first_out: u32, bias_at: u32, // quads: where the buffers' channels begin in w, and in bias
    side: u32, shift: u32, add: u32, bias: u32,
    first_row: u32, from_height: u32, // of x as it is scaled: where y's rows begin, and all rows
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec2<u32>>;       // [pixel, channel], 2 or 4 channels an element
@group(0) @binding(2) var<storage, read> w: array<vec2<u32>>;       // [time and output quad, tap, input quad, row, input]
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;    // [output quad]
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // [pixel, quad]

var<workgroup> xs: array<vec4<f32>, 128>; // [quad, pixel]
var<workgroup> ws: array<vec4<f32>, 128>; // [quad, output]

fn halves(p: vec2<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(p.x), unpack2x16float(p.y));
}

fn x_at(i: u32) -> vec4<f32> {
    if X_HALF == 1u { return halves(x[i]); }
    return vec4<f32>(bitcast<vec2<f32>>(x[2u * i]), bitcast<vec2<f32>>(x[2u * i + 1u]));
}

fn w_at(i: u32) -> vec4<f32> {
    if W_HALF == 1u { return halves(w[i]); }
    return vec4<f32>(bitcast<vec2<f32>>(w[2u * i]), bitcast<vec2<f32>>(w[2u * i + 1u]));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    if g >= params.n_groups { return; }
    let out_tiles = (params.y_quads + TILE / 4u - 1u) / (TILE / 4u);
    let first_quad = (g % out_tiles) * (TILE / 4u);
    let first_pixel = (g / out_tiles) * TILE;
    let n_pixels = params.width * params.height;
    let taps = params.side * params.side;
    let from_width = params.width >> params.shift;
    var a0 = vec4<f32>(0.0);
    var a1 = vec4<f32>(0.0);
    var a2 = vec4<f32>(0.0);
    var a3 = vec4<f32>(0.0);
    let p = lane / 8u;
    let o = lane % 8u;
    for (var tap = 0u; tap < taps; tap++) {
        for (var c = 0u; c < params.x_quads; c += DEEP) {
            for (var e = lane; e < TILE * DEEP; e += WG) {
                let q = e % DEEP;
                // Pixels four elements after each other, so that neighbours load neighbours.
                let pixel = first_pixel + e / DEEP;
                // One (with a side of 1: none) more than the place, so that it stays positive.
                let r = params.first_row + pixel / params.width + tap / params.side;
                let s = pixel % params.width + tap % params.side;
                let edge = params.side / 2u;
                var v = vec4<f32>(0.0);
                if pixel < n_pixels && c + q < params.x_quads && r >= edge && s >= edge && r < params.from_height + edge && s < params.width + edge {
                    let source = ((r - edge) >> params.shift) * from_width + ((s - edge) >> params.shift);
                    v = x_at(source * params.x_quads + c + q);
                }
                xs[q * TILE + e / DEEP] = v;
                let wq = (e / 4u) % DEEP;
                let quad = first_quad + e / (4u * DEEP);
                var u = vec4<f32>(0.0);
                if quad < params.y_quads && c + wq < params.x_quads {
                    let at = ((params.first_out + quad) * taps + tap) * params.k_quads + params.first_in + c + wq;
                    u = w_at(at * 4u + e % 4u);
                }
                ws[wq * TILE + (e / (4u * DEEP)) * 4u + e % 4u] = u;
            }
            workgroupBarrier();
            for (var q = 0u; q < DEEP; q++) {
                let w0 = ws[q * TILE + o * 4u];
                let w1 = ws[q * TILE + o * 4u + 1u];
                let w2 = ws[q * TILE + o * 4u + 2u];
                let w3 = ws[q * TILE + o * 4u + 3u];
                let x0 = xs[q * TILE + p];
                let x1 = xs[q * TILE + p + 8u];
                let x2 = xs[q * TILE + p + 16u];
                let x3 = xs[q * TILE + p + 24u];
                a0 += vec4<f32>(dot(x0, w0), dot(x0, w1), dot(x0, w2), dot(x0, w3));
                a1 += vec4<f32>(dot(x1, w0), dot(x1, w1), dot(x1, w2), dot(x1, w3));
                a2 += vec4<f32>(dot(x2, w0), dot(x2, w1), dot(x2, w2), dot(x2, w3));
                a3 += vec4<f32>(dot(x3, w0), dot(x3, w1), dot(x3, w2), dot(x3, w3));
            }
            workgroupBarrier();
        }
    }
    let quad = first_quad + o;
    if quad >= params.y_quads { return; }
    if params.bias == 1u {
        let b = bias[params.bias_at + quad];
        a0 += b;
        a1 += b;
        a2 += b;
        a3 += b;
    }
    put(first_pixel + p, quad, a0);
    put(first_pixel + p + 8u, quad, a1);
    put(first_pixel + p + 16u, quad, a2);
    put(first_pixel + p + 24u, quad, a3);
}

fn put(pixel: u32, quad: u32, value: vec4<f32>) {
    if pixel >= params.width * params.height { return; }
    let at = pixel * params.y_quads + quad;
    if params.add == 1u {
        y[at] += value;
    } else {
        y[at] = value;
    }
}

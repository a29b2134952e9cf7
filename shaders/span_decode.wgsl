// span_decode.wgsl: rows of a coded span as f32, head by head, before they are turned back. One lane four channels.
//   x[head, token] = level(code, scale, zero) * multiplier of the head + the row's centroid of every stage
// What a coding is comes in params, not in knobs: this runs between chunks, and one variant is less to compile than one a form.
// Products of a code and a stored scale of up to 16 bits are exact, so that fusing them with a sum changes nothing.
// Source: METHOD sections 2, 4, 5, 9, 10.2, 10.6                            Twin: src/ops/span_decode.rs
//#include "lib/grid.wgsl"
//#include "lib/e4m3.wgsl"
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_heads: u32, first_head: u32,
    tokens: u32, rows: u32, n_quads: u32, bits: u32,             // quads: channels of a head / 4; rows: kept a head
    grid: u32, by_channel: u32, block: u32, blocks: u32,         // blocks: scales of a row, or runs of tokens of a head
    scales: u32, stages: u32, n_centroids: u32, heads: u32,      // heads: of the span
    codes_at: u32, scales_at: u32, zeros_at: u32, ids_at: u32,   // words from the page's first
    cents_at: u32, heads_at: u32, head_words: u32,               // head_words: of a head's table, 0 for none
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> words: array<u32>;
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>; // [head, token, quad]

// The four codes of a quad, each in a lane of its own.
fn codes(row: u32, quad: u32) -> vec4<u32> {
    let first = params.codes_at + row * params.n_quads * params.bits / 8u;
    if params.bits == 8u {
        return (vec4<u32>(words[first + quad]) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
    }
    if params.bits == 4u {
        let w = words[first + quad / 2u] >> (16u * (quad % 2u));
        return (vec4<u32>(w) >> vec4<u32>(4u, 0u, 12u, 8u)) & vec4<u32>(15u);
    }
    let w = words[first + quad / 4u] >> (8u * (quad % 4u));
    let low = (vec4<u32>(w) >> vec4<u32>(6u, 4u, 2u, 0u)) & vec4<u32>(3u);
    if params.bits == 2u { return low; }
    let high = words[first + params.n_quads / 4u + quad / 8u] >> (4u * (quad % 8u));
    return low | (((vec4<u32>(high) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u)) << vec4<u32>(2u));
}

fn byte(at: u32, i: u32) -> u32 { return (words[at + i / 4u] >> (8u * (i % 4u))) & 255u; }

// Scale and zero of an entry, and whether it is the dual grid without a zero level.
struct Scale { scale: f32, zero: f32, odd: bool }

fn scale_of(entry: u32) -> Scale {
    if params.scales == 0u {
        let b = byte(params.scales_at, entry);
        let has_zero = params.zeros_at != params.ids_at;
        let zero = select(0.0, e4m3_decode(byte(params.zeros_at, select(0u, entry, has_zero))), has_zero);
        // The dual grid's flag is bit 7, also of a scale of 0.
        let is_dual = params.grid == 2u;
        return Scale(e4m3_decode(select(b, b & 127u, is_dual)), zero, is_dual && b >= 128u);
    }
    if params.scales == 1u {
        let v = unpack2x16float(words[params.scales_at + entry]);
        return Scale(v.x, v.y, false);
    }
    let at = params.scales_at + 2u * entry;
    return Scale(bitcast<f32>(words[at]), bitcast<f32>(words[at + 1u]), false);
}

fn level(code: u32, s: Scale) -> f32 {
    let c = f32(code);
    let most = f32((1u << (params.bits - 1u)) - 1u);
    switch params.grid {
        case 1u, 4u, 7u: { return c * s.scale + s.zero; }
        case 5u: { return (c - s.zero) * s.scale; }
        case 6u: { return (c - most - 1.0) * s.scale; }
        default: { return (c - most - select(0.0, 0.5, s.odd)) * s.scale; }
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    let per_head = params.tokens * params.n_quads;
    if g >= params.n_groups || i >= params.n_heads * per_head { return; }
    let head = params.first_head + i / per_head;
    let token = (i % per_head) / params.n_quads;
    let quad = i % params.n_quads;
    let row = head * params.rows + token;
    var v: vec4<f32>;
    if params.bits == 16u {
        let at = params.codes_at + (row * params.n_quads + quad) * 2u;
        v = vec4<f32>(unpack2x16float(words[at]), unpack2x16float(words[at + 1u]));
    } else {
        let c = codes(row, quad);
        if params.by_channel == 1u {
            let entry = ((head * params.blocks + token / params.block) * params.n_quads + quad) * 4u;
            v = vec4<f32>(level(c.x, scale_of(entry)), level(c.y, scale_of(entry + 1u)),
                level(c.z, scale_of(entry + 2u)), level(c.w, scale_of(entry + 3u)));
        } else {
            let s = scale_of(row * params.blocks + quad * 4u / params.block);
            v = vec4<f32>(level(c.x, s), level(c.y, s), level(c.z, s), level(c.w, s));
        }
        if params.head_words > 0u { v *= bitcast<f32>(words[params.heads_at + head * params.head_words]); }
    }
    for (var stage = 0u; stage < params.stages; stage++) {
        let table = stage * params.heads + head;
        let id = byte(params.ids_at, table * params.rows + token);
        let at = params.cents_at + ((table * params.n_centroids + id) * params.n_quads + quad) * 2u;
        let a = words[at];
        let b = words[at + 1u];
        v += bitcast<vec4<f32>>(vec4<u32>(a << 16u, a & 0xffff0000u, b << 16u, b & 0xffff0000u));
    }
    x[((head - params.first_head) * params.tokens + token) * params.n_quads + quad] = v;
}

// quantize_channels.wgsl: codes of rows with a scale and a least value a channel and run of tokens, as f16 pairs (KIVI's keys).
// One lane 32 channels of a run, so that it owns their words of codes.
// Source: METHOD 9.2                                                                   Twin: src/ops/quantize.rs
//#include "lib/grid.wgsl"
//#include "lib/half.wgsl"
override BITS: u32 = 2u;
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_heads: u32, tokens: u32, rows: u32, n_quads: u32, first_head: u32,
    run: u32, runs: u32, codes_at: u32, scales_at: u32, // tokens of a run; words of the buffer
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;       // [head, token, quad]
@group(0) @binding(2) var<storage, read_write> span: array<u32>;

fn codes_of(v: vec4<f32>, low: vec4<f32>, s: vec4<f32>) -> vec4<u32> {
    let top = f32((1u << BITS) - 1u);
    let some = s > vec4<f32>(0.0);
    let t = v - low;
    let step = select(vec4<f32>(1.0), s, some);
    var q = clamp(round(t * (1.0 / step)), vec4<f32>(0.0), vec4<f32>(top));
    let odd = (vec4<u32>(q) & vec4<u32>(1u)) == vec4<u32>(1u);
    let up = (q + 0.5) * step;
    let down = (q - 0.5) * step;
    let rise = (q < vec4<f32>(top)) & ((up < t) | ((up == t) & odd));
    let fall = (q > vec4<f32>(0.0)) & ((down > t) | ((down == t) & odd));
    q = select(select(q, q - 1.0, fall), q + 1.0, rise);
    return select(vec4<u32>(0u), vec4<u32>(q), some);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let g = group_index(wid, grid, params.first_group);
    let i = g * WG + lane;
    let parts = params.n_quads / 8u; // of 32 channels
    if g >= params.n_groups || i >= params.n_heads * params.runs * parts { return; }
    let part = i % parts;
    let run = (i / parts) % params.runs;
    let head = i / (parts * params.runs);
    let begin = run * params.run;
    let end = min(begin + params.run, params.tokens);
    let row_words = params.n_quads * 4u * BITS / 32u;
    for (var q = 0u; q < 8u; q++) {
        let quad = part * 8u + q;
        var low = x[(head * params.tokens + begin) * params.n_quads + quad];
        var high = low;
        for (var t = begin + 1u; t < end; t++) {
            let v = x[(head * params.tokens + t) * params.n_quads + quad];
            low = min(low, v);
            high = max(high, v);
        }
        let s = (high - low) / f32((1u << BITS) - 1u);
        var pairs: vec4<u32>;
        for (var k = 0u; k < 4u; k++) { pairs[k] = half_bits(s[k]) | (half_bits(low[k]) << 16u); }
        let scale_at = params.scales_at + (((params.first_head + head) * params.runs + run) * params.n_quads + quad) * 4u;
        for (var k = 0u; k < 4u; k++) { span[scale_at + k] = pairs[k]; }
        let a = unpack2x16float(pairs.x); let b = unpack2x16float(pairs.y);
        let c = unpack2x16float(pairs.z); let d = unpack2x16float(pairs.w);
        for (var t = begin; t < end; t++) {
            let v = x[(head * params.tokens + t) * params.n_quads + quad];
            let code = codes_of(v, vec4<f32>(a.y, b.y, c.y, d.y), vec4<f32>(a.x, b.x, c.x, d.x));
            let row = params.codes_at + ((params.first_head + head) * params.rows + t) * row_words;
            // The words of these 32 channels are this lane's own: filled quad by quad, the first quad of a word clears it.
            if BITS <= 3u {
                let low2 = code & vec4<u32>(3u);
                let byte = (low2.x << 6u) | (low2.y << 4u) | (low2.z << 2u) | low2.w;
                let at = row + quad / 4u;
                span[at] = select(span[at], 0u, (q & 3u) == 0u) | (byte << (8u * (q & 3u)));
                if BITS == 3u {
                    let top = code >> vec4<u32>(2u);
                    let bits = top.x | (top.y << 1u) | (top.z << 2u) | (top.w << 3u);
                    let high_at = row + params.n_quads / 4u + part;
                    span[high_at] = select(span[high_at], 0u, q == 0u) | (bits << (4u * q));
                }
            } else if BITS == 4u {
                let half = (code.x << 4u) | code.y | (code.z << 12u) | (code.w << 8u);
                let at = row + quad / 2u;
                span[at] = select(span[at], 0u, (q & 1u) == 0u) | (half << (16u * (q & 1u)));
            } else {
                span[row + quad] = code.x | (code.y << 8u) | (code.z << 16u) | (code.w << 24u);
            }
        }
    }
}

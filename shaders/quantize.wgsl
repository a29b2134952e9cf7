// quantize.wgsl: codes, scales and zeros of rows, a scale a token and block of channels. One lane four neighbouring blocks,
// so that it owns their word of scale bytes. Roundings are exact whatever the device's division is worth (METHOD 4.4).
//   GRID: src/ops/coding.rs, in its order; SCALES 0: E4M3 bytes, 1: f16 pairs, 2: f32 pairs; BITS 16: halves, no scales
//   err[entry]: given, the block's largest magnitude (head_guard.wgsl); left, the sum of (decoded^2 - given^2) over the block;
//   both where the span keeps head tables
// Source: METHOD 4, 9.1 to 9.3, 10.2, 10.3, 10.6                                         Twin: src/ops/quantize.rs
//#include "lib/grid.wgsl"
//#include "lib/e4m3.wgsl"
//#include "lib/half.wgsl"
override BITS: u32 = 2u;
override GRID: u32 = 0u;
override SCALES: u32 = 0u;
override QUADS: u32 = 16u; // of a block
override GUARD: u32 = 0u;  // head tables
const WG: u32 = 64u;

struct Params {
    first_group: u32, n_groups: u32, n_heads: u32, tokens: u32, rows: u32, blocks: u32, first_head: u32,
    row_words: u32, codes_at: u32, scales_at: u32, zeros_at: u32, heads_at: u32, head_words: u32, // words of the buffer
    clip: f32, // share of a block's range that QuaRot's grids keep
}
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;       // [head, token, block, quad]
@group(0) @binding(2) var<storage, read_write> span: array<u32>;
@group(0) @binding(3) var<storage, read_write> err: array<f32>;     // [head, row, block]

const SYMMETRIC = 0u; const ASYMMETRIC = 1u; const DUAL = 2u; const RTN = 3u;
const MIN_MAX = 4u; const ZERO_POINT = 5u; const WIDE = 6u; const SEARCH = 7u;

// Largest code and largest symmetric level.
fn q_max() -> f32 { return f32((1u << BITS) - 1u); }
fn most() -> f32 { return f32((1u << (BITS - 1u)) - 1u); }

// A block's scale and zero as they are stored, and what its codes then mean: level = (code + offset) * s + z.
struct Block { s: f32, z: f32, offset: f32, scale_bits: u32, zero_bits: u32, grid: u32 }

fn mid(c: u32) -> f32 { return (e4m3_decode(c) + e4m3_decode(c + 1u)) * 0.5; }

// The byte of amax / n, nearest even, without a division that may be off.
fn scale_byte(amax: f32, n: f32) -> u32 {
    var c = e4m3_encode(amax * (1.0 / n));
    for (; c > 0u; c--) {
        let edge = n * mid(c - 1u);
        if !(amax < edge || (amax == edge && (c & 1u) == 1u)) { break; }
    }
    for (; c < 126u; c++) {
        let edge = n * mid(c);
        if !(amax > edge || (amax == edge && (c & 1u) == 1u)) { break; }
    }
    return c;
}

// A quotient by a rounded reciprocal is at most one step off: exact products say where.

// Half away from zero, of t / s for t >= 0, at most top; s > 0.
fn nearest_away(t: f32, s: f32, top: f32) -> f32 {
    let q = min(floor(t * (1.0 / s) + 0.5), top);
    let up = q < top && (q + 0.5) * s <= t;
    let down = q > 0.0 && (q - 0.5) * s > t;
    return q + select(0.0, 1.0, up) - select(0.0, 1.0, down);
}

// Half to even, of t / s, from low to high; s > 0.
fn nearest_even(t: f32, s: f32, low: f32, high: f32) -> f32 {
    let q = clamp(round(t * (1.0 / s)), low, high);
    let odd = (i32(q) & 1) != 0;
    let above = (q + 0.5) * s;
    let below = (q - 0.5) * s;
    let up = q < high && (above < t || (above == t && odd));
    let down = q > low && (below > t || (below == t && odd));
    return q + select(0.0, 1.0, up) - select(0.0, 1.0, down && !up);
}

// floor(r / s), from low to high; s > 0.
fn floor_of(r: f32, s: f32, low: f32, high: f32) -> f32 {
    let q = clamp(floor(r * (1.0 / s)), low, high);
    let up = q < high && (q + 1.0) * s <= r;
    let down = q > low && q * s > r;
    return q + select(0.0, 1.0, up) - select(0.0, 1.0, down);
}

// GRID is known when the kernel is compiled; beyond it there are no branches: both halves of the dual grid in one line.
fn code_of(b: Block, r: f32) -> f32 {
    if GRID == DUAL && BITS == 2u {
        // Each level above the least is one comparison; a scale of 0 leaves the sign or, without a zero level, nothing.
        let level = select(0.0, 1.0, r >= 0.5 * b.s) - select(0.0, 1.0, -r >= 0.5 * b.s);
        let below = select(0.0, 1.0, r >= -b.s) + select(0.0, 1.0, r >= 0.0) + select(0.0, 1.0, r >= b.s);
        let flat = b.s == 0.0;
        return select(select(below, 2.0, flat), select(level + 1.0, select(0.0, 2.0, r > 0.0), flat), b.grid == SYMMETRIC);
    }
    if GRID == SYMMETRIC || GRID == DUAL {
        let m = most();
        let q = nearest_away(abs(r), b.s, m);
        let level = select(select(q, -q, r < 0.0), select(-m, m, r > 0.0), b.s == 0.0);
        if GRID == SYMMETRIC { return level + m; }
        let h = m + 1.0;
        let below = select(floor_of(r, b.s, -h, h - 1.0), 0.0, b.s == 0.0); // the half without a zero level
        return select(below + h, level + m, b.grid == SYMMETRIC);
    }
    if GRID == ASYMMETRIC || GRID == SEARCH {
        let t = r - b.z;
        if b.s == 0.0 { return select(0.0, q_max(), t > 0.0); }
        return nearest_away(max(t, 0.0), b.s, q_max());
    }
    if GRID == RTN { return nearest_even(r, b.s, -most(), most()) + most(); }
    if GRID == WIDE { return nearest_even(r, b.s, -most() - 1.0, most()) + most() + 1.0; }
    if GRID == ZERO_POINT {
        return clamp(nearest_even(r, b.s, -1.0e6, 1.0e6) - b.offset, 0.0, q_max());
    }
    if b.s == 0.0 { return 0.0; }
    return nearest_even(r - b.z, b.s, 0.0, q_max());
}

fn value_of(b: Block, code: f32) -> f32 { return (code + b.offset) * b.s + b.z; }

// Stores a scale above 0, given exactly as amax / n.
fn with_scale(grid: u32, offset: f32, amax: f32, n: f32) -> Block {
    if SCALES == 0u {
        let c = scale_byte(amax, n);
        return Block(e4m3_decode(c), 0.0, offset, c, 0u, grid);
    }
    let s = amax / n;
    if SCALES == 1u {
        let h = half_bits(s);
        return Block(unpack2x16float(h).x, 0.0, offset, h, 0u, grid);
    }
    return Block(s, 0.0, offset, bitcast<u32>(s), 0u, grid);
}

fn with_zero(b: Block, zero: f32) -> Block {
    var out = b;
    if SCALES == 0u {
        out.zero_bits = e4m3_encode(zero);
        out.z = e4m3_decode(out.zero_bits);
    } else if SCALES == 1u {
        out.zero_bits = half_bits(zero);
        out.z = unpack2x16float(out.zero_bits).x;
    } else {
        out.zero_bits = bitcast<u32>(zero);
        out.z = zero;
    }
    return out;
}

// The dual grid's block with this scale, which is an E4M3 number: of the half with a zero level, or of the one without.
fn dual_block(mid_rise: bool, s: f32) -> Block {
    let c = e4m3_encode(s);
    if mid_rise { return Block(s, 0.0, -most() - 0.5, c | 0x80u, 0u, DUAL); }
    return Block(s, 0.0, -most(), c, 0u, SYMMETRIC);
}

// How far t >= 0 is from the nearest level for four scales, each of the grid with a zero level (offset 0) or without (0.5).
fn misses(t: f32, s: vec4<f32>, inverse: vec4<f32>, offset: vec4<f32>) -> vec4<f32> {
    let half = 0.5 - offset;
    let none = vec4<f32>(0.0);
    let one = vec4<f32>(1.0);
    var q: vec4<f32>;
    if BITS == 2u {
        q = select(none, one, (1.0 - half) * s <= vec4<f32>(t));
    } else {
        let top = vec4<f32>(most());
        let guess = min(floor(t * inverse + half), top);
        let up = (guess < top) & ((guess + (1.0 - half)) * s <= vec4<f32>(t));
        let down = (guess > none) & ((guess - half) * s > vec4<f32>(t));
        q = guess + select(none, one, up) - select(none, one, down);
    }
    return (q + offset) * s - t;
}

const GAMMAS = vec4<f32>(1.0, 0.85, 0.7, 0.6);
const LAST_GAMMAS = vec2<f32>(0.5, 0.4);

fn to_e4m3(s: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(e4m3_decode(e4m3_encode(s.x)), e4m3_decode(e4m3_encode(s.y)),
        e4m3_decode(e4m3_encode(s.z)), e4m3_decode(e4m3_encode(s.w)));
}

fn inverse_of(s: vec4<f32>) -> vec4<f32> { return select(1.0 / s, vec4<f32>(0.0), s == vec4<f32>(0.0)); }

fn better(best: vec2<f32>, error: f32, s: f32) -> vec2<f32> {
    return select(best, vec2<f32>(error, s), error < best.x);
}

// The better of twelve candidates by squared error; the first of equals. Every value is loaded once for all of them.
fn best_dual(at: u32, by: f32, amax: f32) -> Block {
    // One product of a value and constants: compilers put two together, and a scale between two bytes would be their choice.
    let m = 1.0 / most();
    let h = 1.0 / (most() + 1.0);
    let zero = to_e4m3(amax * (GAMMAS * m)); // scales, one a factor
    let rise = to_e4m3(amax * (GAMMAS * h));
    let last = to_e4m3(amax * vec4<f32>(LAST_GAMMAS * m, LAST_GAMMAS * h)); // the last two factors of both halves
    let by_zero = inverse_of(zero);
    let by_rise = inverse_of(rise);
    let by_last = inverse_of(last);
    var zero_error = vec4<f32>(0.0);
    var rise_error = vec4<f32>(0.0);
    var last_error = vec4<f32>(0.0);
    for (var q = 0u; q < QUADS; q++) {
        let v = abs(x[at + q] * by);
        for (var k = 0u; k < 4u; k++) {
            let z = misses(v[k], zero, by_zero, vec4<f32>(0.0));
            let r = misses(v[k], rise, by_rise, vec4<f32>(0.5));
            let l = misses(v[k], last, by_last, vec4<f32>(0.0, 0.0, 0.5, 0.5));
            zero_error += z * z;
            rise_error += r * r;
            last_error += l * l;
        }
    }
    var best = vec2<f32>(zero_error.x, zero.x); // error, scale
    best = better(best, zero_error.y, zero.y);
    best = better(best, zero_error.z, zero.z);
    best = better(best, zero_error.w, zero.w);
    best = better(best, last_error.x, last.x);
    best = better(best, last_error.y, last.y);
    let least_zero = best.x;
    best = better(best, rise_error.x, rise.x);
    best = better(best, rise_error.y, rise.y);
    best = better(best, rise_error.z, rise.z);
    best = better(best, rise_error.w, rise.w);
    best = better(best, last_error.z, last.z);
    best = better(best, last_error.w, last.w);
    return dual_block(best.x < least_zero, best.y);
}

fn search_block(k: u32, low: f32, high: f32) -> Block {
    var gammas = array<f32, 6>(1.0, 0.85, 0.7, 0.6, 0.5, 0.4);
    let half = gammas[k] * ((high - low) * 0.5);
    let b = with_scale(ASYMMETRIC, 0.0, 2.0 * half, q_max());
    return with_zero(b, (high + low) * 0.5 - half);
}

fn squared_error(b: Block, at: u32, by: f32) -> f32 {
    var sum = 0.0;
    for (var q = 0u; q < QUADS; q++) {
        let v = x[at + q] * by;
        for (var k = 0u; k < 4u; k++) {
            let e = value_of(b, code_of(b, v[k])) - v[k];
            sum += e * e;
        }
    }
    return sum;
}

fn block_of(at: u32, by: f32, entry: u32) -> Block {
    if GUARD == 1u && GRID == DUAL { return best_dual(at, by, err[entry] * by); }
    var low = x[at] * by;
    var high = low;
    for (var q = 1u; q < QUADS; q++) {
        let v = x[at + q] * by;
        low = min(low, v);
        high = max(high, v);
    }
    let keep = select(1.0, params.clip, GRID == WIDE || GRID == ZERO_POINT);
    let least = min(min(low.x, low.y), min(low.z, low.w)) * keep;
    let largest = max(max(high.x, high.y), max(high.z, high.w)) * keep;
    let amax = max(largest, -least);
    if GRID == SYMMETRIC { return with_scale(SYMMETRIC, -most(), amax, most()); }
    if GRID == ASYMMETRIC { return with_zero(with_scale(ASYMMETRIC, 0.0, largest - least, q_max()), least); }
    if GRID == DUAL { return best_dual(at, by, amax); }
    if GRID == SEARCH {
        var best = 3.0e38;
        var chosen = Block(0.0, 0.0, 0.0, 0u, 0u, ASYMMETRIC);
        for (var k = 0u; k < 6u; k++) {
            let b = search_block(k, least, largest);
            let e = squared_error(b, at, by);
            if e < best { best = e; chosen = b; }
        }
        return chosen;
    }
    if GRID == RTN {
        // The mantissa rounds half away from zero, and the scale is never 0.
        let u = bitcast<u32>(min(max(amax / most(), 1.0e-10), 448.0));
        var c = min(((u + 0x80000u) >> 20u) - 960u, 0x7eu);
        if u < 0x3c800000u { c = max(u32(floor(bitcast<f32>(u) * 512.0 + 0.5)), 1u); }
        return Block(e4m3_decode(c), 0.0, -most(), c, 0u, RTN);
    }
    if GRID == MIN_MAX { return with_zero(with_scale(MIN_MAX, 0.0, largest - least, q_max()), least); }
    if GRID == WIDE {
        return with_scale(WIDE, -most() - 1.0, select(amax, most(), amax == 0.0), most());
    }
    // QuaRot's zero point: a whole number, which may lie outside the codes.
    let flat = largest == 0.0 && least == 0.0;
    let low_end = select(least, -1.0, flat);
    var b = with_scale(ZERO_POINT, 0.0, select(largest, 1.0, flat) - low_end, q_max());
    if b.s == 0.0 { b = with_scale(ZERO_POINT, 0.0, 1.0, 1.0); }
    b = with_zero(b, round(-low_end / b.s));
    b.offset = -b.z;
    b.z = 0.0;
    return b;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    // A workgroup stays within a head.
    let g = group_index(wid, grid, params.first_group);
    let per_head = params.rows * params.blocks; // entries, a multiple of four
    let groups = (per_head / 4u + WG - 1u) / WG;
    let head = g / groups;
    let first = 4u * ((g - head * groups) * WG + lane);
    if g >= params.n_groups || first >= per_head { return; }
    var scale_word = 0u;
    var zero_word = 0u;
    let offset = (params.first_head + head) * per_head; // entries of the heads before
    for (var e = 0u; e < 4u; e++) {
        let row = (first + e) / params.blocks;
        let block = (first + e) - row * params.blocks;
        let i = first + e;
        if row >= params.tokens { continue; }
        let at = ((head * params.tokens + row) * params.blocks + block) * QUADS;
        let to = params.codes_at + ((params.first_head + head) * params.rows + row) * params.row_words;
        if BITS == 16u {
            for (var q = 0u; q < QUADS; q++) {
                let v = clamp(x[at + q], vec4<f32>(-65504.0), vec4<f32>(65504.0));
                span[to + (block * QUADS + q) * 2u] = pack2x16float(v.xy);
                span[to + (block * QUADS + q) * 2u + 1u] = pack2x16float(v.zw);
            }
            continue;
        }
        var by = 1.0;
        if GUARD == 1u {
            by = 1.0 / bitcast<f32>(span[params.heads_at + (params.first_head + head) * params.head_words]); // a power of two
        }
        let b = block_of(at, by, head * per_head + i);
        var energy = 0.0;
        var word = 0u;
        var high = 0u;
        for (var q = 0u; q < QUADS; q++) {
            let v = x[at + q] * by;
            for (var k = 0u; k < 4u; k++) {
                let code = code_of(b, v[k]);
                if GUARD == 1u {
                    let d = value_of(b, code);
                    energy += d * d - v[k] * v[k];
                }
                let c = u32(code);
                let ch = q * 4u + k;
                if BITS == 2u || BITS == 3u {
                    word |= (c & 3u) << (8u * (q & 3u) + 6u - 2u * k);
                    if BITS == 3u { high |= (c >> 2u) << (ch & 31u); }
                } else if BITS == 4u {
                    word |= c << (16u * (q & 1u) + 8u * (k / 2u) + 4u - 4u * (k & 1u));
                } else {
                    word |= c << (8u * k);
                }
            }
            let per_word = select(select(1u, 2u, BITS == 4u), 4u, BITS <= 3u); // quads
            if (q + 1u) % per_word == 0u {
                span[to + (block * QUADS + q) / per_word] = word;
                word = 0u;
            }
            if BITS == 3u && (q & 7u) == 7u {
                span[to + params.blocks * QUADS / 4u + (block * QUADS + q) / 8u] = high;
                high = 0u;
            }
        }
        if GUARD == 1u { err[head * per_head + i] = energy / (by * by); }
        if SCALES == 0u {
            scale_word |= b.scale_bits << (8u * e);
            zero_word |= b.zero_bits << (8u * e);
        } else if SCALES == 1u {
            span[params.scales_at + offset + i] = b.scale_bits | (b.zero_bits << 16u);
        } else {
            span[params.scales_at + 2u * (offset + i)] = b.scale_bits;
            span[params.scales_at + 2u * (offset + i) + 1u] = b.zero_bits;
        }
    }
    if SCALES == 0u && BITS != 16u {
        span[params.scales_at + (offset + first) / 4u] = scale_word;
        if GRID == ASYMMETRIC || GRID == SEARCH || GRID == MIN_MAX || GRID == ZERO_POINT {
            span[params.zeros_at + (offset + first) / 4u] = zero_word;
        }
    }
}

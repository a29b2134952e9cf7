// f16 bits: nearest, ties to even, saturating. pack2x16float may round either way, and scales must come out the same anywhere.
fn half_bits(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let u = bits & 0x7fffffffu;
    var h = ((u + 0xfffu + ((u >> 13u) & 1u)) >> 13u) - 0x1c000u;
    if u < 0x38800000u { h = u32(round(bitcast<f32>(u) * 16777216.0)); }
    if u >= 0x477ff000u { h = 0x7bffu; }
    return h | ((bits >> 16u) & 0x8000u);
}

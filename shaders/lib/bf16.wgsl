// bf16 as the high half of an f32: nearest, ties to even.
fn bf16_bits(a: f32) -> u32 {
    let bits = bitcast<u32>(a);
    return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

fn bf16_round(a: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(bitcast<f32>(bf16_bits(a.x) << 16u), bitcast<f32>(bf16_bits(a.y) << 16u),
        bitcast<f32>(bf16_bits(a.z) << 16u), bitcast<f32>(bf16_bits(a.w) << 16u));
}

// E4M3 bytes: decoding without a subnormal on the way, encoding to nearest even with saturation (METHOD 4.3).
fn e4m3_decode(b: u32) -> f32 {
    let e = (b >> 3u) & 15u;
    let f = b & 7u;
    let v = select(bitcast<f32>(((e + 120u) << 23u) | (f << 20u)), f32(f) * 0.001953125, e == 0u);
    return select(v, -v, (b & 128u) != 0u);
}

fn e4m3_encode(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let u = bits & 0x7fffffffu;
    let normal = min(((u + 0x7ffffu + ((u >> 20u) & 1u)) >> 20u) - 960u, 0x7eu);
    let small = u32(round(min(bitcast<f32>(u), 1.0) * 512.0)); // by steps of the subnormals
    let m = select(select(normal, small, u < 0x3c800000u), 0x7eu, u >= 0x43e00000u);
    return m | ((bits >> 31u) << 7u);
}

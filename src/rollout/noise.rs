//! Noise by counter: a value depends on the seed, the stream, the frame and its place in the frame, and on nothing else.
//!
//! Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") keyed by the seed; Box-Muller in f64.
//! Whatever else draws random numbers takes another stream, so that switching it on never changes a film's noise.

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Stream of a chunk's starting noise. Re-noise after step s has stream `s + 1`.
pub const START: u32 = 0;

/// Ten rounds of Philox4x32.
fn philox(mut c: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(MULTIPLIERS[0]) * u64::from(c[0]);
        let b = u64::from(MULTIPLIERS[1]) * u64::from(c[2]);
        c = [
            (b >> 32) as u32 ^ c[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ c[3] ^ key[1],
            a as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    c
}

/// `len` standard normal values of one frame.
pub fn normal(seed: u64, stream: u32, frame: i64, len: usize) -> Vec<f32> {
    let key = [seed as u32, (seed >> 32) as u32];
    let unit = |bits: u32| (f64::from(bits) + 0.5) / 4_294_967_296.0;
    let mut out = Vec::with_capacity(len + 3);
    for block in 0..len.div_ceil(4) as u32 {
        let r = philox([block, stream, frame as u32, (frame >> 32) as u32], key);
        for pair in [[r[0], r[1]], [r[2], r[3]]] {
            let radius = (-2.0 * unit(pair[0]).ln()).sqrt();
            let angle = std::f64::consts::TAU * unit(pair[1]);
            out.extend([(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]);
        }
    }
    out.truncate(len);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_published_vectors() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
    }

    #[test]
    fn values_are_normal_and_depend_on_their_place_only() {
        let v = normal(7, START, 3, 40_000);
        let mean = v.iter().map(|v| f64::from(*v)).sum::<f64>() / v.len() as f64;
        let var = v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / v.len() as f64;
        assert!(
            mean.abs() < 0.02 && (var - 1.0).abs() < 0.03,
            "{mean} {var}"
        );
        assert_eq!(normal(7, START, 3, 10), v[..10]);
        for other in [
            normal(8, START, 3, 10),
            normal(7, 1, 3, 10),
            normal(7, START, 4, 10),
            normal(7 + (1 << 32), START, 3, 10),
        ] {
            assert_ne!(other, v[..10]);
        }
    }
}

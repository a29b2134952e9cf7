//! Random draws as NumPy's `default_rng(seed)` makes them, so that a seed names the same world here and in training code:
//! PCG64 seeded by a `SeedSequence`, with NumPy's own ways from its words to numbers.
//!
//! Source: O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for Random Number
//! Generation" (XSL RR 128/64); NumPy enhancement proposal 19; Lemire, "Fast Random Integer Generation in an Interval";
//! Marsaglia and Tsang, "The Ziggurat Method" with 256 strips.

/// A stream of draws.
#[derive(Debug, Clone)]
pub(super) struct Draws {
    state: u128,
    increment: u128,
    /// Upper half of a word whose lower half was taken.
    half: Option<u32>,
    normal: Ziggurat,
}

const PCG_MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

impl Draws {
    /// The stream of `default_rng(seed)`.
    pub(super) fn new(seed: u64) -> Draws {
        let words = seed_words(seed);
        let wide = |i: usize| {
            let word = |at: usize| u128::from(words[at]) | u128::from(words[at + 1]) << 32;
            word(4 * i) << 64 | word(4 * i + 2)
        };
        let mut draws = Draws {
            state: 0,
            increment: wide(1) << 1 | 1,
            half: None,
            normal: Ziggurat::new(),
        };
        draws.step();
        draws.state = draws.state.wrapping_add(wide(0));
        draws.step();
        draws
    }

    fn step(&mut self) {
        self.state = self
            .state
            .wrapping_mul(PCG_MULTIPLIER)
            .wrapping_add(self.increment);
    }

    fn word(&mut self) -> u64 {
        self.step();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        folded.rotate_right((self.state >> 122) as u32)
    }

    fn half_word(&mut self) -> u32 {
        if let Some(half) = self.half.take() {
            return half;
        }
        let word = self.word();
        self.half = Some((word >> 32) as u32);
        word as u32
    }

    /// From 0 to below 1: `random()`.
    pub(super) fn unit(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// From `low` to below `high`: `uniform(low, high)`.
    pub(super) fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A whole number from `low` to below `high`: `integers(low, high)`; `low` where there is none.
    pub(super) fn below(&mut self, low: usize, high: usize) -> usize {
        let n = high.saturating_sub(low) as u32;
        if n <= 1 {
            return low;
        }
        let mut product = u64::from(self.half_word()) * u64::from(n);
        if (product as u32) < n {
            let threshold = (u32::MAX - (n - 1)) % n;
            while (product as u32) < threshold {
                product = u64::from(self.half_word()) * u64::from(n);
            }
        }
        low + (product >> 32) as usize
    }

    /// One of these, each as likely: `choice(of)`.
    pub(super) fn choice<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(0, of.len())]
    }

    /// An index, as likely as its weight says: `choice(n, p=weights)`.
    pub(super) fn weighted(&mut self, weights: &[f64]) -> usize {
        let sums: Vec<f64> = weights
            .iter()
            .scan(0.0, |sum, w| {
                *sum += w;
                Some(*sum)
            })
            .collect();
        let total = sums.last().copied().unwrap_or(1.0);
        let u = self.unit();
        sums.iter()
            .position(|s| u < s / total)
            .unwrap_or(weights.len().saturating_sub(1))
    }

    /// Normal with this mean and standard deviation: `normal(mean, deviation)`.
    pub(super) fn normal(&mut self, mean: f64, deviation: f64) -> f64 {
        mean + deviation * self.standard_normal()
    }

    fn standard_normal(&mut self) -> f64 {
        loop {
            let word = self.word();
            let strip = (word & 255) as usize;
            let negative = word >> 8 & 1 == 1;
            let place = word >> 9 & ((1 << 52) - 1);
            let size = place as f64 * self.normal.width[strip];
            let x = if negative { -size } else { size };
            if place < self.normal.inside[strip] {
                return x;
            }
            if strip == 0 {
                let tail = self.tail();
                return if place >> 8 & 1 == 1 { -tail } else { tail };
            }
            let (below, above) = (self.normal.height[strip - 1], self.normal.height[strip]);
            if (below - above) * self.unit() + above < (-0.5 * x * x).exp() {
                return x;
            }
        }
    }

    /// Beyond the last strip.
    fn tail(&mut self) -> f64 {
        loop {
            let x = -(-self.unit()).ln_1p() / LAST_STRIP;
            let y = -(-self.unit()).ln_1p();
            if y + y > x * x {
                return LAST_STRIP + x;
            }
        }
    }
}

/// The state that a `SeedSequence` makes of a seed, 8 words.
fn seed_words(seed: u64) -> [u32; 8] {
    let hashed = |value: u32, key: &mut u32, multiplier: u32| {
        let value = value ^ *key;
        *key = key.wrapping_mul(multiplier);
        let value = value.wrapping_mul(*key);
        value ^ value >> 16
    };
    let mut key = 0x43b0_d7e5u32;
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0];
    for word in &mut pool {
        *word = hashed(*word, &mut key, 0x931e_8875);
    }
    for from in 0..4 {
        for to in (0..4).filter(|to| *to != from) {
            let other = hashed(pool[from], &mut key, 0x931e_8875);
            let mixed = pool[to]
                .wrapping_mul(0xca01_f9dd)
                .wrapping_sub(other.wrapping_mul(0x4973_f715));
            pool[to] = mixed ^ mixed >> 16;
        }
    }
    let mut key = 0x8b51_f9ddu32;
    std::array::from_fn(|i| hashed(pool[i % 4], &mut key, 0x58f3_8ded))
}

/// Right edge of the last strip.
const LAST_STRIP: f64 = 3.654_152_885_361_009;
/// Area of a strip.
const STRIP_AREA: f64 = 0.004_928_673_233_997_08;

/// 256 strips of equal area under the normal curve.
#[derive(Debug, Clone)]
struct Ziggurat {
    /// A strip's width by 2^-52.
    width: [f64; 256],
    /// Where a strip lies under the curve as a whole.
    inside: [u64; 256],
    height: [f64; 256],
}

impl Ziggurat {
    fn new() -> Ziggurat {
        let whole = (1u64 << 52) as f64;
        let curve = |x: f64| (-0.5 * x * x).exp();
        let mut z = Ziggurat {
            width: [0.0; 256],
            inside: [0; 256],
            height: [1.0; 256],
        };
        let base = STRIP_AREA / curve(LAST_STRIP);
        z.width[0] = base / whole;
        z.inside[0] = (LAST_STRIP / base * whole) as u64;
        let mut edge = LAST_STRIP;
        z.width[255] = edge / whole;
        z.height[255] = curve(edge);
        for i in (1..255).rev() {
            let next = (-2.0 * (STRIP_AREA / edge + curve(edge)).ln()).sqrt();
            z.inside[i + 1] = (next / edge * whole) as u64;
            z.width[i] = next / whole;
            z.height[i] = curve(next);
            edge = next;
        }
        z
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by NumPy 2.4: `default_rng(900003)`, every kind of draw in turn.
    #[test]
    fn draws_are_numpys() {
        let mut d = Draws::new(900_003);
        assert_eq!(
            (d.unit(), d.unit()),
            (0.263_287_291_668_516_3, 0.007_488_066_212_302_802)
        );
        let whole: Vec<usize> = (0..12).map(|_| d.below(3, 6)).collect();
        assert_eq!(whole, [4, 3, 4, 3, 4, 4, 5, 5, 3, 3, 4, 3]);
        assert_eq!(d.below(0, 1000), 142);
        assert_eq!(d.uniform(0.15, 0.3), 0.180_992_765_057_127_89);
        assert_eq!(d.below(0, 7), 4);
        assert_eq!(d.unit(), 0.969_603_247_429_665_6);
        assert_eq!(d.below(0, 7), 5);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9 * b.abs().max(1.0);
        for want in [
            -0.006_274_774_742_649_388,
            0.067_965_366_743_236_5,
            0.027_957_013_351_293_136,
            -0.013_981_205_294_512_734,
        ] {
            assert!(close(d.normal(0.0, 0.04), want));
        }
        let many: Vec<f64> = (0..20_000).map(|_| d.normal(0.0, 1.0)).collect();
        assert!(close(many.iter().sum(), 122.854_600_451_539_08));
        let largest = many.iter().fold(0f64, |m, v| m.max(v.abs()));
        assert!(close(largest, 3.817_702_396_029_448));
        let hues = [0.0, 0.08, 0.33, 0.5, 0.66];
        let chosen: Vec<f64> = (0..6).map(|_| d.choice(&hues)).collect();
        assert_eq!(chosen, [0.0, 0.5, 0.08, 0.0, 0.66, 0.08]);
        let weights = [0.45, 0.2, 0.2, 0.06, 0.06, 0.03];
        let steps: Vec<usize> = (0..12).map(|_| d.weighted(&weights)).collect();
        assert_eq!(steps, [1, 0, 2, 0, 3, 0, 0, 4, 0, 0, 0, 3]);
    }
}

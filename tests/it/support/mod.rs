//! What the tests share: devices, test values, guarded outputs, and the comparison of a device with the CPU twins.

use std::sync::OnceLock;

use bytemuck::Pod;
use longtake::gpu::{Buffer, Device, Error, Purpose, Recorder, Select, TierRequest};

/// A device under test.
pub struct Gpu {
    pub label: &'static str,
    pub device: Device,
}

/// Opens the default adapter, or says why not. Without an adapter tests pass with a note, unless one is required.
pub fn open(tier: TierRequest) -> Option<Device> {
    match Device::open(&Select { device: None, tier }) {
        Ok(device) => Some(device),
        Err(Error::NoDevice)
            if std::env::var_os("LONGTAKE_REQUIRE_GPU").is_none_or(|v| v != "1") =>
        {
            eprintln!("SKIPPED: needs a GPU or lavapipe");
            None
        }
        Err(e) => panic!("{e}"),
    }
}

/// The adapter with all it has and with WebGPU's default limits; empty without an adapter.
pub fn gpus() -> &'static [Gpu] {
    static GPUS: OnceLock<Vec<Gpu>> = OnceLock::new();
    let gpus = GPUS.get_or_init(|| {
        let all = [
            ("best tier", TierRequest::Best),
            ("portable tier", TierRequest::Portable),
        ];
        all.into_iter()
            .filter_map(|(label, tier)| open(tier).map(|device| Gpu { label, device }))
            .collect()
    });
    if gpus.is_empty() {
        eprintln!("SKIPPED: needs a GPU or lavapipe");
    }
    gpus
}

/// The adapter with all it has.
pub fn device() -> Option<&'static Device> {
    gpus().first().map(|g| &g.device)
}

/// 64 bits that look random and depend on (`seed`, `i`) alone: splitmix64's finalizer.
pub fn hash(seed: u64, i: u64) -> u64 {
    let mut z = seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(i)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `n` values, even over -1…1.
pub fn values(seed: u64, n: usize) -> Vec<f32> {
    (0..n as u64)
        .map(|i| (hash(seed, i) >> 40) as f32 / (1u32 << 23) as f32 - 1.0)
        .collect()
}

/// Values that arithmetic trips over: zeros of both signs, denormals of f32 and f16, both formats' ends, rounding ties.
pub const HOSTILE: [f32; 24] = [
    0.0,
    -0.0,
    1e-30,
    -1e-30,
    1e-40,
    -1e-45,
    65504.0,
    -65504.0,
    65519.0,
    65520.0,
    7e4,
    -3.4e38,
    6.0e-8,
    -5.96e-8,
    2.98e-8,
    6.1e-5,
    -6.09e-5,
    1.000_488_3,
    1.001_464_8,
    -1.003_906_3,
    1.011_718_8,
    0.333_333_34,
    2049.0,
    2051.0,
];

/// `n` values: [`HOSTILE`] ones in every fourth place, cycling, ordinary ones between.
pub fn hostile(seed: u64, n: usize) -> Vec<f32> {
    let mut v = values(seed, n);
    for (i, h) in v.iter_mut().step_by(4).zip(HOSTILE.iter().cycle()) {
        *i = *h;
    }
    v
}

/// An input.
pub fn input(device: &Device, data: &[f32]) -> Buffer<f32> {
    device.upload(Purpose::Activations, "input", data).unwrap()
}

/// Words behind an output that nobody may touch.
const GUARD: usize = 64;

/// A NaN of its own for every guard word.
fn guard(i: usize) -> u32 {
    0x7fc0_5a00 + i as u32
}

/// An output with a guard behind it.
pub struct Out<T> {
    pub buffer: Buffer<T>,
    n: usize,
}

impl<T: Pod> Out<T> {
    /// Starts with `data`, for ops that add to what is there.
    pub fn holding(device: &Device, data: &[T]) -> Out<T> {
        let mut words: Vec<u32> = bytemuck::cast_slice(data).to_vec();
        words.extend((0..GUARD).map(guard));
        let buffer = device
            .upload(
                Purpose::Activations,
                "output",
                bytemuck::cast_slice::<u32, T>(&words),
            )
            .unwrap();
        Out {
            buffer,
            n: data.len(),
        }
    }

    /// Starts with NaNs, for ops that write all of it without reading.
    pub fn unwritten(device: &Device, n: usize) -> Out<T> {
        Out::holding(device, bytemuck::cast_slice(&vec![f32::NAN; n]))
    }

    /// What is there now.
    ///
    /// # Panics
    /// When the guard was touched.
    pub fn read(&self, device: &Device) -> Vec<T> {
        let mut all = device.read_all(&self.buffer).unwrap();
        let tail: Vec<u32> = bytemuck::cast_slice(&all.split_off(self.n)).to_vec();
        for (i, word) in tail.iter().enumerate() {
            assert_eq!(
                *word,
                guard(i),
                "guard word {i} behind {} values was overwritten",
                self.n
            );
        }
        all
    }
}

/// Records and runs, and holds every plan to the list that the shader tests compile.
pub fn run(device: &Device, record: impl FnOnce(&mut Recorder<'_>)) {
    let mut rec = device.recorder();
    record(&mut rec);
    for (kernel, plan) in rec.plans() {
        let known = (kernel.plans)(device.caps());
        assert!(
            known.contains(&plan.knobs),
            "{}: {:?} is not in its `plans`",
            kernel.name,
            plan.knobs
        );
    }
    device.run(rec).unwrap();
}

/// How far a device may be from the twin.
#[derive(Debug, Clone, Copy)]
pub struct Tol {
    /// Mean square error over the mean square of the truth.
    pub nmse: f64,
    /// Largest error over the largest magnitude of the truth.
    pub max: f64,
}

impl Tol {
    /// A few roundings of 6e-8 each.
    pub const ELEMENTWISE: Tol = Tol {
        nmse: 1e-13,
        max: 1e-6,
    };

    /// Sums of `n` products in f32, in any order: each addition errs by up to 6e-8 of the running sum, and errors of
    /// random sign add up to about `sqrt(n)` times that; the largest of many is some four times as large. The twins sum in f64.
    pub fn sums(n: usize) -> Tol {
        let rms = 6e-8 * (n.max(16) as f64).sqrt();
        Tol {
            nmse: rms * rms,
            max: 4.0 * rms,
        }
    }
}

/// (NMSE, largest error over largest magnitude). Infinite when either side is not finite where the other is.
pub fn errors(got: &[f32], want: &[f32]) -> (f64, f64) {
    assert_eq!(got.len(), want.len());
    let (mut square, mut norm, mut worst, mut largest) = (0.0f64, 0.0f64, 0.0f64, 0.0f64);
    for (g, w) in got.iter().zip(want) {
        if g.to_bits() == w.to_bits() {
            norm += f64::from(*w).powi(2);
            largest = largest.max(f64::from(*w).abs());
            continue;
        }
        let e = f64::from(*g) - f64::from(*w);
        if !e.is_finite() {
            return (f64::INFINITY, f64::INFINITY);
        }
        square += e * e;
        norm += f64::from(*w).powi(2);
        worst = worst.max(e.abs());
        largest = largest.max(f64::from(*w).abs());
    }
    let over = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a / b };
    (over(square, norm), over(worst, largest))
}

/// Compares the outputs of `op` on every device with those on the twin.
pub fn check_twin(case: &str, tol: Tol, op: impl Fn(&Device) -> Vec<Vec<f32>>) {
    if gpus().is_empty() {
        return;
    }
    let want = op(&Device::twin());
    for gpu in gpus() {
        for (i, (got, want)) in op(&gpu.device).iter().zip(&want).enumerate() {
            let (nmse, max) = errors(got, want);
            println!(
                "{case}, output {i}, {}: NMSE {nmse:.1e} of {:.1e}, max {max:.1e} of {:.1e}",
                gpu.label, tol.nmse, tol.max
            );
            if nmse <= tol.nmse && max <= tol.max {
                continue;
            }
            let far = |(_, (g, w)): &(usize, (&f32, &f32))| {
                let e = f64::from(**g) - f64::from(**w);
                e.is_nan() || e.abs() > tol.max * f64::from(w.abs()).max(1e-3)
            };
            let first: Vec<_> = got
                .iter()
                .zip(want)
                .enumerate()
                .filter(far)
                .take(8)
                .collect();
            panic!(
                "{case}, output {i}, {}: NMSE {nmse:.2e}, max {max:.2e}, beyond {tol:?}; first (at, (got, want)): {first:?}",
                gpu.label
            );
        }
    }
}

/// As [`check_twin`], bit for bit.
pub fn check_twin_bits(case: &str, op: impl Fn(&Device) -> Vec<Vec<u32>>) {
    if gpus().is_empty() {
        return;
    }
    let want = op(&Device::twin());
    for gpu in gpus() {
        for (i, (got, want)) in op(&gpu.device).iter().zip(&want).enumerate() {
            assert_eq!(got.len(), want.len());
            let off = got.iter().zip(want).enumerate().find(|(_, (g, w))| g != w);
            if let Some((at, (g, w))) = off {
                panic!(
                    "{case}, output {i}, {}: word {at} is {g:#010x}, expected {w:#010x}",
                    gpu.label
                );
            }
        }
    }
}

/// The bits of floats.
pub fn bits(v: Vec<f32>) -> Vec<u32> {
    v.into_iter().map(f32::to_bits).collect()
}

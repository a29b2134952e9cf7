//! What the tests share: devices, test values, guarded outputs, and the comparison of a device with the CPU twins.

pub mod toy;

use std::sync::OnceLock;

use bytemuck::Pod;
pub use longtake::selftest::probe::{Tol, errors, hash, values};

use longtake::gpu::{Buffer, Device, Error, Purpose, Recorder, Select, TierRequest};
use longtake::ops::KERNELS;
use longtake::selftest::probe::Output;

use crate::shaders::variants::is_seen;

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

/// An output with a guard behind it, whose faults fail the test.
pub struct Out<T>(pub Output<T>);

impl<T> std::ops::Deref for Out<T> {
    type Target = Output<T>;

    fn deref(&self) -> &Output<T> {
        &self.0
    }
}

impl<T: Pod> Out<T> {
    /// Starts with `data`, for ops that add to what is there.
    pub fn holding(device: &Device, data: &[T]) -> Out<T> {
        Out(Output::holding(device, data).unwrap())
    }

    /// Starts with NaNs, for ops that write all of it without reading.
    pub fn unwritten(device: &Device, n: usize) -> Out<T> {
        Out(Output::unwritten(device, n).unwrap())
    }

    /// What is there now.
    ///
    /// # Panics
    /// When the guard was touched.
    #[track_caller]
    pub fn read(&self, device: &Device) -> Vec<T> {
        self.0
            .read(device)
            .unwrap()
            .unwrap_or_else(|wrong| panic!("{wrong}"))
    }
}

/// Records and runs, and holds every plan to the list that the shader tests compile.
pub fn run(device: &Device, record: impl FnOnce(&mut Recorder<'_>)) {
    let mut rec = device.recorder();
    record(&mut rec);
    for (kernel, plan) in rec.plans() {
        // Shaders that are wrong on purpose are no kernels of ours.
        if KERNELS.iter().any(|k| std::ptr::eq(*k, kernel)) {
            is_seen(kernel, &plan.knobs).unwrap();
        }
    }
    device.run(rec).unwrap();
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

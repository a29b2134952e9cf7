//! Whether a device computes what the kernels mean: every op against its CPU twin, a short film against a recorded one,
//! and how fast the ops are beside what the device can copy.
//!
//! The same cases run in the tests on every executor, and in the program on its user's device.

pub mod cases;
pub mod film;
pub mod probe;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Instant;

use self::cases::{Case, Work};
use crate::gpu::{Caps, Device, Error};
use crate::rollout;

/// How one case came out.
#[derive(Debug, Clone, serde::Serialize)]
pub struct OpResult {
    /// Name of the op.
    pub op: &'static str,
    /// Sizes.
    pub what: String,
    /// Kernels that ran, with how many dispatches.
    pub kernels: BTreeMap<&'static str, usize>,
    /// Largest error over the largest magnitude, of the part that is worst beside its bound.
    pub error: f64,
    /// What is allowed there.
    pub allowed: f64,
    /// Seconds of the first run, the driver's compiling included.
    pub first_secs: f64,
    /// Seconds of a run after that, the median.
    pub secs: f64,
    /// `GFLOP/s` or `GB/s`.
    pub unit: &'static str,
    /// Of that, in a second.
    pub rate: f64,
    /// What is wrong, in a sentence.
    pub wrong: Option<String>,
}

/// How the film came out.
#[derive(Debug, Clone, serde::Serialize)]
pub struct FilmResult {
    /// Frames made.
    pub frames: usize,
    /// Decibels to the recorded one; `None`: equal in every bit.
    pub psnr_db: Option<f64>,
    /// What is asked for.
    pub least_db: f64,
    /// Seconds, compiling included.
    pub secs: f64,
    /// What is wrong, in a sentence.
    pub wrong: Option<String>,
}

/// All that a self-test found.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Report {
    /// The device.
    pub device: Caps,
    /// GB/s of the device's own copies, bytes read and bytes written together.
    pub copy_rate: f64,
    /// By case.
    pub ops: Vec<OpResult>,
    /// The film.
    pub film: FilmResult,
    /// Seconds in all.
    pub secs: f64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_well(&self) -> bool {
        self.film.wrong.is_none() && self.ops.iter().all(|op| op.wrong.is_none())
    }
}

/// Runs one case. `fault` is a mistake to make on purpose: a bit of the result is turned over.
///
/// # Errors
/// Of the device. A wrong result is none.
pub fn run_case(device: &Device, case: &Case, fault: bool) -> Result<OpResult, Error> {
    let job = case.set_up.on(device)?;
    let mut rec = device.recorder();
    job.record(&mut rec);
    let mut kernels = BTreeMap::new();
    for (kernel, _) in rec.plans() {
        *kernels.entry(kernel.name).or_default() += 1;
    }
    let start = Instant::now();
    device.run(rec)?;
    device.wait()?;
    let first_secs = start.elapsed().as_secs_f64();
    let mut got = job.outputs(device)?;
    if let (true, Ok(got)) = (fault, &mut got) {
        spoil(got);
    }
    let (error, allowed, wrong) = match got {
        Err(wrong) => (f64::INFINITY, 0.0, Some(wrong)),
        Ok(got) => {
            let twin = Device::twin();
            let truth = case.set_up.on(&twin)?;
            let mut rec = twin.recorder();
            truth.record(&mut rec);
            twin.run(rec)?;
            let want = match truth.outputs(&twin)? {
                Ok(want) => want,
                Err(wrong) => unreachable!("the twin of {}: {wrong}", case.op),
            };
            judge(&job, &got, &want)
        }
    };
    let secs = time(device, &job, first_secs)?;
    let (unit, amount) = match case.work {
        Work::Flop(n) => ("GFLOP/s", n),
        Work::Bytes(n) => ("GB/s", n),
    };
    Ok(OpResult {
        op: case.op,
        what: case.what.clone(),
        kernels,
        error,
        allowed,
        first_secs,
        secs,
        unit,
        rate: amount / secs * 1e-9,
        wrong,
    })
}

/// (error, what is allowed there, what is wrong), of the part that is worst beside its bound.
fn judge(job: &cases::Job, got: &[Vec<u32>], want: &[Vec<u32>]) -> (f64, f64, Option<String>) {
    let mut worst = (0.0, 0.0, None);
    let beside = |error: f64, allowed: f64| error / allowed.max(1e-30);
    for (parts, (got, want)) in job.parts().iter().zip(got.iter().zip(want)) {
        for part in parts {
            let v = part.judge(got, want);
            let is_first = worst.2.is_none() && v.wrong.is_some();
            let is_worse = beside(worst.0, worst.1) <= beside(v.error, v.allowed);
            if is_first || (worst.2.is_none() && is_worse) {
                worst = (v.error, v.allowed, v.wrong);
            }
        }
    }
    worst
}

/// Turns over a bit of every output, as a driver's fault might: of the largest number, which is what errors are
/// measured beside.
fn spoil(outputs: &mut [Vec<u32>]) {
    for output in outputs {
        let size = |w: &u32| Some(f32::from_bits(*w).abs()).filter(|v| v.is_finite());
        let largest = (0..output.len()).max_by(|a, b| {
            size(&output[*a])
                .partial_cmp(&size(&output[*b]))
                .unwrap_or(Ordering::Equal)
        });
        if let Some(at) = largest {
            output[at] ^= 0x0040_0000;
        }
    }
}

/// Median seconds of a run, over runs of enough repeats to be measured, and not for long.
fn time(device: &Device, job: &cases::Job, first_secs: f64) -> Result<f64, Error> {
    let mut repeat = 1;
    let mut runs = Vec::new();
    let start = Instant::now();
    while runs.len() < 5 && (runs.is_empty() || start.elapsed().as_secs_f64() < 0.25) {
        let t = Instant::now();
        let mut rec = device.recorder();
        for _ in 0..repeat {
            job.record(&mut rec);
        }
        device.run(rec)?;
        device.wait()?;
        let secs = t.elapsed().as_secs_f64();
        if secs < 0.01 && repeat < 256 {
            // Mostly what a submit costs: not yet a measurement.
            repeat *= 4;
            continue;
        }
        runs.push(secs / f64::from(repeat));
    }
    runs.sort_unstable_by(f64::total_cmp);
    Ok(runs.get(runs.len() / 2).copied().unwrap_or(first_secs))
}

/// Makes the film and compares it.
///
/// # Errors
/// Of the device.
pub fn run_film(device: &Device) -> Result<FilmResult, rollout::Error> {
    let start = Instant::now();
    let got = film::make(device)?;
    let secs = start.elapsed().as_secs_f64();
    let db = film::psnr(&got, &film::golden());
    let wrong = (db < film::LEAST_DB).then(|| {
        format!(
            "the film is {db:.1} dB from the recorded one, {:.0} are asked for",
            film::LEAST_DB
        )
    });
    Ok(FilmResult {
        frames: got.len(),
        psnr_db: db.is_finite().then_some(db),
        least_db: film::LEAST_DB,
        secs,
        wrong,
    })
}

/// Runs everything. `done` hears of every case as it ends; `fault` names an op whose result is to be spoiled on purpose.
///
/// # Errors
/// Of the device. A wrong result is none.
pub fn run(
    device: &Device,
    fault: Option<&str>,
    done: &mut dyn FnMut(&OpResult),
) -> Result<Report, rollout::Error> {
    let start = Instant::now();
    let copy_rate = device.copy_rate()?;
    let mut ops = Vec::new();
    for case in cases::cases() {
        let result = run_case(device, &case, fault == Some(case.op))?;
        done(&result);
        ops.push(result);
    }
    let film = run_film(device)?;
    Ok(Report {
        device: device.caps().clone(),
        copy_rate,
        ops,
        film,
        secs: start.elapsed().as_secs_f64(),
    })
}

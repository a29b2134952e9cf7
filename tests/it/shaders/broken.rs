//! A test of the gate itself: shaders that are wrong on purpose, each caught by the step that is there for it.
//!
//! `scripts/test` has Tint refuse three of them as well, one of which naga lets through: `barrier_in_divergent_flow`.

use bytemuck::{Pod, Zeroable};
use longtake::gpu::{Device, Kernel, Launch, Plan, Source};

use super::variants::{Variant, resolved};
use super::{compilers, keeps_to_the_floor};
use crate::support::{Out, errors, gpus, input, values};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    first_group: u32,
    n_groups: u32,
    n: u32,
}

macro_rules! broken {
    ($name:literal, $twin:expr) => {{
        static KERNEL: Kernel = Kernel {
            name: $name,
            source: Source::File(include_str!(concat!("broken/", $name, ".wgsl"))),
            params_bytes: size_of::<Params>(),
            plans: |_| vec![Vec::new()],
            twin: $twin,
        };
        &KERNEL
    }};
}

fn nothing(_: &mut Launch<'_>) {}

/// What all steps that only read the shader say of it.
fn read(kernel: &'static Kernel) -> Result<(), String> {
    let v = Variant {
        kernel,
        knobs: Vec::new(),
    };
    let c = v.checked()?;
    let f = resolved(&v, &c)?;
    keeps_to_the_floor(&v, &c, &f)?;
    compilers::hlsl_can_end(&f)?;
    compilers::spirv(&f).map(|_| ())
}

/// The output of a kernel over `n` values on a device; `Err`: the guard behind it was overwritten.
fn output(device: &Device, kernel: &'static Kernel, n: usize) -> Result<Vec<f32>, String> {
    let (x, y) = (
        input(device, &values(1, n)),
        Out::<f32>::unwritten(device, n),
    );
    let mut rec = device.recorder();
    let plan = Plan {
        groups: n.div_ceil(64) as u32,
        knobs: Vec::new(),
        work_per_group: 64,
    };
    let params = Params {
        first_group: 0,
        n_groups: 0,
        n: n as u32,
    };
    rec.dispatch(kernel, plan, &params, &[(&x).into(), (&y.buffer).into()]);
    device.run(rec).unwrap();
    y.0.read(device).unwrap()
}

#[test]
fn a_loop_that_hlsl_refuses_is_caught_by_the_check_of_loops() {
    let kernel = broken!("loop_without_end", nothing);
    let wrong = read(kernel).unwrap_err();
    assert!(wrong.contains("loop without a way out"), "{wrong}");
}

#[test]
fn workgroup_memory_above_the_floor_is_caught_by_the_floor() {
    let wrong = read(broken!("too_much_workgroup_memory", nothing)).unwrap_err();
    assert!(wrong.contains("20480 bytes of workgroup memory"), "{wrong}");
}

#[test]
fn an_index_that_is_never_in_range_is_caught_by_validation() {
    let wrong = read(broken!("index_out_of_range", nothing)).unwrap_err();
    assert!(wrong.contains("shader index_out_of_range"), "{wrong}");
}

#[test]
fn a_write_past_the_end_is_caught_by_the_guard() {
    let kernel = broken!("write_past_the_end", nothing);
    read(kernel).unwrap();
    for gpu in gpus() {
        let wrong = output(&gpu.device, kernel, 100).unwrap_err();
        assert!(
            wrong.contains("guard word 0 behind 100"),
            "{}: {wrong}",
            gpu.label
        );
    }
}

#[test]
fn a_race_on_a_sum_is_caught_by_the_twin() {
    fn twin(l: &mut Launch<'_>) {
        let p: Params = l.params();
        let x: Vec<f32> = l.read(1);
        let mut y: Vec<f32> = l.read(2);
        for (i, y) in y[..p.n as usize].iter_mut().enumerate() {
            let group = &x[i / 64 * 64..(i / 64 * 64 + 64).min(p.n as usize)];
            *y = group.iter().map(|v| f64::from(*v)).sum::<f64>() as f32;
        }
        l.write(2, &y);
    }
    let kernel = broken!("race_on_a_sum", twin);
    read(kernel).unwrap();
    let want = output(&Device::twin(), kernel, 128).unwrap();
    for gpu in gpus() {
        let got = output(&gpu.device, kernel, 128).unwrap();
        let (nmse, _) = errors(&got, &want);
        assert!(nmse > 1e-3, "{}: the race went unseen", gpu.label);
    }
}

/// Not caught by naga: Tint is the step for it, and this says so should naga learn it.
#[test]
fn a_barrier_that_not_all_lanes_reach_is_left_to_tint() {
    assert_eq!(read(broken!("barrier_in_divergent_flow", nothing)), Ok(()));
}

/// What wgpu itself refuses, it reports beside the call; the next call of ours fails with its words.
#[test]
fn a_wrong_use_that_wgpu_names_fails_the_next_call() {
    let Some(device) = crate::support::open(longtake::gpu::TierRequest::Portable) else {
        return;
    };
    let x = input(&device, &values(1, 64));
    assert!(device.read_all(&x).is_ok());
    let lent = device.lend().unwrap();
    // A buffer that the host maps may be nothing but the end of a copy.
    drop(lent.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("wrong on purpose"),
        size: 64,
        usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    }));
    let wrong = device.read_all(&x).unwrap_err().to_string();
    assert!(wrong.contains("wrong on purpose"), "{wrong}");
}

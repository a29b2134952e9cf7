//! The cases that the program carries: on every device of the tests, each kernel among them.

use std::collections::BTreeSet;

use longtake::gpu::{Caps, Device, Tier};
use longtake::ops::KERNELS;
use longtake::selftest::{cases, film, run_case, run_film};

use crate::support::{self, gpus};

#[test]
fn every_case_of_the_selftest_equals_the_twin() {
    for gpu in gpus() {
        for case in cases::cases() {
            let result = run_case(&gpu.device, &case, false).unwrap();
            assert!(result.wrong.is_none(), "{}: {result:#?}", gpu.label);
        }
    }
}

/// A kernel that no case reaches would be broken on a user's device without a word.
#[test]
fn every_kernel_has_a_case() {
    let mut reached = BTreeSet::new();
    let twin = Device::twin();
    let devices = gpus().iter().map(|g| &g.device).chain([&twin]);
    let mut tiers = BTreeSet::new();
    for device in devices {
        tiers.insert(device.caps().tier.name());
        for case in cases::cases() {
            let job = case.set_up.on(device).unwrap();
            let mut rec = device.recorder();
            job.record(&mut rec);
            reached.extend(rec.plans().map(|(kernel, _)| kernel.name));
        }
    }
    let has_subgroups = tiers.contains(Tier::Subgroups.name());
    for kernel in KERNELS {
        let is_portable = !(kernel.plans)(&Caps::floor()).is_empty();
        if is_portable || has_subgroups {
            assert!(
                reached.contains(kernel.name),
                "no case runs {}",
                kernel.name
            );
        }
    }
}

#[test]
fn every_case_finds_a_spoiled_result() {
    let twin = Device::twin();
    for case in cases::cases() {
        let good = run_case(&twin, &case, false).unwrap();
        assert!(good.wrong.is_none(), "{good:#?}");
        let spoiled = run_case(&twin, &case, true).unwrap();
        assert!(spoiled.wrong.is_some(), "{spoiled:#?}");
    }
}

#[test]
fn the_golden_film_is_what_the_twins_make() {
    assert!(film::make(&Device::twin()).unwrap() == film::golden());
}

#[test]
fn every_tier_makes_the_golden_film() {
    for gpu in gpus() {
        let result = run_film(&gpu.device).unwrap();
        assert!(result.wrong.is_none(), "{}: {result:?}", gpu.label);
    }
}

/// Exactly WebGPU's default limits and no feature, asked of the device itself, and the demo world runs on it.
#[test]
fn the_demo_runs_on_webgpus_default_limits_without_a_feature() {
    let Some(device) = support::open(longtake::gpu::TierRequest::Portable) else {
        return;
    };
    let lent = device.lend().unwrap();
    assert_eq!(lent.device.limits(), wgpu::Limits::default());
    assert_eq!(lent.device.features(), wgpu::Features::empty());
    let (caps, floor) = (device.caps(), Caps::floor());
    assert_eq!((caps.tier, caps.subgroup_size), (Tier::Portable, 0));
    let limits = |c: &Caps| {
        (
            c.max_buffer_bytes,
            c.max_binding_bytes,
            (c.max_storage_buffers, c.max_workgroup_lanes),
            (c.max_groups_per_dimension, c.max_workgroup_bytes),
            c.max_uniform_bytes,
        )
    };
    assert_eq!(limits(caps), limits(&floor));
    let result = run_film(&device).unwrap();
    assert!(result.wrong.is_none(), "{result:?}");
}

/// Both tiers on the same inputs: each is within its bound of the twin, so they are within twice that of each other.
#[test]
fn the_tiers_agree() {
    let [best, portable] = gpus() else { return };
    for case in cases::cases() {
        let words = |device: &Device| {
            let job = case.set_up.on(device).unwrap();
            support::run(device, |rec| job.record(rec));
            job.outputs(device).unwrap().unwrap()
        };
        let (a, b) = (words(&best.device), words(&portable.device));
        let job = case.set_up.on(&best.device).unwrap();
        for (parts, (a, b)) in job.parts().iter().zip(a.iter().zip(&b)) {
            for part in parts {
                let v = part.clone().twice().judge(a, b);
                assert!(v.wrong.is_none(), "{} ({}): {v:?}", case.op, case.what);
            }
        }
    }
}

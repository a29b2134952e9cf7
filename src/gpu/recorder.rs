//! Work written down as a list, run later by an executor.

use bytemuck::Pod;

use super::buffer::Bound;
use super::device::{Caps, Device};
use super::kernel::{Kernel, Plan};

/// One recorded dispatch.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub(super) kernel: &'static Kernel,
    pub(super) plan: Plan,
    pub(super) params: Vec<u8>,
    pub(super) bindings: Vec<Bound>,
    pub(super) stage: &'static str,
}

/// Collects dispatches for one submission. Ops write into it; [`Device::run`] executes it.
#[derive(Debug)]
pub struct Recorder<'d> {
    device: &'d Device,
    stage: &'static str,
    pub(super) dispatches: Vec<Dispatch>,
}

impl<'d> Recorder<'d> {
    pub(super) fn new(device: &'d Device) -> Self {
        Recorder {
            device,
            stage: "other",
            dispatches: Vec::new(),
        }
    }

    /// What the device can do; plans depend on it.
    pub fn caps(&self) -> &Caps {
        self.device.caps()
    }

    /// What has been recorded: kernels with their plans, in order.
    pub fn plans(&self) -> impl Iterator<Item = (&'static Kernel, &Plan)> {
        self.dispatches.iter().map(|d| (d.kernel, &d.plan))
    }

    /// Names the work that follows, for `--timings`.
    pub fn stage(&mut self, name: &'static str) {
        self.stage = name;
    }

    /// Records one dispatch. `bindings` are the kernel's bindings from 1 on, in order.
    ///
    /// # Panics
    /// When the params struct is not the kernel's: a bug in the op.
    pub fn dispatch<P: Pod>(
        &mut self,
        kernel: &'static Kernel,
        plan: Plan,
        params: &P,
        bindings: &[Bound],
    ) {
        assert_eq!(
            size_of::<P>(),
            kernel.params_bytes,
            "params of {}",
            kernel.name
        );
        if plan.groups == 0 {
            return;
        }
        self.dispatches.push(Dispatch {
            kernel,
            plan,
            params: bytemuck::bytes_of(params).to_vec(),
            bindings: bindings.to_vec(),
            stage: self.stage,
        });
    }
}

//! The executor that runs CPU twins: the definition every other executor is held against.

use super::kernel::Launch;
use super::recorder::Dispatch;

pub(super) fn run_twin(dispatches: &[Dispatch]) {
    for d in dispatches {
        // As the other executors do when a dispatch goes out in one slice.
        let mut params = d.params.clone();
        params[0..4].copy_from_slice(&0u32.to_le_bytes());
        params[4..8].copy_from_slice(&d.plan.groups.to_le_bytes());
        (d.kernel.twin)(&mut Launch {
            params: &params,
            knobs: &d.plan.knobs,
            bindings: &d.bindings,
        });
    }
}

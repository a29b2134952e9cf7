//! The executor that runs CPU twins: the definition every other executor is held against.

use super::kernel::Launch;
use super::recorder::Dispatch;

pub(super) fn run_twin(dispatches: &[Dispatch]) {
    for d in dispatches {
        (d.kernel.twin)(&mut Launch {
            params: &d.params,
            knobs: &d.plan.knobs,
            bindings: &d.bindings,
        });
    }
}

//! A kernel: its WGSL, its CPU twin, and what the planner may choose for it.

use std::sync::MutexGuard;

use bytemuck::Pod;

use super::buffer::{Bound, Storage};
use super::device::Caps;

/// Where a kernel's text comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source {
    /// A file of `shaders/`; knobs are its `override` values.
    File(&'static str),
    /// Text written from the knobs by a small pure function, for tiles of named scalars that overrides cannot express.
    Written(fn(&[Knob]) -> String),
}

/// One named choice of the planner: an `override` of the shader, or a parameter of the writer.
pub type Knob = (&'static str, u32);

/// A kernel with its pipeline choices: what a driver compiles.
pub type Variant = (&'static Kernel, Vec<Knob>);

/// The value of a knob that the planner always sets.
///
/// # Panics
/// When the plan lacks it: a bug in the op's `plan`.
pub fn knob(knobs: &[Knob], name: &str) -> u32 {
    let found = knobs.iter().find(|(n, _)| *n == name);
    assert!(found.is_some(), "plan lacks knob {name}");
    found.map_or(0, |(_, v)| *v)
}

/// What the planner chose for one dispatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Workgroups in all; folded into two dimensions and split over submits by the executor.
    pub groups: u32,
    /// Pipeline choices.
    pub knobs: Vec<Knob>,
    /// Multiply-adds (or touched elements) a workgroup does, for slicing long work.
    pub work_per_group: u64,
}

/// One compute kernel: WGSL and CPU twin over the same bindings in the same order.
///
/// Binding 0 is the params struct, whose first two words are `first_group` and `n_groups`: the executor sets them to the
/// first group of a slice and to the one after its last. The other bindings follow in the order the op passes them.
#[derive(Debug)]
pub struct Kernel {
    /// Name of the kernel, and of its shader file where it has one.
    pub name: &'static str,
    /// WGSL text.
    pub source: Source,
    /// Size of the Rust params struct; compared with the WGSL struct when the shader is reflected.
    pub params_bytes: usize,
    /// Every set of knobs that `plan` can choose on a device, or where these are too many to list, sets that stand for all:
    /// what the shader tests compile.
    pub plans: fn(&Caps) -> Vec<Vec<Knob>>,
    /// The definition in plain loops, sums in f64.
    pub twin: fn(&mut Launch<'_>),
}

/// A kernel's arguments on the twin executor.
#[derive(Debug)]
pub struct Launch<'a> {
    pub(super) params: &'a [u8],
    pub(super) knobs: &'a [Knob],
    pub(super) bindings: &'a [Bound],
}

impl Launch<'_> {
    /// The params struct.
    pub fn params<P: Pod>(&self) -> P {
        bytemuck::pod_read_unaligned(self.params)
    }

    /// A planner's choice, for kernels whose meaning depends on one (storage formats).
    pub fn knob(&self, name: &str) -> u32 {
        knob(self.knobs, name)
    }

    fn words(&self, binding: usize) -> MutexGuard<'_, Vec<u32>> {
        match &self.bindings[binding - 1].0.storage {
            Storage::Host(w) => w.lock().unwrap_or_else(|p| p.into_inner()),
            Storage::Wgpu(_) => unreachable!("the twin executor only sees host buffers"),
        }
    }

    /// A copy of a binding's values. Copies keep twins free of aliasing rules; speed is not what a twin is for.
    pub fn read<T: Pod>(&self, binding: usize) -> Vec<T> {
        bytemuck::cast_slice(&self.words(binding)).to_vec()
    }

    /// Replaces a binding's values from the start.
    pub fn write<T: Pod>(&mut self, binding: usize, values: &[T]) {
        let mut w = self.words(binding);
        let src: &[u32] = bytemuck::cast_slice(values);
        w[..src.len()].copy_from_slice(src);
    }
}

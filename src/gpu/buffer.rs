//! Device buffers that know their element type, their length and what they are for.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use bytemuck::Pod;

use super::device::Shared;
use super::ledger::Purpose;

/// Where the words of a buffer live.
#[derive(Debug)]
pub(super) enum Storage {
    Wgpu(wgpu::Buffer),
    /// The twin executor's memory: the same words, on the host.
    Host(Mutex<Vec<u32>>),
}

/// How the device may use a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usage {
    /// Kernels read and write it.
    Storage,
    /// Kernels read it as a uniform.
    Uniform,
    /// The host writes it, the device copies from it.
    Staging,
}

/// A buffer's bytes and its place in the ledger; shared by handles and by recorded commands.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) storage: Storage,
    pub(super) bytes: u64,
    pub(super) label: &'static str,
    pub(super) purpose: Purpose,
    pub(super) device: Arc<Shared>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.device.ledger.release(self.purpose, self.bytes);
    }
}

/// `len` elements of `T` on a device. `T` is a 4-byte scalar: `f32`, or `u32` for packed half floats and codes.
#[derive(Debug)]
pub struct Buffer<T> {
    pub(super) inner: Arc<Inner>,
    len: usize,
    _type: PhantomData<T>,
}

impl<T: Pod> Buffer<T> {
    pub(super) fn new(inner: Inner, len: usize) -> Self {
        const { assert!(size_of::<T>() == 4, "buffers hold 4-byte scalars") };
        Buffer {
            inner: Arc::new(inner),
            len,
            _type: PhantomData,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no element. Device buffers are never empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Another handle to the same words, read as another type. They are in the ledger once.
    #[must_use]
    pub fn alias<U: Pod>(&self) -> Buffer<U> {
        const { assert!(size_of::<U>() == 4, "buffers hold 4-byte scalars") };
        Buffer {
            inner: self.inner.clone(),
            len: self.len,
            _type: PhantomData,
        }
    }

    /// Size in bytes as the ledger counts it.
    pub fn bytes(&self) -> u64 {
        self.inner.bytes
    }
}

/// A buffer at a binding of a recorded dispatch, its element type forgotten.
#[derive(Debug, Clone)]
pub struct Bound(pub(super) Arc<Inner>);

impl<T: Pod> From<&Buffer<T>> for Bound {
    fn from(b: &Buffer<T>) -> Bound {
        Bound(b.inner.clone())
    }
}

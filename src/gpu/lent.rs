//! A device lent to a window: the only public place where wgpu's own types come out, and the booking of what the window
//! allocates.
//!
//! The window submits to the same queue from a thread of its own; wgpu orders the two. What it does wrong is reported by the
//! engine's next call, since a wgpu device has one place for errors.

use std::sync::Arc;

use super::buffer::{Buffer, Storage};
use super::device::{Device, Shared};
use super::ledger::Purpose;

/// Handles of an open device; clones, so the engine goes on using its own.
#[derive(Debug, Clone)]
pub struct Lent {
    /// The instance that surfaces are made from.
    pub instance: wgpu::Instance,
    /// The adapter.
    pub adapter: wgpu::Adapter,
    /// The device.
    pub device: wgpu::Device,
    /// Its one queue.
    pub queue: wgpu::Queue,
}

/// Bytes that the borrower of a device allocated, in the ledger under `viewer` until this is dropped.
#[derive(Debug)]
pub struct Booked {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Booked {
    /// Replaces the number of bytes.
    pub fn set(&mut self, bytes: u64) {
        self.shared.ledger.release(Purpose::Viewer, self.bytes);
        self.shared.ledger.book(Purpose::Viewer, bytes);
        self.bytes = bytes;
    }
}

impl Drop for Booked {
    fn drop(&mut self) {
        self.shared.ledger.release(Purpose::Viewer, self.bytes);
    }
}

impl Device {
    /// Books what the borrower of this device allocates; nothing yet.
    pub fn book_viewer(&self) -> Booked {
        Booked {
            shared: self.shared.clone(),
            bytes: 0,
        }
    }
}

impl<T> Buffer<T> {
    /// The driver's own buffer, to copy from on the device; `None` with the twins. It must not outlive this handle unless its copy
    /// is submitted: the ledger counts the bytes only while a handle is there.
    pub fn lend(&self) -> Option<wgpu::Buffer> {
        match &self.inner.storage {
            Storage::Wgpu(buffer) => Some(buffer.clone()),
            Storage::Host(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_window_holds_is_in_the_ledger_while_it_holds_it() {
        let device = Device::twin();
        let mut booked = device.book_viewer();
        booked.set(7);
        booked.set(5);
        assert_eq!(device.ledger().bytes(Purpose::Viewer), 5);
        assert_eq!(device.ledger().total(), 5);
        drop(booked);
        assert_eq!(device.ledger().total(), 0);
    }
}

//! Every device byte by purpose. Buffers book themselves in and out, a window that borrows the device books its own; nothing
//! else writes here.

use std::sync::Mutex;

/// What a device buffer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Model weights.
    Weights,
    /// Exact keys and values of latent frames.
    Cache,
    /// Coded keys and values: codes, scales, ids, centroids.
    Spans,
    /// Tensors of the pass in flight.
    Activations,
    /// Tables, uniforms and staging for read-back.
    Scratch,
    /// What a window on the same device holds: its pictures and vertices.
    Viewer,
}

impl Purpose {
    /// All purposes, in the order reports list them.
    pub const ALL: [Purpose; 6] = [
        Purpose::Weights,
        Purpose::Cache,
        Purpose::Spans,
        Purpose::Activations,
        Purpose::Scratch,
        Purpose::Viewer,
    ];

    /// The word used in reports.
    pub fn name(self) -> &'static str {
        match self {
            Purpose::Weights => "weights",
            Purpose::Cache => "cache",
            Purpose::Spans => "spans",
            Purpose::Activations => "activations",
            Purpose::Scratch => "scratch",
            Purpose::Viewer => "viewer",
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Book {
    now: [u64; Purpose::ALL.len()],
    peak: [u64; Purpose::ALL.len()],
    peak_total: u64,
}

/// Counts the bytes of live device buffers.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Book>);

impl Ledger {
    fn with<R>(&self, f: impl FnOnce(&mut Book) -> R) -> R {
        // A poisoned lock still holds plain numbers: use them.
        f(&mut self.0.lock().unwrap_or_else(|p| p.into_inner()))
    }

    pub(super) fn book(&self, purpose: Purpose, bytes: u64) {
        self.with(|b| {
            let i = purpose as usize;
            b.now[i] += bytes;
            b.peak[i] = b.peak[i].max(b.now[i]);
            b.peak_total = b.peak_total.max(b.now.iter().sum());
        });
    }

    pub(super) fn release(&self, purpose: Purpose, bytes: u64) {
        self.with(|b| b.now[purpose as usize] -= bytes);
    }

    /// Bytes held now for one purpose.
    pub fn bytes(&self, purpose: Purpose) -> u64 {
        self.with(|b| b.now[purpose as usize])
    }

    /// Bytes held now.
    pub fn total(&self) -> u64 {
        self.with(|b| b.now.iter().sum())
    }

    /// Largest total since the device was opened.
    pub fn peak(&self) -> u64 {
        self.with(|b| b.peak_total)
    }

    /// Largest number of bytes ever held for one purpose.
    pub fn peak_of(&self, purpose: Purpose) -> u64 {
        self.with(|b| b.peak[purpose as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_is_of_the_sum_not_the_sum_of_peaks() {
        let l = Ledger::default();
        l.book(Purpose::Weights, 10);
        l.release(Purpose::Weights, 10);
        l.book(Purpose::Cache, 7);
        assert_eq!(
            (l.total(), l.peak(), l.peak_of(Purpose::Weights)),
            (7, 10, 10)
        );
    }
}

//! Blocks whose weights wait in main memory, packed as the device wants them, and the one place on the device that they take in
//! turn.
//!
//! One place is enough: copies and kernels run in one queue, so a second place would hold memory and let nothing overlap. What
//! overlaps is the host's part ([`Feed`]).

use std::sync::{Mutex, MutexGuard};

use bytemuck::Pod;

use super::Error;
use crate::gpu::{Buffer, Device, Feed, Purpose};

/// Tensors of a block that a prompt needs once and no pass ever.
const OF_TEXT: [&str; 3] = ["cross k", "cross v", "cross norm_k"];

/// What a block is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// A pass.
    Pass,
    /// Keys and values of a prompt.
    Text,
}

/// Whether block `i` of `layers` waits, where `offload` do: they are spread evenly, so that the host fills one while others run.
pub(super) fn waits(i: usize, layers: usize, offload: usize) -> bool {
    i * offload / layers < (i + 1) * offload / layers
}

/// Gathers blocks that wait.
#[derive(Debug, Default)]
pub(super) struct Gather {
    place: Vec<Buffer<u32>>,
    of_text: Vec<bool>,
    blocks: Vec<Vec<Vec<u32>>>,
}

impl Gather {
    /// The tensors taken from here on are those of the next block; none are where it stays on the device.
    pub(super) fn next_block(&mut self) {
        self.blocks.push(Vec::new());
    }

    /// Keeps a tensor of the block at hand and gives a handle to where it will lie, which it shares with those of other blocks.
    pub(super) fn take<T: Pod>(
        &mut self,
        device: &Device,
        label: &'static str,
        values: Vec<T>,
    ) -> Result<Buffer<T>, Error> {
        let block = self.blocks.last_mut().expect("within a block");
        let words: Vec<u32> = bytemuck::cast_vec(values);
        if block.len() == self.place.len() {
            let place = device.zeros(Purpose::Weights, label, words.len())?;
            self.place.push(place);
            self.of_text.push(OF_TEXT.contains(&label));
        }
        let place = self.place[block.len()].alias();
        block.push(words);
        Ok(place)
    }

    /// `None` where no block waits.
    pub(super) fn finish(self, device: &Device) -> Result<Option<Waiting>, Error> {
        if self.place.is_empty() {
            return Ok(None);
        }
        Ok(Some(Waiting {
            blocks: self.blocks,
            of_text: self.of_text,
            feed: Mutex::new(device.feed(self.place)?),
        }))
    }
}

/// Blocks in main memory.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Words by layer and tensor; none for a block that stays on the device.
    blocks: Vec<Vec<Vec<u32>>>,
    /// By tensor: [`Want::Text`].
    of_text: Vec<bool>,
    feed: Mutex<Feed>,
}

impl Waiting {
    /// Has the device hold a block, for work that is recorded and run while the guard is held: other threads may want the place.
    pub(super) fn bring(
        &self,
        device: &Device,
        layer: usize,
        want: Want,
    ) -> Result<Option<MutexGuard<'_, Feed>>, Error> {
        let block = &self.blocks[layer];
        if block.is_empty() {
            return Ok(None);
        }
        let mut feed = self.feed();
        let tensors = (block.iter().enumerate())
            .filter(|(i, _)| self.of_text[*i] == (want == Want::Text))
            .map(|(i, words)| (i, words.as_slice()));
        feed.fill(device, tensors)?;
        Ok(Some(feed))
    }

    /// Bytes that were brought so far.
    pub(super) fn filled_bytes(&self) -> u64 {
        self.feed().filled_bytes()
    }

    fn feed(&self) -> MutexGuard<'_, Feed> {
        self.feed.lock().unwrap_or_else(|p| p.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_wait_as_are_asked_to_and_no_two_neighbours_without_need() {
        for layers in 1..40 {
            for offload in 0..=layers {
                let waiting: Vec<bool> = (0..layers).map(|i| waits(i, layers, offload)).collect();
                assert_eq!(waiting.iter().filter(|w| **w).count(), offload);
                if 2 * offload <= layers {
                    let both = waiting.windows(2).any(|pair| pair[0] && pair[1]);
                    assert!(!both, "{offload} of {layers}: {waiting:?}");
                }
            }
        }
    }
}

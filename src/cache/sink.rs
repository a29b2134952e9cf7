//! A sink that takes in the frames that leave the window, so that it follows the film.
//! Source: SELF-FORCING 5.7, Reward-Forcing.

use super::{CacheError, CacheShape, KvCache, Policy};
use crate::gpu::{Device, Purpose};
use crate::ops::{KvMix, kv_mix};

impl KvCache {
    /// Bytes of scratch on top of pages and tables.
    pub fn scratch_bytes(shape: &CacheShape, policy: &Policy) -> u64 {
        let frame = shape.format.words(shape.frame_values()) * 4;
        policy.ema_sink.map_or(0, |_| frame as u64)
    }

    /// Lets the sink take in the frames that leave, by the policy's share.
    pub(super) fn take_in(&mut self, device: &Device, leaving: &[i64]) -> Result<(), CacheError> {
        let Some(share) = self.policy.ema_sink.filter(|_| !leaving.is_empty()) else {
            return Ok(());
        };
        let n = self.shape.frame_values();
        if self.on_its_way.is_none() {
            let words = self.shape.format.words(n);
            let made = device.zeros(Purpose::Scratch, "a frame that leaves", words)?;
            self.on_its_way = Some(made);
        }
        let Some(on_its_way) = &self.on_its_way else {
            return Ok(());
        };
        let place = |frame| self.layout.find(frame).expect("the frame is stored");
        let mut rec = device.recorder();
        rec.stage("sink");
        for (frame, sink) in leaving.iter().zip(self.residency.sink(&self.policy)) {
            let ((from, from_slot), (to, to_slot)) = (place(*frame), place(sink));
            for layer in 0..self.shape.n_layers {
                let (from, to) = (&self.pages[from][layer], &self.pages[to][layer]);
                for (from, to) in [(&from.k, &to.k), (&from.v, &to.v)] {
                    // Both may lie in one buffer, which no kernel may read and write through two bindings.
                    let mix = KvMix {
                        x: on_its_way,
                        x_at: 0,
                        y: from,
                        y_at: from_slot * n,
                        n,
                        a: 0.0,
                        b: 1.0,
                        format: self.shape.format,
                    };
                    kv_mix(&mut rec, &mix);
                    kv_mix(
                        &mut rec,
                        &KvMix {
                            x: to,
                            x_at: to_slot * n,
                            y: on_its_way,
                            y_at: 0,
                            a: share,
                            b: 1.0 - share,
                            ..mix
                        },
                    );
                }
            }
        }
        Ok(device.run(rec)?)
    }
}

//! What a run cost: the cache's bytes, and the time of its chunks.

use serde::Serialize;

use crate::cache::KvFigures;
use crate::gpu::Device;
use crate::rollout::Session;
use crate::rollout::event::Event;

/// The stage of the device's work that reads the cache.
const ATTENTION: &str = "attention";

/// What a run says of its cost while it goes on.
#[derive(Debug, Default)]
pub struct Heard {
    ms_per_chunk: Vec<f64>,
    /// Seconds of attention that the given frames took.
    attention_before: Option<f64>,
}

impl Heard {
    /// Takes an event of the run; `device`: the one that it measures stages on.
    pub fn event(&mut self, event: &Event, device: &Device) {
        match event {
            Event::ChunkStarted { .. } => {
                self.attention_before.get_or_insert(attention(device));
            }
            Event::FramesReady { secs, .. } => self.ms_per_chunk.push(1000.0 * secs),
            _ => {}
        }
    }
}

fn attention(device: &Device) -> f64 {
    let stages = device.stage_secs();
    let secs = stages.iter().filter(|(stage, _)| *stage == ATTENTION);
    secs.map(|(_, secs)| secs).sum()
}

/// What the cache took, and what it cost to use it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CacheFigures {
    /// Frames whose keys and values are held at the end.
    pub frames_held: u64,
    /// Device bytes of the cache at the end.
    pub cache_bytes: u64,
    /// Bytes of the same frames at 16 bits an element.
    pub f16_equivalent_bytes: u64,
    /// Bits of the cache an element, everything that is stored with it counted.
    pub bits_per_element: f64,
    /// The same of coded frames alone, mean of K and V; 0 where nothing is coded.
    pub coded_bits_per_element: f64,
    /// `f16_equivalent_bytes` over `cache_bytes`.
    pub ratio: f64,
    /// Milliseconds to encode one span of keys and values; none where nothing is encoded.
    pub encode_ms_per_span: Option<f64>,
    /// Largest sum of device bytes.
    pub peak_device_bytes: u64,
    /// Wall milliseconds of each chunk.
    pub ms_per_chunk: Vec<f64>,
    /// Seconds of attention in the generated chunks.
    pub attention_secs: f64,
}

impl CacheFigures {
    /// Of a session that has made its last chunk.
    pub fn of(session: &Session, device: &Device, heard: Heard) -> CacheFigures {
        let (kv, memory) = (session.kv(), session.memory());
        CacheFigures {
            peak_device_bytes: memory.peak_device_bytes,
            ms_per_chunk: heard.ms_per_chunk,
            attention_secs: attention(device) - heard.attention_before.unwrap_or(0.0),
            ..CacheFigures::of_cache(&kv, memory.cache_bytes + memory.spans_bytes)
        }
    }

    /// What a cache holds in pages of so many bytes. Pages are allocated whole: slots that no frame lies in are paid for too.
    /// Peak and times are left at nothing.
    pub fn of_cache(kv: &KvFigures, cache_bytes: u64) -> CacheFigures {
        CacheFigures {
            frames_held: kv.exact_frames + kv.coded_frames,
            cache_bytes,
            f16_equivalent_bytes: kv.half_bytes,
            bits_per_element: 16.0 * cache_bytes as f64 / (kv.half_bytes as f64).max(1.0),
            coded_bits_per_element: (kv.k.bits_per_element + kv.v.bits_per_element) / 2.0,
            ratio: kv.half_bytes as f64 / (cache_bytes as f64).max(1.0),
            encode_ms_per_span: Some(kv.encode_ms_per_span).filter(|_| kv.spans_coded > 0),
            peak_device_bytes: 0,
            ms_per_chunk: Vec::new(),
            attention_secs: 0.0,
        }
    }

    /// Frames that fill as many bytes at 16 bits, at least `least`; none where that is every frame that is held.
    pub fn window_of_equal_bytes(&self, least: u64) -> Option<u32> {
        let frame_bytes = self.f16_equivalent_bytes / self.frames_held.max(1);
        let frames = (self.cache_bytes / frame_bytes.max(1)).max(least);
        u32::try_from(frames)
            .ok()
            .filter(|_| frames < self.frames_held)
    }

    /// The middle one of the chunks' times: the first chunk of a run also waits for shaders to be compiled.
    pub fn median_ms_per_chunk(&self) -> f64 {
        let mut ms = self.ms_per_chunk.clone();
        ms.sort_by(f64::total_cmp);
        let middle = ms.len() / 2;
        match (ms.len(), ms.get(middle)) {
            (n, Some(high)) if n % 2 == 0 => (ms[middle - 1] + high) / 2.0,
            (_, Some(ms)) => *ms,
            _ => 0.0,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::compare) fn figures(held: u64, cache_bytes: u64) -> CacheFigures {
        let f16 = held * 1000;
        CacheFigures {
            frames_held: held,
            cache_bytes,
            f16_equivalent_bytes: f16,
            bits_per_element: 16.0 * cache_bytes as f64 / f16 as f64,
            coded_bits_per_element: 0.0,
            ratio: f16 as f64 / cache_bytes as f64,
            encode_ms_per_span: None,
            peak_device_bytes: 10 * cache_bytes,
            ms_per_chunk: vec![9.0, 2.0, 4.0, 3.0],
            attention_secs: 1.0,
        }
    }

    #[test]
    fn windows_of_equal_bytes_round_down_and_have_a_least() {
        assert_eq!(figures(100, 14_900).window_of_equal_bytes(2), Some(14));
        assert_eq!(figures(100, 500).window_of_equal_bytes(2), Some(2));
        assert_eq!(figures(100, 14_900).window_of_equal_bytes(20), Some(20));
        assert_eq!(figures(100, 100_000).window_of_equal_bytes(2), None);
        assert_eq!(figures(100, 200_000).window_of_equal_bytes(2), None);
        assert_eq!(figures(2, 500).window_of_equal_bytes(2), None);
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(figures(4, 4000).median_ms_per_chunk(), 3.5);
        let mut odd = figures(4, 4000);
        odd.ms_per_chunk.pop();
        assert_eq!(odd.median_ms_per_chunk(), 4.0);
    }
}

//! What a running rollout says: one stream that the command line prints and a viewer draws.

use serde::Serialize;
use serde_json::{Map, Value};

use super::watch::{Drift, DriftSummary};
use crate::cache::KvFigures;

/// Version of the event schema; raised when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 1;

/// Device bytes by purpose, as the ledger holds them now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// Model weights.
    pub weights_bytes: u64,
    /// Pages of exact keys and values. Pages are allocated whole, so this moves in steps.
    pub cache_bytes: u64,
    /// Pages of coded keys and values.
    pub spans_bytes: u64,
    /// Tensors of the pass in flight.
    pub activations_bytes: u64,
    /// Everything else: tables, uniforms, staging for read-back.
    pub scratch_bytes: u64,
    /// What a window on the same device holds; left out where there is none.
    #[serde(skip_serializing_if = "is_zero")]
    pub viewer_bytes: u64,
    /// Sum of the six above.
    pub device_bytes: u64,
    /// Largest `device_bytes` so far.
    pub peak_device_bytes: u64,
}

/// Layers whose weights wait in main memory instead of on the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Offload {
    /// How many.
    pub layers: u32,
    /// Layers of the network.
    pub of_layers: u32,
    /// Their bytes in main memory.
    pub host_bytes: u64,
    /// Bytes that every pass uploads.
    pub pass_bytes: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What a pass through the network is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PassKind {
    /// Writes the keys and values of a given frame.
    Given,
    /// Takes noise out of the chunk.
    Denoise,
    /// Writes the finished chunk's keys and values.
    Cache,
    /// Writes the keys and values of all frames that attention sees anew, under another prompt.
    Renewal,
}

/// A stage of what lies before the first chunk. Given frames are [`PassKind::Given`] passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadStage {
    /// The device is opened: 0 or 1.
    Device,
    /// Names and shapes in the model's files are held to its configuration: tensors.
    Weights,
    /// Tensors are read, packed and brought onto the device: bytes there.
    Upload,
    /// Kernels of a pass are compiled: kernels that were not there yet.
    Kernels,
}

/// Something that happened. Serialized with `"event": "<name>"` in snake case.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The rollout is checked and fits; nothing ran yet.
    Plan {
        /// Model name.
        model: String,
        /// Adapter name and back end.
        device: String,
        /// Feature tier in use.
        tier: String,
        /// Seed of the noise.
        seed: u64,
        /// Frames this run will make.
        frames: u32,
        /// True frames it starts from.
        given_frames: u32,
        /// Chunks those frames come in.
        chunks: u32,
        /// Picture width in pixels.
        width: u32,
        /// Picture height in pixels.
        height: u32,
        /// Playback rate, frames a second.
        fps: u32,
        /// Denoising steps a chunk; the film's first one and those at new poses may have others.
        steps: u32,
        /// Latent frames attention reads back, sink included; `None`: all of them.
        window: Option<u32>,
        /// First latent frames that never leave the window.
        sink: u32,
        /// Codecs of keys and values; `None`: all stay exact.
        kv: Option<String>,
        /// Layers that wait in main memory.
        offload: Offload,
        /// Bands of rows that the decoder makes a picture in; 1: whole pictures.
        decoder_bands: u32,
        /// Bytes of its past that wait in main memory meanwhile.
        decoder_host_bytes: u64,
        /// Bytes the planner expects at the end, by purpose; `peak_device_bytes` is the plan's total.
        planned: MemoryUse,
    },
    /// A stage before the first chunk goes on; it is over when `done` is `of`. What is there already is no stage.
    Loading {
        /// Which.
        stage: LoadStage,
        /// How much of it is done, in the stage's unit.
        done: u64,
        /// All of it.
        of: u64,
    },
    /// A prompt is ready for the network.
    TextEncoded {
        /// The prompt, cleaned.
        prompt: String,
        /// Its tokens, the end token among them.
        tokens: u32,
        /// Tokens that found no room.
        lost: u32,
        /// It was encoded before and kept.
        cached: bool,
        /// Wall seconds it took.
        secs: f64,
    },
    /// A chunk begins.
    ChunkStarted {
        /// Chunk index from 0.
        chunk: u32,
        /// Chunks in all.
        chunks: u32,
        /// First of its frames, counted over generated frames from 0.
        first_frame: u32,
        /// Its frames.
        frames: u32,
    },
    /// Another prompt is in force from this chunk on, the first one included.
    PromptSet {
        /// Chunk index.
        chunk: u32,
        /// First of its frames.
        first_frame: u32,
        /// Latent frames of the history whose keys and values were computed anew under it.
        renewed_frames: u32,
    },
    /// One pass through the network is done.
    PassDone {
        /// What the pass was for.
        kind: PassKind,
        /// Chunk index; for given frames the frame index.
        chunk: u32,
        /// Pass index within the chunk.
        pass: u32,
        /// Passes in the chunk.
        passes: u32,
        /// Timestep 0..=1000 told to the network.
        timestep: f32,
        /// Wall seconds since the pass was recorded.
        secs: f64,
    },
    /// Pictures of a chunk can be fetched; the pixels travel beside this event.
    FramesReady {
        /// Chunk index.
        chunk: u32,
        /// First frame of the chunk over generated frames.
        first_frame: u32,
        /// How many.
        frames: u32,
        /// Wall seconds the chunk took.
        secs: f64,
        /// Those of them from its finished latents to its pictures: read back and decoded.
        decode_secs: f64,
    },
    /// A span was coded again, narrower.
    SpanRepacked {
        /// Its first latent frame; given frames count first.
        first_frame: u32,
        /// Its latent frames.
        frames: u32,
        /// Bits of a code of K and of V now.
        bits: [u32; 2],
        /// Bytes it took, all layers.
        bytes_before: u64,
        /// Bytes it takes now. Pages are given back when all of their spans have moved: see the next `memory`.
        bytes: u64,
        /// Spans still to be made narrower.
        spans_left: u32,
        /// Wall seconds it took.
        secs: f64,
    },
    /// The film was cut back: what was made later is no longer in the cache.
    CutBack {
        /// Chunks it has now.
        chunks: u32,
        /// Generated frames it has now.
        frames: u32,
    },
    /// Device memory after a chunk.
    Memory(MemoryUse),
    /// What the cache holds after a chunk.
    Kv(Box<KvFigures>),
    /// A stretch of the film beside its beginning, every few seconds of it.
    Drift(Box<Drift>),
    /// Something the user should know that does not stop the run.
    Warning {
        /// The sentence.
        text: String,
    },
    /// A file was finished.
    Saved {
        /// Where.
        path: String,
    },
    /// Keys and values were written for other programs.
    DumpedKv {
        /// Where.
        path: String,
        /// Layers.
        layers: usize,
        /// Latent frames.
        frames: usize,
        /// Those of them that were coded: the file has them decoded.
        decoded_frames: usize,
        /// Latent frames whose queries are in it.
        query_frames: usize,
    },
    /// The run is over and its files are whole.
    Done(Summary),
    /// The run stopped.
    Error {
        /// Exit code of the program: 1 failed, 2 bad input, 3 would not fit, 4 model missing, 130 interrupted.
        code: u8,
        /// What happened and where.
        what: String,
        /// What to do next; empty when there is nothing better than to report it.
        hint: String,
    },
}

impl Event {
    /// One JSON line: `event`, `schema`, `t` (seconds from the program's start, in whole milliseconds), then the fields.
    pub fn json_line(&self, t: f64) -> String {
        let mut fields = match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let mut line = Map::new();
        let event = fields.shift_remove("event").unwrap_or(Value::Null);
        line.insert("event".into(), event);
        line.insert("schema".into(), SCHEMA.into());
        line.insert("t".into(), ((t * 1000.0).round() / 1000.0).into());
        line.extend(fields);
        format!("{}\n", Value::Object(line))
    }
}

/// The figures a run ends with.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Frames made.
    pub frames: u32,
    /// True frames the film started from.
    pub given_frames: u32,
    /// Chunks made.
    pub chunks: u32,
    /// Frames a second over the whole generation, decoding and encoding included.
    pub fps: f64,
    /// Frames a second of the network alone, without decoding, read-back and encoding.
    pub fps_model: f64,
    /// Seconds from process start to the first frame in hand.
    pub first_frame_secs: f64,
    /// Seconds from process start to the end.
    pub secs: f64,
    /// Bytes of the pages of keys and values at the end, exact and coded.
    pub cache_bytes: u64,
    /// What the cache held at the end.
    pub kv: KvFigures,
    /// How far the film drifted from its beginning.
    pub drift: DriftSummary,
    /// Largest sum of device bytes.
    pub peak_device_bytes: u64,
    /// Layers that waited in main memory.
    pub offload: Offload,
    /// Bytes uploaded for them in all.
    pub uploaded_bytes: u64,
    /// Seed of the noise: the same seed on the same device gives the same bytes.
    pub seed: u64,
    /// Ended by the user before the last chunk.
    pub interrupted: bool,
    /// Seconds by phase (`open load given_frames generate encode`; encoding runs beside generating), then, where they were
    /// measured, by stage of the device's work, in the order they first ran.
    pub timings: Vec<StageTime>,
    /// Where the film is; `None` when it went to stdout.
    pub output: Option<String>,
}

/// Seconds spent in one stage of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct StageTime {
    /// Stage name, e.g. `attention`.
    pub stage: String,
    /// Seconds.
    pub secs: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_begin_with_event_schema_and_time() {
        let text = "a\nb".into();
        let line = Event::Warning { text }.json_line(1.23456);
        assert_eq!(
            line,
            "{\"event\":\"warning\",\"schema\":1,\"t\":1.235,\"text\":\"a\\nb\"}\n"
        );
        let done = Event::Done(Summary::default()).json_line(0.0);
        assert!(
            done.starts_with("{\"event\":\"done\",\"schema\":1,\"t\":0.0,\"frames\":0,"),
            "{done}"
        );
    }
}

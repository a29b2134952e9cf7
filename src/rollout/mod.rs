//! Chunk by chunk: denoise passes, then the cache pass.
//!
//! [`Session`] is a film in the making; [`Sampler`] runs one chunk on the device; the rest is pure.

mod chunks;
mod dump;
pub mod event;
mod film;
pub mod fit;
pub mod noise;
mod plan;
mod renewal;
mod sampler;
mod schedule;
mod session;
mod speed;
mod undo;
mod watch;

pub use chunks::{Chunking, Cut};
pub use dump::Dumped;
pub use film::{Cue, Film, Script, Turn, Walk};
pub use plan::Outline;
pub use renewal::renewal_bytes;
pub use sampler::{CacheSetup, Sampler, SamplerError};
pub use schedule::{Schedule, SigmaTable, Step, Update};
pub use session::{Chunk, Coded, Config, Error, ModelSource, SPAN_FRAMES, Session};
pub use speed::Speed;
pub use watch::{Drift, DriftSummary, Look};

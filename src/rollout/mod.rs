//! Chunk by chunk: denoise passes, then the cache pass.
//!
//! [`Session`] is a film in the making; [`Sampler`] runs one chunk on the device; the rest is pure.

mod dump;
pub mod event;
pub mod fit;
pub mod noise;
mod plan;
mod sampler;
mod schedule;
mod session;
mod speed;
mod undo;
mod watch;

pub use dump::Dumped;
pub use plan::Outline;
pub use sampler::{CacheSetup, Sampler, SamplerError};
pub use schedule::{Schedule, SigmaTable, Step, Update};
pub use session::{Chunk, Coded, Config, Error, ModelSource, SPAN_FRAMES, Session, Walk};
pub use speed::Speed;
pub use watch::{Drift, DriftSummary, Look};

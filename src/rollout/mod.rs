//! Chunk by chunk: denoise passes, then the cache pass.
//!
//! [`Session`] is a film in the making; [`Sampler`] runs one chunk on the device; the rest is pure.

mod chunks;
mod config;
mod dump;
mod error;
pub mod event;
mod film;
pub mod fit;
pub mod noise;
mod plan;
mod renewal;
mod sampler;
mod schedule;
mod session;
mod source;
mod speed;
mod undo;
mod watch;

pub use chunks::{Chunking, Cut};
pub use config::{Coded, Config, SPAN_FRAMES};
pub use dump::Dumped;
pub use error::Error;
pub use film::{Cue, Film, Script, Turn, Walk};
pub use plan::Outline;
pub use renewal::renewal_bytes;
pub use sampler::{CacheSetup, Sampler, SamplerError};
pub use schedule::{Schedule, SigmaTable, Step, Update};
pub use session::{Chunk, Session};
pub use source::ModelSource;
pub use speed::Speed;
pub use watch::{Drift, DriftSummary, Look};

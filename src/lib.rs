//! longtake: long videos generated chunk by chunk on the GPU that people already have.

pub mod frame;
pub mod media;
pub mod rollout;

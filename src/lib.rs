//! longtake: long videos generated chunk by chunk on the GPU that people already have.

pub mod frame;
pub mod gpu;
pub mod ops;
pub mod model;
pub mod rollout;
pub mod weights;
pub mod world;

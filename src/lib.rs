//! longtake: long videos generated chunk by chunk on the GPU that people already have.

pub mod cache;
pub mod codec;
pub mod compare;
pub mod decode;
pub mod dump;
pub mod frame;
pub mod gpu;
pub mod media;
pub mod model;
pub mod ops;
pub mod quality;
pub mod rollout;
pub mod selftest;
pub mod store;
pub mod text;
pub mod weights;
pub mod world;

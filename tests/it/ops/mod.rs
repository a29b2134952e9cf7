//! Every op on the adapter, at its best and at the portable tier, against its CPU twin.

mod attention;
mod attention_coded;
mod cases;
mod conv3x3;
mod encode;
mod kv_store;
mod laws;
mod laws_attention;
mod laws_border;
mod linear;
mod mix;
mod norm;
mod patch;
mod properties;
mod relative_attention;
mod rgba;
mod rms_norm;
mod rope;
mod silu;
mod slices;
mod span_decode;

//! Every op on the adapter, at its best and at the portable tier, against its CPU twin.

mod attention;
mod attention_coded;
mod cases;
mod channel_norm;
mod conv3x3;
mod conv_tap;
mod encode;
mod kv_mix;
mod kv_store;
mod laws;
mod laws_attention;
mod laws_border;
mod linear;
mod mix;
mod norm;
mod patch;
mod pixel_attention;
mod properties;
mod relative_attention;
mod rgba;
mod rms_norm;
mod rope;
mod silu;
mod slices;
mod span_decode;

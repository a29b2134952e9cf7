//! Kernels and their typed calls: one file an op, each with params, plan, recorded call and CPU twin.
//!
//! Ops know shapes, not models. Sizes in params are in quads (four channels) where a shader loads `vec4`s.

mod attention;
mod attention_plans;
mod attention_text;
mod channel_norm;
mod coding;
mod conv3x3;
mod conv_tap;
mod hadamard;
mod kmeans;
mod kv_mix;
mod kv_store;
mod linear;
mod linear_text;
mod mix;
mod norm;
mod patch;
mod pixel_attention;
mod positions;
mod quantize;
mod relative_attention;
mod rgba;
mod rms_norm;
mod rope;
mod silu;
mod span_decode;
mod span_error;
mod span_gather;
mod weight_format;

pub use attention::{Attention, BiasFix, Rows, Segment, attention};
pub use attention_plans::{attention_choices, attention_plan, sample_codings};
pub use channel_norm::{ChannelNorm, channel_norm};
pub use coding::{
    Axis, Coding, Exported, Grid, ScaleFormat, SpanBytes, SpanLayout, bf16_round, centroid_count,
    e4m3_decode, e4m3_encode, hadamard,
};
pub use conv_tap::{ConvTap, Doubled, TapMatrix, TapSizes, conv_tap};
pub use conv3x3::{Conv3x3, ConvMatrix, conv3x3, pack_conv3x3};
pub use hadamard::{hadamard_kernel, hadamard_rows};
pub use kmeans::{
    Cluster, MAX_ROUNDS, SpanPlace, kmeans, kmeans_assign, kmeans_kernels, kmeans_start, residual,
};
pub use kv_mix::{KvMix, kv_mix};
pub use kv_store::{KvFormat, KvStore, kv_store};
pub use linear::{Activation, Linear, Matrix, Store, linear, linear_rows};
pub use mix::{mix, mix_limited};
pub use norm::{Norm, NormMode, norm};
pub use patch::{Patches, patchify, unpatchify};
pub use pixel_attention::{MAX_PIXEL_CHANNELS, PixelAttention, pixel_attention};
pub use positions::{FramePlace, Positions, RopeSplit, turns};
pub use quantize::{Quantize, quantize, quantize_kernels};
pub use relative_attention::{MAX_RELATIVE_KEYS, RelativeAttention, relative_attention};
pub use rgba::{Pixels, rgba};
pub use rms_norm::{RmsNorm, rms_norm};
pub use rope::{Rope, rope};
pub use silu::silu;
pub use span_decode::span_decode;
pub use span_error::{SpanError, span_error};
pub use span_gather::{SpanGather, span_gather, span_gather_kernel};
pub use weight_format::WeightFormat;

use crate::gpu::{Kernel, Plan};

/// Every kernel there is; the shader tests walk this list.
pub static KERNELS: &[&Kernel] = &[
    &attention::CODED,
    &attention::CODED_SG,
    &attention::KERNEL,
    &attention::KERNEL_SG,
    &channel_norm::KERNEL,
    &conv3x3::KERNEL,
    &conv_tap::KERNEL,
    &hadamard::KERNEL,
    &kmeans::ASSIGN,
    &kmeans::MEAN,
    &kmeans::RESIDUAL,
    &kmeans::SORT,
    &kmeans::START,
    &kv_mix::KERNEL,
    &kv_store::KERNEL,
    &linear::KERNEL,
    &linear::KERNEL_SG,
    &mix::KERNEL,
    &norm::KERNEL,
    &norm::KERNEL_SG,
    &patch::PATCHIFY,
    &patch::UNPATCHIFY,
    &pixel_attention::KERNEL,
    &quantize::CHANNELS,
    &quantize::GAIN,
    &quantize::GUARD,
    &quantize::KERNEL,
    &relative_attention::KERNEL,
    &rgba::KERNEL,
    &rms_norm::KERNEL,
    &rms_norm::KERNEL_SG,
    &rope::KERNEL,
    &silu::KERNEL,
    &span_decode::KERNEL,
    &span_error::KERNEL,
    &span_gather::KERNEL,
];

/// Lanes of a workgroup in kernels that do one small thing a lane.
const LANES: usize = 64;

/// The plan of such a kernel over `n` things.
fn each(n: usize) -> Plan {
    Plan {
        groups: u32_of(n.div_ceil(LANES)),
        knobs: Vec::new(),
        work_per_group: 8 * LANES as u64,
    }
}

/// The plan of a kernel over `n` things of each head, whose workgroups stay within a head.
fn each_of(heads: usize, n: usize) -> Plan {
    Plan {
        groups: u32_of(heads * n.div_ceil(LANES)),
        ..each(0)
    }
}

/// A size as the shaders count it.
///
/// # Panics
/// Beyond u32: `DitConfig` refuses models and pictures that large.
fn u32_of(n: usize) -> u32 {
    u32::try_from(n).expect("sizes are checked to fit u32 when the configuration is read")
}

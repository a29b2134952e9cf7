//! Weights on the device: q, k and v of a block as one matrix, widths padded to multiples of four, tables in f32.

use std::sync::MutexGuard;

use bytemuck::Pod;

use super::Error;
use super::config::{Cross, DitConfig, FrameCondition};
use super::lora::Lora;
use super::waiting::{Gather, Waiting, Want, waits};
use crate::gpu::{Buffer, Device, Feed, Purpose};
use crate::ops::{Matrix, WeightFormat};
use crate::weights::{Error as WeightsError, Expected, Weights};

/// Self-attention, optional cross-attention and FFN of one block.
#[derive(Debug)]
pub(super) struct Block {
    /// Learned modulation `[6, hidden]`: shift, scale, gate of attention, then of the FFN.
    pub(super) modulation: Buffer<f32>,
    pub(super) attn: AttentionWeights,
    pub(super) cross: Option<CrossWeights>,
    pub(super) ffn_up: Matrix,
    pub(super) ffn_down: Matrix,
}

/// Projections of self-attention.
#[derive(Debug)]
pub(super) struct AttentionWeights {
    /// `[3 * hidden, hidden]`: q, k, v.
    pub(super) qkv: Matrix,
    /// `[2, hidden]`: RMS weights of q and k.
    pub(super) norm_qk: Buffer<f32>,
    pub(super) o: Matrix,
}

/// Projections of cross-attention and the affine norm before it.
#[derive(Debug)]
pub(super) struct CrossWeights {
    /// `[2, hidden]`: weight, bias.
    pub(super) norm: Buffer<f32>,
    pub(super) q: Matrix,
    pub(super) k: Matrix,
    pub(super) v: Matrix,
    pub(super) norm_q: Buffer<f32>,
    pub(super) norm_k: Buffer<f32>,
    pub(super) o: Matrix,
}

/// Everything outside the blocks, and the blocks.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) patch: Matrix,
    pub(super) time_up: Matrix,
    pub(super) time_down: Matrix,
    pub(super) time_projection: Matrix,
    pub(super) pose: Option<Matrix>,
    pub(super) text: Option<(Matrix, Matrix)>,
    pub(super) blocks: Vec<Block>,
    /// `[2, hidden]`: shift, scale.
    pub(super) head_modulation: Buffer<f32>,
    pub(super) head: Matrix,
    /// Those of the blocks that do not stay on the device.
    pub(super) waiting: Option<Waiting>,
}

impl Loaded {
    /// Has a block on the device, whether it waits or not, for as long as what is given back is held.
    pub(super) fn bring(
        &self,
        device: &Device,
        layer: usize,
        want: Want,
    ) -> Result<Option<MutexGuard<'_, Feed>>, Error> {
        match &self.waiting {
            Some(waiting) => waiting.bring(device, layer, want),
            None => Ok(None),
        }
    }
}

/// How a network is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Loading<'a> {
    /// Storage of matrices.
    pub format: WeightFormat,
    /// A change that is worked into the weights, matrix by matrix: what it takes besides is one matrix at a time, in f32, on the
    /// host and on the device.
    pub lora: Option<&'a Lora>,
    /// Blocks whose weights wait in main memory and are uploaded in every pass, all of them into one place. Of fewer than two,
    /// none has to make way.
    pub offload: u32,
}

impl Loading<'_> {
    /// All on the device, and nothing changed.
    #[must_use]
    pub fn plain(format: WeightFormat) -> Loading<'static> {
        Loading {
            format,
            lora: None,
            offload: 0,
        }
    }
}

struct Loader<'a> {
    device: &'a Device,
    weights: &'a Weights,
    lora: Option<&'a Lora>,
    format: WeightFormat,
    gather: Gather,
    /// The block at hand is gathered.
    waits: bool,
    /// Hears the bytes on the device so far.
    told: &'a mut dyn FnMut(u64),
    bytes: u64,
}

impl Loader<'_> {
    /// On the device, or among the blocks that wait.
    fn place<T: Pod>(&mut self, label: &'static str, values: Vec<T>) -> Result<Buffer<T>, Error> {
        if self.waits {
            return self.gather.take(self.device, label, values);
        }
        let made = self.device.upload(Purpose::Weights, label, &values)?;
        self.bytes += made.bytes();
        (self.told)(self.bytes);
        Ok(made)
    }

    /// Tensors joined one after the other, in f32.
    fn joined(&self, names: &[String]) -> Result<Vec<f32>, Error> {
        let mut all = Vec::new();
        for name in names {
            all.extend(self.weights.require(name)?.to_f32()?);
        }
        Ok(all)
    }

    fn table(&mut self, label: &'static str, names: &[String]) -> Result<Buffer<f32>, Error> {
        let values = self.joined(names)?;
        self.place(label, values)
    }

    /// The linear layers `names`, their rows one below the other. No more of the file is in memory than they.
    fn matrix(&mut self, label: &'static str, names: &[String]) -> Result<Matrix, Error> {
        let (mut weight, mut bias) = (Vec::new(), Vec::new());
        for name in names {
            let full = format!("{name}.weight");
            if self.format != WeightFormat::F32 {
                // Names the tensor whose values f16 cannot hold; the scales of blocks are halves as well.
                self.weights.require(&full)?.to_f16_bits()?;
            }
            let values = self.weights.require(&full)?.to_f32()?;
            let biases = self.weights.require(&format!("{name}.bias"))?.to_f32()?;
            match self.lora {
                Some(lora) => weight.extend(self.changed(lora, name, values, biases.len())?),
                None => weight.extend(values),
            }
            bias.extend(biases);
        }
        let (n, k) = (bias.len(), weight.len() / bias.len().max(1));
        let (n_pad, k_pad) = (n.next_multiple_of(4), k.next_multiple_of(4));
        if (n_pad, k_pad) != (n, k) {
            let mut padded = vec![0.0; n_pad * k_pad];
            for (from, to) in weight.chunks_exact(k).zip(padded.chunks_exact_mut(k_pad)) {
                to[..k].copy_from_slice(from);
            }
            weight = padded;
            bias.resize(n_pad, 0.0);
        }
        let format = self.format.for_width(k_pad);
        let packed = format.pack(&weight);
        drop(weight);
        Ok(Matrix {
            weight: self.place(label, packed)?,
            bias: self.place(label, bias)?,
            n: n_pad,
            k: k_pad,
            format,
        })
    }

    /// A layer's weight with its change, if it has one.
    fn changed(
        &self,
        lora: &Lora,
        name: &str,
        weight: Vec<f32>,
        n_out: usize,
    ) -> Result<Vec<f32>, Error> {
        let weight = lora.apply(self.device, name, weight, n_out)?;
        let most = half::f16::MAX.to_f32();
        let beyond = |v: &f32| self.format == WeightFormat::F16 && most < v.abs();
        match weight.iter().position(beyond) {
            None => Ok(weight),
            Some(index) => Err(Error::Weights(WeightsError::F16Range {
                name: format!("{name}.weight"),
                index,
                value: weight[index],
                path: lora.path().to_owned(),
            })),
        }
    }

    fn one(&mut self, label: &'static str, name: &str) -> Result<Matrix, Error> {
        self.matrix(label, &[name.to_owned()])
    }

    fn block(&mut self, i: usize, cross: bool) -> Result<Block, Error> {
        let at = |name: &str| format!("blocks.{i}.{name}");
        let attn = |name: &str| at(&format!("self_attn.{name}"));
        let text = |name: &str| at(&format!("cross_attn.{name}"));
        Ok(Block {
            modulation: self.table("modulation", &[at("modulation")])?,
            attn: AttentionWeights {
                qkv: self.matrix("qkv", &[attn("q"), attn("k"), attn("v")])?,
                norm_qk: self.table("norm_qk", &[attn("norm_q.weight"), attn("norm_k.weight")])?,
                o: self.one("attention output", &attn("o"))?,
            },
            cross: if cross {
                Some(CrossWeights {
                    norm: self.table("norm3", &[at("norm3.weight"), at("norm3.bias")])?,
                    q: self.one("cross q", &text("q"))?,
                    k: self.one("cross k", &text("k"))?,
                    v: self.one("cross v", &text("v"))?,
                    norm_q: self.table("cross norm_q", &[text("norm_q.weight")])?,
                    norm_k: self.table("cross norm_k", &[text("norm_k.weight")])?,
                    o: self.one("cross output", &text("o"))?,
                })
            } else {
                None
            },
            ffn_up: self.one("ffn up", &at("ffn.0"))?,
            ffn_down: self.one("ffn down", &at("ffn.2"))?,
        })
    }
}

/// Checks a file against the configuration and puts it on the device, with its change. `told` hears 0 when the file is checked,
/// then the bytes on the device after every tensor.
pub(super) fn load(
    device: &Device,
    config: &DitConfig,
    weights: &Weights,
    how: &Loading<'_>,
    told: &mut dyn FnMut(u64),
) -> Result<Loaded, Error> {
    weights.check(config.family.name(), &config.tensors())?;
    told(0);
    let mut l = Loader {
        device,
        weights,
        lora: how.lora,
        format: how.format,
        gather: Gather::default(),
        waits: false,
        told,
        bytes: 0,
    };
    let cross = config.cross != Cross::None;
    let (layers, offload) = (
        config.layers as usize,
        how.offload.min(config.layers) as usize,
    );
    let mut blocks = Vec::with_capacity(layers);
    for i in 0..layers {
        l.gather.next_block();
        l.waits = waits(i, layers, offload);
        blocks.push(l.block(i, cross)?);
    }
    l.waits = false;
    Ok(Loaded {
        patch: l.one("patch embedding", "patch_embedding")?,
        time_up: l.one("time embedding", "time_embedding.0")?,
        time_down: l.one("time embedding", "time_embedding.2")?,
        time_projection: l.one("time projection", "time_projection.1")?,
        pose: match config.frame_condition {
            FrameCondition::Pose { .. } => Some(l.one("pose embedding", "pose_embedding")?),
            FrameCondition::None => None,
        },
        text: if cross {
            Some((
                l.one("text embedding", "text_embedding.0")?,
                l.one("text embedding", "text_embedding.2")?,
            ))
        } else {
            None
        },
        blocks,
        head_modulation: l.table("head modulation", &["head.modulation".to_owned()])?,
        head: l.one("head", "head.head")?,
        waiting: l.gather.finish(device)?,
    })
}

/// Device bytes that [`load`] takes, staging of uploads left out.
pub(super) fn bytes(config: &DitConfig, format: WeightFormat, offload: u32) -> u64 {
    let tensors = config.tensors();
    let all: u64 = tensors.iter().map(|t| tensor_bytes(t, format)).sum();
    // Those that wait share the place of one.
    let shared = u64::from(offload.min(config.layers).saturating_sub(1));
    all - shared * block_bytes(config, format)
}

/// Device bytes of one block.
pub(super) fn block_bytes(config: &DitConfig, format: WeightFormat) -> u64 {
    bytes_where(config, format, |_| true)
}

/// Bytes that a pass uploads.
pub(super) fn pass_bytes(config: &DitConfig, format: WeightFormat, offload: u32) -> u64 {
    let of_text = ["cross_attn.k.", "cross_attn.v.", "cross_attn.norm_k."];
    let of_pass = |name: &str| !of_text.iter().any(|part| name.contains(part));
    u64::from(offload.min(config.layers)) * bytes_where(config, format, of_pass)
}

/// Of the first block's tensors; all blocks are of one size.
fn bytes_where(config: &DitConfig, format: WeightFormat, is_in: impl Fn(&str) -> bool) -> u64 {
    let tensors = config.tensors();
    (tensors
        .iter()
        .filter(|t| t.name.starts_with("blocks.0.") && is_in(&t.name)))
    .map(|t| tensor_bytes(t, format))
    .sum()
}

fn tensor_bytes(t: &Expected, format: WeightFormat) -> u64 {
    let is_matrix = t.name.ends_with(".weight") && t.shape.len() > 1;
    let rows = t.shape[0];
    let cols: usize = t.shape[1..].iter().product();
    let bytes = if is_matrix {
        let cols = cols.next_multiple_of(4);
        format
            .for_width(cols)
            .packed_bytes(rows.next_multiple_of(4) * cols)
    } else if t.name.ends_with(".bias") && !t.name.contains("norm") {
        rows.next_multiple_of(4) * 4
    } else {
        rows * cols * 4
    };
    bytes as u64
}

/// The largest single device buffer that [`load`] makes, in bytes.
pub(super) fn largest(config: &DitConfig, format: WeightFormat) -> u64 {
    let (d, ffn) = (config.hidden as usize, config.ffn_hidden as usize);
    let matrix = |n: usize, k: usize| {
        let k = k.next_multiple_of(4);
        format.for_width(k).packed_bytes(n.next_multiple_of(4) * k)
    };
    matrix(6 * d, d).max(matrix(ffn, d)).max(matrix(d, ffn)) as u64
}

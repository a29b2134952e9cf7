//! Low-rank changes of a network's weights, worked in while they are loaded, matrix by matrix.
//! Source: SELF-FORCING 5.7 (LongLive); PEFT, `tuners/lora/layer.py`.

use std::path::Path;

use super::Error;
use super::config::{Cross, DitConfig};
use super::preset;
use crate::gpu::{Device, Purpose};
use crate::ops::{Activation, Linear, Matrix, Store, WeightFormat, linear};
use crate::weights::{Error as WeightsError, Expected, Weights};

/// What PEFT puts before a layer's name.
const PREFIX: &str = "base_model.model.";

/// A low-rank change of every linear layer of every block.
#[derive(Debug)]
pub struct Lora {
    weights: Weights,
    rank: usize,
    /// `alpha / rank`.
    scale: f32,
}

/// A matrix and its change `scale B A`.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// `[out, rank]`.
    pub b: &'a [f32],
    /// `[rank, in]`.
    pub a: &'a [f32],
    /// Rank of both.
    pub rank: usize,
    /// Factor of the change.
    pub scale: f32,
}

impl Lora {
    /// Maps the file of a preset's change and checks it.
    ///
    /// # Errors
    /// No readable file, or one that is not this change of this network.
    pub fn open(path: &Path, config: &DitConfig, change: &preset::Lora) -> Result<Lora, Error> {
        let weights = Weights::open_part(path, &[change.part.as_str()])?;
        Lora::new(weights, config, change.rank, change.alpha)
    }

    /// Checks that `weights` are a change of rank `rank` of all linear layers of all blocks of the network, and nothing else.
    ///
    /// # Errors
    /// Names, shapes or dtypes that are others.
    pub fn new(weights: Weights, config: &DitConfig, rank: u32, alpha: f64) -> Result<Lora, Error> {
        weights.check("low-rank change", &expected(config, rank as usize))?;
        Ok(Lora {
            weights,
            rank: rank as usize,
            scale: (alpha / f64::from(rank.max(1))) as f32,
        })
    }

    /// The weight of the layer `name`, `[out, in]`, with its change worked in. Layers outside the blocks have none.
    pub(super) fn apply(
        &self,
        device: &Device,
        name: &str,
        weight: Vec<f32>,
        n_out: usize,
    ) -> Result<Vec<f32>, Error> {
        let full = |part: &str| format!("{PREFIX}{name}.{part}.weight");
        if self.weights.get(&full("lora_A")).is_none() {
            return Ok(weight);
        }
        let a = self.weights.require(&full("lora_A"))?.to_f32()?;
        let b = self.weights.require(&full("lora_B"))?.to_f32()?;
        let change = Change {
            b: &b,
            a: &a,
            rank: self.rank,
            scale: self.scale,
        };
        let merged = merged(device, weight, n_out, &change)?;
        match merged.iter().position(|v| !v.is_finite()) {
            None => Ok(merged),
            Some(index) => Err(Error::Weights(WeightsError::NotFinite {
                name: full("lora_B"),
                index,
                value: merged[index],
                path: self.weights.path().to_owned(),
            })),
        }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        self.weights.path()
    }
}

/// `weight + scale B A`, `[n_out, in]`, computed on the device.
///
/// # Errors
/// No device memory, or the device failed.
///
/// # Panics
/// When the lengths contradict each other.
pub fn merged(
    device: &Device,
    weight: Vec<f32>,
    n_out: usize,
    change: &Change<'_>,
) -> Result<Vec<f32>, Error> {
    let (rank, n_in) = (change.rank, weight.len() / n_out);
    assert!(
        weight.len() == n_out * n_in
            && change.b.len() == n_out * rank
            && change.a.len() == rank * n_in,
        "sizes of a low-rank change"
    );
    let (k, n) = (rank.next_multiple_of(4), n_in.next_multiple_of(4));
    let mut x = vec![0.0; n_out * k];
    for (to, from) in x.chunks_exact_mut(k).zip(change.b.chunks_exact(rank)) {
        to.iter_mut()
            .zip(from)
            .for_each(|(to, b)| *to = change.scale * b);
    }
    // Rows of the matrix are columns of A.
    let mut columns = vec![0.0; n * k];
    for (r, row) in change.a.chunks_exact(n_in).enumerate() {
        for (c, a) in row.iter().enumerate() {
            columns[c * k + r] = *a;
        }
    }
    let mut y = weight;
    if n != n_in {
        let mut padded = vec![0.0; n_out * n];
        for (to, from) in padded.chunks_exact_mut(n).zip(y.chunks_exact(n_in)) {
            to[..n_in].copy_from_slice(from);
        }
        y = padded;
    }
    let format = WeightFormat::F32;
    let upload = |values: &[f32]| device.upload(Purpose::Scratch, "low-rank change", values);
    let (x, y) = (upload(&x)?, upload(&y)?);
    let matrix = Matrix {
        weight: device.upload(Purpose::Scratch, "low-rank change", &format.pack(&columns))?,
        bias: device.zeros(Purpose::Scratch, "low-rank change", n)?,
        n,
        k,
        format,
    };
    let mut rec = device.recorder();
    rec.stage("load");
    linear(
        &mut rec,
        &Linear {
            x: &x,
            matrix: &matrix,
            y: &y,
            n_rows: n_out,
            act: Activation::None,
            store: Store::Add,
        },
    );
    device.run(rec)?;
    let mut y = device.read_all(&y)?;
    if n != n_in {
        y = y
            .chunks_exact(n)
            .flat_map(|row| &row[..n_in])
            .copied()
            .collect();
    }
    Ok(y)
}

/// Names and shapes of a change of this rank.
fn expected(config: &DitConfig, rank: usize) -> Vec<Expected> {
    let (hidden, ffn) = (config.hidden as usize, config.ffn_hidden as usize);
    let mut layers = Vec::new();
    for part in ["q", "k", "v", "o"] {
        layers.push((format!("self_attn.{part}"), hidden, hidden));
        if config.cross != Cross::None {
            layers.push((format!("cross_attn.{part}"), hidden, hidden));
        }
    }
    layers.push(("ffn.0".to_owned(), ffn, hidden));
    layers.push(("ffn.2".to_owned(), hidden, ffn));
    let mut all = Vec::new();
    for i in 0..config.layers {
        for (layer, n_out, n_in) in &layers {
            let name = |part: &str| format!("{PREFIX}blocks.{i}.{layer}.{part}.weight");
            all.push(Expected {
                name: name("lora_A"),
                shape: vec![rank, *n_in],
            });
            all.push(Expected {
                name: name("lora_B"),
                shape: vec![*n_out, rank],
            });
        }
    }
    all
}

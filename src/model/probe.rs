//! A tape of a pass's intermediate tensors, for comparison with recorded ones, or of its queries alone, for a dump. Blank
//! otherwise: then it costs nothing.
//!
//! Values that fused kernels never write (a projection before its gate, q after RoPE) are recomputed by the same kernels
//! without the fusion, from the tensors that do exist.

use super::Error;
use super::activations::Activations;
use super::dit::Dit;
use super::load::Block;
use crate::gpu::{Buffer, Device, Purpose, Recorder};
use crate::ops::{Activation, Linear, Matrix, NormMode, Rope, Store, linear, norm, rope};

/// Takes an intermediate tensor by name, row-major.
pub type Sink<'a> = &'a mut dyn FnMut(&str, Vec<f32>);

/// Receives intermediate tensors by name, as `name` or `b<layer>.name`, row-major.
pub struct Tape<'a> {
    sink: Option<Sink<'a>>,
    layer: Option<usize>,
    queries_only: bool,
}

impl std::fmt::Debug for Tape<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tape")
            .field("recording", &self.sink.is_some())
            .field("layer", &self.layer)
            .finish()
    }
}

impl<'a> Tape<'a> {
    /// Records nothing.
    pub fn blank() -> Tape<'static> {
        Tape {
            sink: None,
            layer: None,
            queries_only: false,
        }
    }

    /// Gives every intermediate tensor to `sink`.
    pub fn record(sink: Sink<'a>) -> Tape<'a> {
        Tape {
            sink: Some(sink),
            layer: None,
            queries_only: false,
        }
    }

    /// Gives `sink` the queries of every block before RoPE, `b<layer>.q_norm`, and nothing else; nothing is computed twice.
    pub fn queries(sink: Sink<'a>) -> Tape<'a> {
        Tape {
            queries_only: true,
            ..Tape::record(sink)
        }
    }

    /// Whether it takes every tensor.
    fn takes_all(&self) -> bool {
        self.sink.is_some() && !self.queries_only
    }

    pub(super) fn enter(&mut self, layer: usize) {
        self.layer = Some(layer);
    }

    pub(super) fn leave(&mut self) {
        self.layer = None;
    }

    fn put(&mut self, name: &str, values: Vec<f32>) {
        let name = self
            .layer
            .map_or(name.to_owned(), |l| format!("b{l}.{name}"));
        if let Some(sink) = &mut self.sink {
            sink(&name, values);
        }
    }

    pub(crate) fn read(
        &mut self,
        device: &Device,
        name: &str,
        buffer: &Buffer<f32>,
        len: usize,
    ) -> Result<(), Error> {
        if self.takes_all() {
            let values = device.read(buffer, 0..len)?;
            self.put(name, values);
        }
        Ok(())
    }

    /// As [`Tape::read`], of rows that are padded from `width` to `stride` values.
    pub(super) fn read_rows(
        &mut self,
        device: &Device,
        name: &str,
        buffer: &Buffer<f32>,
        n_rows: usize,
        [width, stride]: [usize; 2],
    ) -> Result<(), Error> {
        if self.takes_all() {
            let values = device.read(buffer, 0..n_rows * stride)?;
            self.put(name, column(&values, stride, 0, width));
        }
        Ok(())
    }

    /// When recording: runs what was recorded so far, lets `look` read, and goes on with an empty recorder.
    pub(crate) fn cut<'d>(
        &mut self,
        device: &'d Device,
        rec: Recorder<'d>,
        look: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<Recorder<'d>, Error> {
        if self.sink.is_none() {
            return Ok(rec);
        }
        device.run(rec)?;
        look(self)?;
        Ok(device.recorder())
    }

    /// Where it takes every tensor: room for one that the pass itself holds in parts only.
    pub(super) fn room(&self, device: &Device, len: usize) -> Result<Option<Buffer<f32>>, Error> {
        let room = || device.zeros(Purpose::Scratch, "probe", len);
        Ok(self.takes_all().then(room).transpose()?)
    }

    /// A linear layer of `width` outputs by itself, without the activation or residual that the block fuses into it.
    pub(super) fn alone(
        &mut self,
        device: &Device,
        name: &str,
        x: &Buffer<f32>,
        matrix: &Matrix,
        n_rows: usize,
        width: usize,
    ) -> Result<(), Error> {
        if !self.takes_all() {
            return Ok(());
        }
        let y = device.zeros(Purpose::Scratch, "probe", n_rows * matrix.n)?;
        let mut rec = device.recorder();
        linear(
            &mut rec,
            &Linear {
                x,
                matrix,
                y: &y,
                n_rows,
                act: Activation::None,
                store: Store::Set,
            },
        );
        device.run(rec)?;
        self.read_rows(device, name, &y, n_rows, [width, matrix.n])
    }

    /// The layer norm of x before its modulation.
    pub(super) fn plain_norm(
        &mut self,
        device: &Device,
        dit: &Dit,
        act: &Activations,
        name: &str,
        n_rows: usize,
    ) -> Result<(), Error> {
        if !self.takes_all() {
            return Ok(());
        }
        let len = n_rows * dit.config.hidden as usize;
        let y = device.zeros(Purpose::Scratch, "probe", len)?;
        let mut rec = device.recorder();
        norm(&mut rec, &dit.norm(&act.x, &y, n_rows, NormMode::Plain));
        device.run(rec)?;
        self.read(device, name, &y, len)
    }

    /// `in`, `mod` = learned modulation + conditioning, `norm1`.
    pub(super) fn before_attention(
        &mut self,
        device: &Device,
        dit: &Dit,
        act: &Activations,
        block: &Block,
        n_rows: usize,
    ) -> Result<(), Error> {
        if !self.takes_all() {
            return Ok(());
        }
        let d = dit.config.hidden as usize;
        self.read(device, "in", &act.x, n_rows * d)?;
        let table = device.read_all(&block.modulation)?;
        let cond = device.read(
            &act.cond6,
            0..n_rows / dit.config.tokens_per_frame() as usize * 6 * d,
        )?;
        self.put(
            "mod",
            cond.chunks_exact(6 * d)
                .flat_map(|c| c.iter().zip(&table).map(|(a, b)| a + b))
                .collect(),
        );
        self.plain_norm(device, dit, act, "norm1", n_rows)
    }

    pub(super) fn qkv_linear(
        &mut self,
        device: &Device,
        act: &Activations,
        n_rows: usize,
        d: usize,
    ) -> Result<(), Error> {
        if !self.takes_all() {
            return Ok(());
        }
        self.read(device, "attn_in", &act.h, n_rows * d)?;
        let qkv = device.read(&act.wide, 0..n_rows * 3 * d)?;
        for (part, name) in ["q_lin", "k_lin", "v"].into_iter().enumerate() {
            self.put(name, column(&qkv, 3 * d, part * d, d));
        }
        Ok(())
    }

    pub(super) fn qk_normed(
        &mut self,
        device: &Device,
        dit: &Dit,
        act: &Activations,
        n_rows: usize,
    ) -> Result<(), Error> {
        let d = dit.config.hidden as usize;
        let qkv = device.read(&act.wide, 0..n_rows * 3 * d)?;
        for (part, [normed, turned]) in [["q_norm", "q_rope"], ["k_norm", "k_rope"]]
            .into_iter()
            .enumerate()
        {
            let values = column(&qkv, 3 * d, part * d, d);
            if self.queries_only {
                self.put(normed, values);
                return Ok(());
            }
            let x = device.upload(Purpose::Scratch, "probe", &values)?;
            self.put(normed, values);
            let mut rec = device.recorder();
            rope(
                &mut rec,
                &Rope {
                    x: &x,
                    positions: &act.positions,
                    n_heads: dit.config.heads as usize,
                    row_stride: d,
                },
            );
            device.run(rec)?;
            self.read(device, turned, &x, n_rows * d)?;
        }
        Ok(())
    }

    pub(super) fn attended(
        &mut self,
        device: &Device,
        dit: &Dit,
        act: &Activations,
        block: &Block,
        n_rows: usize,
    ) -> Result<(), Error> {
        self.read(device, "attn", &act.h, n_rows * dit.config.hidden as usize)?;
        self.alone(
            device,
            "attn_o",
            &act.h,
            &block.attn.o,
            n_rows,
            dit.config.hidden as usize,
        )
    }
}

/// `width` values from `at` on in every row.
fn column(rows: &[f32], stride: usize, at: usize, width: usize) -> Vec<f32> {
    rows.chunks_exact(stride)
        .flat_map(|r| &r[at..at + width])
        .copied()
        .collect()
}

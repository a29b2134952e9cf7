//! The one causal DiT: a pass over the frames of a chunk, reading and writing the KV cache.
//!
//! What differs between families is data in [`DitConfig`]; nothing here asks for the family, the codec or the sampler.
//! Source: SELF-FORCING section 4.

use std::ops::Range;

use super::Error;
use super::activations::Activations;
use super::config::{Cross, DitConfig};
use super::load::{self, Block, CrossWeights, Loaded, Loading};
use super::probe::Tape;
use super::waiting::Want;
use crate::cache::{CacheShape, KvCache, KvSource};
use crate::gpu::{Buffer, Device, Purpose};
use crate::ops::{
    Activation, Attention, KvFormat, KvStore, Linear, Norm, NormMode, Patches, RmsNorm, Rope, Rows,
    Segment, Store, WeightFormat, attention, kv_store, linear, linear_rows, norm, patchify,
    rms_norm, rope, silu, unpatchify,
};
use crate::text::{MergedPadding, merge_padding};
use crate::weights::Weights;

/// The network on a device.
#[derive(Debug)]
pub struct Dit {
    pub(super) config: DitConfig,
    pub(super) w: Loaded,
}

/// Keys and values of the text, by block: computed once a prompt.
#[derive(Debug)]
pub struct TextCache {
    /// (K, V) by block, `[text_len, head, head_dim]`, of which the first rows are in use.
    pub(super) blocks: Vec<(Buffer<u32>, Buffer<u32>)>,
    format: KvFormat,
    text_len: usize,
    /// The rows in use; the last one stands for all padding.
    merged: MergedPadding,
}

/// One pass through the network.
#[derive(Debug, Clone)]
pub struct Pass<'a> {
    /// Absolute ids of the frames; the chunk's slots in the cache are theirs.
    pub frames: Range<i64>,
    /// Timestep told to the network, 0..=1000, the same for all frames.
    pub timestep: f32,
    /// Pose features of the frames, `[frame, dim]`; empty where the model takes none.
    pub poses: &'a [f32],
    /// Stop once the last block's keys and values are written: all a cache pass is for.
    pub kv_only: bool,
}

impl TextCache {
    /// K (after its norm) and V of a block, each `[text_len, head, head_dim]`: a merged row is told as often as it stands for.
    ///
    /// # Errors
    /// The device failed.
    pub fn read(&self, device: &Device, block: usize) -> Result<(Vec<f32>, Vec<f32>), Error> {
        let rows = |buffer| -> Result<Vec<f32>, Error> {
            let mut rows = self.format.unpack(&device.read_all(buffer)?);
            let width = rows.len() / self.text_len;
            let last = (self.merged.n_rows - 1) * width..self.merged.n_rows * width;
            for row in self.merged.n_rows..self.text_len {
                rows.copy_within(last.clone(), row * width);
            }
            Ok(rows)
        };
        let (k, v) = &self.blocks[block];
        Ok((rows(k)?, rows(v)?))
    }

    /// Rows that attention reads: the prompt's, and one for all padding.
    pub fn n_rows(&self) -> usize {
        self.merged.n_rows
    }
}

impl Pass<'_> {
    fn n_frames(&self) -> usize {
        (self.frames.end - self.frames.start) as usize
    }
}

impl DitConfig {
    /// Channel pairs of a head by axis.
    pub fn rope_split(&self) -> crate::ops::RopeSplit {
        let [frame, row, col] = self.rope.split.map(|channels| channels as usize / 2);
        crate::ops::RopeSplit { frame, row, col }
    }

    /// The cache this model needs for `max_frames` frames at once.
    pub fn cache_shape(&self, format: KvFormat, max_frames: usize) -> CacheShape {
        let (rows, cols) = self.grid();
        CacheShape {
            n_layers: self.layers as usize,
            n_heads: self.heads as usize,
            split: self.rope_split(),
            theta: self.rope.theta,
            grid: (rows as usize, cols as usize),
            format,
            max_frames,
        }
    }
}

impl Dit {
    /// Checks the weights against the configuration and uploads them.
    ///
    /// # Errors
    /// Names, shapes or values that do not match; no device memory.
    pub fn load(
        device: &Device,
        config: &DitConfig,
        weights: &Weights,
        format: WeightFormat,
    ) -> Result<Dit, Error> {
        Dit::load_as(device, config, weights, &Loading::plain(format))
    }

    /// As [`Dit::load`], changed, or with blocks that wait in main memory.
    ///
    /// # Errors
    /// As [`Dit::load`]; changed weights that the format cannot hold.
    pub fn load_as(
        device: &Device,
        config: &DitConfig,
        weights: &Weights,
        how: &Loading<'_>,
    ) -> Result<Dit, Error> {
        Dit::load_told(device, config, weights, how, &mut |_| {})
    }

    /// As [`Dit::load_as`]. `told` hears 0 when the weights are checked, and the bytes on the device after every tensor; of blocks that
    /// wait, none.
    ///
    /// # Errors
    /// As [`Dit::load_as`].
    pub fn load_told(
        device: &Device,
        config: &DitConfig,
        weights: &Weights,
        how: &Loading<'_>,
        told: &mut dyn FnMut(u64),
    ) -> Result<Dit, Error> {
        Ok(Dit {
            w: load::load(device, config, weights, how, told)?,
            config: config.clone(),
        })
    }

    /// Device bytes of the weights where `offload` blocks wait in main memory; staging of their uploads is told by
    /// [`Dit::block_bytes`].
    pub fn bytes(config: &DitConfig, format: WeightFormat, offload: u32) -> u64 {
        load::bytes(config, format, offload)
    }

    /// Bytes of one block.
    pub fn block_bytes(config: &DitConfig, format: WeightFormat) -> u64 {
        load::block_bytes(config, format)
    }

    /// Bytes that every pass uploads where `offload` blocks wait.
    pub fn pass_bytes(config: &DitConfig, format: WeightFormat, offload: u32) -> u64 {
        load::pass_bytes(config, format, offload)
    }

    /// Bytes uploaded so far for blocks that wait.
    pub fn uploaded_bytes(&self) -> u64 {
        self.w.waiting.as_ref().map_or(0, |w| w.filled_bytes())
    }

    /// The largest single buffer of [`Dit::load`] in bytes.
    pub fn largest(config: &DitConfig, format: WeightFormat) -> u64 {
        load::largest(config, format)
    }

    /// Sizes and switches.
    pub fn config(&self) -> &DitConfig {
        &self.config
    }

    /// Device bytes of a [`TextCache`]; 0 for a model without text.
    pub fn text_bytes(config: &DitConfig, format: KvFormat) -> u64 {
        match config.cross {
            Cross::None => 0,
            Cross::Separate { text_len, .. } => {
                2 * u64::from(config.layers)
                    * u64::from(text_len)
                    * u64::from(config.hidden)
                    * format.bytes() as u64
            }
        }
    }

    /// Runs the text side once: embedding, then K and V of every block.
    ///
    /// `prompt` is `[row, text_dim]`, up to text_len rows. Models see padding, zero rows up to text_len, unmasked; all of it
    /// comes out alike, so one row stands for what the prompt lacks. Zero rows that are given are run as they are.
    ///
    /// Source: SELF-FORCING 4.1, 4.2.
    ///
    /// # Errors
    /// No device memory, or the device failed.
    ///
    /// # Panics
    /// When the model takes no text or the prompt has rows of another size, or more.
    pub fn text(
        &self,
        device: &Device,
        act: &Activations,
        prompt: &[f32],
        format: KvFormat,
        tape: &mut Tape<'_>,
    ) -> Result<TextCache, Error> {
        let Cross::Separate { text_dim, text_len } = self.config.cross else {
            panic!("a model without text")
        };
        let (dim, text_len, d) = (
            text_dim as usize,
            text_len as usize,
            self.config.hidden as usize,
        );
        let n_real = prompt.len() / dim;
        assert_eq!(prompt.len(), n_real * dim, "prompt embeddings");
        let merged = merge_padding(n_real, text_len);
        let n_rows = merged.n_rows;
        let mut prompt = prompt.to_vec();
        prompt.resize(n_rows * dim, 0.0);
        let (c, (up, down)) = (
            act.cross.as_ref().expect("made with the model"),
            self.w.text.as_ref().expect("loaded with the model"),
        );
        device.write(&c.text_in, 0, &padded_rows(&prompt, dim, up.k));
        let mut rec = device.recorder();
        rec.stage("text");
        let rows = |x, matrix, y, act| Linear {
            x,
            matrix,
            y,
            n_rows,
            act,
            store: Store::Set,
        };
        linear(
            &mut rec,
            &rows(&c.text_in, up, &c.text_up, Activation::GeluTanh),
        );
        linear(
            &mut rec,
            &rows(&c.text_up, down, &c.context, Activation::None),
        );
        device.run(rec)?;
        tape.read(device, "context", &c.context, n_rows * d)?;
        let mut blocks = Vec::new();
        for (layer, block) in self.w.blocks.iter().enumerate() {
            let _held = self.w.bring(device, layer, Want::Text)?;
            let w = block.cross.as_ref().expect("loaded with the model");
            let words = format.words(text_len * d);
            let (k, v) = (
                device.zeros(Purpose::Cache, "text keys", words)?,
                device.zeros(Purpose::Cache, "text values", words)?,
            );
            let mut rec = device.recorder();
            rec.stage("text");
            linear(&mut rec, &rows(&c.context, &w.k, &c.k, Activation::None));
            linear(&mut rec, &rows(&c.context, &w.v, &c.v, Activation::None));
            rms_norm(&mut rec, &self.rms(&c.k, &w.norm_k, n_rows, 1, d));
            kv_store(
                &mut rec,
                &KvStore {
                    k_src: &c.k,
                    v_src: &c.v,
                    at: (0, 0),
                    src_stride: d,
                    src_row: 0,
                    n_rows,
                    channels: d,
                    k: &k,
                    v: &v,
                    dst_row: 0,
                    format,
                },
            );
            device.run(rec)?;
            blocks.push((k, v));
        }
        Ok(TextCache {
            blocks,
            format,
            text_len,
            merged,
        })
    }

    /// Runs one pass over `act.latents` and leaves the prediction in `act.output`; K and V of the pass go into the
    /// cache, where [`KvCache::begin`] has made room for these frames. Submits, does not wait (but for a recording tape).
    ///
    /// # Errors
    /// [`Error::NoText`] without a text where the model has cross-attention: nothing was run. The device failed.
    ///
    /// # Panics
    /// When the pass has more frames than `act`, or lacks its poses.
    pub fn forward(
        &self,
        device: &Device,
        act: &mut Activations,
        cache: &KvCache,
        text: Option<&TextCache>,
        pass: &Pass<'_>,
        tape: &mut Tape<'_>,
    ) -> Result<(), Error> {
        assert!(
            pass.n_frames() <= act.n_frames && pass.n_frames() > 0,
            "frames of a pass"
        );
        if self.config.cross != Cross::None && text.is_none() {
            return Err(Error::NoText);
        }
        let turned_by = |f| (cache.position(f), 0);
        let own: Vec<(i64, u32)> = pass.frames.clone().map(turned_by).collect();
        act.positions.set_frames(device, &own);
        self.condition(device, act, pass, tape)?;
        self.embed(device, act, pass, tape)?;
        let last = self.w.blocks.len() - 1;
        for (layer, block) in self.w.blocks.iter().enumerate() {
            tape.enter(layer);
            let _held = self.w.bring(device, layer, Want::Pass)?;
            self.self_attention(device, act, cache, layer, block, pass, tape)?;
            if pass.kv_only && layer == last {
                return Ok(());
            }
            if let (Some(w), Some(text)) = (&block.cross, text) {
                self.cross_attention(device, act, text, layer, w, pass, tape)?;
            }
            self.feed_forward(device, act, block, pass, tape)?;
        }
        self.head(device, act, pass, tape)
    }

    fn tokens(&self, pass: &Pass<'_>) -> usize {
        pass.n_frames() * self.config.tokens_per_frame() as usize
    }

    /// e = W2 silu(W1 sinusoid) (+ pose); e0 = W silu(e).
    fn condition(
        &self,
        device: &Device,
        act: &Activations,
        pass: &Pass<'_>,
        tape: &mut Tape<'_>,
    ) -> Result<(), Error> {
        let (n, d) = (pass.n_frames(), self.config.hidden as usize);
        let w = &self.w;
        let freq = self.config.time.freq_dim as usize;
        let row = sinusoid(f64::from(pass.timestep), freq);
        device.write(
            &act.sinusoid,
            0,
            &padded_rows(&row.repeat(n), freq, w.time_up.k),
        );
        let mut rec = device.recorder();
        rec.stage("conditioning");
        let rows = |x, matrix, y, act, store| Linear {
            x,
            matrix,
            y,
            n_rows: n,
            act,
            store,
        };
        linear(
            &mut rec,
            &rows(
                &act.sinusoid,
                &w.time_up,
                &act.time,
                Activation::Silu,
                Store::Set,
            ),
        );
        linear(
            &mut rec,
            &rows(
                &act.time,
                &w.time_down,
                &act.cond,
                Activation::None,
                Store::Set,
            ),
        );
        if let (Some(matrix), Some(pose)) = (&w.pose, &act.pose) {
            let dim = pass.poses.len() / n;
            device.write(pose, 0, &padded_rows(pass.poses, dim, matrix.k));
            linear(
                &mut rec,
                &rows(pose, matrix, &act.cond, Activation::None, Store::Add),
            );
        }
        silu(&mut rec, &act.cond, &act.cond_silu);
        linear(
            &mut rec,
            &rows(
                &act.cond_silu,
                &w.time_projection,
                &act.cond6,
                Activation::None,
                Store::Set,
            ),
        );
        device.run(rec)?;
        tape.read_rows(device, "time_sin", &act.sinusoid, n, [freq, w.time_up.k])?;
        tape.read(device, "time_emb", &act.cond, n * d)?;
        tape.read(device, "time_proj", &act.cond6, n * 6 * d)
    }

    fn patches(&self, pass: &Pass<'_>, channels: u32, token_stride: usize) -> Patches {
        let (rows, cols) = self.config.grid();
        let [_, ph, pw] = self.config.patch.map(|p| p as usize);
        Patches {
            n_frames: pass.n_frames(),
            channels: channels as usize,
            grid: (rows as usize, cols as usize),
            patch: (ph, pw),
            token_stride,
        }
    }

    fn embed(
        &self,
        device: &Device,
        act: &Activations,
        pass: &Pass<'_>,
        tape: &mut Tape<'_>,
    ) -> Result<(), Error> {
        let n_rows = self.tokens(pass);
        let mut rec = device.recorder();
        rec.stage("embed");
        patchify(
            &mut rec,
            &act.latents,
            &act.patches,
            &self.patches(pass, self.config.in_channels, self.w.patch.k),
        );
        let l = Linear {
            x: &act.patches,
            matrix: &self.w.patch,
            y: &act.x,
            n_rows,
            act: Activation::None,
            store: Store::Set,
        };
        linear(&mut rec, &l);
        device.run(rec)?;
        tape.read(
            device,
            "patch_embed",
            &act.x,
            n_rows * self.config.hidden as usize,
        )
    }

    /// LN(x) * (1 + scale) + shift, with shift and scale the `first`-th and next of the block's six vectors.
    fn modulated<'a>(
        &self,
        act: &'a Activations,
        table: &'a Buffer<f32>,
        first: usize,
        n_rows: usize,
    ) -> Norm<'a> {
        let mode = NormMode::Modulate {
            table,
            cond: &act.cond6,
            cond_vectors: 6,
            shift: (first, first),
            scale: (first + 1, first + 1),
        };
        self.norm(&act.x, &act.h, n_rows, mode)
    }

    pub(super) fn norm<'a>(
        &self,
        x: &'a Buffer<f32>,
        y: &'a Buffer<f32>,
        n_rows: usize,
        mode: NormMode<'a>,
    ) -> Norm<'a> {
        Norm {
            x,
            y,
            n_rows,
            channels: self.config.hidden as usize,
            rows_per_frame: self.config.tokens_per_frame() as usize,
            eps: self.config.eps,
            mode,
        }
    }

    fn rms<'a>(
        &self,
        x: &'a Buffer<f32>,
        weight: &'a Buffer<f32>,
        n_rows: usize,
        n_parts: usize,
        row_stride: usize,
    ) -> RmsNorm<'a> {
        RmsNorm {
            x,
            weight,
            n_rows,
            n_parts,
            channels: self.config.hidden as usize,
            row_stride,
            eps: self.config.eps,
        }
    }

    /// `y += r * gate`, the gate being the `index`-th of the block's six vectors.
    fn gated<'a>(&self, act: &'a Activations, block: &'a Block, index: usize) -> Store<'a> {
        Store::AddGated {
            table: &block.modulation,
            cond: &act.cond6,
            cond_vectors: 6,
            gate: (index, index),
            rows_per_frame: self.config.tokens_per_frame() as usize,
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one call site; the parts of a pass have no type of their own"
    )]
    fn self_attention(
        &self,
        device: &Device,
        act: &Activations,
        cache: &KvCache,
        layer: usize,
        block: &Block,
        pass: &Pass<'_>,
        tape: &mut Tape<'_>,
    ) -> Result<(), Error> {
        let (n_rows, d, heads) = (
            self.tokens(pass),
            self.config.hidden as usize,
            self.config.heads as usize,
        );
        let w = &block.attn;
        tape.before_attention(device, self, act, block, n_rows)?;
        let mut rec = device.recorder();
        rec.stage("qkv");
        norm(&mut rec, &self.modulated(act, &block.modulation, 0, n_rows));
        let qkv = Linear {
            x: &act.h,
            matrix: &w.qkv,
            y: &act.wide,
            n_rows,
            act: Activation::None,
            store: Store::Set,
        };
        linear(&mut rec, &qkv);
        rec = tape.cut(device, rec, |t| t.qkv_linear(device, act, n_rows, d))?;
        rms_norm(&mut rec, &self.rms(&act.wide, &w.norm_qk, n_rows, 2, 3 * d));
        rec = tape.cut(device, rec, |t| t.qk_normed(device, self, act, n_rows))?;
        rope(
            &mut rec,
            &Rope {
                x: &act.wide,
                positions: &act.positions,
                n_heads: heads,
                row_stride: 3 * d,
            },
        );
        let src = KvSource {
            k: &act.wide,
            v: &act.wide,
            at: (d, 2 * d),
            stride: 3 * d,
        };
        cache.store(&mut rec, layer, pass.frames.clone(), &src);
        if pass.kv_only && layer + 1 == self.w.blocks.len() {
            return Ok(device.run(rec)?);
        }
        rec.stage("attention");
        let segments = cache.segments(layer);
        let a = Attention {
            q: &act.wide,
            q_stride: 3 * d,
            n_queries: n_rows,
            n_heads: heads,
            segments: &segments,
            out: &act.h,
            state: &act.state,
        };
        attention(&mut rec, &a);
        rec.stage("attention output");
        rec = tape.cut(device, rec, |t| {
            t.attended(device, self, act, block, n_rows)
        })?;
        let o = Linear {
            x: &act.h,
            matrix: &w.o,
            y: &act.x,
            n_rows,
            act: Activation::None,
            store: self.gated(act, block, 2),
        };
        linear(&mut rec, &o);
        device.run(rec)?;
        tape.read(device, "x_after_self", &act.x, n_rows * d)
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one call site; the parts of a pass have no type of their own"
    )]
    fn cross_attention(
        &self,
        device: &Device,
        act: &Activations,
        text: &TextCache,
        layer: usize,
        w: &CrossWeights,
        pass: &Pass<'_>,
        tape: &mut Tape<'_>,
    ) -> Result<(), Error> {
        let (n_rows, d, heads) = (
            self.tokens(pass),
            self.config.hidden as usize,
            self.config.heads as usize,
        );
        let c = act.cross.as_ref().expect("made with the model");
        let mut rec = device.recorder();
        rec.stage("cross-attention");
        norm(
            &mut rec,
            &self.norm(
                &act.x,
                &act.h,
                n_rows,
                NormMode::Affine {
                    weight_bias: &w.norm,
                },
            ),
        );
        linear(
            &mut rec,
            &Linear {
                x: &act.h,
                matrix: &w.q,
                y: &act.wide,
                n_rows,
                act: Activation::None,
                store: Store::Set,
            },
        );
        rec = tape.cut(device, rec, |t| {
            t.read(device, "norm3", &act.h, n_rows * d)?;
            t.read(device, "xq_lin", &act.wide, n_rows * d)
        })?;
        rms_norm(&mut rec, &self.rms(&act.wide, &w.norm_q, n_rows, 1, d));
        let (k, v) = &text.blocks[layer];
        let segment = Segment {
            k,
            v,
            rows: Rows::Merged {
                format: text.format,
                last_bias: text.merged.last_bias,
            },
            positions: &c.positions,
            rope: false,
            tokens_per_frame: text.merged.n_rows,
        };
        let a = Attention {
            q: &act.wide,
            q_stride: d,
            n_queries: n_rows,
            n_heads: heads,
            segments: &[segment],
            out: &act.h,
            state: &act.state,
        };
        attention(&mut rec, &a);
        rec = tape.cut(device, rec, |t| {
            t.read(device, "xq_norm", &act.wide, n_rows * d)?;
            t.read(device, "cross", &act.h, n_rows * d)?;
            t.alone(device, "cross_o", &act.h, &w.o, n_rows, d)
        })?;
        linear(
            &mut rec,
            &Linear {
                x: &act.h,
                matrix: &w.o,
                y: &act.x,
                n_rows,
                act: Activation::None,
                store: Store::Add,
            },
        );
        device.run(rec)?;
        tape.read(device, "x_after_cross", &act.x, n_rows * d)
    }

    fn feed_forward(
        &self,
        device: &Device,
        act: &Activations,
        block: &Block,
        pass: &Pass<'_>,
        tape: &mut Tape<'_>,
    ) -> Result<(), Error> {
        let (n_rows, d) = (self.tokens(pass), self.config.hidden as usize);
        tape.plain_norm(device, self, act, "norm2", n_rows)?;
        let mut rec = device.recorder();
        rec.stage("ffn");
        norm(&mut rec, &self.modulated(act, &block.modulation, 3, n_rows));
        // A tape takes all rows at once.
        let whole = tape.room(device, n_rows * block.ffn_up.n)?;
        let (ffn, band_rows) = match &whole {
            Some(whole) => (whole, n_rows),
            None => (&act.wide, act.band_rows),
        };
        for first in (0..n_rows).step_by(band_rows) {
            let n_rows = band_rows.min(n_rows - first);
            let up = Linear {
                x: &act.h,
                matrix: &block.ffn_up,
                y: ffn,
                n_rows,
                act: Activation::GeluTanh,
                store: Store::Set,
            };
            linear_rows(&mut rec, &up, [first, 0]);
            rec = tape.cut(device, rec, |t| {
                let width = self.config.ffn_hidden as usize;
                t.read(device, "ffn_in", &act.h, n_rows * d)?;
                t.alone(device, "ffn_up", &act.h, &block.ffn_up, n_rows, width)?;
                t.read_rows(device, "ffn_act", ffn, n_rows, [width, block.ffn_up.n])?;
                t.alone(device, "ffn_down", ffn, &block.ffn_down, n_rows, d)
            })?;
            let down = Linear {
                x: ffn,
                matrix: &block.ffn_down,
                y: &act.x,
                n_rows,
                act: Activation::None,
                store: self.gated(act, block, 5),
            };
            linear_rows(&mut rec, &down, [0, first]);
        }
        device.run(rec)?;
        tape.read(device, "out", &act.x, n_rows * d)
    }

    /// The head takes its shift and scale from e itself, not from its projection.
    fn head(
        &self,
        device: &Device,
        act: &Activations,
        pass: &Pass<'_>,
        tape: &mut Tape<'_>,
    ) -> Result<(), Error> {
        let (n_rows, d) = (self.tokens(pass), self.config.hidden as usize);
        tape.leave();
        tape.plain_norm(device, self, act, "head.norm", n_rows)?;
        let mut rec = device.recorder();
        rec.stage("head");
        let mode = NormMode::Modulate {
            table: &self.w.head_modulation,
            cond: &act.cond,
            cond_vectors: 1,
            shift: (0, 0),
            scale: (1, 0),
        };
        norm(&mut rec, &self.norm(&act.x, &act.h, n_rows, mode));
        let head = &self.w.head;
        linear(
            &mut rec,
            &Linear {
                x: &act.h,
                matrix: head,
                y: &act.head,
                n_rows,
                act: Activation::None,
                store: Store::Set,
            },
        );
        unpatchify(
            &mut rec,
            &act.head,
            &act.output,
            &self.patches(pass, self.config.out_channels, head.n),
        );
        device.run(rec)?;
        tape.read(device, "head.in", &act.h, n_rows * d)?;
        let [_, ph, pw] = self.config.patch;
        let width = (ph * pw * self.config.out_channels) as usize;
        tape.read_rows(device, "head.out", &act.head, n_rows, [width, head.n])
    }
}

/// `[cos(t f_0), .., sin(t f_0), ..]` with `f_j = 10000^(-j / half)`, in f64. Source: SELF-FORCING 4.1.
pub fn sinusoid(t: f64, dim: usize) -> Vec<f32> {
    let half = dim / 2;
    let angle = |j: usize| t * 10_000f64.powf(-(j as f64) / half as f64);
    let cos = (0..half).map(|j| angle(j).cos() as f32);
    cos.chain((0..half).map(|j| angle(j).sin() as f32))
        .collect()
}

/// Rows of `width` values, each padded with zeros to `padded`.
fn padded_rows(rows: &[f32], width: usize, padded: usize) -> Vec<f32> {
    if width == padded {
        return rows.to_vec();
    }
    let mut out = Vec::with_capacity(rows.len() / width * padded);
    for row in rows.chunks_exact(width) {
        out.extend_from_slice(row);
        out.resize(out.len() + padded - width, 0.0);
    }
    out
}

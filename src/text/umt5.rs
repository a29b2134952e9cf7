//! UMT5's encoder on a device, a part of a layer at a time: the whole has 11 GB, a part of it some 200 MB.
//!
//! Activations and arithmetic are f32, beyond whose half these layers go. Sizes come from the file.
//! Source: SELF-FORCING 2.3.

use std::ops::Range;

use half::f16;

use super::Error;
use super::names::{self, Names};
use crate::gpu::{Buffer, Caps, Device, Purpose, Recorder};
use crate::ops::{
    Activation, Linear, MAX_RELATIVE_KEYS, Matrix, RelativeAttention, RmsNorm, Store, WeightFormat,
    linear, mix, relative_attention, rms_norm,
};
use crate::weights::{self, Expected, View, Weights};

/// Added to mean squares.
const EPS: f32 = 1e-6;

/// Distances fall into this many buckets, half of them for keys behind the row. The edges of [`bucket`] are for 32.
const N_BUCKETS: usize = 32;

/// Takes an intermediate tensor by name, row-major.
pub type Watch<'a> = Option<&'a mut dyn FnMut(&str, Vec<f32>)>;

/// Sizes of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Umt5Config {
    /// Rows of the embedding.
    pub vocab: usize,
    /// Channels.
    pub dim: usize,
    /// Channels of all heads.
    pub dim_attn: usize,
    /// Channels of the gated FFN.
    pub dim_ffn: usize,
    /// Heads.
    pub heads: usize,
    /// Layers.
    pub layers: usize,
}

/// Most bytes an encoding holds on the device at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Umt5Bytes {
    /// Of weights: those of the largest part of a layer.
    pub weights: u64,
    /// Of activations.
    pub activations: u64,
}

/// An encoder whose weights stay in their file.
#[derive(Debug)]
pub struct Umt5<'w> {
    weights: &'w Weights,
    names: Names,
    config: Umt5Config,
    format: WeightFormat,
    largest_bytes: u64,
}

/// Tensors of a pass.
struct Activations {
    x: Buffer<f32>,
    h: Buffer<f32>,
    q: Buffer<f32>,
    k: Buffer<f32>,
    v: Buffer<f32>,
    attn: Buffer<f32>,
    gate: Buffer<f32>,
}

/// The bucket of a distance from a row to a key.
///
/// Source: SELF-FORCING 2.3, whose whole edges stand for the reference's logarithms.
pub fn bucket(delta: i64) -> usize {
    const EDGES: [u64; 8] = [8, 12, 16, 23, 32, 46, 64, 91];
    let far = delta.unsigned_abs();
    let within = match far {
        0..=7 => far as usize,
        _ => 7 + EDGES.iter().filter(|edge| **edge <= far).count(),
    };
    within + if delta > 0 { N_BUCKETS / 2 } else { 0 }
}

/// A layer's table `[bucket, head]` by distance, `[head, key - row + n_rows - 1]`.
pub fn bias_by_distance(table: &[f32], heads: usize, n_rows: usize) -> Vec<f32> {
    let most = n_rows as i64 - 1;
    (0..heads)
        .flat_map(|head| (-most..=most).map(move |delta| table[bucket(delta) * heads + head]))
        .collect()
}

impl Umt5Config {
    /// Reads the sizes off the tensors, whose names are Wan's or those of Hugging Face's transformers.
    ///
    /// # Errors
    /// Tensors missing, of other shapes, or too many.
    pub fn of(weights: &Weights) -> Result<Umt5Config, Error> {
        let names = Names::of(weights);
        let matrix = |name: &str| -> Result<[usize; 2], Error> {
            let view = weights.require(&names.weight(name))?;
            <[usize; 2]>::try_from(view.shape()).map_err(|_| shape(weights, &view, "a matrix"))
        };
        let table = "blocks.0.pos_embedding.embedding";
        let [vocab, dim] = matrix("token_embedding")?;
        let ([dim_attn, _], [dim_ffn, _]) =
            (matrix("blocks.0.attn.q")?, matrix("blocks.0.ffn.fc1")?);
        let [buckets, heads] = matrix(table)?;
        let layer = |i: &usize| {
            let norm = names.weight(&format!("blocks.{i}.norm1"));
            weights.get(&norm).is_some()
        };
        let config = Umt5Config {
            vocab,
            dim,
            dim_attn,
            dim_ffn,
            heads,
            layers: (0..).take_while(layer).count(),
        };
        let refuse = |name: &str, what| {
            let view = weights.require(&names.weight(name))?;
            Err(shape(weights, &view, what))
        };
        if buckets != N_BUCKETS || heads == 0 {
            return refuse(table, "32 buckets for every head");
        }
        for (name, size) in [
            ("token_embedding", dim),
            ("blocks.0.attn.q", dim_attn / heads),
            ("blocks.0.ffn.fc1", dim_ffn),
        ] {
            if size == 0 || !size.is_multiple_of(4) {
                return refuse(name, "widths, and those of heads, are multiples of 4");
            }
        }
        if !dim_attn.is_multiple_of(heads) {
            return refuse("blocks.0.attn.q", "heads of one width");
        }
        weights.check_among(
            "UMT5 encoder",
            &config.expected(names),
            &names::DTYPES,
            |name| names.is_extra(weights, name),
        )?;
        Ok(config)
    }

    /// The encoder of Wan 2.1, as published. Source: SELF-FORCING 2.3.
    #[must_use]
    pub fn xxl() -> Umt5Config {
        Umt5Config {
            vocab: 256_384,
            dim: 4096,
            dim_attn: 4096,
            dim_ffn: 10_240,
            heads: 64,
            layers: 24,
        }
    }

    /// Channels of the FFN that are on the device at a time, where no buffer may exceed `most` bytes.
    fn slice(&self, format: WeightFormat, most: u64) -> usize {
        let channel = format.for_width(self.dim).packed_bytes(self.dim) as u64;
        let fit = usize::try_from(most / channel).unwrap_or(usize::MAX) / 4 * 4;
        // As few as are needed, and of one size.
        let n = self.dim_ffn.div_ceil(fit.clamp(4, self.dim_ffn));
        self.dim_ffn.div_ceil(n).next_multiple_of(4)
    }

    /// The most that encoding `n_rows` tokens takes on a device, where no buffer of FFN weights may exceed `most` bytes.
    #[must_use]
    pub fn bytes(&self, format: WeightFormat, most: u64, n_rows: usize) -> Umt5Bytes {
        let c = self;
        // Every matrix has a bias of zeros.
        let matrix = |n: usize, k: usize| format.for_width(k).packed_bytes(n * k) + n * 4;
        let slice = c.slice(format, most);
        let attention = (c.dim + c.heads * (2 * n_rows - 1)) * 4
            + 3 * matrix(c.dim_attn, c.dim)
            + matrix(c.dim, c.dim_attn);
        let ffn = c.dim * 4 + 2 * matrix(slice, c.dim) + matrix(c.dim, slice);
        Umt5Bytes {
            weights: attention.max(ffn) as u64,
            activations: (n_rows * (2 * c.dim + 4 * c.dim_attn + slice) * 4) as u64,
        }
    }

    /// Every tensor of an encoder of these sizes, as Wan names them.
    pub fn tensors(&self) -> Vec<Expected> {
        self.expected(Names::Wan)
    }

    fn expected(&self, names: Names) -> Vec<Expected> {
        let (d, a, f) = (self.dim, self.dim_attn, self.dim_ffn);
        let mut all = Vec::new();
        let mut add = |name: String, shape: &[usize]| {
            all.push(Expected {
                name: names.weight(&name),
                shape: shape.to_vec(),
            });
        };
        add("token_embedding".to_owned(), &[self.vocab, d]);
        for i in 0..self.layers {
            let mut part = |name: &str, shape: &[usize]| add(format!("blocks.{i}.{name}"), shape);
            part("norm1", &[d]);
            for name in ["attn.q", "attn.k", "attn.v"] {
                part(name, &[a, d]);
            }
            part("attn.o", &[d, a]);
            part("norm2", &[d]);
            for name in ["ffn.gate.0", "ffn.fc1"] {
                part(name, &[f, d]);
            }
            part("ffn.fc2", &[d, f]);
            part("pos_embedding.embedding", &[N_BUCKETS, self.heads]);
        }
        add("norm".to_owned(), &[d]);
        all
    }
}

fn shape(weights: &Weights, view: &View<'_>, what: &'static str) -> Error {
    Error::Shape {
        name: view.name().to_owned(),
        found: view.shape().to_vec(),
        what,
        path: weights.path().to_owned(),
    }
}

impl<'w> Umt5<'w> {
    /// Checks names and shapes; values are read when text is encoded.
    ///
    /// # Errors
    /// As [`Umt5Config::of`].
    pub fn new(weights: &'w Weights, format: WeightFormat) -> Result<Umt5<'w>, Error> {
        Ok(Umt5 {
            weights,
            names: Names::of(weights),
            config: Umt5Config::of(weights)?,
            format,
            largest_bytes: u64::MAX,
        })
    }

    /// Makes no buffer of FFN weights beyond `bytes`, where the device would allow it: less memory, more uploads.
    #[must_use]
    pub fn with_largest_buffer(self, bytes: u64) -> Umt5<'w> {
        Umt5 {
            largest_bytes: bytes,
            ..self
        }
    }

    /// Sizes.
    pub fn config(&self) -> &Umt5Config {
        &self.config
    }

    /// Channels of the FFN that are on the device at a time.
    fn slice(&self, caps: &Caps) -> usize {
        self.config.slice(
            self.format,
            self.largest_bytes.min(caps.max_storage_bytes()),
        )
    }

    /// The most that encoding `n_rows` tokens takes on a device.
    pub fn bytes(&self, caps: &Caps, n_rows: usize) -> Umt5Bytes {
        let most = self.largest_bytes.min(caps.max_storage_bytes());
        self.config.bytes(self.format, most, n_rows)
    }

    /// Encodes tokens: `[row, dim]`. The tokens from `n_real` on are padding, which no row attends to and whose rows come
    /// out as zeros; they may as well be left out.
    ///
    /// # Errors
    /// A token that the encoder does not know, weights that are no numbers, or the device failed.
    ///
    /// # Panics
    /// When `n_real` is 0, beyond the tokens, or beyond [`MAX_RELATIVE_KEYS`].
    pub fn encode(
        &self,
        device: &Device,
        ids: &[u32],
        n_real: usize,
        mut watch: Watch<'_>,
    ) -> Result<Vec<f32>, Error> {
        assert!(
            (1..=ids.len().min(MAX_RELATIVE_KEYS)).contains(&n_real),
            "real tokens"
        );
        let c = &self.config;
        let rows = ids.len();
        let embed = self.embed(ids)?;
        tell(&mut watch, "embed", || Ok(embed.clone()))?;
        let make =
            |label, width: usize| device.zeros::<f32>(Purpose::Activations, label, rows * width);
        let act = Activations {
            x: device.upload(Purpose::Activations, "text x", &embed)?,
            h: make("text h", c.dim)?,
            q: make("text q", c.dim_attn)?,
            k: make("text k", c.dim_attn)?,
            v: make("text v", c.dim_attn)?,
            attn: make("text attention", c.dim_attn)?,
            gate: make("text ffn", self.slice(device.caps()))?,
        };
        let mut pass = Pass {
            umt5: self,
            device,
            act,
            rows,
            n_real,
            watch,
        };
        for layer in 0..c.layers {
            pass.attention(layer)?;
            // What was submitted holds its weights until it is done.
            device.wait()?;
            pass.ffn(layer)?;
        }
        let weight = self.vector("norm")?;
        let mut rec = device.recorder();
        rec.stage("text");
        pass.rms(&mut rec, &pass.act.x, &weight.on(device)?);
        device.run(rec)?;
        let mut out = device.read_all(&pass.act.x)?;
        tell(&mut pass.watch, "final_norm", || Ok(out.clone()))?;
        out[n_real * c.dim..].fill(0.0);
        match out.iter().any(|v| !v.is_finite()) {
            true => Err(Error::NotFinite {
                path: self.weights.path().to_owned(),
            }),
            false => Ok(out),
        }
    }

    fn embed(&self, ids: &[u32]) -> Result<Vec<f32>, Error> {
        let table = self.weight("token_embedding")?;
        let mut rows = Vec::with_capacity(ids.len() * self.config.dim);
        for id in ids {
            let row = *id as usize;
            if self.config.vocab <= row {
                return Err(Error::Token {
                    id: *id,
                    rows: self.config.vocab,
                    path: self.weights.path().to_owned(),
                });
            }
            rows.extend(names::rows(self.weights, &table, row..row + 1)?);
        }
        Ok(rows)
    }

    fn weight(&self, name: &str) -> Result<View<'w>, Error> {
        Ok(self.weights.require(&self.names.weight(name))?)
    }

    fn vector(&self, name: &str) -> Result<Vector, Error> {
        let view = self.weight(name)?;
        Ok(Vector(names::rows(
            self.weights,
            &view,
            0..view.shape()[0],
        )?))
    }

    /// Some rows and columns of a weight matrix, on the device.
    fn matrix(
        &self,
        device: &Device,
        name: &str,
        rows: Range<usize>,
        cols: Range<usize>,
    ) -> Result<Matrix, Error> {
        let view = self.weight(name)?;
        let (n, k, width) = (rows.len(), cols.len(), view.shape()[1]);
        let whole = cols.len() == width;
        let mut values = if whole {
            names::rows(self.weights, &view, rows.clone())?
        } else {
            Vec::with_capacity(n * k)
        };
        for row in rows.clone().filter(|_| !whole) {
            let row = names::rows(self.weights, &view, row..row + 1)?;
            values.extend_from_slice(&row[cols.clone()]);
        }
        if self.format != WeightFormat::F32 {
            let beyond = |v: &f32| f16::from_f32(*v).is_infinite();
            if let Some(at) = values.iter().position(beyond) {
                return Err(Error::Weights(weights::Error::F16Range {
                    name: view.name().to_owned(),
                    index: (rows.start + at / k) * width + cols.start + at % k,
                    value: values[at],
                    path: self.weights.path().to_owned(),
                }));
            }
        }
        let format = self.format.for_width(k);
        let packed = format.pack(&values);
        drop(values);
        Ok(Matrix {
            weight: device.upload(Purpose::Weights, "text encoder", &packed)?,
            bias: device.zeros(Purpose::Weights, "text encoder", n)?,
            n,
            k,
            format,
        })
    }
}

/// Values of a tensor of one dimension.
struct Vector(Vec<f32>);

impl Vector {
    fn on(&self, device: &Device) -> Result<Buffer<f32>, crate::gpu::Error> {
        device.upload(Purpose::Weights, "text norm", &self.0)
    }
}

/// Gives a tensor to whoever watches.
fn tell(
    watch: &mut Watch<'_>,
    name: &str,
    values: impl FnOnce() -> Result<Vec<f32>, Error>,
) -> Result<(), Error> {
    if let Some(watch) = watch {
        watch(name, values()?);
    }
    Ok(())
}

/// An encoding on its way through the layers.
struct Pass<'a, 'w, 't> {
    umt5: &'a Umt5<'w>,
    device: &'a Device,
    act: Activations,
    rows: usize,
    n_real: usize,
    watch: Watch<'t>,
}

impl Pass<'_, '_, '_> {
    fn rms(&self, rec: &mut Recorder<'_>, x: &Buffer<f32>, weight: &Buffer<f32>) {
        let dim = self.umt5.config.dim;
        let a = RmsNorm {
            x,
            weight,
            n_rows: self.rows,
            n_parts: 1,
            channels: dim,
            row_stride: dim,
            eps: EPS,
        };
        rms_norm(rec, &a);
    }

    /// h = rms(x) * weight.
    fn norm(&self, rec: &mut Recorder<'_>, weight: &Buffer<f32>) {
        // The norm works in place: a copy first. h is finite, so that none of it is left.
        mix(rec, &self.act.h, &self.act.x, 0.0, 1.0);
        self.rms(rec, &self.act.h, weight);
    }

    fn linear(
        &self,
        rec: &mut Recorder<'_>,
        matrix: &Matrix,
        [x, y]: [&Buffer<f32>; 2],
        act: Activation,
        store: Store<'_>,
    ) {
        let n_rows = self.rows;
        let a = Linear {
            x,
            matrix,
            y,
            n_rows,
            act,
            store,
        };
        linear(rec, &a);
    }

    /// Gives rows of a buffer to whoever watches, once what was recorded has run.
    fn read(
        &mut self,
        layer: usize,
        name: &str,
        width: usize,
        buffer: fn(&Activations) -> &Buffer<f32>,
    ) -> Result<(), Error> {
        let (device, n) = (self.device, self.rows * width);
        tell(&mut self.watch, &format!("b{layer}.{name}"), || {
            Ok(device.read(buffer(&self.act), 0..n)?)
        })
    }

    /// A product by itself, which the pass only adds to or multiplies with something.
    fn alone(&self, matrix: &Matrix, x: &Buffer<f32>) -> Result<Vec<f32>, Error> {
        let y = self
            .device
            .zeros(Purpose::Scratch, "probe", self.rows * matrix.n)?;
        let mut rec = self.device.recorder();
        self.linear(&mut rec, matrix, [x, &y], Activation::None, Store::Set);
        self.device.run(rec)?;
        Ok(self.device.read_all(&y)?)
    }

    fn attention(&mut self, layer: usize) -> Result<(), Error> {
        let (umt5, device) = (self.umt5, self.device);
        let c = umt5.config;
        let at = |name: &str| format!("blocks.{layer}.{name}");
        let (d, a) = (c.dim, c.dim_attn);
        let norm = umt5.vector(&at("norm1"))?.on(device)?;
        let table = umt5.vector(&at("pos_embedding.embedding"))?.0;
        let by_distance = bias_by_distance(&table, c.heads, self.rows);
        let bias = device.upload(Purpose::Weights, "text bias", &by_distance)?;
        let q = umt5.matrix(device, &at("attn.q"), 0..a, 0..d)?;
        let k = umt5.matrix(device, &at("attn.k"), 0..a, 0..d)?;
        let v = umt5.matrix(device, &at("attn.v"), 0..a, 0..d)?;
        let o = umt5.matrix(device, &at("attn.o"), 0..d, 0..a)?;
        let mut rec = device.recorder();
        rec.stage("text");
        self.norm(&mut rec, &norm);
        let act = &self.act;
        for (matrix, y) in [(&q, &act.q), (&k, &act.k), (&v, &act.v)] {
            self.linear(&mut rec, matrix, [&act.h, y], Activation::None, Store::Set);
        }
        relative_attention(
            &mut rec,
            &RelativeAttention {
                q: &act.q,
                k: &act.k,
                v: &act.v,
                bias: &bias,
                out: &act.attn,
                n_rows: self.rows,
                n_keys: self.n_real,
                n_heads: c.heads,
                head_dim: a / c.heads,
            },
        );
        self.linear(
            &mut rec,
            &o,
            [&act.attn, &act.x],
            Activation::None,
            Store::Add,
        );
        device.run(rec)?;
        if self.watch.is_none() {
            return Ok(());
        }
        self.read(layer, "norm1", d, |a| &a.h)?;
        self.read(layer, "q", a, |a| &a.q)?;
        self.read(layer, "k", a, |a| &a.k)?;
        self.read(layer, "v", a, |a| &a.v)?;
        let attn_o = self.alone(&o, &self.act.attn)?;
        tell(&mut self.watch, &format!("b{layer}.attn_o"), || Ok(attn_o))?;
        let (rows, width) = (self.rows, 2 * self.rows - 1);
        tell(&mut self.watch, &format!("b{layer}.pos_bias"), || {
            let by_distance = device.read_all(&bias)?;
            let row = |head: usize, row: usize| head * width + rows - 1 - row;
            let starts = (0..c.heads).flat_map(|head| (0..rows).map(move |r| row(head, r)));
            Ok(starts
                .flat_map(|s| &by_distance[s..s + rows])
                .copied()
                .collect())
        })
    }

    /// The gated FFN, some of its channels after the other: their products add up in x.
    fn ffn(&mut self, layer: usize) -> Result<(), Error> {
        let (umt5, device) = (self.umt5, self.device);
        let c = umt5.config;
        let at = |name: &str| format!("blocks.{layer}.{name}");
        let norm = umt5.vector(&at("norm2"))?.on(device)?;
        let mut rec = device.recorder();
        rec.stage("text");
        self.norm(&mut rec, &norm);
        device.run(rec)?;
        self.read(layer, "norm2", c.dim, |a| &a.h)?;
        let mut seen = self.watch.is_some().then(|| Seen {
            gate: Columns::new(self.rows, c.dim_ffn),
            up: Columns::new(self.rows, c.dim_ffn),
            sum: vec![0.0; self.rows * c.dim],
        });
        let slice = umt5.slice(device.caps());
        for start in (0..c.dim_ffn).step_by(slice) {
            let part = start..(start + slice).min(c.dim_ffn);
            let gate = umt5.matrix(device, &at("ffn.gate.0"), part.clone(), 0..c.dim)?;
            let up = umt5.matrix(device, &at("ffn.fc1"), part.clone(), 0..c.dim)?;
            let down = umt5.matrix(device, &at("ffn.fc2"), 0..c.dim, part.clone())?;
            let act = &self.act;
            let mut rec = device.recorder();
            rec.stage("text");
            self.linear(
                &mut rec,
                &gate,
                [&act.h, &act.gate],
                Activation::GeluTanh,
                Store::Set,
            );
            if let Some(seen) = &mut seen {
                device.run(rec)?;
                let n = self.rows * part.len();
                seen.gate.put(&part, &device.read(&act.gate, 0..n)?);
                seen.up.put(&part, &self.alone(&up, &act.h)?);
                rec = device.recorder();
            }
            self.linear(
                &mut rec,
                &up,
                [&act.h, &act.gate],
                Activation::None,
                Store::Multiply,
            );
            self.linear(
                &mut rec,
                &down,
                [&act.gate, &act.x],
                Activation::None,
                Store::Add,
            );
            device.run(rec)?;
            if let Some(seen) = &mut seen {
                let part = self.alone(&down, &self.act.gate)?;
                seen.sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
            }
            device.wait()?;
        }
        if let (Some(seen), Some(watch)) = (seen, &mut self.watch) {
            watch(&format!("b{layer}.gate"), seen.gate.values);
            watch(&format!("b{layer}.fc1"), seen.up.values);
            watch(&format!("b{layer}.ffn"), seen.sum);
        }
        self.read(layer, "out", c.dim, |a| &a.x)
    }
}

/// What a watcher sees of an FFN.
struct Seen {
    gate: Columns,
    up: Columns,
    /// Of the parts' products with x.
    sum: Vec<f32>,
}

/// A row-major tensor put together from runs of its columns.
struct Columns {
    values: Vec<f32>,
    width: usize,
}

impl Columns {
    fn new(rows: usize, width: usize) -> Columns {
        Columns {
            values: vec![0.0; rows * width],
            width,
        }
    }

    fn put(&mut self, columns: &Range<usize>, values: &[f32]) {
        let rows = self.values.chunks_exact_mut(self.width);
        for (row, from) in rows.zip(values.chunks_exact(columns.len())) {
            row[columns.clone()].copy_from_slice(from);
        }
    }
}

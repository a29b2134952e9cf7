//! A dump as it lies on disk: which tensors make a layer, how their axes run, and a layer's rows when they are asked for.

use std::path::Path;

use super::head::Head;
use super::names::{self, Group, Role};
use super::{Error, Places};
use crate::codec::SpanShape;
use crate::ops::turns;
use crate::weights::{self, View, Weights};

/// How a tensor's axes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Axes {
    /// `[token, head, head_dim]`.
    Thd,
    /// `[head, token, head_dim]`.
    Htd,
}

impl Axes {
    /// The word flags and metadata use.
    pub fn name(self) -> &'static str {
        match self {
            Axes::Thd => "thd",
            Axes::Htd => "htd",
        }
    }

    fn parse(text: &str) -> Option<Axes> {
        [Axes::Thd, Axes::Htd]
            .into_iter()
            .find(|a| text.eq_ignore_ascii_case(a.name()))
    }
}

/// How it is known how the axes run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AxesBy {
    /// It was asked for.
    Asked,
    /// The file says so.
    Metadata,
    /// Queries share one of the two axes with the keys, which must be the heads.
    Queries,
    /// Guessed: the shorter axis is the heads.
    Guess,
}

/// What is asked of a dump.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// How axes run; `None`: as the file says, else by their lengths.
    pub axes: Option<Axes>,
    /// Layers to take; empty: all.
    pub layers: Vec<usize>,
}

/// A layer of a dump.
#[derive(Debug, Clone)]
pub struct LayerInfo {
    /// Its number and its tensors.
    pub names: Group,
    /// Its sizes.
    pub shape: SpanShape,
    /// Tokens of queries; 0 without.
    pub n_queries: usize,
}

/// A file of keys and values.
#[derive(Debug)]
pub struct Dump {
    weights: Weights,
    head: Head,
    layers: Vec<LayerInfo>,
    axes: (Axes, AxesBy),
    unused: Vec<String>,
}

/// Queries over a layer's keys, turned by their places where these are known.
#[derive(Debug, Clone, PartialEq)]
pub struct Queries {
    /// `[query, head, head_dim]`.
    pub rows: Vec<f32>,
    /// How many.
    pub n: usize,
    /// The file has none: these are keys.
    pub are_keys: bool,
}

/// A layer's keys and values, and queries over them.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    /// Sizes of K and of V.
    pub shape: SpanShape,
    /// `[head, token, head_dim]`.
    pub k: Vec<f32>,
    /// `[head, token, head_dim]`.
    pub v: Vec<f32>,
    /// Queries.
    pub queries: Queries,
}

impl Dump {
    /// Opens a file and settles what its tensors are; values are read by [`Dump::rows`].
    ///
    /// # Errors
    /// A file that is no safetensors file or holds no keys and values as `ask` wants them: what was found is named.
    pub fn open(path: &Path, ask: &Ask) -> Result<Dump, Error> {
        let weights = Weights::open(path)?;
        let form = |what: String| Error::Form {
            what,
            path: path.to_owned(),
        };
        let head = Head::from_metadata(weights.metadata()).map_err(form)?;
        let (mut groups, unused) = names::group(weights.names()).map_err(form)?;
        select(&mut groups, &ask.layers).map_err(form)?;
        let first = groups.first().map(|g| shapes(&weights, g)).transpose()?;
        let Some(first) = first else {
            return Err(form("no layer is left".to_owned()));
        };
        let axes = axes(&weights, ask, &groups[0], &first).map_err(form)?;
        let mut layers = Vec::new();
        for names in groups {
            let shapes = shapes(&weights, &names)?;
            layers.push(layer(names, &shapes, axes.0).map_err(form)?);
        }
        if let Some(places) = &head.places {
            layers
                .iter()
                .try_for_each(|l| agree(l, places))
                .map_err(form)?;
        }
        Ok(Dump {
            weights,
            head,
            layers,
            axes,
            unused,
        })
    }

    /// What the file says of itself.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Its layers, by number.
    pub fn layers(&self) -> &[LayerInfo] {
        &self.layers
    }

    /// How its axes run, and how that is known.
    pub fn axes(&self) -> (Axes, AxesBy) {
        self.axes
    }

    /// Tensors that are no keys, values or queries of a layer.
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// Reads a layer, by its place in [`Dump::layers`], with up to `n_queries` queries, evenly spaced; where the file has
    /// none, its newest keys stand in.
    ///
    /// # Errors
    /// A dtype that is not F32, F16 or BF16; values that are not finite.
    pub fn rows(&self, at: usize, n_queries: usize) -> Result<Rows, Error> {
        let layer = &self.layers[at];
        let shape = layer.shape;
        let k = self.tensor(layer, Role::K)?;
        let v = self.tensor(layer, Role::V)?;
        let places = self.head.places.as_ref();
        let (from, tokens, frames) = match &layer.names.q {
            Some(_) => {
                let all = layer.n_queries;
                let n = n_queries.min(all);
                let evenly = (0..n).map(|i| i * all / n).collect();
                (
                    self.tensor(layer, Role::Q)?,
                    evenly,
                    places.map(|p| &p.query_frames),
                )
            }
            None => {
                let first = shape.tokens - n_queries.min(shape.tokens);
                let newest: Vec<usize> = (first..shape.tokens).collect();
                (k.clone(), newest, places.map(|p| &p.frames))
            }
        };
        let all = from.len() / (shape.n_heads * shape.head_dim);
        let mut rows = Vec::with_capacity(tokens.len() * shape.n_heads * shape.head_dim);
        for &t in &tokens {
            for head in 0..shape.n_heads {
                let row = &from[(head * all + t) * shape.head_dim..][..shape.head_dim];
                match (places, frames) {
                    (Some(p), Some(frames)) => rows.extend(turned(row, p, frames, t)),
                    _ => rows.extend(row),
                }
            }
        }
        Ok(Rows {
            shape,
            k,
            v,
            queries: Queries {
                rows,
                n: tokens.len(),
                are_keys: layer.names.q.is_none(),
            },
        })
    }

    /// A tensor as `[head, token, head_dim]`.
    fn tensor(&self, layer: &LayerInfo, role: Role) -> Result<Vec<f32>, Error> {
        let g = &layer.names;
        let name = match role {
            Role::K => &g.k,
            Role::V => &g.v,
            Role::Q => g.q.as_ref().unwrap_or(&g.k),
        };
        let (h, d) = (layer.shape.n_heads, layer.shape.head_dim);
        let values = self.weights.require(name)?.to_f32().map_err(|e| match e {
            weights::Error::NotFinite {
                index, value, path, ..
            } => {
                let (row, channel) = (index / d, index % d);
                let tokens = match role {
                    Role::Q => layer.n_queries,
                    _ => layer.shape.tokens,
                };
                let (head, token) = match self.axes.0 {
                    Axes::Thd => (row % h, row / h),
                    Axes::Htd => (row / tokens, row % tokens),
                };
                Error::NotFinite {
                    value,
                    layer: g.layer,
                    head,
                    token,
                    channel,
                    name: name.clone(),
                    path,
                }
            }
            other => other.into(),
        })?;
        Ok(match self.axes.0 {
            Axes::Htd => values,
            Axes::Thd => by_head(&values, h, d),
        })
    }
}

/// `[token, head, head_dim]` to `[head, token, head_dim]`.
fn by_head(values: &[f32], n_heads: usize, head_dim: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head in 0..n_heads {
        for token in values.chunks_exact(n_heads * head_dim) {
            out.extend(&token[head * head_dim..][..head_dim]);
        }
    }
    out
}

/// A row turned by the place of its token.
pub(super) fn turned(row: &[f32], p: &Places, frames: &[i64], token: usize) -> Vec<f32> {
    let (frame, at) = (
        frames[token / p.tokens_per_frame()],
        token % p.tokens_per_frame(),
    );
    let angles = turns(p.theta, p.split.frame, frame)
        .chain(turns(p.theta, p.split.row, (at / p.grid.1) as i64))
        .chain(turns(p.theta, p.split.col, (at % p.grid.1) as i64));
    let mut out = Vec::with_capacity(row.len());
    for (pair, (c, s)) in row.as_chunks::<2>().0.iter().zip(angles) {
        let [a, b] = pair.map(f64::from);
        out.extend([(a * c - b * s) as f32, (a * s + b * c) as f32]);
    }
    out
}

/// Keeps the layers that are asked for.
fn select(groups: &mut Vec<Group>, layers: &[usize]) -> Result<(), String> {
    let has: Vec<i64> = groups.iter().map(|g| g.layer as i64).collect();
    if let Some(missing) = layers
        .iter()
        .find(|l| groups.iter().all(|g| g.layer != **l))
    {
        return Err(format!(
            "there is no layer {missing}; there are {}",
            super::head::ranges(&has)
        ));
    }
    groups.retain(|g| layers.is_empty() || layers.contains(&g.layer));
    Ok(())
}

/// Shapes of a layer's K, V and Q, a leading batch of 1 left out.
struct Shapes {
    k: [usize; 3],
    v: [usize; 3],
    q: Option<[usize; 3]>,
}

fn shapes(weights: &Weights, g: &Group) -> Result<Shapes, Error> {
    let of = |name: &String| {
        let view = weights.require(name)?;
        rank3(&view).map_err(|what| Error::Form {
            what,
            path: weights.path().to_owned(),
        })
    };
    Ok(Shapes {
        k: of(&g.k)?,
        v: of(&g.v)?,
        q: g.q.as_ref().map(of).transpose()?,
    })
}

fn rank3(view: &View<'_>) -> Result<[usize; 3], String> {
    use weights::Dtype::{BF16, F16, F32};
    let (name, shape) = (view.name(), view.shape());
    if !matches!(view.dtype(), F32 | F16 | BF16) {
        return Err(format!(
            "the dtype is {}, expected F32, F16 or BF16; convert the file: tensor {name:?}",
            view.dtype()
        ));
    }
    let shape3 = match *shape {
        [a, b, c] | [1, a, b, c] => [a, b, c],
        _ => {
            return Err(format!(
                "the shape is {shape:?}, expected [tokens, heads, head_dim] or [heads, tokens, head_dim], perhaps after \
                 a batch of 1: tensor {name:?}"
            ));
        }
    };
    match shape3.contains(&0) {
        true => Err(format!(
            "the shape is {shape:?}, there is nothing to code: tensor {name:?}"
        )),
        false => Ok(shape3),
    }
}

/// Settles how axes run, by the first layer.
fn axes(weights: &Weights, ask: &Ask, g: &Group, s: &Shapes) -> Result<(Axes, AxesBy), String> {
    if let Some(axes) = ask.axes {
        return Ok((axes, AxesBy::Asked));
    }
    if let Some(text) = weights.metadata().get("layout") {
        let axes = Axes::parse(text).ok_or_else(|| {
            format!("\"layout\" is {text:?} in the metadata; it is thd or htd: state --layout")
        })?;
        return Ok((axes, AxesBy::Metadata));
    }
    let [a, b, _] = s.k;
    let shared = s.q.map(|q| (a == q[0], b == q[1]));
    match (shared, a.cmp(&b)) {
        (Some((true, false)), _) => Ok((Axes::Htd, AxesBy::Queries)),
        (Some((false, true)), _) => Ok((Axes::Thd, AxesBy::Queries)),
        (_, std::cmp::Ordering::Less) => Ok((Axes::Htd, AxesBy::Guess)),
        (_, std::cmp::Ordering::Greater) => Ok((Axes::Thd, AxesBy::Guess)),
        _ => Err(format!(
            "the shape is {:?}: heads and tokens cannot be told apart; state --layout thd or --layout htd: tensor {:?}",
            s.k, g.k
        )),
    }
}

fn layer(names: Group, s: &Shapes, axes: Axes) -> Result<LayerInfo, String> {
    if s.k != s.v {
        return Err(format!(
            "{:?} is {:?} and {:?} is {:?}; keys and values of a layer have one shape",
            names.k, s.k, names.v, s.v
        ));
    }
    let of = |[a, b, d]: [usize; 3]| match axes {
        Axes::Thd => (a, b, d),
        Axes::Htd => (b, a, d),
    };
    let (tokens, n_heads, head_dim) = of(s.k);
    let n_queries = match s.q.map(of) {
        None => 0,
        Some((n, h, d)) if (h, d) == (n_heads, head_dim) => n,
        Some((_, h, d)) => {
            return Err(format!(
                "{:?} has {h} heads of {d} channels, {:?} has {n_heads} of {head_dim}; queries have the heads of the keys",
                names.q.as_deref().unwrap_or_default(),
                names.k
            ));
        }
    };
    Ok(LayerInfo {
        names,
        shape: SpanShape {
            n_heads,
            head_dim,
            tokens,
        },
        n_queries,
    })
}

/// Holds a layer to the places that the metadata gives.
fn agree(l: &LayerInfo, p: &Places) -> Result<(), String> {
    let says = |what: &str, name: &str, has: usize, frames: usize| {
        format!(
            "the metadata gives {what} {frames} frames of {} tokens, {name:?} has {has} tokens; dump it again, or take \
             the metadata out",
            p.tokens_per_frame()
        )
    };
    let per = p.tokens_per_frame();
    if l.shape.tokens != p.frames.len() * per {
        return Err(says("keys", &l.names.k, l.shape.tokens, p.frames.len()));
    }
    if let Some(q) = &l.names.q
        && l.n_queries != p.query_frames.len() * per
    {
        return Err(says("queries", q, l.n_queries, p.query_frames.len()));
    }
    if p.split.head_dim() != l.shape.head_dim {
        return Err(format!(
            "the metadata turns heads of {} channels, {:?} has {}; dump it again, or take the metadata out",
            p.split.head_dim(),
            l.names.k,
            l.shape.head_dim
        ));
    }
    Ok(())
}

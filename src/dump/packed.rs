//! Coded spans as files: the released layout (METHOD 5.2), and ours where a setting stores what that layout has no place for.
//!
//! A span's tensor is `layers.N.spanI.k.PART` (or `.v.`), shapes with the release's batch of 1 in front:
//!
//! | part | dtype | shape | |
//! |---|---|---|---|
//! | `packed` | U8 | `[1, H, S, D*bits/8]` | first code in the high bits; 3 bits: two low bits, then the high bits as a plane |
//! | `scales` | U8 | `[1, H, S, D/B]` | E4M3; bit 7 tells the grid where it is dual |
//! | `zeros` | U8 | `[1, H, S, D/B]` | E4M3, where the grid has zeros |
//! | `ids.t` | U8 | `[1, H, S]` | by stage |
//! | `centroids.t` | BF16 | `[1, H, C, D]` | by stage |
//! | `scale_pairs` | F16, F32 | `[1, H, S, D/B, 2]` or `[1, H, S/B, D, 2]` | extension: scale and zero, by token or by channel |
//! | `head_table` | F32 | `[1, H, 1 + gains]` | extension: factor of all scales, then energy gains |
//! | `rows` | F16 | `[1, H, S, D]` | extension: not coded |
//!
//! Metadata names the codings and, as `extensions`, all that a reader of the released layout does not know.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::parts::{bytes, extensions, parts, sound, words};
use super::{CodedLayer, CodedSpan, Error, Head};
use crate::codec::{KvPair, SpanShape};
use crate::ops::{BiasFix, Coding, SpanLayout};
use crate::weights::{Existing, Planned, Weights, Writer};

/// The value of `kind` in a file of spans.
const KIND: &str = "kv-packed";

fn prefix(layer: usize, span: usize, is_v: usize) -> String {
    format!("layers.{layer}.span{span}.{}", ["k", "v"][is_v])
}

/// What a file of spans says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct PackedHead {
    /// The setting.
    pub codec: String,
    /// Stored forms of K and of V.
    pub codings: [Coding; 2],
    /// Correction of the mass that belongs to the setting.
    pub bias: BiasFix,
    /// What is known of the tokens.
    pub head: Head,
}

impl PackedHead {
    /// Of what `pair` makes of heads of this width.
    pub fn new(pair: &KvPair, head_dim: usize, head: &Head) -> PackedHead {
        PackedHead {
            codec: pair.name.clone(),
            codings: [pair.k.coding(head_dim), pair.v.coding(head_dim)],
            bias: pair.bias,
            head: head.clone(),
        }
    }

    /// Everything that a reader of the released layout does not know, each once.
    pub fn extensions(&self) -> Vec<&'static str> {
        let mut all: Vec<_> = self.codings.iter().flat_map(extensions).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    fn to_metadata(&self) -> BTreeMap<String, String> {
        let mut m = self.head.to_metadata(KIND);
        let json = |c: &Coding| serde_json::to_string(c).unwrap_or_default();
        let bias = serde_json::to_string(&self.bias).unwrap_or_default();
        m.extend([
            ("codec".to_owned(), self.codec.clone()),
            ("coding_k".to_owned(), json(&self.codings[0])),
            ("coding_v".to_owned(), json(&self.codings[1])),
            (
                "mass_correction".to_owned(),
                bias.trim_matches('"').to_owned(),
            ),
            ("extensions".to_owned(), self.extensions().join(",")),
        ]);
        m
    }

    fn from_metadata(m: &BTreeMap<String, String>) -> Result<PackedHead, String> {
        let text = |key: &str| {
            m.get(key)
                .ok_or_else(|| format!("the metadata lacks {key:?}; export the file again"))
        };
        let coding = |key: &str| -> Result<Coding, String> {
            let c: Coding = serde_json::from_str(text(key)?)
                .map_err(|e| format!("{key:?} in the metadata is no coding ({e})"))?;
            Ok(c)
        };
        let bias = text("mass_correction")?;
        Ok(PackedHead {
            codec: text("codec")?.clone(),
            codings: [coding("coding_k")?, coding("coding_v")?],
            bias: serde_json::from_value(bias.as_str().into()).map_err(|_| {
                format!("\"mass_correction\" is {bias:?}; it is off, step or energy")
            })?,
            head: Head::from_metadata(m)?,
        })
    }
}

/// Layers that are coded, on their way into a file.
#[derive(Debug)]
pub struct PackedWriter {
    writer: Writer,
}

impl PackedWriter {
    /// Begins a file of these layers: their numbers, sizes and spans.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(
        path: &Path,
        existing: Existing,
        head: &PackedHead,
        pair: &KvPair,
        layers: &[(usize, SpanShape, Vec<Range<usize>>)],
    ) -> Result<PackedWriter, Error> {
        let mut tensors = Vec::new();
        for (layer, shape, cuts) in layers {
            for (i, cut) in cuts.iter().enumerate() {
                let shape = SpanShape {
                    tokens: cut.len(),
                    ..*shape
                };
                for (is_v, codec) in [&pair.k, &pair.v].into_iter().enumerate() {
                    let at = prefix(*layer, i, is_v);
                    tensors.extend(parts(&codec.layout(shape)).into_iter().map(|p| Planned {
                        name: format!("{at}.{}", p.name),
                        dtype: p.dtype,
                        shape: p.shape,
                    }));
                }
            }
        }
        let writer = Writer::create(path, existing, &head.to_metadata(), &tensors)?;
        Ok(PackedWriter { writer })
    }

    /// Writes a layer.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn layer(&mut self, layer: usize, coded: &CodedLayer) -> Result<(), Error> {
        for (i, span) in coded.spans.iter().enumerate() {
            for is_v in 0..2 {
                let l = &span.layouts[is_v];
                let bytes = bytes(l, &span.words[is_v]);
                for (part, bytes) in parts(l).iter().zip(&bytes) {
                    let name = format!("{}.{}", prefix(layer, i, is_v), part.name);
                    self.writer.write(&name, 0, bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<(), Error> {
        Ok(self.writer.finish()?)
    }
}

/// A file of coded spans.
#[derive(Debug)]
pub struct Packed {
    weights: Weights,
    head: PackedHead,
    /// Layers by number, each with how many spans.
    layers: Vec<(usize, usize)>,
}

impl Packed {
    /// Whether a file says that it holds coded spans.
    ///
    /// # Errors
    /// No readable safetensors file.
    pub fn is_packed(path: &Path) -> Result<bool, Error> {
        let weights = Weights::open(path)?;
        Ok(weights.metadata().get("kind").map(String::as_str) == Some(KIND))
    }

    /// Opens a file of coded spans; they are read by [`Packed::layer`].
    ///
    /// # Errors
    /// A file that is none, or whose metadata or names have no sense.
    pub fn open(path: &Path) -> Result<Packed, Error> {
        let weights = Weights::open(path)?;
        let form = |what: String| Error::Form {
            what,
            path: path.to_owned(),
        };
        let head = PackedHead::from_metadata(weights.metadata()).map_err(form)?;
        let mut spans: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for name in weights.names() {
            let place = layer_and_span(name).ok_or_else(|| {
                form(format!(
                    "tensor {name:?} belongs to no span, expected layers.N.spanI.k.PART"
                ))
            })?;
            let of = spans.entry(place.0).or_default();
            if !of.contains(&place.1) {
                of.push(place.1);
            }
        }
        let mut layers = Vec::new();
        for (layer, mut of) in spans {
            of.sort_unstable();
            if let Some(missing) = (0..of.len()).find(|i| of[*i] != *i) {
                return Err(form(format!("span {missing} of layer {layer} is missing")));
            }
            layers.push((layer, of.len()));
        }
        if layers.is_empty() {
            return Err(form("there are no spans in it".to_owned()));
        }
        Ok(Packed {
            weights,
            head,
            layers,
        })
    }

    /// What the file says of itself.
    pub fn head(&self) -> &PackedHead {
        &self.head
    }

    /// Numbers of its layers.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = usize> {
        self.layers.iter().map(|l| l.0)
    }

    /// Reads a layer, by its place in [`Packed::layers`].
    ///
    /// # Errors
    /// Tensors that are missing or of another shape than the codings say, ids without a centroid, scales and centroids
    /// that are no numbers: each by name.
    pub fn layer(&self, at: usize) -> Result<CodedLayer, Error> {
        let (layer, n) = self.layers[at];
        let mut spans: Vec<CodedSpan> = Vec::new();
        for i in 0..n {
            let of = |is_v| self.tensor(&prefix(layer, i, is_v), &self.head.codings[is_v]);
            let ((lk, k), (lv, v)) = (of(0)?, of(1)?);
            let size = |l: &SpanLayout| (l.n_heads, l.tokens, l.head_dim);
            let first = spans.first().map_or(lk, |s| s.layouts[0]);
            if size(&lk) != size(&lv)
                || (first.n_heads, first.head_dim) != (lk.n_heads, lk.head_dim)
            {
                return Err(self.form(format!(
                    "keys of span {i} of layer {layer} have (heads, tokens, channels) {:?}, values {:?}, those of span 0 {:?}",
                    size(&lk),
                    size(&lv),
                    size(&first)
                )));
            }
            let start = spans.last().map_or(0, |s| s.tokens.end);
            spans.push(CodedSpan {
                tokens: start..start + lk.tokens,
                layouts: [lk, lv],
                words: [k, v],
            });
        }
        Ok(CodedLayer {
            spans,
            encode_secs: None,
        })
    }

    fn form(&self, what: String) -> Error {
        Error::Form {
            what,
            path: self.weights.path().to_owned(),
        }
    }

    /// A tensor's layout, from its shapes, and its words.
    fn tensor(&self, at: &str, c: &Coding) -> Result<(SpanLayout, Vec<u32>), Error> {
        let get = |part: &str| {
            let name = format!("{at}.{part}");
            let found = self.weights.get(&name);
            found.ok_or_else(|| {
                self.form(format!("tensor {name:?} is missing; export the file again"))
            })
        };
        let codes = get(if c.is_quantized() { "packed" } else { "rows" })?;
        let shape = match *codes.shape() {
            [1, h, s, w] if h > 0 && s > 0 && w > 0 => [h, s, w],
            ref other => {
                return Err(self.form(format!(
                    "the shape is {other:?}, expected [1, heads, tokens, bytes]: tensor {:?}",
                    codes.name()
                )));
            }
        };
        let [h, s, w] = shape;
        let d = match c.is_quantized() {
            true => 8 * w / (c.bits as usize).max(1),
            false => w,
        };
        c.check(d)
            .map_err(|why| self.form(format!("{why}: tensor {:?}", codes.name())))?;
        let n_centroids = match c.stages {
            0 => 0,
            _ => *get("centroids.0")?.shape().get(2).unwrap_or(&0),
        };
        if c.stages > 0 && !(1..=256).contains(&n_centroids) {
            return Err(self.form(format!(
                "{n_centroids} centroids, expected 1 to 256: {at}.centroids.0"
            )));
        }
        let l = SpanLayout::new(*c, h, d, s, n_centroids);
        let mut found: BTreeMap<String, &[u8]> = BTreeMap::new();
        for p in parts(&l) {
            let view = get(&p.name)?;
            if (view.shape(), view.dtype()) != (&p.shape[..], p.dtype) {
                return Err(self.form(format!(
                    "{} {:?}, expected {} {:?}: tensor {:?}",
                    view.dtype(),
                    view.shape(),
                    p.dtype,
                    p.shape,
                    view.name()
                )));
            }
            sound(&p, view.bytes(), n_centroids)
                .map_err(|what| self.form(format!("{what}: tensor {:?}", view.name())))?;
            found.insert(p.name, view.bytes());
        }
        let words = words(&l, &found);
        Ok((l, words))
    }
}

/// `layers.N.spanI.` in front of a name.
fn layer_and_span(name: &str) -> Option<(usize, usize)> {
    let rest = name.strip_prefix("layers.")?;
    let (layer, rest) = rest.split_once('.')?;
    let span = rest.strip_prefix("span")?.split('.').next()?;
    Some((layer.parse().ok()?, span.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::NAMES;

    #[test]
    fn released_settings_need_no_extension_and_ours_are_named() {
        for name in NAMES {
            let head = PackedHead::new(&KvPair::of(name, name).unwrap(), 64, &Head::default());
            let released = name.starts_with("qvg") || name.starts_with("rtn");
            assert_eq!(head.extensions().is_empty(), released, "{name}");
            let m = head.to_metadata();
            assert_eq!(PackedHead::from_metadata(&m), Ok(head), "{name}");
        }
        let m = PackedHead::new(&KvPair::of("int2", "int2").unwrap(), 64, &Head::default())
            .to_metadata();
        assert_eq!(m["extensions"], "dual-grid,hadamard,head-table");
        for key in ["codec", "coding_k", "coding_v", "mass_correction"] {
            let mut less = m.clone();
            less.remove(key);
            let why = PackedHead::from_metadata(&less).unwrap_err();
            assert!(why.contains(key), "{why}");
        }
    }

    #[test]
    fn names_tell_layer_and_span() {
        assert_eq!(layer_and_span("layers.3.span12.k.packed"), Some((3, 12)));
        for name in ["layers.3.k", "layers.x.span1.k.ids.0", "span1.k.packed"] {
            assert_eq!(layer_and_span(name), None);
        }
    }
}

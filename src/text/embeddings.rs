//! Encoded prompts: in a file by name, in a folder by what was encoded, and padded as cross-attention takes them.
//!
//! A file is safetensors with one tensor, `prompt_embeds` `[token, dim]` in f32, real tokens only; its metadata tells the
//! prompt, its tokens and the encoder. 60 tokens of UMT5-XXL are 1 MB.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Error, Tokenizer, Umt5, clean_prompt};
use crate::gpu::Device;
use crate::weights::{Dtype, Existing, Planned, Weights, Writer};

const TENSOR: &str = "prompt_embeds";

/// What was encoded, and by what: the same twice gives the same embeddings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Name of the encoder, such as `umt5-xxl-bf16`.
    pub encoder: String,
    /// The prompt, cleaned.
    pub prompt: String,
    /// Its tokens, the end token among them.
    pub ids: Vec<u32>,
}

/// An encoded prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// What was encoded.
    pub source: Source,
    /// Channels of a row.
    pub dim: usize,
    /// `[token, dim]`.
    pub rows: Vec<f32>,
}

/// A prompt ready for the network.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompted {
    /// Its rows.
    pub embeddings: Embeddings,
    /// Tokens of the prompt that found no room.
    pub lost: usize,
    /// It was in the folder, and nothing was encoded.
    pub cached: bool,
}

/// A folder of embeddings, each under a name made of its source.
#[derive(Debug, Clone)]
pub struct EmbeddingCache {
    folder: PathBuf,
}

/// Rows of text that cross-attention needs where all rows of padding are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MergedPadding {
    /// Rows: the real ones, and one for the padding if there is any.
    pub n_rows: usize,
    /// Added to the scores of the last row, because it stands for so many: the logarithm of their number.
    pub last_bias: f32,
}

/// What `text_len` rows of which `n_real` are real shrink to: `softmax` over `c` equal scores `s` gives all of them
/// together the weight of one score `s + ln c`.
///
/// Source: SELF-FORCING 4.1: padding takes part unmasked, and every row of it is the same vector.
///
/// # Panics
/// When there are more real rows than rows.
pub fn merge_padding(n_real: usize, text_len: usize) -> MergedPadding {
    assert!(n_real <= text_len, "rows of text");
    match text_len - n_real {
        0 => MergedPadding {
            n_rows: n_real,
            last_bias: 0.0,
        },
        padding => MergedPadding {
            n_rows: n_real + 1,
            last_bias: (padding as f64).ln() as f32,
        },
    }
}

impl Source {
    /// Cleans a prompt and cuts it into at most `text_len` tokens. Also how many found no room.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn new(
        encoder: &str,
        tokenizer: &Tokenizer,
        prompt: &str,
        text_len: usize,
    ) -> Result<(Source, usize), Error> {
        // Before cleaning too, which takes its time over long texts.
        tokenizer.check_length(prompt)?;
        let prompt = clean_prompt(prompt);
        let tokens = tokenizer.tokens(&prompt, text_len)?;
        let source = Source {
            encoder: encoder.to_owned(),
            prompt,
            ids: tokens.ids,
        };
        Ok((source, tokens.lost))
    }

    /// A name for it: 128 bits of FNV-1a over encoder and tokens, in hex.
    pub fn hash(&self) -> String {
        let encoder = self.encoder.bytes().chain([0]);
        let bytes = encoder.chain(self.ids.iter().flat_map(|id| id.to_le_bytes()));
        let hash = bytes.fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |h: u128, b| {
            (h ^ u128::from(b)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        });
        format!("{hash:032x}")
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let ids: Vec<String> = self.ids.iter().map(u32::to_string).collect();
        [
            ("encoder", self.encoder.clone()),
            ("prompt", self.prompt.clone()),
            ("tokens", ids.join(" ")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn of(metadata: &BTreeMap<String, String>) -> Option<Source> {
        let ids = metadata.get("tokens")?.split_whitespace();
        Some(Source {
            encoder: metadata.get("encoder")?.clone(),
            prompt: metadata.get("prompt")?.clone(),
            ids: ids.map(|id| id.parse().ok()).collect::<Option<_>>()?,
        })
    }
}

impl Embeddings {
    /// Rows.
    pub fn n_tokens(&self) -> usize {
        self.rows.len() / self.dim
    }

    /// `[text_len, dim]`, zeros behind the real rows.
    ///
    /// # Panics
    /// When there are more rows than that: [`Embeddings::load`] and [`Source::new`] refuse or cut them.
    pub fn padded(&self, text_len: usize) -> Vec<f32> {
        assert!(self.n_tokens() <= text_len, "rows of text");
        let mut rows = self.rows.clone();
        rows.resize(text_len * self.dim, 0.0);
        rows
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The name is taken, or the system refused.
    pub fn save(&self, path: &Path, existing: Existing) -> Result<(), Error> {
        let planned = Planned {
            name: TENSOR.to_owned(),
            dtype: Dtype::F32,
            shape: vec![self.n_tokens(), self.dim],
        };
        let bytes: Vec<u8> = self.rows.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut writer = Writer::create(path, existing, &self.source.metadata(), &[planned])?;
        writer.write(TENSOR, 0, &bytes)?;
        Ok(writer.finish()?)
    }

    /// Reads a file for a network that takes up to `text_len` rows of `dim` channels.
    ///
    /// # Errors
    /// No such file, a damaged one, or embeddings of other sizes.
    pub fn load(path: &Path, dim: usize, text_len: usize) -> Result<Embeddings, Error> {
        let refused = |what: String| Error::Embeddings {
            what,
            path: path.to_owned(),
        };
        let file = Weights::open(path)?;
        let Some(view) = file.get(TENSOR) else {
            return Err(refused(format!("lack the tensor {TENSOR:?}")));
        };
        match *view.shape() {
            [n, d] if d == dim && (1..=text_len).contains(&n) => {}
            ref found => {
                return Err(refused(format!(
                    "have shape {found:?}, and the network takes up to {text_len} rows of {dim}"
                )));
            }
        }
        let Some(source) = Source::of(file.metadata()) else {
            return Err(refused("do not say what they were made of".to_owned()));
        };
        Ok(Embeddings {
            source,
            dim,
            rows: view.to_f32()?,
        })
    }
}

impl EmbeddingCache {
    /// The cache in `folder`, which is made when something is put there.
    pub fn new(folder: &Path) -> EmbeddingCache {
        EmbeddingCache {
            folder: folder.to_owned(),
        }
    }

    fn path(&self, source: &Source) -> PathBuf {
        self.folder.join(source.hash() + ".safetensors")
    }

    /// What the folder has of a source. A file there that is damaged, or that two sources share the name of, counts as
    /// not there.
    pub fn get(&self, source: &Source, dim: usize, text_len: usize) -> Option<Embeddings> {
        let path = self.path(source);
        if !path.exists() {
            return None;
        }
        match Embeddings::load(&path, dim, text_len) {
            Ok(e) if e.source.ids == source.ids && e.source.encoder == source.encoder => Some(e),
            Ok(_) => {
                log::warn!("of another prompt, will be replaced: {path:?}");
                None
            }
            Err(e) => {
                log::warn!("not used, will be replaced: {e}");
                None
            }
        }
    }

    /// Puts embeddings there.
    ///
    /// # Errors
    /// The system refused.
    pub fn put(&self, embeddings: &Embeddings) -> Result<(), Error> {
        fs::create_dir_all(&self.folder).map_err(|source| Error::Folder {
            source,
            path: self.folder.clone(),
        })?;
        embeddings.save(&self.path(&embeddings.source), Existing::Replace)
    }
}

/// What a prompt becomes: out of the cache, else encoded by what `open` gives and put there. So the encoder's file is
/// only needed for prompts that are new.
///
/// # Errors
/// The prompt is too long, the encoder cannot be opened or fails, or the cache cannot be written.
pub fn embed(
    device: &Device,
    (source, lost): (Source, usize),
    (dim, text_len): (usize, usize),
    cache: Option<&EmbeddingCache>,
    open: impl FnOnce() -> Result<Weights, Error>,
    format: crate::ops::WeightFormat,
) -> Result<Prompted, Error> {
    if let Some(embeddings) = cache.and_then(|c| c.get(&source, dim, text_len)) {
        return Ok(Prompted {
            embeddings,
            lost,
            cached: true,
        });
    }
    let weights = open()?;
    let encoder = Umt5::new(&weights, format)?;
    if encoder.config().dim != dim {
        return Err(Error::Shape {
            name: "token_embedding.weight".to_owned(),
            found: vec![encoder.config().vocab, encoder.config().dim],
            what: "the network takes rows of another width",
            path: weights.path().to_owned(),
        });
    }
    let rows = encoder.encode(device, &source.ids, source.ids.len(), None)?;
    let embeddings = Embeddings { source, dim, rows };
    if let Some(cache) = cache {
        cache.put(&embeddings)?;
    }
    Ok(Prompted {
        embeddings,
        lost,
        cached: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` values over -1…1 that look random.
    fn values(seed: u32, n: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn some() -> Embeddings {
        Embeddings {
            source: Source {
                encoder: "tiny".to_owned(),
                prompt: "a \"cat\"\u{2581}é".to_owned(),
                ids: vec![5, 7, 1],
            },
            dim: 4,
            rows: values(1, 12),
        }
    }

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("longtake-embeddings-{}-{name}", std::process::id()))
    }

    #[test]
    fn embeddings_come_back_bit_for_bit() {
        let path = scratch("saved.safetensors");
        some().save(&path, Existing::Keep).unwrap();
        assert_eq!(Embeddings::load(&path, 4, 3).unwrap(), some());
        assert_eq!(some().padded(5)[..12], some().rows);
        assert_eq!(some().padded(5)[12..], [0.0; 8]);
        for (dim, text_len) in [(5, 3), (4, 2)] {
            let text = Embeddings::load(&path, dim, text_len)
                .unwrap_err()
                .to_string();
            assert!(
                text.contains("shape [3, 4]") && text.contains("saved"),
                "{text}"
            );
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_cache_gives_back_what_was_put_and_nothing_else() {
        let folder = scratch("cache");
        let cache = EmbeddingCache::new(&folder);
        let source = some().source;
        assert_eq!(cache.get(&source, 4, 3), None);
        cache.put(&some()).unwrap();
        assert_eq!(cache.get(&source, 4, 3), Some(some()));
        for other in [
            Source {
                encoder: "tiny2".to_owned(),
                ..source.clone()
            },
            Source {
                ids: vec![5, 7, 2],
                ..source.clone()
            },
        ] {
            assert_ne!(other.hash(), source.hash());
            assert_eq!(cache.get(&other, 4, 3), None);
            // Should two sources ever share a name, the file itself tells.
            fs::copy(cache.path(&source), cache.path(&other)).unwrap();
            assert_eq!(cache.get(&other, 4, 3), None);
        }
        fs::write(cache.path(&source), "damaged").unwrap();
        assert_eq!(cache.get(&source, 4, 3), None);
        cache.put(&some()).unwrap();
        assert_eq!(cache.get(&source, 4, 3), Some(some()));
        fs::remove_dir_all(&folder).unwrap();
    }

    /// One head over rows of text, in f64: the definition of both sides of [`merge_padding`].
    fn attend(q: &[f32], keys: &[f32], values: &[f32], last_bias: f32) -> Vec<f64> {
        let d = q.len();
        let n = keys.len() / d;
        let score = |row: usize| {
            let products = q.iter().zip(&keys[row * d..][..d]);
            let dot: f64 = products.map(|(q, k)| f64::from(q * k)).sum();
            let bias = if row + 1 == n {
                f64::from(last_bias)
            } else {
                0.0
            };
            dot / (d as f64).sqrt() + bias
        };
        let weights: Vec<f64> = (0..n).map(|row| score(row).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let of = |c: usize| {
            weights
                .iter()
                .enumerate()
                .map(move |(row, w)| w * f64::from(values[row * d + c]))
        };
        (0..d).map(|c| of(c).sum::<f64>() / sum).collect()
    }

    #[test]
    fn merged_padding_attends_as_all_of_it() {
        let (d, text_len) = (8, 512);
        for n_real in [1, 2, 60, 511, 512] {
            let (mut keys, mut vals) = (values(1, text_len * d), values(2, text_len * d));
            for rows in [&mut keys, &mut vals] {
                for row in n_real + 1..text_len {
                    rows.copy_within(n_real * d..(n_real + 1) * d, row * d);
                }
            }
            let q: Vec<f32> = values(3, d).iter().map(|v| 4.0 * v).collect();
            let full = attend(&q, &keys, &vals, 0.0);
            let m = merge_padding(n_real, text_len);
            assert_eq!(m.n_rows, (n_real + 1).min(text_len));
            let n = m.n_rows * d;
            let merged = attend(&q, &keys[..n], &vals[..n], m.last_bias);
            let off = |bias: f32| {
                let got = attend(&q, &keys[..n], &vals[..n], bias);
                let far = got.iter().zip(&full).map(|(a, b)| (a - b).abs());
                far.fold(0.0, f64::max)
            };
            assert_eq!(merged.len(), full.len());
            assert!(off(m.last_bias) < 1e-6, "{n_real}: {}", off(m.last_bias));
            // Without the bias it would be another softmax.
            assert!(n_real + 1 >= text_len || off(0.0) > 1e-4, "{n_real}");
        }
    }
}

//! The codecs of METHOD: centroids subtracted in stages, perhaps a rotation, then levels by blocks.

use super::{Encode, EncodeScratch, KvCodec, SpanShape};
use crate::gpu::Recorder;
use crate::ops::{
    Axis, Cluster, Coding, Grid, Quantize, ScaleFormat, SpanLayout, centroid_count, hadamard_rows,
    kmeans, kmeans_start, quantize, residual,
};

/// Share of ids below which another round of k-means is not worth it (METHOD 3.4).
const STOP_SHARE: f64 = 1e-4;

/// A codec of blocks: what it stores is its coding, what it does on the way is here.
#[derive(Debug, Clone)]
pub struct BlockCodec {
    /// The setting it belongs to.
    pub name: String,
    /// The stored form.
    pub coding: Coding,
    /// Centroids a head and stage; `None`: as many as the span is worth (METHOD 10.4).
    pub centroids: Option<usize>,
    /// Rounds of k-means from a cold and from a warm start.
    pub rounds: (usize, usize),
    /// Share of a block's range that QuaRot's grids keep.
    pub clip: f32,
}

impl BlockCodec {
    /// Half floats as they are.
    pub fn halves() -> BlockCodec {
        BlockCodec::new("off", Coding::HALVES)
    }

    /// Without centroids.
    fn new(name: &str, coding: Coding) -> BlockCodec {
        BlockCodec {
            name: name.to_owned(),
            coding,
            centroids: None,
            rounds: (5, 2),
            clip: 1.0,
        }
    }

    /// The codec that a setting has for keys, or for values: a name, then perhaps parts of it by choice, such as
    /// `int2:block=64:stages=1:grid=asymmetric`.
    ///
    /// # Errors
    /// No such setting or part, in a sentence.
    pub fn parse(text: &str, is_k: bool) -> Result<BlockCodec, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let mut codec = BlockCodec::named(name, is_k).ok_or_else(|| {
            format!(
                "there is no {name:?}; there are {}",
                super::NAMES.join(", ")
            )
        })?;
        for part in parts {
            codec.set(part)?;
        }
        text.clone_into(&mut codec.name);
        Ok(codec)
    }

    /// Sets one part, `key=value`.
    fn set(&mut self, part: &str) -> Result<(), String> {
        let (key, value) = part.split_once('=').unwrap_or((part, "on"));
        let number = || {
            value
                .parse::<usize>()
                .map_err(|_| format!("{part:?}: {value:?} is no whole number"))
        };
        let switch = || match value {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(format!("{part:?}: write on or off")),
        };
        let c = &mut self.coding;
        match key {
            "block" => c.block = number()?.max(1),
            "stages" => c.stages = number()?,
            "centroids" => {
                self.centroids = Some(number()?)
                    .filter(|n| (1..=256).contains(n))
                    .map(Some)
                    .ok_or_else(|| format!("{part:?}: centroids are 1 to 256"))?;
            }
            "rounds" => {
                let n = number()?.clamp(1, crate::ops::MAX_ROUNDS);
                self.rounds = (n, n);
            }
            "clip" => {
                self.clip = value
                    .parse()
                    .ok()
                    .filter(|v| 0.0 < *v && *v <= 1.0)
                    .ok_or_else(|| format!("{part:?}: a share above 0, at most 1"))?;
            }
            "hadamard" => c.hadamard = switch()?,
            "guard" => c.head_table = switch()?,
            "axis" => {
                c.axis = match value {
                    "token" => Axis::Token,
                    "channel" => Axis::Channel,
                    _ => return Err(format!("{part:?}: write token or channel")),
                }
            }
            "scales" => {
                c.scales = match value {
                    "e4m3" => ScaleFormat::E4m3,
                    "f16" => ScaleFormat::F16,
                    "f32" => ScaleFormat::F32,
                    _ => return Err(format!("{part:?}: write e4m3, f16 or f32")),
                }
            }
            "grid" => {
                c.grid = match value {
                    "symmetric" => Grid::Symmetric,
                    "asymmetric" => Grid::Asymmetric,
                    "search" => Grid::AsymmetricSearch,
                    "dual" => Grid::Dual,
                    "minmax" => Grid::MinMax,
                    _ => {
                        return Err(format!(
                            "{part:?}: write symmetric, asymmetric, search, dual or minmax"
                        ));
                    }
                }
            }
            _ => {
                return Err(format!(
                    "{part:?}: there are block, stages, centroids, rounds, grid, scales, axis, clip, hadamard and guard"
                ));
            }
        }
        Ok(())
    }

    /// The codec that the setting `name` has for keys, or for values; `None`: there is no such setting.
    fn named(name: &str, is_k: bool) -> Option<BlockCodec> {
        let (family, bits) = match name.rsplit_once("int") {
            Some((family, bits)) => (family.trim_end_matches('-'), bits.parse().ok()?),
            None if name == "qvg-pro" => (name, 2),
            None => return None,
        };
        let released = |block, stages| Coding {
            bits,
            grid: Grid::Symmetric,
            axis: Axis::Token,
            block,
            scales: ScaleFormat::E4m3,
            stages,
            hadamard: false,
            head_table: false,
        };
        let pairs = |block| Coding {
            scales: ScaleFormat::F16,
            ..released(block, 0)
        };
        let two_or_four = matches!(bits, 2 | 4);
        let coding = match family {
            "qvg" if two_or_four => released(64, 1),
            "qvg-pro" if two_or_four => released(16, 4),
            "rtn" if two_or_four => Coding {
                grid: Grid::Rtn,
                ..released(16, 0)
            },
            "kivi" if two_or_four => Coding {
                grid: Grid::MinMax,
                axis: if is_k { Axis::Channel } else { Axis::Token },
                ..pairs(32)
            },
            "quarot" if two_or_four => Coding {
                grid: Grid::ZeroPoint,
                hadamard: true,
                ..pairs(32)
            },
            "" if matches!(bits, 2 | 3 | 4 | 8) => ours(bits, is_k),
            _ => return None,
        };
        Some(BlockCodec {
            centroids: family.starts_with("qvg").then_some(256),
            ..BlockCodec::new(name, coding)
        })
    }
}

/// Our own setting at a width: what measured best on keys and values of the demo world at few bytes. The rotation spreads
/// outlier channels, the dual grid uses the fourth code; keys have directions in common that one centroid takes away,
/// values hardly, so theirs would cost more bytes and loads than it is worth.
fn ours(bits: u32, is_k: bool) -> Coding {
    Coding {
        bits,
        grid: Grid::Dual,
        axis: Axis::Token,
        block: 64,
        scales: ScaleFormat::E4m3,
        stages: usize::from(is_k),
        hadamard: true,
        head_table: true,
    }
}

impl KvCodec for BlockCodec {
    fn name(&self) -> &str {
        &self.name
    }

    fn coding(&self, head_dim: usize) -> Coding {
        let block = match self.coding.axis {
            Axis::Token => self.coding.block.min(head_dim),
            Axis::Channel => self.coding.block,
        };
        Coding {
            block,
            ..self.coding
        }
    }

    fn layout(&self, shape: SpanShape) -> SpanLayout {
        let n = self
            .centroids
            .unwrap_or_else(|| centroid_count(shape.tokens));
        SpanLayout::new(
            self.coding(shape.head_dim),
            shape.n_heads,
            shape.head_dim,
            shape.tokens,
            n,
        )
    }

    fn encode(&self, rec: &mut Recorder<'_>, scratch: &EncodeScratch, job: &Encode<'_>) {
        let l = &job.to.layout;
        rec.stage("encode");
        if self.coding.hadamard {
            // Before clustering, which a rotation does not change: rows are turned back once, centroids and all.
            hadamard_rows(rec, job.x, job.n_heads * l.tokens, l.head_dim);
        }
        for stage in 0..self.coding.stages {
            let cluster = Cluster {
                x: job.x,
                first_head: job.first_head,
                n_heads: job.n_heads,
                span: job.to,
                stage,
                cents: &scratch.cents,
                order: &scratch.order,
                ranges: &scratch.ranges,
                changed: &scratch.changed,
                bf16: false,
            };
            let rounds = match job.earlier {
                Some(_) => self.rounds.1,
                None => self.rounds.0,
            };
            kmeans_start(rec, &cluster, job.earlier);
            kmeans(rec, &cluster, rounds, STOP_SHARE);
            residual(rec, &cluster);
        }
        let a = Quantize {
            x: job.x,
            first_head: job.first_head,
            n_heads: job.n_heads,
            span: job.to,
            clip: self.clip,
            err: &scratch.err,
        };
        quantize(rec, &a);
    }
}

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
        }
    }

    /// The codec that the setting `name` has for keys, or for values; `None`: there is no such setting.
    pub fn named(name: &str, is_k: bool) -> Option<BlockCodec> {
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

/// Our own setting at a width: what measured best on the keys and values of the demo world.
fn ours(bits: u32, _is_k: bool) -> Coding {
    Coding {
        bits,
        grid: Grid::Dual,
        axis: Axis::Token,
        block: 32,
        scales: ScaleFormat::E4m3,
        stages: 0,
        hadamard: false,
        head_table: true,
    }
}

impl KvCodec for BlockCodec {
    fn name(&self) -> &str {
        &self.name
    }

    fn coding(&self) -> Coding {
        self.coding
    }

    fn layout(&self, shape: SpanShape) -> SpanLayout {
        let n = self
            .centroids
            .unwrap_or_else(|| centroid_count(shape.tokens));
        SpanLayout::new(self.coding, shape.n_heads, shape.head_dim, shape.tokens, n)
    }

    fn encode(&self, rec: &mut Recorder<'_>, scratch: &EncodeScratch, job: &Encode<'_>) {
        let l = &job.to.layout;
        rec.stage("encode");
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
        if self.coding.hadamard {
            hadamard_rows(rec, job.x, job.n_heads * l.tokens, l.head_dim);
        }
        let a = Quantize {
            x: job.x,
            first_head: job.first_head,
            n_heads: job.n_heads,
            span: job.to,
            err: &scratch.err,
        };
        quantize(rec, &a);
    }
}

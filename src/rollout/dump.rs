//! Keys and values of a film into a file.

use std::collections::BTreeMap;
use std::path::Path;

use super::config::SPAN_FRAMES;
use super::error::Error;
use super::session::Session;
use crate::dump::{DumpPlan, DumpWriter, Places, ranges};
use crate::model::{Pass, Tape};
use crate::ops::KvFormat;
use crate::weights::Existing;

/// What a dump holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dumped {
    /// Layers.
    pub layers: usize,
    /// Latent frames.
    pub frames: usize,
    /// Those of them that were coded: the dump has what attention reads, decoded.
    pub decoded: usize,
    /// Frames whose queries are in it; 0 where every pass was run before.
    pub query_frames: usize,
}

impl Session {
    /// Writes K before RoPE and V of every frame that attention sees, all layers, as it reads them; and the queries of the
    /// last chunk, from the pass that leaves its keys and values in the cache, which is run for that.
    ///
    /// Exact frames alone are stored as the cache has them, decoded ones make it f32. Frame by frame: no layer lies in host
    /// memory as a whole.
    ///
    /// # Errors
    /// No frame was made yet, the device failed, or the file cannot be written.
    pub fn dump_kv(&mut self, path: &Path, existing: Existing) -> Result<Dumped, Error> {
        let mut queries: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
        let unwritten = self.unwritten.take();
        if let Some(frames) = unwritten.clone() {
            let first = frames.start as usize - self.film.given().len();
            let poses = self.film.poses(first, (frames.end - frames.start) as usize);
            self.set_cue(self.chunks - 1)?;
            let mut take = |name: &str, values: Vec<f32>| {
                let layer = name.trim_start_matches('b').split('.').next();
                if let Some(layer) = layer.and_then(|l| l.parse().ok()) {
                    queries.insert(layer, values);
                }
            };
            let pass = Pass {
                frames,
                timestep: self.sampler.schedule().context_timestep,
                poses: &poses,
                kv_only: true,
            };
            self.sampler.pass(&pass, &mut Tape::queries(&mut take))?;
            self.sampler.wait()?;
        }
        let cache = self.sampler.cache();
        let (shape, frames) = (*cache.shape(), cache.shown().to_vec());
        if frames.is_empty() {
            return Err(Error::Setting(
                "there are no keys and values before the first frame".into(),
            ));
        }
        let is_coded = |f: &&i64| cache.residency().spans().iter().any(|s| s.contains(f));
        let decoded: Vec<i64> = frames.iter().filter(is_coded).copied().collect();
        let format = match decoded.is_empty() {
            true => shape.format,
            false => KvFormat::F32,
        };
        let position = |f: i64| cache.position(f);
        let places = Places {
            grid: shape.grid,
            theta: shape.theta,
            split: shape.split,
            query_frames: unwritten.map_or(Vec::new(), |f| f.map(position).collect()),
            frames: frames.iter().copied().map(position).collect(),
        };
        let plan = DumpPlan {
            places,
            // As the film was coded, so that `kv` measures spans of that length.
            span_frames: cache
                .residency()
                .spans()
                .iter()
                .map(|s| (s.end - s.start) as usize)
                .max()
                .unwrap_or(SPAN_FRAMES as usize),
            notes: self.notes(&decoded),
            n_layers: shape.n_layers,
            n_heads: shape.n_heads,
            format,
        };
        let mut writer = DumpWriter::create(path, existing, &plan)?;
        let places = &plan.places;
        for layer in 0..shape.n_layers {
            for (at, frame) in frames.iter().enumerate() {
                let (k, v) = cache.read_frame(&self.device, layer, *frame)?;
                writer.frame(layer, at, &k, &v)?;
            }
        }
        for (layer, q) in &queries {
            writer.queries(*layer, q)?;
        }
        writer.finish()?;
        Ok(Dumped {
            layers: shape.n_layers,
            frames: places.frames.len(),
            decoded: decoded.len(),
            query_frames: places.query_frames.len(),
        })
    }

    fn notes(&self, decoded: &[i64]) -> BTreeMap<String, String> {
        let exact = || self.sampler.cache().shape().format.name().to_owned();
        let mut notes = BTreeMap::from([
            ("model".to_owned(), self.plan.model.clone()),
            ("seed".to_owned(), self.plan.seed.to_string()),
            (
                "cache".to_owned(),
                self.plan.kv.clone().unwrap_or_else(exact),
            ),
        ]);
        if !decoded.is_empty() {
            notes.insert("decoded_frames".to_owned(), ranges(decoded));
        }
        notes
    }
}

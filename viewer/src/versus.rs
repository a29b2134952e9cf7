//! The film beside the same one in half floats: frame by frame how near they are, until they part, and the report of it.

use std::sync::Arc;

use longtake::cache::KvFigures;
use longtake::compare::{
    self, CacheFigures, Comparison, METHOD, Place, Protocol, Role, Run, Which,
};
use longtake::frame::Frame;
use longtake::ops::WeightFormat;
use longtake::quality::{self, FrameQuality};
use longtake::rollout::Walk;

use crate::worker::Compared;

/// Below this, in dB, two frames show different things rather than the same thing coded.
const PARTED_DB: f64 = 20.0;

/// What the first sentence of a report's method says of runs in this window.
const RUNS: &str = "Both runs start from the same given frames and the same noise and take the same way. They were made in one window, on \
     one device, chunk by chunk in turn, and are compared as raw 8-bit frames; both keep keys and values in spans, the reference in \
     spans of half floats.";
/// What its seventh says of times.
const TIMES: &str = "Times are wall times beside a window that draws, and beside each other: they tell no more than an order of magnitude. \
     Peak device bytes are the largest sum of a run's own after a chunk; attention was not measured apart.";

/// One of the two runs, as its report needs it.
#[derive(Debug, Clone, Default)]
pub struct Cost {
    kv: KvFigures,
    peak: u64,
    ms: Vec<f64>,
}

impl Cost {
    /// Takes a chunk's figures.
    pub fn push(&mut self, kv: &KvFigures, bytes: u64, secs: f64) {
        self.kv = kv.clone();
        self.peak = self.peak.max(bytes);
        self.ms.push(1e3 * secs);
    }

    fn figures(&self) -> CacheFigures {
        let kv = &self.kv;
        let cache_bytes = kv.exact_bytes + kv.coded_bytes + kv.unused_bytes;
        CacheFigures {
            peak_device_bytes: self.peak,
            ms_per_chunk: self.ms.clone(),
            ..CacheFigures::of_cache(kv, cache_bytes)
        }
    }

    /// Bytes of keys and values held.
    pub fn cache(&self) -> u64 {
        self.kv.exact_bytes + self.kv.coded_bytes
    }
}

/// The comparison of the film at hand.
#[derive(Debug, Clone, Default)]
pub struct Versus {
    /// Made frames of the film in half floats.
    pub frames: Vec<Arc<Frame>>,
    /// How near the film's own frame is, for those that both have.
    pub quality: Vec<FrameQuality>,
    /// What the film in half floats costs.
    pub exact: Cost,
    /// The two have changed places on the screen.
    pub swapped: bool,
}

impl Versus {
    /// Takes a chunk of the film in half floats, beside the film's own made frames; gives the first of its frames that is new.
    pub fn push(&mut self, c: &Compared, own: &[Arc<Frame>]) -> usize {
        let before = self.frames.len();
        self.exact.push(&c.kv, c.bytes, c.secs);
        for (i, frame) in c.frames.iter().enumerate() {
            // After going back it is made again from its beginning, to the same bytes: only what is new counts.
            if c.first + i == self.frames.len() {
                self.frames.push(Arc::new(frame.clone()));
            }
        }
        self.measure(own);
        before
    }

    /// Compares the frames that both have by now.
    pub fn measure(&mut self, own: &[Arc<Frame>]) {
        let pairs = own.iter().zip(&self.frames).skip(self.quality.len());
        // One film has one size of pictures, so none fails.
        let more: Vec<_> = pairs
            .map_while(|(a, b)| FrameQuality::of(a, b).ok())
            .collect();
        self.quality.extend(more);
    }

    /// Forgets what came after `frames`.
    pub fn cut(&mut self, frames: usize) {
        self.frames.truncate(frames);
        self.quality.truncate(frames);
    }

    /// Frames from the first on that are equal byte for byte.
    pub fn equal(&self) -> usize {
        self.quality.iter().take_while(|q| q.is_exact()).count()
    }

    /// PSNR over the frames that are not equal, as that of their mean squared error.
    pub fn mean(&self) -> Option<f64> {
        let rest = &self.quality[self.equal()..];
        quality::mean(rest.iter().map(|q| q.mse)).map(quality::psnr)
    }

    /// Mean SSIM of the same frames.
    pub fn ssim(&self) -> Option<f64> {
        let rest = &self.quality[self.equal()..];
        quality::mean(rest.iter().filter_map(|q| q.ssim))
    }

    /// The second of the lowest PSNR: its first frame, and that PSNR.
    pub fn worst(&self, fps: u32) -> Option<(usize, f64)> {
        let of = |w: &[FrameQuality]| quality::mean(w.iter().map(|q| q.mse)).map(quality::psnr);
        let n = (fps.max(1) as usize).min(self.quality.len());
        let windows = (n > 0).then(|| self.quality.windows(n))?;
        let found = windows.enumerate().filter_map(|(i, w)| Some((i, of(w)?)));
        found
            .filter(|(_, db)| db.is_finite())
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The frame from which on, for a second at least, the two are different takes and no longer one film coded.
    pub fn parted(&self, fps: u32) -> Option<usize> {
        let n = fps.max(1) as usize;
        let apart = |w: &[FrameQuality]| w.iter().all(|q| q.psnr < PARTED_DB);
        self.quality.windows(n).position(apart)
    }
}

/// All that the report of a comparison is written from; put together away from the window's thread.
#[derive(Debug, Clone)]
pub struct Report {
    /// Number of the film and its name.
    pub place: (usize, String),
    /// Seed.
    pub seed: u64,
    /// The way, as a camera text, and its poses.
    pub camera: String,
    /// Given frames, their poses, and those of the made ones.
    pub walk: Walk,
    /// The film's own made frames.
    pub own: Vec<Arc<Frame>>,
    /// The other's.
    pub exact: Vec<Arc<Frame>>,
    /// What the two cost: the film at hand, the one in half floats.
    pub costs: [Cost; 2],
    /// Settings of the film: the name of its codec, and the command that makes it.
    pub setting: (String, String),
    /// Model name.
    pub model: String,
    /// Device, driver, kernel variants.
    pub device: (String, String, &'static str),
    /// Picture size, latent frames of a chunk, steps, window, sink.
    pub sizes: ([u32; 2], u32, u32, u32, u32),
    /// Storage of weights.
    pub weights: WeightFormat,
}

impl Report {
    /// Measures everything.
    ///
    /// # Errors
    /// Frames of different sizes, which would be a bug.
    pub fn comparison(&self) -> anyhow::Result<Comparison> {
        let n = self.own.len().min(self.exact.len());
        let films = [&self.exact, &self.own].map(|film| {
            let frames = film[..n].iter();
            frames.map(|f| Frame::clone(f)).collect::<Vec<Frame>>()
        });
        let [own, exact] = &self.costs;
        let (own, exact) = (own.figures(), exact.figures());
        let mut walk = self.walk.clone();
        walk.poses.truncate(n);
        let which = |setting: &str, role| Which {
            film: self.place.0,
            seed: self.seed,
            setting: setting.to_owned(),
            role,
            bytes_of: Vec::new(),
        };
        let reference = (films[0].as_slice(), &exact);
        let runs = vec![
            Run::new(which("f16", Role::Reference), reference, None, &walk)?,
            Run::new(
                which(&self.setting.0, Role::Setting),
                (films[1].as_slice(), &own),
                Some(reference),
                &walk,
            )?,
        ];
        let mut method = METHOD;
        (method[0], method[6]) = (RUNS, TIMES);
        let ([width, height], chunk_frames, steps, window, sink) = self.sizes;
        let protocol = Protocol {
            version: env!("CARGO_PKG_VERSION"),
            date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            command_line: format!("longtake-viewer; the film: {}", self.setting.1),
            model: self.model.clone(),
            device: self.device.0.clone(),
            driver: self.device.1.clone(),
            tier: self.device.2,
            reference: "f16".to_owned(),
            settings: vec![self.setting.0.clone()],
            windows_of_equal_bytes: false,
            seeds: vec![self.seed],
            films: vec![Place::new(
                self.place.0,
                &self.place.1,
                &self.camera,
                false,
                &walk,
            )],
            given_frames: walk.given.len(),
            frames: n,
            width,
            height,
            chunk_frames,
            steps,
            weights: self.weights.name().to_owned(),
            window: Some(window).filter(|n| 0 < *n),
            sink,
            on_wall: "slide".to_owned(),
            whole: 1,
            asked: 1,
            recent: compare::RECENT,
            method,
        };
        let strips = compare::strips(&walk, &runs, &films);
        Ok(Comparison::new(protocol, runs, strips))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(v: u8) -> Arc<Frame> {
        Arc::new(Frame {
            width: 16,
            height: 12,
            rgb: vec![v; 16 * 12 * 3],
        })
    }

    fn chunk(first: usize, v: u8) -> Compared {
        Compared {
            pictures: None,
            first,
            frames: vec![Frame::clone(&grey(v))],
            kv: KvFigures::default(),
            secs: 0.1,
            bytes: 5,
        }
    }

    #[test]
    fn two_films_are_equal_then_near_then_apart() {
        let mut v = Versus::default();
        let own: Vec<_> = [10, 10, 12, 12, 200, 200, 200].map(grey).to_vec();
        for i in 0..own.len() {
            v.push(&chunk(i, 10), &own[..(i + 2).min(own.len())]);
        }
        assert_eq!((v.quality.len(), v.equal()), (7, 2));
        assert_eq!(v.parted(3), Some(4));
        assert_eq!(v.parted(4), None, "not for four frames");
        let (at, db) = v.worst(2).unwrap();
        assert_eq!(at, 4);
        assert!((db - quality::psnr(190.0 * 190.0)).abs() < 1e-9, "{db}");
        // Only the five that differ count.
        let mse = (2.0 * 4.0 + 3.0 * 190.0 * 190.0) / 5.0;
        assert!((v.mean().unwrap() - quality::psnr(mse)).abs() < 1e-9);
        v.cut(3);
        assert_eq!((v.frames.len(), v.quality.len()), (3, 3));
        // Made again from its beginning: nothing is taken twice.
        v.push(&chunk(0, 10), &own);
        assert_eq!(v.frames.len(), 3);
    }

    #[test]
    fn nothing_made_is_no_figure() {
        let v = Versus::default();
        assert_eq!((v.mean(), v.worst(8), v.parted(8)), (None, None, None));
    }
}

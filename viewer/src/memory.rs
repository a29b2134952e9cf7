//! Device memory over the film: what every byte is for, and what the same frames would take at 16 bit.

use longtake::cache::{KvFigures, SpanErrors};
use longtake::rollout::event::MemoryUse;

/// What device bytes are for, bottom to top of the graph: what stands still is below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Model weights.
    Weights,
    /// Tensors of the pass in flight.
    Activations,
    /// Tables, uniforms, the encoder's rows.
    Scratch,
    /// This window.
    Viewer,
    /// The film in half floats that this one is compared with.
    Other,
    /// Pages of keys and values that hold none yet: pages are allocated whole.
    Reserved,
    /// Exact keys and values.
    Exact,
    /// Codes of coded keys and values.
    Codes,
    /// Their scales, ids, centroids and padding.
    Tables,
}

impl Part {
    /// All, bottom to top.
    pub const ALL: [Part; 9] = [
        Part::Weights,
        Part::Activations,
        Part::Scratch,
        Part::Viewer,
        Part::Other,
        Part::Reserved,
        Part::Exact,
        Part::Codes,
        Part::Tables,
    ];

    /// The word in the legend.
    pub fn name(self) -> &'static str {
        match self {
            Part::Weights => "Weights",
            Part::Activations => "Activations",
            Part::Scratch => "Scratch",
            Part::Viewer => "Viewer",
            Part::Other => "Compared film",
            Part::Reserved => "Pages not filled yet",
            Part::Exact => "Exact keys and values",
            Part::Codes => "Codes",
            Part::Tables => "Scales + centroids",
        }
    }
}

/// The device after one chunk.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// Frames made when it was taken, the chunk included.
    pub frame: usize,
    /// Bytes by [`Part`].
    pub parts: [u64; 9],
    /// The frames that the cache holds, in 16 bit.
    pub half: u64,
    /// Bits per element of what the cache holds.
    pub bits_per_element: f64,
}

impl Sample {
    /// From the engine's figures. `other`: bytes of the film that this one is compared with, left out of
    /// `m` but for its total. `halves`: frames in spans whose K, and whose V, are half floats;
    /// the engine counts these as codes, here they are exact.
    pub fn new(
        frame: usize,
        m: &MemoryUse,
        kv: &KvFigures,
        halves: [u64; 2],
        other: u64,
    ) -> Sample {
        let frames = (kv.exact_frames + kv.coded_frames).max(1);
        let exact = (halves[0] + halves[1]) * (kv.half_bytes / frames / 2);
        let codes = kv.k.coded.codes + kv.v.coded.codes;
        let codes = codes.saturating_sub(exact);
        let mut s = Sample {
            frame,
            half: kv.half_bytes,
            bits_per_element: kv.bits_per_element,
            ..Sample::default()
        };
        for (part, bytes) in [
            (Part::Weights, m.weights_bytes),
            (Part::Activations, m.activations_bytes),
            (Part::Scratch, m.scratch_bytes),
            (Part::Viewer, m.viewer_bytes),
            (Part::Other, other),
            (Part::Reserved, kv.unused_bytes),
            (Part::Exact, kv.exact_bytes + exact),
            (Part::Codes, codes),
            (Part::Tables, kv.coded_bytes.saturating_sub(codes + exact)),
        ] {
            s.parts[part as usize] = bytes;
        }
        s
    }

    /// All device bytes.
    pub fn total(&self) -> u64 {
        self.parts.iter().sum()
    }

    /// Bytes of one purpose.
    pub fn of(&self, part: Part) -> u64 {
        self.parts[part as usize]
    }

    /// Keys and values that are held, pages not filled yet left out.
    pub fn cache(&self) -> u64 {
        self.of(Part::Exact) + self.of(Part::Codes) + self.of(Part::Tables)
    }

    /// All device bytes if the same frames were held in 16 bit.
    pub fn ghost(&self) -> u64 {
        self.total() - self.cache() + self.half
    }

    /// How many times smaller the cache is than in 16 bit.
    pub fn ratio(&self) -> f64 {
        self.half as f64 / self.cache().max(1) as f64
    }
}

/// A change of bits at a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Frames made when it took effect.
    pub frame: usize,
    /// The new width, as the cells name it.
    pub name: String,
    /// Index of its colour.
    pub colour: usize,
}

/// All samples of a film.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// One a chunk, oldest first.
    pub samples: Vec<Sample>,
    /// Changes of bits.
    pub changes: Vec<Change>,
    /// Top of the graph's scale: it only grows, so nothing jumps.
    top: u64,
}

impl History {
    /// Takes a sample.
    pub fn push(&mut self, s: Sample) {
        self.samples.push(s);
        let needed = s.total().max(s.ghost());
        if self.top < needed {
            self.top = nice_top(needed);
        }
    }

    /// The newest sample.
    pub fn last(&self) -> Option<&Sample> {
        self.samples.last()
    }

    /// Top of the scale in bytes.
    pub fn top(&self) -> u64 {
        self.top.max(8 << 20)
    }

    /// Forgets what came after `frames`.
    pub fn cut(&mut self, frames: usize) {
        self.samples.retain(|s| s.frame <= frames);
        self.changes.retain(|c| c.frame <= frames);
    }

    /// The sample of a frame: the first one that counts it.
    pub fn at(&self, frame: usize) -> Option<&Sample> {
        let i = self.samples.partition_point(|s| s.frame <= frame);
        self.samples.get(i).or(self.samples.last())
    }

    /// At most `n` samples over the whole film; of neighbours that fall together the largest stays.
    pub fn thinned(&self, n: usize) -> Vec<Sample> {
        let every = self.samples.len().div_ceil(n.max(1)).max(1);
        let largest = |run: &[Sample]| run.iter().max_by_key(|s| s.total()).copied();
        self.samples.chunks(every).filter_map(largest).collect()
    }
}

/// A fifth more than `bytes`, rounded up to 1, 1.5, 2, 3, 4, 5 or 8 times a power of ten MiB.
fn nice_top(bytes: u64) -> u64 {
    let mib = 1.2 * bytes as f64 / f64::from(1 << 20);
    let ten = 10f64.powf(mib.max(1.0).log10().floor());
    let step = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0];
    let nice = step.into_iter().map(|s| s * ten).find(|v| mib <= *v);
    (nice.unwrap_or(mib) * f64::from(1 << 20)) as u64
}

/// What coding did to keys and values, layer by layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Errors {
    /// Mean relative L2 error of K and of V over the measured spans, by layer; empty where none is.
    pub by_layer: Vec<[f64; 2]>,
    /// Spans that it is the mean of.
    pub measured: usize,
    /// Spans in the cache.
    pub spans: usize,
}

impl Errors {
    /// Of the spans in the cache.
    pub fn of(spans: &[SpanErrors]) -> Errors {
        let measured: Vec<_> = spans.iter().filter_map(|s| s.by_layer.as_ref()).collect();
        let layers = measured.first().map_or(0, |by_layer| by_layer.len());
        let mean = |layer: usize, tensor: usize| {
            let of = |by_layer: &&Vec<[f64; 2]>| by_layer[layer][tensor];
            measured.iter().map(of).sum::<f64>() / measured.len() as f64
        };
        Errors {
            by_layer: (0..layers).map(|l| [mean(l, 0), mean(l, 1)]).collect(),
            measured: measured.len(),
            spans: spans.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> (MemoryUse, KvFigures) {
        let mut kv = KvFigures {
            exact_bytes: 400,
            coded_bytes: 100,
            unused_bytes: 30,
            half_bytes: 1200,
            ..KvFigures::default()
        };
        (kv.k.coded.codes, kv.v.coded.codes) = (40, 32);
        let memory = MemoryUse {
            weights_bytes: 1000,
            cache_bytes: 420,
            spans_bytes: 110,
            activations_bytes: 50,
            scratch_bytes: 7,
            viewer_bytes: 5,
            device_bytes: 1592,
            ..MemoryUse::default()
        };
        (memory, kv)
    }

    #[test]
    fn the_legend_sums_to_the_ledger() {
        let (memory, mut kv) = figures();
        let s = Sample::new(1, &memory, &kv, [0, 0], 0);
        assert_eq!(s.total(), memory.device_bytes);
        assert_eq!((s.of(Part::Codes), s.of(Part::Tables)), (72, 28));
        assert_eq!((s.cache(), s.ghost()), (500, 1592 - 500 + 1200));
        assert!((s.ratio() - 2.4).abs() < 1e-9);
        // Of twelve frames two have K in halves: 2 x 1200 / 12 / 2.
        (kv.exact_frames, kv.coded_frames) = (8, 4);
        (kv.k.coded.codes, kv.coded_bytes) = (268, 300);
        let s = Sample::new(1, &memory, &kv, [2, 0], 90);
        assert_eq!(s.of(Part::Other), 90);
        assert_eq!((s.of(Part::Codes), s.of(Part::Exact)), (200, 500));
        assert_eq!(s.of(Part::Tables), 0);
    }

    #[test]
    fn the_scale_only_grows_and_leaves_room() {
        let mut h = History::default();
        let of = |mib: u64| Sample {
            parts: [mib << 20, 0, 0, 0, 0, 0, 0, 0, 0],
            ..Sample::default()
        };
        h.push(of(50));
        assert_eq!(h.top(), 80 << 20);
        h.push(of(20));
        assert_eq!(h.top(), 80 << 20);
        h.push(of(101));
        assert_eq!(h.top(), 150 << 20);
    }

    #[test]
    fn thinning_keeps_the_peaks() {
        let mut h = History::default();
        for frame in 0..1000 {
            h.push(Sample {
                frame,
                parts: [if frame == 501 { 9 } else { 1 }; 9],
                ..Sample::default()
            });
        }
        let thin = h.thinned(64);
        assert!(thin.len() <= 64);
        assert!(thin.iter().any(|s| s.frame == 501));
    }

    #[test]
    fn errors_are_means_of_what_was_measured() {
        let span = |start: i64, by_layer| SpanErrors {
            frames: start..start + 2,
            bits: [4, 4],
            by_layer,
        };
        assert_eq!(
            Errors::of(&[span(0, None)]),
            Errors {
                by_layer: Vec::new(),
                measured: 0,
                spans: 1
            }
        );
        let errors = Errors::of(&[
            span(0, None),
            span(2, Some(vec![[0.5, 0.25], [1.0, 0.0]])),
            span(4, Some(vec![[0.25, 0.75], [0.0, 0.5]])),
        ]);
        assert_eq!(errors.by_layer, [[0.375, 0.5], [0.5, 0.25]]);
        assert_eq!((errors.measured, errors.spans), (2, 3));
    }
}

//! Watching the film: whether its pictures stay in the range that they started in, frame by frame. That they are pictures
//! at all is the engine's to watch: it stops a film that is not.

use longtake::frame::Frame;

/// Frames that the film's own range is taken from, at most.
const BAND: usize = 80;

/// Three numbers of a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Look {
    /// Mean distance of a pixel from grey, 0..255.
    pub colour: f32,
    /// Mean step between neighbours, 0..255.
    pub sharpness: f32,
    /// Deviation of brightness, 0..255.
    pub contrast: f32,
}

impl Look {
    /// Of a picture.
    pub fn of(frame: &Frame) -> Look {
        let w = frame.width as usize;
        let pixels: Vec<[f32; 3]> = frame
            .rgb
            .chunks_exact(3)
            .map(|p| [f32::from(p[0]), f32::from(p[1]), f32::from(p[2])])
            .collect();
        let n = pixels.len().max(1) as f32;
        let luma: Vec<f32> = pixels
            .iter()
            .map(|[r, g, b]| 0.299 * r + 0.587 * g + 0.114 * b)
            .collect();
        let mean = luma.iter().sum::<f32>() / n;
        let spread = luma.iter().map(|l| (l - mean).powi(2)).sum::<f32>() / n;
        let chroma = |p: &[f32; 3]| p[0].max(p[1]).max(p[2]) - p[0].min(p[1]).min(p[2]);
        let rows = luma.chunks_exact(w.max(1));
        let steps = rows.flat_map(|row| row.windows(2).map(|p| (p[0] - p[1]).abs()));
        Look {
            colour: pixels.iter().map(chroma).sum::<f32>() / n,
            sharpness: steps.sum::<f32>() / n,
            contrast: spread.sqrt(),
        }
    }

    fn values(self) -> [f32; 3] {
        [self.colour, self.sharpness, self.contrast]
    }
}

/// Looks of the made frames.
#[derive(Debug, Clone, Default)]
pub struct Drift {
    looks: Vec<Look>,
}

/// One of the three, over time.
#[derive(Debug, Clone, PartialEq)]
pub struct Trend {
    /// What it is.
    pub name: &'static str,
    /// Every frame.
    pub values: Vec<f32>,
    /// Least and largest value of the film's first frames.
    pub band: (f32, f32),
    /// Mean of the newest eight frames against the middle of the band, as a share.
    pub change: f32,
    /// That mean lies outside the band.
    pub outside: bool,
}

impl Drift {
    /// Takes a made frame.
    pub fn push(&mut self, frame: &Frame) {
        self.looks.push(Look::of(frame));
    }

    /// Forgets what came after so many.
    pub fn cut(&mut self, frames: usize) {
        self.looks.truncate(frames);
    }

    /// Colour, sharpness and contrast; empty before there is a band to compare with.
    pub fn trends(&self) -> Vec<Trend> {
        let first = &self.looks[..self.looks.len().min(BAND)];
        if first.len() < 8 {
            return Vec::new();
        }
        let trend = |i: usize| {
            let values: Vec<f32> = self.looks.iter().map(|l| l.values()[i]).collect();
            let band = first.iter().map(|l| l.values()[i]);
            let band = band.fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(v), b.max(v)));
            let newest = &values[values.len() - 8..];
            let now = newest.iter().sum::<f32>() / newest.len() as f32;
            let middle = first.iter().map(|l| l.values()[i]).sum::<f32>() / first.len() as f32;
            Trend {
                name: ["Colour", "Sharpness", "Contrast"][i],
                band,
                change: now / middle.max(1e-3) - 1.0,
                outside: now < band.0 || band.1 < now,
                values,
            }
        };
        (0..3).map(trend).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(level: impl Fn(usize) -> u8) -> Frame {
        Frame {
            width: 4,
            height: 2,
            rgb: (0..8).flat_map(|i| [level(i), 20, 20]).collect(),
        }
    }

    #[test]
    fn a_film_that_fades_leaves_its_band() {
        let mut d = Drift::default();
        for i in 0..BAND {
            d.push(&frame(
                |p| if p % 2 == 0 { 200 + (i % 8) as u8 } else { 20 },
            ));
        }
        assert!(d.trends().iter().all(|t| !t.outside), "{:?}", d.trends());
        for _ in 0..8 {
            d.push(&frame(|p| if p % 2 == 0 { 60 } else { 20 }));
        }
        let trends = d.trends();
        assert!(
            trends.iter().all(|t| t.outside && t.change < -0.5),
            "{trends:?}"
        );
    }
}

//! Floating-point operations of passes, two a multiply-add: matrices and attention, beside which the rest is small.

use super::config::{Cross, DitConfig, FrameCondition};

/// Operations by the kernel that does them.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct Work {
    /// In linear layers.
    pub linear_flop: f64,
    /// In attention, to what was seen and to the text.
    pub attention_flop: f64,
}

impl Work {
    /// Adds `times` as much as `other`.
    pub fn add(&mut self, other: Work, times: f64) {
        self.linear_flop += times * other.linear_flop;
        self.attention_flop += times * other.attention_flop;
    }
}

impl DitConfig {
    /// What a pass over `n_frames` takes that see `visible` latent frames, their own among them. `kv_only`: one that ends with
    /// the last block's keys and values.
    #[must_use]
    pub fn pass_work(&self, n_frames: usize, visible: usize, kv_only: bool) -> Work {
        let d = f64::from(self.hidden);
        let [_, ph, pw] = self.patch.map(f64::from);
        let tokens = n_frames as f64 * f64::from(self.tokens_per_frame());
        let seen = visible as f64 * f64::from(self.tokens_per_frame());
        let whole = f64::from(self.layers) - f64::from(u8::from(kv_only));
        let (cross, text_len) = match self.cross {
            Cross::Separate { text_len, .. } => (2.0 * d * d, f64::from(text_len)),
            Cross::None => (0.0, 0.0),
        };
        let pose = match self.frame_condition {
            FrameCondition::Pose { dim } => f64::from(dim) * d,
            FrameCondition::None => 0.0,
        };
        let block = 4.0 * d * d + cross + 2.0 * d * f64::from(self.ffn_hidden);
        let head = match kv_only {
            true => 3.0 * d * d,
            false => ph * pw * f64::from(self.out_channels) * d,
        };
        let embed = ph * pw * f64::from(self.in_channels) * d;
        let condition = f64::from(self.time.freq_dim) * d + 7.0 * d * d + pose;
        Work {
            linear_flop: 2.0 * tokens * (embed + whole * block + head)
                + 2.0 * n_frames as f64 * condition,
            attention_flop: 4.0 * tokens * (seen + text_len) * d * whole,
        }
    }

    /// What the text's own layers take, once a prompt.
    #[must_use]
    pub fn text_work(&self) -> Work {
        let Cross::Separate { text_dim, text_len } = self.cross else {
            return Work::default();
        };
        let d = f64::from(self.hidden);
        let matrices = f64::from(text_dim) * d + d * d + 2.0 * f64::from(self.layers) * d * d;
        Work {
            linear_flop: 2.0 * f64::from(text_len) * matrices,
            attention_flop: 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SELF-FORCING 10.2, in units of 10^12.
    #[test]
    fn published_model_takes_the_published_work() {
        let config = DitConfig::selfforcing_1_3b();
        let frames = config.chunk_frames as usize;
        for (visible, tera) in [(3, 16.2), (12, 28.3), (21, 40.4), (240, 335.0)] {
            let work = config.pass_work(frames, visible, false);
            let found = (work.linear_flop + work.attention_flop) * 1e-12;
            assert!((found / tera - 1.0).abs() < 5e-3, "{visible}: {found}");
        }
        let linear = config.pass_work(frames, frames, false).linear_flop * 1e-12;
        assert!((linear - 11.70).abs() < 0.05, "{linear}");
    }

    #[test]
    fn a_pass_for_keys_and_values_takes_less() {
        let config = DitConfig::selfforcing_1_3b();
        let (all, some) = (
            config.pass_work(3, 12, false),
            config.pass_work(3, 12, true),
        );
        let left = some.linear_flop / all.linear_flop;
        // One block of thirty is left out but for its q, k and v.
        assert!((0.966..0.985).contains(&left), "{left}");
        assert!((some.attention_flop / all.attention_flop - 29.0 / 30.0).abs() < 1e-9);
    }
}

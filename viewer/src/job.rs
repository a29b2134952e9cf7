//! What film to make, as the side pane and the flags settle it; turned into the library's own settings here.

use std::sync::Arc;

use longtake::codec::{BlockCodec, KvPair};
use longtake::ops::BiasFix;
use longtake::rollout::{Coded, Config};
use longtake::world::film::{DEFAULT_FILM, DEFAULT_GIVEN};

/// A stop of the bits slider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Half floats.
    Exact,
    /// 8 bits.
    Eight,
    /// 4 bits.
    Four,
    /// 3 bits.
    Three,
    /// 2 bits.
    Two,
}

impl Width {
    /// Every stop, from most to least.
    pub const ALL: [Width; 5] = [
        Width::Exact,
        Width::Eight,
        Width::Four,
        Width::Three,
        Width::Two,
    ];

    /// Bits of a value.
    pub fn bits(self) -> u32 {
        [16, 8, 4, 3, 2][self as usize]
    }

    /// The stop of a number of bits; a width between two stops counts as the next lower one.
    pub fn of_bits(bits: u32) -> Width {
        let at = Width::ALL.into_iter().find(|w| w.bits() <= bits);
        at.unwrap_or(Width::Two)
    }

    /// The word under its cell.
    pub fn name(self) -> &'static str {
        ["exact", "8 bit", "4 bit", "3 bit", "2 bit"][self as usize]
    }

    /// The setting of the codec family, `off` for halves; `None` where the family has no such width.
    fn setting(self, family: &str) -> Option<String> {
        if self == Width::Exact {
            return Some("off".to_owned());
        }
        let name = format!("{family}int{}", self.bits());
        BlockCodec::parse(&name, true).ok().map(|_| name)
    }
}

/// Widths of keys and of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Widths {
    /// Keys.
    pub k: Width,
    /// Values.
    pub v: Width,
}

impl Widths {
    /// Keys and values alike.
    pub fn both(w: Width) -> Widths {
        Widths { k: w, v: w }
    }

    /// `4 bit`, or `K 4, V 2`.
    pub fn name(self) -> String {
        match self.k == self.v {
            true => self.k.name().to_owned(),
            false => format!("K {}, V {}", self.k.bits(), self.v.bits()),
        }
    }
}

/// Codec families that can be chosen: the prefix of their settings, and what to call them.
pub const FAMILIES: [(&str, &str); 5] = [
    ("", "int"),
    ("qvg-", "qvg"),
    ("rtn-", "rtn"),
    ("kivi-", "kivi"),
    ("quarot-", "quarot"),
];

/// A film to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Seed of the noise.
    pub seed: u64,
    /// Which embedded walk it starts from.
    pub film: usize,
    /// True frames of it that are given.
    pub given: usize,
    /// Frames to make at most.
    pub most: usize,
    /// Latent frames attention sees at most, sink included.
    pub window: u32,
    /// First latent frames that never leave.
    pub sink: u32,
    /// Latent frames of a coded span.
    pub span: u32,
    /// Newest latent frames that stay exact.
    pub recent: u32,
    /// Index into [`FAMILIES`].
    pub family: usize,
    /// Widths at the start.
    pub widths: Widths,
}

impl Default for Job {
    fn default() -> Self {
        Job {
            seed: 1,
            film: DEFAULT_FILM,
            given: DEFAULT_GIVEN,
            most: 4800,
            window: 144,
            sink: DEFAULT_GIVEN as u32,
            span: 8,
            recent: 4,
            family: 0,
            widths: Widths::both(Width::Four),
        }
    }
}

impl Job {
    /// Whether the codec family has this width for keys and values.
    pub fn has(&self, w: Width) -> bool {
        w.setting(FAMILIES[self.family].0).is_some()
    }

    /// The library's codecs for these widths.
    ///
    /// # Errors
    /// A width that the family does not have, in a sentence.
    pub fn pair(&self, widths: Widths) -> Result<KvPair, String> {
        let (prefix, name) = FAMILIES[self.family];
        let setting = |w: Width| {
            w.setting(prefix)
                .ok_or_else(|| format!("{name} has no {}", w.name()))
        };
        let (k, v) = (setting(widths.k)?, setting(widths.v)?);
        if (k.as_str(), v.as_str()) == ("off", "off") {
            // Spans of half floats: they lie in the cache like coded ones, so that the width can change in mid-film.
            return Ok(KvPair {
                name: "halves".to_owned(),
                k: Arc::new(BlockCodec::halves()),
                v: Arc::new(BlockCodec::halves()),
                bias: BiasFix::Off,
            });
        }
        KvPair::of(&k, &v)
    }

    /// The library's settings.
    ///
    /// # Errors
    /// As [`Job::pair`].
    pub fn config(&self) -> Result<Config, String> {
        Ok(Config {
            seed: self.seed,
            window: Some(self.window),
            sink: self.sink,
            coded: Some(Coded {
                span: Some(self.span),
                recent: self.recent,
                ..Coded::new(self.pair(self.widths)?)
            }),
            ..Config::default()
        })
    }

    /// The command that makes the same film again along `camera`.
    pub fn command(&self, camera: &str) -> String {
        let (prefix, _) = FAMILIES[self.family];
        let setting = |w: Width| w.setting(prefix).unwrap_or_else(|| "off".to_owned());
        let kv = match (self.widths.k, self.widths.v) {
            (Width::Exact, Width::Exact) => String::new(),
            (k, v) if k == v => format!(" --kv {}", setting(k)),
            (k, v) => format!(" --kv-k {} --kv-v {}", setting(k), setting(v)),
        };
        let spans = match kv.is_empty() {
            true => String::new(),
            false => format!(" --kv-span {} --kv-recent {}", self.span, self.recent),
        };
        format!(
            "longtake generate --film {} --given {} --seed {} --window {} --sink {}{kv}{spans} --camera {camera}",
            self.film, self.given, self.seed, self.window, self.sink
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_of_the_own_family_makes_a_pair() {
        let job = Job::default();
        for w in Width::ALL {
            assert!(job.has(w));
            let pair = job.pair(Widths::both(w)).unwrap();
            assert_eq!(pair.k.coding(64).bits, w.bits());
            assert_eq!(Width::of_bits(w.bits()), w);
        }
        assert!(job.config().is_ok());
    }

    #[test]
    fn a_width_that_a_family_lacks_is_refused_by_name() {
        let job = Job {
            family: 1,
            ..Job::default()
        };
        assert!(job.has(Width::Two) && !job.has(Width::Three));
        let says = job.pair(Widths::both(Width::Eight)).unwrap_err();
        assert_eq!(says, "qvg has no 8 bit");
    }

    #[test]
    fn the_command_names_what_the_pane_says() {
        let mut job = Job::default();
        assert!(
            job.command("w-3")
                .contains("--kv int4 --kv-span 8 --kv-recent 4 --camera w-3")
        );
        job.widths.v = Width::Two;
        assert!(job.command("w-3").contains("--kv-k int4 --kv-v int2"));
        job.widths = Widths::both(Width::Exact);
        assert!(!job.command("w-3").contains("--kv"));
    }
}

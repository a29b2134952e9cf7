//! What film to make, as the side pane and the flags settle it; turned into the library's own settings here.

use std::fmt::Write as _;
use std::path::PathBuf;

use longtake::codec::{BlockCodec, KvCodec, KvPair};
use longtake::ops::{BiasFix, WeightFormat};
use longtake::rollout::{Coded, Config, ModelSource};
use longtake::world::Step;
use longtake::world::film::{DEFAULT_FILM, DEFAULT_GIVEN};

use crate::text::TextJob;

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

/// Main memory that may be kept for going back in a film; farther back it is made again from its beginning. A chunk of the
/// built-in model took 0.35 MiB at 2 bit (lavapipe, 2026-11-28), so this is some 180 chunks, 23 s of its film: undo is for
/// the last turns taken, and who goes back farther can wait for it.
const UNDO_BYTES: u64 = 64 << 20;
/// The model inside the program.
pub const BUILT_IN: &str = "rooms";

/// A film to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Folder of the model; `None`: the built-in one.
    pub model: Option<PathBuf>,
    /// Seed of the noise.
    pub seed: u64,
    /// Which embedded walk it starts from.
    pub film: usize,
    /// True frames of it that are given.
    pub given: usize,
    /// Frames to make at most.
    pub most: usize,
    /// Latent frames attention sees at most, sink included; 0: all.
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
    /// Settings of keys and of values by name, which hold wherever these widths are asked for; else those of the family do.
    pub named: Option<(Widths, [String; 2])>,
    /// First latent frames that are never coded.
    pub exact: u32,
    /// Correction of softmax mass; `None`: the codec's.
    pub bias: Option<BiasFix>,
    /// Denoising steps; `None`: the model's.
    pub steps: Option<u32>,
    /// Storage of weights.
    pub weights: WeightFormat,
    /// Layers that wait in main memory.
    pub offload: u32,
    /// The way at the beginning; after it the camera tours what was seen.
    pub camera: Vec<Step>,
    /// A film from text in place of a walk.
    pub text: Option<Box<TextJob>>,
}

impl Default for Job {
    fn default() -> Self {
        Job {
            model: None,
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
            named: None,
            exact: 1,
            bias: None,
            steps: None,
            weights: WeightFormat::F16,
            offload: 0,
            camera: Vec::new(),
            text: None,
        }
    }
}

impl Job {
    /// Whether the codec family has this width for keys and values.
    pub fn has(&self, w: Width) -> bool {
        w.setting(FAMILIES[self.family].0).is_some()
    }

    /// Keeps keys and values by the names of settings, `off` or `f16` for half floats.
    ///
    /// # Errors
    /// A name that there is not, in a sentence.
    pub fn name(&mut self, k: &str, v: &str) -> Result<(), String> {
        let word = |name: &str| match name {
            "f16" => "off".to_owned(),
            name => name.to_owned(),
        };
        let (k, v) = (word(k), word(v));
        if [&k, &v].iter().all(|name| *name == "off") {
            self.widths = Widths::both(Width::Exact);
            self.named = None;
            return Ok(());
        }
        let pair = KvPair::of(&k, &v)?;
        // The head's size moves the bits of a setting's tables, not those of its codes.
        let width = |codec: &dyn KvCodec| Width::of_bits(codec.coding(64).bits);
        self.widths = Widths {
            k: width(&*pair.k),
            v: width(&*pair.v),
        };
        self.named = Some((self.widths, [k, v]));
        Ok(())
    }

    /// The same without what a plan does not depend on.
    pub fn outline(&self) -> Job {
        Job {
            text: self.text.as_ref().map(|text| Box::new(text.outline())),
            ..self.clone()
        }
    }

    /// The same film with every span in half floats: what a quantized one is compared with.
    pub fn in_halves(&self) -> Job {
        Job {
            widths: Widths::both(Width::Exact),
            named: None,
            ..self.clone()
        }
    }

    /// The model.
    ///
    /// # Errors
    /// A folder without one.
    pub fn source(&self) -> Result<ModelSource, longtake::rollout::Error> {
        match &self.model {
            None => ModelSource::rooms(),
            Some(folder) => ModelSource::open(folder),
        }
    }

    /// The library's codecs for these widths.
    ///
    /// # Errors
    /// A width that the family does not have, in a sentence.
    pub fn pair(&self, widths: Widths) -> Result<KvPair, String> {
        let pair = match &self.named {
            Some((at, [k, v])) if widths == *at => KvPair::of(k, v)?,
            _ => self.of_family(widths)?,
        };
        Ok(match self.bias {
            Some(fix) => pair.with_bias(fix),
            None => pair,
        })
    }

    fn of_family(&self, widths: Widths) -> Result<KvPair, String> {
        let (prefix, name) = FAMILIES[self.family];
        let setting = |w: Width| {
            w.setting(prefix)
                .ok_or_else(|| format!("{name} has no {}", w.name()))
        };
        let (k, v) = (setting(widths.k)?, setting(widths.v)?);
        if (k.as_str(), v.as_str()) == ("off", "off") {
            return Ok(KvPair::halves());
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
            window: Some(self.window).filter(|n| 0 < *n),
            sink: self.sink,
            coded: Some(Coded {
                span: Some(self.span),
                recent: self.recent,
                sink: self.exact,
                ..Coded::new(self.pair(self.widths)?)
            }),
            steps: self.steps,
            weights: self.weights,
            offload: self.offload,
            undo_bytes: UNDO_BYTES,
            ..Config::default()
        })
    }

    /// Names of the settings of keys and values, as flags and recipes take them.
    pub fn settings(&self) -> [String; 2] {
        match &self.named {
            Some((at, names)) if *at == self.widths => names.clone(),
            _ => [self.widths.k, self.widths.v].map(|w| {
                let name = w.setting(FAMILIES[self.family].0);
                name.filter(|_| w != Width::Exact)
                    .unwrap_or_else(|| "f16".to_owned())
            }),
        }
    }

    /// The command that makes the same film again along `camera`.
    pub fn command(&self, camera: &str) -> String {
        let (prefix, _) = FAMILIES[self.family];
        let setting = |w: Width| w.setting(prefix).unwrap_or_else(|| "off".to_owned());
        let named = self.named.iter().find(|(at, _)| *at == self.widths);
        let kv = match (self.widths.k, self.widths.v) {
            (Width::Exact, Width::Exact) => String::new(),
            (k, v) if named.is_none() && k == v => format!(" --kv {}", setting(k)),
            (k, v) => match named {
                Some((_, [k, v])) => format!(" --kv-k {k} --kv-v {v}"),
                None => format!(" --kv-k {} --kv-v {}", setting(k), setting(v)),
            },
        };
        let mut spans = match kv.is_empty() {
            true => String::new(),
            false => format!(" --kv-span {} --kv-recent {}", self.span, self.recent),
        };
        if 0 < self.offload {
            let _ = write!(spans, " --offload {}", self.offload);
        }
        if let Some(text) = &self.text {
            return text.command(self, &format!("{kv}{spans}"));
        }
        let model = match &self.model {
            Some(folder) => format!(" --model '{}'", folder.display()),
            None => String::new(),
        };
        format!(
            "longtake generate{model} --film {} --given {} --seed {} --window {} --sink {}{kv}{spans} --camera {camera}",
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
    fn a_setting_by_name_holds_until_the_width_is_turned_and_again_after_it() {
        let mut job = Job::default();
        job.name("qvg-pro", "int2").unwrap();
        assert_eq!(job.pair(job.widths).unwrap().name, "qvg-pro/int2");
        assert!(job.command("w").contains("--kv-k qvg-pro --kv-v int2"));
        let four = Widths::both(Width::Four);
        assert_eq!(job.pair(four).unwrap().name, "int4");
        job.widths = four;
        assert!(job.command("w").contains("--kv int4 "));
        job.name("f16", "off").unwrap();
        assert_eq!(job.widths, Widths::both(Width::Exact));
        assert!(job.name("q9", "off").is_err());
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

//! One setting of the cache: all that the comparison knows of how keys and values are kept.

use std::fmt;
use std::str::FromStr;

use longtake::rollout::Config;

use crate::cli::args::KvArgs;
use crate::cli::fault::Fault;
use crate::cli::job::Kv;
use crate::cli::values::KvName;

/// Names of settings that slide a window over a 16-bit cache begin so.
const WINDOW: &str = "window-";

/// How keys and values are kept, by the name that `--kv` takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Setting {
    name: String,
    kv: KvName,
    /// Frames attended, in place of `--window`.
    window: Option<u32>,
}

impl Setting {
    /// A 16-bit cache that attends to `frames`.
    pub(super) fn window(frames: u32) -> Setting {
        Setting {
            name: format!("{WINDOW}{frames}"),
            kv: KvName::halves(),
            window: Some(frames),
        }
    }

    /// Puts the setting in place.
    ///
    /// # Errors
    /// Never for a name that was parsed.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), Fault> {
        let args = KvArgs {
            kv: Some(self.kv.clone()),
            ..KvArgs::default()
        };
        let kv = Kv::new(&args)?;
        (config.kv, config.coded) = (kv.exact, kv.coded);
        config.window = self.window.or(config.window);
        Ok(())
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Setting, String> {
        let text = text.trim().to_ascii_lowercase();
        let frames = text.strip_prefix(WINDOW).map(str::parse);
        if let Some(Ok(frames @ 1..)) = frames {
            return Ok(Setting::window(frames));
        }
        let kv: KvName = text.parse().map_err(|why| {
            format!("{why}, and {WINDOW}N for a 16-bit cache that attends to N frames")
        })?;
        Ok(Setting {
            name: kv.to_string(),
            kv,
            window: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longtake::ops::KvFormat;

    #[test]
    fn settings_have_names() {
        for name in [
            "f16",
            "bf16",
            "f32",
            "window-7",
            "int2",
            "qvg-pro",
            "int2:block=32",
        ] {
            let setting: Setting = name.parse().unwrap();
            assert_eq!(setting.to_string(), name);
        }
        assert_eq!("BF16".parse::<Setting>().unwrap().to_string(), "bf16");
        for name in ["", "q9", "window-", "window-0", "window--1", "f16 f32"] {
            let why = name.parse::<Setting>().unwrap_err();
            assert!(why.contains("bf16") && why.contains("window-N"), "{why}");
        }
    }

    #[test]
    fn a_setting_keeps_the_window_that_it_says_nothing_of() {
        let mut config = Config {
            window: Some(20),
            ..Config::default()
        };
        "f32"
            .parse::<Setting>()
            .unwrap()
            .apply(&mut config)
            .unwrap();
        assert_eq!((config.kv, config.window), (KvFormat::F32, Some(20)));
        Setting::window(6).apply(&mut config).unwrap();
        assert_eq!((config.kv, config.window), (KvFormat::F16, Some(6)));
    }
}

//! How much device memory a film may take, and settings that are chosen to keep within it.

use std::str::FromStr;

use clap::Args;
use longtake::gpu::{Caps, Device};
use longtake::rollout::fit;

use super::args::KvArgs;
use super::fault::Fault;
use super::job::{Job, Kv};
use super::report::Reporter;
use super::{say, values};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Network and device")]
pub(super) struct BudgetArgs {
    /// Device memory: 8G, 50%, -1G (free less that), 0: no limit
    #[arg(
        long,
        alias = "vram",
        value_name = "SIZE",
        allow_negative_numbers = true,
        allow_hyphen_values = true,
        env = "LONGTAKE_MAX_VRAM"
    )]
    pub(super) max_vram: Option<Budget>,
    /// Where it would not fit: --offload, narrower --kv, shorter --window
    #[arg(long, env = "LONGTAKE_AUTO_FIT", value_parser = values::switch)]
    pub(super) auto_fit: bool,
}

/// A stated amount of memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Budget {
    /// As much as the film wants.
    NoLimit,
    /// Bytes.
    Bytes(u64),
    /// Of what is free all but so many bytes.
    AllBut(u64),
    /// A share of what is free.
    Share(f64),
}

impl FromStr for Budget {
    type Err = String;

    /// `8`, `8G`, `8GB` and `8GiB` are the same, as cards are named.
    fn from_str(text: &str) -> Result<Budget, String> {
        let why = || {
            "memory is a number of GiB, or one with a unit, such as 8, 7.5G or 512M; 50% or -1G are told from what is free"
                .to_owned()
        };
        let text = text.trim().to_ascii_lowercase();
        let number = |text: &str| {
            let n = text.trim().parse::<f64>().ok();
            n.filter(|n| n.is_finite() && *n < 1e9).ok_or_else(why)
        };
        if let Some(share) = text.strip_suffix('%') {
            let share = number(share)?;
            return match 0.0 < share && share <= 100.0 {
                true => Ok(Budget::Share(share / 100.0)),
                false => Err(why()),
            };
        }
        let bare = text.strip_suffix("ib").or(text.strip_suffix('b'));
        let bare = bare.unwrap_or(&text);
        let (digits, unit) = match bare.strip_suffix('m') {
            Some(digits) => (digits, 20),
            None => (bare.strip_suffix('g').unwrap_or(bare), 30),
        };
        let amount = number(digits)?;
        let bytes = (amount.abs() * f64::from(1u32 << unit)) as u64;
        Ok(match (bytes, amount < 0.0) {
            (0, _) => Budget::NoLimit,
            (bytes, true) => Budget::AllBut(bytes),
            (bytes, false) => Budget::Bytes(bytes),
        })
    }
}

impl Budget {
    /// Bytes on a device.
    ///
    /// # Errors
    /// Where they are told from what is free, and the device does not tell that.
    pub(super) fn bytes(self, caps: &Caps) -> Result<u64, Fault> {
        let free = || {
            caps.memory_bytes.ok_or_else(|| {
                Fault::Usage(format!(
                    "--max-vram: {} does not tell how much memory is free; give a size, such as 8G",
                    caps.title()
                ))
            })
        };
        Ok(match self {
            Budget::NoLimit => u64::MAX,
            Budget::Bytes(bytes) => bytes,
            Budget::AllBut(bytes) => free()?.saturating_sub(bytes),
            Budget::Share(share) => (free()? as f64 * share) as u64,
        })
    }
}

impl BudgetArgs {
    /// Puts the budget in place and, where that is asked for, settings that keep it.
    ///
    /// # Errors
    /// A budget that cannot be told here; a film that does not fit under any setting.
    pub(super) fn settle(
        &self,
        job: &mut Job,
        device: &Device,
        reporter: &mut Reporter,
    ) -> anyhow::Result<()> {
        let caps = device.caps();
        job.config.budget_bytes = self.max_vram.map(|b| b.bytes(caps)).transpose()?;
        if !self.auto_fit {
            return Ok(());
        }
        let film = job.subject.outline();
        let film = (job.subject.model()).outline(film.given().len(), film.told())?;
        if job.config.budget_bytes.or(caps.memory_bytes).is_none() {
            reporter.warn(&format!(
                "--auto-fit changes nothing: {} does not tell how much memory is free; say it with --max-vram 8G",
                caps.title()
            ));
        }
        let Some((choice, config)) = fit::auto(caps, &film, &job.config)? else {
            return Ok(());
        };
        if let Some(coded) = &config.coded {
            let (k, v) = match coded.pair.name.split_once('/') {
                Some((k, v)) => (k, v),
                None => (coded.pair.name.as_str(), coded.pair.name.as_str()),
            };
            // Every name of the ladder is one that can be typed.
            let name = |text: &str| text.parse().map_err(Fault::Usage);
            job.kv = Kv::new(&KvArgs {
                kv_k: Some(name(k)?),
                kv_v: Some(name(v)?),
                kv_span: coded.span,
                kv_recent: Some(coded.recent),
                kv_sink: Some(coded.sink),
                ..KvArgs::default()
            })?;
        }
        job.config = config;
        reporter.note(&format!(
            "--auto-fit takes {}; {} are free",
            choice.flags(),
            say::mib(job.config.budget_bytes.or(caps.memory_bytes).unwrap_or(0))
        ));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_that_cards_are_named_by() {
        let gib = 1u64 << 30;
        for text in ["8", "8G", "8gb", "8 GiB", " 8.0g "] {
            assert_eq!(text.parse(), Ok(Budget::Bytes(8 * gib)), "{text}");
        }
        assert_eq!("512M".parse(), Ok(Budget::Bytes(gib / 2)));
        assert_eq!("0".parse(), Ok(Budget::NoLimit));
        assert_eq!("-1.5G".parse(), Ok(Budget::AllBut(gib * 3 / 2)));
        assert_eq!("50%".parse(), Ok(Budget::Share(0.5)));
        for text in [
            "", "G", "8T", "nan", "inf", "1e99", "0%", "101%", "-5%", "x",
        ] {
            assert!(text.parse::<Budget>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_share_of_what_nobody_knows_is_refused() {
        let caps = |memory_bytes| Caps {
            memory_bytes,
            ..Caps::floor()
        };
        assert_eq!(Budget::Share(0.5).bytes(&caps(Some(64))).unwrap(), 32);
        assert_eq!(Budget::AllBut(60).bytes(&caps(Some(64))).unwrap(), 4);
        assert_eq!(Budget::AllBut(99).bytes(&caps(Some(64))).unwrap(), 0);
        let why = Budget::Share(0.5).bytes(&caps(None)).unwrap_err();
        assert!(why.to_string().contains("8G"), "{why}");
    }
}

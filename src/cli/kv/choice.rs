//! Values of the flags of `longtake kv`.

use std::fmt;
use std::str::FromStr;

use longtake::codec::{FineLayers, KvPair};
use longtake::dump;
use longtake::ops::KvFormat;

use crate::cli::values::KvName;

/// A setting of keys and values: one name for both, or `KEYS/VALUES`.
#[derive(Debug, Clone)]
pub(in crate::cli) struct PairName(KvPair);

impl PairName {
    pub(super) fn pair(&self) -> &KvPair {
        &self.0
    }

    /// The same with finer codes in the layers that it names, of `n_layers`.
    pub(super) fn for_layers(&self, n_layers: u32) -> Result<PairName, String> {
        self.0
            .for_model(&FineLayers::default(), n_layers)
            .map(PairName)
    }
}

impl PartialEq for PairName {
    fn eq(&self, other: &PairName) -> bool {
        self.0.name == other.0.name
    }
}

impl fmt::Display for PairName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl FromStr for PairName {
    type Err = String;

    fn from_str(text: &str) -> Result<PairName, String> {
        let (k, v) = text.split_once('/').unwrap_or((text, text));
        let word = |text: &str| -> Result<String, String> {
            let name: KvName = text.parse()?;
            match name.exact() {
                None => Ok(name.as_str().to_owned()),
                Some(KvFormat::F16) => Ok("off".to_owned()),
                Some(other) => Err(format!(
                    "{} codes nothing; what stays exact beside a codec is in half floats: write off",
                    other.name()
                )),
            }
        };
        Ok(PairName(KvPair::of(&word(k)?, &word(v)?)?))
    }
}

/// Layers that are taken; empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::cli) struct Layers(pub(super) Vec<usize>);

impl FromStr for Layers {
    type Err = String;

    fn from_str(text: &str) -> Result<Layers, String> {
        if text.trim().is_empty() || text.trim() == "all" {
            return Ok(Layers::default());
        }
        let list = dump::list(text)
            .ok_or_else(|| "layers are whole numbers and ranges, such as 0,3-5".to_owned())?;
        let mut layers: Vec<usize> = list.into_iter().flat_map(usize::try_from).collect();
        layers.sort_unstable();
        layers.dedup();
        Ok(Layers(layers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_names() {
        for name in ["int2", "qvg-int2/int4", "int2/off", "int2:block=32"] {
            assert_eq!(name.parse::<PairName>().unwrap().to_string(), name);
        }
        assert_eq!("QVG".parse::<PairName>().unwrap().to_string(), "qvg-int2");
        for (name, says) in [
            ("q9", "there is no"),
            ("off", "neither keys nor values"),
            ("f16", "neither keys nor values"),
            ("f32", "codes nothing"),
            ("int2/bf16", "codes nothing"),
            ("int2/", "there is no"),
        ] {
            let why = name.parse::<PairName>().unwrap_err();
            assert!(why.contains(says), "{name}: {why}");
        }
    }

    #[test]
    fn layers_are_lists_of_numbers() {
        let of = |text: &str| text.parse::<Layers>();
        assert_eq!(of("5,0,3-4,0"), Ok(Layers(vec![0, 3, 4, 5])));
        assert_eq!(of(""), Ok(Layers::default()));
        for text in ["x", "-1", "3-1", "0-99999999999"] {
            assert!(of(text).unwrap_err().contains("3-5"), "{text}");
        }
    }
}

//! Where model files lie on this machine, as the environment says: [`longtake::store`] looks there.

use std::env;
use std::path::PathBuf;

use longtake::store::{self, Store};

/// Boolean variables of the hub count as set by these.
///
/// Source: huggingface_hub, `constants.py::ENV_VARS_TRUE_VALUES`.
const TRUE: [&str; 4] = ["1", "ON", "YES", "TRUE"];

/// The value of a variable, unless it is empty.
pub(super) fn var(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether a boolean variable of the hub is set.
pub(super) fn is_set(name: &str) -> bool {
    var(name).is_some_and(|value| TRUE.contains(&value.to_uppercase().as_str()))
}

/// `None` where not even a home folder is known.
pub(super) fn from_env(comfyui: Option<PathBuf>) -> Option<Store> {
    Store::of(var, env::home_dir(), comfyui)
}

/// `HF_HOME`, or what stands for it.
pub(super) fn hub_home() -> Option<PathBuf> {
    store::hub_home(var, env::home_dir())
}

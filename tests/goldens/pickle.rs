//! PyTorch checkpoints, sound and hostile: `pickle/index.json` says of every file whether it must be read, and what is in it.

use std::collections::BTreeSet;
use std::path::Path;

use longtake::weights::{Dtype, Weights};
use serde::Deserialize;

use super::file::{Set, say};

#[derive(Deserialize)]
struct Fixture {
    file: String,
    verdict: Verdict,
    why: String,
    tensors: Vec<Listed>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Accept,
    Refuse,
    Either,
}

#[derive(Deserialize)]
struct Listed {
    path: String,
    shape: Vec<usize>,
    dtype: String,
}

/// Every file of the folder against its verdict and its values, which must come out bit for bit.
pub fn run(set: &Set) {
    let (Some(index), Some(expected)) = (
        set.file("pickle/index.json"),
        set.file("pickle/expected.safetensors"),
    ) else {
        return;
    };
    let folder = set.folder.join("pickle");
    let fixtures: Vec<Fixture> = serde_json::from_slice(&std::fs::read(index).unwrap()).unwrap();
    let expected = Weights::open_stored(&expected).unwrap();
    let mut failures = Vec::new();
    let (mut read, mut refused) = (0, 0);
    for fixture in &fixtures {
        let outcome = Weights::open_stored(&folder.join(&fixture.file));
        let fault = match (&fixture.verdict, &outcome) {
            (Verdict::Accept, Err(err)) => Some(format!("refused: {err}")),
            (Verdict::Refuse, Ok(_)) => Some("accepted".to_owned()),
            (_, Ok(found)) => differs(fixture, found, &expected),
            (_, Err(err)) => (!err.to_string().contains(&fixture.file))
                .then(|| format!("the refusal does not name the file: {err}")),
        };
        match outcome {
            Ok(_) => read += 1,
            Err(_) => refused += 1,
        }
        failures.extend(fault.map(|fault| format!("{} ({}): {fault}", fixture.file, fixture.why)));
    }
    failures.extend(unlisted(&folder, &fixtures));
    failures.extend(unclaimed(&fixtures, &expected));
    say(&format!(
        "selfforcing_pickle: {} files, {read} read, {refused} refused",
        fixtures.len()
    ));
    assert!(0 < read && 0 < refused, "nothing to check in {folder:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The first difference between what was read and what was recorded.
fn differs(fixture: &Fixture, found: &Weights, expected: &Weights) -> Option<String> {
    let names: BTreeSet<&str> = found.names().collect();
    let listed: BTreeSet<&str> = fixture.tensors.iter().map(|t| t.path.as_str()).collect();
    // A file that may be read or not says nothing of its tensors where it is not known to be sound.
    if names != listed && !(fixture.verdict == Verdict::Either && listed.is_empty()) {
        return Some(format!("tensors {names:?}, expected {listed:?}"));
    }
    fixture.tensors.iter().find_map(|listed| {
        let got = found.get(&listed.path)?;
        let name = &listed.path;
        if got.shape() != listed.shape || Some(got.dtype()) != dtype(&listed.dtype) {
            return Some(format!(
                "{name} is {got:?}, expected {} {:?}",
                listed.dtype, listed.shape
            ));
        }
        let Some(want) = expected.get(&format!("{}/{name}", fixture.file)) else {
            return Some(format!("{name} has no recorded values"));
        };
        (got.bytes() != want.bytes()).then(|| format!("{name} has other values"))
    })
}

fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "float64" => Dtype::F64,
        "float32" => Dtype::F32,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "int64" => Dtype::I64,
        "int32" => Dtype::I32,
        "int16" => Dtype::I16,
        "int8" => Dtype::I8,
        "uint8" => Dtype::U8,
        "bool" => Dtype::BOOL,
        _ => return None,
    })
}

/// Checkpoints in the folder without a verdict.
fn unlisted(folder: &Path, fixtures: &[Fixture]) -> Vec<String> {
    let listed: BTreeSet<&str> = fixtures.iter().map(|f| f.file.as_str()).collect();
    let names = std::fs::read_dir(folder).unwrap().map(|entry| {
        let name = entry.unwrap().file_name();
        name.to_string_lossy().into_owned()
    });
    names
        .filter(|name| name.ends_with(".pt") || name.ends_with(".pth"))
        .filter(|name| !listed.contains(name.as_str()))
        .map(|name| format!("{name}: not in index.json"))
        .collect()
}

/// Recorded values that no file's list asks for.
fn unclaimed(fixtures: &[Fixture], expected: &Weights) -> Vec<String> {
    let claimed: BTreeSet<String> = fixtures
        .iter()
        .flat_map(|f| f.tensors.iter().map(|t| format!("{}/{}", f.file, t.path)))
        .collect();
    expected
        .names()
        .filter(|name| !claimed.contains(*name))
        .map(|name| format!("{name}: recorded, and in no list"))
        .collect()
}

//! Whatever setting a person can type is seen by the gate: settings are written as `--kv` takes them, part by part, and what the
//! planner chooses for them is looked up among the variants that the compilers get.

use longtake::codec::{KvPair, NAMES, SpanShape};
use longtake::gpu::{Caps, Tier};
use longtake::ops::{RopeSplit, Rows, attention_plan};

use super::variants::{self, is_seen};
use crate::support::hash;

/// What the parts of a setting take, and no part.
const PARTS: [&[&str]; 8] = [
    &[
        "",
        "block=16",
        "block=32",
        "block=64",
        "block=128",
        "block=256",
    ],
    &[
        "", "stages=0", "stages=1", "stages=2", "stages=3", "stages=4",
    ],
    &[
        "",
        "centroids=1",
        "centroids=8",
        "centroids=17",
        "centroids=256",
    ],
    &[
        "",
        "grid=symmetric",
        "grid=asymmetric",
        "grid=search",
        "grid=dual",
        "grid=minmax",
    ],
    &["", "scales=e4m3", "scales=f16", "scales=f32"],
    &["", "axis=token", "axis=channel"],
    &["", "hadamard=on", "hadamard=off"],
    &["", "guard=on", "guard=off"],
];
const BIAS: [&str; 4] = ["", "bias=off", "bias=step", "bias=energy"];
const HEAD_DIMS: [usize; 4] = [32, 64, 128, 256];

/// A setting that somebody might type, by a number.
fn typed(seed: u64) -> String {
    let draw = |i: u64, n: usize| (hash(seed, i) >> 20) as usize % n;
    let mut text = NAMES[draw(0, NAMES.len())].to_owned();
    for (i, values) in PARTS.iter().chain([&&BIAS[..]]).enumerate() {
        // Mostly few parts: all together are rarely allowed.
        let value = values[draw(2 * i as u64 + 1, values.len())];
        if draw(2 * i as u64 + 2, 3) == 0 && !value.is_empty() {
            text += ":";
            text += value;
        }
    }
    text
}

/// Asks the planner of every tier of every device for a pair of settings, and the gate for what it says.
fn check(every: &[Caps], k: &str, v: &str, head_dim: usize, seed: u64) -> bool {
    let Ok(pair) = KvPair::of(k, v) else {
        return false;
    };
    if pair.check(head_dim).is_err() {
        return false;
    }
    let caps = &every[seed as usize % every.len()];
    let shape = SpanShape {
        n_heads: 2,
        head_dim,
        tokens: [7, 768, 40_000][seed as usize / every.len() % 3],
    };
    let rows = Rows::Coded {
        k: pair.k.layout(shape),
        v: pair.v.layout(shape),
        bias: pair.bias,
    };
    let n_queries = [1, 50, 5000][seed as usize / every.len() / 3 % 3];
    let (kernel, knobs) = attention_plan(caps, RopeSplit::wan(head_dim), &rows, n_queries);
    if let Err(wrong) = is_seen(kernel, &knobs) {
        panic!("--kv {k}/{v} in heads of {head_dim} on {caps:?}: {wrong}");
    }
    true
}

#[test]
fn whatever_setting_is_typed_is_seen() {
    let every = Caps::every();
    let mut allowed = 0;
    for seed in 0..40_000u64 {
        let (k, v) = match seed % 4 {
            0 => (typed(seed), typed(seed ^ 0x5555_0000)),
            1 => (typed(seed), "off".to_owned()),
            2 => ("off".to_owned(), typed(seed)),
            _ => (typed(seed), typed(seed)),
        };
        let head_dim = HEAD_DIMS[hash(seed, 99) as usize % 4];
        allowed += usize::from(check(&every, &k, &v, head_dim, hash(seed, 100)));
    }
    println!("{allowed} settings of 40000 are allowed");
    assert!(allowed > 4000, "only {allowed} of the settings are allowed");
}

/// By name, on every device and in every head, not only by parts.
#[test]
fn named_settings_are_seen_everywhere() {
    let every = Caps::every();
    for name in NAMES {
        for head_dim in HEAD_DIMS {
            // Every device with every length of a span and count of queries.
            for seed in 0..(every.len() * 9) as u64 {
                assert!(
                    check(&every, name, name, head_dim, seed),
                    "{name} is not allowed"
                );
            }
        }
    }
}

/// A choice that no listed variant has is not taken for seen.
#[test]
fn what_is_not_listed_is_not_seen() {
    let pair = KvPair::of("int2", "int2").unwrap();
    let shape = SpanShape {
        n_heads: 2,
        head_dim: 64,
        tokens: 100,
    };
    let rows = Rows::Coded {
        k: pair.k.layout(shape),
        v: pair.v.layout(shape),
        bias: pair.bias,
    };
    let caps = Caps {
        tier: Tier::Subgroups,
        subgroup_size: 8,
        ..Caps::floor()
    };
    let (kernel, knobs) = attention_plan(&caps, RopeSplit::wan(64), &rows, 9);
    assert_eq!(is_seen(kernel, &knobs), Ok(()));
    for (name, value) in [("LANES", 32), ("QUERIES", 5), ("FRAME_PAIRS", 13)] {
        let mut other = knobs.clone();
        other
            .iter_mut()
            .filter(|(n, _)| *n == name)
            .for_each(|(_, v)| *v = value);
        assert!(is_seen(kernel, &other).is_err(), "{name} {value}");
    }
    let quantize = variants::all()
        .iter()
        .find(|v| v.kernel.name == "quantize")
        .unwrap();
    let mut other = quantize.knobs.clone();
    other[0].1 = 5;
    assert!(is_seen(quantize.kernel, &other).is_err());
}

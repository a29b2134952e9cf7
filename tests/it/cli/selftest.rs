//! `longtake selftest` from the outside.

use super::{Scratch, json};

#[test]
fn a_device_that_is_well_passes_and_leaves_a_report() {
    let scratch = Scratch::new();
    let text = scratch.run("selftest --device cpu --report bug.txt").ok();
    assert!(text.contains("all is well"), "{text}");
    let report = std::fs::read_to_string(scratch.path("bug.txt")).unwrap();
    let (table, found) = report.split_at(report.find("\n{").unwrap());
    assert!(table.contains("a film of 2 frames"), "{table}");
    let found = json(found);
    assert_eq!(found["ok"], true);
    let ops = found["ops"].as_array().unwrap();
    assert!(
        ops.iter().all(|op| op["rate"].as_f64().unwrap() > 0.0),
        "{ops:?}"
    );
    assert!(found["copy_rate"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_wrong_op_is_named_and_ends_in_failure() {
    let scratch = Scratch::new();
    let out = scratch.run("selftest --device cpu --spoil rope");
    assert_eq!(out.code, Some(1), "{out:?}");
    assert!(
        out.out.contains("WRONG: rope (4 frames of 6 x 8"),
        "{}",
        out.out
    );
    assert!(out.out.contains("1 of "), "{}", out.out);
    let out = scratch.run("selftest --device cpu --spoil kmeans --json");
    assert_eq!(out.code, Some(1), "{out:?}");
    let found = json(&out.out);
    let wrong: Vec<_> = found["ops"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|op| !op["wrong"].is_null())
        .collect();
    assert_eq!((found["ok"].as_bool(), wrong.len()), (Some(false), 1));
    assert_eq!(wrong[0]["op"], "kmeans");
    let err = scratch.run("selftest --spoil nothing").refused(2);
    assert!(err.contains("there is no such op"), "{err}");
}

//! Comparisons by the real binary: the three files, and what is refused before anything runs.

use std::fs;

use super::{Scratch, device, json};

#[test]
fn a_comparison_leaves_a_report_and_its_figures() {
    let scratch = Scratch::new();
    let line = "--kv bf16,window-5 --frames 3 --given 4 --film 0 --seeds 7";
    let out = scratch
        .run(&format!("compare --device {} {line}", device()))
        .ok();
    assert_eq!(out, "compare.html\n");
    assert_eq!(
        scratch.names(),
        ["compare.csv", "compare.html", "compare.json"]
    );

    let figures = json(&fs::read_to_string(scratch.path("compare.json")).unwrap());
    let runs = figures["runs"].as_array().unwrap();
    let names: Vec<&str> = runs
        .iter()
        .map(|r| r["setting"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["f16", "bf16", "window-5"]);
    let [f16, bf16, window] = &runs[..] else {
        panic!("{names:?}")
    };
    assert_eq!(f16["cache_bytes"], bf16["cache_bytes"]);
    assert_eq!(bf16["bits_per_element"], 16.0);
    assert!(window["cache_bytes"].as_u64() < f16["cache_bytes"].as_u64());
    assert_eq!(bf16["frames"].as_array().unwrap().len(), 3);
    assert_eq!(bf16["windows"][0]["last"], 2);
    assert!(20.0 < bf16["windows"][0]["psnr"].as_f64().unwrap());
    // Frame 0 attends to itself and the four given frames under both: nothing differs, and JSON has no infinity.
    assert!(window["frames"][0]["psnr"].is_null());
    assert_eq!(window["frames"][0]["max_abs"], 0);
    assert_eq!(figures["protocol"]["seeds"], serde_json::json!([7]));

    let csv = fs::read_to_string(scratch.path("compare.csv")).unwrap();
    assert_eq!(csv.lines().count(), 4, "{csv}");
    let html = fs::read_to_string(scratch.path("compare.html")).unwrap();
    for part in [
        "window-5",
        "<svg",
        "data:image/png;base64,",
        "--seeds 7",
        "longtake compare",
    ] {
        assert!(html.contains(part), "{part}");
    }
    for foreign in ["http://", "https://", "<script", "NaN"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
}

#[test]
fn a_setting_against_itself_is_exact() {
    let scratch = Scratch::new();
    let line = "--kv f16 --frames 1 --given 2 --film 0 --json -o a.html";
    let out = scratch
        .run(&format!("compare --device {} {line}", device()))
        .ok();
    let run = &json(&out)["runs"][1];
    assert_eq!(run["windows"][0]["exact"], 1);
    assert!(run["windows"][0]["psnr"].is_null());
    let csv = fs::read_to_string(scratch.path("a.csv")).unwrap();
    assert!(csv.contains(",exact,"), "{csv}");
}

#[test]
fn comparisons_that_cannot_be_are_refused() {
    let scratch = Scratch::new();
    let err = scratch.run("compare --kv q9").refused(2);
    assert!(err.contains("q9") && err.contains("bf16"), "{err}");
    let err = scratch.run("compare --n-seeds 0").refused(2);
    assert!(err.contains("1 to 1000"), "{err}");
    let err = scratch.run("compare --seeds 1,2,1").refused(2);
    assert!(err.contains("--seeds names 1 twice"), "{err}");
    for line in [
        "--seeds x",
        "--seeds 1 --n-seeds 2",
        "--films x",
        "--films 1 --film 2",
        "--against q9",
        "--frames 0",
        "--frames 2 --seconds 1",
        "--windows-of-equal-bytes=perhaps",
    ] {
        scratch.run(&format!("compare {line}")).refused(2);
    }
    let err = scratch.run("compare -o report.mp4").refused(2);
    assert!(err.contains(".html"), "{err}");
    let err = scratch.run("compare -o nowhere/report.html").refused(2);
    assert!(err.contains("nowhere"), "{err}");
    let line = format!(
        "compare --device {} --kv window-1 --sink 3 --frames 2",
        device()
    );
    let err = scratch.run(&line).refused(2);
    assert!(err.contains("window"), "{err}");
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn files_that_are_there_are_left_alone() {
    let scratch = Scratch::new();
    fs::write(scratch.path("compare.csv"), "mine").unwrap();
    let err = scratch.run("compare").refused(2);
    assert!(
        err.contains("compare.csv") && err.contains("--overwrite"),
        "{err}"
    );
    assert_eq!(scratch.names(), ["compare.csv"]);
    let line = "--kv bf16 --frames 1 --given 2 --film 0 -y --quiet";
    scratch
        .run(&format!("compare --device {} {line}", device()))
        .ok();
    assert_ne!(fs::read(scratch.path("compare.csv")).unwrap(), b"mine");
}

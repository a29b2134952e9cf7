//! Plans told from outside, and films that keep within what was stated.

use super::{Scratch, json};

#[test]
fn a_plan_for_a_card_opens_nothing_and_says_what_fits() {
    let scratch = Scratch::new();
    let text = scratch
        .run("plan -m self-forcing --vram 8G --tflops 20")
        .ok();
    for part in [
        "81 frames of 832x480",
        "does NOT fit in 8.00 GiB",
        "text encoder",
        "widest that fits: --kv int",
        "s a frame",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let found = json(
        &scratch
            .run("plan -m self-forcing --max-vram 12GiB --json")
            .ok(),
    );
    assert_eq!(found["fits"], true);
    assert_eq!(found["have_bytes"], 12u64 << 30);
    assert!(found["secs_per_frame"].is_null(), "{found}");
    let bytes = |format: &str| found["weights_bytes"][format].as_u64().unwrap();
    assert!(bytes("q4_0") < bytes("q8_0") && bytes("q8_0") < bytes("f16"));
    assert_eq!(found["latent_frames"], 21);
    // A card that is far too small: no window helps, a smaller picture may.
    let text = scratch.run("plan -m longlive --vram 2G").ok();
    assert!(text.contains("no --window helps"), "{text}");
    assert!(scratch.names().is_empty());
}

#[test]
fn a_plan_cuts_the_large_decoder_where_memory_is_short() {
    let scratch = Scratch::new();
    let ask = |rest: &str| {
        let line = format!("plan -m self-forcing --decoder wan --kv int4 --window 9 {rest}");
        scratch.run(&line).ok()
    };
    let needs = |memory: &str| {
        let found = json(&ask(&format!("--json --max-vram {memory}")));
        (found["needs"].clone(), found["fits"].clone())
    };
    let stated = |bytes: u64| format!("{}M", bytes as f64 / f64::from(1u32 << 20));
    let bytes = |needs: &serde_json::Value, name: &str| needs[name].as_u64().unwrap();
    let (whole, fits) = needs("100G");
    assert_eq!((bytes(&whole, "decoder_bands"), fits), (1, true.into()));
    assert_eq!(bytes(&whole, "decoder_host_bytes"), 0);
    // A byte less than the whole decoder asks for, and so on down.
    let (mut before, mut n) = (whole, 1);
    while n < 16 {
        let peak = bytes(&before["memory"], "peak_device_bytes");
        let (cut, fits) = needs(&stated(peak - 1));
        assert_eq!(fits, true, "{cut}");
        assert!(bytes(&cut["memory"], "peak_device_bytes") < peak);
        assert!(bytes(&cut, "decoder_bytes") < bytes(&before, "decoder_bytes"));
        assert!(bytes(&before, "decoder_host_bytes") < bytes(&cut, "decoder_host_bytes"));
        assert!(before["decoder_flop"].as_f64() < cut["decoder_flop"].as_f64());
        assert!(n < bytes(&cut, "decoder_bands"));
        n = bytes(&cut, "decoder_bands");
        before = cut;
    }
    let peak = bytes(&before["memory"], "peak_device_bytes");
    let text = ask(&format!("--max-vram {}", stated(peak)));
    assert!(text.contains("wan in 16 bands of rows"), "{text}");
}

#[test]
fn bad_plans_are_refused() {
    let scratch = Scratch::new();
    for (line, says) in [
        ("plan --vram x", "GiB"),
        ("plan --vram 50%", "free"),
        ("plan -m rooms --size 832x480 --vram 8G", "its own"),
        ("plan -m self-forcing --given 3 --vram 8G", "--given"),
        ("plan --decoder wan --vram 8G", "its pictures"),
        (
            "plan -m self-forcing --size 832x481 --vram 8G",
            "832x480 is near",
        ),
        ("plan --frames 2 --seconds 3 --vram 8G", "both settle"),
        ("plan -m self-forcing --window 2 --vram 8G", "window"),
        ("plan --tflops 0", "10^12"),
    ] {
        let err = scratch.run(line).refused(2);
        assert!(err.contains(says), "{line}: {err}");
    }
    scratch.run("plan -m nowhere --vram 8G").refused(4);
}

#[test]
fn a_film_keeps_within_the_stated_memory() {
    let scratch = Scratch::new();
    let ask = |line: &str| scratch.generate(&format!("--frames 12 --dry-run -o a.mp4 {line}"));
    let err = ask("--max-vram 20M").refused(3);
    for part in ["would not fit", "CACHE", "--kv int4", "--auto-fit"] {
        assert!(err.contains(part), "{part}: {err}");
    }
    let fitted = ask("--max-vram 20M --auto-fit");
    let told = fitted.err.clone();
    let plan = fitted.ok();
    assert!(told.contains("--auto-fit takes --kv int"), "{told}");
    assert!(plan.contains("cache in int"), "{plan}");
    ask("--max-vram 0").ok();
    assert!(
        ask("--max-vram 1M --auto-fit")
            .refused(3)
            .contains("weights")
    );
    assert!(scratch.names().is_empty());
}

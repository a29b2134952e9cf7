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
        "widest that fits: --kv off --offload ",
        "layers wait in main memory, every pass uploads",
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
    assert_eq!(found["decoder"], "taehv");
    // Wan's own decoder remembers nearly 2 GiB of halves.
    let line = "plan -m self-forcing --max-vram 12GiB --decoder wan --json";
    let wan = json(&scratch.run(line).ok());
    let needs = |plan: &serde_json::Value, what: &str| plan["needs"][what].as_f64().unwrap();
    let more = needs(&wan, "decoder_bytes") - needs(&found, "decoder_bytes");
    assert!((1.8..2.8).contains(&(more / f64::from(1 << 30))), "{more}");
    assert!(needs(&wan, "decoder_flop") > 10.0 * needs(&found, "decoder_flop"));
    let bytes = |format: &str| found["weights_bytes"][format].as_u64().unwrap();
    assert!(bytes("q4_0") < bytes("q8_0") && bytes("q8_0") < bytes("f16"));
    assert_eq!(found["latent_frames"], 21);
    // A card that is far too small: no window helps, a smaller picture may.
    let text = scratch.run("plan -m longlive --vram 1G").ok();
    let says = "no --window helps, not even with --offload all";
    assert!(text.contains(says), "{text}");
    // Layers that the user lets wait.
    let line = "plan -m self-forcing --vram 24G --offload all --json";
    let waiting = json(&scratch.run(line).ok());
    let offload = &waiting["needs"]["offload"];
    assert_eq!(
        (&offload["layers"], &offload["of_layers"]),
        (&30.into(), &30.into())
    );
    let weights = |plan: &serde_json::Value| plan["needs"]["memory"]["weights_bytes"].as_u64();
    assert!(
        weights(&waiting).unwrap() < weights(&found).unwrap() / 4,
        "{waiting}"
    );
    // How fast they are uploaded is not known of a card that is not there.
    let line = "plan -m self-forcing --vram 24G --offload all --tflops 20";
    let text = scratch.run(line).ok();
    assert!(text.contains("uploads of layers not counted"), "{text}");
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
        (
            "plan -m self-forcing --size 832x481 --vram 8G",
            "832x480 is near",
        ),
        ("plan --frames 2 --seconds 3 --vram 8G", "both settle"),
        ("plan -m self-forcing --window 2 --vram 8G", "window"),
        ("plan --decoder wan --vram 8G", "--decoder"),
        ("plan --offload x --vram 8G", "or all"),
        ("plan --offload 1 --vram 8G", "one layer alone"),
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

#[test]
fn layers_that_wait_change_no_byte_of_the_film_and_are_told() {
    let scratch = Scratch::new();
    let film = |name: &str, more: &str| {
        let line = format!("--frames 2 --given 3 --seed 11 --format y4m -o {name}.y4m {more}");
        scratch.generate(&line)
    };
    film("whole", "").ok();
    let told = film("all", "--offload all");
    let says = "6 of 6 layers waited in main memory";
    assert!(told.err.contains(says), "{}", told.err);
    told.ok();
    let out = film("some", "--blocks-to-swap 3 --json").ok();
    let events: Vec<_> = out.lines().map(json).collect();
    let named = |name: &str| events.iter().find(|e| e["event"] == name).unwrap();
    let (plan, done) = (named("plan"), named("done"));
    assert_eq!(plan["offload"], done["offload"]);
    assert_eq!(done["offload"]["layers"], 3);
    // Three given frames, two chunks of two steps, the cache pass between them.
    let pass = done["offload"]["pass_bytes"].as_u64().unwrap();
    assert_eq!(done["uploaded_bytes"], (3 + 2 * 2 + 1) * pass);
    let bytes = |name: &str| std::fs::read(scratch.path(name)).unwrap();
    assert!(bytes("whole.y4m") == bytes("all.y4m"));
    assert!(bytes("whole.y4m") == bytes("some.y4m"));
    for line in ["--offload 1", "--offload 1.5", "--offload -1"] {
        film("never", line).refused(2);
    }
    // Less than the weights take.
    let told = film("tight", "--max-vram 8M --auto-fit");
    assert!(
        told.err.contains("--auto-fit takes --kv off --offload"),
        "{}",
        told.err
    );
    told.ok();
    assert!(bytes("whole.y4m") == bytes("tight.y4m"));
}

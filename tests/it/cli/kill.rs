//! Killed without warning at ten moments: what is there plays, and the next start says what it found.

use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use super::{Scratch, has, json, probe};

/// Moments in milliseconds after the start, spread by a fixed generator over the load and the first chunks.
fn moments() -> impl Iterator<Item = u64> {
    let mut state = 20_260_101u64;
    (0..10).map(move |i| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        50 + 250 * i + (state >> 33) % 250
    })
}

#[test]
fn a_killed_run_leaves_a_film_that_plays() {
    let scratch = Scratch::new();
    let line = format!(
        "generate --device {} --given 1 --window 4 --frames 200",
        super::device()
    );
    let (mut with_frames, ffprobe) = (0, has("ffprobe"));
    for (i, moment) in moments().enumerate() {
        let name = format!("{i}.mp4");
        let mut child = scratch
            .command(line.split_whitespace().chain(["-o", &name]))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        sleep(Duration::from_millis(moment));
        child.kill().unwrap();
        child.wait().unwrap();
        let film = scratch.path(&name);
        if !film.exists() {
            continue;
        }
        let info = json(&scratch.run(&format!("info --json {name}")).ok());
        assert_eq!(info["finished"], false, "{moment} ms: {info}");
        let frames = info["frames"].as_u64().unwrap();
        if ffprobe {
            assert!(frames <= probe(&film), "{moment} ms: {info}");
        }
        let again = scratch.run(&format!("generate -o {name}")).refused(2);
        assert!(
            again.contains("looks unfinished") && again.contains("--overwrite"),
            "{again}"
        );
        assert!(again.contains(&format!("{frames} frames")), "{again}");
        with_frames += usize::from(0 < frames);
    }
    assert!(
        0 < with_frames,
        "every moment was before the first frame; make them later"
    );
}

//! Kills, full disks, refusals and hostile files.

use longtake::media::Error;
use longtake::media::recipe::{read, read_bytes};

use super::*;

#[test]
fn a_file_cut_anywhere_keeps_its_whole_fragments() {
    let scratch = Scratch::new();
    let path = scratch.path("film.mp4");
    write_film(&path);
    let bytes = fs::read(&path).unwrap();
    let boxes = top_boxes(&bytes);
    let data_ends: Vec<usize> = boxes
        .iter()
        .filter(|(_, kind)| kind == b"mdat")
        .map(|&(end, _)| end)
        .collect();
    let header_end = boxes.iter().find(|(_, kind)| kind == b"uuid").unwrap().0;
    assert_eq!(data_ends.len(), 5);
    for cut in header_end..bytes.len() {
        let info = read_bytes(&bytes[..cut]).unwrap();
        let whole = data_ends.iter().filter(|&&end| end <= cut).count() as u64;
        assert_eq!(
            (info.frames, info.finished),
            (Some(8 * whole), Some(false)),
            "cut at {cut}"
        );
        assert!(info.recipe.is_some());
    }
    if has("ffprobe") {
        let cuts = data_ends[..4]
            .iter()
            .flat_map(|&end| [end, end + 1, end + 50, end + 300]);
        for cut in cuts {
            let part = scratch.path("part.mp4");
            fs::write(&part, &bytes[..cut]).unwrap();
            let count = decodable(&part);
            let whole = data_ends.iter().filter(|&&end| end <= cut).count() as u64;
            assert!(
                (8 * whole..8 * whole + 8).contains(&count),
                "cut at {cut}: {count}"
            );
        }
    }
}

#[test]
fn nothing_is_overwritten_unless_asked() {
    let scratch = Scratch::new();
    let path = scratch.path("film.mp4");
    let recipe = recipe();
    let mut writer = VideoWriter::create(&path, &spec(Some(&recipe))).unwrap();
    writer.write_chunk(&frames(0..12)).unwrap();
    if cfg!(unix) {
        let again = Spec {
            overwrite: true,
            ..spec(None)
        };
        assert!(matches!(
            VideoWriter::create(&path, &again),
            Err(Error::InUse { .. })
        ));
    }
    drop(writer);
    let before = fs::read(&path).unwrap();
    let refused = VideoWriter::create(&path, &spec(None))
        .err()
        .unwrap()
        .to_string();
    for part in ["unfinished", "12 frames", "--overwrite", "film.mp4"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
    let beside = read(&scratch.path("film.json")).unwrap();
    assert_eq!(beside.finished, Some(false));

    let mut writer = VideoWriter::create(
        &path,
        &Spec {
            overwrite: true,
            ..spec(Some(&recipe))
        },
    )
    .unwrap();
    writer.write_chunk(&frames(0..3)).unwrap();
    writer.finish().unwrap();
    let refused = VideoWriter::create(&path, &spec(None))
        .err()
        .unwrap()
        .to_string();
    assert!(
        refused.contains("holds 3 frames") && !refused.contains("unfinished"),
        "{refused}"
    );
}

#[test]
fn a_json_file_of_the_user_stays() {
    let scratch = Scratch::new();
    let recipe = recipe();
    fs::write(scratch.path("film.json"), "{\"poses\": []}").unwrap();
    let path = scratch.path("film.mp4");
    let result = VideoWriter::create(
        &path,
        &Spec {
            overwrite: true,
            ..spec(Some(&recipe))
        },
    );
    assert!(matches!(
        result.err().unwrap(),
        Error::ForeignSidecar { .. }
    ));
    let result = VideoWriter::create(&path, &spec(Some(&recipe)));
    assert!(matches!(result.err().unwrap(), Error::Exists { .. }));
    assert!(!path.exists());
    assert_eq!(
        fs::read(scratch.path("film.json")).unwrap(),
        b"{\"poses\": []}"
    );
}

#[test]
fn wrong_sizes_rates_and_frames_are_refused() {
    let scratch = Scratch::new();
    let path = scratch.path("film.mp4");
    let create = |spec: Spec<'_>| VideoWriter::create(&path, &spec).err().unwrap();
    for fps in [0.0, -1.0, f64::NAN, f64::INFINITY, 1001.0] {
        assert!(matches!(
            create(Spec { fps, ..spec(None) }),
            Error::Fps { .. }
        ));
    }
    for (width, height, scale) in [
        (0, 8, 1),
        (8, 8, 0),
        (8, 8, 1),
        (3842, 16, 1),
        (16, 16, 1000),
        (u32::MAX, u32::MAX, u32::MAX),
    ] {
        let error = create(Spec {
            width,
            height,
            scale,
            ..spec(None)
        });
        assert!(
            matches!(error, Error::Size { .. }),
            "{width} {height} {scale}: {error}"
        );
    }
    assert!(!path.exists());
    let mut writer = VideoWriter::create(&path, &spec(None)).unwrap();
    let mut short = frame(1);
    short.rgb.pop();
    let error = writer.write_chunk(&[frame(0), short]).err().unwrap();
    assert!(
        matches!(error, Error::FrameSize { index: 1, .. }),
        "{error}"
    );
    assert_eq!(writer.frames(), 0);
}

/// xorshift64*; the same bytes on every run.
fn noise(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

#[test]
fn hostile_files_are_refused_or_read_without_panic() {
    let scratch = Scratch::new();
    write_film(&scratch.path("film.mp4"));
    let spec = Spec {
        scale: 1,
        overwrite: true,
        ..spec(None)
    };
    let mut writer = VideoWriter::create(&scratch.path("still.png"), &spec).unwrap();
    writer.write_chunk(&frames(0..1)).unwrap();
    writer.finish().unwrap();
    let mut state = 7;
    for name in ["film.mp4", "film.json", "still.png"] {
        let good = fs::read(scratch.path(name)).unwrap();
        let header = good.len().min(3000);
        for len in 0..header {
            let _ = read_bytes(&good[..len]);
        }
        for at in 0..header {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = read_bytes(&bad);
                let end = (at + 4).min(bad.len());
                bad[at..end].fill(value);
                let _ = read_bytes(&bad);
            }
        }
        for _ in 0..3000 {
            let mut bad = good.clone();
            for _ in 0..noise(&mut state) % 8 + 1 {
                let at = noise(&mut state) as usize % bad.len();
                bad[at] = noise(&mut state) as u8;
            }
            let _ = read_bytes(&bad);
        }
    }
    let random: Vec<u8> = (0..4096).map(|_| noise(&mut state) as u8).collect();
    for prefix in [&b""[..], b"\0\0\0\x08ftyp", b"\x89PNG\r\n\x1a\n", b"{"] {
        let _ = read_bytes(&[prefix, &random].concat());
    }
    // Boxes in boxes, as deep as they fit: no reader of ours follows them down.
    let nested: Vec<u8> = (0..50_000u32)
        .flat_map(|i| [(8 * (50_000 - i)).to_be_bytes(), *b"moov"].concat())
        .collect();
    assert!(read_bytes(&[b"\0\0\0\x08ftyp".as_slice(), &nested].concat()).is_err());
    assert!(read_bytes(&b"\0\0\0\x08ftyp".repeat(20_000)).is_err());
}

/// Not a test: what those below run as a process of their own, to be killed or to run into a limit.
#[test]
fn as_child() {
    let Some(path) = std::env::var_os("LONGTAKE_TEST_FILM").map(PathBuf::from) else {
        return;
    };
    let recipe = recipe();
    let mut writer = VideoWriter::create(&path, &spec(Some(&recipe))).unwrap();
    for chunk in 0..100_000 {
        match writer.write_chunk(&frames(4 * chunk..4 * chunk + 4)) {
            Ok(()) => {}
            Err(error) => {
                // The parent compares this with the file; standard output may be closed.
                eprintln!("KEPT {} {error}", writer.frames());
                return;
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn child(path: &Path, before: &str) -> Command {
    let mut command = Command::new("bash");
    let exe = std::env::current_exe().unwrap();
    command
        .args([
            "-c",
            &format!("{before} exec \"$0\" --exact media::faults::as_child --nocapture"),
        ])
        .arg(exe);
    command
        .env("LONGTAKE_TEST_FILM", path)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

#[test]
#[cfg(target_os = "linux")]
fn a_killed_process_leaves_a_playable_film() {
    let scratch = Scratch::new();
    for round in 0..3 {
        let path = scratch.path(&format!("film{round}.mp4"));
        let mut child = child(&path, "").stdout(Stdio::null()).spawn().unwrap();
        while fs::metadata(&path).map_or(0, |meta| meta.len()) < 20_000 * (round + 1) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let info = read(&path).unwrap();
        assert_eq!(info.finished, Some(false));
        let frames = info.frames.unwrap();
        assert!(0 < frames && frames.is_multiple_of(4));
        assert!(info.recipe.is_some());
        if has("ffprobe") {
            assert_eq!(decodable(&path), frames);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_leaves_whole_fragments_and_says_how_many_frames() {
    let scratch = Scratch::new();
    let path = scratch.path("film.mp4");
    // A limit on file size, with its signal ignored, fails writes half-way as a full disk does.
    let out = child(&path, "trap '' XFSZ; ulimit -f 40;")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let line = said
        .lines()
        .find_map(|line| line.split_once("KEPT "))
        .expect("the child reports")
        .1;
    let kept: u64 = line.split(' ').next().unwrap().parse().unwrap();
    assert!(
        0 < kept && line.contains(&format!("the first {kept} frames are safe")),
        "{line}"
    );
    let bytes = fs::read(&path).unwrap();
    assert!(bytes.len() <= 40 * 1024);
    assert_eq!(
        top_boxes(&bytes).last().unwrap().1,
        *b"mdat",
        "the broken end is cut off"
    );
    assert_eq!(read(&path).unwrap().frames, Some(kept));
    if has("ffprobe") {
        let lines = probe(&path);
        assert!(
            lines.contains(&format!("nb_read_frames={kept}")),
            "{lines:?}"
        );
        assert!(
            lines.contains(&format!("duration={:.6}", kept as f64 / FPS)),
            "{lines:?}"
        );
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_device_without_room_is_an_ordinary_error() {
    let scratch = Scratch::new();
    for name in ["full.mp4", "full.y4m"] {
        let path = scratch.path(name);
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let spec = Spec {
            overwrite: true,
            ..spec(None)
        };
        let error = VideoWriter::create(&path, &spec).err().unwrap();
        assert!(
            matches!(error, Error::Write { frames_kept: 0, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("0 frames"), "{error}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_reader_that_leaves_is_told_apart() {
    use std::io::Read as _;
    let mut child = child(Path::new("-"), "")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut start = [0; 1000];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        said.contains("the reader of standard output has closed it"),
        "{said}"
    );
    assert!(start.windows(10).any(|part| part == b"YUV4MPEG2 "));
}

//! What is written comes back, in size, number, colour and recipe.

use longtake::media::recipe::{Kind, read};

use super::*;
use longtake::media::Error;

#[test]
fn mp4_comes_back_whole() {
    let scratch = Scratch::new();
    let path = scratch.path("film.mp4");
    write_film(&path);
    let info = read(&path).unwrap();
    assert_eq!(
        (info.kind, info.width, info.height),
        (Kind::Mp4, Some(128), Some(96))
    );
    assert_eq!(
        (info.frames, info.fps, info.secs(), info.finished),
        (Some(40), Some(16.0), Some(2.5), Some(true))
    );
    let found = info.recipe.unwrap();
    assert_eq!(found.get("secs").and_then(|v| v.as_f64()), Some(1.5));
    assert_eq!(found.get("prompt"), recipe().get("prompt"));
    let beside = read(&scratch.path("film.json")).unwrap();
    assert_eq!(
        (beside.frames, beside.finished, beside.recipe),
        (Some(40), Some(true), Some(found))
    );
    if has("ffprobe") {
        let lines = probe(&path);
        for want in [
            "width=128",
            "height=96",
            "pix_fmt=yuv420p",
            "color_space=bt709",
            "color_range=tv",
            "has_b_frames=0",
            "r_frame_rate=16/1",
            "avg_frame_rate=16/1",
            "nb_read_frames=40",
            "duration=2.500000",
        ] {
            assert!(
                lines.iter().any(|line| line == want),
                "{want} is not in {lines:?}"
            );
        }
        assert!(
            lines
                .iter()
                .any(|line| line.starts_with("TAG:comment={\"longtake\"")),
            "{lines:?}"
        );
    }
}

#[test]
fn mp4_keeps_colours() {
    if !has("ffmpeg") {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.path("film.mp4");
    write_film(&path);
    let rgb = decode(&path);
    let (width, height) = (4 * WIDTH as usize, 4 * HEIGHT as usize);
    assert_eq!(rgb.len(), 40 * width * height * 3);
    for (index, found) in rgb.chunks_exact(width * height * 3).enumerate() {
        let source = frame(index as u32);
        // The middle of each enlarged pixel; edges ring a little.
        let (mut sum, mut worst) = (0.0, 0);
        for (i, want) in source.rgb.chunks_exact(3).enumerate() {
            let (x, y) = (4 * (i % WIDTH as usize) + 2, 4 * (i / WIDTH as usize) + 2);
            for (c, &value) in want.iter().enumerate() {
                let error = i32::from(found[(y * width + x) * 3 + c]).abs_diff(i32::from(value));
                sum += f64::from(error);
                worst = worst.max(error);
            }
        }
        let mean = sum / source.rgb.len() as f64;
        // With BT.601 in place of BT.709 the mean is 7.9.
        assert!(
            mean < 2.0 && worst < 40,
            "frame {index}: mean {mean}, worst {worst}"
        );
    }
}

#[test]
fn odd_sides_are_padded() {
    let scratch = Scratch::new();
    let path = scratch.path("odd.mp4");
    let odd = Frame {
        width: 17,
        height: 19,
        rgb: vec![90; 17 * 19 * 3],
    };
    let spec = Spec {
        width: 17,
        height: 19,
        fps: 23.976,
        scale: 1,
        frames: None,
        overwrite: false,
        recipe: None,
    };
    let mut writer = VideoWriter::create(&path, &spec).unwrap();
    writer.write_chunk(&vec![odd; 30]).unwrap();
    writer.finish().unwrap();
    assert!(!scratch.path("odd.json").exists());
    let info = read(&path).unwrap();
    assert_eq!(
        (info.width, info.height, info.frames),
        (Some(18), Some(20), Some(30))
    );
    if has("ffprobe") {
        let lines = probe(&path);
        assert!(
            lines.iter().any(|line| line == "r_frame_rate=24000/1001"),
            "{lines:?}"
        );
        assert!(
            lines.iter().any(|line| line == "nb_read_frames=30"),
            "{lines:?}"
        );
    }
}

#[test]
fn png_sequence_is_exact_and_carries_the_recipe() {
    let scratch = Scratch::new();
    let pattern = scratch.path("out/f_%03d.png");
    let recipe = recipe();
    let spec = Spec {
        scale: 2,
        frames: Some(5),
        ..spec(Some(&recipe))
    };
    let mut writer = VideoWriter::create(&pattern, &spec).unwrap();
    writer.write_chunk(&frames(0..5)).unwrap();
    let summary = writer.finish().unwrap();
    assert_eq!(summary.recipe_path, Some(scratch.path("out/f.json")));
    for index in 0..5 {
        let path = scratch.path(&format!("out/f_{index:03}.png"));
        let mut reader = png::Decoder::new(std::io::BufReader::new(fs::File::open(&path).unwrap()))
            .read_info()
            .unwrap();
        let keywords: Vec<_> = reader
            .info()
            .utf8_text
            .iter()
            .map(|text| text.keyword.clone())
            .collect();
        assert_eq!(keywords, ["longtake", "XML:com.adobe.xmp"]);
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut rgb).unwrap();
        let (source, width) = (frame(index), 2 * WIDTH as usize);
        assert_eq!(rgb.len(), 4 * source.rgb.len());
        for (i, pixel) in rgb.chunks_exact(3).enumerate() {
            let from = (i / width / 2 * WIDTH as usize + i % width / 2) * 3;
            assert_eq!(pixel, &source.rgb[from..from + 3]);
        }
        let info = read(&path).unwrap();
        assert_eq!(
            (info.kind, info.width, info.recipe.as_ref()),
            (Kind::Png, Some(64), Some(&recipe))
        );
    }
    assert_eq!(
        fs::read_dir(scratch.path("out")).unwrap().count(),
        6,
        "no half files stay"
    );

    assert!(matches!(
        VideoWriter::create(&pattern, &spec).err().unwrap(),
        Error::Exists { .. }
    ));
    let mut writer = VideoWriter::create(
        &pattern,
        &Spec {
            overwrite: true,
            ..spec
        },
    )
    .unwrap();
    writer.write_chunk(&frames(0..2)).unwrap();
    writer.finish().unwrap();
    assert_eq!(
        fs::read_dir(scratch.path("out")).unwrap().count(),
        3,
        "frames of the older film are gone"
    );
}

#[test]
fn one_png_takes_one_frame() {
    let scratch = Scratch::new();
    let path = scratch.path("still.png");
    let refused = VideoWriter::create(
        &path,
        &Spec {
            frames: Some(2),
            ..spec(None)
        },
    )
    .err()
    .unwrap();
    assert!(refused.to_string().contains("still_%04d.png"), "{refused}");
    let mut writer = VideoWriter::create(&path, &spec(None)).unwrap();
    writer.write_chunk(&frames(0..1)).unwrap();
    assert!(matches!(
        writer.write_chunk(&frames(1..2)),
        Err(Error::NeedsPattern { .. })
    ));
    assert_eq!(writer.finish().unwrap().frames, 1);
    assert_eq!(read(&path).unwrap().recipe, None);
}

#[test]
fn y4m_is_within_rounding_of_the_source() {
    let scratch = Scratch::new();
    let path = scratch.path("film.y4m");
    write_film(&path);
    let bytes = fs::read(&path).unwrap();
    let head = b"YUV4MPEG2 W128 H96 F16:1 Ip A1:1 C444 XCOLORRANGE=LIMITED\n";
    assert!(bytes.starts_with(head));
    assert_eq!(bytes.len(), head.len() + 40 * (6 + 128 * 96 * 3));
    assert_eq!(read(&scratch.path("film.json")).unwrap().frames, Some(40));
    if has("ffmpeg") {
        let rgb = decode(&path);
        assert_eq!(rgb.len(), 40 * 128 * 96 * 3);
        let source = frame(0);
        for (i, pixel) in rgb.chunks_exact(3).take(128 * 96).enumerate() {
            let from = (i / 128 / 4 * WIDTH as usize + i % 128 / 4) * 3;
            for c in 0..3 {
                assert!(
                    pixel[c].abs_diff(source.rgb[from + c]) <= 3,
                    "{pixel:?} {:?}",
                    &source.rgb[from..from + 3]
                );
            }
        }
    }
}

#[test]
fn a_long_chunk_becomes_a_fragment_a_second() {
    let scratch = Scratch::new();
    let path = scratch.path("long.mp4");
    let mut writer = VideoWriter::create(&path, &spec(None)).unwrap();
    writer.write_chunk(&frames(0..40)).unwrap();
    writer.write_chunk(&[]).unwrap();
    writer.finish().unwrap();
    let kinds: Vec<_> = top_boxes(&fs::read(&path).unwrap())
        .into_iter()
        .map(|(_, kind)| kind)
        .collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == b"moof").count(), 3);
    assert_eq!(kinds.last(), Some(b"mfra"));
    assert_eq!(read(&path).unwrap().frames, Some(40));
}

#[test]
fn another_program_may_repack_the_film_and_the_recipe_stays() {
    if !has("ffmpeg") {
        return;
    }
    let scratch = Scratch::new();
    write_film(&scratch.path("film.mp4"));
    for flags in ["+faststart", "+frag_keyframe+empty_moov"] {
        let copy = scratch.path("copy.mp4");
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-i"])
            .arg(scratch.path("film.mp4"))
            .args(["-c", "copy", "-movflags", flags])
            .arg(&copy)
            .status()
            .unwrap();
        assert!(status.success());
        let info = read(&copy).unwrap();
        assert_eq!(
            (info.frames, info.fps, info.finished),
            (Some(40), Some(16.0), Some(true)),
            "{flags}"
        );
        assert_eq!(info.recipe, Some(recipe()), "{flags}");
    }
}

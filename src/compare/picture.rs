//! Frames as pictures inside the report: what the settings made at a few times, and how it differs.

use crate::frame::Frame;

use super::Error;
use super::measure::{self, Role, Run};
use crate::rollout::Walk;

/// By how much differences are enlarged to be seen.
pub const GAIN: u16 = 4;

/// One line of pictures, one a time.
#[derive(Debug)]
pub struct Strip {
    pub(super) name: String,
    pub(super) note: String,
    /// Frame number and picture; none where there is nothing to show.
    pub(super) pictures: Vec<(usize, Option<Frame>)>,
}

/// The truth where there is one, then each setting with its difference from the reference, at the last frame of each time
/// window.
pub fn strips(walk: &Walk, runs: &[Run], films: &[Vec<Frame>]) -> Vec<Strip> {
    let n = walk.poses.len();
    let times: Vec<usize> = measure::windows(n)
        .into_iter()
        .map(|(_, last)| last)
        .collect();
    let strip = |name: &str, note: String, picture: &dyn Fn(usize) -> Option<Frame>| Strip {
        name: name.to_owned(),
        note,
        pictures: times.iter().map(|&i| (i, picture(i))).collect(),
    };
    let truth = |i: usize| {
        let pose = walk.poses.get(i)?;
        let given = walk.given_poses.iter().position(|p| p == pose)?;
        walk.given.get(given).cloned()
    };
    let mut strips = vec![strip(
        "truth",
        "the given frame of the same pose".into(),
        &truth,
    )];
    strips.retain(|strip| strip.pictures.iter().any(|(_, picture)| picture.is_some()));
    let reference = films.first();
    for (run, film) in runs.iter().zip(films) {
        let note = match run.role {
            Role::Reference => "reference".to_owned(),
            Role::Setting => String::new(),
            Role::EqualBytes => format!("bytes of {}", run.bytes_of.join(", ")),
        };
        strips.push(strip(&run.setting, note, &|i| film.get(i).cloned()));
        if run.role != Role::Reference {
            let differs = |i: usize| Some(difference(film.get(i)?, reference?.get(i)?));
            let note = format!("difference from the reference, {GAIN} times");
            strips.push(strip("", note, &differs));
        }
    }
    strips
}

/// The distance of every channel, [`GAIN`] times, black where there is none.
pub fn difference(a: &Frame, b: &Frame) -> Frame {
    let enlarge = |(a, b): (&u8, &u8)| (u16::from(a.abs_diff(*b)) * GAIN).min(255) as u8;
    Frame {
        rgb: a.rgb.iter().zip(&b.rgb).map(enlarge).collect(),
        ..a.clone()
    }
}

/// A PNG as a `data:` address.
///
/// # Errors
/// When the encoder refuses, which would be a bug.
pub(super) fn data_uri(frame: &Frame) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, frame.width, frame.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer
        .write_image_data(&frame.rgb)
        .and_then(|()| writer.finish())?;
    Ok(format!("data:image/png;base64,{}", base64(&bytes)))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let six = bits >> (18 - 6 * i) & 63;
            text.push(match i <= three.len() {
                true => ALPHABET[six as usize].into(),
                false => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }

    #[test]
    fn differences_are_enlarged_and_bounded() {
        let frame = |rgb: [u8; 3]| Frame {
            width: 1,
            height: 1,
            rgb: rgb.to_vec(),
        };
        let map = difference(&frame([10, 200, 7]), &frame([13, 100, 7]));
        assert_eq!(map.rgb, [12, 255, 0]);
        assert!(
            data_uri(&map)
                .unwrap()
                .starts_with("data:image/png;base64,iVBORw0KGgo")
        );
    }
}

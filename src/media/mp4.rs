//! The boxes of a fragmented MP4 with one H.264 track, as bytes. Pure: no file is touched here.
//!
//! ```text
//! ftyp  moov(mvhd trak mvex udta)  uuid(XMP)      written at once, before the first frame
//! moof  mdat                                      one pair a fragment
//! uuid(recipe)  mfra(tfra mfro)                   written by `finish`: `mfra` at the end is the mark of a finished film
//! ```
//!
//! Source: ISO/IEC 14496-12 (boxes, fragments), 14496-15 (`avc1`, `avcC`); tags by the QuickTime metadata habit.

use super::recipe;

/// Identifies XMP in a `uuid` box. Source: Adobe XMP specification part 3, "MPEG-4".
pub(super) const XMP_UUID: [u8; 16] = [
    0xbe, 0x7a, 0xcf, 0xcb, 0x97, 0xa9, 0x42, 0xe8, 0x9c, 0x71, 0x99, 0x94, 0x91, 0xe3, 0xaf, 0xac,
];
/// Identifies the recipe as it stood at the end of the run.
pub(super) const RECIPE_UUID: [u8; 16] = *b"longtake.recipe1";
/// The `ilst` entry for a comment.
pub(super) const COMMENT: [u8; 4] = *b"\xa9cmt";
const TOOL: [u8; 4] = *b"\xa9too";

/// A sample that needs no other; a sample that does.
const KEY_FLAGS: u32 = 0x0200_0000;
const DELTA_FLAGS: u32 = 0x0101_0000;

/// Clock of the track: every frame lasts `frame_ticks` of `1 / timescale` seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    /// Ticks a second.
    pub timescale: u32,
    /// Ticks a frame.
    pub frame_ticks: u32,
}

impl Clock {
    /// The clock for a rate in 0.1 to 1000; 23.976 and its kin become N·1000 / 1001.
    pub(super) fn new(fps: f64) -> Self {
        let whole = (fps * 1.001).round();
        let is_ntsc = 0.001 < (fps - fps.round()).abs() && (fps * 1.001 - whole).abs() < 0.001;
        if is_ntsc {
            return Self {
                timescale: whole as u32 * 1000,
                frame_ticks: 1001,
            };
        }
        Self {
            timescale: (fps * 1000.0).round() as u32,
            frame_ticks: 1000,
        }
    }

    /// Length of `frames` frames in ticks.
    pub(super) fn ticks(self, frames: u64) -> u64 {
        frames.saturating_mul(u64::from(self.frame_ticks))
    }
}

/// What the header tells about the film.
#[derive(Debug)]
pub(super) struct Header<'a> {
    /// Pixels in a row, even.
    pub width: u16,
    /// Rows, even.
    pub height: u16,
    /// The track's clock.
    pub clock: Clock,
    /// Sequence parameter set.
    pub sps: &'a [u8],
    /// Picture parameter set.
    pub pps: &'a [u8],
    /// Recipe as JSON, if there is one.
    pub comment: Option<&'a str>,
}

/// One coded frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// Bytes in the fragment's data.
    pub bytes: u32,
    /// Needs no other frame.
    pub is_key: bool,
}

/// Where playing can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeekPoint {
    /// Time of the frame in ticks.
    pub ticks: u64,
    /// Place of the fragment's `moof` in the file.
    pub moof_at: u64,
    /// Number of the frame in that fragment, from 1.
    pub sample: u32,
}

/// Everything before the first fragment, and the place of the 8 bytes that hold the film's length in ticks.
pub(super) fn header(film: &Header<'_>) -> (Vec<u8>, u64) {
    let mut out = Vec::new();
    boxed(&mut out, b"ftyp", |b| {
        b.extend_from_slice(b"iso6");
        put32(b, 0x200);
        b.extend_from_slice(b"iso6isomavc1mp41");
    });
    let mut length_at = 0;
    boxed(&mut out, b"moov", |b| {
        mvhd(b, film);
        boxed(b, b"trak", |b| trak(b, film));
        boxed(b, b"mvex", |b| {
            full(b, b"mehd", 1, 0, |b| {
                length_at = b.len() as u64;
                put64(b, 0);
            });
            full(b, b"trex", 0, 0, |b| {
                put_all(b, &[1, 1, film.clock.frame_ticks, 0, DELTA_FLAGS]);
            });
        });
        boxed(b, b"udta", |b| tags(b, film));
    });
    boxed(&mut out, b"uuid", |b| {
        b.extend_from_slice(&XMP_UUID);
        b.extend_from_slice(recipe::xmp().as_bytes());
    });
    (out, length_at)
}

/// One fragment: its `moof` and an `mdat` around `data`. `first` is the number of its first frame in the film.
pub(super) fn fragment(
    sequence: u32,
    clock: Clock,
    first: u64,
    samples: &[Sample],
    data: &[u8],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 8 * samples.len() + 128);
    let mut offset_at = 0;
    boxed(&mut out, b"moof", |b| {
        full(b, b"mfhd", 0, 0, |b| put32(b, sequence));
        boxed(b, b"traf", |b| {
            // Data offsets count from the moof; every frame lasts the header's default.
            full(b, b"tfhd", 0, 0x02_0000, |b| put32(b, 1));
            full(b, b"tfdt", 1, 0, |b| put64(b, clock.ticks(first)));
            // Data offset, then size and flags of each frame.
            full(b, b"trun", 0, 0x0601, |b| {
                put32(b, samples.len() as u32);
                offset_at = b.len();
                put32(b, 0);
                for sample in samples {
                    put_all(
                        b,
                        &[
                            sample.bytes,
                            if sample.is_key {
                                KEY_FLAGS
                            } else {
                                DELTA_FLAGS
                            },
                        ],
                    );
                }
            });
        });
    });
    let data_at = (out.len() + 8) as u32;
    out[offset_at..offset_at + 4].copy_from_slice(&data_at.to_be_bytes());
    boxed(&mut out, b"mdat", |b| b.extend_from_slice(data));
    out
}

/// What `finish` appends: the last recipe, then the index of key frames whose presence marks the film as finished.
pub(super) fn trailer(points: &[SeekPoint], recipe: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(json) = recipe {
        boxed(&mut out, b"uuid", |b| {
            b.extend_from_slice(&RECIPE_UUID);
            b.extend_from_slice(json.as_bytes());
        });
    }
    let start = out.len();
    boxed(&mut out, b"mfra", |b| {
        full(b, b"tfra", 1, 0, |b| {
            // Track 1; sample numbers take 4 bytes, traf and trun numbers 1.
            put_all(b, &[1, 0b00_00_11, points.len() as u32]);
            for point in points {
                put64(b, point.ticks);
                put64(b, point.moof_at);
                b.extend_from_slice(&[1, 1]);
                put32(b, point.sample);
            }
        });
        // The size of `mfra` itself, the last word of the file: players find the index from the end.
        full(b, b"mfro", 0, 0, |b| {
            let size = b.len() + 4 - start;
            put32(b, size as u32);
        });
    });
    out
}

fn mvhd(out: &mut Vec<u8>, film: &Header<'_>) {
    full(out, b"mvhd", 0, 0, |b| {
        // No dates: equal runs give equal files. A length of 0: the frames follow in fragments.
        put_all(
            b,
            &[
                0,
                0,
                film.clock.timescale,
                0,
                0x0001_0000,
                0x0100_0000,
                0,
                0,
            ],
        );
        put_all(b, &UNITY);
        put_all(b, &[0, 0, 0, 0, 0, 0, 2]);
    });
}

/// The matrix that leaves a picture as it is.
const UNITY: [u32; 9] = [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000];

fn trak(out: &mut Vec<u8>, film: &Header<'_>) {
    full(out, b"tkhd", 0, 3, |b| {
        put_all(b, &[0, 0, 1, 0, 0, 0, 0, 0, 0]);
        put_all(b, &UNITY);
        put_all(
            b,
            &[u32::from(film.width) << 16, u32::from(film.height) << 16],
        );
    });
    boxed(out, b"mdia", |b| {
        // Language "und".
        full(b, b"mdhd", 0, 0, |b| {
            put_all(b, &[0, 0, film.clock.timescale, 0, 0x55c4_0000])
        });
        full(b, b"hdlr", 0, 0, |b| {
            put32(b, 0);
            b.extend_from_slice(b"vide");
            put_all(b, &[0, 0, 0]);
            b.extend_from_slice(b"longtake\0");
        });
        boxed(b, b"minf", |b| minf(b, film));
    });
}

fn minf(out: &mut Vec<u8>, film: &Header<'_>) {
    full(out, b"vmhd", 0, 1, |b| put_all(b, &[0, 0]));
    boxed(out, b"dinf", |b| {
        full(b, b"dref", 0, 0, |b| {
            put32(b, 1);
            full(b, b"url ", 0, 1, |_| {}); // the data are in this file
        });
    });
    boxed(out, b"stbl", |b| {
        full(b, b"stsd", 0, 0, |b| {
            put32(b, 1);
            boxed(b, b"avc1", |b| avc1(b, film));
        });
        full(b, b"stts", 0, 0, |b| put32(b, 0));
        full(b, b"stsc", 0, 0, |b| put32(b, 0));
        full(b, b"stsz", 0, 0, |b| put_all(b, &[0, 0]));
        full(b, b"stco", 0, 0, |b| put32(b, 0));
    });
}

fn avc1(out: &mut Vec<u8>, film: &Header<'_>) {
    put_all(out, &[0, 1, 0, 0, 0, 0]); // data reference 1
    out.extend_from_slice(&film.width.to_be_bytes());
    out.extend_from_slice(&film.height.to_be_bytes());
    put_all(out, &[0x0048_0000, 0x0048_0000, 0]); // 72 dots an inch
    put16(out, 1); // one frame a sample
    let mut name = [0; 32];
    name[0] = 8;
    name[1..9].copy_from_slice(b"longtake");
    out.extend_from_slice(&name);
    put16(out, 24);
    put16(out, 0xffff);
    boxed(out, b"avcC", |b| {
        // Version, profile, compatibility, level; then lengths of 4 bytes, one of each parameter set.
        b.extend_from_slice(&[1, film.sps[1], film.sps[2], film.sps[3], 0xff, 0xe1]);
        put16(b, film.sps.len() as u16);
        b.extend_from_slice(film.sps);
        b.push(1);
        put16(b, film.pps.len() as u16);
        b.extend_from_slice(film.pps);
    });
    boxed(out, b"colr", |b| {
        b.extend_from_slice(b"nclx");
        // BT.709 primaries, transfer and matrix, limited range.
        b.extend_from_slice(&[0, 1, 0, 1, 0, 1, 0]);
    });
    boxed(out, b"pasp", |b| put_all(b, &[1, 1]));
}

fn tags(out: &mut Vec<u8>, film: &Header<'_>) {
    full(out, b"meta", 0, 0, |b| {
        full(b, b"hdlr", 0, 0, |b| {
            put32(b, 0);
            b.extend_from_slice(b"mdirappl");
            put_all(b, &[0, 0]);
            b.push(0);
        });
        boxed(b, b"ilst", |b| {
            tag(b, &TOOL, &recipe::tool());
            if let Some(comment) = film.comment {
                tag(b, &COMMENT, comment);
            }
        });
    });
}

fn tag(out: &mut Vec<u8>, kind: &[u8; 4], text: &str) {
    boxed(out, kind, |b| {
        boxed(b, b"data", |b| {
            put_all(b, &[1, 0]); // UTF-8, any country
            b.extend_from_slice(text.as_bytes());
        });
    });
}

/// Appends a box: its size is known once `body` has run.
fn boxed(out: &mut Vec<u8>, kind: &[u8; 4], body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put32(out, 0);
    out.extend_from_slice(kind);
    body(out);
    // Callers bound recipe and fragment far below 4 GiB.
    let size = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

fn full(
    out: &mut Vec<u8>,
    kind: &[u8; 4],
    version: u8,
    flags: u32,
    body: impl FnOnce(&mut Vec<u8>),
) {
    boxed(out, kind, |b| {
        put32(b, u32::from(version) << 24 | flags);
        body(b);
    });
}

fn put16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_all(out: &mut Vec<u8>, values: &[u32]) {
    for &value in values {
        put32(out, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_exact_for_the_usual_rates() {
        let clock = |fps| (Clock::new(fps).timescale, Clock::new(fps).frame_ticks);
        assert_eq!(clock(16.0), (16_000, 1000));
        assert_eq!(clock(24.0), (24_000, 1000));
        assert_eq!(clock(23.976), (24_000, 1001));
        assert_eq!(clock(30_000.0 / 1001.0), (30_000, 1001));
        assert_eq!(clock(59.94), (60_000, 1001));
        assert_eq!(clock(12.5), (12_500, 1000));
        assert_eq!(clock(0.1), (100, 1000));
        assert_eq!(clock(1000.0), (1_000_000, 1000));
    }

    #[test]
    fn sizes_and_offsets_of_a_fragment_agree() {
        let samples = [
            Sample {
                bytes: 3,
                is_key: true,
            },
            Sample {
                bytes: 2,
                is_key: false,
            },
        ];
        let out = fragment(7, Clock::new(8.0), 5, &samples, b"abcde");
        let moof = u32::from_be_bytes(out[..4].try_into().unwrap()) as usize;
        assert_eq!(&out[4..8], b"moof");
        assert_eq!(&out[moof + 4..moof + 8], b"mdat");
        assert_eq!(&out[moof + 8..], b"abcde");
        let trun = out.windows(4).position(|w| w == b"trun").unwrap();
        let offset = u32::from_be_bytes(out[trun + 12..trun + 16].try_into().unwrap()) as usize;
        assert_eq!(offset, moof + 8);
    }

    #[test]
    fn the_last_word_is_the_size_of_the_index() {
        let point = SeekPoint {
            ticks: 0,
            moof_at: 100,
            sample: 1,
        };
        let out = trailer(&[point, point], Some("{}"));
        let size = u32::from_be_bytes(out[out.len() - 4..].try_into().unwrap()) as usize;
        assert_eq!(&out[out.len() - size + 4..][..4], b"mfra");
        assert_eq!(out.len() - size, 8 + 16 + 2);
    }

    #[test]
    fn the_length_stands_in_mehd() {
        let film = Header {
            width: 16,
            height: 16,
            clock: Clock::new(16.0),
            sps: &[0x67, 66, 0, 30],
            pps: &[0x68],
            comment: None,
        };
        let (out, at) = header(&film);
        assert_eq!(&out[at as usize - 8..][..4], b"mehd");
    }
}

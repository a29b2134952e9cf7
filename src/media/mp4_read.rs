//! Reads back what matters of an MP4, ours or another's: size, rate, whole frames, recipe. Any bytes are safe to read.
//!
//! Boxes are walked in a loop of fixed depth, sizes are checked against the file before anything is allocated, and a cut-off
//! end is no fault: fragments that are whole count.

use std::io::{self, Read, Seek, SeekFrom};

use super::mp4::{COMMENT, RECIPE_UUID};

/// Largest header that is read: ours has some kilobytes, an hour of another program's film some megabytes.
const MAX_MOOV: u64 = 64 << 20;
/// Largest fragment head that is read.
const MAX_MOOF: u64 = 16 << 20;
/// Boxes at the top of a file: two a frame for a day at 60 frames a second, and some.
const MAX_BOXES: u32 = 16 << 20;

/// What an MP4 holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Film {
    pub width: u32,
    pub height: u32,
    /// Ticks a second, never 0.
    pub timescale: u32,
    /// Frames that can be played.
    pub frames: u64,
    /// Length of those in ticks.
    pub ticks: u64,
    /// Has its index: the run that wrote it came to its end.
    pub is_finished: bool,
    /// The newest recipe, as JSON that nobody has checked.
    pub recipe: Option<Vec<u8>>,
}

/// Why a file could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// What is wrong and where.
    Damaged(&'static str, u64),
    /// What the system said.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Walks the file; `max_recipe` bounds what is read for the recipe.
pub(super) fn scan(file: &mut (impl Read + Seek), max_recipe: u64) -> Result<Film, Fault> {
    let len = file.seek(SeekFrom::End(0))?;
    let mut film: Option<Film> = None;
    let mut track = Track::default();
    let mut pending = None; // the fragment head whose data must follow
    let mut at = 0;
    for _ in 0..MAX_BOXES {
        let Some(head) = box_head(file, at, len)? else {
            break;
        };
        let is_whole = head.end <= len;
        let mut payload = |max: u64| -> Result<Vec<u8>, Fault> {
            if !is_whole {
                return Err(Fault::Damaged("the file ends inside its header", len));
            }
            payload(file, &head, max)
        };
        match &head.kind {
            b"moov" if film.is_none() => {
                film = Some(
                    moov(&payload(MAX_MOOV)?, &mut track)
                        .map_err(|what| Fault::Damaged(what, at))?,
                )
            }
            b"moof" if is_whole => pending = moof(&payload(MAX_MOOF)?, &track),
            b"mdat" if is_whole => {
                if let (Some(film), Some((frames, ticks))) = (film.as_mut(), pending.take()) {
                    film.frames = film.frames.saturating_add(frames);
                    film.ticks = film.ticks.saturating_add(ticks);
                }
            }
            b"mfra" if is_whole => film.iter_mut().for_each(|film| film.is_finished = true),
            b"uuid"
                if is_whole
                    && 16 <= head.end - head.body
                    && head.end - head.body - 16 <= max_recipe =>
            {
                let bytes = payload(max_recipe + 16)?;
                if let (Some(film), Some(json)) = (film.as_mut(), bytes.strip_prefix(&RECIPE_UUID))
                {
                    film.recipe = Some(json.to_vec());
                }
            }
            _ => {}
        }
        at = head.end;
        if !is_whole {
            break;
        }
    }
    film.ok_or(Fault::Damaged("there is no movie header", at.min(len)))
}

struct Head {
    kind: [u8; 4],
    body: u64,
    end: u64,
}

/// The box at `at`; none where fewer than 8 bytes are left. Its end may lie past the file's.
fn box_head(file: &mut (impl Read + Seek), at: u64, len: u64) -> Result<Option<Head>, Fault> {
    if len.saturating_sub(at) < 8 {
        return Ok(None);
    }
    let mut bytes = [0; 16];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes[..8])?;
    let (size, kind) = (
        u64::from(be32(&bytes, 0)),
        [bytes[4], bytes[5], bytes[6], bytes[7]],
    );
    let (head_bytes, size) = match size {
        0 => (8, len - at),
        1 if len - at < 16 => return Ok(None),
        1 => {
            file.read_exact(&mut bytes[8..])?;
            (16, be64(&bytes, 8))
        }
        _ => (8, size),
    };
    if size < head_bytes {
        return Err(Fault::Damaged("a box is smaller than its own head", at));
    }
    let end = at
        .checked_add(size)
        .ok_or(Fault::Damaged("a box is larger than any file", at))?;
    Ok(Some(Head {
        kind,
        body: at + head_bytes,
        end,
    }))
}

fn payload(file: &mut (impl Read + Seek), head: &Head, max: u64) -> Result<Vec<u8>, Fault> {
    let len = head.end - head.body;
    if max < len {
        return Err(Fault::Damaged(
            "a box is larger than is sensible",
            head.body,
        ));
    }
    let mut bytes = vec![0; len as usize];
    file.seek(SeekFrom::Start(head.body))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Defaults of the video track.
#[derive(Debug, Default)]
struct Track {
    id: u32,
    default_duration: u32,
}

fn moov(bytes: &[u8], track: &mut Track) -> Result<Film, &'static str> {
    let is_video = |trak: &&[u8]| {
        path(trak, &[b"mdia", b"hdlr"]).is_some_and(|hdlr| hdlr.get(8..12) == Some(b"vide"))
    };
    let trak = boxes(bytes)
        .filter(|(kind, _)| kind == b"trak")
        .map(|(_, body)| body)
        .find(is_video);
    let trak = trak.ok_or("there is no video track")?;
    let tkhd = child(trak, b"tkhd").ok_or("the track has no header")?;
    let mdhd = path(trak, &[b"mdia", b"mdhd"]).ok_or("the track has no clock")?;
    let stbl = path(trak, &[b"mdia", b"minf", b"stbl"]).ok_or("the track has no sample table")?;
    let entry = child(stbl, b"stsd")
        .and_then(|stsd| boxes(stsd.get(8..)?).next())
        .ok_or("the track has no format")?
        .1;
    // Version 1 has dates of 8 bytes; in both boxes the wanted word follows the two dates.
    let after_dates = |body: &[u8]| word(body, if body.first() == Some(&1) { 20 } else { 12 });
    let timescale = after_dates(mdhd).filter(|&ticks| 0 < ticks);
    track.id = after_dates(tkhd).ok_or("the track has no number")?;
    let size = |at: usize| {
        Some(u32::from(u16::from_be_bytes(
            entry.get(at..at + 2)?.try_into().ok()?,
        )))
    };
    let mut film = Film {
        width: size(24).ok_or("the format has no size")?,
        height: size(26).ok_or("the format has no size")?,
        timescale: timescale.ok_or("the track's clock stands still")?,
        recipe: comment(bytes),
        ..Film::default()
    };
    match child(bytes, b"mvex") {
        Some(mvex) => {
            let trex = boxes(mvex)
                .filter(|(kind, _)| kind == b"trex")
                .find(|(_, b)| word(b, 4) == Some(track.id));
            track.default_duration = trex.and_then(|(_, body)| word(body, 12)).unwrap_or(0);
        }
        // Written in one piece, by another program: the header tells everything.
        None => {
            film.frames = child(stbl, b"stsz")
                .and_then(|stsz| word(stsz, 8))
                .map_or(0, u64::from);
            film.ticks = child(stbl, b"stts").map_or(0, stts_ticks);
            film.is_finished = true;
        }
    }
    Ok(film)
}

/// Text of the comment tag.
fn comment(moov: &[u8]) -> Option<Vec<u8>> {
    // `meta` is a full box here: 4 bytes of version and flags come first.
    let meta = path(moov, &[b"udta", b"meta"])?.get(4..)?;
    let data = path(meta, &[b"ilst", &COMMENT, b"data"])?;
    data.get(8..).map(<[u8]>::to_vec)
}

fn stts_ticks(stts: &[u8]) -> u64 {
    let entries = stts.get(8..).unwrap_or_default().chunks_exact(8);
    entries.fold(0, |sum, entry| {
        sum.saturating_add(u64::from(be32(entry, 0)) * u64::from(be32(entry, 4)))
    })
}

/// Frames and ticks of one fragment; none when it is broken or of another track only.
fn moof(bytes: &[u8], track: &Track) -> Option<(u64, u64)> {
    let (mut frames, mut ticks) = (0u64, 0u64);
    for (_, traf) in boxes(bytes).filter(|(kind, _)| kind == b"traf") {
        let tfhd = child(traf, b"tfhd")?;
        if word(tfhd, 4)? != track.id {
            continue;
        }
        let flags = word(tfhd, 0)?;
        // Optional fields, in this order: base offset (8 bytes), description, duration.
        let at = 8 + if flags & 1 != 0 { 8 } else { 0 } + if flags & 2 != 0 { 4 } else { 0 };
        let duration = if flags & 8 != 0 {
            word(tfhd, at)?
        } else {
            track.default_duration
        };
        for (_, trun) in boxes(traf).filter(|(kind, _)| kind == b"trun") {
            let (run_frames, run_ticks) = run(trun, duration)?;
            frames = frames.saturating_add(run_frames);
            ticks = ticks.saturating_add(run_ticks);
        }
    }
    (0 < frames).then_some((frames, ticks))
}

fn run(trun: &[u8], duration: u32) -> Option<(u64, u64)> {
    let (flags, count) = (word(trun, 0)?, word(trun, 4)?);
    let start = 8 + 4 * ((flags & 0x5).count_ones() as usize);
    let stride = 4 * ((flags & 0xf00).count_ones() as usize);
    let rows = trun.get(start..)?;
    if (rows.len() as u64) < u64::from(count) * stride as u64 {
        return None; // more frames than there is room for
    }
    let ticks = if flags & 0x100 != 0 {
        rows.chunks_exact(stride)
            .take(count as usize)
            .map(|row| u64::from(be32(row, 0)))
            .sum()
    } else {
        u64::from(count) * u64::from(duration)
    };
    Some((u64::from(count), ticks))
}

/// The boxes in `bytes`, until one does not fit.
fn boxes(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<8>()?;
        let kind = [head[4], head[5], head[6], head[7]];
        let (start, size) = match be32(head, 0) {
            0 => (8, bytes.len()),
            1 => (
                16,
                usize::try_from(be64(bytes.first_chunk::<16>()?, 8)).ok()?,
            ),
            size => (8, size as usize),
        };
        let body = bytes.get(start..size)?;
        bytes = &bytes[size..];
        Some((kind, body))
    })
}

fn child<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    boxes(bytes)
        .find(|(found, _)| found == kind)
        .map(|(_, body)| body)
}

fn path<'a>(bytes: &'a [u8], kinds: &[&[u8; 4]]) -> Option<&'a [u8]> {
    kinds
        .iter()
        .try_fold(bytes, |bytes, kind| child(bytes, kind))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|word| be32(word, 0))
}

/// Callers pass at least `at + 4` bytes.
fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Callers pass at least `at + 8` bytes.
fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

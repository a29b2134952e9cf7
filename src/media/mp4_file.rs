//! Writes a fragmented MP4 so that the file is playable after every system call, and takes back what a full disk cut off.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::mp4::{self, Clock, Header, Sample, SeekPoint};
use super::yuv::Geometry;
use super::{Error, h264::H264, opened};
use crate::frame::Frame;

/// A fragment ends after this many bytes even within a second: it bounds memory.
const MAX_FRAGMENT_BYTES: usize = 32 << 20;
/// Time between two calls of `sync_data`. A killed process loses nothing without it; it is for power cuts. For 60 kB it took
/// 0.4 ms on a virtual disk with ext4, ten times the write itself; spinning disks take tens of milliseconds.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// An MP4 in the making.
pub(super) struct Mp4File {
    path: PathBuf,
    file: File,
    h264: H264,
    clock: Clock,
    frames_per_fragment: usize,
    /// Place of the film's length in the header.
    length_at: u64,
    /// Bytes of the header and all whole fragments.
    whole_bytes: u64,
    frames: u64,
    sequence: u32,
    points: Vec<SeekPoint>,
    last_sync: Instant,
}

impl Mp4File {
    /// Opens the file and writes its header; `comment` is the recipe.
    pub(super) fn create(
        path: &Path,
        overwrite: bool,
        geometry: Geometry,
        fps: f64,
        comment: Option<&str>,
    ) -> Result<Self, Error> {
        check_size(geometry)?;
        let h264 = H264::new(geometry, fps)?;
        let file = opened::create(path, overwrite)?;
        let clock = Clock::new(fps);
        let (width, height) = geometry.even();
        let (width, height) = (width as u16, height as u16); // at most 3840, by check_size
        let (header, length_at) = mp4::header(&Header {
            width,
            height,
            clock,
            sps: &h264.sps,
            pps: &h264.pps,
            comment,
        });
        let mut this = Self {
            path: path.to_path_buf(),
            file,
            h264,
            clock,
            frames_per_fragment: fps.ceil().max(1.0) as usize,
            length_at,
            whole_bytes: 0,
            frames: 0,
            sequence: 0,
            points: Vec::new(),
            last_sync: Instant::now(),
        };
        this.append(&header)?;
        Ok(this)
    }

    /// Frames in the file.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.whole_bytes
    }

    /// Encodes and writes `frames`: one fragment, or one a second when they last longer.
    pub(super) fn write_chunk(&mut self, frames: &[Frame]) -> Result<(), Error> {
        let mut rest = frames;
        while !rest.is_empty() {
            let result = self.write_fragment(rest);
            if result.is_err() {
                // The encoder refers to frames that never reached the file: begin afresh.
                self.h264.restart();
            }
            rest = &rest[result?..];
        }
        Ok(())
    }

    /// Marks the film as finished.
    pub(super) fn finish(&mut self, last_recipe: Option<&str>) -> Result<(), Error> {
        let trailer = mp4::trailer(&self.points, last_recipe);
        self.append(&trailer)?;
        self.sync()
    }

    /// Writes one fragment of the first frames of `frames` and returns how many it took.
    fn write_fragment(&mut self, frames: &[Frame]) -> Result<usize, Error> {
        let mut data = Vec::new();
        let mut samples = Vec::new();
        for frame in frames.iter().take(self.frames_per_fragment) {
            let before = data.len();
            let index = self.frames + samples.len() as u64;
            let is_key = self.h264.encode(index, frame, &mut data)?;
            samples.push(Sample {
                bytes: (data.len() - before) as u32,
                is_key,
            });
            if MAX_FRAGMENT_BYTES <= data.len() {
                break;
            }
        }
        let moof_at = self.whole_bytes;
        self.append(&mp4::fragment(
            self.sequence + 1,
            self.clock,
            self.frames,
            &samples,
            &data,
        ))?;
        self.sequence += 1;
        for (i, _) in samples
            .iter()
            .enumerate()
            .filter(|(_, sample)| sample.is_key)
        {
            let ticks = self.clock.ticks(self.frames + i as u64);
            self.points.push(SeekPoint {
                ticks,
                moof_at,
                sample: i as u32 + 1,
            });
        }
        self.frames += samples.len() as u64;
        self.patch_length()?;
        if SYNC_EVERY <= self.last_sync.elapsed() {
            self.sync()?;
        }
        Ok(samples.len())
    }

    /// Appends `bytes` in one call. On failure the file is cut back to what was whole before.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self
            .file
            .seek(SeekFrom::Start(self.whole_bytes))
            .and_then(|_| self.file.write_all(bytes));
        match written {
            Ok(()) => {
                self.whole_bytes += bytes.len() as u64;
                Ok(())
            }
            Err(source) => {
                if let Err(e) = self.file.set_len(self.whole_bytes) {
                    log::debug!("the broken end of {:?} stays: {e}", self.path);
                }
                Err(self.failed(source))
            }
        }
    }

    /// Brings the length in the header up to date, so that players show the right one even after a kill.
    fn patch_length(&mut self) -> Result<(), Error> {
        let ticks = self.clock.ticks(self.frames);
        self.file
            .seek(SeekFrom::Start(self.length_at))
            .and_then(|_| self.file.write_all(&ticks.to_be_bytes()))
            .map_err(|source| self.failed(source))
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.last_sync = Instant::now();
        match self.file.sync_data() {
            // Devices and some network file systems cannot sync; the data are as safe there as they get.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            result => result.map_err(|source| self.failed(source)),
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::write(&self.path, self.frames, source)
    }
}

fn check_size(geometry: Geometry) -> Result<(), Error> {
    let (width, height) = geometry.even();
    let (long, short) = (width.max(height), width.min(height));
    let why = if 3840 < long || 2160 < short {
        "more than the H.264 encoder takes, 3840x2160; lower --scale, or write .y4m or .png"
    } else if short < 16 {
        "less than the H.264 encoder takes, 16x16; raise --scale, or write .y4m or .png"
    } else {
        return Ok(());
    };
    Err(Error::Size {
        width: width as u64,
        height: height as u64,
        scale: geometry.scale as u32,
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::recipe;

    #[test]
    fn after_a_failed_write_the_same_frames_can_be_given_again() {
        let path = std::env::temp_dir().join(format!("longtake-retry-{}.mp4", std::process::id()));
        let geometry = Geometry {
            width: 16,
            height: 16,
            scale: 1,
        };
        let frames = vec![
            Frame {
                width: 16,
                height: 16,
                rgb: vec![77; 16 * 16 * 3]
            };
            3
        ];
        let mut film = Mp4File::create(&path, true, geometry, 4.0, None).unwrap();
        film.write_chunk(&frames).unwrap();
        // A handle that may only read fails every write.
        let writable = std::mem::replace(&mut film.file, File::open(&path).unwrap());
        let error = film.write_chunk(&frames).err().unwrap();
        assert!(
            matches!(error, Error::Write { frames_kept: 3, .. }),
            "{error}"
        );
        film.file = writable;
        film.write_chunk(&frames).unwrap();
        film.finish(None).unwrap();
        let at: Vec<_> = film.points.iter().map(|point| point.ticks / 1000).collect();
        assert_eq!(at, [0, 3], "the frame after the gap is a key frame");
        assert_eq!(recipe::read(&path).unwrap().frames, Some(6));
        std::fs::remove_file(&path).unwrap();
    }
}

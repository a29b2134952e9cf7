//! Raw YUV4MPEG2: lossless but for 8-bit YUV, for pipes into players and encoders. Full colour resolution (C444).
//!
//! The format cannot name its colour matrix, so we use the one that readers assume: BT.601 below HD size, BT.709 from 1280
//! pixels across or 577 rows on. Limited range. There is no place for a recipe; it lies beside the file.
//!
//! Source: the yuv4mpeg(5) manual page of mjpegtools; the size rule is mpv's.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::mp4::Clock;
use super::yuv::{BT601, BT709, Geometry, Matrix, Planes, enlarge};
use super::{Error, opened};
use crate::frame::Frame;

/// A stream in the making.
pub(super) struct Y4m {
    path: PathBuf,
    out: Out,
    geometry: Geometry,
    matrix: Matrix,
    planes: Planes,
    buffer: Vec<u8>,
    frames: u64,
    bytes: u64,
}

enum Out {
    File(File),
    Stdout,
}

impl Y4m {
    /// Opens the file, or standard output for `-`, and writes the stream's head.
    pub(super) fn create(
        path: &Path,
        overwrite: bool,
        geometry: Geometry,
        fps: f64,
    ) -> Result<Self, Error> {
        let out = if path == Path::new("-") {
            Out::Stdout
        } else {
            Out::File(opened::create(path, overwrite)?)
        };
        let (width, height) = geometry.enlarged();
        let mut this = Self {
            path: path.to_path_buf(),
            out,
            geometry,
            matrix: if 1280 <= width || 576 < height {
                BT709
            } else {
                BT601
            },
            planes: Planes::default(),
            buffer: head(geometry, Clock::new(fps)).into_bytes(),
            frames: 0,
            bytes: 0,
        };
        this.append()?;
        Ok(this)
    }

    /// Frames written.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes written.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes frames, one call each.
    pub(super) fn write_chunk(&mut self, frames: &[Frame]) -> Result<(), Error> {
        for frame in frames {
            self.planes.convert(frame, &self.matrix);
            self.buffer.extend_from_slice(b"FRAME\n");
            for plane in [&self.planes.y, &self.planes.u, &self.planes.v] {
                enlarge(plane, 1, self.geometry, &mut self.buffer);
            }
            self.append()?;
            self.frames += 1;
        }
        Ok(())
    }

    /// Makes sure that a file is on the disk.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        match &self.out {
            Out::File(file) => match file.sync_data() {
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                    ) =>
                {
                    Ok(())
                }
                result => result.map_err(|source| Error::write(&self.path, self.frames, source)),
            },
            Out::Stdout => Ok(()),
        }
    }

    fn append(&mut self) -> Result<(), Error> {
        let result = match &mut self.out {
            Out::File(file) => {
                let written = file.write_all(&self.buffer);
                if written.is_err() {
                    // Best effort, and impossible for a pipe: readers drop half a frame at the end anyway.
                    let _ = file
                        .set_len(self.bytes)
                        .and_then(|()| file.seek(SeekFrom::Start(self.bytes)));
                }
                written
            }
            Out::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&self.buffer).and_then(|()| stdout.flush())
            }
        };
        let len = self.buffer.len() as u64;
        self.buffer.clear();
        result.map_err(|source| Error::write(&self.path, self.frames, source))?;
        self.bytes += len;
        Ok(())
    }
}

fn head(geometry: Geometry, clock: Clock) -> String {
    let (width, height) = geometry.enlarged();
    let divisor = gcd(clock.timescale, clock.frame_ticks);
    let (num, den) = (clock.timescale / divisor, clock.frame_ticks / divisor);
    format!("YUV4MPEG2 W{width} H{height} F{num}:{den} Ip A1:1 C444 XCOLORRANGE=LIMITED\n")
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_shortened() {
        let geometry = Geometry {
            width: 2,
            height: 3,
            scale: 2,
        };
        assert_eq!(
            head(geometry, Clock::new(16.0)),
            "YUV4MPEG2 W4 H6 F16:1 Ip A1:1 C444 XCOLORRANGE=LIMITED\n"
        );
        assert!(head(geometry, Clock::new(23.976)).contains(" F24000:1001 "));
        assert!(head(geometry, Clock::new(12.5)).contains(" F25:2 "));
    }
}

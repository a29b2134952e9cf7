//! Files that the window writes, into the folder it was started in; nothing is ever overwritten.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use longtake::compare::Files;
use longtake::frame::Frame;
use longtake::media::{self, Spec, VideoWriter};

use crate::versus::Report;

/// Names to try for a file that is there already.
const TRIES: u32 = 10_000;

/// `name`, or `name` with the first number that is free before its suffix.
fn free(folder: &Path, name: &str) -> Option<PathBuf> {
    let first = folder.join(name);
    if !first.exists() {
        return Some(first);
    }
    let (stem, suffix) = name.split_once('.').unwrap_or((name, ""));
    (2..TRIES)
        .map(|i| folder.join(format!("{stem}-{i}.{suffix}")))
        .find(|p| !p.exists())
}

/// Writes a file; gives the path it got.
///
/// # Errors
/// No free name, or the system refused.
pub fn file(folder: &Path, name: &str, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    let path = free(folder, name).context("no free name is left")?;
    std::fs::write(&path, bytes).with_context(|| path.display().to_string())?;
    Ok(path)
}

/// Writes the report of a comparison, its figures beside it; gives the path of the page.
///
/// # Errors
/// No free name, or the system refused.
pub fn report(folder: &Path, name: &str, report: &Report) -> anyhow::Result<PathBuf> {
    let path = free(folder, name).context("no free name is left")?;
    let files = Files::new(&path, false)?;
    files.write(&report.comparison()?)?;
    Ok(path)
}

/// Writes frames as an MP4; gives the path it got.
///
/// # Errors
/// No free name, or the writer refused.
pub fn film(folder: &Path, name: &str, frames: &[Arc<Frame>], fps: u32) -> anyhow::Result<PathBuf> {
    let path = free(folder, name).context("no free name is left")?;
    let first = frames.first().context("there is no frame to save")?;
    let spec = Spec {
        width: first.width,
        height: first.height,
        fps: f64::from(fps),
        scale: media::default_scale(first.width, first.height),
        frames: Some(frames.len() as u64),
        overwrite: false,
        recipe: None,
    };
    let mut writer = VideoWriter::create(&path, &spec)?;
    for chunk in frames.chunks(fps.max(1) as usize) {
        let owned: Vec<Frame> = chunk.iter().map(|f| Frame::clone(f)).collect();
        writer.write_chunk(&owned)?;
    }
    writer.finish()?;
    Ok(path)
}

//! Writes the film beside its making: one named thread, two chunks in flight at most.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use anyhow::Context as _;
use longtake::frame::Frame;
use longtake::media::{self, VideoWriter};

/// Chunks that wait for the writer before generation does.
const WAITING: usize = 2;

/// The writing thread.
pub(super) struct Encoder {
    chunks: SyncSender<Vec<Frame>>,
    thread: JoinHandle<Written>,
}

/// What the thread leaves behind.
pub(super) struct Written {
    /// The film, to be finished.
    pub(super) writer: VideoWriter,
    /// Seconds of encoding and writing.
    pub(super) secs: f64,
    /// Why it stopped before its last chunk.
    pub(super) fault: Option<media::Error>,
}

impl Encoder {
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(writer: VideoWriter) -> anyhow::Result<Encoder> {
        let (chunks, inbox) = mpsc::sync_channel(WAITING);
        let thread = Builder::new()
            .name("encode".into())
            .spawn(move || write_all(writer, &inbox))
            .context("the thread that writes the film")?;
        Ok(Encoder { chunks, thread })
    }

    /// Hands a chunk over, waiting where the writer is behind. False once the writer has failed: then call
    /// [`Encoder::close`].
    pub(super) fn push(&self, frames: Vec<Frame>) -> bool {
        self.chunks.send(frames).is_ok()
    }

    /// Waits until everything handed over is written, or failed.
    ///
    /// # Errors
    /// When the thread broke down, which is a bug.
    pub(super) fn close(self) -> anyhow::Result<Written> {
        drop(self.chunks);
        self.thread.join().map_err(|_| {
            anyhow::anyhow!("the thread that writes the film broke down; please report it")
        })
    }
}

fn write_all(mut writer: VideoWriter, inbox: &Receiver<Vec<Frame>>) -> Written {
    let (mut secs, mut fault) = (0.0, None);
    for frames in inbox {
        let begun = Instant::now();
        let written = writer.write_chunk(&frames);
        secs += begun.elapsed().as_secs_f64();
        if let Err(err) = written {
            fault = Some(err);
            break;
        }
    }
    Written {
        writer,
        secs,
        fault,
    }
}

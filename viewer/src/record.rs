//! The film into a file while it is made, on a thread of its own. A film that goes back is written again up to there.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use longtake::frame::Frame;
use longtake::media::{Format, Recipe, Spec, VideoWriter};

use crate::fault::causes;

/// Where the film goes, and how.
#[derive(Debug, Clone)]
pub struct Record {
    /// The file, or a pattern of pictures.
    pub path: PathBuf,
    /// What is there may be replaced.
    pub overwrite: bool,
    /// Frames a second; `None`: the film's.
    pub fps: Option<u32>,
    /// Enlargement; `None`: the format's.
    pub scale: Option<u32>,
    /// Given frames come first.
    pub show_given: bool,
    /// No recipe in it.
    pub no_metadata: bool,
}

enum Order {
    Cut(usize),
    Push {
        given: Vec<Arc<Frame>>,
        made: Vec<Arc<Frame>>,
        fps: u32,
    },
    Finish(Box<Recipe>),
}

/// The window's end of the thread.
pub struct Recorder {
    orders: Sender<Order>,
    thread: std::thread::JoinHandle<anyhow::Result<Option<PathBuf>>>,
}

impl Recorder {
    /// Starts the thread; nothing is written before the first frame. `failed` is told once why nothing more is written, outermost
    /// cause first, and that while the film goes on.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        record: Record,
        failed: impl FnOnce(Vec<String>) + Send + 'static,
    ) -> std::io::Result<Recorder> {
        let (orders, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name("record".into())
            .spawn(move || {
                let mut file = File {
                    record,
                    given: Vec::new(),
                    made: Vec::new(),
                    fps: 1,
                    writer: None,
                };
                for order in inbox {
                    let done = match order {
                        Order::Cut(n) => file.cut(n),
                        Order::Push { given, made, fps } => file.push(given, made, fps),
                        Order::Finish(recipe) => return file.finish(&recipe),
                    };
                    if let Err(e) = done {
                        failed(causes(e.as_ref()));
                        return Err(e);
                    }
                }
                // The window is gone without a word: what is written stays.
                file.finish(&Recipe::new())
            })?;
        Ok(Recorder { orders, thread })
    }

    /// The film went back to its first `n` made frames.
    pub fn cut(&mut self, n: usize) {
        // A thread that has failed says so at the end.
        let _ = self.orders.send(Order::Cut(n));
    }

    /// More made frames; `given`: those before the first.
    pub fn push(&mut self, given: Vec<Arc<Frame>>, made: Vec<Arc<Frame>>, fps: u32) {
        let _ = self.orders.send(Order::Push { given, made, fps });
    }

    /// Ends the file; gives its path, `None` where nothing was made.
    ///
    /// # Errors
    /// What went wrong while it was written.
    pub fn finish(self, recipe: Recipe) -> anyhow::Result<Option<PathBuf>> {
        let _ = self.orders.send(Order::Finish(Box::new(recipe)));
        self.thread
            .join()
            .map_err(|_| anyhow::anyhow!("the thread that writes the film ended"))?
    }
}

struct File {
    record: Record,
    given: Vec<Arc<Frame>>,
    made: Vec<Arc<Frame>>,
    fps: u32,
    writer: Option<VideoWriter>,
}

impl File {
    fn push(
        &mut self,
        given: Vec<Arc<Frame>>,
        made: Vec<Arc<Frame>>,
        fps: u32,
    ) -> anyhow::Result<()> {
        (self.given, self.fps) = (given, fps);
        let from = self.made.len();
        self.made.extend(made);
        self.write(from)
    }

    /// Begins again: what follows will not be what was written.
    fn cut(&mut self, n: usize) -> anyhow::Result<()> {
        self.made.truncate(n);
        if let Some(writer) = self.writer.take() {
            writer.finish()?;
            // The file is the recorder's own by now.
            self.record.overwrite = true;
        }
        match self.made.is_empty() {
            true => Ok(()),
            false => self.write(0),
        }
    }

    fn write(&mut self, from: usize) -> anyhow::Result<()> {
        let owned = |frames: &[Arc<Frame>]| -> Vec<Frame> {
            frames.iter().map(|f| Frame::clone(f)).collect()
        };
        if self.writer.is_none() {
            let Some(first) = self.made.first() else {
                return Ok(());
            };
            let (r, format) = (&self.record, Format::from_path(&self.record.path)?);
            let scale = format.default_scale(first.width, first.height);
            let begun = Recipe::new();
            let spec = Spec {
                width: first.width,
                height: first.height,
                fps: f64::from(r.fps.unwrap_or(self.fps)),
                scale: r.scale.unwrap_or(scale),
                frames: None,
                overwrite: r.overwrite,
                recipe: (!r.no_metadata).then_some(&begun),
            };
            let mut writer = VideoWriter::create(&r.path, &spec)?;
            if r.show_given {
                writer.write_chunk(&owned(&self.given))?;
            }
            self.writer = Some(writer);
            return self.write(0);
        }
        if let Some(writer) = &mut self.writer {
            writer.write_chunk(&owned(&self.made[from..]))?;
        }
        Ok(())
    }

    fn finish(self, recipe: &Recipe) -> anyhow::Result<Option<PathBuf>> {
        let Some(writer) = self.writer else {
            return Ok(None);
        };
        match self.record.no_metadata {
            true => writer.finish()?,
            false => writer.finish_with(recipe)?,
        };
        Ok(Some(self.record.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(v: u8) -> Arc<Frame> {
        Arc::new(Frame {
            width: 16,
            height: 16,
            rgb: vec![v; 16 * 16 * 3],
        })
    }

    #[test]
    fn a_film_that_goes_back_is_written_again() {
        let folder = std::env::temp_dir().join(format!("longtake-record-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("film.y4m");
        let mut r = Recorder::start(
            Record {
                path: path.clone(),
                overwrite: false,
                fps: None,
                scale: Some(1),
                show_given: true,
                no_metadata: true,
            },
            |_| {},
        )
        .unwrap();
        let given = || vec![grey(9)];
        r.push(given(), vec![grey(1), grey(2)], 8);
        r.push(given(), vec![grey(3)], 8);
        let frame = 16 * 16 * 3 / 2 + "FRAME\n".len();
        r.cut(1);
        r.push(given(), vec![grey(4)], 8);
        assert_eq!(r.finish(Recipe::new()).unwrap(), Some(path.clone()));
        let bytes = std::fs::read(&path).unwrap();
        let head = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
        let n = (bytes.len() - head) / frame;
        assert!(n >= 3 && (bytes.len() - head).is_multiple_of(3), "{n}");
        // Given, first, and the one of the other way.
        let rest = (bytes.len() - head) / 3;
        let luma = |i: usize| bytes[head + i * rest + "FRAME\n".len()];
        assert!(
            luma(1) < luma(2) && luma(2) < luma(0),
            "{:?}",
            [0, 1, 2].map(luma)
        );
        std::fs::remove_dir_all(&folder).ok();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_while_the_film_goes_on() {
        let folder = std::env::temp_dir().join(format!("longtake-full-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("film.y4m");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let (tell, told) = channel();
        let mut r = Recorder::start(
            Record {
                path: path.clone(),
                overwrite: true,
                fps: None,
                scale: Some(8),
                show_given: false,
                no_metadata: true,
            },
            move |causes| tell.send(causes).unwrap(),
        )
        .unwrap();
        r.push(Vec::new(), vec![grey(1)], 8);
        let causes = told.recv().unwrap();
        assert!(
            causes[0].contains("No space left") && causes[0].contains("film.y4m"),
            "{causes:?}"
        );
        // What follows is heard by nobody, and the end says it once more.
        r.push(Vec::new(), vec![grey(2)], 8);
        assert!(r.finish(Recipe::new()).is_err());
        std::fs::remove_dir_all(&folder).ok();
    }

    #[test]
    fn nothing_made_is_no_file() {
        let path = std::env::temp_dir().join("longtake-never.y4m");
        let r = Recorder::start(
            Record {
                path: path.clone(),
                overwrite: false,
                fps: None,
                scale: None,
                show_given: false,
                no_metadata: true,
            },
            |_| {},
        )
        .unwrap();
        assert_eq!(r.finish(Recipe::new()).unwrap(), None);
        assert!(!path.exists());
    }
}

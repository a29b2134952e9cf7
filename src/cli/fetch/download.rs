//! One file, from the first byte or from where an earlier try stopped, to its place, with its checksum.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::Context as _;
use longtake::model::preset::ModelFile;
use ring::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use super::bar::Bar;
use super::http::{Facts, HttpError, Web};

/// Tries in a row that bring no byte.
const TRIES: u32 = 5;
/// Wait after the first of them; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Bytes read at a time.
const BLOCK: usize = 256 << 10;

/// What a file must be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sum {
    /// SHA-256 in hexadecimal.
    Sha256(String),
    /// SHA-1 of git's header and the file, in hexadecimal.
    Git(String),
}

impl Sum {
    /// What `facts` promise of `file`.
    fn of(file: &ModelFile, facts: &Facts) -> anyhow::Result<Self> {
        let etag = facts.etag.as_deref().unwrap_or_default();
        let is_hex = etag.bytes().all(|b| b.is_ascii_hexdigit());
        match (&file.sha256, etag.len()) {
            (Some(sum), _) => Ok(Self::Sha256(sum.to_lowercase())),
            (None, 64) if is_hex => Ok(Self::Sha256(etag.to_lowercase())),
            (None, 40) if is_hex => Ok(Self::Git(etag.to_lowercase())),
            _ => anyhow::bail!(
                "the server gives no checksum for {}, so it could not be checked; nothing was downloaded",
                file.path
            ),
        }
    }
}

/// The sum of the bytes so far.
struct Summing {
    wanted: Sum,
    context: digest::Context,
}

impl Summing {
    fn new(wanted: &Sum, bytes: u64) -> Self {
        let context = match wanted {
            Sum::Sha256(_) => digest::Context::new(&SHA256),
            Sum::Git(_) => {
                let mut context = digest::Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                context.update(format!("blob {bytes}\0").as_bytes());
                context
            }
        };
        Self {
            wanted: wanted.clone(),
            context,
        }
    }

    /// The sum that was found and the one that was promised, if they differ.
    fn differs(self) -> Option<(String, String)> {
        let sum = self.context.finish();
        let found: String = sum
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let (Sum::Sha256(wanted) | Sum::Git(wanted)) = self.wanted;
        (found != wanted).then_some((found, wanted))
    }
}

/// Downloads `file` to `to`, unless it is there. What an earlier run left in `TO.incomplete` is kept and continued.
///
/// # Errors
/// When the server refuses or stays silent, the sum is another, the disk is full, or another program downloads the same.
pub(super) fn to_place(
    web: &Web,
    file: &ModelFile,
    facts: &Facts,
    to: &Path,
    lock: &Path,
    bar: &mut Bar,
) -> anyhow::Result<()> {
    let Some(bytes) = facts.bytes else {
        anyhow::bail!(
            "the server does not say how long {} is; try again later",
            file.path
        );
    };
    let _held = lock_file(lock)?;
    // Looked for under the lock: another program may have finished it just now.
    if fs::metadata(to).is_ok_and(|meta| meta.len() == bytes) {
        return Ok(());
    }
    if let Some(known) = file
        .bytes
        .filter(|known| *known != bytes && file.sha256.is_some())
    {
        anyhow::bail!(
            "{} has {bytes} bytes at its source, expected {known}: it was replaced since this version of longtake; \
             download it by hand and name its path",
            file.path
        );
    }
    let wanted = Sum::of(file, facts)?;
    let mut part = Partial::open(&incomplete(to), &wanted, bytes)?;
    bar.start(&file.path, part.done, bytes);
    let (mut tries, mut wait) = (0, FIRST_WAIT);
    while part.done < bytes {
        let before = part.done;
        let failed = match part.receive(web, file, facts, bar) {
            Ok(()) => HttpError::Passing {
                what: "the connection was cut".to_owned(),
                wait: None,
            },
            Err(Failure::Http(err)) => err,
            Err(Failure::Disk(err)) => {
                return Err(err).context(format!("cannot write {:?}", part.path));
            }
        };
        if part.done == bytes {
            break;
        }
        let HttpError::Passing { what, wait: asked } = failed else {
            return Err(failed.into());
        };
        if before < part.done {
            (tries, wait) = (0, FIRST_WAIT);
        }
        tries += 1;
        if TRIES <= tries {
            anyhow::bail!(
                "{what}, {TRIES} times in a row; the {} bytes so far are kept, run the same command to go on: {}",
                part.done,
                file.path
            );
        }
        let pause = asked.unwrap_or(wait);
        bar.message(&format!("{what}; going on in {} s", pause.as_secs()));
        sleep(pause);
        wait *= 2;
    }
    bar.finish();
    part.settle(to, &file.path)
}

/// Bytes that are still to come of a file that goes `to` some place.
pub(super) fn bytes_to_come(facts: &Facts, to: &Path) -> u64 {
    let here = fs::metadata(incomplete(to)).map_or(0, |meta| meta.len());
    facts.bytes.unwrap_or(0).saturating_sub(here)
}

/// `X.incomplete`, the hub's own name for it.
fn incomplete(to: &Path) -> PathBuf {
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".incomplete");
    to.with_file_name(name)
}

/// Held until it is dropped; the hub's own tools lock the same file.
fn lock_file(path: &Path) -> anyhow::Result<File> {
    let open = || -> io::Result<File> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        OpenOptions::new().create(true).append(true).open(path)
    };
    let file = open().with_context(|| format!("cannot make the lock {path:?}"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!("another program is downloading this file; wait for it to end: {path:?}")
        }
        // Some network folders have no locks; then two programs at once are the user's to avoid.
        Err(TryLockError::Error(err)) => {
            log::warn!("no lock on {path:?}: {err}");
            Ok(file)
        }
    }
}

enum Failure {
    Http(HttpError),
    Disk(io::Error),
}

/// A file that is not whole yet.
struct Partial {
    path: PathBuf,
    file: File,
    done: u64,
    bytes: u64,
    sum: Summing,
    wanted: Sum,
}

impl Partial {
    /// Opens what there is and sums it up; too long a file is begun anew.
    fn open(path: &Path, wanted: &Sum, bytes: u64) -> anyhow::Result<Self> {
        let open = || -> io::Result<Self> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(path)?;
            let mut part = Self {
                path: path.to_owned(),
                file,
                done: 0,
                bytes,
                sum: Summing::new(wanted, bytes),
                wanted: wanted.clone(),
            };
            match part.file.metadata()?.len() {
                len if bytes < len => part.file.set_len(0)?,
                _ => part.sum_up()?,
            }
            Ok(part)
        };
        open().with_context(|| format!("cannot write {path:?}"))
    }

    fn sum_up(&mut self) -> io::Result<()> {
        let mut block = vec![0; BLOCK];
        loop {
            match self.file.read(&mut block)? {
                0 => return Ok(()),
                n => {
                    self.sum.context.update(&block[..n]);
                    self.done += n as u64;
                }
            }
        }
    }

    /// Starts over.
    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.sum = Summing::new(&self.wanted, self.bytes);
        self.done = 0;
        Ok(())
    }

    /// Takes what one answer brings. Every byte that came is kept, whatever ends it.
    fn receive(
        &mut self,
        web: &Web,
        file: &ModelFile,
        facts: &Facts,
        bar: &mut Bar,
    ) -> Result<(), Failure> {
        let stream = web.stream(file, facts, self.done);
        let mut stream = stream.map_err(Failure::Http)?;
        if stream.start != self.done {
            // The server does not continue; then it sends the whole.
            if stream.start != 0 {
                return Err(Failure::Http(HttpError::Final(
                    "the server sends another part of the file than was asked for".to_owned(),
                )));
            }
            self.restart().map_err(Failure::Disk)?;
        }
        let mut block = vec![0; BLOCK];
        while self.done < self.bytes {
            let room =
                usize::try_from(self.bytes - self.done).map_or(BLOCK, |left| left.min(BLOCK));
            let n = match stream.reader.read(&mut block[..room]) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => {
                    return Err(Failure::Http(HttpError::Passing {
                        what: format!("the connection was cut ({err})"),
                        wait: None,
                    }));
                }
            };
            self.file.write_all(&block[..n]).map_err(Failure::Disk)?;
            self.sum.context.update(&block[..n]);
            self.done += n as u64;
            bar.set(self.done);
        }
        Ok(())
    }

    /// Checks the sum, and gives the file its name in one step.
    fn settle(self, to: &Path, name: &str) -> anyhow::Result<()> {
        if let Some((found, wanted)) = self.sum.differs() {
            drop(self.file);
            fs::remove_file(&self.path)
                .with_context(|| format!("cannot remove {:?}", self.path))?;
            anyhow::bail!(
                "{name} was damaged on its way: its checksum is {found}, expected {wanted}; it was removed, run the same \
                 command to download it again"
            );
        }
        let put = || {
            self.file.sync_all()?;
            fs::rename(&self.path, to)
        };
        put().with_context(|| format!("cannot move {:?} to {to:?}", self.path))
    }
}

//! Opens outputs without clobbering: what is there stays unless the user said otherwise, and a run in progress is left alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::{Error, recipe};

/// Opens `path` for writing from the start. With `overwrite` an existing file is emptied, unless another run holds it.
pub(super) fn create(path: &Path, overwrite: bool) -> Result<File, Error> {
    make_folder(path)?;
    let mut options = OpenOptions::new();
    options.write(true);
    if overwrite {
        options.create(true)
    } else {
        options.create_new(true)
    };
    let file = options.open(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => Error::Open {
            path: path.to_path_buf(),
            source,
        },
    })?;
    // Elsewhere a lock keeps players from reading the file.
    if cfg!(unix) && matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        return Err(Error::InUse {
            path: path.to_path_buf(),
        });
    }
    file.set_len(0)
        .or_else(|source| if is_device(path) { Ok(()) } else { Err(source) })
        .map_err(|source| Error::Open {
            path: path.to_path_buf(),
            source,
        })?;
    Ok(file)
}

/// Makes the folder that `path` lies in.
pub(super) fn make_folder(path: &Path) -> Result<(), Error> {
    let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    else {
        return Ok(());
    };
    fs::create_dir_all(folder).map_err(|source| Error::Open {
        path: folder.to_path_buf(),
        source,
    })
}

/// Writes `bytes` beside `path` and renames: a reader, or a kill, never meets half a file.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let result = File::create(&part)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&part, path));
    if result.is_err() {
        // Best effort: the first error is the one to report.
        let _ = fs::remove_file(&part);
    }
    result
}

/// The refusal to overwrite, with what is known of the file.
pub(super) fn exists(path: &Path) -> Error {
    if cfg!(unix)
        && File::open(path)
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    {
        return Error::InUse {
            path: path.to_path_buf(),
        };
    }
    let found = match recipe::read(path) {
        Ok(info) if info.kind == recipe::Kind::Json => {
            "the recipe would be stored here, and an earlier one is".to_owned()
        }
        Ok(info) => match (info.frames, info.finished) {
            (Some(n), Some(false)) => {
                let secs = info.secs().unwrap_or_default();
                format!(
                    "the file exists and looks unfinished: {n} frames ({secs:.1} s) can be played, the mark of a finished film is missing"
                )
            }
            (Some(n), _) => format!("the file exists and holds {n} frames"),
            _ => "the file exists".to_owned(),
        },
        Err(_) => "the file exists".to_owned(),
    };
    Error::Exists {
        found,
        path: path.to_path_buf(),
    }
}

fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| !meta.is_file())
}

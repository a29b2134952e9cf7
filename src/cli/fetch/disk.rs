//! How much room is left where downloads go.

use std::path::Path;

/// Bytes that this user may still write on the disk of `path`, which need not exist yet; `None`: the system does not tell.
#[cfg(unix)]
pub(super) fn free_bytes(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|folder| folder.exists())?;
    // Of a relative path nothing is left in the end, which stands for the folder that one is in.
    let there = match there.as_os_str().is_empty() {
        true => Path::new("."),
        false => there,
    };
    let disk = rustix::fs::statvfs(there).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// Bytes that this user may still write on the disk of `path`; not known here.
#[cfg(not(unix))]
pub(super) fn free_bytes(_: &Path) -> Option<u64> {
    None
}

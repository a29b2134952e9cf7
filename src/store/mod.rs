//! Where model files lie on a machine: the cache that Hugging Face's own tools use, ComfyUI's folders, and plain folders; which of
//! them a text model is made of; and the way from a prompt to the rows that its network takes.
//!
//! What is left out: the environment, which callers read, and downloads.

mod error;
mod model;
mod prompter;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::preset::{ModelFile, Source};

pub use error::Error;
pub use model::{Decoding, Found, Named, name_of};
pub use prompter::{Prompter, Ready, placed};

/// Where files are looked for, and where they are downloaded to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The hub's cache: `models--owner--name/{blobs,refs,snapshots}`.
    hub: PathBuf,
    /// Files that come from elsewhere: `github--owner--name/`.
    own: PathBuf,
    /// ComfyUI, or its `models` folder.
    comfyui: Option<PathBuf>,
}

impl Store {
    /// As variables say, which `var` gives, none where they are unset or empty; `home`: the user's folder. `None` where no
    /// place is known at all.
    ///
    /// Source: huggingface_hub, `constants.py`: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `XDG_CACHE_HOME/huggingface/hub`,
    /// else `~/.cache/huggingface/hub`.
    pub fn of(
        var: impl Fn(&str) -> Option<String>,
        home: Option<PathBuf>,
        comfyui: Option<PathBuf>,
    ) -> Option<Self> {
        let hub = match (var("HF_HUB_CACHE"), hub_home(&var, home.clone())) {
            (Some(hub), _) => PathBuf::from(hub),
            (None, home) => home?.join("hub"),
        };
        let own = cache_home(&var, home)
            .map(|cache| cache.join("longtake"))
            .unwrap_or_else(|| hub.join("longtake"));
        Some(Self { hub, own, comfyui })
    }

    /// The first place that has `file`: the cache that it would be downloaded to, then ComfyUI.
    pub fn find(&self, file: &ModelFile) -> Option<PathBuf> {
        let cached = match file.source {
            Source::HuggingFace => self.repo(&file.repo).find(&file.path),
            Source::Github => Some(self.own_path(file)).filter(|path| path.is_file()),
        };
        cached.or_else(|| in_comfyui(self.comfyui.as_deref()?, file))
    }

    /// Where encoded prompts are kept.
    pub fn embeddings(&self) -> PathBuf {
        self.own.join("embeddings")
    }

    /// The hub's folder of one repository.
    pub fn repo(&self, repo: &str) -> Repo {
        let name = format!("models--{}", repo.replace('/', "--"));
        Repo {
            locks: self.hub.join(".locks").join(&name),
            folder: self.hub.join(name),
        }
    }

    /// Where a file that is not the hub's is kept.
    pub fn own_path(&self, file: &ModelFile) -> PathBuf {
        let repo = format!("github--{}", file.repo.replace('/', "--"));
        self.own.join(repo).join(&file.path)
    }
}

/// Finds `file` in a folder that a user names: a snapshot or a copy of its repository, a folder with the file itself, or ComfyUI.
pub fn in_folder(folder: &Path, file: &ModelFile) -> Option<PathBuf> {
    let direct = [folder.join(&file.path), folder.join(file.file_name())];
    let direct = direct.into_iter().find(|path| path.is_file());
    direct.or_else(|| in_comfyui(folder, file))
}

fn in_comfyui(root: &Path, file: &ModelFile) -> Option<PathBuf> {
    let folders = file.part.comfyui_folders();
    [root.join("models"), root.to_owned()]
        .iter()
        .find_map(|models| {
            folders.iter().find_map(|folder| {
                let paths = file
                    .comfyui
                    .iter()
                    .map(|name| models.join(folder).join(name));
                paths.into_iter().find(|path| path.is_file())
            })
        })
}

/// `HF_HOME`, or what stands for it; `var` and `home` as for [`Store::of`].
pub fn hub_home(var: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Option<PathBuf> {
    let cache = || cache_home(&var, home).map(|cache| cache.join("huggingface"));
    var("HF_HOME").map(PathBuf::from).or_else(cache)
}

fn cache_home(var: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Option<PathBuf> {
    let xdg = var("XDG_CACHE_HOME").map(PathBuf::from);
    xdg.or_else(|| home.map(|home| home.join(".cache")))
}

/// One repository in the hub's cache.
#[derive(Debug, Clone)]
pub struct Repo {
    folder: PathBuf,
    locks: PathBuf,
}

impl Repo {
    /// The file at the newest revision that was downloaded here, else at any other: a repository's files may have come at
    /// different times.
    pub fn find(&self, path: &str) -> Option<PathBuf> {
        // A revision that was asked for by its commit is there without it.
        let newest = fs::read_to_string(self.folder.join("refs/main")).unwrap_or_default();
        let folders = fs::read_dir(self.folder.join("snapshots")).ok();
        let others = folders.into_iter().flatten().flatten();
        let others = others.filter_map(|folder| folder.file_name().into_string().ok());
        // What stands in the file becomes a folder's name.
        std::iter::once(newest.trim().to_owned())
            .chain(others)
            .filter(|commit| is_name(commit))
            .map(|commit| self.snapshot(&commit, path))
            .find(|at| at.is_file())
    }

    /// Where the file with this checksum lies once it is complete.
    pub fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// Where the lock on it lies.
    pub fn lock(&self, etag: &str) -> PathBuf {
        self.locks.join(format!("{etag}.lock"))
    }

    fn snapshot(&self, commit: &str, path: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit).join(path)
    }

    /// Makes the blob known under its path at `commit`, and `commit` the newest revision: a symbolic link, else a hard one, else the
    /// file itself is moved there. `links`: symbolic ones may be made.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn publish(
        &self,
        etag: &str,
        commit: &str,
        path: &str,
        links: bool,
    ) -> io::Result<PathBuf> {
        let blob = self.blob(etag);
        let at = self.snapshot(commit, path);
        if let Some(folder) = at.parent() {
            fs::create_dir_all(folder)?;
        }
        if !at.is_file() {
            // A link to a blob that is gone may be in the way.
            let _ = fs::remove_file(&at);
            let up = "../".repeat(path.split('/').count() + 1);
            let linked = links
                && symlink(Path::new(&format!("{up}blobs/{etag}")), &at).is_ok()
                && at.is_file();
            if !linked {
                let _ = fs::remove_file(&at);
                fs::hard_link(&blob, &at).or_else(|_| fs::rename(&blob, &at))?;
            }
        }
        let refs = self.folder.join("refs");
        fs::create_dir_all(&refs)?;
        fs::write(refs.join("main"), commit)?;
        Ok(at)
    }
}

/// Whether a name from a server may become that of a file.
pub fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(unix)]
fn symlink(to: &Path, at: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(windows)]
fn symlink(to: &Path, at: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(to, at)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_at_the_newest_revision_else_at_any() {
        let root = std::env::temp_dir().join(format!("longtake-store-{}", std::process::id()));
        let var =
            |name: &str| (name == "HF_HUB_CACHE").then(|| root.to_string_lossy().into_owned());
        let repo = Store::of(var, Some(root.clone()), None)
            .unwrap()
            .repo("a/b");
        assert_eq!(repo.find("x"), None);
        let at = |commit: &str| repo.snapshot(commit, "x");
        let put = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(at("aa11"), "");
        assert_eq!(repo.find("x"), Some(at("aa11")));
        put(at("bb22"), "");
        put(repo.folder.join("refs/main"), "bb22\n");
        assert_eq!(repo.find("x"), Some(at("bb22")));
        put(repo.folder.join("refs/main"), "../../evil");
        assert!(repo.find("x").is_some());
        fs::remove_dir_all(&root).unwrap();
    }
}

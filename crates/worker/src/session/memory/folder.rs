//! A memory store's directory on disk. Only regular files count; no link is followed, wherever it leads.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::merge::Sha;

const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Longest file that is read to be sent, in bytes; the platform takes 100 KiB.
const FILE_LEN_MAX: u64 = 1 << 20;
/// Files that are looked at; a store has 2000 memories at most.
const FILES_MAX: usize = 20_000;
/// A file that changed this shortly before it was read may change again without its times showing it.
const SETTLED: Duration = Duration::from_secs(2);
const CHUNK_LEN: usize = 64 * 1024;

/// Why a file cannot be handled as a memory.
#[derive(Debug, thiserror::Error)]
pub(super) enum FolderError {
    #[error("the path leads out of the store")]
    LeadsOut,
    #[error("it is no regular file")]
    NotAFile,
    #[error("it is no UTF-8 text")]
    NotText,
    #[error("it is longer than {FILE_LEN_MAX} bytes")]
    TooLong,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A file as it was when it was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hashed {
    /// Modification and change, seconds and nanoseconds, and length.
    times: (i64, i64, i64, i64, u64),
    sha: Sha,
}

/// The directory. Cheap to clone; clones share what is known of the files.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
    hashed: Arc<Mutex<HashMap<String, Hashed>>>,
}

impl Folder {
    /// Names the directory; it is made by [`Folder::create`].
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, hashed: Arc::default() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether anything at all is at its path.
    pub(super) fn exists(&self) -> io::Result<bool> {
        match fs::symlink_metadata(&self.root) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn create(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(DIR_MODE).create(&self.root)
    }

    /// Every regular file below, by its path in the store, with its checksum.
    pub(super) fn scan(&self) -> io::Result<BTreeMap<String, Sha>> {
        let mut found = BTreeMap::new();
        let mut dirs = vec![String::new()];
        while let Some(dir) = dirs.pop() {
            let entries = match fs::read_dir(self.root.join(&dir)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                // What is no UTF-8 has no path at the platform.
                let Ok(name) = entry.file_name().into_string() else { continue };
                let relative = if dir.is_empty() { name } else { format!("{dir}/{name}") };
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    dirs.push(relative);
                } else if kind.is_file()
                    && found.len() < FILES_MAX
                    && let Some(sha) = self.checksum(&relative)?
                {
                    found.insert(relative, sha);
                }
            }
        }
        Ok(found)
    }

    /// A file's checksum; `None` where there is no regular file.
    pub(super) fn checksum(&self, relative: &str) -> io::Result<Option<Sha>> {
        let path = self.root.join(relative);
        let metadata = match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let times = times(&metadata);
        let mut hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hashed.get(relative).filter(|known| known.times == times) {
            return Ok(Some(known.sha.clone()));
        }
        let Some(sha) = checksum_of_file(&path)? else { return Ok(None) };
        let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > SETTLED) {
            hashed.insert(relative.to_owned(), Hashed { times, sha: sha.clone() });
        }
        Ok(Some(sha))
    }

    /// Writes a file whole or not at all. The store's directory itself is never made: one that was removed
    /// meanwhile stays removed.
    pub(super) fn put(&self, relative: &str, content: &str) -> Result<(), FolderError> {
        let path = self.place(relative)?;
        let mut dir = self.root.clone();
        let parent = Path::new(relative).parent().unwrap_or(Path::new(""));
        for part in parent.components() {
            dir.push(part);
            match DirBuilder::new().mode(DIR_MODE).create(&dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error.into());
                }
                Ok(()) | Err(_) => {}
            }
            if !fs::symlink_metadata(&dir)?.is_dir() {
                return Err(FolderError::LeadsOut);
            }
        }
        let temporary = path.with_file_name(format!(".fs-{}.tmp", Uuid::new_v4().simple()));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(FILE_MODE)
                .custom_flags(O_NOFOLLOW)
                .open(&temporary)?;
            file.write_all(content.as_bytes())?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|error| {
            // It may not even have come into being.
            let _ = fs::remove_file(&temporary);
            error.into()
        })
    }

    /// A file's text; `None` where there is none.
    pub(super) fn get(&self, relative: &str) -> Result<Option<String>, FolderError> {
        let path = self.place(relative)?;
        let Some(file) = open_regular(&path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_LEN_MAX {
            return Err(FolderError::TooLong);
        }
        String::from_utf8(bytes).map(Some).map_err(|_| FolderError::NotText)
    }

    pub(super) fn remove(&self, relative: &str) -> Result<(), FolderError> {
        match fs::remove_file(self.place(relative)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes the directory with all that is in it.
    pub(super) fn dispose(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn place(&self, relative: &str) -> Result<PathBuf, FolderError> {
        let inside = !relative.is_empty()
            && relative.split('/').all(|part| !matches!(part, "" | "." | ".."))
            && !relative.contains(['\\', '\0']);
        if inside { Ok(self.root.join(relative)) } else { Err(FolderError::LeadsOut) }
    }
}

fn times(found: &Metadata) -> (i64, i64, i64, i64, u64) {
    (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec(), found.len())
}

/// Opens a regular file and nothing else: opening a pipe may never come back.
fn open_regular(path: &Path) -> Result<Option<File>, FolderError> {
    let flags = O_NOFOLLOW | O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if file.metadata()?.is_file() { Ok(Some(file)) } else { Err(FolderError::NotAFile) }
}

fn checksum_of_file(path: &Path) -> io::Result<Option<Sha>> {
    let mut file = match open_regular(path) {
        Ok(Some(file)) => file,
        Ok(None) | Err(FolderError::NotAFile) => return Ok(None),
        Err(FolderError::Io(error)) => return Err(error),
        Err(FolderError::LeadsOut | FolderError::NotText | FolderError::TooLong) => {
            return Ok(None);
        }
    };
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_LEN];
    loop {
        let len = file.read(&mut chunk)?;
        if len == 0 {
            return Ok(Some(hex::encode(hash.finalize())));
        }
        hash.update(chunk.get(..len).unwrap_or_default());
    }
}

/// The checksum of a text.
pub(super) fn checksum(text: &str) -> Sha {
    hex::encode(Sha256::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("store"));
        assert!(!folder.exists().unwrap());
        folder.create().unwrap();
        (dir, folder)
    }

    #[test]
    fn a_file_is_private_and_read_back() {
        let (_dir, folder) = folder();
        folder.put("a/b.md", "text").unwrap();
        assert_eq!(folder.get("a/b.md").unwrap().as_deref(), Some("text"));
        let scan = folder.scan().unwrap();
        assert_eq!(scan, BTreeMap::from([("a/b.md".to_owned(), checksum("text"))]));
        let mode = |path: &str| {
            fs::metadata(folder.root().join(path)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("a/b.md"), mode("a"), mode("")), (0o600, 0o700, 0o700));
    }

    #[test]
    fn no_path_and_no_link_leads_out() {
        let (dir, folder) = folder();
        for path in ["../evil", "a/../../evil", "/etc/evil", "", "a//b", "a\\b"] {
            assert!(matches!(folder.put(path, "x"), Err(FolderError::LeadsOut)), "{path}");
        }
        fs::create_dir(dir.path().join("outside")).unwrap();
        symlink(dir.path().join("outside"), folder.root().join("link")).unwrap();
        assert!(matches!(folder.put("link/evil", "x"), Err(FolderError::LeadsOut)));
        fs::write(dir.path().join("outside/secret"), "s").unwrap();
        symlink(dir.path().join("outside/secret"), folder.root().join("file")).unwrap();
        assert!(folder.get("file").is_err());
        assert!(folder.scan().unwrap().is_empty());
    }

    #[test]
    fn a_directory_that_was_removed_is_not_made_again_by_a_write() {
        let (_dir, folder) = folder();
        folder.dispose().unwrap();
        assert!(folder.put("a.md", "x").is_err());
        assert!(!folder.exists().unwrap());
    }
}

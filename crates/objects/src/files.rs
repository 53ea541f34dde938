//! Where the bytes are: `data/<two letters>/<id>`, made in `incoming/` and moved there when they are
//! whole and on the disk. Ids are random; a file never changes.

use crate::ObjectsError;
use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// Bytes that are copied at once.
const COPY_BYTES: usize = 256 * 1024;

/// The directory of one store.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    dir: PathBuf,
}

/// Says what was attempted when a file could not be used.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ObjectsError {
    move |source| ObjectsError::File { action, path: path.to_owned(), source }
}

/// Name of a new file.
pub(crate) fn new_id() -> String {
    Uuid::new_v4().simple().to_string()
}

impl Files {
    /// Makes the directories; what was coming in when the last process ended goes.
    pub(crate) fn open(dir: &Path) -> Result<Self, ObjectsError> {
        let files = Self { dir: dir.to_owned() };
        let incoming = files.incoming_dir();
        match fs::remove_dir_all(&incoming) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("emptying", &incoming)(error)),
        }
        for path in [incoming, files.data_dir()] {
            private_dir(&path).map_err(failed("making", &path))?;
        }
        Ok(files)
    }

    fn incoming_dir(&self) -> PathBuf {
        self.dir.join("incoming")
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Place of a file by its id, which is 32 hexadecimal digits.
    pub(crate) fn path(&self, id: &str) -> PathBuf {
        self.data_dir().join(id.get(..2).unwrap_or("__")).join(id)
    }

    pub(crate) fn create_incoming(&self, id: &str) -> Result<(File, PathBuf), ObjectsError> {
        let path = self.incoming_dir().join(id);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        Ok((file.map_err(failed("making", &path))?, path))
    }

    /// Puts a file in its place once its bytes are on the disk, and the entry too.
    pub(crate) fn keep(&self, file: &File, from: &Path, id: &str) -> Result<(), ObjectsError> {
        file.sync_all().map_err(failed("writing", from))?;
        let to = self.path(id);
        self.make_place(&to)?;
        fs::rename(from, &to).map_err(failed("moving", from))?;
        sync_parent(&to)
    }

    /// The same bytes under another name, without copying them where the file system allows.
    pub(crate) fn link(&self, from: &str, to: &str) -> Result<(), ObjectsError> {
        let (from, to) = (self.path(from), self.path(to));
        self.make_place(&to)?;
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).map_err(failed("copying", &from))?;
            File::open(&to).and_then(|file| file.sync_all()).map_err(failed("writing", &to))?;
        }
        sync_parent(&to)
    }

    fn make_place(&self, path: &Path) -> Result<(), ObjectsError> {
        let parent = path.parent().unwrap_or(&self.dir);
        private_dir(parent).map_err(failed("making", parent))
    }

    /// What cannot be removed is found again at the next start.
    pub(crate) fn remove<'a>(&self, ids: impl IntoIterator<Item = &'a String>) {
        for id in ids {
            let path = self.path(id);
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "a file of an object stays behind");
            }
        }
    }

    /// Removes files that no row names: left by a process that ended between the two.
    pub(crate) fn remove_strangers(&self, known: &HashSet<String>) -> Result<usize, ObjectsError> {
        let mut removed = 0;
        for shelf in entries(&self.data_dir())? {
            for path in entries(&shelf)? {
                let id = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if !known.contains(id) {
                    fs::remove_file(&path).map_err(failed("removing", &path))?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    /// Hands bytes `from..to` of a file to `take`, piece by piece.
    pub(crate) fn read_range(
        &self,
        id: &str,
        range: std::ops::Range<u64>,
        mut take: impl FnMut(&[u8]) -> Result<(), ObjectsError>,
    ) -> Result<(), ObjectsError> {
        let path = self.path(id);
        let file = File::open(&path).map_err(failed("opening", &path))?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut at = range.start;
        while at < range.end {
            let wanted = usize::try_from(range.end - at).unwrap_or(COPY_BYTES).min(COPY_BYTES);
            let piece = buffer.get_mut(..wanted).unwrap_or_default();
            file.read_exact_at(piece, at).map_err(failed("reading", &path))?;
            take(piece)?;
            at += wanted as u64;
        }
        Ok(())
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, ObjectsError> {
    let list = fs::read_dir(dir).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
    });
    list.map_err(failed("listing", dir))
}

fn private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync_parent(path: &Path) -> Result<(), ObjectsError> {
    let parent = path.parent().unwrap_or(path);
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed("writing", parent))
}

/// Reads on until the buffer is full or the file ends.
pub(crate) fn read_full(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(free) = buffer.get_mut(filled..).filter(|free| !free.is_empty()) {
        match file.read(free) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

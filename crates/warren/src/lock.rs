//! One process a data directory: who holds it is written into the lock itself.

use crate::failure::{Exit, Remedy};
use rustix::fs::{FlockOperation, Mode, flock};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Held until it is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("{dir} is in use by {holder}")]
    Held { dir: PathBuf, holder: String },
    #[error("{path} cannot be used")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Remedy for LockError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Held { .. } => {
                "stop it first (warren down), or take another --data-dir and port".into()
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run it with sudo, or take another --data-dir".into()
            }
            Self::Io { .. } => "take another --data-dir".into(),
        })
    }
    fn exit(&self) -> Exit {
        Exit::Failed
    }
}

impl Lock {
    /// Takes `<dir>/<name>.lock`, making the directory (mode 0700) where it is missing. `holder` is
    /// what others are told.
    ///
    /// # Errors
    /// [`LockError::Held`] with the holder's own words.
    pub(crate) fn take(dir: &Path, name: &str, holder: &str) -> Result<Self, LockError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Io { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io(dir))?;
        let path = dir.join(format!("{name}.lock"));
        let mode = Mode::RUSR.bits() | Mode::WUSR.bits();
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(mode)
            .open(&path)
            .map_err(io(&path))?;
        if let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if e != rustix::io::Errno::WOULDBLOCK {
                return Err(io(&path)(e.into()));
            }
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(io(&path))?;
            return Err(LockError::Held { dir: dir.to_owned(), holder: holder.trim().to_owned() });
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{holder} (process {})", std::process::id()));
        written.map_err(io(&path))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path(), "warren", "warren up on 127.0.0.1:7420").unwrap();
        let error = Lock::take(dir.path(), "warren", "another").unwrap_err().to_string();
        let pid = std::process::id();
        assert!(
            error.ends_with(&format!("warren up on 127.0.0.1:7420 (process {pid})")),
            "{error}"
        );
        drop(first);
        Lock::take(dir.path(), "warren", "another").unwrap();
    }
}

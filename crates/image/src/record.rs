//! What is kept of a build: its result under its key, and the disks.

use crate::{artifact::field, error::BuildError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use wire::App;

/// A build's result as it is kept on disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Name of the disk.
    pub(crate) rootfs: String,
    pub(crate) app: App,
}

/// Results and disks of one installation.
///
/// ```text
/// <work_dir>/builds/<key>.{json,lock}     result of each build
/// <work_dir>/rootfs/<name>.{ext4,lock}    disks
/// <work_dir>/rootfs/making-*/             disks in the making
/// ```
#[derive(Debug, Clone)]
pub(crate) struct Records {
    pub(crate) work_dir: PathBuf,
}

/// Beginning of the names of directories in which disks are made.
pub(crate) const MAKING: &str = "making-";

impl Records {
    pub(crate) fn open(&self) -> Result<(), BuildError> {
        for dir in [self.builds_dir(), self.rootfs_dir()] {
            fs::create_dir_all(&dir).map_err(|source| BuildError::io("making", &dir, source))?;
        }
        Ok(())
    }

    fn builds_dir(&self) -> PathBuf {
        self.work_dir.join("builds")
    }

    pub(crate) fn rootfs_dir(&self) -> PathBuf {
        self.work_dir.join("rootfs")
    }

    pub(crate) fn build_lock(&self, key: &str) -> PathBuf {
        self.builds_dir().join(format!("{key}.lock"))
    }

    pub(crate) fn disk_lock(&self, name: &str) -> PathBuf {
        self.rootfs_dir().join(format!("{name}.lock"))
    }

    pub(crate) fn disk(&self, name: &str) -> PathBuf {
        self.rootfs_dir().join(format!("{name}.ext4"))
    }

    /// Writes a finished disk through to the host's disk and gives it its name.
    pub(crate) async fn keep_disk(&self, made: PathBuf, name: &str) -> Result<(), BuildError> {
        let path = self.disk(name);
        let to = path.clone();
        let kept = tokio::task::spawn_blocking(move || {
            chown(&made, Some(0), Some(0))?;
            fs::set_permissions(&made, fs::Permissions::from_mode(0o444))?;
            fs::File::open(&made)?.sync_all()?;
            fs::rename(&made, &to)
        });
        match kept.await {
            Ok(result) => result.map_err(|source| BuildError::io("keeping", &path, source)),
            Err(error) => Err(BuildError::Died(error.to_string())),
        }
    }

    /// What an earlier build with this key made; None also where its disk or record is gone bad. Its
    /// disk is noted as used now.
    pub(crate) fn recall(&self, key: &str) -> Result<Option<Record>, BuildError> {
        let path = self.builds_dir().join(format!("{key}.json"));
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BuildError::io("reading", &path, error)),
        };
        match serde_json::from_slice::<Record>(&text) {
            Ok(record) => Ok(self.touch(&record.rootfs).then_some(record)),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "unreadable record; building anew");
                Ok(None)
            }
        }
    }

    /// Notes that a disk is used now; false where it is not there.
    pub(crate) fn touch(&self, name: &str) -> bool {
        let file = fs::File::open(self.disk(name));
        file.and_then(|file| file.set_modified(SystemTime::now())).is_ok()
    }

    pub(crate) fn record(&self, key: &str, record: &Record) -> Result<(), BuildError> {
        let path = self.builds_dir().join(format!("{key}.json"));
        let io = |source: io::Error| BuildError::io("writing", &path, source);
        let text = serde_json::to_vec_pretty(record).map_err(|error| io(error.into()))?;
        let mut file = tempfile::NamedTempFile::new_in(self.builds_dir()).map_err(io)?;
        io::Write::write_all(&mut file, &text).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        file.persist(&path).map_err(|error| io(error.error))?;
        Ok(())
    }

    /// What broken builds left.
    pub(crate) fn left_over(&self) -> Result<Vec<PathBuf>, BuildError> {
        let mut paths = entries(&self.rootfs_dir())?;
        let in_making = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(MAKING) || name.ends_with(".partial")
        };
        paths.retain(in_making);
        Ok(paths)
    }

    pub(crate) fn remove_left_over(&self) -> Result<(), BuildError> {
        for path in self.left_over()? {
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|source| BuildError::io("removing", &path, source))?;
        }
        Ok(())
    }

    /// Disks that no template is made from (those have another name of it), the longest unused first.
    pub(crate) fn unused_disks(&self) -> Result<Vec<UnusedDisk>, BuildError> {
        let mut disks = Vec::new();
        for path in entries(&self.rootfs_dir())? {
            let is_disk = path.extension().is_some_and(|extension| extension == "ext4");
            // One that goes meanwhile is none.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if is_disk && metadata.nlink() == 1 {
                let used_at = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                disks.push(UnusedDisk { path, bytes: metadata.blocks() * 512, used_at });
            }
        }
        disks.sort_by_key(|disk| disk.used_at);
        Ok(disks)
    }

    /// Removes records and locks whose disk is gone. The caller knows that no build runs.
    pub(crate) fn remove_orphans(&self) -> Result<(), BuildError> {
        let remove = |path: &Path| {
            fs::remove_file(path).map_err(|source| BuildError::io("removing", path, source))
        };
        for path in entries(&self.builds_dir())? {
            let record = fs::read(&path).ok();
            let record = record.and_then(|text| serde_json::from_slice::<Record>(&text).ok());
            if !record.is_some_and(|record| self.disk(&record.rootfs).exists()) {
                remove(&path)?;
            }
        }
        for path in entries(&self.rootfs_dir())? {
            let is_lock = path.extension().is_some_and(|extension| extension == "lock");
            if is_lock && !path.with_extension("ext4").exists() {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// A disk that can be made again and is part of nothing.
#[derive(Debug)]
pub(crate) struct UnusedDisk {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) used_at: SystemTime,
}

impl UnusedDisk {
    pub(crate) fn age(&self) -> Duration {
        self.used_at.elapsed().unwrap_or_default()
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let listed = fs::read_dir(dir).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
    });
    listed.map_err(|source| BuildError::io("reading", dir, source))
}

/// Name of the disk of an image.
pub(crate) fn disk_name(format: &[u8], image: &str, bytes: u64) -> String {
    let mut digest = Sha256::new();
    field(&mut digest, b"format", format);
    field(&mut digest, b"image", image.as_bytes());
    field(&mut digest, b"disk", &bytes.to_le_bytes());
    hex::encode(digest.finalize())
}

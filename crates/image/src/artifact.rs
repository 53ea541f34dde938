//! The artifact: what the caller hands in, its Dockerfile, its digest.

use crate::{
    archive::{self, ArchiveError, ArchiveLimits},
    error::BuildError,
};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use walkdir::WalkDir;

const DOCKERFILE: &str = "Dockerfile";
/// Largest Dockerfile that is read, in bytes.
const DOCKERFILE_BYTES_MAX: u64 = 1 << 20;
/// How deep a misplaced Dockerfile is looked for.
const SEARCH_DEPTH_MAX: usize = 3;
const READ_BUFFER_BYTES: usize = 128 * 1024;

/// What is built: a `Dockerfile` at its root and the files that it copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Artifact {
    /// Used where it is, and only read.
    Directory(PathBuf),
    /// As S3 keeps it.
    Zip(PathBuf),
}

/// An artifact laid out as a directory, with what was found out about it.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) dir: PathBuf,
    pub(crate) dockerfile: String,
    /// Of names, modes and contents; hexadecimal SHA-256.
    pub(crate) digest: String,
    /// Removes what was unpacked.
    _unpacked: Option<TempDir>,
}

/// How an artifact is opened: bounds, place for what is unpacked, and who may stop it.
pub(crate) struct Opening<'a> {
    pub(crate) limits: ArchiveLimits,
    pub(crate) temp_dir: &'a Path,
    pub(crate) cancel: &'a CancellationToken,
}

impl Context {
    /// Blocking: reads the whole artifact.
    pub(crate) fn open(artifact: &Artifact, opening: &Opening<'_>) -> Result<Self, BuildError> {
        let (dir, unpacked) = match artifact {
            Artifact::Directory(dir) => {
                let dir = dir
                    .canonicalize()
                    .map_err(|source| BuildError::io("opening the directory", dir, source))?;
                (dir, None)
            }
            Artifact::Zip(file) => {
                let temp = TempDir::new_in(opening.temp_dir).map_err(|source| {
                    BuildError::io("making a directory in", opening.temp_dir, source)
                })?;
                archive::unpack(file, temp.path(), opening.limits, opening.cancel)?;
                (temp.path().to_owned(), Some(temp))
            }
        };
        let dockerfile = read_dockerfile(&dir)?;
        let digest = tree_digest(&dir, opening)?;
        Ok(Self { dir, dockerfile, digest, _unpacked: unpacked })
    }
}

fn read_dockerfile(dir: &Path) -> Result<String, BuildError> {
    let path = dir.join(DOCKERFILE);
    // It may be a link, as long as it leads to a file of the artifact.
    let real = path.canonicalize().ok().filter(|real| real.starts_with(dir) && real.is_file());
    let Some(real) = real else {
        return Err(BuildError::NoDockerfile { found: misplaced_dockerfile(dir) });
    };
    let mut text = String::new();
    File::open(&real)
        .and_then(|file| file.take(DOCKERFILE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|source| BuildError::io("reading", &path, source))?;
    Ok(text)
}

fn misplaced_dockerfile(dir: &Path) -> Option<PathBuf> {
    WalkDir::new(dir)
        .max_depth(SEARCH_DEPTH_MAX)
        .into_iter()
        .filter_map(Result::ok)
        .find(|entry| entry.file_name() == DOCKERFILE && entry.file_type().is_file())
        .and_then(|entry| entry.path().strip_prefix(dir).ok().map(Path::to_owned))
}

/// Digest over all entries in the order of their names. Times and owners are left out: buildah does
/// not look at them either when it decides whether a COPY step is as before.
fn tree_digest(dir: &Path, opening: &Opening<'_>) -> Result<String, BuildError> {
    let mut digest = Sha256::new();
    let mut entries = 0;
    let mut bytes_left = opening.limits.bytes_max;
    for entry in WalkDir::new(dir).min_depth(1).sort_by_file_name() {
        if opening.cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(dir).to_owned();
            BuildError::io("reading", &path, error.into())
        })?;
        entries += 1;
        if entries > opening.limits.entries_max {
            return Err(ArchiveError::TooManyEntries { max: opening.limits.entries_max }.into());
        }
        let path = entry.path();
        let io = |source| BuildError::io("reading", path, source);
        let name = path.strip_prefix(dir).unwrap_or(path).as_os_str().as_bytes();
        let metadata = fs::symlink_metadata(path).map_err(io)?;
        let kind = metadata.file_type();
        if kind.is_file() {
            field(&mut digest, b"file", name);
            digest.update((metadata.permissions().mode() & 0o7777).to_le_bytes());
            let size = hash_file(&mut digest, path).map_err(io)?;
            bytes_left = bytes_left
                .checked_sub(size)
                .ok_or(ArchiveError::TooLarge { max: opening.limits.bytes_max })?;
        } else if kind.is_dir() {
            field(&mut digest, b"directory", name);
            digest.update((metadata.permissions().mode() & 0o7777).to_le_bytes());
        } else if kind.is_symlink() {
            field(&mut digest, b"link", name);
            field(&mut digest, b"to", fs::read_link(path).map_err(io)?.as_os_str().as_bytes());
        } else {
            return Err(ArchiveError::Special(String::from_utf8_lossy(name).into_owned()).into());
        }
    }
    Ok(hex::encode(digest.finalize()))
}

/// Adds a tagged value with its length, so that no two trees give the same bytes.
pub(crate) fn field(digest: &mut Sha256, tag: &[u8], value: &[u8]) {
    for part in [tag, value] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
}

/// Adds the content's own digest: it has a fixed length, which the content need not have.
fn hash_file(digest: &mut Sha256, path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut content = Sha256::new();
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let mut size: u64 = 0;
    loop {
        let count = file.read(&mut buffer)?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
            digest.update(content.finalize());
            return Ok(size);
        };
        content.update(piece);
        size += piece.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn open(dir: &Path) -> Result<Context, BuildError> {
        let temp = tempfile::tempdir().unwrap();
        Context::open(
            &Artifact::Directory(dir.to_owned()),
            &Opening {
                limits: ArchiveLimits::default(),
                temp_dir: temp.path(),
                cancel: &CancellationToken::new(),
            },
        )
    }

    fn directory(files: &[(&str, &str)]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    #[test]
    fn the_digest_follows_content_names_and_modes_only() {
        let files = [("Dockerfile", "FROM scratch"), ("a", "1")];
        let (one, two) = (directory(&files), directory(&files));
        let digest = |dir: &TempDir| open(dir.path()).unwrap().digest;
        let before = digest(&one);
        assert_eq!(before, digest(&two));
        fs::set_permissions(one.path().join("a"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(before, digest(&one));
        fs::rename(two.path().join("a"), two.path().join("b")).unwrap();
        assert_ne!(before, digest(&two));
    }

    #[test]
    fn without_a_dockerfile_the_misplaced_one_is_named() {
        let dir = directory(&[("app/Dockerfile", "FROM scratch")]);
        match open(dir.path()).unwrap_err() {
            BuildError::NoDockerfile { found } => {
                assert_eq!(found.unwrap(), Path::new("app/Dockerfile"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_dockerfile_outside_of_the_artifact_is_not_read() {
        let dir = directory(&[("a", "1")]);
        symlink("/etc/passwd", dir.path().join("Dockerfile")).unwrap();
        assert!(matches!(open(dir.path()), Err(BuildError::NoDockerfile { .. })));
    }

    #[test]
    fn a_pipe_in_the_artifact_is_refused_not_read() {
        let dir = directory(&[("Dockerfile", "FROM scratch")]);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            dir.path().join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        assert!(matches!(
            open(dir.path()),
            Err(BuildError::Archive(ArchiveError::Special(name))) if name == "pipe"
        ));
    }
}

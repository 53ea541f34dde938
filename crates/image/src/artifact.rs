//! The artifact: the zip that the caller hands in, its Dockerfile, its digest.

use crate::{
    archive::{self, ArchiveError, ArchiveLimits},
    error::BuildError,
    sandbox::UID_BASE,
};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{PermissionsExt, lchown},
    },
    path::{Path, PathBuf},
};
use tokio_util::sync::CancellationToken;
use walkdir::WalkDir;

const DOCKERFILE: &str = "Dockerfile";
/// Largest Dockerfile that is read, in bytes.
const DOCKERFILE_BYTES_MAX: u64 = 1 << 20;
/// How deep a misplaced Dockerfile is looked for.
const SEARCH_DEPTH_MAX: usize = 3;
const READ_BUFFER_BYTES: usize = 128 * 1024;

/// An artifact laid out as a directory, with what was found out about it.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) dir: PathBuf,
    pub(crate) dockerfile: String,
    /// Of names, modes and contents; hexadecimal SHA-256.
    pub(crate) digest: String,
}

/// How an artifact is opened: bounds, directory to be made, and who may stop it.
pub(crate) struct Opening<'a> {
    pub(crate) limits: ArchiveLimits,
    pub(crate) dir: &'a Path,
    pub(crate) cancel: &'a CancellationToken,
}

impl Context {
    /// Unpacks the zip for the sandbox's root. Blocking: reads the whole artifact.
    pub(crate) fn open(artifact: &Path, opening: &Opening<'_>) -> Result<Self, BuildError> {
        let dir = opening.dir;
        fs::create_dir(dir).map_err(|source| BuildError::io("making", dir, source))?;
        archive::unpack(artifact, dir, opening.limits, opening.cancel)?;
        let dockerfile = read_dockerfile(dir)?;
        let digest = tree_digest(dir, opening)?;
        hand_over(dir)?;
        Ok(Self { dir: dir.to_owned(), dockerfile, digest })
    }
}

/// Makes the sandbox's root the owner.
fn hand_over(dir: &Path) -> Result<(), BuildError> {
    for entry in WalkDir::new(dir) {
        let entry = entry.map_err(|error| BuildError::io("reading", dir, error.into()))?;
        lchown(entry.path(), Some(UID_BASE), Some(UID_BASE))
            .map_err(|source| BuildError::io("handing over", entry.path(), source))?;
    }
    Ok(())
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
    use std::{fs::File, io::Write};
    use tempfile::TempDir;
    use zip::{ZipWriter, write::SimpleFileOptions};

    /// Opens a zip of these files: name, content, mode.
    fn open(files: &[(&str, &str, u32)]) -> (TempDir, Result<Context, BuildError>) {
        let temp = tempfile::tempdir().unwrap();
        let artifact = temp.path().join("a.zip");
        let mut zip = ZipWriter::new(File::create(&artifact).unwrap());
        for (name, content, mode) in files {
            zip.start_file(*name, SimpleFileOptions::default().unix_permissions(*mode)).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        let dir = temp.path().join("out");
        let cancel = CancellationToken::new();
        let opening = Opening { limits: ArchiveLimits::default(), dir: &dir, cancel: &cancel };
        let opened = Context::open(&artifact, &opening);
        (temp, opened)
    }

    /// Root alone can hand files over to the sandbox's root.
    #[test]
    fn the_digest_follows_content_names_and_modes_only() {
        let digest = |name, content, mode| {
            let files = [("Dockerfile", "FROM scratch", 0o644), (name, content, mode)];
            open(&files).1.unwrap().digest
        };
        let before = digest("a", "1", 0o644);
        assert_eq!(before, digest("a", "1", 0o644));
        for other in [digest("a", "1", 0o755), digest("b", "1", 0o644), digest("a", "2", 0o644)] {
            assert_ne!(before, other);
        }
    }

    #[test]
    fn without_a_dockerfile_the_misplaced_one_is_named() {
        match open(&[("app/Dockerfile", "FROM scratch", 0o644)]).1.unwrap_err() {
            BuildError::NoDockerfile { found } => {
                assert_eq!(found.unwrap(), Path::new("app/Dockerfile"));
            }
            other => panic!("{other:?}"),
        }
    }
}

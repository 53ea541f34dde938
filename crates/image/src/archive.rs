//! Unpacking a zip that a stranger made.
//!
//! Nothing it says is believed: names must stay inside, sizes are counted while they are unpacked,
//! every file is created anew (so no entry replaces or follows another), and symbolic links come
//! last, so that nothing is ever written through one.

use crate::error::BuildError;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, symlink},
    path::{Component, Path, PathBuf},
};
use tokio_util::sync::CancellationToken;
use zip::{CompressionMethod, ZipArchive, read::ZipFile, result::ZipError};

/// Longest target of a symbolic link, in bytes (Linux's PATH_MAX).
const LINK_BYTES_MAX: u64 = 4096;
const COPY_BUFFER_BYTES: usize = 128 * 1024;
/// How far a file may expand: deflate's own limit is about 1032 to 1, real files stay far below.
const EXPANSION_MAX: u64 = 1100;

/// Bounds on an artifact, zip or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Files, directories and links.
    pub entries_max: usize,
    /// Sum of all files' contents, in bytes.
    pub bytes_max: u64,
}

impl Default for ArchiveLimits {
    /// 100,000 entries and 8 GiB: a build's disk holds no more.
    fn default() -> Self {
        Self { entries_max: 100_000, bytes_max: 8 << 30 }
    }
}

/// What is wrong with an artifact.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("it is not a zip file, or a damaged one: {0}")]
    NotZip(String),
    #[error("entry {name:?} is damaged: {what}")]
    Damaged { name: String, what: String },
    #[error("entry {0:?} is encrypted")]
    Encrypted(String),
    #[error("entry {name:?} is compressed with {method}; deflate and store are understood")]
    Compression { name: String, method: String },
    #[error("entry {0:?} would be outside of the artifact")]
    Outside(String),
    #[error("entry {0:?} comes twice, or is a file where another entry needs a directory")]
    Collides(String),
    #[error("{0:?} is neither file, directory nor symbolic link")]
    Special(String),
    #[error("it has more than {max} entries")]
    TooManyEntries { max: usize },
    #[error("its files are more than {max} bytes")]
    TooLarge { max: u64 },
}

impl ArchiveError {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotZip(_) | Self::Damaged { .. } => Some("make it again with `zip -r app.zip .`"),
            Self::Encrypted(_) => Some("make it without a password"),
            Self::Compression { .. } => Some("`zip -r` compresses in a way that is understood"),
            Self::Outside(_) => Some("zip with relative names: `cd app && zip -r ../app.zip .`"),
            Self::TooManyEntries { .. } | Self::TooLarge { .. } => {
                Some("leave out what the Dockerfile does not copy, or fetch it in a RUN step")
            }
            Self::Collides(_) | Self::Special(_) => None,
        }
    }
}

/// Unpacks `archive` into the empty directory `target`.
pub(crate) fn unpack(
    archive: &Path,
    target: &Path,
    limits: ArchiveLimits,
    cancel: &CancellationToken,
) -> Result<(), BuildError> {
    let file = File::open(archive).map_err(|source| BuildError::io("opening", archive, source))?;
    let mut zip = ZipArchive::new(io::BufReader::new(file))
        .map_err(|error| ArchiveError::NotZip(error.to_string()))?;
    if zip.len() > limits.entries_max {
        return Err(ArchiveError::TooManyEntries { max: limits.entries_max }.into());
    }
    let mut unpacker = Unpacker { target, bytes_left: limits.bytes_max, limits, links: Vec::new() };
    for index in 0..zip.len() {
        if cancel.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        refuse_unreadable(&mut zip, index)?;
        let entry = zip.by_index(index).map_err(|error| ArchiveError::NotZip(error.to_string()))?;
        unpacker.entry(entry)?;
    }
    unpacker.make_links()
}

/// What `by_index` would refuse with less to say.
fn refuse_unreadable(
    zip: &mut ZipArchive<io::BufReader<File>>,
    index: usize,
) -> Result<(), ArchiveError> {
    let raw = zip.by_index_raw(index).map_err(|error| ArchiveError::NotZip(error.to_string()))?;
    let name = || raw.name().to_owned();
    if raw.encrypted() {
        return Err(ArchiveError::Encrypted(name()));
    }
    let method = raw.compression();
    if method != CompressionMethod::Stored && method != CompressionMethod::Deflated {
        return Err(ArchiveError::Compression { name: name(), method: method.to_string() });
    }
    Ok(())
}

struct Unpacker<'a> {
    target: &'a Path,
    bytes_left: u64,
    limits: ArchiveLimits,
    /// Link and its target, to be made when all files are there.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Unpacker<'_> {
    fn entry(&mut self, mut entry: ZipFile<'_, io::BufReader<File>>) -> Result<(), BuildError> {
        let name = entry.name().to_owned();
        let Some(relative) = inside(&name) else {
            return Err(ArchiveError::Outside(name).into());
        };
        if entry.is_dir() {
            return self.directory(&relative, &name);
        }
        if relative.as_os_str().is_empty() {
            return Err(ArchiveError::Collides(name).into());
        }
        if let Some(parent) = relative.parent() {
            self.directory(parent, &name)?;
        }
        if entry.is_symlink() {
            let points_to = link_target(&mut entry, &name)?;
            if !stays_inside(&relative, &points_to) {
                return Err(ArchiveError::Outside(name).into());
            }
            self.links.push((relative, points_to));
            return Ok(());
        }
        // Type bits of a Unix entry that is no regular file (0: the packer did not say).
        if entry.unix_mode().is_some_and(|mode| !matches!(mode & 0o170_000, 0 | 0o100_000)) {
            return Err(ArchiveError::Special(name).into());
        }
        self.file(&mut entry, &relative, &name)
    }

    fn directory(&self, relative: &Path, name: &str) -> Result<(), BuildError> {
        let path = self.target.join(relative);
        fs::create_dir_all(&path).map_err(|source| failed_to_make(&path, name, source))
    }

    fn file(
        &mut self,
        entry: &mut ZipFile<'_, io::BufReader<File>>,
        relative: &Path,
        name: &str,
    ) -> Result<(), BuildError> {
        let path = self.target.join(relative);
        let mode = entry.unix_mode().map_or(0o644, |mode| mode & 0o777);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode | 0o400)
            .open(&path)
            .map_err(|source| failed_to_make(&path, name, source))?;
        let bound = entry.compressed_size().saturating_mul(EXPANSION_MAX).saturating_add(1024);
        let mut written: u64 = 0;
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        loop {
            let count = entry.read(&mut buffer).map_err(|error| damaged(name, &error))?;
            let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else {
                return Ok(());
            };
            written += piece.len() as u64;
            if written > bound {
                let what = "it unpacks to more than its size allows".to_owned();
                return Err(ArchiveError::Damaged { name: name.to_owned(), what }.into());
            }
            self.bytes_left = self
                .bytes_left
                .checked_sub(piece.len() as u64)
                .ok_or(ArchiveError::TooLarge { max: self.limits.bytes_max })?;
            file.write_all(piece).map_err(|source| BuildError::io("writing", &path, source))?;
        }
    }

    fn make_links(self) -> Result<(), BuildError> {
        for (relative, points_to) in self.links {
            let path = self.target.join(&relative);
            symlink(points_to, &path)
                .map_err(|source| failed_to_make(&path, &relative.to_string_lossy(), source))?;
        }
        Ok(())
    }
}

/// The entry's name as a relative path that goes nowhere but down; None: it does not stay inside.
fn inside(name: &str) -> Option<PathBuf> {
    if name.contains(['\\', '\0']) {
        return None;
    }
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// Whether a link at `link`, seen from the artifact's root, points below that root by its text.
fn stays_inside(link: &Path, points_to: &Path) -> bool {
    let mut depth = link.components().count().saturating_sub(1);
    for component in points_to.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

fn link_target(
    entry: &mut ZipFile<'_, io::BufReader<File>>,
    name: &str,
) -> Result<PathBuf, ArchiveError> {
    let mut target = String::new();
    let read = entry.take(LINK_BYTES_MAX).read_to_string(&mut target);
    match read {
        Ok(0) => Err(ArchiveError::Damaged {
            name: name.to_owned(),
            what: "a symbolic link to nothing".to_owned(),
        }),
        Ok(_) => Ok(PathBuf::from(target)),
        Err(error) => Err(damaged(name, &error)),
    }
}

fn damaged(name: &str, error: &io::Error) -> ArchiveError {
    ArchiveError::Damaged { name: name.to_owned(), what: error.to_string() }
}

/// A path that cannot be made is the artifact's fault where another entry or its name is in the way.
fn failed_to_make(path: &Path, name: &str, source: io::Error) -> BuildError {
    match source.kind() {
        io::ErrorKind::AlreadyExists
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory => ArchiveError::Collides(name.to_owned()).into(),
        io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput => {
            damaged(name, &source).into()
        }
        _ => BuildError::io("making", path, source),
    }
}

impl From<ZipError> for ArchiveError {
    fn from(error: ZipError) -> Self {
        Self::NotZip(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReasonCode;
    use std::os::unix::fs::PermissionsExt;
    use zip::{ZipWriter, write::SimpleFileOptions};

    type Writer = ZipWriter<File>;

    /// Unpacks what `fill` wrote into a fresh zip.
    fn unpacked(
        limits: ArchiveLimits,
        fill: impl FnOnce(&mut Writer),
    ) -> (tempfile::TempDir, Result<(), BuildError>) {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.zip");
        let mut writer = ZipWriter::new(File::create(&archive).unwrap());
        fill(&mut writer);
        writer.finish().unwrap();
        let target = dir.path().join("out");
        fs::create_dir(&target).unwrap();
        let result = unpack(&archive, &target, limits, &CancellationToken::new());
        (dir, result)
    }

    fn add(writer: &mut Writer, name: &str, content: &[u8]) {
        writer.start_file(name, SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }

    /// The failure's sentence, after checking that it is AWS's ARCHIVE_INVALID.
    fn refusal(fill: impl FnOnce(&mut Writer)) -> String {
        refusal_within(ArchiveLimits::default(), fill)
    }

    fn refusal_within(limits: ArchiveLimits, fill: impl FnOnce(&mut Writer)) -> String {
        let (dir, result) = unpacked(limits, fill);
        let error = result.unwrap_err();
        assert_eq!(error.reason(), ReasonCode::ArchiveInvalid, "{error}");
        assert!(!dir.path().join("evil").exists());
        std::error::Error::source(&error).unwrap().to_string()
    }

    #[test]
    fn files_directories_modes_and_links_arrive() {
        let (dir, result) = unpacked(ArchiveLimits::default(), |zip| {
            add(zip, "Dockerfile", b"FROM scratch\n");
            let executable = SimpleFileOptions::default().unix_permissions(0o755);
            zip.start_file("bin/run", executable).unwrap();
            zip.write_all(b"#!/bin/sh\n").unwrap();
            zip.add_directory("empty", SimpleFileOptions::default()).unwrap();
            zip.add_symlink("bin/link", "../Dockerfile", SimpleFileOptions::default()).unwrap();
        });
        result.unwrap();
        let out = dir.path().join("out");
        assert_eq!(fs::read(out.join("bin/link")).unwrap(), b"FROM scratch\n");
        assert_eq!(fs::metadata(out.join("bin/run")).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(out.join("empty").is_dir());
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for name in ["../evil", "a/../../evil", "/evil", "a\\..\\..\\evil"] {
            let said = refusal(|zip| add(zip, name, b"x"));
            assert!(said.contains("outside"), "{name}: {said}");
        }
    }

    #[test]
    fn links_that_leave_the_directory_are_refused() {
        for target in ["/etc/passwd", "../../evil", "a/../../../evil"] {
            let said = refusal(|zip| {
                zip.add_symlink("dir/link", target, SimpleFileOptions::default()).unwrap();
            });
            assert!(said.contains("outside"), "{target}: {said}");
        }
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        // The link comes first in the archive, the file "through" it second.
        let said = refusal(|zip| {
            zip.add_symlink("link", "elsewhere", SimpleFileOptions::default()).unwrap();
            add(zip, "link/evil", b"x");
        });
        assert!(said.contains("twice"), "{said}");
    }

    #[test]
    fn an_entry_cannot_replace_another() {
        let said = refusal(|zip| {
            add(zip, "a", b"1");
            add(zip, "./a", b"2");
        });
        assert!(said.contains("twice"), "{said}");
    }

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let limits = ArchiveLimits { bytes_max: 1 << 20, ..ArchiveLimits::default() };
        let said = refusal_within(limits, |zip| add(zip, "zeros", &vec![0; 4 << 20]));
        assert!(said.contains("1048576 bytes"), "{said}");
    }

    #[test]
    fn too_many_entries_are_refused_before_unpacking() {
        let limits = ArchiveLimits { entries_max: 3, ..ArchiveLimits::default() };
        let said = refusal_within(limits, |zip| {
            for index in 0..4 {
                add(zip, &format!("f{index}"), b"");
            }
        });
        assert!(said.contains("more than 3 entries"), "{said}");
    }

    #[test]
    fn what_is_no_zip_is_named_so() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.zip");
        fs::write(&archive, b"FROM scratch\n").unwrap();
        let error =
            unpack(&archive, dir.path(), ArchiveLimits::default(), &CancellationToken::new())
                .unwrap_err();
        assert_eq!(error.reason(), ReasonCode::ArchiveInvalid);
        assert!(error.hint().is_some());
    }

    /// Sets a bit of the first entry in both of its headers (local and central).
    fn patched(offset_local: usize, offset_central: usize, value: u8) -> BuildError {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.zip");
        let mut writer = ZipWriter::new(File::create(&archive).unwrap());
        add(&mut writer, "f", b"content");
        writer.finish().unwrap();
        let mut bytes = fs::read(&archive).unwrap();
        let central = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
        bytes[offset_local] = value;
        bytes[central + offset_central] = value;
        fs::write(&archive, bytes).unwrap();
        let target = dir.path().join("out");
        fs::create_dir(&target).unwrap();
        unpack(&archive, &target, ArchiveLimits::default(), &CancellationToken::new()).unwrap_err()
    }

    #[test]
    fn encrypted_entries_are_refused() {
        let error = patched(6, 8, 1); // general purpose flag, bit 0
        assert!(matches!(error, BuildError::Archive(ArchiveError::Encrypted(_))), "{error:?}");
    }

    #[test]
    fn an_unknown_compression_is_named() {
        let error = patched(8, 10, 12); // compression method: bzip2
        assert!(
            matches!(error, BuildError::Archive(ArchiveError::Compression { .. })),
            "{error:?}"
        );
    }

    #[test]
    fn a_wrong_checksum_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("a.zip");
        let mut writer = ZipWriter::new(File::create(&archive).unwrap());
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        writer.start_file("f", stored).unwrap();
        writer.write_all(b"content").unwrap();
        writer.finish().unwrap();
        let mut bytes = fs::read(&archive).unwrap();
        let place = bytes.windows(7).position(|window| window == b"content").unwrap();
        bytes[place] = b'k';
        fs::write(&archive, bytes).unwrap();
        let target = dir.path().join("out");
        fs::create_dir(&target).unwrap();
        let error = unpack(&archive, &target, ArchiveLimits::default(), &CancellationToken::new())
            .unwrap_err();
        assert!(matches!(error, BuildError::Archive(ArchiveError::Damaged { .. })), "{error:?}");
    }
}

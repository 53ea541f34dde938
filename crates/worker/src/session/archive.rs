//! A skill's archive, unpacked: zip, or tar as it is or compressed.
//!
//! A skill may be somebody else's work. A member whose name leads out refuses the archive; one that is
//! neither file nor directory is left out; owners and modes of the archive mean nothing but whether a file
//! can be executed. What comes out is bounded.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Members in an archive.
const MEMBERS_MAX: usize = 50_000;
/// All that an archive may become, in bytes.
const UNPACKED_LEN_MAX: u64 = 2 << 30;
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o644;
const PROGRAM_MODE: u32 = 0o755;

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    #[error("the archive is no zip that can be read")]
    Zip(#[from] zip::result::ZipError),
    #[error("refusing to extract unsafe archive member: {name}")]
    Unsafe { name: String },
    #[error("the archive has more than {MEMBERS_MAX} members")]
    TooMany,
    #[error("the archive unpacks to more than {UNPACKED_LEN_MAX} bytes")]
    TooLarge,
    #[error("{path} cannot be written")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the archive is compressed by {program}, which is not on the PATH outside of the workdir"
    )]
    NoProgram { program: &'static str },
    #[error("{program} failed: {status}")]
    Program { program: &'static str, status: std::process::ExitStatus },
}

/// What a member is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File {
        mode: u32,
    },
    Dir,
    /// A link, a device, a pipe.
    Special,
}

/// Unpacks `archive` into `dest`, which is there and empty. A single directory at the top that holds all
/// the rest is left out. `program` finds `bzip2` or `xz`.
pub(super) fn unpack(
    archive: &Path,
    dest: &Path,
    program: impl Fn(&'static str) -> Option<PathBuf>,
) -> Result<(), ArchiveError> {
    let mut file = File::open(archive).map_err(ArchiveError::Read)?;
    let mut head = [0_u8; 6];
    let len = file.read(&mut head).map_err(ArchiveError::Read)?;
    file.rewind().map_err(ArchiveError::Read)?;
    match head.get(..len).unwrap_or_default() {
        [b'P', b'K', 3, 4, ..] => unpack_zip(file, dest),
        [0x1f, 0x8b, ..] => unpack_tar(dest, || {
            file.seek(SeekFrom::Start(0))?;
            Ok(flate2::read::MultiGzDecoder::new(io::BufReader::new(file.try_clone()?)))
        }),
        [b'B', b'Z', b'h', ..] => unpack_by(file, archive, dest, "bzip2", program),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => unpack_by(file, archive, dest, "xz", program),
        _ => unpack_tar(dest, || {
            file.seek(SeekFrom::Start(0))?;
            file.try_clone()
        }),
    }
}

/// Lets another program decompress into a file beside the archive.
fn unpack_by(
    file: File,
    archive: &Path,
    dest: &Path,
    name: &'static str,
    program: impl Fn(&'static str) -> Option<PathBuf>,
) -> Result<(), ArchiveError> {
    let path = program(name).ok_or(ArchiveError::NoProgram { program: name })?;
    let mut child = Command::new(path)
        .arg("-dc")
        .env_clear()
        .stdin(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(ArchiveError::Read)?;
    let plain = archive.with_extension("tar");
    let mut out = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&plain)
        .map_err(|source| ArchiveError::Write { path: plain, source })?;
    let copied = match child.stdout.take() {
        Some(pipe) => io::copy(&mut pipe.take(UNPACKED_LEN_MAX + 1), &mut out),
        None => Ok(0),
    };
    if copied.as_ref().is_ok_and(|len| *len > UNPACKED_LEN_MAX) || copied.is_err() {
        // It may wait for a reader for ever.
        let _ = child.kill();
    }
    let status = child.wait().map_err(ArchiveError::Read)?;
    if copied.map_err(ArchiveError::Read)? > UNPACKED_LEN_MAX {
        return Err(ArchiveError::TooLarge);
    }
    if !status.success() {
        return Err(ArchiveError::Program { program: name, status });
    }
    unpack_tar(dest, || {
        out.seek(SeekFrom::Start(0))?;
        out.try_clone()
    })
}

fn unpack_zip(file: File, dest: &Path) -> Result<(), ArchiveError> {
    let mut zip = zip::ZipArchive::new(io::BufReader::new(file))?;
    let mut plan = Plan::default();
    for index in 0..zip.len() {
        let member = zip.by_index_raw(index)?;
        plan.add(member.name(), zip_kind(&member))?;
    }
    let mut writer = plan.into_writer(dest);
    for index in 0..zip.len() {
        let mut member = zip.by_index(index)?;
        let (name, kind) = (member.name().to_owned(), zip_kind(&member));
        writer.write(&name, kind, &mut member)?;
    }
    Ok(())
}

fn zip_kind<R: Read>(member: &zip::read::ZipFile<'_, R>) -> Kind {
    const FORMAT: u32 = 0o170_000;
    let mode = member.unix_mode().unwrap_or(0);
    match mode & FORMAT {
        0o040_000 => Kind::Dir,
        0o100_000 | 0 if member.is_dir() => Kind::Dir,
        0o100_000 | 0 => Kind::File { mode },
        _ => Kind::Special,
    }
}

/// Reads the archive twice: all names first, so that nothing is written of one that is refused.
fn unpack_tar<R: Read>(
    dest: &Path,
    mut open: impl FnMut() -> io::Result<R>,
) -> Result<(), ArchiveError> {
    let mut plan = Plan::default();
    each_of_tar(open().map_err(ArchiveError::Read)?, |name, kind, _| plan.add(name, kind))?;
    let mut writer = plan.into_writer(dest);
    each_of_tar(open().map_err(ArchiveError::Read)?, |name, kind, content| {
        writer.write(name, kind, content)
    })
}

fn each_of_tar<R: Read>(
    reader: R,
    mut act: impl FnMut(&str, Kind, &mut dyn Read) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    use tar::EntryType as T;
    let mut tar = tar::Archive::new(reader);
    for entry in tar.entries().map_err(ArchiveError::Read)? {
        let mut entry = entry.map_err(ArchiveError::Read)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = match entry.header().entry_type() {
            T::Regular | T::Continuous | T::GNUSparse => {
                Kind::File { mode: entry.header().mode().unwrap_or(0) }
            }
            T::Directory => Kind::Dir,
            T::XGlobalHeader => continue,
            _ => Kind::Special,
        };
        act(&name, kind, &mut entry)?;
    }
    Ok(())
}

/// What is known of an archive before anything of it is written.
#[derive(Default)]
struct Plan {
    members: usize,
    /// The first directory of all members so far; None where they have several.
    top: Option<Option<String>>,
    nested: bool,
}

impl Plan {
    fn add(&mut self, name: &str, kind: Kind) -> Result<(), ArchiveError> {
        self.members += 1;
        if self.members > MEMBERS_MAX {
            return Err(ArchiveError::TooMany);
        }
        let bare = name.trim();
        if bare.starts_with('/') || bare.split(['/', '\\']).any(|part| part == "..") {
            return Err(ArchiveError::Unsafe { name: name.to_owned() });
        }
        if kind == Kind::Special {
            return Ok(());
        }
        let mut parts = parts(bare);
        let Some(first) = parts.next() else { return Ok(()) };
        self.nested |= parts.next().is_some();
        match &self.top {
            None => self.top = Some(Some(first.to_owned())),
            Some(Some(top)) if top != first => self.top = Some(None),
            Some(_) => {}
        }
        Ok(())
    }

    fn into_writer(self, dest: &Path) -> Writer<'_> {
        let skip = usize::from(self.nested && self.top.flatten().is_some());
        Writer { dest, skip, room: UNPACKED_LEN_MAX }
    }
}

fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split('/').filter(|part| !part.is_empty() && *part != ".")
}

struct Writer<'a> {
    dest: &'a Path,
    /// Leading directories that are left out.
    skip: usize,
    /// Bytes that may still be written.
    room: u64,
}

impl Writer<'_> {
    fn write(
        &mut self,
        name: &str,
        kind: Kind,
        content: &mut dyn Read,
    ) -> Result<(), ArchiveError> {
        let relative: PathBuf = parts(name.trim()).skip(self.skip).collect();
        if relative.as_os_str().is_empty() || kind == Kind::Special {
            return Ok(());
        }
        let path = self.dest.join(&relative);
        let failed = |source| ArchiveError::Write { path: path.clone(), source };
        let mode = match kind {
            Kind::Dir => return make_dirs(&path).map_err(failed),
            Kind::File { mode } if mode & 0o111 != 0 => PROGRAM_MODE,
            Kind::File { .. } | Kind::Special => FILE_MODE,
        };
        if let Some(parent) = path.parent() {
            make_dirs(parent).map_err(failed)?;
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&path)
            .map_err(failed)?;
        let written = io::copy(&mut content.take(self.room + 1), &mut file).map_err(failed)?;
        self.room = self.room.checked_sub(written).ok_or(ArchiveError::TooLarge)?;
        file.flush().map_err(failed)?;
        // Whatever the umask left of it.
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)
    }
}

fn make_dirs(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(members: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, content) in members {
            let mut header = tar::Header::new_gnu();
            // The builder refuses what a hostile archive may hold.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(if name.ends_with(".sh") { 0o100 } else { 0o600 });
            header.set_size(content.len() as u64);
            if *kind == tar::EntryType::Symlink {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn zip_of(members: &[(&str, u32, &[u8])]) -> Vec<u8> {
        let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, mode, content) in members {
            let options = zip::write::SimpleFileOptions::default().unix_permissions(*mode);
            zip.start_file(*name, options).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn unpacked(archive: &[u8]) -> Result<(tempfile::TempDir, Vec<(String, u32)>), ArchiveError> {
        let dir = tempfile::tempdir().unwrap();
        let (file, dest) = (dir.path().join("archive"), dir.path().join("dest"));
        fs::write(&file, archive).unwrap();
        fs::create_dir(&dest).unwrap();
        unpack(&file, &dest, |_| None)?;
        let mut found = Vec::new();
        let mut dirs = vec![dest.clone()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let path = entry.path();
                let name = path.strip_prefix(&dest).unwrap().display().to_string();
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                if entry.file_type().unwrap().is_dir() {
                    dirs.push(path);
                } else {
                    found.push((name, mode));
                }
            }
        }
        found.sort();
        Ok((dir, found))
    }

    #[test]
    fn a_directory_around_everything_is_left_out_and_links_are_too() {
        use tar::EntryType as T;
        let plain = tar_of(&[
            ("./pdf/", T::Directory, b""),
            ("pdf/SKILL.md", T::Regular, b"# pdf"),
            ("pdf/scripts/run.sh", T::Regular, b"echo"),
            ("pdf/passwd", T::Symlink, b""),
        ]);
        let expected = [("SKILL.md".to_owned(), 0o644), ("scripts/run.sh".to_owned(), 0o755)];
        assert_eq!(unpacked(&plain).unwrap().1, expected);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        assert_eq!(unpacked(&gzip.finish().unwrap()).unwrap().1, expected);
        let zip =
            zip_of(&[("pdf/SKILL.md", 0o600, b"# pdf"), ("pdf/scripts/run.sh", 0o700, b"echo")]);
        assert_eq!(unpacked(&zip).unwrap().1, expected);
    }

    #[test]
    fn several_tops_stay_as_they_are() {
        let zip = zip_of(&[("SKILL.md", 0o644, b"#"), ("a/b.txt", 0o644, b"b")]);
        let names: Vec<String> =
            unpacked(&zip).unwrap().1.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["SKILL.md", "a/b.txt"]);
    }

    #[test]
    fn a_member_that_leads_out_refuses_the_archive() {
        for name in ["../evil", "a/../../evil", "/etc/evil", "a\\..\\evil"] {
            let tar = tar_of(&[
                ("fine", tar::EntryType::Regular, b""),
                (name, tar::EntryType::Regular, b""),
            ]);
            assert!(matches!(unpacked(&tar), Err(ArchiveError::Unsafe { .. })), "{name}");
        }
    }

    #[test]
    fn an_archive_that_needs_a_program_names_it() {
        let error = unpacked(b"BZh91AY").unwrap_err();
        assert!(error.to_string().contains("bzip2"), "{error}");
    }
}

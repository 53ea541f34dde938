//! A list of all files on the disk, for whoever compares two states of a VM.
//!
//! Run beside the app as `/proc/1/exe list-files`: the guest's own program is there whatever an
//! image holds. Each file is a record `kind size mark path` ended by NUL; an empty record ends the
//! list. The mark holds what changes when a file does.

use std::{
    fs,
    io::{self, BufWriter, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

/// What this program is called with for a list.
pub(crate) const COMMAND: &str = "list-files";

/// Writes the list to standard output.
pub(crate) fn list() -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let root = Path::new("/");
    walk(root, fs::symlink_metadata(root)?.dev(), &mut out)?;
    out.write_all(b"\0")?;
    out.flush()
}

/// What cannot be read, because it went away meanwhile say, is left out.
fn walk(root: &Path, device: u64, out: &mut impl Write) -> io::Result<()> {
    let mut waiting: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            // Another file system is mounted there.
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            if meta.dev() != device {
                continue;
            }
            record(&path, &meta, out)?;
            if meta.is_dir() {
                waiting.push(path);
            }
        }
    }
    Ok(())
}

fn record(path: &Path, meta: &fs::Metadata, out: &mut impl Write) -> io::Result<()> {
    let kind = match meta.file_type() {
        t if t.is_file() => 'f',
        t if t.is_dir() => 'd',
        t if t.is_symlink() => 'l',
        t if t.is_socket() => 's',
        t if t.is_fifo() => 'p',
        _ => 'o',
    };
    let (size, mode, uid, gid) = (meta.size(), meta.mode(), meta.uid(), meta.gid());
    let (changed, changed_ns) = (meta.ctime(), meta.ctime_nsec());
    let inode = meta.ino();
    write!(out, "{kind} {size} {mode:o}.{uid}.{gid}.{inode}.{changed}.{changed_ns} ")?;
    out.write_all(path.as_os_str().as_bytes())?;
    out.write_all(b"\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_listed_once_with_what_changes_when_it_does() {
        let dir = std::env::temp_dir().join(format!("warren-list-{}", std::process::id()));
        fs::create_dir_all(dir.join("a b")).unwrap();
        fs::write(dir.join("a b/file"), "one").unwrap();
        let list = || {
            let mut out = Vec::new();
            walk(&dir, fs::symlink_metadata(&dir).unwrap().dev(), &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let before = list();
        let records: Vec<&str> = before.split_terminator('\0').collect();
        assert_eq!(records.len(), 2);
        assert!(records[1].starts_with("f 3 ") && records[1].ends_with("/a b/file"), "{before}");
        assert_eq!(list(), before);
        fs::write(dir.join("a b/file"), "two").unwrap();
        assert_ne!(list(), before);
        fs::remove_dir_all(&dir).unwrap();
    }
}

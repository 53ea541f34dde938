//! A container's files as a disk: the last touches that a VM needs, then an ext4 filesystem.
//!
//! The files come from a stranger's Dockerfile, so every path is resolved inside of their tree by
//! the kernel (`openat2`): a link `/etc -> /host/etc` leads nowhere.

use crate::{
    error::BuildError,
    tool::{Job, Tool, ToolError},
};
use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, unlinkat},
    io::Errno,
};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

/// Directories that a VM expects, and their modes where they have to be made.
const DIRECTORIES: [(&str, u32); 8] = [
    ("proc", 0o555),
    ("sys", 0o555),
    ("dev", 0o755),
    ("run", 0o755),
    ("tmp", 0o1777),
    ("workspace", 0o755),
    ("etc", 0o755),
    ("var", 0o755),
];

/// Files of /etc that belong to the VM, not to the image. The gateway of every VM is its resolver.
const FILES: [(&str, &str, u32); 4] = [
    ("resolv.conf", "nameserver 10.0.0.1\n", 0o644),
    ("hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n", 0o644),
    ("hostname", "microvm\n", 0o644),
    // Empty: the guest writes each VM's own.
    ("machine-id", "", 0o444),
];

/// Time that the filesystem notes as its own creation, so that equal files give equal disks:
/// 2026-01-01T00:00:00Z. The files keep their times.
const FILESYSTEM_EPOCH: &str = "1767225600";

/// Adds what a VM needs to the image's files.
pub(crate) fn finish_tree(tree: &Path) -> Result<(), BuildError> {
    let io = |source: Errno| BuildError::io("preparing", tree, source.into());
    let root =
        openat(CWD, tree, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(io)?;
    for (name, mode) in DIRECTORIES {
        match mkdirat(&root, name, Mode::from_raw_mode(mode)) {
            // mkdirat takes the process's umask off.
            Ok(()) => rustix::fs::chmodat(&root, name, Mode::from_raw_mode(mode), AtFlags::empty())
                .map_err(io)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(io(error)),
        }
    }
    let etc = open_inside(root.as_fd(), "etc").map_err(io)?;
    for (name, content, mode) in FILES {
        replace(&etc, name, content, mode)
            .map_err(|source| BuildError::io("writing in /etc of", tree, source))?;
    }
    Ok(())
}

/// Opens a directory whose path's links, absolute ones too, stay inside of `root`.
fn open_inside(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags, Mode::empty(), resolve)
}

/// Puts a fresh regular file where there may be a file or a link.
fn replace(dir: &OwnedFd, name: &str, content: &str, mode: u32) -> io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::from_raw_mode(mode))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    File::from(file).write_all(content.as_bytes())
}

/// Makes the sparse raw file `disk` of `bytes` bytes with an ext4 filesystem that holds `tree`,
/// owners, modes, times and extended attributes as they are. `name` (hexadecimal, at least 32
/// digits) becomes the filesystem's UUID.
///
/// No journal: a VM's disk is either whole in a snapshot or thrown away.
pub(crate) async fn make(
    tree: &Path,
    disk: &Path,
    (bytes, name): (u64, &str),
    job: &Job,
) -> Result<(), BuildError> {
    let io = |source| BuildError::io("making", disk, source);
    File::create_new(disk).and_then(|file| file.set_len(bytes)).map_err(io)?;
    let uuid = uuid_of(name);
    let mut extended = OsString::from("lazy_itable_init=1,assume_storage_prezeroed=1,hash_seed=");
    extended.push(&uuid);
    let made = Tool::new("mke2fs", "e2fsprogs", "-d")
        .args(["-q", "-F", "-t", "ext4", "-m", "0"])
        .args(["-O", "^has_journal,^metadata_csum,^64bit", "-U", &uuid, "-E"])
        .arg(extended)
        .arg("-d")
        .arg(tree)
        .arg("--")
        .arg(disk)
        .env("E2FSPROGS_FAKE_TIME", FILESYSTEM_EPOCH)
        .run(job)
        .await;
    match made {
        Ok(()) => Ok(()),
        Err(error) if does_not_fit(&error) => {
            Err(BuildError::TooLargeForDisk { disk_bytes: bytes })
        }
        Err(error) => Err(BuildError::of_tool(error, disk, BuildError::Tool)),
    }
}

/// libext2fs has no block or inode left in the new filesystem (the host's disk being full says
/// "No space left on device").
fn does_not_fit(error: &ToolError) -> bool {
    ["could not allocate block", "could not allocate inode"].iter().any(|words| error.says(words))
}

fn uuid_of(digits: &str) -> String {
    let part = |range| digits.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        os::unix::fs::{PermissionsExt, symlink},
    };

    #[test]
    fn the_tree_gets_what_a_vm_needs() {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("etc")).unwrap();
        fs::write(tree.path().join("etc/machine-id"), "of the build").unwrap();
        finish_tree(tree.path()).unwrap();
        let read = |name: &str| fs::read_to_string(tree.path().join(name)).unwrap();
        assert_eq!(read("etc/resolv.conf"), "nameserver 10.0.0.1\n");
        assert_eq!(read("etc/machine-id"), "");
        let tmp = fs::metadata(tree.path().join("tmp")).unwrap();
        assert_eq!(tmp.permissions().mode() & 0o7777, 0o1777);
        assert!(tree.path().join("workspace").is_dir());
    }

    #[test]
    fn links_of_the_image_do_not_lead_out_of_its_tree() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("resolv.conf"), "the host's").unwrap();
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir(tree.path().join("real-etc")).unwrap();
        symlink(outside.path().join("resolv.conf"), tree.path().join("real-etc/resolv.conf"))
            .unwrap();
        symlink("/real-etc", tree.path().join("etc")).unwrap();
        finish_tree(tree.path()).unwrap();
        let of_image = fs::read_to_string(tree.path().join("real-etc/resolv.conf")).unwrap();
        assert_eq!(of_image, "nameserver 10.0.0.1\n");
        let of_host = fs::read_to_string(outside.path().join("resolv.conf")).unwrap();
        assert_eq!(of_host, "the host's");
    }

    #[test]
    fn an_etc_that_leads_out_is_refused() {
        let outside = tempfile::tempdir().unwrap();
        let tree = tempfile::tempdir().unwrap();
        symlink(outside.path(), tree.path().join("etc")).unwrap();
        assert!(finish_tree(tree.path()).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_digest_names_the_filesystem() {
        assert_eq!(
            uuid_of("6202a058556e0cbedd338af41fc39fe449a98cf5fc27b7de6bb7017704046fe6"),
            "6202a058-556e-0cbe-dd33-8af41fc39fe4"
        );
    }
}

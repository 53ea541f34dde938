//! A container's files as a disk: an ext4 filesystem, then the last touches that a VM needs.
//!
//! All of it is done in the sandbox. The touches are made in the finished filesystem and not in the
//! tree, since paths of a stranger's tree are resolved by its own links: `/etc -> /elsewhere` leads
//! to another directory of the same disk, and nowhere else.

use crate::{
    error::BuildError,
    sandbox::{Net, Sandbox, UID_BASE},
    tool::{Job, Tool, ToolError},
};
use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::fs::chown,
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
    ("resolv.conf", RESOLV_CONF, 0o644),
    ("hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n", 0o644),
    ("hostname", "microvm\n", 0o644),
    // Empty: the guest writes each VM's own.
    ("machine-id", "", 0o444),
];
const RESOLV_CONF: &str = "nameserver 10.0.0.1\n";

/// Time that the filesystem notes as its own creation, so that equal files give equal disks:
/// 2026-01-01T00:00:00Z. The files keep their times.
const FILESYSTEM_EPOCH: &str = "1767225600";

/// Says which of the names after it are not there.
const ABSENT: &str = r#"tree=$1; shift; for name; do
[ -e "$tree/$name" ] || [ -L "$tree/$name" ] || echo "$name"; done"#;

/// A disk that is to be made.
#[derive(Debug)]
pub(crate) struct Making<'a> {
    /// The files, as the sandbox sees them.
    pub(crate) tree: &'a Path,
    /// A directory that host and sandbox see under the same path; the disk is the file `disk` in it.
    pub(crate) room: &'a Path,
    pub(crate) bytes: u64,
    /// Hexadecimal, at least 32 digits; becomes the filesystem's UUID.
    pub(crate) name: &'a str,
    /// Directories that are made where they are not there.
    pub(crate) volumes: &'a [String],
}

/// Makes the sparse raw disk with an ext4 filesystem that holds the tree, owners, modes, times and
/// extended attributes as they are.
///
/// No journal: a VM's disk is either whole in a snapshot or thrown away.
pub(crate) async fn make(
    making: &Making<'_>,
    sandbox: &Sandbox,
    job: &Job,
) -> Result<(), BuildError> {
    let disk = making.room.join("disk");
    File::create_new(&disk)
        .and_then(|file| file.set_len(making.bytes))
        .and_then(|()| chown(&disk, Some(UID_BASE), Some(UID_BASE)))
        .map_err(|source| BuildError::io("making", &disk, source))?;
    match fill(making, &disk, sandbox, job).await {
        Ok(()) => {}
        Err(error) if does_not_fit(&error) => {
            return Err(BuildError::TooLargeForDisk { disk_bytes: making.bytes });
        }
        Err(error) => return Err(BuildError::of_tool(error, &disk, BuildError::Tool)),
    }
    finish(making, &disk, sandbox, job).await
}

async fn fill(
    making: &Making<'_>,
    disk: &Path,
    sandbox: &Sandbox,
    job: &Job,
) -> Result<(), ToolError> {
    let uuid = uuid_of(making.name);
    let mut extended = OsString::from("lazy_itable_init=1,assume_storage_prezeroed=1,hash_seed=");
    extended.push(&uuid);
    sandbox
        .tool(Net::Own, "mke2fs", "e2fsprogs", "-d")
        .args(["-q", "-F", "-t", "ext4", "-m", "0"])
        .args(["-O", "^has_journal,^metadata_csum,^64bit", "-U", &uuid, "-E"])
        .arg(extended)
        .arg("-d")
        .arg(making.tree)
        .arg("--")
        .arg(disk)
        .env("E2FSPROGS_FAKE_TIME", FILESYSTEM_EPOCH)
        .run(job)
        .await
}

/// Adds what a VM needs to the image's files.
async fn finish(
    making: &Making<'_>,
    disk: &Path,
    sandbox: &Sandbox,
    job: &Job,
) -> Result<(), BuildError> {
    let failed = |error| BuildError::of_tool(error, disk, BuildError::Tool);
    let look = sandbox.tool(Net::Own, "sh", "dash", "-c").args(["-c", ABSENT, "sh"]);
    let look = look.arg(making.tree).args(DIRECTORIES.map(|(name, _)| name));
    let absent = look.read(job).await.map_err(failed)?;
    let mut commands = String::new();
    for (name, mode) in DIRECTORIES.iter().filter(|(name, _)| absent.lines().any(|a| a == *name)) {
        commands += &format!("mkdir /{name}\nsif /{name} mode 04{mode:04o}\n");
    }
    for volume in making.volumes.iter().filter(|volume| is_plain(volume)) {
        let mut path = String::new();
        for part in volume.split('/').filter(|part| !part.is_empty()) {
            path = format!("{path}/{part}");
            // One that is there stays as it is.
            commands += &format!("mkdir {path}\n");
        }
    }
    // With the dot, a link is followed.
    commands += "cd /etc/.\n";
    for (name, content, mode) in FILES {
        let file = making.room.join(name);
        fs::write(&file, content).map_err(|source| BuildError::io("writing", &file, source))?;
        let from = file.display();
        commands += &format!("rm {name}\nwrite {from} {name}\nsif {name} mode 010{mode:04o}\n");
        commands += &format!("sif {name} uid 0\nsif {name} gid 0\n");
    }
    let file = making.room.join("commands");
    fs::write(&file, commands).map_err(|source| BuildError::io("writing", &file, source))?;
    let touch = debugfs(sandbox).args(["-w", "-f"]).arg(&file).arg(disk);
    touch.read(job).await.map_err(failed)?;
    // It says nothing by its status.
    let look = debugfs(sandbox).args(["-R", "cat /etc/./resolv.conf"]).arg(disk);
    let written = look.read(job).await.map_err(failed)?;
    if written == RESOLV_CONF {
        Ok(())
    } else {
        Err(BuildError::Io {
            doing: "writing in /etc of",
            path: disk.to_owned(),
            source: io::Error::other("the image has no usable /etc"),
        })
    }
}

fn debugfs(sandbox: &Sandbox) -> Tool {
    sandbox
        .tool(Net::Own, "debugfs", "e2fsprogs", "on a new disk")
        .env("E2FSPROGS_FAKE_TIME", FILESYSTEM_EPOCH)
        .env("DEBUGFS_PAGER", "cat")
}

/// A path that is one word to debugfs.
fn is_plain(path: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "._/@+-".contains(c);
    path.starts_with('/') && path.chars().all(good) && !path.split('/').any(|part| part == "..")
}

/// libext2fs has no block or inode left in the new filesystem (the host's disk being full says
/// "No space left on device").
fn does_not_fit(error: &ToolError) -> bool {
    ["could not allocate block", "could not allocate inode"].iter().any(|words| error.says(words))
}

/// The first 32 digits in the form of a UUID.
fn uuid_of(digest: &str) -> String {
    let part = |range: std::ops::Range<usize>| digest.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_names_the_filesystem() {
        assert_eq!(
            uuid_of("6202a058556e0cbedd338af41fc39fe449a98cf5fc27b7de6bb7017704046fe6"),
            "6202a058-556e-0cbe-dd33-8af41fc39fe4"
        );
    }

    #[test]
    fn a_volume_is_no_command() {
        assert!(is_plain("/var/lib/data-1"));
        for odd in ["data", "/a b", "/a\nwrite /etc/shadow x", "/a/../b", "/\"x\""] {
            assert!(!is_plain(odd), "{odd:?}");
        }
    }
}

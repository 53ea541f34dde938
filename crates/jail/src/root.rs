//! The VMM's root directory: an empty tmpfs with the few directories and files that it needs.

use crate::options::{Access, Options};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::{Mode, SFlag, mknod},
    unistd::{chdir, pivot_root},
};
use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
};

const NONE: Option<&str> = None;

/// Makes the root and moves into it; the host's tree is gone from sight afterwards.
pub(crate) fn enter(options: &Options) -> Result<(), String> {
    let root = Path::new(&options.root);
    let mounted = |what: &Path, result: nix::Result<()>| {
        result.map_err(|e| format!("mount {}: {e}", what.display()))
    };
    // Nothing that is mounted here shows outside, nor the other way round.
    mounted(Path::new("/"), mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE))?;
    // The few device nodes on it are made below; the VMM has no right to make more.
    let tmpfs = MsFlags::MS_NOSUID;
    mounted(root, mount(Some("tmpfs"), root, Some("tmpfs"), tmpfs, Some("size=1m,mode=755")))?;
    for directory in &options.directories {
        show_directory(root, Path::new(directory))?;
    }
    for (host, inside, access) in &options.files {
        let target = root.join(inside.trim_start_matches('/'));
        fs::write(&target, []).map_err(|e| format!("{}: {e}", target.display()))?;
        bind(Path::new(host), &target, *access)?;
    }
    for device in &options.devices {
        give_device(root, Path::new(device), options.uid)?;
    }
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | tmpfs;
    mounted(root, mount(NONE, root, NONE, read_only, NONE))?;
    chdir(root).map_err(|e| format!("{}: {e}", root.display()))?;
    pivot_root(".", ".").map_err(|e| format!("pivot_root: {e}"))?;
    mounted(Path::new("the old root"), umount2(".", MntFlags::MNT_DETACH))?;
    chdir("/").map_err(|e| format!("/: {e}"))
}

/// Shows a directory of the host read-only, or the same symbolic link where it is one (`/lib64`).
fn show_directory(root: &Path, directory: &Path) -> Result<(), String> {
    let name = |e: std::io::Error| format!("{}: {e}", directory.display());
    let target = root.join(directory.strip_prefix("/").map_err(|e| e.to_string())?);
    match fs::read_link(directory) {
        Ok(link) => symlink(link, target).map_err(name),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(_) => {
            fs::create_dir_all(&target).map_err(name)?;
            bind(directory, &target, Access::Read)
        }
    }
}

/// Makes a node of the same device that belongs to the VMM's user.
fn give_device(root: &Path, device: &Path, uid: u32) -> Result<(), String> {
    let name = |e: std::io::Error| format!("{}: {e}", device.display());
    let number = fs::metadata(device).map_err(name)?.rdev();
    let target = root.join(device.strip_prefix("/").map_err(|e| e.to_string())?);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(name)?;
    }
    mknod(&target, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, number)
        .map_err(|e| format!("make {}: {e}", target.display()))?;
    std::os::unix::fs::chown(&target, Some(uid), Some(uid)).map_err(name)
}

fn bind(host: &Path, target: &Path, access: Access) -> Result<(), String> {
    let failed = |e: nix::Error| format!("bind {}: {e}", host.display());
    mount(Some(host), target, NONE, MsFlags::MS_BIND, NONE).map_err(failed)?;
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    if access == Access::Read {
        flags |= MsFlags::MS_RDONLY;
    }
    mount(NONE, target, NONE, flags, NONE).map_err(failed)
}

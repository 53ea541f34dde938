//! From the kernel's hand-over to a machine that can serve: a flat list of steps.

use crate::{identity, network, say};
use nix::{
    mount::{MsFlags, mount},
    unistd::{chdir, chroot},
};
use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::fs::symlink},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

const NONE: Option<&str> = None;
/// Where the image's disk is mounted before it becomes the root.
const NEW_ROOT: &str = "/newroot";
/// Devices appear some milliseconds after their driver is there; after this they do not come any more.
const DEVICE_WAIT_MAX: Duration = Duration::from_secs(10);

/// Makes the machine ready and returns the open agent port.
pub(crate) fn bring_up() -> Result<File, String> {
    mount_kernel_file_systems()?;
    open_console();
    // The engine's calibration waits for this line: the kernel has come this far.
    say("starting");
    load_modules()?;
    mount_root()?;
    move_into_root()?;
    mount_run_time_file_systems()?;
    identity::make_room()?;
    network::configure()?;
    open_port("agent")
}

fn mounted(what: &str, result: nix::Result<()>) -> Result<(), String> {
    result.map_err(|e| format!("mount {what}: {e}"))
}

fn mount_kernel_file_systems() -> Result<(), String> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        fs::create_dir_all(at).map_err(|e| format!("{at}: {e}"))?;
        // devtmpfs may have been mounted by the kernel; a second mount of it is the same tree.
        mounted(at, mount(Some(kind), at, Some(kind), quiet, NONE))?;
    }
    Ok(())
}

/// The kernel gives PID 1 no open files when the initial RAM disk holds no /dev/console.
fn open_console() {
    if let Ok(console) = File::options().read(true).write(true).open("/dev/console") {
        for fd in 0..3 {
            // SAFETY: dup2 onto the standard descriptors, which no owning type of this program holds.
            unsafe { libc::dup2(console.as_raw_fd(), fd) };
        }
    }
}

/// Loads the files of `/modules` in the order of `/modules/order`.
fn load_modules() -> Result<(), String> {
    let order = fs::read_to_string("/modules/order").map_err(|e| format!("/modules/order: {e}"))?;
    for name in order.split_whitespace() {
        let path = format!("/modules/{name}");
        let file = File::open(&path).map_err(|e| format!("{path}: {e}"))?;
        match nix::kmod::finit_module(&file, c"", nix::kmod::ModuleInitFlags::empty()) {
            // Built into this kernel, or loaded as another's dependency.
            Ok(()) | Err(nix::Error::EEXIST) => {}
            Err(e) => return Err(format!("load {path}: {e}")),
        }
    }
    Ok(())
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if start.elapsed() > DEVICE_WAIT_MAX {
            return Err(format!("{what} did not appear within {DEVICE_WAIT_MAX:?}"));
        }
        sleep(Duration::from_millis(2));
    }
}

fn mount_root() -> Result<(), String> {
    let disk = Path::new("/dev/vda");
    wait_for("/dev/vda", || disk.exists().then_some(()))?;
    fs::create_dir_all(NEW_ROOT).map_err(|e| format!("{NEW_ROOT}: {e}"))?;
    mounted("/dev/vda", mount(Some(disk), NEW_ROOT, Some("ext4"), MsFlags::MS_NOATIME, NONE))
}

fn move_into_root() -> Result<(), String> {
    for at in ["/dev", "/proc", "/sys"] {
        let target = format!("{NEW_ROOT}{at}");
        fs::create_dir_all(&target).map_err(|e| format!("{target}: {e}"))?;
        mounted(at, mount(Some(at), target.as_str(), NONE, MsFlags::MS_MOVE, NONE))?;
    }
    chdir(NEW_ROOT).map_err(|e| format!("{NEW_ROOT}: {e}"))?;
    mounted("the root", mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE))?;
    chroot(".").map_err(|e| format!("chroot: {e}"))?;
    chdir("/").map_err(|e| format!("/: {e}"))
}

fn mount_run_time_file_systems() -> Result<(), String> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    for (kind, at, flags, data) in [
        ("tmpfs", "/run", safe, "mode=755"),
        ("tmpfs", "/dev/shm", safe, "mode=1777,size=64m"),
        ("devpts", "/dev/pts", MsFlags::MS_NOSUID, "ptmxmode=666,mode=620"),
        ("cgroup2", "/sys/fs/cgroup", safe, ""),
    ] {
        // Under /sys nothing can be made: the kernel has the directory already.
        let _ = fs::create_dir_all(at);
        mounted(at, mount(Some(kind), at, Some(kind), flags, Some(data)))?;
    }
    for (link, target) in [
        ("/dev/ptmx", "pts/ptmx"),
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        let _ = fs::remove_file(link);
        symlink(target, link).map_err(|e| format!("{link}: {e}"))?;
    }
    Ok(())
}

/// Opens the virtio-serial port of this name.
fn open_port(name: &str) -> Result<File, String> {
    let path = wait_for("the agent port", || find_port(name))?;
    File::options()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|e| format!("{}: {e}", path.display()))
}

fn find_port(name: &str) -> Option<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    ports.filter_map(io::Result::ok).find_map(|port| {
        let found = fs::read_to_string(port.path().join("name")).ok()?;
        (found.trim() == name).then(|| Path::new("/dev").join(port.file_name()))
    })
}

//! One QEMU process: its files, its jail, its start.

use super::arguments::{Accelerator, Machine, Start, fd, jail};
use crate::{EngineError, state::VmDir, state::host_error};
use command_fds::{CommandFdExt, FdMapping};
use std::{
    fs::File,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// Programs and files of this host that every VMM needs.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) qemu: PathBuf,
    pub(crate) jail: PathBuf,
    pub(crate) ramguard: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
}

/// What one VMM is started with.
pub(crate) struct VmmSpec<'a> {
    pub(crate) name: &'a str,
    pub(crate) machine: Machine,
    pub(crate) start: Start,
    pub(crate) dir: &'a VmDir,
    pub(crate) uid: u32,
    pub(crate) cgroups: Vec<String>,
    /// The RAM file: a new one for a boot, the template's for a clone.
    pub(crate) ram: Option<PathBuf>,
    /// The base and its layers, of which only the last is written to; and the tap. None when calibrating.
    pub(crate) disks: Vec<PathBuf>,
    pub(crate) tap: Option<OwnedFd>,
}

/// Directories that the VMM sees: its binary, libraries and firmware.
const DIRECTORIES: [&str; 4] = ["/usr", "/lib", "/lib64", "/bin"];

impl VmmSpec<'_> {
    /// Starts the process; when it runs, its sockets are in the VM's directory, already listening.
    pub(crate) fn spawn(self, tools: &Tools) -> Result<Child, EngineError> {
        let mut mappings = Vec::new();
        let mut give =
            |child_fd: i32, file: OwnedFd| mappings.push(FdMapping { parent_fd: file, child_fd });
        give(fd::CONSOLE, open_append(&self.dir.console())?);
        if self.start != Start::Calibrate {
            give(fd::QMP, listen(&self.dir.qmp_socket())?);
            give(fd::AGENT, listen(&self.dir.agent_socket())?);
        }
        for (layer, path) in self.disks.iter().enumerate() {
            let top = layer + 1 == self.disks.len();
            give(fd::DISKS + layer as i32, open(path, File::options().read(true).write(top))?);
        }
        if let Some(tap) = self.tap {
            give(fd::TAP, tap);
        }
        let root = self.dir.jail_root();
        std::fs::create_dir_all(&root).map_err(|e| host_error(&root, "create", e))?;
        let mut command = Command::new(&tools.jail);
        command.args(["--uid", &self.uid.to_string(), "--root"]).arg(&root);
        for directory in DIRECTORIES {
            command.args(["--directory", directory]);
        }
        if self.machine.accelerator == Accelerator::Kvm {
            command.args(["--device", "/dev/kvm"]);
        }
        for group in &self.cgroups {
            command.args(["--cgroup", group]);
        }
        for mapping in &mappings {
            command.args(["--keep", &mapping.child_fd.to_string()]);
        }
        files(&mut command, tools, self.start, self.ram.as_deref());
        command.arg("--").arg(&tools.qemu).args(self.machine.arguments(
            self.name,
            self.start,
            self.disks.len(),
        ));
        let log = open_append(&self.dir.vmm_log())?;
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::from(log));
        command
            .fd_mappings(mappings)
            .map_err(|e| host_error(&tools.jail, "map descriptors", std::io::Error::other(e)))?;
        command.spawn().map_err(|e| host_error(&tools.jail, "start", e))
    }
}

/// The files that QEMU opens by path, and for a clone the guard of its template's RAM.
fn files(command: &mut Command, tools: &Tools, start: Start, ram: Option<&Path>) {
    let shown = |path: &Path, inside: &str| format!("{}={inside}", path.display());
    match start {
        Start::Boot | Start::Calibrate => {
            command.args(["--file", &shown(&tools.kernel, jail::KERNEL)]);
            command.args(["--file", &shown(&tools.initrd, jail::INITRD)]);
            if let Some(ram) = ram {
                command.args(["--writable-file", &shown(ram, jail::RAM)]);
            }
        }
        Start::Restore => {
            command.args(["--file", &shown(&tools.ramguard, jail::RAMGUARD)]);
            if let Some(ram) = ram {
                command.args(["--file", &shown(ram, jail::RAM)]);
            }
            command.args(["--env", &format!("LD_PRELOAD={}", jail::RAMGUARD)]);
            command.args(["--env", &format!("WARREN_RAM={}", jail::RAM)]);
        }
    }
}

fn open(path: &Path, options: &std::fs::OpenOptions) -> Result<OwnedFd, EngineError> {
    options.open(path).map(OwnedFd::from).map_err(|e| host_error(path, "open", e))
}

fn open_append(path: &Path) -> Result<OwnedFd, EngineError> {
    open(path, File::options().create(true).append(true))
}

/// Binds through a descriptor of the directory, since a socket's path may have at most 107 characters
/// and a data directory may have any.
fn listen(path: &Path) -> Result<OwnedFd, EngineError> {
    // Of a VMM that was here before: the VM was suspended.
    let _ = std::fs::remove_file(path);
    let short = short_path(path)?;
    UnixListener::bind(&short.path).map(OwnedFd::from).map_err(|e| host_error(path, "listen", e))
}

/// A path to a socket that is short however long the real one is.
pub(crate) struct ShortPath {
    pub(crate) path: PathBuf,
    _directory: OwnedFd,
}

pub(crate) fn short_path(socket: &Path) -> Result<ShortPath, EngineError> {
    let parent = socket.parent().unwrap_or(Path::new("/"));
    let flags =
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
    let directory = nix::fcntl::open(parent, flags, nix::sys::stat::Mode::empty())
        .map_err(|e| host_error(parent, "open", e.into()))?;
    let name = socket.file_name().unwrap_or_default();
    let number = std::os::fd::AsRawFd::as_raw_fd(&directory);
    Ok(ShortPath {
        path: Path::new("/proc/self/fd").join(number.to_string()).join(name),
        _directory: directory,
    })
}

/// A descriptor that becomes readable when the process ends.
pub(crate) fn pidfd(pid: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes integers; a result that is not negative is a new descriptor.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, libc::PIDFD_NONBLOCK);
        if fd < 0 {
            Err(std::io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd as i32))
        }
    }
}

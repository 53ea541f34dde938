//! A room of their own for the programs that a session starts: they see and reach each other and nobody else.
//!
//! The shell runs in a PID namespace whose first process is this program again (see [`run_init`]). So `kill -9
//! $PPID`, `kill -9 -1` or `pkill` end the shell at most, never the worker; and whatever a lost shell left behind,
//! in whatever session or group, ends with it. In Warren's VMs a control group bounds how many processes and how
//! much memory there can be, so that a fork bomb leaves the worker its share of both.
//!
//! Where the kernel gives no namespace (no root), the shell runs beside the worker, as the official one's does.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command as StdCommand, ExitCode, Stdio};
use std::time::Duration;
use std::{fs, thread};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

/// First argument of this program when it is the first process of a room.
pub const INIT_ARGUMENT: &str = "--tool-room";
/// Where Warren's guest puts an image's app. Elsewhere control groups are somebody else's.
const APP_CGROUP: &str = "0::/app";
const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// Processes that may be there at once: one for each MiB of memory, within these.
const PROCESSES_MIN: u64 = 256;
const PROCESSES_MAX: u64 = 4096;
/// What the worker and the guest keep of the VM's memory, in bytes.
const MEMORY_KEPT: u64 = 64 << 20;
/// The kernel's out-of-memory killer takes anybody before the worker.
const WORKER_OOM_SCORE: &str = "-900";
const TOOL_OOM_SCORE: &str = "0";
/// How long the first process waits for the room to be empty enough to start the shell in.
const START_TRIES: u32 = 100;
const START_PAUSE: Duration = Duration::from_millis(50);
/// How long a given-up command's processes have to be gone.
const EMPTY_WAIT_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether the room is full.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How shells are started.
#[derive(Debug, Clone)]
pub struct Room {
    /// This program.
    program: PathBuf,
    limits: Option<Limits>,
}

/// A control group with bounds.
#[derive(Debug, Clone)]
struct Limits {
    dir: PathBuf,
    processes: u64,
}

impl Room {
    /// A room made by `program`, which calls [`run_init`] for [`INIT_ARGUMENT`]; without bounds.
    pub fn made_by(program: PathBuf) -> Self {
        Self { program, limits: None }
    }

    /// The room of a worker that is a VM's app: with bounds where the VM is one of Warren's.
    pub fn of_app(program: PathBuf) -> Self {
        // Without root there is no room either, and nothing to protect from one's own kind.
        let _ = fs::write("/proc/self/oom_score_adj", WORKER_OOM_SCORE);
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limits = (own.trim() == APP_CGROUP).then(|| Limits::make(Path::new(CGROUP_ROOT)));
        let limits = match limits.transpose() {
            Ok(limits) => limits,
            Err(error) => {
                tracing::warn!(%error, "no control group bounds what tools start");
                None
            }
        };
        Self { program, limits }
    }

    /// Starts a program with its arguments in a new room; stdio, directory and environment are those of
    /// `command`, whose own program is replaced.
    pub(super) fn start(
        &self,
        prepare: impl Fn(&mut Command),
        program: &str,
        arguments: &[&str],
    ) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        let group = self.limits.as_ref().map_or(OsStr::new(""), |limits| limits.dir.as_os_str());
        command.arg(INIT_ARGUMENT).arg(group).arg(program).args(arguments);
        prepare(&mut command);
        let handle = Handle::current();
        // What a thread unshares holds for it alone: the next child it starts is the room's first process.
        let started = thread::Builder::new().name("tool-room".into()).spawn(move || {
            let _context = handle.enter();
            unshare(CloneFlags::CLONE_NEWPID)?;
            command.spawn()
        })?;
        started.join().unwrap_or_else(|_| Err(io::Error::other("the room's thread broke off")))
    }

    /// How often a process was refused for want of room.
    pub(super) fn refusals(&self) -> u64 {
        self.limits.as_ref().map_or(0, Limits::refusals)
    }

    /// Waits until whatever was ended in it is gone: a process that is dying still asks for more, which would be
    /// held against the next command.
    pub(super) async fn emptied(&self) {
        let Some(limits) = &self.limits else { return };
        let empty = async {
            while limits.holds_processes() {
                tokio::time::sleep(START_PAUSE).await;
            }
        };
        // One that hangs in the kernel does not stop the session.
        let _ = tokio::time::timeout(EMPTY_WAIT_MAX, empty).await;
    }

    /// Waits until more processes were refused than `before`; says how many there may be.
    pub(super) async fn overrun(&self, before: u64) -> u64 {
        let Some(limits) = &self.limits else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            if limits.refusals() > before {
                return limits.processes;
            }
        }
    }
}

impl Limits {
    /// Makes `app/worker` and `app/tools` of `app`: a group that has children with bounds holds no process.
    fn make(root: &Path) -> io::Result<Self> {
        let app = root.join("app");
        let (worker, tools) = (app.join("worker"), app.join("tools"));
        fs::create_dir_all(&worker)?;
        fs::write(worker.join("cgroup.procs"), "0")?;
        for parent in [root, &app] {
            for controller in ["+pids", "+memory", "+cpu"] {
                // One that this kernel lacks bounds nothing; the others still do.
                let _ = fs::write(parent.join("cgroup.subtree_control"), controller);
            }
        }
        fs::create_dir_all(&tools)?;
        let memory = memory_total()?;
        let processes = (memory >> 20).clamp(PROCESSES_MIN, PROCESSES_MAX);
        fs::write(tools.join("pids.max"), processes.to_string())?;
        let most = memory.saturating_sub(MEMORY_KEPT).max(memory / 2);
        if let Err(error) = fs::write(tools.join("memory.max"), most.to_string()) {
            tracing::warn!(%error, "the memory of tools has no bound of its own");
        }
        Ok(Self { dir: tools, processes })
    }

    fn holds_processes(&self) -> bool {
        fs::read_to_string(self.dir.join("pids.current")).is_ok_and(|count| count.trim() != "0")
    }

    fn refusals(&self) -> u64 {
        let events = fs::read_to_string(self.dir.join("pids.events")).unwrap_or_default();
        let count = events.lines().find_map(|line| line.strip_prefix("max ")?.trim().parse().ok());
        count.unwrap_or(0)
    }
}

/// Bytes of memory that this machine has.
fn memory_total() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    kib.map(|kib| kib << 10).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The first process of a room: joins the control group, shows the room's own processes in `/proc`, starts the
/// program, buries whoever ends, and ends with the program; everybody else in the room ends with that.
///
/// `arguments` are those after [`INIT_ARGUMENT`]: the control group or nothing, the program, its arguments.
pub fn run_init(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(group), Some(program)) = (arguments.next(), arguments.next()) else {
        return ExitCode::FAILURE;
    };
    if !group.is_empty() {
        // Without it the room is unbounded, which is better than no shell.
        let _ = fs::write(Path::new(&group).join("cgroup.procs"), "0");
    }
    let _ = fs::write("/proc/self/oom_score_adj", TOOL_OOM_SCORE);
    show_own_processes();
    let mut command = StdCommand::new(program);
    command.args(arguments).stdin(Stdio::inherit());
    for _ in 0..START_TRIES {
        match command.spawn() {
            Ok(child) => return wait_for(child.id()),
            // The room before this one may not be empty yet.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(START_PAUSE),
            Err(_) => return ExitCode::FAILURE,
        }
    }
    ExitCode::FAILURE
}

/// A `/proc` of the room's own, in a mount namespace of its own. Where that is refused, the old one stays.
fn show_own_processes() {
    let made = unshare(CloneFlags::CLONE_NEWNS).and_then(|()| {
        let nothing: Option<&str> = None;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
        let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), "/proc", Some("proc"), safe, nothing)
    });
    // What is shown does not matter to the shell itself.
    let _ = made;
}

fn wait_for(program: u32) -> ExitCode {
    loop {
        let (pid, code) = match waitpid(None::<Pid>, None) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, u8::try_from(code).unwrap_or(u8::MAX)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128_u8.saturating_add(signal as u8)),
            Ok(_) => continue,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return ExitCode::FAILURE,
        };
        if u32::try_from(pid.as_raw()) == Ok(program) {
            return ExitCode::from(code);
        }
    }
}

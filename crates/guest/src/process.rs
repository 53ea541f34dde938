//! Starting processes and reaping them: PID 1 is the parent of every orphan too.
//!
//! `std::process::Child::wait` is never called: one thread reaps all, and tells who waits for what.

use crate::{say, user::User};
use nix::{
    errno::Errno,
    sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    unistd::Pid,
};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::{Command, Stdio},
    sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};
use wire::{Capabilities, ExitStatus};

/// The search path of an image that sets none, as Docker has it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Capabilities of root in a container, as AWS has them: chown, dac_override, fowner, fsetid, kill,
/// setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
const CONTAINER: u64 = 0xa804_25fb;

/// Who waits for which process. Held while one is started, so that it cannot be reaped before it is
/// in here.
static WAITING: LazyLock<(Mutex<Waiters>, Condvar)> = LazyLock::new(Default::default);

/// By pid.
type Waiters = HashMap<i32, mpsc::Sender<ExitStatus>>;

fn waiting() -> MutexGuard<'static, Waiters> {
    WAITING.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to run.
pub(crate) struct Start<'a> {
    pub(crate) argv: &'a [String],
    pub(crate) env: &'a [(String, String)],
    pub(crate) working_dir: &'a str,
    pub(crate) user: &'a User,
    /// The cgroup directory that it joins before its first instruction.
    pub(crate) cgroup: Option<&'a str>,
    pub(crate) terminal: Terminal,
    pub(crate) capabilities: Capabilities,
}

/// Whether a process's standard input becomes its controlling terminal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Terminal {
    None,
    Stdin,
}

/// A process that runs; its pid is its process group's too.
pub(crate) struct Running {
    pub(crate) pid: i32,
    pub(crate) exit: mpsc::Receiver<ExitStatus>,
}

/// Starts the thread that reaps. Once, before anything is started.
pub(crate) fn start_reaper() -> Result<(), String> {
    let started = thread::Builder::new().name("reaper".into()).spawn(reap_for_ever);
    started.map(drop).map_err(|e| format!("the reaper's thread: {e}"))
}

/// Starts a process in a session of its own.
pub(crate) fn start(what: &Start<'_>, stdio: [Stdio; 3]) -> Result<Running, String> {
    let program = what.argv.first().ok_or("there is no command to run")?;
    fs::create_dir_all(what.working_dir).map_err(|e| format!("{}: {e}", what.working_dir))?;
    let mut command = command(what, program, stdio)?;
    let (sender, exit) = mpsc::channel();
    let mut waiting = waiting();
    let child = command.spawn().map_err(|e| format!("{program}: {e}"))?;
    let pid = child.id() as i32;
    waiting.insert(pid, sender);
    WAITING.1.notify_all();
    Ok(Running { pid, exit })
}

fn command(what: &Start<'_>, program: &str, stdio: [Stdio; 3]) -> Result<Command, String> {
    let [stdin, stdout, stderr] = stdio;
    let mut command = Command::new(program);
    command.args(&what.argv[1..]).current_dir(what.working_dir).env_clear();
    command.env("PATH", PATH).env("HOME", &what.user.home);
    command.envs(what.env.iter().map(|(k, v)| (k, v)));
    command.stdin(stdin).stdout(stdout).stderr(stderr);
    let procs = match what.cgroup {
        Some(directory) => {
            let path = format!("{directory}/cgroup.procs");
            Some(File::options().write(true).open(&path).map_err(|e| format!("{path}: {e}"))?)
        }
        None => None,
    };
    let User { uid, gid, ref groups, .. } = *what.user;
    let groups = groups.clone();
    let (terminal, capabilities) = (what.terminal, what.capabilities);
    let prepare = move || {
        if let Some(procs) = &procs {
            (&*procs).write_all(b"0")?;
        }
        nix::unistd::setsid()?;
        if terminal == Terminal::Stdin {
            // SAFETY: TIOCSCTTY takes an integer; descriptor 0 is the terminal that was put there.
            checked(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
        }
        if capabilities == Capabilities::Container {
            confine()?;
        }
        // SAFETY: setgroups reads `groups.len()` ids from a live vector.
        checked(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
        // SAFETY: these take integers only. The group goes first: afterwards we may no longer.
        checked(unsafe { libc::setresgid(gid, gid, gid) })?;
        // SAFETY: as above.
        checked(unsafe { libc::setresuid(uid, uid, uid) })
    };
    // SAFETY: between fork and exec the closure makes system calls only and allocates nothing; what it
    // uses was made before.
    unsafe { command.pre_exec(prepare) };
    Ok(command)
}

/// Leaves to the process, and to what it starts, the capabilities of [`CONTAINER`] at most. Root
/// gets what the bounding set leaves when it executes its program.
fn confine() -> io::Result<()> {
    for capability in 0..u64::BITS {
        if CONTAINER >> capability & 1 == 0 {
            // SAFETY: prctl takes integers only here. A capability that the kernel does not know is
            // EINVAL, and is not there.
            let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            if dropped != 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL) {
                return Err(io::Error::last_os_error());
            }
        }
    }
    // SAFETY: integers only.
    checked(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether any process but PID 1 is left.
pub(crate) fn any_left() -> bool {
    waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT)
        != Err(Errno::ECHILD)
}

fn reap_for_ever() {
    loop {
        // Only look: reaping while `start` holds the lock would take a failed start's child from it.
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
            Ok(_) => reap_what_ended(&mut waiting()),
            Err(Errno::ECHILD) => {
                // No child at all: none can come but by a start, which holds the lock.
                let map = waiting();
                if !any_left() {
                    drop(WAITING.1.wait(map));
                }
            }
            Err(Errno::EINTR) => {}
            Err(e) => say(format_args!("waitid: {e}")),
        }
    }
}

fn reap_what_ended(waiting: &mut Waiters) {
    loop {
        let (pid, status) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::Code(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, ExitStatus::Signal(signal as i32)),
            Ok(_) | Err(_) => return,
        };
        if let Some(sender) = waiting.remove(&pid.as_raw()) {
            // Nobody may be waiting any more; the process is reaped all the same.
            let _ = sender.send(status);
        }
    }
}

/// Makes a terminal's standard streams for a process out of one descriptor.
pub(crate) fn three(of: &File) -> Result<[Stdio; 3], String> {
    let copy = || {
        of.try_clone().map(Stdio::from).map_err(|e| format!("descriptor {}: {e}", of.as_raw_fd()))
    };
    Ok([copy()?, copy()?, copy()?])
}

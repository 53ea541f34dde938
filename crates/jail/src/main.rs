//! Puts one VMM process into its jail and executes it.
//!
//! `warren-jail OPTION... -- PROGRAM ARG...`: a flat list of steps in the order in which they must
//! happen, each a function; the VMM is treated as if it were already owned by its guest. The program
//! ends in `execve`, so the jail costs nothing afterwards, and all of the mounts vanish with the
//! process, since they are made in its own mount namespace.

mod options;
mod root;

use nix::{
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        resource::{Resource, setrlimit},
    },
    unistd::{Gid, Uid, setgroups, setresgid, setresuid, setsid},
};
use options::Options;
use std::{
    ffi::CString,
    fmt::{Debug, Display},
    process::ExitCode,
};

/// Open files a VMM may have at once.
const OPEN_FILES_MAX: u64 = 256;

/// A step that failed, in words.
struct Failure(String);

fn step<T, E: Display>(what: impl Display, result: Result<T, E>) -> Result<T, Failure> {
    result.map_err(|e| Failure(format!("{what}: {e}")))
}

impl Debug for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1);
    match Options::parse(arguments).map_err(Failure).and_then(|options| confine(&options)) {
        Ok(never) => match never {},
        Err(Failure(text)) => {
            // The engine reads this from the VM's own log and shows it.
            let _ = std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("warren-jail: {text}\n").as_bytes(),
            );
            ExitCode::from(126)
        }
    }
}

/// The way into the jail, in order.
fn confine(options: &Options) -> Result<std::convert::Infallible, Failure> {
    close_what_was_not_given(options)?;
    // Before anything is spent: all that follows is charged to the VM.
    for procs in &options.cgroups {
        step(procs, std::fs::write(procs, std::process::id().to_string()))?;
    }
    // A terminal's Ctrl-C or hang-up reaches the control plane, never its VMs.
    let _ = setsid();
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    step("new namespaces", unshare(namespaces))?;
    // INVARIANT: the root is changed while we may still mount; after the next step we may not.
    root::enter(options).map_err(Failure)?;
    drop_privileges(options)?;
    execute(options)
}

/// Nothing of the control plane's may leak in, whatever it forgot to mark close-on-exec.
fn close_what_was_not_given(options: &Options) -> Result<(), Failure> {
    let mut first = 3;
    for &fd in &options.keep {
        close_range(first, fd - 1)?;
        first = fd + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<(), Failure> {
    if first > last {
        return Ok(());
    }
    // SAFETY: close_range(2) takes numbers only; nothing in this program holds a descriptor in an
    // owning type at this point, so none can be closed under its owner.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 { Ok(()) } else { step("close_range", Err(std::io::Error::last_os_error())) }
}

fn drop_privileges(options: &Options) -> Result<(), Failure> {
    let (uid, gid) = (Uid::from_raw(options.uid), Gid::from_raw(options.uid));
    step("rlimit core", setrlimit(Resource::RLIMIT_CORE, 0, 0))?;
    step("rlimit nofile", setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES_MAX, OPEN_FILES_MAX))?;
    // INVARIANT: groups, then the group, then the user: each needs the rights that the next takes away.
    step("setgroups", setgroups(&[]))?;
    step("setresgid", setresgid(gid, gid, gid))?;
    step("setresuid", setresuid(uid, uid, uid))?;
    step("no_new_privs", prctl::set_no_new_privs())?;
    // A guest's memory is in this process: huge pages would make a page that the guest touches cost 2 MiB.
    // SAFETY: PR_SET_THP_DISABLE takes integers only.
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
    if result == 0 { Ok(()) } else { step("thp", Err(std::io::Error::last_os_error())) }
}

fn execute(options: &Options) -> Result<std::convert::Infallible, Failure> {
    let c = |s: &String| step(s, CString::new(s.as_str()));
    let program = options.command.first().map(c).ok_or(Failure("no program".into()))??;
    let arguments = options.command.iter().map(c).collect::<Result<Vec<_>, _>>()?;
    let environment = options.environment.iter().map(c).collect::<Result<Vec<_>, _>>()?;
    step(&options.command[0], nix::unistd::execve(&program, &arguments, &environment))
}

//! A VM's control group: its limits, and the truth about which processes are its own.
//!
//! Version 1 (a hierarchy for each controller) and version 2 (one) are both served. The VMM is
//! whatever process is in the group: no pid file can lie about it.

use crate::{EngineError, slot::Slot, state::host_error};
use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

const ROOT: &str = "/sys/fs/cgroup";
/// What a VMM needs besides its guest's memory: translation buffer, device state, heap, page tables.
const VMM_OVERHEAD_MIB: u64 = 192;
/// QEMU has six threads and one more for each vCPU.
const THREADS_MAX: u32 = 64;
/// A killed process is gone within milliseconds unless the kernel hangs.
const END_WAIT_MAX: Duration = Duration::from_secs(10);

/// Which version the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

fn version() -> Version {
    let v2 = Path::new(ROOT).join("cgroup.controllers").exists();
    if v2 { Version::V2 } else { Version::V1 }
}

/// The directories of a slot's group, in the order in which they are joined.
fn directories(slot: Slot) -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    match version() {
        Version::V2 => vec![root.join("warren").join(slot.name())],
        Version::V1 => ["memory", "pids", "cpu"]
            .into_iter()
            .map(|controller| root.join(controller))
            .filter(|hierarchy| hierarchy.join("cgroup.procs").exists())
            .map(|hierarchy| hierarchy.join("warren").join(slot.name()))
            .collect(),
    }
}

/// Makes the group of a slot and returns the files that a process writes itself into.
pub(crate) fn create(slot: Slot, memory_mib: u32) -> Result<Vec<String>, EngineError> {
    let directories = directories(slot);
    if directories.is_empty() {
        let source = io::Error::new(
            ErrorKind::NotFound,
            "no cgroup hierarchy with a memory or pids controller",
        );
        return Err(host_error(Path::new(ROOT), "find the control groups", source));
    }
    let memory_bytes = (u64::from(memory_mib) + VMM_OVERHEAD_MIB) * 1024 * 1024;
    for directory in &directories {
        fs::create_dir_all(directory).map_err(|e| host_error(directory, "create", e))?;
    }
    match version() {
        Version::V2 => {
            for parent in [Path::new(ROOT), &Path::new(ROOT).join("warren")] {
                let file = parent.join("cgroup.subtree_control");
                fs::write(&file, "+memory +pids +cpu")
                    .map_err(|e| host_error(&file, "enable controllers", e))?;
            }
            set(&directories[0], "memory.max", memory_bytes)?;
            set(&directories[0], "pids.max", u64::from(THREADS_MAX))?;
        }
        Version::V1 => {
            for directory in &directories {
                if directory.starts_with("/sys/fs/cgroup/memory") {
                    set(directory, "memory.limit_in_bytes", memory_bytes)?;
                } else if directory.starts_with("/sys/fs/cgroup/pids") {
                    set(directory, "pids.max", u64::from(THREADS_MAX))?;
                }
            }
        }
    }
    Ok(directories.iter().map(|d| d.join("cgroup.procs").display().to_string()).collect())
}

fn set(directory: &Path, name: &str, value: u64) -> Result<(), EngineError> {
    let file = directory.join(name);
    fs::write(&file, value.to_string()).map_err(|e| host_error(&file, &format!("write {value}"), e))
}

/// The processes in a slot's group; none where there is no group.
pub(crate) fn processes(slot: Slot) -> Vec<i32> {
    let mut pids: Vec<i32> = directories(slot)
        .iter()
        .filter_map(|d| fs::read_to_string(d.join("cgroup.procs")).ok())
        .flat_map(|text| text.lines().filter_map(|l| l.parse().ok()).collect::<Vec<_>>())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Whether the kernel killed something in the group for lack of memory.
pub(crate) fn ran_out_of_memory(slot: Slot) -> bool {
    directories(slot).iter().any(|d| {
        ["memory.events", "memory.oom_control"].iter().any(|name| {
            let text = fs::read_to_string(d.join(name)).unwrap_or_default();
            text.lines().any(|l| l.strip_prefix("oom_kill ").is_some_and(|n| n.trim() != "0"))
        })
    })
}

/// Kills what is in the group, waits until it is gone, and removes the group.
pub(crate) fn remove(slot: Slot) -> Result<(), EngineError> {
    let start = Instant::now();
    loop {
        let processes = processes(slot);
        if processes.is_empty() {
            break;
        }
        for pid in processes {
            // It may have ended by itself.
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
        if start.elapsed() > END_WAIT_MAX {
            let source = io::Error::new(ErrorKind::TimedOut, "its processes do not end");
            return Err(host_error(Path::new(&slot.name()), "end the control group", source));
        }
        sleep(Duration::from_millis(1));
    }
    for directory in directories(slot) {
        remove_directory(&directory, start)?;
    }
    Ok(())
}

/// A group whose last process has just ended may be busy for a moment still.
fn remove_directory(directory: &Path, start: Instant) -> Result<(), EngineError> {
    loop {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) if e.kind() == ErrorKind::ResourceBusy && start.elapsed() < END_WAIT_MAX => {
                sleep(Duration::from_millis(1));
            }
            Err(e) => return Err(host_error(directory, "remove", e)),
        }
    }
}

/// Removes the common parents when nobody on the machine has a group any more.
pub(crate) fn remove_parents() {
    let hierarchies = ["", "memory", "pids", "cpu"];
    for hierarchy in hierarchies {
        // Not empty, or not there: both are fine.
        let _ = fs::remove_dir(Path::new(ROOT).join(hierarchy).join("warren"));
    }
}

//! What a sandbox may use of the host: a control group, version 1 (a hierarchy for each controller) or
//! version 2 (one).

use crate::error::BuildError;
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

const ROOT: &str = "/sys/fs/cgroup";
const PARENT: &str = "warren-builds";
/// A group whose last process has just ended may be busy for a moment still.
const REMOVE_TRIES: u32 = 200;
const REMOVE_RETRY: Duration = Duration::from_millis(5);
/// Against 100 of everything else: a build waits for the VMs.
const CPU_WEIGHT: u64 = 50;
/// The same in version 1, where everything else has 1024.
const CPU_SHARES: u64 = 512;

/// Bounds on what a build uses while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of all processes of a build together with their page cache, in bytes. Page cache that
    /// is not being written is taken back before anything is killed.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub tasks_max: u64,
    /// Longest time that a Dockerfile may take.
    pub time_max: Duration,
}

impl Default for Limits {
    /// 4 GiB, 4096 tasks, one hour.
    fn default() -> Self {
        Self { memory_bytes: 4 << 30, tasks_max: 4096, time_max: Duration::from_secs(3600) }
    }
}

#[derive(Debug)]
pub(crate) struct Group {
    directories: Vec<PathBuf>,
}

impl Group {
    pub(crate) fn create(number: u8, limits: Limits) -> Result<Self, BuildError> {
        let root = Path::new(ROOT);
        let name = number.to_string();
        let one = root.join("cgroup.controllers").exists();
        let directories: Vec<PathBuf> = if one {
            let parent = root.join(PARENT);
            make(&parent)?;
            for directory in [root, &parent] {
                write(directory, "cgroup.subtree_control", "+memory +pids +cpu")?;
            }
            vec![parent.join(name)]
        } else {
            ["memory", "pids", "cpu"]
                .into_iter()
                .map(|controller| root.join(controller))
                .filter(|hierarchy| hierarchy.join("cgroup.procs").exists())
                .map(|hierarchy| hierarchy.join(PARENT).join(&name))
                .collect()
        };
        let group = Self { directories };
        for directory in &group.directories {
            make(directory)?;
            let settings = if one {
                vec![
                    ("memory.max", limits.memory_bytes),
                    ("pids.max", limits.tasks_max),
                    ("cpu.weight", CPU_WEIGHT),
                ]
            } else if directory.starts_with(root.join("memory")) {
                vec![("memory.limit_in_bytes", limits.memory_bytes)]
            } else if directory.starts_with(root.join("pids")) {
                vec![("pids.max", limits.tasks_max)]
            } else {
                vec![("cpu.shares", CPU_SHARES)]
            };
            for (file, value) in settings {
                write(directory, file, &value.to_string())?;
            }
        }
        Ok(group)
    }

    /// The files that a process writes itself into.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.directories.iter().map(|directory| directory.join("cgroup.procs"))
    }

    pub(crate) fn add(&self, pid: u32) -> Result<(), BuildError> {
        self.files().try_for_each(|file| {
            fs::write(&file, pid.to_string())
                .map_err(|source| BuildError::io("writing", &file, source))
        })
    }

    /// When its processes have ended. A group that stays is empty and taken over by the next.
    pub(crate) async fn remove(&self) {
        for directory in &self.directories {
            for _ in 0..REMOVE_TRIES {
                match fs::remove_dir(directory) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        tokio::time::sleep(REMOVE_RETRY).await;
                    }
                    Ok(()) | Err(_) => break,
                }
            }
            // Others may still be in it.
            let _ = directory.parent().map(fs::remove_dir);
        }
    }
}

fn make(directory: &Path) -> Result<(), BuildError> {
    fs::create_dir_all(directory).map_err(|source| BuildError::io("making", directory, source))
}

fn write(directory: &Path, name: &str, value: &str) -> Result<(), BuildError> {
    let file = directory.join(name);
    fs::write(&file, value).map_err(|source| BuildError::io("writing", &file, source))
}

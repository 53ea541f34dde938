//! A VMM process that runs: noticed when it ends, reaped when it is our child.

use super::vmm::pidfd;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    process::{Child, ExitStatus},
    sync::{Mutex, PoisonError},
};
use tokio::io::{Interest, unix::AsyncFd};

pub(crate) struct Process {
    pub(crate) pid: i32,
    end: AsyncFd<OwnedFd>,
    /// None where an earlier process of Warren started it.
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Must be called within a tokio runtime.
    pub(crate) fn of_child(child: Child) -> io::Result<Self> {
        let process = Self::of_pid(child.id() as i32)?;
        *process.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        Ok(process)
    }

    /// A process that is not our child.
    pub(crate) fn of_pid(pid: i32) -> io::Result<Self> {
        // SAFETY: the descriptor is owned by the value and stays the same open file for its life.
        let end = unsafe { AsyncFd::register_with_interest(pidfd(pid)?, Interest::READABLE)? };
        Ok(Self { pid, end, child: Mutex::default() })
    }

    /// Waits for its end. May be awaited by several.
    pub(crate) async fn ended(&self) {
        // An error means that it cannot be watched any more; the cgroup tells the truth at the next look.
        if let Ok(mut guard) = self.end.readable().await {
            guard.retain_ready();
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        let mut look = [PollFd::new(self.end.as_fd(), PollFlags::POLLIN)];
        poll(&mut look, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// How it ended, where it was our child; to be called after [`Process::ended`].
    pub(crate) fn reap(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.as_mut().and_then(|child| child.wait().ok())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = self.child.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            reap_some_time(child);
        }
    }
}

/// Sees to it that a child does not stay as a zombie after its end, which somebody else brings about.
fn reap_some_time(mut child: Child) {
    if !matches!(child.try_wait(), Ok(None)) {
        return;
    }
    // Where no thread can be had, the zombie stays until this process ends.
    let _ = std::thread::Builder::new().name("reap".into()).spawn(move || drop(child.wait()));
}

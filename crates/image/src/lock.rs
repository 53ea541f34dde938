//! Locks between builds, also of different processes: `flock` on files that are never removed.

use crate::{error::BuildError, progress::BuildStage, tool::Job};
use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
    time::Duration,
};

/// How often a lock that another holds is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Held until it is dropped; the kernel gives it back when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    Shared,
    Exclusive,
}

impl Lock {
    /// Takes the lock, waiting for as long as others hold it and the job is not cancelled.
    pub(crate) async fn take(path: &Path, hold: Hold, job: &Job) -> Result<Self, BuildError> {
        let mut told = false;
        loop {
            if let Some(lock) = Self::try_take(path, hold)? {
                return Ok(lock);
            }
            if !told {
                job.reporter.stage(BuildStage::Waiting);
                told = true;
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_INTERVAL) => {}
                () = job.cancel.cancelled() => return Err(BuildError::Cancelled),
            }
        }
    }

    /// None: another holds it.
    pub(crate) fn try_take(path: &Path, hold: Hold) -> Result<Option<Self>, BuildError> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(|source| BuildError::io("opening the lock", path, source))?;
        let tried = match hold {
            Hold::Shared => file.try_lock_shared(),
            Hold::Exclusive => file.try_lock(),
        };
        match tried {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(BuildError::io("locking", path, source)),
        }
    }
}

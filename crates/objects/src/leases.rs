//! Who is reading what: an object that is replaced or deleted while it is read keeps its files until
//! the last reader has gone.

use crate::files::Files;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[derive(Debug)]
pub(crate) struct Leases {
    files: Files,
    held: Mutex<HashMap<String, Held>>,
}

#[derive(Debug, Default)]
struct Held {
    readers: usize,
    /// Files to remove when the last reader goes.
    doomed: Vec<String>,
}

/// Keeps the files of one owner while it lives.
#[derive(Debug)]
pub(crate) struct Lease {
    leases: Arc<Leases>,
    owner: String,
}

impl Leases {
    pub(crate) fn new(files: Files) -> Arc<Self> {
        Arc::new(Self { files, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        // Each change of the map is one step, so that it is whole even after a panic.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(self: &Arc<Self>, owner: &str) -> Lease {
        self.held().entry(owner.to_owned()).or_default().readers += 1;
        Lease { leases: self.clone(), owner: owner.to_owned() }
    }

    /// Removes the files of an owner whose row is gone: now, or when nobody reads them any more.
    pub(crate) fn remove(&self, owner: &str, files: Vec<String>) {
        if let Some(held) = self.held().get_mut(owner) {
            held.doomed.extend(files);
            return;
        }
        self.files.remove(&files);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut held = self.leases.held();
        let Some(entry) = held.get_mut(&self.owner) else { return };
        entry.readers -= 1;
        if entry.readers > 0 {
            return;
        }
        let doomed = held.remove(&self.owner).map(|held| held.doomed).unwrap_or_default();
        drop(held);
        self.leases.files.remove(&doomed);
    }
}

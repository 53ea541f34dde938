//! The session's memory stores as directories: loaded before the first call, kept in step with the platform
//! after calls, written back and removed in the end.
//!
//! A directory is trusted as long as it holds the marker that says whose it is. One that lost it, or all of its
//! files at once, is loaded again and never taken for a wish to delete everything.

mod folder;
mod merge;
mod store;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agents::client::{Client, ClientError};
use agents::{MemoryStoreRef, Session};

use crate::tools::{ExtraRoot, RootAccess};
use merge::Access;
use store::{Phase, Store};

/// Shortest time between two times of bringing both sides in step, as with the official worker.
const SYNC_INTERVAL: Duration = Duration::from_secs(15);
/// Longest time for each of the two last passes: a slow platform must not hold up the end.
const LAST_PASS_TIMEOUT: Duration = Duration::from_secs(30);

/// A session's memory cannot be mounted: without it the agent would not know that it has forgotten.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The memory endpoints take no environment key.
    #[error("the work item brought no sessions token, and memory stores take no environment key")]
    NoToken,
    /// The session's description cannot be read.
    #[error("a memory store of the session cannot be read")]
    Resource(#[source] serde_json::Error),
    /// Not a path to make.
    #[error("memory store {store}: mount_path {path:?} is not a clean absolute path")]
    BadPath {
        /// Its id.
        store: String,
        /// The path.
        path: String,
    },
    /// Files of a session before, which would be sent to this one's store.
    #[error("memory store {store}: something already exists at {path}")]
    Exists {
        /// Its id.
        store: String,
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be had.
    #[error("memory store {store}: {path} cannot be made")]
    Disk {
        /// Its id.
        store: String,
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The platform does not give the memories.
    #[error("memory store {store} cannot be loaded")]
    Platform {
        /// Its id.
        store: String,
        /// Its answer.
        #[source]
        source: ClientError,
    },
}

/// Whether a session's item brought a token of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Authority {
    SessionsToken,
    EnvironmentKey,
}

/// The mounted stores of a session.
#[derive(Debug, Default)]
pub(super) struct Memory {
    stores: Vec<Store>,
    synced_at: Option<Instant>,
}

impl Memory {
    /// Loads all stores of the session. Where one cannot be had, none is left behind.
    pub(super) async fn mount(
        client: &Client,
        authority: Authority,
        workdir: &Path,
        session: &Session,
    ) -> Result<Self, MemoryError> {
        let wanted = MemoryStoreRef::of(&session.resources).map_err(MemoryError::Resource)?;
        if !wanted.is_empty() && authority == Authority::EnvironmentKey {
            return Err(MemoryError::NoToken);
        }
        let mut memory = Self::default();
        for store in wanted {
            match mount(client, workdir, &store).await {
                Ok(store) => memory.stores.push(store),
                Err(error) => {
                    memory.dispose().await;
                    return Err(error);
                }
            }
        }
        memory.synced_at = Some(Instant::now());
        Ok(memory)
    }

    /// Where the file tools may work besides the working directory.
    pub(super) fn roots(&self) -> Vec<ExtraRoot> {
        let root = |store: &Store| ExtraRoot {
            path: store.root().to_owned(),
            access: match store.access() {
                Access::ReadWrite => RootAccess::ReadWrite,
                Access::ReadOnly => RootAccess::ReadOnly,
            },
        };
        self.stores.iter().map(root).collect()
    }

    /// When both sides may be brought in step next; `None` where there is nothing to be.
    pub(super) fn due_at(&self) -> Option<Instant> {
        if self.stores.is_empty() {
            return None;
        }
        self.synced_at.map(|at| at + SYNC_INTERVAL)
    }

    /// Brings both sides in step. What fails is logged, and comes right the next time.
    pub(super) async fn sync(&mut self) {
        self.pass(Phase::Between).await;
        self.synced_at = Some(Instant::now());
    }

    /// The end: all changes go to the platform, then the directories go. After `Finish::Broken`, nothing is
    /// deleted at the platform.
    pub(super) async fn finish(mut self, how: Finish) {
        if self.stores.is_empty() {
            return;
        }
        let last = async {
            if how == Finish::Clean {
                let pass = tokio::time::timeout(LAST_PASS_TIMEOUT, self.pass(Phase::Last)).await;
                if pass.is_err() {
                    tracing::warn!("the last pass over the memory stores was cut off");
                }
            }
            tokio::time::timeout(LAST_PASS_TIMEOUT, self.pass(Phase::Rescue)).await
        };
        if last.await.is_err() {
            tracing::warn!("changed memories may not have been saved");
        }
        self.dispose().await;
    }

    async fn pass(&mut self, phase: Phase) {
        for store in &mut self.stores {
            if let Err(error) = store.pass(phase).await {
                tracing::warn!(store = store.id(), %error, "a memory store is not in step");
            }
        }
    }

    async fn dispose(&mut self) {
        for store in self.stores.drain(..) {
            store.dispose().await;
        }
    }
}

/// How an item ended, as far as memories go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// The turn or the session was over.
    Clean,
    /// In the middle of something: files may be half written.
    Broken,
}

async fn mount(
    client: &Client,
    workdir: &Path,
    wanted: &MemoryStoreRef,
) -> Result<Store, MemoryError> {
    let id = wanted.memory_store_id.clone();
    let root = match wanted.mount_path.as_deref().filter(|path| !path.is_empty()) {
        Some(path) if path.starts_with('/') && !path.split('/').any(|part| part == "..") => {
            PathBuf::from(path)
        }
        Some(path) => return Err(MemoryError::BadPath { store: id, path: path.to_owned() }),
        None => {
            let name = wanted.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&id);
            let root = workdir.join("memory").join(name);
            if name.split('/').any(|part| part == "..") || name.starts_with('/') {
                return Err(MemoryError::BadPath { store: id, path: root.display().to_string() });
            }
            root
        }
    };
    let access = if wanted.is_read_only() { Access::ReadOnly } else { Access::ReadWrite };
    let mut store = Store::new(client.clone(), id.clone(), root.clone(), access);
    let disk = |source| MemoryError::Disk { store: id.clone(), path: root.clone(), source };
    if store.exists().await.map_err(disk)? {
        return Err(MemoryError::Exists { store: id, path: root });
    }
    store.create().await.map_err(disk)?;
    match store.load().await {
        Ok(count) => {
            tracing::info!(store = id, count, root = %root.display(), "a memory store is mounted");
            Ok(store)
        }
        Err(error) => {
            store.dispose().await;
            Err(match error {
                store::StoreError::Platform(source) => MemoryError::Platform { store: id, source },
                store::StoreError::Disk(source) => {
                    MemoryError::Disk { store: id, path: root, source }
                }
            })
        }
    }
}

//! One mounted store: its directory, what both sides last had in common, and the passes that bring them in step.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agents::client::{Client, ClientError, MemoryView};
use agents::{Memory, MemoryListing};
use http::StatusCode;
use tokio::task::JoinSet;

use super::folder::{Folder, FolderError, checksum};
use super::merge::{Access, Known, Sha, Step, step};

/// Says whose a directory is. Never a memory itself.
const MARKER: &str = ".anthropic-memory-store";
/// How long a file must be gone before its memory is deleted.
const DELETE_DELAY: Duration = Duration::from_secs(30);
/// Memories that one pass deletes: a quarter of the store, within these.
const DELETES_MIN: usize = 8;
const DELETES_MAX: usize = 50;
/// Transfers at once.
const TRANSFERS_MAX: usize = 16;
/// Pages of a listing; a store has 2000 memories at most.
const PAGES_MAX: usize = 1000;

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between two calls.
    Between,
    /// The last one of a session that ended well: deletions wait for nothing.
    Last,
    /// After whatever ended the session: changed files go to the platform, nothing else happens.
    Rescue,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error(transparent)]
    Platform(#[from] ClientError),
    #[error("its directory cannot be used: {0}")]
    Disk(#[from] io::Error),
}

#[derive(Debug)]
pub(super) struct Store {
    client: Client,
    id: String,
    access: Access,
    folder: Folder,
    /// Checksum of each path that both sides had in common.
    base: HashMap<String, Sha>,
    /// Contents that the platform would not take.
    refused: HashMap<String, Sha>,
    /// Files that are gone, since when.
    absent: HashMap<String, Instant>,
    /// Contents that were sent and whose answer did not come.
    sent: HashMap<String, Sha>,
}

/// A file that goes to the platform.
struct Upload {
    path: String,
    /// The memory that it replaces.
    over: Option<Memory>,
}

/// What came of a transfer.
enum Moved {
    /// Both sides have this.
    Done(Sha),
    /// The platform refuses this content.
    Refused(Sha),
    /// It was sent, and perhaps taken.
    Unknown(Sha),
    /// Nothing happened.
    Not,
}

impl Store {
    pub(super) fn new(client: Client, id: String, root: PathBuf, access: Access) -> Self {
        let folder = Folder::new(root);
        let (base, refused, absent, sent) = Default::default();
        Self { client, id, access, folder, base, refused, absent, sent }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn root(&self) -> &Path {
        self.folder.root()
    }

    pub(super) fn access(&self) -> Access {
        self.access
    }

    pub(super) async fn exists(&self) -> io::Result<bool> {
        self.on_disk(|folder| folder.exists()).await
    }

    pub(super) async fn create(&self) -> io::Result<()> {
        self.on_disk(|folder| folder.create()).await
    }

    /// Writes the marker and all memories; how many there are.
    pub(super) async fn load(&mut self) -> Result<usize, StoreError> {
        (self.base, self.absent, self.sent) = Default::default();
        let marker = self.marker();
        self.write(MARKER, marker).await.map_err(into_io)?;
        for (path, memory) in self.listing(MemoryView::Full).await? {
            let sha = memory.content_sha256.clone();
            if self.write_or_warn(&path, memory.content.unwrap_or_default()).await {
                self.base.insert(path, sha);
            }
        }
        Ok(self.base.len())
    }

    /// Brings both sides in step, or only saves what has changed here.
    pub(super) async fn pass(&mut self, phase: Phase) -> Result<(), StoreError> {
        let mut local = self.on_disk(|folder| folder.scan()).await?;
        let marker = local.remove(MARKER);
        if marker.as_deref() != Some(checksum(&self.marker()).as_str()) {
            return self.distrust(phase, &local).await;
        }
        let remote = self.listing(MemoryView::Basic).await?;
        for (path, sha) in std::mem::take(&mut self.sent) {
            if remote.get(&path).is_some_and(|memory| memory.content_sha256 == sha) {
                self.base.insert(path, sha);
            }
        }
        if phase != Phase::Rescue && local.is_empty() && self.base.len() > 1 {
            tracing::warn!(
                store = self.id,
                "every memory file is gone at once: they are loaded again"
            );
            return self.load().await.map(|_| ());
        }
        let mut pulls = Vec::new();
        let mut uploads = Vec::new();
        let mut deletes = (self.base.len() / 4).clamp(DELETES_MIN, DELETES_MAX);
        let paths: BTreeSet<String> =
            remote.keys().chain(local.keys()).chain(self.base.keys()).cloned().collect();
        for path in paths {
            let there = remote.get(&path);
            let known = Known {
                base: self.base.get(&path),
                local: local.get(&path),
                remote: there.map(|memory| &memory.content_sha256),
                refused: self.refused.get(&path),
            };
            if known.local.is_some() {
                self.absent.remove(&path);
            }
            let step = step(known, self.access);
            match (step, phase) {
                (Step::Create, _) => uploads.push(Upload { path, over: None }),
                (Step::Update, _) => uploads.push(Upload { path, over: there.cloned() }),
                (Step::Adopt, _) => {
                    let adopted = there.map(|memory| memory.content_sha256.clone());
                    self.base.extend(adopted.map(|sha| (path, sha)));
                }
                (
                    Step::Pull | Step::DeleteRemote | Step::DeleteLocal | Step::Forget,
                    Phase::Rescue,
                )
                | (Step::Keep, _) => {}
                (Step::Forget, Phase::Between | Phase::Last) => {
                    self.base.remove(&path);
                    self.absent.remove(&path);
                }
                (Step::Pull, Phase::Between | Phase::Last) => {
                    if known.local.is_some() && known.local != known.base {
                        tracing::warn!(
                            store = self.id,
                            path,
                            "a memory was changed on both sides: the platform's stays"
                        );
                    }
                    self.absent.remove(&path);
                    pulls.extend(there.map(|memory| (path, memory.id.clone())));
                }
                (Step::DeleteLocal, Phase::Between | Phase::Last) => self.delete_local(path).await,
                (Step::DeleteRemote, Phase::Between | Phase::Last) => {
                    if let Some(memory) = there {
                        self.delete_remote(path, &memory.id.clone(), phase, &mut deletes).await;
                    }
                }
            }
        }
        self.upload_all(uploads).await;
        self.pull_all(pulls).await;
        Ok(())
    }

    /// The directory is not the one that was made.
    async fn distrust(
        &mut self,
        phase: Phase,
        local: &BTreeMap<String, Sha>,
    ) -> Result<(), StoreError> {
        if !local.is_empty() {
            tracing::warn!(store = self.id, root = %self.root().display(), "its marker is gone or another's: the directory is left as it is");
            return Ok(());
        }
        if phase == Phase::Rescue {
            return Ok(());
        }
        tracing::warn!(store = self.id, "its directory is gone: it is loaded again");
        self.create().await?;
        self.load().await.map(|_| ())
    }

    /// Removes the directory, unless it holds somebody else's files.
    pub(super) async fn dispose(self) {
        let marker = checksum(&self.marker());
        let ours = move |folder: &Folder| -> io::Result<bool> {
            let mut found = folder.scan()?;
            let ours = found.remove(MARKER).is_some_and(|sha| sha == marker) || found.is_empty();
            if ours {
                folder.dispose()?;
            }
            Ok(ours)
        };
        match self.on_disk(ours).await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(store = self.id, root = %self.root().display(), "a directory without its marker stays")
            }
            Err(error) => tracing::warn!(store = self.id, %error, "its directory stays"),
        }
    }

    fn marker(&self) -> String {
        format!("version 1\n{}", self.id)
    }

    /// All memories by their path without the leading slash.
    async fn listing(&self, view: MemoryView) -> Result<BTreeMap<String, Memory>, ClientError> {
        let mut found = BTreeMap::new();
        let mut page: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let answer = self.client.memories(&self.id, view, page.as_deref()).await?;
            for entry in answer.data {
                let MemoryListing::Memory(memory) = entry else { continue };
                let path = memory.path.trim_start_matches('/').to_owned();
                if path != MARKER {
                    found.insert(path, memory);
                }
            }
            page = answer.next_page.filter(|page| !page.is_empty());
            if page.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// Removes a file whose memory is gone, unless it was edited a moment ago.
    async fn delete_local(&mut self, path: String) {
        let base = self.base.get(&path).cloned();
        let name = path.clone();
        let removed = self.on_disk(move |folder| match folder.checksum(&name) {
            Ok(now) if now == base => folder.remove(&name).map(|()| true).map_err(into_io),
            Ok(_) => Ok(false),
            Err(error) => Err(error),
        });
        match removed.await {
            Ok(true) => {
                self.base.remove(&path);
            }
            // The next pass sees the edit.
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(store = self.id, path, %error, "a deleted memory's file stays")
            }
        }
    }

    /// Deletes a memory whose file has been gone for long enough and still is.
    async fn delete_remote(&mut self, path: String, memory: &str, phase: Phase, room: &mut usize) {
        let since = *self.absent.entry(path.clone()).or_insert_with(Instant::now);
        if phase == Phase::Between && since.elapsed() < DELETE_DELAY {
            return;
        }
        let (marker, name) = (checksum(&self.marker()), path.clone());
        let certain = self.on_disk(move |folder| {
            Ok(folder.checksum(MARKER)? == Some(marker) && folder.checksum(&name)?.is_none())
        });
        if !certain.await.unwrap_or(false) || *room == 0 {
            return;
        }
        *room -= 1;
        let Some(base) = self.base.get(&path) else { return };
        match self.client.delete_memory(&self.id, memory, base).await {
            Ok(_) => tracing::info!(store = self.id, path, "a memory is deleted"),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {}
            Err(error) => {
                tracing::warn!(store = self.id, path, %error, "a memory is not deleted");
                return;
            }
        }
        self.base.remove(&path);
        self.absent.remove(&path);
    }

    async fn upload_all(&mut self, uploads: Vec<Upload>) {
        let mut waiting = uploads.into_iter();
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < TRANSFERS_MAX
                && let Some(upload) = waiting.next()
            {
                let (client, id, folder) =
                    (self.client.clone(), self.id.clone(), self.folder.clone());
                under_way.spawn(async move {
                    let path = upload.path.clone();
                    (path, send(&client, &id, folder, upload).await)
                });
            }
            let Some(done) = under_way.join_next().await else { return };
            let Ok((path, moved)) = done else { continue };
            match moved {
                Moved::Done(sha) => {
                    self.refused.remove(&path);
                    self.base.insert(path, sha);
                }
                Moved::Refused(sha) => {
                    self.refused.insert(path, sha);
                }
                Moved::Unknown(sha) => {
                    self.sent.insert(path, sha);
                }
                Moved::Not => {}
            }
        }
    }

    async fn pull_all(&mut self, pulls: Vec<(String, String)>) {
        let mut waiting = pulls.into_iter();
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < TRANSFERS_MAX
                && let Some((path, memory)) = waiting.next()
            {
                let (client, id) = (self.client.clone(), self.id.clone());
                under_way.spawn(async move { (path, client.memory(&id, &memory).await) });
            }
            let Some(done) = under_way.join_next().await else { return };
            match done {
                Ok((path, Ok(memory))) => {
                    let content = memory.content.unwrap_or_default();
                    if self.write_or_warn(&path, content).await {
                        self.base.insert(path, memory.content_sha256);
                    }
                }
                // Deleted since the listing: the next pass sees that.
                Ok((_, Err(error))) if error.status() == Some(StatusCode::NOT_FOUND) => {}
                Ok((path, Err(error))) => {
                    tracing::warn!(store = self.id, path, %error, "a memory is not loaded");
                }
                Err(_) => {}
            }
        }
    }

    async fn write(&self, path: &str, content: String) -> Result<(), FolderError> {
        let (folder, path) = (self.folder.clone(), path.to_owned());
        tokio::task::spawn_blocking(move || folder.put(&path, &content))
            .await
            .unwrap_or_else(|error| Err(FolderError::Io(io::Error::other(error))))
    }

    async fn write_or_warn(&self, path: &str, content: String) -> bool {
        match self.write(path, content).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(store = self.id, path, %error, "a memory is not written");
                false
            }
        }
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Folder) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let folder = self.folder.clone();
        let done = tokio::task::spawn_blocking(move || act(&folder)).await;
        done.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

fn into_io(error: FolderError) -> io::Error {
    match error {
        FolderError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// Sends a file as it is now.
async fn send(client: &Client, store: &str, folder: Folder, upload: Upload) -> Moved {
    let Upload { path, over } = upload;
    let name = path.clone();
    let read = tokio::task::spawn_blocking(move || {
        (folder.get(&name), folder.checksum(&name).ok().flatten())
    });
    let content = match read.await {
        Ok((Ok(Some(content)), _)) => content,
        Ok((Err(error @ (FolderError::NotText | FolderError::TooLong)), Some(sha))) => {
            tracing::warn!(store, path, %error, "a file cannot be a memory");
            return Moved::Refused(sha);
        }
        Ok((Ok(None) | Err(_), _)) | Err(_) => return Moved::Not,
    };
    let sha = checksum(&content);
    let wire_path = format!("/{path}");
    let answer = match &over {
        Some(memory) => {
            let updated =
                client.update_memory(store, &memory.id, &content, &memory.content_sha256).await;
            match updated {
                // Deleted since the listing: this file is the only copy now.
                Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                    client.create_memory(store, &wire_path, &content).await
                }
                other => other,
            }
        }
        None => client.create_memory(store, &wire_path, &content).await,
    };
    let error = match answer {
        Ok(memory) => return Moved::Done(memory.content_sha256),
        Err(error) => error,
    };
    tracing::warn!(store, path, %error, "a memory is not saved");
    match error.status() {
        Some(StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE) => Moved::Refused(sha),
        // Refused for another's change, perhaps for our own of which no answer came.
        Some(_) | None => Moved::Unknown(sha),
    }
}

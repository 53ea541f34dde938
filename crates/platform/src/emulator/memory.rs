//! Memories: documents at paths, each change of which leaves a version (spec 7.2).
//!
//! Two memories never share a path, and none lies below another: `/a` and `/a/b` exclude each
//! other. An update may be bound to the content that its author has seen.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::SqliteConnection;

use super::resources::{find, usable};
use super::{Caller, Emulator, Place};
use crate::clock::Timestamp;
use crate::fault::Fault;
use crate::store::{self, Conditions, Kind, ResourceRow};

/// Memories in one store, at most.
const MEMORIES_MAX: i64 = 2000;

/// A memory to be made; shapes are checked.
#[derive(Debug)]
pub(crate) struct NewMemory {
    pub(crate) path: String,
    pub(crate) content: String,
}

/// What is to be changed of a memory.
#[derive(Debug)]
pub(crate) struct MemoryChange {
    pub(crate) path: Option<String>,
    pub(crate) content: Option<String>,
    /// The hash of the content that the author has seen.
    pub(crate) expected: Option<String>,
}

impl Emulator {
    /// Makes a memory.
    pub(crate) async fn create_memory(
        &self,
        caller: &Caller,
        store: &str,
        new: NewMemory,
    ) -> Result<ResourceRow, Fault> {
        let now = self.now();
        let mut change = self.store.change().await?;
        usable(find(&mut change, Place::of(Kind::MemoryStore, store)).await?)?;
        free_path(change.rows(), store, &new.path, None).await?;
        if ResourceRow::count(change.rows(), Kind::Memory, store).await? >= MEMORIES_MAX {
            let message = format!("memory store {store} has {MEMORIES_MAX} memories already");
            return Err(Fault::Invalid { message, code: None });
        }
        let body = content(&new.path, &new.content);
        let mut memory = ResourceRow::new(Kind::Memory, body, now).of(store).with_key(&new.path);
        let version = version(&memory, "created", caller, now);
        memory.body.insert("memory_version_id".into(), json!(version.id));
        memory.insert(change.rows()).await?;
        version.insert(change.rows()).await?;
        change.commit().await?;
        Ok(memory)
    }

    /// Changes content or path of a memory. What changes nothing is no version.
    pub(crate) async fn update_memory(
        &self,
        caller: &Caller,
        place: Place<'_>,
        new: MemoryChange,
    ) -> Result<ResourceRow, Fault> {
        let now = self.now();
        let mut change = self.store.change().await?;
        let mut memory = find(&mut change, place).await?;
        let store = memory.parent.clone().unwrap_or_default();
        usable(find(&mut change, Place::of(Kind::MemoryStore, &store)).await?)?;
        let path = new.path.unwrap_or_else(|| memory.text("path").to_owned());
        let text = new.content.unwrap_or_else(|| memory.text("content").to_owned());
        if path == memory.text("path") && text == memory.text("content") {
            return Ok(memory);
        }
        expect(&memory, new.expected.as_deref())?;
        free_path(change.rows(), &store, &path, Some(&memory.id)).await?;
        memory.body.extend(content(&path, &text));
        memory.key = Some(path);
        memory.updated_at = now;
        let version = version(&memory, "modified", caller, now);
        memory.body.insert("memory_version_id".into(), json!(version.id));
        memory.save(change.rows()).await?;
        version.insert(change.rows()).await?;
        change.commit().await?;
        Ok(memory)
    }

    /// Removes a memory; its versions stay.
    pub(crate) async fn delete_memory(
        &self,
        caller: &Caller,
        place: Place<'_>,
        expected: Option<&str>,
    ) -> Result<ResourceRow, Fault> {
        let mut change = self.store.change().await?;
        let memory = find(&mut change, place).await?;
        expect(&memory, expected)?;
        version(&memory, "deleted", caller, self.now()).insert(change.rows()).await?;
        memory.delete(change.rows()).await?;
        change.commit().await?;
        Ok(memory)
    }

    /// Takes what was written out of a version that is no memory's current one.
    pub(crate) async fn redact_version(
        &self,
        caller: &Caller,
        place: Place<'_>,
    ) -> Result<ResourceRow, Fault> {
        let mut change = self.store.change().await?;
        let mut version = find(&mut change, place).await?;
        let memory = version.text("memory_id").to_owned();
        let memory = ResourceRow::find(change.rows(), Kind::Memory, &memory).await?;
        if memory.is_some_and(|memory| memory.text("memory_version_id") == version.id) {
            return Err(Fault::Invalid {
                message: format!(
                    "memory version {} is the current one of its memory: update or delete the \
                     memory first",
                    version.id
                ),
                code: None,
            });
        }
        if version.body.get("redacted_at").is_none_or(Value::is_null) {
            for member in ["content", "path", "content_sha256", "content_size_bytes"] {
                version.body.insert(member.into(), Value::Null);
            }
            version.body.insert("redacted_at".into(), json!(self.now().to_string()));
            version.body.insert("redacted_by".into(), caller.actor());
            version.save(change.rows()).await?;
            change.commit().await?;
        }
        Ok(version)
    }
}

/// The SHA-256 of a content, as the API writes it.
fn sha256(content: &str) -> String {
    hex::encode(Sha256::digest(content.as_bytes()))
}

fn content(path: &str, content: &str) -> Map<String, Value> {
    Map::from_iter([
        ("path".to_owned(), json!(path)),
        ("content".to_owned(), json!(content)),
        ("content_sha256".to_owned(), json!(sha256(content))),
        ("content_size_bytes".to_owned(), json!(content.len())),
    ])
}

/// What a memory was after a change, as a version of its own.
fn version(memory: &ResourceRow, operation: &str, caller: &Caller, now: Timestamp) -> ResourceRow {
    let mut body = memory.body.clone();
    body.remove("memory_version_id");
    body.insert("memory_id".into(), json!(memory.id));
    body.insert("operation".into(), json!(operation));
    body.insert("created_by".into(), caller.actor());
    body.insert("redacted_at".into(), Value::Null);
    let version = ResourceRow::new(Kind::MemoryVersion, body, now).with_key(&memory.id);
    version.of(memory.parent.as_deref().unwrap_or_default())
}

fn expect(memory: &ResourceRow, expected: Option<&str>) -> Result<(), Fault> {
    match expected {
        Some(expected) if expected != memory.text("content_sha256") => {
            Err(Fault::Stale(format!("memory {} has another content by now", memory.id)))
        }
        Some(_) | None => Ok(()),
    }
}

/// Refuses a path that another memory has, or that lies above or below another's.
async fn free_path(
    rows: &mut SqliteConnection,
    parent: &str,
    path: &str,
    own: Option<&str>,
) -> Result<(), Fault> {
    let above = path.match_indices('/').skip(1).map(|(at, _)| path[..at].to_owned());
    let on_the_way = above.chain([path.to_owned()]).collect();
    let within = || ResourceRow::all_of(Kind::Memory).text("parent", parent);
    let mut found: Vec<ResourceRow> = store::all(rows, &within().one_of("key", on_the_way)).await?;
    found.extend(store::all(rows, &below(within(), &format!("{path}/"))).await?);
    match found.into_iter().find(|memory| own != Some(&memory.id)) {
        None => Ok(()),
        Some(memory) => {
            let path = memory.text("path").to_owned();
            Err(Fault::PathTaken { path, memory: memory.id })
        }
    }
}

/// The memories whose paths begin with `prefix`, which ends in `/`.
pub(crate) fn below(conditions: Conditions, prefix: &str) -> Conditions {
    // '0' is what follows '/'.
    let end = format!("{}0", prefix.strip_suffix('/').unwrap_or(prefix));
    conditions.compare("key", ">=", prefix).compare("key", "<", end)
}

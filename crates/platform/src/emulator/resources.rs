//! What is kept and shown: made, found, changed, archived, deleted, the same way for all kinds.

use super::{Emulator, News};
use crate::fault::Fault;
use crate::store::{Change, Kind, ResourceRow};

/// Which one: a kind, an id, and what it has to belong to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) kind: Kind,
    pub(crate) parent: Option<&'a str>,
    pub(crate) id: &'a str,
}

impl<'a> Place<'a> {
    /// One that belongs to nothing.
    pub(crate) fn of(kind: Kind, id: &'a str) -> Self {
        Self { kind, parent: None, id }
    }

    /// One that belongs to `parent`.
    pub(crate) fn within(kind: Kind, parent: &'a str, id: &'a str) -> Self {
        Self { kind, parent: Some(parent), id }
    }
}

impl Emulator {
    /// Stores a new one.
    pub(crate) async fn create(&self, row: ResourceRow) -> Result<ResourceRow, Fault> {
        let mut change = self.store.change().await?;
        if let (Some(kind), Some(parent)) = (parent_of(row.kind), &row.parent) {
            usable(find(&mut change, Place::of(kind, parent)).await?)?;
        }
        row.insert(change.rows()).await?;
        self.tell_of(&mut change, &row, "created").await?;
        self.finish(change).await?;
        Ok(row)
    }

    /// Stores new ones with their bytes; returns the first.
    pub(crate) async fn create_with_bytes(
        &self,
        new: Vec<(ResourceRow, Vec<u8>)>,
    ) -> Result<ResourceRow, Fault> {
        let mut change = self.store.change().await?;
        for (row, bytes) in &new {
            row.insert(change.rows()).await?;
            row.keep_bytes(change.rows(), bytes).await?;
        }
        change.commit().await?;
        self.due.notify_one();
        let first = new.into_iter().next();
        first.map(|(row, _)| row).ok_or_else(|| Fault::field("body", "is empty"))
    }

    /// Makes a skill name its newest version.
    pub(crate) async fn settle_latest_version(&self, skill: &str) -> Result<(), Fault> {
        let versions = ResourceRow::all_of(Kind::SkillVersion).text("parent", skill);
        let versions: Vec<ResourceRow> = self.all(&versions).await?;
        let latest = versions.last().map(|version| version.id.clone());
        self.alter(Place::of(Kind::Skill, skill), |row| {
            row.body.insert("latest_version_id".into(), latest.into());
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// One of them.
    pub(crate) async fn resource(&self, place: Place<'_>) -> Result<ResourceRow, Fault> {
        let mut rows = self.store.read().await?;
        check(ResourceRow::find(&mut rows, place.kind, place.id).await?, place)
    }

    /// Does something to one that is not archived.
    pub(crate) async fn alter(
        &self,
        place: Place<'_>,
        act: impl FnOnce(&mut ResourceRow) -> Result<(), Fault>,
    ) -> Result<ResourceRow, Fault> {
        let mut change = self.store.change().await?;
        let mut row = usable(find(&mut change, place).await?)?;
        let before = row.clone();
        act(&mut row)?;
        if row != before {
            row.updated_at = self.now();
            row.save(change.rows()).await?;
            self.tell_of(&mut change, &row, "updated").await?;
            self.finish(change).await?;
        }
        Ok(row)
    }

    /// Archives one; twice changes nothing.
    pub(crate) async fn archive(&self, place: Place<'_>) -> Result<ResourceRow, Fault> {
        let mut change = self.store.change().await?;
        let mut row = find(&mut change, place).await?;
        if row.archived_at.is_none() {
            let now = self.now();
            row.archived_at = Some(now);
            row.updated_at = now;
            row.due_at = None;
            // What it kept secret is of no use any more.
            row.hidden = serde_json::Value::Null;
            row.save(change.rows()).await?;
            self.tell_of(&mut change, &row, "archived").await?;
            self.finish(change).await?;
        }
        Ok(row)
    }

    /// Removes one, and what belongs to it.
    pub(crate) async fn delete(&self, place: Place<'_>) -> Result<ResourceRow, Fault> {
        let mut change = self.store.change().await?;
        let row = find(&mut change, place).await?;
        row.delete(change.rows()).await?;
        self.tell_of(&mut change, &row, "deleted").await?;
        self.finish(change).await?;
        Ok(row)
    }

    /// The bytes of one.
    pub(crate) async fn bytes(&self, row: &ResourceRow) -> Result<Vec<u8>, Fault> {
        let mut rows = self.store.read().await?;
        Ok(row.bytes(&mut rows).await?)
    }

    /// Tells endpoints what became of it, if the platform has such an event.
    pub(super) async fn tell_of(
        &self,
        change: &mut Change<'_>,
        row: &ResourceRow,
        what: &str,
    ) -> Result<(), Fault> {
        let told = match row.kind {
            Kind::Deployment => true,
            Kind::Vault | Kind::Credential | Kind::MemoryStore => what != "updated",
            Kind::Memory
            | Kind::MemoryVersion
            | Kind::Skill
            | Kind::SkillVersion
            | Kind::File
            | Kind::DeploymentRun => false,
        };
        if !told {
            return Ok(());
        }
        let kind = format!("{}.{what}", row.kind.name());
        let vault = row.parent.as_deref().filter(|_| row.kind == Kind::Credential);
        self.tell(change, News { kind: &kind, subject: &row.id, vault }).await
    }
}

/// One of them, to be changed.
pub(super) async fn find(change: &mut Change<'_>, place: Place<'_>) -> Result<ResourceRow, Fault> {
    check(ResourceRow::find(change.rows(), place.kind, place.id).await?, place)
}

/// Refuses one that is archived.
pub(super) fn usable(row: ResourceRow) -> Result<ResourceRow, Fault> {
    if row.archived_at.is_some() {
        let message = format!("{} {} is archived", noun(row.kind), row.id);
        return Err(Fault::Invalid { message, code: None });
    }
    Ok(row)
}

fn check(found: Option<ResourceRow>, place: Place<'_>) -> Result<ResourceRow, Fault> {
    let own = found.filter(|row| place.parent.is_none_or(|id| row.parent.as_deref() == Some(id)));
    own.ok_or_else(|| Fault::not_found(noun(place.kind), place.id))
}

fn parent_of(kind: Kind) -> Option<Kind> {
    match kind {
        Kind::Credential => Some(Kind::Vault),
        Kind::Memory | Kind::MemoryVersion => Some(Kind::MemoryStore),
        Kind::SkillVersion => Some(Kind::Skill),
        Kind::DeploymentRun => Some(Kind::Deployment),
        Kind::Vault | Kind::MemoryStore | Kind::Skill | Kind::File | Kind::Deployment => None,
    }
}

/// What it is called in a sentence.
pub(super) fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Vault => "vault",
        Kind::Credential => "credential",
        Kind::MemoryStore => "memory store",
        Kind::Memory => "memory",
        Kind::MemoryVersion => "memory version",
        Kind::Skill => "skill",
        Kind::SkillVersion => "skill version",
        Kind::File => "file",
        Kind::Deployment => "deployment",
        Kind::DeploymentRun => "deployment run",
    }
}

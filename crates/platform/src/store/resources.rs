//! What is kept and shown and has no state machine of its own, all of it in one table.
//!
//! A row is what a client gave it, resolved, as JSON; what is common to all kinds (id, times,
//! what it belongs to) stands in columns. The rules of a kind are in `emulator` and `http`.

use serde_json::{Map, Value, json as value};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::page::{self, Conditions, Listed};
use super::{StoreError, json, to_json};
use crate::clock::Timestamp;
use crate::ids::random_id;

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Vault,
    Credential,
    MemoryStore,
    Memory,
    MemoryVersion,
    Skill,
    SkillVersion,
    File,
    Deployment,
    DeploymentRun,
}

impl Kind {
    /// Its `type` on the wire, and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Credential => "vault_credential",
            Self::MemoryStore => "memory_store",
            Self::Memory => "memory",
            Self::MemoryVersion => "memory_version",
            Self::Skill => "skill",
            Self::SkillVersion => "skill_version",
            Self::File => "file",
            Self::Deployment => "deployment",
            Self::DeploymentRun => "deployment_run",
        }
    }

    /// What its ids begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Vault => "vlt_",
            Self::Credential => "vcrd_",
            Self::MemoryStore => "memstore_",
            Self::Memory => "mem_",
            Self::MemoryVersion => "memver_",
            Self::Skill => "skill_",
            Self::SkillVersion => "skillver_",
            Self::File => "file_",
            Self::Deployment => "depl_",
            Self::DeploymentRun => "drun_",
        }
    }

    /// The member that names what it belongs to.
    fn parent_member(self) -> Option<&'static str> {
        match self {
            Self::Credential => Some("vault_id"),
            Self::Memory | Self::MemoryVersion => Some("memory_store_id"),
            Self::SkillVersion => Some("skill_id"),
            Self::DeploymentRun => Some("deployment_id"),
            Self::Vault | Self::MemoryStore | Self::Skill | Self::File | Self::Deployment => None,
        }
    }

    /// Which of the common times its wire form has beside `created_at`.
    fn times(self) -> (bool, bool) {
        match self {
            Self::Vault | Self::Credential | Self::MemoryStore | Self::Deployment => (true, true),
            Self::Memory | Self::Skill => (true, false),
            Self::MemoryVersion | Self::SkillVersion | Self::File | Self::DeploymentRun => {
                (false, false)
            }
        }
    }
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ResourceRow {
    pub(crate) seq: i64,
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) parent: Option<String>,
    pub(crate) key: Option<String>,
    /// Its own members, as they are shown.
    pub(crate) body: Map<String, Value>,
    /// What is never shown: secrets.
    pub(crate) hidden: Value,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) archived_at: Option<Timestamp>,
    /// When something is to be done with it by itself.
    pub(crate) due_at: Option<Timestamp>,
}

impl ResourceRow {
    /// A new one, which is not stored yet.
    pub(crate) fn new(kind: Kind, body: Map<String, Value>, now: Timestamp) -> Self {
        Self {
            seq: 0,
            id: random_id(kind.prefix()),
            kind,
            parent: None,
            key: None,
            body,
            hidden: Value::Null,
            created_at: now,
            updated_at: now,
            archived_at: None,
            due_at: None,
        }
    }

    /// It belongs to this.
    #[must_use]
    pub(crate) fn of(mut self, parent: &str) -> Self {
        self.parent = Some(parent.to_owned());
        self
    }

    /// It is found by this too.
    #[must_use]
    pub(crate) fn with_key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// A member that is a text; empty where it is none.
    pub(crate) fn text(&self, member: &str) -> &str {
        self.body.get(member).and_then(Value::as_str).unwrap_or_default()
    }

    /// Its wire form.
    pub(crate) fn show(&self) -> Value {
        let mut shown = self.body.clone();
        shown.insert("id".into(), value!(self.id));
        shown.insert("type".into(), value!(self.kind.name()));
        if let (Some(member), Some(parent)) = (self.kind.parent_member(), &self.parent) {
            shown.insert(member.into(), value!(parent));
        }
        shown.insert("created_at".into(), value!(self.created_at.to_string()));
        let (updated, archived) = self.kind.times();
        if updated {
            shown.insert("updated_at".into(), value!(self.updated_at.to_string()));
        }
        if archived {
            let at = self.archived_at.map(|time| time.to_string());
            shown.insert("archived_at".into(), value!(at));
        }
        Value::Object(shown)
    }

    /// What is answered when it is deleted.
    pub(crate) fn show_deleted(&self) -> Value {
        value!({"id": self.id, "type": format!("{}_deleted", self.kind.name())})
    }

    /// Conditions that rows of a kind meet.
    pub(crate) fn all_of(kind: Kind) -> Conditions {
        Conditions::default().text("kind", kind.name())
    }

    /// Stores a new row.
    pub(crate) async fn insert(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO resource (id, kind, parent, key, body, hidden, created_at, updated_at,
                                   archived_at, due_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )
        .bind(&self.id)
        .bind(self.kind.name())
        .bind(&self.parent)
        .bind(&self.key)
        .bind(to_json(&self.body))
        .bind(to_json(&self.hidden))
        .bind(self.created_at.micros())
        .bind(self.updated_at.micros())
        .bind(self.archived_at.map(Timestamp::micros))
        .bind(self.due_at.map(Timestamp::micros))
        .execute(rows)
        .await?;
        Ok(())
    }

    /// Stores what changed.
    pub(crate) async fn save(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE resource SET key = ?2, body = ?3, hidden = ?4, updated_at = ?5,
                                 archived_at = ?6, due_at = ?7
             WHERE id = ?1",
        )
        .bind(&self.id)
        .bind(&self.key)
        .bind(to_json(&self.body))
        .bind(to_json(&self.hidden))
        .bind(self.updated_at.micros())
        .bind(self.archived_at.map(Timestamp::micros))
        .bind(self.due_at.map(Timestamp::micros))
        .execute(rows)
        .await?;
        Ok(())
    }

    /// The row of that kind and id.
    pub(crate) async fn find(
        rows: &mut SqliteConnection,
        kind: Kind,
        id: &str,
    ) -> Result<Option<Self>, StoreError> {
        page::one(rows, &Self::all_of(kind).text("id", id)).await
    }

    /// How many of a kind belong to `parent`.
    pub(crate) async fn count(
        rows: &mut SqliteConnection,
        kind: Kind,
        parent: &str,
    ) -> Result<i64, StoreError> {
        let query = "SELECT COUNT(*) FROM resource WHERE kind = ?1 AND parent = ?2";
        let query = sqlx::query_scalar(query).bind(kind.name()).bind(parent);
        Ok(query.fetch_one(rows).await?)
    }

    /// The row whose time comes first.
    pub(crate) async fn next_due(rows: &mut SqliteConnection) -> Result<Option<Self>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM resource WHERE due_at IS NOT NULL ORDER BY due_at, seq LIMIT 1",
        );
        row.fetch_optional(rows).await?.as_ref().map(Self::read).transpose()
    }

    /// Removes it, its bytes, and what belongs to it.
    pub(crate) async fn delete(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM blob WHERE id = ?1
                 OR id IN (SELECT id FROM resource WHERE parent = ?1)",
            "DELETE FROM resource WHERE id = ?1 OR parent = ?1",
        ] {
            sqlx::query(statement).bind(&self.id).execute(&mut *rows).await?;
        }
        Ok(())
    }

    /// Keeps the bytes of a row.
    pub(crate) async fn keep_bytes(
        &self,
        rows: &mut SqliteConnection,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO blob (id, bytes) VALUES (?1, ?2)")
            .bind(&self.id)
            .bind(bytes)
            .execute(rows)
            .await?;
        Ok(())
    }

    /// The bytes of a row; none are none.
    pub(crate) async fn bytes(&self, rows: &mut SqliteConnection) -> Result<Vec<u8>, StoreError> {
        let query = sqlx::query_scalar("SELECT bytes FROM blob WHERE id = ?1").bind(&self.id);
        Ok(query.fetch_optional(rows).await?.unwrap_or_default())
    }
}

impl Listed for ResourceRow {
    const TABLE: &'static str = "resource";

    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let id: String = row.try_get("id")?;
        let unreadable = |column| StoreError::Unreadable { id: id.clone(), column };
        let time = |column: &'static str| -> Result<Option<Timestamp>, StoreError> {
            Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_micros))
        };
        Ok(Self {
            seq: row.try_get("seq")?,
            kind: kind(row.try_get("kind")?).ok_or_else(|| unreadable("kind"))?,
            parent: row.try_get("parent")?,
            key: row.try_get("key")?,
            body: json(&id, "body", row.try_get("body")?)?,
            hidden: match row.try_get::<Option<&str>, _>("hidden")? {
                None => Value::Null,
                Some(text) => json(&id, "hidden", text)?,
            },
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            updated_at: Timestamp::from_micros(row.try_get("updated_at")?),
            archived_at: time("archived_at")?,
            due_at: time("due_at")?,
            id,
        })
    }

    fn seq(&self) -> i64 {
        self.seq
    }
}

fn kind(name: &str) -> Option<Kind> {
    const ALL: [Kind; 10] = [
        Kind::Vault,
        Kind::Credential,
        Kind::MemoryStore,
        Kind::Memory,
        Kind::MemoryVersion,
        Kind::Skill,
        Kind::SkillVersion,
        Kind::File,
        Kind::Deployment,
        Kind::DeploymentRun,
    ];
    ALL.into_iter().find(|kind| kind.name() == name)
}

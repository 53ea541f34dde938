//! Agents and all the versions that they have had.

use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::page::{self, Conditions, Listed};
use super::{StoreError, json, to_json};
use crate::clock::Timestamp;
use crate::ids::AgentId;

/// An agent as of one version. `body` has the members that a client gave, resolved.
#[derive(Debug, Clone)]
pub(crate) struct AgentRow {
    pub(crate) seq: i64,
    pub(crate) id: AgentId,
    pub(crate) version: i64,
    pub(crate) body: Value,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) archived_at: Option<Timestamp>,
}

impl AgentRow {
    /// Stores a new agent.
    pub(crate) async fn insert(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO agent (id, version, body, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(self.id.as_str())
        .bind(self.version)
        .bind(to_json(&self.body))
        .bind(self.created_at.micros())
        .bind(self.updated_at.micros())
        .execute(&mut *rows)
        .await?;
        self.insert_version(rows).await
    }

    /// Stores what changed; a version that is new is kept for good.
    pub(crate) async fn save(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE agent SET version = ?2, body = ?3, updated_at = ?4, archived_at = ?5
             WHERE id = ?1",
        )
        .bind(self.id.as_str())
        .bind(self.version)
        .bind(to_json(&self.body))
        .bind(self.updated_at.micros())
        .bind(self.archived_at.map(Timestamp::micros))
        .execute(&mut *rows)
        .await?;
        self.insert_version(rows).await
    }

    async fn insert_version(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO agent_version (agent_id, version, body, updated_at)
             VALUES (?1, ?2, ?3, ?4) ON CONFLICT (agent_id, version) DO NOTHING",
        )
        .bind(self.id.as_str())
        .bind(self.version)
        .bind(to_json(&self.body))
        .bind(self.updated_at.micros())
        .execute(rows)
        .await?;
        Ok(())
    }

    /// The agent, as of its latest version or of another.
    pub(crate) async fn find(
        rows: &mut SqliteConnection,
        id: &AgentId,
        version: Option<i64>,
    ) -> Result<Option<Self>, StoreError> {
        let conditions = Conditions::default().text("id", id.as_str());
        match version {
            None => page::one(rows, &conditions).await,
            Some(version) => {
                let conditions = conditions.number("version", "=", version);
                let found = page::one::<AgentVersion>(rows, &conditions).await?;
                Ok(found.map(|AgentVersion(agent)| agent))
            }
        }
    }
}

impl Listed for AgentRow {
    const TABLE: &'static str = "agent";

    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let id: String = row.try_get("id")?;
        let archived_at: Option<i64> = row.try_get("archived_at")?;
        Ok(Self {
            seq: row.try_get("seq")?,
            version: row.try_get("version")?,
            body: json(&id, "body", row.try_get("body")?)?,
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            updated_at: Timestamp::from_micros(row.try_get("updated_at")?),
            archived_at: archived_at.map(Timestamp::from_micros),
            id: AgentId::from_text(id),
        })
    }

    fn seq(&self) -> i64 {
        self.seq
    }
}

/// An agent as of a version that it has had; the list of these is ordered by version.
#[derive(Debug, Clone)]
pub(crate) struct AgentVersion(pub(crate) AgentRow);

impl Listed for AgentVersion {
    const TABLE: &'static str = "(SELECT v.version AS seq, a.id, v.version, v.body,
                                         a.created_at, v.updated_at, a.archived_at
                                  FROM agent a JOIN agent_version v ON v.agent_id = a.id)";

    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        AgentRow::read(row).map(Self)
    }

    fn seq(&self) -> i64 {
        self.0.seq
    }
}

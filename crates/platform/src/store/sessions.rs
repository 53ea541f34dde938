//! Sessions: what a client gave them, and the state machine's state.

use agents::{EnvironmentId, SessionId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::page::{self, Conditions, Listed};
use super::{StoreError, json, to_json};
use crate::clock::Timestamp;
use crate::ids::AgentId;
use crate::machine::{Session, status_of};

/// A session.
#[derive(Debug, Clone)]
pub(crate) struct SessionRow {
    pub(crate) seq: i64,
    pub(crate) id: SessionId,
    pub(crate) environment: EnvironmentId,
    pub(crate) agent_id: AgentId,
    pub(crate) agent_version: i64,
    /// The agent as it was when the session was created, resolved.
    pub(crate) agent: Value,
    pub(crate) body: SessionBody,
    /// The deployment that made it, by its id.
    pub(crate) deployment: Option<String>,
    pub(crate) state: Session,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) archived_at: Option<Timestamp>,
}

/// What a client gave it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct SessionBody {
    pub(crate) title: Option<String>,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) resources: Vec<Value>,
    pub(crate) vault_ids: Vec<String>,
    pub(crate) budget: Option<Value>,
}

impl SessionRow {
    /// Stores a new session.
    pub(crate) async fn insert(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO session (id, environment_id, agent_id, agent_version, agent, body, state,
                                  status, step_at, created_at, updated_at, deployment_id)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        )
        .bind(self.id.as_str())
        .bind(self.environment.as_str())
        .bind(self.agent_id.as_str())
        .bind(self.agent_version)
        .bind(to_json(&self.agent))
        .bind(to_json(&self.body))
        .bind(to_json(&self.state))
        .bind(status_of(self.state.status()))
        .bind(self.state.step_at().map(Timestamp::micros))
        .bind(self.created_at.micros())
        .bind(self.updated_at.micros())
        .bind(&self.deployment)
        .execute(rows)
        .await?;
        Ok(())
    }

    /// Stores what changed.
    pub(crate) async fn save(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE session SET agent = ?2, body = ?3, state = ?4, status = ?5, step_at = ?6,
                                updated_at = ?7, archived_at = ?8, asking = ?9
             WHERE id = ?1",
        )
        .bind(self.id.as_str())
        .bind(to_json(&self.agent))
        .bind(to_json(&self.body))
        .bind(to_json(&self.state))
        .bind(status_of(self.state.status()))
        .bind(self.state.step_at().map(Timestamp::micros))
        .bind(self.updated_at.micros())
        .bind(self.archived_at.map(Timestamp::micros))
        .bind(self.state.asking().is_some())
        .execute(rows)
        .await?;
        Ok(())
    }

    /// The session of that id.
    pub(crate) async fn find(
        rows: &mut SqliteConnection,
        id: &SessionId,
    ) -> Result<Option<Self>, StoreError> {
        page::one(rows, &Conditions::default().text("id", id.as_str())).await
    }

    /// The session whose agent's next step is due first, and when.
    pub(crate) async fn next_step(
        rows: &mut SqliteConnection,
    ) -> Result<Option<(SessionId, Timestamp)>, StoreError> {
        let row = sqlx::query(
            "SELECT id, step_at FROM session WHERE step_at IS NOT NULL ORDER BY step_at, seq LIMIT 1",
        )
        .fetch_optional(rows)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let at = Timestamp::from_micros(row.try_get("step_at")?);
        Ok(Some((session_id(row.try_get("id")?, "id")?, at)))
    }

    /// The sessions that wait for what their models say.
    pub(crate) async fn asking(rows: &mut SqliteConnection) -> Result<Vec<Self>, StoreError> {
        page::all(rows, &Conditions::default().holds("asking = 1")).await
    }

    /// Removes it, and its events.
    pub(crate) async fn delete(
        rows: &mut SqliteConnection,
        id: &SessionId,
    ) -> Result<(), StoreError> {
        for statement in
            ["DELETE FROM event WHERE session_id = ?1", "DELETE FROM session WHERE id = ?1"]
        {
            sqlx::query(statement).bind(id.as_str()).execute(&mut *rows).await?;
        }
        Ok(())
    }
}

impl Listed for SessionRow {
    const TABLE: &'static str = "session";

    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let id: String = row.try_get("id")?;
        let environment: String = row.try_get("environment_id")?;
        let archived_at: Option<i64> = row.try_get("archived_at")?;
        Ok(Self {
            seq: row.try_get("seq")?,
            environment: EnvironmentId::new(environment)
                .map_err(|_| StoreError::Unreadable { id: id.clone(), column: "environment_id" })?,
            agent_id: AgentId::from_text(row.try_get::<String, _>("agent_id")?),
            agent_version: row.try_get("agent_version")?,
            agent: json(&id, "agent", row.try_get("agent")?)?,
            body: json(&id, "body", row.try_get("body")?)?,
            deployment: row.try_get("deployment_id")?,
            state: json(&id, "state", row.try_get("state")?)?,
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            updated_at: Timestamp::from_micros(row.try_get("updated_at")?),
            archived_at: archived_at.map(Timestamp::from_micros),
            id: session_id(id, "id")?,
        })
    }

    fn seq(&self) -> i64 {
        self.seq
    }
}

/// Reads a session's id from a row.
pub(super) fn session_id(text: String, column: &'static str) -> Result<SessionId, StoreError> {
    SessionId::new(text.clone()).map_err(|_| StoreError::Unreadable { id: text, column })
}

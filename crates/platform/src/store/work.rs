//! Work items.

use std::time::Duration;

use agents::{EnvironmentId, SessionId, WorkId};
use serde_json::{Map, Value};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::page::{self, Conditions, Listed};
use super::{StoreError, json, to_json};
use crate::clock::Timestamp;
use crate::machine::{Work, WorkState};

/// A work item.
#[derive(Debug, Clone)]
pub(crate) struct WorkRow {
    pub(crate) seq: i64,
    pub(crate) id: WorkId,
    pub(crate) environment: EnvironmentId,
    pub(crate) session: SessionId,
    pub(crate) work: Work,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) created_at: Timestamp,
}

impl WorkRow {
    /// Stores a new item.
    pub(crate) async fn insert(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        let (state, at) = columns(self.work.state);
        sqlx::query(
            "INSERT INTO work (id, environment_id, session_id, state, state_at, metadata, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(self.id.as_str())
        .bind(self.environment.as_str())
        .bind(self.session.as_str())
        .bind(state)
        .bind(at.map(Timestamp::micros))
        .bind(to_json(&self.metadata))
        .bind(self.created_at.micros())
        .execute(rows)
        .await?;
        Ok(())
    }

    /// Stores what changed.
    pub(crate) async fn save(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        let (state, at) = columns(self.work.state);
        sqlx::query(
            "UPDATE work SET state = ?2, state_at = ?3, metadata = ?4, acknowledged_at = ?5,
                             started_at = ?6, latest_heartbeat_at = ?7, stop_requested_at = ?8,
                             stopped_at = ?9
             WHERE id = ?1",
        )
        .bind(self.id.as_str())
        .bind(state)
        .bind(at.map(Timestamp::micros))
        .bind(to_json(&self.metadata))
        .bind(self.work.acknowledged_at.map(Timestamp::micros))
        .bind(self.work.started_at.map(Timestamp::micros))
        .bind(self.work.latest_heartbeat_at.map(Timestamp::micros))
        .bind(self.work.stop_requested_at.map(Timestamp::micros))
        .bind(self.work.stopped_at.map(Timestamp::micros))
        .execute(rows)
        .await?;
        Ok(())
    }

    /// The item of that id in that environment.
    pub(crate) async fn find(
        rows: &mut SqliteConnection,
        environment: &EnvironmentId,
        id: &WorkId,
    ) -> Result<Option<Self>, StoreError> {
        page::one(rows, &Self::of(environment).text("id", id.as_str())).await
    }

    /// The live item of a session.
    pub(crate) async fn live(
        rows: &mut SqliteConnection,
        session: &SessionId,
    ) -> Result<Option<Self>, StoreError> {
        let live = Conditions::default().text("session_id", session.as_str());
        page::one(rows, &live.holds("state <> 'stopped'")).await
    }

    /// Items of an environment to which time has done something.
    pub(crate) async fn overdue(
        rows: &mut SqliteConnection,
        environment: &EnvironmentId,
        now: Timestamp,
    ) -> Result<Vec<Self>, StoreError> {
        let overdue = Self::of(environment)
            .number("state_at", "<=", now.micros())
            .holds("state IN ('starting', 'active', 'stopping')");
        page::all(rows, &overdue).await
    }

    /// The item that a poll may hand out: what nobody has seen yet, oldest first, then what was
    /// handed out longest ago and not acknowledged. So pollers that want one item each and leave
    /// the others alone are shown all of them in turn, and none starves.
    pub(crate) async fn next(
        rows: &mut SqliteConnection,
        environment: &EnvironmentId,
        now: Timestamp,
        reclaim: Duration,
    ) -> Result<Option<Self>, StoreError> {
        let reclaim = i64::try_from(reclaim.as_micros()).unwrap_or(i64::MAX);
        let row = sqlx::query(
            "SELECT * FROM work WHERE environment_id = ?1 AND state = 'queued'
                                  AND (state_at IS NULL OR state_at <= ?2)
             ORDER BY state_at IS NOT NULL, state_at, seq LIMIT 1",
        )
        .bind(environment.as_str())
        .bind(now.micros().saturating_sub(reclaim))
        .fetch_optional(rows)
        .await?;
        row.as_ref().map(Self::read).transpose()
    }

    /// Conditions that the items of an environment meet.
    pub(crate) fn of(environment: &EnvironmentId) -> Conditions {
        Conditions::default().text("environment_id", environment.as_str())
    }

    /// Waiting items, handed-out items, and when the oldest of both was made.
    pub(crate) async fn depth(
        rows: &mut SqliteConnection,
        environment: &EnvironmentId,
    ) -> Result<(i64, i64, Option<Timestamp>), StoreError> {
        let row = sqlx::query(
            "SELECT COUNT(*) - COUNT(state_at) AS depth, COUNT(state_at) AS pending,
                    MIN(created_at) AS oldest
             FROM work WHERE environment_id = ?1 AND state = 'queued'",
        )
        .bind(environment.as_str())
        .fetch_one(rows)
        .await?;
        let oldest: Option<i64> = row.try_get("oldest")?;
        Ok((row.try_get("depth")?, row.try_get("pending")?, oldest.map(Timestamp::from_micros)))
    }
}

impl Listed for WorkRow {
    const TABLE: &'static str = "work";

    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let id: String = row.try_get("id")?;
        let unreadable = |column| StoreError::Unreadable { id: id.clone(), column };
        let time = |column: &'static str| -> Result<Option<Timestamp>, StoreError> {
            Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp::from_micros))
        };
        let state = state(row.try_get("state")?, time("state_at")?);
        Ok(Self {
            seq: row.try_get("seq")?,
            environment: EnvironmentId::new(row.try_get::<String, _>("environment_id")?)
                .map_err(|_| unreadable("environment_id"))?,
            session: super::sessions::session_id(row.try_get("session_id")?, "session_id")?,
            work: Work {
                state: state.ok_or_else(|| unreadable("state"))?,
                acknowledged_at: time("acknowledged_at")?,
                started_at: time("started_at")?,
                latest_heartbeat_at: time("latest_heartbeat_at")?,
                stop_requested_at: time("stop_requested_at")?,
                stopped_at: time("stopped_at")?,
            },
            metadata: json(&id, "metadata", row.try_get("metadata")?)?,
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            id: WorkId::new(id.clone()).map_err(|_| unreadable("id"))?,
        })
    }

    fn seq(&self) -> i64 {
        self.seq
    }
}

fn columns(state: WorkState) -> (&'static str, Option<Timestamp>) {
    match state {
        WorkState::Queued { polled_at } => ("queued", polled_at),
        WorkState::Starting { until } => ("starting", until),
        WorkState::Active { until } => ("active", Some(until)),
        WorkState::Stopping { until } => ("stopping", Some(until)),
        WorkState::Stopped => ("stopped", None),
    }
}

fn state(name: &str, at: Option<Timestamp>) -> Option<WorkState> {
    match (name, at) {
        ("queued", polled_at) => Some(WorkState::Queued { polled_at }),
        ("starting", until) => Some(WorkState::Starting { until }),
        ("active", Some(until)) => Some(WorkState::Active { until }),
        ("stopping", Some(until)) => Some(WorkState::Stopping { until }),
        ("stopped", _) => Some(WorkState::Stopped),
        _ => None,
    }
}

//! Environments.

use agents::EnvironmentId;
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::page::{self, Conditions, Listed};
use super::{StoreError, json, to_json};
use crate::clock::Timestamp;

/// An environment. `body` has `config`, `description`, `metadata` and `scope`, resolved.
#[derive(Debug, Clone)]
pub(crate) struct EnvironmentRow {
    pub(crate) seq: i64,
    pub(crate) id: EnvironmentId,
    pub(crate) name: String,
    pub(crate) body: Value,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) archived_at: Option<Timestamp>,
}

impl EnvironmentRow {
    /// Stores a new environment.
    pub(crate) async fn insert(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO environment (id, name, body, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(self.id.as_str())
        .bind(&self.name)
        .bind(to_json(&self.body))
        .bind(self.created_at.micros())
        .bind(self.updated_at.micros())
        .execute(rows)
        .await?;
        Ok(())
    }

    /// Stores what changed.
    pub(crate) async fn save(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE environment SET name = ?2, body = ?3, updated_at = ?4, archived_at = ?5
             WHERE id = ?1",
        )
        .bind(self.id.as_str())
        .bind(&self.name)
        .bind(to_json(&self.body))
        .bind(self.updated_at.micros())
        .bind(self.archived_at.map(Timestamp::micros))
        .execute(rows)
        .await?;
        Ok(())
    }

    /// The environment of that id.
    pub(crate) async fn find(
        rows: &mut SqliteConnection,
        id: &EnvironmentId,
    ) -> Result<Option<Self>, StoreError> {
        page::one(rows, &Conditions::default().text("id", id.as_str())).await
    }

    /// The environment of that name that is not archived.
    pub(crate) async fn find_by_name(
        rows: &mut SqliteConnection,
        name: &str,
    ) -> Result<Option<Self>, StoreError> {
        page::one(rows, &Conditions::default().text("name", name).live(false)).await
    }

    /// Sessions that are in it and not archived.
    pub(crate) async fn sessions_in_use(
        rows: &mut SqliteConnection,
        id: &EnvironmentId,
    ) -> Result<i64, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT COUNT(*) FROM session WHERE environment_id = ?1 AND archived_at IS NULL",
        );
        Ok(query.bind(id.as_str()).fetch_one(rows).await?)
    }

    /// Removes it.
    pub(crate) async fn delete(
        rows: &mut SqliteConnection,
        id: &EnvironmentId,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM environment WHERE id = ?1")
            .bind(id.as_str())
            .execute(rows)
            .await?;
        Ok(())
    }
}

impl Listed for EnvironmentRow {
    const TABLE: &'static str = "environment";

    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let id: String = row.try_get("id")?;
        let archived_at: Option<i64> = row.try_get("archived_at")?;
        Ok(Self {
            seq: row.try_get("seq")?,
            name: row.try_get("name")?,
            body: json(&id, "body", row.try_get("body")?)?,
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            updated_at: Timestamp::from_micros(row.try_get("updated_at")?),
            archived_at: archived_at.map(Timestamp::from_micros),
            id: EnvironmentId::new(id.clone())
                .map_err(|_| StoreError::Unreadable { id, column: "id" })?,
        })
    }

    fn seq(&self) -> i64 {
        self.seq
    }
}

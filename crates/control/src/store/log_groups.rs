//! What is said of log groups, and the removal of events that are too old or too many.

use super::{Store, doing, from_json, logs::group_id, signed, to_json, unsigned};
use crate::{ControlError, LogGroup, LogTarget, Timestamp};
use sqlx::{Row, SqliteConnection};
use std::collections::BTreeMap;

/// Events that one commit removes: the writer must not wait for long.
const EVENTS_PER_COMMIT: i64 = 5000;

/// What was removed by one commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Removed {
    pub(crate) events: u64,
    /// Of their messages.
    pub(crate) bytes: u64,
}

impl Store {
    /// None: for ever.
    pub(crate) async fn set_log_retention(
        &self,
        group: &LogGroup,
        days: Option<u32>,
    ) -> Result<(), ControlError> {
        let failed = doing("writing a log group");
        let mut tx = self.logs.writer.begin().await.map_err(&failed)?;
        let id = group_id(&mut tx, group).await?;
        sqlx::query("UPDATE log_groups SET retention_days = $2 WHERE id = $1")
            .bind(id)
            .bind(days.map(i64::from))
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        tx.commit().await.map_err(&failed)
    }

    pub(crate) async fn log_group_tags(
        &self,
        group: &LogGroup,
    ) -> Result<BTreeMap<String, String>, ControlError> {
        let failed = doing("reading a log group");
        let mut connection = self.logs.readers.acquire().await.map_err(&failed)?;
        let id = group_id(&mut connection, group).await?;
        read_tags(&mut connection, id).await
    }

    /// Changes the tags of a group in one commit.
    pub(crate) async fn change_log_group_tags(
        &self,
        group: &LogGroup,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), ControlError> + Send,
    ) -> Result<(), ControlError> {
        let failed = doing("writing a log group");
        let mut tx = self.logs.writer.begin().await.map_err(&failed)?;
        let id = group_id(&mut tx, group).await?;
        let mut tags = read_tags(&mut tx, id).await?;
        change(&mut tags)?;
        sqlx::query("UPDATE log_groups SET tags = $2 WHERE id = $1")
            .bind(id)
            .bind(to_json(&tags))
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        tx.commit().await.map_err(&failed)
    }

    /// With its events.
    pub(crate) async fn delete_log_stream(&self, target: &LogTarget) -> Result<(), ControlError> {
        let failed = doing("removing a log stream");
        let LogTarget { group, stream } = target;
        let mut tx = self.logs.writer.begin().await.map_err(&failed)?;
        let id = group_id(&mut tx, group).await?;
        let found: Option<i64> =
            sqlx::query_scalar("SELECT id FROM log_streams WHERE group_id = $1 AND name = $2")
                .bind(id)
                .bind(stream.as_str())
                .fetch_optional(&mut *tx)
                .await
                .map_err(&failed)?;
        let Some(found) = found else {
            let (group, stream) = (group.clone(), stream.clone());
            return Err(ControlError::LogStreamNotFound { group, stream });
        };
        for statement in
            ["DELETE FROM log_events WHERE stream_id = $1", "DELETE FROM log_streams WHERE id = $1"]
        {
            sqlx::query(statement).bind(found).execute(&mut *tx).await.map_err(&failed)?;
        }
        tx.commit().await.map_err(&failed)
    }

    /// Groups whose events are not kept for ever: id and days.
    pub(crate) async fn log_retentions(&self) -> Result<Vec<(i64, u32)>, ControlError> {
        let failed = doing("reading log groups");
        let rows = sqlx::query(
            "SELECT id, retention_days FROM log_groups WHERE retention_days IS NOT NULL",
        )
        .fetch_all(&self.logs.readers)
        .await
        .map_err(&failed)?;
        let read = |row: &sqlx::sqlite::SqliteRow| {
            let days: i64 = row.try_get("retention_days").map_err(&failed)?;
            let days = u32::try_from(unsigned("a number of days", days)?).unwrap_or(u32::MAX);
            Ok((row.try_get("id").map_err(&failed)?, days))
        };
        rows.iter().map(read).collect()
    }

    /// Removes some of the events of a group that are older than `before`.
    pub(crate) async fn expire_log_events(
        &self,
        group: i64,
        before: Timestamp,
    ) -> Result<Removed, ControlError> {
        let select = "SELECT sequence FROM log_events WHERE group_id = $1 AND at < $2
                      ORDER BY at, sequence LIMIT $3";
        self.remove_log_events(select, group, before.ms()).await
    }

    /// Removes some of the events that were written first, in whatever group: no more than free
    /// `bytes`.
    pub(crate) async fn drop_oldest_log_events(&self, bytes: u64) -> Result<Removed, ControlError> {
        let select = "SELECT sequence FROM (
                          SELECT sequence, sum(octet_length(message)) OVER (ORDER BY sequence)
                                 - octet_length(message) AS before
                          FROM (SELECT sequence, message FROM log_events WHERE sequence > $2
                                ORDER BY sequence LIMIT $3) AS oldest) AS summed
                      WHERE before < $1";
        self.remove_log_events(select, signed(bytes), 0).await
    }

    async fn remove_log_events(
        &self,
        select: &'static str,
        first: i64,
        second: i64,
    ) -> Result<Removed, ControlError> {
        let failed = doing("removing log events");
        let mut tx = self.logs.writer.begin().await.map_err(&failed)?;
        let sql = format!(
            "DELETE FROM log_events WHERE sequence IN ({select})
             RETURNING stream_id, octet_length(message) AS bytes"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(first)
            .bind(second)
            .bind(EVENTS_PER_COMMIT)
            .fetch_all(&mut *tx)
            .await
            .map_err(&failed)?;
        let mut by_stream: BTreeMap<i64, u64> = BTreeMap::new();
        for row in &rows {
            let bytes = unsigned("a size", row.try_get("bytes").map_err(&failed)?)?;
            *by_stream.entry(row.try_get("stream_id").map_err(&failed)?).or_default() += bytes;
        }
        for (stream, bytes) in &by_stream {
            sqlx::query(
                "UPDATE log_streams SET bytes = bytes - $2,
                 first_at = (SELECT min(at) FROM log_events WHERE stream_id = $1) WHERE id = $1",
            )
            .bind(stream)
            .bind(signed(*bytes))
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        }
        tx.commit().await.map_err(&failed)?;
        Ok(Removed { events: rows.len() as u64, bytes: by_stream.values().sum() })
    }

    /// Bytes of all messages.
    pub(crate) async fn log_bytes(&self) -> Result<u64, ControlError> {
        let bytes: i64 = sqlx::query_scalar("SELECT coalesce(sum(bytes), 0) FROM log_streams")
            .fetch_one(&self.logs.readers)
            .await
            .map_err(doing("adding up logs"))?;
        unsigned("a size", bytes)
    }
}

async fn read_tags(
    connection: &mut SqliteConnection,
    group: i64,
) -> Result<BTreeMap<String, String>, ControlError> {
    let failed = doing("reading a log group");
    let tags: String = sqlx::query_scalar("SELECT tags FROM log_groups WHERE id = $1")
        .bind(group)
        .fetch_one(connection)
        .await
        .map_err(&failed)?;
    from_json("tags", &tags)
}

/// Days as a retention has them.
pub(super) fn retention(days: Option<i64>) -> Result<Option<u32>, ControlError> {
    let days = days.map(|days| unsigned("a number of days", days)).transpose()?;
    Ok(days.map(|days| u32::try_from(days).unwrap_or(u32::MAX)))
}

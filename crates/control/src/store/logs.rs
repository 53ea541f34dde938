//! Rows of log groups, streams and events.

use super::{
    Store, at, cut_page, doing, log_groups::retention, page_start, signed, stored_id, unsigned,
};
use crate::{
    ControlError, Direction, FilterEvents, GetEvents, LogBatch, LogEvent, LogGroup, LogGroupInfo,
    LogRecord, LogStream, LogStreamInfo, LogTarget, Page, PageRequest, StreamChoice, StreamOrder,
    StreamQuery, TimeSpan, Timestamp,
};
use serde::{Deserialize, Serialize};
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};

/// Events of one stream that are to be written.
#[derive(Clone, Debug)]
pub(crate) struct NewEvents {
    pub(crate) target: LogTarget,
    pub(crate) records: Vec<LogRecord>,
    pub(crate) absent: Absent,
}

/// What is done about a group or stream that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Absent {
    Create,
    Refuse,
}

/// Order of events: by their time, then as they were written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct EventKey {
    pub(crate) at: i64,
    pub(crate) sequence: u64,
}

impl Store {
    pub(crate) async fn create_log_group(
        &self,
        group: &LogGroup,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        let mut tx = self.logs.writer.begin().await.map_err(doing("writing a log group"))?;
        if find_group(&mut tx, group).await?.is_some() {
            return Err(ControlError::LogGroupExists(group.clone()));
        }
        insert_group(&mut tx, group, now).await?;
        tx.commit().await.map_err(doing("writing a log group"))
    }

    pub(crate) async fn delete_log_group(&self, group: &LogGroup) -> Result<(), ControlError> {
        let failed = doing("removing a log group");
        let mut tx = self.logs.writer.begin().await.map_err(&failed)?;
        let id = group_id(&mut tx, group).await?;
        for statement in [
            "DELETE FROM log_events WHERE group_id = $1",
            "DELETE FROM log_streams WHERE group_id = $1",
            "DELETE FROM log_groups WHERE id = $1",
        ] {
            sqlx::query(statement).bind(id).execute(&mut *tx).await.map_err(&failed)?;
        }
        tx.commit().await.map_err(&failed)
    }

    pub(crate) async fn create_log_stream(
        &self,
        target: &LogTarget,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        let mut tx = self.logs.writer.begin().await.map_err(doing("writing a log stream"))?;
        let group = group_id(&mut tx, &target.group).await?;
        if find_stream(&mut tx, group, &target.stream).await?.is_some() {
            let LogTarget { group, stream } = target.clone();
            return Err(ControlError::LogStreamExists { group, stream });
        }
        insert_stream(&mut tx, group, &target.stream, now).await?;
        tx.commit().await.map_err(doing("writing a log stream"))
    }

    /// By name.
    pub(crate) async fn log_groups(
        &self,
        prefix: &str,
        page: &PageRequest,
    ) -> Result<Page<LogGroupInfo>, ControlError> {
        let (start, limit) = page_start::<String>(page)?;
        let failed = doing("listing log groups");
        let rows = sqlx::query(
            "SELECT g.name, g.created_at, g.retention_days,
                    (SELECT coalesce(sum(s.bytes), 0) FROM log_streams s WHERE s.group_id = g.id)
                    AS bytes
             FROM log_groups g WHERE g.name > $1 AND substr(g.name, 1, length($2)) = $2
             ORDER BY g.name LIMIT $3",
        )
        .bind(start.unwrap_or_default())
        .bind(prefix)
        .bind(limit)
        .fetch_all(&self.logs.readers)
        .await
        .map_err(&failed)?;
        let read = |row: &SqliteRow| {
            let name: &str = row.try_get("name").map_err(&failed)?;
            Ok(LogGroupInfo {
                group: stored_id("a log group", LogGroup::parse(name))?,
                created_at: at(row.try_get("created_at").map_err(&failed)?),
                retention_days: retention(row.try_get("retention_days").map_err(&failed)?)?,
                stored_bytes: unsigned("a size", row.try_get("bytes").map_err(&failed)?)?,
            })
        };
        let items = rows.iter().map(read).collect::<Result<Vec<_>, ControlError>>()?;
        Ok(cut_page(items, page, |info| info.group.to_string()))
    }

    pub(crate) async fn log_streams(
        &self,
        group: &LogGroup,
        query: &StreamQuery,
        page: &PageRequest,
    ) -> Result<Page<LogStreamInfo>, ControlError> {
        let (start, limit) = page_start::<(i64, String)>(page)?;
        let failed = doing("listing log streams");
        let mut connection = self.logs.readers.acquire().await.map_err(&failed)?;
        let id = group_id(&mut connection, group).await?;
        // A stream's place: its latest event where that is asked for, then its name.
        let place = match query.order {
            StreamOrder::Name => "0",
            StreamOrder::LastEvent => "coalesce(last_at, 0)",
        };
        let (after, order) = match query.direction {
            Direction::Forward => (" > ", " ASC"),
            Direction::Backward => (" < ", " DESC"),
        };
        let mut sql = QueryBuilder::<Sqlite>::new("SELECT name, created_at, first_at, last_at, ");
        sql.push("ingested_at, ").push(place).push(" AS place FROM log_streams WHERE group_id = ");
        sql.push_bind(id);
        push_prefix(&mut sql, "name", query.prefix.as_deref().unwrap_or_default());
        if let Some((at, name)) = start {
            sql.push(" AND (").push(place).push(after).push_bind(at);
            sql.push(" OR (").push(place).push(" = ").push_bind(at);
            sql.push(" AND name").push(after).push_bind(name).push("))");
        }
        sql.push(" ORDER BY place").push(order).push(", name").push(order);
        sql.push(" LIMIT ").push_bind(limit);
        let rows = sql.build().fetch_all(&mut *connection).await.map_err(&failed)?;
        let items = rows.iter().map(read_stream).collect::<Result<Vec<_>, _>>()?;
        let by_event = query.order == StreamOrder::LastEvent;
        Ok(cut_page(items, page, |info| {
            let at = info.last_event_at.filter(|_| by_event).unwrap_or_default();
            (at.ms(), info.stream.to_string())
        }))
    }

    pub(crate) async fn last_log_sequence(&self) -> Result<u64, ControlError> {
        let last: Option<i64> = sqlx::query_scalar("SELECT max(sequence) FROM log_events")
            .fetch_one(&self.logs.readers)
            .await
            .map_err(doing("reading the last log event"))?;
        unsigned("a sequence number", last.unwrap_or(0))
    }

    /// All in one commit, numbered from `first`. The outer error: nothing was written. The inner
    /// ones: these events have no place to go, the others are written.
    pub(crate) async fn append_log(
        &self,
        batches: &[NewEvents],
        first: u64,
        now: Timestamp,
    ) -> Result<Vec<Result<LogBatch, ControlError>>, ControlError> {
        let failed = doing("writing log events");
        let mut tx = self.logs.writer.begin().await.map_err(&failed)?;
        let mut next = first;
        let mut written = Vec::with_capacity(batches.len());
        for batch in batches {
            let outcome = match place(&mut tx, batch, now).await {
                Ok((group, stream)) => {
                    let events = numbered(batch, next, now);
                    insert_events(&mut tx, (group, stream), &events).await?;
                    next += events.len() as u64;
                    Ok(LogBatch { group: batch.target.group.clone(), events })
                }
                Err(
                    error @ (ControlError::LogGroupNotFound(_)
                    | ControlError::LogStreamNotFound { .. }),
                ) => Err(error),
                Err(error) => return Err(error),
            };
            written.push(outcome);
        }
        tx.commit().await.map_err(&failed)?;
        Ok(written)
    }

    /// Events of one stream beyond `key` in `direction`, the nearest ones, oldest first.
    pub(crate) async fn log_window(
        &self,
        query: &GetEvents,
        direction: Direction,
        key: EventKey,
    ) -> Result<Vec<LogEvent>, ControlError> {
        let failed = doing("reading log events");
        let mut connection = self.logs.readers.acquire().await.map_err(&failed)?;
        let group = group_id(&mut connection, &query.target.group).await?;
        let Some(stream) = find_stream(&mut connection, group, &query.target.stream).await? else {
            let LogTarget { group, stream } = query.target.clone();
            return Err(ControlError::LogStreamNotFound { group, stream });
        };
        let mut sql = select_events();
        sql.push("e.stream_id = ").push_bind(stream);
        push_span(&mut sql, query.span);
        push_beyond(&mut sql, direction, key);
        sql.push(" LIMIT ").push_bind(signed(query.events_max as u64));
        let rows = sql.build().fetch_all(&mut *connection).await.map_err(&failed)?;
        let mut events = rows.iter().map(read_event).collect::<Result<Vec<_>, _>>()?;
        if direction == Direction::Backward {
            events.reverse();
        }
        Ok(events)
    }

    pub(crate) async fn filter_log(
        &self,
        query: &FilterEvents,
    ) -> Result<Page<LogEvent>, ControlError> {
        let (start, limit) = page_start::<EventKey>(&query.page)?;
        let failed = doing("reading log events");
        let mut connection = self.logs.readers.acquire().await.map_err(&failed)?;
        let group = group_id(&mut connection, &query.group).await?;
        let mut sql = select_events();
        sql.push("e.group_id = ").push_bind(group);
        match &query.streams {
            StreamChoice::All => {}
            StreamChoice::Prefixed(prefix) => push_prefix(&mut sql, "s.name", prefix),
            StreamChoice::Named(streams) if streams.is_empty() => {
                return Ok(Page { items: Vec::new(), next_token: None });
            }
            StreamChoice::Named(streams) => {
                sql.push(" AND s.name IN (");
                let mut names = sql.separated(", ");
                for stream in streams {
                    names.push_bind(stream.as_str().to_owned());
                }
                sql.push(")");
            }
        }
        push_span(&mut sql, query.span);
        let start = start.unwrap_or(EventKey { at: i64::MIN, sequence: 0 });
        push_beyond(&mut sql, Direction::Forward, start);
        sql.push(" LIMIT ").push_bind(limit);
        let rows = sql.build().fetch_all(&mut *connection).await.map_err(&failed)?;
        let items = rows.iter().map(read_event).collect::<Result<Vec<_>, _>>()?;
        Ok(cut_page(items, &query.page, |event| EventKey {
            at: event.at.ms(),
            sequence: event.sequence,
        }))
    }
}

fn select_events() -> QueryBuilder<Sqlite> {
    QueryBuilder::new(
        "SELECT e.sequence, s.name AS stream, e.at, e.ingested_at, e.message
         FROM log_events e JOIN log_streams s ON s.id = e.stream_id WHERE ",
    )
}

fn push_prefix(sql: &mut QueryBuilder<Sqlite>, column: &str, prefix: &str) {
    sql.push(" AND substr(").push(column).push(", 1, length(").push_bind(prefix.to_owned());
    sql.push(")) = ").push_bind(prefix.to_owned());
}

fn push_span(sql: &mut QueryBuilder<Sqlite>, span: TimeSpan) {
    if let Some(from) = span.from {
        sql.push(" AND e.at >= ").push_bind(from.ms());
    }
    if let Some(until) = span.until {
        sql.push(" AND e.at < ").push_bind(until.ms());
    }
}

fn push_beyond(sql: &mut QueryBuilder<Sqlite>, direction: Direction, key: EventKey) {
    let (after, order) = match direction {
        Direction::Forward => (" > ", " ASC"),
        Direction::Backward => (" < ", " DESC"),
    };
    sql.push(" AND (e.at").push(after).push_bind(key.at);
    sql.push(" OR (e.at = ").push_bind(key.at);
    sql.push(" AND e.sequence").push(after).push_bind(signed(key.sequence)).push("))");
    sql.push(" ORDER BY e.at").push(order).push(", e.sequence").push(order);
}

async fn find_group(
    connection: &mut SqliteConnection,
    group: &LogGroup,
) -> Result<Option<i64>, ControlError> {
    sqlx::query_scalar("SELECT id FROM log_groups WHERE name = $1")
        .bind(group.as_str())
        .fetch_optional(connection)
        .await
        .map_err(doing("looking for a log group"))
}

pub(super) async fn group_id(
    connection: &mut SqliteConnection,
    group: &LogGroup,
) -> Result<i64, ControlError> {
    let found = find_group(connection, group).await?;
    found.ok_or_else(|| ControlError::LogGroupNotFound(group.clone()))
}

async fn find_stream(
    connection: &mut SqliteConnection,
    group: i64,
    stream: &LogStream,
) -> Result<Option<i64>, ControlError> {
    sqlx::query_scalar("SELECT id FROM log_streams WHERE group_id = $1 AND name = $2")
        .bind(group)
        .bind(stream.as_str())
        .fetch_optional(connection)
        .await
        .map_err(doing("looking for a log stream"))
}

async fn insert_group(
    connection: &mut SqliteConnection,
    group: &LogGroup,
    now: Timestamp,
) -> Result<i64, ControlError> {
    sqlx::query_scalar(
        "INSERT INTO log_groups (id, name, created_at)
         SELECT coalesce(max(id), 0) + 1, $1, $2 FROM log_groups RETURNING id",
    )
    .bind(group.as_str())
    .bind(now.ms())
    .fetch_one(connection)
    .await
    .map_err(doing("writing a log group"))
}

async fn insert_stream(
    connection: &mut SqliteConnection,
    group: i64,
    stream: &LogStream,
    now: Timestamp,
) -> Result<i64, ControlError> {
    sqlx::query_scalar(
        "INSERT INTO log_streams (id, group_id, name, created_at, bytes)
         SELECT coalesce(max(id), 0) + 1, $1, $2, $3, 0 FROM log_streams RETURNING id",
    )
    .bind(group)
    .bind(stream.as_str())
    .bind(now.ms())
    .fetch_one(connection)
    .await
    .map_err(doing("writing a log stream"))
}

/// Ids of group and stream, made where that is wanted.
async fn place(
    connection: &mut SqliteConnection,
    batch: &NewEvents,
    now: Timestamp,
) -> Result<(i64, i64), ControlError> {
    let LogTarget { group, stream } = &batch.target;
    let group_row = match (find_group(connection, group).await?, batch.absent) {
        (Some(id), _) => id,
        (None, Absent::Create) => insert_group(connection, group, now).await?,
        (None, Absent::Refuse) => return Err(ControlError::LogGroupNotFound(group.clone())),
    };
    let stream_row = match (find_stream(connection, group_row, stream).await?, batch.absent) {
        (Some(id), _) => id,
        (None, Absent::Create) => insert_stream(connection, group_row, stream, now).await?,
        (None, Absent::Refuse) => {
            let (group, stream) = (group.clone(), stream.clone());
            return Err(ControlError::LogStreamNotFound { group, stream });
        }
    };
    Ok((group_row, stream_row))
}

fn numbered(batch: &NewEvents, first: u64, now: Timestamp) -> Vec<LogEvent> {
    let numbers = first..;
    let event = |(sequence, record): (u64, &LogRecord)| LogEvent {
        sequence,
        stream: batch.target.stream.clone(),
        at: record.at,
        ingested_at: now,
        message: record.message.clone(),
    };
    numbers.zip(&batch.records).map(event).collect()
}

async fn insert_events(
    connection: &mut SqliteConnection,
    (group, stream): (i64, i64),
    events: &[LogEvent],
) -> Result<(), ControlError> {
    let failed = doing("writing log events");
    let (Some(first), Some(last)) =
        (events.iter().map(|e| e.at).min(), events.iter().map(|e| e.at).max())
    else {
        return Ok(());
    };
    for event in events {
        sqlx::query(
            "INSERT INTO log_events (sequence, group_id, stream_id, at, ingested_at, message)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(signed(event.sequence))
        .bind(group)
        .bind(stream)
        .bind(event.at.ms())
        .bind(event.ingested_at.ms())
        .bind(&event.message)
        .execute(&mut *connection)
        .await
        .map_err(&failed)?;
    }
    let bytes: usize = events.iter().map(|event| event.message.len()).sum();
    sqlx::query(
        "UPDATE log_streams SET bytes = bytes + $2, ingested_at = $3,
         first_at = CASE WHEN first_at < $4 THEN first_at ELSE $4 END,
         last_at = CASE WHEN last_at > $5 THEN last_at ELSE $5 END WHERE id = $1",
    )
    .bind(stream)
    .bind(signed(bytes as u64))
    .bind(events.last().map(|event| event.ingested_at.ms()))
    .bind(first.ms())
    .bind(last.ms())
    .execute(connection)
    .await
    .map_err(&failed)?;
    Ok(())
}

fn read_stream(row: &SqliteRow) -> Result<LogStreamInfo, ControlError> {
    let failed = doing("reading a log stream");
    let time = |column: &'static str| -> Result<Option<Timestamp>, ControlError> {
        Ok(row.try_get::<Option<i64>, _>(column).map_err(&failed)?.map(at))
    };
    let name: &str = row.try_get("name").map_err(&failed)?;
    Ok(LogStreamInfo {
        stream: stored_id("a log stream", LogStream::parse(name))?,
        created_at: time("created_at")?.unwrap_or_default(),
        first_event_at: time("first_at")?,
        last_event_at: time("last_at")?,
        last_ingested_at: time("ingested_at")?,
    })
}

fn read_event(row: &SqliteRow) -> Result<LogEvent, ControlError> {
    let failed = doing("reading a log event");
    let stream: &str = row.try_get("stream").map_err(&failed)?;
    Ok(LogEvent {
        sequence: unsigned("a sequence number", row.try_get("sequence").map_err(&failed)?)?,
        stream: stored_id("a log stream", LogStream::parse(stream))?,
        at: at(row.try_get("at").map_err(&failed)?),
        ingested_at: at(row.try_get("ingested_at").map_err(&failed)?),
        message: row.try_get("message").map_err(&failed)?,
    })
}

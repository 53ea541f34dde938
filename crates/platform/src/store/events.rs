//! Events of sessions, in the order in which they were processed.

use agents::{Event, EventId, SessionId};
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

use super::{Page, Slice, StoreError, json, to_json};
use crate::clock::Timestamp;

/// A stored event.
#[derive(Debug, Clone)]
pub(crate) struct EventRow {
    pub(crate) seq: i64,
    /// Its wire form, with `id` and `processed_at`.
    pub(crate) event: Event,
}

/// Which events are listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct EventFilter {
    pub(crate) types: Vec<String>,
    /// Conditions on `processed_at`: an operator of SQL, and a time.
    pub(crate) processed: Vec<(&'static str, Timestamp)>,
}

impl EventRow {
    /// Stores an event; returns its wire form.
    pub(crate) async fn insert(
        rows: &mut SqliteConnection,
        session: &SessionId,
        id: &EventId,
        processed_at: Option<Timestamp>,
        event: &Event,
    ) -> Result<Event, StoreError> {
        sqlx::query(
            "INSERT INTO event (id, session_id, type, processed_at, body)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(id.as_str())
        .bind(session.as_str())
        .bind(event.kind())
        .bind(processed_at.map(Timestamp::micros))
        .bind(to_json(event))
        .execute(rows)
        .await?;
        Ok(wire(event.clone(), id.as_str(), processed_at))
    }

    /// Gives a waiting event its time and moves it to the end; returns its wire form.
    pub(crate) async fn process(
        rows: &mut SqliteConnection,
        id: &EventId,
        at: Timestamp,
    ) -> Result<Event, StoreError> {
        let row = sqlx::query("DELETE FROM event WHERE id = ?1 RETURNING session_id, body")
            .bind(id.as_str())
            .fetch_one(&mut *rows)
            .await?;
        let session = super::sessions::session_id(row.try_get("session_id")?, "session_id")?;
        let event: Event = json(id.as_str(), "body", row.try_get("body")?)?;
        Self::insert(rows, &session, id, Some(at), &event).await
    }

    /// An event of a session.
    pub(crate) async fn find(
        rows: &mut SqliteConnection,
        session: &SessionId,
        id: &EventId,
    ) -> Result<Option<Self>, StoreError> {
        let query = sqlx::query("SELECT * FROM event WHERE id = ?1 AND session_id = ?2");
        let query = query.bind(id.as_str()).bind(session.as_str());
        query.fetch_optional(rows).await?.as_ref().map(Self::read).transpose()
    }

    /// Events of a session.
    pub(crate) async fn list(
        rows: &mut SqliteConnection,
        session: &SessionId,
        filter: &EventFilter,
        slice: Slice,
    ) -> Result<Page<Self>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM event WHERE session_id = ");
        query.push_bind(session.as_str().to_owned());
        if !filter.types.is_empty() {
            query.push(" AND type IN (");
            let mut list = query.separated(", ");
            for kind in &filter.types {
                list.push_bind(kind.clone());
            }
            query.push(")");
        }
        for (operator, time) in &filter.processed {
            query.push(format!(" AND processed_at {operator} ")).push_bind(time.micros());
        }
        slice.finish(&mut query);
        let found = query.build().fetch_all(rows).await?;
        let found = found.iter().map(Self::read).collect::<Result<Vec<_>, _>>()?;
        Ok(slice.page(found, |row| row.seq))
    }

    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let id: String = row.try_get("id")?;
        let processed_at: Option<i64> = row.try_get("processed_at")?;
        let event: Event = json(&id, "body", row.try_get("body")?)?;
        let event = wire(event, &id, processed_at.map(Timestamp::from_micros));
        Ok(Self { seq: row.try_get("seq")?, event })
    }
}

fn wire(event: Event, id: &str, processed_at: Option<Timestamp>) -> Event {
    let time = processed_at.map_or(Value::Null, |time| Value::from(time.to_string()));
    event.with("id", id).with("processed_at", time)
}

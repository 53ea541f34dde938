//! Events of sessions, in the order in which they were processed.

use agents::{Event, EventId, SessionId};
use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::page::{self, Conditions, Listed};
use super::{StoreError, json, to_json};
use crate::clock::Timestamp;

/// A stored event.
#[derive(Debug, Clone)]
pub(crate) struct EventRow {
    pub(crate) seq: i64,
    /// Its wire form, with `id` and `processed_at`.
    pub(crate) event: Event,
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
        page::one(rows, &Self::of(session).text("id", id.as_str())).await
    }

    /// Conditions that the events of a session meet.
    pub(crate) fn of(session: &SessionId) -> Conditions {
        Conditions::default().text("session_id", session.as_str())
    }
}

impl Listed for EventRow {
    const TABLE: &'static str = "event";

    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let id: String = row.try_get("id")?;
        let processed_at: Option<i64> = row.try_get("processed_at")?;
        let event: Event = json(&id, "body", row.try_get("body")?)?;
        let event = wire(event, &id, processed_at.map(Timestamp::from_micros));
        Ok(Self { seq: row.try_get("seq")?, event })
    }

    fn seq(&self) -> i64 {
        self.seq
    }
}

fn wire(event: Event, id: &str, processed_at: Option<Timestamp>) -> Event {
    let time = processed_at.map_or(Value::Null, |time| Value::from(time.to_string()));
    event.with("id", id).with("processed_at", time)
}

//! Webhook endpoints, what is on its way to them, and what became of it.

use serde_json::Value;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::page::{self, Conditions, Listed};
use super::{StoreError, json, to_json};
use crate::clock::Timestamp;
use crate::ids::{EndpointId, HookId};

/// Deliveries that the log keeps; older ones that are over are forgotten.
const LOG_MAX: i64 = 10_000;

/// An endpoint.
#[derive(Debug, Clone)]
pub(crate) struct EndpointRow {
    pub(crate) seq: i64,
    pub(crate) id: EndpointId,
    pub(crate) url: String,
    /// `whsec_…`, which signing needs as it is; several, separated by spaces, while it is
    /// being rotated, the newest first.
    pub(crate) secret: String,
    pub(crate) types: Vec<String>,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) state: EndpointState,
    /// Since when no delivery has been taken, and how many attempts have failed since.
    pub(crate) failing: Option<(Timestamp, i64)>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// Whether an endpoint is told anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndpointState {
    Enabled,
    /// By its owner.
    Disabled,
    /// By the platform, for this reason.
    GivenUp(String),
}

/// A delivery whose next attempt is due.
#[derive(Debug)]
pub(crate) struct DueDelivery {
    /// Of its row, which is its place in the log.
    pub(crate) seq: i64,
    pub(crate) hook: HookId,
    pub(crate) endpoint: EndpointRow,
    pub(crate) body: String,
    /// Attempts made so far.
    pub(crate) attempts: u32,
    pub(crate) due: Timestamp,
}

/// What became of one attempt.
#[derive(Debug, Clone)]
pub(crate) struct AttemptRow {
    pub(crate) at: Timestamp,
    pub(crate) status: Option<u16>,
    pub(crate) error: Option<String>,
}

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Pending,
    Delivered,
    Dropped,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dropped => "dropped",
        }
    }
}

/// What follows from an attempt.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It was taken.
    Delivered,
    /// Another attempt then.
    Retry(Timestamp),
    /// No more attempts.
    Drop,
    /// No more attempts, and nothing more for this endpoint.
    Disable(String),
}

/// A delivery in the log.
#[derive(Debug)]
pub(crate) struct DeliveryRow {
    pub(crate) hook: HookId,
    pub(crate) url: String,
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) outcome: Outcome,
    pub(crate) created_at: Timestamp,
    pub(crate) attempts: Vec<AttemptRow>,
}

impl EndpointRow {
    /// Whether it is told anything.
    pub(crate) fn is_enabled(&self) -> bool {
        self.state == EndpointState::Enabled
    }

    /// Stores a new one.
    pub(crate) async fn insert(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO endpoint (id, url, secret, types, created_at) VALUES (?1, ?2, '', '[]', ?3)",
        )
        .bind(self.id.as_str())
        .bind(&self.url)
        .bind(self.created_at.micros())
        .execute(&mut *rows)
        .await?;
        self.save(rows).await
    }

    /// Stores what changed.
    pub(crate) async fn save(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        let (state, reason) = match &self.state {
            EndpointState::Enabled => ("enabled", None),
            EndpointState::Disabled => ("disabled", None),
            EndpointState::GivenUp(reason) => ("disabled", Some(reason)),
        };
        sqlx::query(
            "UPDATE endpoint SET url = ?2, secret = ?3, types = ?4, name = ?5, description = ?6,
                                 state = ?7, disabled_reason = ?8, failing_since = ?9,
                                 failures = ?10, updated_at = ?11
             WHERE id = ?1",
        )
        .bind(self.id.as_str())
        .bind(&self.url)
        .bind(&self.secret)
        .bind(to_json(&self.types))
        .bind(&self.name)
        .bind(&self.description)
        .bind(state)
        .bind(reason)
        .bind(self.failing.map(|(since, _)| since.micros()))
        .bind(self.failing.map_or(0, |(_, failures)| failures))
        .bind(self.updated_at.micros())
        .execute(&mut *rows)
        .await?;
        if !self.is_enabled() {
            drop_pending(rows, &self.id).await?;
        }
        Ok(())
    }

    /// All endpoints.
    pub(crate) async fn all(rows: &mut SqliteConnection) -> Result<Vec<Self>, StoreError> {
        page::all(rows, &Conditions::default()).await
    }

    /// The endpoint of that id.
    pub(crate) async fn find(
        rows: &mut SqliteConnection,
        id: &EndpointId,
    ) -> Result<Option<Self>, StoreError> {
        page::one(rows, &Conditions::default().text("id", id.as_str())).await
    }

    /// The endpoint of that URL.
    pub(crate) async fn find_by_url(
        rows: &mut SqliteConnection,
        url: &str,
    ) -> Result<Option<Self>, StoreError> {
        page::one(rows, &Conditions::default().text("url", url)).await
    }

    /// Removes it, and its deliveries.
    pub(crate) async fn delete(&self, rows: &mut SqliteConnection) -> Result<(), StoreError> {
        for statement in [
            "DELETE FROM attempt WHERE delivery_seq IN
                 (SELECT seq FROM delivery WHERE endpoint_id = ?1)",
            "DELETE FROM delivery WHERE endpoint_id = ?1",
            "DELETE FROM endpoint WHERE id = ?1",
        ] {
            sqlx::query(statement).bind(self.id.as_str()).execute(&mut *rows).await?;
        }
        Ok(())
    }
}

impl Listed for EndpointRow {
    const TABLE: &'static str = "endpoint";

    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        let id: String = row.try_get("id")?;
        let reason: Option<String> = row.try_get("disabled_reason")?;
        let since: Option<i64> = row.try_get("failing_since")?;
        let failures: i64 = row.try_get("failures")?;
        Ok(Self {
            seq: row.try_get("seq")?,
            url: row.try_get("url")?,
            secret: row.try_get("secret")?,
            types: json(&id, "types", row.try_get("types")?)?,
            name: row.try_get("name")?,
            description: row.try_get("description")?,
            state: match (row.try_get("state")?, reason) {
                ("enabled", _) => EndpointState::Enabled,
                (_, None) => EndpointState::Disabled,
                (_, Some(reason)) => EndpointState::GivenUp(reason),
            },
            failing: since.map(|since| (Timestamp::from_micros(since), failures)),
            created_at: Timestamp::from_micros(row.try_get("created_at")?),
            updated_at: Timestamp::from_micros(row.try_get("updated_at")?),
            id: EndpointId::from_text(id),
        })
    }

    fn seq(&self) -> i64 {
        self.seq
    }
}

impl DeliveryRow {
    /// Puts an event on its way to an endpoint, to be sent at `due`; never, without.
    pub(crate) async fn insert(
        rows: &mut SqliteConnection,
        endpoint: &EndpointId,
        body: &Value,
        created: Timestamp,
        due: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let data = |name: &str| body["data"][name].as_str().unwrap_or_default().to_owned();
        sqlx::query(
            "INSERT INTO delivery (hook_id, endpoint_id, type, subject, body, outcome,
                                   next_attempt_at, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .bind(body["id"].as_str())
        .bind(endpoint.as_str())
        .bind(data("type"))
        .bind(data("id"))
        .bind(body.to_string())
        .bind(if due.is_some() { Outcome::Pending } else { Outcome::Dropped }.name())
        .bind(due.map(Timestamp::micros))
        .bind(created.micros())
        .execute(rows)
        .await?;
        Ok(())
    }

    /// The deliveries whose next attempts come first.
    pub(crate) async fn due(
        rows: &mut SqliteConnection,
        limit: u32,
    ) -> Result<Vec<DueDelivery>, StoreError> {
        let found = sqlx::query(
            "SELECT e.*, d.seq AS delivery_seq, d.hook_id, d.body, d.next_attempt_at,
                    (SELECT COUNT(*) FROM attempt a WHERE a.delivery_seq = d.seq) AS attempts
             FROM delivery d JOIN endpoint e ON e.id = d.endpoint_id
             WHERE d.next_attempt_at IS NOT NULL ORDER BY d.next_attempt_at, d.seq LIMIT ?1",
        )
        .bind(limit)
        .fetch_all(rows)
        .await?;
        found
            .iter()
            .map(|row| {
                Ok(DueDelivery {
                    seq: row.try_get("delivery_seq")?,
                    hook: HookId::from_text(row.try_get::<String, _>("hook_id")?),
                    endpoint: EndpointRow::read(row)?,
                    body: row.try_get("body")?,
                    attempts: row.try_get("attempts")?,
                    due: Timestamp::from_micros(row.try_get("next_attempt_at")?),
                })
            })
            .collect()
    }

    /// Writes down an attempt and what follows from it.
    pub(crate) async fn attempted(
        rows: &mut SqliteConnection,
        delivery: &DueDelivery,
        attempt: &AttemptRow,
        verdict: &Verdict,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO attempt (delivery_seq, number, at, status, error)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .bind(delivery.seq)
        .bind(delivery.attempts + 1)
        .bind(attempt.at.micros())
        .bind(attempt.status)
        .bind(&attempt.error)
        .execute(&mut *rows)
        .await?;
        let (outcome, next) = match verdict {
            Verdict::Delivered => (Outcome::Delivered, None),
            Verdict::Retry(at) => (Outcome::Pending, Some(*at)),
            Verdict::Drop | Verdict::Disable(_) => (Outcome::Dropped, None),
        };
        sqlx::query("UPDATE delivery SET outcome = ?2, next_attempt_at = ?3 WHERE seq = ?1")
            .bind(delivery.seq)
            .bind(outcome.name())
            .bind(next.map(Timestamp::micros))
            .execute(&mut *rows)
            .await?;
        forget(rows, delivery.seq).await
    }

    /// Makes deliveries that are over once more, with as many attempts as new ones. Returns how
    /// many there are.
    pub(crate) async fn redeliver(
        rows: &mut SqliteConnection,
        hook: &HookId,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        sqlx::query(
            "DELETE FROM attempt WHERE delivery_seq IN
                 (SELECT seq FROM delivery WHERE hook_id = ?1 AND next_attempt_at IS NULL)",
        )
        .bind(hook.as_str())
        .execute(&mut *rows)
        .await?;
        let done = sqlx::query(
            "UPDATE delivery SET outcome = 'pending', next_attempt_at = ?2
             WHERE hook_id = ?1 AND next_attempt_at IS NULL",
        )
        .bind(hook.as_str())
        .bind(now.micros())
        .execute(rows)
        .await?;
        Ok(done.rows_affected())
    }

    /// The log, the newest first.
    pub(crate) async fn log(
        rows: &mut SqliteConnection,
        limit: u32,
    ) -> Result<Vec<Self>, StoreError> {
        let found = sqlx::query(
            "SELECT d.*, e.url FROM delivery d JOIN endpoint e ON e.id = d.endpoint_id
             ORDER BY d.seq DESC LIMIT ?1",
        )
        .bind(limit)
        .fetch_all(&mut *rows)
        .await?;
        let mut log = Vec::with_capacity(found.len());
        for row in &found {
            log.push(Self {
                hook: HookId::from_text(row.try_get::<String, _>("hook_id")?),
                url: row.try_get("url")?,
                kind: row.try_get("type")?,
                subject: row.try_get("subject")?,
                outcome: match row.try_get("outcome")? {
                    "delivered" => Outcome::Delivered,
                    "dropped" => Outcome::Dropped,
                    _ => Outcome::Pending,
                },
                created_at: Timestamp::from_micros(row.try_get("created_at")?),
                attempts: attempts(rows, row.try_get("seq")?).await?,
            });
        }
        Ok(log)
    }
}

async fn attempts(
    rows: &mut SqliteConnection,
    delivery: i64,
) -> Result<Vec<AttemptRow>, StoreError> {
    let found = sqlx::query("SELECT * FROM attempt WHERE delivery_seq = ?1 ORDER BY number")
        .bind(delivery)
        .fetch_all(rows)
        .await?;
    found
        .iter()
        .map(|row| {
            Ok(AttemptRow {
                at: Timestamp::from_micros(row.try_get("at")?),
                status: row.try_get("status")?,
                error: row.try_get("error")?,
            })
        })
        .collect()
}

/// Nothing more goes to this endpoint, what is on its way included.
async fn drop_pending(
    rows: &mut SqliteConnection,
    endpoint: &EndpointId,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE delivery SET outcome = 'dropped', next_attempt_at = NULL
         WHERE endpoint_id = ?1 AND next_attempt_at IS NOT NULL",
    )
    .bind(endpoint.as_str())
    .execute(rows)
    .await?;
    Ok(())
}

/// Keeps the log bounded.
async fn forget(rows: &mut SqliteConnection, newest: i64) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM attempt WHERE delivery_seq IN
             (SELECT seq FROM delivery WHERE seq <= ?1 AND next_attempt_at IS NULL)",
        "DELETE FROM delivery WHERE seq <= ?1 AND next_attempt_at IS NULL",
    ] {
        sqlx::query(statement).bind(newest.saturating_sub(LOG_MAX)).execute(&mut *rows).await?;
    }
    Ok(())
}

//! Who is this? Credentials by the hash of their text; the text itself is nowhere.

use agents::{EnvironmentId, SessionId, WorkId};
use sqlx::Row as _;
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use super::StoreError;
use crate::clock::Timestamp;

/// What a credential is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `sk-ant-api03-…`: the organisation.
    Organisation,
    /// `sk-ant-oat01-…`: the workers of an environment.
    Environment(EnvironmentId),
    /// `sk-ant-req-…`: the worker of one work item.
    Session { environment: EnvironmentId, session: SessionId, work: WorkId },
}

/// A credential to be stored.
#[derive(Debug)]
pub(crate) struct Credential {
    /// SHA-256 of its text.
    pub(crate) hash: [u8; 32],
    /// What it is good for.
    pub(crate) subject: Subject,
}

impl Credential {
    /// Stores it; storing it again changes nothing.
    pub(crate) async fn insert(
        &self,
        rows: &mut SqliteConnection,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (kind, environment, session, work) = match &self.subject {
            Subject::Organisation => ("organisation", None, None, None),
            Subject::Environment(id) => ("environment", Some(id), None, None),
            Subject::Session { environment, session, work } => {
                ("session", Some(environment), Some(session), Some(work))
            }
        };
        sqlx::query(
            "INSERT INTO credential (hash, kind, environment_id, session_id, work_id, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (hash) DO NOTHING",
        )
        .bind(self.hash.as_slice())
        .bind(kind)
        .bind(environment.map(EnvironmentId::as_str))
        .bind(session.map(SessionId::as_str))
        .bind(work.map(WorkId::as_str))
        .bind(now.micros())
        .execute(rows)
        .await?;
        Ok(())
    }

    /// Whose it is, if anybody's.
    pub(crate) async fn find(
        rows: &mut SqliteConnection,
        hash: [u8; 32],
    ) -> Result<Option<Subject>, StoreError> {
        let row = sqlx::query(
            "SELECT kind, environment_id, session_id, work_id FROM credential WHERE hash = ?1",
        )
        .bind(hash.as_slice())
        .fetch_optional(rows)
        .await?;
        row.as_ref().map(subject).transpose()
    }

    /// Forgets the keys of an environment, not the tokens of its sessions.
    pub(crate) async fn revoke_environment_keys(
        rows: &mut SqliteConnection,
        environment: &EnvironmentId,
    ) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM credential WHERE kind = 'environment' AND environment_id = ?1")
            .bind(environment.as_str())
            .execute(rows)
            .await?;
        Ok(())
    }
}

fn subject(row: &SqliteRow) -> Result<Subject, StoreError> {
    let unreadable = |column| StoreError::Unreadable { id: "credential".into(), column };
    let text = |column: &'static str| -> Result<String, StoreError> {
        row.try_get::<Option<String>, _>(column)?.ok_or_else(|| unreadable(column))
    };
    let environment =
        || EnvironmentId::new(text("environment_id")?).map_err(|_| unreadable("environment_id"));
    match text("kind")?.as_str() {
        "organisation" => Ok(Subject::Organisation),
        "environment" => Ok(Subject::Environment(environment()?)),
        "session" => Ok(Subject::Session {
            environment: environment()?,
            session: SessionId::new(text("session_id")?).map_err(|_| unreadable("session_id"))?,
            work: WorkId::new(text("work_id")?).map_err(|_| unreadable("work_id"))?,
        }),
        _ => Err(unreadable("kind")),
    }
}

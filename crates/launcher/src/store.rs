//! What must survive a crash: which VM serves which session, and which events have had their answer.
//!
//! A launch is written down before RunMicrovm is called, with the very request and its client
//! token. A process that dies in between therefore repeats that request to the letter, and AWS
//! answers the repetition with the first VM. Plain SQL that PostgreSQL takes as well.

mod claims;

use crate::microvms::RunRequest;
use agents::{EnvironmentId, EventId, SessionId, WorkId};
use sqlx::{
    Row, SqlitePool,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};
use time::OffsetDateTime;

/// A repeated delivery comes within minutes (three attempts, 5 to 120 s apart); a day is ample.
const DELIVERY_KEPT: time::Duration = time::Duration::days(1);
/// A VM lives 8 hours at most; a session that was silent for so long starts counting anew.
const LAUNCH_KEPT: time::Duration = time::Duration::days(30);
/// How long a statement waits for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// SQLite has one writer, and a delivery needs three short statements.
const CONNECTIONS_MAX: u32 = 2;

/// The launcher's database cannot do its part.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the launcher's data directory {path} cannot be made")]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the launcher's database {path} cannot be opened")]
    Open {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("the launcher's database {path} cannot be brought to this version's tables")]
    Migrate {
        path: PathBuf,
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    #[error("the launcher's database failed to {action}")]
    Query {
        action: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("the launcher's row of session {session} cannot be read: {reason}")]
    BadRow { session: SessionId, reason: String },
}

/// A session's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launch {
    pub(crate) session: SessionId,
    pub(crate) environment: EnvironmentId,
    /// The session's n-th VM, from 1.
    pub(crate) generation: i64,
    pub(crate) event: Option<EventId>,
    /// The item that this VM was given; None where it polls for itself.
    pub(crate) work: Option<WorkId>,
    pub(crate) request: RunRequest,
    pub(crate) state: LaunchState,
}

/// How far a launch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LaunchState {
    /// RunMicrovm was or is about to be called, its answer is not known.
    Launching,
    /// RunMicrovm answered with this VM.
    Launched { microvm_id: String },
    /// RunMicrovm was refused: there is no VM of this generation.
    Failed { reason: String },
}

impl LaunchState {
    fn columns(&self) -> (&'static str, Option<&str>, Option<&str>) {
        match self {
            Self::Launching => ("launching", None, None),
            Self::Launched { microvm_id } => ("launched", Some(microvm_id), None),
            Self::Failed { reason } => ("failed", None, Some(reason)),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Store {
    pool: SqlitePool,
}

impl Store {
    pub(crate) async fn open(data_dir: &Path) -> Result<Self, StoreError> {
        tokio::fs::create_dir_all(data_dir)
            .await
            .map_err(|source| StoreError::Directory { path: data_dir.to_owned(), source })?;
        let path = data_dir.join("launcher.db");
        // NORMAL loses no row when the process is killed, only when the machine loses power; then
        // the client token, which depends on nothing that was lost, still prevents a second VM.
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .connect_with(options)
            .await
            .map_err(|source| StoreError::Open { path: path.clone(), source })?;
        sqlx::migrate!("./migrations")
            .run(&pool)
            .await
            .map_err(|source| StoreError::Migrate { path, source })?;
        Ok(Self { pool })
    }

    pub(crate) async fn launch_of(
        &self,
        session: &SessionId,
    ) -> Result<Option<Launch>, StoreError> {
        let row = sqlx::query(
            "SELECT environment_id, generation, state, event_id, work_id, request, microvm_id, \
             reason FROM launches WHERE session_id = $1",
        )
        .bind(session.as_str())
        .fetch_optional(&self.pool)
        .await
        .map_err(|source| StoreError::Query { action: "read a session's row", source })?;
        row.map(|row| {
            read_launch(session, &row)
                .map_err(|reason| StoreError::BadRow { session: session.clone(), reason })
        })
        .transpose()
    }

    /// Writes a launch as it is now, and with a [`LaunchState::Launched`] in the same transaction
    /// the answer to the event that asked for it.
    pub(crate) async fn save(&self, launch: &Launch) -> Result<(), StoreError> {
        self.try_save(launch)
            .await
            .map_err(|source| StoreError::Query { action: "write a session's row", source })
    }

    async fn try_save(&self, launch: &Launch) -> Result<(), sqlx::Error> {
        let (state, microvm_id, reason) = launch.state.columns();
        let request = match launch.state {
            LaunchState::Launching => launch.request.clone(),
            // It will not be repeated, and what it holds is a secret to the VM and its session.
            LaunchState::Launched { .. } | LaunchState::Failed { .. } => {
                launch.request.without_payload()
            }
        };
        let request = serde_json::to_string(&request)
            .map_err(|source| sqlx::Error::Encode(Box::new(source)))?;
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO launches (session_id, environment_id, generation, state, event_id, \
             client_token, request, microvm_id, reason, created_at, updated_at, work_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11) \
             ON CONFLICT (session_id) DO UPDATE SET environment_id = $2, generation = $3, \
             state = $4, event_id = $5, client_token = $6, request = $7, microvm_id = $8, \
             reason = $9, updated_at = $10, work_id = $11",
        )
        .bind(launch.session.as_str())
        .bind(launch.environment.as_str())
        .bind(launch.generation)
        .bind(state)
        .bind(launch.event.as_ref().map(EventId::as_str))
        .bind(&launch.request.client_token)
        .bind(request)
        .bind(microvm_id)
        .bind(reason)
        .bind(now())
        .bind(launch.work.as_ref().map(WorkId::as_str))
        .execute(&mut *transaction)
        .await?;
        if let (Some(event), Some(microvm_id)) = (&launch.event, microvm_id) {
            insert_delivery(&mut transaction, event, &launch.session, microvm_id).await?;
        }
        transaction.commit().await
    }

    /// The session and VM that this event was answered with.
    pub(crate) async fn answer_to(
        &self,
        event: &EventId,
    ) -> Result<Option<(SessionId, String)>, StoreError> {
        let found: Option<(String, String)> =
            sqlx::query_as("SELECT session_id, microvm_id FROM deliveries WHERE event_id = $1")
                .bind(event.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(|source| StoreError::Query { action: "look an event up", source })?;
        // A session id that does not parse was not written by us: as good as no row.
        Ok(found.and_then(|(session, vm)| Some((SessionId::new(session).ok()?, vm))))
    }

    /// The session that each VM was launched for, where it is that session's newest.
    pub(crate) async fn sessions_by_vm(&self) -> Result<HashMap<String, String>, StoreError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT microvm_id, session_id FROM launches WHERE microvm_id IS NOT NULL",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|source| StoreError::Query { action: "list the sessions", source })?;
        Ok(rows.into_iter().collect())
    }

    /// Notes that `event` was answered with `microvm_id`.
    pub(crate) async fn answered(
        &self,
        event: &EventId,
        session: &SessionId,
        microvm_id: &str,
    ) -> Result<(), StoreError> {
        let write = async {
            let mut transaction = self.pool.begin().await?;
            insert_delivery(&mut transaction, event, session, microvm_id).await?;
            transaction.commit().await
        };
        write.await.map_err(|source| StoreError::Query { action: "note an answer", source })
    }

    /// Forgets what is too old to matter, so that the database stays small for years.
    pub(crate) async fn forget_old(&self) -> Result<(), StoreError> {
        let write = async {
            sqlx::query("DELETE FROM deliveries WHERE answered_at < $1")
                .bind(now() - DELIVERY_KEPT.whole_seconds())
                .execute(&self.pool)
                .await?;
            sqlx::query("DELETE FROM launches WHERE updated_at < $1")
                .bind(now() - LAUNCH_KEPT.whole_seconds())
                .execute(&self.pool)
                .await
        };
        write
            .await
            .map(|_| ())
            .map_err(|source| StoreError::Query { action: "forget old rows", source })
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

async fn insert_delivery(
    connection: &mut sqlx::SqliteConnection,
    event: &EventId,
    session: &SessionId,
    microvm_id: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO deliveries (event_id, session_id, microvm_id, answered_at) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (event_id) DO NOTHING",
    )
    .bind(event.as_str())
    .bind(session.as_str())
    .bind(microvm_id)
    .bind(now())
    .execute(connection)
    .await
    .map(|_| ())
}

fn read_launch(session: &SessionId, row: &SqliteRow) -> Result<Launch, String> {
    fn column<'r, T>(row: &'r SqliteRow, name: &str) -> Result<T, String>
    where
        T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        row.try_get(name).map_err(|error| error.to_string())
    }
    let state: String = column(row, "state")?;
    let state = match state.as_str() {
        "launching" => LaunchState::Launching,
        "launched" => LaunchState::Launched { microvm_id: column(row, "microvm_id")? },
        "failed" => LaunchState::Failed { reason: column(row, "reason")? },
        other => return Err(format!("state {other:?} is not known")),
    };
    let request: String = column(row, "request")?;
    Ok(Launch {
        session: session.clone(),
        environment: EnvironmentId::new(column::<String>(row, "environment_id")?)
            .map_err(|error| error.to_string())?,
        generation: column(row, "generation")?,
        event: column::<Option<String>>(row, "event_id")?
            .map(EventId::new)
            .transpose()
            .map_err(|error| error.to_string())?,
        work: column::<Option<String>>(row, "work_id")?
            .map(WorkId::new)
            .transpose()
            .map_err(|error| error.to_string())?,
        request: serde_json::from_str(&request).map_err(|error| error.to_string())?,
        state,
    })
}

/// Unix time, seconds.
fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

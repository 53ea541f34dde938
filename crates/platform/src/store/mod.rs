//! The rows: SQLite in WAL mode, one writer, as many readers as ask.
//!
//! Every change is one [`Change`]: a transaction that holds the only writer's place until it is
//! dropped. What a change tells to streams, pollers and webhooks is told while it still holds
//! that place, so listeners hear of changes in the order in which the rows have them.
//!
//! One module a table; every list goes through the query in [`page`].

mod agents;
mod credentials;
mod environments;
mod events;
mod hooks;
mod page;
mod resources;
mod sessions;
mod work;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};
use tokio::sync::{Mutex, MutexGuard};

pub(crate) use agents::{AgentRow, AgentVersion};
pub(crate) use credentials::{Credential, Subject};
pub(crate) use environments::EnvironmentRow;
pub(crate) use events::EventRow;
pub(crate) use hooks::{
    AttemptRow, DeliveryRow, DueDelivery, EndpointRow, EndpointState, Outcome, Verdict,
};
pub(crate) use page::{Conditions, Cursor, Listed, Order, Page, Slice, all, list};
pub(crate) use resources::{Kind, ResourceRow};
pub(crate) use sessions::{SessionBody, SessionRow};
pub(crate) use work::WorkRow;

/// Connections that read at the same time.
const CONNECTIONS_MAX: u32 = 8;
/// How long a connection waits for SQLite's lock. The writer's place is ours already; a backup
/// or a curious person may hold the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why rows could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("cannot open the database {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: sqlx::Error,
    },
    /// Its tables cannot be brought to this version.
    #[error("cannot bring the tables of the database up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("the database refused a statement")]
    Statement(#[from] sqlx::Error),
    /// A row holds what this version cannot read.
    #[error("row {id} holds something unreadable in {column}")]
    Unreadable {
        /// The row.
        id: String,
        /// Where in it.
        column: &'static str,
    },
}

/// The database.
#[derive(Debug)]
pub(crate) struct Store {
    pool: SqlitePool,
    writer: Mutex<()>,
}

/// A transaction that has the writer's place.
pub(crate) struct Change<'a> {
    tx: Transaction<'static, Sqlite>,
    place: MutexGuard<'a, ()>,
}

/// The writer's place after a commit: held while the change is told.
pub(crate) struct Committed<'a>(#[expect(dead_code, reason = "held, not read")] MutexGuard<'a, ()>);

impl Store {
    /// Opens or makes the database.
    pub(crate) async fn open(path: &Path) -> Result<Self, StoreError> {
        let open = |source| StoreError::Open { path: path.to_owned(), source };
        // Signing secrets stand in it: for its owner alone, and the files beside it with it.
        let mut file = tokio::fs::OpenOptions::new();
        file.create(true).append(true).mode(0o600);
        file.open(path).await.map_err(|error| open(sqlx::Error::Io(error)))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode a killed process loses nothing; only a power cut may lose the last
            // changes, which an emulator can bear.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .connect_with(options)
            .await
            .map_err(open)?;
        sqlx::migrate!().run(&pool).await.map_err(StoreError::Migrate)?;
        Ok(Self { pool, writer: Mutex::new(()) })
    }

    /// A connection to read with.
    pub(crate) async fn read(&self) -> Result<PoolConnection<Sqlite>, StoreError> {
        Ok(self.pool.acquire().await?)
    }

    /// Waits for the writer's place and begins a change. Dropped without a commit, it is undone.
    pub(crate) async fn change(&self) -> Result<Change<'_>, StoreError> {
        let place = self.writer.lock().await;
        let tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Change { tx, place })
    }

    /// Closes the file; later calls fail.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

impl<'a> Change<'a> {
    /// The connection to write with.
    pub(crate) fn rows(&mut self) -> &mut SqliteConnection {
        &mut self.tx
    }

    /// Makes the change last.
    pub(crate) async fn commit(self) -> Result<Committed<'a>, StoreError> {
        self.tx.commit().await?;
        Ok(Committed(self.place))
    }
}

/// Reads a value that this platform made once and keeps for good, such as its own id.
pub(crate) async fn meta(
    rows: &mut SqliteConnection,
    key: &str,
) -> Result<Option<String>, StoreError> {
    let value = sqlx::query_scalar("SELECT value FROM meta WHERE key = ?1");
    Ok(value.bind(key).fetch_optional(rows).await?)
}

/// Keeps such a value.
pub(crate) async fn set_meta(
    rows: &mut SqliteConnection,
    key: &str,
    value: &str,
) -> Result<(), StoreError> {
    let insert = sqlx::query("INSERT INTO meta (key, value) VALUES (?1, ?2)");
    insert.bind(key).bind(value).execute(rows).await?;
    Ok(())
}

/// Reads a JSON column.
fn json<T: serde::de::DeserializeOwned>(
    id: &str,
    column: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Unreadable { id: id.to_owned(), column })
}

/// Writes a JSON column. What is stored here has string keys only, so this cannot fail.
fn to_json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

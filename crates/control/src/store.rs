//! All SQL of the control plane, and nothing but SQL: rows in, rows out.
//!
//! Two SQLite files: what exists (`control.db`) and what it said (`logs.db`). Each has one writing
//! connection, since SQLite has one writer anyway and waiting for a connection is fair where
//! waiting for its lock is not, and a few that read beside it (WAL).
//!
//! `synchronous = NORMAL`: a commit survives the end of this process, however it ends, because the
//! kernel holds the pages; it may be lost with the machine's power, but so are the VMs then.
//!
//! The SQL is plain, so that PostgreSQL takes it too: numbered parameters, text and bigint only, and
//! no LIKE, which minds the case of letters there and not here.

mod builds;
mod checkpoints;
mod connectors;
mod image_documents;
mod images;
mod log_groups;
mod logs;
mod microvms;
mod parameters;
mod reckoning;
mod secrets;
mod tags;

use crate::{BadId, ControlError, PageRequest, Timestamp};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
pub(crate) use builds::{Begun, BuildOf, BuildOutcome, NewBuild};
pub(crate) use checkpoints::CheckpointRow;
pub(crate) use connectors::{ConnectorDocument, NewConnector, NewConnectorVersion};
use image_documents::HooksDocument;
pub(crate) use image_documents::{ImageDocument, PortableDocument};
pub(crate) use images::{ImageContent, VersionRow};
pub(crate) use logs::{Absent, EventKey, NewEvents};
pub(crate) use microvms::{Claim, MicrovmRow, NewMark};
pub(crate) use parameters::ParameterRow;
pub(crate) use secrets::{SecretRow, SecretVersionRow};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    fs::{File, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    time::Duration,
};

static STATE_SCHEMA: Migrator = sqlx::migrate!("./migrations/state");
static LOGS_SCHEMA: Migrator = sqlx::migrate!("./migrations/logs");

/// Connections that read, per file.
const READERS_MAX: u32 = 4;

/// How long a connection waits for a lock that another process (a backup, a shell) holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A database: one connection that writes, some that read.
#[derive(Debug)]
struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
}

/// The stores of one data directory.
#[derive(Debug)]
pub(crate) struct Store {
    state: Database,
    logs: Database,
}

impl Store {
    pub(crate) async fn open(data_dir: &Path) -> Result<Self, ControlError> {
        Ok(Self {
            state: Database::open(&data_dir.join("control.db"), &STATE_SCHEMA).await?,
            logs: Database::open(&data_dir.join("logs.db"), &LOGS_SCHEMA).await?,
        })
    }

    /// Waits for what is under way and closes the files, which folds the WAL into them.
    pub(crate) async fn close(&self) {
        for database in [&self.state, &self.logs] {
            database.readers.close().await;
            database.writer.close().await;
        }
    }
}

impl Database {
    async fn open(path: &Path, schema: &Migrator) -> Result<Self, ControlError> {
        make_private_file(path).map_err(|source| ControlError::File {
            action: "making",
            path: path.to_owned(),
            source,
        })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT);
        let failed = doing("opening its file");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        schema
            .run(&writer)
            .await
            .map_err(|source| ControlError::Migrate { path: path.to_owned(), source })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .connect_with(options.read_only(true))
            .await
            .map_err(doing("opening its file"))?;
        Ok(Self { writer, readers })
    }
}

/// For its owner alone; SQLite gives the files that it puts beside it the same mode.
fn make_private_file(path: &Path) -> io::Result<()> {
    let file = File::options().create(true).append(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

/// Says what was attempted when the store failed.
fn doing(action: &'static str) -> impl Fn(sqlx::Error) -> ControlError {
    move |source| ControlError::Store { action, source }
}

/// A value of a row that this version cannot have written.
fn corrupt(what: &'static str, value: impl ToString) -> ControlError {
    ControlError::Corrupt { what, value: value.to_string() }
}

fn stored_id<T>(what: &'static str, parsed: Result<T, BadId>) -> Result<T, ControlError> {
    parsed.map_err(|e| corrupt(what, e.given))
}

/// The variant of a closed set that is written as `text`.
fn variant<T: Copy>(
    what: &'static str,
    all: &[T],
    name: fn(T) -> &'static str,
    text: &str,
) -> Result<T, ControlError> {
    all.iter().copied().find(|v| name(*v) == text).ok_or_else(|| corrupt(what, text))
}

fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("stored documents have string keys and no failing parts")
}

fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, ControlError> {
    serde_json::from_str(text).map_err(|_| corrupt(what, text))
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(ms)
}

fn unsigned(what: &'static str, value: i64) -> Result<u64, ControlError> {
    u64::try_from(value).map_err(|_| corrupt(what, value))
}

/// Sizes and counts are far below 2^63; one that is not becomes the largest.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Whether one more may be, where there are `present`.
fn quota(what: &'static str, present: i64, max: Option<u64>) -> Result<(), ControlError> {
    match max {
        Some(max) if present.unsigned_abs() >= max => Err(ControlError::Quota { what, max }),
        Some(_) | None => Ok(()),
    }
}

/// The last row's key, made opaque. What a token says is checked by what it is used for: a forged
/// one can do no more than begin a page elsewhere.
pub(crate) fn page_token<T: Serialize>(key: &T) -> String {
    URL_SAFE_NO_PAD.encode(to_json(key))
}

pub(crate) fn parse_token<T: DeserializeOwned>(token: &str) -> Result<T, ControlError> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| ControlError::BadPageToken)?;
    serde_json::from_slice(&bytes).map_err(|_| ControlError::BadPageToken)
}

/// Key where a page begins, and the limit for its query: one more than a page, to see whether there
/// is another one.
fn page_start<T: DeserializeOwned>(page: &PageRequest) -> Result<(Option<T>, i64), ControlError> {
    let key = page.token.as_deref().map(parse_token).transpose()?;
    Ok((key, signed(page.items_max as u64).saturating_add(1)))
}

/// Cuts what a query with the limit of [`page_start`] gave.
fn cut_page<T, K: Serialize>(
    mut items: Vec<T>,
    page: &PageRequest,
    key: impl Fn(&T) -> K,
) -> crate::Page<T> {
    let more = items.len() > page.items_max;
    items.truncate(page.items_max);
    let next_token = items.last().filter(|_| more).map(|last| page_token(&key(last)));
    crate::Page { items, next_token }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_opens_again_with_its_schema_in_place() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let store = Store::open(dir.path()).await.unwrap();
            assert!(store.live().await.unwrap().is_empty());
            store.close().await;
        }
    }

    #[test]
    fn a_token_that_is_none_is_named_so() {
        let page = |token: &str| PageRequest { items_max: 1, token: Some(token.to_owned()) };
        for bad in ["", "x", "e30", "é", &page_token(&"text")] {
            let start = page_start::<(i64, String)>(&page(bad));
            assert!(matches!(start, Err(ControlError::BadPageToken)), "{bad}");
        }
    }
}

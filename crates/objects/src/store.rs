//! All SQL of this crate, and nothing but SQL: rows in, rows out.
//!
//! One connection writes, a few read beside it (WAL); a commit is on the disk when it returns, since
//! an object that was acknowledged must outlive the power.

mod listing;
mod objects;
mod uploads;

use crate::{BucketName, ObjectKey, ObjectsError, reading::Segment};
pub(crate) use objects::NewObject;
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{
    Row, SqliteConnection, SqlitePool,
    migrate::Migrator,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};
use std::{collections::HashSet, path::Path, time::Duration};
use time::OffsetDateTime;
pub(crate) use uploads::PartRow;

static SCHEMA: Migrator = sqlx::migrate!("./migrations");

/// Connections that read.
const READERS_MAX: u32 = 4;

/// How long a connection waits for a lock that another process (a backup, a shell) holds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The rows of one directory of objects.
#[derive(Debug)]
pub(crate) struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Store {
    /// `path` must exist, so that its mode is what its maker gave it.
    pub(crate) async fn open(path: &Path) -> Result<Self, ObjectsError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = |count| SqlitePoolOptions::new().max_connections(count);
        let failed = doing("opening its file");
        let writer = pool(1).connect_with(options.clone()).await.map_err(&failed)?;
        let migrated = SCHEMA.run(&writer).await;
        migrated.map_err(|source| ObjectsError::Migrate { path: path.to_owned(), source })?;
        let readers = pool(READERS_MAX).connect_with(options.read_only(true)).await;
        Ok(Self { writer, readers: readers.map_err(&failed)? })
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Every file that a row names.
    pub(crate) async fn files(&self) -> Result<HashSet<String>, ObjectsError> {
        let files: Vec<String> = sqlx::query_scalar("SELECT file FROM segments")
            .fetch_all(&self.readers)
            .await
            .map_err(doing("listing files"))?;
        Ok(files.into_iter().collect())
    }

    /// # Errors
    /// [`ObjectsError::BucketExists`].
    pub(crate) async fn create_bucket(
        &self,
        name: &BucketName,
        now: OffsetDateTime,
    ) -> Result<(), ObjectsError> {
        let done = sqlx::query(
            "INSERT INTO buckets (name, created_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        )
        .bind(name.as_str())
        .bind(ms(now))
        .execute(&self.writer)
        .await
        .map_err(doing("writing a bucket"))?;
        if done.rows_affected() == 0 {
            return Err(ObjectsError::BucketExists(name.clone()));
        }
        Ok(())
    }

    /// Its uploads go with it; their files are given back.
    ///
    /// # Errors
    /// [`ObjectsError::NoSuchBucket`], [`ObjectsError::BucketNotEmpty`].
    pub(crate) async fn delete_bucket(
        &self,
        name: &BucketName,
    ) -> Result<Vec<String>, ObjectsError> {
        let failed = doing("removing a bucket");
        let mut tx = self.writer.begin().await.map_err(&failed)?;
        require_bucket(&mut tx, name).await?;
        let object = sqlx::query("SELECT id FROM objects WHERE bucket = $1 LIMIT 1")
            .bind(name.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(&failed)?;
        if object.is_some() {
            return Err(ObjectsError::BucketNotEmpty(name.clone()));
        }
        let files = sqlx::query_scalar(
            "DELETE FROM segments WHERE owner IN (SELECT id FROM uploads WHERE bucket = $1)
             RETURNING file",
        )
        .bind(name.as_str())
        .fetch_all(&mut *tx)
        .await
        .map_err(&failed)?;
        for statement in
            ["DELETE FROM uploads WHERE bucket = $1", "DELETE FROM buckets WHERE name = $1"]
        {
            sqlx::query(statement).bind(name.as_str()).execute(&mut *tx).await.map_err(&failed)?;
        }
        tx.commit().await.map_err(&failed)?;
        Ok(files)
    }

    /// By name.
    pub(crate) async fn buckets(&self) -> Result<Vec<crate::Bucket>, ObjectsError> {
        let failed = doing("listing buckets");
        let rows = sqlx::query("SELECT name, created_at FROM buckets ORDER BY name")
            .fetch_all(&self.readers)
            .await
            .map_err(&failed)?;
        let read = |row: &SqliteRow| {
            Ok(crate::Bucket {
                name: bucket_name(&column::<String>(row, "name", &failed)?)?,
                created_at: time(column(row, "created_at", &failed)?),
            })
        };
        rows.iter().map(read).collect()
    }

    pub(crate) async fn require_bucket(&self, name: &BucketName) -> Result<(), ObjectsError> {
        let mut connection = self.readers.acquire().await.map_err(doing("reading a bucket"))?;
        require_bucket(&mut connection, name).await
    }

    /// The files of an object or upload, in order.
    pub(crate) async fn segments(&self, owner: &str) -> Result<Vec<Segment>, ObjectsError> {
        let failed = doing("reading an object's files");
        let rows = sqlx::query("SELECT file, size FROM segments WHERE owner = $1 ORDER BY number")
            .bind(owner)
            .fetch_all(&self.readers)
            .await
            .map_err(&failed)?;
        let read = |row: &SqliteRow| {
            Ok(Segment {
                file: column(row, "file", &failed)?,
                size: unsigned("a size", column(row, "size", &failed)?)?,
            })
        };
        rows.iter().map(read).collect()
    }
}

async fn require_bucket(
    connection: &mut SqliteConnection,
    name: &BucketName,
) -> Result<(), ObjectsError> {
    let found = sqlx::query("SELECT name FROM buckets WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(connection)
        .await
        .map_err(doing("reading a bucket"))?;
    if found.is_some() { Ok(()) } else { Err(ObjectsError::NoSuchBucket(name.clone())) }
}

/// Says what was attempted when the store failed.
fn doing(action: &'static str) -> impl Fn(sqlx::Error) -> ObjectsError {
    move |source| ObjectsError::Store { action, source }
}

fn column<'r, T>(
    row: &'r SqliteRow,
    name: &str,
    failed: impl Fn(sqlx::Error) -> ObjectsError,
) -> Result<T, ObjectsError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(name).map_err(failed)
}

/// A value of a row that this version cannot have written.
fn corrupt(what: &'static str, value: impl ToString) -> ObjectsError {
    ObjectsError::Corrupt { what, value: value.to_string() }
}

fn bucket_name(text: &str) -> Result<BucketName, ObjectsError> {
    BucketName::parse(text).map_err(|_| corrupt("a bucket's name", text))
}

fn object_key(text: &str) -> Result<ObjectKey, ObjectsError> {
    ObjectKey::parse(text).map_err(|_| corrupt("a key", text))
}

fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("stored documents have string keys and no failing parts")
}

fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, ObjectsError> {
    serde_json::from_str(text).map_err(|_| corrupt(what, text))
}

fn ms(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

fn time(ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn unsigned(what: &'static str, value: i64) -> Result<u64, ObjectsError> {
    u64::try_from(value).map_err(|_| corrupt(what, value))
}

/// Sizes and counts are far below 2^63; one that is not becomes the largest.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

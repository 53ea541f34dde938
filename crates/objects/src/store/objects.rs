//! Rows of objects.

use super::{
    Store, column, corrupt, doing, from_json, ms, object_key, require_bucket, signed, time,
    to_json, unsigned,
};
use crate::{
    BucketName, Checksum, Condition, Object, ObjectKey, ObjectsError, Traits, store::PartRow,
};
use sqlx::{SqliteConnection, sqlite::SqliteRow};

/// An object that is to be written, with the files that make it up.
#[derive(Debug)]
pub(crate) struct NewObject<'a> {
    pub(crate) bucket: &'a BucketName,
    pub(crate) object: &'a Object,
    /// None: they are in the table already, under the object's id.
    pub(crate) segments: Option<&'a [PartRow]>,
    pub(crate) condition: &'a Condition,
}

/// The object that was there before, and its files.
pub(crate) type Replaced = Option<(String, Vec<String>)>;

impl Store {
    pub(crate) async fn object(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<Option<Object>, ObjectsError> {
        let mut connection = self.readers.acquire().await.map_err(doing("reading an object"))?;
        find(&mut connection, bucket, key).await
    }

    /// Writes an object in the place of the one that is there.
    ///
    /// # Errors
    /// [`ObjectsError::NoSuchBucket`], [`ObjectsError::PreconditionFailed`],
    /// [`ObjectsError::NoSuchKey`] where a condition asks for one that is not there.
    pub(crate) async fn put_object(&self, new: NewObject<'_>) -> Result<Replaced, ObjectsError> {
        let failed = doing("writing an object");
        let mut tx = self.writer.begin().await.map_err(&failed)?;
        let replaced = put(&mut tx, &new).await?;
        tx.commit().await.map_err(&failed)?;
        Ok(replaced)
    }

    /// Answers what was removed.
    ///
    /// # Errors
    /// [`ObjectsError::NoSuchBucket`], [`ObjectsError::PreconditionFailed`].
    pub(crate) async fn delete_object(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        condition: &Condition,
    ) -> Result<Replaced, ObjectsError> {
        let failed = doing("removing an object");
        let mut tx = self.writer.begin().await.map_err(&failed)?;
        require_bucket(&mut tx, bucket).await?;
        let found = find(&mut tx, bucket, key).await?;
        check(condition, found.as_ref(), bucket, key)?;
        let Some(found) = found else { return Ok(None) };
        let removed = remove(&mut tx, &found).await?;
        tx.commit().await.map_err(&failed)?;
        Ok(Some(removed))
    }

    /// # Errors
    /// [`ObjectsError::NoSuchKey`].
    pub(crate) async fn set_traits(
        &self,
        bucket: &BucketName,
        object: &Object,
    ) -> Result<(), ObjectsError> {
        let done = sqlx::query("UPDATE objects SET traits = $2 WHERE id = $1")
            .bind(&object.id)
            .bind(to_json(&object.traits))
            .execute(&self.writer)
            .await
            .map_err(doing("writing an object's tags"))?;
        if done.rows_affected() == 0 {
            return Err(ObjectsError::NoSuchKey {
                bucket: bucket.clone(),
                key: object.key.clone(),
            });
        }
        Ok(())
    }
}

pub(super) async fn find(
    connection: &mut SqliteConnection,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<Option<Object>, ObjectsError> {
    let row = sqlx::query("SELECT * FROM objects WHERE bucket = $1 AND key = $2")
        .bind(bucket.as_str())
        .bind(key.as_str())
        .fetch_optional(connection)
        .await
        .map_err(doing("reading an object"))?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn put(
    connection: &mut SqliteConnection,
    new: &NewObject<'_>,
) -> Result<Replaced, ObjectsError> {
    let failed = doing("writing an object");
    let NewObject { bucket, object, segments, condition } = new;
    require_bucket(connection, bucket).await?;
    let found = find(connection, bucket, &object.key).await?;
    check(condition, found.as_ref(), bucket, &object.key)?;
    let replaced = match &found {
        Some(found) => Some(remove(connection, found).await?),
        None => None,
    };
    sqlx::query(
        "INSERT INTO objects (bucket, key, id, size, etag, checksum, parts, traits, modified_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(bucket.as_str())
    .bind(object.key.as_str())
    .bind(&object.id)
    .bind(signed(object.size))
    .bind(&object.etag)
    .bind(object.checksum.as_ref().map(to_json))
    .bind(object.parts.map(i64::from))
    .bind(to_json(&object.traits))
    .bind(ms(object.modified_at))
    .execute(&mut *connection)
    .await
    .map_err(&failed)?;
    for segment in segments.unwrap_or_default() {
        segment.insert(connection, &object.id).await?;
    }
    Ok(replaced)
}

async fn remove(
    connection: &mut SqliteConnection,
    object: &Object,
) -> Result<(String, Vec<String>), ObjectsError> {
    let failed = doing("removing an object");
    sqlx::query("DELETE FROM objects WHERE id = $1")
        .bind(&object.id)
        .execute(&mut *connection)
        .await
        .map_err(&failed)?;
    let files = sqlx::query_scalar("DELETE FROM segments WHERE owner = $1 RETURNING file")
        .bind(&object.id)
        .fetch_all(connection)
        .await
        .map_err(&failed)?;
    Ok((object.id.clone(), files))
}

fn check(
    condition: &Condition,
    found: Option<&Object>,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<(), ObjectsError> {
    let failed = || Err(ObjectsError::PreconditionFailed(key.clone()));
    match (condition, found) {
        (Condition::None, _) | (Condition::Absent, None) => Ok(()),
        (Condition::Absent, Some(_)) => failed(),
        (Condition::Etag(_), None) => {
            Err(ObjectsError::NoSuchKey { bucket: bucket.clone(), key: key.clone() })
        }
        (Condition::Etag(etag), Some(object)) if etag == "*" || *etag == object.etag => Ok(()),
        (Condition::Etag(_), Some(_)) => failed(),
    }
}

pub(super) fn read(row: &SqliteRow) -> Result<Object, ObjectsError> {
    let failed = doing("reading an object");
    let checksum: Option<String> = column(row, "checksum", &failed)?;
    let checksum = checksum.map(|text| from_json::<Checksum>("a checksum", &text)).transpose()?;
    let parts: Option<i64> = column(row, "parts", &failed)?;
    let parts = parts.map(|count| u32::try_from(count).map_err(|_| corrupt("a count", count)));
    Ok(Object {
        key: object_key(&column::<String>(row, "key", &failed)?)?,
        id: column(row, "id", &failed)?,
        size: unsigned("a size", column(row, "size", &failed)?)?,
        etag: column(row, "etag", &failed)?,
        checksum,
        parts: parts.transpose()?,
        traits: from_json::<Traits>("traits", &column::<String>(row, "traits", &failed)?)?,
        modified_at: time(column(row, "modified_at", &failed)?),
    })
}

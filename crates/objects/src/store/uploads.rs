//! Rows of multipart uploads and of the pieces of uploads and objects.

use super::{
    Store, column, corrupt, doing, from_json, ms, object_key, objects, require_bucket, signed,
    time, to_json, unsigned,
};
use crate::{
    BucketName, Checksum, ChecksumPlan, ObjectKey, ObjectsError, Part, Traits, Upload,
    UploadListing, UploadQuery, listing::successor, store::NewObject,
};
use sqlx::{SqliteConnection, sqlite::SqliteRow};

/// A piece with its file.
#[derive(Clone, Debug)]
pub(crate) struct PartRow {
    pub(crate) part: Part,
    pub(crate) file: String,
}

impl PartRow {
    pub(super) async fn insert(
        &self,
        connection: &mut SqliteConnection,
        owner: &str,
    ) -> Result<(), ObjectsError> {
        let Self { part, file } = self;
        sqlx::query(
            "INSERT INTO segments (owner, number, file, size, md5, checksum, modified_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(owner)
        .bind(i64::from(part.number))
        .bind(file)
        .bind(signed(part.size))
        .bind(&part.etag)
        .bind(part.checksum.as_ref().map(to_json))
        .bind(ms(part.modified_at))
        .execute(connection)
        .await
        .map_err(doing("writing a part"))?;
        Ok(())
    }
}

impl Store {
    /// # Errors
    /// [`ObjectsError::NoSuchBucket`].
    pub(crate) async fn insert_upload(
        &self,
        bucket: &BucketName,
        upload: &Upload,
    ) -> Result<(), ObjectsError> {
        let failed = doing("writing an upload");
        let mut tx = self.writer.begin().await.map_err(&failed)?;
        require_bucket(&mut tx, bucket).await?;
        sqlx::query(
            "INSERT INTO uploads (id, bucket, key, traits, checksum, initiated_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&upload.id)
        .bind(bucket.as_str())
        .bind(upload.key.as_str())
        .bind(to_json(&upload.traits))
        .bind(upload.checksum.as_ref().map(to_json))
        .bind(ms(upload.initiated_at))
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        tx.commit().await.map_err(&failed)
    }

    /// # Errors
    /// [`ObjectsError::NoSuchUpload`] where there is none of this id for this key.
    pub(crate) async fn upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        id: &str,
    ) -> Result<Upload, ObjectsError> {
        let mut connection = self.readers.acquire().await.map_err(doing("reading an upload"))?;
        find(&mut connection, bucket, key, id).await
    }

    /// Writes a part in the place of the one of its number; the file of that is given back.
    ///
    /// # Errors
    /// [`ObjectsError::NoSuchUpload`].
    pub(crate) async fn put_part(
        &self,
        upload: &str,
        row: &PartRow,
    ) -> Result<Vec<String>, ObjectsError> {
        let failed = doing("writing a part");
        let mut tx = self.writer.begin().await.map_err(&failed)?;
        let found = sqlx::query("SELECT id FROM uploads WHERE id = $1")
            .bind(upload)
            .fetch_optional(&mut *tx)
            .await
            .map_err(&failed)?;
        if found.is_none() {
            return Err(ObjectsError::NoSuchUpload(upload.to_owned()));
        }
        let replaced = sqlx::query_scalar(
            "DELETE FROM segments WHERE owner = $1 AND number = $2 RETURNING file",
        )
        .bind(upload)
        .bind(i64::from(row.part.number))
        .fetch_all(&mut *tx)
        .await
        .map_err(&failed)?;
        row.insert(&mut tx, upload).await?;
        tx.commit().await.map_err(&failed)?;
        Ok(replaced)
    }

    /// Pieces of an upload or object by number, after `after`.
    pub(crate) async fn parts(
        &self,
        owner: &str,
        after: u32,
        limit: u64,
    ) -> Result<Vec<PartRow>, ObjectsError> {
        let rows = sqlx::query(
            "SELECT * FROM segments WHERE owner = $1 AND number > $2 ORDER BY number LIMIT $3",
        )
        .bind(owner)
        .bind(i64::from(after))
        .bind(signed(limit))
        .fetch_all(&self.readers)
        .await
        .map_err(doing("listing parts"))?;
        rows.iter().map(read_part).collect()
    }

    /// Makes an upload the object: the parts in `keep` are its pieces, the files of the others are
    /// given back, with what was replaced.
    ///
    /// # Errors
    /// [`ObjectsError::NoSuchUpload`] where it was ended meanwhile; those of `put_object`.
    pub(crate) async fn complete_upload(
        &self,
        new: NewObject<'_>,
        keep: &[u32],
    ) -> Result<(Vec<String>, Option<(String, Vec<String>)>), ObjectsError> {
        let failed = doing("completing an upload");
        let id = &new.object.id;
        let mut tx = self.writer.begin().await.map_err(&failed)?;
        let done = sqlx::query("DELETE FROM uploads WHERE id = $1")
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        if done.rows_affected() == 0 {
            return Err(ObjectsError::NoSuchUpload(id.clone()));
        }
        // Numbers are few and ours: at most 10,000 integers.
        let numbers: Vec<String> = keep.iter().map(u32::to_string).collect();
        let sql = format!(
            "DELETE FROM segments WHERE owner = $1 AND number NOT IN ({}) RETURNING file",
            numbers.join(", ")
        );
        let dropped = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(id)
            .fetch_all(&mut *tx)
            .await
            .map_err(&failed)?;
        let replaced = objects::put(&mut tx, &new).await?;
        tx.commit().await.map_err(&failed)?;
        Ok((dropped, replaced))
    }

    /// Removes an upload; its files are given back.
    ///
    /// # Errors
    /// [`ObjectsError::NoSuchUpload`].
    pub(crate) async fn abort_upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        id: &str,
    ) -> Result<Vec<String>, ObjectsError> {
        let failed = doing("removing an upload");
        let mut tx = self.writer.begin().await.map_err(&failed)?;
        find(&mut tx, bucket, key, id).await?;
        let files = sqlx::query_scalar("DELETE FROM segments WHERE owner = $1 RETURNING file")
            .bind(id)
            .fetch_all(&mut *tx)
            .await
            .map_err(&failed)?;
        sqlx::query("DELETE FROM uploads WHERE id = $1")
            .bind(id)
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        tx.commit().await.map_err(&failed)?;
        Ok(files)
    }

    /// # Errors
    /// [`ObjectsError::NoSuchBucket`].
    pub(crate) async fn uploads(
        &self,
        bucket: &BucketName,
        query: &UploadQuery,
    ) -> Result<UploadListing, ObjectsError> {
        self.require_bucket(bucket).await?;
        let rows = sqlx::query(
            "SELECT * FROM uploads WHERE bucket = $1 AND key >= $2 AND ($3 IS NULL OR key < $3)
             AND (key > $4 OR (key = $4 AND $5 IS NOT NULL AND id > $5))
             ORDER BY key, id LIMIT $6",
        )
        .bind(bucket.as_str())
        .bind(&query.prefix)
        .bind(successor(&query.prefix))
        .bind(&query.after_key)
        .bind(query.after_id.as_deref())
        .bind(signed(query.items_max as u64).saturating_add(1))
        .fetch_all(&self.readers)
        .await
        .map_err(doing("listing uploads"))?;
        let mut uploads = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let truncated = uploads.len() > query.items_max;
        uploads.truncate(query.items_max);
        Ok(UploadListing { uploads, truncated })
    }
}

async fn find(
    connection: &mut SqliteConnection,
    bucket: &BucketName,
    key: &ObjectKey,
    id: &str,
) -> Result<Upload, ObjectsError> {
    require_bucket(connection, bucket).await?;
    let row = sqlx::query("SELECT * FROM uploads WHERE id = $1 AND bucket = $2 AND key = $3")
        .bind(id)
        .bind(bucket.as_str())
        .bind(key.as_str())
        .fetch_optional(connection)
        .await
        .map_err(doing("reading an upload"))?;
    read(&row.ok_or_else(|| ObjectsError::NoSuchUpload(id.to_owned()))?)
}

fn read(row: &SqliteRow) -> Result<Upload, ObjectsError> {
    let failed = doing("reading an upload");
    let checksum: Option<String> = column(row, "checksum", &failed)?;
    Ok(Upload {
        id: column(row, "id", &failed)?,
        key: object_key(&column::<String>(row, "key", &failed)?)?,
        traits: from_json::<Traits>("traits", &column::<String>(row, "traits", &failed)?)?,
        checksum: checksum
            .map(|text| from_json::<ChecksumPlan>("a checksum", &text))
            .transpose()?,
        initiated_at: time(column(row, "initiated_at", &failed)?),
    })
}

fn read_part(row: &SqliteRow) -> Result<PartRow, ObjectsError> {
    let failed = doing("reading a part");
    let checksum: Option<String> = column(row, "checksum", &failed)?;
    let number: i64 = column(row, "number", &failed)?;
    let part = Part {
        number: u32::try_from(number).map_err(|_| corrupt("a part's number", number))?,
        size: unsigned("a size", column(row, "size", &failed)?)?,
        etag: column(row, "md5", &failed)?,
        checksum: checksum.map(|text| from_json::<Checksum>("a checksum", &text)).transpose()?,
        modified_at: time(column(row, "modified_at", &failed)?),
    };
    Ok(PartRow { part, file: column(row, "file", &failed)? })
}

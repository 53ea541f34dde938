//! Lists of objects, by key.

use super::{Store, doing, objects::read, signed};
use crate::{
    BucketName, ListQuery, Listing, ObjectsError,
    listing::{Folded, Folding, successor},
};

/// Rows that are read at once; a page has up to 1,000.
const ROWS_MAX: u64 = 1001;

/// Where the next rows begin.
enum From {
    After(String),
    At(String),
}

impl Store {
    /// Keys below a common prefix are leapt over, so that a page costs what it shows, not what lies
    /// below it.
    ///
    /// # Errors
    /// [`ObjectsError::NoSuchBucket`].
    pub(crate) async fn list(
        &self,
        bucket: &BucketName,
        query: &ListQuery,
    ) -> Result<Listing, ObjectsError> {
        self.require_bucket(bucket).await?;
        let mut folding = Folding::new(query);
        let end = successor(&query.prefix);
        let mut from = if query.after >= query.prefix {
            From::After(query.after.clone())
        } else {
            From::At(query.prefix.clone())
        };
        if query.items_max == 0 {
            return Ok(folding.finish(false));
        }
        loop {
            let (start, at) = match &from {
                From::After(key) => (key, "key > $2"),
                From::At(key) => (key, "key >= $2"),
            };
            let sql = format!(
                "SELECT * FROM objects WHERE bucket = $1 AND {at} AND ($3 IS NULL OR key < $3)
                 ORDER BY key LIMIT $4"
            );
            let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(bucket.as_str())
                .bind(start)
                .bind(end.as_deref())
                .bind(signed(ROWS_MAX))
                .fetch_all(&self.readers)
                .await
                .map_err(doing("listing objects"))?;
            let more = rows.len() as u64 == ROWS_MAX;
            let mut skipped: Option<String> = None;
            let mut last = None;
            for row in &rows {
                let object = read(row)?;
                let key = object.key.as_str().to_owned();
                last = Some(key.clone());
                if skipped.as_ref().is_some_and(|prefix| key.starts_with(prefix.as_str())) {
                    continue;
                }
                match folding.take(object) {
                    Folded::Taken => skipped = None,
                    Folded::Skip(prefix) => skipped = Some(prefix),
                    Folded::Full => return Ok(folding.finish(true)),
                }
            }
            let Some(last) = last.filter(|_| more) else { return Ok(folding.finish(false)) };
            from = match skipped.as_deref().map(successor) {
                None => From::After(last),
                Some(Some(beyond)) => From::At(beyond),
                Some(None) => return Ok(folding.finish(false)),
            };
        }
    }
}

//! The front door: [`Objects`], one for each directory.
//!
//! A write is: bytes into a file of their own, the file onto the disk, then the row. Whatever ends
//! the process in between leaves a file that no row names, which the next start removes.

use crate::{
    Bucket, BucketName, ChecksumAlgorithm, ChecksumPlan, CompletedPart, Completion, Condition,
    Content, Incoming, ListQuery, Listing, Object, ObjectKey, ObjectsError, Part, PartListing,
    Traits, Upload, UploadListing, UploadQuery, Written, checksum,
    files::{Files, failed, new_id},
    incoming::FileGuard,
    leases::Leases,
    reading::pieces,
    store::{NewObject, PartRow, Store},
};
use md5::{Digest as _, Md5};
use std::{
    fs::{File, Permissions},
    ops::Range,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
};
use time::OffsetDateTime;

/// Most bytes of one PUT or part, as on AWS: 5 GiB.
pub const PUT_BYTES_MAX: u64 = 5 << 30;
/// Fewest bytes of a part that is not the last one, as on AWS: 5 MiB.
pub const PART_BYTES_MIN: u64 = 5 << 20;
/// Most parts of an object, as on AWS.
pub const OBJECT_PARTS_MAX: u32 = 10_000;

/// The buckets and objects of this Warren.
#[derive(Debug)]
pub struct Objects {
    store: Store,
    files: Files,
    leases: Arc<Leases>,
}

/// A range of an object that is to be copied.
#[derive(Clone, Debug)]
pub struct CopySource {
    pub bucket: BucketName,
    pub object: Object,
    /// In bytes, within the object.
    pub range: Range<u64>,
}

impl Objects {
    /// Makes the directory where it is missing; removes what an earlier process left unfinished.
    ///
    /// # Errors
    /// Where directory or store cannot be used.
    pub async fn open(dir: &Path) -> Result<Self, ObjectsError> {
        let files = Files::open(dir)?;
        let path = dir.join("objects.db");
        // For its owner alone; SQLite gives the files that it puts beside it the same mode.
        let made = File::options().create(true).append(true).mode(0o600).open(&path);
        made.and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
            .map_err(failed("making", &path))?;
        let store = Store::open(&path).await?;
        let removed = files.remove_strangers(&store.files().await?)?;
        if removed > 0 {
            tracing::info!(removed, "files that belong to no object are removed");
        }
        let leases = Leases::new(files.clone());
        Ok(Self { store, files, leases })
    }

    /// Waits for what is under way and closes the store.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// # Errors
    /// [`ObjectsError::BucketExists`].
    pub async fn create_bucket(&self, name: &BucketName) -> Result<(), ObjectsError> {
        self.store.create_bucket(name, now()).await
    }

    /// # Errors
    /// [`ObjectsError::NoSuchBucket`], [`ObjectsError::BucketNotEmpty`].
    pub async fn delete_bucket(&self, name: &BucketName) -> Result<(), ObjectsError> {
        let files = self.store.delete_bucket(name).await?;
        self.files.remove(&files);
        Ok(())
    }

    /// By name.
    ///
    /// # Errors
    /// [`ObjectsError::Store`].
    pub async fn buckets(&self) -> Result<Vec<Bucket>, ObjectsError> {
        self.store.buckets().await
    }

    /// # Errors
    /// [`ObjectsError::NoSuchBucket`].
    pub async fn require_bucket(&self, name: &BucketName) -> Result<(), ObjectsError> {
        self.store.require_bucket(name).await
    }

    /// # Errors
    /// [`ObjectsError::NoSuchBucket`].
    pub async fn list(
        &self,
        bucket: &BucketName,
        query: &ListQuery,
    ) -> Result<Listing, ObjectsError> {
        self.store.list(bucket, query).await
    }

    /// # Errors
    /// [`ObjectsError::NoSuchBucket`], [`ObjectsError::NoSuchKey`].
    pub async fn get(&self, bucket: &BucketName, key: &ObjectKey) -> Result<Object, ObjectsError> {
        if let Some(object) = self.store.object(bucket, key).await? {
            return Ok(object);
        }
        self.store.require_bucket(bucket).await?;
        Err(ObjectsError::NoSuchKey { bucket: bucket.clone(), key: key.clone() })
    }

    /// The bytes `range` of an object that [`Objects::get`] gave, as they were then.
    ///
    /// # Errors
    /// [`ObjectsError::NoSuchKey`] where it was replaced or deleted since: get it again.
    pub async fn read(
        &self,
        bucket: &BucketName,
        object: &Object,
        range: &Range<u64>,
    ) -> Result<Content, ObjectsError> {
        // First the lease, then another look: who removes the row after that finds the lease.
        let lease = self.leases.take(&object.id);
        let found = self.get(bucket, &object.key).await?;
        if found.id != object.id {
            let key = object.key.clone();
            return Err(ObjectsError::NoSuchKey { bucket: bucket.clone(), key });
        }
        let segments = self.store.segments(&object.id).await?;
        Ok(Content::new(&self.files, &segments, range, lease))
    }

    /// A place for bytes that come in, at most `size_max`.
    ///
    /// # Errors
    /// [`ObjectsError::File`].
    pub fn begin(
        &self,
        checksum: Option<ChecksumAlgorithm>,
        size_max: u64,
    ) -> Result<Incoming, ObjectsError> {
        Incoming::begin(&self.files, checksum, size_max)
    }

    /// Makes what was written an object, in the place of the one that is there.
    ///
    /// # Errors
    /// [`ObjectsError::NoSuchBucket`], [`ObjectsError::PreconditionFailed`].
    pub async fn put(
        &self,
        (bucket, key): (&BucketName, &ObjectKey),
        traits: Traits,
        written: Written,
        condition: &Condition,
    ) -> Result<Object, ObjectsError> {
        let object = Object {
            key: key.clone(),
            id: new_id(),
            size: written.size,
            etag: written.md5.clone(),
            checksum: written.checksum.clone(),
            parts: None,
            traits,
            modified_at: now(),
        };
        let segments = [row_of(1, &written, object.modified_at)];
        let new = NewObject { bucket, object: &object, segments: Some(&segments), condition };
        let files = Vec::from_iter(written.file.keep());
        let replaced = self.unless_failed(self.store.put_object(new).await, &files)?;
        self.forget(replaced);
        Ok(object)
    }

    /// Deleting what is not there is no error, unless a condition asks for it.
    ///
    /// # Errors
    /// [`ObjectsError::NoSuchBucket`], [`ObjectsError::PreconditionFailed`].
    pub async fn delete(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        condition: &Condition,
    ) -> Result<(), ObjectsError> {
        let removed = self.store.delete_object(bucket, key, condition).await?;
        self.forget(removed);
        Ok(())
    }

    /// Replaces the tags of an object.
    ///
    /// # Errors
    /// [`ObjectsError::NoSuchKey`].
    pub async fn set_tags(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        tags: std::collections::BTreeMap<String, String>,
    ) -> Result<(), ObjectsError> {
        let mut object = self.get(bucket, key).await?;
        object.traits.tags = tags;
        self.store.set_traits(bucket, &object).await
    }

    /// Copies a whole object, by linking its files: nothing is read. ETag and checksum stay.
    ///
    /// # Errors
    /// [`ObjectsError::NoSuchBucket`], [`ObjectsError::NoSuchKey`],
    /// [`ObjectsError::PreconditionFailed`].
    pub async fn copy(
        &self,
        source: &CopySource,
        (bucket, key): (&BucketName, &ObjectKey),
        traits: Traits,
        condition: &Condition,
    ) -> Result<Object, ObjectsError> {
        let lease = self.leases.take(&source.object.id);
        self.unchanged(source).await?;
        let mut segments = Vec::new();
        let mut guards = Vec::new();
        let all = u64::from(OBJECT_PARTS_MAX);
        for row in self.store.parts(&source.object.id, 0, all).await? {
            let file = new_id();
            self.files.link(&row.file, &file)?;
            guards.push(FileGuard::new(&self.files, file.clone()));
            segments.push(PartRow { part: row.part, file });
        }
        drop(lease);
        let object = Object {
            key: key.clone(),
            id: new_id(),
            traits,
            modified_at: now(),
            ..source.object.clone()
        };
        let new = NewObject { bucket, object: &object, segments: Some(&segments), condition };
        let files: Vec<String> = guards.into_iter().filter_map(FileGuard::keep).collect();
        let replaced = self.unless_failed(self.store.put_object(new).await, &files)?;
        self.forget(replaced);
        Ok(object)
    }

    /// Copies a range of an object into a file of its own.
    ///
    /// # Errors
    /// [`ObjectsError::NoSuchKey`], [`ObjectsError::File`].
    pub async fn copy_range(
        &self,
        source: &CopySource,
        checksum: Option<ChecksumAlgorithm>,
    ) -> Result<Written, ObjectsError> {
        let _lease = self.leases.take(&source.object.id);
        self.unchanged(source).await?;
        let segments = self.store.segments(&source.object.id).await?;
        let incoming = self.begin(checksum, PUT_BYTES_MAX)?;
        incoming.copy(self.files.clone(), pieces(&segments, &source.range)).await
    }

    async fn unchanged(&self, source: &CopySource) -> Result<(), ObjectsError> {
        let found = self.get(&source.bucket, &source.object.key).await?;
        if found.id == source.object.id {
            return Ok(());
        }
        Err(ObjectsError::NoSuchKey { bucket: source.bucket.clone(), key: found.key })
    }

    /// # Errors
    /// [`ObjectsError::NoSuchBucket`].
    pub async fn create_upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        traits: Traits,
        checksum: Option<ChecksumPlan>,
    ) -> Result<Upload, ObjectsError> {
        let initiated_at = now();
        let upload = Upload { id: new_id(), key: key.clone(), traits, checksum, initiated_at };
        self.store.insert_upload(bucket, &upload).await?;
        Ok(upload)
    }

    /// # Errors
    /// [`ObjectsError::NoSuchUpload`], [`ObjectsError::NoSuchBucket`].
    pub async fn upload(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        id: &str,
    ) -> Result<Upload, ObjectsError> {
        self.store.upload(bucket, key, id).await
    }

    /// # Errors
    /// [`ObjectsError::NoSuchUpload`].
    pub async fn put_part(
        &self,
        upload: &Upload,
        number: u32,
        written: Written,
    ) -> Result<Part, ObjectsError> {
        let row = row_of(number, &written, now());
        let files = Vec::from_iter(written.file.keep());
        let replaced = self.unless_failed(self.store.put_part(&upload.id, &row).await, &files)?;
        self.leases.remove(&upload.id, replaced);
        Ok(row.part)
    }

    /// Parts of an upload, after number `after`.
    ///
    /// # Errors
    /// [`ObjectsError::Store`].
    pub async fn parts(
        &self,
        upload: &Upload,
        after: u32,
        parts_max: usize,
    ) -> Result<PartListing, ObjectsError> {
        self.parts_of(&upload.id, after, parts_max).await
    }

    /// Parts of an object, after number `after`.
    ///
    /// # Errors
    /// [`ObjectsError::Store`].
    pub async fn object_parts(
        &self,
        object: &Object,
        after: u32,
        parts_max: usize,
    ) -> Result<PartListing, ObjectsError> {
        self.parts_of(&object.id, after, parts_max).await
    }

    async fn parts_of(
        &self,
        owner: &str,
        after: u32,
        parts_max: usize,
    ) -> Result<PartListing, ObjectsError> {
        let rows = self.store.parts(owner, after, (parts_max as u64).saturating_add(1)).await?;
        let truncated = rows.len() > parts_max;
        let parts = rows.into_iter().take(parts_max).map(|row| row.part).collect();
        Ok(PartListing { parts, truncated })
    }

    /// Makes the parts that are named one object; no byte is copied.
    ///
    /// # Errors
    /// [`ObjectsError::InvalidPart`], [`ObjectsError::InvalidPartOrder`],
    /// [`ObjectsError::PartTooSmall`], [`ObjectsError::NoSuchUpload`],
    /// [`ObjectsError::PreconditionFailed`], [`ObjectsError::BadChecksum`],
    /// [`ObjectsError::WrongSize`].
    pub async fn complete(
        &self,
        bucket: &BucketName,
        upload: &Upload,
        completion: &Completion,
    ) -> Result<Object, ObjectsError> {
        let Completion { parts: named, condition, checksum: stated, size } = completion;
        let rows = self.store.parts(&upload.id, 0, u64::from(OBJECT_PARTS_MAX)).await?;
        let parts = chosen(&rows, named)?;
        let whole: u64 = parts.iter().map(|part| part.size).sum();
        if size.is_some_and(|size| size != whole) {
            return Err(ObjectsError::WrongSize { bytes: whole });
        }
        let mut md5 = Md5::new();
        for part in &parts {
            md5.update(hex::decode(&part.etag).unwrap_or_default());
        }
        let sums = parts.iter().map(|part| {
            (part.checksum.as_ref().map(|checksum| checksum.value.as_str()), part.size)
        });
        let object = Object {
            key: upload.key.clone(),
            id: upload.id.clone(),
            size: whole,
            etag: format!("{}-{}", hex::encode(md5.finalize()), parts.len()),
            checksum: upload.checksum.and_then(|plan| checksum::of_parts(plan, sums)),
            parts: u32::try_from(parts.len()).ok(),
            traits: upload.traits.clone(),
            modified_at: now(),
        };
        let sum = object.checksum.as_ref().map(|checksum| &checksum.value);
        if stated.is_some() && stated.as_ref() != sum {
            return Err(ObjectsError::BadChecksum);
        }
        let keep: Vec<u32> = parts.iter().map(|part| part.number).collect();
        let new = NewObject { bucket, object: &object, segments: None, condition };
        let (dropped, replaced) = self.store.complete_upload(new, &keep).await?;
        self.files.remove(&dropped);
        self.forget(replaced);
        Ok(object)
    }

    /// # Errors
    /// [`ObjectsError::NoSuchUpload`].
    pub async fn abort(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        upload: &str,
    ) -> Result<(), ObjectsError> {
        let files = self.store.abort_upload(bucket, key, upload).await?;
        self.leases.remove(upload, files);
        Ok(())
    }

    /// # Errors
    /// [`ObjectsError::NoSuchBucket`].
    pub async fn uploads(
        &self,
        bucket: &BucketName,
        query: &UploadQuery,
    ) -> Result<UploadListing, ObjectsError> {
        self.store.uploads(bucket, query).await
    }

    /// Removes files that were to be named by a row that could not be written.
    fn unless_failed<T>(
        &self,
        outcome: Result<T, ObjectsError>,
        files: &[String],
    ) -> Result<T, ObjectsError> {
        if outcome.is_err() {
            self.files.remove(files);
        }
        outcome
    }

    fn forget(&self, removed: Option<(String, Vec<String>)>) {
        if let Some((owner, files)) = removed {
            self.leases.remove(&owner, files);
        }
    }
}

/// In whole milliseconds, as it is stored.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_millisecond(now.millisecond()).unwrap_or(now)
}

fn row_of(number: u32, written: &Written, modified_at: OffsetDateTime) -> PartRow {
    let part = Part {
        number,
        size: written.size,
        etag: written.md5.clone(),
        checksum: written.checksum.clone(),
        modified_at,
    };
    PartRow { part, file: written.file.id().to_owned() }
}

/// The parts that the client names, held against those that were uploaded.
fn chosen<'a>(rows: &'a [PartRow], named: &[CompletedPart]) -> Result<Vec<&'a Part>, ObjectsError> {
    if !named.is_sorted_by(|a, b| a.number < b.number) {
        return Err(ObjectsError::InvalidPartOrder);
    }
    let mut parts = Vec::with_capacity(named.len());
    for named in named {
        let place = rows.binary_search_by_key(&named.number, |row| row.part.number);
        let part = place.ok().and_then(|place| rows.get(place)).map(|row| &row.part);
        let part = part.filter(|part| {
            let sum = part.checksum.as_ref().map(|checksum| &checksum.value);
            part.etag == named.etag && (named.checksum.is_none() || named.checksum.as_ref() == sum)
        });
        parts.push(part.ok_or(ObjectsError::InvalidPart(named.number))?);
    }
    let all_but_last = parts.split_last().map_or(&[][..], |(_, rest)| rest);
    match all_but_last.iter().find(|part| part.size < PART_BYTES_MIN) {
        Some(part) => Err(ObjectsError::PartTooSmall {
            number: part.number,
            size: part.size,
            min: PART_BYTES_MIN,
        }),
        None => Ok(parts),
    }
}

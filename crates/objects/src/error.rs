//! What can go wrong with buckets and objects; the S3 edge maps it to codes.

use crate::{BucketName, ObjectKey};
use std::path::PathBuf;

/// Every error of this crate. Display names the object; the cause is in `source`.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    #[error("bucket {0} does not exist")]
    NoSuchBucket(BucketName),
    #[error("bucket {0} exists already")]
    BucketExists(BucketName),
    #[error("bucket {0} is not empty")]
    BucketNotEmpty(BucketName),
    #[error("bucket {bucket} has no object {key}")]
    NoSuchKey { bucket: BucketName, key: ObjectKey },
    #[error("upload {0} does not exist")]
    NoSuchUpload(String),
    /// The part was not uploaded, or has another ETag or checksum.
    #[error("part {0} is not what was uploaded")]
    InvalidPart(u32),
    #[error("the parts are not in ascending order")]
    InvalidPartOrder,
    #[error("part {number} has {size} bytes; all but the last must have {min} or more")]
    PartTooSmall { number: u32, size: u64, min: u64 },
    #[error("the object has more bytes than the {max} that are allowed")]
    TooLarge { max: u64 },
    /// The object is not in the state that the request asks for.
    #[error("the condition of the request does not hold for {0}")]
    PreconditionFailed(ObjectKey),
    /// The bytes give another checksum than the request says.
    #[error("the bytes do not give the checksum that was stated")]
    BadChecksum,
    #[error("the parts have {bytes} bytes together, which is not what was stated")]
    WrongSize { bytes: u64 },

    #[error("the store of objects failed while {action}")]
    Store {
        action: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("the store of objects cannot be brought to this version's schema: {path}")]
    Migrate {
        path: PathBuf,
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// A row that this version cannot have written.
    #[error("the store of objects holds {what} that makes no sense: {value:?}")]
    Corrupt { what: &'static str, value: String },
    #[error("{action} {path}")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A worker thread ended early.
    #[error("writing an object was broken off")]
    BrokenOff,
}

//! Buckets and objects as S3 has them, in files of the data directory.
//!
//! [`Objects`] is the front door. An object is a row, which says what it is called and what is said
//! of it, and one or more files of bytes, which never change and are named by random ids: no name
//! that a client gives becomes a path. It knows no HTTP, no signatures and no rights.

#![forbid(unsafe_code)]

mod checksum;
mod error;
mod files;
mod incoming;
mod leases;
mod listing;
mod names;
mod object;
mod objects;
mod reading;
mod store;

pub use checksum::{Checksum, ChecksumAlgorithm, ChecksumKind, ChecksumPlan, Sums};
pub use error::ObjectsError;
pub use incoming::{Incoming, Written};
pub use listing::{ListQuery, Listing, UploadListing, UploadQuery};
pub use names::{BadName, BucketName, ObjectKey};
pub use object::{
    Bucket, CompletedPart, Completion, Condition, Object, Part, PartListing, Traits, Upload,
};
pub use objects::{CopySource, OBJECT_PARTS_MAX, Objects, PART_BYTES_MIN, PUT_BYTES_MAX};
pub use reading::Content;

//! Buckets, objects, uploads and parts as callers see them.

use crate::{BucketName, Checksum, ChecksumPlan, ObjectKey};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// A bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    pub name: BucketName,
    pub created_at: OffsetDateTime,
}

/// What is said of an object besides its content; kept and given back as it came.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Traits {
    /// `content-type`, `cache-control`…, by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// What came as `x-amz-meta-…`, without that.
    pub metadata: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
}

/// An object as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Object {
    pub key: ObjectKey,
    pub(crate) id: String,
    /// In bytes.
    pub size: u64,
    /// Without quotation marks: MD5 of the content in hex, or `<md5>-<parts>`.
    pub etag: String,
    pub checksum: Option<Checksum>,
    /// Number of parts of what was uploaded in parts.
    pub parts: Option<u32>,
    pub traits: Traits,
    pub modified_at: OffsetDateTime,
}

/// A multipart upload that is under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upload {
    pub id: String,
    pub key: ObjectKey,
    pub traits: Traits,
    pub checksum: Option<ChecksumPlan>,
    pub initiated_at: OffsetDateTime,
}

/// A part of an upload, or of an object that was uploaded in parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    pub number: u32,
    /// In bytes.
    pub size: u64,
    pub etag: String,
    pub checksum: Option<Checksum>,
    pub modified_at: OffsetDateTime,
}

/// A page of parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartListing {
    pub parts: Vec<Part>,
    pub truncated: bool,
}

/// A part as the client that completes an upload names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompletedPart {
    pub number: u32,
    pub etag: String,
    /// Base64, where the client states it.
    pub checksum: Option<String>,
}

/// How an upload is completed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Completion {
    /// In ascending order of their numbers.
    pub parts: Vec<CompletedPart>,
    pub condition: Condition,
    /// What the client says the whole's checksum is.
    pub checksum: Option<String>,
    /// What the client says the whole's size is, in bytes.
    pub size: Option<u64>,
}

/// What must hold of the object that is there already for a write to take place.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Condition {
    #[default]
    None,
    /// There is none (`If-None-Match: *`).
    Absent,
    /// There is one with this ETag (`If-Match`); `*` is any.
    Etag(String),
}

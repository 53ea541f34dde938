//! Which operation a request names: by method, by whether it is for the service, a bucket or an
//! object, and by a parameter or header that marks it.

use super::{
    address::Address, buckets, call::Call, copy_object, delete_objects, error::S3Error, get_object,
    list_objects, multipart, put_object, tagging,
};
use crate::protocol::form;
use axum::response::Response;
use futures::future::BoxFuture;
use http::{Method, request::Parts};

/// One operation.
pub(super) struct Operation {
    pub(super) name: &'static str,
    method: Method,
    level: Level,
    mark: Mark,
    pub(super) run: fn(Call) -> BoxFuture<'static, Result<Response, S3Error>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    Service,
    Bucket,
    Object,
}

/// What a request must have besides method and level.
#[derive(Clone, Copy, Debug)]
enum Mark {
    None,
    Query(&'static str),
    /// A parameter and a header.
    Both(&'static str, &'static str),
    Header(&'static str),
}

macro_rules! operation {
    ($name:literal, $method:ident, $level:ident, $mark:expr, $run:path) => {
        Operation {
            name: $name,
            method: Method::$method,
            level: Level::$level,
            mark: $mark,
            run: |call| Box::pin($run(call)),
        }
    };
}

const COPY: &str = "x-amz-copy-source";

/// The first that fits counts.
static OPERATIONS: &[Operation] = &[
    operation!("ListBuckets", GET, Service, Mark::None, buckets::list),
    operation!("GetBucketLocation", GET, Bucket, Mark::Query("location"), buckets::location),
    operation!("GetBucketVersioning", GET, Bucket, Mark::Query("versioning"), buckets::versioning),
    operation!(
        "ListMultipartUploads",
        GET,
        Bucket,
        Mark::Query("uploads"),
        multipart::list_uploads
    ),
    operation!("ListObjectsV2", GET, Bucket, Mark::Query("list-type"), list_objects::second),
    operation!("ListObjects", GET, Bucket, Mark::None, list_objects::first),
    operation!("CreateBucket", PUT, Bucket, Mark::None, buckets::create),
    operation!("HeadBucket", HEAD, Bucket, Mark::None, buckets::head),
    operation!("DeleteBucket", DELETE, Bucket, Mark::None, buckets::delete),
    operation!("DeleteObjects", POST, Bucket, Mark::Query("delete"), delete_objects::several),
    operation!("GetObjectTagging", GET, Object, Mark::Query("tagging"), tagging::get),
    operation!("PutObjectTagging", PUT, Object, Mark::Query("tagging"), tagging::put),
    operation!("DeleteObjectTagging", DELETE, Object, Mark::Query("tagging"), tagging::delete),
    operation!(
        "GetObjectAttributes",
        GET,
        Object,
        Mark::Query("attributes"),
        get_object::attributes
    ),
    operation!("ListParts", GET, Object, Mark::Query("uploadId"), multipart::list_parts),
    operation!("GetObject", GET, Object, Mark::None, get_object::get),
    operation!("HeadObject", HEAD, Object, Mark::None, get_object::head),
    operation!("UploadPartCopy", PUT, Object, Mark::Both("uploadId", COPY), copy_object::part),
    operation!("UploadPart", PUT, Object, Mark::Query("uploadId"), multipart::upload_part),
    operation!("CopyObject", PUT, Object, Mark::Header(COPY), copy_object::whole),
    operation!("PutObject", PUT, Object, Mark::None, put_object::put),
    operation!("CreateMultipartUpload", POST, Object, Mark::Query("uploads"), multipart::create),
    operation!(
        "CompleteMultipartUpload",
        POST,
        Object,
        Mark::Query("uploadId"),
        multipart::complete
    ),
    operation!("AbortMultipartUpload", DELETE, Object, Mark::Query("uploadId"), multipart::abort),
    operation!("DeleteObject", DELETE, Object, Mark::None, delete_objects::one),
];

/// Parameters that mark an operation: without one of those in the table, a request that has one is
/// for something that is not here.
const MARKS: &[&str] = &[
    "abac",
    "accelerate",
    "acl",
    "analytics",
    "attributes",
    "delete",
    "location",
    "uploads",
    "versioning",
    "cors",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "legal-hold",
    "lifecycle",
    "logging",
    "metadataConfiguration",
    "metadataTable",
    "metrics",
    "notification",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "renameObject",
    "replication",
    "requestPayment",
    "restore",
    "retention",
    "select",
    "session",
    "tagging",
    "torrent",
    "versions",
    "website",
];

/// # Errors
/// NotImplemented with what was asked, MethodNotAllowed.
pub(super) fn find(parts: &Parts, address: &Address) -> Result<&'static Operation, S3Error> {
    let level = match (&address.bucket, &address.key) {
        (None, _) => Level::Service,
        (Some(_), None) => Level::Bucket,
        (Some(_), Some(_)) => Level::Object,
    };
    let names: Vec<String> =
        form(parts.uri.query().unwrap_or_default()).map(|(name, _)| name).collect();
    let queried = |mark: &str| names.iter().any(|name| name == mark);
    let marked = |operation: &&Operation| {
        operation.method == parts.method
            && operation.level == level
            && match operation.mark {
                Mark::None => !MARKS.iter().any(|name| queried(name)),
                Mark::Query(name) => queried(name),
                Mark::Header(name) => parts.headers.contains_key(name),
                Mark::Both(name, header) => queried(name) && parts.headers.contains_key(header),
            }
    };
    OPERATIONS.iter().find(marked).ok_or_else(|| match MARKS.iter().find(|name| queried(name)) {
        Some(name) => S3Error::not_implemented(&format!("{} ?{name}", parts.method)),
        None if parts.method == Method::POST => S3Error::not_implemented("POST of a form"),
        None => S3Error::new(
            "MethodNotAllowed",
            405,
            "The specified method is not allowed against this resource.",
        )
        .with("Method", parts.method.as_str()),
    })
}

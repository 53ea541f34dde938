//! Reading an object as a role may: for what acts in a role's name within this process, such as the
//! build of an image that fetches its artifact as the build role.
//!
//! The rights asked for are those of a GetObject over HTTP; what is refused is named by the reason
//! codes of an image's build.

use crate::{Access, Authenticator, iam::Context};
use control::RoleArn;
use futures::{StreamExt, stream::BoxStream};
use objects::{BucketName, ObjectKey, Objects, ObjectsError};
use std::{fmt, io, sync::Arc};

/// The service that assumes the role.
const SERVICE: &str = "lambda.amazonaws.com";

/// Opens objects in the name of roles.
#[derive(Debug)]
pub struct ObjectReader {
    objects: Arc<Objects>,
    authenticator: Arc<Authenticator>,
}

/// An opened object. It stays readable, whatever becomes of the object meanwhile.
pub struct RoleObject {
    /// In bytes.
    pub size: u64,
    /// Changes whenever the content does; without quotation marks.
    pub etag: String,
    pub content: BoxStream<'static, io::Result<bytes::Bytes>>,
}

impl fmt::Debug for RoleObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleObject").field("size", &self.size).finish_non_exhaustive()
    }
}

/// Why an object cannot be had, as an image's build names it (spec 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectReason {
    AccessDenied,
    NoSuchKey,
    NoSuchBucket,
    InvalidObject,
    CrossRegionAccessDenied,
    /// Warren's own store failed.
    Internal,
}

impl ObjectReason {
    /// `S3_ACCESS_DENIED`…
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessDenied => "S3_ACCESS_DENIED",
            Self::NoSuchKey => "S3_NO_SUCH_KEY",
            Self::NoSuchBucket => "S3_NO_SUCH_BUCKET",
            Self::InvalidObject => "S3_INVALID_OBJECT",
            Self::CrossRegionAccessDenied => "S3_CROSS_REGION_ACCESS_DENIED",
            Self::Internal => "INTERNAL_PLATFORM_ERROR",
        }
    }
}

/// A refusal, with a sentence for the user.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ObjectFault {
    pub reason: ObjectReason,
    pub message: String,
}

impl ObjectFault {
    fn new(reason: ObjectReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl ObjectReader {
    #[must_use]
    pub fn new(objects: Arc<Objects>, authenticator: Arc<Authenticator>) -> Self {
        Self { objects, authenticator }
    }

    /// Opens `s3://<bucket>/<key>` as the role: it must trust `lambda.amazonaws.com` and allow
    /// `s3:GetObject` on the object. That an object is not there is said only to who may list the
    /// bucket (`s3:ListBucket`), as on AWS.
    ///
    /// # Errors
    /// [`ObjectFault`].
    pub async fn open(&self, uri: &str, role: &RoleArn) -> Result<RoleObject, ObjectFault> {
        let (bucket, key) = parse_uri(uri)?;
        let missing_bucket = || {
            let message = format!("The specified bucket does not exist: {bucket}");
            ObjectFault::new(ObjectReason::NoSuchBucket, message)
        };
        match self.objects.require_bucket(&bucket).await {
            Ok(()) => {}
            Err(ObjectsError::NoSuchBucket(_)) => return Err(missing_bucket()),
            Err(error) => return Err(internal(&error)),
        }
        let denied = |message: String| ObjectFault::new(ObjectReason::AccessDenied, message);
        let principal = self
            .authenticator
            .role_principal(role, SERVICE, "image-build")
            .ok_or_else(|| denied(format!("The role {role} cannot be assumed by {SERVICE}.")))?;
        let authorize = |action: &str, resource: &str| {
            let context = Context::default();
            let access = Access { action, resource: Some(resource), context: &context };
            self.authenticator.authorize(&principal, &access)
        };
        let object_arn = format!("arn:aws:s3:::{bucket}/{key}");
        authorize("s3:GetObject", &object_arn).map_err(|refusal| denied(refusal.to_string()))?;
        loop {
            let object = match self.objects.get(&bucket, &key).await {
                Ok(object) => object,
                Err(ObjectsError::NoSuchKey { .. }) => {
                    let may_list = authorize("s3:ListBucket", &format!("arn:aws:s3:::{bucket}"));
                    return Err(match may_list {
                        Ok(()) => ObjectFault::new(
                            ObjectReason::NoSuchKey,
                            format!("The specified key does not exist: {key}"),
                        ),
                        Err(refusal) => denied(refusal.to_string()),
                    });
                }
                Err(ObjectsError::NoSuchBucket(_)) => return Err(missing_bucket()),
                Err(error) => return Err(internal(&error)),
            };
            match self.objects.read(&bucket, &object, &(0..object.size)).await {
                Ok(content) => {
                    let content =
                        content.into_stream().map(|block| block.map_err(io::Error::other));
                    let (size, etag) = (object.size, object.etag);
                    return Ok(RoleObject { size, etag, content: content.boxed() });
                }
                // It was written again between the two: what is there now is meant.
                Err(ObjectsError::NoSuchKey { .. }) => {}
                Err(error) => return Err(internal(&error)),
            }
        }
    }
}

fn parse_uri(uri: &str) -> Result<(BucketName, ObjectKey), ObjectFault> {
    let invalid = || {
        let message = format!("{uri} is not an object's address: s3://<bucket>/<key>");
        ObjectFault::new(ObjectReason::InvalidObject, message)
    };
    let rest = uri.strip_prefix("s3://").ok_or_else(invalid)?;
    let (bucket, key) = rest.split_once('/').ok_or_else(invalid)?;
    let bucket = BucketName::parse(bucket).map_err(|_| invalid())?;
    Ok((bucket, ObjectKey::parse(key).map_err(|_| invalid())?))
}

fn internal(error: &ObjectsError) -> ObjectFault {
    tracing::error!(%error, cause = ?std::error::Error::source(error), "an object cannot be opened");
    ObjectFault::new(ObjectReason::Internal, "The store of objects failed.")
}

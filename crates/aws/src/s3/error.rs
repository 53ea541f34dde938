//! S3's errors: code, status, message and members, as XML.

use super::xml::Xml;
use crate::sigv4::{PayloadFault, SignatureFault};
use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE, request::Parts};
use objects::{BadName, ObjectsError};

/// The answer to a call that did not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct S3Error {
    pub(super) code: &'static str,
    pub(super) status: StatusCode,
    pub(super) message: String,
    pub(super) members: Vec<(&'static str, String)>,
    /// What really happened, for the log only.
    pub(super) internal: Option<String>,
}

impl S3Error {
    pub(super) fn new(code: &'static str, status: u16, message: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { code, status, message: message.into(), members: Vec::new(), internal: None }
    }

    pub(super) fn with(mut self, member: &'static str, value: impl Into<String>) -> Self {
        self.members.push((member, value.into()));
        self
    }

    pub(super) fn argument(name: &str, value: &str, message: impl Into<String>) -> Self {
        Self::new("InvalidArgument", 400, message)
            .with("ArgumentName", name)
            .with("ArgumentValue", value)
    }

    pub(super) fn request(message: impl Into<String>) -> Self {
        Self::new("InvalidRequest", 400, message)
    }

    pub(super) fn malformed_xml() -> Self {
        let message = "The XML you provided was not well-formed or did not validate against our \
                       published schema";
        Self::new("MalformedXML", 400, message)
    }

    /// What S3 has and this Warren has not.
    pub(super) fn not_implemented(what: &str) -> Self {
        let message = format!("{what} is not available in this Warren.");
        Self::new("NotImplemented", 501, message)
    }

    pub(super) fn access_denied(message: impl Into<String>) -> Self {
        Self::new("AccessDenied", 403, message)
    }

    pub(super) fn precondition(condition: &str) -> Self {
        let message = "At least one of the pre-conditions you specified did not hold";
        Self::new("PreconditionFailed", 412, message).with("Condition", condition)
    }

    /// A failure of ours: the caller is told that, the log is told what.
    pub(super) fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        let message = "We encountered an internal error. Please try again.";
        Self { internal: Some(text), ..Self::new("InternalError", 500, message) }
    }

    /// AWS's own code for each fault of a signature.
    pub(super) fn signature(fault: &SignatureFault, parts: &Parts, region: &str) -> Self {
        use SignatureFault as F;
        let presigned = !parts.headers.contains_key(http::header::AUTHORIZATION);
        let has_token = parts.headers.contains_key("x-amz-security-token")
            || parts.uri.query().is_some_and(|query| query.contains("X-Amz-Security-Token="));
        let malformed = if presigned {
            "AuthorizationQueryParametersError"
        } else {
            "AuthorizationHeaderMalformed"
        };
        match fault {
            F::Missing => Self::access_denied("Access Denied"),
            F::Incomplete(what) => Self::new(malformed, 400, what.clone()),
            F::WrongScope(what) => Self::new(malformed, 400, what.clone()).with("Region", region),
            F::UnknownKey if has_token => Self::new(
                "InvalidToken",
                400,
                "The provided token is malformed or otherwise invalid.",
            ),
            F::UnknownKey => Self::new(
                "InvalidAccessKeyId",
                403,
                "The AWS Access Key Id you provided does not exist in our records.",
            ),
            F::TokenExpired => Self::new("ExpiredToken", 400, "The provided token has expired."),
            F::Expired { signed_at, now, skew_minutes, .. }
            | F::NotYetCurrent { signed_at, now, skew_minutes, .. } => Self::new(
                "RequestTimeTooSkewed",
                403,
                "The difference between the request time and the current time is too large.",
            )
            .with("RequestTime", signed_at.clone())
            .with("ServerTime", now.clone())
            .with("MaxAllowedSkewMilliseconds", (skew_minutes * 60_000).to_string()),
            F::PresignedExpired => Self::access_denied("Request has expired"),
            F::PayloadMismatch => PayloadFault::HashMismatch.into(),
            F::PayloadHashMissing => Self::new("MissingSecurityHeader", 400, fault.to_string())
                .with("MissingHeaderName", "x-amz-content-sha256"),
            F::PayloadHashUnreadable => {
                Self::argument("x-amz-content-sha256", "", fault.to_string())
            }
            F::Mismatch { canonical_request, string_to_sign } => Self::new(
                "SignatureDoesNotMatch",
                403,
                "The request signature we calculated does not match the signature you provided. \
                 Check your key and signing method.",
            )
            .with("StringToSign", string_to_sign.clone())
            .with("CanonicalRequest", canonical_request.clone()),
        }
    }

    /// `resource`: the path that was asked for; none leaves the body out.
    pub(super) fn into_response(self, resource: Option<&str>, request_id: &str) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        // 304 has no body either.
        let Some(resource) = resource.filter(|_| self.status != StatusCode::NOT_MODIFIED) else {
            return response;
        };
        let mut xml = Xml::without_namespace("Error");
        xml.leaf("Code", self.code);
        xml.leaf("Message", self.message);
        for (name, value) in self.members {
            xml.leaf(name, value);
        }
        xml.leaf("Resource", resource);
        xml.leaf("RequestId", request_id);
        xml.leaf("HostId", request_id);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        *response.body_mut() = Body::from(xml.finish());
        response
    }
}

impl From<BadName> for S3Error {
    fn from(error: BadName) -> Self {
        match error {
            BadName::Bucket(name) => {
                Self::new("InvalidBucketName", 400, "The specified bucket is not valid.")
                    .with("BucketName", name)
            }
            BadName::KeyLength(0) => Self::argument("Key", "", "The key must not be empty"),
            BadName::KeyLength(bytes) => Self::new("KeyTooLongError", 400, "Your key is too long")
                .with("Size", bytes.to_string())
                .with("MaxSizeAllowed", "1024"),
        }
    }
}

impl From<PayloadFault> for S3Error {
    fn from(fault: PayloadFault) -> Self {
        let message = fault.to_string();
        match fault {
            PayloadFault::HashMismatch => Self::new("XAmzContentSHA256Mismatch", 400, message),
            PayloadFault::ChunkSignature => Self::new("SignatureDoesNotMatch", 403, message),
            PayloadFault::Malformed(_) => Self::new("InvalidChunk", 400, message),
            PayloadFault::Incomplete => Self::new("IncompleteBody", 400, message),
            PayloadFault::TooSlow => Self::new("RequestTimeout", 400, message),
            PayloadFault::TooLarge => Self::new("MaxMessageLengthExceeded", 400, message),
        }
    }
}

impl From<ObjectsError> for S3Error {
    fn from(error: ObjectsError) -> Self {
        use ObjectsError as E;
        match &error {
            E::NoSuchBucket(name) => {
                Self::new("NoSuchBucket", 404, "The specified bucket does not exist")
                    .with("BucketName", name.as_str())
            }
            E::BucketExists(name) => Self::new(
                "BucketAlreadyOwnedByYou",
                409,
                "Your previous request to create the named bucket succeeded and you already own it.",
            )
            .with("BucketName", name.as_str()),
            E::BucketNotEmpty(name) => {
                Self::new("BucketNotEmpty", 409, "The bucket you tried to delete is not empty")
                    .with("BucketName", name.as_str())
            }
            E::NoSuchKey { key, .. } => {
                Self::new("NoSuchKey", 404, "The specified key does not exist.")
                    .with("Key", key.as_str())
            }
            E::NoSuchUpload(id) => Self::new(
                "NoSuchUpload",
                404,
                "The specified upload does not exist. The upload ID may be invalid, or the upload \
                 may have been aborted or completed.",
            )
            .with("UploadId", id.as_str()),
            E::InvalidPart(number) => Self::new(
                "InvalidPart",
                400,
                "One or more of the specified parts could not be found.  The part may not have \
                 been uploaded, or the specified entity tag may not match the part's entity tag.",
            )
            .with("PartNumber", number.to_string()),
            E::InvalidPartOrder => Self::new(
                "InvalidPartOrder",
                400,
                "The list of parts was not in ascending order. Parts must be ordered by part number.",
            ),
            E::PartTooSmall { number, size, min } => Self::new(
                "EntityTooSmall",
                400,
                "Your proposed upload is smaller than the minimum allowed size",
            )
            .with("ProposedSize", size.to_string())
            .with("MinSizeAllowed", min.to_string())
            .with("PartNumber", number.to_string()),
            E::TooLarge { max } => Self::new(
                "EntityTooLarge",
                400,
                "Your proposed upload exceeds the maximum allowed size",
            )
            .with("MaxSizeAllowed", max.to_string()),
            E::PreconditionFailed(_) => Self::precondition("If-None-Match or If-Match"),
            E::BadChecksum => Self::new(
                "BadDigest",
                400,
                "The checksum you specified did not match the calculated checksum.",
            ),
            E::WrongSize { bytes } => Self::request(format!(
                "The provided 'x-amz-mp-object-size' header does not match what was computed: {bytes}"
            )),
            E::Store { .. }
            | E::Migrate { .. }
            | E::Corrupt { .. }
            | E::File { .. }
            | E::BrokenOff => Self::internal(&error),
        }
    }
}

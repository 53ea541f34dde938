//! AWS Signature Version 4, the side that verifies.
//!
//! The idea: a request is *parsed* into what its sender claims ([`Claim`]), the claim is checked
//! against clock, region and service, the secret of its access key is looked up, and the same
//! canonical request that the sender signed is made again. Each step that fails is a variant of
//! [`SignatureFault`]; how a service words that on the wire is in `crate::error`.
//!
//! Why not a library: `scratchstack-aws-signature` 0.11 encodes the path once for every service.
//! AWS encodes it twice for all but S3, and SDKs put ARNs with encoded colons into the paths of
//! this API, so it would refuse each of them. It also lacks the lifetime of presigned requests
//! and unsigned payloads. `aws-sigv4` only signs. The counterpart in the tests is botocore.

mod canonical;
mod claim;
mod payload;
mod verify;

pub(crate) use claim::{Claim, Placement};
pub(crate) use payload::{Form, Payload, PayloadFault};
pub(crate) use verify::{Expectation, verify, verify_head};

use time::OffsetDateTime;

/// What a service's signatures look like where services differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Path normalised and encoded twice, payload always hashed.
    General,
    /// Path as it was sent; the payload may be left out of the signature.
    S3,
}

impl Dialect {
    pub(crate) fn of(service: &str) -> Self {
        if service == "s3" { Self::S3 } else { Self::General }
    }
}

/// Why a request is not believed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum SignatureFault {
    #[error("Missing Authentication Token")]
    Missing,
    /// The claim cannot be read.
    #[error("{0}")]
    Incomplete(String),
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    #[error("The security token included in the request is expired")]
    TokenExpired,
    /// Signed by a clock that is too far from ours. `signed_at`, `limit` and `now` as in the request
    /// (`20260102T030405Z`).
    #[error(
        "Signature expired: {signed_at} is now earlier than {limit} ({now} - {skew_minutes} min.)"
    )]
    Expired { signed_at: String, limit: String, now: String, skew_minutes: i64 },
    #[error(
        "Signature not yet current: {signed_at} is still later than {limit} ({now} + {skew_minutes} min.)"
    )]
    NotYetCurrent { signed_at: String, limit: String, now: String, skew_minutes: i64 },
    /// A presigned request after its `X-Amz-Expires`.
    #[error("Request has expired")]
    PresignedExpired,
    #[error("{0}")]
    WrongScope(String),
    #[error(
        "The provided 'x-amz-content-sha256' header does not match what was computed from the body."
    )]
    PayloadMismatch,
    /// S3 wants to know what the payload is before it comes.
    #[error("Your request was missing a required header")]
    PayloadHashMissing,
    #[error(
        "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING- form, or a valid sha256 value."
    )]
    PayloadHashUnreadable,
    /// The signature differs. Our canonical request and string to sign help whoever writes a client.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your \
         AWS Secret Access Key and signing method. Consult the service documentation for details.\n\n\
         The Canonical String for this request should have been\n'{canonical_request}'\n\n\
         The String-to-Sign should have been\n'{string_to_sign}'\n"
    )]
    Mismatch { canonical_request: String, string_to_sign: String },
}

/// `20260102T030405Z`.
pub(crate) fn basic_timestamp(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

#[cfg(test)]
mod tests;

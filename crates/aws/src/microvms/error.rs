//! What `control` says, in the words of this service (spec 1.4, 2).

use crate::error::ApiError;
use control::{BadId, ControlError};
use http::StatusCode;
use serde_json::Value;

/// Seconds after which a client may try again what failed on our side.
const RETRY_AFTER_S: u32 = 1;

pub(super) fn validation(message: impl Into<String>) -> ApiError {
    ApiError::bad("ValidationException", message)
}

pub(super) fn bad_id(error: &BadId) -> ApiError {
    validation(error.to_string())
}

/// 404. The members are there and null, as on AWS.
pub(super) fn not_found(message: impl Into<String>) -> ApiError {
    ApiError::new("ResourceNotFoundException", StatusCode::NOT_FOUND, message)
        .with("resourceId", Value::Null)
        .with("resourceType", Value::Null)
}

fn conflict(message: impl Into<String>) -> ApiError {
    ApiError::new("ConflictException", StatusCode::CONFLICT, message)
        .with("resourceId", Value::Null)
        .with("resourceType", Value::Null)
}

fn quota(message: impl Into<String>) -> ApiError {
    ApiError::new("ServiceQuotaExceededException", StatusCode::PAYMENT_REQUIRED, message)
        .with("resourceId", Value::Null)
        .with("resourceType", Value::Null)
        .with("serviceCode", Value::Null)
        .with("quotaCode", Value::Null)
}

/// No more memory for MicroVMs.
pub(crate) fn memory_quota() -> ApiError {
    quota("The base maximum allocated memory limit has been reached for this account.")
}

pub(super) fn from_control(error: ControlError) -> ApiError {
    use ControlError as E;
    match &error {
        E::MicrovmNotFound(_)
        | E::NoActiveVersion { .. }
        | E::ImageNotFound(_)
        | E::VersionNotFound { .. }
        | E::BuildNotFound(_) => not_found(error.to_string()),
        E::WrongState { .. } | E::ImageBusy { .. } => conflict(error.to_string()),
        E::BadId(_)
        | E::AlreadyTerminated(_)
        | E::RunHookDisabled
        | E::PayloadTooLong { .. }
        | E::BadMaximumDuration { .. }
        | E::ClientTokenReused
        | E::BadPageToken
        | E::NoShellIngress
        | E::CombinedIngress
        | E::BadTokenRequest(_)
        | E::ImageExists(_)
        | E::ImageNotDeletable(_)
        | E::ImageInUse(_)
        | E::LastVersion { .. }
        | E::TooManyTags { .. }
        | E::BadImageSpec(_) => validation(error.to_string()),
        E::MemoryQuota { .. } | E::Quota { .. } => quota(error.to_string()),
        // Secrets, logs and credentials are not asked here; the rest is ours to mend.
        _ => ApiError::internal("InternalServerException", &error).retry_after(RETRY_AFTER_S),
    }
}

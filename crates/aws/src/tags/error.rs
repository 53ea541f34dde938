//! What goes wrong with tags, in the words of their three operations.

use crate::error::ApiError;
use control::ControlError;
use http::StatusCode;
use serde_json::Value;

/// Seconds after which a client may try again what failed on our side.
const RETRY_AFTER_S: u32 = 1;

/// 404.
pub(super) fn not_found(message: impl Into<String>) -> ApiError {
    ApiError::new("ResourceNotFoundException", StatusCode::NOT_FOUND, message)
        .with("resourceId", Value::Null)
        .with("resourceType", Value::Null)
}

pub(super) fn from_control(error: &ControlError) -> ApiError {
    match error {
        ControlError::TooManyTags { .. } => {
            ApiError::bad("InvalidParameterValueException", error.to_string())
                .with("Type", Value::from("User"))
        }
        // Tags are asked for by a resource that was found; the rest is ours to mend.
        error => ApiError::internal("ServiceException", error)
            .with("Type", Value::from("Service"))
            .retry_after(RETRY_AFTER_S),
    }
}

//! What `control` says, in the words of this service.

use crate::error::ApiError;
use control::ControlError;

pub(super) fn parameter(message: impl Into<String>) -> ApiError {
    ApiError::bad("InvalidParameterException", message)
}

pub(super) fn from_control(error: ControlError) -> ApiError {
    use ControlError as E;
    let missing = |what| {
        ApiError::bad("ResourceNotFoundException", format!("The specified {what} does not exist."))
    };
    let exists = |what| {
        ApiError::bad(
            "ResourceAlreadyExistsException",
            format!("The specified {what} already exists"),
        )
    };
    match &error {
        E::LogGroupNotFound(_) => missing("log group"),
        E::LogStreamNotFound { .. } => missing("log stream"),
        E::LogGroupExists(_) => exists("log group"),
        E::LogStreamExists { .. } => exists("log stream"),
        E::TooManyTags { .. } => ApiError::bad("TooManyTagsException", error.to_string()),
        E::BadPageToken => parameter("The specified nextToken is invalid."),
        E::BadId(_) => parameter(error.to_string()),
        // MicroVMs and secrets are not asked here; the rest is ours to mend.
        _ => ApiError::internal("ServiceUnavailableException", &error),
    }
}

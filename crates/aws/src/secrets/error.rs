//! What `control` says, in the words of this service.

use crate::error::ApiError;
use control::ControlError;

/// The text for whatever is not there: AWS does not say which.
pub(super) fn not_found() -> ApiError {
    ApiError::bad("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

pub(super) fn parameter(message: impl Into<String>) -> ApiError {
    ApiError::bad("InvalidParameterException", message)
}

pub(super) fn from_control(error: ControlError) -> ApiError {
    use ControlError as E;
    match &error {
        E::SecretNotFound(_) => not_found(),
        E::SecretVersionNotFound { what, .. } => ApiError::bad(
            "ResourceNotFoundException",
            format!("Secrets Manager can't find the specified secret value for {what}"),
        ),
        E::SecretExists(_) => ApiError::bad("ResourceExistsException", error.to_string()),
        E::SecretVersionTaken => ApiError::bad(
            "ResourceExistsException",
            "A version with this ClientRequestToken exists already and has another value.",
        ),
        E::SecretDeleted(_) => ApiError::bad(
            "InvalidRequestException",
            "You can't perform this operation on the secret because it was marked for deletion.",
        ),
        E::BadSecretRequest(_) | E::BadId(_) | E::TooManyTags { .. } => {
            parameter(error.to_string())
        }
        E::BadPageToken => ApiError::bad("InvalidNextTokenException", error.to_string()),
        // MicroVMs and logs are not asked here; the rest is ours to mend.
        _ => ApiError::internal("InternalServiceError", &error),
    }
}

//! What `control` says, in the words of this service.

use crate::error::ApiError;
use control::ControlError;

pub(super) fn validation(message: impl Into<String>) -> ApiError {
    ApiError::bad("ValidationException", message)
}

pub(super) fn not_found(name: &str) -> ApiError {
    ApiError::bad("ParameterNotFound", format!("Parameter {name} not found."))
}

pub(super) fn from_control(error: ControlError) -> ApiError {
    use ControlError as E;
    match &error {
        E::ParameterNotFound(name) => not_found(name),
        E::ParameterVersionNotFound(name) => ApiError::bad(
            "ParameterVersionNotFound",
            format!(
                "Systems Manager could not find version of {name}. Verify the version and try again."
            ),
        ),
        E::ParameterExists(_) => ApiError::bad(
            "ParameterAlreadyExists",
            "The parameter already exists. To overwrite this value, set the overwrite option in \
             the request to true.",
        ),
        E::ParameterVersionsFull(_) => {
            ApiError::bad("ParameterMaxVersionLimitExceeded", error.to_string())
        }
        E::BadParameter(message) => validation(message.clone()),
        E::BadPageToken => ApiError::bad("InvalidNextToken", "The specified token is not valid."),
        // Nothing else is asked here; the rest is ours to mend.
        _ => ApiError::internal("InternalServerError", &error),
    }
}

//! What `control` says, in the words of this service (spec 2.2).

use crate::{error::ApiError, service::Call};
use control::ControlError;
use http::StatusCode;
use serde_json::Value;

/// Seconds after which a client may try again what failed on our side.
const RETRY_AFTER_S: u32 = 1;

/// A rule of the service that its model does not tell.
pub(super) fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::bad("InvalidParameterValueException", message).with("Type", Value::from("User"))
}

/// 404, whose shape alone writes `Message`.
pub(super) fn not_found(arn: &str) -> ApiError {
    let message = format!("Network connector not found for: {arn}");
    let mut error = ApiError::new("ResourceNotFoundException", StatusCode::NOT_FOUND, message)
        .with("Type", Value::from("User"));
    error.message_member = Some("Message");
    error
}

/// `given` is what the caller named the connector by, as an ARN.
pub(super) fn from_control(error: ControlError, given: &str) -> ApiError {
    use ControlError as E;
    match &error {
        E::ConnectorNotFound(_) => not_found(given),
        E::ConnectorExists(_) | E::ConnectorBusy { .. } => {
            ApiError::new("ResourceConflictException", StatusCode::CONFLICT, error.to_string())
                .with("Type", Value::from("User"))
        }
        E::Quota { .. } => {
            ApiError::bad("NetworkConnectorLimitExceededException", error.to_string())
                .with("Type", Value::from("User"))
        }
        E::ConnectorLatestVersion { .. }
        | E::ClientTokenReused
        | E::TooManyTags { .. }
        | E::BadPageToken
        | E::BadId(_) => invalid(error.to_string()),
        // The rest is of other services, or ours to mend.
        _ => {
            let mut error = ApiError::internal("ServiceException", &error)
                .with("Type", Value::from("Service"))
                .retry_after(RETRY_AFTER_S);
            error.message_member = Some("Message");
            error
        }
    }
}

/// ARN of what the caller named: an id, a name, or an ARN already.
pub(super) fn arn_of(call: &Call, given: &str) -> String {
    if given.starts_with("arn:") {
        return given.to_owned();
    }
    format!("arn:aws:lambda:{}:{}:network-connector:{given}", call.region(), call.account())
}

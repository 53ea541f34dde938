//! Which secret a caller means, and whether it may have to do with it.

use super::error::from_control;
use crate::{error::ApiError, service::Call};
use control::{ControlError, Secret, SecretName};

/// The secret, once the caller is known to have the operation's right on it.
///
/// # Errors
/// AccessDenied; ResourceNotFound for what does not exist.
pub(super) async fn authorized_secret(call: &Call, id: &str) -> Result<Secret, ApiError> {
    match call.state.control.secrets().describe(id).await {
        Ok(secret) => {
            call.authorize(&secret.arn)?;
            Ok(secret)
        }
        Err(error) => Err(refused_or(call, error)),
    }
}

/// The error of a secret that was not found, unless the caller may not even ask.
pub(super) fn refused_or(call: &Call, error: ControlError) -> ApiError {
    match call.authorize_any() {
        Ok(()) => from_control(error),
        Err(denied) => denied,
    }
}

/// ARN of a secret before it exists: its six last characters are not known yet.
pub(super) fn future_arn(call: &Call, name: &SecretName) -> String {
    format!("arn:aws:secretsmanager:{}:{}:secret:{name}-??????", call.region(), call.account())
}

//! A secret's value on the wire: `SecretString`, or `SecretBinary` in base64.

use super::error::parameter;
use crate::error::ApiError;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use control::SecretValue;
use serde::Deserialize;

/// The members of an input that carry a value.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ValueInput {
    secret_string: Option<String>,
    secret_binary: Option<String>,
}

impl ValueInput {
    /// # Errors
    /// Where both are given.
    pub(super) fn value(self) -> Result<Option<SecretValue>, ApiError> {
        match (self.secret_string, self.secret_binary) {
            (Some(_), Some(_)) => {
                Err(parameter("You can't specify both SecretString and SecretBinary."))
            }
            (Some(text), None) => Ok(Some(SecretValue::Text(text))),
            (None, Some(binary)) => {
                let bytes = BASE64_STANDARD
                    .decode(binary)
                    .map_err(|_| parameter("SecretBinary is not base64."))?;
                Ok(Some(SecretValue::Binary(bytes)))
            }
            (None, None) => Ok(None),
        }
    }
}

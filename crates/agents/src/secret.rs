//! Secrets in memory, and the secret that a work item brings along.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// A credential: an environment key, a sessions token, an API key, a webhook secret.
/// Prints as `Secret(…)`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes `text` without the white space around it, which files and consoles add.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().trim().to_owned())
    }

    /// The secret itself. Every call of this is a place to look at.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a work item's `secret` holds: a token that is good for this session only.
#[derive(Debug, Clone)]
pub struct WorkSecret {
    /// `sk-ant-req-…`; stands in for the environment key in every call of the item.
    pub sessions_token: Secret,
    /// Where to call, if the platform says so.
    pub api_base_url: Option<String>,
}

/// Why a work item's `secret` could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WorkSecretError {
    /// Not base64, in either alphabet.
    #[error("the work item's secret is not base64")]
    Base64(#[source] base64::DecodeError),
    /// No JSON object with a `sessions_token`.
    #[error("the work item's secret is not an object with a sessions_token")]
    Json(#[source] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct WorkSecretWire {
    sessions_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api_base_url: Option<String>,
}

impl WorkSecret {
    /// Reads base64url (or plain base64), padded or not, of `{"sessions_token":…,"api_base_url"?}`.
    ///
    /// # Errors
    /// [`WorkSecretError`] says which layer is broken; it holds nothing of the secret.
    pub fn decode(text: &str) -> Result<Self, WorkSecretError> {
        let bare = text.trim().trim_end_matches('=');
        let bytes = URL_SAFE_NO_PAD
            .decode(bare)
            .or_else(|_| STANDARD.decode(text.trim()))
            .map_err(WorkSecretError::Base64)?;
        let wire: WorkSecretWire = serde_json::from_slice(&bytes).map_err(WorkSecretError::Json)?;
        Ok(Self {
            sessions_token: Secret::new(wire.sessions_token),
            api_base_url: wire.api_base_url,
        })
    }

    /// The text of a work item's `secret`, as [`WorkSecret::decode`] reads it.
    pub fn encode(&self) -> String {
        let mut object = serde_json::Map::new();
        object.insert("sessions_token".into(), self.sessions_token.expose().into());
        if let Some(url) = &self.api_base_url {
            object.insert("api_base_url".into(), url.as_str().into());
        }
        URL_SAFE_NO_PAD.encode(serde_json::Value::Object(object).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_work_secret_survives_its_own_encoding_with_and_without_padding() {
        let secret = WorkSecret { sessions_token: Secret::new("sk-ant-req-1"), api_base_url: None };
        let text = secret.encode();
        for form in [text.clone(), format!("{text}==")] {
            let back = WorkSecret::decode(&form).unwrap();
            assert_eq!(back.sessions_token, secret.sessions_token);
        }
    }

    #[test]
    fn a_secret_never_prints_itself() {
        let shown = format!("{:?}", Secret::new("sk-ant-oat01-abc"));
        assert!(!shown.contains("abc"), "{shown}");
    }
}

//! What can go wrong with a call.

use http::StatusCode;

use super::transport::TransportError;
use crate::error_body::ErrorBody;

/// Bytes of an unreadable error body that are kept for the message.
const RAW_LEN_MAX: usize = 2048;

/// Why a call failed, after all retries.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No answer.
    #[error("{call}: {source}")]
    Transport {
        /// Method and path.
        call: String,
        /// Why.
        source: TransportError,
    },
    /// An answer that is an error.
    #[error("{0}")]
    Status(Box<StatusError>),
    /// A good status with a body that is not what it should be.
    #[error("{call}: the answer cannot be read: {source}")]
    BadAnswer {
        /// Method and path.
        call: String,
        /// Where.
        source: serde_json::Error,
    },
    /// A request that cannot be built: a credential with a line break in it, say.
    #[error("{call}: the request cannot be built")]
    BadRequest {
        /// Method and path.
        call: String,
        /// Why.
        #[source]
        source: http::Error,
    },
}

/// An error answer of the platform, whole.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{call}: the platform answered {status}: {}", self.message())]
pub struct StatusError {
    /// Method and path.
    pub call: String,
    /// Its status.
    pub status: StatusCode,
    /// Its body, where it has the platform's form.
    pub body: Option<ErrorBody>,
    /// Its body as text, cut at 2 KiB.
    pub raw: String,
    /// The header `request-id`.
    pub request_id: Option<String>,
}

impl StatusError {
    pub(super) fn new(call: String, answer: &super::transport::Answer) -> Self {
        let cut = answer.body.get(..RAW_LEN_MAX).unwrap_or(&answer.body);
        let header = answer.headers.get("request-id").and_then(|value| value.to_str().ok());
        Self {
            call,
            status: answer.status,
            body: serde_json::from_slice(&answer.body).ok(),
            raw: String::from_utf8_lossy(cut).into_owned(),
            request_id: header.map(ToOwned::to_owned),
        }
    }

    /// What the platform says, for people.
    pub fn message(&self) -> &str {
        self.body.as_ref().map_or(&self.raw, |body| &body.error.message)
    }
}

impl ClientError {
    /// The status, if there was an answer with one.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status(error) => Some(error.status),
            Self::Transport { .. } | Self::BadAnswer { .. } | Self::BadRequest { .. } => None,
        }
    }

    /// Whether trying again is pointless: a 4xx other than 408, 409 and 429, or a request
    /// that cannot even be built.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Status(error) => {
                error.status.is_client_error() && !matches!(error.status.as_u16(), 408 | 409 | 429)
            }
            Self::BadRequest { .. } => true,
            Self::Transport { .. } | Self::BadAnswer { .. } => false,
        }
    }
}

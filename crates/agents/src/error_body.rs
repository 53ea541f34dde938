//! The body of every error answer of the platform.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `{"type":"error","error":{…},"request_id":…}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Always `error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What went wrong.
    pub error: ErrorDetail,
    /// The platform's id of the request, if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// The inner part of an [`ErrorBody`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// `invalid_request_error`, `authentication_error`, `not_found_error`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// For people.
    #[serde(default)]
    pub message: String,
    /// For programs; a refused heartbeat has `current_state` and `error_code` here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

impl ErrorBody {
    /// An error of `kind` with a `message` for people.
    pub fn new(kind: impl Into<String>, message: impl Into<String>) -> Self {
        let error = ErrorDetail { kind: kind.into(), message: message.into(), details: None };
        Self { kind: "error".into(), error, request_id: None }
    }
}

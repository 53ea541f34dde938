//! Errors as callers see them: a code, a status, a message, members; and how each protocol words a
//! signature that is not believed.

use crate::{protocol::Protocol, sigv4::SignatureFault};
use http::StatusCode;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The answer to a call that did not do what was asked.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ApiError {
    /// Name of the error's shape, for example `ResourceNotFoundException`.
    pub(crate) code: Cow<'static, str>,
    pub(crate) status: StatusCode,
    pub(crate) message: Option<String>,
    /// How its shape names the message, where that is not what its service's other errors do.
    pub(crate) message_member: Option<&'static str>,
    /// The other members of the shape.
    pub(crate) members: Map<String, Value>,
    /// Seconds after which a retry may help, as the `Retry-After` header.
    pub(crate) retry_after_s: Option<u32>,
    /// What really happened, for the log only.
    pub(crate) internal: Option<Box<str>>,
}

impl ApiError {
    pub(crate) fn new(
        code: impl Into<Cow<'static, str>>,
        status: StatusCode,
        message: impl Into<String>,
    ) -> Self {
        Self {
            code: code.into(),
            status,
            message: Some(message.into()),
            message_member: None,
            members: Map::new(),
            retry_after_s: None,
            internal: None,
        }
    }

    /// A 400.
    pub(crate) fn bad(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self::new(code, StatusCode::BAD_REQUEST, message)
    }

    /// A failure of ours: the caller is told that, the log is told what.
    pub(crate) fn internal(code: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        let message =
            "The service encountered an internal error. Look for the request id in Warren's log.";
        let mut answer = Self::new(code, StatusCode::INTERNAL_SERVER_ERROR, message);
        answer.internal = Some(text.into());
        answer
    }

    pub(crate) fn with(mut self, member: &str, value: Value) -> Self {
        self.members.insert(member.to_owned(), value);
        self
    }

    pub(crate) fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The body is not in the form of its protocol.
    pub(crate) fn serialization(message: impl Into<String>) -> Self {
        Self::bad("SerializationException", message)
    }

    /// The request names nothing that this endpoint does.
    pub(crate) fn unknown_operation(protocol: Protocol, message: impl Into<String>) -> Self {
        match protocol {
            Protocol::RestJson => {
                Self::new("UnknownOperationException", StatusCode::NOT_FOUND, message)
            }
            Protocol::Json => Self::bad("UnknownOperationException", message),
            Protocol::Query => Self::bad("InvalidAction", message),
        }
    }

    /// AWS's own code for each fault; every protocol has its names for the same few things.
    pub(crate) fn signature(fault: &SignatureFault, protocol: Protocol) -> Self {
        use SignatureFault as Fault;
        let (json, query) = match fault {
            Fault::Missing => ("MissingAuthenticationTokenException", "MissingAuthenticationToken"),
            Fault::Incomplete(_) => ("IncompleteSignatureException", "IncompleteSignature"),
            Fault::UnknownKey => ("UnrecognizedClientException", "InvalidClientTokenId"),
            Fault::TokenExpired => ("ExpiredTokenException", "ExpiredToken"),
            Fault::PresignedExpired => ("RequestExpired", "RequestExpired"),
            Fault::Expired { .. }
            | Fault::NotYetCurrent { .. }
            | Fault::WrongScope(_)
            | Fault::PayloadMismatch
            | Fault::PayloadHashMissing
            | Fault::PayloadHashUnreadable
            | Fault::Mismatch { .. } => ("InvalidSignatureException", "SignatureDoesNotMatch"),
        };
        let malformed = matches!(fault, Fault::Incomplete(_) | Fault::PresignedExpired);
        let (code, status) = match protocol {
            Protocol::RestJson => (json, StatusCode::FORBIDDEN),
            Protocol::Json => (json, StatusCode::BAD_REQUEST),
            Protocol::Query if malformed => (query, StatusCode::BAD_REQUEST),
            Protocol::Query => (query, StatusCode::FORBIDDEN),
        };
        Self::new(code, status, fault.to_string())
    }
}

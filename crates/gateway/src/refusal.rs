//! What the gateway itself answers, with the statuses, headers and bodies of the live service where
//! these were recorded (spec 6).

use crate::body::Download;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

/// Names the cause for programs.
pub(crate) const ERROR: HeaderName = HeaderName::from_static("x-aws-proxy-error");

/// Seconds after which a client over its rate may try again.
const RETRY_AFTER_S: &str = "1";

/// Why a request is not passed on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0}")]
    Malformed(String),
    /// No token, or one that cannot be parsed.
    #[error("Request missing authentication")]
    MissingAuthentication,
    /// A token of another VM, one that has expired, or a host that names no VM.
    #[error("Token authentication failed")]
    TokenFailed,
    #[error("Access to port denied")]
    PortDenied,
    #[error("Rate exceeded: {0}")]
    TooMany(&'static str),
    /// The VM ended, sleeps, or did not wake.
    #[error("the MicroVM cannot be reached: {0}")]
    VmUnreachable(String),
    /// Nothing listens on the port, or it speaks something else.
    #[error("the app cannot be reached: {0}")]
    AppUnreachable(String),
    /// It was connected and broke off before its answer.
    #[error("the app gave no answer: {0}")]
    AppBroke(String),
    /// A shell's token on a request that is no WebSocket handshake.
    #[error("a shell is a WebSocket")]
    ShellOnly,
}

impl Refusal {
    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }

    pub(crate) const fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::MissingAuthentication | Self::TokenFailed | Self::PortDenied => {
                StatusCode::FORBIDDEN
            }
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::VmUnreachable(_)
            | Self::AppUnreachable(_)
            | Self::AppBroke(_)
            | Self::ShellOnly => StatusCode::BAD_GATEWAY,
        }
    }

    /// As one client of the live service saw it; where nobody recorded any, Warren's own.
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "BAD_REQUEST",
            Self::MissingAuthentication | Self::TokenFailed | Self::PortDenied => "UNAUTHORIZED",
            Self::TooMany(_) => "THROTTLED",
            Self::VmUnreachable(_) => "MICROVM_CONNECT_FAILED",
            Self::AppUnreachable(_) => "APP_CONNECT_FAILED",
            Self::AppBroke(_) => "APP_RESPONSE_FAILED",
            Self::ShellOnly => "SHELL_UPGRADE_REQUIRED",
        }
    }

    pub(crate) fn response(&self) -> Response<Download> {
        let status = self.status();
        // What went wrong behind the gateway is nobody's business in front of it.
        let text = if status.is_server_error() { String::new() } else { self.to_string() };
        let mut response = Response::new(Download::text(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(ERROR, HeaderValue::from_static(self.code()));
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, kind);
        if let Self::TooMany(_) = self {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn answers_are_those_that_were_recorded() {
        let cases = [
            (Refusal::MissingAuthentication, 403, "UNAUTHORIZED", "Request missing authentication"),
            (Refusal::TokenFailed, 403, "UNAUTHORIZED", "Token authentication failed"),
            (Refusal::PortDenied, 403, "UNAUTHORIZED", "Access to port denied"),
            (Refusal::AppUnreachable("x".into()), 502, "APP_CONNECT_FAILED", ""),
            (Refusal::VmUnreachable("x".into()), 502, "MICROVM_CONNECT_FAILED", ""),
        ];
        for (refusal, status, code, text) in cases {
            let response = refusal.response();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[ERROR], code);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, text);
        }
    }
}

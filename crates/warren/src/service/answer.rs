//! How a request of Warren's own service is refused.

use crate::{failure::with_causes, protocol::Refusal};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use control::ControlError;
use http::StatusCode;
use std::{error::Error, time::Duration};

/// A status and a sentence for the person at the other end.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    message: String,
}

impl Refused {
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    pub(crate) fn too_large(bytes_max: usize) -> Self {
        Self {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            message: format!("the request is larger than {bytes_max} bytes, or broke off"),
        }
    }

    pub(crate) fn too_slow(time_max: Duration) -> Self {
        let message = format!("the request did not arrive within {} s", time_max.as_secs());
        Self { status: StatusCode::REQUEST_TIMEOUT, message }
    }

    pub(crate) fn too_many_uploads(uploads_max: usize) -> Self {
        let message = format!("{uploads_max} artifacts are on their way already; try again soon");
        Self { status: StatusCode::SERVICE_UNAVAILABLE, message }
    }

    pub(crate) fn unauthenticated(error: &aws::AuthError) -> Self {
        Self { status: StatusCode::FORBIDDEN, message: error.to_string() }
    }

    pub(crate) fn denied(error: &aws::Denied) -> Self {
        Self { status: StatusCode::FORBIDDEN, message: error.to_string() }
    }

    pub(crate) fn internal(action: &str, error: &dyn Error) -> Self {
        let message = format!("{action}: {}", with_causes(error));
        tracing::error!(message, "request failed");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message }
    }

    pub(crate) fn control(error: &ControlError) -> Self {
        let status = match error {
            ControlError::BadId(_)
            | ControlError::BadImageSpec(_)
            | ControlError::RunHookDisabled
            | ControlError::PayloadTooLong { .. }
            | ControlError::BadMaximumDuration { .. }
            | ControlError::TooManyForks { .. } => StatusCode::BAD_REQUEST,
            ControlError::MicrovmNotFound(_)
            | ControlError::NoActiveVersion { .. }
            | ControlError::CheckpointNotFound(_)
            | ControlError::ImageNotFound(_)
            | ControlError::VersionNotFound { .. } => StatusCode::NOT_FOUND,
            ControlError::WrongState { .. }
            | ControlError::CheckpointExists(_)
            | ControlError::CheckpointBusy(_)
            | ControlError::MemoryQuota { .. }
            | ControlError::TerminatingAll
            | ControlError::AlreadyTerminated(_)
            | ControlError::ImageBusy { .. }
            | ControlError::ImageInUse(_)
            | ControlError::ImageNotDeletable(_)
            | ControlError::ImageExists(_) => StatusCode::CONFLICT,
            // The rest cannot be caused by what is asked here.
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = with_causes(error), "request failed");
        }
        Self { status, message: with_causes(error) }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, Json(Refusal { message: self.message })).into_response()
    }
}

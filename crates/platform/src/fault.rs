//! Why a request is not done: one enum, which `http::answer` turns into the platform's errors.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::machine::{Refusal, WorkState};
use crate::store::StoreError;

/// Why a request is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The request says something that it may not say.
    #[error("{message}")]
    Invalid { message: String, code: Option<&'static str> },
    /// No credential, or one that nobody knows.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// A credential that is good for other things.
    #[error("{0}")]
    Forbidden(&'static str),
    /// What the request names is not there, or not for this credential.
    #[error("{what} {id} was not found")]
    NotFound { what: &'static str, id: String },
    /// No such call.
    #[error("{method} {path} is no call of this API")]
    NoRoute { method: String, path: String },
    /// It cannot be done in this state.
    #[error("{0}")]
    Conflict(String),
    /// What the client has seen is not what is there any more.
    #[error("{0}")]
    Stale(String),
    /// Another memory is in the way.
    #[error("the path is taken by {path}, or lies above or below it")]
    PathTaken { path: String, memory: String },
    /// It goes wrong on purpose.
    #[error("this answer is a fault that was asked for ({status})")]
    Injected { status: http::StatusCode, retry_after_ms: u64 },
    /// A heartbeat of somebody who does not hold the lease.
    #[error("expected_last_heartbeat does not match: another worker may hold the lease")]
    LeaseLost { state: WorkState, last: Option<Timestamp>, ttl: Duration },
    /// The body is longer than is read.
    #[error("the request body has more than {limit} bytes")]
    TooLarge { limit: usize },
    /// Ours to mend; the client hears nothing of it.
    #[error("the emulator's own fault")]
    Store(#[from] StoreError),
}

impl Fault {
    /// A request that says something wrong at `field`.
    pub(crate) fn field(field: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self::Invalid { message: format!("{field}: {why}"), code: None }
    }

    /// What `what` with that id is not there.
    pub(crate) fn not_found(what: &'static str, id: impl std::fmt::Display) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Running => Self::Conflict(message),
            Refusal::Terminated
            | Refusal::NoOpenCall(_)
            | Refusal::NotConfirmed(_)
            | Refusal::NotAsked(_)
            | Refusal::WrongResult { .. }
            | Refusal::QueueFull => Self::Invalid { message, code: None },
        }
    }
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

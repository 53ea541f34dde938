//! `POST /webhooks/managed-agents`: one delivery, read from top to bottom, and its answer.
//!
//! Statuses are what the platform acts on: 2xx ends the matter, anything else is delivered again,
//! three times in all. So 401 is for what nobody should have sent, 5xx for what may go better next
//! time, and 200 also for what is none of our business.

use crate::{
    config::Mode,
    event::LauncherEventKind,
    launcher::Inner,
    secret::SecretError,
    sessions::{Demand, EnsureError, SessionVm, VmOrigin},
    signing::NotVerified,
    store::StoreError,
};
use agents::{
    EventId, SessionId,
    webhook::{self, Delivery, Refused, SESSION_RUN_STARTED},
};
use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER};
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// Where the platform delivers.
pub const WEBHOOK_PATH: &str = "/webhooks/managed-agents";
/// Largest delivery, bytes. The platform's have about 300.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Longest time that a body may take to come in.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time that an answer waits for its VM: a place in the launch rate, a look at the old VM
/// and RunMicrovm, each of which has its own bound.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// When a delivery that we had no room for may come again, seconds.
const RETRY_AFTER_SECONDS: u16 = 5;
/// Longest part of an unverified `webhook-id` that is repeated in events and logs, characters.
const SHOWN_ID_CHARS_MAX: usize = 64;

pub(crate) fn router(launcher: Arc<Inner>) -> Router {
    Router::new().route(WEBHOOK_PATH, post(receive)).with_state(launcher)
}

/// A delivery that gets 200.
#[derive(Debug)]
enum Answer {
    /// Genuine, but not for us.
    Ignored { reason: String },
    /// The session has its VM.
    Served { session: SessionId, microvm_id: String, status: &'static str },
}

/// A delivery that gets an error.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the launcher is shutting down")]
    ShuttingDown,
    #[error("more deliveries are under way than the launcher takes")]
    Busy,
    #[error("the body has more than {BODY_BYTES_MAX} bytes or was cut off")]
    BadBody,
    #[error("the body did not come in within {} s", BODY_TIMEOUT.as_secs())]
    SlowBody,
    #[error(transparent)]
    Unverified(Refused),
    #[error(transparent)]
    NoSecret(SecretError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no MicroVM for session {session}")]
    NoVm { session: SessionId, source: Arc<EnsureError> },
    #[error("the MicroVM of session {session} is still being launched")]
    StillLaunching { session: SessionId },
}

async fn receive(State(launcher): State<Arc<Inner>>, headers: HeaderMap, body: Body) -> Response {
    let webhook_id = claimed_id(&headers);
    match answer(&launcher, &webhook_id, &headers, body).await {
        Ok(Answer::Ignored { reason }) => {
            tracing::debug!(webhook_id, reason, "delivery ignored");
            launcher.announce(LauncherEventKind::Ignored { webhook_id, reason: reason.clone() });
            Json(json!({ "status": "ignored", "reason": reason })).into_response()
        }
        Ok(Answer::Served { session, microvm_id, status }) => Json(json!({
            "status": status, "session_id": session, "microvm_id": microvm_id,
        }))
        .into_response(),
        Err(refusal) => {
            let (status, body) = refusal.on_the_wire();
            let reason = with_causes(&refusal);
            refusal.log(&webhook_id, &reason);
            launcher.announce(LauncherEventKind::Refused {
                webhook_id,
                status: status.as_u16(),
                reason,
            });
            let mut response = (status, Json(body)).into_response();
            if status == StatusCode::SERVICE_UNAVAILABLE {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            response
        }
    }
}

async fn answer(
    launcher: &Arc<Inner>,
    webhook_id: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Answer, Refusal> {
    if launcher.is_shutting_down() {
        return Err(Refusal::ShuttingDown);
    }
    let body = read_body(body).await?;
    // Behind the body: somebody who sends slowly must not keep others out.
    let _place = launcher.places.try_acquire().map_err(|_| Refusal::Busy)?;
    launcher.announce(LauncherEventKind::WebhookReceived {
        webhook_id: webhook_id.to_owned(),
        bytes: body.len(),
    });
    launcher.signing.verify(headers, &body).await.map_err(|error| match error {
        NotVerified::Refused(refused) => Refusal::Unverified(refused),
        NotVerified::NoSecret(error) => Refusal::NoSecret(error),
    })?;
    let wanted = wanted(&body);
    launcher.announce(LauncherEventKind::WebhookVerified {
        webhook_id: webhook_id.to_owned(),
        session_id: wanted.as_ref().ok().map(|(_, session)| session.clone()),
    });
    match wanted {
        Ok((event, session)) => match &launcher.config.mode {
            Mode::Webhook => serve(launcher, event, session).await,
            Mode::Poll { .. } => {
                let reason = format!("session {session} is found by polling the queue");
                Ok(Answer::Ignored { reason })
            }
        },
        Err(reason) => Ok(Answer::Ignored { reason }),
    }
}

/// Reads the body whole, within bounds of size and time.
async fn read_body(body: Body) -> Result<Bytes, Refusal> {
    timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_BYTES_MAX))
        .await
        .map_err(|_| Refusal::SlowBody)?
        .map_err(|_| Refusal::BadBody)
}

/// The event and the session that a verified body asks a VM for, or why it asks for none.
fn wanted(body: &[u8]) -> Result<(EventId, SessionId), String> {
    let delivery = Delivery::parse(body).map_err(|error| format!("not a delivery: {error}"))?;
    if delivery.data.kind != SESSION_RUN_STARTED {
        return Err(format!("{} starts no MicroVM", delivery.data.kind));
    }
    let event = EventId::new(&*delivery.id).map_err(|error| error.to_string())?;
    let session = SessionId::new(&*delivery.data.id).map_err(|error| error.to_string())?;
    Ok((event, session))
}

/// Answers from what is stored, or sees to it that the session has its VM.
async fn serve(
    launcher: &Arc<Inner>,
    event: EventId,
    session: SessionId,
) -> Result<Answer, Refusal> {
    if let Some((session, microvm_id)) = launcher.store.answer_to(&event).await? {
        launcher.announce(LauncherEventKind::Replayed {
            event_id: event,
            session_id: session.clone(),
            microvm_id: microvm_id.clone(),
        });
        return Ok(Answer::Served { session, microvm_id, status: "replayed" });
    }
    let demand = Demand {
        session: session.clone(),
        environment: launcher.config.environment_id.clone(),
        event: Some(event.clone()),
        claim: None,
    };
    let vm = timeout(ANSWER_TIMEOUT, launcher.sessions.ensure_session_vm(demand)).await;
    let SessionVm { microvm_id, origin } = match vm {
        Ok(Ok(vm)) => vm,
        Ok(Err(source)) => return Err(Refusal::NoVm { session, source }),
        Err(_elapsed) => return Err(Refusal::StillLaunching { session }),
    };
    launcher.store.answered(&event, &session, &microvm_id).await?;
    let status = match origin {
        VmOrigin::Launched => "launched",
        VmOrigin::Found => "found",
    };
    Ok(Answer::Served { session, microvm_id, status })
}

impl Refusal {
    /// Status and body. The body names what failed; details stay in the log.
    fn on_the_wire(&self) -> (StatusCode, serde_json::Value) {
        use StatusCode as S;
        let said =
            |status, error: &str| (status, json!({ "error": error, "reason": self.to_string() }));
        match self {
            Self::ShuttingDown => said(S::SERVICE_UNAVAILABLE, "shutting_down"),
            Self::Busy => said(S::SERVICE_UNAVAILABLE, "busy"),
            Self::BadBody => said(S::PAYLOAD_TOO_LARGE, "bad_body"),
            Self::SlowBody => said(S::REQUEST_TIMEOUT, "slow_body"),
            Self::Unverified(_) => said(S::UNAUTHORIZED, "signature_invalid"),
            Self::NoSecret(_) => (
                S::INTERNAL_SERVER_ERROR,
                json!({
                    "error": "signing_secret_unreadable",
                    "reason": "the launcher cannot read its signing secret, see its log",
                }),
            ),
            Self::Store(_) => (
                S::INTERNAL_SERVER_ERROR,
                json!({ "error": "store_failed", "reason": "see the launcher's log" }),
            ),
            Self::StillLaunching { session } => (
                S::SERVICE_UNAVAILABLE,
                json!({ "error": "still_launching", "session_id": session }),
            ),
            Self::NoVm { session, source } => {
                let (status, error, reason) = no_vm(source);
                (status, json!({ "error": error, "session_id": session, "reason": reason }))
            }
        }
    }

    fn log(&self, webhook_id: &str, reason: &str) {
        match self {
            // Anybody can cause these: not worth an operator's attention each time.
            Self::Unverified(_) | Self::BadBody | Self::SlowBody => {
                tracing::warn!(webhook_id, reason, "delivery refused");
            }
            Self::NoSecret(error) => {
                tracing::error!(
                    webhook_id,
                    reason,
                    hint = error.hint(),
                    "delivery cannot be verified"
                );
            }
            Self::ShuttingDown
            | Self::Busy
            | Self::Store(_)
            | Self::NoVm { .. }
            | Self::StillLaunching { .. } => {
                tracing::error!(
                    webhook_id,
                    reason,
                    "delivery not served; the platform will repeat it"
                );
            }
        }
    }
}

/// Status, error and reason of a session without a VM. AWS's name for its refusal is the reason.
fn no_vm(error: &EnsureError) -> (StatusCode, &'static str, String) {
    use StatusCode as S;
    match error {
        EnsureError::Refused { code, .. } | EnsureError::Unanswered { code, .. } => {
            (S::BAD_GATEWAY, "run_microvm_failed", code.clone())
        }
        EnsureError::AlwaysGone => (S::BAD_GATEWAY, "run_microvm_failed", error.to_string()),
        EnsureError::Look(_) => (S::BAD_GATEWAY, "microvm_not_reachable", error.to_string()),
        EnsureError::TooFast => (S::SERVICE_UNAVAILABLE, "launch_rate_exceeded", error.to_string()),
        EnsureError::Interrupted => (S::SERVICE_UNAVAILABLE, "interrupted", error.to_string()),
        EnsureError::Payload(_) => {
            (S::INTERNAL_SERVER_ERROR, "payload_too_long", error.to_string())
        }
        EnsureError::Store(_) => {
            (S::INTERNAL_SERVER_ERROR, "store_failed", "see the launcher's log".into())
        }
    }
}

/// What the headers claim the delivery's id to be, cut to what is safe to show.
fn claimed_id(headers: &HeaderMap) -> String {
    let claimed = headers.get(webhook::ID_HEADER).and_then(|value| value.to_str().ok());
    claimed.unwrap_or("-").chars().take(SHOWN_ID_CHARS_MAX).collect()
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

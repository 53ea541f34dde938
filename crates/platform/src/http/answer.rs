//! Answers: how a fault looks on the wire, and the request id that every answer carries.

use std::sync::Arc;

use agents::ErrorBody;
use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::http::work::state_name;
use crate::ids::random_id;
use crate::store::Page;

const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// What no repetition changes, though the SDKs repeat a 409.
const SETTLED: [StatusCode; 2] = [StatusCode::CONFLICT, StatusCode::PRECONDITION_FAILED];
/// The SDKs retry 409 by themselves; here it is never a passing matter.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

impl IntoResponse for Fault {
    /// The status; [`finish`] writes the body, since the request id belongs into it.
    fn into_response(self) -> Response {
        let mut response = status(&self).into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// Gives every answer its request id, and every fault its body.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    let request_id = random_id("req_");
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    if let Some(fault) = response.extensions_mut().remove::<Arc<Fault>>() {
        match &*fault {
            Fault::Store(error) => tracing::error!(
                request_id,
                %method,
                path,
                error = error as &dyn std::error::Error,
                "a request failed in the store"
            ),
            other => tracing::debug!(request_id, %method, path, fault = %other, "refused"),
        }
        let mut body = json!(body(&fault, &request_id));
        if let Fault::PathTaken { path, memory } = &*fault {
            body["error"]["conflicting_path"] = json!(path);
            body["error"]["conflicting_memory_id"] = json!(memory);
        }
        response = (status(&fault), Json(body)).into_response();
        if let Fault::Injected { retry_after_ms: wait @ 1.., .. } = *fault {
            response.headers_mut().insert(RETRY_AFTER_MS, HeaderValue::from(wait));
        }
        if SETTLED.contains(&status(&fault)) {
            response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

fn status(fault: &Fault) -> StatusCode {
    match fault {
        Fault::Invalid { .. } => StatusCode::BAD_REQUEST,
        Fault::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
        Fault::Forbidden(_) => StatusCode::FORBIDDEN,
        Fault::NotFound { .. } | Fault::NoRoute { .. } => StatusCode::NOT_FOUND,
        Fault::Conflict(_) | Fault::Stale(_) | Fault::PathTaken { .. } => StatusCode::CONFLICT,
        Fault::LeaseLost { .. } => StatusCode::PRECONDITION_FAILED,
        Fault::Injected { status, .. } => *status,
        Fault::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        Fault::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn body(fault: &Fault, request_id: &str) -> ErrorBody {
    let kind = match fault {
        Fault::Invalid { .. } => "invalid_request_error",
        Fault::Unauthenticated(_) => "authentication_error",
        Fault::Forbidden(_) => "permission_error",
        Fault::NotFound { .. } | Fault::NoRoute { .. } => "not_found_error",
        Fault::Conflict(_) => "conflict_error",
        Fault::Stale(_) => "memory_precondition_failed_error",
        Fault::PathTaken { .. } => "memory_path_conflict_error",
        Fault::LeaseLost { .. } => "precondition_failed_error",
        Fault::Injected { status: StatusCode::TOO_MANY_REQUESTS, .. } => "rate_limit_error",
        Fault::Injected { .. } => "api_error",
        Fault::TooLarge { .. } => "request_too_large",
        Fault::Store(_) => "api_error",
    };
    let message = match fault {
        Fault::Store(_) => "internal error".to_owned(),
        other => other.to_string(),
    };
    let mut body = ErrorBody::new(kind, message);
    body.error.details = details(fault);
    body.request_id = Some(request_id.to_owned());
    body
}

fn details(fault: &Fault) -> Option<Value> {
    match fault {
        Fault::Invalid { code: Some(code), .. } => Some(json!({"error_code": code})),
        Fault::LeaseLost { state, last, ttl } => Some(json!({
            "error_code": "heartbeat_precondition_failed",
            "current_state": {
                "state": state_name(*state),
                "ttl_seconds": ttl.as_secs(),
                "last_heartbeat": last.map(|last| last.to_string()),
                "lease_extended": false,
            },
        })),
        Fault::Invalid { code: None, .. }
        | Fault::Unauthenticated(_)
        | Fault::Forbidden(_)
        | Fault::NotFound { .. }
        | Fault::NoRoute { .. }
        | Fault::Conflict(_)
        | Fault::Stale(_)
        | Fault::PathTaken { .. }
        | Fault::Injected { .. }
        | Fault::TooLarge { .. }
        | Fault::Store(_) => None,
    }
}

/// A page of a list.
pub(super) fn page<T>(page: Page<T>, show: impl Fn(&T) -> Value) -> Value {
    let data: Vec<Value> = page.rows.iter().map(show).collect();
    json!({"data": data, "next_page": page.next.map(|cursor| cursor.encode())})
}

/// A list that is one page as it is.
pub(super) fn whole(data: Vec<Value>) -> Value {
    json!({"data": data, "next_page": null})
}

/// A page that can be left backwards too.
pub(super) fn page_with_previous<T>(found: Page<T>, show: impl Fn(&T) -> Value) -> Value {
    let previous = found.previous.map(|cursor| cursor.encode());
    let mut answer = page(found, show);
    answer["prev_page"] = json!(previous);
    answer
}

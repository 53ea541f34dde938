//! One request, from HTTP to HTTP: find the operation, authenticate, decode, check, run, encode.

use crate::{
    AwsState,
    error::ApiError,
    iam::Context,
    microvms,
    protocol::{Frame, Protocol, Reply, decode_form, decode_json, encode, encode_error},
    route::{Found, NotFound, find, form_of},
    s3,
    service::Call,
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::ConnectInfo,
    response::Response,
};
use http::{Request, StatusCode, request::Parts};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// Largest request body in bytes. The largest that an operation here takes is PutLogEvents' 1 MiB.
pub const REQUEST_BODY_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Longest time that a client may take to send its body.
pub const REQUEST_BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// Every AWS service of this Warren, as the fallback of a router: merge others' routes into it.
///
/// Where the server is started with `into_make_service_with_connect_info::<SocketAddr>()`, policies
/// may use `aws:SourceIp`.
pub fn router(state: AwsState) -> Router {
    let state = Arc::new(state);
    Router::new().fallback(move |request: Request<Body>| {
        let state = state.clone();
        async move { answer(state, request).await }
    })
}

/// What the log says of a request.
struct Record {
    request_id: String,
    operation: String,
    principal: String,
}

async fn answer(state: Arc<AwsState>, request: Request<Body>) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let mut record = Record {
        request_id: uuid::Uuid::new_v4().to_string(),
        operation: "-".to_owned(),
        principal: "-".to_owned(),
    };
    let (parts, body) = request.into_parts();
    if s3::is_addressed(&parts, &state) {
        return answer_s3(state, parts, body, &record.request_id).await;
    }
    let (response, error) = serve(state, parts, body, &mut record).await;
    let ms = started.elapsed().as_secs_f64() * 1000.0;
    let status = response.status().as_u16();
    let Record { request_id, operation, principal } = record;
    match error {
        Some(ApiError { code, internal: Some(internal), .. }) => {
            tracing::error!(%method, operation, principal, status, ms, request_id, %code, internal, "request");
        }
        Some(ApiError { code, .. }) => {
            tracing::info!(%method, operation, principal, status, ms, request_id, %code, "request");
        }
        None => tracing::info!(%method, operation, principal, status, ms, request_id, "request"),
    }
    response
}

/// S3 has a way of its own: bodies are streams there, and errors have its form.
async fn answer_s3(state: Arc<AwsState>, parts: Parts, body: Body, request_id: &str) -> Response {
    let started = Instant::now();
    let method = parts.method.clone();
    let outcome = s3::serve(state, parts, body, request_id).await;
    let s3::Outcome { response, operation, principal, code, internal } = outcome;
    let ms = started.elapsed().as_secs_f64() * 1000.0;
    let (status, operation) = (response.status().as_u16(), format!("s3:{operation}"));
    let (principal, code) = (principal.as_deref().unwrap_or("-"), code.unwrap_or("-"));
    match internal {
        Some(internal) => {
            tracing::error!(%method, operation, principal, status, ms, request_id, code, internal, "request");
        }
        None => {
            tracing::info!(%method, operation, principal, status, ms, request_id, code, "request");
        }
    }
    response
}

async fn serve(
    state: Arc<AwsState>,
    parts: Parts,
    body: Body,
    record: &mut Record,
) -> (Response, Option<ApiError>) {
    let request_id = record.request_id.clone();
    let mut frame = Frame {
        protocol: Protocol::RestJson,
        operation: "",
        xml_namespace: "",
        message_member: "message",
        request_id: &request_id,
    };
    let body = match receive(body).await {
        Ok(body) => body,
        Err(error) => return (encode_error(&error, &frame), Some(error)),
    };
    let found = match find(&parts, &body) {
        Ok(found) => found,
        Err(not_found) => {
            let NotFound { protocol, service, asked } = &not_found;
            record.operation = format!("unknown: {}", asked.chars().take(128).collect::<String>());
            frame.protocol = *protocol;
            frame.message_member = service.map_or("message", |service| service.message_member);
            let error = not_found.error();
            return (encode_error(&error, &frame), Some(error));
        }
    };
    record.operation = format!("{}:{}", found.service.signing_name, found.operation.name);
    frame.protocol = found.service.protocol;
    frame.operation = found.operation.name;
    frame.xml_namespace = found.service.xml_namespace;
    frame.message_member = found.service.message_member;
    match perform(state, found, &parts, body, record).await {
        Ok(reply) => (encode(reply, &frame), None),
        Err(error) => (encode_error(&error, &frame), Some(error)),
    }
}

async fn perform(
    state: Arc<AwsState>,
    found: Found,
    parts: &Parts,
    body: Bytes,
    record: &mut Record,
) -> Result<Reply, ApiError> {
    let Found { service, operation, labels } = found;
    let principal = state
        .authenticator
        .authenticate(parts, &body, service.signing_name)
        .map_err(|error| ApiError::signature(&error.0, service.protocol))?;
    principal.arn().clone_into(&mut record.principal);
    let input = match service.protocol {
        Protocol::RestJson | Protocol::Json => {
            decode_json(operation.input, labels, parts.uri.query().unwrap_or_default(), &body)?
        }
        Protocol::Query => decode_form(operation.input, &form_of(parts, &body).unwrap_or_default()),
    };
    // Before anything else is asked, as AWS does.
    if let Some(faults) = operation.input.faults(&input) {
        return Err(ApiError::bad(service.validation_code, faults));
    }
    let mut context = Context::default();
    if let Some(ConnectInfo(address)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() {
        context.set("aws:SourceIp", address.ip().to_string());
    }
    if let Err(throttled) = state.throttles.take(operation.name, Instant::now()) {
        // On AWS a quota that is used up is told before a rate that is.
        let full = operation.name == "RunMicrovm" && state.control.memory_is_full().await;
        return Err(if full { microvms::memory_quota() } else { throttled });
    }
    let calls = state.calls.clone();
    let call = Call { state, service, operation, principal, input, context };
    // In a task of its own: a client that goes away does not stop it half way.
    let ended = calls.spawn((operation.run)(call)).await;
    ended.unwrap_or_else(|panic| Err(ApiError::internal("InternalServerException", &panic)))
}

async fn receive(body: Body) -> Result<Bytes, ApiError> {
    let body = axum::body::to_bytes(body, REQUEST_BODY_BYTES_MAX);
    match tokio::time::timeout(REQUEST_BODY_TIME_MAX, body).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(ApiError::new(
            "RequestEntityTooLargeException",
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("Request must be smaller than {REQUEST_BODY_BYTES_MAX} bytes"),
        )),
        Err(_) => Err(ApiError::new(
            "RequestTimeoutException",
            StatusCode::REQUEST_TIMEOUT,
            format!("The body did not arrive within {} s", REQUEST_BODY_TIME_MAX.as_secs()),
        )),
    }
}

//! S3 on the AWS port: buckets, objects, uploads in parts. One function an operation, found in
//! [`operation`]'s table by method, level and query.
//!
//! Why its own way in, beside the services that speak JSON or forms: a body here is up to 5 GiB and
//! goes through as a stream, its signature is checked before it has come, and members stand in
//! headers. Why not the crate `s3s`: it verifies signatures itself and asks for the secret of an
//! access key alone, while the secret of a role's session is in its token; its newest release wants
//! a newer Rust than ours. What stands between HTTP and `objects` is this folder.

mod address;
mod buckets;
mod call;
mod conditions;
mod copy_object;
mod delete_objects;
mod error;
mod get_object;
mod list_objects;
mod multipart;
mod object_traits;
mod operation;
mod presigned_v2;
mod put_object;
mod tagging;
mod xml;

use crate::{
    AwsState,
    auth::AuthError,
    iam::Context,
    protocol,
    sigv4::{Claim, Payload},
};
use address::Address;
use axum::{body::Body, extract::ConnectInfo, response::Response};
use call::Call;
use error::S3Error;
use http::{HeaderValue, Method, request::Parts};
use std::{net::SocketAddr, sync::Arc};

pub(crate) use presigned_v2::PresignedV2;

/// Signing name, and prefix of IAM actions.
pub(crate) const SERVICE: &str = "s3";

/// What became of a request, for the log.
pub(crate) struct Outcome {
    pub(crate) response: Response,
    pub(crate) operation: &'static str,
    pub(crate) principal: Option<String>,
    pub(crate) code: Option<&'static str>,
    /// What really happened, of a failure of ours.
    pub(crate) internal: Option<String>,
}

/// Whether a request is for S3: it is signed for it, or not signed and for a bucket's own host.
pub(crate) fn is_addressed(parts: &Parts, state: &AwsState) -> bool {
    match Claim::service_named(&parts.headers, &parts.uri) {
        Some(service) => service == SERVICE,
        None if PresignedV2::read(parts).is_some() => true,
        None => {
            parts.headers.get("x-amz-target").is_none()
                && address::bucket_of_host(parts, &state.s3_domains).is_some()
        }
    }
}

/// From HTTP to HTTP.
pub(crate) async fn serve(
    state: Arc<AwsState>,
    parts: Parts,
    body: Body,
    request_id: &str,
) -> Outcome {
    let mut outcome = Outcome {
        response: Response::default(),
        operation: "-",
        principal: None,
        code: None,
        internal: None,
    };
    let method = parts.method.clone();
    let path = parts.uri.path().to_owned();
    let answer = perform(state, parts, body, &mut outcome).await;
    outcome.response = match answer {
        Ok(response) => response,
        Err(error) => {
            outcome.code = Some(error.code);
            outcome.internal.clone_from(&error.internal);
            // What answers HEAD has no body.
            let shown = if method == Method::HEAD { None } else { Some(path.as_str()) };
            error.into_response(shown, request_id)
        }
    };
    if let Ok(id) = HeaderValue::from_str(request_id) {
        let headers = outcome.response.headers_mut();
        headers.insert("x-amz-id-2", id.clone());
        headers.insert("x-amzn-requestid", id.clone());
        headers.insert("x-amz-request-id", id);
    }
    outcome
}

async fn perform(
    state: Arc<AwsState>,
    parts: Parts,
    body: Body,
    outcome: &mut Outcome,
) -> Result<Response, S3Error> {
    let address = Address::read(&parts, &state.s3_domains);
    let operation = operation::find(&parts, &address);
    outcome.operation = operation.as_ref().map_or("-", |operation| operation.name);
    let host_bucket = address::bucket_of_host(&parts, &state.s3_domains);
    let authenticated = state.authenticator.authenticate_s3(&parts, host_bucket.as_deref());
    let (principal, form) = authenticated.map_err(|AuthError(fault)| {
        S3Error::signature(&fault, &parts, state.authenticator.region())
    })?;
    outcome.principal = Some(principal.arn().to_owned());
    let operation = operation?;
    let mut context = Context::default();
    if let Some(ConnectInfo(address)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() {
        context.set("aws:SourceIp", address.ip().to_string());
    }
    let calls = state.calls.clone();
    let payload = Payload::new(body, form, call::payload_length(&parts.headers));
    let query = protocol::form(parts.uri.query().unwrap_or_default()).collect();
    let headers = parts.headers;
    let call = Call { state, principal, context, address, headers, query, payload };
    // In a task of its own: a client that goes away does not stop a write half way.
    let ended = calls.spawn((operation.run)(call)).await;
    ended.unwrap_or_else(|panic| Err(S3Error::internal(&panic)))
}

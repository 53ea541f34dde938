//! One request over HTTP, and what its failures mean.

use std::time::Duration;

use agents::EventId;
use agents::client::{SseParser, Transport};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::ModelConfig;
use super::reply::{Progress, Reply};
use crate::machine::{Answer, Failure, FailureKind};

/// How long a server may think before its answer begins: local ones read the whole prompt first.
const HEAD_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a stream may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// Longest body of an error, or of an answer in one piece, in bytes.
const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Version of the Messages API.
const API_VERSION: &str = "2023-06-01";
/// Characters of a server's words that are passed on.
const WORDS_MAX: usize = 1000;
/// The status of a server that has too much to do.
const OVERLOADED: u16 = 529;

/// A piece of the message that is being written.
#[derive(Debug)]
pub(crate) struct Delta<'a> {
    /// The id that the message will have.
    pub(crate) message: &'a EventId,
    /// Which of its texts.
    pub(crate) index: usize,
    pub(crate) text: &'a str,
}

/// Asks a model.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    transport: Transport,
    config: ModelConfig,
}

impl Caller {
    pub(crate) fn new(config: ModelConfig) -> Self {
        Self { transport: Transport::new(), config }
    }

    /// The configuration that it was made with.
    pub(crate) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Makes one request; tells the texts as they come.
    pub(crate) async fn ask(
        &self,
        body: &Value,
        mut tell: impl FnMut(Delta<'_>),
    ) -> Result<Answer, Failure> {
        let request = self.request(body).map_err(|error| refused(error.to_string()))?;
        let opened = self.transport.open_within(request, HEAD_TIMEOUT).await;
        let response = opened.map_err(|error| broken(chain(&error)))?;
        if response.status() != StatusCode::OK {
            return Err(failure(response).await);
        }
        let mut reply = Reply::new();
        let kind = response.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if kind.starts_with("text/event-stream") {
            read_stream(response.into_body(), &mut reply, &mut tell).await?;
        } else {
            let bytes = read_whole(response).await?;
            let whole: Value = serde_json::from_slice(&bytes)
                .map_err(|error| broken(format!("the answer is no JSON: {error}")))?;
            reply.take_whole(&whole);
        }
        reply.finish().map_err(broken)
    }

    fn request(&self, body: &Value) -> Result<Request<Full<Bytes>>, http::Error> {
        let base = self.config.url.as_str().trim_end_matches('/');
        let path = match base {
            _ if base.ends_with("/v1/messages") => "",
            _ if base.ends_with("/v1") => "/messages",
            _ => "/v1/messages",
        };
        let mut request = Request::post(format!("{base}{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "text/event-stream")
            .header(header::USER_AGENT, "warren-platform")
            .header("anthropic-version", API_VERSION);
        if let Some(key) = &self.config.key {
            request = request.header("x-api-key", key.expose());
        }
        request.body(Full::new(Bytes::from(body.to_string())))
    }
}

async fn read_stream(
    mut body: Incoming,
    reply: &mut Reply,
    tell: &mut impl FnMut(Delta<'_>),
) -> Result<(), Failure> {
    let mut parser = SseParser::default();
    loop {
        while let Some(message) = parser.pop() {
            let Ok(data) = serde_json::from_str::<Value>(&message.data) else { continue };
            match reply.take(&data) {
                Progress::None => {}
                Progress::Text(index, text) => {
                    tell(Delta { message: reply.message(), index, text: &text });
                }
                Progress::Whole => return Ok(()),
                Progress::Error(kind, words) => return Err(reported(&kind, &words)),
            }
        }
        let frame = tokio::time::timeout(SILENCE_MAX, body.frame()).await;
        let frame = frame.map_err(|_| {
            broken(format!("the model's stream was silent for {} s", SILENCE_MAX.as_secs()))
        })?;
        let frame = frame.ok_or_else(|| broken("the model's stream ended in the middle".into()))?;
        let frame = frame.map_err(|error| broken(chain(&error)))?;
        if let Some(data) = frame.data_ref() {
            parser.push(data).map_err(|error| broken(error.to_string()))?;
        }
    }
}

async fn read_whole(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX);
    match tokio::time::timeout(SILENCE_MAX, body.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(broken(error.to_string())),
        Err(_) => Err(broken("the model's answer does not come to its end".into())),
    }
}

/// What an answer means that is none.
async fn failure(response: Response<Incoming>) -> Failure {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = read_whole(response).await.unwrap_or_default();
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let words = match value["error"]["message"].as_str().or(value["error"].as_str()) {
        Some(words) => words.to_owned(),
        None => String::from_utf8_lossy(&body).into_owned(),
    };
    let words: String = words.chars().take(WORDS_MAX).collect();
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => FailureKind::RateLimited,
        StatusCode::PAYMENT_REQUIRED => FailureKind::Billing,
        StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT => FailureKind::Broken,
        _ if status.as_u16() == OVERLOADED => FailureKind::Overloaded,
        StatusCode::SERVICE_UNAVAILABLE => FailureKind::Overloaded,
        _ if status.is_server_error() => FailureKind::Broken,
        _ if value["error"]["type"] == "billing_error" => FailureKind::Billing,
        _ => FailureKind::Refused,
    };
    let message = match kind {
        FailureKind::Refused if is_too_long(&words) => format!(
            "the conversation no longer fits into the model's context: {words}; begin a new session"
        ),
        FailureKind::RateLimited
        | FailureKind::Overloaded
        | FailureKind::Broken
        | FailureKind::Refused
        | FailureKind::Billing => format!("the model's server answers {status}: {words}"),
    };
    Failure { kind, message, retry_after: retry_after(&headers) }
}

/// An error in the middle of a stream.
fn reported(kind: &str, words: &str) -> Failure {
    let words: String = words.chars().take(WORDS_MAX).collect();
    let kind = match kind {
        "overloaded_error" => FailureKind::Overloaded,
        "rate_limit_error" => FailureKind::RateLimited,
        "billing_error" => FailureKind::Billing,
        "invalid_request_error"
        | "authentication_error"
        | "permission_error"
        | "not_found_error" => FailureKind::Refused,
        _ => FailureKind::Broken,
    };
    Failure { kind, message: format!("the model's stream broke off: {words}"), retry_after: None }
}

/// The words of the servers that there are, for a prompt that is too long.
fn is_too_long(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["prompt is too long", "context length", "context window", "context size", "exceed context"]
        .iter()
        .any(|sign| words.contains(sign))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<f64>().ok();
    let seconds = number("retry-after-ms").map(|ms| ms / 1000.0).or(number("retry-after"))?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn broken(message: String) -> Failure {
    Failure { kind: FailureKind::Broken, message, retry_after: None }
}

fn refused(message: String) -> Failure {
    Failure { kind: FailureKind::Refused, message, retry_after: None }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

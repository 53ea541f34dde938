//! The calls, one function each.
//!
//! A [`Client`] is a transport, a base URL and a credential; [`Client::with_credential`] makes
//! the one that uses a work item's own token.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;

use super::error::{ClientError, StatusError};
use super::json;
use super::retry::wait_before_retry;
use super::sse::EventStream;
use super::transport::{Answer, Transport, read_bounded};
use crate::event::Event;
use crate::ids::{EnvironmentId, SessionId, WorkId};
use crate::secret::Secret;
use crate::session::{Page, Session};
use crate::work::{Heartbeat, StopWork, WorkItem};

/// Value of `anthropic-version`.
pub const API_VERSION: &str = "2026-10-21";
/// What agents, environments, sessions and their work are asked for with.
const BETA: &str = "managed-agents-2026-04-01";
const USER_AGENT: &str = concat!("Warren/", env!("CARGO_PKG_VERSION"));

/// What may stand in a query value as it is.
pub(super) const QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where the platform is: `https://api.anthropic.com`, `http://10.0.0.1:7430`, with or without
/// a path before `/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

/// Why a text is no base URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a base URL: it looks like https://host[:port][/path]")]
pub struct InvalidBaseUrl(String);

impl FromStr for BaseUrl {
    type Err = InvalidBaseUrl;
    fn from_str(text: &str) -> Result<Self, InvalidBaseUrl> {
        let refused = || InvalidBaseUrl(text.to_owned());
        let url = Url::parse(text).map_err(|_| refused())?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if plain { Ok(Self(url)) } else { Err(refused()) }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// How to poll an environment's queue.
#[derive(Debug, Clone, Default)]
pub struct PollOptions<'a> {
    /// How long the platform holds the request open, in milliseconds, 1 to 999; `None` is not
    /// at all.
    pub block_ms: Option<u32>,
    /// Items that were handed out and not acknowledged for this long, in milliseconds, are
    /// handed out again; `None` is the platform's default of 5000.
    pub reclaim_older_than_ms: Option<u32>,
    /// Tells workers apart in the queue's statistics.
    pub worker_id: Option<&'a str>,
}

/// A client with one credential. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
    base: BaseUrl,
    credential: Secret,
}

/// A request to come.
pub(super) struct Call<'a> {
    method: Method,
    path: String,
    body: Option<Value>,
    worker_id: Option<&'a str>,
    /// `anthropic-beta`.
    beta: Option<&'static str>,
    accept: &'static str,
}

impl Call<'_> {
    pub(super) fn new(method: Method, path: String, body: Option<Value>) -> Self {
        let accept = "application/json";
        Self { method, path, body, worker_id: None, beta: Some(BETA), accept }
    }

    fn get(path: String) -> Self {
        Self::new(Method::GET, path, None)
    }

    fn post(path: String, body: Option<Value>) -> Self {
        Self::new(Method::POST, path, body)
    }

    pub(super) fn with_beta(self, beta: Option<&'static str>) -> Self {
        Self { beta, ..self }
    }

    pub(super) fn accepting(self, accept: &'static str) -> Self {
        Self { accept, ..self }
    }

    /// Method and path without the query, for messages.
    pub(super) fn name(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }
}

impl Client {
    /// A client for the platform at `base`.
    pub fn new(transport: Transport, base: BaseUrl, credential: Secret) -> Self {
        Self { transport, base, credential }
    }

    /// The same client with another credential.
    #[must_use]
    pub fn with_credential(&self, credential: Secret) -> Self {
        Self { credential, ..self.clone() }
    }

    /// Takes the next item of an environment's queue; `None` when there is none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn poll(
        &self,
        environment: &EnvironmentId,
        options: &PollOptions<'_>,
    ) -> Result<Option<WorkItem>, ClientError> {
        let mut query = Vec::new();
        if let Some(block) = options.block_ms {
            query.push(("block_ms", block.to_string()));
        }
        if let Some(reclaim) = options.reclaim_older_than_ms {
            query.push(("reclaim_older_than_ms", reclaim.to_string()));
        }
        let path = with_query(format!("/v1/environments/{environment}/work/poll"), &query);
        let mut call = Call::get(path);
        call.worker_id = options.worker_id;
        let answer = self.call(&call).await?;
        if answer.body.is_empty() {
            return Ok(None);
        }
        read(&call, &answer)
    }

    /// Takes an item that a poll handed out for good.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ack(
        &self,
        environment: &EnvironmentId,
        work: &WorkId,
    ) -> Result<WorkItem, ClientError> {
        self.fetch(Call::post(work_path(environment, work, "ack"), None)).await
    }

    /// Extends the lease on an item. `expected` is [`crate::NO_HEARTBEAT`] at first, then the
    /// last answer's `last_heartbeat`.
    ///
    /// # Errors
    /// [`ClientError`]; 412 says that somebody else holds the lease.
    pub async fn heartbeat(
        &self,
        environment: &EnvironmentId,
        work: &WorkId,
        expected: &str,
    ) -> Result<Heartbeat, ClientError> {
        let query = [("expected_last_heartbeat", expected.to_owned())];
        let path = with_query(work_path(environment, work, "heartbeat"), &query);
        self.fetch(Call::post(path, None)).await
    }

    /// Ends an item.
    ///
    /// # Errors
    /// [`ClientError`]; 409 says that it had ended already.
    pub async fn stop(
        &self,
        environment: &EnvironmentId,
        work: &WorkId,
        how: StopWork,
    ) -> Result<WorkItem, ClientError> {
        let body = match how {
            StopWork::Ask => serde_json::json!({}),
            StopWork::Force => serde_json::json!({"force": true}),
        };
        self.fetch(Call::post(work_path(environment, work, "stop"), Some(body))).await
    }

    /// One page of an environment's items, newest first, those that are over included. `page` is the
    /// last page's `next_page`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn works(
        &self,
        environment: &EnvironmentId,
        limit: u32,
        page: Option<&str>,
    ) -> Result<Page<WorkItem>, ClientError> {
        let mut query = vec![("limit", limit.to_string())];
        if let Some(page) = page {
            query.push(("page", page.to_owned()));
        }
        self.fetch(Call::get(with_query(format!("/v1/environments/{environment}/work"), &query)))
            .await
    }

    /// Reads a session.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn session(&self, session: &SessionId) -> Result<Session, ClientError> {
        self.fetch(Call::get(format!("/v1/sessions/{session}"))).await
    }

    /// One page of a session's history, oldest first. `page` is the last page's `next_page`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(
        &self,
        session: &SessionId,
        limit: u32,
        page: Option<&str>,
    ) -> Result<Page<Event>, ClientError> {
        let mut query = vec![("limit", limit.to_string())];
        if let Some(page) = page {
            query.push(("page", page.to_owned()));
        }
        self.fetch(Call::get(with_query(format!("/v1/sessions/{session}/events"), &query))).await
    }

    /// Sends events into a session; the answer holds them as stored.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send_events(
        &self,
        session: &SessionId,
        events: &[Event],
    ) -> Result<Vec<Event>, ClientError> {
        let path = format!("/v1/sessions/{session}/events");
        let stored: Page<Event> =
            self.fetch(Call::post(path, Some(serde_json::json!({"events": events})))).await?;
        Ok(stored.data)
    }

    /// Opens a session's event stream.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stream(&self, session: &SessionId) -> Result<EventStream, ClientError> {
        let call = Call::get(format!("/v1/sessions/{session}/events/stream"));
        self.open(&call).await.map(EventStream::new)
    }

    /// Begins a call whose answer is read piece by piece.
    pub(super) async fn open(&self, call: &Call<'_>) -> Result<Incoming, ClientError> {
        let mut attempt = 0;
        loop {
            let outcome = match self.transport.open(self.request(call, attempt)?).await {
                Ok(response) if response.status().is_success() => return Ok(response.into_body()),
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    read_bounded(&self.base.to_string(), body).await.map(|body| Answer {
                        status: head.status,
                        headers: head.headers,
                        body,
                    })
                }
                Err(error) => Err(error),
            };
            match wait_before_retry(&outcome, attempt, OffsetDateTime::now_utc()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(failed(call, outcome)),
            }
            attempt += 1;
        }
    }

    /// Calls any other path of the API with this client's headers and retries and gives the
    /// JSON of the answer; `path` begins with `/v1/`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn raw(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, ClientError> {
        self.fetch(Call::new(method, path.to_owned(), body)).await
    }

    pub(super) async fn fetch<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
    ) -> Result<T, ClientError> {
        let answer = self.call(&call).await?;
        read(&call, &answer)
    }

    async fn call(&self, call: &Call<'_>) -> Result<Answer, ClientError> {
        let mut attempt = 0;
        loop {
            let outcome = self.transport.send(self.request(call, attempt)?).await;
            match wait_before_retry(&outcome, attempt, OffsetDateTime::now_utc()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => match outcome {
                    Ok(answer) if answer.status.is_success() => return Ok(answer),
                    Ok(_) | Err(_) => return Err(failed(call, outcome)),
                },
            }
            attempt += 1;
        }
    }

    fn request(&self, call: &Call<'_>, attempt: u32) -> Result<Request<Full<Bytes>>, ClientError> {
        let bad = |source: http::Error| ClientError::BadRequest { call: call.name(), source };
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", self.credential.expose()))
            .map_err(|error| bad(error.into()))?;
        bearer.set_sensitive(true);
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(format!("{}{}", self.base, call.path))
            .header(header::AUTHORIZATION, bearer)
            .header("anthropic-version", API_VERSION)
            .header(header::ACCEPT, call.accept)
            .header(header::USER_AGENT, USER_AGENT)
            .header("x-stainless-retry-count", attempt);
        if let Some(beta) = call.beta {
            request = request.header("anthropic-beta", beta);
        }
        if let Some(worker) = call.worker_id {
            request = request.header("anthropic-worker-id", worker);
        }
        let body = match &call.body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        request.body(Full::new(body)).map_err(bad)
    }
}

fn work_path(environment: &EnvironmentId, work: &WorkId, verb: &str) -> String {
    format!("/v1/environments/{environment}/work/{work}/{verb}")
}

pub(super) fn with_query(mut path: String, query: &[(&str, String)]) -> String {
    for (index, (name, value)) in query.iter().enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.push_str(name);
        path.push('=');
        path.extend(utf8_percent_encode(value, QUERY));
    }
    path
}

fn read<T: DeserializeOwned>(call: &Call<'_>, answer: &Answer) -> Result<T, ClientError> {
    json::parse(&answer.body).map_err(|source| ClientError::BadAnswer { call: call.name(), source })
}

fn failed(
    call: &Call<'_>,
    outcome: Result<Answer, super::transport::TransportError>,
) -> ClientError {
    match outcome {
        Ok(answer) => ClientError::Status(Box::new(StatusError::new(call.name(), &answer))),
        Err(source) => ClientError::Transport { call: call.name(), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_may_have_a_path_and_nothing_that_hides_a_credential() {
        let base: BaseUrl = "https://proxy.example:8443/anthropic/".parse().unwrap();
        assert_eq!(base.to_string(), "https://proxy.example:8443/anthropic");
        for bad in ["", "api.anthropic.com", "ftp://x", "http://k:s@x", "http://x/?a=b"] {
            assert!(bad.parse::<BaseUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_query_value_is_escaped() {
        let path = with_query(
            "/p".into(),
            &[("a", "1&2".into()), ("b", "2026-11-23T00:00:00+01:00".into())],
        );
        assert_eq!(path, "/p?a=1%262&b=2026-11-23T00%3A00%3A00%2B01%3A00");
    }
}

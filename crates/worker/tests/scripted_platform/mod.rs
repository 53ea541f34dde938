//! A platform, an IMDS and an AWS in one small server that does as a test says.
//!
//! It keeps a session's events, streams new ones, hands out work items and writes down every
//! request. It is no emulator: that is the crate `platform`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use worker::tools::Room;
use worker::{Config, WorkerError};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const KEY: &str = "sk-ant-oat01-test";

#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) call: String,
    pub(crate) bearer: String,
    pub(crate) body: Value,
    pub(crate) status: StatusCode,
}

#[derive(Default)]
struct Inner {
    seen: Vec<Seen>,
    events: Vec<Value>,
    work: VecDeque<Value>,
    streams: Vec<mpsc::UnboundedSender<Bytes>>,
    /// Answers that come before the usual ones, by the beginning of the call.
    answers: Vec<(String, StatusCode, Value)>,
}

pub(crate) struct Platform {
    inner: Mutex<Inner>,
    changed: Notify,
    pub(crate) address: SocketAddr,
}

impl Platform {
    pub(crate) async fn start() -> (Arc<Self>, AbortOnDropHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let platform = Arc::new(Self { inner: Mutex::default(), changed: Notify::new(), address });
        let router = Router::new().fallback(answer).with_state(platform.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (platform, AbortOnDropHandle::new(server))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Queues a work item for a session.
    pub(crate) fn queue(&self, work: &str, session: &str, secret: Option<&str>) {
        self.inner().work.push_back(json!({
            "type": "work", "id": work, "environment_id": "env_1", "state": "queued", "metadata": {},
            "data": {"type": "session", "id": session}, "secret": secret
        }));
    }

    /// The next calls that begin so are answered so, once each.
    pub(crate) fn answer_once(&self, call: &str, status: u16, body: Value) {
        let status = StatusCode::from_u16(status).unwrap();
        self.inner().answers.push((call.to_owned(), status, body));
    }

    /// Adds an event to the history and to all open streams.
    pub(crate) fn emit(&self, event: Value) {
        let mut inner = self.inner();
        inner.events.push(event.clone());
        let name = event["type"].as_str().unwrap();
        let message = Bytes::from(format!("event: {name}\ndata: {event}\n\n"));
        inner.streams.retain(|stream| stream.send(message.clone()).is_ok());
    }

    /// Closes all streams.
    pub(crate) fn hang_up(&self) {
        self.inner().streams.clear();
    }

    /// Waits until the requests so far satisfy `found`.
    pub(crate) async fn wait<T>(&self, what: &str, found: impl Fn(&[Seen]) -> Option<T>) -> T {
        let search = async {
            loop {
                let changed = self.changed.notified();
                if let Some(result) = found(&self.inner().seen) {
                    return result;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(result) => result,
            Err(_) => panic!("{what} did not come; seen: {:#?}", self.inner().seen),
        }
    }

    /// Waits for the `count`-th request that begins so.
    pub(crate) async fn wait_for(&self, call: &str, count: usize) -> Seen {
        self.wait(call, |seen| {
            seen.iter().filter(|seen| seen.call.starts_with(call)).nth(count - 1).cloned()
        })
        .await
    }

    /// Waits for the result of a call that was taken: its text and is_error.
    pub(crate) async fn wait_for_result(&self, id: &str) -> (String, bool) {
        self.wait(id, |seen| {
            let posted = seen.iter().filter(|seen| seen.status == StatusCode::OK);
            let result =
                posted.map(|seen| &seen.body["events"][0]).find(|e| e["tool_use_id"] == id)?;
            let text = result["content"][0]["text"].as_str()?;
            Some((text.to_owned(), result["is_error"].as_bool()?))
        })
        .await
    }

    /// How many requests so far begin so.
    pub(crate) fn count(&self, call: &str) -> usize {
        self.inner().seen.iter().filter(|seen| seen.call.starts_with(call)).count()
    }

    /// Where in the order of requests the first that begins so stands.
    pub(crate) fn place(&self, found: impl Fn(&Seen) -> bool) -> Option<usize> {
        self.inner().seen.iter().position(found)
    }
}

async fn answer(
    State(platform): State<Arc<Platform>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let call = format!("{method} {uri}");
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let bearer = text(header::AUTHORIZATION.as_str()).trim_start_matches("Bearer ").to_owned();
    let target = text("x-amz-target").to_owned();
    let mut inner = platform.inner();
    let scripted = inner.answers.iter().position(|(begin, _, _)| call.starts_with(begin));
    let (status, value) = match scripted {
        Some(at) => {
            let (_, status, value) = inner.answers.remove(at);
            (status, Ok(value))
        }
        None => (StatusCode::OK, usual_answer(&mut inner, &call, &target, &body)),
    };
    inner.seen.push(Seen { call, bearer, body, status });
    drop(inner);
    platform.changed.notify_waiters();
    match value {
        // Shortens the tests: nothing here gets better by trying again at once.
        Ok(Value::String(text)) => (status, text).into_response(),
        Ok(value) => (status, [("x-should-retry", "false")], value.to_string()).into_response(),
        Err(stream) => ([(header::CONTENT_TYPE, "text/event-stream")], stream).into_response(),
    }
}

fn usual_answer(inner: &mut Inner, call: &str, target: &str, body: &Value) -> Result<Value, Body> {
    let path = call.split(['?', ' ']).nth(1).unwrap_or_default();
    Ok(match path {
        "/latest/api/token" => json!("imds-token"),
        "/latest/meta-data/iam/security-credentials/" => json!("warren-execution"),
        "/latest/meta-data/iam/security-credentials/warren-execution" => json!({
            "AccessKeyId": "ASIATEST", "SecretAccessKey": "secret", "Token": "session-token",
            "Expiration": "2030-01-01T00:00:00Z"
        }),
        "/" if target == "secretsmanager.GetSecretValue" => json!({"SecretString": KEY}),
        _ if path.ends_with("/work/poll") => inner.work.pop_front().unwrap_or(Value::Null),
        _ if path.ends_with("/heartbeat") => json!({"type": "work_heartbeat",
            "last_heartbeat": "beat", "lease_extended": true, "state": "active", "ttl_seconds": 300}),
        _ if path.ends_with("/ack") || path.ends_with("/stop") => json!({"type": "work",
            "id": "work_1", "environment_id": "env_1", "state": "starting",
            "data": {"type": "session", "id": "sesn_1"}}),
        "/v1/sessions/sesn_1/events/stream" => {
            let (sender, receiver) = mpsc::unbounded_channel();
            inner.streams.push(sender);
            let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
            return Err(Body::from_stream(stream.map(Ok::<_, Infallible>)));
        }
        "/v1/sessions/sesn_1/events" if call.starts_with("POST") => {
            let result = body["events"][0].clone();
            inner.events.push(result.clone());
            json!({"data": [result]})
        }
        "/v1/sessions/sesn_1/events" => json!({"data": inner.events, "next_page": null}),
        "/v1/sessions/sesn_1" => json!({"type": "session", "id": "sesn_1", "status": "running",
            "agent": {"skills": []}, "resources": []}),
        _ => json!({}),
    })
}

/// A worker in this process, told to run its session by the hook.
pub(crate) struct Running {
    pub(crate) stop: CancellationToken,
    pub(crate) hook: String,
    task: AbortOnDropHandle<Result<(), WorkerError>>,
}

impl Running {
    pub(crate) async fn start(platform: &Platform, workdir: &Path, max_idle: Duration) -> Self {
        Self::start_impatient(platform, workdir, max_idle, PATIENCE).await
    }

    /// One that has no more work after so long without any.
    pub(crate) async fn start_impatient(
        platform: &Platform,
        workdir: &Path,
        max_idle: Duration,
        idle_exit: Duration,
    ) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let url: url::Url = platform.url().parse().unwrap();
        let config = Config {
            hook_port: free.port(),
            workdir: workdir.to_owned(),
            aws_endpoint: Some(url.clone()),
            region: "us-east-1".into(),
            imds: url,
            idle_exit,
            max_idle,
            search_path: None,
            room: Some(Room::made_by(env!("CARGO_BIN_EXE_warren-worker").into())),
        };
        let stop = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(worker::run(config, stop.clone())));
        let hook = format!("http://{free}/aws/lambda-microvms/runtime/v1");
        let running = Self { stop, hook, task };
        while running.call("ready", "").await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running
    }

    /// Calls a hook: status and body of the answer.
    pub(crate) async fn call(&self, hook: &str, body: &str) -> Result<(u16, String), String> {
        let request = axum::http::Request::post(format!("{}/{hook}", self.hook))
            .body(http_body_util::Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        let answer = agents::client::Transport::new().send(request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        Ok((answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned()))
    }

    /// Calls `/run` for the session of these tests.
    pub(crate) async fn run_session(&self, platform: &Platform) {
        let answer = self.run_as(platform, "microvm-1", "terminate").await;
        assert_eq!(answer, (200, "{}".to_owned()));
    }

    /// Calls `/run` as this VM, with what it is to do at its end.
    pub(crate) async fn run_as(
        &self,
        platform: &Platform,
        microvm: &str,
        at_end: &str,
    ) -> (u16, String) {
        let payload = json!({"version": "1", "session": {
            "ANTHROPIC_SESSION_ID": "sesn_1", "ANTHROPIC_ENVIRONMENT_ID": "env_1",
            "ENVIRONMENT_KEY_SECRET_ID": "warren/environment-key",
            "ANTHROPIC_BASE_URL": platform.url(), "WARREN_AT_END": at_end
        }});
        let body = json!({"microvmId": microvm, "runHookPayload": payload.to_string()});
        self.call("run", &body.to_string()).await.unwrap()
    }

    /// Waits for the worker's end.
    pub(crate) async fn end(self) -> Result<(), WorkerError> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("the worker ends").unwrap()
    }
}

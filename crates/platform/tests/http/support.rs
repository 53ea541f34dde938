//! A platform of one's own for a test, and a plain HTTP client to look at it with.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use platform::{ManualClock, NewEnvironment, Platform, PlatformConfig, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest wait for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A platform, its data directory, and an environment with an agent.
pub(crate) struct Bench {
    pub(crate) platform: Platform,
    pub(crate) dir: TempDir,
    pub(crate) environment: NewEnvironment,
    pub(crate) agent: String,
    pub(crate) clock: Option<ManualClock>,
}

/// A configuration on a free port.
pub(crate) fn config(dir: &TempDir) -> PlatformConfig {
    PlatformConfig::new((Ipv4Addr::LOCALHOST, 0).into(), dir.path())
}

impl Bench {
    /// A platform on the machine's clock.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A platform whose clock stands still until the test moves it.
    pub(crate) async fn start_on_manual_clock(set: impl FnOnce(&mut PlatformConfig)) -> Self {
        let clock = ManualClock::at(Timestamp::parse("2026-11-23T12:00:00Z").unwrap());
        let of_platform = Arc::new(clock.clone());
        let mut bench = Self::start_with(|config| {
            config.clock = of_platform;
            set(config);
        })
        .await;
        bench.clock = Some(clock);
        bench
    }

    pub(crate) async fn start_with(set: impl FnOnce(&mut PlatformConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir);
        set(&mut config);
        let platform = Platform::start(config).await.unwrap();
        let environment = platform.create_environment("test").await.unwrap();
        let operator = Client::new(&platform.base_url(), platform.api_key().expose());
        let agent = operator
            .post(
                "/v1/agents",
                json!({"name": "tester", "model": "scripted", "tools": [
                    {"type": "agent_toolset_20260401"},
                    {"type": "custom", "name": "lookup", "description": "looks something up",
                     "input_schema": {"type": "object"}}]}),
            )
            .await
            .ok();
        let agent = agent["id"].as_str().unwrap().to_owned();
        Self { platform, dir, environment, agent, clock: None }
    }

    /// A client with the organisation's key.
    pub(crate) fn operator(&self) -> Client {
        Client::new(&self.platform.base_url(), self.platform.api_key().expose())
    }

    /// A client with the environment's key.
    pub(crate) fn worker(&self) -> Client {
        Client::new(&self.platform.base_url(), self.environment.key.expose())
    }

    /// A new session; returns its id.
    pub(crate) async fn session(&self, message: Option<&str>) -> String {
        let events: Vec<Value> = message.into_iter().map(user_message).collect();
        let session = self
            .operator()
            .post(
                "/v1/sessions",
                json!({"agent": self.agent, "environment_id": self.environment.id.as_str(),
                       "initial_events": events}),
            )
            .await
            .ok();
        session["id"].as_str().unwrap().to_owned()
    }

    /// The path of a call of the work queue.
    pub(crate) fn work(&self, rest: &str) -> String {
        format!("/v1/environments/{}/work{rest}", self.environment.id)
    }

    /// A poll by a worker that says its name.
    pub(crate) fn poll_as(&self, worker: &str, query: &str) -> http::Request<Full<bytes::Bytes>> {
        let path = self.work(&format!("/poll{query}"));
        http::Request::get(format!("{}{path}", self.platform.base_url()))
            .header("authorization", format!("Bearer {}", self.environment.key.expose()))
            .header("anthropic-worker-id", worker)
            .body(Full::default())
            .unwrap()
    }

    /// Takes the next item: polls, and acknowledges.
    pub(crate) async fn claim(&self) -> Value {
        let worker = self.worker();
        let item = worker.get(&self.work("/poll?block_ms=999")).await.ok();
        let id = item["id"].as_str().expect("nothing to claim");
        worker.post(&self.work(&format!("/{id}/ack")), json!({})).await.ok();
        item
    }

    /// A heartbeat for an item.
    pub(crate) async fn beat(&self, item: &str, expected: &str) -> Answer {
        let path = format!("/{item}/heartbeat?expected_last_heartbeat={expected}");
        self.worker().post(&self.work(&path), json!({})).await
    }

    /// Ids of the calls that the session waits for, once it waits for some.
    pub(crate) async fn awaited(&self, session: &str) -> Vec<String> {
        self.until(session, |events| {
            let idle = events.last().filter(|event| {
                event["type"] == "session.status_idle"
                    && event["stop_reason"]["type"] == "requires_action"
            })?;
            serde_json::from_value(idle["stop_reason"]["event_ids"].clone()).ok()
        })
        .await
    }

    /// Waits until the session's turn is over.
    pub(crate) async fn ended(&self, session: &str) -> Vec<Value> {
        self.until(session, |events| {
            let last = events.last()?;
            (last["stop_reason"]["type"] == "end_turn").then(|| events.to_vec())
        })
        .await
    }

    /// Looks at the session's events until `look` finds what it wants.
    pub(crate) async fn until<T>(&self, session: &str, look: impl Fn(&[Value]) -> Option<T>) -> T {
        let operator = self.operator();
        let path = format!("/v1/sessions/{session}/events");
        let wait = async {
            loop {
                let page = operator.get(&path).await.ok();
                if let Some(found) = look(page["data"].as_array().unwrap()) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the session does not come this far")
    }

    /// Sends events to a session.
    pub(crate) async fn send(&self, session: &str, events: Value) -> Answer {
        let path = format!("/v1/sessions/{session}/events");
        self.operator().post(&path, json!({"events": events})).await
    }

    /// Answers a call.
    pub(crate) async fn answer(&self, session: &str, call: &str) -> Answer {
        self.send(session, json!([tool_result(call)])).await
    }
}

pub(crate) fn user_message(text: &str) -> Value {
    json!({"type": "user.message", "content": [{"type": "text", "text": text}]})
}

pub(crate) fn tool_result(call: &str) -> Value {
    json!({"type": "user.tool_result", "tool_use_id": call, "is_error": false,
           "content": [{"type": "text", "text": "done"}]})
}

pub(crate) fn bash(commands: &[&str]) -> String {
    let calls: Vec<Value> = commands
        .iter()
        .map(|command| json!({"tool": "bash", "input": {"command": command}}))
        .collect();
    json!({"calls": calls}).to_string()
}

/// Types of events, in their order.
pub(crate) fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// An HTTP client with a credential.
#[derive(Clone)]
pub(crate) struct Client {
    http: Http<HttpConnector, Full<bytes::Bytes>>,
    base: String,
    key: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) request_id: String,
    pub(crate) body: Value,
}

impl Answer {
    /// The body of an answer that must be good.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// Checks a refusal; returns its message.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, kind: &str) -> String {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.body["type"], "error");
        assert_eq!(self.body["error"]["type"], kind, "{}", self.body);
        assert_eq!(self.body["request_id"], self.request_id);
        assert!(self.request_id.starts_with("req_"));
        self.body["error"]["message"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub(crate) fn new(base: &str, key: &str) -> Self {
        let http = Http::builder(TokioExecutor::new()).build_http();
        Self { http, base: base.to_owned(), key: key.to_owned() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, Some(body.to_string())).await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<String>) -> Answer {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.key))
            .header("content-type", "application/json")
            .body(Full::from(body.unwrap_or_default()))
            .unwrap();
        self.send(request).await
    }

    pub(crate) async fn send(&self, request: http::Request<Full<bytes::Bytes>>) -> Answer {
        let answer = tokio::time::timeout(PATIENCE, self.http.request(request)).await;
        let answer = answer.expect("no answer").unwrap();
        let status = answer.status().as_u16();
        let request_id = answer.headers()["request-id"].to_str().unwrap().to_owned();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&body)));
        Answer { status, request_id, body }
    }

    /// Opens a session's event stream.
    pub(crate) async fn stream(&self, session: &str) -> Stream {
        self.stream_with(session, "").await
    }

    pub(crate) async fn stream_with(&self, session: &str, query: &str) -> Stream {
        let url = format!("{}/v1/sessions/{session}/events/stream{query}", self.base);
        let request =
            http::Request::get(url).header("x-api-key", &self.key).body(Full::default()).unwrap();
        let answer = self.http.request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Stream { body: answer.into_body(), read: String::new() }
    }
}

/// An open event stream.
pub(crate) struct Stream {
    body: hyper::body::Incoming,
    read: String,
}

impl Stream {
    /// The next message: its name and its data. `None` once the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((message, rest)) = self.read.split_once("\n\n") {
                let field = |name: &str| {
                    let line = message.lines().find_map(|line| line.strip_prefix(name));
                    line.unwrap_or_else(|| panic!("no {name} in {message:?}")).trim().to_owned()
                };
                let message = (field("event:"), serde_json::from_str(&field("data:")).unwrap());
                self.read = rest.to_owned();
                return Some(message);
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await;
            let frame = frame.expect("nothing comes on the stream")?;
            let data = frame.unwrap().into_data().unwrap();
            self.read.push_str(std::str::from_utf8(&data).unwrap());
        }
    }
}

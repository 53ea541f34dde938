//! Sessions that a model plays: a Messages server of our own, scripted, over real HTTP.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::stream::{self, StreamExt as _};
use platform::{ModelConfig, Platform};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::oracles::{Sdk, Worker};
use crate::support::{Bench, config, types, user_message};

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Answers with a text, calls, and a reason to stop.
    Says(&'static str, Vec<(&'static str, Value)>, &'static str),
    /// Refuses it.
    Status(u16, &'static str),
    /// Begins to answer, and breaks off.
    BreaksOff,
    /// Begins to answer, and never ends.
    Hangs,
}

/// A Messages server.
#[derive(Clone)]
pub(crate) struct ModelServer {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    requests: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
    address: SocketAddr,
}

impl ModelServer {
    pub(crate) async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            replies: Arc::new(Mutex::new(replies.into())),
            requests: Arc::default(),
            address: listener.local_addr().unwrap(),
        };
        let app = Router::new().route("/v1/messages", post(answer)).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    pub(crate) fn config(&self) -> ModelConfig {
        let mut config = ModelConfig::new(format!("http://{}", self.address).parse().unwrap());
        config.key = Some(agents::Secret::new("model-key"));
        config.name = Some("played".to_owned());
        config
    }

    fn request(&self, nth: usize) -> Value {
        self.requests.lock().unwrap()[nth].1.clone()
    }

    /// Waits until so many requests have come.
    async fn requests(&self, count: usize) {
        let wait = async {
            while self.requests.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(crate::support::PATIENCE, wait).await.expect("the model is not asked");
    }
}

async fn answer(State(server): State<ModelServer>, headers: HeaderMap, body: Bytes) -> Response {
    let request = serde_json::from_slice(&body).unwrap();
    server.requests.lock().unwrap().push((headers, request));
    let reply = server.replies.lock().unwrap().pop_front().expect("one request too many");
    match reply {
        Reply::Status(status, words) => {
            let error = json!({"type": "error", "error": {"type": "x", "message": words}});
            let status = StatusCode::from_u16(status).unwrap();
            (status, [("retry-after-ms", "10")], error.to_string()).into_response()
        }
        Reply::Says(text, calls, stop) => streamed(&said(text, &calls, stop), false),
        Reply::BreaksOff => streamed(&said("half", &[], "end_turn")[..3], false),
        Reply::Hangs => streamed(&said("half", &[], "end_turn")[..3], true),
    }
}

/// The messages of an answer's stream.
fn said(text: &str, calls: &[(&str, Value)], stop: &str) -> Vec<Value> {
    let usage = json!({"input_tokens": 100, "output_tokens": 1, "cache_read_input_tokens": 7});
    let mut messages = vec![
        json!({"type": "message_start", "message": {"id": "msg_1", "role": "assistant",
               "content": [], "usage": usage}}),
        json!({"type": "content_block_start", "index": 0,
               "content_block": {"type": "text", "text": ""}}),
    ];
    let (head, tail) = text.split_at(text.len() / 2);
    for piece in [head, tail] {
        messages.push(json!({"type": "content_block_delta", "index": 0,
                             "delta": {"type": "text_delta", "text": piece}}));
    }
    messages.push(json!({"type": "content_block_stop", "index": 0}));
    for ((name, input), index) in calls.iter().zip(1..) {
        messages.push(json!({"type": "content_block_start", "index": index,
            "content_block": {"type": "tool_use", "id": "toolu_1", "name": name, "input": {}}}));
        let input = input.to_string();
        let (head, tail) = input.split_at(input.len() / 2);
        for piece in [head, tail] {
            messages.push(json!({"type": "content_block_delta", "index": index,
                "delta": {"type": "input_json_delta", "partial_json": piece}}));
        }
        messages.push(json!({"type": "content_block_stop", "index": index}));
    }
    messages.push(json!({"type": "message_delta", "delta": {"stop_reason": stop},
                         "usage": {"output_tokens": 20}}));
    messages.push(json!({"type": "message_stop"}));
    messages
}

/// Sent in pieces that keep to no boundary.
fn streamed(messages: &[Value], and_hang: bool) -> Response {
    let text: String = messages
        .iter()
        .map(|data| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap()))
        .collect();
    let pieces: Vec<Result<Bytes, Infallible>> =
        text.as_bytes().chunks(37).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let end = stream::once(async move {
        if and_hang {
            std::future::pending::<()>().await;
        }
        Ok(Bytes::new())
    });
    let body = Body::from_stream(stream::iter(pieces).chain(end));
    ([("content-type", "text/event-stream")], body).into_response()
}

/// A bench whose agent, called `played`, is played by the server.
async fn bench(server: &ModelServer) -> Bench {
    let model = Some(server.config());
    let mut bench = Bench::start_with(|config| config.model = model).await;
    let tools = json!([
        {"type": "agent_toolset_20260401",
         "configs": [{"name": "write", "permission_policy": {"type": "always_ask"}}]},
        {"type": "custom", "name": "lookup", "description": "looks up",
         "input_schema": {"type": "object"}}]);
    let agent = bench
        .operator()
        .post(
            "/v1/agents",
            json!({"name": "played", "model": "claude-x", "system": "Be brief.",
                                   "tools": tools}),
        )
        .await
        .ok();
    bench.agent = agent["id"].as_str().unwrap().to_owned();
    bench
}

#[tokio::test]
async fn a_model_calls_tools_hears_their_results_and_its_tokens_are_counted() {
    let server = ModelServer::start(vec![
        Reply::Says("Let me look.", vec![("bash", json!({"command": "ls"}))], "tool_use"),
        Reply::Says("There is a file.", vec![], "end_turn"),
    ])
    .await;
    let bench = bench(&server).await;
    let session = bench.session(Some("what is here?")).await;
    let call = bench.awaited(&session).await.remove(0);
    bench.answer(&session, &call).await.ok();
    let events = bench.ended(&session).await;
    assert_eq!(
        types(&events)[..8],
        [
            "user.message",
            "session.status_running",
            "session.thread_status_running",
            "span.model_request_start",
            "agent.message",
            "agent.tool_use",
            "span.model_request_end",
            "session.thread_status_idle",
        ]
    );
    let span = &events[6];
    assert_eq!(span["model_request_start_id"], events[3]["id"]);
    assert_eq!(span["model_usage"]["input_tokens"], 100);
    assert_eq!(span["model_usage"]["output_tokens"], 20);
    let (headers, first) = server.requests.lock().unwrap()[0].clone();
    assert_eq!(
        (&headers["x-api-key"], &first["model"]),
        (&"model-key".parse().unwrap(), &json!("played"))
    );
    assert_eq!(first["system"][0]["text"], "Be brief.");
    let names: Vec<_> =
        first["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["bash", "read", "write", "edit", "glob", "grep", "lookup"]);
    let second = server.request(1);
    assert_eq!(second["messages"][1]["content"][1]["id"], json!(call));
    assert_eq!(second["messages"][2]["content"][0]["tool_use_id"], json!(call));
    assert_eq!(second["messages"][2]["content"][0]["content"][0]["text"], "done");
    let session = bench.operator().get(&format!("/v1/sessions/{session}")).await.ok();
    assert_eq!(session["usage"]["input_tokens"], 200);
    assert_eq!(session["usage"]["cache_read_input_tokens"], 14);
}

#[tokio::test]
async fn a_call_that_a_person_denies_is_told_to_the_model() {
    let call = ("write", json!({"file_path": "a", "content": "b"}));
    let server = ModelServer::start(vec![
        Reply::Says("I will write.", vec![call, ("lookup", json!({}))], "tool_use"),
        Reply::Says("Then not.", vec![], "end_turn"),
    ])
    .await;
    let bench = bench(&server).await;
    let session = bench.session(Some("write")).await;
    let calls = bench.awaited(&session).await;
    let answers = json!([
        {"type": "user.tool_confirmation", "tool_use_id": calls[0], "result": "deny",
         "deny_message": "not today"},
        {"type": "user.custom_tool_result", "custom_tool_use_id": calls[1],
         "content": [{"type": "text", "text": "found"}]}]);
    bench.send(&session, answers).await.ok();
    bench.ended(&session).await;
    let results = server.request(1)["messages"][2]["content"].clone();
    assert_eq!(results[0]["content"][0]["text"], "not today");
    assert_eq!((&results[0]["is_error"], &results[1]["is_error"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn a_failure_that_may_pass_is_waited_for() {
    let server = ModelServer::start(vec![
        Reply::Status(529, "too much to do"),
        Reply::Status(429, "too fast"),
        Reply::BreaksOff,
        Reply::Says("Here I am.", vec![], "end_turn"),
    ])
    .await;
    let bench = bench(&server).await;
    let session = bench.session(Some("hello?")).await;
    let events = bench.ended(&session).await;
    let errors = events.iter().filter(|event| event["type"] == "session.error");
    let errors: Vec<String> = errors
        .map(|event| {
            let error = &event["error"];
            format!("{} {}", error["type"], error["retry_status"]["type"]).replace('"', "")
        })
        .collect();
    assert_eq!(
        errors,
        [
            "model_overloaded_error retrying",
            "model_rate_limited_error retrying",
            "model_request_failed_error retrying",
        ]
    );
    let rescheduled = types(&events);
    let rescheduled = rescheduled.iter().filter(|kind| **kind == "session.status_rescheduled");
    assert_eq!(rescheduled.count(), 3);
    let said = events.iter().find(|event| event["type"] == "agent.message").unwrap();
    assert_eq!(said["content"][0]["text"], "Here I am.");
}

/// The error that ends a turn.
async fn exhausted(bench: &Bench, session: &str) -> String {
    bench
        .until(session, |events| {
            let last = events.last()?;
            (last["stop_reason"]["type"] == "retries_exhausted").then_some(())?;
            let error = events.iter().find(|event| event["type"] == "session.error")?;
            assert_eq!(error["error"]["retry_status"]["type"], "exhausted");
            error["error"]["message"].as_str().map(str::to_owned)
        })
        .await
}

#[tokio::test]
async fn a_context_that_is_full_is_said_plainly() {
    let server = ModelServer::start(vec![
        Reply::Status(400, "prompt is too long: 250000 tokens > 200000 maximum"),
        Reply::Status(401, "invalid x-api-key"),
        Reply::Says("and so on and", vec![("bash", json!({"command": "rm"}))], "max_tokens"),
    ])
    .await;
    let bench = bench(&server).await;
    let session = bench.session(Some("hello")).await;
    let error = exhausted(&bench, &session).await;
    assert!(error.contains("no longer fits into the model's context"), "{error}");
    assert!(error.contains("250000 tokens"), "{error}");
    let error = exhausted(&bench, &bench.session(Some("hello")).await).await;
    assert!(error.contains("401 Unauthorized: invalid x-api-key"), "{error}");
    let error = exhausted(&bench, &bench.session(Some("hello")).await).await;
    assert!(error.contains("limit of output tokens"), "{error}");
}

#[tokio::test]
async fn an_interrupt_ends_a_request_and_the_next_message_begins_another() {
    let server =
        ModelServer::start(vec![Reply::Hangs, Reply::Says("Yes?", vec![], "end_turn")]).await;
    let bench = bench(&server).await;
    let session = bench.session(Some("think long")).await;
    server.requests(1).await;
    bench.send(&session, json!([{"type": "user.interrupt"}])).await.ok();
    let events = bench.ended(&session).await;
    assert!(types(&events).contains(&"span.model_request_end"));
    bench.send(&session, json!([user_message("hello")])).await.ok();
    let events = bench
        .until(&session, |events| {
            let said = events.iter().any(|event| event["type"] == "agent.message");
            said.then(|| events.to_vec())
        })
        .await;
    assert!(types(&events).contains(&"user.interrupt"));
    let asked = server.request(1);
    assert_eq!(asked["messages"][0]["content"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_request_that_was_under_way_is_made_again_after_a_restart() {
    let server =
        ModelServer::start(vec![Reply::Hangs, Reply::Says("Back again.", vec![], "end_turn")])
            .await;
    let mut bench = bench(&server).await;
    let session = bench.session(Some("hello")).await;
    server.requests(1).await;
    bench.platform.shutdown().await;
    let mut again = config(&bench.dir);
    again.model = Some(server.config());
    bench.platform = Platform::start(again).await.unwrap();
    let events = bench.ended(&session).await;
    assert!(types(&events).contains(&"agent.message"));
}

#[tokio::test]
async fn words_are_told_while_they_come_to_those_who_ask() {
    let server = ModelServer::start(vec![Reply::Says("Hello there.", vec![], "end_turn")]).await;
    let bench = bench(&server).await;
    let session = bench.session(None).await;
    let mut plain = bench.operator().stream(&session).await;
    let mut eager = bench.operator().stream_with(&session, "?event_deltas[]=agent.message").await;
    bench.send(&session, json!([user_message("hi")])).await.ok();
    let (mut pieces, mut start) = (String::new(), None);
    let message = loop {
        let (kind, data) = eager.next().await.unwrap();
        match kind.as_str() {
            "event_start" => start = Some(data["event"]["id"].clone()),
            "event_delta" => pieces += data["delta"]["content"]["text"].as_str().unwrap(),
            "agent.message" => break data,
            _ => {}
        }
    };
    assert_eq!(
        (start.unwrap(), json!(pieces)),
        (message["id"].clone(), message["content"][0]["text"].clone())
    );
    loop {
        let (kind, _) = plain.next().await.unwrap();
        assert!(!kind.starts_with("event_"), "{kind}");
        if kind == "agent.message" {
            break;
        }
    }
}

#[tokio::test]
async fn an_agent_that_wants_scripts_has_them_played() {
    let server = ModelServer::start(vec![]).await;
    let mut bench = bench(&server).await;
    let operator = bench.operator();
    let scripted = operator.post("/v1/agents", json!({"name": "s", "model": "scripted"})).await;
    bench.agent = scripted.ok()["id"].as_str().unwrap().to_owned();
    let session = bench.session(Some("{\"calls\": [], \"answer\": \"played\"}")).await;
    let events = bench.ended(&session).await;
    let said = events.iter().find(|event| event["type"] == "agent.message").unwrap();
    assert_eq!(said["content"][0]["text"], "played");
}

#[tokio::test]
async fn a_model_has_its_tools_run_by_an_official_worker() {
    let calls = vec![("bash", json!({"command": "echo from the worker"}))];
    let server = ModelServer::start(vec![
        Reply::Says("Let me see.", calls, "tool_use"),
        Reply::Says("Seen.", vec![], "end_turn"),
    ])
    .await;
    let bench = bench(&server).await;
    let workdir = tempfile::tempdir().unwrap();
    let worker = Worker::start(Sdk::TypeScript, &bench, workdir.path()).await;
    let session = bench.session(Some("what do you see?")).await;
    bench.ended(&session).await;
    let result = &server.request(1)["messages"][2]["content"][0];
    assert_eq!(result["content"][0]["text"], "from the worker");
    worker.stop().await;
}

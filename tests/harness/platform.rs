//! The platform's public API, as an operator's client uses it.

use crate::process::eventually;
use serde_json::{Value, json};
use ureq::Agent;

/// A client with the organisation's API key.
#[derive(Debug, Clone)]
pub struct Platform {
    pub base_url: String,
    pub api_key: String,
    pub environment_id: String,
    agent: Agent,
}

/// What came back for one call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolResult {
    pub tool: String,
    pub text: String,
    pub is_error: bool,
}

impl Platform {
    pub fn new(base_url: String, api_key: String, environment_id: String) -> Self {
        let agent = Agent::config_builder().http_status_as_error(false).build().into();
        Self { base_url, api_key, environment_id, agent }
    }

    /// One request; the status and the body, whatever they are.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = format!("{}{path}", self.base_url);
        let bearer = format!("Bearer {}", self.api_key);
        let answer = match (method, body) {
            ("GET", _) => self.agent.get(&url).header("authorization", &bearer).call(),
            ("DELETE", _) => self.agent.delete(&url).header("authorization", &bearer).call(),
            (_, Some(body)) => {
                self.agent.post(&url).header("authorization", &bearer).send_json(body)
            }
            (_, None) => self.agent.post(&url).header("authorization", &bearer).send_empty(),
        };
        let mut answer = answer.unwrap_or_else(|e| panic!("{method} {url}: {e}"));
        let status = answer.status().as_u16();
        (status, answer.body_mut().read_json().unwrap_or(Value::Null))
    }

    fn ok(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.request(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Creates an agent with the full toolset and an idle session of it.
    pub fn create_session(&self) -> String {
        let tools = json!([{ "type": "agent_toolset_20260401" }]);
        let agent = self.ok(
            "POST",
            "/v1/agents",
            Some(&json!({ "name": "e2e", "model": "scripted", "tools": tools })),
        );
        let session = json!({ "agent": agent["id"], "environment_id": self.environment_id });
        let session = self.ok("POST", "/v1/sessions", Some(&session));
        session["id"].as_str().expect("a session has an id").to_owned()
    }

    pub fn status(&self, session: &str) -> String {
        self.ok("GET", &format!("/v1/sessions/{session}"), None)["status"]
            .as_str()
            .unwrap_or("none")
            .to_owned()
    }

    /// Sends a message whose calls are played, and does not wait.
    pub fn start_turn(&self, session: &str, calls: &Value) {
        let text = json!({ "calls": calls }).to_string();
        let event =
            json!({ "type": "user.message", "content": [{ "type": "text", "text": text }] });
        self.ok(
            "POST",
            &format!("/v1/sessions/{session}/events"),
            Some(&json!({ "events": [event] })),
        );
    }

    pub fn events(&self, session: &str) -> Vec<Value> {
        let page = self.ok("GET", &format!("/v1/sessions/{session}/events?limit=1000"), None);
        page["data"].as_array().expect("a list of events").clone()
    }

    /// All results so far, in the order of their calls.
    pub fn results(&self, session: &str) -> Vec<ToolResult> {
        let events = self.events(session);
        let of = |kind: &'static str| events.iter().filter(move |event| event["type"] == kind);
        of("agent.tool_use")
            .filter_map(|call| {
                let result =
                    of("user.tool_result").find(|result| result["tool_use_id"] == call["id"])?;
                Some(ToolResult {
                    tool: call["name"].as_str().unwrap_or_default().to_owned(),
                    text: result["content"][0]["text"].as_str().unwrap_or_default().to_owned(),
                    is_error: result["is_error"] == true,
                })
            })
            .collect()
    }

    /// Plays one turn of calls to its end and returns its results.
    pub fn turn(&self, session: &str, calls: &Value) -> Vec<ToolResult> {
        let before = self.results(session).len();
        let wanted = before + calls.as_array().expect("calls are a list").len();
        self.start_turn(session, calls);
        self.finish_turn(session, wanted).split_off(before)
    }

    /// Waits until a session is idle with `wanted` results in all.
    pub fn finish_turn(&self, session: &str, wanted: usize) -> Vec<ToolResult> {
        eventually(&format!("{wanted} results in {session}"), 90, || {
            let results = self.results(session);
            (results.len() >= wanted && self.status(session) == "idle").then_some(results)
        })
    }

    /// One bash command in a turn of its own; its output.
    pub fn bash(&self, session: &str, command: &str) -> ToolResult {
        self.turn(session, &json!([{ "tool": "bash", "input": { "command": command } }])).remove(0)
    }

    /// Ends a session for good.
    pub fn archive(&self, session: &str) {
        self.ok("POST", &format!("/v1/sessions/{session}/archive"), None);
    }
}

//! The events that the emulator itself makes, in their wire form (spec 2.2).
//!
//! One function an event type. Ids and times are given by [`super::session`].

use agents::{Event, EventId, ThreadId};
use serde_json::{Map, Value, json};

use super::session::Status;

/// The status as the API names it.
pub(crate) fn status_of(status: Status) -> &'static str {
    match status {
        Status::Idle | Status::RequiresAction => "idle",
        Status::Running => "running",
        Status::Terminated => "terminated",
    }
}

/// Why a session is idle.
pub(super) enum Stop<'a> {
    /// The turn is over.
    EndTurn,
    /// These calls want a result or a confirmation.
    RequiresAction(Vec<&'a EventId>),
}

impl Stop<'_> {
    fn to_json(&self) -> Value {
        match self {
            Stop::EndTurn => json!({"type": "end_turn"}),
            Stop::RequiresAction(ids) => {
                let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
                json!({"type": "requires_action", "event_ids": ids})
            }
        }
    }
}

pub(super) fn running() -> Event {
    Event::new("session.status_running")
}

pub(super) fn idle(stop: &Stop<'_>) -> Event {
    Event::new("session.status_idle")
        .with("stop_reason", stop.to_json())
        .with("stop_details", Value::Null)
}

pub(super) fn terminated() -> Event {
    Event::new("session.status_terminated")
}

pub(super) fn deleted() -> Event {
    Event::new("session.deleted")
}

/// The same status for the session's only thread.
pub(super) fn of_thread(session: &Event, agent: &str, thread: &ThreadId) -> Option<Event> {
    let kind = match session.kind() {
        "session.status_running" => "session.thread_status_running",
        "session.status_idle" => "session.thread_status_idle",
        "session.status_terminated" => "session.thread_status_terminated",
        _ => return None,
    };
    let mut event =
        Event::new(kind).with("agent_name", agent).with("session_thread_id", thread.as_str());
    for name in ["stop_reason", "stop_details"] {
        if let Some(value) = session.get(name) {
            event.set(name, value.clone());
        }
    }
    Some(event)
}

pub(super) fn span_start() -> Event {
    Event::new("span.model_request_start")
}

/// The scripted agent spends no tokens.
pub(super) fn span_end(start: &EventId) -> Event {
    Event::new("span.model_request_end")
        .with("model_request_start_id", start.as_str())
        .with("is_error", false)
        .with(
            "model_usage",
            json!({
                "input_tokens": 0, "output_tokens": 0,
                "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            }),
        )
}

pub(super) fn agent_message(text: &str) -> Event {
    Event::new("agent.message").with("content", json!([{"type": "text", "text": text}]))
}

pub(super) fn tool_use(
    name: &str,
    input: &Map<String, Value>,
    permission: &str,
    evaluation: Option<Value>,
) -> Event {
    let event = Event::new("agent.tool_use")
        .with("name", name)
        .with("input", input.clone())
        .with("evaluated_permission", permission);
    match evaluation {
        Some(evaluation) => event.with("evaluation", evaluation),
        None => event,
    }
}

pub(super) fn custom_tool_use(name: &str, input: &Map<String, Value>) -> Event {
    Event::new("agent.custom_tool_use").with("name", name).with("input", input.clone())
}

/// What the agent is told about a call that nobody ran.
pub(super) fn rejected_call(call: &EventId, text: &str) -> Event {
    Event::new("agent.tool_result")
        .with("tool_use_id", call.as_str())
        .with("is_error", true)
        .with("content", json!([{"type": "text", "text": text}]))
}

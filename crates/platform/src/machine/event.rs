//! The events that the emulator itself makes, in their wire form (spec 2.2).
//!
//! One function an event type. Ids and times are given by [`super::session`].

use agents::{Event, EventId, ThreadId};
use serde_json::{Map, Value, json};

use super::dialogue::Usage;
use super::session::Status;

/// The status as the API names it.
pub(crate) fn status_of(status: Status) -> &'static str {
    match status {
        Status::Idle | Status::RequiresAction => "idle",
        Status::Running => "running",
        Status::Rescheduling => "rescheduling",
        Status::Terminated => "terminated",
    }
}

/// Why a session is idle.
pub(super) enum Stop<'a> {
    /// The turn is over.
    EndTurn,
    /// These calls want a result or a confirmation.
    RequiresAction(Vec<&'a EventId>),
    /// The model could not be asked.
    RetriesExhausted,
    /// The model did not want to; what it says about that.
    Refusal(&'a Value),
}

impl Stop<'_> {
    fn to_json(&self) -> Value {
        match self {
            Stop::EndTurn => json!({"type": "end_turn"}),
            Stop::RequiresAction(ids) => {
                let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
                json!({"type": "requires_action", "event_ids": ids})
            }
            Stop::RetriesExhausted => json!({"type": "retries_exhausted"}),
            Stop::Refusal(_) => json!({"type": "refusal"}),
        }
    }

    fn details(&self) -> Value {
        match self {
            Stop::EndTurn | Stop::RequiresAction(_) | Stop::RetriesExhausted => Value::Null,
            Stop::Refusal(said) => json!({
                "type": "refusal",
                "category": said.get("category").filter(|category| category.is_string()),
                "explanation": said.get("explanation").filter(|text| text.is_string()),
            }),
        }
    }
}

pub(super) fn running() -> Event {
    Event::new("session.status_running")
}

pub(super) fn idle(stop: &Stop<'_>) -> Event {
    Event::new("session.status_idle")
        .with("stop_reason", stop.to_json())
        .with("stop_details", stop.details())
}

pub(super) fn rescheduled() -> Event {
    Event::new("session.status_rescheduled")
}

/// What went wrong with the model; `retry`: what comes of it.
pub(super) fn error(kind: &str, message: &str, retry: &str) -> Event {
    let error = json!({"type": kind, "message": message, "retry_status": {"type": retry}});
    Event::new("session.error").with("error", error)
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
        "session.status_rescheduled" => "session.thread_status_rescheduled",
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

pub(super) fn span_end(start: &EventId, usage: Usage, is_error: bool) -> Event {
    Event::new("span.model_request_end")
        .with("model_request_start_id", start.as_str())
        .with("is_error", is_error)
        .with("model_usage", json!(usage))
}

pub(super) fn agent_message(texts: &[String]) -> Event {
    let blocks: Vec<Value> =
        texts.iter().map(|text| json!({"type": "text", "text": text})).collect();
    Event::new("agent.message").with("content", blocks)
}

pub(super) fn agent_thinking() -> Event {
    Event::new("agent.thinking")
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

//! Events of a session.
//!
//! An [`Event`] is its JSON object, whole; [`Event::view`] shows the members that a worker or
//! an emulator acts on. Types and members that are not known here pass through untouched.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

/// Why a JSON value is not an event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEvent {
    /// Not a JSON object.
    #[error("an event must be a JSON object")]
    NotAnObject,
    /// No `type`, or one that is not a string.
    #[error("an event must have a \"type\" that is a string")]
    NoType,
}

/// One event: a JSON object that has a `type`.
#[derive(Debug, Clone, PartialEq)]
pub struct Event(Map<String, Value>);

impl Event {
    /// An event of `kind` with no other member.
    pub fn new(kind: &str) -> Self {
        Self(Map::from_iter([("type".to_owned(), Value::from(kind))]))
    }

    /// Takes a JSON value as an event.
    ///
    /// # Errors
    /// [`NotAnEvent`] where there is no object or no `type`.
    pub fn from_value(value: Value) -> Result<Self, NotAnEvent> {
        let Value::Object(members) = value else {
            return Err(NotAnEvent::NotAnObject);
        };
        match members.get("type") {
            Some(Value::String(_)) => Ok(Self(members)),
            Some(_) | None => Err(NotAnEvent::NoType),
        }
    }

    /// This event with one more member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.set(name, value);
        self
    }

    /// Sets a member; the `type` of an event stays what it is.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        if name != "type" {
            self.0.insert(name.to_owned(), value.into());
        }
    }

    /// Its `type`.
    pub fn kind(&self) -> &str {
        self.text("type").unwrap_or_default()
    }

    /// Its `id`; only stored events have one.
    pub fn id(&self) -> Option<&str> {
        self.text("id")
    }

    /// The child thread that it belongs to.
    pub fn thread(&self) -> Option<&str> {
        self.text("session_thread_id")
    }

    /// A member, whatever it is.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A member that is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// The whole object.
    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The whole object, by value.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// The result of a tool call of the agent's toolset, as a worker sends it.
    pub fn tool_result(tool_use_id: &str, is_error: bool, content: &[TextBlock]) -> Self {
        let content: Vec<Value> =
            content.iter().map(|block| json!({"type": "text", "text": block.0})).collect();
        Self::new("user.tool_result")
            .with("tool_use_id", tool_use_id)
            .with("is_error", is_error)
            .with("content", content)
    }

    /// What a worker or an emulator acts on.
    pub fn view(&self) -> EventView<'_> {
        match self.kind() {
            "agent.tool_use" => match (self.id(), self.text("name")) {
                (Some(id), Some(name)) => EventView::ToolUse {
                    id,
                    name,
                    input: self.get("input").unwrap_or(&Value::Null),
                    permission: Permission::of(self.get("evaluated_permission")),
                },
                _ => EventView::Other,
            },
            "agent.custom_tool_use" => self.id().map_or(EventView::Other, EventView::CustomToolUse),
            "user.tool_result" => {
                self.text("tool_use_id").map_or(EventView::Other, EventView::ToolResult)
            }
            "user.custom_tool_result" => {
                self.text("custom_tool_use_id").map_or(EventView::Other, EventView::ToolResult)
            }
            "user.tool_confirmation" => match self.text("tool_use_id") {
                Some(call) => EventView::Confirmation {
                    call,
                    verdict: if self.text("result") == Some("allow") {
                        Verdict::Allow
                    } else {
                        Verdict::Deny
                    },
                },
                None => EventView::Other,
            },
            "session.status_idle" => EventView::Idle(StopReason::of(self.get("stop_reason"))),
            "session.status_terminated" | "session.deleted" => EventView::SessionEnded,
            "session.thread_status_terminated" => {
                self.thread().map_or(EventView::Other, EventView::ThreadEnded)
            }
            _ => EventView::Other,
        }
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_value(value).map_err(serde::de::Error::custom)
    }
}

/// A text block of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextBlock(pub String);

/// What of an event is acted on.
#[derive(Debug, Clone, PartialEq)]
pub enum EventView<'a> {
    /// `agent.tool_use`: a call of the toolset that a worker runs.
    ToolUse {
        /// Id of the event, which is the id of the call.
        id: &'a str,
        /// `bash`, `read`, …
        name: &'a str,
        /// The tool's input as the model gave it.
        input: &'a Value,
        /// Whether it may run.
        permission: Permission,
    },
    /// `agent.custom_tool_use`, by its id.
    CustomToolUse(&'a str),
    /// `user.tool_result` or `user.custom_tool_result`, by the id of the call that it answers.
    ToolResult(&'a str),
    /// `user.tool_confirmation`.
    Confirmation {
        /// The call in question.
        call: &'a str,
        /// What was decided.
        verdict: Verdict,
    },
    /// `session.status_idle`.
    Idle(StopReason),
    /// `session.status_terminated` or `session.deleted`.
    SessionEnded,
    /// `session.thread_status_terminated`, by the thread's id.
    ThreadEnded(&'a str),
    /// Everything else, whatever the platform will invent included.
    Other,
}

/// `evaluated_permission` of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Run it; also where the member is absent.
    Allow,
    /// Wait for a confirmation; also for a value that is not known.
    Ask,
    /// Never run it.
    Deny,
}

impl Permission {
    fn of(value: Option<&Value>) -> Self {
        match value {
            None | Some(Value::Null) => Self::Allow,
            Some(Value::String(text)) if text == "allow" => Self::Allow,
            Some(Value::String(text)) if text == "deny" => Self::Deny,
            Some(_) => Self::Ask,
        }
    }
}

/// `result` of a confirmation; all but `allow` is a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The call may run.
    Allow,
    /// It may not.
    Deny,
}

/// Why a session went idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Results or confirmations are wanted: the turn is still open.
    RequiresAction,
    /// Every other reason, unknown ones included: the turn is over.
    TurnEnded,
}

impl StopReason {
    fn of(value: Option<&Value>) -> Self {
        match value.and_then(|reason| reason.get("type")).and_then(Value::as_str) {
            Some("requires_action") => Self::RequiresAction,
            Some(_) | None => Self::TurnEnded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(value: Value) -> Event {
        Event::from_value(value).unwrap()
    }

    #[test]
    fn an_unknown_event_passes_through_whole() {
        let value =
            json!({"type": "moon.phase", "id": "sevt_1", "processed_at": null, "x": {"y": [1]}});
        let parsed: Event = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(parsed.view(), EventView::Other);
        assert_eq!(serde_json::to_value(&parsed).unwrap(), value);
    }

    #[test]
    fn what_has_no_type_is_no_event() {
        assert_eq!(Event::from_value(json!([])), Err(NotAnEvent::NotAnObject));
        assert_eq!(Event::from_value(json!({"type": 3})), Err(NotAnEvent::NoType));
    }

    #[test]
    fn a_permission_that_is_not_known_waits_for_a_confirmation() {
        for (given, expected) in [
            (json!({}), Permission::Allow),
            (json!({"evaluated_permission": "allow"}), Permission::Allow),
            (json!({"evaluated_permission": "deny"}), Permission::Deny),
            (json!({"evaluated_permission": "ask"}), Permission::Ask),
            (json!({"evaluated_permission": "maybe"}), Permission::Ask),
        ] {
            let mut call = event(json!({"type": "agent.tool_use", "id": "s", "name": "bash"}));
            for (name, value) in given.as_object().unwrap() {
                call.set(name, value.clone());
            }
            let EventView::ToolUse { permission, .. } = call.view() else { panic!("{call:?}") };
            assert_eq!(permission, expected);
        }
    }

    #[test]
    fn only_requires_action_leaves_the_turn_open() {
        let idle =
            |reason| event(json!({"type": "session.status_idle", "stop_reason": {"type": reason}}));
        assert_eq!(idle("requires_action").view(), EventView::Idle(StopReason::RequiresAction));
        assert_eq!(idle("end_turn").view(), EventView::Idle(StopReason::TurnEnded));
        assert_eq!(idle("from_the_future").view(), EventView::Idle(StopReason::TurnEnded));
    }
}

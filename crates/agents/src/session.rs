//! A session as the platform describes it, and the pages that lists come in.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::SessionId;

/// Where a session stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    /// A transient error is being retried.
    Rescheduling,
    /// The agent is at work, or waits for results.
    Running,
    /// Nothing to do until there is input.
    Idle,
    /// Over for good.
    Terminated,
    /// A status that this version does not know.
    #[serde(untagged)]
    Other(String),
}

/// A session. What Warren does not read is in `rest` and goes out again as it came in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// `sesn_…`.
    pub id: SessionId,
    /// Where it stands.
    pub status: SessionStatus,
    /// The agent, as resolved when the session was created.
    pub agent: SessionAgent,
    /// Memory stores and the like, in their wire form.
    #[serde(default)]
    pub resources: Vec<Value>,
    /// All other members, `type` among them.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The agent of a session.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SessionAgent {
    /// Skills that belong into the session's work directory.
    #[serde(default)]
    pub skills: Vec<SkillRef>,
    /// All other members.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// One skill of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillRef {
    /// `anthropic` or `custom`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The skill.
    pub skill_id: String,
    /// A version, or `latest`.
    pub version: String,
}

/// A page of a list; the next one is asked for with `page = next_page`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The page's entries.
    pub data: Vec<T>,
    /// Cursor of the next page; `None` or empty at the end.
    #[serde(default)]
    pub next_page: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_keeps_members_and_statuses_it_does_not_know() {
        let text = serde_json::json!({
            "type": "session", "id": "sesn_1", "status": "hibernating", "resources": [],
            "agent": {"id": "agent_1", "skills": [], "new": 1}, "budget": {"x": [1]}
        });
        let session: Session = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(session.status, SessionStatus::Other("hibernating".into()));
        assert_eq!(serde_json::to_value(&session).unwrap(), text);
    }
}

//! Work items: a worker's claim on a session.
//!
//! An item is a claim on a session, not on a turn. It is queued, handed out by a poll, taken
//! by an ack (`starting`), kept by heartbeats (`active`) and given back by a stop.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::{EnvironmentId, SessionId, WorkId};

/// What the first heartbeat of an item expects; each later one expects the last answer's value.
pub const NO_HEARTBEAT: &str = "NO_HEARTBEAT";

/// Where a work item stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkState {
    /// Waiting, or handed out and not yet acknowledged.
    Queued,
    /// Acknowledged, no heartbeat yet.
    Starting,
    /// Held by a lease that heartbeats extend.
    Active,
    /// Its worker is asked to end.
    Stopping,
    /// Over.
    Stopped,
    /// A state that this version does not know.
    #[serde(untagged)]
    Other(String),
}

/// What an item is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum WorkData {
    /// A session wants a worker.
    Session {
        /// The session.
        id: SessionId,
    },
    /// The platform looks whether anybody is there.
    Healthcheck {
        /// An id without further meaning.
        id: String,
    },
    /// A kind that this version does not know, in its wire form.
    #[serde(untagged)]
    Other(Map<String, Value>),
}

/// A work item. Times are RFC 3339, `None` until they have come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkItem {
    /// `work_…`.
    pub id: WorkId,
    /// Its environment.
    pub environment_id: EnvironmentId,
    /// Where it stands.
    pub state: WorkState,
    /// What it is about.
    pub data: WorkData,
    /// See [`crate::WorkSecret`]; only in the answer of a poll.
    #[serde(default)]
    pub secret: Option<String>,
    /// When it was queued.
    #[serde(default)]
    pub created_at: Option<String>,
    /// When it was acknowledged.
    #[serde(default)]
    pub acknowledged_at: Option<String>,
    /// When its first heartbeat came.
    #[serde(default)]
    pub started_at: Option<String>,
    /// When its latest heartbeat came.
    #[serde(default)]
    pub latest_heartbeat_at: Option<String>,
    /// When it was asked to end.
    #[serde(default)]
    pub stop_requested_at: Option<String>,
    /// When it ended.
    #[serde(default)]
    pub stopped_at: Option<String>,
    /// All other members, `type` and `metadata` among them.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl WorkItem {
    /// The session that the item is about, if it is about one.
    pub fn session(&self) -> Option<&SessionId> {
        match &self.data {
            WorkData::Session { id } => Some(id),
            WorkData::Healthcheck { .. } | WorkData::Other(_) => None,
        }
    }
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// What the next heartbeat has to expect, verbatim.
    pub last_heartbeat: String,
    /// Whether the lease goes on.
    pub lease_extended: bool,
    /// Where the item stands now.
    pub state: WorkState,
    /// How long the lease lasts from now, in seconds.
    pub ttl_seconds: u64,
    /// All other members, `type` among them.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// How an item is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopWork {
    /// Its worker hears of it at the next heartbeat.
    Ask,
    /// At once; what a worker does with its own item.
    Force,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_of_an_unknown_kind_and_state_is_kept_whole() {
        let text = serde_json::json!({
            "type": "work", "id": "work_1", "environment_id": "env_1", "state": "paused",
            "data": {"type": "rehearsal", "id": "x"}, "secret": null, "metadata": {"a": "b"},
            "created_at": "2026-11-23T00:00:00Z", "acknowledged_at": null, "started_at": null,
            "latest_heartbeat_at": null, "stop_requested_at": null, "stopped_at": null
        });
        let item: WorkItem = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(item.session(), None);
        assert_eq!(serde_json::to_value(&item).unwrap(), text);
    }

    #[test]
    fn a_session_item_names_its_session() {
        let item: WorkItem = serde_json::from_value(serde_json::json!({
            "id": "work_1", "environment_id": "env_1", "state": "queued",
            "data": {"type": "session", "id": "sesn_1"}
        }))
        .unwrap();
        assert_eq!(item.session().map(SessionId::as_str), Some("sesn_1"));
    }
}

//! The emulator behind its HTTP surface: rows, rules, and who has to hear of a change.
//!
//! Every operation reads top to bottom: take the writer's place, load, ask the state machine,
//! store what it says, commit, tell. One module a resource; the rules are in [`crate::machine`].

mod agents;
mod bells;
mod caller;
mod environments;
mod sessions;
mod work;

use std::sync::Arc;
use std::time::Duration;

use ::agents::{Event, SessionId};
use serde_json::{Value, json};
use tokio::sync::Notify;

pub(crate) use bells::{Bells, Listeners};
pub(crate) use caller::Caller;
pub(crate) use sessions::NewSession;
pub(crate) use work::PollRequest;

use crate::clock::{Clock, Timestamp};
use crate::fault::Fault;
use crate::ids::{HookId, Mint as _};
use crate::keys::TokenKey;
use crate::machine::{Hook, Lease};
use crate::store::{Change, DeliveryRow, EndpointRow, Store};

/// When a session's first work item is queued (spec 6.2: the real moment is not known).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueRule {
    /// When it first has something to do.
    OnFirstRun,
    /// When it is created.
    OnCreation,
}

/// Rules that an operator may choose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) lease: Lease,
    /// How long the agent thinks before each step.
    pub(crate) think: Duration,
    pub(crate) queue: QueueRule,
}

/// Who the platform says that it works for.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) organization: String,
    pub(crate) workspace: String,
}

/// All that the emulator is made of.
#[derive(Debug)]
pub(crate) struct Emulator {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rules: Rules,
    pub(crate) identity: Identity,
    pub(crate) token_key: TokenKey,
    /// Who listens to the events of which session.
    pub(crate) listeners: Listeners,
    /// Who waits for work in which environment.
    pub(crate) bells: Bells,
    /// Rung when an agent's next step may have come nearer.
    pub(crate) steps: Notify,
    /// Rung when there is something to deliver.
    pub(crate) deliveries: Notify,
}

/// What is to be told once a change is committed.
#[derive(Debug, Default)]
struct Aftermath {
    events: Vec<Event>,
    work_for: Option<::agents::EnvironmentId>,
    hooks: bool,
}

impl Emulator {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Puts an event on its way to the endpoints that want it.
    async fn hook(
        &self,
        change: &mut Change<'_>,
        hook: Hook,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<(), Fault> {
        let id = HookId::mint();
        let body = json!({
            "type": "event",
            "id": id.as_str(),
            "created_at": now.to_string(),
            "data": {
                "type": hook.name(),
                "id": session.as_str(),
                "organization_id": self.identity.organization,
                "workspace_id": self.identity.workspace,
            },
        });
        for endpoint in EndpointRow::all(change.rows()).await? {
            let wanted = endpoint.types.iter().any(|kind| kind == hook.name());
            if wanted && endpoint.disabled_reason.is_none() {
                DeliveryRow::insert(change.rows(), &endpoint.id, &id, &body, now).await?;
            }
        }
        Ok(())
    }

    /// Commits a change of a session and tells it, in this order and before anybody else writes.
    async fn commit(
        &self,
        change: Change<'_>,
        session: &SessionId,
        aftermath: Aftermath,
    ) -> Result<(), Fault> {
        let _place = change.commit().await?;
        for event in aftermath.events {
            self.listeners.tell(session, event);
        }
        if let Some(environment) = &aftermath.work_for {
            self.bells.ring(environment);
        }
        if aftermath.hooks {
            self.deliveries.notify_one();
        }
        self.steps.notify_one();
        Ok(())
    }
}

/// Merges a metadata patch: a string sets, null removes. The bounds are the API's (spec 1.2).
pub(crate) fn patch_metadata(
    metadata: &mut serde_json::Map<String, Value>,
    patch: serde_json::Map<String, Value>,
) -> Result<(), Fault> {
    const PAIRS_MAX: usize = 16;
    const KEY_CHARS_MAX: usize = 64;
    const VALUE_CHARS_MAX: usize = 512;
    for (key, value) in patch {
        match value {
            Value::Null => {
                metadata.remove(&key);
            }
            Value::String(text)
                if (1..=KEY_CHARS_MAX).contains(&key.chars().count())
                    && text.chars().count() <= VALUE_CHARS_MAX =>
            {
                metadata.insert(key, Value::String(text));
            }
            Value::String(_) => {
                return Err(Fault::Invalid {
                    message: format!(
                        "metadata.{key}: keys have 1 to {KEY_CHARS_MAX} characters, \
                         values at most {VALUE_CHARS_MAX}"
                    ),
                    code: Some("invalid_metadata"),
                });
            }
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                return Err(Fault::Invalid {
                    message: format!("metadata.{key}: must be a string"),
                    code: Some("invalid_metadata"),
                });
            }
        }
    }
    if metadata.len() > PAIRS_MAX {
        let message = format!("metadata: at most {PAIRS_MAX} pairs, these are {}", metadata.len());
        return Err(Fault::Invalid { message, code: Some("invalid_metadata") });
    }
    Ok(())
}

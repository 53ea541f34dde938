//! The emulator behind its HTTP surface: rows, rules, and who has to hear of a change.
//!
//! Every operation reads top to bottom: take the writer's place, load, ask the state machine,
//! store what it says, commit, tell. One module a resource; the rules are in [`crate::machine`].

mod agents;
mod bells;
mod caller;
mod deployments;
mod endpoints;
mod environments;
mod memory;
mod minds;
mod resources;
mod sessions;
mod work;

use std::sync::Arc;
use std::time::Duration;

use ::agents::{Event, SessionId};
use serde_json::{Value, json};
use tokio::sync::Notify;

pub(crate) use bells::{Bells, Listeners};
pub(crate) use caller::Caller;
pub(crate) use deployments::{DeploymentDraft, Trigger, show as show_deployment};
pub use endpoints::OldSecret;
pub(crate) use endpoints::{EndpointChange, checked_url};
pub(crate) use memory::{MemoryChange, NewMemory, below};
pub(crate) use resources::Place;
pub(crate) use sessions::{Attachment, NewSession};
pub(crate) use work::PollRequest;

use crate::clock::{Clock, Timestamp};
use crate::fault::Fault;
use crate::ids::{HookId, Mint as _};
use crate::keys::TokenKey;
use crate::machine::{Lease, Mind};
use crate::mishaps::Dice;
use crate::store::{
    self, Change, Conditions, DeliveryRow, EndpointRow, Listed, Page, Slice, Store,
};

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
    /// Who plays the agents, but for those that ask for scripts.
    pub(crate) mind: Mind,
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
    /// What goes wrong on purpose.
    pub(crate) dice: Dice,
    /// Who listens to the events of which session.
    pub(crate) listeners: Listeners,
    /// Who waits for work in which environment.
    pub(crate) bells: Bells,
    /// Rung when an agent's next step may have come nearer.
    pub(crate) steps: Notify,
    /// Rung when a model may have to be asked, or need not be any more.
    pub(crate) thoughts: Notify,
    /// Rung when there is something to deliver.
    pub(crate) deliveries: Notify,
    /// Rung when something may be due earlier than it was.
    pub(crate) due: Notify,
}

/// What webhook endpoints are told.
#[derive(Debug, Clone, Copy)]
struct News<'a> {
    /// `session.created`, …
    kind: &'a str,
    /// What it is about, by its id.
    subject: &'a str,
    /// The vault of a credential.
    vault: Option<&'a str>,
}

impl<'a> News<'a> {
    fn of(kind: &'a str, subject: &'a str) -> Self {
        Self { kind, subject, vault: None }
    }
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

    /// A page of a list.
    pub(crate) async fn list<T: Listed>(
        &self,
        conditions: &Conditions,
        slice: Slice,
    ) -> Result<Page<T>, Fault> {
        let mut rows = self.store.read().await?;
        Ok(store::list(&mut rows, conditions, slice).await?)
    }

    /// All of a list that is bounded by what it is, oldest first.
    pub(crate) async fn all<T: Listed>(&self, conditions: &Conditions) -> Result<Vec<T>, Fault> {
        let mut rows = self.store.read().await?;
        Ok(store::all(&mut rows, conditions).await?)
    }

    /// Puts news on its way to the endpoints that want it.
    async fn tell(&self, change: &mut Change<'_>, news: News<'_>) -> Result<(), Fault> {
        let now = self.now();
        let id = HookId::mint();
        let mut body = json!({
            "type": "event",
            "id": id.as_str(),
            "created_at": now.to_string(),
            "data": {
                "type": news.kind,
                "id": news.subject,
                "organization_id": self.identity.organization,
                "workspace_id": self.identity.workspace,
            },
        });
        if let Some(vault) = news.vault {
            body["data"]["vault_id"] = json!(vault);
        }
        for endpoint in EndpointRow::all(change.rows()).await? {
            if endpoint.is_enabled() && endpoint.types.iter().any(|kind| kind == news.kind) {
                let fate = self.dice.webhook();
                let due = (fate.copies > 0).then(|| now.plus(fate.delay));
                for _ in 0..fate.copies.max(1) {
                    DeliveryRow::insert(change.rows(), &endpoint.id, &body, now, due).await?;
                }
            }
        }
        Ok(())
    }

    /// Commits a change that no session is concerned with, and has its news delivered.
    async fn finish(&self, change: Change<'_>) -> Result<(), Fault> {
        change.commit().await?;
        self.deliveries.notify_one();
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
        self.thoughts.notify_one();
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

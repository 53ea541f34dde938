//! Sessions: made, told things, stepped on, ended.

use std::sync::Arc;

use agents::{EnvironmentId, Event, EventId, SessionId, WorkId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;

use super::environments::archived;
use super::{Aftermath, Caller, Emulator, News, Place, QueueRule, patch_metadata, resources};
use crate::clock::Timestamp;
use crate::fault::Fault;
use crate::ids::{AgentId, Mint as _};
use crate::keys;
use crate::machine::{Effect, Hook, Session, Surroundings, Tools, UserEvent, Work};
use crate::store::{
    AgentRow, Change, Credential, EnvironmentRow, EventRow, Kind, SessionBody, SessionRow, Subject,
    WorkRow,
};

/// What a session is made of, checked for its shape.
#[derive(Debug)]
pub(crate) struct NewSession {
    pub(crate) agent: AgentId,
    pub(crate) agent_version: Option<i64>,
    /// Members that replace the agent's own.
    pub(crate) overrides: Map<String, Value>,
    pub(crate) environment: EnvironmentId,
    pub(crate) body: SessionBody,
    /// Memory stores that its worker mounts.
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) initial_events: Vec<UserEvent>,
    /// The deployment that makes it.
    pub(crate) deployment: Option<String>,
}

/// A memory store, and how a session uses it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) store: String,
    pub(crate) access: String,
    pub(crate) instructions: Option<String>,
}

impl Emulator {
    /// Makes a session, and tells it its first events.
    pub(crate) async fn create_session(&self, new: NewSession) -> Result<SessionRow, Fault> {
        let now = self.now();
        let mut change = self.store.change().await?;
        let agent = usable_agent(&mut change, &new).await?;
        let found = EnvironmentRow::find(change.rows(), &new.environment).await?;
        let environment = found.ok_or_else(|| Fault::not_found("environment", &new.environment))?;
        if environment.archived_at.is_some() {
            return Err(archived(&environment.id));
        }
        let name = agent.body["name"].as_str().unwrap_or_default().to_owned();
        let mut body = new.body;
        body.resources = attach(&mut change, &new.attachments).await?;
        check_vaults(&mut change, &body.vault_ids).await?;
        let mut session = SessionRow {
            seq: 0,
            id: SessionId::mint(),
            environment: environment.id,
            agent_version: agent.version,
            agent: snapshot(&agent, new.overrides),
            agent_id: agent.id,
            body,
            deployment: new.deployment,
            state: Session::new(name),
            created_at: now,
            updated_at: now,
            archived_at: None,
        };
        session.insert(change.rows()).await?;
        let mut effects = vec![Effect::Tell(Hook::Created)];
        if self.rules.queue == QueueRule::OnCreation {
            effects.push(Effect::NeedWorker);
        }
        for event in new.initial_events {
            effects.extend(self.say(&mut session, event, now)?);
        }
        let aftermath = self.apply(&mut change, &mut session, effects, now).await?;
        self.commit(change, &session.id, aftermath).await?;
        Ok(session)
    }

    /// A session that the caller may see.
    pub(crate) async fn session(
        &self,
        caller: &Caller,
        id: &SessionId,
    ) -> Result<SessionRow, Fault> {
        let mut rows = self.store.read().await?;
        let found = SessionRow::find(&mut rows, id).await?;
        let session = found.ok_or_else(|| Fault::not_found("session", id))?;
        caller.may_use(&session)?;
        Ok(session)
    }

    /// Says things to a session, all of them or none; returns them as they are stored.
    pub(crate) async fn send(
        &self,
        caller: &Caller,
        id: &SessionId,
        events: Vec<UserEvent>,
    ) -> Result<Vec<Event>, Fault> {
        let now = self.now();
        let mut change = self.store.change().await?;
        let mut session = find(&mut change, id).await?;
        caller.may_use(&session)?;
        let mut effects = Vec::new();
        let mut said = Vec::new();
        for event in events {
            let consequences = self.say(&mut session, event, now)?;
            if let Some(Effect::Store { id, .. }) = consequences.first() {
                said.push(id.clone());
            }
            effects.extend(consequences);
        }
        let aftermath = self.apply(&mut change, &mut session, effects, now).await?;
        let stored = stored(&mut change, id, &said).await?;
        self.commit(change, id, aftermath).await?;
        Ok(stored)
    }

    /// Plays the agent's next step in a session, if it is due.
    pub(crate) async fn step(&self, id: &SessionId) -> Result<(), Fault> {
        let now = self.now();
        let mut change = self.store.change().await?;
        let Some(mut session) = SessionRow::find(change.rows(), id).await? else {
            return Ok(());
        };
        let SessionRow { agent, state, .. } = &mut session;
        let effects = state.step(self.surroundings(agent, now));
        let aftermath = self.apply(&mut change, &mut session, effects, now).await?;
        self.commit(change, id, aftermath).await
    }

    /// Which session's agent is to be stepped on next, and when.
    pub(crate) async fn next_step(&self) -> Result<Option<(SessionId, Timestamp)>, Fault> {
        let mut rows = self.store.read().await?;
        Ok(SessionRow::next_step(&mut rows).await?)
    }

    /// Changes title, metadata and the agent's tools and servers; `session.updated` tells what.
    pub(crate) async fn update_session(
        &self,
        id: &SessionId,
        title: Option<Option<String>>,
        metadata: Map<String, Value>,
        agent: Map<String, Value>,
    ) -> Result<SessionRow, Fault> {
        let now = self.now();
        let mut change = self.store.change().await?;
        let mut session = find(&mut change, id).await?;
        if session.archived_at.is_some() {
            let message = format!("session {id} is archived");
            return Err(Fault::Invalid { message, code: None });
        }
        if session.state.is_at_work() && !agent.is_empty() {
            return Err(Fault::Conflict("agent: the session is running".into()));
        }
        let mut event = Event::new("session.updated");
        if let Some(title) = title.filter(|title| *title != session.body.title) {
            event.set("title", title.clone());
            session.body.title = title;
        }
        let before = session.body.metadata.clone();
        patch_metadata(&mut session.body.metadata, metadata)?;
        if session.body.metadata != before {
            event.set("metadata", session.body.metadata.clone());
        }
        if let (false, Value::Object(stored)) = (agent.is_empty(), &mut session.agent) {
            stored.extend(agent);
            event.set("agent", session.agent.clone());
        }
        let mut effects = Vec::new();
        if event.members().len() > 1 {
            effects.push(Effect::Store { id: EventId::mint(), processed_at: Some(now), event });
            effects.push(Effect::Tell(Hook::Updated));
        }
        let aftermath = self.apply(&mut change, &mut session, effects, now).await?;
        self.commit(change, id, aftermath).await?;
        Ok(session)
    }

    /// Ends a session and keeps it to be looked at.
    pub(crate) async fn archive_session(&self, id: &SessionId) -> Result<SessionRow, Fault> {
        let now = self.now();
        let mut change = self.store.change().await?;
        let mut session = find(&mut change, id).await?;
        if session.archived_at.is_some() {
            return Ok(session);
        }
        let effects = session.state.archive(now)?;
        session.archived_at = Some(now);
        self.drop_unclaimed_work(&mut change, id, now).await?;
        let aftermath = self.apply(&mut change, &mut session, effects, now).await?;
        self.commit(change, id, aftermath).await?;
        Ok(session)
    }

    /// Removes a session; its worker learns it from the stream, or from its next heartbeat.
    pub(crate) async fn delete_session(&self, id: &SessionId) -> Result<(), Fault> {
        let now = self.now();
        let mut change = self.store.change().await?;
        let mut session = find(&mut change, id).await?;
        let effects = session.state.delete(now)?;
        let aftermath = self.apply(&mut change, &mut session, effects, now).await?;
        if let Some(mut item) = WorkRow::live(change.rows(), id).await?
            && item.work.stop_by_force(now).is_ok()
        {
            item.save(change.rows()).await?;
        }
        SessionRow::delete(change.rows(), id).await?;
        self.commit(change, id, aftermath).await
    }

    /// Hears a session's events from now on.
    pub(crate) async fn listen(
        &self,
        caller: &Caller,
        id: &SessionId,
    ) -> Result<broadcast::Receiver<Arc<Event>>, Fault> {
        let receiver = self.listeners.listen(id);
        self.session(caller, id).await?;
        Ok(receiver)
    }

    pub(super) fn surroundings<'a>(&self, agent: &'a Value, now: Timestamp) -> Surroundings<'a> {
        Surroundings {
            now,
            think: self.rules.think,
            tools: Tools::of(agent),
            mind: self.mind(agent),
        }
    }

    fn say(
        &self,
        session: &mut SessionRow,
        event: UserEvent,
        now: Timestamp,
    ) -> Result<Vec<Effect>, Fault> {
        let SessionRow { agent, state, .. } = session;
        Ok(state.send(event, self.surroundings(agent, now))?)
    }

    /// Stores what follows from a change of a session.
    pub(super) async fn apply(
        &self,
        change: &mut Change<'_>,
        session: &mut SessionRow,
        effects: Vec<Effect>,
        now: Timestamp,
    ) -> Result<Aftermath, Fault> {
        let mut aftermath = Aftermath::default();
        session.updated_at = now;
        session.save(change.rows()).await?;
        for effect in effects {
            match effect {
                Effect::Store { id, processed_at, event } => {
                    let event =
                        EventRow::insert(change.rows(), &session.id, &id, processed_at, &event)
                            .await?;
                    if processed_at.is_some() {
                        aftermath.events.push(event);
                    }
                }
                Effect::Process { id, at } => {
                    aftermath.events.push(EventRow::process(change.rows(), &id, at).await?);
                }
                Effect::Tell(hook) => {
                    self.tell(change, News::of(hook.name(), session.id.as_str())).await?;
                    aftermath.hooks = true;
                }
                Effect::NeedWorker => {
                    if self.queue_work(change, session, now).await? {
                        aftermath.work_for = Some(session.environment.clone());
                    }
                }
            }
        }
        Ok(aftermath)
    }

    /// Queues a work item unless the session has a live one. True if it did.
    async fn queue_work(
        &self,
        change: &mut Change<'_>,
        session: &SessionRow,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        if let Some(mut item) = WorkRow::live(change.rows(), &session.id).await? {
            if !item.work.settle(now) {
                return Ok(false);
            }
            item.save(change.rows()).await?;
            if item.work.is_live() {
                return Ok(true);
            }
        }
        let item = WorkRow {
            seq: 0,
            id: WorkId::mint(),
            environment: session.environment.clone(),
            session: session.id.clone(),
            work: Work::queued(),
            metadata: Map::new(),
            created_at: now,
        };
        item.insert(change.rows()).await?;
        let subject = Subject::Session {
            environment: session.environment.clone(),
            session: session.id.clone(),
            work: item.id.clone(),
        };
        let hash = keys::hash(self.token_key.session_token(&item.id).expose());
        Credential { hash, subject }.insert(change.rows(), now).await?;
        Ok(true)
    }

    /// An item that nobody has taken would only bring a worker to a session that is over.
    async fn drop_unclaimed_work(
        &self,
        change: &mut Change<'_>,
        session: &SessionId,
        now: Timestamp,
    ) -> Result<(), Fault> {
        if let Some(mut item) = WorkRow::live(change.rows(), session).await?
            && item.work.is_unclaimed()
            && item.work.stop_by_force(now).is_ok()
        {
            item.save(change.rows()).await?;
        }
        Ok(())
    }
}

async fn find(change: &mut Change<'_>, id: &SessionId) -> Result<SessionRow, Fault> {
    let found = SessionRow::find(change.rows(), id).await?;
    found.ok_or_else(|| Fault::not_found("session", id))
}

/// The stores as the session shows them: named and placed as they are now.
async fn attach(change: &mut Change<'_>, attachments: &[Attachment]) -> Result<Vec<Value>, Fault> {
    let mut resources: Vec<Value> = Vec::with_capacity(attachments.len());
    for attachment in attachments {
        let place = Place::of(Kind::MemoryStore, &attachment.store);
        let store = resources::find(change, place).await?;
        if store.archived_at.is_some() {
            return Err(Fault::Invalid {
                message: format!("resources: memory store {} is archived", store.id),
                code: Some("memory_store_archived"),
            });
        }
        let mut mount_path = format!("/mnt/memory/{}", slug(store.text("name")));
        if resources.iter().any(|other| other["mount_path"] == *mount_path) {
            mount_path = format!("{mount_path}-{}", resources.len() + 1);
        }
        resources.push(json!({
            "type": "memory_store",
            "memory_store_id": store.id,
            "name": store.text("name"),
            "description": store.text("description"),
            "access": attachment.access,
            "instructions": attachment.instructions,
            "mount_path": mount_path,
        }));
    }
    Ok(resources)
}

/// A name as part of a path, the way the platform makes it.
fn slug(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.collect::<Vec<_>>().join("-");
    if slug.is_empty() { "store".to_owned() } else { slug }
}

async fn check_vaults(change: &mut Change<'_>, ids: &[String]) -> Result<(), Fault> {
    for id in ids {
        if resources::find(change, Place::of(Kind::Vault, id)).await?.archived_at.is_some() {
            return Err(Fault::Invalid {
                message: format!("vault_ids: vault {id} is archived"),
                code: Some("vault_archived"),
            });
        }
    }
    Ok(())
}

async fn usable_agent(change: &mut Change<'_>, new: &NewSession) -> Result<AgentRow, Fault> {
    let found = AgentRow::find(change.rows(), &new.agent, new.agent_version).await?;
    let agent = found.ok_or_else(|| Fault::not_found("agent", &new.agent))?;
    if agent.archived_at.is_some() {
        let message = format!("agent: {} is archived", agent.id);
        return Err(Fault::Invalid { message, code: Some("agent_archived") });
    }
    Ok(agent)
}

/// The agent as a session keeps it (spec 2.1): without metadata and times.
fn snapshot(agent: &AgentRow, overrides: Map<String, Value>) -> Value {
    let mut snapshot = agent.body.clone();
    if let Value::Object(members) = &mut snapshot {
        members.remove("metadata");
        members.insert("id".into(), agent.id.as_str().into());
        members.insert("type".into(), "agent".into());
        members.insert("version".into(), agent.version.into());
        members.extend(overrides);
    }
    snapshot
}

/// These events as they are stored by now.
async fn stored(
    change: &mut Change<'_>,
    session: &SessionId,
    ids: &[EventId],
) -> Result<Vec<Event>, Fault> {
    let mut events = Vec::with_capacity(ids.len());
    for id in ids {
        events.extend(EventRow::find(change.rows(), session, id).await?.map(|row| row.event));
    }
    Ok(events)
}

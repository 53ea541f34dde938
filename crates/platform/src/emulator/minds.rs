//! What a session's model is asked, and what comes of it.

use std::collections::HashMap;

use agents::{Event, EventId, SessionId};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Emulator, Place};
use crate::fault::Fault;
use crate::machine::{Answer, Failure, Mind};
use crate::model::{Caller, Delta, Note, Prompt, file_ids};
use crate::store::{EventRow, Kind, SessionRow};

/// The model of agents that play scripts whatever the emulator has.
const SCRIPTED: &str = "scripted";

impl Emulator {
    /// Who decides what an agent does.
    pub(super) fn mind(&self, agent: &Value) -> Mind {
        if self.rules.mind == Mind::Model && agent["model"]["id"] != SCRIPTED {
            Mind::Model
        } else {
            Mind::Script
        }
    }

    /// The requests that are wanted, by their spans.
    pub(crate) async fn asked(&self) -> Result<Vec<(EventId, SessionId)>, Fault> {
        let mut rows = self.store.read().await?;
        let sessions = SessionRow::asking(&mut rows).await?;
        let asking = sessions.into_iter();
        Ok(asking.filter_map(|row| Some((row.state.asking()?.clone(), row.id))).collect())
    }

    /// Makes one request and writes down what comes of it.
    pub(crate) async fn think(
        &self,
        caller: &Caller,
        id: &SessionId,
        span: &EventId,
    ) -> Result<(), Fault> {
        let mut rows = self.store.read().await?;
        let Some(session) = SessionRow::find(&mut rows, id).await? else { return Ok(()) };
        drop(rows);
        let body = self.prompt(caller, &session).await?;
        let mut announced = false;
        let outcome = caller
            .ask(&body, |delta| {
                if !std::mem::replace(&mut announced, true) {
                    self.listeners.tell(id, start_of(&delta));
                }
                self.listeners.tell(id, piece_of(&delta));
            })
            .await;
        if let Err(failure) = &outcome {
            tracing::info!(session = %id, ?failure, "a model request failed");
        }
        self.conclude(id, span, outcome).await
    }

    async fn conclude(
        &self,
        id: &SessionId,
        span: &EventId,
        outcome: Result<Answer, Failure>,
    ) -> Result<(), Fault> {
        let now = self.now();
        let mut change = self.store.change().await?;
        let Some(mut session) = SessionRow::find(change.rows(), id).await? else { return Ok(()) };
        let SessionRow { agent, state, .. } = &mut session;
        let around = self.surroundings(agent, now);
        let effects = match outcome {
            Ok(answer) => state.answered(span, answer, around),
            Err(failure) => state.failed(span, &failure, around),
        };
        let aftermath = self.apply(&mut change, &mut session, effects, now).await?;
        self.commit(change, id, aftermath).await
    }

    async fn prompt(&self, caller: &Caller, session: &SessionRow) -> Result<Value, Fault> {
        let processed = EventRow::of(&session.id).holds("processed_at IS NOT NULL");
        let events: Vec<EventRow> = self.all(&processed).await?;
        let events: Vec<Event> = events.into_iter().map(|row| row.event).collect();
        let mut files = HashMap::new();
        for id in file_ids(&events) {
            if let Ok(row) = self.resource(Place::of(Kind::File, &id)).await {
                let bytes = self.bytes(&row).await?;
                let kind = row.text("mime_type").to_owned();
                let data = match kind.as_str() {
                    "text/plain" => String::from_utf8_lossy(&bytes).into_owned(),
                    _ => STANDARD.encode(bytes),
                };
                files.insert(id, (kind, data));
            }
        }
        let config = caller.config();
        let own = session.agent["model"]["id"].as_str().unwrap_or_default();
        let prompt = Prompt {
            agent: &session.agent,
            events: &events,
            note: self.note(session).await?,
            files,
            model: config.name.as_deref().unwrap_or(own),
            max_tokens: config.max_tokens,
        };
        Ok(prompt.body())
    }

    /// What the agent has to know of its skills and memory stores.
    async fn note(&self, session: &SessionRow) -> Result<Note, Fault> {
        let mut lines = Vec::new();
        for skill in session.agent["skills"].as_array().into_iter().flatten() {
            let id = skill["skill_id"].as_str().unwrap_or_default();
            let Ok(row) = self.resource(Place::of(Kind::Skill, id)).await else { continue };
            let version = match skill["version"].as_str() {
                None | Some("latest") => row.text("latest_version_id"),
                Some(version) => version,
            };
            let place = Place::within(Kind::SkillVersion, id, version);
            let Ok(version) = self.resource(place).await else { continue };
            lines.push(format!(
                "Skill {name}: {about} Read skills/{name}/SKILL.md before you use it.",
                name = version.text("name"),
                about = version.text("description"),
            ));
        }
        for store in &session.body.resources {
            let text = |name: &str| store[name].as_str().unwrap_or_default();
            lines.push(format!(
                "Memory store {} ({}) is mounted at {}. {} {}",
                text("name"),
                text("access"),
                text("mount_path"),
                text("description"),
                text("instructions"),
            ));
        }
        Ok(Note(lines))
    }
}

/// A message begins to be written; told to streams that ask for it, and never stored.
fn start_of(delta: &Delta<'_>) -> Event {
    let event = json!({"type": "agent.message", "id": delta.message.as_str()});
    Event::new("event_start").with("event", event)
}

/// A piece of it.
fn piece_of(delta: &Delta<'_>) -> Event {
    let content = json!({"type": "text", "text": delta.text});
    Event::new("event_delta")
        .with("event_id", delta.message.as_str())
        .with("delta", json!({"type": "content_delta", "index": delta.index, "content": content}))
}

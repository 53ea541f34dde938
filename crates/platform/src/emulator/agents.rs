//! Agents: what a client configured, version by version.

use serde_json::{Map, Value};

use super::{Emulator, News, patch_metadata};
use crate::fault::Fault;
use crate::ids::{AgentId, Mint as _};
use crate::store::AgentRow;

impl Emulator {
    /// Makes an agent of a body that is checked and resolved.
    pub(crate) async fn create_agent(&self, body: Value) -> Result<AgentRow, Fault> {
        let now = self.now();
        let agent = AgentRow {
            seq: 0,
            id: AgentId::mint(),
            version: 1,
            body,
            created_at: now,
            updated_at: now,
            archived_at: None,
        };
        let mut change = self.store.change().await?;
        agent.insert(change.rows()).await?;
        self.tell(&mut change, News::of("agent.created", agent.id.as_str())).await?;
        self.finish(change).await?;
        Ok(agent)
    }

    /// An agent as of its latest version, or of another.
    pub(crate) async fn agent(
        &self,
        id: &AgentId,
        version: Option<i64>,
    ) -> Result<AgentRow, Fault> {
        let mut rows = self.store.read().await?;
        AgentRow::find(&mut rows, id, version).await?.ok_or_else(|| Fault::not_found("agent", id))
    }

    /// Replaces members of an agent; what changes makes a new version. `expected`: the version
    /// that the client knows, if it says so.
    pub(crate) async fn update_agent(
        &self,
        id: &AgentId,
        expected: Option<i64>,
        members: Map<String, Value>,
        metadata: Map<String, Value>,
    ) -> Result<AgentRow, Fault> {
        let mut change = self.store.change().await?;
        let found = AgentRow::find(change.rows(), id, None).await?;
        let mut agent = found.ok_or_else(|| Fault::not_found("agent", id))?;
        if agent.archived_at.is_some() {
            return Err(Fault::Invalid { message: format!("agent {id} is archived"), code: None });
        }
        if let Some(expected) = expected.filter(|expected| *expected != agent.version) {
            return Err(Fault::Conflict(format!(
                "version: agent {id} is at version {}, not {expected}",
                agent.version
            )));
        }
        let before = agent.body.clone();
        if let Value::Object(body) = &mut agent.body {
            body.extend(members);
            if let Some(Value::Object(stored)) = body.get_mut("metadata") {
                patch_metadata(stored, metadata)?;
            }
        }
        if agent.body != before {
            agent.version += 1;
            agent.updated_at = self.now();
            agent.save(change.rows()).await?;
            self.tell(&mut change, News::of("agent.updated", agent.id.as_str())).await?;
            self.finish(change).await?;
        }
        Ok(agent)
    }

    /// Archives an agent: its sessions go on, new ones cannot be made. Twice changes nothing.
    pub(crate) async fn archive_agent(&self, id: &AgentId) -> Result<AgentRow, Fault> {
        let mut change = self.store.change().await?;
        let found = AgentRow::find(change.rows(), id, None).await?;
        let mut agent = found.ok_or_else(|| Fault::not_found("agent", id))?;
        if agent.archived_at.is_none() {
            let now = self.now();
            agent.archived_at = Some(now);
            agent.updated_at = now;
            agent.save(change.rows()).await?;
            self.tell(&mut change, News::of("agent.archived", agent.id.as_str())).await?;
            self.finish(change).await?;
        }
        Ok(agent)
    }
}

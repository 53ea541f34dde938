//! Environments, and the keys of their workers.

use agents::{EnvironmentId, Secret};
use serde_json::{Map, Value};

use super::{Emulator, News, patch_metadata};
use crate::fault::Fault;
use crate::ids::Mint as _;
use crate::keys::{self, KeyKind};
use crate::store::{Credential, EnvironmentRow, Subject};

impl Emulator {
    /// Makes an environment of a body that is checked and resolved.
    pub(crate) async fn create_environment(
        &self,
        name: String,
        body: Value,
    ) -> Result<EnvironmentRow, Fault> {
        let now = self.now();
        let environment = EnvironmentRow {
            seq: 0,
            id: EnvironmentId::mint(),
            name,
            body,
            created_at: now,
            updated_at: now,
            archived_at: None,
        };
        let mut change = self.store.change().await?;
        if EnvironmentRow::find_by_name(change.rows(), &environment.name).await?.is_some() {
            return Err(name_taken(&environment.name));
        }
        environment.insert(change.rows()).await?;
        self.tell(&mut change, News::of("environment.created", environment.id.as_str())).await?;
        self.finish(change).await?;
        Ok(environment)
    }

    /// An environment.
    pub(crate) async fn environment(&self, id: &EnvironmentId) -> Result<EnvironmentRow, Fault> {
        let mut rows = self.store.read().await?;
        EnvironmentRow::find(&mut rows, id).await?.ok_or_else(|| not_found(id))
    }

    /// Replaces members of an environment.
    pub(crate) async fn update_environment(
        &self,
        id: &EnvironmentId,
        name: Option<String>,
        members: Map<String, Value>,
        metadata: Map<String, Value>,
    ) -> Result<EnvironmentRow, Fault> {
        let mut change = self.store.change().await?;
        let found = EnvironmentRow::find(change.rows(), id).await?;
        let mut environment = found.ok_or_else(|| not_found(id))?;
        if environment.archived_at.is_some() {
            return Err(archived(id));
        }
        if let Some(name) = name.filter(|name| *name != environment.name) {
            if EnvironmentRow::find_by_name(change.rows(), &name).await?.is_some() {
                return Err(name_taken(&name));
            }
            environment.name = name;
        }
        if let Value::Object(body) = &mut environment.body {
            body.extend(members);
            if let Some(Value::Object(stored)) = body.get_mut("metadata") {
                patch_metadata(stored, metadata)?;
            }
        }
        environment.updated_at = self.now();
        environment.save(change.rows()).await?;
        self.tell(&mut change, News::of("environment.updated", environment.id.as_str())).await?;
        self.finish(change).await?;
        Ok(environment)
    }

    /// Archives an environment: its sessions go on, new ones cannot be made.
    pub(crate) async fn archive_environment(
        &self,
        id: &EnvironmentId,
    ) -> Result<EnvironmentRow, Fault> {
        let mut change = self.store.change().await?;
        let found = EnvironmentRow::find(change.rows(), id).await?;
        let mut environment = found.ok_or_else(|| not_found(id))?;
        if environment.archived_at.is_none() {
            let now = self.now();
            environment.archived_at = Some(now);
            environment.updated_at = now;
            environment.save(change.rows()).await?;
            self.tell(&mut change, News::of("environment.archived", environment.id.as_str()))
                .await?;
            self.finish(change).await?;
        }
        Ok(environment)
    }

    /// Removes an environment that no session uses.
    pub(crate) async fn delete_environment(&self, id: &EnvironmentId) -> Result<(), Fault> {
        let mut change = self.store.change().await?;
        EnvironmentRow::find(change.rows(), id).await?.ok_or_else(|| not_found(id))?;
        let sessions = EnvironmentRow::sessions_in_use(change.rows(), id).await?;
        if sessions > 0 {
            return Err(Fault::Conflict(format!(
                "environment {id} has {sessions} sessions: archive or delete them first"
            )));
        }
        Credential::revoke_environment_keys(change.rows(), id).await?;
        EnvironmentRow::delete(change.rows(), id).await?;
        self.tell(&mut change, News::of("environment.deleted", id.as_str())).await?;
        self.finish(change).await?;
        self.bells.forget(id);
        Ok(())
    }

    /// Mints a key for the environment's workers; the ones before it are good no more.
    pub(crate) async fn rotate_environment_key(&self, id: &EnvironmentId) -> Result<Secret, Fault> {
        let key = keys::new_key(KeyKind::Environment);
        let mut change = self.store.change().await?;
        EnvironmentRow::find(change.rows(), id).await?.ok_or_else(|| not_found(id))?;
        Credential::revoke_environment_keys(change.rows(), id).await?;
        let subject = Subject::Environment(id.clone());
        let credential = Credential { hash: keys::hash(key.expose()), subject };
        credential.insert(change.rows(), self.now()).await?;
        change.commit().await?;
        Ok(key)
    }
}

/// What an environment that is archived answers.
pub(super) fn archived(id: &EnvironmentId) -> Fault {
    Fault::Invalid {
        message: format!("environment {id} is archived"),
        code: Some("environment_archived"),
    }
}

fn not_found(id: &EnvironmentId) -> Fault {
    Fault::not_found("environment", id)
}

fn name_taken(name: &str) -> Fault {
    Fault::Conflict(format!("name: another environment is called {name:?}"))
}

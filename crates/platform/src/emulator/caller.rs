//! Who calls, and what may they do? The table of spec 3.6, one method a row.

use agents::{EnvironmentId, SessionId, WorkId};
use serde_json::{Value, json};

use super::Emulator;
use crate::fault::Fault;
use crate::keys;
use crate::store::{Credential, SessionRow, Subject};

/// Whoever sent a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    subject: Subject,
    /// What stands for the credential where its use is written down.
    credential_id: String,
}

impl Emulator {
    /// Whose credential is this?
    pub(crate) async fn authenticate(&self, credential: Option<&str>) -> Result<Caller, Fault> {
        let credential = credential.ok_or(Fault::Unauthenticated(
            "no credential: send Authorization: Bearer <key>, or x-api-key",
        ))?;
        let mut rows = self.store.read().await?;
        let hash = keys::hash(credential);
        let subject = Credential::find(&mut rows, hash).await?;
        let subject = subject.ok_or(Fault::Unauthenticated("invalid credential"))?;
        let credential_id = format!("apikey_01{}", hex::encode(&hash[..12]));
        Ok(Caller { subject, credential_id })
    }
}

impl Caller {
    /// Agents, environments, sessions, and looking at single work items: the API key alone.
    pub(crate) fn may_operate(&self) -> Result<(), Fault> {
        match self.subject {
            Subject::Organisation => Ok(()),
            Subject::Environment(_) | Subject::Session { .. } => {
                Err(Fault::Forbidden("this call takes an API key (sk-ant-api03-…)"))
            }
        }
    }

    /// Polling: the environment key alone.
    pub(crate) fn may_poll(&self, environment: &EnvironmentId) -> Result<(), Fault> {
        match &self.subject {
            Subject::Environment(own) => same_environment(own, environment),
            Subject::Organisation | Subject::Session { .. } => {
                Err(Fault::Forbidden("this call takes an environment key (sk-ant-oat01-…)"))
            }
        }
    }

    /// Acknowledging and heartbeats: the environment key, or the item's own token.
    pub(crate) fn may_hold(&self, environment: &EnvironmentId, work: &WorkId) -> Result<(), Fault> {
        match &self.subject {
            Subject::Environment(own) => same_environment(own, environment),
            Subject::Session { work: own, .. } if own == work => Ok(()),
            Subject::Session { .. } => Err(Fault::not_found("work item", work)),
            Subject::Organisation => Err(Fault::Forbidden(
                "this call takes an environment key (sk-ant-oat01-…) or the work item's token",
            )),
        }
    }

    /// Stopping an item: whoever may hold it, and operators.
    pub(crate) fn may_stop(&self, environment: &EnvironmentId, work: &WorkId) -> Result<(), Fault> {
        match self.subject {
            Subject::Organisation => Ok(()),
            Subject::Environment(_) | Subject::Session { .. } => self.may_hold(environment, work),
        }
    }

    /// The queue's figures and list: the environment key, and operators. (The SDK's comments
    /// deny the list to API keys, the documents tell operators to use it.)
    pub(crate) fn may_see_queue(&self, environment: &EnvironmentId) -> Result<(), Fault> {
        match &self.subject {
            Subject::Organisation => Ok(()),
            Subject::Environment(own) => same_environment(own, environment),
            Subject::Session { .. } => {
                Err(Fault::Forbidden("this call takes an environment key or an API key"))
            }
        }
    }

    /// Memory stores: operators, and workers for the stores of their session. The environment key
    /// is not enough.
    pub(crate) async fn may_remember(&self, emulator: &Emulator, store: &str) -> Result<(), Fault> {
        let session = match &self.subject {
            Subject::Organisation => return Ok(()),
            Subject::Environment(_) => {
                return Err(Fault::Forbidden(
                    "memory stores take an API key or the token of a work item's session",
                ));
            }
            Subject::Session { session, .. } => session,
        };
        let session = emulator.session(self, session).await?;
        let attached = session.body.resources.iter();
        if attached.into_iter().any(|resource| resource["memory_store_id"] == *store) {
            Ok(())
        } else {
            Err(Fault::not_found("memory store", store))
        }
    }

    /// The caller as the author of a change.
    pub(crate) fn actor(&self) -> Value {
        match &self.subject {
            Subject::Organisation | Subject::Environment(_) => {
                json!({"type": "api_actor", "api_key_id": self.credential_id})
            }
            Subject::Session { session, .. } => {
                json!({"type": "session_actor", "session_id": session.as_str()})
            }
        }
    }

    /// A session and its events: operators, workers of its environment, its own worker. To
    /// others it is not there.
    pub(crate) fn may_use(&self, session: &SessionRow) -> Result<(), Fault> {
        let own = match &self.subject {
            Subject::Organisation => true,
            Subject::Environment(environment) => *environment == session.environment,
            Subject::Session { session: own, .. } => *own == session.id,
        };
        if own { Ok(()) } else { Err(not_found(&session.id)) }
    }
}

fn same_environment(own: &EnvironmentId, asked: &EnvironmentId) -> Result<(), Fault> {
    if own == asked { Ok(()) } else { Err(Fault::not_found("environment", asked)) }
}

fn not_found(session: &SessionId) -> Fault {
    Fault::not_found("session", session)
}

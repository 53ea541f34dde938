//! Who calls, and what may they do? The table of spec 3.6, one method a row.

use agents::{EnvironmentId, SessionId, WorkId};

use super::Emulator;
use crate::fault::Fault;
use crate::keys;
use crate::store::{Credential, SessionRow, Subject};

/// Whoever sent a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Subject);

impl Emulator {
    /// Whose credential is this?
    pub(crate) async fn authenticate(&self, credential: Option<&str>) -> Result<Caller, Fault> {
        let credential = credential.ok_or(Fault::Unauthenticated(
            "no credential: send Authorization: Bearer <key>, or x-api-key",
        ))?;
        let mut rows = self.store.read().await?;
        let subject = Credential::find(&mut rows, keys::hash(credential)).await?;
        subject.map(Caller).ok_or(Fault::Unauthenticated("invalid credential"))
    }
}

impl Caller {
    /// Agents, environments, sessions, and looking at single work items: the API key alone.
    pub(crate) fn may_operate(&self) -> Result<(), Fault> {
        match self.0 {
            Subject::Organisation => Ok(()),
            Subject::Environment(_) | Subject::Session { .. } => {
                Err(Fault::Forbidden("this call takes an API key (sk-ant-api03-…)"))
            }
        }
    }

    /// Polling: the environment key alone.
    pub(crate) fn may_poll(&self, environment: &EnvironmentId) -> Result<(), Fault> {
        match &self.0 {
            Subject::Environment(own) => same_environment(own, environment),
            Subject::Organisation | Subject::Session { .. } => {
                Err(Fault::Forbidden("this call takes an environment key (sk-ant-oat01-…)"))
            }
        }
    }

    /// Acknowledging and heartbeats: the environment key, or the item's own token.
    pub(crate) fn may_hold(&self, environment: &EnvironmentId, work: &WorkId) -> Result<(), Fault> {
        match &self.0 {
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
        match self.0 {
            Subject::Organisation => Ok(()),
            Subject::Environment(_) | Subject::Session { .. } => self.may_hold(environment, work),
        }
    }

    /// The queue's figures and list: the environment key, and operators. (The SDK's comments
    /// deny the list to API keys, the documents tell operators to use it.)
    pub(crate) fn may_see_queue(&self, environment: &EnvironmentId) -> Result<(), Fault> {
        match &self.0 {
            Subject::Organisation => Ok(()),
            Subject::Environment(own) => same_environment(own, environment),
            Subject::Session { .. } => {
                Err(Fault::Forbidden("this call takes an environment key or an API key"))
            }
        }
    }

    /// A session and its events: operators, workers of its environment, its own worker. To
    /// others it is not there.
    pub(crate) fn may_use(&self, session: &SessionRow) -> Result<(), Fault> {
        let own = match &self.0 {
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

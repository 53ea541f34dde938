//! One work item, from the claim to its release.

use agents::client::{Client, ClientError};
use agents::{Secret, Session, SessionStatus, StopWork, WorkId, WorkItem, WorkSecret};
use http::StatusCode;

use super::SessionContext;
use super::lease::{Lease, LeaseEnd};
use super::memory::{Authority, Finish, Memory, MemoryError};
use super::results::KeptResults;
use super::runner::{RunEnd, Runner};
use super::skills::Skills;

/// An item that was acknowledged, here or elsewhere.
#[derive(Debug, Clone)]
pub struct ClaimedItem {
    /// Its id.
    pub work: WorkId,
    /// Its own token, where it brought one.
    pub token: Option<Secret>,
}

impl ClaimedItem {
    /// An item as a poll gave it. A secret that cannot be read is as good as none.
    pub fn from_poll(item: &WorkItem) -> Self {
        let token = item.secret.as_deref().and_then(|text| match WorkSecret::decode(text) {
            Ok(secret) => Some(secret.sessions_token),
            Err(error) => {
                tracing::warn!(work = %item.id, %error, "the environment key is used instead");
                None
            }
        });
        Self { work: item.id.clone(), token }
    }
}

/// How an item ended.
#[derive(Debug)]
pub enum ItemEnd {
    /// The session went idle; there may be more work for it later.
    Idle,
    /// The session is over for good.
    SessionEnded,
    /// The claim is over; the session is somebody else's, or stopped.
    LeaseEnded,
    /// The worker shall come to its end.
    Drained,
    /// Something that the session cannot do without was not to be had.
    Failed(ItemFailure),
}

/// Why an item was given back unserved.
#[derive(Debug, thiserror::Error)]
pub enum ItemFailure {
    /// The platform refused something on the way.
    #[error(transparent)]
    Platform(#[from] ClientError),
    /// Its memory cannot be mounted.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Serves an item to its end and gives it back, unless it was lost.
pub async fn serve_item(
    context: &SessionContext,
    item: &ClaimedItem,
    kept: &mut KeptResults,
) -> ItemEnd {
    let mut context = context.clone();
    if let Some(token) = &item.token {
        context.client = context.client.with_credential(token.clone());
    }
    let lease = Lease::start(
        context.client.clone(),
        context.environment.clone(),
        item.work.clone(),
        context.resumed.subscribe(),
    );
    let authority = match &item.token {
        Some(_) => Authority::SessionsToken,
        None => Authority::EnvironmentKey,
    };
    let end = serve(&context, authority, &lease, kept).await;
    match lease.release().await {
        Some(lost) if LeaseEnd::is_lost(lost) => {
            tracing::info!(work = %item.work, "the item is left alone");
        }
        Some(_) | None => stop(&context.client, &context, &item.work).await,
    }
    end
}

async fn serve(
    context: &SessionContext,
    authority: Authority,
    lease: &Lease,
    kept: &mut KeptResults,
) -> ItemEnd {
    let session = tokio::select! {
        biased;
        () = lease.ended.cancelled() => return ItemEnd::LeaseEnded,
        () = context.drain.cancelled() => return ItemEnd::Drained,
        session = context.client.session(&context.session) => session,
    };
    let session = match session {
        Ok(session) => session,
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
            tracing::warn!(%error, "the session is gone");
            return ItemEnd::SessionEnded;
        }
        Err(error) => return ItemEnd::Failed(error.into()),
    };
    match session.status {
        SessionStatus::Terminated => {
            tracing::info!("the session has ended already");
            return ItemEnd::SessionEnded;
        }
        SessionStatus::Rescheduling
        | SessionStatus::Running
        | SessionStatus::Idle
        | SessionStatus::Other(_) => {}
    }
    let prepared = tokio::select! {
        biased;
        () = lease.ended.cancelled() => return ItemEnd::LeaseEnded,
        () = context.drain.cancelled() => return ItemEnd::Drained,
        prepared = prepare(context, authority, &session) => prepared,
    };
    let (skills, mut memory) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return ItemEnd::Failed(error.into()),
    };
    let mut context = context.clone();
    context.tools.roots = memory.roots();
    let end = Runner::new(&context, lease, kept).run(&mut memory).await;
    skills.remove().await;
    let finish = match end {
        RunEnd::Idle | RunEnd::SessionEnded => Finish::Clean,
        RunEnd::LeaseEnded | RunEnd::Drained | RunEnd::Refused(_) => Finish::Broken,
    };
    memory.finish(finish).await;
    match end {
        RunEnd::Idle => ItemEnd::Idle,
        RunEnd::SessionEnded => ItemEnd::SessionEnded,
        RunEnd::LeaseEnded => ItemEnd::LeaseEnded,
        RunEnd::Drained => ItemEnd::Drained,
        RunEnd::Refused(error) => ItemEnd::Failed(error.into()),
    }
}

/// Lays out what the session's agent brings along.
async fn prepare(
    context: &SessionContext,
    authority: Authority,
    session: &Session,
) -> Result<(Skills, Memory), MemoryError> {
    let tools = &context.tools;
    let skills = Skills::install(&context.client, tools, &session.agent.skills).await;
    match Memory::mount(&context.client, authority, &tools.workdir, session).await {
        Ok(memory) => Ok((skills, memory)),
        Err(error) => {
            skills.remove().await;
            Err(error)
        }
    }
}

async fn stop(client: &Client, context: &SessionContext, work: &WorkId) {
    match client.stop(&context.environment, work, StopWork::Force).await {
        Ok(_) => tracing::info!(%work, "the item is given back"),
        // It had ended already.
        Err(error) if error.status() == Some(StatusCode::CONFLICT) => {}
        Err(error) => tracing::error!(%work, %error, "the item could not be given back"),
    }
}

//! The environment's queue: wait for items of this VM's session and serve them.
//!
//! Other sessions' items are left to their own VMs. A poll hides an item for two seconds, from all, so
//! after one that is not ours this worker pauses for longer than that. One that comes a second time is
//! served by nobody: it is passed over without a pause, or it would stand before ours for ever.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use agents::client::{ClientError, PollOptions, backoff};
use agents::{StopWork, WorkItem};
use http::StatusCode;

use super::item::{ClaimedItem, ItemEnd, serve_item};
use super::results::KeptResults;
use super::{SessionContext, SessionError};

const BLOCK_MS: u32 = 999;
const RECLAIM_MS: u32 = 2000;
const PAUSE_AFTER_FOREIGN: Duration = Duration::from_secs(3);
/// A platform that answers an empty poll at once is not asked again at once.
const EMPTY_POLL_MIN: Duration = Duration::from_millis(500);
const BACKOFF_START: Duration = Duration::from_secs(1);
const BACKOFF_CAP: Duration = Duration::from_secs(60);
/// How long the platform may be away before the worker gives up.
const UNREACHABLE_MAX: Duration = Duration::from_secs(60);

/// Why there is nothing more to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueEnd {
    /// No work came for the time given.
    OutOfWork,
    /// The session is over for good.
    SessionEnded,
    /// The worker shall come to its end.
    Drained,
}

/// Serves item after item of the session, until there is no more work for `idle_exit`.
///
/// # Errors
/// [`SessionError`] where the platform refuses the key or cannot be reached.
pub async fn serve_queue(
    context: &SessionContext,
    worker_id: &str,
    idle_exit: Duration,
) -> Result<QueueEnd, SessionError> {
    let mut kept = KeptResults::default();
    let mut waiting_since = Instant::now();
    loop {
        let item = tokio::select! {
            biased;
            () = context.drain.cancelled() => return Ok(QueueEnd::Drained),
            item = next_item(context, worker_id, waiting_since + idle_exit) => item?,
        };
        let Some(item) = item else {
            tracing::info!("no work for {} s", idle_exit.as_secs());
            return Ok(QueueEnd::OutOfWork);
        };
        tracing::info!(work = %item.id, session = %context.session, "the session is claimed");
        match serve_item(context, &ClaimedItem::from_poll(&item), &mut kept).await {
            ItemEnd::Idle | ItemEnd::LeaseEnded => {}
            ItemEnd::SessionEnded => return Ok(QueueEnd::SessionEnded),
            ItemEnd::Drained => return Ok(QueueEnd::Drained),
            ItemEnd::Failed(error) => tracing::error!(work = %item.id, %error, "an item failed"),
        }
        waiting_since = Instant::now();
    }
}

/// Polls until an item of this session is acknowledged; `None` at the deadline.
async fn next_item(
    context: &SessionContext,
    worker_id: &str,
    deadline: Instant,
) -> Result<Option<WorkItem>, SessionError> {
    let options = PollOptions {
        block_ms: Some(BLOCK_MS),
        reclaim_older_than_ms: Some(RECLAIM_MS),
        worker_id: Some(worker_id),
    };
    let mut failing: Option<(Instant, u32)> = None;
    let mut passed_over = HashSet::new();
    while Instant::now() < deadline {
        let asked_at = Instant::now();
        match context.client.poll(&context.environment, &options).await {
            Ok(found) => {
                failing = None;
                match found {
                    Some(item) if item.session() == Some(&context.session) => {
                        if acknowledge(context, &item).await {
                            return Ok(Some(item));
                        }
                    }
                    Some(item) => {
                        tracing::debug!(work = %item.id, "left to its own VM");
                        if passed_over.insert(item.id.to_string()) {
                            tokio::time::sleep(PAUSE_AFTER_FOREIGN).await;
                        }
                    }
                    None => tokio::time::sleep_until((asked_at + EMPTY_POLL_MIN).into()).await,
                }
            }
            Err(error) if error.is_fatal() => return Err(refused(context, error)),
            Err(error) => {
                let (since, attempt) = failing.unwrap_or((asked_at, 0));
                let after = since.elapsed();
                if after > UNREACHABLE_MAX {
                    return Err(SessionError::Unreachable { after, source: Box::new(error) });
                }
                tracing::warn!(error = &error as &dyn std::error::Error, "poll");
                failing = Some((since, attempt + 1));
                let left = UNREACHABLE_MAX.saturating_sub(after) + Duration::from_millis(1);
                tokio::time::sleep(backoff(attempt, BACKOFF_START, BACKOFF_CAP).min(left)).await;
            }
        }
    }
    Ok(None)
}

fn refused(context: &SessionContext, error: ClientError) -> SessionError {
    let environment = context.environment.clone();
    let source = Box::new(error);
    match source.status() {
        Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            SessionError::KeyRefused { environment, source }
        }
        Some(_) | None => SessionError::PollRefused { environment, source },
    }
}

/// Whether the item is ours now. One that cannot be acknowledged comes up again.
async fn acknowledge(context: &SessionContext, item: &WorkItem) -> bool {
    match context.client.ack(&context.environment, &item.id).await {
        Ok(_) => true,
        // It is acknowledged even if the answer cannot be read: give it back rather than
        // leave it claimed by nobody.
        Err(error @ ClientError::BadAnswer { .. }) => {
            tracing::warn!(work = %item.id, %error, "ack");
            let stop = context.client.stop(&context.environment, &item.id, StopWork::Force).await;
            if let Err(error) = stop {
                tracing::warn!(work = %item.id, %error, "stop");
            }
            false
        }
        Err(error) => {
            tracing::warn!(work = %item.id, %error, "ack");
            false
        }
    }
}

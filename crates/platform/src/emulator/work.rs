//! The work queue: polled, acknowledged, kept alive, stopped.

use std::time::Duration;

use agents::{EnvironmentId, WorkId, WorkSecret};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::environments::archived;
use super::{Emulator, patch_metadata};
use crate::clock::Timestamp;
use crate::fault::Fault;
use crate::machine::{Beat, BeatAnswer, Lease, Refused, Work};
use crate::mishaps::Chance;
use crate::store::{self, Change, EnvironmentRow, Page, Slice, WorkRow};

/// Longest lease that a worker may ask for.
const TTL_MAX: Duration = Duration::from_secs(3600);

/// How a poll waits.
#[derive(Debug)]
pub(crate) struct PollRequest {
    /// How long, if nothing is there at once.
    pub(crate) block: Duration,
    /// After how long an item that nobody acknowledged is handed out again.
    pub(crate) reclaim: Duration,
    /// Who polls, if it says so.
    pub(crate) worker: Option<String>,
}

/// What an environment's queue holds.
#[derive(Debug)]
pub(crate) struct Depth {
    pub(crate) depth: i64,
    pub(crate) pending: i64,
    pub(crate) oldest: Option<Timestamp>,
    pub(crate) workers: usize,
}

impl Emulator {
    /// Hands out the oldest item that waits, with the secret that stands for it; waits for one
    /// as long as the request says.
    pub(crate) async fn poll(
        &self,
        environment: &EnvironmentId,
        request: &PollRequest,
    ) -> Result<Option<(WorkRow, String)>, Fault> {
        let row = self.environment(environment).await?;
        if row.archived_at.is_some() {
            return Err(archived(environment));
        }
        if let Some(worker) = &request.worker {
            self.bells.polled(environment, worker, self.now());
        }
        let deadline = Instant::now() + request.block;
        let bell = self.bells.bell(environment);
        loop {
            // Listens first: what is queued between the look and the wait is heard.
            let rung = bell.notified();
            tokio::pin!(rung);
            rung.as_mut().enable();
            if let Some(item) = self.take_next(environment, request.reclaim).await? {
                let sessions_token = self.token_key.session_token(&item.id);
                let secret = WorkSecret { sessions_token, api_base_url: None }.encode();
                return Ok(Some((item, secret)));
            }
            if tokio::time::timeout_at(deadline, rung).await.is_err() {
                return Ok(None);
            }
        }
    }

    async fn take_next(
        &self,
        environment: &EnvironmentId,
        reclaim: Duration,
    ) -> Result<Option<WorkRow>, Fault> {
        let now = self.now();
        // Most polls find nothing: they must not queue up for the writer's place.
        let mut rows = self.store.read().await?;
        let nothing = WorkRow::next(&mut rows, environment, now, reclaim).await?.is_none()
            && WorkRow::overdue(&mut rows, environment, now).await?.is_empty();
        drop(rows);
        if nothing {
            return Ok(None);
        }
        let mut change = self.store.change().await?;
        settle(&mut change, environment, now).await?;
        let next = WorkRow::next(change.rows(), environment, now, reclaim).await?;
        let mut handed_out = None;
        if let Some(mut item) = next
            && item.work.hand_out(now, reclaim)
        {
            item.save(change.rows()).await?;
            handed_out = Some(item);
        }
        change.commit().await?;
        Ok(handed_out)
    }

    /// Takes an item off the queue for good.
    pub(crate) async fn ack(
        &self,
        environment: &EnvironmentId,
        work: &WorkId,
    ) -> Result<WorkRow, Fault> {
        let lease = self.rules.lease;
        self.change_work(environment, work, |item, now| {
            item.ack(now, lease).map_err(|refused| Fault::Conflict(refused.to_string()))
        })
        .await
        .map(|(item, ())| item)
    }

    /// A sign of life; returns the lease's length too.
    pub(crate) async fn heartbeat(
        &self,
        environment: &EnvironmentId,
        work: &WorkId,
        beat: &Beat,
        ttl: Option<Duration>,
    ) -> Result<(WorkRow, BeatAnswer, Duration), Fault> {
        let ttl = ttl.map_or(self.rules.lease.ttl, |ttl| ttl.min(TTL_MAX));
        let lease = Lease { ttl, ..self.rules.lease };
        let expired = matches!(beat, Beat::After(_)) && self.dice.hits(Chance::ExpireLease);
        if expired {
            self.expire(environment, work).await?;
        }
        self.change_work(environment, work, |item, now| {
            item.heartbeat(beat, now, lease).map_err(|refused| match refused {
                Refused::NotTheHolder | Refused::NotPending | Refused::AlreadyStopped => {
                    Fault::LeaseLost { state: item.state, last: item.latest_heartbeat_at, ttl }
                }
            })
        })
        .await
        .map(|(item, answer)| (item, answer, ttl))
    }

    /// Lets the lease of an item run out now.
    pub(crate) async fn expire(
        &self,
        environment: &EnvironmentId,
        work: &WorkId,
    ) -> Result<WorkRow, Fault> {
        let (item, _) = self.change_work(environment, work, |item, _| Ok(item.expire())).await?;
        self.bells.ring(environment);
        Ok(item)
    }

    /// Asks an item's worker to end, or ends the item.
    pub(crate) async fn stop(
        &self,
        environment: &EnvironmentId,
        work: &WorkId,
        how: agents::StopWork,
    ) -> Result<WorkRow, Fault> {
        let lease = self.rules.lease;
        self.change_work(environment, work, |item, now| {
            let stopped = match how {
                agents::StopWork::Ask => item.stop(now, lease),
                agents::StopWork::Force => item.stop_by_force(now),
            };
            stopped.map_err(|refused| Fault::Conflict(refused.to_string()))
        })
        .await
        .map(|(item, ())| item)
    }

    /// An item.
    pub(crate) async fn work(
        &self,
        environment: &EnvironmentId,
        work: &WorkId,
    ) -> Result<WorkRow, Fault> {
        self.change_work(environment, work, |_, _| Ok(())).await.map(|(item, ())| item)
    }

    /// Sets and removes an item's metadata.
    pub(crate) async fn update_work(
        &self,
        environment: &EnvironmentId,
        work: &WorkId,
        metadata: Map<String, Value>,
    ) -> Result<WorkRow, Fault> {
        let mut change = self.store.change().await?;
        let mut item = find(&mut change, environment, work).await?;
        patch_metadata(&mut item.metadata, metadata)?;
        item.save(change.rows()).await?;
        change.commit().await?;
        Ok(item)
    }

    /// Items of an environment.
    pub(crate) async fn works(
        &self,
        environment: &EnvironmentId,
        slice: Slice,
    ) -> Result<Page<WorkRow>, Fault> {
        self.environment(environment).await?;
        let mut change = self.store.change().await?;
        settle(&mut change, environment, self.now()).await?;
        let page = store::list(change.rows(), &WorkRow::of(environment), slice).await?;
        change.commit().await?;
        Ok(page)
    }

    /// What the queue holds.
    pub(crate) async fn depth(&self, environment: &EnvironmentId) -> Result<Depth, Fault> {
        self.environment(environment).await?;
        let now = self.now();
        let mut change = self.store.change().await?;
        settle(&mut change, environment, now).await?;
        let (depth, pending, oldest) = WorkRow::depth(change.rows(), environment).await?;
        change.commit().await?;
        Ok(Depth { depth, pending, oldest, workers: self.bells.workers(environment, now) })
    }

    /// Loads an item, does what time has done to it, and then what `act` says. What time has
    /// done is stored even if `act` refuses.
    async fn change_work<T>(
        &self,
        environment: &EnvironmentId,
        work: &WorkId,
        act: impl FnOnce(&mut Work, Timestamp) -> Result<T, Fault>,
    ) -> Result<(WorkRow, T), Fault> {
        let now = self.now();
        let mut change = self.store.change().await?;
        let mut item = find(&mut change, environment, work).await?;
        let before = item.work.clone();
        let settled = item.work.settle(now);
        let done = act(&mut item.work, now);
        if item.work != before {
            item.save(change.rows()).await?;
        }
        change.commit().await?;
        if settled {
            self.bells.ring(environment);
        }
        done.map(|done| (item, done))
    }
}

async fn find(
    change: &mut Change<'_>,
    environment: &EnvironmentId,
    work: &WorkId,
) -> Result<WorkRow, Fault> {
    if EnvironmentRow::find(change.rows(), environment).await?.is_none() {
        return Err(Fault::not_found("environment", environment));
    }
    let found = WorkRow::find(change.rows(), environment, work).await?;
    found.ok_or_else(|| Fault::not_found("work item", work))
}

/// Does what time has done to an environment's items.
async fn settle(
    change: &mut Change<'_>,
    environment: &EnvironmentId,
    now: Timestamp,
) -> Result<(), Fault> {
    for mut item in WorkRow::overdue(change.rows(), environment, now).await? {
        if item.work.settle(now) {
            item.save(change.rows()).await?;
        }
    }
    Ok(())
}

//! The claim on a work item, kept alive by heartbeats.
//!
//! The first one goes out at once, each next one after half the lease, at most 30 s. What ends
//! the lease ends the run; whether the item may still be stopped by us depends on how.

use std::time::{Duration, Instant};

use agents::client::{Client, ClientError};
use agents::{EnvironmentId, Heartbeat, NO_HEARTBEAT, WorkId, WorkState};
use http::StatusCode;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

const INTERVAL_MAX: Duration = Duration::from_secs(30);
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// How long a lease is taken to last before the platform has said so.
const TTL_ASSUMED: Duration = Duration::from_secs(90);
/// How long a result is posted for before the platform has said how long a lease lasts.
const WINDOW_ASSUMED: Duration = Duration::from_secs(300);

/// How a lease ended before we gave it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseEnd {
    /// The platform asks us to stop.
    StopAsked,
    /// Somebody else has it.
    Lost,
    /// The platform refuses our heartbeats.
    Rejected,
    /// No heartbeat got through for a whole lease: somebody else may have it.
    AssumedLost,
}

impl LeaseEnd {
    /// Whether the item is no longer ours to stop.
    pub(super) fn is_lost(self) -> bool {
        match self {
            Self::Lost | Self::AssumedLost => true,
            Self::StopAsked | Self::Rejected => false,
        }
    }
}

/// A lease that is being kept.
#[derive(Debug)]
pub(super) struct Lease {
    /// Cancelled when the lease has ended by itself.
    pub(super) ended: CancellationToken,
    /// For how long a result is worth posting.
    pub(super) window: watch::Receiver<Duration>,
    released: CancellationToken,
    task: AbortOnDropHandle<Option<LeaseEnd>>,
}

impl Lease {
    /// Begins with the first heartbeat, at once.
    pub(super) fn start(
        client: Client,
        environment: EnvironmentId,
        work: WorkId,
        resumed: watch::Receiver<u64>,
    ) -> Self {
        let (sender, window) = watch::channel(WINDOW_ASSUMED);
        let (ended, released) = (CancellationToken::new(), CancellationToken::new());
        let keeper =
            Keeper { client, environment, work, window: sender, pulse: Pulse::new(Instant::now()) };
        let task = keeper.run(ended.clone(), released.clone(), resumed);
        Self { ended, window, released, task: AbortOnDropHandle::new(tokio::spawn(task)) }
    }

    /// Ends the heartbeats. `None` if the lease was good to the last.
    pub(super) async fn release(self) -> Option<LeaseEnd> {
        self.released.cancel();
        self.task.await.unwrap_or(None)
    }
}

/// What the answers so far amount to. Pure.
#[derive(Debug)]
struct Pulse {
    expected: String,
    interval: Duration,
    ttl: Duration,
    last_success: Instant,
}

impl Pulse {
    fn new(now: Instant) -> Self {
        Self {
            expected: NO_HEARTBEAT.to_owned(),
            interval: INTERVAL_MAX,
            ttl: TTL_ASSUMED,
            last_success: now,
        }
    }

    fn note_answer(&mut self, answer: Heartbeat, now: Instant) -> Option<LeaseEnd> {
        self.last_success = now;
        self.expected = answer.last_heartbeat;
        if answer.ttl_seconds > 0 {
            self.ttl = Duration::from_secs(answer.ttl_seconds);
            self.interval = (self.ttl / 2).clamp(INTERVAL_MIN, INTERVAL_MAX);
        }
        let stopping = match answer.state {
            WorkState::Stopping | WorkState::Stopped => true,
            WorkState::Queued | WorkState::Starting | WorkState::Active | WorkState::Other(_) => {
                false
            }
        };
        (stopping || !answer.lease_extended).then_some(LeaseEnd::StopAsked)
    }

    /// `error` is `None` for a heartbeat that was cut off.
    fn note_failure(&self, error: Option<&ClientError>, now: Instant) -> Option<LeaseEnd> {
        match error {
            Some(error) if error.status() == Some(StatusCode::PRECONDITION_FAILED) => {
                Some(LeaseEnd::Lost)
            }
            Some(error) if error.is_fatal() => Some(LeaseEnd::Rejected),
            Some(_) | None => {
                (now.duration_since(self.last_success) > self.ttl).then_some(LeaseEnd::AssumedLost)
            }
        }
    }
}

struct Keeper {
    client: Client,
    environment: EnvironmentId,
    work: WorkId,
    window: watch::Sender<Duration>,
    pulse: Pulse,
}

impl Keeper {
    async fn run(
        mut self,
        ended: CancellationToken,
        released: CancellationToken,
        mut resumed: watch::Receiver<u64>,
    ) -> Option<LeaseEnd> {
        let mut is_first = true;
        loop {
            let end = tokio::select! {
                () = released.cancelled() => return None,
                end = self.beat() => end,
            };
            if let Some(end) = end {
                self.explain(end, is_first);
                ended.cancel();
                return Some(end);
            }
            is_first = false;
            tokio::select! {
                () = released.cancelled() => return None,
                () = tokio::time::sleep(self.pulse.interval) => {}
                // The VM slept: its clock did not run, that of the lease did.
                Ok(()) = resumed.changed() => {}
            }
        }
    }

    async fn beat(&mut self) -> Option<LeaseEnd> {
        let call = self.client.heartbeat(&self.environment, &self.work, &self.pulse.expected);
        match tokio::time::timeout(self.pulse.interval, call).await {
            Ok(Ok(answer)) => {
                let end = self.pulse.note_answer(answer, Instant::now());
                self.window.send_replace(self.pulse.ttl);
                end
            }
            Ok(Err(error)) => {
                tracing::warn!(work = %self.work, %error, "heartbeat");
                self.pulse.note_failure(Some(&error), Instant::now())
            }
            Err(_) => {
                tracing::warn!(work = %self.work, "a heartbeat was cut off");
                self.pulse.note_failure(None, Instant::now())
            }
        }
    }

    fn explain(&self, end: LeaseEnd, is_first: bool) {
        match end {
            LeaseEnd::StopAsked if is_first => tracing::error!(
                work = %self.work,
                "the platform asked for a stop before any work was done: whoever claimed the \
                 item has released it too early, and the session may hang"
            ),
            LeaseEnd::StopAsked => {
                tracing::info!(work = %self.work, "the platform asks for a stop")
            }
            LeaseEnd::Lost | LeaseEnd::Rejected | LeaseEnd::AssumedLost => {
                tracing::error!(work = %self.work, ?end, "the lease is over");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(state: WorkState, lease_extended: bool, ttl_seconds: u64) -> Heartbeat {
        let rest = serde_json::Map::new();
        Heartbeat { last_heartbeat: "t1".into(), lease_extended, state, ttl_seconds, rest }
    }

    #[test]
    fn the_next_heartbeat_expects_the_last_answer_and_comes_in_half_the_lease() {
        let now = Instant::now();
        let mut pulse = Pulse::new(now);
        assert_eq!(pulse.note_answer(answer(WorkState::Active, true, 20), now), None);
        assert_eq!((pulse.expected.as_str(), pulse.interval), ("t1", Duration::from_secs(10)));
        pulse.note_answer(answer(WorkState::Active, true, 300), now);
        assert_eq!(pulse.interval, INTERVAL_MAX);
        pulse.note_answer(answer(WorkState::Active, true, 1), now);
        assert_eq!(pulse.interval, INTERVAL_MIN);
    }

    #[test]
    fn a_stop_or_a_lease_that_is_not_extended_ends_the_run() {
        let now = Instant::now();
        for (state, extended) in
            [(WorkState::Stopping, true), (WorkState::Stopped, true), (WorkState::Active, false)]
        {
            let end = Pulse::new(now).note_answer(answer(state, extended, 300), now);
            assert_eq!(end, Some(LeaseEnd::StopAsked));
        }
    }

    #[test]
    fn silence_ends_a_lease_only_after_its_whole_time() {
        let now = Instant::now();
        let pulse = Pulse::new(now);
        assert_eq!(pulse.note_failure(None, now + TTL_ASSUMED), None);
        let late = now + TTL_ASSUMED + Duration::from_secs(1);
        assert_eq!(pulse.note_failure(None, late), Some(LeaseEnd::AssumedLost));
    }
}

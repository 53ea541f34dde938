//! A work item: the claim on a session, from the queue to its end (spec 3.2, 3.3).
//!
//! ```text
//!  Queued ──ack──▶ Starting ──first heartbeat──▶ Active ──┐ heartbeats
//!    ▲                │ (only with a limit)        │  ▲───┘
//!    └────────────────┴──────── lease ran out ─────┘
//!  Queued, Starting, Active ──stop──▶ Stopping ──stop, or a lease's time──▶ Stopped
//!  any of them ──stop by force──▶ Stopped
//! ```
//!
//! A lease is bound to nobody: who knows the ids and the value of the last heartbeat has it.

use std::time::Duration;

use crate::clock::Timestamp;

/// What happens to an item that was acknowledged and never got a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartingRule {
    /// It stays, and its session with it, until somebody stops it by force: what the platform
    /// does (anthropics/anthropic-sdk-python issue 1746).
    StaysForever,
    /// It is queued again after this time.
    RequeueAfter(Duration),
}

/// The times that a lease is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    /// How long a heartbeat is good for.
    pub(crate) ttl: Duration,
    /// What an item without a heartbeat comes to.
    pub(crate) starting: StartingRule,
}

/// Where an item stands, with what exists only there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Waiting; `polled_at`: handed out, and not acknowledged yet.
    Queued { polled_at: Option<Timestamp> },
    /// Acknowledged; `until`: when it goes back, if ever.
    Starting { until: Option<Timestamp> },
    /// Held until `until`.
    Active { until: Timestamp },
    /// Its worker was asked to end; nobody waits for it longer than `until`.
    Stopping { until: Timestamp },
    /// Over.
    Stopped,
}

/// A work item's state, and the times that the API shows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) state: State,
    pub(crate) acknowledged_at: Option<Timestamp>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) latest_heartbeat_at: Option<Timestamp>,
    pub(crate) stop_requested_at: Option<Timestamp>,
    pub(crate) stopped_at: Option<Timestamp>,
}

/// What a heartbeat expects of the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Beat {
    /// `NO_HEARTBEAT`: it is the first.
    First,
    /// The answer to the last one, as it stood on the wire.
    After(String),
    /// Nothing was said: no comparison.
    Whatever,
}

/// The answer to a heartbeat that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BeatAnswer {
    /// Whether the lease goes on.
    pub(crate) lease_extended: bool,
    /// Its value for the next one, if there has been any.
    pub(crate) last: Option<Timestamp>,
}

/// Why an item does not move. It is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// An ack for what is not handed out.
    #[error("the work item is not waiting for an acknowledgement")]
    NotPending,
    /// A heartbeat of somebody who does not hold the lease.
    #[error("expected_last_heartbeat is not the last heartbeat of this work item")]
    NotTheHolder,
    /// A stop for what is over.
    #[error("the work item is already stopped")]
    AlreadyStopped,
}

impl Work {
    /// A new item that waits.
    pub(crate) fn queued() -> Self {
        Self {
            state: State::Queued { polled_at: None },
            acknowledged_at: None,
            started_at: None,
            latest_heartbeat_at: None,
            stop_requested_at: None,
            stopped_at: None,
        }
    }

    /// Whether it still claims its session.
    pub(crate) fn is_live(&self) -> bool {
        match self.state {
            State::Queued { .. }
            | State::Starting { .. }
            | State::Active { .. }
            | State::Stopping { .. } => true,
            State::Stopped => false,
        }
    }

    /// Whether no worker has taken it yet.
    pub(crate) fn is_unclaimed(&self) -> bool {
        match self.state {
            State::Queued { .. } => true,
            State::Starting { .. }
            | State::Active { .. }
            | State::Stopping { .. }
            | State::Stopped => false,
        }
    }

    /// Does what time has done; to be called before anything else. True if it changed.
    pub(crate) fn settle(&mut self, now: Timestamp) -> bool {
        match self.state {
            State::Starting { until: Some(until) } | State::Active { until } if until <= now => {
                self.expire()
            }
            State::Stopping { until } if until <= now => {
                self.end(now);
                true
            }
            State::Queued { .. }
            | State::Starting { .. }
            | State::Active { .. }
            | State::Stopping { .. }
            | State::Stopped => false,
        }
    }

    /// Lets its lease run out now, if it has one. True if it had.
    pub(crate) fn expire(&mut self) -> bool {
        match self.state {
            State::Starting { .. } | State::Active { .. } => {
                self.state = State::Queued { polled_at: None };
                self.acknowledged_at = None;
                true
            }
            State::Queued { .. } | State::Stopping { .. } | State::Stopped => false,
        }
    }

    /// Hands it out if a poll may have it: it waits, or it was handed out `reclaim` ago and
    /// nobody acknowledged it.
    pub(crate) fn hand_out(&mut self, now: Timestamp, reclaim: Duration) -> bool {
        match self.state {
            State::Queued { polled_at } => {
                let free = polled_at.is_none_or(|polled_at| now.since(polled_at) >= reclaim);
                if free {
                    self.state = State::Queued { polled_at: Some(now) };
                }
                free
            }
            State::Starting { .. }
            | State::Active { .. }
            | State::Stopping { .. }
            | State::Stopped => false,
        }
    }

    /// Somebody takes it: of several that hold it after a reclaim, the first.
    pub(crate) fn ack(&mut self, now: Timestamp, lease: Lease) -> Result<(), Refused> {
        match self.state {
            State::Queued { polled_at: Some(_) } => {
                let until = match lease.starting {
                    StartingRule::StaysForever => None,
                    StartingRule::RequeueAfter(limit) => Some(now.plus(limit)),
                };
                self.state = State::Starting { until };
                self.acknowledged_at = Some(now);
                Ok(())
            }
            State::Queued { polled_at: None }
            | State::Starting { .. }
            | State::Active { .. }
            | State::Stopping { .. }
            | State::Stopped => Err(Refused::NotPending),
        }
    }

    /// A sign of life from its worker.
    pub(crate) fn heartbeat(
        &mut self,
        beat: &Beat,
        now: Timestamp,
        lease: Lease,
    ) -> Result<BeatAnswer, Refused> {
        match self.state {
            State::Queued { .. } => Err(Refused::NotTheHolder),
            State::Starting { .. } => match beat {
                Beat::First | Beat::Whatever => {
                    self.started_at.get_or_insert(now);
                    Ok(self.extend(now, lease))
                }
                Beat::After(_) => Err(Refused::NotTheHolder),
            },
            State::Active { .. } => {
                let holder = match beat {
                    Beat::First => false,
                    Beat::Whatever => true,
                    Beat::After(last) => {
                        self.latest_heartbeat_at.is_some_and(|at| at.to_string() == *last)
                    }
                };
                if holder { Ok(self.extend(now, lease)) } else { Err(Refused::NotTheHolder) }
            }
            State::Stopping { .. } => {
                // It is alive, and on its way out.
                let answer = self.extend(now, lease);
                self.state = State::Stopping { until: now.plus(lease.ttl) };
                Ok(answer)
            }
            State::Stopped => {
                Ok(BeatAnswer { lease_extended: false, last: self.latest_heartbeat_at })
            }
        }
    }

    /// Asks its worker to end. Asking twice changes nothing.
    pub(crate) fn stop(&mut self, now: Timestamp, lease: Lease) -> Result<(), Refused> {
        match self.state {
            State::Queued { .. } | State::Starting { .. } | State::Active { .. } => {
                self.state = State::Stopping { until: now.plus(lease.ttl) };
                self.stop_requested_at = Some(now);
                Ok(())
            }
            State::Stopping { .. } => Ok(()),
            State::Stopped => Err(Refused::AlreadyStopped),
        }
    }

    /// Ends it.
    pub(crate) fn stop_by_force(&mut self, now: Timestamp) -> Result<(), Refused> {
        if !self.is_live() {
            return Err(Refused::AlreadyStopped);
        }
        self.end(now);
        Ok(())
    }

    fn end(&mut self, now: Timestamp) {
        self.state = State::Stopped;
        self.stop_requested_at.get_or_insert(now);
        self.stopped_at = Some(now);
    }

    fn extend(&mut self, now: Timestamp, lease: Lease) -> BeatAnswer {
        self.latest_heartbeat_at = Some(self.next_value(now));
        self.state = State::Active { until: now.plus(lease.ttl) };
        BeatAnswer { lease_extended: true, last: self.latest_heartbeat_at }
    }

    /// Each heartbeat's value differs from the last, so that only its holder knows it.
    fn next_value(&self, now: Timestamp) -> Timestamp {
        let after = |last: Timestamp| last.plus(Duration::from_micros(1));
        self.latest_heartbeat_at.map_or(now, |last| now.max(after(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Lease =
        Lease { ttl: Duration::from_secs(300), starting: StartingRule::StaysForever };
    const RECLAIM: Duration = Duration::from_secs(5);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn starting(at: Timestamp) -> Work {
        let mut work = Work::queued();
        assert!(work.hand_out(at, RECLAIM));
        work.ack(at, LEASE).unwrap();
        work
    }

    fn value(answer: BeatAnswer) -> Beat {
        Beat::After(answer.last.unwrap().to_string())
    }

    #[test]
    fn an_item_is_handed_out_again_only_when_nobody_acknowledged_it_in_time() {
        let mut work = Work::queued();
        assert!(work.hand_out(at(0), RECLAIM));
        assert!(!work.hand_out(at(4), RECLAIM));
        assert!(work.hand_out(at(5), RECLAIM));
        work.ack(at(6), LEASE).unwrap();
        assert!(!work.hand_out(at(1000), RECLAIM));
    }

    #[test]
    fn of_two_that_hold_an_item_the_first_to_acknowledge_has_it() {
        let mut work = Work::queued();
        assert_eq!(work.ack(at(0), LEASE), Err(Refused::NotPending));
        work.hand_out(at(0), RECLAIM);
        work.hand_out(at(5), RECLAIM);
        assert_eq!(work.ack(at(6), LEASE), Ok(()));
        assert_eq!(work.ack(at(6), LEASE), Err(Refused::NotPending));
    }

    #[test]
    fn only_who_knows_the_last_heartbeat_keeps_the_lease() {
        let mut work = starting(at(0));
        let wrong = Beat::After("2026-01-01T00:00:00.000000Z".into());
        assert_eq!(work.heartbeat(&wrong, at(1), LEASE), Err(Refused::NotTheHolder));
        let first = work.heartbeat(&Beat::First, at(1), LEASE).unwrap();
        assert_eq!(work.heartbeat(&Beat::First, at(2), LEASE), Err(Refused::NotTheHolder));
        let second = work.heartbeat(&value(first), at(2), LEASE).unwrap();
        assert_eq!(work.heartbeat(&value(first), at(3), LEASE), Err(Refused::NotTheHolder));
        assert!(work.heartbeat(&value(second), at(3), LEASE).unwrap().lease_extended);
    }

    #[test]
    fn two_heartbeats_of_one_moment_have_different_values() {
        let mut work = starting(at(0));
        let first = work.heartbeat(&Beat::First, at(1), LEASE).unwrap();
        let second = work.heartbeat(&value(first), at(1), LEASE).unwrap();
        assert_ne!(first.last, second.last);
    }

    #[test]
    fn a_lease_that_runs_out_goes_back_to_the_queue_and_its_old_holder_hears_of_it() {
        let mut work = starting(at(0));
        let first = work.heartbeat(&Beat::First, at(0), LEASE).unwrap();
        assert!(!work.settle(at(299)));
        assert!(work.settle(at(300)));
        assert_eq!(work.state, State::Queued { polled_at: None });
        assert_eq!(work.heartbeat(&value(first), at(300), LEASE), Err(Refused::NotTheHolder));
        work.hand_out(at(301), RECLAIM);
        work.ack(at(301), LEASE).unwrap();
        work.heartbeat(&Beat::First, at(302), LEASE).unwrap();
        assert_eq!(work.heartbeat(&value(first), at(303), LEASE), Err(Refused::NotTheHolder));
        assert_eq!(work.started_at, Some(at(0)));
    }

    #[test]
    fn an_item_without_a_heartbeat_is_stuck_unless_the_rule_says_otherwise() {
        assert!(!starting(at(0)).settle(at(1_000_000)));
        let rule = StartingRule::RequeueAfter(Duration::from_secs(60));
        let mut work = Work::queued();
        work.hand_out(at(0), RECLAIM);
        work.ack(at(0), Lease { starting: rule, ..LEASE }).unwrap();
        assert!(!work.settle(at(59)));
        assert!(work.settle(at(60)));
        assert!(work.hand_out(at(60), RECLAIM));
    }

    #[test]
    fn a_worker_that_is_asked_to_end_hears_it_whatever_it_expects() {
        let mut work = starting(at(0));
        work.heartbeat(&Beat::First, at(0), LEASE).unwrap();
        work.stop(at(1), LEASE).unwrap();
        assert_eq!(work.stop(at(1), LEASE), Ok(()));
        assert!(work.heartbeat(&Beat::First, at(2), LEASE).is_ok());
        assert!(matches!(work.state, State::Stopping { .. }));
        work.stop_by_force(at(3)).unwrap();
        assert!(!work.heartbeat(&Beat::First, at(4), LEASE).unwrap().lease_extended);
        assert_eq!(work.stop(at(5), LEASE), Err(Refused::AlreadyStopped));
        assert_eq!(work.stop_by_force(at(5)), Err(Refused::AlreadyStopped));
        assert_eq!((work.stop_requested_at, work.stopped_at), (Some(at(1)), Some(at(3))));
    }

    #[test]
    fn a_worker_that_never_ends_is_not_waited_for_forever() {
        let mut work = starting(at(0));
        work.stop(at(1), LEASE).unwrap();
        assert!(!work.settle(at(300)));
        assert!(work.settle(at(301)));
        assert!(!work.is_live());
    }
}

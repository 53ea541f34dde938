//! When a session has been idle for long enough to let go of it.
//!
//! Pure: time comes in with each call. The countdown begins with an event that ends a turn, or
//! when the last open call is done after it; every other event takes it back, but for the two
//! that say nothing about the turn.

use std::time::{Duration, Instant};

use agents::{Event, EventView, StopReason};

/// What an event means for the countdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdleEffect {
    /// The turn is over.
    Arm,
    /// The session is at work.
    Disarm,
    /// Neither.
    Neutral,
}

impl IdleEffect {
    pub(super) fn of(event: &Event) -> Self {
        match event.view() {
            EventView::Idle(StopReason::TurnEnded) => Self::Arm,
            EventView::Confirmation { .. } | EventView::ThreadEnded(_) => Self::Neutral,
            EventView::Idle(StopReason::RequiresAction)
            | EventView::ToolUse { .. }
            | EventView::CustomToolUse(_)
            | EventView::ToolResult(_)
            | EventView::SessionEnded
            | EventView::Other => Self::Disarm,
        }
    }
}

/// The countdown.
#[derive(Debug)]
pub(super) struct IdleClock {
    max_idle: Duration,
    armed_at: Option<Instant>,
}

impl IdleClock {
    pub(super) fn new(max_idle: Duration) -> Self {
        Self { max_idle, armed_at: None }
    }

    pub(super) fn note(&mut self, effect: IdleEffect, now: Instant) {
        match effect {
            IdleEffect::Arm => self.armed_at = Some(now),
            IdleEffect::Disarm => self.armed_at = None,
            IdleEffect::Neutral => {}
        }
    }

    /// Work that held the countdown up is done: a full one begins.
    pub(super) fn work_done(&mut self, now: Instant) {
        if self.armed_at.is_some() {
            self.armed_at = Some(now);
        }
    }

    /// When the session is let go, if nothing happens and no work is open.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.armed_at.map(|at| at + self.max_idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MAX: Duration = Duration::from_secs(60);

    fn effect(value: serde_json::Value) -> IdleEffect {
        IdleEffect::of(&Event::from_value(value).unwrap())
    }

    #[test]
    fn only_the_end_of_a_turn_starts_the_countdown() {
        let idle = |reason| {
            effect(json!({"type": "session.status_idle", "stop_reason": {"type": reason}}))
        };
        assert_eq!(idle("end_turn"), IdleEffect::Arm);
        assert_eq!(idle("retries_exhausted"), IdleEffect::Arm);
        assert_eq!(idle("requires_action"), IdleEffect::Disarm);
        assert_eq!(effect(json!({"type": "session.thread_status_idle"})), IdleEffect::Disarm);
        assert_eq!(effect(json!({"type": "moon.phase"})), IdleEffect::Disarm);
    }

    #[test]
    fn a_confirmation_leaves_the_countdown_alone() {
        let neutral =
            json!({"type": "user.tool_confirmation", "tool_use_id": "s", "result": "allow"});
        assert_eq!(effect(neutral), IdleEffect::Neutral);
    }

    #[test]
    fn work_that_ends_gives_a_full_countdown() {
        let start = Instant::now();
        let mut clock = IdleClock::new(MAX);
        clock.work_done(start);
        assert_eq!(clock.deadline(), None);
        clock.note(IdleEffect::Arm, start);
        clock.work_done(start + MAX);
        assert_eq!(clock.deadline(), Some(start + MAX + MAX));
        clock.note(IdleEffect::Disarm, start + MAX);
        assert_eq!(clock.deadline(), None);
    }
}

//! A clock that a test moves.

use crate::{Clock, Timestamp};
use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::watch;

/// Stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<Timestamp>,
}

impl ManualClock {
    /// At 2026-01-01T00:00:00Z.
    pub fn new() -> Self {
        Self { now: watch::Sender::new(Timestamp::from_ms(1_767_225_600_000)) }
    }

    /// Moves it forward, and wakes whoever waits for a time that has come.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now = now.plus(by));
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    async fn sleep_until(&self, at: Timestamp) {
        // The sender lives as long as `self`, so there is no error to wait for.
        let _ = self.now.subscribe().wait_for(|now| *now >= at).await;
    }
}

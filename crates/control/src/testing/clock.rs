//! A clock that a test moves.

use crate::{Clock, Timestamp, Uptime};
use async_trait::async_trait;
use std::time::Duration;
use tokio::sync::watch;

/// Stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    time: watch::Sender<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Time {
    wall: Timestamp,
    boots: u32,
    elapsed: Duration,
}

impl ManualClock {
    /// At 2026-01-01T00:00:00Z, on a machine that has been up for an hour.
    pub fn new() -> Self {
        let wall = Timestamp::from_ms(1_767_225_600_000);
        let elapsed = Duration::from_secs(3600);
        Self { time: watch::Sender::new(Time { wall, boots: 1, elapsed }) }
    }

    /// Moves it forward, and wakes whoever waits for a time that has come.
    pub fn advance(&self, by: Duration) {
        self.time.send_modify(|time| {
            time.wall = time.wall.plus(by);
            time.elapsed += by;
        });
    }

    /// Somebody sets the wall clock; no time passes.
    pub fn set(&self, wall: Timestamp) {
        self.time.send_modify(|time| time.wall = wall);
    }

    /// The machine is off for so long.
    pub fn reboot(&self, off: Duration) {
        self.time.send_modify(|time| {
            *time = Time {
                wall: time.wall.plus(off),
                boots: time.boots + 1,
                elapsed: Duration::from_secs(5),
            };
        });
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
        self.time.borrow().wall
    }

    fn uptime(&self) -> Uptime {
        let Time { boots, elapsed, .. } = *self.time.borrow();
        Uptime { boot: format!("boot {boots}"), elapsed }
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.time.borrow().elapsed.saturating_add(duration);
        // The sender lives as long as `self`, so there is no error to wait for.
        let _ = self.time.subscribe().wait_for(|time| time.elapsed >= until).await;
    }
}

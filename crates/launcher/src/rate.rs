//! How fast VMs may be launched: a token bucket as a pure rule, told the time.
//!
//! AWS throttles RunMicrovm per account, and a throttled webhook costs the platform one of its
//! three deliveries. So launches are spaced here, and refused only where the wait is too long.

use std::time::{Duration, Instant};

/// Spaces launches: `per_second` of them on average, as many at once after a pause.
#[derive(Debug)]
pub(crate) struct LaunchRate {
    interval: Duration,
    /// How far reservations may run ahead of the clock without having to wait.
    burst: Duration,
    /// When the bucket is full again.
    full_at: Option<Instant>,
}

impl LaunchRate {
    /// Zero is taken as one: a launcher that never launches is no launcher.
    pub(crate) fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        let interval = Duration::from_secs(1) / per_second;
        Self { interval, burst: interval * (per_second - 1), full_at: None }
    }

    /// Takes the next free place and says how long to wait for it; None where that is more than
    /// `wait_max`, and then nothing is taken.
    pub(crate) fn reserve(&mut self, now: Instant, wait_max: Duration) -> Option<Duration> {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now));
        let wait = full_at.saturating_duration_since(now).saturating_sub(self.burst);
        if wait > wait_max {
            return None;
        }
        self.full_at = Some(full_at + self.interval);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_is_spaced() {
        let mut rate = LaunchRate::new(5);
        let now = Instant::now();
        let waits: Vec<u128> = (0..8)
            .map(|_| rate.reserve(now, Duration::from_secs(1)).unwrap().as_millis())
            .collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 200, 400, 600]);
        assert_eq!(
            rate.reserve(now + Duration::from_secs(9), Duration::ZERO),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn a_wait_too_long_is_refused_and_takes_no_place() {
        let mut rate = LaunchRate::new(1);
        let now = Instant::now();
        assert_eq!(rate.reserve(now, Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(rate.reserve(now, Duration::from_millis(999)), None);
        assert_eq!(rate.reserve(now, Duration::from_secs(1)), Some(Duration::from_secs(1)));
    }
}

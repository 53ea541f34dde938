//! How much of an endpoint one VM may use: bandwidth, requests a second, requests at once. AWS sets
//! them by the VM's memory (spec 5, 6); here they are off unless configured.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// One limit of every VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    Off,
    /// As on AWS for a VM of its memory.
    Aws,
    /// The same for every VM.
    Fixed(u64),
}

/// The limits of every VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes a second, each way. What is faster is slowed down.
    pub bandwidth: Limit,
    /// Requests a second, on average over [`BURST`]. What is more is answered 429.
    pub requests: Limit,
    /// Requests, tunnels and shells at once. What is more is answered 429.
    pub connections: Limit,
}

impl Limits {
    pub const OFF: Self =
        Self { bandwidth: Limit::Off, requests: Limit::Off, connections: Limit::Off };
    pub const AWS: Self =
        Self { bandwidth: Limit::Aws, requests: Limit::Aws, connections: Limit::Aws };
}

/// How long a bucket takes to fill: what may come at once after a pause.
const BURST: Duration = Duration::from_secs(1);

/// Memory that AWS gives one vCPU at its peak to, in MiB; limits are multiples of it.
const UNIT_MIB: u64 = 512;
const AWS_BANDWIDTH_PER_UNIT: u64 = 1_000_000;
const AWS_REQUESTS_PER_UNIT: u64 = 10;
const AWS_CONNECTIONS_PER_UNIT: u64 = 8;

impl Limit {
    fn of(self, aws_per_unit: u64, memory_mib: u32) -> Option<u64> {
        match self {
            Self::Off => None,
            Self::Aws => Some(aws_per_unit * (u64::from(memory_mib) / UNIT_MIB).max(1)),
            Self::Fixed(limit) => Some(limit.max(1)),
        }
    }
}

/// The limits of one VM and what it has used.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) incoming: Option<Bucket>,
    pub(crate) outgoing: Option<Bucket>,
    pub(crate) requests: Option<Bucket>,
    pub(crate) connections: Option<usize>,
}

impl Budget {
    pub(crate) fn new(limits: Limits, memory_mib: u32) -> Self {
        let bandwidth = limits.bandwidth.of(AWS_BANDWIDTH_PER_UNIT, memory_mib);
        let connections = limits.connections.of(AWS_CONNECTIONS_PER_UNIT, memory_mib);
        Self {
            incoming: bandwidth.map(Bucket::new),
            outgoing: bandwidth.map(Bucket::new),
            requests: limits.requests.of(AWS_REQUESTS_PER_UNIT, memory_mib).map(Bucket::new),
            connections: connections.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
        }
    }
}

/// Fills with time, is emptied by use; may be overdrawn by what is already here.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    level: Mutex<Level>,
}

#[derive(Debug)]
struct Level {
    amount: f64,
    at: Instant,
}

impl Bucket {
    fn new(per_second: u64) -> Self {
        let per_second = per_second as f64;
        let amount = per_second * BURST.as_secs_f64();
        Self { per_second, level: Mutex::new(Level { amount, at: Instant::now() }) }
    }

    /// Takes `amount`; answers how long to wait before more is taken.
    pub(crate) fn draw(&self, amount: usize, now: Instant) -> Option<Duration> {
        let left = self.with_level(now, |level| {
            level.amount -= amount as f64;
            level.amount
        });
        (left < 0.0).then(|| Duration::from_secs_f64(-left / self.per_second))
    }

    /// Takes one where there is one.
    pub(crate) fn try_take(&self, now: Instant) -> bool {
        self.with_level(now, |level| {
            let there = level.amount >= 1.0;
            if there {
                level.amount -= 1.0;
            }
            there
        })
    }

    fn with_level<T>(&self, now: Instant, then: impl FnOnce(&mut Level) -> T) -> T {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(level.at).as_secs_f64();
        let full = self.per_second * BURST.as_secs_f64();
        level.amount = (level.amount + passed * self.per_second).min(full);
        level.at = level.at.max(now);
        then(&mut level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn awss_limits_grow_with_memory() {
        let of = |mib| Budget::new(Limits::AWS, mib);
        assert_eq!(of(512).connections, Some(8));
        assert_eq!(of(2048).connections, Some(32));
        assert_eq!(of(8192).connections, Some(128));
        assert_eq!(of(2048).requests.unwrap().per_second, 40.0);
        assert_eq!(of(2048).incoming.unwrap().per_second, 4e6);
        assert!(Budget::new(Limits::OFF, 512).requests.is_none());
    }

    #[test]
    fn a_bucket_gives_its_rate_and_no_more() {
        let bucket = Bucket::new(10);
        let start = Instant::now();
        let taken = (0..100).filter(|_| bucket.try_take(start)).count();
        assert_eq!(taken, 10);
        let later = start + Duration::from_millis(500);
        assert_eq!((0..100).filter(|_| bucket.try_take(later)).count(), 5);
    }

    #[test]
    fn what_is_overdrawn_is_waited_for() {
        let bucket = Bucket::new(1000);
        let now = Instant::now() + Duration::from_secs(1);
        assert_eq!(bucket.draw(1000, now), None);
        assert_eq!(bucket.draw(500, now), Some(Duration::from_millis(500)));
        assert_eq!(bucket.draw(500, now), Some(Duration::from_secs(1)));
        let later = now + Duration::from_secs(3);
        assert_eq!(bucket.draw(1, later), None);
    }
}

//! Whether a VM's network was quiet: counters read now and then, compared with those before.

use crate::{
    IdleCounts, Timestamp,
    life::{Life, Terms},
};
use engine::VmUsage;
use std::time::Duration;

/// Samples in one idle limit: a VM is found idle at most a tenth too late, as on AWS (66 to 72 s
/// for a limit of 60).
const SAMPLES_PER_LIMIT: u32 = 10;

/// Longest time between samples. A worker that holds a work item sends a heartbeat every 30 s.
const SAMPLE_EVERY_MAX: Duration = Duration::from_secs(30);

/// Bytes between two samples that are no work: a kernel renews its neighbours' addresses by itself,
/// some 42 to 90 bytes each time. The smallest HTTP exchange over TCP is above.
const NOISE_BYTES_MAX: u64 = 400;

/// Compares a VM's network counters over time.
#[derive(Debug)]
pub(crate) struct TrafficMeter {
    /// None: traffic makes no difference to this VM.
    every: Option<Duration>,
    last: Option<(Timestamp, u64)>,
}

impl TrafficMeter {
    pub(crate) fn new(terms: &Terms) -> Self {
        let every = match terms.idle_counts {
            IdleCounts::Work => terms.idle_limit(),
            IdleCounts::Ingress => None,
        };
        let every = every.map(|limit| (limit / SAMPLES_PER_LIMIT).min(SAMPLE_EVERY_MAX));
        Self { every, last: None }
    }

    /// When the counters are to be read next; none: not in this phase, or never.
    pub(crate) fn next_sample(&self, life: &Life) -> Option<Timestamp> {
        let every = self.every?;
        let Life::Running { active_at } = life else { return None };
        let last = self.last.map_or(*active_at, |(at, _)| at.max(*active_at));
        Some(last.plus(every))
    }

    /// Whether there was traffic since the sample before. The first one only sets the mark.
    pub(crate) fn sample(&mut self, usage: &VmUsage, now: Timestamp) -> bool {
        let total = usage.guest_sent_bytes.saturating_add(usage.guest_received_bytes);
        let before = self.last.replace((now, total));
        before.is_some_and(|(_, before)| total.abs_diff(before) > NOISE_BYTES_MAX)
    }

    /// There was no answer at `now`.
    pub(crate) fn missed(&mut self, now: Timestamp) {
        self.last = self.last.map(|(_, total)| (now, total));
    }
}

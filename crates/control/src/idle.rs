//! Whether a VM did anything that counts: looked at now and then, compared with before.

use crate::{
    IdleCounts, IdlePolicy,
    clock::Steady,
    life::{Life, Terms},
};
use engine::VmUsage;
use std::time::Duration;

/// Looks in one idle limit: a VM is found idle at most a tenth too late, as on AWS (66 to 72 s
/// for a limit of 60), and after a restart at most a tenth too early.
const LOOKS_PER_LIMIT: u32 = 10;

/// Longest time between looks. A worker that holds a work item sends a heartbeat every 30 s.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(30);

/// Bytes between two samples that are no work: a kernel renews its neighbours' addresses by itself,
/// some 42 to 90 bytes each time. The smallest HTTP exchange over TCP is above.
const NOISE_BYTES_MAX: u64 = 400;

/// When to look at a VM's traffic, and what its network counters said before.
#[derive(Debug)]
pub(crate) struct TrafficMeter {
    /// None: traffic makes no difference to this VM.
    every: Option<Duration>,
    counts: IdleCounts,
    looked_at: Option<Steady>,
    bytes: Option<u64>,
}

impl TrafficMeter {
    pub(crate) fn new(terms: &Terms) -> Self {
        let every = |policy: IdlePolicy| (policy.max_idle / LOOKS_PER_LIMIT).min(LOOK_EVERY_MAX);
        Self {
            every: terms.idle_policy.map(every),
            counts: terms.idle_counts,
            looked_at: None,
            bytes: None,
        }
    }

    /// When to look next; none: not in this phase, or never.
    pub(crate) fn next_look(&self, life: &Life) -> Option<Steady> {
        let every = self.every?;
        let Life::Running { active_at } = life else { return None };
        let last = self.looked_at.map_or(*active_at, |at| at.max(*active_at));
        Some(last.plus(every))
    }

    /// Whether the guest's network is to be looked at as well as the endpoint.
    pub(crate) fn looks_at_network(&self) -> bool {
        match self.counts {
            IdleCounts::Work => true,
            IdleCounts::Ingress => false,
        }
    }

    pub(crate) fn looked(&mut self, now: Steady) {
        self.looked_at = Some(now);
    }

    /// Whether there was traffic since the sample before. The first one only sets the mark.
    pub(crate) fn sample(&mut self, usage: &VmUsage) -> bool {
        let total = usage.guest_sent_bytes.saturating_add(usage.guest_received_bytes);
        let before = self.bytes.replace(total);
        before.is_some_and(|before| total.abs_diff(before) > NOISE_BYTES_MAX)
    }
}

//! What crosses the endpoint of a VM, noted by whoever serves that endpoint: without a lock and
//! without a write of the store, since it is noted for every piece of every stream.
//!
//! The VM's keeper looks at it when the idle clock would strike, and now and then before. Under
//! AWS's rule (`idle.counts = "ingress"`) bytes count and nothing else: an open stream that says
//! nothing does not keep a VM awake. Under Warren's own, a request that waits for its answer and an
//! open shell count too; a WebSocket or an open stream that is silent does not, or a forgotten
//! browser tab would keep a VM for ever.

use crate::{
    IdleCounts,
    clock::{Steady, SteadyClock},
};
use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed},
};

/// Whether something open at the endpoint of a VM keeps it awake while no bytes cross.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// A request that waits for its answer, a shell.
    WhileOpen,
    /// A WebSocket, a stream of events: it counts when it says something.
    BytesOnly,
}

/// The endpoint traffic of one VM.
#[derive(Debug, Default)]
pub(crate) struct Ingress {
    /// Steady milliseconds; 0: never.
    last_ms: AtomicI64,
    holds: AtomicUsize,
}

impl Ingress {
    /// When something that counts last happened; none: never since this process began.
    pub(crate) fn last(&self, counts: IdleCounts, now: Steady) -> Option<Steady> {
        match counts {
            IdleCounts::Work if self.holds.load(Relaxed) > 0 => Some(now),
            IdleCounts::Work | IdleCounts::Ingress => {
                Some(self.last_ms.load(Relaxed)).filter(|ms| *ms != 0).map(Steady::from_ms)
            }
        }
    }
}

/// Something that is open at a VM's endpoint. Dropping it says that it was closed.
#[derive(Debug)]
pub struct Traffic {
    ingress: Arc<Ingress>,
    clock: SteadyClock,
    hold: Hold,
}

impl Traffic {
    pub(crate) fn new(ingress: Arc<Ingress>, clock: SteadyClock, hold: Hold) -> Self {
        if hold == Hold::WhileOpen {
            ingress.holds.fetch_add(1, Relaxed);
        }
        let traffic = Self { ingress, clock, hold };
        traffic.bytes_crossed();
        traffic
    }

    /// To be called for every piece that goes either way. Costs a clock reading and a store.
    pub fn bytes_crossed(&self) {
        self.ingress.last_ms.store(self.clock.now().ms(), Relaxed);
    }

    /// From now on it holds the VM so, a request that became a WebSocket say.
    pub fn hold(&mut self, hold: Hold) {
        match (self.hold, hold) {
            (Hold::WhileOpen, Hold::BytesOnly) => {
                self.ingress.holds.fetch_sub(1, Relaxed);
            }
            (Hold::BytesOnly, Hold::WhileOpen) => {
                self.ingress.holds.fetch_add(1, Relaxed);
            }
            (Hold::WhileOpen, Hold::WhileOpen) | (Hold::BytesOnly, Hold::BytesOnly) => {}
        }
        self.hold = hold;
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.bytes_crossed();
        self.hold(Hold::BytesOnly);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ManualClock;
    use std::time::Duration;

    #[test]
    fn what_is_open_holds_a_vm_awake_by_warrens_rule_alone() {
        let manual = Arc::new(ManualClock::new());
        let clock = SteadyClock::new(manual.clone(), None);
        let ingress = Arc::new(Ingress::default());
        let start = clock.now();
        assert_eq!(ingress.last(IdleCounts::Work, start), None);
        let mut request = Traffic::new(ingress.clone(), clock.clone(), Hold::WhileOpen);
        manual.advance(Duration::from_secs(60));
        let later = clock.now();
        assert_eq!(ingress.last(IdleCounts::Work, later), Some(later));
        assert_eq!(ingress.last(IdleCounts::Ingress, later), Some(start));
        request.hold(Hold::BytesOnly);
        assert_eq!(ingress.last(IdleCounts::Work, later), Some(start), "a silent WebSocket");
        request.bytes_crossed();
        assert_eq!(ingress.last(IdleCounts::Ingress, later), Some(later));
        request.hold(Hold::WhileOpen);
        drop(request);
        manual.advance(Duration::from_secs(60));
        assert_eq!(ingress.last(IdleCounts::Work, clock.now()), Some(later), "nothing is open");
    }
}

//! One VM for as long as it runs without a break: its connections, its limits, and the signal that
//! all of it is void. A VM that was suspended and resumed is another backend, since no connection
//! from before leads anywhere.

use crate::{
    limits::{Budget, Limits},
    refusal::Refusal,
    upstream::Upstreams,
    vms::Vms,
};
use control::{Grant, MicrovmId};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) struct Backend {
    pub(crate) id: MicrovmId,
    /// Full host name.
    pub(crate) endpoint: String,
    pub(crate) budget: Budget,
    pub(crate) upstreams: Upstreams,
    /// Cancelled when the VM does not run any more.
    pub(crate) stopped: CancellationToken,
    in_use: AtomicUsize,
}

impl Backend {
    fn new(grant: &Grant, limits: Limits) -> Self {
        Self {
            id: grant.microvm.clone(),
            endpoint: grant.endpoint.clone(),
            budget: Budget::new(limits, grant.memory_mib),
            upstreams: Upstreams::default(),
            stopped: CancellationToken::new(),
            in_use: AtomicUsize::new(0),
        }
    }

    /// Lets one more in, until [`Backend::leave`].
    ///
    /// # Errors
    /// [`Refusal::TooMany`].
    pub(crate) fn admit(&self) -> Result<(), Refusal> {
        if self.budget.requests.as_ref().is_some_and(|rate| !rate.try_take(Instant::now())) {
            return Err(Refusal::TooMany("too many requests a second for this MicroVM"));
        }
        let most = self.budget.connections.unwrap_or(usize::MAX);
        let one_more = |n: usize| (n < most).then_some(n + 1);
        match self.in_use.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(()),
            Err(_) => Err(Refusal::TooMany("too many connections to this MicroVM")),
        }
    }

    pub(crate) fn leave(&self) {
        self.in_use.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The backends of the VMs that run.
pub(crate) struct Backends {
    vms: Arc<dyn Vms>,
    limits: Limits,
    running: Mutex<HashMap<MicrovmId, Arc<Backend>>>,
    /// Owns what watches and drives connections; its owner waits for it at the end.
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Backends {
    pub(crate) fn new(vms: Arc<dyn Vms>, limits: Limits, stop: CancellationToken) -> Arc<Self> {
        let (running, tasks) = (Mutex::default(), TaskTracker::new());
        Arc::new(Self { vms, limits, running, tasks, stop })
    }

    /// The backend of a VM that was just found running.
    pub(crate) fn of(self: &Arc<Self>, grant: &Grant) -> Arc<Backend> {
        let mut running = self.running();
        let place = match running.entry(grant.microvm.clone()) {
            Entry::Occupied(found) if !found.get().stopped.is_cancelled() => {
                return found.get().clone();
            }
            Entry::Occupied(void) => void.remove_entry().0,
            Entry::Vacant(place) => place.into_key(),
        };
        let backend = Arc::new(Backend::new(grant, self.limits));
        running.insert(place, backend.clone());
        drop(running);
        self.tasks.spawn(watch(Arc::downgrade(self), self.vms.clone(), backend.clone()));
        backend
    }

    fn running(&self) -> MutexGuard<'_, HashMap<MicrovmId, Arc<Backend>>> {
        // The map is whole whatever panics.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Voids a backend when its VM stops running, or the gateway does.
async fn watch(backends: Weak<Backends>, vms: Arc<dyn Vms>, backend: Arc<Backend>) {
    let Some(stop) = backends.upgrade().map(|backends| backends.stop.clone()) else { return };
    tokio::select! {
        () = vms.stops_running(&backend.id) => {}
        () = stop.cancelled() => {}
    }
    backend.stopped.cancel();
    backend.upstreams.clear();
    if let Some(backends) = backends.upgrade() {
        let mut running = backends.running();
        if running.get(&backend.id).is_some_and(|found| Arc::ptr_eq(found, &backend)) {
            running.remove(&backend.id);
        }
    }
}

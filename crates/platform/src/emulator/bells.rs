//! Who waits for what: listeners to a session's events, pollers of an environment's queue.
//!
//! Entries are made when somebody waits and removed when nobody does any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agents::{EnvironmentId, Event, SessionId};
use tokio::sync::{Notify, broadcast};

use crate::clock::Timestamp;

/// Events that a listener may be behind; then it is cut off, and reconnects.
const LISTENER_EVENTS_MAX: usize = 1024;
/// A worker counts as polling for this long (spec 1.2).
const POLLING_FOR: Duration = Duration::from_secs(30);
/// Workers counted in an environment; more are not told apart.
const WORKERS_MAX: usize = 1024;

/// Listeners to sessions.
#[derive(Debug, Default)]
pub(crate) struct Listeners(Mutex<HashMap<SessionId, broadcast::Sender<Arc<Event>>>>);

impl Listeners {
    /// Hears the session's events from now on.
    pub(crate) fn listen(&self, session: &SessionId) -> broadcast::Receiver<Arc<Event>> {
        let mut all = lock(&self.0);
        all.retain(|_, sender| sender.receiver_count() > 0);
        all.entry(session.clone())
            .or_insert_with(|| broadcast::Sender::new(LISTENER_EVENTS_MAX))
            .subscribe()
    }

    /// Tells an event to whoever listens.
    pub(crate) fn tell(&self, session: &SessionId, event: Event) {
        if let Some(sender) = lock(&self.0).get(session) {
            // Fails where the last listener has just gone, which is as good as none.
            let _ = sender.send(Arc::new(event));
        }
    }
}

/// Pollers of environments.
#[derive(Debug, Default)]
pub(crate) struct Bells(Mutex<HashMap<EnvironmentId, Environment>>);

#[derive(Debug, Default)]
struct Environment {
    bell: Arc<Notify>,
    workers: HashMap<String, Timestamp>,
}

impl Bells {
    /// The bell that is rung when the environment has new work.
    pub(crate) fn bell(&self, environment: &EnvironmentId) -> Arc<Notify> {
        lock(&self.0).entry(environment.clone()).or_default().bell.clone()
    }

    /// There is new work.
    pub(crate) fn ring(&self, environment: &EnvironmentId) {
        if let Some(environment) = lock(&self.0).get(environment) {
            environment.bell.notify_waiters();
        }
    }

    /// A worker polls.
    pub(crate) fn polled(&self, environment: &EnvironmentId, worker: &str, now: Timestamp) {
        let mut all = lock(&self.0);
        let workers = &mut all.entry(environment.clone()).or_default().workers;
        workers.retain(|_, at| now.since(*at) < POLLING_FOR);
        if workers.len() < WORKERS_MAX || workers.contains_key(worker) {
            workers.insert(worker.to_owned(), now);
        }
    }

    /// How many workers polled of late.
    pub(crate) fn workers(&self, environment: &EnvironmentId, now: Timestamp) -> usize {
        let all = lock(&self.0);
        let Some(environment) = all.get(environment) else { return 0 };
        environment.workers.values().filter(|at| now.since(**at) < POLLING_FOR).count()
    }

    /// The environment is gone.
    pub(crate) fn forget(&self, environment: &EnvironmentId) {
        lock(&self.0).remove(environment);
    }
}

/// Nothing in here can be left half done, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

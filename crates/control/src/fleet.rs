//! The live MicroVMs: who keeps each, and what all keepers share.

use crate::{
    ControlConfig, ControlError, Credentials, Logs, MicrovmEvent, MicrovmId, Outside,
    app_log::AppLogs,
    clock::SteadyClock,
    file_changes::Looks,
    image_template::Templates,
    ingress::Ingress,
    keeper::{Beginning, Ends, Keeper, Message},
    life::{Event, Life},
    store::{MicrovmRow, Store},
};
use engine::CheckpointId;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::{Mutex as TurnMutex, Notify, RwLock, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Events that wait for one keeper. It takes each within a write of the store, so a queue that is
/// full means a store that hangs; whoever sends waits with it.
const QUEUE_EVENTS_MAX: usize = 64;

/// Events of the timeline that a slow listener may be behind.
const LISTENER_EVENTS_MAX: usize = 4096;

/// Image builds at once; more wait.
const BUILDS_MAX: usize = 2;

/// What the tasks of a control plane share.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) config: ControlConfig,
    pub(crate) outside: Outside,
    /// What deadlines are counted in.
    pub(crate) steady: SteadyClock,
    pub(crate) store: Arc<Store>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) app_logs: AppLogs,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) events: broadcast::Sender<MicrovmEvent>,
    /// A permit for each launch under way: clones compete for the same cores.
    pub(crate) launches: Semaphore,
    /// A permit for each image build under way.
    pub(crate) builds: Semaphore,
    pub(crate) templates: Templates,
    /// Ends every task but those that write logs.
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    /// VMs that exist to look into checkpoints.
    pub(crate) looks: Looks,
    /// Asks for a reconciliation before its time.
    pub(crate) reconcile: Notify,
    /// Held for reading from before a row is written until its keeper is there, and for writing by
    /// the reconciler while it gives keepers to rows that have none: so no row gets two.
    pub(crate) admission: RwLock<()>,
    /// How many callers want no VM to be run now. Counted under no lock: who has counted waits once
    /// for `admission`, and finds a keeper for all that was admitted before.
    refusing_runs: AtomicUsize,
    /// VMs that ended, for the listener to the engine to close their logs. At most one entry a VM.
    pub(crate) ended: mpsc::UnboundedSender<MicrovmId>,
    keepers: Mutex<HashMap<MicrovmId, Handle>>,
}

/// By what a keeper is reached.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    queue: mpsc::Sender<Message>,
    pub(crate) life: watch::Receiver<Life>,
    pub(crate) ingress: Arc<Ingress>,
    /// Whether requests at its endpoint resume it.
    pub(crate) wakes_by_itself: bool,
    /// What it was made of.
    pub(crate) checkpoint: Option<CheckpointId>,
    /// Held by whatever the engine does with the VM that must not meet anything else.
    pub(crate) engine_turn: Arc<TurnMutex<()>>,
}

/// While it lives, no VM is run.
#[derive(Debug)]
pub(crate) struct RunsRefused(Arc<Fleet>);

impl Drop for RunsRefused {
    fn drop(&mut self) {
        self.0.refusing_runs.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a [`Fleet`] is made of.
pub(crate) struct Parts {
    pub(crate) config: ControlConfig,
    pub(crate) outside: Outside,
    pub(crate) steady: SteadyClock,
    pub(crate) store: Arc<Store>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) ended: mpsc::UnboundedSender<MicrovmId>,
    pub(crate) stop: CancellationToken,
}

impl Fleet {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { config, outside, steady, store, logs, credentials, ended, stop } = parts;
        Arc::new(Self {
            launches: Semaphore::new(config.launches_max.max(1)),
            builds: Semaphore::new(BUILDS_MAX),
            templates: Templates::default(),
            config,
            outside,
            steady,
            store,
            logs,
            app_logs: AppLogs::default(),
            credentials,
            ended,
            events: broadcast::Sender::new(LISTENER_EVENTS_MAX),
            stop,
            tasks: TaskTracker::new(),
            looks: Looks::default(),
            reconcile: Notify::new(),
            admission: RwLock::new(()),
            refusing_runs: AtomicUsize::new(0),
            keepers: Mutex::default(),
        })
    }

    /// From its return on, every VM that there is has its keeper, and no other is run.
    pub(crate) async fn refuse_runs(self: &Arc<Self>) -> RunsRefused {
        self.refusing_runs.fetch_add(1, Ordering::SeqCst);
        let refused = RunsRefused(Arc::clone(self));
        drop(self.admission.write().await);
        refused
    }

    pub(crate) fn refuses_runs(&self) -> bool {
        self.refusing_runs.load(Ordering::SeqCst) > 0
    }

    /// Gives a row its keeper. One that has a keeper keeps it.
    pub(crate) fn keep(self: &Arc<Self>, row: MicrovmRow, beginning: Beginning) {
        let (queue, events) = mpsc::channel(QUEUE_EVENTS_MAX);
        let (life, life_seen) = watch::channel(row.life.clone());
        let handle = Handle {
            queue,
            life: life_seen,
            ingress: Arc::default(),
            wakes_by_itself: row.wakes_by_itself(),
            checkpoint: row.checkpoint.clone(),
            engine_turn: Arc::default(),
        };
        let (ingress, engine_turn) = (handle.ingress.clone(), handle.engine_turn.clone());
        match self.keepers().entry(row.id.clone()) {
            Entry::Occupied(_) => return,
            Entry::Vacant(place) => place.insert(handle),
        };
        let ends = Ends { queue: events, life, ingress, engine_turn };
        let keeper = Keeper::new(Arc::clone(self), row, ends);
        self.tasks.spawn(keeper.run(beginning));
    }

    /// Called by a keeper when it is done.
    pub(crate) fn forget(&self, id: &MicrovmId) {
        self.keepers().remove(id);
    }

    pub(crate) fn keeper(&self, id: &MicrovmId) -> Option<Handle> {
        self.keepers().get(id).cloned()
    }

    pub(crate) fn kept(&self) -> Vec<(MicrovmId, Handle)> {
        self.keepers().iter().map(|(id, handle)| (id.clone(), handle.clone())).collect()
    }

    fn keepers(&self) -> MutexGuard<'_, HashMap<MicrovmId, Handle>> {
        // Nothing that panics runs under this lock; the map is whole in any case.
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a keeper what happened; a VM without one has ended, and nothing happens to it any more.
    pub(crate) async fn tell(&self, id: &MicrovmId, event: Event) {
        if let Some(handle) = self.keeper(id) {
            // A keeper that is gone has recorded the end.
            let _ = handle.queue.send(Message { event, reply: None }).await;
        }
    }

    /// Asks a keeper; answers when the outcome is recorded. None: it has no keeper.
    pub(crate) async fn ask(
        &self,
        id: &MicrovmId,
        event: Event,
    ) -> Option<Result<(), ControlError>> {
        let handle = self.keeper(id)?;
        let (reply, answer) = oneshot::channel();
        handle.queue.send(Message { event, reply: Some(reply) }).await.ok()?;
        answer.await.ok()
    }
}

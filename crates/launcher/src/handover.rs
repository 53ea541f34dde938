//! From the acknowledgement of an item to the moment that the worker in its VM has it.
//!
//! In between nobody else can take the item and nothing times it out: if the launcher forgot it, its
//! session would hang. So a claim is written down before it is acknowledged, and given to another VM
//! where the first one ended before it took the item. The launcher sends no heartbeat: the worker's first
//! one must find none. Nor does it stop the item: it looks at the queue's list to learn that the item runs.

use crate::{
    claim::Claim,
    event::{Announcer, LauncherEventKind},
    microvms::Microvms,
    sessions::{Demand, EnsureError, Sessions},
    store::Store,
};
use agents::{
    StopWork, WorkId, WorkState,
    client::{Client, ClientError, backoff},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Items that are acknowledged and have no VM yet. Further ones stay in the queue.
const LAUNCHING_MAX: usize = 8;
/// How often the queue's list is looked at while an item waits for its worker.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a VM that runs may take to take its item. The default image needs less than a second.
const TAKE_WAIT_MAX: Duration = Duration::from_secs(180);
/// Where the queue's list is refused: after this time a VM that runs is believed to have its item.
const BELIEVED_TAKEN: Duration = Duration::from_secs(60);
/// VMs that an item is offered to.
const VMS_MAX: u32 = 3;
/// How long an item is held for want of a VM: quotas free up, images get built.
const HELD_MAX: Duration = Duration::from_secs(24 * 3600);
const BACKOFF_START: Duration = Duration::from_secs(1);
const BACKOFF_CAP: Duration = Duration::from_secs(30);
/// Items in a page of the queue's list, and pages looked at: the newest 2000.
const PAGE_LEN: u32 = 100;
const PAGES_MAX: usize = 20;

/// An item whose VM was launched.
#[derive(Debug)]
struct Held {
    claim: Claim,
    microvm_id: String,
    /// Which VM of this item it is, from 1.
    vms: u32,
    since: Instant,
}

/// What is to be done with a held item.
enum Verdict {
    Hold,
    /// The worker has it, or it is somebody else's.
    LetGo,
    /// Its VM is of no use.
    Relaunch {
        reason: &'static str,
    },
}

#[derive(Debug)]
pub(crate) struct Handover {
    store: Store,
    sessions: Arc<Sessions>,
    microvms: Microvms,
    announcer: Announcer,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    places: Arc<Semaphore>,
    held: Mutex<Vec<Held>>,
    /// With the environment key, from when it was first read.
    client: Mutex<Option<Client>>,
}

impl Handover {
    pub(crate) fn new(
        store: Store,
        sessions: Arc<Sessions>,
        microvms: Microvms,
        announcer: Announcer,
        (tasks, shutdown): (TaskTracker, CancellationToken),
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            sessions,
            microvms,
            announcer,
            tasks,
            shutdown,
            places: Arc::new(Semaphore::new(LAUNCHING_MAX)),
            held: Mutex::default(),
            client: Mutex::default(),
        })
    }

    /// Waits until one more item may be acknowledged.
    pub(crate) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.places.clone().acquire_owned().await.ok()
    }

    /// Looks with this client from now on; with the first one, takes up what an earlier process held.
    pub(crate) async fn use_client(self: &Arc<Self>, client: Client) {
        let first = self
            .client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(client.clone())
            .is_none();
        if !first {
            return;
        }
        match self.store.open_claims().await {
            Ok(claims) => self.take_up(&client, claims).await,
            Err(error) => tracing::error!(%error, "earlier claims are not taken up"),
        }
        self.tasks.spawn(self.clone().keep());
    }

    async fn take_up(self: &Arc<Self>, client: &Client, claims: Vec<Claim>) {
        let Some(first) = claims.first() else { return };
        let states =
            states(client, &first.environment.clone(), claims.iter().map(|c| &c.work)).await;
        for claim in claims {
            match states.as_ref().map(|states| states.get(&claim.work)) {
                Ok(Some(WorkState::Starting)) | Err(_) => {
                    tracing::info!(work = %claim.work, session = %claim.session, "an earlier claim is taken up");
                    self.tasks.spawn(self.clone().launch(claim, None, 1));
                }
                Ok(
                    None
                    | Some(
                        WorkState::Queued
                        | WorkState::Active
                        | WorkState::Stopping
                        | WorkState::Stopped
                        | WorkState::Other(_),
                    ),
                ) => self.forget(&claim).await,
            }
        }
    }

    /// Acknowledges an item and sees to its VM, in a task of its own.
    pub(crate) fn accept(
        self: &Arc<Self>,
        client: Client,
        claim: Claim,
        place: Option<OwnedSemaphorePermit>,
    ) {
        let handover = self.clone();
        self.tasks.spawn(async move {
            if let Err(error) = handover.store.open_claim(&claim).await {
                tracing::error!(work = %claim.work, %error, "the item stays in the queue");
                return;
            }
            match client.ack(&claim.environment, &claim.work).await {
                // Acknowledged, whatever the answer looks like.
                Ok(_) | Err(ClientError::BadAnswer { .. }) => {}
                Err(error) => {
                    tracing::info!(work = %claim.work, %error, "the item is not ours");
                    handover.forget(&claim).await;
                    return;
                }
            }
            tracing::info!(work = %claim.work, session = %claim.session, "an item is claimed");
            handover.announcer.announce(LauncherEventKind::ItemClaimed {
                session_id: claim.session.clone(),
                work_id: claim.work.clone(),
            });
            handover.launch(claim, place, 1).await;
        });
    }

    /// Gives a claim to a VM. `place` is given back as soon as there is one.
    async fn launch(self: Arc<Self>, claim: Claim, place: Option<OwnedSemaphorePermit>, vms: u32) {
        let began = Instant::now();
        let mut attempt = 0;
        loop {
            let demand = Demand {
                session: claim.session.clone(),
                environment: claim.environment.clone(),
                event: None,
                claim: Some(claim.clone()),
            };
            let error = match self.sessions.ensure_session_vm(demand).await {
                Ok(vm) => {
                    let held =
                        Held { claim, microvm_id: vm.microvm_id, vms, since: Instant::now() };
                    self.held.lock().unwrap_or_else(PoisonError::into_inner).push(held);
                    break;
                }
                Err(error) => error,
            };
            let hopeless = matches!(*error, EnsureError::Payload(_)) || began.elapsed() > HELD_MAX;
            if hopeless {
                self.give_up(&claim, &error.to_string()).await;
                break;
            }
            tracing::warn!(work = %claim.work, session = %claim.session, %error, "an item waits for a VM");
            let wait = backoff(attempt, BACKOFF_START, BACKOFF_CAP);
            attempt += 1;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // Its row stays, and the next process takes it up.
                () = self.shutdown.cancelled() => break,
            }
        }
        drop(place);
    }

    /// Looks after held items until the launcher shuts down.
    async fn keep(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                () = self.shutdown.cancelled() => return,
            }
            let held =
                std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
            let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let (Some(first), Some(client)) = (held.first(), client) else { continue };
            let environment = first.claim.environment.clone();
            let states = states(&client, &environment, held.iter().map(|h| &h.claim.work)).await;
            if let Err(error) = &states {
                tracing::warn!(%error, "the queue's list cannot be read");
            }
            for held in held {
                let state = states.as_ref().map(|states| states.get(&held.claim.work));
                match self.judge(&held, state).await {
                    Verdict::Hold => {
                        self.held.lock().unwrap_or_else(PoisonError::into_inner).push(held);
                    }
                    Verdict::LetGo => self.let_go(&held.claim).await,
                    Verdict::Relaunch { reason } => self.relaunch(held, reason).await,
                }
            }
        }
    }

    async fn judge(&self, held: &Held, state: Result<Option<&WorkState>, &ClientError>) -> Verdict {
        let waited = held.since.elapsed();
        match state {
            Ok(Some(WorkState::Starting)) | Err(_) => {}
            Ok(
                None
                | Some(
                    WorkState::Queued
                    | WorkState::Active
                    | WorkState::Stopping
                    | WorkState::Stopped
                    | WorkState::Other(_),
                ),
            ) => return Verdict::LetGo,
        }
        match self.microvms.serves(&held.microvm_id).await {
            Ok(false) => Verdict::Relaunch { reason: "its VM ended before it took the item" },
            Ok(true) if state.is_err() && waited > BELIEVED_TAKEN => Verdict::LetGo,
            Ok(true) if waited > TAKE_WAIT_MAX => {
                Verdict::Relaunch { reason: "its VM runs and does not take the item" }
            }
            Ok(true) => Verdict::Hold,
            Err(error) => {
                tracing::warn!(work = %held.claim.work, %error, "a session's VM cannot be looked at");
                Verdict::Hold
            }
        }
    }

    async fn relaunch(self: &Arc<Self>, held: Held, reason: &'static str) {
        let Held { claim, microvm_id, vms, .. } = held;
        tracing::error!(work = %claim.work, session = %claim.session, microvm_id, vms, reason, "an item has no worker");
        if let Err(error) = self.microvms.end(&microvm_id).await {
            tracing::warn!(microvm_id, %error, "a VM that serves nobody");
        }
        if vms >= VMS_MAX {
            return self.give_up(&claim, reason).await;
        }
        self.tasks.spawn(self.clone().launch(claim, None, vms + 1));
    }

    async fn let_go(&self, claim: &Claim) {
        tracing::info!(work = %claim.work, session = %claim.session, "the session's worker has its item");
        self.announcer.announce(LauncherEventKind::ItemTaken {
            session_id: claim.session.clone(),
            work_id: claim.work.clone(),
        });
        self.forget(claim).await;
    }

    /// Ends an item that nobody here can serve, so that it does not stand in its session's way for ever.
    async fn give_up(&self, claim: &Claim, reason: &str) {
        tracing::error!(
            work = %claim.work, session = %claim.session, reason,
            hint = "once the cause is gone, a user.interrupt event or a new message queues the session again",
            "an item is given up"
        );
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(client) = client
            && let Err(error) = client.stop(&claim.environment, &claim.work, StopWork::Force).await
        {
            tracing::error!(work = %claim.work, %error, "it could not be stopped either");
        }
        self.forget(claim).await;
    }

    async fn forget(&self, claim: &Claim) {
        if let Err(error) = self.store.close_claim(&claim.work).await {
            tracing::warn!(work = %claim.work, %error, "the next start looks at it once more");
        }
    }
}

/// Where these items stand, as the queue's list has it; one that is not in its newest pages is left out.
async fn states<'a>(
    client: &Client,
    environment: &agents::EnvironmentId,
    wanted: impl Iterator<Item = &'a WorkId>,
) -> Result<HashMap<WorkId, WorkState>, ClientError> {
    let wanted: Vec<&WorkId> = wanted.collect();
    let mut states = HashMap::new();
    let mut page: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let found = client.works(environment, PAGE_LEN, page.as_deref()).await?;
        let ours = found.data.into_iter().filter(|item| wanted.contains(&&item.id));
        states.extend(ours.map(|item| (item.id, item.state)));
        page = found.next_page.filter(|page| !page.is_empty());
        if page.is_none() || states.len() == wanted.len() {
            break;
        }
    }
    Ok(states)
}

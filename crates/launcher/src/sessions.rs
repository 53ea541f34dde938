//! One VM a session: finds the one that serves it, or launches one, however many ask at once.
//!
//! [`Sessions::ensure_session_vm`] is what a webhook calls, and what a poll of the work queue calls. A
//! VM that was given an item serves that one: with a new item comes a new VM, and the one before, whose
//! item is over, is ended. For each session at most one *flight* is under way; all who ask meanwhile get its result.
//! A flight is a task of its own: a client that hangs up does not stop a launch halfway.
//!
//! ```text
//!  no row ──▶ launching ──RunMicrovm 200──▶ launched ──VM gone──▶ launching, next generation
//!                 │  ▲                        └──VM alive: that one
//!          refused│  └─ no answer: the same request again, when asked again
//!                 ▼
//!               failed ──asked again──▶ launching, next generation
//! ```

use crate::{
    claim::Claim,
    comeback::{Return, Returned},
    config::LauncherConfig,
    event::{Announcer, LauncherEventKind},
    microvms::{Found, LookError, Microvms, PayloadTooLong, Run, RunFailure, RunRequest},
    rate::LaunchRate,
    store::{Launch, LaunchState, Store, StoreError},
};
use agents::{EnvironmentId, EventId, SessionId, WorkId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// Longest wait for a place in the launch rate.
const RATE_WAIT_MAX: Duration = Duration::from_secs(10);
/// A VM whose start is longer ago than this was not started by the call that named it: the answer
/// is the stored one to an old client token, and the VM may be long gone.
const STARTED_JUST_NOW: time::Duration = time::Duration::seconds(60);
/// VMs that one flight goes through before it gives up: one that is gone, one that an old token
/// named, and one more.
const GENERATIONS_PER_FLIGHT_MAX: usize = 3;

/// A session has no VM now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnsureError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Payload(#[from] PayloadTooLong),
    /// AWS refused RunMicrovm; `code` is its name for the reason.
    #[error("RunMicrovm was refused: {code}: {message}")]
    Refused { code: String, message: String },
    /// RunMicrovm may or may not have launched a VM; the next call settles it.
    #[error("RunMicrovm got no usable answer: {code}: {message}")]
    Unanswered { code: String, message: String },
    #[error(transparent)]
    Look(#[from] LookError),
    #[error("more launches are asked for than the launch rate allows, the wait is over {} s", RATE_WAIT_MAX.as_secs())]
    TooFast,
    #[error("{GENERATIONS_PER_FLIGHT_MAX} MicroVMs in a row had ended before they could serve")]
    AlwaysGone,
    #[error("the launch was interrupted")]
    Interrupted,
}

/// The VM that serves a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionVm {
    pub(crate) microvm_id: String,
    pub(crate) origin: VmOrigin,
}

/// Whether the VM was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VmOrigin {
    Launched,
    Found,
}

type Outcome = Result<SessionVm, Arc<EnsureError>>;
type Flight = watch::Receiver<Option<Outcome>>;

/// Who asks for a session's VM.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    pub(crate) session: SessionId,
    pub(crate) environment: EnvironmentId,
    /// The webhook event; None where a poll found the work.
    pub(crate) event: Option<EventId>,
    /// The item that a poll found; None where the VM shall poll for itself.
    pub(crate) claim: Option<Claim>,
}

impl Demand {
    fn work(&self) -> Option<&WorkId> {
        self.claim.as_ref().map(|claim| &claim.work)
    }
}

#[derive(Debug)]
pub(crate) struct Sessions {
    config: LauncherConfig,
    store: Store,
    microvms: Microvms,
    announcer: Announcer,
    rate: Mutex<LaunchRate>,
    flights: Mutex<HashMap<SessionId, Flight>>,
    tasks: TaskTracker,
}

impl Sessions {
    pub(crate) fn new(
        config: LauncherConfig,
        store: Store,
        microvms: Microvms,
        announcer: Announcer,
        tasks: TaskTracker,
    ) -> Self {
        let rate = Mutex::new(LaunchRate::new(config.launches_per_second));
        Self { config, store, microvms, announcer, rate, flights: Mutex::default(), tasks }
    }

    /// Makes sure that a VM serves the session, and names it. Safe to call any number of times at
    /// once and again; the launch goes on when the caller stops waiting.
    pub(crate) async fn ensure_session_vm(self: &Arc<Self>, demand: Demand) -> Outcome {
        let mut flight = self.join_or_start(demand);
        let outcome = match flight.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_ended) => None,
        };
        outcome.unwrap_or_else(|| Err(Arc::new(EnsureError::Interrupted)))
    }

    fn join_or_start(self: &Arc<Self>, demand: Demand) -> Flight {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&demand.session) {
            return flight.clone();
        }
        let (sender, flight) = watch::channel(None);
        flights.insert(demand.session.clone(), flight.clone());
        let landing = Landing { sessions: self.clone(), session: demand.session.clone() };
        self.tasks.spawn(async move {
            let outcome = landing.sessions.fly(&demand).await.map_err(Arc::new);
            // Off the list first: who comes later must see the row, not this result.
            drop(landing);
            let _ = sender.send(Some(outcome));
        });
        flight
    }

    async fn fly(&self, demand: &Demand) -> Result<SessionVm, EnsureError> {
        let session = &demand.session;
        let mut row = self.store.launch_of(session).await?;
        for _ in 0..GENERATIONS_PER_FLIGHT_MAX {
            let launch = match row {
                None => self.begin(demand, 1).await?,
                Some(launch) => match &launch.state {
                    LaunchState::Launching => launch,
                    LaunchState::Failed { .. } => self.begin(demand, launch.generation + 1).await?,
                    LaunchState::Launched { microvm_id }
                        if launch.work.as_ref() != demand.work() =>
                    {
                        self.microvms.end(microvm_id).await?;
                        self.begin(demand, launch.generation + 1).await?
                    }
                    LaunchState::Launched { microvm_id } => {
                        if let Some(vm) = self.find(session, microvm_id).await? {
                            return Ok(vm);
                        }
                        self.begin(demand, launch.generation + 1).await?
                    }
                },
            };
            let (launch, run) = self.launch(launch).await?;
            let age = OffsetDateTime::now_utc().unix_timestamp() - run.started_at;
            let is_wanted = launch.work.as_ref() == demand.work();
            if is_wanted && age < STARTED_JUST_NOW.whole_seconds() {
                return Ok(SessionVm { microvm_id: run.microvm_id, origin: VmOrigin::Launched });
            }
            row = Some(launch);
        }
        Err(EnsureError::AlwaysGone)
    }

    /// Writes down that a VM is about to be launched.
    async fn begin(&self, demand: &Demand, generation: i64) -> Result<Launch, EnsureError> {
        let request = RunRequest::new(&self.config, demand, generation)?;
        let launch = Launch {
            session: demand.session.clone(),
            environment: demand.environment.clone(),
            generation,
            event: demand.event.clone(),
            work: demand.work().cloned(),
            request,
            state: LaunchState::Launching,
        };
        self.store.save(&launch).await?;
        Ok(launch)
    }

    /// Calls RunMicrovm for a row that says so, and writes down what came of it.
    async fn launch(&self, mut launch: Launch) -> Result<(Launch, Run), EnsureError> {
        let wait = self
            .rate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .reserve(Instant::now(), RATE_WAIT_MAX)
            .ok_or(EnsureError::TooFast)?;
        tokio::time::sleep(wait).await;
        let session = launch.session.clone();
        let generation = launch.generation;
        self.announcer.announce(LauncherEventKind::RunMicrovmRequested {
            session_id: session.clone(),
            generation,
        });
        let asked_at = Instant::now();
        let ran = match self.come_back(&launch).await {
            Some(run) => Ok(run),
            None => self.microvms.run(&launch.request).await,
        };
        match ran {
            Ok(run) => {
                let (microvm_id, took) = (run.microvm_id.clone(), asked_at.elapsed());
                tracing::info!(%session, generation, microvm_id, took_ms = took.as_millis(), "RunMicrovm accepted");
                launch.state = LaunchState::Launched { microvm_id: microvm_id.clone() };
                self.announcer.announce(LauncherEventKind::RunMicrovmAccepted {
                    session_id: session,
                    microvm_id,
                    took,
                });
                self.store.save(&launch).await?;
                Ok((launch, run))
            }
            Err(RunFailure::Refused { code, message }) => {
                tracing::error!(%session, generation, code, message, hint = hint(&code, launch.request.image_identifier()), "RunMicrovm was refused");
                launch.state = LaunchState::Failed { reason: format!("{code}: {message}") };
                self.store.save(&launch).await?;
                Err(EnsureError::Refused { code, message })
            }
            Err(RunFailure::Open { code, message }) => {
                tracing::error!(%session, generation, code, message, "RunMicrovm got no usable answer; the same request is repeated when the session is asked for again");
                Err(EnsureError::Unanswered { code, message })
            }
        }
    }

    /// A VM that goes on from what was kept of the session.
    async fn come_back(&self, launch: &Launch) -> Option<Run> {
        let asked = Return {
            session: &launch.session,
            client_token: &launch.request.client_token,
            run_hook_payload: launch.request.run_hook_payload(),
        };
        let returned = self.config.comeback.as_ref()?.come_back(asked).await?;
        let Returned { microvm_id, started_at } = returned;
        tracing::info!(session = %launch.session, microvm_id, "the session goes on from what was kept of it");
        Some(Run { microvm_id, started_at })
    }

    /// The session's earlier VM, if it still serves.
    async fn find(
        &self,
        session: &SessionId,
        microvm_id: &str,
    ) -> Result<Option<SessionVm>, EnsureError> {
        let found = self.microvms.wake(microvm_id).await?;
        let (session_id, microvm_id) = (session.clone(), microvm_id.to_owned());
        let vm = SessionVm { microvm_id: microvm_id.clone(), origin: VmOrigin::Found };
        match found {
            Found::Alive => {
                self.announcer.announce(LauncherEventKind::VmFound { session_id, microvm_id });
                Ok(Some(vm))
            }
            Found::Resumed => {
                tracing::info!(%session, microvm_id, "the session's MicroVM was suspended and is resumed");
                self.announcer.announce(LauncherEventKind::VmResumed { session_id, microvm_id });
                Ok(Some(vm))
            }
            Found::Gone => {
                tracing::info!(%session, microvm_id, "the session's MicroVM is gone, another one is launched");
                self.announcer.announce(LauncherEventKind::VmGone { session_id, microvm_id });
                Ok(None)
            }
        }
    }
}

/// Takes a flight off the list when it ends, in whatever way.
struct Landing {
    sessions: Arc<Sessions>,
    session: SessionId,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.sessions.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.session);
    }
}

/// What the operator can do about a refusal, by AWS's name for it.
fn hint(code: &str, image: &str) -> String {
    match code {
        "AccessDeniedException" => format!(
            "the launcher's role needs lambda:RunMicrovm and lambda:PassNetworkConnector for image \
             {image}, and iam:PassRole for the execution role"
        ),
        // A bare name that no image has is refused as an ARN that is not well formed.
        "ResourceNotFoundException" | "ValidationException" => format!(
            "is there an image {image} with an active version? `warren image ls` shows them, `warren image build` \
             makes one; launcher.image chooses another"
        ),
        "ServiceQuotaExceededException" => "end MicroVMs or raise the memory quota".into(),
        "ThrottlingException" => "lower the launcher's launches per second".into(),
        _ => "see AWS's message".into(),
    }
}

//! The task that owns a MicroVM. All that can happen to it comes in by one queue or is the outcome
//! of the work that its phase has under way; every step is decided in [`crate::life`], written to
//! the store, and only then acted upon.

use crate::{
    BackDoorError, ControlError, Hook, MicrovmEvent, MicrovmState, TimelineEntry, Timestamp,
    VmAttachment,
    error::chain,
    fleet::Fleet,
    idle::TrafficMeter,
    image_template,
    life::{Event, Life, Phase, Refusal, Step, Suspension, Terms, Work},
    store::{MicrovmRow, NewMark},
};
use engine::{EngineError, HookOutcome, HookRequest, LaunchSpec, Launched, Origin, TemplateId};
use futures::future::BoxFuture;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

/// Wait before something that has to succeed (a write of the store, a removal) is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// What a hook may take beyond its own timeout until the engine is taken to hang.
const HOOK_SLACK: Duration = Duration::from_secs(5);

/// What a guest that is alive gets to end its app and its file systems in, before it is cut off.
const POWER_OFF_GRACE: Duration = Duration::from_secs(2);

/// The managed egress connector that opens the internet; any other keeps the VM inside.
const INTERNET_EGRESS: &str = ":INTERNET_EGRESS";

/// Something that happened, and who waits for its being recorded.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) event: Event,
    pub(crate) reply: Option<oneshot::Sender<Result<(), ControlError>>>,
}

/// How a keeper comes to its VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Beginning {
    /// The row was just written.
    New { accepted: Instant },
    /// The row was found, and this of the VM on its host.
    Found(OnHost),
}

/// What is known of the process that a VM runs in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Vmm {
    MayRun,
    Dead,
}

/// What is of a VM on its host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnHost {
    Running,
    Remains,
    Nothing,
}

pub(crate) struct Keeper {
    fleet: Arc<Fleet>,
    row: MicrovmRow,
    terms: Terms,
    queue: mpsc::Receiver<Message>,
    life: watch::Sender<Life>,
    traffic: TrafficMeter,
    vmm: Vmm,
    /// The instant that the timeline counts from.
    accepted: Instant,
    /// What had passed before it, in the life of an earlier process.
    elapsed_before: Duration,
}

impl Keeper {
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        row: MicrovmRow,
        queue: mpsc::Receiver<Message>,
        life: watch::Sender<Life>,
    ) -> Self {
        let terms = Terms {
            started_at: row.started_at,
            maximum_duration: row.maximum_duration,
            idle_policy: row.idle_policy,
            hooks: row.hooks.timeouts.keys().copied().collect(),
            idle_counts: fleet.config.idle_counts,
            suspension: Suspension::Unavailable,
        };
        let traffic = TrafficMeter::new(&terms);
        let elapsed_before = fleet.outside.clock.now().since(row.started_at);
        let accepted = Instant::now();
        Self { fleet, row, terms, queue, life, traffic, vmm: Vmm::MayRun, accepted, elapsed_before }
    }

    /// Until the VM is terminated or the control plane stops.
    pub(crate) async fn run(mut self, beginning: Beginning) {
        let stop = self.fleet.stop.clone();
        stop.run_until_cancelled_owned(async {
            if let Some(log) = &self.row.log {
                self.fleet.app_logs.open(&self.row.id, log.clone());
            }
            self.warn_of_what_cannot_be_done();
            let ground = self.begin(beginning).await;
            self.live(ground).await;
            // Its last output is written by whoever listens to the engine.
            let _ = self.fleet.ended.send(self.row.id.clone());
            self.fleet.forget(&self.row.id);
        })
        .await;
    }

    async fn live(&mut self, ground: Ground) {
        let mut work = self.begin_work(ground);
        while self.row.life.phase() != Phase::Terminated {
            let wake_at = self.wake_at();
            let clock = Arc::clone(&self.fleet.outside.clock);
            let before = self.row.life.work();
            tokio::select! {
                event = async { work.as_mut().expect("the branch is guarded").await },
                    if work.is_some() =>
                {
                    work = None;
                    self.apply(Message { event, reply: None }).await;
                }
                Some(message) = self.queue.recv() => self.apply(message).await,
                () = async {
                    match wake_at {
                        Some(at) => clock.sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                } => self.time_passed().await,
            }
            // Work that is no longer wanted is dropped here, save a clone, which EndingClone awaits.
            if self.row.life.work() != before {
                work = self.begin_work(Ground::Clean);
            }
        }
    }

    /// Brings a row that was found together with what is on the host.
    async fn begin(&mut self, beginning: Beginning) -> Ground {
        let on_host = match beginning {
            Beginning::New { accepted } => {
                self.accepted = accepted;
                self.elapsed_before = Duration::ZERO;
                return Ground::Clean;
            }
            Beginning::Found(on_host) => on_host,
        };
        if on_host != OnHost::Running {
            self.vmm = Vmm::Dead;
        }
        let event = match self.row.life.phase() {
            // Nothing in that clone was told anything: a fresh one is as good, and surely whole.
            Phase::Cloning => return Ground::MayHoldRemains,
            Phase::Stopping | Phase::Suspended | Phase::Terminated => return Ground::Clean,
            Phase::EndingClone | Phase::CallingTerminate => {
                Event::WorkFailed { reason: String::new() }
            }
            Phase::CallingRun
            | Phase::Running
            | Phase::CallingSuspend
            | Phase::Saving
            | Phase::Restoring
            | Phase::CallingResume => match on_host {
                OnHost::Running => self.adopt().await,
                OnHost::Remains | OnHost::Nothing => Event::Died {
                    reason: self.fleet.death_reason(&self.row.id, "it was found dead").await,
                },
            },
        };
        self.apply(Message { event, reply: None }).await;
        Ground::Clean
    }

    async fn adopt(&self) -> Event {
        let adopted = self.fleet.outside.engine.adopt(&self.row.id.vm_id()).await;
        let attached = match adopted {
            Ok(launched) => {
                attach(&self.fleet, &self.row, launched).await.map_err(LaunchError::from)
            }
            Err(error) => Err(error.into()),
        };
        match attached {
            Ok(_) => Event::Adopted,
            Err(error) => Event::WorkFailed {
                reason: format!("MicroVM could not be taken over again: {}", chain(&error)),
            },
        }
    }

    /// When time itself makes a difference next.
    fn wake_at(&self) -> Option<Timestamp> {
        let sample = self.traffic.next_sample(&self.row.life);
        [self.row.life.deadline(&self.terms), sample].into_iter().flatten().min()
    }

    async fn time_passed(&mut self) {
        let now = self.fleet.outside.clock.now();
        // Before an idle deadline strikes, it is looked whether the VM was idle indeed.
        if self.traffic.next_sample(&self.row.life).is_some() {
            let usage = self.fleet.outside.engine.usage(&self.row.id.vm_id()).await;
            match usage {
                Ok(usage) if self.traffic.sample(&usage, now) => {
                    self.apply(Message { event: Event::Traffic, reply: None }).await;
                }
                Ok(_) => {}
                // Unknown is not idle: a VM is not ended because it could not be measured.
                Err(error) => {
                    warn!(microvm = %self.row.id, "its traffic cannot be read: {}", chain(&error));
                    self.traffic.missed(now);
                    self.apply(Message { event: Event::Traffic, reply: None }).await;
                }
            }
        }
        self.apply(Message { event: Event::Tick, reply: None }).await;
    }

    /// Decides, writes down, and lets others know; the work of the new phase comes afterwards.
    async fn apply(&mut self, message: Message) {
        let Message { event, reply } = message;
        let now = self.fleet.outside.clock.now();
        match &event {
            Event::Died { .. } => self.vmm = Vmm::Dead,
            // What was found of an earlier attempt is gone.
            Event::Cloned { .. } => self.vmm = Vmm::MayRun,
            _ => {}
        }
        debug!(microvm = %self.row.id, phase = self.row.life.phase().as_str(), ?event);
        let outcome = match self.row.life.on(&event, &self.terms, now) {
            Err(refusal) => Err(self.refused(refusal, &event)),
            Ok(step) if step.life == self.row.life && step.marks.is_empty() => Ok(()),
            Ok(step) => match &reply {
                Some(_) => self.record(step, now).await,
                None => {
                    self.record_surely(step, now).await;
                    Ok(())
                }
            },
        };
        if let Some(reply) = reply {
            // Whoever asked may have gone away; what was asked is done all the same.
            let _ = reply.send(outcome);
        }
    }

    /// What has happened cannot be refused because the disk is full: it is tried until it is written.
    async fn record_surely(&mut self, step: Step, now: Timestamp) {
        while let Err(error) = self.record(step.clone(), now).await {
            warn!(microvm = %self.row.id, "its state is not written yet: {}", chain(&error));
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    async fn record(&mut self, step: Step, now: Timestamp) -> Result<(), ControlError> {
        let elapsed = self.elapsed_before + self.accepted.elapsed();
        let marks: Vec<NewMark> = step
            .marks
            .into_iter()
            .map(|(mark, detail)| NewMark { mark, at: now, elapsed, detail })
            .collect();
        self.fleet.store.save_life(&self.row.id, &step.life, &marks).await?;
        self.row.life = step.life;
        let state = self.row.life.state();
        for mark in marks {
            info!(microvm = %self.row.id, state = state.as_str(), "{}: {}", mark.mark.as_str(), mark.detail);
            // Nobody has to listen.
            let _ = self.fleet.events.send(MicrovmEvent {
                id: self.row.id.clone(),
                image: self.row.image.clone(),
                state,
                entry: TimelineEntry::from(mark),
            });
        }
        self.life.send_replace(self.row.life.clone());
        Ok(())
    }

    fn refused(&self, refusal: Refusal, event: &Event) -> ControlError {
        let operation = match event {
            Event::SuspendAsked => "SuspendMicrovm",
            Event::ResumeAsked => "ResumeMicrovm",
            _ => "this operation",
        };
        let id = self.row.id.clone();
        match refusal {
            Refusal::WrongState => {
                ControlError::WrongState { id, state: self.row.life.state(), operation }
            }
            Refusal::AlreadyTerminated => ControlError::AlreadyTerminated(id),
            Refusal::CannotSuspend => {
                let engine = self.fleet.outside.engine.report().vmm;
                ControlError::NotSupported { operation, engine }
            }
        }
    }

    fn warn_of_what_cannot_be_done(&self) {
        if self.row.idle_policy.is_some() && self.terms.idle_limit().is_none() {
            warn!(
                microvm = %self.row.id,
                "its idle policy asks for suspending, which this engine cannot do yet: it keeps \
                 running until its maximum duration"
            );
        }
    }

    /// The work of the present phase.
    fn begin_work(&self, ground: Ground) -> Option<BoxFuture<'static, Event>> {
        let fleet = Arc::clone(&self.fleet);
        let row = self.row.clone();
        Some(match self.row.life.work()? {
            Work::Clone => Box::pin(clone(fleet, row, ground)),
            Work::Call(hook) => Box::pin(call(fleet, row, hook)),
            Work::Save | Work::Restore => Box::pin(async {
                Event::WorkFailed { reason: "the engine cannot suspend a MicroVM".to_owned() }
            }),
            Work::Remove => Box::pin(remove(fleet, row, self.vmm)),
        })
    }
}

/// Whether something of an earlier attempt may be on the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ground {
    Clean,
    MayHoldRemains,
}

/// What a launch can fail with.
#[derive(Debug, thiserror::Error)]
enum LaunchError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    BackDoor(#[from] BackDoorError),
    #[error(
        "its image's snapshot was made for another kernel, QEMU or guest, and making it anew failed: {0}"
    )]
    Snapshot(String),
}

async fn clone(fleet: Arc<Fleet>, row: MicrovmRow, ground: Ground) -> Event {
    let Ok(_permit) = fleet.launches.acquire().await else {
        return Event::WorkFailed { reason: "the control plane is shutting down".to_owned() };
    };
    match launch(&fleet, &row, ground).await {
        Ok(path) => Event::Cloned { path: path.to_owned() },
        Err(error) => {
            let reason = format!("MicroVM could not be launched: {}", chain(&error));
            warn!(microvm = %row.id, image = %row.image, "{reason}");
            Event::WorkFailed { reason }
        }
    }
}

async fn launch(
    fleet: &Arc<Fleet>,
    row: &MicrovmRow,
    ground: Ground,
) -> Result<&'static str, LaunchError> {
    let engine = &fleet.outside.engine;
    let id = row.id.vm_id();
    if ground == Ground::MayHoldRemains {
        engine.stop(&id, None).await?;
    }
    let from = |template: &TemplateId| LaunchSpec {
        id: id.clone(),
        origin: Origin::Template(template.clone()),
        internet: row.egress_connectors.iter().any(|arn| arn.ends_with(INTERNET_EGRESS)),
    };
    let launched = match engine.launch(from(&row.template)).await {
        Err(EngineError::NoSuchTemplate(_)) => {
            let renewed = image_template::renew(fleet, &row.image, row.version).await;
            let template = renewed.map_err(|failure| LaunchError::Snapshot(failure.reason))?;
            engine.launch(from(&template)).await?
        }
        launched => launched?,
    };
    Ok(attach(fleet, row, launched).await?)
}

/// Opens the back door of a VM that runs; answers how it came to run.
async fn attach(
    fleet: &Fleet,
    row: &MicrovmRow,
    launched: Launched,
) -> Result<&'static str, BackDoorError> {
    let attachment = VmAttachment {
        id: row.id.clone(),
        image: fleet.config.image_arn(&row.image),
        version: row.version,
        execution_role: row.execution_role.clone(),
        egress_connectors: row.egress_connectors.clone(),
        credentials: Arc::clone(&fleet.credentials),
    };
    fleet.outside.back_door.attach(attachment, launched.sockets).await?;
    Ok(launched.path)
}

async fn call(fleet: Arc<Fleet>, row: MicrovmRow, hook: Hook) -> Event {
    let timeout = row.hooks.timeouts.get(&hook).copied().unwrap_or(hook.default_timeout());
    let Some(request) = hook_request(&row, hook, timeout) else {
        let outcome = HookOutcome::Broken { error: "the image names no hooks port".to_owned() };
        return Event::HookEnded { hook, outcome };
    };
    let id = row.id.vm_id();
    let called = fleet.outside.engine.call_hook(&id, request);
    let outcome = match tokio::time::timeout(timeout + HOOK_SLACK, called).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => HookOutcome::Broken { error: chain(&error) },
        Err(_elapsed) => HookOutcome::TimedOut,
    };
    if let HookOutcome::Broken { error } = &outcome {
        warn!(microvm = %row.id, hook = hook.name(), "the hook broke: {error}");
    }
    Event::HookEnded { hook, outcome }
}

/// None where the image names no port.
fn hook_request(row: &MicrovmRow, hook: Hook, timeout: Duration) -> Option<HookRequest> {
    let body = (hook == Hook::Run).then(|| {
        let mut body = serde_json::Map::new();
        body.insert("microvmId".to_owned(), row.id.as_str().into());
        if let Some(payload) = &row.payload {
            body.insert("runHookPayload".to_owned(), payload.as_str().into());
        }
        serde_json::Value::Object(body).to_string()
    });
    Some(HookRequest {
        port: row.hooks.port?,
        path: hook.path(),
        body,
        timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
    })
}

/// Has to succeed at last: what is not removed would hold memory for nobody.
async fn remove(fleet: Arc<Fleet>, row: MicrovmRow, vmm: Vmm) -> Event {
    fleet.outside.back_door.detach(&row.id).await;
    let grace = match vmm {
        Vmm::MayRun => Some(POWER_OFF_GRACE),
        Vmm::Dead => None,
    };
    while let Err(error) = fleet.outside.engine.stop(&row.id.vm_id(), grace).await {
        warn!(microvm = %row.id, "it is not removed yet: {}", chain(&error));
        tokio::time::sleep(RETRY_EVERY).await;
    }
    Event::Removed
}

impl From<NewMark> for TimelineEntry {
    fn from(mark: NewMark) -> Self {
        let NewMark { mark, at, elapsed, detail } = mark;
        Self { mark, at, elapsed_ms: elapsed.as_secs_f64() * 1000.0, detail }
    }
}

/// Whether a VM in this state has a guest that can be talked to.
pub(crate) const fn has_guest(state: MicrovmState) -> bool {
    match state {
        MicrovmState::Pending | MicrovmState::Running | MicrovmState::Terminating => true,
        MicrovmState::Suspending | MicrovmState::Suspended | MicrovmState::Terminated => false,
    }
}

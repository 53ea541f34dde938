//! The task that owns a MicroVM. All that can happen to it comes in by one queue or is the outcome
//! of the work that its phase has under way; every step is decided in [`crate::life`], written to
//! the store, and only then acted upon.

use crate::{
    BackDoorError, ControlError, Hook, Internet, MicrovmEvent, MicrovmState, TimelineEntry,
    VmAttachment,
    clock::Steady,
    error::chain,
    fleet::Fleet,
    idle::TrafficMeter,
    image_template,
    ingress::Ingress,
    life::{Event, Life, Phase, Refusal, Step, Terms, Work},
    store::{MicrovmRow, NewMark},
};
use engine::{EngineError, HookOutcome, HookRequest, LaunchSpec, Launched, Origin, Suspended};
use futures::future::BoxFuture;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
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
    Suspended,
    Remains,
    Nothing,
}

pub(crate) struct Keeper {
    fleet: Arc<Fleet>,
    row: MicrovmRow,
    terms: Terms,
    ends: Ends,
    traffic: TrafficMeter,
    vmm: Vmm,
    /// The instant that the timeline counts from.
    accepted: Instant,
    /// What had passed before it, in the life of an earlier process.
    elapsed_before: Duration,
    /// When the work that is under way was begun.
    work_began: Instant,
}

/// By what a keeper is reached, seen from its side.
pub(crate) struct Ends {
    pub(crate) queue: mpsc::Receiver<Message>,
    pub(crate) life: watch::Sender<Life>,
    pub(crate) ingress: Arc<Ingress>,
    /// Held by whatever the engine does with the VM that must not meet anything else.
    pub(crate) engine_turn: Arc<Mutex<()>>,
}

impl Keeper {
    pub(crate) fn new(fleet: Arc<Fleet>, row: MicrovmRow, ends: Ends) -> Self {
        let terms = Terms {
            started_at: row.counted_from,
            maximum_duration: row.maximum_duration,
            idle_policy: row.idle_policy,
            hooks: row.hooks.timeouts.keys().copied().collect(),
            idle_counts: fleet.config.idle_counts,
        };
        let traffic = TrafficMeter::new(&terms);
        let elapsed_before = fleet.steady.now().since(row.counted_from);
        let accepted = Instant::now();
        Self {
            fleet,
            row,
            terms,
            ends,
            traffic,
            vmm: Vmm::MayRun,
            accepted,
            elapsed_before,
            work_began: accepted,
        }
    }

    /// Until the VM is terminated or the control plane stops.
    pub(crate) async fn run(mut self, beginning: Beginning) {
        let stop = self.fleet.stop.clone();
        stop.run_until_cancelled_owned(async {
            if let Some(log) = &self.row.log {
                self.fleet.app_logs.open(&self.row.id, log.clone());
            }
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
            let clock = self.fleet.steady.clone();
            let before = self.row.life.work();
            tokio::select! {
                event = async { work.as_mut().expect("the branch is guarded").await },
                    if work.is_some() =>
                {
                    work = None;
                    let took = self.work_began.elapsed();
                    self.apply(Message { event, reply: None }, Some(took)).await;
                }
                Some(message) = self.ends.queue.recv() => self.apply(message, None).await,
                () = async {
                    match wake_at {
                        Some(at) => clock.sleep_until(at).await,
                        None => std::future::pending().await,
                    }
                } => self.time_passed().await,
            }
            // Work that is no longer wanted is dropped here, save what a phase of ending awaits.
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
        let event = match (self.row.life.phase(), on_host) {
            // Nothing in that clone was told anything: a fresh one is as good, and surely whole.
            (Phase::Cloning, _) => return Ground::MayHoldRemains,
            (Phase::Stopping | Phase::Terminated, _)
            | (Phase::Suspended | Phase::Restoring, OnHost::Suspended) => return Ground::Clean,
            (
                Phase::EndingClone
                | Phase::EndingSave
                | Phase::EndingRestore
                | Phase::CallingTerminate,
                _,
            ) => Event::WorkFailed { reason: String::new() },
            (Phase::Saving, OnHost::Suspended) => Event::Saved { detail: "found again".to_owned() },
            (
                Phase::CallingRun
                | Phase::Running
                | Phase::CallingSuspend
                | Phase::Saving
                | Phase::Restoring
                | Phase::CallingResume,
                OnHost::Running,
            ) => self.adopt().await,
            (
                Phase::CallingRun | Phase::Running | Phase::CallingSuspend | Phase::CallingResume,
                OnHost::Suspended | OnHost::Remains | OnHost::Nothing,
            )
            | (Phase::Saving | Phase::Restoring, OnHost::Remains | OnHost::Nothing)
            | (Phase::Suspended, OnHost::Running | OnHost::Remains | OnHost::Nothing) => {
                Event::Died {
                    reason: self.fleet.death_reason(&self.row.id, "it was found dead").await,
                }
            }
        };
        self.apply(Message { event, reply: None }, None).await;
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
    fn wake_at(&self) -> Option<Steady> {
        let look = self.traffic.next_look(&self.row.life);
        [self.row.life.deadline(&self.terms), look].into_iter().flatten().min()
    }

    async fn time_passed(&mut self) {
        // Before an idle deadline strikes, it is looked whether the VM was idle indeed.
        if self.traffic.next_look(&self.row.life).is_some() {
            self.look_at_traffic().await;
        }
        self.apply(Message { event: Event::Tick, reply: None }, None).await;
    }

    async fn look_at_traffic(&mut self) {
        let now = self.fleet.steady.now();
        self.traffic.looked(now);
        if let Some(at) = self.ends.ingress.last(self.terms.idle_counts, now) {
            self.apply(Message { event: Event::Ingress { at }, reply: None }, None).await;
        }
        if !self.traffic.looks_at_network() {
            return;
        }
        let busy = match self.fleet.outside.engine.usage(&self.row.id.vm_id()).await {
            Ok(usage) => self.traffic.sample(&usage),
            // Unknown is not idle: a VM is not ended because it could not be measured.
            Err(error) => {
                warn!(microvm = %self.row.id, "its traffic cannot be read: {}", chain(&error));
                true
            }
        };
        if busy {
            self.apply(Message { event: Event::Traffic, reply: None }, None).await;
        }
    }

    /// Decides, writes down, and lets others know; the work of the new phase comes afterwards.
    /// `took`: how long the work lasted that the event is the outcome of.
    async fn apply(&mut self, message: Message, took: Option<Duration>) {
        let Message { event, reply } = message;
        let now = self.fleet.steady.now();
        match &event {
            Event::Died { .. } | Event::Saved { .. } => self.vmm = Vmm::Dead,
            // What was found of an earlier attempt is gone.
            Event::Cloned { .. } | Event::Restored { .. } => self.vmm = Vmm::MayRun,
            _ => {}
        }
        debug!(microvm = %self.row.id, phase = self.row.life.phase().as_str(), ?event);
        let outcome = match self.row.life.on(&event, &self.terms, now) {
            Err(refusal) => Err(self.refused(refusal, &event)),
            Ok(step) if step.life == self.row.life && step.marks.is_empty() => Ok(()),
            Ok(step) => match &reply {
                Some(_) => self.record(step, took).await,
                None => {
                    self.record_surely(step, took).await;
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
    async fn record_surely(&mut self, step: Step, took: Option<Duration>) {
        while let Err(error) = self.record(step.clone(), took).await {
            warn!(microvm = %self.row.id, "its state is not written yet: {}", chain(&error));
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    async fn record(&mut self, step: Step, mut took: Option<Duration>) -> Result<(), ControlError> {
        let at = self.fleet.outside.clock.now();
        let elapsed = self.elapsed_before + self.accepted.elapsed();
        let marks: Vec<NewMark> = step
            .marks
            .into_iter()
            // The first tells of the work that ended.
            .map(|(mark, detail)| NewMark { mark, at, elapsed, took: took.take(), detail })
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
                entry: TimelineEntry::from(mark),
            });
        }
        self.ends.life.send_replace(self.row.life.clone());
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
        }
    }

    /// The work of the present phase.
    fn begin_work(&mut self, ground: Ground) -> Option<BoxFuture<'static, Event>> {
        self.work_began = Instant::now();
        let work = self.row.life.work()?;
        let job = Job { fleet: Arc::clone(&self.fleet), row: self.row.clone() };
        let (vmm, turn) = (self.vmm, Arc::clone(&self.ends.engine_turn));
        Some(Box::pin(async move {
            // Calls of hooks may meet a checkpoint, which is a pause for them.
            if let Work::Call(hook) = work {
                return job.call(hook).await;
            }
            let _turn = turn.lock().await;
            match work {
                Work::Clone => job.clone(ground).await,
                Work::Call(hook) => job.call(hook).await,
                Work::Save => job.save().await,
                Work::Restore => job.restore().await,
                Work::Remove => job.remove(vmm).await,
            }
        }))
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

/// The work of a phase, on a copy of the row.
struct Job {
    fleet: Arc<Fleet>,
    row: MicrovmRow,
}

impl Job {
    async fn clone(&self, ground: Ground) -> Event {
        let Ok(_permit) = self.fleet.launches.acquire().await else {
            return Event::WorkFailed { reason: "the control plane is shutting down".to_owned() };
        };
        match self.launch(ground).await {
            Ok(path) => Event::Cloned { path: path.to_owned() },
            Err(error) => {
                let reason = format!("MicroVM could not be launched: {}", chain(&error));
                warn!(microvm = %self.row.id, image = %self.row.image, "{reason}");
                Event::WorkFailed { reason }
            }
        }
    }

    async fn launch(&self, ground: Ground) -> Result<&'static str, LaunchError> {
        let Self { fleet, row } = self;
        let engine = &fleet.outside.engine;
        let id = row.id.vm_id();
        if ground == Ground::MayHoldRemains {
            engine.stop(&id, None).await?;
        }
        let asked = row.egress_connectors.iter().any(|arn| arn.ends_with(INTERNET_EGRESS));
        let internet = asked && fleet.config.internet == Internet::Reachable;
        let from = |origin| LaunchSpec { id: id.clone(), origin, internet };
        let origin = match &row.checkpoint {
            Some(checkpoint) => Origin::Checkpoint(checkpoint.clone()),
            None => Origin::Template(row.template.clone()),
        };
        let launched = match engine.launch(from(origin)).await {
            Err(EngineError::NoSuchTemplate(_)) if row.checkpoint.is_none() => {
                let renewed = image_template::renew(fleet, &row.image, row.version).await;
                let template = renewed.map_err(|failure| LaunchError::Snapshot(failure.reason))?;
                engine.launch(from(Origin::Template(template))).await?
            }
            launched => launched?,
        };
        Ok(attach(fleet, row, launched).await?)
    }

    /// The back door goes after the VM, whose last words it may carry.
    async fn save(&self) -> Event {
        let Self { fleet, row } = self;
        match fleet.outside.engine.suspend(&row.id.vm_id()).await {
            Ok(Suspended { memory_bytes, disk_bytes, pause_ms }) => {
                fleet.outside.back_door.detach(&row.id).await;
                let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
                let (memory, disk) = (mib(memory_bytes), mib(disk_bytes));
                let detail = format!(
                    "{memory:.1} MiB of memory, {disk:.1} MiB of disk, stood still for {pause_ms:.0} ms"
                );
                Event::Saved { detail }
            }
            Err(error) => {
                let reason = format!("it could not be saved: {}", chain(&error));
                warn!(microvm = %row.id, "{reason}; it runs on");
                Event::NotSaved { reason }
            }
        }
    }

    async fn restore(&self) -> Event {
        let Self { fleet, row } = self;
        let not_restored = |reason: String| {
            warn!(microvm = %row.id, "{reason}; it stays suspended");
            Event::NotRestored { reason }
        };
        let Ok(_permit) = fleet.launches.acquire().await else {
            return not_restored("the control plane is shutting down".to_owned());
        };
        let launched = match fleet.outside.engine.resume(&row.id.vm_id()).await {
            Ok(launched) => launched,
            Err(error) => return not_restored(format!("not restored: {}", chain(&error))),
        };
        match attach(fleet, row, launched).await {
            Ok(path) => Event::Restored { path: path.to_owned() },
            Err(error) => Event::WorkFailed {
                reason: format!("MicroVM could not be resumed: {}", chain(&error)),
            },
        }
    }

    async fn call(&self, hook: Hook) -> Event {
        let Self { fleet, row } = self;
        let timeout = row.hooks.timeouts.get(&hook).copied().unwrap_or(hook.default_timeout());
        let Some(request) = hook_request(row, hook, timeout) else {
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
        match &outcome {
            // An app that ends as it is told to may take the connection with it: that is an answer.
            HookOutcome::Broken { error } if hook == Hook::Terminate => {
                debug!(microvm = %row.id, "the app left without an answer: {error}");
            }
            HookOutcome::Broken { error } => {
                warn!(microvm = %row.id, hook = hook.name(), "the hook broke: {error}");
            }
            HookOutcome::Answered { .. } | HookOutcome::Refused | HookOutcome::TimedOut => {}
        }
        Event::HookEnded { hook, outcome }
    }

    /// Has to succeed at last: what is not removed would hold memory for nobody. The back door goes
    /// last, since an app that ends in order may have something to say through it.
    async fn remove(&self, vmm: Vmm) -> Event {
        let Self { fleet, row } = self;
        let grace = match vmm {
            Vmm::MayRun => Some(POWER_OFF_GRACE),
            Vmm::Dead => None,
        };
        while let Err(error) = fleet.outside.engine.stop(&row.id.vm_id(), grace).await {
            warn!(microvm = %row.id, "it is not removed yet: {}", chain(&error));
            tokio::time::sleep(RETRY_EVERY).await;
        }
        fleet.outside.back_door.detach(&row.id).await;
        Event::Removed { at: fleet.outside.clock.now() }
    }
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

impl From<NewMark> for TimelineEntry {
    fn from(mark: NewMark) -> Self {
        let NewMark { mark, at, elapsed, took, detail } = mark;
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        Self { mark, at, elapsed_ms: ms(elapsed), took_ms: took.map(ms), detail }
    }
}

/// Whether a VM in this state has a guest that can be talked to.
pub(crate) const fn has_guest(state: MicrovmState) -> bool {
    match state {
        MicrovmState::Pending | MicrovmState::Running | MicrovmState::Terminating => true,
        MicrovmState::Suspending | MicrovmState::Suspended | MicrovmState::Terminated => false,
    }
}

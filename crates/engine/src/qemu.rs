//! The QEMU driver: KVM or TCG, templates and clones as `spec/engine-qemu.md` has them.
//!
//! A *template* is a guest paused right after its app said that it is ready: RAM in one file, device
//! state beside it. A *clone* maps that RAM copy-on-write and loads the device state, so restoring
//! reads nothing and takes as long for 8 GiB as for 512 MiB.
//!
//! A VM that runs can be written to disk, as far as it differs from its template, to go on later
//! ([`suspend`]) or for others to begin as ([`checkpoint`]).
//!
//! What exists of a VM is in the kernel and on disk, under its slot; what is in this process
//! ([`Running`]) is only the way to it, and can be made again ([`Engine::adopt`]).

mod arguments;
mod calibration;
mod checkpoint;
mod clone;
mod initrd;
mod memory;
mod opening;
mod pages;
mod process;
mod qmp;
mod remains;
mod standby;
mod suspend;
mod template;
mod usage;
pub(crate) mod vmm;

pub use calibration::AcceleratorChoice;

use crate::{
    AppOutput, CheckpointId, CheckpointInfo, Engine, EngineError, EngineEvent, EngineReport,
    Events, ExecRequest, ExecSession, HookOutcome, HookRequest, LaunchSpec, Launched, Listing,
    Suspended, TemplateId, TemplateInfo, TemplateSpec, TemplateStage, VmId, VmState, VmUsage,
    cgroup,
    channel::Channel,
    namespace,
    slot::{Slot, Slots},
    state::{Manifest, StateDir, discard, host_error},
    turns::Turns,
};
use arguments::{Accelerator, Machine, Start};
use async_trait::async_trait;
use process::Process;
use remains::console_tail;
use sha2::{Digest, Sha256};
use standby::Standby;
use std::{
    collections::HashMap,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::{broadcast, mpsc},
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;
use vmm::Tools;
use wire::{GuestMessage, HostMessage};

/// Pieces of apps' output that a slow listener may be behind before it loses the oldest.
const OUTPUT_BEHIND_MAX: usize = 4096;
/// A guest under TCG on a busy host answers late, but not as late as this.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// A guest accepts in milliseconds; on a busy host it may take this long.
const DIAL_WAIT_MAX: Duration = Duration::from_secs(5);
/// On top of a hook's own time, for the way there and back.
const HOOK_SLACK: Duration = Duration::from_secs(5);
/// On top of a guest's grace, for writing out and powering off.
const POWER_OFF_SLACK: Duration = Duration::from_secs(2);
/// Of a console, in an error or event.
const CONSOLE_TAIL_BYTES: usize = 4 * 1024;

/// What the driver needs to know.
#[derive(Debug, Clone)]
pub struct QemuConfig {
    /// The engine's own directory; one engine at a time uses it.
    pub state_dir: PathBuf,
    /// Holds `kernel/vmlinux` and `kernel/modules/`, as `scripts/setup` makes them.
    pub share_dir: PathBuf,
    /// Holds `warren-guest`, `warren-jail` and `libramguard.so`.
    pub libexec_dir: PathBuf,
    pub accelerator: AcceleratorChoice,
    /// How many VMs to keep restored and paused for the next launch, of each template for which
    /// [`Engine::keep_standby`] was called.
    pub standby: usize,
}

/// The engine on QEMU.
pub struct Qemu {
    inner: Arc<Inner>,
}

struct Inner {
    tools: Tools,
    state: StateDir,
    slots: Slots,
    accelerator: Accelerator,
    report: EngineReport,
    vms: Mutex<HashMap<VmId, Arc<Running>>>,
    events: Arc<Events>,
    logs: broadcast::Sender<AppOutput>,
    standby: Standby,
    turns: Turns,
    tasks: TaskTracker,
    _lock: nix::fcntl::Flock<File>,
}

/// The way to a VM that runs.
struct Running {
    slot: Slot,
    process: Process,
    channel: Channel,
    /// Set before its end is brought about, so that nobody takes the end for a crash.
    stopping: AtomicBool,
}

impl Qemu {
    /// Looks for the tools, finds the accelerator, and removes what an engine before it left half made.
    ///
    /// # Errors
    /// A missing tool or file by name; another engine on the same directory; no KVM where it is required.
    pub async fn open(config: QemuConfig) -> Result<Arc<Self>, EngineError> {
        let inner = blocking(move || Inner::open(&config)).await?;
        let engine = Arc::new(Self { inner: Arc::new(inner) });
        tracing::info!(
            vmm = engine.inner.report.vmm,
            accelerator = engine.inner.report.accelerator,
            reason = engine.inner.report.reason,
            "engine is ready"
        );
        Ok(engine)
    }
}

impl Qemu {
    /// One change of a VM at a time, and each is carried through, even when who asked for it has gone:
    /// half a change would be met by the next.
    async fn change<T: Send + 'static>(
        &self,
        name: String,
        body: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, EngineError> {
        let inner = self.inner.clone();
        let task = self.inner.tasks.spawn(async move {
            let _turn = inner.turns.take(&name).await;
            body.await
        });
        joined(task).await
    }
}

async fn joined<T>(task: JoinHandle<Result<T, EngineError>>) -> Result<T, EngineError> {
    match task.await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(host_error(Path::new("the engine"), "run", std::io::Error::other(e))),
    }
}

/// Runs what blocks (processes, namespaces, QMP) off the runtime's own threads.
async fn blocking<T: Send + 'static>(
    body: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    joined(tokio::task::spawn_blocking(body)).await
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn machine(&self, memory_mib: u32, vcpus: u8) -> Machine {
        Machine { accelerator: self.accelerator, memory_mib, vcpus }
    }

    /// What a template and a clone must have in common; QEMU itself does not check it.
    fn fingerprint(&self, memory_mib: u32, vcpus: u8) -> String {
        let arguments = self.machine(memory_mib, vcpus).arguments("", Start::Boot, 2);
        let kernel =
            fs::read_to_string(self.tools.kernel.with_file_name("version")).unwrap_or_default();
        let text = format!(
            "{} {kernel} {:?} {arguments:?}",
            self.report.vmm,
            self.tools.initrd.file_name()
        );
        hex::encode(&Sha256::digest(text)[..16])
    }

    /// What must be the same for a VM's saved state to be loaded: the guest in it brings itself along.
    fn machine_mark(&self, manifest: &Manifest) -> String {
        let machine = self.machine(manifest.memory_mib, manifest.vcpus);
        let arguments = machine.arguments("", Start::Restore, 2);
        hex::encode(&Sha256::digest(format!("{} {arguments:?}", self.report.vmm))[..16])
    }

    fn running(&self, id: &VmId, operation: &'static str) -> Result<Arc<Running>, EngineError> {
        let running = lock(&self.vms).get(id).cloned();
        running.ok_or_else(|| self.wrong_state(id, operation))
    }

    /// Why something cannot be done with a VM.
    fn wrong_state(&self, id: &VmId, operation: &'static str) -> EngineError {
        let dir = self.state.vm(id);
        let state = if remains::is_saved(&dir) {
            VmState::Suspended
        } else if lock(&self.vms).contains_key(id) {
            VmState::Running
        } else if dir.path().exists() {
            VmState::Remains
        } else {
            return EngineError::NoSuchVm(id.clone());
        };
        EngineError::WrongState { id: id.clone(), operation, state }
    }

    async fn stop(self: &Arc<Self>, id: &VmId, grace: Option<Duration>) -> Result<(), EngineError> {
        let running = lock(&self.vms).remove(id);
        if let Some(running) = &running {
            running.stopping.store(true, Ordering::Release);
            if let Some(grace) = grace {
                power_off(running, grace).await;
            }
        }
        let (inner, id) = (self.clone(), id.clone());
        blocking(move || {
            let slot = inner.slot_of(&id)?;
            remains::remove(&inner.slots, &inner.state, &id, slot)
        })
        .await
    }

    /// Names the VM in an error of its channel and adds what its console said last.
    fn explain(&self, id: &VmId, error: EngineError) -> EngineError {
        match error {
            EngineError::Guest { reason, .. } => EngineError::Guest {
                subject: id.to_string(),
                reason,
                console: console_tail(&self.state.vm(id), CONSOLE_TAIL_BYTES),
            },
            EngineError::TimedOut { what, after_ms, .. } => {
                EngineError::TimedOut { subject: id.to_string(), what, after_ms }
            }
            EngineError::GuestVersion { guest, host, .. } => {
                EngineError::GuestVersion { subject: id.to_string(), guest, host }
            }
            other => other,
        }
    }

    /// Passes on what the guest says unasked.
    fn listener(self: &Arc<Self>, id: &VmId) -> crate::channel::Listener {
        let (events, logs, id) = (self.events.clone(), self.logs.clone(), id.clone());
        let told = AtomicBool::new(false);
        Box::new(move |message| match message {
            // Nobody may be listening.
            GuestMessage::Log { error, data } => {
                drop(logs.send(AppOutput { id: id.clone(), error, data }));
            }
            // Once, whatever a hostile guest says: this queue is not bounded.
            GuestMessage::AppExited { exit } if !told.swap(true, Ordering::Relaxed) => {
                events.tell(&EngineEvent::AppExited { id: id.clone(), exit });
            }
            _ => {}
        })
    }

    /// Puts a VM into the books and watches for its end.
    fn register(self: &Arc<Self>, id: &VmId, running: Running) {
        let running = Arc::new(running);
        lock(&self.vms).insert(id.clone(), running.clone());
        let (inner, id) = (self.clone(), id.clone());
        self.tasks.spawn(async move {
            running.process.ended().await;
            let status = running.process.reap();
            if running.stopping.load(Ordering::Acquire) {
                return;
            }
            lock(&inner.vms).remove(&id);
            let console = console_tail(&inner.state.vm(&id), CONSOLE_TAIL_BYTES);
            let reason = reason_of_end(running.slot, status, &console);
            tracing::warn!(vm = %id, reason, "a VM ended by itself");
            inner.events.tell(&EngineEvent::Died { id, reason, console });
        });
    }
}

fn reason_of_end(slot: Slot, status: Option<std::process::ExitStatus>, console: &str) -> String {
    if cgroup::ran_out_of_memory(slot) {
        return "the VM used more memory than its limit on the host".into();
    }
    if console.contains("Kernel panic") {
        return "the guest's kernel panicked".into();
    }
    match status {
        Some(status) if status.success() => "the guest powered off".into(),
        Some(status) => format!("the VMM ended with {status}"),
        None => "the VMM ended".into(),
    }
}

#[async_trait]
impl Engine for Qemu {
    fn report(&self) -> EngineReport {
        self.inner.report.clone()
    }

    async fn make_template(
        &self,
        id: &TemplateId,
        spec: TemplateSpec,
        progress: mpsc::UnboundedSender<TemplateStage>,
    ) -> Result<TemplateInfo, EngineError> {
        if let Some(info) = self.inner.template(id)? {
            return Ok(info);
        }
        self.inner.make_template(id, spec, &progress).await
    }

    async fn template(&self, id: &TemplateId) -> Result<Option<TemplateInfo>, EngineError> {
        self.inner.template(id)
    }

    async fn list_templates(&self) -> Result<Vec<TemplateId>, EngineError> {
        let state = self.inner.state.clone();
        blocking(move || state.templates()).await
    }

    async fn remove_template(&self, id: &TemplateId) -> Result<(), EngineError> {
        self.inner.drop_standby(|template| template == id).await;
        let dir = self.inner.state.template(id);
        blocking(move || discard(dir.path())).await
    }

    async fn launch(&self, spec: LaunchSpec) -> Result<Launched, EngineError> {
        let (inner, name) = (self.inner.clone(), spec.id.to_string());
        self.change(name, async move { inner.launch(spec).await }).await
    }

    async fn adopt(&self, id: &VmId) -> Result<Launched, EngineError> {
        let (inner, id) = (self.inner.clone(), id.clone());
        self.change(id.to_string(), async move { inner.adopt(&id).await }).await
    }

    async fn suspend(&self, id: &VmId) -> Result<Suspended, EngineError> {
        let (inner, id) = (self.inner.clone(), id.clone());
        self.change(id.to_string(), async move { inner.suspend(&id).await }).await
    }

    async fn resume(&self, id: &VmId) -> Result<Launched, EngineError> {
        let (inner, id) = (self.inner.clone(), id.clone());
        self.change(id.to_string(), async move { inner.resume(&id).await }).await
    }

    async fn checkpoint(
        &self,
        id: &VmId,
        checkpoint: &CheckpointId,
    ) -> Result<CheckpointInfo, EngineError> {
        let (inner, id, checkpoint) = (self.inner.clone(), id.clone(), checkpoint.clone());
        self.change(id.to_string(), async move { inner.checkpoint(&id, &checkpoint).await }).await
    }

    async fn checkpoint_info(
        &self,
        id: &CheckpointId,
    ) -> Result<Option<CheckpointInfo>, EngineError> {
        self.inner.checkpoint_info(id)
    }

    async fn list_checkpoints(&self) -> Result<Vec<CheckpointInfo>, EngineError> {
        let inner = self.inner.clone();
        blocking(move || inner.list_checkpoints()).await
    }

    async fn remove_checkpoint(&self, id: &CheckpointId) -> Result<(), EngineError> {
        let dir = self.inner.state.checkpoint(id);
        blocking(move || discard(dir.path())).await
    }

    async fn list(&self) -> Result<Vec<Listing>, EngineError> {
        let inner = self.inner.clone();
        blocking(move || inner.list()).await
    }

    async fn stop(&self, id: &VmId, grace: Option<Duration>) -> Result<(), EngineError> {
        let (inner, id) = (self.inner.clone(), id.clone());
        self.change(id.to_string(), async move { inner.stop(&id, grace).await }).await
    }

    async fn call_hook(&self, id: &VmId, request: HookRequest) -> Result<HookOutcome, EngineError> {
        let running = self.inner.running(id, "calling a hook")?;
        let within = Duration::from_millis(request.timeout_ms.into()) + HOOK_SLACK;
        let answer = running
            .channel
            .call("a hook", within, |call| HostMessage::Hook { call, request })
            .await
            .map_err(|e| self.inner.explain(id, e))?;
        match answer {
            GuestMessage::HookAnswered { outcome, .. } => Ok(outcome),
            other => Err(unexpected(id, &other)),
        }
    }

    async fn exec(&self, id: &VmId, request: ExecRequest) -> Result<ExecSession, EngineError> {
        let running = self.inner.running(id, "running a command")?;
        running.channel.exec(request).await.map_err(|e| self.inner.explain(id, e))
    }

    async fn dial(&self, id: &VmId, port: u16) -> Result<TcpStream, EngineError> {
        let slot = self.inner.running(id, "connecting to a port")?.slot;
        let socket = blocking(move || namespace::socket(slot)).await?;
        let connected = socket.connect((namespace::GUEST, port).into());
        match tokio::time::timeout(DIAL_WAIT_MAX, connected).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused => {
                Err(EngineError::Refused { id: id.clone(), port })
            }
            // No answer to ARP: the guest hangs.
            Ok(Err(e)) if e.kind() != ErrorKind::HostUnreachable => {
                Err(host_error(Path::new(id.as_str()), "connect to a port of the VM", e))
            }
            Ok(Err(_)) | Err(_) => Err(EngineError::TimedOut {
                subject: id.to_string(),
                what: format!("a connection to port {port}"),
                after_ms: DIAL_WAIT_MAX.as_millis() as u64,
            }),
        }
    }

    async fn usage(&self, id: &VmId) -> Result<VmUsage, EngineError> {
        let running = match self.inner.running(id, "measuring") {
            Err(EngineError::WrongState { state: VmState::Suspended, .. }) => None,
            running => Some(running?),
        };
        let body = self.inner.state.vm(id).body();
        blocking(move || usage::read(running.as_deref(), &body)).await
    }

    async fn console_tail(&self, id: &VmId, bytes_max: usize) -> Result<String, EngineError> {
        Ok(console_tail(&self.inner.state.vm(id), bytes_max))
    }

    async fn cold_boot(&self, template: &TemplateId) -> Result<Duration, EngineError> {
        self.inner.cold_boot(template).await
    }

    async fn keep_standby(&self, templates: &[TemplateId]) -> Result<(), EngineError> {
        self.inner.keep_standby(templates).await
    }

    async fn shutdown(&self) {
        let inner = self.inner.clone();
        inner.close_standby().await;
        // A template whose making was broken off leaves its VM.
        let removed = blocking(move || remains::remove_internal(&inner.slots, &inner.state)).await;
        if let Err(e) = removed {
            tracing::warn!("something of the engine's own could not be removed: {e}");
        }
    }

    fn events(&self) -> mpsc::UnboundedReceiver<EngineEvent> {
        self.inner.events.subscribe()
    }

    fn logs(&self) -> broadcast::Receiver<AppOutput> {
        self.inner.logs.subscribe()
    }
}

fn unexpected(id: &VmId, message: &GuestMessage) -> EngineError {
    let reason = format!("it answered with something that was not asked for: {message:?}");
    EngineError::Guest { subject: id.to_string(), reason, console: String::new() }
}

/// Asks the guest to end, and waits for it as long as its grace allows.
async fn power_off(running: &Running, grace: Duration) {
    let grace_ms = u32::try_from(grace.as_millis()).unwrap_or(u32::MAX);
    // A guest that cannot be asked is ended without being asked.
    if running.channel.send(&HostMessage::PowerOff { grace_ms }).await.is_ok() {
        let _ = tokio::time::timeout(grace + POWER_OFF_SLACK, running.process.ended()).await;
    }
}

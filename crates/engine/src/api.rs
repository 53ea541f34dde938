//! The trait that the rest of Warren sees, and its types.

use async_trait::async_trait;
use std::{
    fmt,
    net::{TcpListener, UdpSocket},
    path::PathBuf,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::{broadcast, mpsc},
};
use wire::{App, AppExit, ExecRequest, ExitStatus, HookOutcome, HookRequest, TerminalSize};

/// Name of a VM on its host: the MicroVM's id (`microvm-<uuid>`). Letters, digits and `-` only.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct VmId(String);

/// Name of a template: the hexadecimal digest of what it was made from.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TemplateId(String);

/// Name of a checkpoint: letters, digits and `-` only.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CheckpointId(String);

/// The name cannot be that of a VM, template or checkpoint: it becomes a file, a namespace and a cgroup.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a name of letters, digits and '-', 1 to 64 of them")]
pub struct BadName(String);

/// How the names of the engine's own VMs begin.
const INTERNAL: &str = "engine-";

fn checked(name: String) -> Result<String, BadName> {
    let good = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if good { Ok(name) } else { Err(BadName(name)) }
}

impl VmId {
    /// # Errors
    /// [`BadName`] where it is not 1 to 64 letters, digits and `-`.
    pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
        checked(name.into()).map(Self)
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A VM of the engine's own: one in the making, on standby, or for a measurement.
    pub(crate) fn internal(purpose: &str) -> Self {
        Self(format!("{INTERNAL}{purpose}-{}", uuid::Uuid::new_v4().simple()))
    }
    pub(crate) fn is_internal(&self) -> bool {
        self.0.starts_with(INTERNAL)
    }
}

impl TemplateId {
    /// # Errors
    /// [`BadName`] where it is not 1 to 64 letters, digits and `-`.
    pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
        checked(name.into()).map(Self)
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl CheckpointId {
    /// # Errors
    /// [`BadName`] where it is not 1 to 64 letters, digits and `-`.
    pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
        checked(name.into()).map(Self)
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host for VMs.
///
/// Every call may be repeated: a stop of what is gone succeeds, a launch whose VM is there is
/// [`EngineError::Exists`]. VMs outlive the process that holds this value; [`Engine::list`] and
/// [`Engine::adopt`] find them again.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Which VMM and accelerator run here, and why these.
    fn report(&self) -> EngineReport;

    /// Boots `spec.rootfs`, starts its app, waits for `spec.ready`, and saves the VM paused as
    /// template `id`. An existing template of this id is kept as it is.
    async fn make_template(
        &self,
        id: &TemplateId,
        spec: TemplateSpec,
        progress: mpsc::UnboundedSender<TemplateStage>,
    ) -> Result<TemplateInfo, EngineError>;

    /// None: there is no such template, or it does not fit this host's VMM and must be made anew.
    async fn template(&self, id: &TemplateId) -> Result<Option<TemplateInfo>, EngineError>;

    /// The templates on this host, those too that do not fit it any more.
    async fn list_templates(&self) -> Result<Vec<TemplateId>, EngineError>;

    /// Removes a template: nothing is launched from it any more. VMs and checkpoints that are made
    /// from it live on, and its files with them.
    async fn remove_template(&self, id: &TemplateId) -> Result<(), EngineError>;

    /// Clones a template or a checkpoint into a running VM with an identity of its own. When it
    /// returns, the app runs and the VM's network is up. What failed on the way has been taken back.
    async fn launch(&self, spec: LaunchSpec) -> Result<Launched, EngineError>;

    /// Takes charge of a VM that an earlier process launched: its channel and its namespace's
    /// sockets are opened again.
    async fn adopt(&self, id: &VmId) -> Result<Launched, EngineError>;

    /// Saves a running VM to disk, as far as it differs from its template, and ends its VMM: it uses
    /// no memory and no CPU from then on, and stays listed, over restarts too, until it is resumed
    /// or stopped. Where it fails, the VM runs on.
    async fn suspend(&self, id: &VmId) -> Result<Suspended, EngineError> {
        let _ = id;
        Err(EngineError::NotSupported { operation: "suspending a VM" })
    }

    /// Lets a suspended VM go on where it was, as the same one: memory, processes, files and listening
    /// sockets are there, connections to the outside are cut, the clock is right and the entropy new.
    /// Where it fails before the guest goes on, the VM is suspended still; after that, it has crashed.
    async fn resume(&self, id: &VmId) -> Result<Launched, EngineError> {
        let _ = id;
        Err(EngineError::NotSupported { operation: "resuming a VM" })
    }

    /// Saves a running or suspended VM as a checkpoint, from which any number of VMs can be launched
    /// ([`Origin::Checkpoint`]). A running one is paused meanwhile and goes on.
    async fn checkpoint(
        &self,
        id: &VmId,
        checkpoint: &CheckpointId,
    ) -> Result<CheckpointInfo, EngineError> {
        let _ = (id, checkpoint);
        Err(EngineError::NotSupported { operation: "saving a VM as a checkpoint" })
    }

    /// None: there is no such checkpoint.
    async fn checkpoint_info(
        &self,
        id: &CheckpointId,
    ) -> Result<Option<CheckpointInfo>, EngineError> {
        let _ = id;
        Ok(None)
    }

    async fn list_checkpoints(&self) -> Result<Vec<CheckpointInfo>, EngineError> {
        Ok(Vec::new())
    }

    /// Removes a checkpoint; VMs that were launched from it live on. One that is gone succeeds.
    async fn remove_checkpoint(&self, id: &CheckpointId) -> Result<(), EngineError> {
        let _ = id;
        Ok(())
    }

    /// A TCP connection to a port of the guest's network interface, made inside the VM's own
    /// namespace: what a server in the VM sees as coming from its gateway, 10.0.0.1.
    ///
    /// # Errors
    /// [`EngineError::Refused`] where nothing listens; [`EngineError::TimedOut`] where the guest
    /// says nothing within some seconds; [`EngineError::NoSuchVm`] for one that does not run.
    async fn dial(&self, id: &VmId, port: u16) -> Result<TcpStream, EngineError> {
        let _ = (id, port);
        Err(EngineError::NotSupported { operation: "connecting to a port of a VM" })
    }

    /// Every VM of which anything is on this host: a process, a namespace, a file.
    async fn list(&self) -> Result<Vec<Listing>, EngineError>;

    /// Ends a VM and removes all that is of it. With `grace` the guest may end in order for so long.
    async fn stop(&self, id: &VmId, grace: Option<Duration>) -> Result<(), EngineError>;

    /// Calls a lifecycle hook of the app, in the guest, over loopback.
    async fn call_hook(&self, id: &VmId, request: HookRequest) -> Result<HookOutcome, EngineError>;

    /// Runs a command beside the app.
    async fn exec(&self, id: &VmId, request: ExecRequest) -> Result<ExecSession, EngineError>;

    /// Memory, CPU, network and disk use of a VM, read now; of a suspended one too.
    async fn usage(&self, id: &VmId) -> Result<VmUsage, EngineError>;

    /// The last `bytes_max` bytes of the guest's serial console, also after its end while the VM
    /// has not been stopped.
    async fn console_tail(&self, id: &VmId, bytes_max: usize) -> Result<String, EngineError>;

    /// Boots a template's disk afresh, without its snapshot, and measures the time from the start
    /// of the process to the app's hook server answering `ready`. The VM is gone afterwards.
    async fn cold_boot(&self, template: &TemplateId) -> Result<Duration, EngineError>;

    /// From now on keeps VMs of just these templates on standby, as many of each as the engine is
    /// configured for: restored and paused, so that a launch has only to let one go on. Making them goes
    /// on in the background.
    async fn keep_standby(&self, templates: &[TemplateId]) -> Result<(), EngineError> {
        let _ = templates;
        Ok(())
    }

    /// Ends what is the engine's own, its standby VMs and tasks. Launched VMs run on.
    async fn shutdown(&self) {}

    /// How VMs and their apps end from now on: none is lost. There are at most two for each time
    /// that a VM is launched, adopted or resumed, so what waits here is bounded by the number of VMs.
    fn events(&self) -> mpsc::UnboundedReceiver<EngineEvent>;

    /// What apps print from now on. A receiver that falls behind loses the oldest and is told so.
    fn logs(&self) -> broadcast::Receiver<AppOutput>;
}

/// What runs VMs on this host.
#[derive(Clone, Debug)]
pub struct EngineReport {
    /// For example `qemu 7.2.22`.
    pub vmm: String,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Why this accelerator: a sentence for a person.
    pub reason: String,
}

/// What a template is made from.
#[derive(Clone, Debug)]
pub struct TemplateSpec {
    /// Raw ext4 file system. The template takes it over: it is moved when it is on the same file
    /// system, and read-only from then on.
    pub rootfs: PathBuf,
    pub memory_mib: u32,
    pub vcpus: u8,
    pub app: App,
    /// Asked until it answers 200 (503: asked again; anything else fails). None: the snapshot is
    /// taken as soon as the app runs.
    pub ready: Option<HookRequest>,
    /// Commands that are run once before the snapshot, so that what they touch is in its page cache.
    /// One that is not in the image is passed over.
    pub warm: Vec<Vec<String>>,
}

/// How far the making of a template is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateStage {
    Booting,
    StartingApp,
    WaitingReady,
    Warming,
    Saving,
    Log(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateInfo {
    pub id: TemplateId,
    pub memory_mib: u32,
    pub vcpus: u8,
    /// From the start of the VMM to the first 200 of the `ready` hook; without a hook, to the app's start.
    pub cold_boot_ms: u64,
    /// Bytes on disk: RAM that is not a hole.
    pub memory_bytes: u64,
    /// Bytes on disk: the root file system.
    pub rootfs_bytes: u64,
    /// Bytes on disk: what the template wrote on top of it.
    pub disk_bytes: u64,
}

/// Where a VM begins.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// An image's app, right after it said that it is ready.
    Template(TemplateId),
    /// Another VM, at the moment when it was saved.
    Checkpoint(CheckpointId),
}

#[derive(Clone, Debug)]
pub struct LaunchSpec {
    pub id: VmId,
    pub origin: Origin,
    /// Whether the VM reaches the internet by NAT. The host, its private networks and other VMs
    /// are never reachable.
    pub internet: bool,
}

/// A running VM.
#[derive(Debug)]
pub struct Launched {
    /// From the call to the app running.
    pub restore_ms: f64,
    /// `standby`, `clone`, `adopted` or `resumed`.
    pub path: &'static str,
    pub sockets: GuestSockets,
}

/// Sockets in the VM's own network namespace, bound and listening, non-blocking: what comes in on
/// them comes from this VM and from nowhere else. Whoever takes them serves the VM's back door.
#[derive(Debug)]
pub struct GuestSockets {
    /// 169.254.169.254:80, the instance metadata service.
    pub imds: TcpListener,
    /// 10.0.0.1:7420, relayed to the AWS API.
    pub aws: TcpListener,
    /// 10.0.0.1:7430, relayed to the Managed Agents platform where that is not on the internet.
    pub platform: TcpListener,
    /// 10.0.0.1:53, the resolver.
    pub dns_udp: UdpSocket,
    pub dns_tcp: TcpListener,
}

/// What there is of a VM on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    pub id: VmId,
    pub state: VmState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmState {
    /// Its VMM runs.
    Running,
    /// It is whole on disk and can be resumed.
    Suspended,
    /// Only remains, to be removed with [`Engine::stop`].
    Remains,
}

/// What suspending a VM took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suspended {
    /// Bytes on disk: memory that differs from the template's, and device state.
    pub memory_bytes: u64,
    /// Bytes on disk: what the VM wrote on top of its template's disk.
    pub disk_bytes: u64,
    /// From the guest's stop to the end of its VMM.
    pub pause_ms: f64,
}

/// A VM as it was at one moment, to launch others from.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointInfo {
    pub id: CheckpointId,
    /// What it is stored as a difference from.
    pub template: TemplateId,
    /// Bytes on disk: memory that differs from the template's, and device state.
    pub memory_bytes: u64,
    /// Bytes on disk: what was written on top of the template's disk, shared layers included.
    pub disk_bytes: u64,
    /// How long the source stood still; 0 where it was suspended.
    pub pause_ms: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct VmUsage {
    /// Proportional set size of the VMM.
    pub pss_kib: u64,
    pub rss_kib: u64,
    /// Private pages of the VMM that are not in any file.
    pub private_kib: u64,
    pub cpu_ms: u64,
    /// Bytes from and to the guest since its launch or resumption, as its tap counts them.
    pub guest_sent_bytes: u64,
    pub guest_received_bytes: u64,
    /// Bytes that the VMM has read from and written to the host's disks, as the kernel counts them: what
    /// the host's page cache answers is not read.
    pub disk_read_bytes: u64,
    pub disk_written_bytes: u64,
    /// Bytes on disk of what the VM wrote on top of its template's disk; with forks, shared layers too.
    pub disk_bytes: u64,
    /// Bytes on disk of a suspended VM's memory; then all of the above but `disk_bytes` is 0.
    pub saved_bytes: u64,
}

/// Output of a VM's app, as it came: not split into lines.
#[derive(Clone, Debug)]
pub struct AppOutput {
    pub id: VmId,
    /// Whether it came from standard error.
    pub error: bool,
    pub data: Vec<u8>,
}

/// How a VM or its app ended.
#[derive(Clone, Debug)]
pub enum EngineEvent {
    /// The app's first process ended; the VM still runs.
    AppExited { id: VmId, exit: AppExit },
    /// The VMM ended by itself: the guest crashed, was out of memory or powered off.
    Died { id: VmId, reason: String, console: String },
}

/// A command that runs in a VM.
#[derive(Debug)]
pub struct ExecSession {
    pub input: mpsc::Sender<ExecInput>,
    /// Ends after [`ExecOutput::Exited`]. A slow reader slows the command, never the VM's channel.
    pub output: mpsc::Receiver<ExecOutput>,
}

#[derive(Debug)]
pub enum ExecInput {
    Data(Vec<u8>),
    /// End of input.
    Close,
    Resize(TerminalSize),
    /// Linux signal number, to the command's process group.
    Signal(i32),
}

#[derive(Debug)]
pub enum ExecOutput {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Exited(ExitStatus),
}

/// What can go wrong with a VM. Each names the VM or template and the thing that failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{tool} is not installed or does not run: {reason}")]
    ToolMissing { tool: String, reason: String },
    #[error("VM {0} exists already")]
    Exists(VmId),
    #[error("there is no VM {0} on this host")]
    NoSuchVm(VmId),
    #[error("there is no template {0} on this host")]
    NoSuchTemplate(TemplateId),
    #[error("there is no checkpoint {0} on this host")]
    NoSuchCheckpoint(CheckpointId),
    #[error("checkpoint {0} exists already")]
    CheckpointExists(CheckpointId),
    #[error("VM {id}: {operation} is not possible while it is {state:?}")]
    WrongState { id: VmId, operation: &'static str, state: VmState },
    /// The guest is of another build than this Warren.
    #[error(
        "{subject}: its guest speaks {guest} of the agent channel, and this Warren version {host}: \
         `make build` makes both anew; a VM or image from before has to be made again"
    )]
    GuestVersion { subject: String, guest: String, host: u32 },
    /// What was saved can only be loaded by the VMM that saved it.
    #[error(
        "{subject} was saved by another VMM or for another machine than this host has now, and \
         cannot go on: remove it"
    )]
    Outdated { subject: String },
    /// Nothing listens on a port of the guest.
    #[error("VM {id}: nothing listens on port {port}")]
    Refused { id: VmId, port: u16 },
    #[error("{operation} is not supported by this engine")]
    NotSupported { operation: &'static str },
    #[error("{subject}: {action}")]
    Host {
        subject: String,
        action: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{subject}: the VMM failed: {reason}")]
    Vmm { subject: String, reason: String },
    #[error("{subject}: the guest failed: {reason}\n{console}")]
    Guest { subject: String, reason: String, console: String },
    /// The `ready` hook of a template, in AWS's words.
    #[error("{reason}")]
    NotReady { reason: String, console: String },
    #[error("{subject}: {what} did not happen within {after_ms} ms")]
    TimedOut { subject: String, what: String, after_ms: u64 },
}

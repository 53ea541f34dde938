//! From a template or a checkpoint to a running VM, and back to one that runs already.

use super::{
    ANSWER_WAIT_MAX, Inner, Running,
    arguments::Start,
    blocking, lock,
    memory::Ram,
    pages,
    process::Process,
    qmp::{Qmp, QmpError},
    remains,
    vmm::VmmSpec,
};
use crate::{
    EngineError, GuestSockets, LaunchSpec, Launched, Origin, VmId, cgroup,
    channel::{Channel, Hello},
    layers::Layers,
    namespace::{self, Connecting},
    slot::{self, Slot},
    state::{
        Body, CheckpointRecord, Manifest, SavedDir, SavedRecord, TemplateDir, VmDir, VmRecord,
        host_error, read_json, write_json,
    },
};
use serde_json::json;
use std::{
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Child,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use wire::{Connections, HostMessage, Identity, Wake};

/// Loading the device state takes milliseconds; on a disk that stalls, this long.
const LOAD_WAIT_MAX: Duration = Duration::from_secs(30);
/// Bytes of entropy that a VM gets when it wakes.
const ENTROPY_BYTES: usize = 64;

/// A VM that has been restored and not let go on yet.
pub(crate) struct Restored {
    pub(crate) id: VmId,
    slot: Slot,
    process: Process,
    qmp: Qmp,
    channel: Channel,
    hello: Hello,
    sockets: GuestSockets,
}

/// A slot with its namespace, control group and directory: all that a VMM is started in.
pub(crate) struct Place {
    pub(crate) slot: Slot,
    pub(crate) dir: VmDir,
    pub(crate) cgroups: Vec<String>,
    pub(crate) tap: OwnedFd,
    pub(crate) network: Connecting,
}

/// A VMM that has loaded a VM and waits.
pub(crate) struct Started {
    pub(crate) slot: Slot,
    child: Child,
    qmp: Qmp,
    sockets: GuestSockets,
}

/// A VM on disk that this host's VMM can load.
pub(crate) struct Saved {
    dir: SavedDir,
    manifest: Manifest,
}

impl Saved {
    /// `subject` is what it belongs to; `machine` is what such a machine is called on this host.
    pub(super) fn open(
        body: &Body,
        subject: &str,
        machine: impl Fn(&Manifest) -> String,
    ) -> Result<Self, EngineError> {
        let dir = body.saved();
        let missing = |path: PathBuf| host_error(&path, "read", io::ErrorKind::NotFound.into());
        let record: SavedRecord = read_json(&dir.record())?.ok_or_else(|| missing(dir.record()))?;
        let path = body.template().manifest();
        let manifest: Manifest = read_json(&path)?.ok_or_else(|| missing(path))?;
        if record.machine != machine(&manifest) {
            return Err(EngineError::Outdated { subject: subject.to_owned() });
        }
        Ok(Self { dir, manifest })
    }

    pub(super) fn memory_mib(&self) -> u32 {
        self.manifest.memory_mib
    }
}

/// What a new VM is made from.
struct Ground {
    template_name: String,
    template: TemplateDir,
    manifest: Manifest,
    /// Of a checkpoint.
    saved: Option<(Saved, Layers)>,
}

/// Wraps a failure of the VMM with the VM's name and what the VMM said.
pub(crate) fn vmm_failed(id: &VmId, dir: &VmDir, error: &QmpError) -> EngineError {
    let said = fs::read_to_string(dir.vmm_log()).unwrap_or_default();
    let reason = if said.trim().is_empty() {
        error.to_string()
    } else {
        format!("{error}: {}", said.trim())
    };
    EngineError::Vmm { subject: id.to_string(), reason }
}

impl Restored {
    /// Whether it can still go on: something may have killed its VMM while it waited.
    pub(crate) fn is_alive(&self) -> bool {
        !self.process.has_ended()
    }
}

impl Running {
    /// Tells the guest what changed while it stood still, and lets its processes go on. Its
    /// connections are whole.
    pub(super) async fn wake(&self) -> Result<(), EngineError> {
        wake_up(&self.channel, Connections::Keep, None).await
    }
}

/// A guest gets the time and 64 bytes of the host's entropy before its processes go on.
async fn wake_up(
    channel: &Channel,
    connections: Connections,
    identity: Option<Identity>,
) -> Result<(), EngineError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut entropy = vec![0; ENTROPY_BYTES];
    rand::fill(&mut entropy[..]);
    let wake = Wake { unix_time_ns: now.as_nanos() as u64, entropy, connections, identity };
    let woken = channel.call("waking up", ANSWER_WAIT_MAX, |call| HostMessage::Wake { call, wake });
    woken.await.map(drop)
}

impl Inner {
    pub(crate) async fn launch(
        self: &Arc<Self>,
        spec: LaunchSpec,
    ) -> Result<Launched, EngineError> {
        let start = Instant::now();
        if lock(&self.vms).contains_key(&spec.id) || self.state.vm(&spec.id).path().exists() {
            return Err(EngineError::Exists(spec.id));
        }
        let standby = match &spec.origin {
            Origin::Template(template) if spec.internet => self.take_standby(template).await,
            Origin::Template(_) | Origin::Checkpoint(_) => None,
        };
        let (restored, path) = match standby {
            Some(restored) => {
                let standby = restored.id.clone();
                match self.claim(restored, &spec.id).await {
                    Ok(restored) => (restored, "standby"),
                    Err(e) => {
                        // Half renamed: what is left goes by either name.
                        self.undo(&standby).await;
                        self.undo(&spec.id).await;
                        self.refill_standby_of(&spec.origin);
                        return Err(e);
                    }
                }
            }
            None => (self.restore(&spec).await?, "clone"),
        };
        let result = self.let_go_on(restored, Some(identity_of(&spec.id))).await;
        self.refill_standby_of(&spec.origin);
        match result {
            Ok(sockets) => {
                let restore_ms = start.elapsed().as_secs_f64() * 1000.0;
                tracing::debug!(vm = %spec.id, restore_ms, path, "launched");
                Ok(Launched { restore_ms, path, sockets })
            }
            Err(e) => {
                let error = self.explain(&spec.id, e);
                self.undo(&spec.id).await;
                Err(error)
            }
        }
    }

    fn refill_standby_of(self: &Arc<Self>, origin: &Origin) {
        match origin {
            Origin::Template(template) => self.refill_standby(template),
            Origin::Checkpoint(_) => {}
        }
    }

    /// Takes back what a failed launch left.
    pub(crate) async fn undo(self: &Arc<Self>, id: &VmId) {
        let (inner, vm) = (self.clone(), id.clone());
        let undone = blocking(move || {
            let slot = inner.slot_of(&vm)?;
            remains::remove(&inner.slots, &inner.state, &vm, slot)
        });
        if let Err(e) = undone.await {
            // What is left is found by the next look at the host.
            tracing::warn!(vm = %id, "remains of a failed launch: {e}");
        }
    }

    /// Restores a new VM up to the point where it would go on.
    pub(crate) async fn restore(
        self: &Arc<Self>,
        spec: &LaunchSpec,
    ) -> Result<Restored, EngineError> {
        let (inner, wanted) = (self.clone(), spec.clone());
        let result = match blocking(move || inner.start_new(&wanted)).await {
            Ok(started) => self.connect(&spec.id, started).await,
            Err(e) => Err(e),
        };
        if result.is_err() {
            self.undo(&spec.id).await;
        }
        result
    }

    fn start_new(&self, spec: &LaunchSpec) -> Result<Started, EngineError> {
        let ground = self.ground(&spec.origin)?;
        let place = self.prepare(&spec.id, ground.manifest.memory_mib, spec.internet)?;
        let record = VmRecord {
            template: ground.template_name.clone(),
            internet: spec.internet,
            machine: self.machine_mark(&ground.manifest),
        };
        lay_out(&place.dir, &ground)?;
        write_json(&place.dir.record(), &record)?;
        self.start(&spec.id, place, ground.saved.as_ref().map(|(saved, _)| saved))
    }

    fn ground(&self, origin: &Origin) -> Result<Ground, EngineError> {
        match origin {
            Origin::Template(id) => {
                let gone = || EngineError::NoSuchTemplate(id.clone());
                let manifest = self.manifest(id)?.ok_or_else(gone)?;
                let (template_name, template) = (id.to_string(), self.state.template(id));
                Ok(Ground { template_name, template, manifest, saved: None })
            }
            Origin::Checkpoint(id) => {
                let dir = self.state.checkpoint(id);
                let gone = || EngineError::NoSuchCheckpoint(id.clone());
                let record: CheckpointRecord = read_json(&dir.record())?.ok_or_else(gone)?;
                let body = dir.body();
                let subject = format!("checkpoint {id}");
                let saved = Saved::open(&body, &subject, |m| self.machine_mark(m))?;
                Ok(Ground {
                    template_name: record.template,
                    template: body.template(),
                    manifest: saved.manifest.clone(),
                    saved: Some((saved, body.layers())),
                })
            }
        }
    }

    /// Starts a VMM for what is in the VM's directory, and loads into it what was saved, or the
    /// template's own state.
    pub(super) fn start(
        &self,
        id: &VmId,
        place: Place,
        saved: Option<&Saved>,
    ) -> Result<Started, EngineError> {
        let Place { slot, dir, cgroups, tap, network } = place;
        let body = dir.body();
        let template = body.template();
        let path = template.manifest();
        let manifest: Manifest = read_json(&path)?
            .ok_or_else(|| host_error(&path, "read", io::ErrorKind::NotFound.into()))?;
        let mut disks = vec![template.rootfs(), template.disk()];
        disks.extend(body.layers().files()?);
        let vmm = VmmSpec {
            name: id.as_str(),
            machine: self.machine(manifest.memory_mib, manifest.vcpus),
            start: Start::Restore,
            dir: &dir,
            uid: slot.uid(),
            cgroups,
            ram: Some(template.ram()),
            disks,
            tap: Some(tap),
        };
        let mut child = vmm.spawn(&self.tools)?;
        let loaded = load(&dir, child.id() as i32, &template, saved);
        let loaded = loaded.map_err(|e| vmm_failed(id, &dir, &e));
        match loaded.and_then(|qmp| Ok((qmp, network.wait()?))) {
            Ok((qmp, sockets)) => Ok(Started { slot, child, qmp, sockets }),
            Err(e) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(e)
            }
        }
    }

    /// Takes a slot and makes what it stands for.
    pub(crate) fn prepare(
        &self,
        id: &VmId,
        memory_mib: u32,
        internet: bool,
    ) -> Result<Place, EngineError> {
        let slot = {
            let lock = slot::lock()?;
            self.slots.take(&lock, id)?
        };
        let dir = self.state.vm(id);
        fs::create_dir_all(dir.path()).map_err(|e| host_error(dir.path(), "create", e))?;
        let tap = namespace::create(slot)?;
        let network = namespace::connect(slot, internet)?;
        let cgroups = cgroup::create(slot, memory_mib)?;
        Ok(Place { slot, dir, cgroups, tap, network })
    }

    pub(super) async fn connect(
        self: &Arc<Self>,
        id: &VmId,
        started: Started,
    ) -> Result<Restored, EngineError> {
        let Started { slot, child, qmp, sockets } = started;
        let process = Process::of_child(child)
            .map_err(|e| host_error(Path::new(id.as_str()), "watch the VMM", e))?;
        let socket = self.state.vm(id).agent_socket();
        let (channel, hello) = Channel::connect(&socket, self.listener(id)).await?;
        channel.greet().await?;
        Ok(Restored { id: id.clone(), slot, process, qmp, channel, hello, sockets })
    }

    /// Lets a restored VM go on: before anything of its app runs, it has what changed meanwhile. Without
    /// an identity it stays who it is.
    pub(super) async fn let_go_on(
        self: &Arc<Self>,
        restored: Restored,
        identity: Option<Identity>,
    ) -> Result<GuestSockets, EngineError> {
        let Restored { id, slot, process, mut qmp, channel, hello, sockets } = restored;
        let (name, dir) = (id.clone(), self.state.vm(&id));
        blocking(move || {
            qmp.execute("cont", json!({})).map(drop).map_err(|e| vmm_failed(&name, &dir, &e))
        })
        .await?;
        hello.wait(ANSWER_WAIT_MAX).await?;
        wake_up(&channel, Connections::Cut, identity).await?;
        self.register(&id, Running { slot, process, channel, stopping: AtomicBool::new(false) });
        Ok(sockets)
    }

    pub(crate) async fn adopt(self: &Arc<Self>, id: &VmId) -> Result<Launched, EngineError> {
        let start = Instant::now();
        if lock(&self.vms).contains_key(id) {
            return Err(EngineError::Exists(id.clone()));
        }
        let (inner, vm) = (self.clone(), id.clone());
        let (slot, pid, sockets) = blocking(move || inner.find(&vm)).await?;
        let process = Process::of_pid(pid)
            .map_err(|e| host_error(Path::new(id.as_str()), "watch the VMM", e))?;
        let socket = self.state.vm(id).agent_socket();
        let (channel, hello) = Channel::connect(&socket, self.listener(id)).await?;
        channel.greet().await?;
        let (name, dir) = (id.clone(), self.state.vm(id));
        let connections =
            blocking(move || let_run(&dir.qmp_socket()).map_err(|e| vmm_failed(&name, &dir, &e)))
                .await?;
        hello.wait(ANSWER_WAIT_MAX).await.map_err(|e| self.explain(id, e))?;
        // Who was here before may have died while its processes stood still.
        wake_up(&channel, connections, None).await.map_err(|e| self.explain(id, e))?;
        self.register(id, Running { slot, process, channel, stopping: AtomicBool::new(false) });
        let restore_ms = start.elapsed().as_secs_f64() * 1000.0;
        Ok(Launched { restore_ms, path: "adopted", sockets })
    }

    fn find(&self, id: &VmId) -> Result<(Slot, i32, GuestSockets), EngineError> {
        let gone = || self.wrong_state(id, "adopting");
        let dir = self.state.vm(id);
        if remains::is_saved(&dir) || !dir.record().exists() {
            return Err(gone());
        }
        let slot = self.slot_of(id)?.ok_or_else(gone)?;
        let pid = cgroup::processes(slot).first().copied().ok_or_else(gone)?;
        Ok((slot, pid, namespace::reopen(slot)?))
    }

    /// Makes a standby VM the one that was asked for. The directory's rename is what hands it over.
    async fn claim(
        self: &Arc<Self>,
        restored: Restored,
        id: &VmId,
    ) -> Result<Restored, EngineError> {
        let (inner, from, to, slot) =
            (self.clone(), restored.id.clone(), id.clone(), restored.slot);
        let renamed = blocking(move || {
            inner.slots.rename(slot, &to)?;
            let (old, new) = (inner.state.vm(&from), inner.state.vm(&to));
            fs::rename(old.path(), new.path()).map_err(|e| host_error(old.path(), "rename", e))
        });
        renamed.await?;
        let listener = self.listener(id);
        restored.channel.set_listener(listener);
        Ok(Restored { id: id.clone(), ..restored })
    }
}

/// Fills a new VM's directory with links to what it is made from, and a layer of its own.
fn lay_out(dir: &VmDir, ground: &Ground) -> Result<(), EngineError> {
    let body = dir.body();
    ground.template.link_to(&body.template())?;
    match &ground.saved {
        Some((_, layers)) => layers.link_all_to(&body.layers())?,
        None => body.layers().create_directory()?,
    }
    body.layers().add(ground.manifest.disk_size_bytes).map(drop)
}

/// Loads memory and devices into a VMM that waits for them. The template's RAM is mapped already.
fn load(
    dir: &VmDir,
    pid: i32,
    template: &TemplateDir,
    saved: Option<&Saved>,
) -> Result<Qmp, QmpError> {
    let mut qmp = Qmp::connect(&dir.qmp_socket())?;
    let state = match saved {
        Some(saved) => {
            pages::restore(&saved.dir.memory(), &Ram::of(pid, &template.ram())?)?;
            saved.dir.device_state()
        }
        None => template.device_state(),
    };
    let events = json!({ "capabilities": [{ "capability": "events", "state": true }] });
    qmp.execute("migrate-set-capabilities", events)?;
    let file = File::open(state)?;
    qmp.execute_with_file("getfd", json!({ "fdname": "state" }), &file)?;
    qmp.execute("migrate-incoming", json!({ "uri": "fd:state" }))?;
    let loaded = qmp.wait_event(LOAD_WAIT_MAX, |event| {
        match (event["event"].as_str(), event["data"]["status"].as_str()) {
            (Some("MIGRATION"), Some("completed")) => Some(Ok(())),
            (Some("MIGRATION"), Some("failed")) => {
                Some(Err(QmpError::Protocol("the device state does not load".into())))
            }
            _ => None,
        }
    })?;
    loaded.map(|()| qmp)
}

/// Lets a guest go on that was left stopped, in the middle of being copied or resumed; what it was
/// connected to is taken for gone then.
fn let_run(qmp_socket: &Path) -> Result<Connections, QmpError> {
    let mut qmp = Qmp::connect(qmp_socket)?;
    if qmp.is_running()? {
        return Ok(Connections::Keep);
    }
    qmp.execute("cont", json!({}))?;
    Ok(Connections::Cut)
}

/// A name and a machine id of its own.
fn identity_of(id: &VmId) -> Identity {
    let machine_id = uuid::Uuid::new_v4().simple().to_string();
    Identity { hostname: id.to_string(), machine_id }
}

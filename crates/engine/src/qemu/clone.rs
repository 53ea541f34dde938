//! From a template to a running VM, and back to one that runs already.

use super::{
    ANSWER_WAIT_MAX, Inner, Running,
    arguments::Start,
    blocking, lock,
    process::Process,
    qcow2,
    qmp::{Qmp, QmpError},
    remove_remains,
    vmm::VmmSpec,
};
use crate::{
    EngineError, GuestSockets, LaunchSpec, Launched, Origin, TemplateId, VmId, cgroup,
    channel::{Channel, Hello},
    namespace::{self, Connecting},
    slot::{self, Slot},
    state::{Manifest, VmDir, VmRecord, host_error, read_json, write_json},
};
use serde_json::json;
use std::{
    fs::{self, File},
    os::fd::OwnedFd,
    path::Path,
    process::Child,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use wire::{HostMessage, Identity};

/// Loading the device state takes milliseconds; on a disk that stalls, this long.
const LOAD_WAIT_MAX: Duration = Duration::from_secs(30);

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

impl Inner {
    pub(crate) async fn launch(
        self: &Arc<Self>,
        spec: LaunchSpec,
    ) -> Result<Launched, EngineError> {
        let start = Instant::now();
        if lock(&self.vms).contains_key(&spec.id) || self.state.vm(&spec.id).path().exists() {
            return Err(EngineError::Exists(spec.id));
        }
        let template = match &spec.origin {
            Origin::Template(template) => template.clone(),
            Origin::Checkpoint(id) => return Err(EngineError::NoSuchCheckpoint(id.clone())),
        };
        let standby = if spec.internet { self.take_standby(&template).await } else { None };
        let (restored, path) = match standby {
            Some(restored) => {
                let standby = restored.id.clone();
                match self.claim(restored, &spec.id).await {
                    Ok(restored) => (restored, "standby"),
                    Err(e) => {
                        // Half renamed: what is left goes by either name.
                        self.undo(&standby).await;
                        self.undo(&spec.id).await;
                        self.refill_standby(&template);
                        return Err(e);
                    }
                }
            }
            None => (self.restore(&spec.id, &template, spec.internet).await?, "clone"),
        };
        let result = self.let_go_on(restored).await;
        self.refill_standby(&template);
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

    /// Takes back what a failed launch left.
    pub(crate) async fn undo(self: &Arc<Self>, id: &VmId) {
        let (inner, vm) = (self.clone(), id.clone());
        let undone = blocking(move || {
            let slot = inner.slot_of(&vm)?;
            remove_remains(&inner.slots, &inner.state, &vm, slot)
        });
        if let Err(e) = undone.await {
            // What is left is found by the next look at the host.
            tracing::warn!(vm = %id, "remains of a failed launch: {e}");
        }
    }

    /// Restores a clone up to the point where it would go on.
    pub(crate) async fn restore(
        self: &Arc<Self>,
        id: &VmId,
        template: &TemplateId,
        internet: bool,
    ) -> Result<Restored, EngineError> {
        let (inner, vm, wanted) = (self.clone(), id.clone(), template.clone());
        let result = match blocking(move || inner.start_clone(&vm, &wanted, internet)).await {
            Ok(started) => self.connect(id, started).await,
            Err(e) => Err(e),
        };
        if result.is_err() {
            self.undo(id).await;
        }
        result
    }

    fn start_clone(
        &self,
        id: &VmId,
        template: &TemplateId,
        internet: bool,
    ) -> Result<(Slot, Child, Qmp, GuestSockets), EngineError> {
        let manifest = self
            .manifest(template)?
            .ok_or_else(|| EngineError::NoSuchTemplate(template.clone()))?;
        let place = self.prepare(id, manifest.memory_mib, internet)?;
        let Place { slot, dir, cgroups, tap, network } = place;
        let record = VmRecord { slot: slot.number(), template: template.to_string() };
        let template = self.state.template(template);
        write_json(&dir.record(), &record)?;
        create_overlay(&dir, &manifest)?;
        let vmm = VmmSpec {
            name: id.as_str(),
            machine: self.machine(manifest.memory_mib, manifest.vcpus),
            start: Start::Restore,
            dir: &dir,
            uid: slot.uid(),
            cgroups,
            ram: Some(template.ram()),
            base: Some(template.rootfs()),
            template_disk: Some(template.disk()),
            tap: Some(tap),
        };
        let mut child = vmm.spawn(&self.tools)?;
        let loaded = load(&dir, &template.device_state()).map_err(|e| vmm_failed(id, &dir, &e));
        match loaded.and_then(|qmp| Ok((qmp, network.wait()?))) {
            Ok((qmp, sockets)) => Ok((slot, child, qmp, sockets)),
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

    async fn connect(
        self: &Arc<Self>,
        id: &VmId,
        (slot, child, qmp, sockets): (Slot, Child, Qmp, GuestSockets),
    ) -> Result<Restored, EngineError> {
        let process = Process::of_child(child)
            .map_err(|e| host_error(Path::new(id.as_str()), "watch the VMM", e))?;
        let socket = self.state.vm(id).agent_socket();
        let (channel, hello) = Channel::connect(&socket, self.listener(id)).await?;
        channel.greet().await?;
        Ok(Restored { id: id.clone(), slot, process, qmp, channel, hello, sockets })
    }

    /// Lets a restored VM go on, as one of its own: before its app does anything, it has its identity.
    async fn let_go_on(self: &Arc<Self>, restored: Restored) -> Result<GuestSockets, EngineError> {
        let Restored { id, slot, process, mut qmp, channel, hello, sockets, .. } = restored;
        let (name, dir) = (id.clone(), self.state.vm(&id));
        blocking(move || {
            qmp.execute("cont", json!({})).map(drop).map_err(|e| vmm_failed(&name, &dir, &e))
        })
        .await?;
        hello.wait(ANSWER_WAIT_MAX).await?;
        let identity = identity_of(&id);
        channel
            .call("its new identity", ANSWER_WAIT_MAX, |call| HostMessage::Adopt { call, identity })
            .await?;
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
        hello.wait(ANSWER_WAIT_MAX).await.map_err(|e| self.explain(id, e))?;
        self.register(id, Running { slot, process, channel, stopping: AtomicBool::new(false) });
        let restore_ms = start.elapsed().as_secs_f64() * 1000.0;
        Ok(Launched { restore_ms, path: "adopted", sockets })
    }

    fn find(&self, id: &VmId) -> Result<(Slot, i32, GuestSockets), EngineError> {
        let gone = || EngineError::NoSuchVm(id.clone());
        let record: VmRecord = read_json(&self.state.vm(id).record())?.ok_or_else(gone)?;
        let slot = Slot::from_number(record.slot);
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

    pub(crate) fn manifest(&self, id: &TemplateId) -> Result<Option<Manifest>, EngineError> {
        let manifest: Option<Manifest> = read_json(&self.state.template(id).manifest())?;
        Ok(manifest.filter(|m| m.fingerprint == self.fingerprint(m.memory_mib, m.vcpus)))
    }
}

pub(crate) fn create_overlay(dir: &VmDir, manifest: &Manifest) -> Result<(), EngineError> {
    let path = dir.disk();
    qcow2::create_overlay(&path, manifest.disk_size_bytes)
        .map_err(|e| host_error(&path, "create", e))
}

/// Loads a device state into a VMM that waits for it. RAM is mapped already.
fn load(dir: &VmDir, state: &Path) -> Result<Qmp, QmpError> {
    let mut qmp = Qmp::connect(&dir.qmp_socket())?;
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

/// A name, a machine id, the time and 64 bytes of the host's entropy.
fn identity_of(id: &VmId) -> Identity {
    let unix_time_ns =
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let mut entropy = vec![0; 64];
    rand::fill(&mut entropy[..]);
    Identity {
        hostname: id.to_string(),
        machine_id: uuid::Uuid::new_v4().simple().to_string(),
        unix_time_ns,
        entropy,
    }
}

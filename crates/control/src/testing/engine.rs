//! An engine without VMs: it remembers what it was told, answers hooks as it was told to, and
//! fails or hangs where a test wants it.

use crate::{Hook, MicrovmId};
use async_trait::async_trait;
use engine::{
    AppExit, AppOutput, CheckpointId, CheckpointInfo, Engine, EngineError, EngineEvent,
    EngineReport, Events, ExecRequest, ExecSession, GuestSockets, HookOutcome, HookRequest,
    LaunchSpec, Launched, Listing, Origin, Suspended, TemplateId, TemplateInfo, TemplateSpec,
    TemplateStage, VmId, VmState, VmUsage,
};
use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{broadcast, mpsc};

/// What goes wrong with a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails, and nothing was done.
    Fail,
    /// It never returns, and nothing was done.
    HangBefore,
    /// It is carried out and never returns.
    HangAfter,
}

/// See the module.
#[derive(Debug)]
pub struct FakeEngine {
    world: Mutex<World>,
    events: Events,
    logs: broadcast::Sender<AppOutput>,
}

#[derive(Debug, Default)]
struct World {
    vms: BTreeMap<String, FakeVm>,
    templates: HashMap<TemplateId, TemplateInfo>,
    checkpoints: BTreeMap<String, CheckpointInfo>,
    answers: HashMap<String, HookOutcome>,
    faults: HashMap<usize, Fault>,
    /// Every call that changes something: `launch <id>`.
    calls: Vec<String>,
}

#[derive(Debug)]
struct FakeVm {
    state: VmState,
    /// None for a stray.
    template: Option<TemplateId>,
    traffic_bytes: u64,
}

impl World {
    /// A VM that must be in this state.
    fn turn(
        &mut self,
        id: &VmId,
        operation: &'static str,
        needed: VmState,
    ) -> Result<&mut FakeVm, EngineError> {
        match self.vms.get_mut(id.as_str()) {
            None => Err(EngineError::NoSuchVm(id.clone())),
            Some(vm) if vm.state == needed => Ok(vm),
            Some(vm) => Err(EngineError::WrongState { id: id.clone(), operation, state: vm.state }),
        }
    }
}

impl FakeEngine {
    pub fn new() -> Self {
        let logs = broadcast::Sender::new(1024);
        Self { world: Mutex::default(), events: Events::default(), logs }
    }

    /// What a hook answers from now on; at first, 200.
    pub fn answer(&self, hook: Hook, outcome: HookOutcome) {
        self.world().answers.insert(hook.path(), outcome);
    }

    /// The call of number `nth`, counted from 0 over all that change something, has this fault.
    pub fn fault(&self, nth: usize, fault: Fault) {
        self.world().faults.insert(nth, fault);
    }

    /// Every call that changes something, in order: `launch <id>`, `hook <id> <path>`, `stop <id> in order`…
    pub fn calls(&self) -> Vec<String> {
        self.world().calls.clone()
    }

    /// The calls whose text begins so.
    pub fn count(&self, beginning: &str) -> usize {
        self.world().calls.iter().filter(|call| call.starts_with(beginning)).count()
    }

    /// Ids of what is on the host.
    pub fn vms(&self) -> Vec<String> {
        self.world().vms.keys().cloned().collect()
    }

    /// Ids of the checkpoints that are there.
    pub fn checkpoints(&self) -> Vec<String> {
        self.world().checkpoints.keys().cloned().collect()
    }

    /// Refuses every template that there is, as after a change of kernel, QEMU or guest.
    pub fn outdate_templates(&self) {
        self.world().templates.clear();
    }

    /// Puts a VM there that nobody asked for.
    pub fn stray(&self, id: &MicrovmId) {
        let vm = FakeVm { state: VmState::Running, template: None, traffic_bytes: 0 };
        self.world().vms.insert(id.to_string(), vm);
    }

    /// Bytes that the guest sends.
    pub fn send_bytes(&self, id: &MicrovmId, bytes: u64) {
        if let Some(vm) = self.world().vms.get_mut(id.as_str()) {
            vm.traffic_bytes += bytes;
        }
    }

    /// Output of the app.
    pub fn print(&self, id: &MicrovmId, text: &str) {
        let data = text.as_bytes().to_vec();
        // Nobody has to listen.
        let _ = self.logs.send(AppOutput { id: id.vm_id(), error: false, data });
    }

    /// The app ends by itself.
    pub fn exit_app(&self, id: &MicrovmId, code: i32) {
        self.events.tell(&EngineEvent::AppExited { id: id.vm_id(), exit: AppExit { code } });
    }

    /// The guest ends by itself, and is heard doing so.
    pub fn kill(&self, id: &MicrovmId, reason: &str, console: &str) {
        self.kill_silently(id);
        let (reason, console) = (reason.to_owned(), console.to_owned());
        self.events.tell(&EngineEvent::Died { id: id.vm_id(), reason, console });
    }

    /// The guest ends by itself while nobody listens.
    pub fn kill_silently(&self, id: &MicrovmId) {
        if let Some(vm) = self.world().vms.get_mut(id.as_str()) {
            vm.state = VmState::Remains;
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call that changes something, with its fault.
    async fn call<T>(
        &self,
        name: String,
        act: impl FnOnce(&mut World) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let (done, fault) = {
            let mut world = self.world();
            let fault = world.faults.get(&world.calls.len()).copied();
            world.calls.push(name.clone());
            match fault {
                Some(Fault::Fail) => {
                    let reason = "a test wants it so".to_owned();
                    (Err(EngineError::Vmm { subject: name, reason }), fault)
                }
                Some(Fault::HangBefore) => {
                    let hung = EngineError::Vmm { subject: name, reason: String::new() };
                    (Err(hung), fault)
                }
                Some(Fault::HangAfter) | None => (act(&mut world), fault),
            }
        };
        match fault {
            Some(Fault::HangBefore | Fault::HangAfter) => std::future::pending().await,
            Some(Fault::Fail) | None => done,
        }
    }
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Engine for FakeEngine {
    fn report(&self) -> EngineReport {
        EngineReport {
            vmm: "fake".to_owned(),
            accelerator: "none".to_owned(),
            reason: "tests need no VMs".to_owned(),
        }
    }

    async fn make_template(
        &self,
        id: &TemplateId,
        spec: TemplateSpec,
        progress: mpsc::UnboundedSender<TemplateStage>,
    ) -> Result<TemplateInfo, EngineError> {
        let _ = progress.send(TemplateStage::Booting);
        let _ = progress.send(TemplateStage::Log(b"the app starts\n".to_vec()));
        self.call(format!("make_template {id}"), |world| {
            let answer = world.answers.get(&Hook::Ready.path());
            if let (Some(_), Some(HookOutcome::Answered { status })) = (&spec.ready, answer) {
                let reason = format!("Ready hook check failed: {status}");
                return Err(EngineError::NotReady { reason, console: String::new() });
            }
            let info = TemplateInfo {
                id: id.clone(),
                memory_mib: spec.memory_mib,
                vcpus: spec.vcpus,
                cold_boot_ms: 1200,
                memory_bytes: 3,
                rootfs_bytes: 2,
                disk_bytes: 4,
            };
            world.templates.insert(id.clone(), info.clone());
            Ok(info)
        })
        .await
    }

    async fn template(&self, id: &TemplateId) -> Result<Option<TemplateInfo>, EngineError> {
        Ok(self.world().templates.get(id).cloned())
    }

    async fn list_templates(&self) -> Result<Vec<TemplateId>, EngineError> {
        Ok(self.world().templates.keys().cloned().collect())
    }

    async fn remove_template(&self, id: &TemplateId) -> Result<(), EngineError> {
        self.call(format!("remove_template {id}"), |world| {
            world.templates.remove(id);
            Ok(())
        })
        .await
    }

    async fn launch(&self, spec: LaunchSpec) -> Result<Launched, EngineError> {
        let checkpoint = match &spec.origin {
            Origin::Template(_) => String::new(),
            Origin::Checkpoint(id) => format!(" from {id}"),
        };
        self.call(format!("launch {}{checkpoint}", spec.id), |world| {
            let template = match spec.origin {
                Origin::Template(id) if world.templates.contains_key(&id) => id,
                Origin::Template(id) => return Err(EngineError::NoSuchTemplate(id)),
                Origin::Checkpoint(id) => match world.checkpoints.get(id.as_str()) {
                    Some(info) => info.template.clone(),
                    None => return Err(EngineError::NoSuchCheckpoint(id)),
                },
            };
            if world.vms.contains_key(spec.id.as_str()) {
                return Err(EngineError::Exists(spec.id));
            }
            let vm = FakeVm { state: VmState::Running, template: Some(template), traffic_bytes: 0 };
            world.vms.insert(spec.id.as_str().to_owned(), vm);
            Ok(())
        })
        .await?;
        Ok(Launched { restore_ms: 1.0, path: "clone", sockets: sockets()? })
    }

    async fn suspend(&self, id: &VmId) -> Result<Suspended, EngineError> {
        self.call(format!("suspend {id}"), |world| {
            world.turn(id, "suspend", VmState::Running)?.state = VmState::Suspended;
            Ok(Suspended { memory_bytes: 1 << 20, disk_bytes: 1 << 19, pause_ms: 1.0 })
        })
        .await
    }

    async fn resume(&self, id: &VmId) -> Result<Launched, EngineError> {
        self.call(format!("resume {id}"), |world| {
            world.turn(id, "resume", VmState::Suspended)?.state = VmState::Running;
            Ok(())
        })
        .await?;
        Ok(Launched { restore_ms: 1.0, path: "resumed", sockets: sockets()? })
    }

    async fn checkpoint(
        &self,
        id: &VmId,
        checkpoint: &CheckpointId,
    ) -> Result<CheckpointInfo, EngineError> {
        self.call(format!("checkpoint {id} {checkpoint}"), |world| {
            let vm = world.vms.get(id.as_str()).filter(|vm| vm.state != VmState::Remains);
            let vm = vm.ok_or_else(|| EngineError::NoSuchVm(id.clone()))?;
            let template = vm.template.clone().ok_or_else(|| EngineError::NoSuchVm(id.clone()))?;
            let info = CheckpointInfo {
                id: checkpoint.clone(),
                template,
                memory_bytes: 1 << 20,
                disk_bytes: 1 << 19,
                pause_ms: 1.0,
            };
            world.checkpoints.insert(checkpoint.to_string(), info.clone());
            Ok(info)
        })
        .await
    }

    async fn checkpoint_info(
        &self,
        id: &CheckpointId,
    ) -> Result<Option<CheckpointInfo>, EngineError> {
        Ok(self.world().checkpoints.get(id.as_str()).cloned())
    }

    async fn list_checkpoints(&self) -> Result<Vec<CheckpointInfo>, EngineError> {
        Ok(self.world().checkpoints.values().cloned().collect())
    }

    async fn remove_checkpoint(&self, id: &CheckpointId) -> Result<(), EngineError> {
        self.call(format!("remove_checkpoint {id}"), |world| {
            world.checkpoints.remove(id.as_str());
            Ok(())
        })
        .await
    }

    async fn adopt(&self, id: &VmId) -> Result<Launched, EngineError> {
        self.call(format!("adopt {id}"), |world| match world.vms.get(id.as_str()) {
            Some(vm) if vm.state == VmState::Running => Ok(()),
            _ => Err(EngineError::NoSuchVm(id.clone())),
        })
        .await?;
        Ok(Launched { restore_ms: 0.0, path: "adopted", sockets: sockets()? })
    }

    async fn list(&self) -> Result<Vec<Listing>, EngineError> {
        let listing = |(name, vm): (&String, &FakeVm)| {
            let id = VmId::new(name.clone()).ok()?;
            Some(Listing { id, state: vm.state })
        };
        Ok(self.world().vms.iter().filter_map(listing).collect())
    }

    async fn stop(&self, id: &VmId, grace: Option<Duration>) -> Result<(), EngineError> {
        let how = if grace.is_some() { "in order" } else { "at once" };
        self.call(format!("stop {id} {how}"), |world| {
            world.vms.remove(id.as_str());
            Ok(())
        })
        .await
    }

    async fn call_hook(&self, id: &VmId, request: HookRequest) -> Result<HookOutcome, EngineError> {
        let body = request.body.unwrap_or_default();
        self.call(format!("hook {id} {} {body}", request.path), |world| {
            world.turn(id, "call_hook", VmState::Running)?;
            let answer = world.answers.get(&request.path).cloned();
            Ok(answer.unwrap_or(HookOutcome::Answered { status: 200 }))
        })
        .await
    }

    async fn exec(&self, id: &VmId, _request: ExecRequest) -> Result<ExecSession, EngineError> {
        Err(EngineError::NoSuchVm(id.clone()))
    }

    async fn usage(&self, id: &VmId) -> Result<VmUsage, EngineError> {
        let world = self.world();
        let vm = world.vms.get(id.as_str()).ok_or_else(|| EngineError::NoSuchVm(id.clone()))?;
        Ok(VmUsage { guest_sent_bytes: vm.traffic_bytes, ..VmUsage::default() })
    }

    async fn console_tail(&self, id: &VmId, _bytes_max: usize) -> Result<String, EngineError> {
        match self.world().vms.get(id.as_str()) {
            Some(_) => Ok("Kernel panic - not syncing\n".to_owned()),
            None => Err(EngineError::NoSuchVm(id.clone())),
        }
    }

    async fn cold_boot(&self, template: &TemplateId) -> Result<Duration, EngineError> {
        match self.world().templates.get(template) {
            Some(info) => Ok(Duration::from_millis(info.cold_boot_ms)),
            None => Err(EngineError::NoSuchTemplate(template.clone())),
        }
    }

    fn events(&self) -> mpsc::UnboundedReceiver<EngineEvent> {
        self.events.subscribe()
    }

    fn logs(&self) -> broadcast::Receiver<AppOutput> {
        self.logs.subscribe()
    }
}

/// Sockets that nobody calls.
fn sockets() -> Result<GuestSockets, EngineError> {
    let failed = |source| EngineError::Host {
        subject: "loopback".to_owned(),
        action: "binding a socket".to_owned(),
        source,
    };
    let tcp = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed);
    Ok(GuestSockets {
        imds: tcp()?,
        aws: tcp()?,
        platform: tcp()?,
        dns_udp: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?,
        dns_tcp: tcp()?,
    })
}

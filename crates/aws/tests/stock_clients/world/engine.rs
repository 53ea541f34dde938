//! An engine that runs nothing: VMs are names in a map, hooks answer 200, and what an image is made
//! from is an empty file.

use async_trait::async_trait;
use control::{BuildFailure, BuildProgress, BuildRequest, BuiltRootfs, ImageBuilder};
use engine::{
    AppOutput, Engine, EngineError, EngineEvent, EngineReport, Events, ExecRequest, ExecSession,
    GuestSockets, HookOutcome, HookRequest, LaunchSpec, Launched, Listing, TemplateId,
    TemplateInfo, TemplateSpec, TemplateStage, VmId, VmState, VmUsage,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    sync::Mutex,
    time::Duration,
};
use tokio::sync::{broadcast, mpsc};

pub(super) struct PaperEngine {
    vms: Mutex<BTreeSet<VmId>>,
    templates: Mutex<BTreeMap<String, TemplateInfo>>,
    events: Events,
    logs: broadcast::Sender<AppOutput>,
}

impl PaperEngine {
    pub(super) fn new() -> Self {
        Self {
            vms: Mutex::default(),
            templates: Mutex::default(),
            events: Events::default(),
            logs: broadcast::channel(16).0,
        }
    }

    fn launched(&self) -> Launched {
        let tcp = || TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sockets =
            GuestSockets { imds: tcp(), aws: tcp(), platform: tcp(), dns_udp: udp, dns_tcp: tcp() };
        Launched { restore_ms: 1.0, path: "clone", sockets }
    }
}

#[async_trait]
impl Engine for PaperEngine {
    fn report(&self) -> EngineReport {
        EngineReport {
            vmm: "paper".into(),
            accelerator: "none".into(),
            reason: "nothing runs in these tests".into(),
        }
    }

    async fn make_template(
        &self,
        id: &TemplateId,
        spec: TemplateSpec,
        _progress: mpsc::UnboundedSender<TemplateStage>,
    ) -> Result<TemplateInfo, EngineError> {
        let info = TemplateInfo {
            id: id.clone(),
            memory_mib: spec.memory_mib,
            vcpus: spec.vcpus,
            cold_boot_ms: 1200,
            memory_bytes: 1 << 20,
            rootfs_bytes: 1 << 20,
            disk_bytes: 1 << 10,
        };
        self.templates.lock().unwrap().insert(id.to_string(), info.clone());
        Ok(info)
    }

    async fn template(&self, id: &TemplateId) -> Result<Option<TemplateInfo>, EngineError> {
        Ok(self.templates.lock().unwrap().get(id.as_str()).cloned())
    }

    async fn list_templates(&self) -> Result<Vec<TemplateId>, EngineError> {
        let templates = self.templates.lock().unwrap();
        Ok(templates.values().map(|template| template.id.clone()).collect())
    }

    async fn remove_template(&self, id: &TemplateId) -> Result<(), EngineError> {
        self.templates.lock().unwrap().remove(id.as_str());
        Ok(())
    }

    async fn launch(&self, spec: LaunchSpec) -> Result<Launched, EngineError> {
        self.vms.lock().unwrap().insert(spec.id);
        Ok(self.launched())
    }

    async fn adopt(&self, _id: &VmId) -> Result<Launched, EngineError> {
        Ok(self.launched())
    }

    async fn list(&self) -> Result<Vec<Listing>, EngineError> {
        let vms = self.vms.lock().unwrap();
        Ok(vms.iter().map(|id| Listing { id: id.clone(), state: VmState::Running }).collect())
    }

    async fn stop(&self, id: &VmId, _grace: Option<Duration>) -> Result<(), EngineError> {
        self.vms.lock().unwrap().remove(id);
        Ok(())
    }

    async fn call_hook(
        &self,
        _id: &VmId,
        _request: HookRequest,
    ) -> Result<HookOutcome, EngineError> {
        Ok(HookOutcome::Answered { status: 200 })
    }

    async fn exec(&self, id: &VmId, _request: ExecRequest) -> Result<ExecSession, EngineError> {
        Err(EngineError::NoSuchVm(id.clone()))
    }

    async fn usage(&self, _id: &VmId) -> Result<VmUsage, EngineError> {
        Ok(VmUsage::default())
    }

    async fn console_tail(&self, _id: &VmId, _bytes_max: usize) -> Result<String, EngineError> {
        Ok(String::new())
    }

    async fn cold_boot(&self, _template: &TemplateId) -> Result<Duration, EngineError> {
        Ok(Duration::from_millis(1200))
    }

    fn events(&self) -> mpsc::UnboundedReceiver<EngineEvent> {
        self.events.subscribe()
    }

    fn logs(&self) -> broadcast::Receiver<AppOutput> {
        self.logs.subscribe()
    }
}

pub(super) struct PaperBuilder;

#[async_trait]
impl ImageBuilder for PaperBuilder {
    async fn build(
        &self,
        request: BuildRequest,
        _progress: mpsc::UnboundedSender<BuildProgress>,
    ) -> Result<BuiltRootfs, BuildFailure> {
        std::fs::create_dir_all(&request.work_dir).unwrap();
        let rootfs = request.work_dir.join("rootfs.ext4");
        std::fs::write(&rootfs, b"").unwrap();
        Ok(BuiltRootfs {
            rootfs,
            digest: "0123456789abcdef".repeat(4),
            app: engine::App { argv: vec!["app".into()], ..engine::App::default() },
            code_bytes: 186,
        })
    }

    async fn disk(&self, _: &str, _: &Path) -> Result<Option<PathBuf>, BuildFailure> {
        Ok(None)
    }
}

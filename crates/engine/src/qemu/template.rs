//! Making a template: boot, start the app, wait until it is ready, freeze, save.

use super::{
    ANSWER_WAIT_MAX, HOOK_SLACK, Inner,
    arguments::Start,
    blocking,
    clone::{Place, vmm_failed},
    process::Process,
    qmp::{Blocks, Qmp, QmpError},
    remains::console_tail,
    vmm::VmmSpec,
};
use crate::{
    EngineError, ExecOutput, TemplateId, TemplateInfo, TemplateSpec, TemplateStage, VmId,
    channel::{Channel, Hello, Listener},
    hook_failure, qcow2,
    state::{
        Manifest, ReadyRecord, TemplateDir, VmDir, bytes_on_disk, discard, host_error, read_json,
        remove_directory, sync, write_json,
    },
};
use serde_json::json;
use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use wire::{App, AppExit, ExecRequest, GuestMessage, HookOutcome, HookRequest, HostMessage};

/// From the start of the VMM to the guest's first answer.
const BOOT_WAIT_MAX: Duration = Duration::from_secs(120);
/// Freezing waits for the guest's clock source and for free pages to be reported.
const FREEZE_WAIT_MAX: Duration = Duration::from_secs(60);
/// A command that warms the page cache and is not done by then is left to itself.
const WARM_WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two askings of a hook that says 503: "again, please".
const READY_RETRY_WAIT: Duration = Duration::from_millis(100);
/// Of a console, in a build's error.
const CONSOLE_BYTES: usize = 16 * 1024;

/// A guest that was booted, not cloned.
struct Booted {
    id: VmId,
    dir: VmDir,
    process: Process,
    channel: Channel,
    hello: Option<Hello>,
    started: Instant,
    app_exit: watch::Receiver<Option<AppExit>>,
}

/// The disk and memory that a guest boots with.
struct Medium {
    rootfs: PathBuf,
    disk: PathBuf,
    ram: PathBuf,
    memory_mib: u32,
    vcpus: u8,
}

impl Inner {
    pub(crate) fn template(&self, id: &TemplateId) -> Result<Option<TemplateInfo>, EngineError> {
        Ok(self.manifest(id)?.map(|manifest| manifest.info(id)))
    }

    pub(super) fn manifest(&self, id: &TemplateId) -> Result<Option<Manifest>, EngineError> {
        let manifest: Option<Manifest> = read_json(&self.state.template(id).manifest())?;
        Ok(manifest.filter(|m| m.fingerprint == self.fingerprint(m.memory_mib, m.vcpus)))
    }

    pub(crate) async fn make_template(
        self: &Arc<Self>,
        id: &TemplateId,
        spec: TemplateSpec,
        progress: &mpsc::UnboundedSender<TemplateStage>,
    ) -> Result<TemplateInfo, EngineError> {
        let vm = VmId::internal("template");
        let part = self.state.template(id).part();
        let result = self.boot_and_save(&vm, &part, &spec, progress).await;
        self.undo(&vm).await;
        let manifest = match result {
            Ok(manifest) => manifest,
            Err(e) => {
                remove_directory(part.path())?;
                return Err(e);
            }
        };
        // One that does not fit this host any more gives way.
        let dir = self.state.template(id);
        discard(dir.path())?;
        fs::rename(part.path(), dir.path()).map_err(|e| host_error(dir.path(), "rename", e))?;
        Ok(manifest.info(id))
    }

    async fn boot_and_save(
        self: &Arc<Self>,
        vm: &VmId,
        part: &TemplateDir,
        spec: &TemplateSpec,
        progress: &mpsc::UnboundedSender<TemplateStage>,
    ) -> Result<Manifest, EngineError> {
        // Nobody may be listening to the progress.
        let stage = |stage| drop(progress.send(stage));
        stage(TemplateStage::Booting);
        let (dir, rootfs) = (part.clone(), spec.rootfs.clone());
        let disk_size_bytes = blocking(move || lay_out(&dir, &rootfs)).await?;
        let medium = Medium {
            rootfs: part.rootfs(),
            disk: part.disk(),
            ram: part.ram(),
            memory_mib: spec.memory_mib,
            vcpus: spec.vcpus,
        };
        let log = progress.clone();
        let mut booted =
            self.boot(vm, medium, move |data| drop(log.send(TemplateStage::Log(data)))).await?;
        let cold_boot = booted.until_ready(&spec.app, spec.ready.as_ref(), &stage).await;
        let cold_boot = cold_boot.map_err(|e| booted.with_console(e))?;
        stage(TemplateStage::Warming);
        for argv in &spec.warm {
            booted.warm(argv).await;
        }
        stage(TemplateStage::Saving);
        let frozen =
            booted.channel.call("freezing", FREEZE_WAIT_MAX, |call| HostMessage::Freeze { call });
        frozen.await.map_err(|e| booted.with_console(e))?;
        let (vm_dir, state, name) = (booted.dir.clone(), part.device_state(), vm.clone());
        blocking(move || save(&vm_dir, &state).map_err(|e| vmm_failed(&name, &vm_dir, &e))).await?;
        booted.process.ended().await;
        booted.process.reap();
        self.seal(part, spec, disk_size_bytes, cold_boot)
    }

    async fn boot(
        self: &Arc<Self>,
        vm: &VmId,
        medium: Medium,
        log: impl Fn(Vec<u8>) + Send + Sync + 'static,
    ) -> Result<Booted, EngineError> {
        let (inner, id) = (self.clone(), vm.clone());
        let started = Instant::now();
        let (dir, child) = blocking(move || {
            let Place { slot, dir, cgroups, tap, network } =
                inner.prepare(&id, medium.memory_mib, true)?;
            let ram =
                File::create_new(&medium.ram).map_err(|e| host_error(&medium.ram, "create", e))?;
            ram.set_len(u64::from(medium.memory_mib) << 20)
                .and_then(|()| chown(&medium.ram, Some(slot.uid()), Some(slot.uid())))
                .map_err(|e| host_error(&medium.ram, "prepare", e))?;
            let vmm = VmmSpec {
                name: id.as_str(),
                machine: inner.machine(medium.memory_mib, medium.vcpus),
                start: Start::Boot,
                dir: &dir,
                uid: slot.uid(),
                cgroups,
                ram: Some(medium.ram.clone()),
                disks: vec![medium.rootfs.clone(), medium.disk.clone()],
                tap: Some(tap),
            };
            let child = vmm.spawn(&inner.tools)?;
            network.wait()?;
            Ok((dir, child))
        })
        .await?;
        let process = Process::of_child(child)
            .map_err(|e| host_error(Path::new(vm.as_str()), "watch the VMM", e))?;
        let (exited, app_exit) = watch::channel(None);
        let listener: Listener = Box::new(move |message| match message {
            GuestMessage::Log { data, .. } => log(data),
            GuestMessage::AppExited { exit } => drop(exited.send(Some(exit))),
            _ => {}
        });
        let (channel, hello) = Channel::connect(&dir.agent_socket(), listener).await?;
        Ok(Booted { id: vm.clone(), dir, process, channel, hello: Some(hello), started, app_exit })
    }

    /// The template's files become read-only and are described.
    fn seal(
        &self,
        part: &TemplateDir,
        spec: &TemplateSpec,
        disk_size_bytes: u64,
        cold_boot: Duration,
    ) -> Result<Manifest, EngineError> {
        for path in [part.ram(), part.disk(), part.rootfs(), part.device_state()] {
            chown(&path, Some(0), Some(0))
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o444)))
                // On the disk before the manifest is, which says that the template is whole.
                .and_then(|()| File::open(&path)?.sync_all())
                .map_err(|e| host_error(&path, "make read-only and durable", e))?;
        }
        let manifest = Manifest {
            fingerprint: self.fingerprint(spec.memory_mib, spec.vcpus),
            memory_mib: spec.memory_mib,
            vcpus: spec.vcpus,
            disk_size_bytes,
            cold_boot_ms: cold_boot.as_millis() as u64,
            memory_bytes: bytes_on_disk(&part.ram())?,
            rootfs_bytes: bytes_on_disk(&part.rootfs())?,
            disk_bytes: bytes_on_disk(&part.disk())?,
            app: spec.app.clone(),
            ready: spec.ready.as_ref().map(|ready| ReadyRecord {
                port: ready.port,
                path: ready.path.clone(),
                timeout_ms: ready.timeout_ms,
            }),
        };
        write_json(&part.manifest(), &manifest)?;
        sync(&part.manifest())?;
        sync(part.path())?;
        Ok(manifest)
    }

    pub(crate) async fn cold_boot(
        self: &Arc<Self>,
        id: &TemplateId,
    ) -> Result<Duration, EngineError> {
        let manifest = self.manifest(id)?.ok_or_else(|| EngineError::NoSuchTemplate(id.clone()))?;
        let vm = VmId::internal("coldboot");
        let dir = self.state.vm(&vm);
        // Beside the directory that the boot makes: it must not be there before.
        let media = self.state.path().join(vm.as_str());
        fs::create_dir_all(&media).map_err(|e| host_error(&media, "create", e))?;
        let disk = media.join("disk.qcow2");
        let result = async {
            qcow2::create_overlay(&disk, manifest.disk_size_bytes)
                .map_err(|e| host_error(&disk, "create", e))?;
            let medium = Medium {
                rootfs: self.state.template(id).rootfs(),
                disk: disk.clone(),
                ram: media.join("ram"),
                memory_mib: manifest.memory_mib,
                vcpus: manifest.vcpus,
            };
            let app = manifest.app.clone();
            let ready = manifest.ready.as_ref().map(|ready| HookRequest {
                port: ready.port,
                path: ready.path.clone(),
                body: None,
                timeout_ms: ready.timeout_ms,
            });
            let mut booted = self.boot(&vm, medium, |_| ()).await?;
            booted
                .until_ready(&app, ready.as_ref(), &|_| ())
                .await
                .map_err(|e| booted.with_console(e))
        }
        .await;
        self.undo(&vm).await;
        remove_directory(&media)?;
        debug_assert!(!dir.path().exists());
        result
    }
}

impl Booted {
    /// Starts the app and waits until it is ready: the time from the start of the VMM.
    async fn until_ready(
        &mut self,
        app: &App,
        ready: Option<&HookRequest>,
        stage: &(impl Fn(TemplateStage) + Sync),
    ) -> Result<Duration, EngineError> {
        self.channel.greet().await?;
        if let Some(hello) = self.hello.take() {
            tokio::select! {
                greeted = hello.wait(BOOT_WAIT_MAX) => greeted?,
                () = self.process.ended() => return Err(self.ended()),
            }
        }
        stage(TemplateStage::StartingApp);
        let app = app.clone();
        let start = |call| HostMessage::StartApp { call, app };
        self.channel.call("starting the app", ANSWER_WAIT_MAX, start).await?;
        if let Some(ready) = ready {
            stage(TemplateStage::WaitingReady);
            self.ask_ready(ready).await?;
        }
        Ok(self.started.elapsed())
    }

    /// Asks the `ready` hook until it answers 200 (`spec/lambda-microvms.md`, section 4).
    async fn ask_ready(&self, ready: &HookRequest) -> Result<(), EngineError> {
        let time = Duration::from_millis(ready.timeout_ms.into());
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let request = HookRequest { timeout_ms: left.as_millis() as u32, ..ready.clone() };
            let ask = self.channel.call("the ready hook", left + HOOK_SLACK, |call| {
                HostMessage::Hook { call, request }
            });
            let mut app_exit = self.app_exit.clone();
            let answer = tokio::select! {
                answer = ask => answer?,
                Ok(exit) = app_exit.wait_for(Option::is_some) => {
                    let code = exit.map_or(0, |exit| exit.code);
                    return Err(self.not_ready(format!("Container Stopped with Exit Code: {code}")));
                }
                () = self.process.ended() => return Err(self.ended()),
            };
            let GuestMessage::HookAnswered { outcome, .. } = answer else {
                return Err(super::unexpected(&self.id, &answer));
            };
            match outcome {
                HookOutcome::Answered { status: 200 } => return Ok(()),
                HookOutcome::Answered { status: 503 } if Instant::now() < deadline => {
                    tokio::time::sleep(READY_RETRY_WAIT).await;
                }
                other => return Err(self.not_ready(hook_failure("Ready", &other, time))),
            }
        }
    }

    /// Runs a command to have what it touches in the page cache. What fails was not there to warm.
    async fn warm(&self, argv: &[String]) {
        let request = ExecRequest {
            argv: argv.to_vec(),
            attach: wire::Attach::NoInput,
            ..Default::default()
        };
        let Ok(mut session) = self.channel.exec(request).await else { return };
        let until_end = async {
            while let Some(output) = session.output.recv().await {
                if let ExecOutput::Exited(_) = output {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(WARM_WAIT_MAX, until_end).await;
    }

    fn not_ready(&self, reason: String) -> EngineError {
        EngineError::NotReady { reason, console: console_tail(&self.dir, CONSOLE_BYTES) }
    }

    fn ended(&self) -> EngineError {
        EngineError::Guest {
            subject: self.id.to_string(),
            reason: "it ended while it started".into(),
            console: console_tail(&self.dir, CONSOLE_BYTES),
        }
    }

    fn with_console(&self, error: EngineError) -> EngineError {
        match error {
            EngineError::Guest { reason, console, .. } if console.is_empty() => {
                EngineError::Guest {
                    subject: self.id.to_string(),
                    reason,
                    console: console_tail(&self.dir, CONSOLE_BYTES),
                }
            }
            other => other,
        }
    }
}

/// Makes the template's directory with its disk; returns the disk's size in bytes.
fn lay_out(dir: &TemplateDir, rootfs: &Path) -> Result<u64, EngineError> {
    remove_directory(dir.path())?;
    fs::create_dir_all(dir.path()).map_err(|e| host_error(dir.path(), "create", e))?;
    let own = dir.rootfs();
    if fs::rename(rootfs, &own).is_err() {
        // Another file system: copied, holes and all.
        crate::command::run(
            "cp",
            &["--sparse=always", &rootfs.display().to_string(), &own.display().to_string()],
            "",
        )?;
    }
    let size = fs::metadata(&own).map_err(|e| host_error(&own, "measure", e))?.len();
    let disk = dir.disk();
    qcow2::create_overlay(&disk, size).map_err(|e| host_error(&disk, "create", e))?;
    Ok(size)
}

/// Stops the guest and saves its device state; its RAM is in its file already. The VMM ends.
fn save(dir: &VmDir, state: &Path) -> Result<(), QmpError> {
    let mut qmp = Qmp::connect(&dir.qmp_socket())?;
    qmp.execute("stop", json!({}))?;
    qmp.save_devices(state, Blocks::LetGo)?;
    qmp.execute("quit", json!({})).map(drop)
}

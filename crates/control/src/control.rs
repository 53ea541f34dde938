//! The front door of this crate: [`Control`], one for each data directory.

use crate::{
    ArtifactSource, BackDoor, Clock, Connectors, ControlConfig, ControlError, Credentials,
    IMAGE_MEMORY_MIB, ImageArn, ImageBuilder, ImageName, Images, Inspection, Logs, Microvm,
    MicrovmEvent, MicrovmFilter, MicrovmId, MicrovmOrigin, MicrovmState, Page, PageRequest,
    Parameters, ProxyTokens, RunMicrovm, Secrets, Tags, TimelineEntry, Timestamp,
    clock::SteadyClock,
    engine_events::{self, Sources},
    fleet::{Fleet, Parts},
    keeper::has_guest,
    life::{Event, Phase},
    log_retention::LogRetention,
    reconcile, run,
    seal::KeyFile,
    store::{MicrovmRow, Store},
};
use engine::{Engine, EngineReport, ExecRequest, ExecSession, VmUsage};
use std::{fmt, fs::DirBuilder, os::unix::fs::DirBuilderExt, path::Path, sync::Arc};
use tokio::{
    net::TcpStream,
    sync::{broadcast, mpsc},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// What control works with; tests pass in others.
#[derive(Clone)]
pub struct Outside {
    pub engine: Arc<dyn Engine>,
    pub back_door: Arc<dyn BackDoor>,
    pub artifacts: Arc<dyn ArtifactSource>,
    pub image_builder: Arc<dyn ImageBuilder>,
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outside").field("engine", &self.engine.report()).finish_non_exhaustive()
    }
}

/// What exists and what should.
///
/// Dropping it without [`Control::shutdown`] ends its tasks where they stand, as a crash would.
pub struct Control {
    pub(crate) fleet: Arc<Fleet>,
    images: Images,
    connectors: Connectors,
    tags: Tags,
    secrets: Secrets,
    parameters: Parameters,
    proxy_tokens: Arc<ProxyTokens>,
    /// Ends the log writer, after everyone who has something to write.
    stop_writing: CancellationToken,
    writing: TaskTracker,
    _on_drop: [DropGuard; 2],
}

impl Control {
    /// Opens the data directory, finds again what runs, and begins to look after it.
    ///
    /// # Errors
    /// Where the directory, the store or the key file cannot be used.
    pub async fn open(config: ControlConfig, outside: Outside) -> Result<Arc<Self>, ControlError> {
        make_private_dir(&config.data_dir)?;
        let key = KeyFile::open(&config.data_dir.join("secret.key"))?;
        let operator = config.data_dir.join("operator.json");
        let credentials = Arc::new(Credentials::open(&operator, &key, outside.clock.clone())?);
        let store = Arc::new(Store::open(&config.data_dir).await?);
        let (stop, stop_writing) = (CancellationToken::new(), CancellationToken::new());
        let (logs, writer) =
            Logs::open(store.clone(), outside.clock.clone(), stop_writing.clone()).await?;
        let writing = TaskTracker::new();
        writing.spawn(writer);
        let retention = LogRetention {
            store: store.clone(),
            clock: outside.clock.clone(),
            bytes_max: config.logs_bytes_max,
        };
        writing.spawn(retention.repeat(stop_writing.clone()));
        let secrets = Secrets::new(store.clone(), &key, outside.clock.clone(), &config);
        let parameters = Parameters::new(store.clone(), &key, outside.clock.clone(), &config);
        let proxy_tokens = Arc::new(ProxyTokens::new(&key, outside.clock.clone()));
        let on_drop = [stop.clone().drop_guard(), stop_writing.clone().drop_guard()];
        let (ended, ended_seen) = mpsc::unbounded_channel();
        let steady = SteadyClock::new(outside.clock.clone(), store.reckoning().await?);
        store.save_reckoning(&steady.reckoning()).await?;
        let parts = Parts { config, outside, steady, store, logs, credentials, ended, stop };
        let fleet = Fleet::new(parts);
        let images = Images::new(fleet.clone());
        images.take_up().await?;
        // Events are listened to before it is looked what there is, so that nothing falls between.
        let engine = &fleet.outside.engine;
        let sources = Sources { events: engine.events(), logs: engine.logs(), ended: ended_seen };
        fleet.tasks.spawn(engine_events::listen(fleet.clone(), sources));
        fleet.clear_checkpoints().await?;
        fleet.reconcile_now().await?;
        fleet.tasks.spawn(reconcile::repeat(fleet.clone()));
        Ok(Arc::new(Self {
            connectors: Connectors::new(fleet.clone()),
            tags: Tags::new(fleet.clone()),
            fleet,
            images,
            secrets,
            parameters,
            proxy_tokens,
            stop_writing,
            writing,
            _on_drop: on_drop,
        }))
    }

    /// Ends every task of this process in order; the VMs go on.
    pub async fn shutdown(&self) {
        self.fleet.stop.cancel();
        self.fleet.tasks.close();
        self.fleet.tasks.wait().await;
        self.stop_writing.cancel();
        self.writing.close();
        self.writing.wait().await;
        self.fleet.store.close().await;
    }

    /// Ends every VM, and returns when nothing is left of them. None is run meanwhile.
    ///
    /// # Errors
    /// Where the engine cannot say what there is, or this control plane is shut down meanwhile.
    pub async fn terminate_all(&self) -> Result<(), ControlError> {
        let _none_is_run = self.fleet.refuse_runs().await;
        loop {
            let kept = self.fleet.kept();
            for (id, _) in &kept {
                self.fleet.tell(id, Event::TerminateAsked).await;
            }
            for (_, mut keeper) in kept {
                // An error: the keeper is gone, and so is its VM.
                let _ = keeper.life.wait_for(|life| life.phase() == Phase::Terminated).await;
            }
            // May find VMs that had no keeper.
            self.fleet.reconcile_now().await?;
            if self.fleet.kept().is_empty() {
                return Ok(());
            }
            if self.fleet.stop.is_cancelled() {
                return Err(ControlError::ShuttingDown);
            }
        }
    }

    pub fn config(&self) -> &ControlConfig {
        &self.fleet.config
    }

    pub fn images(&self) -> &Images {
        &self.images
    }

    pub fn connectors(&self) -> &Connectors {
        &self.connectors
    }

    pub fn tags(&self) -> &Tags {
        &self.tags
    }

    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Tokens of the VMs' endpoints.
    pub fn proxy_tokens(&self) -> &Arc<ProxyTokens> {
        &self.proxy_tokens
    }

    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    pub fn logs(&self) -> &Logs {
        &self.fleet.logs
    }

    pub fn credentials(&self) -> &Arc<Credentials> {
        &self.fleet.credentials
    }

    /// Which VMM runs here, and why.
    pub fn engine_report(&self) -> EngineReport {
        self.fleet.outside.engine.report()
    }

    /// ARN of an image of this account.
    pub fn image_arn(&self, name: &ImageName) -> ImageArn {
        self.fleet.config.image_arn(name)
    }

    /// Whether a run of the image's newest active version can be launched: the engine refuses a
    /// template that was made for another kernel, QEMU or guest.
    ///
    /// # Errors
    /// [`ControlError::Engine`], [`ControlError::Store`].
    pub async fn is_launchable(&self, name: &ImageName) -> Result<bool, ControlError> {
        let runnable = self.fleet.store.runnable(&self.image_arn(name), None).await?;
        let Some(template) = runnable.and_then(|row| row.template) else { return Ok(false) };
        Ok(self.fleet.outside.engine.template(&template).await?.is_some())
    }

    /// Records the MicroVM and answers; the launch goes on in the background.
    ///
    /// # Errors
    /// [`ControlError::NoActiveVersion`], [`ControlError::RunHookDisabled`],
    /// [`ControlError::PayloadTooLong`], [`ControlError::BadMaximumDuration`],
    /// [`ControlError::ClientTokenReused`], [`ControlError::MemoryQuota`],
    /// [`ControlError::TerminatingAll`].
    pub async fn run_microvm(&self, request: RunMicrovm) -> Result<Microvm, ControlError> {
        run::run(&self.fleet, request).await
    }

    /// Whether the quota leaves no memory for even the smallest MicroVM.
    pub async fn memory_is_full(&self) -> bool {
        let Some(limit_mib) = self.fleet.config.quotas.memory_mib else { return false };
        let smallest = IMAGE_MEMORY_MIB.first().copied().unwrap_or_default();
        match self.fleet.store.allocated_memory_mib().await {
            Ok(used) => used + u64::from(smallest) > limit_mib,
            // Whoever runs one will be told what is wrong.
            Err(_) => false,
        }
    }

    /// # Errors
    /// [`ControlError::MicrovmNotFound`].
    pub async fn get_microvm(&self, id: &MicrovmId) -> Result<Microvm, ControlError> {
        Ok(self.row(id).await?.view(&self.fleet.config))
    }

    /// Newest first.
    ///
    /// # Errors
    /// [`ControlError::BadPageToken`].
    pub async fn list_microvms(
        &self,
        filter: MicrovmFilter,
        page: PageRequest,
    ) -> Result<Page<Microvm>, ControlError> {
        let Page { items, next_token } = self.fleet.store.list_microvms(&filter, &page).await?;
        let items = items.into_iter().map(|row| row.view(&self.fleet.config)).collect();
        Ok(Page { items, next_token })
    }

    /// Answers as soon as it is recorded. Repeating it is no error.
    ///
    /// # Errors
    /// [`ControlError::MicrovmNotFound`].
    pub async fn terminate_microvm(&self, id: &MicrovmId) -> Result<(), ControlError> {
        match self.fleet.ask(id, Event::TerminateAsked).await {
            Some(outcome) => outcome,
            // It has ended, or there never was one.
            None => self.row(id).await.map(drop),
        }
    }

    /// # Errors
    /// [`ControlError::WrongState`], [`ControlError::AlreadyTerminated`],
    /// [`ControlError::MicrovmNotFound`].
    pub async fn suspend_microvm(&self, id: &MicrovmId) -> Result<(), ControlError> {
        self.change(id, Event::SuspendAsked).await
    }

    /// Terminates a MicroVM that is suspended. One that is not, or was just resumed, goes on.
    ///
    /// # Errors
    /// [`ControlError::Store`].
    pub async fn terminate_suspended(&self, id: &MicrovmId) -> Result<(), ControlError> {
        self.fleet.ask(id, Event::RestEnded).await.unwrap_or(Ok(()))
    }

    /// # Errors
    /// As [`Control::suspend_microvm`].
    pub async fn resume_microvm(&self, id: &MicrovmId) -> Result<(), ControlError> {
        self.change(id, Event::ResumeAsked).await
    }

    async fn change(&self, id: &MicrovmId, event: Event) -> Result<(), ControlError> {
        match self.fleet.ask(id, event).await {
            Some(outcome) => outcome,
            None => Err(ControlError::AlreadyTerminated(self.row(id).await?.id)),
        }
    }

    /// What happened to a MicroVM, in order.
    ///
    /// # Errors
    /// [`ControlError::MicrovmNotFound`].
    pub async fn timeline(&self, id: &MicrovmId) -> Result<Vec<TimelineEntry>, ControlError> {
        let row = self.row(id).await?;
        self.fleet.store.timeline(&row.id).await
    }

    /// # Errors
    /// [`ControlError::MicrovmNotFound`].
    pub async fn inspect(&self, id: &MicrovmId) -> Result<Inspection, ControlError> {
        let row = self.row(id).await?;
        let origin = match &row.checkpoint {
            None => MicrovmOrigin::Image,
            Some(checkpoint) => {
                let found = self.fleet.store.checkpoint(checkpoint).await?;
                match found.and_then(|found| found.name) {
                    Some(name) => MicrovmOrigin::Checkpoint(name),
                    None => MicrovmOrigin::NamelessCheckpoint,
                }
            }
        };
        let timeline = self.fleet.store.timeline(id).await?;
        let microvm = row.view(&self.fleet.config);
        Ok(Inspection { microvm, hooks: row.hooks, origin, timeline })
    }

    /// Every entry of every timeline since then, oldest first.
    ///
    /// # Errors
    /// [`ControlError::Store`].
    pub async fn history(&self, since: Timestamp) -> Result<Vec<MicrovmEvent>, ControlError> {
        self.fleet.store.history(since).await
    }

    /// Every entry of every timeline from now on. A receiver that falls behind is told so and reads
    /// [`Control::timeline`].
    pub fn events(&self) -> broadcast::Receiver<MicrovmEvent> {
        self.fleet.events.subscribe()
    }

    /// # Errors
    /// [`ControlError::MicrovmNotFound`], [`ControlError::WrongState`] where it has no guest,
    /// [`ControlError::Engine`].
    pub async fn exec(
        &self,
        id: &MicrovmId,
        request: ExecRequest,
    ) -> Result<ExecSession, ControlError> {
        self.with_guest(id, "exec").await?;
        Ok(self.fleet.outside.engine.exec(&id.vm_id(), request).await?)
    }

    /// What a VM uses of its host; a suspended one only of its disk.
    ///
    /// # Errors
    /// [`ControlError::MicrovmNotFound`], [`ControlError::Engine`].
    pub async fn usage(&self, id: &MicrovmId) -> Result<VmUsage, ControlError> {
        self.row(id).await?;
        Ok(self.fleet.outside.engine.usage(&id.vm_id()).await?)
    }

    /// The last `bytes_max` bytes of the guest's console.
    ///
    /// # Errors
    /// As [`Control::exec`].
    pub async fn console(&self, id: &MicrovmId, bytes_max: usize) -> Result<String, ControlError> {
        self.with_guest(id, "console").await?;
        Ok(self.fleet.outside.engine.console_tail(&id.vm_id(), bytes_max).await?)
    }

    /// A TCP connection to a port of the guest, from inside the VM's own network.
    ///
    /// # Errors
    /// As [`Control::exec`]; [`engine::EngineError::Refused`] where nothing listens.
    pub async fn dial(&self, id: &MicrovmId, port: u16) -> Result<TcpStream, ControlError> {
        Ok(self.fleet.outside.engine.dial(&id.vm_id(), port).await?)
    }

    async fn with_guest(
        &self,
        id: &MicrovmId,
        operation: &'static str,
    ) -> Result<(), ControlError> {
        let state: MicrovmState = self.row(id).await?.life.state();
        if has_guest(state) {
            return Ok(());
        }
        Err(ControlError::WrongState { id: id.clone(), state, operation })
    }

    pub(crate) async fn row(&self, id: &MicrovmId) -> Result<MicrovmRow, ControlError> {
        let found = self.fleet.store.microvm(id).await?;
        found.ok_or_else(|| ControlError::MicrovmNotFound(id.clone()))
    }
}

fn make_private_dir(path: &Path) -> Result<(), ControlError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| {
        ControlError::File { action: "making the data directory", path: path.to_owned(), source }
    })
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

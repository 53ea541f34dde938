//! A control plane in a directory of its own, on a fake world that outlives it.

#![allow(dead_code, reason = "each test file uses a part")]

use control::{
    Control, ControlConfig, CreateImage, FilterEvents, ImageName, Microvm, MicrovmId, MicrovmState,
    Outside, PageRequest, RunMicrovm, StreamChoice, TimeSpan,
    testing::{FakeArtifacts, FakeBackDoor, FakeBuilder, FakeEngine, ManualClock, image_spec},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Longest wait for anything; nothing here takes a hundredth of it.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct House {
    pub(crate) control: Arc<Control>,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) back_door: Arc<FakeBackDoor>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) dir: Arc<tempfile::TempDir>,
}

pub(crate) fn image() -> ImageName {
    ImageName::parse("worker").unwrap()
}

impl House {
    /// With an image that can be run.
    pub(crate) async fn open() -> Self {
        let house = Self::empty().await;
        house.make_image().await;
        house
    }

    pub(crate) async fn empty() -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let engine = Arc::new(FakeEngine::new());
        Self::on(dir, engine, Arc::new(ManualClock::new())).await
    }

    /// On a world that is there already.
    pub(crate) async fn on(
        dir: Arc<tempfile::TempDir>,
        engine: Arc<FakeEngine>,
        clock: Arc<ManualClock>,
    ) -> Self {
        let config = ControlConfig::new(dir.path());
        Self::configured(dir, engine, clock, config).await
    }

    pub(crate) async fn configured(
        dir: Arc<tempfile::TempDir>,
        engine: Arc<FakeEngine>,
        clock: Arc<ManualClock>,
        config: ControlConfig,
    ) -> Self {
        let back_door = Arc::new(FakeBackDoor::default());
        let outside = Outside {
            engine: engine.clone(),
            back_door: back_door.clone(),
            artifacts: Arc::new(FakeArtifacts),
            image_builder: Arc::new(FakeBuilder),
            clock: clock.clone(),
        };
        let control = Control::open(config, outside).await.unwrap();
        Self { control, engine, back_door, clock, dir }
    }

    /// In order, then again.
    pub(crate) async fn reopened(self) -> Self {
        self.control.shutdown().await;
        let Self { dir, engine, clock, .. } = self;
        Self::on(dir, engine, clock).await
    }

    pub(crate) async fn make_image(&self) {
        let request = CreateImage {
            name: image(),
            spec: image_spec(),
            tags: BTreeMap::new(),
            client_token: None,
        };
        let mut started = self.control.images().create(request).await.unwrap();
        let progress = started.progress.as_mut().unwrap();
        while progress.recv().await.is_some() {}
    }

    pub(crate) fn request(&self) -> RunMicrovm {
        RunMicrovm::of(image())
    }

    pub(crate) async fn running(&self) -> MicrovmId {
        let id = self.control.run_microvm(self.request()).await.unwrap().id;
        self.reaches(&id, MicrovmState::Running).await;
        id
    }

    pub(crate) async fn state(&self, id: &MicrovmId) -> MicrovmState {
        self.control.get_microvm(id).await.unwrap().state
    }

    pub(crate) async fn reaches(&self, id: &MicrovmId, state: MicrovmState) -> Microvm {
        let reached = async {
            loop {
                let vm = self.control.get_microvm(id).await.unwrap();
                if vm.state == state {
                    return vm;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        match tokio::time::timeout(PATIENCE, reached).await {
            Ok(vm) => vm,
            Err(_) => panic!("never {state:?}: {:?}", self.control.get_microvm(id).await),
        }
    }

    /// Lets the tasks take in what has happened.
    pub(crate) async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// Asks again and again until it is so.
    pub(crate) async fn eventually(&self, is_so: impl AsyncFn() -> bool) {
        let asked = async {
            while !is_so().await {
                self.settle().await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("it becomes so in time");
    }

    /// Waits until the VM of an earlier control plane is looked after, which its output shows.
    pub(crate) async fn log_line_after_adoption(&self, id: &MicrovmId) {
        self.eventually(async || !self.back_door.attached().is_empty()).await;
        self.engine.print(id, "still here\n");
        assert_eq!(self.log_lines(id, 1).await, ["still here"]);
    }

    /// The lines of a VM's log, once there are `count`.
    pub(crate) async fn log_lines(&self, id: &MicrovmId, count: usize) -> Vec<String> {
        let log = self.control.get_microvm(id).await.unwrap().log.unwrap();
        let query = FilterEvents {
            group: log.group,
            streams: StreamChoice::Named(vec![log.stream]),
            span: TimeSpan::default(),
            page: PageRequest { items_max: 1000, token: None },
        };
        let lines = async {
            loop {
                if let Ok(page) = self.control.logs().filter(query.clone()).await
                    && page.items.len() >= count
                {
                    return page.items.into_iter().map(|event| event.message).collect();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, lines).await.expect("the log has so many lines")
    }
}

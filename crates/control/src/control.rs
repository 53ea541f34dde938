//! The front door of this crate: [`Control`], one for each data directory.

use crate::{
    BackDoor, Clock, ControlConfig, ControlError, Credentials, ImageArn, ImageBuilder, ImageName,
    Images, Logs, Microvm, MicrovmEvent, MicrovmFilter, MicrovmId, Page, PageRequest, RunMicrovm,
    Secrets, TimelineEntry,
};
use engine::{Engine, ExecRequest, ExecSession, VmUsage};
use std::{fmt, sync::Arc};
use tokio::sync::broadcast;

/// What control works with; tests pass in others.
#[derive(Clone)]
pub struct Outside {
    pub engine: Arc<dyn Engine>,
    pub back_door: Arc<dyn BackDoor>,
    pub image_builder: Arc<dyn ImageBuilder>,
    pub clock: Arc<dyn Clock>,
}

/// What exists and what should.
pub struct Control {}

impl Control {
    /// Opens the data directory, finds again what runs, and begins to look after it.
    ///
    /// # Errors
    /// Where the directory, the store or the key file cannot be used.
    pub async fn open(config: ControlConfig, outside: Outside) -> Result<Arc<Self>, ControlError> {
        let _ = (config, outside);
        todo!()
    }

    /// Ends every task of this process in order; the VMs go on.
    pub async fn shutdown(&self) {
        todo!()
    }

    /// Ends every VM, and returns when nothing is left of them.
    ///
    /// # Errors
    /// Where the engine cannot say that all are gone.
    pub async fn terminate_all(&self) -> Result<(), ControlError> {
        todo!()
    }

    pub fn config(&self) -> &ControlConfig {
        todo!()
    }

    pub fn images(&self) -> &Images {
        todo!()
    }

    pub fn secrets(&self) -> &Secrets {
        todo!()
    }

    pub fn logs(&self) -> &Logs {
        todo!()
    }

    pub fn credentials(&self) -> &Arc<Credentials> {
        todo!()
    }

    /// Which VMM runs here, and why.
    pub fn engine_report(&self) -> engine::EngineReport {
        todo!()
    }

    /// ARN of an image of this account.
    pub fn image_arn(&self, name: &ImageName) -> ImageArn {
        let _ = name;
        todo!()
    }

    /// Records the MicroVM and answers; the launch goes on in the background.
    ///
    /// # Errors
    /// [`ControlError::NoActiveVersion`], [`ControlError::RunHookDisabled`],
    /// [`ControlError::PayloadTooLong`], [`ControlError::BadMaximumDuration`],
    /// [`ControlError::ClientTokenReused`], [`ControlError::MemoryQuota`].
    pub async fn run_microvm(
        self: &Arc<Self>,
        request: RunMicrovm,
    ) -> Result<Microvm, ControlError> {
        let _ = request;
        todo!()
    }

    /// # Errors
    /// [`ControlError::MicrovmNotFound`].
    pub async fn get_microvm(&self, id: &MicrovmId) -> Result<Microvm, ControlError> {
        let _ = id;
        todo!()
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
        let _ = (filter, page);
        todo!()
    }

    /// Answers as soon as it is recorded. Repeating it is no error.
    ///
    /// # Errors
    /// [`ControlError::MicrovmNotFound`].
    pub async fn terminate_microvm(&self, id: &MicrovmId) -> Result<(), ControlError> {
        let _ = id;
        todo!()
    }

    /// # Errors
    /// [`ControlError::NotSupported`] where the engine cannot, [`ControlError::WrongState`],
    /// [`ControlError::AlreadyTerminated`], [`ControlError::MicrovmNotFound`].
    pub async fn suspend_microvm(&self, id: &MicrovmId) -> Result<(), ControlError> {
        let _ = id;
        todo!()
    }

    /// # Errors
    /// As [`Control::suspend_microvm`].
    pub async fn resume_microvm(&self, id: &MicrovmId) -> Result<(), ControlError> {
        let _ = id;
        todo!()
    }

    /// Says that bytes crossed the VM's endpoint: it is not idle.
    pub fn note_ingress(&self, id: &MicrovmId) {
        let _ = id;
        todo!()
    }

    /// What happened to a MicroVM, in order.
    ///
    /// # Errors
    /// [`ControlError::MicrovmNotFound`].
    pub async fn timeline(&self, id: &MicrovmId) -> Result<Vec<TimelineEntry>, ControlError> {
        let _ = id;
        todo!()
    }

    /// Every entry of every timeline from now on. A receiver that falls behind is told so and reads
    /// [`Control::timeline`].
    pub fn events(&self) -> broadcast::Receiver<MicrovmEvent> {
        todo!()
    }

    /// # Errors
    /// [`ControlError::MicrovmNotFound`], [`ControlError::WrongState`] unless it is RUNNING,
    /// [`ControlError::Engine`].
    pub async fn exec(
        &self,
        id: &MicrovmId,
        request: ExecRequest,
    ) -> Result<ExecSession, ControlError> {
        let _ = (id, request);
        todo!()
    }

    /// # Errors
    /// As [`Control::exec`].
    pub async fn usage(&self, id: &MicrovmId) -> Result<VmUsage, ControlError> {
        let _ = id;
        todo!()
    }

    /// The last `bytes_max` bytes of the guest's console.
    ///
    /// # Errors
    /// [`ControlError::MicrovmNotFound`], [`ControlError::Engine`].
    pub async fn console(&self, id: &MicrovmId, bytes_max: usize) -> Result<String, ControlError> {
        let _ = (id, bytes_max);
        todo!()
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

//! Who comes to a VM's endpoint waits here until it runs. However many come, it is resumed once:
//! all of them watch the one life, and only its keeper changes it.

use crate::{
    Control, ControlError, Hold, Microvm, MicrovmId, MicrovmState, Traffic,
    fleet::Handle,
    ingress::Ingress,
    life::{Event, Life, Phase},
};
use std::{sync::Arc, time::Duration};

/// Longest wait for a VM that is being launched or resumed: its hook's 60 s, and time to restore.
const RUNNING_WAIT_MAX: Duration = Duration::from_secs(90);

/// Why a request cannot be delivered.
#[derive(Debug, thiserror::Error)]
pub enum NotRunning {
    /// It does not exist, or its record has been forgotten.
    #[error("there is no MicroVM {0}")]
    Unknown(MicrovmId),
    /// It stays suspended: its idle policy does not say `autoResumeEnabled`.
    #[error("MicroVM {0} is suspended and is not resumed by requests")]
    Suspended(MicrovmId),
    /// It is suspended still; a later request tries again.
    #[error("MicroVM {0} could not be resumed")]
    NotResumed(MicrovmId),
    /// TERMINATING or TERMINATED, for this state reason; also where `/resume` or `/run` failed
    /// while the request waited.
    #[error("MicroVM {id} has ended: {reason}")]
    Ended { id: MicrovmId, reason: String },
    #[error("MicroVM {id} was {} for {} s", .state.as_str(), RUNNING_WAIT_MAX.as_secs())]
    TookTooLong { id: MicrovmId, state: MicrovmState },
    #[error("the control plane failed")]
    Control(#[from] ControlError),
}

impl Control {
    /// Holds a request until the VM runs, and resumes it where its idle policy says so. To be
    /// called with the request's [`Control::traffic`] already there, so that the VM does not become
    /// idle in between. Dropping the call leaves a resume that has begun to go on.
    ///
    /// # Errors
    /// [`NotRunning`]: the gateway answers 502 to all of them.
    pub async fn ensure_running(&self, id: &MicrovmId) -> Result<(), NotRunning> {
        let Some(handle) = self.fleet.keeper(id) else { return Err(self.why_gone(id).await) };
        // Cheap for the common case.
        if handle.life.borrow().phase() == Phase::Running {
            return Ok(());
        }
        let mut life = handle.life.clone();
        let waited = tokio::time::timeout(RUNNING_WAIT_MAX, self.wait_running(id, handle)).await;
        waited.unwrap_or_else(|_elapsed| {
            let state = life.borrow_and_update().state();
            Err(NotRunning::TookTooLong { id: id.clone(), state })
        })
    }

    async fn wait_running(&self, id: &MicrovmId, mut handle: Handle) -> Result<(), NotRunning> {
        let mut knocked = false;
        loop {
            let phase = handle.life.borrow_and_update().phase();
            match phase {
                Phase::Running => return Ok(()),
                Phase::Suspended if !handle.wakes_by_itself => {
                    return Err(NotRunning::Suspended(id.clone()));
                }
                Phase::Suspended if knocked => return Err(NotRunning::NotResumed(id.clone())),
                Phase::Suspended => {
                    knocked = true;
                    match self.fleet.ask(id, Event::Knocked).await {
                        Some(outcome) => outcome?,
                        None => return Err(self.why_gone(id).await),
                    }
                    continue;
                }
                // Whoever suspends it now: afterwards it can be resumed.
                Phase::CallingSuspend | Phase::Saving => knocked = false,
                Phase::Cloning | Phase::CallingRun | Phase::Restoring | Phase::CallingResume => {}
                Phase::EndingClone
                | Phase::EndingSave
                | Phase::EndingRestore
                | Phase::CallingTerminate
                | Phase::Stopping
                | Phase::Terminated => return Err(self.why_gone(id).await),
            }
            if handle.life.changed().await.is_err() {
                return Err(self.why_gone(id).await);
            }
        }
    }

    /// The MicroVM once no transition of it is under way, or after [`RUNNING_WAIT_MAX`].
    ///
    /// # Errors
    /// [`ControlError::MicrovmNotFound`].
    pub async fn settled(&self, id: &MicrovmId) -> Result<Microvm, ControlError> {
        if let Some(mut handle) = self.fleet.keeper(id) {
            let settled = handle.life.wait_for(|life| match life.state() {
                MicrovmState::Running | MicrovmState::Suspended | MicrovmState::Terminated => true,
                MicrovmState::Pending | MicrovmState::Suspending | MicrovmState::Terminating => {
                    false
                }
            });
            // Too late, or its keeper is gone: either is told by its row.
            let _ = tokio::time::timeout(RUNNING_WAIT_MAX, settled).await;
        }
        self.get_microvm(id).await
    }

    async fn why_gone(&self, id: &MicrovmId) -> NotRunning {
        match self.get_microvm(id).await {
            Ok(vm) => {
                let reason = vm.state_reason.unwrap_or_default();
                NotRunning::Ended { id: id.clone(), reason }
            }
            Err(ControlError::MicrovmNotFound(id)) => NotRunning::Unknown(id),
            Err(error) => error.into(),
        }
    }

    /// Says that something is open at the VM's endpoint, until it is dropped: see [`Hold`] for what
    /// keeps a VM awake. Of a VM that is gone, it says nothing to nobody.
    pub fn traffic(&self, id: &MicrovmId, hold: Hold) -> Traffic {
        let ingress = match self.fleet.keeper(id) {
            Some(handle) => handle.ingress,
            None => Arc::new(Ingress::default()),
        };
        Traffic::new(ingress, self.fleet.steady.clone(), hold)
    }

    /// Waits until the VM does not run any more, whatever it does then: who serves its connections
    /// cuts them. Returns at once where it does not run.
    pub async fn stops_running(&self, id: &MicrovmId) {
        let Some(mut handle) = self.fleet.keeper(id) else { return };
        // An error: its keeper is gone, and so is it.
        let _ = handle.life.wait_for(|life: &Life| life.phase() != Phase::Running).await;
    }
}

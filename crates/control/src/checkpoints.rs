//! Checkpoints of MicroVMs, and MicroVMs that go on from them.
//!
//! A fork is a checkpoint without a name from which several are run. The engine does nothing else
//! with a VM while it saves it: the save waits for its turn, and whatever comes meanwhile (a
//! suspend, the end) waits for it. As everywhere, the row is written before the effect, and what a
//! crash leaves between the two is cleared away by the reconciler.

use crate::{
    Checkpoint, CheckpointName, CheckpointState, Control, ControlError, FORKS_MAX, Logging, Mark,
    Microvm, MicrovmId, RunFrom,
    error::chain,
    fleet::{Fleet, Handle},
    life::{Event, Life, Phase},
    log_target::log_target,
    run,
    store::{CheckpointRow, Claim, MicrovmRow},
};
use engine::CheckpointId;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tracing::{info, warn};
use uuid::Uuid;

impl Control {
    /// Saves a RUNNING or SUSPENDED MicroVM under a name. A running one stands still for some
    /// milliseconds and goes on; its app is not told.
    ///
    /// # Errors
    /// [`ControlError::CheckpointExists`], [`ControlError::WrongState`],
    /// [`ControlError::AlreadyTerminated`], [`ControlError::MicrovmNotFound`],
    /// [`ControlError::Engine`].
    pub async fn checkpoint(
        &self,
        id: &MicrovmId,
        name: CheckpointName,
    ) -> Result<Checkpoint, ControlError> {
        let row = save(&self.fleet, id, Some(name)).await?;
        self.shown(row).await
    }

    /// Oldest first; those of forks under way too.
    ///
    /// # Errors
    /// [`ControlError::Store`].
    pub async fn checkpoints(&self) -> Result<Vec<Checkpoint>, ControlError> {
        let mut shown = Vec::new();
        for row in self.fleet.store.checkpoints().await? {
            shown.push(self.shown(row).await?);
        }
        Ok(shown)
    }

    /// # Errors
    /// [`ControlError::CheckpointNotFound`].
    pub async fn get_checkpoint(&self, name: &CheckpointName) -> Result<Checkpoint, ControlError> {
        self.shown(self.fleet.store.checkpoint_named(name).await?).await
    }

    /// MicroVMs that were run from it go on.
    ///
    /// # Errors
    /// [`ControlError::CheckpointNotFound`], [`ControlError::CheckpointBusy`],
    /// [`ControlError::Engine`].
    pub async fn delete_checkpoint(&self, name: &CheckpointName) -> Result<(), ControlError> {
        let fleet = &self.fleet;
        // No MicroVM may be about to be made of it.
        let _no_new_rows = fleet.admission.write().await;
        let row = fleet.store.checkpoint_named(name).await?;
        if row.state == CheckpointState::Saving || fleet.store.is_awaited(&row.id).await? {
            return Err(ControlError::CheckpointBusy(name.clone()));
        }
        fleet.store.delete_checkpoint(&row.id).await?;
        remove(fleet, &row.id).await
    }

    /// Runs a MicroVM that goes on where the checkpoint was made: memory, processes, files. It is
    /// another one, with its own id, endpoint, network, clock, entropy and `/run` hook.
    ///
    /// # Errors
    /// [`ControlError::CheckpointNotFound`], and those of [`Control::run_microvm`].
    pub async fn run_from(
        &self,
        name: &CheckpointName,
        request: RunFrom,
    ) -> Result<Microvm, ControlError> {
        let _admitted = self.fleet.admission.read().await;
        let checkpoint = self.fleet.store.checkpoint_named(name).await?;
        if checkpoint.state != CheckpointState::Ready {
            return Err(ControlError::CheckpointBusy(name.clone()));
        }
        let claim = request.client_token.clone().map(|token| Claim {
            operation: "RunFromCheckpoint",
            token,
            fingerprint: fingerprint(name, &request),
        });
        let row = row_like(&self.fleet, &checkpoint, request)?;
        run::admit(&self.fleet, row, claim).await
    }

    /// Runs copies of a RUNNING or SUSPENDED MicroVM, one for each payload (at most [`FORKS_MAX`]).
    /// All are as it was at one moment; it goes on itself.
    ///
    /// # Errors
    /// [`ControlError::TooManyForks`]; those of [`Control::checkpoint`] and [`Control::run_from`].
    /// Where one cannot be run, those before it have been.
    pub async fn fork(
        &self,
        id: &MicrovmId,
        payloads: Vec<Option<String>>,
    ) -> Result<Vec<Microvm>, ControlError> {
        let (asked, max) = (payloads.len(), FORKS_MAX);
        if !(1..=max).contains(&asked) {
            return Err(ControlError::TooManyForks { asked, max });
        }
        let source = self.row(id).await?;
        for payload in &payloads {
            run::check_payload(payload.as_deref(), &source.hooks)?;
        }
        let checkpoint = save(&self.fleet, id, None).await?;
        let forked = self.run_forks(&checkpoint, payloads).await;
        // Gone when the last of them has begun, or none will.
        let fleet = Arc::clone(&self.fleet);
        self.fleet.tasks.spawn(async move {
            let stop = fleet.stop.clone();
            stop.run_until_cancelled(forget_when_begun(&fleet, &checkpoint.id)).await;
        });
        forked
    }

    async fn run_forks(
        &self,
        checkpoint: &CheckpointRow,
        payloads: Vec<Option<String>>,
    ) -> Result<Vec<Microvm>, ControlError> {
        let _admitted = self.fleet.admission.read().await;
        let mut forks = Vec::new();
        for run_hook_payload in payloads {
            let request = RunFrom { run_hook_payload, maximum_duration: None, client_token: None };
            let row = row_like(&self.fleet, checkpoint, request)?;
            forks.push(run::admit(&self.fleet, row, None).await?);
        }
        Ok(forks)
    }

    async fn shown(&self, row: CheckpointRow) -> Result<Checkpoint, ControlError> {
        let parent = match &row.parent {
            Some(id) => self.fleet.store.checkpoint(id).await?.and_then(|parent| parent.name),
            None => None,
        };
        Ok(Checkpoint {
            name: row.name,
            state: row.state,
            microvm: row.like.id,
            parent,
            image: self.fleet.config.image_arn(&row.like.image),
            version: row.like.version,
            memory_mib: row.like.memory_mib,
            memory_bytes: row.memory_bytes,
            disk_bytes: row.disk_bytes,
            pause_ms: row.pause_ms,
            created_at: row.created_at,
        })
    }
}

/// In a task of its own: a caller that goes away leaves no VM half saved.
async fn save(
    fleet: &Arc<Fleet>,
    id: &MicrovmId,
    name: Option<CheckpointName>,
) -> Result<CheckpointRow, ControlError> {
    let Some(handle) = fleet.keeper(id) else {
        let found = fleet.store.microvm(id).await?;
        let row = found.ok_or_else(|| ControlError::MicrovmNotFound(id.clone()))?;
        return Err(ControlError::AlreadyTerminated(row.id));
    };
    let (fleet, id) = (Arc::clone(fleet), id.clone());
    let saving = Arc::clone(&fleet).tasks.spawn(async move {
        let checkpoint = new_id();
        let now = fleet.outside.clock.now();
        let _turn = handle.engine_turn.lock().await;
        may_be_saved(&id, &handle)?;
        fleet.store.begin_checkpoint(&checkpoint, name.as_ref(), &id, now).await?;
        let saved = fleet.outside.engine.checkpoint(&id.vm_id(), &checkpoint).await;
        let info = match saved {
            Ok(info) => info,
            Err(error) => {
                if let Err(error) = remove(&fleet, &checkpoint).await {
                    warn!(microvm = %id, "a checkpoint that failed stays: {}", chain(&error));
                }
                return Err(error.into());
            }
        };
        fleet.store.finish_checkpoint(&info).await?;
        let name = name.as_ref().map_or("for a fork", CheckpointName::as_str);
        let detail = format!("{name}; stood still for {:.0} ms", info.pause_ms);
        // Where its keeper is gone, so is its timeline's end.
        let _ = fleet.ask(&id, Event::Noted { mark: Mark::Checkpointed, detail }).await;
        let row = fleet.store.checkpoint(&checkpoint).await?;
        row.ok_or_else(|| ControlError::Corrupt {
            what: "no row of a checkpoint",
            value: checkpoint.to_string(),
        })
    });
    saving.await.unwrap_or(Err(ControlError::ShuttingDown))
}

/// Asked while nothing else is done with the VM.
fn may_be_saved(id: &MicrovmId, handle: &Handle) -> Result<(), ControlError> {
    let life = handle.life.borrow();
    match life.phase() {
        Phase::Running | Phase::Suspended => Ok(()),
        Phase::Terminated => Err(ControlError::AlreadyTerminated(id.clone())),
        Phase::Cloning
        | Phase::CallingRun
        | Phase::CallingSuspend
        | Phase::Saving
        | Phase::Restoring
        | Phase::CallingResume
        | Phase::EndingClone
        | Phase::EndingSave
        | Phase::EndingRestore
        | Phase::CallingTerminate
        | Phase::Stopping => Err(ControlError::WrongState {
            id: id.clone(),
            state: life.state(),
            operation: "a checkpoint",
        }),
    }
}

fn new_id() -> CheckpointId {
    let name = format!("checkpoint-{}", Uuid::new_v4().hyphenated());
    CheckpointId::new(name).expect("a uuid with a prefix has 47 letters, digits and '-'")
}

/// A new MicroVM that is run as the checkpoint's source was.
fn row_like(
    fleet: &Fleet,
    checkpoint: &CheckpointRow,
    request: RunFrom,
) -> Result<MicrovmRow, ControlError> {
    let like = &checkpoint.like;
    let RunFrom { run_hook_payload, maximum_duration, client_token: _ } = request;
    let maximum_duration = maximum_duration.unwrap_or(like.maximum_duration);
    run::check_duration(maximum_duration)?;
    run::check_payload(run_hook_payload.as_deref(), &like.hooks)?;
    let (id, now) = (MicrovmId::random(), fleet.outside.clock.now());
    let logging = match &like.log {
        None => Logging::Disabled,
        // The group is the source's, the stream its own.
        Some(log) => Logging::CloudWatch { group: Some(log.group.clone()), stream: None },
    };
    Ok(MicrovmRow {
        endpoint: run::new_endpoint(&fleet.config),
        log: log_target(&logging, &like.image, like.version, id.as_str(), now),
        maximum_duration,
        started_at: now,
        counted_from: fleet.steady.now(),
        checkpoint: Some(checkpoint.id.clone()),
        payload: run_hook_payload,
        life: Life::Cloning,
        id,
        ..like.clone()
    })
}

fn fingerprint(name: &CheckpointName, request: &RunFrom) -> String {
    let seconds = request.maximum_duration.map(|duration| duration.as_secs());
    let whole = json!([name.as_str(), request.run_hook_payload, seconds]);
    hex::encode(Sha256::digest(whole.to_string()))
}

async fn remove(fleet: &Fleet, id: &CheckpointId) -> Result<(), ControlError> {
    fleet.outside.engine.remove_checkpoint(id).await?;
    fleet.store.forget_checkpoint(id).await
}

/// Waits until no MicroVM is still to be made of a nameless checkpoint, and removes it.
async fn forget_when_begun(fleet: &Fleet, id: &CheckpointId) {
    for (_, mut handle) in fleet.kept() {
        if handle.checkpoint.as_ref() == Some(id) {
            let begun = |life: &Life| !matches!(life.phase(), Phase::Cloning | Phase::EndingClone);
            // An error: it has come and gone.
            let _ = handle.life.wait_for(begun).await;
        }
    }
    if let Err(error) = remove(fleet, id).await {
        warn!("a fork's checkpoint is not removed yet: {}", chain(&error));
    }
}

impl Fleet {
    /// Removes what a crash left of checkpoints: at the start, before any is made.
    pub(crate) async fn clear_checkpoints(&self) -> Result<(), ControlError> {
        // First what there is, then what there should be: a row is written before its files are.
        let listed = self.outside.engine.list_checkpoints().await?;
        let rows = self.store.checkpoints().await?;
        for row in &rows {
            let kept = match (row.state, &row.name) {
                (CheckpointState::Ready, Some(_)) => true,
                (CheckpointState::Ready, None) => self.store.is_awaited(&row.id).await?,
                (CheckpointState::Saving | CheckpointState::Deleting, _) => false,
            };
            if !kept {
                info!(checkpoint = %row.id, "left behind by an earlier process: removed");
                remove(self, &row.id).await?;
            }
        }
        for stray in listed.iter().filter(|info| rows.iter().all(|row| row.id != info.id)) {
            info!(checkpoint = %stray.id, "it has no row: removed");
            self.outside.engine.remove_checkpoint(&stray.id).await?;
        }
        Ok(())
    }
}

//! To disk and back: what a VM has changed is written beside its template, and its VMM ends; a new VMM
//! loads it into a clone of the same template.
//!
//! `saved/` is what decides. While it is there, the VM is suspended, whatever still runs of it; it
//! appears by a rename when all of it is on the disk, and goes by one right before the guest goes on.

use super::{
    Inner, Running, blocking,
    clone::{Saved, Started, vmm_failed},
    lock,
    memory::{Ram, TemplateRam},
    pages,
    qmp::{Blocks, Qmp, QmpError},
    remains,
};
use crate::{
    EngineError, Launched, Suspended, VmId,
    slot::Slot,
    state::{
        SavedDir, SavedRecord, VmDir, VmRecord, bytes_on_disk, host_error, read_json,
        remove_directory, sync, write_json,
    },
};
use serde_json::json;
use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use wire::HostMessage;

/// A guest stands still in milliseconds; one that does not answer is stopped all the same.
const HOLD_WAIT_MAX: Duration = Duration::from_secs(2);

impl Inner {
    pub(super) async fn suspend(self: &Arc<Self>, id: &VmId) -> Result<Suspended, EngineError> {
        let running = self.running(id, "suspending")?;
        self.shorten_chain(id).await?;
        let start = Instant::now();
        self.hold(id, &running).await;
        let (inner, vm, pid) = (self.clone(), id.clone(), running.process.pid);
        let saved = blocking(move || inner.save(&vm, pid)).await;
        let record = match saved {
            Ok(record) => record,
            Err(e) => {
                self.go_on(id, &running).await;
                // The disk may be full of it; what stays goes at the next suspend or start.
                let _ = remove_directory(self.state.vm(id).body().saved().part().path());
                return Err(e);
            }
        };
        running.stopping.store(true, Ordering::Release);
        lock(&self.vms).remove(id);
        let (inner, slot) = (self.clone(), running.slot);
        if let Err(e) = blocking(move || remains::vacate(&inner.slots, slot)).await {
            // It is suspended; what is left of its VMM goes at the next resume, stop or start.
            tracing::warn!(vm = %id, "remains of a suspended VM: {e}");
        }
        let pause_ms = start.elapsed().as_secs_f64() * 1e3;
        let disk_bytes = self.state.vm(id).body().layers().bytes()?;
        tracing::debug!(vm = %id, pause_ms, memory_bytes = record.memory_bytes, "suspended");
        Ok(Suspended { memory_bytes: record.memory_bytes, disk_bytes, pause_ms })
    }

    /// Has the guest stop all that runs in it, so that nothing of it runs between a later wake-up and the
    /// right time.
    pub(super) async fn hold(&self, id: &VmId, running: &Running) {
        let held = running
            .channel
            .call("standing still", HOLD_WAIT_MAX, |call| HostMessage::Hold { call });
        if let Err(e) = held.await {
            tracing::warn!(vm = %id, "its processes run on until it is stopped: {e}");
        }
    }

    /// After a failure: the VM goes on as if nothing had been. One that cannot is noticed by its end.
    pub(super) async fn go_on(&self, id: &VmId, running: &Running) {
        let (name, dir) = (id.clone(), self.state.vm(id));
        let cont = blocking(move || {
            let cont = || Qmp::connect(&dir.qmp_socket())?.execute("cont", json!({}));
            cont().map(drop).map_err(|e| vmm_failed(&name, &dir, &e))
        });
        let result = match cont.await {
            Ok(()) => running.wake().await,
            Err(e) => Err(e),
        };
        if let Err(e) = result {
            tracing::warn!(vm = %id, "it does not go on: {e}");
        }
    }

    /// Stops the guest and writes it to disk.
    fn save(&self, id: &VmId, pid: i32) -> Result<SavedRecord, EngineError> {
        let dir = self.state.vm(id);
        let record: VmRecord =
            read_json(&dir.record())?.ok_or_else(|| EngineError::NoSuchVm(id.clone()))?;
        let saved = dir.body().saved();
        let part = saved.part();
        remove_directory(part.path())?;
        fs::create_dir(part.path()).map_err(|e| host_error(part.path(), "create", e))?;
        let failed = |e: QmpError| vmm_failed(id, &dir, &e);
        let mut qmp = Qmp::connect(&dir.qmp_socket()).map_err(failed)?;
        qmp.execute("stop", json!({})).map_err(failed)?;
        qmp.save_devices(&part.device_state(), Blocks::LetGo).map_err(failed)?;
        save_memory(&dir, pid, &part)?;
        let record = seal(&part, record.machine)?;
        // From here on it is suspended.
        fs::rename(part.path(), saved.path()).map_err(|e| host_error(saved.path(), "rename", e))?;
        sync(dir.path())?;
        Ok(record)
    }

    pub(super) async fn resume(self: &Arc<Self>, id: &VmId) -> Result<Launched, EngineError> {
        let start = Instant::now();
        if lock(&self.vms).contains_key(id) {
            return Err(self.wrong_state(id, "resuming"));
        }
        let (inner, vm) = (self.clone(), id.clone());
        let started = blocking(move || inner.start_saved(&vm)).await?;
        let slot = started.slot;
        let restored = match self.connect(id, started).await {
            Ok(restored) => restored,
            Err(e) => {
                self.vacate(id, slot).await;
                return Err(e);
            }
        };
        let saved = self.state.vm(id).body().saved();
        let withdrawn = saved.withdrawn();
        // INVARIANT: the saved state is gone before the guest goes on, since it is not its state then.
        if let Err(e) = fs::rename(saved.path(), &withdrawn) {
            self.vacate(id, slot).await;
            return Err(host_error(saved.path(), "rename", e));
        }
        let sockets = self.let_go_on(restored, None).await.map_err(|e| self.explain(id, e))?;
        let restore_ms = start.elapsed().as_secs_f64() * 1e3;
        // Tens of megabytes take a while to be freed, and nobody waits for it.
        self.tasks.spawn_blocking(move || remove_directory(&withdrawn));
        tracing::debug!(vm = %id, restore_ms, "resumed");
        Ok(Launched { restore_ms, path: "resumed", sockets })
    }

    fn start_saved(&self, id: &VmId) -> Result<Started, EngineError> {
        let dir = self.state.vm(id);
        if !remains::is_saved(&dir) {
            return Err(self.wrong_state(id, "resuming"));
        }
        let record: VmRecord =
            read_json(&dir.record())?.ok_or_else(|| EngineError::NoSuchVm(id.clone()))?;
        let saved = Saved::open(&dir.body(), &format!("VM {id}"), |m| self.machine_mark(m))?;
        if let Some(slot) = self.slot_of(id)? {
            // Of a suspend or resume that was broken off.
            remains::vacate(&self.slots, slot)?;
        }
        let place = self.prepare(id, saved.memory_mib(), record.internet)?;
        let slot = place.slot;
        self.start(id, place, Some(&saved)).inspect_err(|_| {
            if let Err(e) = remains::vacate(&self.slots, slot) {
                tracing::warn!(vm = %id, "remains of a failed resume: {e}");
            }
        })
    }

    async fn vacate(self: &Arc<Self>, id: &VmId, slot: Slot) {
        let inner = self.clone();
        if let Err(e) = blocking(move || remains::vacate(&inner.slots, slot)).await {
            tracing::warn!(vm = %id, "remains of a failed resume: {e}");
        }
    }
}

/// Writes what a stopped VM has changed of its template's memory.
pub(super) fn save_memory(dir: &VmDir, pid: i32, to: &SavedDir) -> Result<(), EngineError> {
    let template = dir.body().template().ram();
    let write = || {
        let ram = Ram::of(pid, &template)?;
        pages::save(&ram, &TemplateRam::open(&template)?, &to.memory())
    };
    write().map_err(|e| host_error(&to.memory(), "write the VM's memory", e))
}

/// Makes saved state durable, and says what it is.
pub(super) fn seal(part: &SavedDir, machine: String) -> Result<SavedRecord, EngineError> {
    sync(&part.memory())?;
    sync(&part.device_state())?;
    let memory_bytes = bytes_on_disk(&part.memory())? + bytes_on_disk(&part.device_state())?;
    let record = SavedRecord { machine, memory_bytes };
    write_json(&part.record(), &record)?;
    sync(&part.record())?;
    sync(part.path())?;
    Ok(record)
}

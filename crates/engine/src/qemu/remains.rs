//! What there is of VMs on this host, and the way to get rid of it, from whatever point they were left at.

use super::{Inner, lock};
use crate::{
    EngineError, Listing, VmId, VmState, cgroup, firewall, namespace,
    slot::{self, Slot, Slots},
    state::{StateDir, VmDir, remove_directory},
};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

/// A console is kept up to this size; a guest that writes more to it loses what it wrote.
const CONSOLE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Removes what there is of a VM, in an order that can be repeated from any point: its processes, then
/// what they used, then its directory, and at last the slot that says that there was anything.
pub(super) fn remove(
    slots: &Slots,
    state: &StateDir,
    id: &VmId,
    slot: Option<Slot>,
) -> Result<(), EngineError> {
    if let Some(slot) = slot {
        cgroup::remove(slot)?;
        namespace::remove(slot)?;
    }
    remove_directory(state.vm(id).path())?;
    slot.map_or(Ok(()), |slot| give_back(slots, slot))
}

/// Ends a VM's processes and gives back all that it has in the kernel; its files stay.
pub(super) fn vacate(slots: &Slots, slot: Slot) -> Result<(), EngineError> {
    cgroup::remove(slot)?;
    namespace::remove(slot)?;
    give_back(slots, slot)
}

fn give_back(slots: &Slots, slot: Slot) -> Result<(), EngineError> {
    let lock = slot::lock()?;
    slots.give_back(&lock, slot)?;
    if slot::all_taken()?.is_empty() {
        firewall::take_down(&lock)?;
        cgroup::remove_parents();
    }
    Ok(())
}

/// VMs in the making or on standby belong to the engine that made them; it is gone.
pub(super) fn remove_internal(slots: &Slots, state: &StateDir) -> Result<(), EngineError> {
    let taken: HashMap<VmId, Slot> =
        slots.taken()?.into_iter().map(|(slot, id)| (id, slot)).collect();
    let all = state.vms()?.into_iter().chain(taken.keys().cloned());
    for id in all.filter(VmId::is_internal) {
        remove(slots, state, &id, taken.get(&id).copied())?;
    }
    Ok(())
}

/// Ends the VMMs of VMs that are saved: they stand still since, or have not gone on yet.
pub(super) fn finish_suspends(slots: &Slots, state: &StateDir) -> Result<(), EngineError> {
    for (slot, id) in slots.taken()? {
        if is_saved(&state.vm(&id)) {
            vacate(slots, slot)?;
        }
    }
    Ok(())
}

/// Whether all of a VM is on disk: then whatever runs of it does not count.
pub(super) fn is_saved(dir: &VmDir) -> bool {
    dir.body().saved().record().exists()
}

impl Inner {
    pub(super) fn slot_of(&self, id: &VmId) -> Result<Option<Slot>, EngineError> {
        Ok(self.slots.taken()?.into_iter().find(|(_, vm)| vm == id).map(|(slot, _)| slot))
    }

    pub(super) fn list(&self) -> Result<Vec<Listing>, EngineError> {
        let mut found: HashMap<VmId, VmState> =
            self.state.vms()?.into_iter().map(|id| (id, VmState::Remains)).collect();
        for (slot, id) in self.slots.taken()? {
            let complete = self.state.vm(&id).record().exists();
            let runs = complete && !cgroup::processes(slot).is_empty();
            found.insert(id, if runs { VmState::Running } else { VmState::Remains });
        }
        found.retain(|id, _| !id.is_internal());
        self.trim_consoles();
        let listing = |(id, found)| {
            let state = if is_saved(&self.state.vm(&id)) { VmState::Suspended } else { found };
            Listing { id, state }
        };
        Ok(found.into_iter().map(listing).collect())
    }

    /// A guest may write to its console without end; the host's disk has one.
    fn trim_consoles(&self) {
        for id in lock(&self.vms).keys() {
            let path = self.state.vm(id).console();
            if fs::metadata(&path).is_ok_and(|m| m.len() > CONSOLE_BYTES_MAX)
                && let Ok(file) = File::options().write(true).open(&path)
            {
                // QEMU appends: it goes on at the new end.
                let _ = file.set_len(0);
            }
        }
    }
}

/// The end of a VM's console; where the VMM itself said something, that too.
pub(super) fn console_tail(dir: &VmDir, bytes_max: usize) -> String {
    let tail = |path: PathBuf| {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(&path) {
            let length = file.metadata().map(|m| m.len()).unwrap_or_default();
            let _ = file.seek(SeekFrom::Start(length.saturating_sub(bytes_max as u64)));
            let _ = file.take(bytes_max as u64).read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).trim_end().to_owned()
    };
    let (console, vmm) = (tail(dir.console()), tail(dir.vmm_log()));
    if vmm.is_empty() { console } else { format!("{console}\n{vmm}") }
}

//! Which accelerator runs a guest on this host.
//!
//! `/dev/kvm` being there does not mean that it works: nested and para-virtualised hosts open it and
//! then run a guest a thousand times too slowly. So the guest's own kernel is booted under it for a
//! moment. The finding holds until the host is booted again or the VMM or kernel changes.

use super::{
    arguments::{Accelerator, Machine, Start},
    vmm::{Tools, VmmSpec},
};
use crate::{
    EngineError, VmId, cgroup,
    slot::{self, Slots},
    state::{StateDir, read_json, write_json},
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    thread::sleep,
    time::{Duration, Instant},
};

/// What the guest says as soon as it runs.
const SIGN_OF_LIFE: &str = "warren-guest: starting";
/// A working KVM comes there in half a second, TCG in little more than one.
const KVM_WAIT_MAX: Duration = Duration::from_secs(4);
const MEMORY_MIB: u32 = 128;

/// Which accelerator the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AcceleratorChoice {
    /// KVM where it works, else TCG.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// TCG without a look at KVM.
    Tcg,
}

/// What was found, and the sentence that says why.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) accelerator: Accelerator,
    pub(crate) reason: String,
}

#[derive(Serialize, Deserialize)]
struct Record {
    key: String,
    /// None: KVM works.
    kvm_fault: Option<String>,
}

pub(crate) fn find(
    choice: AcceleratorChoice,
    tools: &Tools,
    state: &StateDir,
    slots: &Slots,
    vmm: &str,
) -> Result<Finding, EngineError> {
    let tcg = |reason: String| Finding { accelerator: Accelerator::Tcg, reason };
    if choice == AcceleratorChoice::Tcg {
        return Ok(tcg("TCG was chosen by configuration".into()));
    }
    match (kvm_fault(tools, state, slots, vmm)?, choice) {
        (None, _) => Ok(Finding {
            accelerator: Accelerator::Kvm,
            reason: "a guest kernel was booted under KVM and came up".into(),
        }),
        (Some(fault), AcceleratorChoice::Kvm) => Err(EngineError::ToolMissing {
            tool: "KVM".into(),
            reason: format!(
                "{fault}, and the configuration does without nothing else (engine.require = \"kvm\")"
            ),
        }),
        (Some(fault), AcceleratorChoice::Auto | AcceleratorChoice::Tcg) => {
            Ok(tcg(format!("{fault}; QEMU's authors do not support TCG as a security boundary")))
        }
    }
}

/// Why KVM cannot be used; None where it can.
fn kvm_fault(
    tools: &Tools,
    state: &StateDir,
    slots: &Slots,
    vmm: &str,
) -> Result<Option<String>, EngineError> {
    if let Err(e) = File::options().read(true).write(true).open("/dev/kvm") {
        return Ok(Some(format!("/dev/kvm cannot be opened ({e})")));
    }
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let key = format!("{} {vmm} {}", boot.trim(), tools.initrd.display());
    let path = state.path().join("calibration.json");
    if let Ok(Some(Record { key: known, kvm_fault })) = read_json::<Record>(&path)
        && known == key
    {
        return Ok(kvm_fault);
    }
    let kvm_fault = try_kvm(tools, state, slots)?;
    write_json(&path, &Record { key, kvm_fault: kvm_fault.clone() })?;
    Ok(kvm_fault)
}

fn try_kvm(tools: &Tools, state: &StateDir, slots: &Slots) -> Result<Option<String>, EngineError> {
    let id = VmId::internal("calibrate");
    let slot = slots.take(&slot::lock()?, &id)?;
    let result = boot_under_kvm(tools, state, &id, slot);
    super::remains::remove(slots, state, &id, Some(slot))?;
    result
}

fn boot_under_kvm(
    tools: &Tools,
    state: &StateDir,
    id: &VmId,
    slot: slot::Slot,
) -> Result<Option<String>, EngineError> {
    let dir = state.vm(id);
    fs::create_dir_all(dir.path())
        .map_err(|e| crate::state::host_error(dir.path(), "create", e))?;
    let spec = VmmSpec {
        name: id.as_str(),
        machine: Machine { accelerator: Accelerator::Kvm, memory_mib: MEMORY_MIB, vcpus: 1 },
        start: Start::Calibrate,
        dir: &dir,
        uid: slot.uid(),
        cgroups: cgroup::create(slot, MEMORY_MIB)?,
        ram: None,
        disks: Vec::new(),
        tap: None,
    };
    let start = Instant::now();
    let mut child = spec.spawn(tools)?;
    let fault = loop {
        if fs::read_to_string(dir.console()).unwrap_or_default().contains(SIGN_OF_LIFE) {
            break None;
        }
        if let Ok(Some(status)) = child.try_wait() {
            let said = fs::read_to_string(dir.vmm_log()).unwrap_or_default();
            break Some(format!(
                "/dev/kvm is there, but QEMU ended with {status}: {}",
                said.trim()
            ));
        }
        if start.elapsed() > KVM_WAIT_MAX {
            break Some(format!(
                "/dev/kvm is there, but a guest kernel did not come up under it within {} s \
                 (a host that is virtual itself often has such a KVM)",
                KVM_WAIT_MAX.as_secs()
            ));
        }
        sleep(Duration::from_millis(10));
    };
    let _ = child.kill();
    let _ = child.wait();
    Ok(fault)
}

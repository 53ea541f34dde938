//! Slots: small numbers that name what a VM has in the kernel.
//!
//! A network namespace, a veth pair, a cgroup, a user id and a /30 of addresses have to be unique
//! on the machine, whoever runs there: a second Warren with another data directory included. A slot
//! stands for all of them. It is a file in `/run/warren/slots` that names its owner; taking it is the
//! first effect of a VM and giving it back the last, so what is left after a crash can be found.

use crate::{EngineError, VmId, state::host_error};
use std::{
    fs,
    io::{self, ErrorKind},
    net::Ipv4Addr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

const DIRECTORY: &str = "/run/warren/slots";
/// Slots 1 to this; each takes a /30 out of 198.18.0.0/15, which is set aside for tests of network
/// devices (RFC 2544) and so in use nowhere that a host would route to.
const SLOT_MAX: u16 = 16_383;
const FIRST_ADDRESS: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// Far above what distributions and containers use.
const FIRST_UID: u32 = 1_870_000_000;

/// A slot that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u16);

impl Slot {
    /// User and group of the VMM: its own, since another process of the same user could read its memory.
    pub(crate) fn uid(self) -> u32 {
        FIRST_UID + u32::from(self.0)
    }
    /// Name of the network namespace and of the cgroup.
    pub(crate) fn name(self) -> String {
        format!("warren-{}", self.0)
    }
    /// Name of the host's end of the veth pair.
    pub(crate) fn veth(self) -> String {
        format!("wv{}", self.0)
    }
    pub(crate) fn host_address(self) -> Ipv4Addr {
        Ipv4Addr::from(FIRST_ADDRESS + u32::from(self.0) * 4 + 1)
    }
    pub(crate) fn namespace_address(self) -> Ipv4Addr {
        Ipv4Addr::from(FIRST_ADDRESS + u32::from(self.0) * 4 + 2)
    }
    fn file(self) -> PathBuf {
        Path::new(DIRECTORY).join(self.0.to_string())
    }
}

/// The slots of one engine; others on the machine have their own value of this with another owner.
#[derive(Debug)]
pub(crate) struct Slots {
    owner: String,
}

/// Held while slots are given out or back and while the host's firewall is put up or taken down.
pub(crate) struct Lock {
    _file: nix::fcntl::Flock<OwnedFd>,
}

pub(crate) fn lock() -> Result<Lock, EngineError> {
    let path = Path::new("/run/warren/lock");
    let failed = |e: io::Error| host_error(path, "lock", e);
    fs::create_dir_all(DIRECTORY).map_err(|e| host_error(Path::new(DIRECTORY), "create", e))?;
    let file = fs::File::create(path).map_err(failed)?;
    nix::fcntl::Flock::lock(OwnedFd::from(file), nix::fcntl::FlockArg::LockExclusive)
        .map(|file| Lock { _file: file })
        .map_err(|(_, e)| failed(e.into()))
}

impl Slots {
    /// `owner` is the engine's directory.
    pub(crate) fn new(owner: &Path) -> Self {
        Self { owner: owner.display().to_string() }
    }

    /// Takes the lowest free slot for a VM.
    pub(crate) fn take(&self, _: &Lock, vm: &VmId) -> Result<Slot, EngineError> {
        // Written whole before it has a slot's name: a slot never stands without its owner.
        // What a crash left of the last one may be a slot's second name.
        let new = Path::new(DIRECTORY).join("new");
        match fs::remove_file(&new) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(host_error(&new, "remove", e)),
            _ => {}
        }
        fs::write(&new, self.content(vm)).map_err(|e| host_error(&new, "write", e))?;
        for slot in (1..=SLOT_MAX).map(Slot) {
            match fs::hard_link(&new, slot.file()) {
                Ok(()) => {
                    return fs::remove_file(&new)
                        .map(|()| slot)
                        .map_err(|e| host_error(&new, "remove", e));
                }
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(host_error(&slot.file(), "create", e)),
            }
        }
        let source = io::Error::other(format!("all {SLOT_MAX} are taken"));
        Err(host_error(Path::new(DIRECTORY), "take a slot", source))
    }

    fn content(&self, vm: &VmId) -> String {
        format!("{}\n{vm}\n", self.owner)
    }

    /// Hands a slot over to another VM of this engine.
    pub(crate) fn rename(&self, slot: Slot, vm: &VmId) -> Result<(), EngineError> {
        crate::state::write_whole(&slot.file(), self.content(vm).as_bytes())
    }

    pub(crate) fn give_back(&self, _: &Lock, slot: Slot) -> Result<(), EngineError> {
        match fs::remove_file(slot.file()) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(host_error(&slot.file(), "remove", e)),
            _ => Ok(()),
        }
    }

    /// All slots of this engine with their VMs.
    pub(crate) fn taken(&self) -> Result<Vec<(Slot, VmId)>, EngineError> {
        let mut taken = Vec::new();
        for slot in all_taken()? {
            // Given back in this moment.
            let Ok(content) = fs::read_to_string(slot.file()) else { continue };
            let mut lines = content.lines();
            if lines.next() == Some(&self.owner)
                && let Some(Ok(vm)) = lines.next().map(VmId::new)
            {
                taken.push((slot, vm));
            }
        }
        Ok(taken)
    }
}

/// Every slot on the machine that is taken, by whomever.
pub(crate) fn all_taken() -> Result<Vec<Slot>, EngineError> {
    let directory = Path::new(DIRECTORY);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(host_error(directory, "list", e)),
    };
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Slot))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_names_and_addresses_of_its_own() {
        let (a, z) = (Slot(1), Slot(SLOT_MAX));
        assert_eq!(a.host_address(), Ipv4Addr::new(198, 18, 0, 5));
        assert_eq!(a.namespace_address(), Ipv4Addr::new(198, 18, 0, 6));
        assert_eq!(z.namespace_address(), Ipv4Addr::new(198, 18, 255, 254));
        // An interface name has at most 15 characters.
        assert!(z.veth().len() <= 15);
        assert_ne!(a.uid(), z.uid());
    }
}

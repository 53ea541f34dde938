//! A restored VM becomes one of its own: every clone wakes with the same memory, so the same random
//! numbers, clock and names, until this has run.

use crate::network;
use nix::{
    mount::{MsFlags, mount},
    sys::time::TimeSpec,
    time::{ClockId, clock_settime},
    unistd::sethostname,
};
use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    time::Duration,
};
use wire::{Connections, Identity, Wake};

/// As random(4) has them.
mod request {
    nix::ioctl_write_ptr_bad!(add_entropy, 0x4008_5203, libc::c_void);
    nix::ioctl_none_bad!(reseed, 0x5207);
}

/// Where the files are that name this VM, in memory.
const OWN_FILES: &str = "/run/warren/identity";

/// Bytes of entropy in an identity.
const ENTROPY_BYTES: usize = 64;

/// struct rand_pool_info with its buffer.
#[repr(C)]
struct Entropy {
    entropy_bits: libc::c_int,
    buffer_bytes: libc::c_int,
    buffer: [u8; ENTROPY_BYTES],
}

/// What changed while the VM stood still becomes true in it. The order matters: nothing may be drawn
/// from the old generator.
pub(crate) fn wake(wake: &Wake) -> Result<(), String> {
    renew_entropy(&wake.entropy)?;
    let now = TimeSpec::from_duration(Duration::from_nanos(wake.unix_time_ns));
    clock_settime(ClockId::CLOCK_REALTIME, now).map_err(|e| format!("set the clock: {e}"))?;
    if let Some(identity) = &wake.identity {
        adopt(identity)?;
    }
    match wake.connections {
        Connections::Cut => network::cut_connections(),
        Connections::Keep => Ok(()),
    }
}

fn adopt(identity: &Identity) -> Result<(), String> {
    sethostname(&identity.hostname).map_err(|e| format!("set the host name: {e}"))?;
    for (name, text) in [("hostname", &identity.hostname), ("machine-id", &identity.machine_id)] {
        let path = own_file(name);
        fs::write(&path, format!("{text}\n")).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn own_file(name: &str) -> PathBuf {
    Path::new(OWN_FILES).join(name)
}

/// Lays files in memory over those of the image that name the machine. A clone then takes its names on
/// without its disk, whose first write alone takes as long as all else in [`adopt`].
pub(crate) fn make_room() -> Result<(), String> {
    let none = None::<&str>;
    fs::create_dir_all(OWN_FILES).map_err(|e| format!("{OWN_FILES}: {e}"))?;
    fs::create_dir_all("/etc").map_err(|e| format!("/etc: {e}"))?;
    for name in ["hostname", "machine-id"] {
        let (own, shown) = (own_file(name), Path::new("/etc").join(name));
        let failed = |e: io::Error| format!("{}: {e}", shown.display());
        let content = fs::read(&shown).or_else(|_| File::create(&shown).map(|_| Vec::new()));
        fs::write(&own, content.map_err(failed)?).map_err(failed)?;
        mount(Some(&own), &shown, none, MsFlags::MS_BIND, none).map_err(|e| failed(e.into()))?;
    }
    Ok(())
}

fn renew_entropy(bytes: &[u8]) -> Result<(), String> {
    let buffer = bytes
        .try_into()
        .map_err(|_| format!("entropy of {} bytes, not {ENTROPY_BYTES}", bytes.len()))?;
    let entropy = Entropy {
        entropy_bits: (ENTROPY_BYTES * 8) as libc::c_int,
        buffer_bytes: ENTROPY_BYTES as libc::c_int,
        buffer,
    };
    let device = File::options()
        .write(true)
        .open("/dev/urandom")
        .map_err(|e| format!("/dev/urandom: {e}"))?;
    // SAFETY: RNDADDENTROPY reads a rand_pool_info and the `buffer_bytes` behind it: `entropy` is both
    // and lives through the call.
    unsafe { request::add_entropy(device.as_raw_fd(), (&raw const entropy).cast()) }
        .map_err(|e| format!("RNDADDENTROPY: {e}"))?;
    // SAFETY: RNDRESEEDCRNG takes no argument.
    unsafe { request::reseed(device.as_raw_fd()) }.map_err(|e| format!("RNDRESEEDCRNG: {e}"))?;
    Ok(())
}

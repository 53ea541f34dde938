//! The end of the VM.

use crate::process;
use nix::{
    sys::{
        reboot::{RebootMode, reboot},
        signal::{Signal, kill},
    },
    unistd::{Pid, sync},
};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// SIGTERM to all, SIGKILL to what is left after `grace`, then off.
pub(crate) fn off_in_order(grace: Duration) -> ! {
    let all = Pid::from_raw(-1);
    let _ = kill(all, Signal::SIGTERM);
    let start = Instant::now();
    while start.elapsed() < grace && process::any_left() {
        sleep(Duration::from_millis(5));
    }
    let _ = kill(all, Signal::SIGKILL);
    off()
}

/// Writes out what is dirty and powers off; the VMM ends with it.
pub(crate) fn off() -> ! {
    sync();
    loop {
        // It returns only where it fails; then there is nothing left to do but to try again.
        let _ = reboot(RebootMode::RB_POWER_OFF);
        sleep(Duration::from_secs(1));
    }
}

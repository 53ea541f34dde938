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

/// The app's stop signal to all, SIGKILL to what is left after `grace`, then off.
pub(crate) fn off_in_order(stop_signal: i32, grace: Duration) -> ! {
    let all = Pid::from_raw(-1);
    let stop_signal = if stop_signal == 0 { libc::SIGTERM } else { stop_signal };
    // SAFETY: kill takes integers only; nix knows no real-time signals.
    unsafe { libc::kill(all.as_raw(), stop_signal) };
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

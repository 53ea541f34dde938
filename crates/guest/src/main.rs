//! PID 1 of a microVM.
//!
//! It brings the machine up ([`boot`]), then serves the host's messages one after the other
//! ([`agent`]) until it is told to power off. It runs from the initial RAM disk, so an image needs
//! nothing of Warren in it; once the image's disk is mounted, that is its root too.
//!
//! Whatever fails here is said on the console, which the host keeps; a panic ends PID 1, the
//! kernel panics, and the host reports the VM as died with the console's tail.

mod agent;
mod app;
mod boot;
mod exec;
mod hook;
mod identity;
mod network;
mod outbox;
mod power;
mod process;
mod user;

use std::{convert::Infallible, fmt::Display};

/// Says something on the console.
pub(crate) fn say(text: impl Display) {
    use std::io::Write;
    // The console may be gone in a broken VM; there is nowhere left to report that.
    let _ = writeln!(std::io::stderr(), "warren-guest: {text}");
}

fn main() {
    match run() {
        Ok(never) => match never {},
        Err(error) => {
            say(error);
            power::off();
        }
    }
}

fn run() -> Result<Infallible, String> {
    let port = boot::bring_up()?;
    agent::serve(port)
}

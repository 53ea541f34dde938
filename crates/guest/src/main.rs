//! PID 1 of a microVM.
//!
//! It brings the machine up ([`boot`]), then serves the host's messages one after the other
//! ([`agent`]) until it is told to power off. It runs from the initial RAM disk, so an image needs
//! nothing of Warren in it; once the image's disk is mounted, that is its root too.
//!
//! Beside the app it lists the files of its disk ([`files`]), when it is run for that.
//!
//! Whatever fails here is said on the console, which the host keeps; a panic ends PID 1, the
//! kernel panics, and the host reports the VM as died with the console's tail.

mod agent;
mod app;
mod boot;
mod exec;
mod files;
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
    if std::process::id() != 1 {
        std::process::exit(beside());
    }
    match run() {
        Ok(never) => match never {},
        Err(error) => {
            say(error);
            power::off();
        }
    }
}

/// What this program does where it is not PID 1.
fn beside() -> i32 {
    let asked = std::env::args().nth(1);
    if asked.as_deref() != Some(files::COMMAND) {
        say(format!("it is PID 1 of a microVM; beside that it knows only `{}`", files::COMMAND));
        return 2;
    }
    match files::list() {
        Ok(()) => 0,
        Err(error) => {
            say(format!("listing the files: {error}"));
            1
        }
    }
}

fn run() -> Result<Infallible, String> {
    let port = boot::bring_up()?;
    agent::serve(port)
}

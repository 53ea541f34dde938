//! The image's application: one process tree in a cgroup of its own, so that it can be frozen where
//! it stands while the template is saved and let go on in each clone.

use crate::{
    outbox::Outbox,
    process::{self, Start, Terminal},
    say, user,
};
use std::{
    fs,
    io::Read,
    os::fd::OwnedFd,
    process::Stdio,
    thread::{self, sleep},
    time::{Duration, Instant},
};
use wire::{App, AppExit, ExitStatus};

/// Of the app and of every command beside it: what is in here stands still together.
pub(crate) const CGROUP: &str = "/sys/fs/cgroup/app";
/// Commands beside the app. A group of their own: an app that gives its processes groups with bounds leaves
/// the one above to hold none (cgroup v2's "no internal processes").
pub(crate) const BESIDE: &str = "/sys/fs/cgroup/app/beside";
/// The freezer acts at once unless a process hangs in the kernel.
const FREEZE_WAIT_MAX: Duration = Duration::from_secs(5);
/// The same, where a process that does not stop in time is only told the time too late.
const HOLD_WAIT_MAX: Duration = Duration::from_millis(500);
/// The TSC becomes the clock source some two seconds after the boot; a template from before would
/// give each clone a coarse clock.
const CLOCK_WAIT_MAX: Duration = Duration::from_secs(5);
/// Free pages are reported to the host in rounds of two seconds; reported pages are holes in the template.
const PAGE_REPORT_WAIT: Duration = Duration::from_millis(2500);
/// Output is passed on in pieces of at most this many bytes.
const PIECE_BYTES: usize = 16 * 1024;

/// Makes the group that [`freeze`] and [`hold`] act on, and the one in it for what runs beside the app.
pub(crate) fn make_group() -> Result<(), String> {
    fs::create_dir_all(BESIDE).map_err(|e| format!("{BESIDE}: {e}"))
}

/// Starts it; its output goes to the host, and so does its end.
pub(crate) fn start(app: &App, outbox: &Outbox) -> Result<(), String> {
    let user = user::resolve(&app.user)?;
    let (stdout, stdout_writer) = pipe()?;
    let (stderr, stderr_writer) = pipe()?;
    let start = Start {
        argv: &app.argv,
        env: &app.env,
        working_dir: &app.working_dir,
        user: &user,
        cgroup: Some(CGROUP),
        terminal: Terminal::None,
        capabilities: app.capabilities,
    };
    let stdio = [Stdio::null(), stdout_writer.into(), stderr_writer.into()];
    let running = process::start(&start, stdio)?;
    pump("stdout", stdout, outbox.clone(), false)?;
    pump("stderr", stderr, outbox.clone(), true)?;
    let outbox = outbox.clone();
    in_thread("app-exit", move || {
        // The sender lives until the process was reaped.
        let Ok(status) = running.exit.recv() else { return };
        let code = match status {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => 128 + signal,
            ExitStatus::NotStarted(_) => 127,
        };
        // What it said last should come before the news of its end.
        sleep(Duration::from_millis(20));
        outbox.app_exited(AppExit { code });
    })
}

fn pipe() -> Result<(fs::File, OwnedFd), String> {
    let (reader, writer) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| format!("a pipe: {e}"))?;
    Ok((reader.into(), writer))
}

pub(crate) fn in_thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), String> {
    thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map(drop)
        .map_err(|e| format!("the thread {name}: {e}"))
}

fn pump(name: &str, mut from: fs::File, outbox: Outbox, error: bool) -> Result<(), String> {
    in_thread(name, move || {
        let mut piece = [0; PIECE_BYTES];
        loop {
            match from.read(&mut piece) {
                Ok(0) => return,
                Ok(n) => outbox.log(error, piece[..n].to_vec()),
                Err(e) => return say(format_args!("the app's output: {e}")),
            }
        }
    })
}

/// Stops the app where it stands and lets the machine come to rest.
pub(crate) fn freeze() -> Result<(), String> {
    set_frozen("1")?;
    wait_until_frozen(FREEZE_WAIT_MAX)?;
    nix::unistd::sync();
    wait_for_clock();
    sleep(PAGE_REPORT_WAIT);
    nix::unistd::sync();
    Ok(())
}

/// Stops the app where it stands. What cannot be stopped at once goes on until the VM itself is stopped.
pub(crate) fn hold() {
    if let Err(e) = set_frozen("1").and_then(|()| wait_until_frozen(HOLD_WAIT_MAX)) {
        say(e);
    }
}

/// Lets it go on. Its tasks have been woken when the kernel takes the write.
pub(crate) fn thaw() -> Result<(), String> {
    set_frozen("0")
}

fn set_frozen(value: &str) -> Result<(), String> {
    let path = format!("{CGROUP}/cgroup.freeze");
    fs::write(&path, value).map_err(|e| format!("{path}: {e}"))
}

/// Each task freezes when it next looks for signals.
fn wait_until_frozen(within: Duration) -> Result<(), String> {
    let path = format!("{CGROUP}/cgroup.events");
    let start = Instant::now();
    loop {
        let events = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        if events.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        if start.elapsed() > within {
            return Err(format!("the app did not freeze within {within:?}"));
        }
        sleep(Duration::from_millis(1));
    }
}

fn wait_for_clock() {
    const CURRENT: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let start = Instant::now();
    while start.elapsed() < CLOCK_WAIT_MAX {
        let current = fs::read_to_string(CURRENT).unwrap_or_default();
        if matches!(current.trim(), "tsc" | "kvm-clock") {
            return;
        }
        sleep(Duration::from_millis(50));
    }
    say("the clock source did not become tsc");
}

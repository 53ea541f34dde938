//! QEMU's machine protocol, as much of it as a VM's life needs.
//!
//! Blocking, with time-outs: it is spoken for some milliseconds at a launch and an end, by a thread
//! that does nothing else. Files are passed with their descriptors, since QEMU sees no path of the host.

use serde_json::{Value, json};
use std::{
    fs::File,
    io::{self, IoSlice, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

/// No command of ours takes longer but the loading of a state, which has its own bound.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(20);
/// An answer is some hundred bytes; a VMM that was taken over might say anything.
const LINE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum QmpError {
    #[error("QMP: {0}")]
    Io(#[from] io::Error),
    #[error("QMP: {command} was refused: {reason}")]
    Refused { command: String, reason: String },
    #[error("QMP: {0}")]
    Protocol(String),
}

/// What becomes of the guest's disk after its devices were saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocks {
    /// The guest goes on with it.
    Keep,
    /// Everything is written out and let go of: the guest ends, or takes it back when it is let go on.
    LetGo,
}

#[derive(Debug)]
pub(crate) struct Qmp {
    stream: UnixStream,
    buffer: Vec<u8>,
    events: Vec<Value>,
}

impl Qmp {
    /// Connects and leaves the negotiation mode. QEMU listens before it is started, so there is
    /// nothing to retry.
    pub(crate) fn connect(socket: &Path) -> Result<Self, QmpError> {
        let short = super::vmm::short_path(socket).map_err(io::Error::other)?;
        let stream = UnixStream::connect(&short.path)?;
        stream.set_write_timeout(Some(ANSWER_WAIT_MAX))?;
        let mut qmp = Self { stream, buffer: Vec::new(), events: Vec::new() };
        let greeting = qmp.read(Instant::now() + ANSWER_WAIT_MAX)?;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Protocol(format!("not a greeting: {greeting}")));
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.send(command, arguments, None)
    }

    /// The same with an open file for `getfd` or `add-fd`.
    pub(crate) fn execute_with_file(
        &mut self,
        command: &str,
        arguments: Value,
        file: &File,
    ) -> Result<Value, QmpError> {
        self.send(command, arguments, Some(file.as_fd()))
    }

    fn send(
        &mut self,
        command: &str,
        arguments: Value,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<Value, QmpError> {
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        match file {
            None => self.stream.write_all(line.as_bytes())?,
            Some(file) => self.send_with(line.as_bytes(), file)?,
        }
        let deadline = Instant::now() + ANSWER_WAIT_MAX;
        loop {
            let mut answer = self.read(deadline)?;
            if let Some(error) = answer.get("error") {
                let reason = error["desc"].as_str().unwrap_or("no reason").to_owned();
                return Err(QmpError::Refused { command: command.to_owned(), reason });
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            self.events.push(answer);
        }
    }

    fn send_with(&mut self, line: &[u8], file: BorrowedFd<'_>) -> Result<(), QmpError> {
        use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
        let descriptors = [file.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&descriptors)];
        let sent = sendmsg::<()>(
            self.stream.as_raw_fd(),
            &[IoSlice::new(line)],
            &control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map_err(io::Error::from)?;
        Ok(self.stream.write_all(&line[sent..])?)
    }

    /// Gives the VMM an open file under the path that is returned.
    pub(crate) fn add_file(&mut self, file: &File) -> Result<String, QmpError> {
        let set = self.execute_with_file("add-fd", json!({}), file)?;
        let number =
            set["fdset-id"].as_u64().ok_or_else(|| QmpError::Protocol(format!("add-fd: {set}")))?;
        Ok(format!("/dev/fdset/{number}"))
    }

    /// Writes the state of all devices of a stopped guest to a new file: all but its RAM, whatever maps
    /// that (`spec/engine-qemu.md`, section 0).
    pub(crate) fn save_devices(&mut self, to: &Path, blocks: Blocks) -> Result<(), QmpError> {
        // QEMU compares the access mode with the one that it would open with.
        let file = File::options().write(true).create_new(true).open(to)?;
        let path = self.add_file(&file)?;
        let live = blocks == Blocks::LetGo;
        self.execute("xen-save-devices-state", json!({ "filename": path, "live": live }))?;
        let set = path.trim_start_matches("/dev/fdset/").parse::<u64>().unwrap_or_default();
        self.execute("remove-fd", json!({ "fdset-id": set })).map(drop)
    }

    /// Whether the guest's processors run.
    pub(crate) fn is_running(&mut self) -> Result<bool, QmpError> {
        let status = self.execute("query-status", json!({}))?;
        status["running"].as_bool().ok_or_else(|| QmpError::Protocol(format!("status: {status}")))
    }

    /// Waits until `found` takes one of the events that have come or come still.
    pub(crate) fn wait_event<T>(
        &mut self,
        within: Duration,
        mut found: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T, QmpError> {
        let deadline = Instant::now() + within;
        loop {
            while let Some(event) = (!self.events.is_empty()).then(|| self.events.remove(0)) {
                if let Some(value) = found(&event) {
                    return Ok(value);
                }
            }
            let event = self.read(deadline)?;
            self.events.push(event);
        }
    }

    /// One line of JSON.
    fn read(&mut self, deadline: Instant) -> Result<Value, QmpError> {
        let mut piece = [0; 4096];
        loop {
            if let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map_err(|e| QmpError::Protocol(e.to_string()));
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(QmpError::Protocol("a line without an end".into()));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(QmpError::Protocol("the VMM has ended".into())),
                Ok(n) => self.buffer.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}

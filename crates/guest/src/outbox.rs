//! What is on its way to the host: one queue, one thread that writes it to the port.
//!
//! The host may be away (it restarts, or the VM is being saved), and a port without a host blocks
//! its writer. So nothing else writes to the port, and the queue is bounded: answers always find
//! room, streams wait for it, and the log waits a little and then drops, counting.

use crate::say;
use std::{
    collections::VecDeque,
    fs::File,
    io::Write,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};
use wire::{AppExit, GuestMessage};

/// Queue size in bytes from which streams and logs have to wait.
const QUEUE_BYTES_MAX: usize = 512 * 1024;
/// How long the app's output waits for the host before it is dropped.
const LOG_WAIT_MAX: Duration = Duration::from_secs(5);

#[derive(Default)]
struct State {
    frames: VecDeque<Vec<u8>>,
    queued_bytes: usize,
    writing: bool,
    log_bytes_dropped: usize,
    /// Told in every session from then on.
    app_exit: Option<AppExit>,
}

#[derive(Clone)]
pub(crate) struct Outbox(Arc<(Mutex<State>, Condvar)>);

impl Outbox {
    /// Starts the writer of this port.
    pub(crate) fn start(port: File) -> Result<Self, String> {
        let outbox = Self(Arc::default());
        let writer = outbox.clone();
        thread::Builder::new()
            .name("outbox".into())
            .spawn(move || writer.write_to(port))
            .map_err(|e| format!("the outbox's thread: {e}"))?;
        Ok(outbox)
    }

    /// No code panics with the lock held, so a poisoned lock still guards a whole queue.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, state: &mut State, message: &GuestMessage) {
        match wire::encode(message) {
            Ok(frame) => {
                state.queued_bytes += frame.len();
                state.frames.push_back(frame);
                self.0.1.notify_all();
            }
            Err(e) => say(format_args!("a message was dropped: {e}")),
        }
    }

    /// An answer: never waits. There are at most as many as the host has asked for.
    pub(crate) fn answer(&self, message: &GuestMessage) {
        self.push(&mut self.lock(), message);
    }

    /// A piece of a stream: waits until there is room.
    pub(crate) fn stream(&self, message: &GuestMessage) {
        let full = |state: &mut State| state.queued_bytes > QUEUE_BYTES_MAX;
        let mut state =
            self.0.1.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        self.push(&mut state, message);
    }

    /// Output of the app: waits a little for room, then is dropped, so that an app never hangs on
    /// a host that is away.
    pub(crate) fn log(&self, error: bool, data: Vec<u8>) {
        let full = |state: &mut State| state.queued_bytes > QUEUE_BYTES_MAX;
        let (mut state, waited) = self
            .0
            .1
            .wait_timeout_while(self.lock(), LOG_WAIT_MAX, full)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            state.log_bytes_dropped += data.len();
            return;
        }
        if state.log_bytes_dropped > 0 {
            let note = format!("\n[{} bytes of output dropped]\n", state.log_bytes_dropped);
            state.log_bytes_dropped = 0;
            self.push(&mut state, &GuestMessage::Log { error: true, data: note.into_bytes() });
        }
        self.push(&mut state, &GuestMessage::Log { error, data });
    }

    /// The app has ended.
    pub(crate) fn app_exited(&self, exit: AppExit) {
        let mut state = self.lock();
        state.app_exit = Some(exit);
        self.push(&mut state, &GuestMessage::AppExited { exit });
    }

    /// Waits until everything has been taken by the host.
    pub(crate) fn drain(&self) {
        let busy = |state: &mut State| state.writing || !state.frames.is_empty();
        drop(self.0.1.wait_while(self.lock(), busy));
    }

    /// A new session of the channel: what waited was meant for the one before, except the log.
    pub(crate) fn begin_session(&self, hello: &GuestMessage) {
        let mut state = self.lock();
        let mut reader = wire::FrameReader::<GuestMessage>::default();
        reader.push(&wire::SYNC);
        state.frames.retain(|frame| {
            reader.push(frame);
            matches!(reader.next_message(), Ok(Some(GuestMessage::Log { .. })))
        });
        // First of all: the host believes nothing before them.
        match wire::encode(hello) {
            Ok(frame) => state.frames.push_front([&wire::SYNC[..], &frame].concat()),
            Err(e) => say(format_args!("hello: {e}")),
        }
        state.queued_bytes = state.frames.iter().map(Vec::len).sum();
        if let Some(exit) = state.app_exit {
            self.push(&mut state, &GuestMessage::AppExited { exit });
        }
        self.0.1.notify_all();
    }

    fn write_to(&self, mut port: File) {
        let mut state = self.lock();
        loop {
            let Some(frame) = state.frames.pop_front() else {
                state = self.0.1.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.writing = true;
            drop(state);
            if let Err(e) = port.write_all(&frame) {
                say(format_args!("the agent port: {e}"));
            }
            state = self.lock();
            state.writing = false;
            // A new session may have counted the queue anew meanwhile.
            state.queued_bytes = state.queued_bytes.saturating_sub(frame.len());
            self.0.1.notify_all();
        }
    }
}

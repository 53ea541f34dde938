//! Commands that the host runs beside the app.
//!
//! Each has its own threads and a window of output that may be under way, so that a slow reader
//! slows its own command and nothing else.

use crate::{
    app::{self, in_thread},
    outbox::Outbox,
    process::{self, Running, Start, Terminal},
    user,
};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{Winsize, openpty},
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use std::{
    collections::HashMap,
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, AsRawFd},
    process::Stdio,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
};
use wire::{
    App, Attach, Capabilities, EXEC_WINDOW_BYTES, ExecRequest, ExitStatus, GuestMessage, StreamId,
    TerminalSize,
};

/// Output is passed on in pieces of at most this many bytes.
const PIECE_BYTES: usize = 16 * 1024;
/// What a terminal takes for the end of input.
const END_OF_TRANSMISSION: u8 = 4;
/// How long output may stay silent after a command's end before it counts as complete, although a
/// process that it left behind holds the pipe open. In milliseconds.
const SILENCE_AFTER_EXIT_MS: u16 = 250;

/// All commands of this session of the channel.
pub(crate) struct Execs {
    outbox: Outbox,
    streams: Arc<Mutex<HashMap<StreamId, Stream>>>,
}

struct Stream {
    pid: i32,
    /// Not bounded here: the host keeps to the window.
    input: mpsc::Sender<Vec<u8>>,
    terminal: Option<File>,
    window: Arc<Window>,
}

/// How many bytes of output may still be sent.
struct Window(Mutex<u32>, Condvar);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Window {
    fn take(&self, bytes: u32) {
        let mut left = self
            .1
            .wait_while(lock(&self.0), |left| *left < bytes)
            .unwrap_or_else(PoisonError::into_inner);
        *left -= bytes;
    }

    fn grant(&self, bytes: u32) {
        let mut left = lock(&self.0);
        *left = left.saturating_add(bytes);
        self.1.notify_all();
    }
}

/// The ends of a command's standard streams that stay with us.
struct Ends {
    input: Option<File>,
    outputs: Vec<(File, bool)>,
    terminal: Option<File>,
}

impl Execs {
    pub(crate) fn new(outbox: Outbox) -> Self {
        Self { outbox, streams: Arc::default() }
    }

    pub(crate) fn start(&self, stream: StreamId, request: &ExecRequest, app: &App) {
        if let Err(error) = self.try_start(stream, request, app) {
            self.outbox
                .answer(&GuestMessage::Exited { stream, status: ExitStatus::NotStarted(error) });
        }
    }

    fn try_start(&self, stream: StreamId, request: &ExecRequest, app: &App) -> Result<(), String> {
        let user = user::resolve(if request.user.is_empty() { &app.user } else { &request.user })?;
        let shell = [user.shell.clone()];
        let mut env = app.env.clone();
        if request.terminal.is_some() {
            env.push(("TERM".into(), "xterm-256color".into()));
        }
        env.extend(request.env.iter().cloned());
        let (ends, stdio) = open(request)?;
        let start = Start {
            argv: if request.argv.is_empty() { &shell } else { &request.argv },
            env: &env,
            working_dir: first_of(&request.working_dir, &app.working_dir),
            user: &user,
            cgroup: Some(app::BESIDE),
            terminal: if request.terminal.is_some() { Terminal::Stdin } else { Terminal::None },
            // Beside the app, for whoever owns the VM.
            capabilities: Capabilities::All,
        };
        let running = process::start(&start, stdio)?;
        self.attend(stream, running, ends)
    }

    /// Starts the threads that pass input and output on and tell of the end.
    fn attend(&self, stream: StreamId, running: Running, ends: Ends) -> Result<(), String> {
        let window = Arc::new(Window(Mutex::new(EXEC_WINDOW_BYTES), Condvar::new()));
        let exited = Arc::new(AtomicBool::new(false));
        let (input, pieces) = mpsc::channel::<Vec<u8>>();
        if let Some(mut to) = ends.input {
            let outbox = self.outbox.clone();
            let terminal = ends.terminal.is_some();
            in_thread("exec-in", move || {
                while let Ok(piece) = pieces.recv() {
                    // An empty piece is the end of input: Ctrl-D where it is a terminal.
                    if piece.is_empty() && !terminal {
                        return;
                    }
                    let data = if piece.is_empty() { &[END_OF_TRANSMISSION] } else { &piece[..] };
                    // A command that has closed its input gets no more of it; the host may go on.
                    let _ = to.write_all(data);
                    let bytes = piece.len() as u32;
                    outbox.answer(&GuestMessage::InputTaken { stream, bytes });
                }
            })?;
        }
        let (finished, readers) = mpsc::channel::<()>();
        for (from, error) in ends.outputs {
            let output =
                Output { stream, error, outbox: self.outbox.clone(), window: window.clone() };
            let (exited, finished) = (exited.clone(), finished.clone());
            in_thread("exec-out", move || {
                output.pass_on(from, &exited);
                drop(finished);
            })?;
        }
        drop(finished);
        let entry = Stream { pid: running.pid, input, terminal: ends.terminal, window };
        lock(&self.streams).insert(stream, entry);
        let (outbox, streams) = (self.outbox.clone(), self.streams.clone());
        in_thread("exec-exit", move || {
            let status = running.exit.recv().unwrap_or(ExitStatus::NotStarted("lost".into()));
            exited.store(true, Ordering::Release);
            // Ends when every reader has dropped its sender.
            let _ = readers.recv();
            lock(&streams).remove(&stream);
            outbox.answer(&GuestMessage::Exited { stream, status });
        })
    }

    pub(crate) fn input(&self, stream: StreamId, data: Vec<u8>) {
        let sender = lock(&self.streams).get(&stream).map(|s| s.input.clone());
        if let Some(sender) = sender {
            // The command has ended: its input has no reader any more.
            let _ = sender.send(data);
        }
    }

    pub(crate) fn resize(&self, stream: StreamId, size: TerminalSize) {
        if let Some(Stream { terminal: Some(terminal), .. }) = lock(&self.streams).get(&stream) {
            let size = window_size(size);
            // SAFETY: TIOCSWINSZ reads one winsize, which lives through the call. Where it fails, the
            // terminal is being closed.
            unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        }
    }

    pub(crate) fn signal(&self, stream: StreamId, signal: i32) {
        if let (Some(stream), Ok(signal)) =
            (lock(&self.streams).get(&stream), Signal::try_from(signal))
        {
            // It may have ended in this moment.
            let _ = killpg(Pid::from_raw(stream.pid), signal);
        }
    }

    pub(crate) fn credit(&self, stream: StreamId, bytes: u32) {
        if let Some(stream) = lock(&self.streams).get(&stream) {
            stream.window.grant(bytes);
        }
    }

    /// The host that ran these is gone: they are hung up on, as a lost terminal does it.
    pub(crate) fn hang_up(&self) {
        for (_, stream) in lock(&self.streams).drain() {
            let _ = killpg(Pid::from_raw(stream.pid), Signal::SIGHUP);
            stream.window.grant(u32::MAX);
        }
    }
}

struct Output {
    stream: StreamId,
    error: bool,
    outbox: Outbox,
    window: Arc<Window>,
}

impl Output {
    fn pass_on(&self, mut from: File, exited: &AtomicBool) {
        let mut piece = [0; PIECE_BYTES];
        loop {
            let over = exited.load(Ordering::Acquire);
            let mut wait = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
            match poll(&mut wait, PollTimeout::from(SILENCE_AFTER_EXIT_MS)) {
                Ok(0) if over => return,
                Ok(0) => continue,
                _ => {}
            }
            match from.read(&mut piece) {
                // A terminal whose last user has gone answers with EIO.
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    self.window.take(n as u32);
                    let data = piece[..n].to_vec();
                    let (stream, error) = (self.stream, self.error);
                    self.outbox.stream(&GuestMessage::Output { stream, error, data });
                }
            }
        }
    }
}

fn first_of<'a>(a: &'a str, b: &'a str) -> &'a str {
    match (a, b) {
        ("", "") => "/",
        ("", b) => b,
        (a, _) => a,
    }
}

fn window_size(size: TerminalSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Opens the standard streams that the request wants.
fn open(request: &ExecRequest) -> Result<(Ends, [Stdio; 3]), String> {
    if let Some(size) = request.terminal {
        let pty = openpty(&window_size(size), None).map_err(|e| format!("a terminal: {e}"))?;
        let (master, slave) = (File::from(pty.master), File::from(pty.slave));
        let copy = || master.try_clone().map_err(|e| format!("a terminal: {e}"));
        let ends =
            Ends { input: Some(copy()?), outputs: vec![(copy()?, false)], terminal: Some(master) };
        return Ok((ends, process::three(&slave)?));
    }
    let pipe =
        || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| format!("a pipe: {e}"));
    let ((stdout, stdout_writer), (stderr, stderr_writer)) = (pipe()?, pipe()?);
    let (stdin, input) = match request.attach {
        Attach::NoInput => (Stdio::null(), None),
        Attach::Input => {
            let (reader, writer) = pipe()?;
            (reader.into(), Some(writer.into()))
        }
    };
    let outputs = vec![(stdout.into(), false), (stderr.into(), true)];
    let ends = Ends { input, outputs, terminal: None };
    Ok((ends, [stdin, stdout_writer.into(), stderr_writer.into()]))
}

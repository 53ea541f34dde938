//! The host's end of the agent channel.
//!
//! One task reads, one writes. A call is answered by number; an exec is a pair of bounded streams
//! whose windows keep one slow reader or one command that does not read from holding up the rest.

use crate::{
    EngineError, ExecInput, ExecOutput, ExecSession, qemu::vmm::short_path, state::host_error,
};
use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, mpsc, oneshot},
};
use tokio_util::task::TaskTracker;
use wire::{
    EXEC_WINDOW_BYTES, ExecRequest, ExitStatus, FrameReader, GuestMessage, HostMessage, StreamId,
};

/// Frames on their way to the guest.
const FRAMES_QUEUED_MAX: usize = 64;
/// Pieces of an exec's output that its reader has not taken yet; more wait in the window.
const OUTPUT_PIECES_MAX: usize = 16;
/// Input goes to the guest in pieces of at most this many bytes.
const INPUT_PIECE_BYTES: usize = 32 * 1024;

/// What comes without having been asked for: [`GuestMessage::Log`] and [`GuestMessage::AppExited`].
pub(crate) type Listener = Box<dyn Fn(GuestMessage) + Send + Sync>;

pub(crate) struct Channel {
    shared: Arc<Shared>,
    frames: mpsc::Sender<Vec<u8>>,
    next: AtomicU32,
    session: u64,
    tasks: TaskTracker,
}

struct Shared {
    calls: Mutex<HashMap<StreamId, oneshot::Sender<GuestMessage>>>,
    execs: Mutex<HashMap<StreamId, Exec>>,
    hello: Mutex<Option<oneshot::Sender<GuestVersion>>>,
    session: u64,
    listener: Mutex<Listener>,
}

/// The version of the channel that a guest speaks; none where even that is not understood.
type GuestVersion = Option<u32>;

struct Exec {
    output: mpsc::UnboundedSender<ExecOutput>,
    /// Bytes of output that the reader has not taken; the guest keeps to the window, or is not heard.
    untaken: Arc<AtomicU32>,
    input_window: Arc<Semaphore>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Channel {
    /// Connects to the VMM's socket. The guest need not run yet: what is sent waits for it.
    pub(crate) async fn connect(
        socket: &Path,
        listener: Listener,
    ) -> Result<(Self, Hello), EngineError> {
        let short = short_path(socket)?;
        let stream =
            UnixStream::connect(&short.path).await.map_err(|e| host_error(socket, "connect", e))?;
        let (reader, writer) = stream.into_split();
        let session = rand::random();
        let (greeted, hello) = oneshot::channel();
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            execs: Mutex::default(),
            hello: Mutex::new(Some(greeted)),
            session,
            listener: Mutex::new(listener),
        });
        let (frames, queue) = mpsc::channel(FRAMES_QUEUED_MAX);
        let tasks = TaskTracker::new();
        tasks.spawn(write_frames(queue, writer));
        tasks.spawn(read_frames(reader, shared.clone()));
        tasks.close();
        let channel = Self {
            shared,
            frames, // Not from 1: a command of an earlier session may still talk under its old number.
            next: AtomicU32::new(rand::random::<u32>() | 1),
            session,
            tasks,
        };
        Ok((channel, Hello(hello)))
    }

    /// Opens the session; the answer is awaited with the [`Hello`] of [`Channel::connect`].
    pub(crate) async fn greet(&self) -> Result<(), EngineError> {
        let version = wire::VERSION;
        let hello = encode(&HostMessage::Hello { session: self.session, version })?;
        self.queue([&wire::SYNC[..], &hello].concat()).await
    }

    async fn queue(&self, frame: Vec<u8>) -> Result<(), EngineError> {
        self.frames.send(frame).await.map_err(|_| gone())
    }

    pub(crate) async fn send(&self, message: &HostMessage) -> Result<(), EngineError> {
        self.queue(encode(message)?).await
    }

    /// Sends what `make` builds with a new number, and waits for the answer with that number.
    pub(crate) async fn call(
        &self,
        what: &str,
        within: Duration,
        make: impl FnOnce(StreamId) -> HostMessage,
    ) -> Result<GuestMessage, EngineError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.shared.calls).insert(number, sender);
        let exchange = async {
            self.send(&make(number)).await?;
            answer.await.map_err(|_| gone())
        };
        let answered = tokio::time::timeout(within, exchange).await;
        lock(&self.shared.calls).remove(&number);
        match answered {
            Ok(Ok(GuestMessage::Failed { error, .. })) => {
                Err(guest_failed(format!("{what}: {error}")))
            }
            Ok(answered) => answered,
            Err(_) => Err(EngineError::TimedOut {
                subject: "the guest".into(),
                what: format!("an answer to {what}"),
                after_ms: within.as_millis() as u64,
            }),
        }
    }

    /// Runs a command in the guest.
    pub(crate) async fn exec(&self, request: ExecRequest) -> Result<ExecSession, EngineError> {
        let stream = self.next.fetch_add(1, Ordering::Relaxed);
        let (output, pieces) = mpsc::unbounded_channel();
        let (to_reader, reader) = mpsc::channel(OUTPUT_PIECES_MAX);
        let (input, inputs) = mpsc::channel(OUTPUT_PIECES_MAX);
        let input_window = Arc::new(Semaphore::new(EXEC_WINDOW_BYTES as usize));
        let untaken = Arc::new(AtomicU32::new(0));
        lock(&self.shared.execs).insert(
            stream,
            Exec { output, untaken: untaken.clone(), input_window: input_window.clone() },
        );
        if let Err(e) = self.send(&HostMessage::Exec { stream, request }).await {
            lock(&self.shared.execs).remove(&stream);
            return Err(e);
        }
        let frames = self.frames.clone();
        let shared = self.shared.clone();
        self.tasks.spawn(async move {
            pass_output(stream, pieces, to_reader, &frames, &untaken).await;
            lock(&shared.execs).remove(&stream);
        });
        self.tasks.spawn(pass_input(stream, inputs, input_window, self.frames.clone()));
        Ok(ExecSession { input, output: reader })
    }

    /// From now on tells another: the VM has become one of another name.
    pub(crate) fn set_listener(&self, listener: Listener) {
        *lock(&self.shared.listener) = listener;
    }
}

/// The guest's answer to the greeting.
pub(crate) struct Hello(oneshot::Receiver<GuestVersion>);

impl Hello {
    pub(crate) async fn wait(self, within: Duration) -> Result<(), EngineError> {
        match tokio::time::timeout(within, self.0).await {
            Ok(Ok(Some(wire::VERSION))) => Ok(()),
            Ok(Ok(guest)) => Err(EngineError::GuestVersion {
                subject: "the guest".into(),
                guest: guest.map_or("another version".into(), |v| format!("version {v}")),
                host: wire::VERSION,
            }),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(EngineError::TimedOut {
                subject: "the guest".into(),
                what: "its first answer".into(),
                after_ms: within.as_millis() as u64,
            }),
        }
    }
}

fn encode(message: &HostMessage) -> Result<Vec<u8>, EngineError> {
    wire::encode(message).map_err(|e| guest_failed(e.to_string()))
}

fn guest_failed(reason: String) -> EngineError {
    EngineError::Guest { subject: "the guest".into(), reason, console: String::new() }
}

fn gone() -> EngineError {
    guest_failed("the channel to it is closed; its VMM has ended".into())
}

async fn write_frames(mut queue: mpsc::Receiver<Vec<u8>>, mut writer: OwnedWriteHalf) {
    while let Some(frame) = queue.recv().await {
        // The reader sees the end of the connection too, and ends all that waits.
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}

async fn read_frames(mut from: OwnedReadHalf, shared: Arc<Shared>) {
    let mut reader = FrameReader::<GuestMessage>::default();
    let mut greeted = false;
    let mut piece = vec![0; 64 * 1024];
    loop {
        match from.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(n) => reader.push(&piece[..n]),
        }
        loop {
            match reader.next_message() {
                Ok(Some(GuestMessage::Hello { session, version, .. }))
                    if session == shared.session =>
                {
                    greeted = true;
                    shared.greeted(Some(version));
                }
                Ok(Some(message)) if greeted => shared.handle(message),
                // Of an earlier session.
                Ok(Some(_)) => {}
                Ok(None) => break,
                // The first thing that it said: it is another build's guest.
                Err(_) if !greeted => return shared.greeted(None),
                Err(e) => {
                    tracing::warn!("the guest's channel cannot be followed any more: {e}");
                    return shared.close();
                }
            }
        }
    }
    shared.close();
}

impl Shared {
    fn greeted(&self, version: GuestVersion) {
        if let Some(hello) = lock(&self.hello).take() {
            // Whoever opened the channel may have given up.
            let _ = hello.send(version);
        }
    }

    fn handle(&self, message: GuestMessage) {
        match message {
            GuestMessage::Done { call }
            | GuestMessage::Failed { call, .. }
            | GuestMessage::HookAnswered { call, .. }
            | GuestMessage::Pong { call } => {
                if let Some(waiting) = lock(&self.calls).remove(&call) {
                    let _ = waiting.send(message);
                }
            }
            GuestMessage::Output { stream, error, data } => {
                let piece = if error { ExecOutput::Stderr(data) } else { ExecOutput::Stdout(data) };
                self.output(stream, piece);
            }
            GuestMessage::Exited { stream, status } => {
                self.output(stream, ExecOutput::Exited(status))
            }
            GuestMessage::InputTaken { stream, bytes } => {
                if let Some(exec) = lock(&self.execs).get(&stream) {
                    // No more than a window's worth, whatever a hostile guest claims.
                    let room = EXEC_WINDOW_BYTES as usize - exec.input_window.available_permits();
                    exec.input_window.add_permits(room.min(bytes as usize));
                }
            }
            GuestMessage::Log { .. } | GuestMessage::AppExited { .. } => {
                (lock(&self.listener))(message)
            }
            // A second one of the same session says nothing new.
            GuestMessage::Hello { .. } => {}
        }
    }

    fn output(&self, stream: StreamId, piece: ExecOutput) {
        let mut execs = lock(&self.execs);
        let Some(exec) = execs.get(&stream) else { return };
        if let ExecOutput::Stdout(data) | ExecOutput::Stderr(data) = &piece {
            let bytes = data.len() as u32;
            if exec.untaken.fetch_add(bytes, Ordering::Relaxed) + bytes > EXEC_WINDOW_BYTES {
                tracing::warn!(
                    "a guest sends more of a command's output than it may: it is cut off"
                );
                execs.remove(&stream);
                return;
            }
        }
        // Its reader may have gone away.
        let _ = exec.output.send(piece);
    }

    /// The VMM has ended: nobody gets an answer any more.
    fn close(&self) {
        lock(&self.calls).clear();
        lock(&self.hello).take();
        for (_, exec) in lock(&self.execs).drain() {
            let lost = ExitStatus::NotStarted("the VM has ended".into());
            let _ = exec.output.send(ExecOutput::Exited(lost));
            exec.input_window.close();
        }
    }
}

async fn pass_output(
    stream: StreamId,
    mut pieces: mpsc::UnboundedReceiver<ExecOutput>,
    reader: mpsc::Sender<ExecOutput>,
    frames: &mpsc::Sender<Vec<u8>>,
    untaken: &AtomicU32,
) {
    while let Some(piece) = pieces.recv().await {
        let bytes = match &piece {
            ExecOutput::Stdout(data) | ExecOutput::Stderr(data) => data.len() as u32,
            ExecOutput::Exited(_) => {
                let _ = reader.send(piece).await;
                return;
            }
        };
        if reader.send(piece).await.is_err() {
            // Nobody reads any more: the command is hung up on, and what it still says is let go.
            let hang_up = HostMessage::Signal { stream, signal: libc::SIGHUP };
            if let Ok(frame) = encode(&hang_up) {
                let _ = frames.send(frame).await;
            }
        }
        untaken.fetch_sub(bytes, Ordering::Relaxed);
        if let Ok(frame) = encode(&HostMessage::Credit { stream, bytes }) {
            let _ = frames.send(frame).await;
        }
    }
}

async fn pass_input(
    stream: StreamId,
    mut inputs: mpsc::Receiver<ExecInput>,
    window: Arc<Semaphore>,
    frames: mpsc::Sender<Vec<u8>>,
) {
    while let Some(input) = inputs.recv().await {
        let messages = match input {
            ExecInput::Data(data) => {
                for piece in data.chunks(INPUT_PIECE_BYTES) {
                    // Closed: the VM has ended.
                    let Ok(permit) = window.acquire_many(piece.len() as u32).await else { return };
                    permit.forget();
                    let message = HostMessage::Input { stream, data: piece.to_vec() };
                    let Ok(frame) = encode(&message) else { return };
                    if frames.send(frame).await.is_err() {
                        return;
                    }
                }
                continue;
            }
            ExecInput::Close => HostMessage::Input { stream, data: Vec::new() },
            ExecInput::Resize(size) => HostMessage::Resize { stream, size },
            ExecInput::Signal(signal) => HostMessage::Signal { stream, signal },
        };
        let Ok(frame) = encode(&messages) else { return };
        if frames.send(frame).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// What is made of a guest whose answer to the greeting `answer` makes.
    async fn greeted(answer: impl FnOnce(u64) -> Vec<u8>) -> Result<(), EngineError> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (channel, hello) = Channel::connect(&socket, Box::new(|_| ())).await.unwrap();
        channel.greet().await.unwrap();
        let (mut guest, _) = listener.accept().await.unwrap();
        let mut reader = FrameReader::<HostMessage>::default();
        let mut piece = [0; 256];
        let session = loop {
            let n = guest.read(&mut piece).await.unwrap();
            reader.push(&piece[..n]);
            if let Some(HostMessage::Hello { session, version }) = reader.next_message().unwrap() {
                assert_eq!(version, wire::VERSION);
                break session;
            }
        };
        guest.write_all(&[&wire::SYNC[..], &answer(session)].concat()).await.unwrap();
        hello.wait(Duration::from_secs(60)).await
    }

    fn hello(session: u64, version: u32) -> Vec<u8> {
        wire::encode(&GuestMessage::Hello { session, boot_ms: 1, version }).unwrap()
    }

    #[tokio::test]
    async fn a_guest_of_another_build_is_named_at_once() {
        greeted(|session| hello(session, wire::VERSION)).await.unwrap();
        let told = greeted(|session| hello(session, 99)).await.unwrap_err().to_string();
        assert!(told.contains("version 99") && told.contains("make build"), "{told}");
        // From before there were versions: the same message without one.
        let older = greeted(|session| {
            let mut frame = hello(session, 1);
            frame.pop();
            let length = frame.len() as u32 - 5;
            frame[..4].copy_from_slice(&length.to_le_bytes());
            frame
        });
        let told = older.await.unwrap_err().to_string();
        assert!(told.contains("another version"), "{told}");
    }
}

//! One bash process that runs command after command.
//!
//! Commands go in by its stdin, wrapped in a brace group; a sentinel that the shell prints
//! after each tells where the output ends and with which status. A task reads the pipes all
//! the time, so that background jobs never block on them. The shell leads a process group of
//! its own, which is killed as a whole.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::room::Room;
use super::search_path::is_withheld;
use super::transcript::{Decoder, Ending, Transcript};

const BASH: &str = "/bin/bash";
const READ_LEN: usize = 32 * 1024;

/// Why a command has no ending.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShellError {
    #[error("bash session terminated")]
    Terminated,
    #[error("bash command timed out after {shown}ms")]
    TimedOut { shown: String },
    #[error("This operation was aborted")]
    Aborted,
    #[error(
        "the command wanted more than {max} processes at once; all of them were ended, and the next \
         command gets a fresh shell"
    )]
    TooManyProcesses { max: u64 },
}

/// When a command is given up.
#[derive(Debug)]
pub(super) struct Deadline {
    pub(super) after: Duration,
    /// What the command is told then.
    pub(super) error: ShellError,
}

/// A running shell. Dropping it kills its process group.
#[derive(Debug)]
pub(super) struct Shell {
    group: Option<Pid>,
    stdin: ChildStdin,
    shared: Arc<Shared>,
    reader: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    transcript: Transcript,
    /// The shell has exited and nobody holds its pipes any more.
    closed: bool,
}

impl Shared {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shell {
    /// Starts a shell in `workdir`, without the credentials of this process in its environment.
    pub(super) fn start(workdir: &Path, room: Option<&Room>) -> io::Result<Self> {
        let prepare = |command: &mut Command| {
            command.current_dir(workdir).process_group(0);
            command.env_clear().envs(std::env::vars_os().filter(|(name, _)| !is_withheld(name)));
            command.env("PS1", "").env("PS2", "").env("TERM", "dumb");
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        };
        let arguments = ["--noprofile", "--norc"];
        let beside_the_worker = || {
            let mut command = Command::new(BASH);
            command.args(arguments);
            prepare(&mut command);
            command.spawn()
        };
        let mut child = match room {
            None => beside_the_worker()?,
            Some(room) => match room.start(prepare, BASH, &arguments) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    tracing::warn!("without root, the shell runs beside the worker");
                    beside_the_worker()?
                }
                started => started?,
            },
        };
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let shared = Arc::new(Shared::default());
        let reader = tokio::spawn(read_all(child, shared.clone()));
        Ok(Self { group, stdin, shared, reader })
    }

    /// Runs a command to its ending. After an error the shell is of no use any more.
    pub(super) async fn run(
        &mut self,
        command: &str,
        deadline: Deadline,
        cancel: &CancellationToken,
    ) -> Result<Ending, ShellError> {
        if self.shared.with(|state| state.closed) {
            return Err(ShellError::Terminated);
        }
        // As long as the reference's, so that a cut output is cut at the same place.
        let sentinel = format!("__WARREN__{}_DONE__", Uuid::new_v4());
        // Split by quotes: what the shell reads does not hold the sentinel, only what it prints.
        let (head, tail) = sentinel.split_at(8);
        // The braces around printf take its trace away where a command said `set -x`.
        let script = format!(
            "{{ {command}\n}} </dev/null 2>&1; {{ printf '\\n{head}''{tail}%d\\n' $?; }} 2>/dev/null\n"
        );
        self.shared.with(|state| state.transcript.begin(sentinel));
        let shared = self.shared.clone();
        let feed = async {
            // A shell that is gone says so by its closed pipes.
            let _ = self.stdin.write_all(script.as_bytes()).await;
            std::future::pending::<()>().await
        };
        tokio::select! {
            biased;
            result = wait_for_ending(&shared) => result,
            () = cancel.cancelled() => Err(ShellError::Aborted),
            () = tokio::time::sleep(deadline.after) => Err(deadline.error),
            () = feed => Err(ShellError::Terminated),
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It may be gone already; then there is nobody to kill.
            let _ = killpg(group, Signal::SIGKILL);
        }
        // Ends the reading even where a process that left the group holds a pipe.
        self.reader.abort();
    }
}

async fn wait_for_ending(shared: &Shared) -> Result<Ending, ShellError> {
    loop {
        let (ending, closed) = shared.with(|state| (state.transcript.take_ending(), state.closed));
        match ending {
            Some(ending) => return Ok(ending),
            None if closed => return Err(ShellError::Terminated),
            None => shared.changed.notified().await,
        }
    }
}

/// Reads both pipes until everybody has closed them, then waits for the shell itself.
async fn read_all(mut child: Child, shared: Arc<Shared>) {
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    tokio::join!(read_one(stdout, &shared), read_one(stderr, &shared));
    // Only the pipes' end and the exit matter, not the status.
    let _ = child.wait().await;
    shared.with(|state| state.closed = true);
    shared.changed.notify_one();
}

async fn read_one(pipe: Option<impl AsyncRead + Unpin>, shared: &Shared) {
    let Some(mut pipe) = pipe else { return };
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ_LEN];
    while let Ok(len) = pipe.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..len).filter(|bytes| !bytes.is_empty()) else { return };
        let text = decoder.decode(bytes);
        shared.with(|state| state.transcript.push(&text));
        shared.changed.notify_one();
    }
}

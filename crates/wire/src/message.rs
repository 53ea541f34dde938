//! The two closed sets of messages, one for each direction.

use serde::{Deserialize, Serialize};

/// Number of a stream (an exec, an attached shell) or of a call within one session of the channel.
/// Chosen by the host, never reused within a session.
pub type StreamId = u32;

/// What the host asks of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostMessage {
    /// Opens a session of the channel. The guest answers [`GuestMessage::Hello`] with the same number
    /// and from then on sends only frames of this session.
    Hello { session: u64 },
    /// Starts the image's application; once in a VM's life, while the template is made.
    StartApp { call: StreamId, app: App },
    /// Stops every process of the application where it stands (cgroup freezer), writes dirty pages out
    /// and lets the guest's own memory settle. Sent right before a template is saved.
    Freeze { call: StreamId },
    /// Gives a restored VM its own identity, clock and entropy, then lets the application go on.
    Adopt { call: StreamId, identity: Identity },
    /// Calls a lifecycle hook of the application over loopback HTTP.
    Hook { call: StreamId, request: HookRequest },
    /// Runs a command beside the application.
    Exec { stream: StreamId, request: ExecRequest },
    /// Bytes for the standard input of an exec. Empty: end of input. At most [`EXEC_WINDOW_BYTES`] more
    /// than the guest has said to be taken ([`GuestMessage::InputTaken`]).
    Input {
        stream: StreamId,
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    },
    /// New window size of an exec that has a terminal.
    Resize { stream: StreamId, size: TerminalSize },
    /// Delivers a signal (Linux number) to the process group of an exec.
    Signal { stream: StreamId, signal: i32 },
    /// The reader of this exec has taken `bytes` more; the guest may send as many again (flow control:
    /// at most [`EXEC_WINDOW_BYTES`] are under way).
    Credit { stream: StreamId, bytes: u32 },
    /// Ends the VM in order: SIGTERM to the application, `grace_ms` later SIGKILL, sync, power off.
    PowerOff { grace_ms: u32 },
    /// Asks for [`GuestMessage::Pong`].
    Ping { call: StreamId },
}

/// Bytes of an exec's output, and as many of its input, that may be under way before the other side
/// has taken some.
pub const EXEC_WINDOW_BYTES: u32 = 256 * 1024;

/// What the guest tells the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum GuestMessage {
    Hello {
        session: u64,
        boot_ms: u64,
    },
    /// The call was carried out.
    Done {
        call: StreamId,
    },
    /// The call could not be carried out; the text names what failed and on what.
    Failed {
        call: StreamId,
        error: String,
    },
    HookAnswered {
        call: StreamId,
        outcome: HookOutcome,
    },
    Pong {
        call: StreamId,
    },
    /// A piece of an exec's output; `error` says that it came from standard error.
    Output {
        stream: StreamId,
        error: bool,
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    },
    /// The command has taken so many bytes of its input.
    InputTaken {
        stream: StreamId,
        bytes: u32,
    },
    Exited {
        stream: StreamId,
        status: ExitStatus,
    },
    /// Output of the application, as it came: not split into lines.
    Log {
        error: bool,
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    },
    /// The application's first process has ended.
    AppExited {
        exit: AppExit,
    },
}

/// The application of an image: what its Dockerfile's ENTRYPOINT, CMD, ENV, WORKDIR and USER say,
/// joined with what the platform adds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct App {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Absolute path; made when it is not there.
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`, resolved in the image's own /etc/passwd. Empty: root.
    pub user: String,
}

/// Who a VM is after it was restored: nothing of it may be shared with another clone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub hostname: String,
    /// 32 hexadecimal digits, written to /etc/machine-id.
    pub machine_id: String,
    /// Wall clock, nanoseconds since the epoch.
    pub unix_time_ns: u64,
    /// Mixed into the kernel's generator and credited; 64 bytes.
    #[serde(with = "serde_bytes")]
    pub entropy: Vec<u8>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRequest {
    /// Port on the guest's loopback.
    pub port: u16,
    /// Absolute path, for example `/aws/lambda-microvms/runtime/v1/run`.
    pub path: String,
    /// Sent as `application/json`; none: a POST without a body.
    pub body: Option<String>,
    /// Bound on the whole call, connecting (which is retried) included.
    pub timeout_ms: u32,
}

/// How a hook ended, as AWS's state reasons tell them apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookOutcome {
    Answered {
        status: u16,
    },
    /// Nothing listened until the time was over.
    Refused,
    TimedOut,
    /// It was connected and then broke off, or answered something that is not HTTP.
    Broken {
        error: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Empty: the user's shell.
    pub argv: Vec<String>,
    /// Added to the application's environment.
    pub env: Vec<(String, String)>,
    /// Empty: the application's working directory.
    pub working_dir: String,
    /// Empty: the application's user.
    pub user: String,
    /// A pseudo-terminal of this size; none: pipes.
    pub terminal: Option<TerminalSize>,
    pub attach: Attach,
}

/// Whether the caller has a standard input to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Attach {
    #[default]
    Input,
    NoInput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    pub columns: u16,
    pub rows: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    Code(i32),
    Signal(i32),
    /// It could not be started; the text says why.
    NotStarted(String),
}

/// How the application ended: an exit code, or 128 + the signal's number as shells have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppExit {
    pub code: i32,
}

//! The two closed sets of messages, one for each direction.

use serde::{Deserialize, Serialize};

/// Number of a stream (an exec, an attached shell) or of a call within one session of the channel.
/// Chosen by the host, never reused within a session.
pub type StreamId = u32;

/// Version of everything below: both ends say theirs first ([`HostMessage::Hello`]), since a guest may be
/// of another build than its host, out of a directory that was not built anew or in a VM that slept over
/// an upgrade.
pub const VERSION: u32 = 2;

/// What the host asks of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostMessage {
    /// Opens a session of the channel. The guest answers [`GuestMessage::Hello`] with the same number
    /// and from then on sends only frames of this session. The version is [`VERSION`]; this message and
    /// its answer stay as they are in every version.
    Hello { session: u64, version: u32 },
    /// Starts the image's application; once in a VM's life, while the template is made.
    StartApp { call: StreamId, app: App },
    /// Stops every process of the application where it stands (cgroup freezer), writes dirty pages out
    /// and lets the guest's own memory settle. Sent right before a template is saved.
    Freeze { call: StreamId },
    /// Stops the application and every command beside it where they stand, until [`HostMessage::Wake`],
    /// and empties the channel. Sent right before the VM is suspended or copied.
    Hold { call: StreamId },
    /// What every VM gets before its application goes on after a stop: clock, entropy, and where it is
    /// one of its own now, its identity.
    Wake { call: StreamId, wake: Wake },
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
    /// Ends the VM in order: its stop signal to the application, `grace_ms` later SIGKILL, sync, power off.
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
        version: u32,
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
    /// The application's first process has ended. Said again in every session that begins later, so
    /// that no host misses it.
    AppExited {
        exit: AppExit,
    },
}

/// The application of an image: what its Dockerfile's ENTRYPOINT, CMD, ENV, WORKDIR, USER and
/// STOPSIGNAL say, joined with what the platform adds. It is also kept as JSON: a member that is
/// missing there has its default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct App {
    pub argv: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Absolute path; made when it is not there.
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`, resolved in the image's own /etc/passwd. Empty: root.
    pub user: String,
    /// Linux signal number that asks it to end; 0: SIGTERM.
    pub stop_signal: i32,
    pub capabilities: Capabilities,
}

/// What the application's root may do beyond any user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Capabilities {
    /// What root has in a container; none can be gained by setuid programs.
    #[default]
    Container,
    All,
}

/// What has changed while a VM stood still.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wake {
    /// Wall clock, nanoseconds since the epoch.
    pub unix_time_ns: u64,
    /// Mixed into the kernel's generator and credited; 64 bytes.
    #[serde(with = "serde_bytes")]
    pub entropy: Vec<u8>,
    pub connections: Connections,
    /// None: it is who it was.
    pub identity: Option<Identity>,
}

impl std::fmt::Debug for Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { connections, identity, .. } = self;
        let mut shown = f.debug_struct("Wake");
        shown.field("connections", connections).field("identity", identity).finish_non_exhaustive()
    }
}

/// What becomes of TCP connections to anything but the guest itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Connections {
    /// The other ends are there still.
    Keep,
    /// They are not: whoever waits on one is told so now, not when a time-out is over.
    Cut,
}

/// Who a VM is: nothing of it may be shared with another clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub hostname: String,
    /// 32 hexadecimal digits, written to /etc/machine-id.
    pub machine_id: String,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a.
    fn digest(bytes: &[u8]) -> u32 {
        bytes
            .iter()
            .fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }

    fn host_messages() -> Vec<HostMessage> {
        let app = App {
            argv: vec!["a".into()],
            env: vec![("k".into(), "v".into())],
            working_dir: "w".into(),
            user: "u".into(),
            stop_signal: 2,
            capabilities: Capabilities::All,
        };
        let size = TerminalSize { columns: 80, rows: 24 };
        let request = HookRequest { port: 1, path: "p".into(), body: None, timeout_ms: 2 };
        let identity = Some(Identity { hostname: "h".into(), machine_id: "m".into() });
        let (entropy, connections) = (vec![1, 2], Connections::Cut);
        let wake = Wake { unix_time_ns: 3, entropy, connections, identity };
        let exec = ExecRequest {
            argv: vec!["a".into()],
            env: Vec::new(),
            working_dir: "w".into(),
            user: "u".into(),
            terminal: Some(size),
            attach: Attach::NoInput,
        };
        vec![
            HostMessage::Hello { session: 1, version: 2 },
            HostMessage::StartApp { call: 1, app },
            HostMessage::Freeze { call: 1 },
            HostMessage::Hold { call: 1 },
            HostMessage::Wake { call: 1, wake },
            HostMessage::Hook { call: 1, request },
            HostMessage::Exec { stream: 1, request: exec },
            HostMessage::Input { stream: 1, data: vec![1] },
            HostMessage::Resize { stream: 1, size },
            HostMessage::Signal { stream: 1, signal: 15 },
            HostMessage::Credit { stream: 1, bytes: 2 },
            HostMessage::PowerOff { grace_ms: 3 },
            HostMessage::Ping { call: 1 },
        ]
    }

    fn guest_messages() -> Vec<GuestMessage> {
        let outcomes = [
            HookOutcome::Answered { status: 200 },
            HookOutcome::Refused,
            HookOutcome::TimedOut,
            HookOutcome::Broken { error: "e".into() },
        ];
        let ends = [ExitStatus::Code(1), ExitStatus::Signal(9), ExitStatus::NotStarted("e".into())];
        let mut all = vec![
            GuestMessage::Hello { session: 1, boot_ms: 2, version: 3 },
            GuestMessage::Done { call: 1 },
            GuestMessage::Failed { call: 1, error: "e".into() },
            GuestMessage::Pong { call: 1 },
            GuestMessage::Output { stream: 1, error: true, data: vec![1] },
            GuestMessage::InputTaken { stream: 1, bytes: 2 },
            GuestMessage::Log { error: false, data: vec![1] },
            GuestMessage::AppExited { exit: AppExit { code: 1 } },
        ];
        all.extend(outcomes.map(|outcome| GuestMessage::HookAnswered { call: 1, outcome }));
        all.extend(ends.map(|status| GuestMessage::Exited { stream: 1, status }));
        all
    }

    /// Where this fails, a message has changed its form: raise [`VERSION`] and put the new digest here.
    #[test]
    fn a_message_of_another_form_is_of_another_version() {
        let mut bytes: Vec<u8> = Vec::new();
        host_messages().iter().for_each(|m| bytes.extend(crate::encode(m).unwrap()));
        guest_messages().iter().for_each(|m| bytes.extend(crate::encode(m).unwrap()));
        assert_eq!((VERSION, digest(&bytes)), (2, 1_591_629_232));
    }
}

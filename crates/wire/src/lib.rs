//! What host and guest say to each other over the agent channel.
//!
//! The channel is a virtio-serial port: a byte stream with no notion of a connection, whose host
//! end may be replaced at any time (Warren restarts, the VM is suspended and resumed elsewhere).
//! So everything is a frame, and a frame belongs to the *session* that the last [`HostMessage::Hello`]
//! opened: the host drops frames until the guest answers with the same number.
//!
//! This crate knows message shapes and framing only; it opens no socket and starts no process.

mod frame;
mod message;

pub use frame::{FRAME_BYTES_MAX, FrameError, FrameReader, SYNC, encode};
pub use message::{
    App, AppExit, Attach, Capabilities, Connections, EXEC_WINDOW_BYTES, ExecRequest, ExitStatus,
    GuestMessage, HookOutcome, HookRequest, HostMessage, Identity, StreamId, TerminalSize, VERSION,
    Wake,
};

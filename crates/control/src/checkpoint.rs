//! What is asked of checkpoints and forks, and what is answered. Warren's own; AWS has nothing
//! like them.

use crate::{
    CheckpointName, ClientToken, ImageArn, ImageVersion, MicrovmId, Timestamp, image::wire_names,
};
use std::time::Duration;

/// Most forks that one call makes.
pub const FORKS_MAX: usize = 64;

/// A MicroVM as it was at one moment; others can be run from it.
#[derive(Clone, PartialEq, Debug)]
pub struct Checkpoint {
    /// None: made for a fork, gone when the forks have begun.
    pub name: Option<CheckpointName>,
    pub state: CheckpointState,
    /// Whose checkpoint it is; that MicroVM may have ended.
    pub microvm: MicrovmId,
    /// The checkpoint that this MicroVM was run from, where that is there still.
    pub parent: Option<CheckpointName>,
    pub image: ImageArn,
    pub version: ImageVersion,
    pub memory_mib: u32,
    /// Bytes on disk: memory that differs from the image's snapshot.
    pub memory_bytes: u64,
    /// Bytes on disk: files that differ from the image's, what it shares with other checkpoints included.
    pub disk_bytes: u64,
    /// How long the MicroVM stood still, milliseconds; 0: it was suspended.
    pub pause_ms: f64,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckpointState {
    Saving,
    Ready,
    Deleting,
}

wire_names!(pub CheckpointState {
    Saving => "SAVING",
    Ready => "READY",
    Deleting => "DELETING",
});

/// A MicroVM that is to go on from a checkpoint. What is not said here is as with the source:
/// image, role, connectors, hooks, log group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RunFrom {
    /// For its own `/run` hook, which is called as with every MicroVM.
    pub run_hook_payload: Option<String>,
    /// None: the source's.
    pub maximum_duration: Option<Duration>,
    pub client_token: Option<ClientToken>,
}

/// What happened to a file between two checkpoints.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Change {
    Added,
    Modified,
    Removed,
}

wire_names!(pub Change {
    Added => "added",
    Modified => "modified",
    Removed => "removed",
});

/// A file that is not the same in two checkpoints.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileChange {
    pub change: Change,
    /// Absolute. What is not UTF-8 in it is replaced.
    pub path: String,
    /// Bytes before and after; none where it was not there, or is no regular file.
    pub size_before: Option<u64>,
    pub size_after: Option<u64>,
}

//! Sessions that come back after their VM's end, where whoever runs this launcher has kept something
//! of them. AWS has nothing of the kind: without it, a session gets a fresh VM.

use agents::SessionId;
use async_trait::async_trait;
use std::fmt;

/// A VM that is to go on with a session.
#[derive(Clone, Copy, Debug)]
pub struct Return<'a> {
    pub session: &'a SessionId,
    /// The same token means the same VM, however often it is asked for.
    pub client_token: &'a str,
    pub run_hook_payload: &'a str,
}

/// The VM that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    pub microvm_id: String,
    /// Unix time, seconds.
    pub started_at: i64,
}

/// Keeps something of sessions beyond their VMs.
#[async_trait]
pub trait Comeback: fmt::Debug + Send + Sync {
    /// Runs a VM from what was kept of a session; none where nothing was, or where it cannot be run.
    async fn come_back(&self, asked: Return<'_>) -> Option<Returned>;
}

//! A work item that this host has acknowledged, on its way to the VM that will serve it.

use agents::{EnvironmentId, SessionId, WorkId};
use std::fmt;

/// An acknowledged item of a session. Whoever has it can serve the item: no environment key is needed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) work: WorkId,
    pub(crate) session: SessionId,
    pub(crate) environment: EnvironmentId,
    /// The item's `secret` as the poll gave it: a token for this session alone.
    pub(crate) secret: String,
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim")
            .field("work", &self.work)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

//! What the launcher says about its work while it does it: typed events for timelines and tests.
//!
//! The log has the same facts in prose. An event never holds a secret or a request's body.

use agents::{EventId, SessionId, WorkId};
use std::time::Duration;
use time::OffsetDateTime;

/// Events that a slow subscriber may fall behind before it is told that it missed some.
pub(crate) const EVENTS_BACKLOG_MAX: usize = 1024;

/// Something happened in the launcher.
#[derive(Clone, Debug)]
pub struct LauncherEvent {
    /// When, by the host's clock.
    pub at: OffsetDateTime,
    pub kind: LauncherEventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LauncherEventKind {
    /// A delivery came in whole. `webhook_id` is what its header claims; nothing is verified yet.
    WebhookReceived { webhook_id: String, bytes: usize },
    /// Its signature and time stamp are good. The session is the one that it asks a VM for.
    WebhookVerified { webhook_id: String, session_id: Option<SessionId> },
    /// Verified, but not for the launcher; answered 200.
    Ignored { webhook_id: String, reason: String },
    /// This event had its answer before; answered 200 with the stored result.
    Replayed { event_id: EventId, session_id: SessionId, microvm_id: String },
    /// RunMicrovm is about to be called. `generation` counts the session's VMs from 1.
    RunMicrovmRequested { session_id: SessionId, generation: i64 },
    /// RunMicrovm answered 200 after `took`.
    RunMicrovmAccepted { session_id: SessionId, microvm_id: String, took: Duration },
    /// A later turn found the session's VM alive.
    VmFound { session_id: SessionId, microvm_id: String },
    /// A later turn found the session's VM suspended and resumed it.
    VmResumed { session_id: SessionId, microvm_id: String },
    /// A later turn found the session's VM gone; another one follows.
    VmGone { session_id: SessionId, microvm_id: String },
    /// A poll found a session's item, and it was acknowledged.
    ItemClaimed { session_id: SessionId, work_id: WorkId },
    /// The worker in the session's VM has the item: the launcher lets go of it.
    ItemTaken { session_id: SessionId, work_id: WorkId },
    /// Answered with an error status; `reason` names it in full.
    Refused { webhook_id: String, status: u16, reason: String },
}

/// Where events come from.
#[derive(Clone, Debug)]
pub(crate) struct Announcer(tokio::sync::broadcast::Sender<LauncherEvent>);

impl Announcer {
    pub(crate) fn new() -> Self {
        Self(tokio::sync::broadcast::channel(EVENTS_BACKLOG_MAX).0)
    }

    pub(crate) fn announce(&self, kind: LauncherEventKind) {
        // No subscriber is the usual case outside a demo.
        let _ = self.0.send(LauncherEvent { at: OffsetDateTime::now_utc(), kind });
    }

    pub(crate) fn subscribe(&self) -> tokio::sync::broadcast::Receiver<LauncherEvent> {
        self.0.subscribe()
    }
}

//! A life as it is stored: the name of its phase, a time and a reason.

use super::Life;
use crate::Timestamp;

/// The phase without what it carries, as it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Cloning,
    CallingRun,
    Running,
    CallingSuspend,
    Saving,
    Suspended,
    Restoring,
    CallingResume,
    EndingClone,
    CallingTerminate,
    Stopping,
    Terminated,
}

crate::image::wire_names!(pub(crate) Phase {
    Cloning => "cloning",
    CallingRun => "calling-run",
    Running => "running",
    CallingSuspend => "calling-suspend",
    Saving => "saving",
    Suspended => "suspended",
    Restoring => "restoring",
    CallingResume => "calling-resume",
    EndingClone => "ending-clone",
    CallingTerminate => "calling-terminate",
    Stopping => "stopping",
    Terminated => "terminated",
});

impl Life {
    pub(crate) const fn phase(&self) -> Phase {
        match self {
            Self::Cloning => Phase::Cloning,
            Self::CallingRun => Phase::CallingRun,
            Self::Running { .. } => Phase::Running,
            Self::CallingSuspend => Phase::CallingSuspend,
            Self::Saving => Phase::Saving,
            Self::Suspended { .. } => Phase::Suspended,
            Self::Restoring => Phase::Restoring,
            Self::CallingResume => Phase::CallingResume,
            Self::EndingClone { .. } => Phase::EndingClone,
            Self::CallingTerminate { .. } => Phase::CallingTerminate,
            Self::Stopping { .. } => Phase::Stopping,
            Self::Terminated { .. } => Phase::Terminated,
        }
    }

    /// The time that a phase carries, for the store.
    pub(crate) const fn phase_at(&self) -> Timestamp {
        match self {
            Self::Running { active_at } => *active_at,
            Self::Suspended { since } => *since,
            Self::Terminated { at, .. } => *at,
            Self::Cloning
            | Self::CallingRun
            | Self::CallingSuspend
            | Self::Saving
            | Self::Restoring
            | Self::CallingResume
            | Self::EndingClone { .. }
            | Self::CallingTerminate { .. }
            | Self::Stopping { .. } => Timestamp::from_ms(0),
        }
    }

    /// None where `phase` is none.
    pub(crate) fn from_stored(phase: &str, at: Timestamp, reason: Option<String>) -> Option<Self> {
        let phase = Phase::ALL.iter().find(|p| p.as_str() == phase)?;
        let reason = || reason.clone().unwrap_or_default();
        Some(match phase {
            Phase::Cloning => Self::Cloning,
            Phase::CallingRun => Self::CallingRun,
            Phase::Running => Self::Running { active_at: at },
            Phase::CallingSuspend => Self::CallingSuspend,
            Phase::Saving => Self::Saving,
            Phase::Suspended => Self::Suspended { since: at },
            Phase::Restoring => Self::Restoring,
            Phase::CallingResume => Self::CallingResume,
            Phase::EndingClone => Self::EndingClone { reason: reason() },
            Phase::CallingTerminate => Self::CallingTerminate { reason: reason() },
            Phase::Stopping => Self::Stopping { reason: reason() },
            Phase::Terminated => Self::Terminated { at, reason: reason() },
        })
    }
}

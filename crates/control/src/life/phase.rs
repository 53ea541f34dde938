//! A life as it is stored: the name of its phase, a time and a reason.

use super::{Awaited, Life};
use crate::{Timestamp, clock::Steady};

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
    EndingSave,
    EndingRestore,
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
    EndingSave => "ending-save",
    EndingRestore => "ending-restore",
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
            Self::Restoring { .. } => Phase::Restoring,
            Self::CallingResume => Phase::CallingResume,
            Self::Ending { awaits: Awaited::Clone, .. } => Phase::EndingClone,
            Self::Ending { awaits: Awaited::Save, .. } => Phase::EndingSave,
            Self::Ending { awaits: Awaited::Restore, .. } => Phase::EndingRestore,
            Self::CallingTerminate { .. } => Phase::CallingTerminate,
            Self::Stopping { .. } => Phase::Stopping,
            Self::Terminated { .. } => Phase::Terminated,
        }
    }

    /// The time that a phase carries, for the store: milliseconds, steady where the phase counts
    /// from it, the wall clock's where it is only told.
    pub(crate) const fn phase_at_ms(&self) -> i64 {
        match self {
            Self::Running { active_at } => active_at.ms(),
            Self::Suspended { since } | Self::Restoring { suspended_since: since } => since.ms(),
            Self::Terminated { at, .. } => at.ms(),
            Self::Cloning
            | Self::CallingRun
            | Self::CallingSuspend
            | Self::Saving
            | Self::CallingResume
            | Self::Ending { .. }
            | Self::CallingTerminate { .. }
            | Self::Stopping { .. } => 0,
        }
    }

    /// None where `phase` is none.
    pub(crate) fn from_stored(phase: &str, at_ms: i64, reason: Option<String>) -> Option<Self> {
        let phase = Phase::ALL.iter().find(|p| p.as_str() == phase)?;
        let reason = || reason.clone().unwrap_or_default();
        let at = Steady::from_ms(at_ms);
        let ending = |awaits| Self::Ending { awaits, reason: reason() };
        Some(match phase {
            Phase::Cloning => Self::Cloning,
            Phase::CallingRun => Self::CallingRun,
            Phase::Running => Self::Running { active_at: at },
            Phase::CallingSuspend => Self::CallingSuspend,
            Phase::Saving => Self::Saving,
            Phase::Suspended => Self::Suspended { since: at },
            Phase::Restoring => Self::Restoring { suspended_since: at },
            Phase::CallingResume => Self::CallingResume,
            Phase::EndingClone => ending(Awaited::Clone),
            Phase::EndingSave => ending(Awaited::Save),
            Phase::EndingRestore => ending(Awaited::Restore),
            Phase::CallingTerminate => Self::CallingTerminate { reason: reason() },
            Phase::Stopping => Self::Stopping { reason: reason() },
            Phase::Terminated => {
                Self::Terminated { at: Timestamp::from_ms(at_ms), reason: reason() }
            }
        })
    }
}

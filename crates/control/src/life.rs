//! The life of a MicroVM: every phase, every transition, and nothing else. No I/O and no clock;
//! time is an argument, and steady: setting the host's clock moves no deadline.
//!
//! ```text
//!                    PENDING                          RUNNING
//!  RunMicrovm ─> Cloning ─> CallingRun ─────────────> Running <──────────────────┐
//!                  │   └─ (no /run hook) ───────────────^ │ ^                    │
//!                  │            │                         v └─(cannot be saved)  │
//!                  │            │          SUSPENDING  CallingSuspend ─> Saving  │
//!                  │            │                         │               │      │
//!                  │            │                         │               v      │
//!                  │            │           PENDING       │ SUSPENDED Suspended  │
//!                  │            │   (Restoring ─> CallingResume) <────────┤      │
//!  TERMINATING     v            v                         v               │ ─────┘
//!   Ending (awaits a clone, a save, a restore)  CallingTerminate (from every phase)
//!                  └────────> Stopping <──────────────────┘
//!                                │
//!  TERMINATED                Terminated
//! ```
//!
//! A phase *is* the work that is under way in it ([`Life::work`]): whoever drives a VM writes the
//! phase down, then does its work, and tells the outcome as the next event. So the work of a phase
//! that was found in the store after a crash is simply done again, except that `/run` is called
//! once: `CallingRun` is written before the call and never leads to a second one.

mod phase;
mod reason;

use crate::{Hook, IdleCounts, IdlePolicy, Mark, MicrovmState, Timestamp, clock::Steady};
pub(crate) use phase::Phase;
use reason::{LIFETIME, SUCCESS, hook_failure};
use std::{collections::BTreeSet, time::Duration};
use wire::HookOutcome;

/// A MicroVM's life. Each variant carries what is known in that phase.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// The clone is being made; nothing in it has been told anything.
    Cloning,
    /// `/run` is about to be called, or was.
    CallingRun,
    Running {
        /// When something that counts last happened.
        active_at: Steady,
    },
    CallingSuspend,
    /// Memory and disk are being written.
    Saving,
    Suspended {
        since: Steady,
    },
    Restoring {
        /// Since when it had been suspended, for where it cannot be restored.
        suspended_since: Steady,
    },
    CallingResume,
    /// The end was asked for while the engine was at work on the VM: that is awaited, so that
    /// what it leads to can be removed.
    Ending {
        awaits: Awaited,
        reason: String,
    },
    CallingTerminate {
        reason: String,
    },
    /// All that is of the VM is being removed.
    Stopping {
        reason: String,
    },
    Terminated {
        at: Timestamp,
        reason: String,
    },
}

/// Work of the engine that is not broken off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Awaited {
    Clone,
    Save,
    Restore,
}

/// What does not change in a life, and decides on it.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) started_at: Steady,
    pub(crate) maximum_duration: Duration,
    pub(crate) idle_policy: Option<IdlePolicy>,
    /// The runtime hooks that the image enables.
    pub(crate) hooks: BTreeSet<Hook>,
    pub(crate) idle_counts: IdleCounts,
}

/// All that can happen to a MicroVM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// The clone runs and its back door is attached. `path`: how it came about.
    Cloned {
        path: String,
    },
    HookEnded {
        hook: Hook,
        outcome: HookOutcome,
    },
    /// It is on disk, and its VMM is gone. `detail`: what that took.
    Saved {
        detail: String,
    },
    /// It could not be saved, and runs on.
    NotSaved {
        reason: String,
    },
    /// It runs again and its back door is attached.
    Restored {
        path: String,
    },
    /// It could not be restored, and is on disk still.
    NotRestored {
        reason: String,
    },
    /// The work of the phase failed for a reason of ours.
    WorkFailed {
        reason: String,
    },
    /// Nothing is left of it on the host.
    Removed {
        at: Timestamp,
    },

    TerminateAsked,
    SuspendAsked,
    ResumeAsked,
    /// Somebody is at the endpoint and wants it to run.
    Knocked,
    /// Something that counts crossed the endpoint, at this time.
    Ingress {
        at: Steady,
    },
    /// Bytes crossed the guest's network.
    Traffic,
    /// Time has passed.
    Tick,

    /// The guest is no more.
    Died {
        reason: String,
    },
    AppExited {
        code: i32,
    },
    /// The control plane has taken charge of it again.
    Adopted,
    /// A suspended VM is not needed any more; one that is not suspended is.
    RestEnded,
    /// Something for the timeline that changes nothing.
    Noted {
        mark: Mark,
        detail: String,
    },
}

/// What is to be done in a phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    Clone,
    Call(Hook),
    Save,
    Restore,
    Remove,
}

/// A request that the phase does not allow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    WrongState,
    AlreadyTerminated,
}

/// What an event leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) life: Life,
    /// For the timeline, with details. Where work ended, the first tells of that.
    pub(crate) marks: Vec<(Mark, String)>,
}

impl Step {
    fn to(life: Life) -> Self {
        Self { life, marks: Vec::new() }
    }

    fn mark(mut self, mark: Mark, detail: impl Into<String>) -> Self {
        self.marks.push((mark, detail.into()));
        self
    }
}

impl Life {
    /// As clients see it. A resuming VM reads PENDING (spec 0).
    pub(crate) const fn state(&self) -> MicrovmState {
        match self.phase() {
            Phase::Cloning | Phase::CallingRun | Phase::Restoring | Phase::CallingResume => {
                MicrovmState::Pending
            }
            Phase::Running => MicrovmState::Running,
            Phase::CallingSuspend | Phase::Saving => MicrovmState::Suspending,
            Phase::Suspended => MicrovmState::Suspended,
            Phase::EndingClone
            | Phase::EndingSave
            | Phase::EndingRestore
            | Phase::CallingTerminate
            | Phase::Stopping => MicrovmState::Terminating,
            Phase::Terminated => MicrovmState::Terminated,
        }
    }

    /// The work that is under way.
    pub(crate) const fn work(&self) -> Option<Work> {
        match self.phase() {
            Phase::Cloning | Phase::EndingClone => Some(Work::Clone),
            Phase::CallingRun => Some(Work::Call(Hook::Run)),
            Phase::CallingSuspend => Some(Work::Call(Hook::Suspend)),
            Phase::Saving | Phase::EndingSave => Some(Work::Save),
            Phase::Restoring | Phase::EndingRestore => Some(Work::Restore),
            Phase::CallingResume => Some(Work::Call(Hook::Resume)),
            Phase::CallingTerminate => Some(Work::Call(Hook::Terminate)),
            Phase::Stopping => Some(Work::Remove),
            Phase::Running | Phase::Suspended | Phase::Terminated => None,
        }
    }

    /// The state reason of spec 1.5; none while it is healthy.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            Self::Ending { reason, .. }
            | Self::CallingTerminate { reason }
            | Self::Stopping { reason }
            | Self::Terminated { reason, .. } => Some(reason),
            Self::Cloning
            | Self::CallingRun
            | Self::Running { .. }
            | Self::CallingSuspend
            | Self::Saving
            | Self::Suspended { .. }
            | Self::Restoring { .. }
            | Self::CallingResume => None,
        }
    }

    pub(crate) const fn terminated_at(&self) -> Option<Timestamp> {
        if let Self::Terminated { at, .. } = self { Some(*at) } else { None }
    }

    /// Whether `/run` may still have to be called.
    pub(crate) const fn needs_payload(&self) -> bool {
        matches!(self.phase(), Phase::Cloning | Phase::CallingRun)
    }

    /// When a [`Event::Tick`] is due; none: never by itself.
    pub(crate) fn deadline(&self, terms: &Terms) -> Option<Steady> {
        let lifetime = terms.started_at.plus(terms.maximum_duration);
        match self {
            Self::Running { active_at } => {
                let idle = terms.idle_policy.map(|policy| active_at.plus(policy.max_idle));
                Some(idle.map_or(lifetime, |idle| idle.min(lifetime)))
            }
            Self::Suspended { since } => {
                let limit = terms.idle_policy.map(|policy| since.plus(policy.suspended));
                Some(limit.map_or(lifetime, |limit| limit.min(lifetime)))
            }
            Self::Cloning
            | Self::CallingRun
            | Self::CallingSuspend
            | Self::Saving
            | Self::Restoring { .. }
            | Self::CallingResume => Some(lifetime),
            Self::Ending { .. }
            | Self::CallingTerminate { .. }
            | Self::Stopping { .. }
            | Self::Terminated { .. } => None,
        }
    }

    /// What `event` makes of this life at `now`.
    ///
    /// # Errors
    /// [`Refusal`] for a request that this phase does not allow. Anything else that means nothing in
    /// this phase (the answer of a hook that is no longer awaited) changes nothing.
    pub(crate) fn on(&self, event: &Event, terms: &Terms, now: Steady) -> Result<Step, Refusal> {
        let step = match event {
            Event::TerminateAsked => self.end(terms, SUCCESS.to_owned(), "asked for"),
            Event::SuspendAsked => self.suspend_asked(terms)?,
            Event::ResumeAsked => self.resume_asked()?,
            Event::Knocked => self.knocked(terms),
            Event::Tick => self.tick(terms, now),
            Event::Ingress { at } => self.active(*at),
            Event::Traffic => self.traffic(terms, now),
            Event::Died { reason } => self.lost(reason.clone()),
            Event::AppExited { code } => {
                self.lost(format!("Container Stopped with Exit Code: {code}"))
            }
            Event::WorkFailed { reason } => self.fail(reason.clone()),
            Event::Cloned { path } => self.cloned(terms, path, now),
            Event::HookEnded { hook, outcome } => self.hook_ended(*hook, outcome, now),
            Event::Saved { detail } => self.saved(terms, detail, now),
            Event::NotSaved { reason } => self.not_saved(terms, reason, now),
            Event::Restored { path } => self.restored(terms, path, now),
            Event::NotRestored { reason } => self.not_restored(reason),
            Event::Removed { at } => self.removed(*at),
            Event::Adopted => self.adopted(terms, now),
            Event::RestEnded if self.phase() == Phase::Suspended => {
                self.end(terms, SUCCESS.to_owned(), "not needed any more")
            }
            Event::RestEnded => self.unchanged(),
            Event::Noted { mark, detail } => self.unchanged().mark(*mark, detail.clone()),
        };
        Ok(step)
    }

    fn unchanged(&self) -> Step {
        Step::to(self.clone())
    }

    /// The end in order: the app is told where it can be.
    fn end(&self, terms: &Terms, reason: String, why: &str) -> Step {
        let life = match self.phase() {
            Phase::Cloning => Self::Ending { awaits: Awaited::Clone, reason },
            Phase::Saving => Self::Ending { awaits: Awaited::Save, reason },
            Phase::Restoring => Self::Ending { awaits: Awaited::Restore, reason },
            Phase::CallingRun | Phase::Running | Phase::CallingSuspend | Phase::CallingResume => {
                if terms.hooks.contains(&Hook::Terminate) {
                    Self::CallingTerminate { reason }
                } else {
                    Self::Stopping { reason }
                }
            }
            Phase::Suspended => Self::Stopping { reason },
            Phase::EndingClone
            | Phase::EndingSave
            | Phase::EndingRestore
            | Phase::CallingTerminate
            | Phase::Stopping
            | Phase::Terminated => return self.unchanged(),
        };
        Step::to(life).mark(Mark::Terminating, why)
    }

    /// The end because the guest is no more or its app ended: there is nobody to tell. What the
    /// engine has under way is awaited.
    fn lost(&self, reason: String) -> Step {
        let awaits = match self.phase() {
            Phase::Cloning => Awaited::Clone,
            Phase::Saving => Awaited::Save,
            Phase::Restoring => Awaited::Restore,
            Phase::EndingClone | Phase::EndingSave | Phase::EndingRestore => {
                return self.unchanged();
            }
            Phase::CallingRun
            | Phase::Running
            | Phase::CallingSuspend
            | Phase::Suspended
            | Phase::CallingResume
            | Phase::CallingTerminate
            | Phase::Stopping
            | Phase::Terminated => return self.fail(reason),
        };
        let why = reason.clone();
        Step::to(Self::Ending { awaits, reason }).mark(Mark::Terminating, why)
    }

    /// The end because the work of the phase failed.
    fn fail(&self, reason: String) -> Step {
        match self {
            Self::Terminated { .. } | Self::Stopping { .. } => self.unchanged(),
            // Already ending: the first reason stays.
            Self::Ending { reason, .. } | Self::CallingTerminate { reason } => {
                Step::to(Self::Stopping { reason: reason.clone() })
            }
            Self::Cloning
            | Self::CallingRun
            | Self::Running { .. }
            | Self::CallingSuspend
            | Self::Saving
            | Self::Suspended { .. }
            | Self::Restoring { .. }
            | Self::CallingResume => {
                let why = reason.clone();
                Step::to(Self::Stopping { reason }).mark(Mark::Terminating, why)
            }
        }
    }

    fn suspend_asked(&self, terms: &Terms) -> Result<Step, Refusal> {
        match self.phase() {
            Phase::Running => Ok(Self::begin_suspend(terms, "asked for")),
            Phase::Suspended => Ok(self.unchanged()),
            Phase::Terminated => Err(Refusal::AlreadyTerminated),
            Phase::Cloning
            | Phase::CallingRun
            | Phase::CallingSuspend
            | Phase::Saving
            | Phase::Restoring
            | Phase::CallingResume
            | Phase::EndingClone
            | Phase::EndingSave
            | Phase::EndingRestore
            | Phase::CallingTerminate
            | Phase::Stopping => Err(Refusal::WrongState),
        }
    }

    fn resume_asked(&self) -> Result<Step, Refusal> {
        match self {
            Self::Suspended { since } => Ok(Self::begin_resume(*since, "asked for")),
            Self::Running { .. } => Ok(self.unchanged()),
            Self::Terminated { .. } => Err(Refusal::AlreadyTerminated),
            Self::Cloning
            | Self::CallingRun
            | Self::CallingSuspend
            | Self::Saving
            | Self::Restoring { .. }
            | Self::CallingResume
            | Self::Ending { .. }
            | Self::CallingTerminate { .. }
            | Self::Stopping { .. } => Err(Refusal::WrongState),
        }
    }

    fn knocked(&self, terms: &Terms) -> Step {
        match self {
            Self::Suspended { since } if terms.idle_policy.is_some_and(IdlePolicy::wakes) => {
                Self::begin_resume(*since, "a request came in")
            }
            Self::Suspended { .. }
            | Self::Cloning
            | Self::CallingRun
            | Self::Running { .. }
            | Self::CallingSuspend
            | Self::Saving
            | Self::Restoring { .. }
            | Self::CallingResume
            | Self::Ending { .. }
            | Self::CallingTerminate { .. }
            | Self::Stopping { .. }
            | Self::Terminated { .. } => self.unchanged(),
        }
    }

    fn begin_suspend(terms: &Terms, why: &str) -> Step {
        Step::to(if terms.hooks.contains(&Hook::Suspend) {
            Self::CallingSuspend
        } else {
            Self::Saving
        })
        .mark(Mark::Suspending, why)
    }

    fn begin_resume(suspended_since: Steady, why: &str) -> Step {
        Step::to(Self::Restoring { suspended_since }).mark(Mark::Resuming, why)
    }

    fn tick(&self, terms: &Terms, now: Steady) -> Step {
        if self.deadline(terms).is_none_or(|deadline| now < deadline) {
            return self.unchanged();
        }
        if now >= terms.started_at.plus(terms.maximum_duration) {
            let limit = terms.maximum_duration.as_secs();
            return self.end(terms, LIFETIME.to_owned(), &format!("ran for {limit} s"));
        }
        // Before the end of its lifetime only these two phases have a deadline, by their idle policy.
        let Some(policy) = terms.idle_policy else { return self.unchanged() };
        let why = if let Self::Running { .. } = self {
            let why = format!("idle for {} s", policy.max_idle.as_secs());
            if !policy.suspended.is_zero() {
                return Self::begin_suspend(terms, &why);
            }
            why
        } else {
            format!("suspended for {} s", policy.suspended.as_secs())
        };
        self.end(terms, LIFETIME.to_owned(), &why)
    }

    fn traffic(&self, terms: &Terms, now: Steady) -> Step {
        match terms.idle_counts {
            IdleCounts::Work => self.active(now),
            IdleCounts::Ingress => self.unchanged(),
        }
    }

    fn active(&self, at: Steady) -> Step {
        match self {
            Self::Running { active_at } if at.since(*active_at) >= ACTIVITY_RESOLUTION => {
                Step::to(Self::Running { active_at: at })
            }
            Self::Running { .. }
            | Self::Cloning
            | Self::CallingRun
            | Self::CallingSuspend
            | Self::Saving
            | Self::Suspended { .. }
            | Self::Restoring { .. }
            | Self::CallingResume
            | Self::Ending { .. }
            | Self::CallingTerminate { .. }
            | Self::Stopping { .. }
            | Self::Terminated { .. } => self.unchanged(),
        }
    }

    fn cloned(&self, terms: &Terms, path: &str, now: Steady) -> Step {
        if let Self::Ending { awaits: Awaited::Clone, reason } = self {
            return Step::to(Self::Stopping { reason: reason.clone() });
        }
        if *self != Self::Cloning {
            return self.unchanged();
        }
        if terms.hooks.contains(&Hook::Run) {
            return Step::to(Self::CallingRun).mark(Mark::Restored, path);
        }
        // The idle clock starts at the boot (spec 5).
        Step::to(Self::Running { active_at: now })
            .mark(Mark::Restored, path)
            .mark(Mark::Running, "")
    }

    fn hook_ended(&self, hook: Hook, outcome: &HookOutcome, now: Steady) -> Step {
        if self.work() != Some(Work::Call(hook)) {
            return self.unchanged();
        }
        // The answer of `/terminate` is ignored (spec 4).
        if let Self::CallingTerminate { reason } = self {
            let answer = match outcome {
                HookOutcome::Answered { status } => status.to_string(),
                HookOutcome::Refused => "nobody listens".to_owned(),
                HookOutcome::TimedOut => "no answer in time".to_owned(),
                // An app that ends at once takes its connection with it.
                HookOutcome::Broken { .. } => "the app closed the connection".to_owned(),
            };
            return Step::to(Self::Stopping { reason: reason.clone() })
                .mark(Mark::TerminateHookEnded, answer);
        }
        if let Some(reason) = hook_failure(hook, outcome) {
            let mut step = self.fail(reason.clone());
            step.marks.insert(0, (Mark::HookFailed, reason));
            return step;
        }
        let running = Step::to(Self::Running { active_at: now });
        match hook {
            Hook::Run => running.mark(Mark::RunHookAnswered, "").mark(Mark::Running, ""),
            Hook::Resume => running.mark(Mark::ResumeHookAnswered, "").mark(Mark::Resumed, ""),
            Hook::Suspend => Step::to(Self::Saving).mark(Mark::SuspendHookAnswered, ""),
            Hook::Ready | Hook::Validate | Hook::Terminate => self.unchanged(),
        }
    }

    fn saved(&self, terms: &Terms, detail: &str, now: Steady) -> Step {
        if let Self::Ending { awaits: Awaited::Save, reason } = self {
            return Step::to(Self::Stopping { reason: reason.clone() });
        }
        if *self != Self::Saving {
            return self.unchanged();
        }
        let suspended = Self::Suspended { since: now };
        // With 0 s it is not left there at all.
        if terms.idle_policy.is_some_and(|policy| policy.suspended.is_zero()) {
            return suspended.tick(terms, now);
        }
        Step::to(suspended).mark(Mark::Suspended, detail)
    }

    /// It runs on, as if it had been suspended and resumed in no time: the app that heard `/suspend`
    /// hears `/resume`.
    fn not_saved(&self, terms: &Terms, reason: &str, now: Steady) -> Step {
        if let Self::Ending { awaits: Awaited::Save, reason } = self {
            return Step::to(Self::Stopping { reason: reason.clone() });
        }
        if *self != Self::Saving {
            return self.unchanged();
        }
        Step::to(if terms.hooks.contains(&Hook::Resume) {
            Self::CallingResume
        } else {
            Self::Running { active_at: now }
        })
        .mark(Mark::NotSuspended, reason)
    }

    fn restored(&self, terms: &Terms, path: &str, now: Steady) -> Step {
        if let Self::Ending { awaits: Awaited::Restore, reason } = self {
            return Step::to(Self::Stopping { reason: reason.clone() });
        }
        let Self::Restoring { .. } = self else { return self.unchanged() };
        if terms.hooks.contains(&Hook::Resume) {
            return Step::to(Self::CallingResume).mark(Mark::Restored, path);
        }
        Step::to(Self::Running { active_at: now })
            .mark(Mark::Restored, path)
            .mark(Mark::Resumed, "")
    }

    /// It stays what it was; the time that it may stay so goes on.
    fn not_restored(&self, why: &str) -> Step {
        match self {
            Self::Ending { awaits: Awaited::Restore, reason } => {
                Step::to(Self::Stopping { reason: reason.clone() })
            }
            Self::Restoring { suspended_since } => {
                Step::to(Self::Suspended { since: *suspended_since }).mark(Mark::NotResumed, why)
            }
            Self::Ending { .. }
            | Self::Cloning
            | Self::CallingRun
            | Self::Running { .. }
            | Self::CallingSuspend
            | Self::Saving
            | Self::Suspended { .. }
            | Self::CallingResume
            | Self::CallingTerminate { .. }
            | Self::Stopping { .. }
            | Self::Terminated { .. } => self.unchanged(),
        }
    }

    fn removed(&self, at: Timestamp) -> Step {
        let Self::Stopping { reason } = self else { return self.unchanged() };
        Step::to(Self::Terminated { at, reason: reason.clone() })
            .mark(Mark::Terminated, reason.clone())
    }

    /// The guest runs and is ours again. Where `/run` was on its way, it most likely arrived: the
    /// time between writing that down and sending it is a fraction of the time that an answer takes.
    /// Calling it again could do a session's work twice, ending the VM would lose it; if it did
    /// not arrive, the idle policy and the maximum duration end a VM that does nothing.
    fn adopted(&self, terms: &Terms, now: Steady) -> Step {
        match self {
            // What happened meanwhile was not seen; what was not seen is not idle.
            Self::Running { .. } => self.traffic(terms, now).mark(Mark::Adopted, ""),
            Self::CallingRun => Step::to(Self::Running { active_at: now })
                .mark(Mark::Adopted, "while /run was being called; it is not called twice")
                .mark(Mark::Running, ""),
            // It had been restored when it was lost sight of.
            Self::Restoring { .. } => self.restored(terms, "adopted", now),
            Self::Cloning
            | Self::CallingSuspend
            | Self::Saving
            | Self::Suspended { .. }
            | Self::CallingResume
            | Self::Ending { .. }
            | Self::CallingTerminate { .. }
            | Self::Stopping { .. }
            | Self::Terminated { .. } => self.unchanged().mark(Mark::Adopted, ""),
        }
    }
}

/// Activity is noted no more often than this: each note is a write of the store.
const ACTIVITY_RESOLUTION: Duration = Duration::from_secs(1);

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

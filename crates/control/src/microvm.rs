//! MicroVMs as callers see them: what is asked for, what is answered.

use crate::{
    CheckpointName, ClientToken, Hooks, ImageArn, ImageName, ImageVersion, LogGroup, LogStream,
    MicrovmId, RoleArn, Timestamp,
};
use std::time::Duration;

/// States of a MicroVM on the wire (spec 1.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MicrovmState {
    Pending,
    Running,
    Suspending,
    Suspended,
    Terminating,
    Terminated,
}

impl MicrovmState {
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Running,
        Self::Suspending,
        Self::Suspended,
        Self::Terminating,
        Self::Terminated,
    ];

    /// As AWS writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Suspending => "SUSPENDING",
            Self::Suspended => "SUSPENDED",
            Self::Terminating => "TERMINATING",
            Self::Terminated => "TERMINATED",
        }
    }
}

/// What happens to a MicroVM that nothing happens on (spec 2.1, `idlePolicy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdlePolicy {
    /// At least 60 s on AWS.
    pub max_idle: Duration,
    /// How long it may stay suspended; zero: it is terminated rather than suspended.
    pub suspended: Duration,
    pub auto_resume: AutoResume,
}

impl IdlePolicy {
    /// Whether a request at the endpoint of the suspended VM resumes it.
    pub(crate) fn wakes(self) -> bool {
        self.auto_resume == AutoResume::Enabled
    }
}

/// Whether endpoint traffic wakes a suspended MicroVM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AutoResume {
    Enabled,
    Disabled,
}

/// Where the output of the app goes (spec 2.1, `logging`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Logging {
    /// `/aws/lambda-microvms/<image>`, stream `YYYY/MM/DD[<version>]<microvmId>` (spec 8).
    #[default]
    Default,
    /// What is absent is as in the default.
    CloudWatch {
        group: Option<LogGroup>,
        stream: Option<LogStream>,
    },
    Disabled,
}

/// A request to run a MicroVM.
#[derive(Clone, Debug)]
pub struct RunMicrovm {
    pub image: ImageName,
    /// None: the newest active one.
    pub version: Option<ImageVersion>,
    pub execution_role: Option<RoleArn>,
    pub idle_policy: Option<IdlePolicy>,
    pub logging: Logging,
    /// At most [`RUN_HOOK_PAYLOAD_BYTES_MAX`] bytes.
    pub run_hook_payload: Option<String>,
    /// 1 s to [`MAXIMUM_DURATION`], from `started_at`, running and suspended together.
    pub maximum_duration: Duration,
    /// ARNs; empty: `HTTP_INGRESS`.
    pub ingress_connectors: Vec<String>,
    /// ARNs; empty: those of the image's version.
    pub egress_connectors: Vec<String>,
    pub client_token: Option<ClientToken>,
}

/// Longest life of a MicroVM, and the default (spec 2.1).
pub const MAXIMUM_DURATION: Duration = Duration::from_secs(28_800);

/// Longest payload of the `/run` hook in bytes (spec 0).
pub const RUN_HOOK_PAYLOAD_BYTES_MAX: usize = 4096;

impl RunMicrovm {
    /// With nothing but an image; everything else at its default.
    pub fn of(image: ImageName) -> Self {
        Self {
            image,
            version: None,
            execution_role: None,
            idle_policy: None,
            logging: Logging::Default,
            run_hook_payload: None,
            maximum_duration: MAXIMUM_DURATION,
            ingress_connectors: Vec::new(),
            egress_connectors: Vec::new(),
            client_token: None,
        }
    }
}

/// A MicroVM as Get and Run answer it.
#[derive(Clone, PartialEq, Debug)]
pub struct Microvm {
    pub id: MicrovmId,
    pub state: MicrovmState,
    /// Why it is ending or ended (spec 1.5); none while it is healthy.
    pub state_reason: Option<String>,
    /// Bare host name. Its label is another uuid than the id.
    pub endpoint: String,
    pub image: ImageArn,
    pub version: ImageVersion,
    pub memory_mib: u32,
    pub execution_role: Option<RoleArn>,
    pub idle_policy: Option<IdlePolicy>,
    pub maximum_duration: Duration,
    /// When the request was accepted.
    pub started_at: Timestamp,
    pub terminated_at: Option<Timestamp>,
    /// The effective ones, as ARNs.
    pub ingress_connectors: Vec<String>,
    pub egress_connectors: Vec<String>,
    /// Where the app's output goes; none where logging is disabled.
    pub log: Option<LogTarget>,
}

/// A place for log events.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LogTarget {
    pub group: LogGroup,
    pub stream: LogStream,
}

/// Which MicroVMs to list. Nothing set: all, ended ones included.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MicrovmFilter {
    pub image: Option<ImageName>,
    pub version: Option<ImageVersion>,
}

/// Which part of a list is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageRequest {
    /// At least 1.
    pub items_max: usize,
    /// From the page before; none: the first page.
    pub token: Option<String>,
}

/// A part of a list. Paging is stable: what is added meanwhile shifts nothing.
#[derive(Clone, PartialEq, Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// None at the end.
    pub next_token: Option<String>,
}

/// A step of a launch or of the life after it.
#[derive(Clone, PartialEq, Debug)]
pub struct TimelineEntry {
    pub mark: Mark,
    pub at: Timestamp,
    /// Since [`Mark::Accepted`], on the monotonic clock.
    pub elapsed_ms: f64,
    /// How long the work took that ended with this: a clone, a hook, a save.
    pub took_ms: Option<f64>,
    /// How it was restored for [`Mark::Restored`] (`standby`, `clone`…); the reason for a
    /// beginning or an end; else empty.
    pub detail: String,
}

/// What is recorded of a MicroVM's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// The row is written; RunMicrovm answers.
    Accepted,
    /// The clone runs, or the suspended VM again, and its back door is attached.
    Restored,
    /// `/run` answered 200.
    RunHookAnswered,
    Running,
    Suspending,
    /// `/suspend` answered 200.
    SuspendHookAnswered,
    Suspended,
    /// It could not be saved and runs on.
    NotSuspended,
    Resuming,
    /// `/resume` answered 200.
    ResumeHookAnswered,
    Resumed,
    /// It could not be restored and stays suspended.
    NotResumed,
    /// A hook did not answer 200, which ends the VM.
    HookFailed,
    Terminating,
    /// `/terminate` answered, or the app did not wait with its end.
    TerminateHookEnded,
    Terminated,
    /// Found again after a restart of the control plane.
    Adopted,
    /// A checkpoint was made of it; the detail names it.
    Checkpointed,
}

crate::image::wire_names!(pub Mark {
    Accepted => "accepted",
    Restored => "restored",
    RunHookAnswered => "run_hook_answered",
    Running => "running",
    Suspending => "suspending",
    SuspendHookAnswered => "suspend_hook_answered",
    Suspended => "suspended",
    NotSuspended => "not_suspended",
    Resuming => "resuming",
    ResumeHookAnswered => "resume_hook_answered",
    Resumed => "resumed",
    NotResumed => "not_resumed",
    HookFailed => "hook_failed",
    Terminating => "terminating",
    TerminateHookEnded => "terminate_hook_ended",
    Terminated => "terminated",
    Adopted => "adopted",
    Checkpointed => "checkpointed",
});

/// All that is recorded of a MicroVM.
#[derive(Clone, PartialEq, Debug)]
pub struct Inspection {
    pub microvm: Microvm,
    pub hooks: Hooks,
    /// Whether it was made of a checkpoint; that one's name, where it is there still and has one.
    pub origin: MicrovmOrigin,
    pub timeline: Vec<TimelineEntry>,
}

/// What a MicroVM was made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MicrovmOrigin {
    Image,
    Checkpoint(CheckpointName),
    /// A fork's, or one that was deleted since.
    NamelessCheckpoint,
}

/// Sent to every listener of `Control::events` when it has been recorded.
#[derive(Clone, PartialEq, Debug)]
pub struct MicrovmEvent {
    pub id: MicrovmId,
    pub image: ImageName,
    pub entry: TimelineEntry,
}

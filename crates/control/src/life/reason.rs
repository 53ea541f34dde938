//! The state reasons of spec 1.5, in AWS's words.

use crate::Hook;
use wire::HookOutcome;

/// Terminated by the API (spec 1.5).
pub(super) const SUCCESS: &str = "Success.";

/// Past the maximum duration, and at the end of idling (spec 1.5).
pub(super) const LIFETIME: &str = "MicroVM exceeded maximum lifetime.";

/// Why the outcome of a hook ends the VM, in AWS's words; none where it was good.
pub(super) fn hook_failure(hook: Hook, outcome: &HookOutcome) -> Option<String> {
    let name = match hook {
        Hook::Ready => "Ready",
        Hook::Validate => "Validate",
        Hook::Run => "Run",
        Hook::Resume => "Resume",
        Hook::Suspend => "Suspend",
        Hook::Terminate => "Terminate",
    };
    let look = "Please check your hook endpoint and application logs for more details.";
    match outcome {
        HookOutcome::Answered { status: 200 } => None,
        HookOutcome::Answered { status } => {
            Some(format!("{name} lifecycle hook returned HTTP status {status}. {look}"))
        }
        HookOutcome::Refused => {
            Some(format!("{name} lifecycle hook connection was refused. {look}"))
        }
        HookOutcome::TimedOut => Some(format!("{name} lifecycle hook timed out")),
        HookOutcome::Broken { .. } => Some(format!("{name} lifecycle hook failed. {look}")),
    }
}

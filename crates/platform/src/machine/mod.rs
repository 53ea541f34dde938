//! What may happen next? The rules of sessions and work items, without any I/O.
//!
//! Everything here is a plain value that a method moves from one state to the next; time comes
//! in as an argument, and what the world should see comes out as a list of [`Effect`]s. Rows,
//! streams and webhooks are the business of those who call.
//!
//! * [`Session`]: idle, running, waiting for results, terminated (spec sections 6.1 to 6.7).
//! * [`Work`]: the claim on a session (spec 3.2, 3.3).
//! * [`Mind`]: who decides what the agent does in a turn, a script or a model; [`Tools`]: which
//!   calls it may make.

mod dialogue;
#[cfg(test)]
mod dialogue_tests;
mod event;
mod script;
mod session;
#[cfg(test)]
mod session_tests;
mod tools;
mod turn;
mod work;

pub(crate) use dialogue::{Answer, AnswerStop, Failure, FailureKind, Usage};
pub(crate) use event::status_of;
pub(crate) use script::PlannedCall;
pub(crate) use session::{Effect, Hook, Refusal, Session, Surroundings, UserEvent};
pub(crate) use tools::{TOOLSET, Tools, WORKER_TOOLS};
pub(crate) use turn::Mind;
pub use work::StartingRule;
pub(crate) use work::{Beat, BeatAnswer, Lease, Refused, State as WorkState, Work};

//! What may happen next? The rules of sessions and work items, without any I/O.
//!
//! Everything here is a plain value that a method moves from one state to the next; time comes
//! in as an argument, and what the world should see comes out as a list of [`Effect`]s. Rows,
//! streams and webhooks are the business of those who call.
//!
//! * [`Session`]: idle, running, waiting for results, terminated (spec sections 6.1 to 6.7).
//! * [`Work`]: the claim on a session (spec 3.2, 3.3).
//! * [`Plan`]: what the scripted agent does in a turn; [`Tools`]: which calls it may make.

mod event;
mod script;
mod session;
#[cfg(test)]
mod session_tests;
mod tools;
mod work;

pub(crate) use event::status_of;
pub(crate) use session::{Effect, Hook, Refusal, Session, Surroundings, UserEvent};
pub(crate) use tools::Tools;
pub use work::StartingRule;
pub(crate) use work::{Beat, BeatAnswer, Lease, Refused, State as WorkState, Work};

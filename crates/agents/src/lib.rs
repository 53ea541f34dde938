//! The Managed Agents protocol, both ends of it: wire types, webhook signatures, client.
//!
//! Ruling idea: what the platform sends is kept whole. Types name the members that Warren
//! reads and carry all others along, so that a platform that grows a field, an event type or
//! a state breaks nobody here.
//!
//! What is not here: what to do with any of it. The worker runs sessions, the launcher starts
//! VMs, the emulator plays the platform.

#![forbid(unsafe_code)]

pub mod client;
mod error_body;
mod event;
mod ids;
mod resources;
mod secret;
mod session;
pub mod webhook;
mod work;

pub use error_body::{ErrorBody, ErrorDetail};
pub use event::{Event, EventView, NotAnEvent, Permission, StopReason, TextBlock, Verdict};
pub use ids::{EnvironmentId, EventId, InvalidId, SessionId, ThreadId, WorkId};
pub use resources::{Memory, MemoryListing, MemoryStoreRef, SkillVersion};
pub use secret::{Secret, WorkSecret, WorkSecretError};
pub use session::{Page, Session, SessionAgent, SessionStatus, SkillRef};
pub use work::{Heartbeat, NO_HEARTBEAT, StopWork, WorkData, WorkItem, WorkState};

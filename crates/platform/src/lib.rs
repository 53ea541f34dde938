//! Emulator of the Managed Agents platform: its API, its work queue, its webhooks, and an agent
//! that plays scripts, or is played by a model.
//!
//! Ruling idea: whoever works with this emulator works with the platform. It is driven through
//! the public API by the public SDKs; only what the platform keeps to its Console (keys,
//! webhook endpoints) is a method of [`Platform`].
//!
//! * `machine`: the rules, without I/O.
//! * `store`: the rows, in SQLite.
//! * `emulator`: each operation, from the rows through the rules to whoever has to hear of it.
//! * `http`: the wire.
//! * `model`: a Messages API server as the mind of an agent.
//! * `steps`, `minds`, `deliveries`, `due`: the tasks that act by themselves.
//!
//! What it does not know: virtual machines, launchers, workers. What it does not play is listed
//! in `docs/platform.md`.

#![forbid(unsafe_code)]

mod clock;
mod cron;
mod deliveries;
mod due;
mod emulator;
mod fault;
mod http;
mod ids;
mod keys;
mod machine;
mod minds;
mod mishaps;
mod model;
mod platform;
mod skill;
mod steps;
mod store;

pub use clock::{Clock, ManualClock, SystemClock, Timestamp};
pub use deliveries::DeliveryRules;
pub use emulator::{OldSecret, QueueRule};
pub use ids::{EndpointId, HookId};
pub use machine::StartingRule;
pub use mishaps::Mishaps;
pub use model::ModelConfig;
pub use platform::{
    Delivery, DeliveryAttempt, DeliveryState, Endpoint, NewEndpoint, NewEnvironment, Platform,
    PlatformConfig, PlatformError,
};
pub use store::StoreError;

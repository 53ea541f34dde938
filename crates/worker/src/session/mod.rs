//! One session: claim its work items, serve them, give them back.
//!
//! Who does what: `queue` waits for an item of this session, `item` serves one from claim to
//! release, `lease` keeps it by heartbeats, `feed` brings the session's events, `ledger`
//! decides what is to be run, `skills` and `memory` lay out what the agent brings along, `idle` when a turn has been over for long enough, `results`
//! posts and keeps what tools gave, and `runner` is the loop in which all of this meets.

mod archive;
mod feed;
mod idle;
mod item;
mod lease;
mod ledger;
mod memory;
mod queue;
mod results;
mod runner;
mod skills;

use std::sync::Arc;
use std::time::Duration;

use agents::client::{Client, ClientError};
use agents::{EnvironmentId, SessionId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::tools::ToolsetOptions;
pub use item::{ClaimedItem, ItemEnd, ItemFailure, serve_item};
pub use memory::MemoryError;
pub use queue::{QueueEnd, serve_queue};
pub use results::KeptResults;

/// What stays the same over all items of a session.
#[derive(Debug, Clone)]
pub struct SessionContext {
    /// Client with the environment key, or with the token of the one item there is.
    pub client: Client,
    /// The session.
    pub session: SessionId,
    /// Its environment.
    pub environment: EnvironmentId,
    /// How its tools work. Every item gets fresh ones.
    pub tools: ToolsetOptions,
    /// How long an item is kept after a turn has ended.
    pub max_idle: Duration,
    /// Counts wake-ups: connections are dead after each.
    pub resumed: Arc<watch::Sender<u64>>,
    /// Cancelled when the worker shall come to its end.
    pub drain: CancellationToken,
}

/// Why a session cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The platform says no to the credential.
    #[error("the platform refuses the environment key for {environment}")]
    KeyRefused {
        /// The environment.
        environment: EnvironmentId,
        /// Its answer.
        #[source]
        source: Box<ClientError>,
    },
    /// The platform says no to polling.
    #[error("the platform gives no work of {environment}")]
    PollRefused {
        /// The environment.
        environment: EnvironmentId,
        /// Its answer.
        #[source]
        source: Box<ClientError>,
    },
    /// The one item that there is could not be served.
    #[error("its work item failed")]
    Item(#[source] Box<ItemFailure>),
    /// No answer for too long.
    #[error("the platform cannot be reached for {} s", .after.as_secs())]
    Unreachable {
        /// How long.
        after: Duration,
        /// The last attempt.
        #[source]
        source: Box<ClientError>,
    },
}

//! Log groups, streams and events, as CloudWatch Logs has them.

use crate::{ControlError, LogGroup, LogStream, LogTarget, Page, PageRequest, Timestamp};
use std::{fmt, sync::Arc};
use tokio::sync::broadcast;

/// A log group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogGroupInfo {
    pub group: LogGroup,
    pub created_at: Timestamp,
    pub stored_bytes: u64,
}

/// A log stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogStreamInfo {
    pub stream: LogStream,
    pub created_at: Timestamp,
    /// Timestamps of the earliest and the latest event; none while it is empty.
    pub first_event_at: Option<Timestamp>,
    pub last_event_at: Option<Timestamp>,
    pub last_ingested_at: Option<Timestamp>,
}

/// An event to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogRecord {
    pub at: Timestamp,
    pub message: String,
}

/// An event that was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEvent {
    /// Grows with the order of writing, over all groups; unique.
    pub sequence: u64,
    pub stream: LogStream,
    pub at: Timestamp,
    pub ingested_at: Timestamp,
    pub message: String,
}

/// Events of one group that were committed together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogBatch {
    pub group: LogGroup,
    pub events: Vec<LogEvent>,
}

/// In which order streams are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum StreamOrder {
    #[default]
    Name,
    /// Latest first.
    LastEvent,
}

/// Which streams of a group to list.
#[derive(Clone, Debug, Default)]
pub struct StreamQuery {
    pub prefix: Option<String>,
    pub order: StreamOrder,
    pub direction: Direction,
}

/// Ascending or descending.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Direction {
    #[default]
    Forward,
    Backward,
}

/// A span of event times: from `from` on, before `until`. None: open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TimeSpan {
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// `GetLogEvents`: one stream.
#[derive(Clone, Debug)]
pub struct GetEvents {
    pub target: LogTarget,
    pub span: TimeSpan,
    /// Where to begin without a token: at the oldest (`Forward`) or at the newest.
    pub start: Direction,
    /// From an earlier answer; it says its own direction.
    pub token: Option<String>,
    /// At least 1.
    pub events_max: usize,
}

/// Events oldest first, with tokens for both directions. At an end, the token is the one given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventWindow {
    pub events: Vec<LogEvent>,
    pub forward_token: String,
    pub backward_token: String,
}

/// Which streams of a group are meant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum StreamChoice {
    #[default]
    All,
    Named(Vec<LogStream>),
    Prefixed(String),
}

/// `FilterLogEvents`: streams of a group, merged, oldest first. Patterns are the caller's affair.
#[derive(Clone, Debug)]
pub struct FilterEvents {
    pub group: LogGroup,
    pub streams: StreamChoice,
    pub span: TimeSpan,
    pub page: PageRequest,
}

/// The logs of this Warren.
pub struct Logs {}

impl Logs {
    /// # Errors
    /// [`ControlError::LogGroupExists`].
    pub async fn create_group(&self, group: &LogGroup) -> Result<(), ControlError> {
        let _ = group;
        todo!()
    }

    /// With its streams and events.
    ///
    /// # Errors
    /// [`ControlError::LogGroupNotFound`].
    pub async fn delete_group(&self, group: &LogGroup) -> Result<(), ControlError> {
        let _ = group;
        todo!()
    }

    /// # Errors
    /// [`ControlError::LogGroupNotFound`], [`ControlError::LogStreamExists`].
    pub async fn create_stream(&self, target: &LogTarget) -> Result<(), ControlError> {
        let _ = target;
        todo!()
    }

    /// By name.
    ///
    /// # Errors
    /// [`ControlError::BadPageToken`].
    pub async fn groups(
        &self,
        prefix: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<LogGroupInfo>, ControlError> {
        let _ = (prefix, page);
        todo!()
    }

    /// # Errors
    /// [`ControlError::LogGroupNotFound`], [`ControlError::BadPageToken`].
    pub async fn streams(
        &self,
        group: &LogGroup,
        query: StreamQuery,
        page: PageRequest,
    ) -> Result<Page<LogStreamInfo>, ControlError> {
        let _ = (group, query, page);
        todo!()
    }

    /// Writes events to a stream that exists; returns when they are committed.
    ///
    /// # Errors
    /// [`ControlError::LogGroupNotFound`], [`ControlError::LogStreamNotFound`].
    pub async fn put(
        &self,
        target: &LogTarget,
        records: Vec<LogRecord>,
    ) -> Result<(), ControlError> {
        let _ = (target, records);
        todo!()
    }

    /// # Errors
    /// [`ControlError::LogGroupNotFound`], [`ControlError::LogStreamNotFound`],
    /// [`ControlError::BadPageToken`].
    pub async fn get(&self, query: GetEvents) -> Result<EventWindow, ControlError> {
        let _ = query;
        todo!()
    }

    /// # Errors
    /// [`ControlError::LogGroupNotFound`], [`ControlError::BadPageToken`].
    pub async fn filter(&self, query: FilterEvents) -> Result<Page<LogEvent>, ControlError> {
        let _ = query;
        todo!()
    }

    /// Every batch from now on, after it was committed. A receiver that falls behind is told so and
    /// reads on with [`Logs::filter`].
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<LogBatch>> {
        todo!()
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").finish_non_exhaustive()
    }
}

//! Log groups, streams and events, as CloudWatch Logs has them.

use crate::{
    Clock, ControlError, LogGroup, LogStream, LogTarget, Page, PageRequest, Timestamp,
    log_writer::{JOBS_WAITING_MAX, Job, LogWriter},
    store::{Absent, EventKey, NewEvents, Store},
};
use std::{collections::BTreeMap, fmt, sync::Arc};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A log group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogGroupInfo {
    pub group: LogGroup,
    pub created_at: Timestamp,
    /// None: events are kept for ever.
    pub retention_days: Option<u32>,
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

/// Most tags of a log group, as on AWS.
const LOG_TAGS_MAX: usize = 50;

/// Batches that a slow subscriber may be behind.
const SUBSCRIBER_BATCHES_MAX: usize = 1024;

/// The logs of this Warren.
pub struct Logs {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    writer: mpsc::Sender<Job>,
    batches: broadcast::Sender<Arc<LogBatch>>,
}

impl Logs {
    /// With the task that writes. It ends when this value has been dropped or `stop` is cancelled,
    /// and what had been handed over is written.
    pub(crate) async fn open(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) -> Result<(Arc<Self>, impl Future<Output = ()> + Send + 'static), ControlError> {
        let (writer, jobs) = mpsc::channel(JOBS_WAITING_MAX);
        let batches = broadcast::Sender::new(SUBSCRIBER_BATCHES_MAX);
        let task = LogWriter {
            next_sequence: store.last_log_sequence().await? + 1,
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            batches: batches.clone(),
        };
        Ok((Arc::new(Self { store, clock, writer, batches }), task.run(jobs, stop)))
    }

    /// # Errors
    /// [`ControlError::LogGroupExists`].
    pub async fn create_group(&self, group: &LogGroup) -> Result<(), ControlError> {
        self.store.create_log_group(group, self.clock.now()).await
    }

    /// With its streams and events.
    ///
    /// # Errors
    /// [`ControlError::LogGroupNotFound`].
    pub async fn delete_group(&self, group: &LogGroup) -> Result<(), ControlError> {
        self.store.delete_log_group(group).await
    }

    /// For how long events are kept; none: for ever. Older ones are gone within minutes.
    ///
    /// # Errors
    /// [`ControlError::LogGroupNotFound`].
    pub async fn set_retention(
        &self,
        group: &LogGroup,
        days: Option<u32>,
    ) -> Result<(), ControlError> {
        self.store.set_log_retention(group, days).await
    }

    /// # Errors
    /// [`ControlError::LogGroupNotFound`].
    pub async fn tags(&self, group: &LogGroup) -> Result<BTreeMap<String, String>, ControlError> {
        self.store.log_group_tags(group).await
    }

    /// Sets tags beside those that are there.
    ///
    /// # Errors
    /// [`ControlError::LogGroupNotFound`], [`ControlError::TooManyTags`].
    pub async fn tag(
        &self,
        group: &LogGroup,
        new: BTreeMap<String, String>,
    ) -> Result<(), ControlError> {
        let change = |tags: &mut BTreeMap<String, String>| {
            tags.extend(new);
            if tags.len() > LOG_TAGS_MAX {
                return Err(ControlError::TooManyTags { max: LOG_TAGS_MAX });
            }
            Ok(())
        };
        self.store.change_log_group_tags(group, change).await
    }

    /// # Errors
    /// [`ControlError::LogGroupNotFound`].
    pub async fn untag(&self, group: &LogGroup, keys: &[String]) -> Result<(), ControlError> {
        let change = |tags: &mut BTreeMap<String, String>| {
            tags.retain(|key, _| !keys.contains(key));
            Ok(())
        };
        self.store.change_log_group_tags(group, change).await
    }

    /// With its events.
    ///
    /// # Errors
    /// [`ControlError::LogGroupNotFound`], [`ControlError::LogStreamNotFound`].
    pub async fn delete_stream(&self, target: &LogTarget) -> Result<(), ControlError> {
        self.store.delete_log_stream(target).await
    }

    /// # Errors
    /// [`ControlError::LogGroupNotFound`], [`ControlError::LogStreamExists`].
    pub async fn create_stream(&self, target: &LogTarget) -> Result<(), ControlError> {
        self.store.create_log_stream(target, self.clock.now()).await
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
        self.store.log_groups(prefix.unwrap_or_default(), &page).await
    }

    /// # Errors
    /// [`ControlError::LogGroupNotFound`], [`ControlError::BadPageToken`].
    pub async fn streams(
        &self,
        group: &LogGroup,
        query: StreamQuery,
        page: PageRequest,
    ) -> Result<Page<LogStreamInfo>, ControlError> {
        self.store.log_streams(group, &query, &page).await
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
        let (reply, written) = oneshot::channel();
        let events = NewEvents { target: target.clone(), records, absent: Absent::Refuse };
        self.hand_over(Job { events, reply: Some(reply) }).await?;
        written.await.map_err(|_| ControlError::ShuttingDown)?
    }

    /// Hands over events; group and stream are made where they are missing. Waits while the writer
    /// is behind.
    pub(crate) async fn append(
        &self,
        target: &LogTarget,
        records: Vec<LogRecord>,
    ) -> Result<(), ControlError> {
        let events = NewEvents { target: target.clone(), records, absent: Absent::Create };
        self.hand_over(Job { events, reply: None }).await
    }

    async fn hand_over(&self, job: Job) -> Result<(), ControlError> {
        self.writer.send(job).await.map_err(|_| ControlError::ShuttingDown)
    }

    /// # Errors
    /// [`ControlError::LogGroupNotFound`], [`ControlError::LogStreamNotFound`],
    /// [`ControlError::BadPageToken`].
    pub async fn get(&self, query: GetEvents) -> Result<EventWindow, ControlError> {
        let position = match query.token.as_deref() {
            Some(token) => Position::parse(token)?,
            None => Position::end(query.start),
        };
        let events = self.store.log_window(&query, position.direction, position.key).await?;
        // At an end, the token is the one that was given, so that a reader sees that it is there.
        let key = |event: Option<&LogEvent>| match event {
            Some(event) => EventKey { at: event.at.ms(), sequence: event.sequence },
            None => position.key,
        };
        Ok(EventWindow {
            forward_token: Position::token(Direction::Forward, key(events.last())),
            backward_token: Position::token(Direction::Backward, key(events.first())),
            events,
        })
    }

    /// # Errors
    /// [`ControlError::LogGroupNotFound`], [`ControlError::BadPageToken`].
    pub async fn filter(&self, query: FilterEvents) -> Result<Page<LogEvent>, ControlError> {
        self.store.filter_log(&query).await
    }

    /// Every batch from now on, after it was committed. A receiver that falls behind is told so and
    /// reads on with [`Logs::filter`].
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<LogBatch>> {
        self.batches.subscribe()
    }
}

/// A place between two events of a stream, and in which direction a page goes from there.
#[derive(Clone, Copy, Debug)]
struct Position {
    direction: Direction,
    key: EventKey,
}

impl Position {
    fn end(start: Direction) -> Self {
        let key = match start {
            Direction::Forward => EventKey { at: i64::MIN, sequence: 0 },
            Direction::Backward => EventKey { at: i64::MAX, sequence: u64::MAX },
        };
        Self { direction: start, key }
    }

    /// `f/<time>/<sequence>` or `b/…`.
    fn token(direction: Direction, key: EventKey) -> String {
        let letter = match direction {
            Direction::Forward => 'f',
            Direction::Backward => 'b',
        };
        format!("{letter}/{}/{}", key.at, key.sequence)
    }

    fn parse(token: &str) -> Result<Self, ControlError> {
        let mut parts = token.split('/');
        let mut next = || parts.next().ok_or(ControlError::BadPageToken);
        let direction = match next()? {
            "f" => Direction::Forward,
            "b" => Direction::Backward,
            _ => return Err(ControlError::BadPageToken),
        };
        let at = next()?.parse().map_err(|_| ControlError::BadPageToken)?;
        let sequence = next()?.parse().map_err(|_| ControlError::BadPageToken)?;
        Ok(Self { direction, key: EventKey { at, sequence } })
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").finish_non_exhaustive()
    }
}

//! The loop of an item: events in, one call at a time, results out.
//!
//! The stream is read while a tool runs, so that the session's end, a verdict or an ended
//! thread are seen at once; only calls wait for their turn.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use agents::client::ClientError;
use agents::{Event, EventView};
use tokio_util::sync::CancellationToken;

use super::SessionContext;
use super::feed::{Feed, FeedItem};
use super::idle::{IdleClock, IdleEffect};
use super::lease::Lease;
use super::ledger::{Call, Ledger};
use super::memory::Memory;
use super::results::{KeptResults, Posted, post, result_event};
use crate::tools::Toolset;

/// Calls that wait; beyond them the stream is not read.
const READY_MAX: usize = 64;
/// How long a drain waits for the result of the call that it cancelled.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How a run ended.
#[derive(Debug)]
pub(super) enum RunEnd {
    /// The turn is over for long enough.
    Idle,
    /// The session is terminated or deleted.
    SessionEnded,
    /// The lease is over; see there.
    LeaseEnded,
    /// The worker shall come to its end.
    Drained,
    /// The platform gives no events.
    Refused(ClientError),
}

/// A call that ran, with the tools back.
struct Done {
    tools: Toolset,
    call: String,
    posted: Posted,
}

/// A call that runs, or whose result is being posted.
struct Running {
    call: String,
    /// The result, from when it is there.
    result: Arc<OnceLock<Event>>,
    done: Pin<Box<dyn Future<Output = Done> + Send>>,
}

pub(super) struct Runner<'a> {
    context: &'a SessionContext,
    lease: &'a Lease,
    kept: &'a mut KeptResults,
    ledger: Ledger,
    idle: IdleClock,
    /// Here while no call runs.
    tools: Option<Toolset>,
    running: Option<Running>,
    cancel_call: CancellationToken,
    /// Whether files may have changed since the memory stores were last brought in step.
    ran_since_sync: bool,
}

impl<'a> Runner<'a> {
    pub(super) fn new(
        context: &'a SessionContext,
        lease: &'a Lease,
        kept: &'a mut KeptResults,
    ) -> Self {
        Self {
            context,
            lease,
            kept,
            ledger: Ledger::default(),
            idle: IdleClock::new(context.max_idle),
            tools: Some(Toolset::new(context.tools.clone())),
            running: None,
            cancel_call: CancellationToken::new(),
            ran_since_sync: false,
        }
    }

    /// Serves the session until one of the ends comes. What still runs then is killed; a result
    /// that is there already is kept.
    pub(super) async fn run(mut self, memory: &mut Memory) -> RunEnd {
        let end = self.serve(memory).await;
        if let Some(running) = self.running.take()
            && let Some(result) = running.result.get()
        {
            self.kept.keep(&running.call, result.clone());
        }
        end
    }

    async fn serve(&mut self, memory: &mut Memory) -> RunEnd {
        let context = self.context;
        let resumed = context.resumed.subscribe();
        let mut feed = Feed::start(context.client.clone(), context.session.clone(), resumed);
        loop {
            let now = Instant::now();
            let due = memory.due_at().filter(|_| self.ran_since_sync && self.running.is_none());
            if due.is_some_and(|due| due <= now) {
                self.ran_since_sync = false;
                memory.sync().await;
            }
            self.start_next();
            let idle_at = self.idle_deadline();
            let sync_at = memory.due_at().filter(|_| self.ran_since_sync && self.running.is_none());
            let hears = self.ledger.ready_len() < READY_MAX;
            tokio::select! {
                biased;
                () = self.lease.ended.cancelled() => return RunEnd::LeaseEnded,
                () = context.drain.cancelled() => {
                    self.drain().await;
                    return RunEnd::Drained;
                }
                done = finished(&mut self.running) => self.note_done(done),
                item = feed.next(), if hears => match item {
                    Some(item) => if let Some(end) = self.note(item) { return end },
                    None => return RunEnd::LeaseEnded,
                },
                () = sleep_until(idle_at) => return RunEnd::Idle,
                () = sleep_until(sync_at) => {}
            }
        }
    }

    fn note(&mut self, item: FeedItem) -> Option<RunEnd> {
        let now = Instant::now();
        match item {
            FeedItem::HistoryBegins => self.ledger.begin_history(),
            FeedItem::Past(event) => self.ledger.note_history(&event),
            FeedItem::HistoryEnds => {
                let running = self.running.as_ref().map(|running| running.call.as_str());
                let effect = self.ledger.end_history(running);
                self.idle.note(effect, now);
            }
            FeedItem::HistoryFailed => self.ledger.abandon_history(),
            FeedItem::Live(event) => {
                if event.view() == EventView::SessionEnded {
                    tracing::info!(event = event.kind(), "the session has ended");
                    return Some(RunEnd::SessionEnded);
                }
                self.idle.note(IdleEffect::of(&event), now);
                self.ledger.note(&event);
            }
            FeedItem::Refused(error) => return Some(RunEnd::Refused(error)),
        }
        None
    }

    fn idle_deadline(&self) -> Option<Instant> {
        if self.running.is_some() || self.ledger.has_open_calls() {
            return None;
        }
        self.idle.deadline()
    }

    fn start_next(&mut self) {
        if self.running.is_some() {
            return;
        }
        let Some(tools) = self.tools.take() else { return };
        match self.ledger.next() {
            None => self.tools = Some(tools),
            Some(call) => self.running = Some(self.execute(tools, call)),
        }
    }

    /// Runs a call and posts its result, or posts the result that is there already.
    fn execute(&mut self, mut tools: Toolset, call: Call) -> Running {
        let kept = self.kept.take(&call.id);
        let client = self.context.client.clone();
        let session = self.context.session.clone();
        let window = self.lease.window.clone();
        let cancel = self.cancel_call.clone();
        let slot = Arc::new(OnceLock::new());
        let (id, filled) = (call.id.clone(), slot.clone());
        let done = async move {
            let result: Event = match kept {
                Some(result) => result,
                None => {
                    let start = Instant::now();
                    tracing::info!(call = call.id, tool = ?call.tool, "a call runs");
                    let outcome = tools.run(call.tool, &call.input, &cancel).await;
                    let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(
                        call = call.id,
                        is_error = outcome.is_error,
                        took_ms,
                        "a call ran"
                    );
                    result_event(&call.id, outcome)
                }
            };
            let result = filled.get_or_init(|| result).clone();
            let posted = post(&client, &session, result, &window).await;
            Done { tools, call: call.id, posted }
        };
        Running { call: id, result: slot, done: Box::pin(done) }
    }

    fn note_done(&mut self, done: Done) {
        self.tools = Some(done.tools);
        self.ran_since_sync = true;
        match done.posted {
            Posted::Yes => self.ledger.note_posted(&done.call),
            Posted::No(result) => self.kept.keep(&done.call, result),
        }
        self.idle.work_done(Instant::now());
    }

    /// The running call is cancelled; its result tells the agent so.
    async fn drain(&mut self) {
        self.cancel_call.cancel();
        if self.running.is_none() {
            return;
        }
        match tokio::time::timeout(DRAIN_TIMEOUT, finished(&mut self.running)).await {
            Ok(done) => self.note_done(done),
            Err(_) => tracing::warn!("the last result could not be posted in time"),
        }
    }
}

/// Waits for the running call; for ever, if there is none.
async fn finished(running: &mut Option<Running>) -> Done {
    match running {
        Some(Running { done, .. }) => {
            let done = done.as_mut().await;
            *running = None;
            done
        }
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

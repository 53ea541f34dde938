//! The session's events, over all breaks of the connection.
//!
//! The stream is opened first and the history read second: an event that falls between is in
//! one of them, or in both. The stream does not replay, so every new connection brings the
//! whole history again.

use std::time::Duration;

use agents::client::{Client, ClientError, EventStream};
use agents::{Event, SessionId};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

const BACKOFF_START: Duration = Duration::from_millis(500);
const BACKOFF_CAP: Duration = Duration::from_secs(10);
/// Events in a page of history. The reference asks for 1000; a tenth of it holds a tenth of
/// the memory.
const PAGE_LEN: u32 = 100;
/// Pages of a history; more are a platform that goes round in circles.
const PAGES_MAX: usize = 10_000;
/// Items that wait to be taken.
const QUEUE_LEN: usize = 16;

/// What a feed brings.
#[derive(Debug)]
pub(super) enum FeedItem {
    /// A history begins.
    HistoryBegins,
    /// An event of it.
    Past(Event),
    /// It is complete.
    HistoryEnds,
    /// It broke off; the stream goes on.
    HistoryFailed,
    /// An event of the stream.
    Live(Event),
    /// The platform gives no stream; nothing follows.
    Refused(ClientError),
}

/// A running feed. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Feed {
    items: mpsc::Receiver<FeedItem>,
    _task: AbortOnDropHandle<()>,
}

impl Feed {
    pub(super) fn start(client: Client, session: SessionId, resumed: watch::Receiver<u64>) -> Self {
        let (sender, items) = mpsc::channel(QUEUE_LEN);
        let source = Source { client, session, resumed, sender };
        Self { items, _task: AbortOnDropHandle::new(tokio::spawn(source.run())) }
    }

    /// The next item; `None` after [`FeedItem::Refused`].
    pub(super) async fn next(&mut self) -> Option<FeedItem> {
        self.items.recv().await
    }
}

/// Why a connection is over.
enum Broken {
    /// Nobody listens any more.
    Unheard,
    /// By the platform, by the network, or because the VM slept.
    Disconnected,
}

struct Source {
    client: Client,
    session: SessionId,
    resumed: watch::Receiver<u64>,
    sender: mpsc::Sender<FeedItem>,
}

impl Source {
    async fn run(mut self) {
        let mut attempt = 0;
        loop {
            match self.client.stream(&self.session).await {
                Ok(stream) => match self.follow(stream, &mut attempt).await {
                    Broken::Unheard => return,
                    Broken::Disconnected => {}
                },
                Err(error) if error.is_fatal() => {
                    // Unheard is as good.
                    let _ = self.sender.send(FeedItem::Refused(error)).await;
                    return;
                }
                Err(error) => tracing::warn!(%error, "no event stream"),
            }
            let wait = BACKOFF_START.saturating_mul(1 << attempt.min(10)).min(BACKOFF_CAP);
            attempt += 1;
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Ok(()) = self.resumed.changed() => attempt = 0,
                () = self.sender.closed() => return,
            }
        }
    }

    async fn follow(&mut self, mut stream: EventStream, attempt: &mut u32) -> Broken {
        self.resumed.mark_unchanged();
        if self.tell_history().await.is_err() {
            return Broken::Unheard;
        }
        loop {
            let next = tokio::select! {
                next = stream.next() => next,
                Ok(()) = self.resumed.changed() => return Broken::Disconnected,
            };
            match next {
                Ok(Some(event)) => {
                    *attempt = 0;
                    if self.sender.send(FeedItem::Live(event)).await.is_err() {
                        return Broken::Unheard;
                    }
                }
                Ok(None) => return Broken::Disconnected,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "event stream");
                    return Broken::Disconnected;
                }
            }
        }
    }

    async fn tell_history(&self) -> Result<(), mpsc::error::SendError<FeedItem>> {
        self.sender.send(FeedItem::HistoryBegins).await?;
        let mut page: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let found = match self.client.events(&self.session, PAGE_LEN, page.as_deref()).await {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(%error, "no history");
                    return self.sender.send(FeedItem::HistoryFailed).await;
                }
            };
            for event in found.data {
                self.sender.send(FeedItem::Past(event)).await?;
            }
            page = found.next_page.filter(|page| !page.is_empty());
            if page.is_none() {
                return self.sender.send(FeedItem::HistoryEnds).await;
            }
        }
        self.sender.send(FeedItem::HistoryFailed).await
    }
}

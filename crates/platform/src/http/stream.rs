//! `/v1/sessions/{session}/events/stream`: a session's events as they come (spec 1.4).
//!
//! Only what happens after the stream is open is told: a client opens it, then lists what was
//! before. Every message has an `event` name, since the SDKs drop those without. What a model is
//! about to say is told to those alone who ask for it with `event_deltas`.

use std::convert::Infallible;
use std::sync::Arc;

use agents::{Event, EventView};
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::sse::{self, KeepAlive, Sse};
use futures::stream::{self, Stream, StreamExt as _};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::Emu;
use super::input::Query;
use super::sessions::id as session_id;
use crate::emulator::{Caller, Emulator};
use crate::fault::Fault;
use crate::mishaps::Chance;

pub(super) async fn stream(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(session): Path<String>,
    query: Query,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Fault> {
    let receiver = surface.emulator.listen(&caller, &session_id(&session)?).await?;
    let deltas = query.many("event_deltas").iter().any(|kind| kind == "agent.message");
    let messages = events(receiver, surface.emulator.clone(), surface.ending)
        .filter(move |event| {
            let is_delta = matches!(event.kind(), "event_start" | "event_delta");
            std::future::ready(deltas || !is_delta)
        })
        .map(|event| Ok(message(&event)));
    let ping = sse::Event::default().event("ping").data(r#"{"type":"ping"}"#);
    Ok(Sse::new(messages).keep_alive(KeepAlive::new().interval(surface.ping).event(ping)))
}

/// Events until the session is over, the server ends, or the client is too far behind: then it
/// finds out what it missed by connecting again.
fn events(
    receiver: Receiver<Arc<Event>>,
    emulator: Arc<Emulator>,
    ending: CancellationToken,
) -> impl Stream<Item = Arc<Event>> {
    stream::unfold(Some(receiver), move |receiver| {
        let (ending, emulator) = (ending.clone(), emulator.clone());
        async move {
            let mut receiver = receiver?;
            let received = tokio::select! {
                received = receiver.recv() => received,
                () = ending.cancelled() => return None,
            };
            match received {
                Ok(event) if event.view() == EventView::SessionEnded => Some((event, None)),
                Ok(event) if emulator.dice.hits(Chance::CutStream) => Some((event, None)),
                Ok(event) => Some((event, Some(receiver))),
                Err(RecvError::Lagged(_) | RecvError::Closed) => None,
            }
        }
    })
}

fn message(event: &Event) -> sse::Event {
    let data = serde_json::to_string(event).unwrap_or_default();
    sse::Event::default().event(event.kind()).data(data)
}

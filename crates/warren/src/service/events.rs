//! What happens to VMs, as JSON lines: what has happened, and on request what happens from now on.

use super::{BODY_BYTES_MAX, Service, answer::Refused};
use crate::protocol::{Event, Step};
use axum::{
    body::{Body, Bytes},
    extract::{Query, Request, State},
    response::Response,
};
use control::{Clock, ControlError, MicrovmEvent, SystemClock, TimelineEntry};
use serde::Deserialize;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

/// Lines that a slow client may be behind, beyond those that the control plane keeps for it.
const LINES_MAX: usize = 256;

#[derive(Deserialize)]
pub(super) struct Which {
    /// How far back, seconds.
    #[serde(default)]
    since_s: u64,
    #[serde(default)]
    follow: bool,
}

pub(super) async fn events(
    State(service): State<Arc<Service>>,
    Query(which): Query<Which>,
    request: Request,
) -> Result<Response, Refused> {
    service.admit(request, "warren:ListEvents", BODY_BYTES_MAX).await?;
    // Listened to first, so that nothing falls between what was and what comes.
    let coming = service.control.events();
    let since = SystemClock.now().minus(Duration::from_secs(which.since_s));
    let past = service.control.history(since).await.map_err(|e| Refused::control(&e))?;
    let (lines, body) = mpsc::channel(LINES_MAX);
    let stop = service.stop.clone();
    let tasks = service.tasks.clone();
    tasks.spawn(async move {
        let telling = tell(&service, past, which.follow.then_some(coming), lines);
        // Its client may hang up at any time, and so may this process.
        stop.run_until_cancelled(telling).await;
    });
    let body = ReceiverStream::new(body).map(Ok::<_, Infallible>);
    Ok(Response::new(Body::from_stream(body)))
}

/// None: the client is gone, or what happens cannot be told.
async fn tell(
    service: &Service,
    past: Vec<MicrovmEvent>,
    coming: Option<tokio::sync::broadcast::Receiver<MicrovmEvent>>,
    lines: mpsc::Sender<Bytes>,
) -> Option<()> {
    for event in &past {
        lines.send(line(event)?).await.ok()?;
    }
    let mut coming = coming?;
    // Only these can come twice.
    let mut told = past;
    loop {
        let event = tokio::select! {
            event = coming.recv() => event,
            () = lines.closed() => return None,
        };
        match event {
            Ok(event) if told.contains(&event) => {}
            Ok(event) => lines.send(line(&event)?).await.ok()?,
            Err(RecvError::Closed) => return None,
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!("a listener to events is too slow; {missed} are read again");
                told = again(service, &lines, &told).await.ok()??;
            }
        }
    }
}

/// Reads what was missed from the record.
async fn again(
    service: &Service,
    lines: &mpsc::Sender<Bytes>,
    told: &[MicrovmEvent],
) -> Result<Option<Vec<MicrovmEvent>>, ControlError> {
    let since = told.last().map_or_else(|| SystemClock.now(), |last| last.entry.at);
    let missed = service.control.history(since).await?;
    for event in missed.iter().filter(|event| !told.contains(event)) {
        let Some(line) = line(event) else { return Ok(None) };
        if lines.send(line).await.is_err() {
            return Ok(None);
        }
    }
    Ok(Some(missed))
}

fn line(event: &MicrovmEvent) -> Option<Bytes> {
    let shown = Event {
        at: event.entry.at.to_string(),
        microvm_id: event.id.to_string(),
        image: event.image.to_string(),
        step: step(&event.entry),
    };
    let mut line = serde_json::to_vec(&shown).ok()?;
    line.push(b'\n');
    Some(line.into())
}

pub(super) fn step(entry: &TimelineEntry) -> Step {
    Step {
        event: entry.mark.as_str().into(),
        elapsed_ms: entry.elapsed_ms,
        took_ms: entry.took_ms,
        detail: entry.detail.clone(),
    }
}

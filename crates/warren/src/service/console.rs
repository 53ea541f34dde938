//! A VM's serial console, from the beginning of what is kept, and on request as more comes.
//!
//! The console is a file that only grows and is cut now and then, so it is looked at again and
//! again: what follows what was seen last is new.

use super::{BODY_BYTES_MAX, Service, answer::Refused, life::microvm};
use axum::{
    body::{Body, Bytes},
    extract::{Path, Query, Request, State},
    response::Response,
};
use serde::Deserialize;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

/// Of a console, at most, at once.
const TAIL_BYTES_MAX: usize = 1024 * 1024;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Bytes by which what was seen is found again in what is there now.
const ANCHOR_BYTES: usize = 512;

/// Pieces that a slow client may be behind.
const PIECES_MAX: usize = 4;

#[derive(Deserialize)]
pub(super) struct Which {
    #[serde(default)]
    follow: bool,
}

pub(super) async fn console(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    Query(which): Query<Which>,
    request: Request,
) -> Result<Response, Refused> {
    service.admit(request, "warren:AttachVm", BODY_BYTES_MAX).await?;
    let id = microvm(&id)?;
    let tail = service.control.console(&id, TAIL_BYTES_MAX).await;
    let mut seen = tail.map_err(|e| Refused::control(&e))?;
    let (pieces, body) = mpsc::channel::<Bytes>(PIECES_MAX);
    let stop = service.stop.clone();
    service.tasks.clone().spawn(stop.run_until_cancelled_owned(async move {
        let mut new = seen.clone();
        loop {
            if !new.is_empty() && pieces.send(new.into()).await.is_err() {
                return;
            }
            if !which.follow {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = pieces.closed() => return,
            }
            // It has ended, and its console with it.
            let Ok(now) = service.control.console(&id, TAIL_BYTES_MAX).await else { return };
            new = after(&seen, &now).to_owned();
            seen = now;
        }
    }));
    let body = ReceiverStream::new(body).map(Ok::<_, Infallible>);
    Ok(Response::new(Body::from_stream(body)))
}

/// What follows `seen` in `now`; all of it where `seen` is not found there any more.
fn after<'n>(seen: &str, now: &'n str) -> &'n str {
    let mut from = seen.len().saturating_sub(ANCHOR_BYTES);
    while !seen.is_char_boundary(from) {
        from += 1;
    }
    let anchor = seen.get(from..).unwrap_or_default();
    if anchor.is_empty() {
        return now;
    }
    now.rfind(anchor).and_then(|at| now.get(at + anchor.len()..)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_what_follows_what_was_seen() {
        assert_eq!(after("", "boot\n"), "boot\n");
        assert_eq!(after("boot\n", "boot\n"), "");
        assert_eq!(after("boot\n", "boot\nready\n"), "ready\n");
        let long = "line\n".repeat(1000);
        let cut = format!("{}new\n", &long[2000..]);
        assert_eq!(after(&long, &cut), "new\n", "its beginning was cut off meanwhile");
        assert_eq!(after("gone\n", "other\n"), "other\n");
    }
}

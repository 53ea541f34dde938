//! Results of calls: posted until the lease is over, and kept where that did not work.
//!
//! A call is never run twice because its result got lost on the way: what could not be posted
//! is kept, over items too, and posted again when the call turns up again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use agents::client::{Client, backoff};
use agents::{Event, SessionId, TextBlock};
use tokio::sync::watch;

use crate::tools::Outcome;

const BACKOFF_START: Duration = Duration::from_secs(1);
const BACKOFF_CAP: Duration = Duration::from_secs(30);
/// Results kept; each has 400 KB at most.
const KEPT_MAX: usize = 32;

/// Results that are not with the platform yet.
#[derive(Debug, Default)]
pub struct KeptResults(VecDeque<(String, Event)>);

impl KeptResults {
    pub(super) fn keep(&mut self, call: &str, result: Event) {
        if self.0.len() == KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back((call.to_owned(), result));
    }

    pub(super) fn take(&mut self, call: &str) -> Option<Event> {
        let at = self.0.iter().position(|(id, _)| id == call)?;
        self.0.remove(at).map(|(_, result)| result)
    }
}

/// The event that answers a call.
pub(super) fn result_event(call: &str, outcome: Outcome) -> Event {
    Event::tool_result(call, outcome.is_error, &[TextBlock(outcome.text)])
}

/// What became of a result.
#[derive(Debug)]
pub(super) enum Posted {
    /// The platform has it.
    Yes,
    /// It does not, and the result is given back.
    No(Event),
}

/// Posts a result until the platform takes it, refuses it, or `window` is over. The window is
/// that of the lease and may change meanwhile.
pub(super) async fn post(
    client: &Client,
    session: &SessionId,
    result: Event,
    window: &watch::Receiver<Duration>,
) -> Posted {
    let start = Instant::now();
    let mut attempt = 0;
    loop {
        let error = match client.send_events(session, std::slice::from_ref(&result)).await {
            Ok(_) => return Posted::Yes,
            // Taken, and answered in a way that we do not read.
            Err(agents::client::ClientError::BadAnswer { .. }) => return Posted::Yes,
            Err(error) => error,
        };
        let left = window.borrow().saturating_sub(start.elapsed());
        if error.is_fatal() || left.is_zero() {
            tracing::error!(%error, "a result could not be posted");
            return Posted::No(result);
        }
        tracing::warn!(%error, attempt, "a result is not posted yet");
        tokio::time::sleep(backoff(attempt, BACKOFF_START, BACKOFF_CAP).min(left)).await;
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_result_is_given_once_and_the_oldest_make_room() {
        let mut kept = KeptResults::default();
        for n in 0..=KEPT_MAX {
            kept.keep(&format!("call_{n}"), Event::new("user.tool_result"));
        }
        assert!(kept.take("call_0").is_none());
        assert!(kept.take("call_1").is_some());
        assert!(kept.take("call_1").is_none());
    }
}

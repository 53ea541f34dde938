//! Webhooks on their way: at most three attempts each, then dropped (spec 5).
//!
//! Deliveries stand in the rows with the time of their next attempt. One task picks what is
//! due, up to a bound at the same time, and what came of it is written down; after a start it
//! goes on where the rows stand. An attempt is signed with its own time, so a retry is never stale.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agents::client::Transport;
use agents::webhook::{ID_HEADER, Keys, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use rand::Rng as _;
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;
use crate::emulator::Emulator;
use crate::fault::Fault;
use crate::store::{AttemptRow, DeliveryRow, DueDelivery, EndpointRow, EndpointState, Verdict};

/// Attempts at the same time.
const CONCURRENT_MAX: u32 = 32;
/// Pause after a fault of the store.
const FAULT_PAUSE: Duration = Duration::from_secs(1);

/// How deliveries are retried.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryRules {
    /// Attempts for one endpoint and event.
    pub attempts_max: u32,
    /// Longest wait before the second attempt; doubles with each further one. The real wait is
    /// drawn between half of it and all of it.
    pub backoff_base: Duration,
    /// No wait is longer.
    pub backoff_max: Duration,
    /// How long an endpoint may take to answer (the platform's own limit is not known).
    pub timeout: Duration,
    /// An endpoint is disabled when this many attempts in a row have failed…
    pub failures_max: u32,
    /// …and this long none was taken (the platform's own limits are not known).
    pub failing_max: Duration,
}

impl Default for DeliveryRules {
    /// The platform's: three attempts, 5 to 120 seconds apart.
    fn default() -> Self {
        Self {
            attempts_max: 3,
            backoff_base: Duration::from_secs(10),
            backoff_max: Duration::from_secs(120),
            timeout: Duration::from_secs(10),
            failures_max: 20,
            failing_max: Duration::from_secs(3600),
        }
    }
}

/// Delivers until `ending`.
pub(crate) async fn run(emulator: Arc<Emulator>, rules: DeliveryRules, ending: CancellationToken) {
    let client = Transport::new();
    let mut courier =
        Courier { emulator, client, rules, attempts: JoinSet::new(), under_way: HashMap::new() };
    // Attempts that are cut off at the end are made again after the next start: a receiver
    // must expect an event more than once anyway.
    while !ending.is_cancelled() {
        let next = match courier.send_due().await {
            Ok(next) => next,
            Err(fault) => {
                tracing::error!(
                    error = &fault as &dyn std::error::Error,
                    "webhook deliveries cannot be read"
                );
                Some(courier.emulator.now().plus(FAULT_PAUSE))
            }
        };
        tokio::select! {
            () = courier.wait(next) => {}
            () = ending.cancelled() => {}
        }
    }
}

/// The deliveries that are being attempted: a slow endpoint holds up nobody else's.
struct Courier {
    emulator: Arc<Emulator>,
    client: Transport,
    rules: DeliveryRules,
    attempts: JoinSet<()>,
    under_way: HashMap<task::Id, i64>,
}

impl Courier {
    /// Begins all attempts that are due, as far as there is room; returns when the next is.
    async fn send_due(&mut self) -> Result<Option<Timestamp>, Fault> {
        let mut rows = self.emulator.store.read().await?;
        let waiting = DeliveryRow::due(&mut rows, 2 * CONCURRENT_MAX).await?;
        drop(rows);
        let now = self.emulator.now();
        for delivery in waiting {
            if self.under_way.values().any(|seq| *seq == delivery.seq) {
                continue;
            }
            if delivery.due > now {
                return Ok(Some(delivery.due));
            }
            if self.attempts.len() >= CONCURRENT_MAX as usize {
                return Ok(None);
            }
            let seq = delivery.seq;
            let (emulator, client, rules) =
                (self.emulator.clone(), self.client.clone(), self.rules);
            let task = self.attempts.spawn(async move {
                if let Err(fault) = attempt(&emulator, &client, rules, delivery).await {
                    tracing::error!(
                        error = &fault as &dyn std::error::Error,
                        "a webhook attempt cannot be written down"
                    );
                    // It is still due: the endpoint must not suffer for our disk.
                    tokio::time::sleep(FAULT_PAUSE).await;
                }
            });
            self.under_way.insert(task.id(), seq);
        }
        Ok(None)
    }

    /// Waits until `next`, until an attempt is over, or for news.
    async fn wait(&mut self, next: Option<Timestamp>) {
        let due = async {
            match next {
                Some(at) => self.emulator.clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = self.emulator.deliveries.notified() => {}
            Some(done) = self.attempts.join_next_with_id() => {
                if let Err(panic) = &done {
                    tracing::error!(error = %panic, "a webhook attempt died");
                }
                let task = done.map_or_else(|panic| panic.id(), |(task, ())| task);
                self.under_way.remove(&task);
            }
        }
    }
}

/// One attempt, and its line in the log.
async fn attempt(
    emulator: &Emulator,
    client: &Transport,
    rules: DeliveryRules,
    delivery: DueDelivery,
) -> Result<(), Fault> {
    let at = emulator.now();
    let answer = match tokio::time::timeout(rules.timeout, post(client, &delivery, at)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} ms", rules.timeout.as_millis())),
    };
    let now = emulator.now();
    let verdict = judge(&answer, delivery.attempts + 1, now, rules);
    let attempt = match answer {
        Ok(status) => AttemptRow { at, status: Some(status.as_u16()), error: None },
        Err(error) => AttemptRow { at, status: None, error: Some(error) },
    };
    match &verdict {
        Verdict::Delivered => {}
        Verdict::Retry(_) => tracing::debug!(
            hook = %delivery.hook, url = delivery.endpoint.url, ?attempt, "webhook not taken"
        ),
        Verdict::Drop | Verdict::Disable(_) => tracing::warn!(
            hook = %delivery.hook, url = delivery.endpoint.url, ?attempt, "webhook dropped"
        ),
    }
    let mut change = emulator.store.change().await?;
    DeliveryRow::attempted(change.rows(), &delivery, &attempt, &verdict).await?;
    if let Some(mut endpoint) = EndpointRow::find(change.rows(), &delivery.endpoint.id).await? {
        count(&mut endpoint, &verdict, now, rules);
        endpoint.save(change.rows()).await?;
    }
    change.commit().await?;
    Ok(())
}

/// What an attempt means for its endpoint: one success makes all failures good.
fn count(endpoint: &mut EndpointRow, verdict: &Verdict, now: Timestamp, rules: DeliveryRules) {
    match verdict {
        Verdict::Delivered => endpoint.failing = None,
        Verdict::Disable(reason) => endpoint.state = EndpointState::GivenUp(reason.clone()),
        Verdict::Retry(_) | Verdict::Drop => {
            let (since, failures) = endpoint.failing.unwrap_or((now, 0));
            let failures = failures + 1;
            endpoint.failing = Some((since, failures));
            let long = now.since(since) >= rules.failing_max;
            if long && failures >= i64::from(rules.failures_max) && endpoint.is_enabled() {
                let reason = format!("{failures} attempts in a row failed, since {since}");
                tracing::warn!(url = endpoint.url, reason, "webhook endpoint disabled");
                endpoint.state = EndpointState::GivenUp(reason);
            }
        }
    }
}

async fn post(
    client: &Transport,
    delivery: &DueDelivery,
    at: Timestamp,
) -> Result<StatusCode, String> {
    let time = at.to_datetime();
    let mut signatures = Vec::new();
    for secret in delivery.endpoint.secret.split_whitespace() {
        let keys = Keys::parse(secret).map_err(|error| error.to_string())?;
        signatures.push(keys.sign(delivery.hook.as_str(), time, delivery.body.as_bytes()));
    }
    let signature = signatures.join(" ");
    let request = Request::post(&delivery.endpoint.url)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::USER_AGENT, "warren-platform")
        .header(ID_HEADER, delivery.hook.as_str())
        .header(TIMESTAMP_HEADER, time.unix_timestamp().to_string())
        .header(SIGNATURE_HEADER, signature)
        .body(Full::new(Bytes::from(delivery.body.clone())))
        .map_err(|error| error.to_string())?;
    let answer = client.open(request).await.map_err(|error| chain(&error))?;
    Ok(answer.status())
}

/// What follows from an answer. Redirects are not followed: they disable the endpoint.
fn judge(
    answer: &Result<StatusCode, String>,
    attempts: u32,
    now: Timestamp,
    rules: DeliveryRules,
) -> Verdict {
    match answer {
        Ok(status) if status.is_success() => Verdict::Delivered,
        Ok(status) if status.is_redirection() => {
            Verdict::Disable(format!("it answered with a redirect, {status}"))
        }
        Ok(_) | Err(_) if attempts >= rules.attempts_max => Verdict::Drop,
        Ok(_) | Err(_) => Verdict::Retry(now.plus(backoff(attempts, rules))),
    }
}

/// The wait after so many attempts.
fn backoff(attempts: u32, rules: DeliveryRules) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let longest = rules.backoff_base.saturating_mul(1 << doublings).min(rules.backoff_max);
    longest.mul_f64(rand::rng().random_range(0.5..=1.0))
}

/// An error with its causes: a refused connection hides below "client error".
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(0);

    #[test]
    fn a_delivery_is_dropped_after_the_last_attempt() {
        let rules = DeliveryRules::default();
        let refused = Ok(StatusCode::INTERNAL_SERVER_ERROR);
        assert!(matches!(judge(&refused, 1, NOW, rules), Verdict::Retry(_)));
        assert!(matches!(judge(&refused, 2, NOW, rules), Verdict::Retry(_)));
        assert!(matches!(judge(&refused, 3, NOW, rules), Verdict::Drop));
        assert!(matches!(judge(&Ok(StatusCode::NO_CONTENT), 1, NOW, rules), Verdict::Delivered));
        assert!(matches!(judge(&Ok(StatusCode::FOUND), 1, NOW, rules), Verdict::Disable(_)));
    }

    #[test]
    fn waits_double_up_to_their_bound() {
        let rules = DeliveryRules::default();
        for (attempts, longest) in [(1, 10), (2, 20), (9, 120), (99, 120)] {
            let wait = backoff(attempts, rules);
            let longest = Duration::from_secs(longest);
            assert!(wait <= longest && wait >= longest / 2, "{attempts}: {wait:?}");
        }
    }
}

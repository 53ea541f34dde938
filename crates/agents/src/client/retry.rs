//! When and how long to wait before a call is tried again.

use std::time::Duration;

use http::HeaderMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::transport::{Answer, TransportError};

/// Tries after the first one, as in the platform's own clients.
pub(super) const RETRIES: u32 = 2;
const BACKOFF_BASE: Duration = Duration::from_millis(500);
const BACKOFF_CAP: Duration = Duration::from_secs(8);
/// Longest wait that an answer can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// `base`·2ⁿ, at most `cap`, less up to a quarter of it by chance, so that clients that failed
/// together do not come back together.
pub fn backoff(attempt: u32, base: Duration, cap: Duration) -> Duration {
    let factor = 1_u32.checked_shl(attempt).unwrap_or(u32::MAX);
    let full = base.saturating_mul(factor).min(cap);
    full.mul_f64(1.0 - rand::random::<f64>() * 0.25)
}

/// How long to wait before try number `attempt` + 1, or `None` where the outcome stands.
pub(super) fn wait_before_retry(
    outcome: &Result<Answer, TransportError>,
    attempt: u32,
    now: OffsetDateTime,
) -> Option<Duration> {
    if attempt >= RETRIES {
        return None;
    }
    let usual = backoff(attempt, BACKOFF_BASE, BACKOFF_CAP);
    match outcome {
        Ok(answer) if !is_retried(answer) => None,
        Ok(answer) => Some(asked_wait(&answer.headers, now).unwrap_or(usual)),
        Err(TransportError::TooLong { .. }) => None,
        Err(
            TransportError::Unreachable { .. }
            | TransportError::BrokenOff { .. }
            | TransportError::TimedOut { .. },
        ) => Some(usual),
    }
}

fn is_retried(answer: &Answer) -> bool {
    match answer.headers.get("x-should-retry").map(http::HeaderValue::as_bytes) {
        Some(b"true") => true,
        Some(b"false") => false,
        Some(_) | None => {
            matches!(answer.status.as_u16(), 408 | 409 | 429) || answer.status.is_server_error()
        }
    }
}

fn asked_wait(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = text("retry-after-ms")
        .and_then(|text| text.parse::<f64>().ok())
        .map(|milliseconds| milliseconds / 1000.0)
        .or_else(|| text("retry-after").and_then(|text| seconds_until(text, now)))?;
    let asked = Duration::try_from_secs_f64(seconds).ok()?;
    (!asked.is_zero()).then(|| asked.min(RETRY_AFTER_MAX))
}

/// `retry-after` is a number of seconds or a date, which in HTTP ends in `GMT`.
fn seconds_until(text: &str, now: OffsetDateTime) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Some(seconds);
    }
    let date = OffsetDateTime::parse(&text.replace("GMT", "+0000"), &Rfc2822).ok()?;
    Some((date - now).as_seconds_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::{HeaderValue, StatusCode};

    fn wait(status: u16, header: Option<(&'static str, &str)>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = header {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Ok(Answer { status, headers, body: Bytes::new() });
        wait_before_retry(&answer, 0, OffsetDateTime::UNIX_EPOCH)
    }

    #[test]
    fn the_statuses_that_pass_are_tried_again() {
        for status in [408, 409, 429, 500, 503] {
            assert!(wait(status, None).is_some(), "{status}");
        }
        for status in [200, 400, 401, 404, 412] {
            assert!(wait(status, None).is_none(), "{status}");
        }
    }

    #[test]
    fn the_platform_has_the_last_word_on_retrying() {
        assert!(wait(409, Some(("x-should-retry", "false"))).is_none());
        assert!(wait(400, Some(("x-should-retry", "true"))).is_some());
    }

    #[test]
    fn the_wait_that_is_asked_for_is_kept() {
        let ms = Duration::from_millis;
        assert_eq!(wait(429, Some(("retry-after-ms", "30"))), Some(ms(30)));
        assert_eq!(wait(429, Some(("retry-after", "2"))), Some(ms(2000)));
        let date = "Thu, 01 Jan 1970 00:00:05 GMT";
        assert_eq!(wait(429, Some(("retry-after", date))), Some(ms(5000)));
        assert_eq!(wait(429, Some(("retry-after", "86400"))), Some(RETRY_AFTER_MAX));
    }

    #[test]
    fn a_third_failure_is_final() {
        let error = || Err(TransportError::TimedOut { authority: "x".into(), after: BACKOFF_CAP });
        let now = OffsetDateTime::UNIX_EPOCH;
        assert!(wait_before_retry(&error(), 1, now).is_some());
        assert!(wait_before_retry(&error(), 2, now).is_none());
    }
}

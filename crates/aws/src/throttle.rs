//! How often operations may be called: a token bucket for each that AWS throttles (spec 10).
//!
//! A bucket holds as many calls as may be made in a second, so that a pause is made up for at once.

use crate::error::ApiError;
use http::StatusCode;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Seconds after which a throttled client may try again.
const RETRY_AFTER_S: u32 = 1;

/// Calls a second; none: as often as one likes. The defaults are AWS's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rates {
    pub run: Option<u32>,
    pub resume: Option<u32>,
    pub suspend: Option<u32>,
    pub terminate: Option<u32>,
    /// GetMicrovm.
    pub get: Option<u32>,
    pub auth_token: Option<u32>,
    pub shell_auth_token: Option<u32>,
    /// Each operation of network connectors.
    pub connectors: Option<u32>,
    /// Each operation of tags.
    pub tags: Option<u32>,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            run: Some(5),
            resume: Some(5),
            suspend: Some(2),
            terminate: Some(10),
            get: Some(100),
            auth_token: Some(50),
            shell_auth_token: Some(5),
            connectors: None,
            tags: None,
        }
    }
}

impl Rates {
    /// Nothing is throttled.
    #[must_use]
    pub fn unlimited() -> Self {
        Self {
            run: None,
            resume: None,
            suspend: None,
            terminate: None,
            get: None,
            auth_token: None,
            shell_auth_token: None,
            connectors: None,
            tags: None,
        }
    }

    fn of(&self, operation: &str) -> Option<Limit> {
        let (per_s, form) = match operation {
            "RunMicrovm" => (self.run, Form::Throttling("L-535CA9B6")),
            "ResumeMicrovm" => (self.resume, Form::Throttling("L-118C44B3")),
            "SuspendMicrovm" => (self.suspend, Form::Throttling("L-90045317")),
            "TerminateMicrovm" => (self.terminate, Form::Throttling("L-74787B8A")),
            "GetMicrovm" => (self.get, Form::Throttling("")),
            "CreateMicrovmAuthToken" => (self.auth_token, Form::Throttling("L-7712260B")),
            "CreateMicrovmShellAuthToken" => (self.shell_auth_token, Form::Throttling("")),
            "ListTags" | "TagResource" | "UntagResource" => (self.tags, Form::TooManyRequests),
            name if name.contains("NetworkConnector") => (self.connectors, Form::TooManyRequests),
            _ => return None,
        };
        per_s.map(|per_s| Limit { per_s, form })
    }
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    per_s: u32,
    form: Form,
}

/// How an operation says that it was called too often.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// With the quota's code where it is known; empty: it is not.
    Throttling(&'static str),
    TooManyRequests,
}

/// The buckets of one account.
#[derive(Debug, Default)]
pub struct Throttles {
    rates: Rates,
    buckets: Mutex<HashMap<&'static str, Bucket>>,
}

impl Throttles {
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self { rates, buckets: Mutex::default() }
    }

    /// Takes one call of this operation.
    ///
    /// # Errors
    /// 429 in the form of the operation's service; nothing is taken then.
    pub(crate) fn take(&self, operation: &'static str, now: Instant) -> Result<(), ApiError> {
        let Some(Limit { per_s, form }) = self.rates.of(operation) else { return Ok(()) };
        // Nothing that panics runs under this lock.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.entry(operation).or_default();
        if bucket.take(per_s, now) { Ok(()) } else { Err(form.refusal()) }
    }
}

/// When the bucket is full again; none: it is.
#[derive(Debug, Default)]
struct Bucket(Option<Instant>);

impl Bucket {
    fn take(&mut self, per_s: u32, now: Instant) -> bool {
        let Some(interval) = Duration::from_secs(1).checked_div(per_s) else { return false };
        let full_at = self.0.map_or(now, |full_at| full_at.max(now));
        if full_at + interval > now + Duration::from_secs(1) {
            return false;
        }
        self.0 = Some(full_at + interval);
        true
    }
}

impl Form {
    fn refusal(self) -> ApiError {
        let status = StatusCode::TOO_MANY_REQUESTS;
        let refusal = match self {
            Self::Throttling(code) => {
                let code = if code.is_empty() { Value::Null } else { Value::from(code) };
                ApiError::new("ThrottlingException", status, "Rate exceeded")
                    .with("serviceCode", Value::from("lambda"))
                    .with("quotaCode", code)
            }
            Self::TooManyRequests => {
                ApiError::new("TooManyRequestsException", status, "Rate exceeded")
                    .with("Type", Value::from("User"))
                    .with("Reason", Value::from("CallerRateLimitExceeded"))
            }
        };
        refusal.retry_after(RETRY_AFTER_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_as_many_calls_as_the_rate_and_no_more() {
        let throttles = Throttles::new(Rates { run: Some(5), ..Rates::unlimited() });
        let now = Instant::now();
        let taken = |now| (0..20).filter(|_| throttles.take("RunMicrovm", now).is_ok()).count();
        assert_eq!(taken(now), 5);
        assert_eq!(taken(now + Duration::from_millis(400)), 2);
        assert_eq!(taken(now + Duration::from_secs(60)), 5);
        assert!(throttles.take("GetMicrovm", now).is_ok(), "each operation has its own");
    }

    #[test]
    fn each_service_has_its_own_form_of_refusal() {
        let rates = Rates { tags: Some(1), ..Rates::default() };
        let (throttles, now) = (Throttles::new(rates), Instant::now());
        let refused = |operation| {
            (0..200).find_map(|_| throttles.take(operation, now).err()).expect("it is throttled")
        };
        let run = refused("RunMicrovm");
        assert_eq!((run.code.as_ref(), run.status.as_u16()), ("ThrottlingException", 429));
        assert_eq!(run.members["quotaCode"], "L-535CA9B6");
        assert_eq!(run.retry_after_s, Some(1));
        let tags = refused("ListTags");
        assert_eq!((tags.code.as_ref(), tags.status.as_u16()), ("TooManyRequestsException", 429));
        assert_eq!(tags.members["Reason"], "CallerRateLimitExceeded");
        assert!(throttles.take("ListNetworkConnectors", now).is_ok());
    }
}
